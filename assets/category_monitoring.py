"""How the category champion does in production: what people answered, and what it makes of uploads."""

from collections.abc import Iterator
from typing import Any

import dagster as dg
import pandas as pd

from assets.categories import CATEGORIES
from assets.classification import LISTINGS
from assets.common import CATALOG_TEAM, float_metadata, picture, table, table_metadata
from assets.drift import champions_reference
from assets.models import missing
from assets.uploads import check_of_each_file, of_all_uploads, upload_files
from resources.lake import Lake
from resources.monitoring import MonitoringConfig
from resources.registry import CATEGORY_ENSEMBLE, ModelRegistry
from shelfwise.artifacts import exists
from shelfwise.classification.listings import with_parts, with_text
from shelfwise.monitoring import drift, signals
from shelfwise.timing import DomainClock

REFERENCE, REFERENCE_KEY = "category_drift_reference", dg.AssetKey(["monitoring", "category_reference"])
LIVE_CATEGORIES = dg.AssetCheckSpec(
    "live_categories",
    asset=["monitoring", "category_quality"],
    description="Accuracy of categories over all lines has not fallen far below what the champion was accepted with on "
    "listings with as much to go by (text, picture, both); failing asks for a retrain of the classifiers.",
)


@dg.asset(
    key_prefix="monitoring",
    group_name="monitoring",
    owners=CATALOG_TEAM,
    kinds={"pandas", "parquet"},
    ins={
        "category_feedback": dg.AssetIn(["raw", "category_feedback"]),
        "upload_categories": of_all_uploads("upload_categories"),
    },
    deps=[CATEGORIES],  # looked up: answers are taken whether or not anything was staged
    check_specs=[LIVE_CATEGORIES],
    code_version="2",
)
def category_quality(
    category_feedback: pd.DataFrame,
    upload_categories: dict[str, pd.DataFrame],
    registry: ModelRegistry,
    monitoring: MonitoringConfig,
    lake: Lake,
) -> Iterator[dg.MaterializeResult[pd.DataFrame] | dg.AssetCheckResult]:
    """Predicted categories and the answers that came back to them: accuracy over all lines, and how often what was
    assigned without a person is right (from the audit), by week, vendor and champion; and which vendors' matches and
    categories contradict each other. A fall far below what the champion was accepted with, on listings with as much to
    go by, asks for a retrain, once.
    """
    from shelfwise.monitoring import categories

    champion = registry.open().alias(CATEGORY_ENSEMBLE)
    label, accepted = (champion.label, champion.metrics) if champion else ("none", {})
    with DomainClock() as clock:
        merged = lake.last_table(CATEGORIES)
        quality = categories.category_quality(category_feedback, upload_categories, label, merged)
        fell, verdict = categories.fallen(quality, accepted, monitoring.accuracy_drop)
        torn = categories.contradicting_vendors(upload_categories)
    raised = False
    if champion and fell:
        signal = signals.Signal.of(signals.ACCURACY, "categories below what was accepted", verdict, champion.label)
        raised = signals.raise_signal(lake.path, signal, signals.CATEGORIES)
    numbers = {f"accepted_{name}": value for name, value in categories.promised(quality.own_lines, accepted).items()}
    numbers |= {name: value for name, value in quality.own.items() if value == value}
    by = {"by_version": "version", "by_week": "week", "by_vendor": "vendor"}
    metadata = {
        "champion_version": label,
        "verdict": verdict,
        "lines_by_evidence": quality.own_lines["evidence"].value_counts().to_dict(),
        "retrain_requested_now": raised,
        **float_metadata({**numbers, "answers_without_prediction": quality.without}),
        **{name: table(quality.table[quality.table["level"] == level].tail(60), 60) for name, level in by.items()},
        "contradicting_vendors": table(torn, 50),
        **table_metadata(quality.table, clock),
    }
    yield dg.MaterializeResult(value=quality.table, metadata=metadata)
    yield dg.AssetCheckResult(
        passed=not fell,
        check_name=LIVE_CATEGORIES.name,
        severity=dg.AssetCheckSeverity.ERROR,
        description=verdict,
        metadata=float_metadata({"answers": quality.own["answers"]}),
    )


STEADY_CATEGORIES = check_of_each_file(
    "steady_categories",
    ["monitoring", "category_drift"],
    "What the champion makes of the file is like what it makes of listings it was not trained on.",
)


