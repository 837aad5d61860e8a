"""The retrain sensor: a thin shell over the pure function that decides whether somebody's signal asks for one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import dagster as dg

from resources.lake import Lake
from resources.registry import TITLE_MATCHER, ModelRegistry
from shelfwise import clock
from shelfwise.monitoring.retrain import decide_retrain
from shelfwise.monitoring.signals import FOLDER, KINDS, Signal, read_signals

RETRAIN_SENSOR, CLASSIFIERS_SENSOR = "retrain_sensor", "retrain_classifiers_sensor"
CAUSE_TAG, SIGNALS_TAG, REQUESTED_TAG = "shelfwise/cause", "shelfwise/signals", "shelfwise/requested_at"
CHAMPION_TAG = "shelfwise/champion"


def build_retrain_sensor(
    job: Any,
    interval: int,
    min_days: float,
    name: str = RETRAIN_SENSOR,
    model: str = TITLE_MATCHER,
    folder: str = FOLDER,
) -> dg.SensorDefinition:
    """Build the sensor that starts `job` (resolved or not yet) when accuracy fell, inputs drifted or training stopped:
    once per cause, and at most every `min_days` days.

    `model`: the registered model that `job` trains; `folder`: where signals about it are raised.
    """

    @dg.sensor(
        name=name,
        job=job,
        minimum_interval_seconds=interval,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Starts a retrain before its time when live accuracy has fallen or inputs have drifted; once per "
        f"cause and at most every {min_days:g} days. A tick that starts nothing says why, and when it could.",
    )
    def retrain_sensor(context: dg.SensorEvaluationContext, lake: Lake, registry: ModelRegistry) -> dg.SensorResult:
        problems: list[str] = []
        signals = read_signals(lake.path, problems, folder)
        champion = registry.open().alias(model)
        now = clock.now()
        decision = decide_retrain(
            signals,
            requested_before(context.instance, job.name),
            now,
            min_days,
            champion.label if champion else None,
            decode_noticed(context.cursor),
        )
        for problem in problems:
            context.log.warning(problem)
        return dg.SensorResult(
            run_requests=[request(decision.signals, now)] if decision.signals else [],
            skip_reason=None if decision.signals else "; ".join([decision.reason, *problems[:3]]),
            cursor=encode_noticed(decision.noticed),
        )

    return retrain_sensor


def request(signals: tuple[Signal, ...], now: datetime) -> dg.RunRequest:
    """One run for all these signals; the oldest names it, so that the same request is never made twice."""
    first = signals[0]
    tags = {
        CAUSE_TAG: first.kind,
        SIGNALS_TAG: ",".join(signal.id for signal in signals),
        CHAMPION_TAG: first.champion_version,
        REQUESTED_TAG: now.isoformat(),
    }
    return dg.RunRequest(run_key=f"retrain:{first.id}", tags=tags)


def requested_before(instance: dg.DagsterInstance, job: str | None = None) -> dict[str, datetime]:
    """When each signal was first requested, by the tags of a job's runs; whatever became of them."""
    requested: dict[str, datetime] = {}
    for record in instance.get_run_records(filters=dg.RunsFilter(job_name=job, tags={CAUSE_TAG: list(KINDS)})):
        tags = record.dagster_run.tags
        at = _time(tags.get(REQUESTED_TAG)) or record.create_timestamp
        for name in filter(None, tags.get(SIGNALS_TAG, "").split(",")):
            requested[name] = min(at, requested.get(name, at))
    return requested


def encode_noticed(noticed: Mapping[str, datetime]) -> str:
    """The cursor: requests that lie in the future, and when they were first seen. Empty while clocks are right."""
    return json.dumps({name: at.isoformat() for name, at in noticed.items()}, sort_keys=True)


def decode_noticed(cursor: str | None) -> dict[str, datetime]:
    """What a cursor holds. One that cannot be read holds nothing: such requests are then seen for the first time."""
    try:
        raw = json.loads(cursor or "{}")
        times = {name: _time(at) for name, at in raw.items()}
    except (ValueError, AttributeError):
        return {}
    return {name: at for name, at in times.items() if at is not None}


def _time(text: Any) -> datetime | None:
    try:
        at = datetime.fromisoformat(text)
    except (ValueError, TypeError):
        return None
    return at if at.tzinfo else at.replace(tzinfo=UTC)
