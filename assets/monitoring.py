"""How the champion does in production: what people answered, beside what it was accepted with."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import dagster as dg
import pandas as pd

from assets.common import MATCHING_TEAM, float_metadata, picture, table, table_metadata
from assets.uploads import of_all_uploads
from resources.lake import Lake
from resources.monitoring import MonitoringConfig
from resources.registry import TITLE_MATCHER, ModelRegistry
from shelfwise import clock
from shelfwise.monitoring import signals
from shelfwise.registry import ModelVersion, RegistryError
from shelfwise.timing import DomainClock

if TYPE_CHECKING:
    from shelfwise.monitoring.fall import FallDecision
    from shelfwise.monitoring.live import LiveQuality

ACCEPTED = ("top1", "top5", "approved_precision")
LIVE_ACCURACY = dg.AssetCheckSpec(
    "live_accuracy",
    asset=["monitoring", "live_quality"],
    description="Accuracy over all lines has not fallen far below what the champion was accepted with; failing asks "
    "for a retrain.",
)


@dg.asset(
    key_prefix="monitoring",
    group_name="monitoring",
    owners=MATCHING_TEAM,
    kinds={"pandas", "parquet"},
    ins={
        "feedback": dg.AssetIn(["raw", "feedback"]),
        "upload_matches": of_all_uploads("upload_matches"),
    },
    check_specs=[LIVE_ACCURACY],
    code_version="1",
)
def live_quality(
    feedback: pd.DataFrame,
    upload_matches: dict[str, pd.DataFrame],
    registry: ModelRegistry,
    monitoring: MonitoringConfig,
    lake: Lake,
) -> Iterator[dg.MaterializeResult[pd.DataFrame] | dg.AssetCheckResult]:
    """Predictions and the answers that came back to them: accuracy over all lines, and the precision of what was
    decided without a person (from the audit), by week, vendor and champion. A fall far below what the champion was
    accepted with asks for a retrain, once.
    """
    from shelfwise.monitoring import fall, live
    from shelfwise.plots import live_picture

    champion, trouble = _champion(registry)
    label, accepted = (champion.label, champion.metrics) if champion else (None, {})
    with DomainClock() as domain:
        quality = live.live_quality(feedback, upload_matches, label, _made_at(champion), clock.now())
        decision = fall.decide_fall(quality.looks, accepted, monitoring.accuracy_drop)
        png = live_picture(quality.table, accepted)
    raised = False
    if champion and decision.fell:
        signal = signals.Signal.of(signals.ACCURACY, "below what was accepted", decision.reason, champion.label)
        raised = signals.raise_signal(lake.path, signal)
    metadata = {
        "live_accuracy": picture(png, "accuracy in production"),
        "verdict": trouble or decision.reason,
        "retrain_requested_now": raised,
        "champion_version": label or "none",
        **_numbers(quality, accepted),
        **_tables(quality, decision),
        **table_metadata(quality.table, domain),
    }
    yield dg.MaterializeResult(value=quality.table, metadata=metadata)
    yield _check(quality, decision, accepted, trouble)


def _champion(registry: ModelRegistry) -> tuple[ModelVersion | None, str]:
    """The champion, or why it is not known: what came back is measured all the same."""
    try:
        return registry.open().alias(TITLE_MATCHER), ""
    except RegistryError as error:
        return None, f"nothing was compared, the registry cannot be read: {error}"


def _made_at(champion: ModelVersion | None) -> datetime | None:
    try:
        made = datetime.fromisoformat(champion.created_at) if champion else None
    except ValueError:
        return None
    return made.replace(tzinfo=UTC) if made and made.tzinfo is None else made


def _numbers(quality: "LiveQuality", accepted: dict[str, float]) -> dict[str, Any]:
    """The champion's numbers, which the UI plots over time; what is not known yet is left out."""
    numbers = {f"accepted_{name}": accepted[name] for name in ACCEPTED if name in accepted}
    if quality.champion is not None:
        for name, value in (("live_top1", quality.champion.top1), ("live_top5", quality.champion.top5)):
            numbers |= {name: value.value, f"{name}_low": value.low, f"{name}_high": value.high}
        numbers |= {"covered_share": quality.champion.covered}
    names = ("approved_precision", "no_match_precision", "raw_top1", "raw_top5")
    numbers |= {f"{name}{end}": quality.own[f"{name}{end}"] for name in names for end in ("", "_low", "_high")}
    counts = {
        "answers": quality.own["answers"],
        "audited_answers": quality.own["audited_approved"] + quality.own["audited_no_match"],
        "audited_waiting": quality.waiting,
        "reported_outside_the_audit": quality.own["reported"],
        "answers_without_prediction": quality.without,
        "answers_with_unknown_prediction": len(quality.unknown),
        "repeated_answers": quality.repeated,
        "answers_to_all_champions": len(quality.answers),
    }
    return float_metadata({name: value for name, value in (numbers | counts).items() if value == value})


def _tables(quality: "LiveQuality", decision: "FallDecision") -> dict[str, Any]:
    """What a person reads: compared numbers, then weeks and vendors, then answers nobody can place."""
    shown = [
        "answers", "top1", "top1_low", "top1_high", "top5", "covered", "raw_top1", "audited_approved",
        "approved_precision", "approved_precision_low", "reported",
    ]  # fmt: skip
    parts = {"by_version": "version", "by_week": "week", "by_vendor": "vendor"}
    columns = {"by_version": "champion_version", "by_week": "week", "by_vendor": "vendor_id"}
    tables = {
        name: table(quality.table[quality.table["level"] == level][[columns[name], *shown]].tail(60), 60)
        for name, level in parts.items()
    }
    return {
        "compared": table(decision.table()),
        **tables,
        "unknown_predictions": table(quality.unknown, 50),
        "how_to_read": "top1 and top5 are estimates over all lines whose product is in the catalog: each answer stands "
        "for the lines like it that nobody answered. raw_top1 is the plain share among answers, which are mostly about "
        "doubtful lines: it is lower and comparable with nothing. approved_precision comes from audited lines alone. "
        "What people report of other lines (reported) is nearly all of wrong ones and counts for no share.",
    }


def _check(
    quality: "LiveQuality", decision: "FallDecision", accepted: dict[str, float], trouble: str
) -> dg.AssetCheckResult:
    """Fail where accuracy fell; warn where it may have, and where approved lines are less precise than was accepted."""
    promised, high = accepted.get("approved_precision", float("nan")), quality.own["approved_precision_high"]
    reasons = [trouble] if trouble else []
    if high < promised:
        reasons.append(
            f"approved lines are right in {quality.own['approved_precision']:.1%} of {quality.own['audited_approved']} "
            f"audited (at most {high:.1%}), {promised:.1%} was accepted: raise the precision asked for"
        )
    if decision.state == "watch":
        reasons.append(decision.reason)
    return dg.AssetCheckResult(
        passed=not reasons and not decision.fell,
        severity=dg.AssetCheckSeverity.ERROR if decision.fell else dg.AssetCheckSeverity.WARN,
        check_name=LIVE_ACCURACY.name,
        description="\n".join([decision.reason, *[reason for reason in reasons if reason != decision.reason]]),
        metadata={"state": decision.state, **float_metadata({"answers": quality.own["answers"]})},
    )
