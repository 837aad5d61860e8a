"""Drift as assets: the reference of each champion, each upload beside it, the week, and the retrain they ask for."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pandas as pd
import pytest

from assets.drift import drift_reference, upload_drift, weekly_drift
from assets.uploads import upload_lines, upload_matches
from resources.lake import Lake, ReferenceIO, TableIO
from resources.matching import MatchingConfig
from resources.monitoring import MonitoringConfig
from resources.registry import ModelRegistry
from resources.source import Uploads
from shelfwise.clock import VARIABLE
from shelfwise.monitoring import seen
from shelfwise.monitoring.signals import read_signals
from shelfwise.registry import Registry
from tests.conftest import Shop

KEYS = {
    name: dg.AssetSpec(name.split("/"))
    for name in ("marts/labelled_positives", "matching/training_pairs", "matching/champion")
}
CATALOG_INDEX = dg.AssetSpec(["matching", "catalog_index"], metadata={"dagster/io_manager_key": "reference_io"})
GRAPH = [drift_reference, upload_drift, weekly_drift, upload_lines, upload_matches, CATALOG_INDEX, *KEYS.values()]
NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)


@pytest.fixture(autouse=True)
def clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clock that tests can set; it begins after every champion of the shop was registered."""
    file = tmp_path / "now"
    monkeypatch.setenv(VARIABLE, str(file))
    file.write_text(NOW.isoformat())
    return file


@pytest.fixture
def ready(shop: Shop, instance: dg.DagsterInstance) -> Shop:
    """The shop with its champion's reference."""
    positives = pd.read_parquet(shop.table("marts", "labelled_positives"))
    pairs = pd.DataFrame({"vendor_id": positives["vendor_id"].unique()})
    pairs.assign(split=np.resize(["train", "test"], len(pairs))).to_parquet(shop.table("matching", "training_pairs"))
    assert run(shop, instance, drift_reference).success
    return shop


def run(shop: Shop, instance: dg.DagsterInstance, *assets: Any, key: str | None = None) -> dg.ExecuteInProcessResult:
    root = str(shop.lake)
    resources = {
        "io_manager": TableIO(root=root),
        "reference_io": ReferenceIO(root=root),
        "lake": Lake(root=root),
        "registry": ModelRegistry(root=root),
        "uploads": Uploads(url=str(shop.data), max_mb=1),
        "matching": MatchingConfig(),
        "monitoring": MonitoringConfig(),
    }
    if key is not None and not instance.has_dynamic_partition("upload_files", key):
        instance.add_dynamic_partitions("upload_files", [key])
    return dg.materialize(
        GRAPH, selection=list(assets), partition_key=key, instance=instance, resources=resources, raise_on_error=False
    )


def look(shop: Shop, instance: dg.DagsterInstance, key: str, titles: list[str]) -> dg.ExecuteInProcessResult:
    """Upload a file, match it, and look at its drift, each in a run of its own."""
    shop.upload(key, pd.DataFrame({"title": titles}).to_csv(index=False).encode())
    assert run(shop, instance, upload_lines, upload_matches, key=key).success
    return run(shop, instance, upload_drift, key=key)


def metadata(result: dg.ExecuteInProcessResult) -> dict[str, Any]:
    (event,) = result.get_asset_materialization_events()
    return {name: value.value for name, value in event.materialization.metadata.items()}


def check(result: dg.ExecuteInProcessResult) -> Any:
    (found,) = result.get_asset_check_evaluations()
    return found


def past(shop: Shop, at: int = 0) -> tuple[str, list[str]]:
    """A vendor whose lines the champion knew, and those lines: the largest is at 0."""
    positives = pd.read_parquet(shop.table("marts", "labelled_positives"))
    vendor = positives["vendor_id"].value_counts().index[at]
    return vendor, positives.loc[positives["vendor_id"] == vendor, "vendor_title"].tolist()


def gibberish(count: int) -> list[str]:
    chance = np.random.default_rng(1)
    letters = list("абвгдежзиклмнопрстуф")
    return [" ".join("".join(chance.choice(letters, 9)) for _ in range(14)) for _ in range(count)]


