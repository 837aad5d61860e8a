"""Which classifiers say the category: candidates measured, gated and promoted, each modality by itself and together."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd

from assets.category_reports import category_metadata
from assets.classification import LISTINGS, packed_pictures
from assets.common import CATALOG_TEAM, clock_metadata, float_metadata, table
from assets.models import artifact_metadata, beside_champion, challenge, missing, promote, publish_once, refuse
from assets.reports import comparison_metadata
from resources.classification import ClassificationConfig
from resources.lake import Lake
from resources.registry import CATEGORY_ENSEMBLE, IMAGE_CLASSIFIER, TEXT_CLASSIFIER, ModelRegistry
from shelfwise.artifacts import content_id, frame_id
from shelfwise.classification import judge, promotion
from shelfwise.classification.listings import of_part, with_parts
from shelfwise.promotion.gate import decide_promotion
from shelfwise.promotion.rules import Rules
from shelfwise.registry import ModelVersion, Registry
from shelfwise.timing import DomainClock

ENSEMBLE_VERSION = "2"
MODELS = {judge.TEXT: TEXT_CLASSIFIER, judge.IMAGE: IMAGE_CLASSIFIER, judge.ENSEMBLE: CATEGORY_ENSEMBLE}
EVALUATED = {kind: f"{kind}_evaluation" for kind in MODELS}
CHAMPIONS = {judge.TEXT: "text_champion", judge.IMAGE: "image_champion", judge.ENSEMBLE: "category_champion"}


def _rules(kind: str, evaluation: dict, classification: ClassificationConfig) -> Rules:
    """By which rules a candidate of a kind is judged; an ensemble against the classifiers it consists of."""
    return classification.rules(kind, evaluation["modalities"])


def registered(versions: Registry, kind: str, evaluation: dict) -> ModelVersion:
    """Return the registered version of the candidate that an evaluation is about; registers it the first time."""
    metrics = {name: float(value) for name, value in evaluation["metrics"].items()}
    one = evaluation["candidate"]
    return versions.register(MODELS[kind], one["location"], one["id"], metrics, evaluation["lineage"])


def _loaded(kind: str, version: ModelVersion, lake: Lake) -> tuple[judge.Judged | None, str | None]:
    """A registered classifier; or why it cannot be used any more: to refuse every candidate would leave no way out."""
    try:
        return judge.load(kind, lake.fetch(version.artifact)), None
    except (ValueError, FileNotFoundError) as error:
        return None, str(error)


def _evaluated(
    kind: str,
    candidate: dict,
    known: tuple[pd.DataFrame, pd.DataFrame],
    listing_pictures: dict | None,
    registry: ModelRegistry,
    classification: ClassificationConfig,
    lake: Lake,
) -> dg.MaterializeResult[dict]:
    """Measure a candidate beside simple baselines and, listing by listing, the champion; register it as challenger.
    `known`: the labelled listings and their parts. `listing_pictures`: the asset's value, None for text alone.
    """
    if "missing" in candidate:
        return missing(candidate["missing"])
    listings, pictures = with_parts(*known), packed_pictures(listing_pictures or {}, lake)
    versions, seed = registry.open(), classification.split_seed
    current = versions.alias(MODELS[kind])
    value: dict[str, Any] = {
        "candidate": candidate,
        **beside_champion(current, candidate["id"]),
        "modalities": candidate.get("modalities", []),
        "lineage": {"listings": frame_id(listings), **candidate.get("lineage", {})},
    }
    with DomainClock() as clock:
        one, champion = judge.load(kind, lake.fetch(candidate["location"])), None
        if current is not None and not value["same"]:
            champion, value["champion_unusable"] = _loaded(kind, current, lake)
        tree = judge.classes_of(judge.held_out(kind, listings, pictures), *filter(None, (one, champion)))
        result = judge.judge(kind, one, listings, pictures, tree, seed)
        value |= {"metrics": {name: v for name, v in result.metrics.items() if v == v}, "about": result.about}
        rules = _rules(kind, value, classification)
        if champion is not None and current is not None:
            against = judge.judge(kind, champion, listings, pictures, tree, seed, beside=False)
            trained_on = promotion.read_trained_on(lake.fetch(current.artifact))
            compared = promotion.compare(result.lines, against.lines, rules, trained_on, seed)
            value |= {"champion_metrics": against.metrics, **compared.to_json()}
    version = registered(versions, kind, value)
    value["rolled_back"] = challenge(versions, version)
    metadata = {
        "candidate": version.label,
        **category_metadata(result, value, pictures),
        **comparison_metadata(value, rules),
        **clock_metadata(clock),
    }
    return dg.MaterializeResult(value=value, metadata=metadata)


@dg.asset(
    key_prefix="classification",
    group_name="classification",
    owners=CATALOG_TEAM,
    kinds={"pandas"},
    ins={"labelled_listings": LISTINGS},
    io_manager_key="reference_io",
    code_version="2",
)
def text_evaluation(
    labelled_listings: pd.DataFrame,
    listing_parts: pd.DataFrame,
    text_classifier: dict,
    registry: ModelRegistry,
    classification: ClassificationConfig,
    lake: Lake,
) -> dg.MaterializeResult[dict]:
    """The text candidate on listings it never saw, by level of the tree and by slice, beside the most frequent
    category, the linear model on n-grams and, listing by listing, the champion. Registered here, as challenger.
    """
    known = labelled_listings, listing_parts
    return _evaluated(judge.TEXT, text_classifier, known, None, registry, classification, lake)


@dg.asset(
    key_prefix="classification",
    group_name="classification",
    owners=CATALOG_TEAM,
    kinds={"pandas"},
    ins={"labelled_listings": LISTINGS},
    io_manager_key="reference_io",
    code_version="2",
)
def image_evaluation(
    labelled_listings: pd.DataFrame,
    listing_parts: pd.DataFrame,
    listing_pictures: dict,
    image_classifier: dict,
    registry: ModelRegistry,
    classification: ClassificationConfig,
    lake: Lake,
) -> dg.MaterializeResult[dict]:
    """The image candidate on pictures it never saw, with some of them and what it says, beside the most frequent
    category, the nearest pictures by their pixels and the champion. It is registered here, as challenger.
    """
    known = labelled_listings, listing_parts
    return _evaluated(judge.IMAGE, image_classifier, known, listing_pictures, registry, classification, lake)


@dg.asset(
    key_prefix="classification",
    group_name="classification",
    owners=CATALOG_TEAM,
    kinds={"numpy"},
    ins={"labelled_listings": LISTINGS},
    deps=[["classification", "text_champion"], ["classification", "image_champion"]],
    io_manager_key="reference_io",
    code_version=ENSEMBLE_VERSION,
)
def category_ensemble(
    labelled_listings: pd.DataFrame,
    listing_parts: pd.DataFrame,
    listing_pictures: dict,
    registry: ModelRegistry,
    classification: ClassificationConfig,
    lake: Lake,
) -> dg.MaterializeResult[dict]:
    """The two champions together: averaged by the accuracy that their registered evaluations measured, or combined as
    validation listings teach; the better of both, and it says why. Its directory holds copies of the champions, so that
    it can always be gone back to.
    """
    from shelfwise.classification.combine import combine

    versions = registry.open()
    champions = {kind: versions.alias(MODELS[kind]) for kind in (judge.TEXT, judge.IMAGE)}
    parts = {kind: version for kind, version in champions.items() if version is not None}
    if not parts:
        return missing("neither the text nor the image classifier has a champion yet")
    valid, pictures = of_part(labelled_listings, listing_parts, "valid"), packed_pictures(listing_pictures, lake)
    if valid.empty or (judge.TEXT not in parts and judge.with_picture(valid, pictures).empty):
        return missing("there is nothing to weigh the champions on: no listings are held out, or none has a picture")
    clock = DomainClock()

    def write(directory: Path) -> None:
        with clock:
            directories = {kind: lake.fetch(version.artifact) for kind, version in parts.items()}
            weights = {kind: version.metrics["top1"] for kind, version in parts.items()}
            combine(directory, directories, weights, valid, pictures, classification.assign_precision)
        promotion.trained_on(listing_parts).to_parquet(directory / promotion.TRAINED_ON, index=False)

    of = {kind: version.artifact_id for kind, version in parts.items()}
    made_with = (ENSEMBLE_VERSION, of, classification.assign_precision, listing_pictures.get("id"))
    model_id = content_id(made_with, frame_id(valid))
    location, made = publish_once(lake, CATEGORY_ENSEMBLE, model_id, write)
    about = json.loads((lake.fetch(location) / "model.json").read_text())
    used = {f"{kind}_version": parts[kind].label for kind in about["weights"]}
    metadata = {
        **used,
        **float_metadata({f"{kind}_weight": value for kind, value in about["weights"].items()}),
        **float_metadata({f"{kind}_temperature": value for kind, value in about["temperatures"].items()}),
        "combined_by": about["method"],
        "why": about["why"],
        "ways": table(pd.DataFrame(about["table"], columns=["way", "top1", "log_likelihood", "listings"])),
        "assigns": about["assigns"],
        **artifact_metadata(location, made, clock),
    }
    value = {"id": model_id, "location": location, "modalities": sorted(about["weights"]), "lineage": used | of}
    return dg.MaterializeResult(value=value, metadata=metadata, data_version=dg.DataVersion(model_id))


@dg.asset(
    key_prefix="classification",
    group_name="classification",
    owners=CATALOG_TEAM,
    kinds={"pandas"},
    ins={"labelled_listings": LISTINGS},
    io_manager_key="reference_io",
    code_version="2",
)
def ensemble_evaluation(
    labelled_listings: pd.DataFrame,
    listing_parts: pd.DataFrame,
    listing_pictures: dict,
    category_ensemble: dict,
    registry: ModelRegistry,
    classification: ClassificationConfig,
    lake: Lake,
) -> dg.MaterializeResult[dict]:
    """The combination on listings that none of its parts saw, with and without picture and description, beside either
    part alone and the category champion. It is registered here, as challenger.
    """
    known = labelled_listings, listing_parts
    return _evaluated(judge.ENSEMBLE, category_ensemble, known, listing_pictures, registry, classification, lake)


def _champion(kind: str, says: str) -> Callable:
    """Build the asset of a kind's champion: a registered version behind the alias `champion`."""

    @dg.asset(
        name=CHAMPIONS[kind],
        key_prefix="classification",
        group_name="classification",
        owners=CATALOG_TEAM,
        kinds={"registry"},
        ins={"evaluation": dg.AssetIn(["classification", EVALUATED[kind]])},
        description=says,
        io_manager_key="reference_io",
        code_version="1",
    )
    def champion(
        evaluation: dict, registry: ModelRegistry, classification: ClassificationConfig, lake: Lake
    ) -> dg.MaterializeResult[dict]:
        versions = registry.open()
        if "missing" in evaluation:
            current = versions.alias(MODELS[kind])
            stays = f"; champion {current.label} stays" if current else ""
            return missing(f"no candidate: {evaluation['missing']}{stays}")
        decision = decide_promotion(evaluation, _rules(kind, evaluation, classification))
        version = registered(versions, kind, evaluation)
        return promote(versions, version, decision, evaluation, lake)

    return champion


