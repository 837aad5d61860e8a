"""`make retrain`: a full training now, through the same job and the same gate as the four-week one."""

from __future__ import annotations

import os
import sys

import dagster as dg

from orchestration.execution import run_job, train_job, warm_up
from orchestration.schedules import CAUSE_TAG


def main() -> int:
    """Train; return the process's exit status, 1 also where the gate refused the candidate."""
    if not os.environ.get("DAGSTER_HOME"):
        print("DAGSTER_HOME is not set; `make retrain` sets it", file=sys.stderr)
        return 2
    warm_up()
    with dg.DagsterInstance.get() as instance:
        outcome = run_job(train_job, instance, {CAUSE_TAG: "by hand"})
    for line in [*outcome.failed_checks, *outcome.failures]:
        print(f"  {line}", file=sys.stderr)
    champion = outcome.metadata.get("matching/champion")
    print(f"Champion: {champion['version']}" if champion else "The champion stays: nothing was promoted")
    print(f"See run {outcome.run_id} in the UI (make dev)")
    return 0 if outcome.success else 1


if __name__ == "__main__":
    raise SystemExit(main())
