"""How the category champion does in production: what people answered, beside what it was accepted with."""

from collections.abc import Iterator

import dagster as dg
import pandas as pd

from assets.common import CATALOG_TEAM, float_metadata, table, table_metadata
from resources.lake import Lake
from resources.monitoring import MonitoringConfig
from resources.registry import CATEGORY_ENSEMBLE, ModelRegistry
from shelfwise.monitoring import signals
from shelfwise.timing import DomainClock

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
        "upload_categories": dg.AssetIn(
            ["uploads", "upload_categories"],
            metadata={"allow_missing_partitions": True},
            partition_mapping=dg.AllPartitionMapping(),
        ),
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
    numbers = {
        f"accepted_{name}": accepted[name] for name in ("top1", "top5", "assigned_precision") if name in accepted
    }
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
