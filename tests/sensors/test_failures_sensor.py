"""The failures sensor on an instance: runs, killed runs, sensors and schedules that fail, each told once."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.remote_origin import InProcessCodeLocationOrigin, RemoteInstigatorOrigin, RemoteRepositoryOrigin
from dagster._core.scheduler.instigation import (
    InstigatorState,
    InstigatorStatus,
    SensorInstigatorData,
    TickData,
    TickStatus,
)
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._utils.error import serializable_error_info_from_exc_info

from orchestration.definitions import build_definitions
from orchestration.settings import Settings
from sensors.failures import FAILURES_SENSOR, SEEN_KEPT, State, build_failures_sensor
from shelfwise.alerts import Alert


@dg.op(config_schema={"message": str, "store": bool})
def work(context) -> None:
    message = context.op_config["message"]
    if context.op_config["store"]:
        try:
            raise TimeoutError("the store did not answer within 10 s")
        except TimeoutError as error:
            raise RuntimeError(message) from error
    raise dg.Failure(message, allow_retries=False)


@dg.job
def match_upload() -> None:
    work()


@dg.job
def train() -> None:
    work.alias("raw__products")()


class Memory:
    name = "memory"

    def __init__(self) -> None:
        self.taken: list[Alert] = []
        self.away = False

    def send(self, alert: Alert) -> None:
        if self.away:
            raise ConnectionError("nobody there")
        self.taken.append(alert)


class Watch:
    """The sensor and its cursor."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self.instance, self.memory = instance, Memory()
        self.cursor: str | None = None
        self.tick()

    def tick(self) -> str:
        sensor = build_failures_sensor(lambda logger: [self.memory])
        with dg.build_sensor_context(instance=self.instance, cursor=self.cursor) as context:
            result: Any = sensor(context)
        self.cursor = result.cursor
        return str(result.skip_reason)

    def start(self, **tags: str) -> dg.DagsterRun:
        """A run that is on its way."""
        config = {"ops": {"work": {"config": {"message": "", "store": False}}}}
        started = dg.DagsterRunStatus.STARTED
        return self.instance.create_run_for_job(match_upload, run_config=config, status=started, tags=tags)

    def fail(self, message: str, job: dg.JobDefinition = match_upload, store: bool = False, **tags: str) -> str:
        step = job.nodes[0].name
        config = {"ops": {step: {"config": {"message": message, "store": store}}}}
        return job.execute_in_process(config, self.instance, raise_on_error=False, tags=tags).run_id


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    """On disk: an ephemeral instance keeps no ticks."""
    with dg.DagsterInstance.local_temp(str(tmp_path)) as made:
        yield made


@pytest.fixture
def watch(instance: dg.DagsterInstance) -> Watch:
    return Watch(instance)


def test_what_failed_before_the_sensor_was_there_is_not_told(instance: dg.DagsterInstance) -> None:
    early = Watch.__new__(Watch)
    early.instance, early.memory, early.cursor = instance, Memory(), None
    early.fail("long ago")
    early.cursor = State((datetime.now(UTC) + timedelta(minutes=1)).isoformat()).encode()
    assert "nothing failed" in early.tick()


def test_a_failed_run_is_told_once_with_the_reason_a_person_can_act_on(watch: Watch) -> None:
    run_id = watch.fail("acme/x.csv was set aside: no title", **{"dagster/partition": "acme/x.csv"})
    assert watch.tick().count("1 new failure(s)") == 1
    (alert,) = watch.memory.taken
    assert alert.title == "match_upload / work of acme/x.csv failed"
    assert "acme/x.csv was set aside: no title" in alert.text
    assert alert.runs == [run_id]
    assert "nothing failed" in watch.tick()
    assert len(watch.memory.taken) == 1


def test_many_runs_of_one_cause_are_one_message_and_successes_none(watch: Watch) -> None:
    for number in range(5):
        watch.fail(f"line {number} of /data/{number}.csv is short")

    @dg.job
    def fine() -> None:
        pass

    fine.execute_in_process(instance=watch.instance)
    watch.tick()
    (alert,) = watch.memory.taken
    assert alert.count == 5


