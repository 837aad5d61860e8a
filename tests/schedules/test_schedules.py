"""The schedules, tick by tick on an instance: once per cycle, made up for when missed, on where they should be."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestration import schedules
from orchestration.cadence import cycle_start
from orchestration.definitions import build_definitions
from orchestration.schedules import STATUS, Attempt, build_schedules, decide_cycle, decide_fine_tune
from orchestration.settings import Settings
from resources.lake import Lake
from resources.registry import ModelRegistry
from shelfwise.registry import Registry

ANCHOR = date(2026, 1, 5)
MEASURED, CUT_SHORT, RUNNING = Attempt(True, True), Attempt(True, False), Attempt(False, False)


@pytest.fixture
def instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dg.DagsterInstance]:
    """On disk: a schedule's context opens the instance anew."""
    with dg.DagsterInstance.local_temp(str(tmp_path_factory.mktemp("home"))) as made:
        yield made


def schedule(name: str, **settings: Any) -> dg.ScheduleDefinition:
    return next(one for one in build_schedules(Settings(**settings)) if one.name == name)


def evaluate(made: dg.ScheduleDefinition, instance: dg.DagsterInstance, at: datetime, **resources: Any) -> Any:
    with dg.build_schedule_context(instance=instance, scheduled_execution_time=at, resources=resources) as context:
        return made.evaluate_tick(context)


def monday(week: int) -> datetime:
    return datetime(2026, 1, 5, 6, tzinfo=UTC) + timedelta(weeks=week)


@dg.job(name="train_and_promote")
def _train() -> None:
    """Stands for the job: only the run's record counts here."""


def leave_run(
    instance: dg.DagsterInstance, request: dg.RunRequest, status: dg.DagsterRunStatus, measured: bool = False
) -> None:
    run = instance.create_run_for_job(_train, tags=request.tags, status=dg.DagsterRunStatus.STARTED)
    if measured:
        event = dg.AssetMaterialization(schedules.EVALUATED["train_and_promote"])
        instance.report_dagster_event(
            dg.DagsterEvent(
                event_type_value=dg.DagsterEventType.ASSET_MATERIALIZATION.value,
                job_name=run.job_name,
                event_specific_data=_materialized(event),
            ),
            run.run_id,
        )
    if status == dg.DagsterRunStatus.SUCCESS:
        instance.report_dagster_event(
            dg.DagsterEvent(event_type_value=dg.DagsterEventType.RUN_SUCCESS.value, job_name=run.job_name), run.run_id
        )
    elif status == dg.DagsterRunStatus.FAILURE:
        instance.report_run_failed(run)


def _materialized(event: dg.AssetMaterialization) -> Any:
    from dagster._core.events import StepMaterializationData

    return StepMaterializationData(event)


# Which ticks train


@given(weeks=st.lists(st.integers(0, 30), min_size=1, unique=True))
def test_whatever_ticks_are_missed_each_cycle_that_had_one_is_trained_once(weeks: list[int]) -> None:
    trained: list[date] = []
    for week in sorted(weeks):
        day = ANCHOR + timedelta(weeks=week)
        done = [MEASURED] if trained and trained[-1] == cycle_start(day, ANCHOR) else []
        cycle, _ = decide_cycle(day, ANCHOR, done)
        if cycle is not None:
            trained.append(cycle)
    assert trained == sorted({cycle_start(ANCHOR + timedelta(weeks=week), ANCHOR) for week in weeks})


def test_a_tick_says_why_and_names_the_next_cycle() -> None:
    cycle, why = decide_cycle(date(2026, 1, 12), ANCHOR, [MEASURED])
    assert cycle is None
    assert "2026-02-02" in why
    cycle, why = decide_cycle(date(2026, 1, 12), ANCHOR, [RUNNING])
    assert cycle is None
    assert "running" in why
    assert "2026-02-02" in why
    assert decide_cycle(date(2026, 1, 4), ANCHOR, [])[1] == "the first cycle begins on 2026-01-05"


