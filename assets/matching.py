"""Matching: from labelled positives to a champion that was measured, gated and registered."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
import numpy as np
import pandas as pd

from assets.common import MATCHING_TEAM, clock_metadata, float_metadata, table, table_metadata
from assets.models import artifact_metadata, beside_champion, challenge, promote, publish_once, train_once
from assets.reports import comparison_metadata, evaluation_metadata, guarantee_metadata, update_metadata
from resources.lake import Lake
from resources.matching import MatchingConfig
from resources.registry import TITLE_MATCHER, ModelRegistry
from resources.trainer import Trainer
from shelfwise.artifacts import content_id, exists, frame_id
from shelfwise.promotion.gate import decide_promotion
from shelfwise.registry import ModelVersion, Registry
from shelfwise.timing import DomainClock

if TYPE_CHECKING:
    from shelfwise.matching.evaluate import Evaluation

# Part of the content ids: raise one when the same inputs would give another artifact than before.
EMBEDDINGS_VERSION, INDEX_VERSION, MATCHER_VERSION = "3", "7", "10"

PRODUCTS = dg.AssetIn(["staging", "stg_products"])
POSITIVES = dg.AssetIn(["marts", "labelled_positives"])


@dg.asset(
    key_prefix="matching",
    group_name="matching",
    owners=MATCHING_TEAM,
    kinds={"pandas", "parquet"},
    ins={"positives": POSITIVES, "products": PRODUCTS},
    code_version="1",
)
def split_parts(
    context: dg.AssetExecutionContext,
    positives: pd.DataFrame,
    products: pd.DataFrame,
    matching: MatchingConfig,
    lake: Lake,
) -> dg.MaterializeResult[pd.DataFrame]:
    """Which vendors and products are trained on, and which are held out. Whoever has a part keeps it when data grows:
    what a champion was trained on is never held out later.
    """
    from shelfwise.matching.splits import PARTS, SplitConfig, parts_table, split_positives

    former = lake.last_table(context.asset_key)
    with DomainClock() as clock:
        splits = split_positives(positives, products, SplitConfig(seed=matching.split_seed), former)
        parts = parts_table(splits, matching.split_seed, former)
    metadata = {
        **float_metadata({f"{part}_lines": float((splits.line == part).sum()) for part in PARTS}),
        "lines_left_out": int(splits.line.isna().sum()),
        "vendors_kept_apart": splits.by_vendor,
        "counts": table(parts.value_counts(["kind", "split"]).sort_index().reset_index()),
        "dealt_anew": splits.anew or ("no" if former is not None else "there was no former table"),
        "new": len(parts) if former is None or splits.anew else len(parts) - len(former),
        **table_metadata(parts, clock),
    }
    return dg.MaterializeResult(value=parts, metadata=metadata)


@dg.asset(
    key_prefix="matching",
    group_name="matching",
    owners=MATCHING_TEAM,
    kinds={"pandas", "parquet"},
    ins={"positives": POSITIVES, "products": PRODUCTS},
    code_version="2",
)
def training_pairs(
    positives: pd.DataFrame, products: pd.DataFrame, split_parts: pd.DataFrame, matching: MatchingConfig
) -> dg.MaterializeResult[pd.DataFrame]:
    """Labelled pairs, three negatives to each positive, split by vendor and product: first what people passed over,
    then the character n-gram neighbours in the product's own category, the others random.
    """
    from shelfwise.matching.pairs import contradictions, make_pairs

    with DomainClock() as clock:
        seed, hard_share = matching.split_seed, matching.hard_share
        pairs = make_pairs(positives, products, seed=seed, hard_share=hard_share, former=split_parts)
        torn = contradictions(positives)
    counts = pairs.groupby(["split", "kind"]).size().unstack(fill_value=0).reset_index()
    examples = pairs[pairs["split"] == "train"].head(12)[["line", "product_title", "label", "kind"]]
    metadata = {
        **float_metadata({f"{split}_pairs": float(n) for split, n in pairs["split"].value_counts().items()}),
        "counts": table(counts),
        "contradictory_lines": len(torn),
        "contradictions": table(torn, 20, width=300),
        "examples": table(examples),
        **table_metadata(pairs, clock),
    }
    return dg.MaterializeResult(value=pairs, metadata=metadata)


@dg.asset(
    key_prefix="matching",
    group_name="matching",
    owners=MATCHING_TEAM,
    kinds={"pandas", "parquet"},
    ins={"positives": POSITIVES, "products": PRODUCTS},
    code_version="1",
)
def product_names(positives: pd.DataFrame, products: pd.DataFrame) -> dg.MaterializeResult[pd.DataFrame]:
    """Every name a product is known by: its catalog title, and the lines vendors have used for it."""
    from shelfwise.matching import index

    with DomainClock() as clock:
        names = index.product_names(products, positives)
    counts = {f"{source}_names": float(count) for source, count in names["source"].value_counts().items()}
    return dg.MaterializeResult(value=names, metadata={**float_metadata(counts), **table_metadata(names, clock)})


class EncoderStart(dg.Config):
    """Where the training of an encoder begins."""

    from_champion: bool = False


def _champions_encoder(registry: ModelRegistry, lake: Lake) -> Path:
    """Return the local directory of the champion's encoder. Raises Failure where it was removed from the lake."""
    version = registry.open().champion(TITLE_MATCHER)
    location = lake.artifact_path("title_encoder", version.lineage["encoder"])
    if not exists(location):
        told = f"the encoder of champion {version.label} is not at {location} any more: run train_and_promote instead"
        raise dg.Failure(told, allow_retries=False)
    return lake.fetch(str(location))