def test_a_store_that_is_away_is_one_cause_over_jobs_by_its_first_error(watch: Watch) -> None:
    watch.fail("could not read the products", train, store=True)
    watch.fail("could not read acme/x.csv", store=True)
    watch.tick()
    causes = {alert.cause for alert in watch.memory.taken}
    assert len(watch.memory.taken) == len(causes) == 1
    assert "TimeoutError" in watch.memory.taken[0].text


def test_a_refused_candidate_is_told_with_the_reason_of_the_gate_and_once(watch: Watch) -> None:
    @dg.asset(check_specs=[dg.AssetCheckSpec("gate", asset="evaluation", blocking=True)])
    def evaluation():
        yield dg.MaterializeResult()
        yield dg.AssetCheckResult(passed=False, check_name="gate", description="refused: top-1 lost 12 lines")

    @dg.asset(deps=[evaluation])
    def champion() -> None:
        raise AssertionError("never comes here")

    assert not dg.materialize([evaluation, champion], instance=watch.instance, raise_on_error=False).success
    watch.tick()
    (alert,) = watch.memory.taken
    assert alert.title.endswith("evaluation: gate failed")
    assert "refused: top-1 lost 12 lines" in alert.text


def test_a_killed_run_is_told_too(watch: Watch) -> None:
    run = watch.start()
    watch.instance.report_run_failed(run, "The process that executed this run was killed.")
    watch.tick()
    (alert,) = watch.memory.taken
    assert alert.title == "match_upload failed"
    assert "was killed" in alert.text


def test_a_run_that_will_be_retried_is_not_told(watch: Watch) -> None:
    run = watch.start(**{"dagster/will_retry": "true"})
    watch.instance.report_run_failed(run, "killed")
    assert "nothing failed" in watch.tick()


def test_a_target_that_is_away_is_told_at_the_next_tick(watch: Watch) -> None:
    watch.memory.away = True
    watch.fail("no title")
    assert "1 message(s) are still to be delivered; memory did not take an alert" in watch.tick()
    watch.memory.away = False
    assert "nothing failed" in watch.tick()
    assert len(watch.memory.taken) == 1


def test_a_sensor_that_fails_is_told(watch: Watch) -> None:
    origin = RemoteInstigatorOrigin(
        RemoteRepositoryOrigin(InProcessCodeLocationOrigin(LoadableTargetOrigin()), "repository"), "uploads_sensor"
    )
    selector = origin.get_selector().get_id()
    state = InstigatorState(origin, InstigatorType.SENSOR, InstigatorStatus.RUNNING, SensorInstigatorData())
    watch.instance.add_instigator_state(state)
    try:
        raise PermissionError("s3://shelfwise/data/uploads: access denied")
    except PermissionError:
        import sys

        error = serializable_error_info_from_exc_info(sys.exc_info())
    for _ in range(3):
        watch.instance.create_tick(
            TickData(
                instigator_origin_id=origin.get_id(),
                instigator_name="uploads_sensor",
                instigator_type=InstigatorType.SENSOR,
                status=TickStatus.FAILURE,
                timestamp=datetime.now(UTC).timestamp(),
                selector_id=selector,
                error=error,
            )
        )
    watch.tick()
    (alert,) = watch.memory.taken
    assert alert.title == "uploads_sensor / tick failed"
    assert alert.count == 3
    assert "access denied" in alert.text
    assert "nothing failed" in watch.tick()


def test_the_cursor_is_bounded_and_one_that_cannot_be_read_starts_anew(watch: Watch) -> None:
    state = State(datetime.now(UTC).isoformat(), [f"run-{number}" for number in range(5000)])
    assert len(json.loads(state.encode())["seen"]) == SEEN_KEPT
    for broken in ("", "17", "{}", '{"after": "yesterday", "seen": [], "desk": {}}'):
        watch.cursor = broken
        assert "nothing failed" in watch.tick()


def test_the_sensor_of_the_project_runs_by_default_and_tells_at_least_the_log(instance: dg.DagsterInstance) -> None:
    repository = build_definitions(Settings()).get_repository_def()
    sensor = repository.get_sensor_def(FAILURES_SENSOR)
    assert sensor.default_status == dg.DefaultSensorStatus.RUNNING
    with dg.build_sensor_context(instance=instance) as context:
        assert "nothing failed" in str(sensor.evaluate_tick(context).skip_message)
    assert logging.getLogger("shelfwise.alerts")
