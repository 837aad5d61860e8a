"""The feedback sensor: a thin shell over the pure function that decides which answers are new."""

from __future__ import annotations

from typing import Any

import dagster as dg
from upath import UPath

from resources.lake import Lake
from sensors.history import ATTEMPT_TAG, REVISION_TAG, requests_made
from shelfwise.contract.decide import Request
from shelfwise.contract.ledger import Ledger
from shelfwise.feedback.batches import LATEST, decide_feedback, manifest_name
from shelfwise.feedback.inbox import FOLDER, list_files

FEEDBACK_SENSOR = "feedback_sensor"
BATCH_TAG, FILES_TAG = "shelfwise/batch", "shelfwise/feedback_files"


def build_feedback_sensor(job: Any, interval: int) -> dg.SensorDefinition:
    """Build the sensor that starts one run of `job` (resolved or not yet) for all new files of the feedback inbox.

    Each file belongs to one run; a run that was interrupted is asked for again. An inbox that cannot be listed is a
    failed tick, after which nothing is forgotten.
    """

    @dg.sensor(
        name=FEEDBACK_SENSOR,
        job=job,
        minimum_interval_seconds=interval,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Starts a run for the corrections that came in since it last looked, each once.",
    )
    def feedback_sensor(context: dg.SensorEvaluationContext, lake: Lake) -> dg.SensorResult:
        return evaluate(context.instance, context.cursor, lake.path)

    return feedback_sensor


def evaluate(instance: dg.DagsterInstance, cursor: str | None, lake: UPath) -> dg.SensorResult:
    """Evaluate the sensor once."""
    ledger = Ledger(lake, FEEDBACK_SENSOR)
    state = ledger.load(cursor)
    made = requests_made(instance, FEEDBACK_SENSOR, state, _made)
    listed = list_files(lake / FOLDER, state.entries.keys() - {LATEST})
    decision = decide_feedback(listed, state, made, lambda batch: ledger.fetch_aside(manifest_name(batch)))
    cursor = ledger.save(decision.state)
    if decision.batch is None:
        return dg.SensorResult(cursor=cursor, skip_reason=decision.reason)
    ledger.put_aside(manifest_name(decision.batch), decision.manifest)
    tags = {
        BATCH_TAG: decision.batch,
        FILES_TAG: str(len(decision.manifest)),
        REVISION_TAG: str(decision.state.revision(LATEST)),
        ATTEMPT_TAG: str(decision.attempt),
    }
    return dg.SensorResult(run_requests=[dg.RunRequest(run_key=decision.run_key, tags=tags)], cursor=cursor)


def _made(run: dg.DagsterRun) -> Request | None:
    """The request behind a run; None where its tags tell of none."""
    batch = run.tags.get(BATCH_TAG)
    if batch is None:
        return None
    revision, attempt = int(run.tags.get(REVISION_TAG, 0)), int(run.tags.get(ATTEMPT_TAG, 1))
    return Request(LATEST, batch, revision, attempt=attempt)