@dg.asset(
    key_prefix="matching",
    group_name="matching",
    owners=MATCHING_TEAM,
    kinds={"torch", "sentence_transformers"},
    pool="gpu",
    io_manager_key="reference_io",
    code_version="1",
)
def title_encoder(
    context: dg.AssetExecutionContext,
    config: EncoderStart,
    training_pairs: pd.DataFrame,
    matching: MatchingConfig,
    trainer: Trainer,
    registry: ModelRegistry,
    lake: Lake,
) -> dg.MaterializeResult[dict]:
    """An encoder of titles, trained in a process of its own: a static embedding, or a small BERT where there is a GPU;
    from scratch, or on from the champion's. The same pairs and settings are trained once: their model is found under
    its content id.
    """
    from shelfwise.matching.train import EncoderConfig, fingerprint, going_on_from

    base = _champions_encoder(registry, lake) if config.from_champion else None
    settings = matching.encoder_overrides()
    encoder = going_on_from(base, settings) if base else EncoderConfig.from_dict(settings)
    encoder_id = fingerprint(training_pairs, encoder)

    def write(work: Path) -> Mapping[str, Path]:
        training_pairs.to_parquet(work / "pairs.parquet", index=False)
        return {"pairs": work / "pairs.parquet"}

    model = ("title_encoder", encoder_id)
    trained = train_once(context, trainer, lake, "shelfwise.matching.train", model, encoder, write)
    begun_from = f"the champion's encoder, {base.name}" if base else encoder.base or "scratch"
    metadata = {**trained.metadata, "begun_from": begun_from}
    reference = {"id": encoder_id, "location": trained.location}
    return dg.MaterializeResult(value=reference, metadata=metadata, data_version=dg.DataVersion(encoder_id))


def _former(lake: Lake, key: dg.AssetKey, made_with: Mapping[str, str]) -> Path | None:
    """Return the artifact an asset made last, if it was made with the same things and is still there."""
    former = lake.last_reference(key) or {}
    if any(former.get(name) != value for name, value in made_with.items()) or not exists(former["location"]):
        return None
    return lake.fetch(former["location"])


