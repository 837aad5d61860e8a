"""The shell of the retrain sensor: what it asks Dagster for, and that the runs themselves are its memory."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from resources.lake import Lake
from resources.registry import ModelRegistry
from sensors.retrain import (
    CLASSIFIERS_SENSOR,
    RETRAIN_SENSOR,
    build_retrain_sensor,
    decode_noticed,
    requested_before,
)
from shelfwise.monitoring.signals import CATEGORIES, Signal, raise_signal

START = datetime(2026, 2, 2, 6, tzinfo=UTC)
LABEL = "v1-aaaa0000"


@pytest.fixture(autouse=True)
def _time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHELFWISE_CLOCK", str(tmp_path / "clock"))
    set_clock(tmp_path, START)


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    registry = ModelRegistry(root=str(tmp_path / "lake")).open()
    registry.promote(registry.register("title_matcher", str(tmp_path), "aaaa0000", {"top1": 0.9}))
    return tmp_path / "lake"


def set_clock(base: Path, at: datetime) -> None:
    (base / "clock").write_text(at.isoformat())


@dg.job
def retraining() -> None:
    """Stands for the job: only the run's record counts here."""


def tick(lake: Path, instance: dg.DagsterInstance, cursor: str | None = None) -> dg.SensorResult:
    sensor = build_retrain_sensor(retraining, 60, 7)
    resources = {"lake": Lake(root=str(lake)), "registry": ModelRegistry(root=str(lake))}
    with dg.build_sensor_context(instance=instance, cursor=cursor, resources=resources) as context:
        result = sensor(context)
    assert isinstance(result, dg.SensorResult)
    return result


def said(result: dg.SensorResult) -> str:
    return str(getattr(result.skip_reason, "skip_message", result.skip_reason))


def start(instance: dg.DagsterInstance, result: dg.SensorResult, status=dg.DagsterRunStatus.SUCCESS) -> None:
    (request,) = result.run_requests or []
    instance.create_run_for_job(retraining, tags={**request.tags, "dagster/run_key": request.run_key}, status=status)


def noticed(lake: Path, cause: str = "below", kind: str = "accuracy", champion: str = LABEL) -> Signal:
    signal = Signal.of(kind, cause, f"{cause} it is", champion)
    raise_signal(lake, signal)
    return signal


def test_it_runs_from_the_start_and_says_what_it_does() -> None:
    sensor = build_retrain_sensor(retraining, 60, 7)
    assert (sensor.name, sensor.minimum_interval_seconds) == (RETRAIN_SENSOR, 60)
    assert sensor.default_status == dg.DefaultSensorStatus.RUNNING
    assert "every 7 days" in (sensor.description or "")


def test_nothing_happens_without_a_signal(lake: Path, instance: dg.DagsterInstance) -> None:
    assert said(tick(lake, instance)) == "nothing asks for a retrain"


def test_a_signal_starts_one_run_that_says_why(lake: Path, instance: dg.DagsterInstance) -> None:
    signal, other = noticed(lake), noticed(lake, "acme/new.csv", "drift")
    result = tick(lake, instance)
    (request,) = result.run_requests or []
    assert not result.skip_reason
    first = min(signal, other, key=lambda one: one.id)
    assert request.run_key == f"retrain:{first.id}"
    assert request.tags["shelfwise/cause"] == first.kind
    assert set(request.tags["shelfwise/signals"].split(",")) == {signal.id, other.id}
    assert request.tags["shelfwise/champion"] == LABEL
    again = tick(lake, instance)
    assert [one.run_key for one in again.run_requests or []] == [request.run_key], "until its run exists, the same"
    start(instance, result)
    assert requested_before(instance) == {signal.id: START, other.id: START}
    assert "each of 2 cause(s) has had one" in said(tick(lake, instance))


@pytest.mark.parametrize("status", [dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.STARTED])
def test_the_next_one_waits_its_time(
    lake: Path, instance: dg.DagsterInstance, tmp_path: Path, status: dg.DagsterRunStatus
) -> None:
    noticed(lake)
    start(instance, tick(lake, instance), status)
    set_clock(tmp_path, START + timedelta(days=6))
    noticed(lake, "acme/new.csv", "drift")
    result = tick(lake, instance)
    assert not result.run_requests
    assert "drift: acme/new.csv it is" in said(result)
    assert "from 2026-02-09 06:00 UTC on" in said(result)
    set_clock(tmp_path, START + timedelta(days=7))
    assert len(tick(lake, instance).run_requests or []) == 1


def test_runs_of_others_are_no_requests(lake: Path, instance: dg.DagsterInstance) -> None:
    noticed(lake)
    instance.create_run_for_job(retraining, tags={"shelfwise/cause": "schedule"})
    instance.create_run_for_job(retraining)
    assert requested_before(instance) == {}
    assert len(tick(lake, instance).run_requests or []) == 1


def test_a_champion_that_was_promoted_since_settles_it(lake: Path, instance: dg.DagsterInstance) -> None:
    noticed(lake)
    registry = ModelRegistry(root=str(lake)).open()
    registry.promote(registry.register("title_matcher", str(lake), "bbbb0000", {"top1": 0.95}))
    result = tick(lake, instance)
    assert not result.run_requests
    assert "earlier champion than v2-bbbb0000" in said(result)


def test_a_clock_that_was_ahead_stops_nothing(lake: Path, instance: dg.DagsterInstance, tmp_path: Path) -> None:
    set_clock(tmp_path, START + timedelta(days=3650))
    noticed(lake)
    start(instance, tick(lake, instance))
    set_clock(tmp_path, START)
    noticed(lake, "acme/new.csv", "drift")
    first = tick(lake, instance)
    assert "from 2026-02-09 06:00 UTC on" in said(first)
    assert set(decode_noticed(first.cursor).values()) == {START}
    set_clock(tmp_path, START + timedelta(days=7))
    last = tick(lake, instance, first.cursor)
    assert len(last.run_requests or []) == 1


@pytest.mark.parametrize("cursor", [None, "", "x", "[]", "3", '{"a": 1}', '{"a": null}'])
def test_a_cursor_that_cannot_be_read_is_as_none(lake: Path, instance: dg.DagsterInstance, cursor: str | None) -> None:
    noticed(lake)
    assert len(tick(lake, instance, cursor).run_requests or []) == 1


def test_a_damaged_signal_is_named_and_the_others_count(lake: Path, instance: dg.DagsterInstance) -> None:
    folder = lake / "signals"
    folder.mkdir()
    (folder / "broken.json").write_text('{"kind": "acc')
    assert "broken.json is not a signal" in said(tick(lake, instance))
    noticed(lake)
    assert len(tick(lake, instance).run_requests or []) == 1


def test_signals_about_categories_train_the_classifiers_and_nothing_else(
    lake: Path, instance: dg.DagsterInstance
) -> None:
    @dg.job
    def classifying() -> None:
        pass

    sensor = build_retrain_sensor(classifying, 60, 7, CLASSIFIERS_SENSOR, "category_ensemble", CATEGORIES)
    resources = {"lake": Lake(root=str(lake)), "registry": ModelRegistry(root=str(lake))}
    noticed(lake)
    start(instance, tick(lake, instance))
    raise_signal(lake, Signal.of("accuracy", "categories", "they fell", "v1-cccc0000"), CATEGORIES)
    assert "has had one" in said(tick(lake, instance)), "the matcher's sensor does not see it"
    with dg.build_sensor_context(instance=instance, resources=resources) as context:
        result = sensor(context)
    assert isinstance(result, dg.SensorResult)
    assert len(result.run_requests or []) == 1, "the matcher's retrain a moment ago is no reason to wait"
