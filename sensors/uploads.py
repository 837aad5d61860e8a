"""The uploads sensor: a thin shell over the pure function that decides which files are new and whole."""

from __future__ import annotations

import time
from typing import Any

import dagster as dg
from dagster._core.storage.tags import PARTITION_NAME_TAG
from upath import UPath

from resources.lake import Lake
from resources.source import Uploads
from sensors.history import ATTEMPT_TAG, REVISION_TAG, requests_made
from shelfwise.contract.decide import Request, SensorState, decide, run_key
from shelfwise.contract.ledger import Ledger
from shelfwise.contract.store import Listing, UploadFile, UploadStore

UPLOADS_SENSOR = "uploads_sensor"
MAX_SHOWN = 5
ETAG_TAG, VENDOR_TAG = "shelfwise/etag", "shelfwise/vendor"


def build_uploads_sensor(
    partitions: dg.DynamicPartitionsDefinition, job: Any, settle_seconds: float, interval: int
) -> dg.SensorDefinition:
    """Build the sensor that turns new or changed files into partitions and runs of `job` (resolved or not yet), once
    per content.

    A listing that fails raises, so that the tick is marked as failed and nothing is forgotten; it never reads as
    "no files". What was seen is kept in the lake (see `shelfwise.contract.ledger`).
    """

    @dg.sensor(
        name=UPLOADS_SENSOR,
        job=job,
        minimum_interval_seconds=interval,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Starts a run for each new or changed file in the uploads folder, once per content.",
    )
    def uploads_sensor(context: dg.SensorEvaluationContext, uploads: Uploads, lake: Lake) -> dg.SensorResult:
        # The system's clock, not the project's: it is compared with the times of files.
        return evaluate(
            context.instance, context.cursor, uploads.store(), lake.path, partitions, time.time(), settle_seconds
        )

    return uploads_sensor


def evaluate(
    instance: dg.DagsterInstance,
    cursor: str | None,
    store: UploadStore,
    lake: UPath,
    partitions: dg.DynamicPartitionsDefinition,
    now: float,
    settle_seconds: float,
) -> dg.SensorResult:
    """Evaluate the sensor once."""
    ledger = Ledger(lake, UPLOADS_SENSOR)
    state = ledger.load(cursor)
    made = requests_made(instance, UPLOADS_SENSOR, state, _made)
    listing = store.listing(state.marks)
    decision = decide(listing.files, state, now=now, settle_seconds=settle_seconds, history=made)
    requests = [_request(file, decision.state, decision.attempts.get(file.key, 1)) for file in decision.new]
    keys = [file.key for file in decision.new]
    return dg.SensorResult(
        run_requests=requests,
        dynamic_partitions_requests=[partitions.build_add_request(keys)] if keys else [],
        cursor=ledger.save(decision.state),
        skip_reason=None if requests else "; ".join([decision.reason, *_ignored(listing)]),
    )


def _ignored(listing: Listing) -> list[str]:
    """What lies in the folder and will never start a run, so that nobody waits for it; hidden files are left out."""
    shown = [(key, why) for key, why in sorted(listing.ignored.items()) if not key.rpartition("/")[2].startswith(".")]
    return [f"{key} is not an upload: {why}" for key, why in shown[:MAX_SHOWN]]


def _request(file: UploadFile, state: SensorState, attempt: int) -> dg.RunRequest:
    revision = state.revision(file.key)
    tags = {ETAG_TAG: file.etag, VENDOR_TAG: file.vendor_id, REVISION_TAG: str(revision), ATTEMPT_TAG: str(attempt)}
    return dg.RunRequest(run_key=run_key(file, revision), partition_key=file.key, tags=tags)


def _made(run: dg.DagsterRun) -> Request | None:
    """The request behind a run; None where its tags tell of none."""
    key, etag = run.tags.get(PARTITION_NAME_TAG), run.tags.get(ETAG_TAG)
    if key is None or etag is None:
        return None
    revision, attempt = int(run.tags.get(REVISION_TAG, 0)), int(run.tags.get(ATTEMPT_TAG, 1))
    return Request(key, etag, revision, attempt=attempt)