def test_a_cycle_without_a_candidate_is_tried_again() -> None:
    assert decide_cycle(date(2026, 1, 12), ANCHOR, [CUT_SHORT])[0] == ANCHOR
    assert decide_cycle(date(2026, 1, 12), ANCHOR, [CUT_SHORT, MEASURED])[0] is None
    assert decide_cycle(date(2026, 1, 19), ANCHOR, [])[0] == ANCHOR, "its first two ticks never came"


def test_a_year_of_ticks_on_an_instance(instance: dg.DagsterInstance) -> None:
    retrain, cycles = schedule("retrain_every_four_weeks"), []
    for week in range(52):
        data = evaluate(retrain, instance, monday(week))
        for request in data.run_requests:
            cycles.append(request.tags["shelfwise/cycle"])
            leave_run(instance, request, dg.DagsterRunStatus.SUCCESS)
        if not data.run_requests:
            assert "the next cycle begins on" in data.skip_message
    assert cycles == [(ANCHOR + timedelta(weeks=4 * cycle)).isoformat() for cycle in range(13)]


def test_what_the_gate_refused_counts_and_what_was_cut_short_does_not(instance: dg.DagsterInstance) -> None:
    retrain = schedule("retrain_every_four_weeks")
    (request,) = evaluate(retrain, instance, monday(0)).run_requests
    leave_run(instance, request, dg.DagsterRunStatus.FAILURE, measured=False)
    (again,) = evaluate(retrain, instance, monday(1)).run_requests
    assert again.run_key != request.run_key
    assert again.tags["shelfwise/cycle"] == "2026-01-05"
    leave_run(instance, again, dg.DagsterRunStatus.FAILURE, measured=True)
    assert evaluate(retrain, instance, monday(2)).run_requests == []
    (following,) = evaluate(retrain, instance, monday(4)).run_requests
    assert following.tags["shelfwise/cycle"] == "2026-02-02"
    leave_run(instance, following, dg.DagsterRunStatus.STARTED)
    assert "is running" in evaluate(retrain, instance, monday(5)).skip_message


def test_matcher_and_classifiers_have_cycles_of_their_own(instance: dg.DagsterInstance) -> None:
    retrain, classifiers = schedule("retrain_every_four_weeks"), schedule("classifiers_every_four_weeks")
    assert (retrain.cron_schedule, classifiers.cron_schedule) == ("0 6 * * 1", "0 8 * * 1")
    (request,) = evaluate(retrain, instance, monday(0)).run_requests
    leave_run(instance, request, dg.DagsterRunStatus.SUCCESS, measured=True)
    assert evaluate(retrain, instance, monday(1)).run_requests == []
    (own,) = evaluate(classifiers, instance, monday(1)).run_requests
    assert own.tags["shelfwise/cycle"] == request.tags["shelfwise/cycle"], "its own was never trained for"


def test_a_late_tick_decides_for_its_own_time(instance: dg.DagsterInstance) -> None:
    (request,) = evaluate(schedule("retrain_every_four_weeks"), instance, monday(-4 + 8)).run_requests
    assert request.tags["shelfwise/cycle"] == "2026-02-02", "whenever it is evaluated"


def test_ticks_around_daylight_saving_are_of_the_local_day(instance: dg.DagsterInstance) -> None:
    retrain = schedule("retrain_every_four_weeks", timezone="Europe/Berlin", retrain_hour=0)
    assert retrain.execution_timezone == "Europe/Berlin"
    # Monday 30 March 2026, 00:00 in Berlin, the night after the clocks went forward: Sunday in UTC.
    (request,) = evaluate(retrain, instance, datetime(2026, 3, 29, 22, tzinfo=UTC)).run_requests
    assert request.tags["shelfwise/cycle"] == "2026-03-30"


# Fine-tuning between retrains


