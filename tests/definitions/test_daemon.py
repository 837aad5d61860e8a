"""The daemon in one process: what it starts, what it does not start twice, and what it survives."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.storage.tags import (
    PARENT_RUN_ID_TAG,
    PARTITION_NAME_TAG,
    RUN_KEY_TAG,
    SCHEDULE_NAME_TAG,
    SCHEDULED_EXECUTION_TIME_TAG,
    SENSOR_NAME_TAG,
)

from orchestration.daemon import Daemon
from orchestration.definitions import AUTOMATION

FILES = dg.DynamicPartitionsDefinition(name="files")
AT = datetime(2026, 3, 2, 6, tzinfo=UTC)
MADE: list[str] = []
WORLD: dict[str, object] = {}


class Word(dg.ConfigurableResource):
    text: str = "as configured"


@dg.asset(partitions_def=FILES)
def lines(context: dg.AssetExecutionContext, word: Word) -> None:
    MADE.append(f"lines {context.partition_key} {word.text}")
    if context.partition_key == WORLD.get("bad"):
        raise dg.Failure("set aside", allow_retries=False)


@dg.asset(
    deps=[dg.AssetDep(lines, partition_mapping=dg.AllPartitionMapping())],
    automation_condition=dg.AutomationCondition.eager().without(~dg.AutomationCondition.any_deps_missing()),
)
def queue() -> None:
    MADE.append("queue")


@dg.asset(deps=[queue], automation_condition=dg.AutomationCondition.eager())
def export() -> None:
    MADE.append("export")


@dg.op(config_schema={"reason": dg.Field(str, default_value="none")})
def say(context) -> None:
    MADE.append(f"job {context.op_config['reason']}")


@dg.job
def talk() -> None:
    say()


match = dg.define_asset_job("match", selection=[lines])


@dg.sensor(job=match)
def new_files(context: dg.SensorEvaluationContext, word: Word) -> dg.SensorResult:
    if WORLD.get("away"):
        raise ConnectionError("the store is away")
    names = [name for name in WORLD["files"] if name not in (context.cursor or "")]
    return dg.SensorResult(
        run_requests=[dg.RunRequest(run_key=name, partition_key=name, tags={"word": word.text}) for name in names],
        dynamic_partitions_requests=[FILES.build_add_request(names)] if names else [],
        cursor=",".join(WORLD["files"]),
        skip_reason=None if names else "no new file",
    )


@dg.schedule(job=talk, cron_schedule="0 6 * * 1")
def weekly(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    if context.scheduled_execution_time.day > 7:
        return dg.SkipReason("not in this week")
    return dg.RunRequest(run_config={"ops": {"say": {"config": {"reason": f"{context.scheduled_execution_time:%d}"}}}})


@dg.schedule(job=talk, cron_schedule="0 7 * * *")
def broken(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
    raise ConnectionError("the registry is away")


DEFINITIONS = dg.Definitions(
    assets=[lines, queue, export],
    jobs=[match, talk],
    sensors=[new_files, dg.AutomationConditionSensorDefinition(AUTOMATION, target=dg.AssetSelection.all())],
    schedules=[weekly, broken],
    resources={"word": Word()},
)


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.local_temp(str(tmp_path)) as made:
        yield made


@pytest.fixture
def daemon(instance: dg.DagsterInstance) -> Daemon:
    MADE.clear()
    WORLD.clear()
    WORLD["files"] = []
    return Daemon(instance, DEFINITIONS)


def test_a_sensors_requests_are_executed_with_the_daemons_tags(daemon: Daemon) -> None:
    assert daemon.tick_sensor("new_files").reason == "no new file"
    WORLD["files"] = ["a", "b"]
    tick = daemon.tick_sensor("new_files")
    assert tick.success
    assert MADE == ["lines a as configured", "lines b as configured"]
    assert [outcome.metadata["lines"]["partition"] for outcome in tick.outcomes] == ["a", "b"]
    run = daemon.instance.get_run_by_id(tick.outcomes[0].run_id)
    assert run.job_name == "match"
    wanted = {SENSOR_NAME_TAG: "new_files", RUN_KEY_TAG: "a", PARTITION_NAME_TAG: "a", "word": "as configured"}
    assert wanted.items() <= run.tags.items()
    assert run.status == dg.DagsterRunStatus.SUCCESS


def test_cursors_outlive_the_process_and_run_keys_a_lost_cursor(daemon: Daemon) -> None:
    WORLD["files"] = ["a"]
    daemon.tick_sensor("new_files")
    again = Daemon(daemon.instance, DEFINITIONS)
    assert again.cursor("new_files") == "a"
    assert again.tick_sensor("new_files").outcomes == []
    daemon.instance.daemon_cursor_storage.set_cursor_values({"shelfwise/new_files": ""})
    assert again.tick_sensor("new_files").outcomes == []
    assert MADE == ["lines a as configured"]


def test_what_a_killed_tick_had_asked_for_is_made_up_for_and_nothing_twice(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    WORLD["files"] = ["a", "b", "c"]
    run = daemon._run

    def dies(request: dg.RunRequest, *rest: Any) -> Any:
        if request.run_key == "b":
            raise KeyboardInterrupt
        return run(request, *rest)

    monkeypatch.setattr(daemon, "_run", dies)
    with pytest.raises(KeyboardInterrupt):
        daemon.tick_sensor("new_files")
    assert len(Daemon(daemon.instance, DEFINITIONS).tick_sensor("new_files").outcomes) == 2
    expected = [f"lines {name} as configured" for name in "abc"]
    assert expected == MADE


def test_a_run_whose_process_died_is_executed_again(daemon: Daemon) -> None:
    WORLD.update(files=["a"], bad="a")
    (failed,) = daemon.tick_sensor("new_files").outcomes
    WORLD["bad"] = ""
    again = daemon.retry(daemon.instance.get_run_by_id(failed.run_id))
    assert again.success
    tags = daemon.instance.get_run_by_id(again.run_id).tags
    assert (tags[PARTITION_NAME_TAG], tags[PARENT_RUN_ID_TAG]) == ("a", failed.run_id)


def test_a_run_that_fails_is_an_outcome_and_the_others_go_on(daemon: Daemon) -> None:
    WORLD.update(files=["a", "bad", "c"], bad="bad")
    tick = daemon.tick_sensor("new_files")
    assert [outcome.success for outcome in tick.outcomes] == [True, False, True]
    assert tick.outcomes[1].failures == ["lines: set aside"]
    assert not tick.success


def test_a_tick_that_raises_keeps_the_cursor(daemon: Daemon) -> None:
    WORLD["files"] = ["a"]
    daemon.tick_sensor("new_files")
    WORLD.update(files=["a", "b"], away=True)
    tick = daemon.tick_sensor("new_files")
    assert not tick.success
    assert "the store is away" in str(tick.error)
    assert daemon.cursor("new_files") == "a"
    WORLD["away"] = False
    assert len(daemon.tick_sensor("new_files").outcomes) == 1


def test_a_schedule_runs_once_for_each_of_its_times(daemon: Daemon) -> None:
    (outcome,) = daemon.tick_schedule("weekly", AT).outcomes
    tags = daemon.instance.get_run_by_id(outcome.run_id).tags
    assert tags[SCHEDULE_NAME_TAG] == "weekly"
    assert tags[SCHEDULED_EXECUTION_TIME_TAG] == AT.isoformat()
    assert daemon.tick_schedule("weekly", AT).outcomes == []
    assert daemon.tick_schedule("weekly", AT + timedelta(days=28)).reason == "not in this week"
    assert len(daemon.tick_schedule("weekly", AT + timedelta(days=35)).outcomes) == 1
    assert MADE == ["job 02", "job 06"]


def test_a_schedule_that_raises_is_a_failed_tick_and_a_time_needs_a_zone(daemon: Daemon) -> None:
    assert "the registry is away" in str(daemon.tick_schedule("broken", AT).error)
    with pytest.raises(ValueError, match="time zone"):
        daemon.tick_schedule("weekly", AT.replace(tzinfo=None))


def test_what_follows_is_made_until_nothing_more_follows(daemon: Daemon) -> None:
    WORLD["files"] = ["a"]
    daemon.tick_automation()
    tick = daemon.follow("new_files")
    assert tick.success
    assert MADE == ["lines a as configured", "queue", "export"]
    assert daemon.tick_automation().outcomes == []
    assert Daemon(daemon.instance, DEFINITIONS).follow("new_files").outcomes == [], "and a new process knows"
    tags = daemon.instance.get_run_by_id(tick.outcomes[-1].run_id).tags
    assert tags[SENSOR_NAME_TAG] == AUTOMATION


def test_a_failure_is_not_asked_for_again_and_again(daemon: Daemon) -> None:
    WORLD.update(files=["a", "bad"], bad="bad")
    daemon.tick_automation()
    daemon.follow("new_files")
    assert MADE.count("lines bad as configured") == 1
    assert MADE.count("queue") == 1


def test_a_person_starts_a_job(daemon: Daemon) -> None:
    outcome = daemon.run("talk", {"who": "me"}, {"ops": {"say": {"config": {"reason": "by hand"}}}})
    assert outcome.success
    assert MADE == ["job by hand"]
    assert daemon.instance.get_run_by_id(outcome.run_id).tags["who"] == "me"
    assert daemon.run("talk").success, "as often as they like"


def test_times_of_a_schedule_are_named_by_its_cron_string(daemon: Daemon) -> None:
    assert daemon.times("weekly", AT, AT + timedelta(days=14)) == [AT, AT + timedelta(days=7), AT + timedelta(days=14)]