@dg.asset(
    key_prefix="matching",
    group_name="matching",
    owners=MATCHING_TEAM,
    kinds={"numpy"},
    io_manager_key="reference_io",
    code_version=EMBEDDINGS_VERSION,
)
def product_embeddings(
    context: dg.AssetExecutionContext, product_names: pd.DataFrame, title_encoder: dict, lake: Lake
) -> dg.MaterializeResult[dict]:
    """The candidate encoder's vector of every name of every product, as an array beside the names. While the encoder
    stays the same, only names that were not there before are embedded.
    """
    from shelfwise.matching.encoder import TitleEncoder
    from shelfwise.matching.index import embed_names

    clock, embedded = DomainClock(), 0
    made_with = {"version": EMBEDDINGS_VERSION, "encoder": title_encoder["id"]}

    def write(directory: Path) -> None:
        nonlocal embedded
        former = _former(lake, context.asset_key, made_with)
        known = pd.read_parquet(former / "names.parquet")["name"].tolist() if former else []
        vectors = np.load(former / "embeddings.npy", mmap_mode="r", allow_pickle=False) if former else np.empty((0, 0))
        embedded = int((~product_names["name"].isin(known)).sum())
        with clock:
            encoder = TitleEncoder.load(lake.fetch(title_encoder["location"]))
            vectors = embed_names(product_names, encoder, (known, vectors))
        np.save(directory / "embeddings.npy", vectors, allow_pickle=False)
        product_names[["name"]].to_parquet(directory / "names.parquet", index=False)

    embeddings_id = content_id(EMBEDDINGS_VERSION, frame_id(product_names), title_encoder["id"])
    location, made = publish_once(lake, "product_embeddings", embeddings_id, write)
    vectors = np.load(lake.fetch(location) / "embeddings.npy", mmap_mode="r", allow_pickle=False)
    metadata = {
        **float_metadata({"names": len(vectors), "dimensions": vectors.shape[1]}),
        **float_metadata({"names_embedded": embedded, "names_reused": len(vectors) - embedded}),
        **artifact_metadata(location, made, clock),
    }
    reference = {"id": embeddings_id, "location": location, **made_with}
    return dg.MaterializeResult(value=reference, metadata=metadata, data_version=dg.DataVersion(embeddings_id))


@dg.asset(
    key_prefix="matching",
    group_name="matching",
    owners=MATCHING_TEAM,
    kinds={"faiss"},
    ins={"products": PRODUCTS},
    io_manager_key="reference_io",
    code_version=INDEX_VERSION,
)
def product_index(
    training_pairs: pd.DataFrame,
    products: pd.DataFrame,
    product_names: pd.DataFrame,
    product_embeddings: dict,
    title_encoder: dict,
    lake: Lake,
) -> dg.MaterializeResult[dict]:
    """The catalog ready to be searched, with the recall of each arm on lines of vendors it is not told of. Where the
    encoder's arm finds what the others miss there is a FAISS index for it: exact where the catalog is small,
    approximate above, its search width chosen by measured recall.
    """
    from shelfwise.matching.arms import build_index
    from shelfwise.matching.encoder import TitleEncoder
    from shelfwise.matching.lexical import Lexical

    clock = DomainClock()
    lines = _positives_of(training_pairs, "valid")

    def write(directory: Path) -> None:
        vectors = np.load(lake.fetch(product_embeddings["location"]) / "embeddings.npy", allow_pickle=False)
        with clock:
            lexical = Lexical.fit(product_names["name"].tolist())
            encoder = TitleEncoder.load(lake.fetch(title_encoder["location"]))
            build_index(products, product_names, lexical, vectors, lines, encoder).save(directory)

    catalog_id = content_id(frame_id(products), frame_id(product_names))
    index_id = content_id(INDEX_VERSION, catalog_id, product_embeddings["id"], frame_id(lines))
    location, made = publish_once(lake, "product_index", index_id, write)
    stats = json.loads((lake.fetch(location) / "index.json").read_text())["stats"]
    metadata = {
        **float_metadata({name: value for name, value in stats.items() if isinstance(value, int | float)}),
        **{name: value for name, value in stats.items() if isinstance(value, str)},
        **artifact_metadata(location, made, clock),
    }
    reference = {"id": index_id, "location": location, "catalog_id": catalog_id, "version": INDEX_VERSION}
    return dg.MaterializeResult(value=reference, metadata=metadata, data_version=dg.DataVersion(index_id))


def _positives_of(pairs: pd.DataFrame, split: str) -> pd.DataFrame:
    chosen = pairs[(pairs["split"] == split) & (pairs["label"] == 1)]
    return chosen[["vendor_id", "line", "product_id"]].rename(columns={"line": "vendor_title"})