def test_the_reference_is_made_once_for_a_champion(ready: Shop, instance: dg.DagsterInstance) -> None:
    again = run(ready, instance, drift_reference)
    told = metadata(again)
    assert told["made_now"] is False
    assert told["champion_version"] == ready.version
    assert told["vendors"] >= 5
    assert (Path(told["location"]) / "reference.json").exists()
    assert "| title_length |" in told["measures"]


def test_a_rollback_finds_the_reference_of_the_champion_it_brings_back(
    ready: Shop, instance: dg.DagsterInstance
) -> None:
    first = metadata(run(ready, instance, drift_reference))["location"]
    registry = Registry(ready.lake / "registry")
    former = registry.champion("title_matcher")
    other = registry.register("title_matcher", former.artifact, "another", {}, former.lineage)
    registry.promote(other)
    second = metadata(run(ready, instance, drift_reference))
    assert second["made_now"] is True
    assert second["location"] != first
    registry.promote(former)
    assert metadata(run(ready, instance, drift_reference))["location"] == first


def test_a_vendors_usual_lines_pass_and_the_report_lies_in_the_lake(ready: Shop, instance: dg.DagsterInstance) -> None:
    vendor, titles = past(ready)
    result = look(ready, instance, f"{vendor}/usual.csv", titles)
    assert result.success
    found, told = check(result), metadata(result)
    assert (found.passed, found.check_name, found.partition) == (True, "steady_inputs", f"{vendor}/usual.csv")
    assert not found.blocking
    assert told["level"] == "ok"
    report = Path(told["report"])
    assert report == ready.lake / "reports" / "drift" / vendor / "usual.csv.html"
    assert b"<html" in report.read_bytes()[:1000].lower()
    assert "data:image/png;base64,iVBOR" in told["change"]
    assert "| title_length |" in told["evidently"]
    table = pd.read_parquet(ready.table("monitoring", "upload_drift", f"{vendor}/usual.csv"))
    assert told["dagster/row_count"] == len(table) > 8
    compared = table.set_index("measure")["compared_with"]
    assert (compared["title_length"], compared["score"]) == ("its own past", "other vendors")
    assert read_signals(ready.lake) == []


@pytest.mark.parametrize("count", [1, 4])
def test_a_file_of_a_few_lines_is_too_small_to_compare_and_no_failure(
    ready: Shop, instance: dg.DagsterInstance, count: int
) -> None:
    result = look(ready, instance, "new-vendor/few.csv", gibberish(count))
    assert result.success
    assert check(result).passed
    assert b"too few to compare" in Path(metadata(result)["report"]).read_bytes()


def test_a_file_that_drifted_fails_and_asks_for_a_retrain_once(ready: Shop, instance: dg.DagsterInstance) -> None:
    vendor, _ = past(ready)
    result = look(ready, instance, f"{vendor}/strange.csv", gibberish(80))
    assert result.success, "the asset is made; it is the check that fails"
    found, told = check(result), metadata(result)
    assert (found.passed, found.severity) == (False, dg.AssetCheckSeverity.ERROR)
    assert told["level"] == "fail"
    assert told["drifted_share"] >= 0.2
    assert "title_length" in found.description
    assert found.metadata["retrain"].value == "asked for"
    (signal,) = read_signals(ready.lake)
    assert (signal.kind, signal.cause, signal.champion_version, signal.at) == ("drift", "inputs", ready.version, NOW)
    assert f"{vendor}/strange.csv" in signal.detail
    other, _ = past(ready, 1)
    second = check(look(ready, instance, f"{other}/strange.csv", gibberish(60)))
    assert not second.passed
    assert "asked for before" in second.metadata["retrain"].value
    assert read_signals(ready.lake) == [signal]


