"""The uploads sensor: a thin shell over the pure function that decides which files are new and whole."""

from __future__ import annotations

import time
from typing import Any

import dagster as dg
from dagster._core.storage.tags import PARTITION_NAME_TAG, SENSOR_NAME_TAG

from resources.source import Uploads
from shelfwise.contract.decide import (
    SensorState,
    decide,
    decode_cursor,
    encode_cursor,
    remembered,
    run_key,
)
from shelfwise.contract.store import Listing, UploadFile

UPLOADS_SENSOR = "uploads_sensor"
MAX_SHOWN = 5
ETAG_TAG, REVISION_TAG, VENDOR_TAG = "shelfwise/etag", "shelfwise/revision", "shelfwise/vendor"


def build_uploads_sensor(
    partitions: dg.DynamicPartitionsDefinition, job: Any, settle_seconds: float, interval: int
) -> dg.SensorDefinition:
    """Build the sensor that turns new or changed files into partitions and runs of `job` (resolved or not yet), once
    per content.

    A listing that fails raises, so that the tick is marked as failed and nothing is forgotten; it never reads as
    "no files".
    """

    @dg.sensor(
        name=UPLOADS_SENSOR,
        job=job,
        minimum_interval_seconds=interval,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Starts a run for each new or changed file in the uploads folder, once per content.",
    )
    def uploads_sensor(context: dg.SensorEvaluationContext, uploads: Uploads) -> dg.SensorResult:
        state = decode_cursor(context.cursor) if context.cursor else _state_of_runs(context.instance)
        listing = uploads.store().listing()
        decision = decide(listing.files, state, now=time.time(), settle_seconds=settle_seconds)
        requests = [_request(file, decision.state.revision(file.key)) for file in decision.new]
        return dg.SensorResult(
            run_requests=requests,
            dynamic_partitions_requests=[partitions.build_add_request([file.key for file in decision.new])]
            if decision.new
            else [],
            cursor=encode_cursor(decision.state),
            skip_reason=None if requests else "; ".join([decision.reason, *_ignored(listing)]),
        )

    return uploads_sensor


def _ignored(listing: Listing) -> list[str]:
    """What lies in the folder and will never start a run, so that nobody waits for it; hidden files are left out."""
    shown = [(key, why) for key, why in sorted(listing.ignored.items()) if not key.rpartition("/")[2].startswith(".")]
    return [f"{key} is not an upload: {why}" for key, why in shown[:MAX_SHOWN]]


def _request(file: UploadFile, revision: int) -> dg.RunRequest:
    tags = {ETAG_TAG: file.etag, VENDOR_TAG: file.vendor_id, REVISION_TAG: str(revision)}
    return dg.RunRequest(run_key=run_key(file, revision), partition_key=file.key, tags=tags)


def _state_of_runs(instance: dg.DagsterInstance) -> SensorState:
    """What is known without a cursor (it was reset, or the demo ran before the daemon): the runs started so far."""
    runs = instance.get_runs(filters=dg.RunsFilter(tags={SENSOR_NAME_TAG: UPLOADS_SENSOR}))
    requests = []
    for run in reversed(runs):
        tags = run.tags
        if ETAG_TAG in tags and PARTITION_NAME_TAG in tags:
            etag = None if was_interrupted(instance, run) else tags[ETAG_TAG]
            requests.append((tags[PARTITION_NAME_TAG], etag, int(tags.get(REVISION_TAG, 0))))
    return remembered(requests)


def was_interrupted(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    """Whether a run ended without an answer: canceled, or dead without any of its steps having failed.

    A bad file is an answer: its step failed, and trying it again would fail again.
    """
    if run.status != dg.DagsterRunStatus.FAILURE:
        return run.status == dg.DagsterRunStatus.CANCELED
    return not instance.get_records_for_run(run.run_id, of_type=dg.DagsterEventType.STEP_FAILURE, limit=1).records