@dg.asset(
    key_prefix="matching",
    group_name="matching",
    owners=MATCHING_TEAM,
    kinds={"lightgbm"},
    io_manager_key="reference_io",
    code_version=MATCHER_VERSION,
)
def matcher(
    training_pairs: pd.DataFrame, product_index: dict, title_encoder: dict, matching: MatchingConfig, lake: Lake
) -> dg.MaterializeResult[dict]:
    """The candidate matcher: encoder, n-gram weights, a listwise scorer over the best candidates, its calibration and
    the thresholds it can prove, fitted on the vendors and products the encoder has not seen.
    """
    from shelfwise.matching.features import FEATURE_NAMES
    from shelfwise.matching.guarantee import Guarantee, Sample
    from shelfwise.matching.index import CatalogIndex
    from shelfwise.matching.matcher import Matcher
    from shelfwise.matching.promotion import TRAINED_ON, trained_on

    clock = DomainClock()
    lines, policy = _positives_of(training_pairs, "valid"), matching.decisions()
    fitted_on = trained_on(training_pairs)

    def write(directory: Path) -> None:
        index = CatalogIndex.load(lake.fetch(product_index["location"]))
        with clock:
            encoder, share = lake.fetch(title_encoder["location"]), matching.no_match_share
            Matcher.fit(lines, index, encoder, no_match_share=share, policy=policy).save(directory)
        fitted_on.to_parquet(directory / TRAINED_ON, index=False)

    made_with = (MATCHER_VERSION, FEATURE_NAMES, product_index["id"], title_encoder["id"], matching.no_match_share)
    matcher_id = content_id(made_with, frame_id(lines), frame_id(fitted_on))
    location, made = publish_once(lake, "title_matcher", matcher_id, write)
    guarantee = Guarantee.of(Sample.load(lake.fetch(location) / "sample.npz"), policy.goal)
    metadata = {
        **float_metadata({"fitted_lines": len(lines)}),
        **guarantee_metadata(guarantee),
        **artifact_metadata(location, made, clock),
    }
    reference = {"id": matcher_id, "location": location, "index": product_index, "encoder": title_encoder["id"]}
    return dg.MaterializeResult(value=reference, metadata=metadata, data_version=dg.DataVersion(matcher_id))


def candidate_version(versions: Registry, evaluation: dict) -> ModelVersion:
    """Return the registered version of the candidate that an evaluation is about; registers it the first time."""
    evaluated = evaluation["matcher"]
    lineage = {
        **evaluation["data"],
        "encoder": evaluated["encoder"],
        "index": evaluated["index"]["location"],
        "index_version": evaluated["index"].get("version"),
    }
    metrics = {name: float(value) for name, value in evaluation["metrics"].items()}
    return versions.register(TITLE_MATCHER, evaluated["location"], evaluated["id"], metrics, lineage)


def _beside(
    current: ModelVersion, lake: Lake, index: Callable, lines: pd.DataFrame, result: "Evaluation", **how: Any
) -> dict[str, Any]:
    """Return what the evaluation stores about the champion: its metrics on the lines that the candidate's `result` is
    about, and the comparison line by line. `index`: makes the champion's index, given the champion.
    """
    from shelfwise.matching.evaluate import evaluate
    from shelfwise.matching.matcher import Matcher
    from shelfwise.matching.promotion import compare, read_trained_on

    try:
        directory = lake.fetch(current.artifact)
        champion = Matcher.load(directory, policy=how["policy"])
    except (ValueError, FileNotFoundError) as error:
        # Code that cannot read the champion any more: refusing every candidate would leave no way out.
        return {"champion_metrics": None, "champion_unusable": str(error)}
    against = evaluate(champion, index(champion), lines, seed=how["seed"], baselines=False)
    known = read_trained_on(directory)
    compared = compare(result.lines, against.lines, known, how["by_vendor"], how["seed"])
    return {"champion_metrics": against.metrics, "champion_unusable": None, **compared.to_json()}