def test_capitals_from_a_vendor_who_never_wrote_them_are_a_warning(ready: Shop, instance: dg.DagsterInstance) -> None:
    positives = pd.read_parquet(ready.table("marts", "labelled_positives"))
    capitals = positives.groupby("vendor_id")["vendor_title"].agg(
        lambda titles: np.mean([title.isupper() for title in titles]) if len(titles) >= 30 else 1.0
    )
    vendor = str(capitals.idxmin())
    titles = positives.loc[positives["vendor_id"] == vendor, "vendor_title"].str.upper().tolist()
    found = check(look(ready, instance, f"{vendor}/loud.csv", titles))
    assert (found.passed, found.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert "upper" in found.description
    assert read_signals(ready.lake) == []


def test_a_change_that_was_there_before_the_champion_is_none(ready: Shop, instance: dg.DagsterInstance) -> None:
    vendor, titles = past(ready)
    longer = [f"{title} and quite a few more words that nobody needs" for title in titles]
    lines = look(ready, instance, f"{vendor}/first.csv", longer)
    assert "title_length" in check(lines).description
    registered = datetime.fromisoformat(Registry(ready.lake / "registry").champion("title_matcher").created_at)
    told = next(one for one in seen.of_days(ready.lake, NOW) if one.key == f"{vendor}/first.csv")
    for path in (ready.lake / "monitoring" / "described").rglob("*.parquet"):
        path.unlink()
    seen.keep(ready.lake, told.key, told.lines, "former", registered - timedelta(days=1))
    again = look(ready, instance, f"{vendor}/second.csv", longer)
    assert "title_length" not in check(again).description


def test_without_a_reference_the_upload_is_passed_over_and_says_what_to_do(
    shop: Shop, instance: dg.DagsterInstance
) -> None:
    result = look(shop, instance, "acme/a.csv", ["soap"] * 30)
    assert result.success
    assert check(result).passed
    assert "materialize monitoring/drift_reference" in check(result).description
    assert "no drift reference" in metadata(result)["skipped"]
    assert not (shop.lake / "reports" / "drift").exists()


def test_matches_of_a_forgotten_champion_are_passed_over(ready: Shop, instance: dg.DagsterInstance) -> None:
    vendor, titles = past(ready)
    key = f"{vendor}/a.csv"
    look(ready, instance, key, titles)
    matches = ready.table("uploads", "upload_matches", key)
    pd.read_parquet(matches).assign(champion_version="v99-dead").to_parquet(matches)
    result = run(ready, instance, upload_drift, key=key)
    assert result.success
    assert "v99-dead, which is not in the registry any more" in check(result).description


def test_the_week_is_that_of_the_clock_and_of_this_champion(
    ready: Shop, instance: dg.DagsterInstance, clock: Path
) -> None:
    empty = run(ready, instance, weekly_drift)
    assert empty.success
    assert check(empty).passed
    assert "no upload was looked at" in check(empty).description
    for at in (0, 1, 2):
        vendor, titles = past(ready, at)
        look(ready, instance, f"{vendor}/a.csv", titles)
    told = metadata(run(ready, instance, weekly_drift))
    assert (told["files"], told["files_of_other_champions"], told["vendors"], told["new_vendor_share"]) == (3, 0, 3, 0)
    assert told["level"] == "ok"
    assert Path(told["report"]).name == "week-2026-03-02.html"
    clock.write_text((NOW + timedelta(days=8)).isoformat())
    assert "no upload was looked at" in metadata(run(ready, instance, weekly_drift))["skipped"]


def test_a_strange_week_fails_and_asks_for_a_retrain(ready: Shop, instance: dg.DagsterInstance) -> None:
    version = Registry(ready.lake / "registry").champion("title_matcher")
    vendor, titles = past(ready)
    look(ready, instance, f"{vendor}/a.csv", titles)
    (usual,) = seen.of_days(ready.lake, NOW)
    for path in (ready.lake / "monitoring" / "described").rglob("*.parquet"):
        path.unlink()
    moved = usual.lines.assign(
        title_length=lambda f: f["title_length"] * 3,
        tokens=lambda f: f["tokens"] * 3,
        score=0.0,
        margin=0.0,
        unknown_words=1.0,
        approved=0.0,
        no_match=1.0,
    )
    for at in range(8):
        seen.keep(ready.lake, f"vendor{at}/a.csv", moved, version.artifact_id, NOW)
    found = check(run(ready, instance, weekly_drift))
    assert (found.passed, found.severity) == (False, dg.AssetCheckSeverity.ERROR)
    (signal,) = read_signals(ready.lake)
    assert signal.detail.startswith("week to 2026-03-02: ")
