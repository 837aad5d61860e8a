"""The shell of the feedback sensor on a real instance; which answers are new is tested in `test_exactly_once`."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import pytest
from dagster._core.storage.tags import RUN_KEY_TAG, SENSOR_NAME_TAG

from resources.lake import Lake
from sensors.feedback import BATCH_TAG, FEEDBACK_SENSOR, FILES_TAG, build_feedback_sensor
from shelfwise.contract import ListingError
from shelfwise.contract.decide import MAX_ATTEMPTS
from shelfwise.feedback import record_feedback


@dg.job(name="take_feedback")
def _nothing() -> None:
    """Stands for the job: only the run's record counts here."""


def tick(lake: Path, instance: dg.DagsterInstance, cursor: str | None = None) -> tuple[list[dg.RunRequest], str]:
    sensor = build_feedback_sensor(_nothing, 30)
    with dg.build_sensor_context(instance=instance, cursor=cursor, resources={"lake": Lake(root=str(lake))}) as context:
        result = sensor(context)
    assert isinstance(result, dg.SensorResult)
    assert result.cursor
    assert result.run_requests or result.skip_reason
    return list(result.run_requests or []), result.cursor


def say(lake: Path, title: str = "soap") -> None:
    record_feedback(lake / "feedback", vendor_id="v", vendor_title=title, product_id="p1")


def start(
    instance: dg.DagsterInstance, request: dg.RunRequest, status: dg.DagsterRunStatus = dg.DagsterRunStatus.SUCCESS
) -> dg.DagsterRun:
    tags = {**request.tags, SENSOR_NAME_TAG: FEEDBACK_SENSOR, RUN_KEY_TAG: str(request.run_key)}
    return instance.create_run_for_job(_nothing, tags=tags, status=status)


def test_all_new_answers_of_a_moment_are_one_run_and_none_is_taken_twice(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    requests, cursor = tick(tmp_path, instance)
    assert requests == [], "an inbox that does not exist yet holds none"
    for title in ("a", "b", "c"):
        say(tmp_path, title)
    (request,), cursor = tick(tmp_path, instance, cursor)
    assert request.tags[FILES_TAG] == "3"
    start(instance, request)
    assert tick(tmp_path, instance, cursor)[0] == []
    say(tmp_path, "d")
    (second,), cursor = tick(tmp_path, instance, cursor)
    assert second.tags[FILES_TAG] == "1"
    assert second.run_key != request.run_key
    start(instance, second)
    assert tick(tmp_path, instance, None)[0] == [], "the cursor was reset: the runs and what they were for remain"
    for path in (tmp_path / "sensors" / FEEDBACK_SENSOR / "batches").iterdir():
        path.unlink()
    (third,), _ = tick(tmp_path, instance, None)
    assert third.tags[FILES_TAG] == "4", "nothing is known any more: once more is better than never"


def test_a_tick_that_is_evaluated_again_asks_for_the_same_run(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    say(tmp_path)
    assert tick(tmp_path, instance)[0][0].run_key == tick(tmp_path, instance)[0][0].run_key


def test_a_run_that_was_interrupted_is_asked_for_again_a_few_times(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    say(tmp_path)
    (request,), cursor = tick(tmp_path, instance)
    batch = request.tags[BATCH_TAG]
    for attempt in range(1, MAX_ATTEMPTS + 1):
        assert request.tags["shelfwise/attempt"] == str(attempt)
        run = start(instance, request, dg.DagsterRunStatus.STARTED)
        assert tick(tmp_path, instance, cursor)[0] == [], "it is still at work"
        instance.report_run_failed(run, "the process was killed")
        requests, cursor = tick(tmp_path, instance, cursor)
        assert len(requests) == (1 if attempt < MAX_ATTEMPTS else 0)
        if requests:
            (request,) = requests
            assert request.tags[BATCH_TAG] == batch
    say(tmp_path, "another")
    (request,), cursor = tick(tmp_path, instance, cursor)
    assert (request.tags["shelfwise/attempt"], request.tags[FILES_TAG]) == ("1", "1"), "a run reads the whole inbox"


def test_an_interrupted_run_that_somebody_executed_again_is_left_alone(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    say(tmp_path)
    (request,), cursor = tick(tmp_path, instance)
    run = start(instance, request, dg.DagsterRunStatus.CANCELED)
    again = {"dagster/root_run_id": run.run_id, "dagster/parent_run_id": run.run_id}
    instance.create_run_for_job(_nothing, tags=again, status=dg.DagsterRunStatus.STARTED)
    assert tick(tmp_path, instance, cursor)[0] == []


def test_an_inbox_that_cannot_be_listed_is_a_failed_tick(
    tmp_path: Path, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    say(tmp_path)
    (request,), cursor = tick(tmp_path, instance)
    start(instance, request)

    def refuse(*_: object) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as broken:
        broken.setattr("shelfwise.feedback.inbox.os.scandir", refuse)
        with pytest.raises(ListingError, match="Input/output error"):
            tick(tmp_path, instance, cursor)
    assert tick(tmp_path, instance, cursor)[0] == []
