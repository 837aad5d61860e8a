"""What the daemon does, tick by tick and in this process: sensors, schedules and conditions are evaluated on a
persistent instance, and the runs they ask for are executed to their end.

For the simulated year, the tests and commands such as `make rollback`. In production the daemon does the same: the
rules on run keys, partitions and tags here are its rules, so neither repeats what the other did. Cursors are kept in
the instance under names of their own.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import dagster as dg
from dagster import _check as check
from dagster._core.definitions.automation_tick_evaluation_context import AutomationTickEvaluationContext
from dagster._core.definitions.run_request import AddDynamicPartitionsRequest
from dagster._core.storage.tags import (
    AUTOMATION_CONDITION_TAG,
    PARENT_RUN_ID_TAG,
    PARTITION_NAME_TAG,
    RUN_KEY_TAG,
    SCHEDULE_NAME_TAG,
    SCHEDULED_EXECUTION_TIME_TAG,
    SENSOR_NAME_TAG,
)
from dagster._daemon.asset_daemon import (
    asset_daemon_cursor_from_instigator_serialized_cursor,
    asset_daemon_cursor_to_instigator_serialized_cursor,
)
from dagster._utils.schedules import schedule_execution_time_iterator

from orchestration.definitions import AUTOMATION, build_definitions
from orchestration.execution import RunOutcome, bury_dead_runs, job_named, outcome_of, process_tag, run_job
from orchestration.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dagster._core.definitions.sensor_definition import SensorExecutionData

LOG = logging.getLogger(__name__)
CALM = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


@dataclass
class Tick:
    """What came of a tick: the runs that were executed, why there were none, or why it failed."""

    outcomes: list[RunOutcome] = field(default_factory=list)
    reason: str | None = None
    error: BaseException | None = None

    @property
    def success(self) -> bool:
        """Whether the tick was evaluated and every run it asked for succeeded."""
        return self.error is None and all(outcome.success for outcome in self.outcomes)


class Daemon:
    """Ticks what the code location declares.

    `in_process`: runs are executed in this process, one step after the other, which saves the start of a process per
    step; otherwise as `run_job` does.
    A sensor or schedule that raises is a failed tick: its cursor stays, and the error is in the `Tick`.
    """

    def __init__(
        self,
        instance: dg.DagsterInstance,
        definitions: dg.Definitions | None = None,
        *,
        in_process: bool = True,
        say: Callable[[str], None] = LOG.info,
    ) -> None:
        self.instance = instance
        self.definitions = definitions or build_definitions(load_settings())
        self.repository = self.definitions.get_repository_def()
        self.in_process, self._say = in_process, say

    def tick_sensor(self, name: str) -> Tick:
        """Evaluate a sensor once and execute the runs it asks for."""
        sensor = self.repository.get_sensor_def(name)
        if isinstance(sensor, dg.AutomationConditionSensorDefinition):
            return self.tick_automation(name)
        with dg.build_sensor_context(
            instance=self.instance,
            instance_ref=self.instance.get_ref(),
            cursor=self.cursor(name),
            repository_def=self.repository,
            sensor_name=name,
            resources=self._resources(sensor.required_resource_keys),
        ) as context:
            try:
                data: SensorExecutionData = sensor.evaluate_tick(context)
            except Exception as error:
                return self._failed(name, error)
        for request in data.dynamic_partitions_requests or []:
            keys = list(request.partition_keys)
            if isinstance(request, AddDynamicPartitionsRequest):
                self.instance.add_dynamic_partitions(request.partitions_def_name, keys)
            else:
                for key in keys:
                    self.instance.delete_dynamic_partition(request.partitions_def_name, key)
        for event in data.asset_events:
            self.instance.report_runless_asset_event(event)
        job = sensor.targets[0].job_name if sensor.has_jobs and len(sensor.targets) == 1 else None
        outcomes = self._execute(data.run_requests or [], {SENSOR_NAME_TAG: name}, job)
        # After the runs: a tick that is killed among them is evaluated again, and what has a run is left out by its
        # run key. The daemon writes down what a tick asked for before it keeps the cursor, makes missing runs later.
        self._keep(name, data.cursor)
        return Tick(outcomes, data.skip_message)

    def tick_schedule(self, name: str, at: datetime) -> Tick:
        """Evaluate a schedule for one of its times and execute the runs it asks for.

        A run that this schedule asked for at this time is not executed again. Raises ValueError for a time that does
        not know its time zone.
        """
        if at.tzinfo is None:
            raise ValueError(f"{at} does not say in which time zone it is")
        schedule = self.repository.get_schedule_def(name)
        with dg.build_schedule_context(
            instance=self.instance,
            scheduled_execution_time=at,
            repository_def=self.repository,
            resources=self._resources(schedule.required_resource_keys),
        ) as context:
            try:
                data = schedule.evaluate_tick(context)
            except Exception as error:
                return self._failed(name, error)
        tags = {SCHEDULE_NAME_TAG: name, SCHEDULED_EXECUTION_TIME_TAG: at.astimezone(UTC).isoformat()}
        return Tick(self._execute(data.run_requests or [], tags, schedule.job_name), data.skip_message)

    def times(self, name: str, after: datetime, until: datetime) -> list[datetime]:
        """Return when a schedule ticks from `after` to `until`, both included, in its time zone."""
        schedule = self.repository.get_schedule_def(name)
        zone, found = schedule.execution_timezone or "UTC", []
        for moment in schedule_execution_time_iterator(
            after.timestamp(), check.str_param(schedule.cron_schedule, "cron_schedule"), zone, ascending=True
        ):
            if moment > until:
                return found
            found.append(moment)
        return found

    def tick_automation(self, name: str = AUTOMATION) -> Tick:
        """Evaluate the automation conditions once and execute what they ask for, a run per partition."""
        graph = self.repository.asset_graph
        try:
            cursor = asset_daemon_cursor_from_instigator_serialized_cursor(self.cursor(name), graph)
            evaluation = AutomationTickEvaluationContext(
                evaluation_id=cursor.evaluation_id,
                instance=self.instance,
                asset_graph=graph,
                cursor=cursor,
                materialize_run_tags={},
                observe_run_tags={},
                auto_observe_asset_keys=set(),
                asset_selection=dg.AssetSelection.all(),
                logger=LOG,
                emit_backfills=False,
            )
            requests, cursor, _ = evaluation.evaluate()
        except Exception as error:
            return self._failed(name, error)
        outcomes = self._execute(requests, {AUTOMATION_CONDITION_TAG: "true", SENSOR_NAME_TAG: name}, None)
        self._keep(name, asset_daemon_cursor_to_instigator_serialized_cursor(cursor))
        return Tick(outcomes)

    def follow(self, *sensors: str, limit: int = 20) -> Tick:
        """Tick the conditions and `sensors` until nothing more follows; return all that ran.

        Raises RuntimeError where there is no end to it after `limit` rounds.
        """
        whole = Tick()
        for _ in range(limit):
            ticks = [self.tick_automation(), *(self.tick_sensor(name) for name in sensors)]
            whole.outcomes += [outcome for tick in ticks for outcome in tick.outcomes]
            whole.error = next((tick.error for tick in ticks if tick.error), whole.error)
            if not any(tick.outcomes for tick in ticks):
                return whole
        raise RuntimeError(f"runs still follow from runs after {limit} rounds")

    def run(
        self, job: str, tags: Mapping[str, str] | None = None, config: Mapping[str, Any] | None = None
    ) -> RunOutcome:
        """Execute a job as a person who starts it would."""
        return self._run(dg.RunRequest(job_name=job, run_config=config or {}), dict(tags or {}), job)

    def retry(self, run: dg.DagsterRun) -> RunOutcome:
        """Execute again a run whose process died, as Dagster's run retries do (`run_retries` in dagster.yaml)."""
        own = {name: value for name, value in run.tags.items() if not name.startswith(".dagster")}
        request = dg.RunRequest(
            job_name=run.job_name,
            run_config=run.run_config,
            partition_key=own.get(PARTITION_NAME_TAG),
            asset_selection=sorted(run.asset_selection or (), key=str),
        )
        return self._run(request, {**own, PARENT_RUN_ID_TAG: run.run_id}, run.job_name)

    def cursor(self, name: str) -> str | None:
        """The cursor that a sensor left here."""
        return self.instance.daemon_cursor_storage.get_cursor_values({_key(name)}).get(_key(name))

    def _keep(self, name: str, cursor: str | None) -> None:
        if cursor is not None:
            self.instance.daemon_cursor_storage.set_cursor_values({_key(name): cursor})

    def _failed(self, name: str, error: BaseException) -> Tick:
        error = getattr(error, "user_exception", error)
        self._say(f"the tick of {name} failed: {error}")
        return Tick(error=error)

    def _resources(self, names: Iterable[str]) -> dict[str, Any]:
        available = self.definitions.resources or {}
        return {name: available[name] for name in names}

    def _execute(self, requests: Iterable[dg.RunRequest], tags: dict[str, str], job: str | None) -> list[RunOutcome]:
        return [
            self._run(request, tags, request.job_name or job) for request in self._not_yet_made(list(requests), tags)
        ]

    def _not_yet_made(self, requests: list[dg.RunRequest], tags: dict[str, str]) -> Iterator[dg.RunRequest]:
        """Leave out what has a run already, by the daemon's rule: a sensor's run key counts for ever, a schedule's for
        its time. Asked one by one, so that a key that comes twice in a tick counts once.
        """
        for request in requests:
            known = {**tags, RUN_KEY_TAG: request.run_key} if request.run_key else tags
            once = request.run_key or SCHEDULED_EXECUTION_TIME_TAG in tags
            if once and self.instance.get_runs(filters=dg.RunsFilter(tags=known), limit=1):
                continue
            yield request

    def _run(self, request: dg.RunRequest, tags: dict[str, str], job: str | None) -> RunOutcome:
        tags = {**request.tags, **tags}
        if request.run_key:
            tags[RUN_KEY_TAG] = request.run_key
        if request.partition_key:
            tags[PARTITION_NAME_TAG] = request.partition_key
        assets = list(request.asset_selection or [])
        if job is None:
            job = check.not_none(self.repository.get_implicit_job_def_for_assets(assets)).name
        told = f" of {request.partition_key}" if request.partition_key else ""
        self._say(f"{job}{told}: {', '.join(key.to_user_string() for key in assets) or 'all of it'}")
        if not self.in_process:
            return run_job(job_named(job), self.instance, tags, self._say, request.run_config, assets or None)
        bury_dead_runs(self.instance)
        definition = self.repository.get_job(job)
        result = definition.execute_in_process(
            run_config={**request.run_config, **(CALM if "loggers" not in request.run_config else {})},
            instance=self.instance,
            partition_key=request.partition_key,
            asset_selection=assets or None,
            tags={**tags, **process_tag()},
            raise_on_error=False,
        )
        return outcome_of(self.instance, result.run_id, result.success)


def _key(name: str) -> str:
    return f"shelfwise/{name}"
