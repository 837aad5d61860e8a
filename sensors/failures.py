"""The failures sensor: a thin shell that collects what failed and hands it to `shelfwise.alerts`.

Not a `run_failure_sensor`: that one handles one run at a time, so that it cannot group, keeps no state of its own, and
loses an alert whose target is away. And nobody watches the sensors and schedules themselves, which is where a store
that is away is noticed first.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import dagster as dg
from dagster._core.scheduler.instigation import TickStatus
from dagster._core.storage.tags import PARTITION_NAME_TAG, WILL_RETRY_TAG

from shelfwise import clock
from shelfwise.alerts import Desk, Failure, Target, redacted

FAILURES_SENSOR = "failures_sensor"
WINDOW = timedelta(hours=6)
OVERLAP = timedelta(seconds=10)  # runs whose end is stored a moment after a later one's
AT_ONCE, SEEN_KEPT, TICKS_AT_ONCE = 100, 500, 20
MESSAGE_LENGTH = 4000
CHECK_FAILED = "DagsterAssetCheckFailedError"


@dataclass
class State:
    """The cursor: until when failures were collected, the last ones, and the desk."""

    after: str
    seen: list[str] = field(default_factory=list)
    desk: Desk = field(default_factory=Desk)

    def encode(self) -> str:
        """The state as text, bounded whatever happens."""
        return json.dumps({"after": self.after, "seen": self.seen[-SEEN_KEPT:], "desk": self.desk.to_json()})

    @classmethod
    def decode(cls, cursor: str | None, now: datetime) -> State:
        """Read a cursor. Without one, or with one that cannot be read, failures count from now on."""
        try:
            value = json.loads(cursor or "")
            after = datetime.fromisoformat(value["after"])
            return cls(after.isoformat(), [str(one) for one in value["seen"]], Desk.from_json(value["desk"]))
        except (ValueError, KeyError, TypeError, AttributeError):
            return cls(now.isoformat())


def build_failures_sensor(targets: Callable[[logging.Logger], list[Target]], interval: int = 30) -> dg.SensorDefinition:
    """Build the sensor that tells `targets` (made anew per tick, given the tick's log) of what failed."""

    @dg.sensor(
        name=FAILURES_SENSOR,
        minimum_interval_seconds=interval,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Tells of failed runs, sensors and schedules: in its own log, and by webhook and e-mail where they "
        "are configured. One cause is one message; what repeats is counted.",
    )
    def failures_sensor(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        # The system's clock: it is compared with the times of the run storage.
        state = State.decode(context.cursor, datetime.now(UTC))
        failures = collect(context.instance, state)
        chosen = targets(context.log)
        state.desk.take(failures, [target.name for target in chosen], clock.now(), WINDOW)
        problems = state.desk.deliver(chosen)
        for problem in problems:
            context.log.error(problem)
        owed = f"; {len(state.desk.alerts)} message(s) are still to be delivered" if state.desk.alerts else ""
        told = f"{len(failures)} new failure(s)" if failures else "nothing failed"
        return dg.SensorResult(skip_reason="; ".join([told + owed, *problems]), cursor=state.encode())

    return failures_sensor


def collect(instance: dg.DagsterInstance, state: State) -> list[Failure]:
    """Return what has failed since the last look, and note in `state` that it was seen."""
    seen, since = set(state.seen), datetime.fromisoformat(state.after)
    latest, failures = since, []
    filters = dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE], updated_after=since - OVERLAP)
    records = instance.get_run_records(
        filters=filters, order_by="update_timestamp", ascending=True, limit=AT_ONCE + len(seen)
    )
    for record in records:
        run = record.dagster_run
        if run.run_id not in seen:
            state.seen.append(run.run_id)
            if run.tags.get(WILL_RETRY_TAG) != "true":
                failures += failures_of(instance, run)
        latest = max(latest, record.update_timestamp)
    for instigator in instance.all_instigator_state():
        ticks = instance.get_ticks(
            instigator.instigator_origin_id,
            instigator.selector_id,
            after=(since - OVERLAP).timestamp(),
            limit=TICKS_AT_ONCE,
            statuses=[TickStatus.FAILURE],
        )
        for tick in reversed(ticks):
            name = f"tick:{tick.tick_id}"
            if name not in seen:
                state.seen.append(name)
                kind, message = _root(tick.error)
                failures.append(Failure(instigator.instigator_name, "tick", kind, message))
            latest = max(latest, datetime.fromtimestamp(tick.timestamp, UTC))
    state.after = latest.isoformat()
    state.seen = state.seen[-SEEN_KEPT:]
    return failures


def failures_of(instance: dg.DagsterInstance, run: dg.DagsterRun) -> list[Failure]:
    """Return each failed blocking check and each failed step of a run; where none has failed, what ended the run.

    A candidate that the gate refused is among them: it is no fault, but somebody should read the reason.
    """
    partition, found = run.tags.get(PARTITION_NAME_TAG, ""), []
    for event in _events(instance, run, dg.DagsterEventType.ASSET_CHECK_EVALUATION):
        check = event.asset_check_evaluation_data
        if check.blocking and not check.passed and check.severity == dg.AssetCheckSeverity.ERROR:
            step, why = f"{check.asset_key.to_user_string()}: {check.check_name}", check.description or "it failed"
            found.append(Failure(run.job_name, step, "failed check", redacted(why), run.run_id, partition))
    for event in _events(instance, run, dg.DagsterEventType.STEP_FAILURE):
        kind, message = _cause(event.step_failure_data)
        if kind == CHECK_FAILED and found:
            continue  # the check itself says more
        step = (event.step_key or "").replace("__", "/")
        found.append(Failure(run.job_name, step, kind, redacted(message), run.run_id, partition))
    if not found:
        ended = next(iter(_events(instance, run, dg.DagsterEventType.RUN_FAILURE)), None)
        message = (ended.message if ended else "") or "the run ended without any of its steps having failed"
        found.append(Failure(run.job_name, "", "RunFailure", redacted(message), run.run_id, partition))
    return found


def _events(instance: dg.DagsterInstance, run: dg.DagsterRun, kind: dg.DagsterEventType) -> Iterable[dg.DagsterEvent]:
    records = instance.get_records_for_run(run.run_id, of_type=kind).records
    return [cast("dg.DagsterEvent", record.event_log_entry.dagster_event) for record in records]


def _cause(data: Any) -> tuple[str, str]:
    """The class and words of what made a step fail: what the asset said itself, else the first cause there was."""
    kind, message = _root(getattr(data, "error", None))
    said = getattr(data, "user_failure_data", None)
    return kind, (said.description if said is not None and said.description else message)[:MESSAGE_LENGTH]


def _root(error: Any) -> tuple[str, str]:
    while error is not None and error.cause is not None:
        error = error.cause
    if error is None:
        return "Failure", "no reason was given"
    return error.cls_name or "Error", error.message.strip()[:MESSAGE_LENGTH]
