"""The uploads sensor: a thin shell over the pure function that decides which files are new and whole."""

from __future__ import annotations

import time

import dagster as dg

from resources.source import Uploads
from shelfwise.contract.decide import decide, decode_cursor, encode_cursor, run_key

UPLOADS_SENSOR = "uploads_sensor"


def build_uploads_sensor(
    partitions: dg.DynamicPartitionsDefinition, job: dg.JobDefinition, settle_seconds: float, interval: int
) -> dg.SensorDefinition:
    """Build the sensor that turns new or changed files into partitions and runs, once per content.

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
        state = decode_cursor(context.cursor)
        decision = decide(uploads.store().list(), state, now=time.time(), settle_seconds=settle_seconds)
        requests = [
            dg.RunRequest(
                run_key=run_key(file),
                partition_key=file.key,
                tags={"shelfwise/etag": file.etag, "shelfwise/vendor": file.vendor_id},
            )
            for file in decision.new
        ]
        return dg.SensorResult(
            run_requests=requests,
            dynamic_partitions_requests=[partitions.build_add_request([file.key for file in decision.new])]
            if decision.new
            else [],
            cursor=encode_cursor(decision.state),
            skip_reason=None if requests else decision.reason,
        )

    return uploads_sensor