@dg.asset(
    key_prefix="monitoring",
    group_name="classification",  # made with every category champion, by the runs that train one
    owners=CATALOG_TEAM,
    kinds={"pandas"},
    deps=[["classification", "category_champion"]],
    ins={"labelled_listings": LISTINGS, "listing_parts": dg.AssetIn(["classification", "listing_parts"])},
    io_manager_key="reference_io",
    code_version="2",
)
def category_reference(
    labelled_listings: pd.DataFrame, listing_parts: pd.DataFrame, registry: ModelRegistry, lake: Lake
) -> dg.MaterializeResult[dict]:
    """What the category champion makes of listings it was not trained on, seller by seller: what uploads are compared
    with; of random parts of them where sellers are not known. Kept under an id that follows from the champion's: after
    a rollback the former one's is still there.
    """
    from shelfwise.classification.model import CategoryModel
    from shelfwise.monitoring.category_drift import make_reference, reference_id, why_not

    champion = registry.open().alias(CATEGORY_ENSEMBLE)
    if champion is None:
        return missing("there is no category champion yet")
    if "text_version" not in champion.lineage:
        return missing("the champion looks at pictures alone, and lines are compared by their text")
    # A listing without any text is like none of the lines that are compared with it.
    listings = with_text(with_parts(labelled_listings, listing_parts))
    if why := why_not(listings):
        return missing(why)
    about = {"champion_version": champion.label}

    def make() -> drift.Reference:
        return make_reference(CategoryModel.load(lake.fetch(champion.artifact)), listings, about)

    return champions_reference(lake, REFERENCE, reference_id(champion.artifact_id), champion, make)


@dg.asset(
    key_prefix="monitoring",
    group_name="monitoring",
    owners=CATALOG_TEAM,
    kinds={"pandas"},
    partitions_def=upload_files,
    deps=[category_reference],
    ins={"upload_categories": dg.AssetIn(["uploads", "upload_categories"])},
    check_specs=[STEADY_CATEGORIES],
    code_version="2",
)
def category_drift(
    context: dg.AssetExecutionContext,
    upload_categories: pd.DataFrame,
    registry: ModelRegistry,
    monitoring: MonitoringConfig,
    lake: Lake,
) -> Iterator[dg.MaterializeResult[pd.DataFrame] | dg.AssetCheckResult]:
    """How far what the category champion makes of one upload is from what it makes of held-out listings, of its lines
    with text alone. It warns and asks for no retrain: only labels teach new categories, and answers to the file ask for
    one where accuracy fell.
    """
    from shelfwise.monitoring import category_drift as categories
    from shelfwise.plots import drift_picture

    label = str(upload_categories["champion_version"].iloc[0]) if len(upload_categories) else ""
    location, why = _reference_of(label, registry, lake)
    text = categories.of_text_alone(upload_categories)
    beside = _line_shares(upload_categories, text)
    if location is None or text.empty:
        why = why or "no line has text alone, as all that it is compared with has"
        nothing = pd.DataFrame(columns=list(drift.COLUMNS))
        yield dg.MaterializeResult(value=nothing, metadata={"skipped": why, **beside, **table_metadata(nothing)})
        yield dg.AssetCheckResult(passed=True, check_name=STEADY_CATEGORIES.name, description=f"not watched: {why}")
        return
    with DomainClock() as clock:
        reference = drift.Reference.load(lake.fetch(location))
        found = categories.judge(
            categories.describe(text, reference), reference, monitoring.drift_false_alarms, monitoring.drift_share
        )
        png = drift_picture(found.columns, f"Categories of {context.partition_key}")
    metadata = {
        "level": found.level,
        "summary": found.sentence,
        "champion_version": label,
        "compared_by_seller": reference.about[categories.BY_SELLER],
        **float_metadata({"drifted_measures": len(found.drifted), "drifted_share": found.share}),
        **beside,
        "change": picture(png, "change of each measure"),
        "measures": table(found.columns),
        **table_metadata(found.columns, clock),
    }
    yield dg.MaterializeResult(value=found.columns, metadata=metadata)
    yield dg.AssetCheckResult(
        passed=found.level == drift.OK,
        check_name=STEADY_CATEGORIES.name,
        severity=dg.AssetCheckSeverity.WARN,
        description=_told(found, beside["lines_left_out"]),
    )


def _reference_of(label: str, registry: ModelRegistry, lake: Lake) -> tuple[str | None, str]:
    """Where the reference of the champion that made an upload's categories lies; or why there is none."""
    from shelfwise.monitoring.category_drift import reference_id

    if not label:
        return None, "the upload has no categories"
    version = next((one for one in registry.open().versions(CATEGORY_ENSEMBLE) if one.label == label), None)
    if version is None:
        return None, f"champion {label} is not in the registry any more"
    location = lake.artifact_path(REFERENCE, reference_id(version.artifact_id))
    if exists(location):
        return str(location), ""
    known = lake.last_reference(REFERENCE_KEY) or {}
    why = known.get("missing", "materialize monitoring/category_reference")
    return None, f"champion {label} has no reference: {why}"


def _told(found: drift.Judgement, left_out: int) -> str:
    told = found.sentence if len(found.columns) else f"not watched: {found.sentence}"
    return f"{told}; {left_out:,} lines that have more or less than text are left out" if left_out else told


def _line_shares(upload_categories: pd.DataFrame, text: pd.DataFrame) -> dict[str, Any]:
    """Metadata of an upload's lines: how many are left out of the comparison, as they have not text alone, and how many
    have a description. `text`: rows of the others.
    """
    best, kept = (rows[rows["rank"] == 1] for rows in (upload_categories, text))
    described = float(best["description"].notna().mean()) if len(best) else 0.0
    return {"lines_left_out": len(best) - len(kept), **float_metadata({"described_share": described})}
