"""Drift: each upload, and each week of uploads, against what the champion was trained on."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

import dagster as dg
import pandas as pd

from assets.common import MATCHING_TEAM, float_metadata, picture, table, table_metadata
from assets.models import artifact_metadata, publish_once
from assets.uploads import check_of_each_file, upload_files
from resources.lake import Lake
from resources.monitoring import MonitoringConfig
from resources.registry import TITLE_MATCHER, ModelRegistry
from shelfwise import clock as calendar
from shelfwise.artifacts import atomic_write_bytes, exists
from shelfwise.monitoring import drift, seen
from shelfwise.monitoring.signals import DRIFT, Signal, raise_signal
from shelfwise.registry import ModelVersion
from shelfwise.timing import DomainClock

KIND = "drift_reference"
DAYS = 7  # of the weekly look
COUNTED = ("lines", "vendors", "held_out_vendors")

STEADY = check_of_each_file(
    "steady_inputs",
    ["monitoring", "upload_drift"],
    "The file is like what vendors sent when the champion was trained; if not, says what changed.",
)


@dg.asset(
    key_prefix="monitoring",
    group_name="matching",  # made with every champion, by the runs that train one
    owners=MATCHING_TEAM,
    kinds={"pandas"},
    deps=[["matching", "champion"]],
    ins={
        "positives": dg.AssetIn(["marts", "labelled_positives"]),
        "training_pairs": dg.AssetIn(["matching", "training_pairs"]),
    },
    io_manager_key="reference_io",
    code_version="1",
)
def drift_reference(
    positives: pd.DataFrame, training_pairs: pd.DataFrame, registry: ModelRegistry, lake: Lake
) -> dg.MaterializeResult[dict]:
    """What lines were like when the champion was trained, vendor by vendor, with the scores it gives them. Kept under
    an id that follows from the champion's: after a rollback the former champion's is still there.
    """
    from shelfwise.matching.index import CatalogIndex
    from shelfwise.matching.matcher import Matcher
    from shelfwise.monitoring.reference import make_reference, reference_id

    version, pairs = registry.open().champion(TITLE_MATCHER), training_pairs

    def make() -> drift.Reference:
        matcher = Matcher.load(lake.fetch(version.artifact))
        index = CatalogIndex.load(lake.fetch(version.lineage["index"]))  # of the catalog it was trained on
        held_out = set(pairs.loc[pairs["split"] == "test", "vendor_id"].astype(str))
        about = {"champion_id": version.artifact_id, "champion_version": version.label}
        return make_reference(matcher, index, positives, held_out, about=about)

    return champions_reference(lake, KIND, reference_id(version.artifact_id), version, make)


def champions_reference(
    lake: Lake, kind: str, reference_id: str, version: ModelVersion, make: Callable[[], drift.Reference]
) -> dg.MaterializeResult[dict]:
    """Publish what a champion's uploads are compared with, unless that was done before, and return what its asset does.

    `reference_id`: follows from the champion's.
    """
    clock = DomainClock()

    def write(directory: Path) -> None:
        with clock:
            make().save(directory)

    location, made = publish_once(lake, kind, reference_id, write)
    reference = drift.Reference.load(lake.fetch(location))
    spreads = pd.DataFrame([{"measure": name, **vars(one)} for name, one in reference.spreads.items()])
    counted = {name: reference.about[name] for name in COUNTED if name in reference.about}
    metadata = {
        "champion_version": version.label,
        **float_metadata(counted),
        "measures": table(spreads),
        **artifact_metadata(location, made, clock),
    }
    value = {"location": location, "champion_id": version.artifact_id, "champion_version": version.label}
    return dg.MaterializeResult(value=value, metadata=metadata)


def _location(lake: Lake, version: ModelVersion) -> str:
    from shelfwise.monitoring.reference import reference_id

    return str(lake.artifact_path(KIND, reference_id(version.artifact_id)))


@dg.asset(
    key_prefix="monitoring",
    group_name="monitoring",
    owners=MATCHING_TEAM,
    kinds={"evidently"},
    partitions_def=upload_files,
    deps=[drift_reference],
    ins={
        "upload_matches": dg.AssetIn(["uploads", "upload_matches"]),
        "upload_lines": dg.AssetIn(["uploads", "upload_lines"]),
    },
    check_specs=[STEADY],
    code_version="1",
)
def upload_drift(
    context: dg.AssetExecutionContext,
    upload_matches: pd.DataFrame,
    upload_lines: pd.DataFrame,
    registry: ModelRegistry,
    monitoring: MonitoringConfig,
    lake: Lake,
) -> Iterator[dg.MaterializeResult[pd.DataFrame] | dg.AssetCheckResult]:
    """How far one upload's lines and what the champion made of them are from what it was trained on, measure by
    measure, with Evidently's report. A file that fails asks for a retrain.
    """
    from shelfwise.monitoring.reference import describe_lines
    from shelfwise.monitoring.report import evidently_report

    key, clock = context.partition_key, DomainClock()
    vendor_id = key.partition("/")[0]
    version, reference, missing = _reference_of(upload_matches, registry, lake)
    if version is None or reference is None:
        nothing = pd.DataFrame(columns=list(drift.COLUMNS))
        yield dg.MaterializeResult(value=nothing, metadata={"skipped": missing, **table_metadata(nothing)})
        yield dg.AssetCheckResult(passed=True, check_name="steady_inputs", description=f"not compared: {missing}")
        return
    with clock:
        described = describe_lines(upload_matches, upload_lines, reference, _encoder(lake, version))
        pasts = seen.past_profiles(lake.path, vendor_id, key, _time(version.created_at))
        found = drift.judge(
            described, reference, vendor_id, pasts, monitoring.drift_false_alarms, monitoring.drift_share
        )
        html, distances = evidently_report(described, reference, monitoring.drift_share)
        seen.keep(lake.path, key, described, version.artifact_id, calendar.now())
    place = lake.path.joinpath("reports", "drift", *(quote(part, safe=" ") for part in f"{key}.html".split("/")))
    atomic_write_bytes(place, html)
    metadata = _metadata(found, distances, str(place), version, f"{key} beside champion {version.label}'s training")
    yield dg.MaterializeResult(value=found.columns, metadata={**metadata, **table_metadata(found.columns, clock)})
    yield _check(found, "steady_inputs", str(place), _raise(found, key, version, lake))


@dg.asset(
    key_prefix="monitoring",
    group_name="monitoring",
    owners=MATCHING_TEAM,
    kinds={"evidently"},
    deps=[dg.AssetDep(upload_drift, partition_mapping=dg.AllPartitionMapping())],
    check_specs=[
        dg.AssetCheckSpec(
            "steady_week",
            asset=["monitoring", "weekly_drift"],
            description="The files of a week, vendors together, are like what the champion was trained on.",
        )
    ],
    code_version="1",
)
def weekly_drift(
    registry: ModelRegistry, monitoring: MonitoringConfig, lake: Lake
) -> Iterator[dg.MaterializeResult[pd.DataFrame] | dg.AssetCheckResult]:
    """The uploads of the last seven days together against the champion's training: a shift of many vendors that no
    single file shows. Files that another champion matched are left out.
    """
    from shelfwise.monitoring.report import evidently_report

    clock, now = DomainClock(), calendar.now()
    version = registry.open().champion(TITLE_MATCHER)
    week = f"week to {now.date().isoformat()}"
    files = seen.of_days(lake.path, now, DAYS)
    ours = [one for one in files if one.champion_id == version.artifact_id]
    location = _location(lake, version)
    if not ours or not exists(location):
        why = "no upload was looked at" if not ours else f"champion {version.label} has no drift reference"
        nothing = pd.DataFrame(columns=list(drift.COLUMNS))
        yield dg.MaterializeResult(value=nothing, metadata={"skipped": f"{week}: {why}", **table_metadata(nothing)})
        yield dg.AssetCheckResult(passed=True, check_name="steady_week", description=f"not compared: {why}")
        return
    with clock:
        reference = drift.Reference.load(lake.fetch(location))
        pool = seen.by_vendor(ours)
        found = drift.judge_pool(pool, reference, monitoring.drift_false_alarms, monitoring.drift_share)
        html, distances = evidently_report(pd.concat(pool.values()), reference, monitoring.drift_share)
    place = lake.path / "reports" / "drift" / f"week-{now.date().isoformat()}.html"
    atomic_write_bytes(place, html)
    metadata = _metadata(found, distances, str(place), version, f"{week} beside champion {version.label}'s training")
    metadata |= seen.mix(pool, reference) | {"files": len(ours), "files_of_other_champions": len(files) - len(ours)}
    yield dg.MaterializeResult(value=found.columns, metadata={**metadata, **table_metadata(found.columns, clock)})
    yield _check(found, "steady_week", str(place), _raise(found, week, version, lake))


def _reference_of(
    matches: pd.DataFrame, registry: ModelRegistry, lake: Lake
) -> tuple[ModelVersion | None, drift.Reference | None, str]:
    """Return the champion that made the matches and its reference, or what is missing and what to do about it."""
    label = str(matches["champion_version"].iloc[0]) if len(matches) else ""
    version = next((one for one in registry.open().versions(TITLE_MATCHER) if one.label == label), None)
    if version is None:
        return None, None, f"the matches are of champion {label or 'none'}, which is not in the registry any more"
    location = _location(lake, version)
    if not exists(location):
        return version, None, f"champion {label} has no drift reference: materialize monitoring/drift_reference"
    return version, drift.Reference.load(lake.fetch(location)), ""


def _encoder(lake: Lake, version: ModelVersion):
    from shelfwise.matching.encoder import TitleEncoder

    directory = lake.fetch(version.artifact) / "encoder"
    return TitleEncoder.load(directory) if directory.is_dir() else None


def _time(text: str) -> datetime:
    said = datetime.fromisoformat(text) if text else datetime.min
    return said if said.tzinfo else said.replace(tzinfo=UTC)


def _metadata(found: drift.Judgement, distances: pd.DataFrame, place: str, version: ModelVersion, title: str) -> dict:
    from shelfwise.plots import drift_picture

    return {
        "report": dg.MetadataValue.path(place),
        "level": found.level,
        "summary": found.sentence,
        "champion_version": version.label,
        **float_metadata({"drifted_measures": len(found.drifted), "drifted_share": found.share}),
        "change": picture(drift_picture(found.columns, title), "change of each measure"),
        "measures": table(found.columns),
        "evidently": table(distances),
    }


def _raise(found: drift.Judgement, what: str, version: ModelVersion, lake: Lake) -> str:
    """Ask for a retrain where the level is "fail"; once per cause and champion. Return what became of it."""
    if found.level != drift.FAIL:
        return "none: that takes a failed check"
    signal = Signal.of(DRIFT, found.cause, f"{what}: {found.sentence}", version.label)
    return "asked for" if raise_signal(lake.path, signal) else f"asked for before, for the same cause ({found.cause})"


def _check(found: drift.Judgement, name: str, report: str, retrain: str) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        passed=found.level == drift.OK,
        check_name=name,
        severity=dg.AssetCheckSeverity.ERROR if found.level == drift.FAIL else dg.AssetCheckSeverity.WARN,
        description=found.sentence,
        metadata={"report": dg.MetadataValue.path(report), "retrain": retrain, "level": found.level},
    )