def _gate(kind: str) -> Callable:
    """Build the blocking check before a kind's champion."""

    @dg.asset_check(
        name=f"better_than_{CHAMPIONS[kind]}",
        asset=["classification", EVALUATED[kind]],
        blocking=True,
        description="The gate: the candidate reaches the floor, is no worse than what is simpler and, listing by "
        "listing, better than the champion, and no slice of importance gets worse.",
    )
    def gate(evaluation: dict, registry: ModelRegistry, classification: ClassificationConfig) -> dg.AssetCheckResult:
        if "missing" in evaluation:
            return dg.AssetCheckResult(passed=True, description=f"no candidate to judge: {evaluation['missing']}")
        decision = decide_promotion(evaluation, _rules(kind, evaluation, classification))
        if not decision.passes:
            versions = registry.open()
            refuse(versions, registered(versions, kind, evaluation), decision.summary)
        return dg.AssetCheckResult(
            passed=decision.passes,
            description=decision.summary,
            metadata={"outcome": decision.outcome, "gate": table(decision.table(), width=400)},
        )

    return gate


AGAIN = " The gate is asked here again, so that it also holds when this asset runs on its own."
text_champion = _champion(
    judge.TEXT, "The text classifier in production: a registered version behind an alias." + AGAIN
)
image_champion = _champion(judge.IMAGE, "The image classifier in production, promoted by itself." + AGAIN)
category_champion = _champion(
    judge.ENSEMBLE,
    "What says the category of a listing in production: a registered version that names the text and the image version "
    "it consists of, and holds copies of both." + AGAIN,
)
better_text, better_image, better_together = (_gate(kind) for kind in MODELS)
