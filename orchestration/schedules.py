"""Schedules: what happens by the calendar, and in which environment it is on from the start.

Every decision is made for the time a tick was scheduled for, never for the time it is evaluated at: a tick that comes
late decides what it would have decided then. A run key of a schedule only holds for one of its times, so what may
happen once per cycle or once per so many answers is looked up among the runs themselves, by their tags.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime

import dagster as dg
from dagster._core.storage.dagster_run import FINISHED_STATUSES

from orchestration.cadence import cycle_start, is_cycle_week, local_day, next_cycle, weekly_cron
from orchestration.jobs import (
    CLASSIFY_JOB,
    EVALUATE_JOB,
    FINE_TUNE_JOB,
    FOLLOW_JOB,
    STANDING_JOB,
    TRAIN_JOB,
)
from orchestration.settings import Settings
from resources.lake import Lake
from resources.registry import TITLE_MATCHER, ModelRegistry

CYCLE_TAG, CAUSE_TAG, CHAMPION_TAG, ANSWERS_TAG = (
    "shelfwise/cycle", "shelfwise/cause", "shelfwise/champion", "shelfwise/answers",
)  # fmt: skip
RETRAIN, CLASSIFIERS, EVALUATION, FINE_TUNE, CATALOG, CHECK = (
    "retrain_every_four_weeks", "classifiers_every_four_weeks", "weekly_evaluation", "fine_tune_when_answered",
    "daily_catalog", "daily_check",
)  # fmt: skip

ON, OFF = dg.DefaultScheduleStatus.RUNNING, dg.DefaultScheduleStatus.STOPPED
# A laptop is not on at six in the morning, and whoever tries Shelfwise wants to start a training himself. What costs
# nothing is on everywhere.
STATUS: dict[str, dict[str, dg.DefaultScheduleStatus]] = {
    RETRAIN: {"local": OFF, "staging": ON, "production": ON},
    CLASSIFIERS: {"local": OFF, "staging": ON, "production": ON},
    EVALUATION: {"local": OFF, "staging": ON, "production": ON},
    FINE_TUNE: {"local": OFF, "staging": ON, "production": ON},
    CATALOG: {"local": OFF, "staging": ON, "production": ON},
    CHECK: {"local": ON, "staging": ON, "production": ON},
}
# By job: what says that a candidate was measured. Whether the categories can be learnt from text or pictures alone, and
# which of them, is the data's choice; the text evaluation is made in any case.
EVALUATED = {
    TRAIN_JOB: dg.AssetKey(["matching", "matcher_evaluation"]),
    CLASSIFY_JOB: dg.AssetKey(["classification", "text_evaluation"]),
}


@dataclass(frozen=True)
class Attempt:
    """A training that was started for a cycle: whether it still runs, and whether a candidate was measured."""

    finished: bool
    measured: bool


def decide_cycle(day: date, anchor: date, attempts: Iterable[Attempt]) -> tuple[date | None, str]:
    """Return the cycle to train for on the weekly tick of a day, or None, and why.

    The first tick of a cycle trains. Where that tick never came, or its run ended before there was a candidate to
    measure (killed, or the data could not be read), the next tick of the same cycle makes up for it. A candidate that
    the gate refused is an answer: the next cycle asks again.
    """
    if day < anchor:
        return None, f"the first cycle begins on {anchor}"
    start, tried = cycle_start(day, anchor), list(attempts)
    following = f"the next cycle begins on {next_cycle(day, anchor)}"
    if any(not attempt.finished for attempt in tried):
        return None, f"the training of the cycle of {start} is running; {following}"
    if any(attempt.measured for attempt in tried):
        return None, f"a candidate was trained for the cycle of {start}; {following}"
    if tried:
        return start, f"the cycle of {start} has no candidate yet: {len(tried)} run(s) failed before one was measured"
    return start, "" if is_cycle_week(day, anchor) else f"no run was started when the cycle of {start} began"


def decide_fine_tune(answers: int, tried_at: Iterable[int], wanted: int) -> tuple[bool, str]:
    """Whether the champion should learn on, and why not: `wanted` answers are new since it was made, or since the last
    attempt to improve on it (`tried_at`: how many answers were new then).
    """
    last = max(tried_at, default=0)
    if answers - last >= wanted:
        return True, ""
    since = "the last fine-tune" if last else "the champion was made"
    return False, f"{max(0, answers - last)} new answer(s) since {since}; a fine-tune waits for {wanted}"


def build_schedules(settings: Settings) -> list[dg.ScheduleDefinition]:
    """Return every schedule of the code location for an environment."""
    anchor, zone, hour = settings.retrain_anchor, settings.timezone, settings.retrain_hour

    def by_cycle(name: str, job: str, hour: int, description: str) -> dg.ScheduleDefinition:
        """A training from scratch every four weeks; the weekly ticks in between make up for one that never came."""

        @dg.schedule(
            name=name,
            job_name=job,
            cron_schedule=weekly_cron(anchor, hour),
            execution_timezone=zone,
            default_status=STATUS[name][settings.env],
            description=f"{description} every four weeks, counted from {anchor}; looks every week, and makes up for a "
            "cycle whose run never came or was cut short.",
        )
        def train(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
            day = local_day(context.scheduled_execution_time, zone)
            attempts = _attempts(context.instance, job, cycle_start(day, anchor))
            cycle, why = decide_cycle(day, anchor, attempts)
            if cycle is None:
                return dg.SkipReason(why)
            tags = {CYCLE_TAG: cycle.isoformat(), CAUSE_TAG: f"cycle of {cycle}"}
            return dg.RunRequest(run_key=f"cycle:{cycle}:{len(attempts)}", tags=tags)

        return train

    retrain = by_cycle(RETRAIN, TRAIN_JOB, hour, "A full retrain of the matcher from scratch")
    # Two hours later: both read the data directory and use every core.
    classifiers = by_cycle(
        CLASSIFIERS, CLASSIFY_JOB, (hour + 2) % 24, "A full retrain of the category classifiers from scratch"
    )

    @dg.schedule(
        name=EVALUATION,
        job_name=EVALUATE_JOB,
        cron_schedule=weekly_cron(anchor, (hour + 4) % 24),
        execution_timezone=zone,
        default_status=STATUS[EVALUATION][settings.env],
        description="Measures the champion every week on what is held out today, and the week's inputs for drift.",
    )
    def evaluation(context: dg.ScheduleEvaluationContext, registry: ModelRegistry) -> dg.RunRequest | dg.SkipReason:
        champion = registry.open().alias(TITLE_MATCHER)
        if champion is None:
            return dg.SkipReason("there is no champion yet")
        return dg.RunRequest(run_key=_at(context), tags={CHAMPION_TAG: champion.label})

    @dg.schedule(
        name=FINE_TUNE,
        job_name=FINE_TUNE_JOB,
        cron_schedule=f"30 {hour} * * *",
        execution_timezone=zone,
        default_status=STATUS[FINE_TUNE][settings.env],
        description=f"Trains the champion on, between two retrains, when {settings.fine_tune_answers} answers are new.",
    )
    def fine_tune(
        context: dg.ScheduleEvaluationContext, registry: ModelRegistry, lake: Lake
    ) -> dg.RunRequest | dg.SkipReason:
        champion = registry.open().alias(TITLE_MATCHER)
        if champion is None:
            return dg.SkipReason("there is no champion to learn on yet")
        if _in_progress(context.instance, TRAIN_JOB, FINE_TUNE_JOB):
            return dg.SkipReason("a training is running")
        answers = count_answers(lake, datetime.fromisoformat(champion.created_at))
        tried = _tags(context.instance, FINE_TUNE_JOB, {CHAMPION_TAG: champion.label})
        due, why = decide_fine_tune(answers, [int(t.get(ANSWERS_TAG, 0)) for t in tried], settings.fine_tune_answers)
        if not due:
            return dg.SkipReason(why)
        cause = f"{answers} answers since champion {champion.label}"
        tags = {CHAMPION_TAG: champion.label, ANSWERS_TAG: str(answers), CAUSE_TAG: cause}
        return dg.RunRequest(run_key=f"fine_tune:{champion.label}:{answers}", tags=tags)

    @dg.schedule(
        name=CATALOG,
        job_name=FOLLOW_JOB,
        cron_schedule=f"0 {(hour - 2) % 24} * * *",
        execution_timezone=zone,
        default_status=STATUS[CATALOG][settings.env],
        description="Reads the data directory every day and lets the champion's index follow; trains nothing.",
    )
    def catalog(context: dg.ScheduleEvaluationContext, registry: ModelRegistry) -> dg.RunRequest | dg.SkipReason:
        if registry.open().alias(TITLE_MATCHER) is None:
            return dg.SkipReason("there is no champion whose index could follow the catalog yet")
        return dg.RunRequest(run_key=_at(context))

    check = dg.ScheduleDefinition(
        name=CHECK,
        job_name=STANDING_JOB,
        cron_schedule=f"0 {(hour + 1) % 24} * * *",
        execution_timezone=zone,
        default_status=STATUS[CHECK][settings.env],
        description="Lists the uploads that are still failed.",
    )
    return [retrain, classifiers, evaluation, fine_tune, catalog, check]


def count_answers(lake: Lake, since: datetime) -> int:
    """Return how many answers in the table of feedback were given after a moment; none where nobody answered yet."""
    import pandas as pd

    path = lake.path / "tables" / "raw" / "feedback.parquet"
    if not path.exists():
        return 0
    with path.open("rb") as file:
        answered = pd.read_parquet(file, columns=["answered_at"])["answered_at"]
    return int((answered > pd.Timestamp(since)).sum())


def _at(context: dg.ScheduleEvaluationContext) -> str:
    return context.scheduled_execution_time.isoformat()


def _tags(instance: dg.DagsterInstance, job: str, tags: Mapping[str, str]) -> list[Mapping[str, str]]:
    return [run.tags for run in instance.get_runs(filters=dg.RunsFilter(job_name=job, tags=dict(tags)))]


def _in_progress(instance: dg.DagsterInstance, *jobs: str) -> bool:
    statuses = [status for status in dg.DagsterRunStatus if status not in FINISHED_STATUSES]
    return any(instance.get_runs(filters=dg.RunsFilter(job_name=job, statuses=statuses), limit=1) for job in jobs)


def _attempts(instance: dg.DagsterInstance, job: str, cycle: date) -> list[Attempt]:
    runs = instance.get_runs(filters=dg.RunsFilter(job_name=job, tags={CYCLE_TAG: cycle.isoformat()}))
    return [Attempt(run.status in FINISHED_STATUSES, _measured(instance, run)) for run in runs]


def _measured(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    if run.status == dg.DagsterRunStatus.SUCCESS:
        return True
    made = instance.get_records_for_run(run.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION).records
    return any(record.asset_key == EVALUATED[run.job_name] for record in made)
