"""How the category champion does in production: what people answered, and what it makes of uploads."""

from collections.abc import Iterator

import dagster as dg
import pandas as pd

from assets.classification import LISTINGS
from assets.common import CATALOG_TEAM, float_metadata, picture, table, table_metadata
from assets.drift import champions_reference
from assets.models import missing
from assets.uploads import check_of_each_file, of_all_uploads, upload_files
from resources.lake import Lake
from resources.monitoring import MonitoringConfig
from resources.registry import CATEGORY_ENSEMBLE, ModelRegistry
from shelfwise.artifacts import exists
from shelfwise.classification.listings import with_parts
from shelfwise.monitoring import drift, signals
from shelfwise.timing import DomainClock

REFERENCE = "category_drift_reference"
ACCEPTED = ("top1", "top5", "assigned_precision")
LIVE_CATEGORIES = dg.AssetCheckSpec(
    "live_categories",
    asset=["monitoring", "category_quality"],
    description="Accuracy of categories over all lines has not fallen far below what the champion was accepted with; "
    "failing asks for a retrain of the classifiers.",
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
    check_specs=[LIVE_CATEGORIES],
    code_version="1",
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
    categories contradict each other. A fall far below what the champion was accepted with asks for a retrain, once.
    """
    from shelfwise.monitoring import categories

    champion = registry.open().alias(CATEGORY_ENSEMBLE)
    label, accepted = (champion.label, champion.metrics) if champion else ("none", {})
    with DomainClock() as clock:
        quality = categories.category_quality(category_feedback, upload_categories, label)
        fell, verdict = categories.fallen(quality, accepted, monitoring.accuracy_drop)
        torn = categories.contradicting_vendors(upload_categories)
    raised = False
    if champion and fell:
        signal = signals.Signal.of(signals.ACCURACY, "categories below what was accepted", verdict, champion.label)
        raised = signals.raise_signal(lake.path, signal, signals.CATEGORIES)
    numbers = {f"accepted_{name}": accepted[name] for name in ACCEPTED if name in accepted}
    numbers |= {name: value for name, value in quality.own.items() if value == value}
    by = {"by_version": "version", "by_week": "week", "by_vendor": "vendor"}
    metadata = {
        "champion_version": label,
        "verdict": verdict,
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
    code_version="1",
)
def category_reference(
    labelled_listings: pd.DataFrame, listing_parts: pd.DataFrame, registry: ModelRegistry, lake: Lake
) -> dg.MaterializeResult[dict]:
    """What the category champion makes of listings it was not trained on, seller by seller: what uploads are compared
    with. Kept under an id that follows from the champion's: after a rollback the former one's is still there.
    """
    from shelfwise.classification.model import CategoryModel
    from shelfwise.monitoring.category_drift import make_reference, reference_id

    champion = registry.open().alias(CATEGORY_ENSEMBLE)
    if champion is None:
        return missing("there is no category champion yet")
    listings, about = with_parts(labelled_listings, listing_parts), {"champion_version": champion.label}
    if listings.loc[listings["split"] != "train", "seller_id"].isna().all():
        return missing("no held-out listing says who sells it, so how sellers differ is not known")

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
    code_version="1",
)
def category_drift(
    context: dg.AssetExecutionContext,
    upload_categories: pd.DataFrame,
    registry: ModelRegistry,
    monitoring: MonitoringConfig,
    lake: Lake,
) -> Iterator[dg.MaterializeResult[pd.DataFrame] | dg.AssetCheckResult]:
    """How far what the category champion makes of one upload is from what it makes of held-out listings. It warns and
    asks for no retrain: only labels teach new categories, and answers to the file ask for one where accuracy fell.
    """
    from shelfwise.monitoring import category_drift as categories
    from shelfwise.plots import drift_picture

    label = str(upload_categories["champion_version"].iloc[0]) if len(upload_categories) else ""
    version = next((one for one in registry.open().versions(CATEGORY_ENSEMBLE) if one.label == label), None)
    location = lake.artifact_path(REFERENCE, categories.reference_id(version.artifact_id)) if version else None
    if location is None or not exists(location):
        why = f"no reference of champion {label}" if label else "the upload has no categories"
        nothing = pd.DataFrame(columns=list(drift.COLUMNS))
        yield dg.MaterializeResult(value=nothing, metadata={"skipped": why, **table_metadata(nothing)})
        yield dg.AssetCheckResult(passed=True, check_name=STEADY_CATEGORIES.name, description=f"not compared: {why}")
        return
    with DomainClock() as clock:
        reference = drift.Reference.load(lake.fetch(str(location)))
        described = categories.describe(upload_categories, reference)
        found = categories.judge(described, reference, monitoring.drift_false_alarms, monitoring.drift_share)
        png = drift_picture(found.columns, f"Categories of {context.partition_key}")
    metadata = {
        "level": found.level,
        "summary": found.sentence,
        "champion_version": label,
        **float_metadata({"drifted_measures": len(found.drifted), "drifted_share": found.share}),
        "change": picture(png, "change of each measure"),
        "measures": table(found.columns),
        **table_metadata(found.columns, clock),
    }
    yield dg.MaterializeResult(value=found.columns, metadata=metadata)
    yield dg.AssetCheckResult(
        passed=found.level == drift.OK,
        check_name=STEADY_CATEGORIES.name,
        severity=dg.AssetCheckSeverity.WARN,
        description=found.sentence,
    )
