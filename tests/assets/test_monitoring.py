"""Live quality in the graph: what the UI shows of the answers that came back, and what a fall leads to."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
import pytest

from assets.catalog import feedback
from assets.monitoring import live_quality
from assets.uploads import upload_files, upload_lines, upload_matches
from resources.lake import Lake, ReferenceIO, TableIO
from resources.matching import MatchingConfig
from resources.monitoring import MonitoringConfig
from resources.registry import ModelRegistry
from resources.source import Uploads
from shelfwise.feedback import answers_from_matches, record_answers, record_feedback
from shelfwise.monitoring.signals import read_signals

ACCEPTED = {"top1": 0.9, "top1_low": 0.88, "top1_high": 0.92, "top5": 0.96, "approved_precision": 0.99}
NOW = datetime(2026, 3, 4, tzinfo=UTC)
GRAPH = [feedback, upload_lines, upload_matches, live_quality, dg.AssetSpec(["matching", "catalog_index"])]


@pytest.fixture(autouse=True)
def _time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "clock").write_text((NOW - timedelta(days=30)).isoformat())
    monkeypatch.setenv("SHELFWISE_CLOCK", str(tmp_path / "clock"))


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    (tmp_path / "lake").mkdir()
    return tmp_path / "lake"


def promote(lake: Path, name: str = "aaaa0000") -> str:
    registry = ModelRegistry(root=str(lake)).open()
    version = registry.register("title_matcher", str(lake), name, ACCEPTED)
    registry.promote(version)
    return version.label


def materialize(lake: Path, instance: dg.DagsterInstance) -> dg.ExecuteInProcessResult:
    (lake.parent / "clock").write_text(NOW.isoformat())
    root = str(lake)
    resources = {
        "io_manager": TableIO(root=root),
        "reference_io": ReferenceIO(root=root),
        "lake": Lake(root=root),
        "registry": ModelRegistry(root=root),
        "uploads": Uploads(url=root, max_mb=1),
        "matching": MatchingConfig(),
        "monitoring": MonitoringConfig(),
    }
    return dg.materialize(
        GRAPH, selection=[feedback, live_quality], instance=instance, resources=resources, raise_on_error=False
    )


def seen(result: dg.ExecuteInProcessResult) -> tuple[dict[str, Any], dg.AssetCheckEvaluation]:
    assert result.success
    (event,) = [e for e in result.get_asset_materialization_events() if e.asset_key.path[-1] == "live_quality"]
    (check,) = [c for c in result.get_asset_check_evaluations() if c.check_name == "live_accuracy"]
    return dict(event.materialization.metadata), check


def matched(lake: Path, instance: dg.DagsterInstance, label: str, lines: int = 600, key: str = "acme/f.csv") -> Any:
    """An upload of which half was approved (a tenth of these audited), a third to review, the others match nothing."""
    vendor, file = key.split("/")
    rows = []
    for number in range(lines):
        decision = ("approved", "review", "approved", "no_match", "review", "approved")[number % 6]
        line = {"line_id": f"l{number}", "row": number + 2, "vendor_id": vendor, "file": file, "title": f"t{number}"}
        line |= {"decision": decision, "champion_version": label}
        line |= {"audited": decision != "review" and number // 6 % 4 == 0}
        rows += [
            {**line, "rank": r, "product_id": p, "product_title": p, "score": 0.8 / r} for r, p in enumerate("ab", 1)
        ]
    frame = pd.DataFrame(rows)
    path = lake / "tables" / "uploads" / "upload_matches" / f"{key}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    frame.to_parquet(path, index=False)
    instance.add_dynamic_partitions(str(upload_files.name), [key])
    return frame


def answer(lake: Path, frame: pd.DataFrame, wrong: int) -> int:
    """People answer what they are asked: right, except each `wrong`-th line; lines that match nothing do so."""
    asked = frame[(frame["rank"] == 1) & (frame["audited"] | (frame["decision"] == "review"))]
    chosen = {
        line: None if decision == "no_match" else "z" if number % wrong == 1 else "a"
        for number, (line, decision) in enumerate(zip(asked["line_id"], asked["decision"], strict=True))
    }
    record_answers(lake / "feedback", answers_from_matches(frame, chosen, answered_at=NOW - timedelta(days=3)))
    return len(chosen)


def test_nothing_yet(lake: Path, instance: dg.DagsterInstance) -> None:
    metadata, check = seen(materialize(lake, instance))
    assert metadata["champion_version"].value == "none"
    assert metadata["answers"].value == 0
    assert "data:image/png;base64,iVBORw0KGgo" in metadata["live_accuracy"].value
    assert check.passed
    label = promote(lake)
    metadata, check = seen(materialize(lake, instance))
    assert metadata["champion_version"].value == label
    assert metadata["accepted_top1"] == dg.MetadataValue.float(0.9)
    assert metadata["dagster/row_count"].value == 0
    assert check.passed
    assert "no answer to a prediction of the champion" in (check.description or "")
    assert read_signals(lake) == []


def test_good_answers_are_shown_and_ask_for_nothing(lake: Path, instance: dg.DagsterInstance) -> None:
    frame = matched(lake, instance, promote(lake))
    instance.add_dynamic_partitions(str(upload_files.name), ["acme/bad.csv"])
    number = answer(lake, frame, wrong=60)
    metadata, check = seen(materialize(lake, instance))
    assert check.passed, check.description
    assert check.metadata["state"].value == "steady"
    for name in ("live_top1", "live_top1_low", "live_top1_high", "live_top5", "covered_share", "approved_precision",
                 "approved_precision_low", "raw_top1", "accepted_top5", "accepted_approved_precision"):  # fmt: skip
        assert isinstance(metadata[name], dg.FloatMetadataValue), name
    assert metadata["answers"].value == number
    assert metadata["live_top1"].value == pytest.approx(0.98, abs=0.02)
    assert metadata["audited_waiting"].value == 0
    assert "| 2026-W09 |" in metadata["by_week"].value
    assert "| acme |" in metadata["by_vendor"].value
    table = pd.read_parquet(lake / "tables" / "monitoring" / "live_quality.parquet")
    assert metadata["dagster/row_count"].value == len(table) == 5
    assert read_signals(lake) == []


def test_a_fall_fails_the_check_and_asks_for_a_retrain_once(lake: Path, instance: dg.DagsterInstance) -> None:
    label = promote(lake)
    answer(lake, matched(lake, instance, label), wrong=4)
    metadata, check = seen(materialize(lake, instance))
    assert not check.passed
    assert check.severity == dg.AssetCheckSeverity.ERROR
    assert "a retrain is requested" in (check.description or "")
    assert metadata["retrain_requested_now"].value is True
    (signal,) = read_signals(lake)
    assert (signal.kind, signal.champion_version, signal.at) == ("accuracy", label, NOW)
    assert signal.detail == metadata["verdict"].value
    again, check = seen(materialize(lake, instance))
    assert not check.passed, "it is still low"
    assert again["retrain_requested_now"].value is False
    assert read_signals(lake) == [signal]
    promote(lake, "bbbb0000")
    _, check = seen(materialize(lake, instance))
    assert check.passed, "nothing is known of the new champion"


def test_imprecise_approvals_warn(lake: Path, instance: dg.DagsterInstance) -> None:
    """Everything in review is right, but a fifth of the audited approvals is not."""
    frame = matched(lake, instance, promote(lake))
    best = frame[frame["rank"] == 1]
    audited = best[best["audited"] & (best["decision"] == "approved")]["line_id"]
    chosen = {line: "b" if number % 5 == 0 else "a" for number, line in enumerate(audited)}
    record_answers(lake / "feedback", answers_from_matches(frame, chosen, answered_at=NOW))
    _, check = seen(materialize(lake, instance))
    assert not check.passed
    assert check.severity == dg.AssetCheckSeverity.WARN
    assert "approved lines are right in 80.0%" in (check.description or "")
    assert read_signals(lake) == []


def test_answers_that_cannot_be_placed_are_listed_and_measure_nothing(lake: Path, instance: dg.DagsterInstance) -> None:
    frame = matched(lake, instance, promote(lake), 12)
    strange = answers_from_matches(frame, {"l1": "a"}, answered_at=NOW)
    strange[0]["prediction"]["decision"] = "perhaps"
    record_answers(lake / "feedback", strange)
    record_feedback(lake / "feedback", vendor_id="acme", vendor_title="by title", product_id="a")
    forged = answers_from_matches(frame, {"l4": "a"}, answered_at=NOW)
    forged[0]["prediction_id"] = "00000000-0000-0000-0000-000000000000"
    record_answers(lake / "feedback", forged)
    metadata, _ = seen(materialize(lake, instance))
    assert metadata["answers"].value == 0
    assert metadata["answers_without_prediction"].value == 2
    assert metadata["answers_with_unknown_prediction"].value == 1
    assert "| t1 |" in metadata["unknown_predictions"].value


def test_a_registry_that_cannot_be_read_is_said_and_the_rest_is_measured(
    lake: Path, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    from shelfwise.registry import Registry, RegistryError

    answer(lake, matched(lake, instance, promote(lake)), wrong=4)

    def broken(*_: object) -> None:
        raise RegistryError("the alias points nowhere: roll back")

    monkeypatch.setattr(Registry, "alias", broken)
    metadata, check = seen(materialize(lake, instance))
    assert not check.passed
    assert check.severity == dg.AssetCheckSeverity.WARN
    assert "the alias points nowhere: roll back" in (check.description or "")
    assert metadata["answers_to_all_champions"].value > 200
    assert "| aaaa" in metadata["by_version"].value or "v1-aaaa" in metadata["by_version"].value
    assert read_signals(lake) == []