@dg.asset(
    key_prefix="matching",
    group_name="matching",
    owners=MATCHING_TEAM,
    kinds={"pandas"},
    ins={"products": PRODUCTS},
    io_manager_key="reference_io",
    code_version="2",
)
def matcher_evaluation(
    training_pairs: pd.DataFrame,
    products: pd.DataFrame,
    product_names: pd.DataFrame,
    matcher: dict,
    registry: ModelRegistry,
    matching: MatchingConfig,
    lake: Lake,
) -> dg.MaterializeResult[dict]:
    """The candidate on lines of vendors and products it never saw, beside the simple baselines and, line by line, the
    champion; some of the lines have their product hidden, so that "matches nothing" is measured too. The candidate is
    registered here, as challenger.
    """
    from shelfwise.matching.evaluate import evaluate
    from shelfwise.matching.index import CatalogIndex
    from shelfwise.matching.matcher import Matcher
    from shelfwise.matching.promotion import vendors_apart

    lines, versions = _positives_of(training_pairs, "test"), registry.open()
    current = versions.alias(TITLE_MATCHER)
    how = {"policy": matching.decisions(), "seed": matching.split_seed, "by_vendor": vendors_apart(training_pairs)}
    value = beside_champion(current, matcher["id"])
    with DomainClock() as clock:
        candidate = Matcher.load(lake.fetch(matcher["location"]), policy=how["policy"])
        index = CatalogIndex.load(lake.fetch(matcher["index"]["location"]))
        result = evaluate(candidate, index, lines, seed=matching.split_seed)
        if current is not None and not value["same"]:
            value |= _beside(current, lake, lambda one: one.build_index(products, product_names), lines, result, **how)
    value |= {
        "matcher": matcher,
        "metrics": result.metrics,
        "about": result.about,
        "data": {"training_pairs": frame_id(training_pairs), "catalog": matcher["index"]["catalog_id"]},
    }
    version = candidate_version(versions, value)
    value["rolled_back"] = challenge(versions, version)
    metadata = {
        "candidate": version.label,
        **evaluation_metadata(result, value["champion_metrics"], candidate),
        **comparison_metadata(value, matching.rules()),
        **clock_metadata(clock),
    }
    return dg.MaterializeResult(value=value, metadata=metadata)


@dg.asset(
    key_prefix="matching",
    group_name="matching",
    owners=MATCHING_TEAM,
    kinds={"registry"},
    io_manager_key="reference_io",
    code_version="2",
)
def champion(
    matcher_evaluation: dict, registry: ModelRegistry, matching: MatchingConfig, lake: Lake
) -> dg.MaterializeResult[dict]:
    """The matcher in production: a registered version behind the alias `champion`. The gate is asked here again, so
    that it also holds when this asset runs on its own.
    """
    decision = decide_promotion(matcher_evaluation, matching.rules())
    versions = registry.open()
    version = candidate_version(versions, matcher_evaluation)
    return promote(versions, version, decision, matcher_evaluation, lake)


@dg.asset(
    key_prefix="matching",
    group_name="matching",
    owners=MATCHING_TEAM,
    kinds={"faiss"},
    ins={"products": PRODUCTS},
    deps=[champion],
    io_manager_key="reference_io",
    code_version=INDEX_VERSION,
)
def catalog_index(
    context: dg.AssetExecutionContext,
    products: pd.DataFrame,
    product_names: pd.DataFrame,
    registry: ModelRegistry,
    lake: Lake,
) -> dg.MaterializeResult[dict]:
    """The current catalog as the champion searches it. Where the champion was trained on this very catalog, its index
    is the one that was evaluated. Where the catalog has changed since, the champion's last index follows what changed;
    it equals one that is built anew with the champion's encoder and n-gram weights, as a new champion's is.
    """
    from shelfwise.matching.index import CatalogIndex
    from shelfwise.matching.matcher import Matcher

    version = registry.open().champion(TITLE_MATCHER)
    clock, told = DomainClock(), {}
    made_with = {"version": INDEX_VERSION, "champion_id": version.artifact_id}
    catalog_id = content_id(frame_id(products), frame_id(product_names))
    evaluated, index_version = version.lineage["index"], version.lineage.get("index_version")
    if version.lineage["catalog"] == catalog_id:
        index_id, location, made = catalog_id, evaluated, False
        made_with["version"] = index_version or ""
    else:
        index_id = content_id(INDEX_VERSION, catalog_id, version.artifact_id)

        def write(directory: Path) -> None:
            former = _former(lake, context.asset_key, made_with)
            if former is None and index_version == INDEX_VERSION and exists(evaluated):
                former = lake.fetch(evaluated)
            with clock:
                matcher = Matcher.load(lake.fetch(version.artifact))
                if former is None:
                    index = matcher.build_index(products, product_names)
                else:
                    index = matcher.update_index(CatalogIndex.load(former), products, product_names)
                index.save(directory)
            told.update(update_metadata(index.change))

        location, made = publish_once(lake, "catalog_index", index_id, write)
    metadata = {
        "champion_version": version.label,
        **float_metadata({"products": len(products), "names": len(product_names)}),
        **told,
        **artifact_metadata(location, made, clock),
    }
    value = {"id": index_id, "location": location, **made_with}
    return dg.MaterializeResult(value=value, metadata=metadata)
