"""`python -m tests.end_to_end.driver OUT COMMAND...`: run jobs as the demo does, and write their outcomes."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import dagster as dg

from orchestration.daemon import Daemon
from orchestration.execution import RunOutcome, build_job, job_named, queue_job, run_job, tick_uploads_sensor
from orchestration.jobs import EVALUATE_JOB, FEEDBACK_JOB
from tests.end_to_end.jobs import after_raw_job

JOBS = {
    "build": build_job,
    "after_raw": after_raw_job,
    "queue": queue_job,
    "evaluate": job_named(EVALUATE_JOB),
    "feedback": job_named(FEEDBACK_JOB),
}


def main(out: str, *commands: str) -> int:
    """Run the commands in order: a job of `JOBS`, `uploads`, which ticks the sensor until it asks for nothing, or
    `follow`, which does what the automation conditions ask for.
    """
    outcomes = []

    def keep(job: str, outcome: RunOutcome) -> None:
        metadata = {
            key: {name: value for name, value in values.items() if isinstance(value, str | int | float | None)}
            for key, values in outcome.metadata.items()
        }
        outcomes.append({"job": job, **vars(outcome), "metadata": metadata})

    with dg.DagsterInstance.get() as instance:
        for command in commands:
            if command == "follow":
                for outcome in Daemon(instance).follow().outcomes:
                    keep(command, outcome)
                continue
            if command != "uploads":
                keep(command, run_job(JOBS[command], instance))
                continue
            cursor, ran, _ = tick_uploads_sensor(instance, None)
            while ran:
                for outcome in ran:
                    keep(command, outcome)
                cursor, ran, _ = tick_uploads_sensor(instance, cursor)
    Path(out).write_text(json.dumps(outcomes, default=str))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
