"""Runs the asset graph once, through real Dagster runs: `python -m benchmarks.graph REPORT.json`.

The child process of `benchmarks.catalog`. Data directory, lake and DAGSTER_HOME come from the environment, as for any
other use of the project. REPORT.json says what happened; it is written last.
"""

from __future__ import annotations

import sys
import time
from collections import defaultdict
from typing import Any

import dagster as dg

from orchestration.execution import RunOutcome, queue_job, run_job, tick_uploads_sensor, train_job
from orchestration.jobs import TRAIN_JOB, UPLOAD_JOB
from orchestration.settings import load_settings
from shelfwise.artifacts import atomic_write_json
from shelfwise.contract.store import list_rejected
from shelfwise.timing import covered_seconds

QUIET_TICKS = 2  # a file is run at the second look at the earliest, so one tick without a run is not the end


def main(argv: list[str]) -> int:
    """Train and promote, match every upload, collect the review queue; return the exit status."""
    (report,) = argv
    settings, started = load_settings(), time.time()
    with dg.DagsterInstance.get() as instance:
        trained = run_job(train_job, instance, {"shelfwise/benchmark": "train"})
        uploads: list[RunOutcome] = []
        if trained.success:
            uploads = _run_uploads(instance)
            run_job(queue_job, instance, {"shelfwise/benchmark": "queue"})
        found: dict[str, Any] = {
            "promoted": trained.success,
            "reasons": [*trained.failed_checks, *trained.failures],
            "upload_failures": [reason for outcome in uploads for reason in outcome.failures],
            "set_aside": [entry.get("key", "") for entry in list_rejected(settings.lake_url)],
            "seconds": time.time() - started,
            **_stages(instance),
        }
    atomic_write_json(report, found)
    return 0 if trained.success else 1


def _run_uploads(instance: dg.DagsterInstance) -> list[RunOutcome]:
    """Tick the uploads sensor until it asks for nothing any more."""
    cursor, outcomes, quiet = None, [], 0
    while quiet < QUIET_TICKS:
        cursor, ran, _ = tick_uploads_sensor(instance, cursor)
        outcomes += ran
        quiet = 0 if ran else quiet + 1
    return outcomes


def _stages(instance: dg.DagsterInstance) -> dict[str, Any]:
    """Return seconds by stage over all runs, with those inside domain functions, and how often training was begun."""
    seconds: dict[str, float] = defaultdict(float)
    domain: dict[str, float] = defaultdict(float)
    jobs: dict[str, int] = defaultdict(int)
    for record in instance.get_run_records():
        run = record.dagster_run
        jobs[run.job_name] += 1
        for step in instance.get_run_step_stats(run.run_id):
            if step.start_time and step.end_time:
                seconds[step.step_key.replace("__", "/")] += step.end_time - step.start_time
        for entry in instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION):
            event = entry.dagster_event
            if event is None:
                continue
            materialization = event.step_materialization_data.materialization
            intervals = getattr(materialization.metadata.get("domain_intervals"), "data", None) or []
            domain[materialization.asset_key.to_user_string()] += covered_seconds(tuple(pair) for pair in intervals)
    return {
        "stage_seconds": dict(seconds),
        "domain_seconds": dict(domain),
        "train_runs": jobs[TRAIN_JOB],
        "upload_runs": jobs[UPLOAD_JOB],
    }


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
