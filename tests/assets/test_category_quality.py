"""Live quality of categories in the graph: what answers are compared with, and what a fall leads to."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
import pytest

from assets.category_monitoring import category_quality
from assets.uploads import upload_files
from resources.lake import Lake, TableIO
from resources.monitoring import MonitoringConfig
from resources.registry import CATEGORY_ENSEMBLE, ModelRegistry
from shelfwise.feedback import category_answers, category_prediction_ids, read_inbox, record_answers
from shelfwise.monitoring.signals import CATEGORIES, read_signals

# A champion that is right more often where a listing has a picture.
ACCEPTED = {
    "top1": 0.909, "text_top1": 0.745, "case_both_top1": 0.909, "case_text_top1": 0.745, "case_text_top5": 0.9,
}  # fmt: skip
SHOWN = ("Drinks > Wine", "Drinks > Whisky", "Pets")
UPLOAD, LINES = "acme/f.csv", 400
OUTSIDE = [
    dg.AssetSpec(["uploads", "upload_categories"], partitions_def=upload_files),
    dg.AssetSpec(["raw", "category_feedback"]),
    dg.AssetSpec(["staging", "stg_categories"]),
]


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    (tmp_path / "lake").mkdir()
    return tmp_path / "lake"


def write(lake: Path, name: str, frame: pd.DataFrame) -> None:
    path = lake / "tables" / f"{name}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    frame.to_parquet(path, index=False)


def promote(lake: Path, metrics: dict[str, float] = ACCEPTED, name: str = "aaaa0000") -> str:
    registry = ModelRegistry(root=str(lake)).open()
    version = registry.register(CATEGORY_ENSEMBLE, str(lake), name, metrics)
    registry.promote(version)
    return version.label


def answered(lake: Path, label: str, right: float, evidence: str | None = "text", others: str = "Pets") -> None:
    """An upload of which the champion is not sure; people answer all lines, of which a share is the first shown."""
    rows = [
        (f"l{number}", f"title {number}", rank, category, 0.5 / rank)
        for number in range(LINES)
        for rank, category in enumerate(SHOWN, start=1)
    ]
    frame = pd.DataFrame(rows, columns=["line_id", "title", "rank", "category", "probability"]).assign(
        vendor_id="acme", file="f.csv", decision="suggest", audited=False, contradiction=False, champion_version=label
    )
    frame = frame.assign(prediction_id=category_prediction_ids(frame))
    write(lake, f"uploads/upload_categories/{UPLOAD}", frame if evidence is None else frame.assign(evidence=evidence))
    chosen = {f"l{number}": SHOWN[0] if number < right * LINES else others for number in range(LINES)}
    answers = category_answers(frame, chosen, answered_at=datetime(2026, 3, 1, tzinfo=UTC))
    record_answers(lake / "feedback", answers)
    write(lake, "raw/category_feedback", read_inbox(lake / "feedback").categories)


def measure(lake: Path) -> tuple[dict[str, Any], dg.AssetCheckEvaluation]:
    root = str(lake)
    resources = {
        "io_manager": TableIO(root=root), "lake": Lake(root=root), "registry": ModelRegistry(root=root),
        "monitoring": MonitoringConfig(),
    }  # fmt: skip
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions(str(upload_files.name), [UPLOAD])
        result = dg.materialize(
            [*OUTSIDE, category_quality], selection=[category_quality], instance=instance, resources=resources
        )
    (event,), (check,) = result.get_asset_materialization_events(), result.get_asset_check_evaluations()
    return {name: getattr(one, "value", one) for name, one in event.materialization.metadata.items()}, check


@pytest.mark.parametrize("evidence", ["text", None], ids=["text", "stored before evidence was"])
def test_steady_lines_of_text_alone_have_not_fallen_because_listings_had_pictures(
    lake: Path, evidence: str | None
) -> None:
    answered(lake, promote(lake), 0.745, evidence)
    told, check = measure(lake)
    assert check.passed, check.description
    assert "74.5% was accepted" in (check.description or "")
    assert told["top1"] == pytest.approx(0.745)
    assert (told["accepted_top1"], told["accepted_top5"]) == (0.745, 0.9)
    assert "accepted_assigned_precision" not in told
    assert told["lines_by_evidence"] == {"text": LINES}
    assert read_signals(lake, folder=CATEGORIES) == []


def test_a_real_fall_fails_and_asks_for_one_retrain(lake: Path) -> None:
    label = promote(lake)
    answered(lake, label, 0.5)
    told, check = measure(lake)
    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.ERROR)
    assert told["retrain_requested_now"] is True
    assert measure(lake)[0]["retrain_requested_now"] is False
    (signal,) = read_signals(lake, folder=CATEGORIES)
    assert (signal.champion_version, signal.kind) == (label, "accuracy")


def test_lines_with_pictures_are_held_to_what_was_accepted_with_pictures(lake: Path) -> None:
    answered(lake, promote(lake), 0.745, "both")
    told, check = measure(lake)
    assert not check.passed
    assert told["accepted_top1"] == 0.909


def test_a_champion_of_which_no_accuracy_by_case_is_known_alarms_nobody(lake: Path) -> None:
    answered(lake, promote(lake, {"top1": 0.909}), 0.5)
    told, check = measure(lake)
    assert check.passed
    assert "no category champion with an accuracy to compare with" in told["verdict"]
    assert "accepted_top1" not in told


def test_answers_are_merged_as_categories_are(lake: Path) -> None:
    answered(lake, promote(lake), 0.2, others="Drinks > Vino")
    assert measure(lake)[0]["raw_top1"] == pytest.approx(0.2)
    names = [*SHOWN, "Drinks > Vino"]
    write(lake, "staging/stg_categories", pd.DataFrame({"category": names, "counts_as": [*SHOWN, SHOWN[0]]}))
    assert measure(lake)[0]["raw_top1"] == 1.0