@pytest.mark.parametrize(
    ("answers", "tried", "due"),
    [(0, [], False), (199, [], False), (200, [], True), (399, [200], False), (400, [200], True), (50, [200], False)],
)
def test_so_many_answers_since_the_champion_or_the_last_attempt(answers: int, tried: list[int], due: bool) -> None:
    decided, why = decide_fine_tune(answers, tried, 200)
    assert decided is due
    assert due or "a fine-tune waits for 200" in why


def test_a_fine_tune_is_asked_for_once_per_so_many_answers(instance: dg.DagsterInstance, tmp_path: Path) -> None:
    lake, registry = Lake(root=str(tmp_path)), ModelRegistry(root=str(tmp_path))
    made = schedule("fine_tune_when_answered", fine_tune_answers=10)

    def tick(day: int) -> Any:
        return evaluate(made, instance, datetime(2026, 6, day, 6, 30, tzinfo=UTC), lake=lake, registry=registry)

    assert tick(1).skip_message == "there is no champion to learn on yet"
    versions = registry.open()
    version = versions.register("title_matcher", "/artifact", "0123456789abcdef")
    versions.promote(version)
    born = datetime.fromisoformat(version.created_at)
    assert "0 new answer(s) since the champion was made" in tick(2).skip_message
    _answers(lake, [born - timedelta(days=1)] * 50 + [born + timedelta(days=1)] * 9)
    assert "9 new answer(s)" in tick(3).skip_message, "older answers are in the champion"
    _answers(lake, [born + timedelta(days=1)] * 12)
    (request,) = tick(4).run_requests
    assert request.tags["shelfwise/answers"] == "12"
    assert request.tags["shelfwise/champion"] == version.label

    @dg.job(name="fine_tune")
    def refused() -> None:
        pass

    instance.create_run_for_job(refused, tags=request.tags, status=dg.DagsterRunStatus.FAILURE)
    assert "0 new answer(s) since the last fine-tune" in tick(5).skip_message
    _answers(lake, [born + timedelta(days=1)] * 22)
    assert [one.tags["shelfwise/answers"] for one in tick(6).run_requests] == ["22"]
    instance.create_run_for_job(_train, status=dg.DagsterRunStatus.STARTED)
    assert tick(7).skip_message == "a training is running"


def _answers(lake: Lake, times: list[datetime]) -> None:
    path = lake.table_path(dg.AssetKey(["raw", "feedback"]))
    path.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame({"answered_at": pd.to_datetime(times, utc=True)}).to_parquet(path)


@pytest.mark.parametrize("name", ["weekly_evaluation", "daily_catalog"])
def test_without_a_champion_there_is_nothing_to_measure_or_to_follow(
    name: str, instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    registry, made = ModelRegistry(root=str(tmp_path)), schedule(name)
    data = evaluate(made, instance, monday(0), registry=registry)
    assert "no champion" in data.skip_message
    versions: Registry = registry.open()
    versions.promote(versions.register("title_matcher", "/artifact", "0123456789abcdef"))
    assert len(evaluate(made, instance, monday(0), registry=registry).run_requests) == 1


# Where they are on


@pytest.mark.parametrize("env", ["local", "staging", "production"])
def test_each_environment_starts_what_it_should(env: str) -> None:
    on = {name for name, status in STATUS.items() if status[env] == dg.DefaultScheduleStatus.RUNNING}
    everything = set(STATUS)
    assert on == ({"daily_check"} if env == "local" else everything)
    made = build_schedules(Settings(env=env))
    assert {one.name for one in made} == everything, "the table holds every schedule"
    assert {one.name for one in made if one.default_status == dg.DefaultScheduleStatus.RUNNING} == on


def test_every_schedule_starts_a_job_that_exists_in_the_configured_time_zone() -> None:
    settings = Settings(timezone="Europe/Berlin", retrain_hour=1)
    repository = build_definitions(settings).get_repository_def()
    assert {made.name for made in repository.schedule_defs} == set(STATUS)
    for made in repository.schedule_defs:
        assert repository.has_job(made.job_name)
        assert made.execution_timezone == "Europe/Berlin"
