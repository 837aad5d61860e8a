"""Runs whose process was killed: nobody reports them as failed unless the next run does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import dagster as dg
import psutil
import pytest

from orchestration import execution
from orchestration.execution import PROCESS_TAG, bury_dead_runs

GONE = 2**22 + 1  # above the largest process id of Linux


@dg.job
def some_job() -> None:
    """Only its records count here."""


@pytest.fixture
def instance(tmp_path: Path):
    # On disk, as slots of pools are kept by the event log of a real instance.
    overrides = {"concurrency": {"pools": {"granularity": "op", "default_limit": 1}}}
    with dg.DagsterInstance.local_temp(str(tmp_path), overrides=overrides) as made:
        yield made


def run_of(instance: dg.DagsterInstance, process: str | None, status: dg.DagsterRunStatus) -> dg.DagsterRun:
    tags = {} if process is None else {PROCESS_TAG: process}
    return instance.create_run_for_job(some_job, tags=tags, status=status)


def process_of(pid: int, created: float) -> str:
    return f"{execution.socket.gethostname()}:{pid}:{created:.0f}"


def test_a_dead_run_fails_and_gives_back_what_it_held(instance: dg.DagsterInstance) -> None:
    run = run_of(instance, process_of(GONE, 1e9), dg.DagsterRunStatus.STARTED)
    storage = instance.event_log_storage
    storage.initialize_concurrency_limit_to_default("gpu")
    assert storage.claim_concurrency_slot("gpu", run.run_id, "train").is_claimed
    assert not storage.claim_concurrency_slot("gpu", "another", "train").is_claimed
    assert bury_dead_runs(instance) == [run.run_id]
    assert instance.get_run_by_id(run.run_id).status == dg.DagsterRunStatus.FAILURE
    assert storage.claim_concurrency_slot("gpu", "another", "train").is_claimed
    assert bury_dead_runs(instance) == []


def test_runs_that_live_or_are_not_ours_to_judge_stay(instance: dg.DagsterInstance) -> None:
    started = dg.DagsterRunStatus.STARTED
    mine = run_of(instance, execution._this_process(), started)
    daemons = run_of(instance, None, started)
    elsewhere = run_of(instance, f"another-machine:{GONE}:1", started)
    done = run_of(instance, process_of(GONE, 1e9), dg.DagsterRunStatus.SUCCESS)
    assert bury_dead_runs(instance) == []
    for run, status in [(mine, started), (daemons, started), (elsewhere, started), (done, dg.DagsterRunStatus.SUCCESS)]:
        assert instance.get_run_by_id(run.run_id).status == status


def test_another_process_under_the_same_number_is_not_the_one(instance: dg.DagsterInstance) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        created = psutil.Process(process.pid).create_time()
        alive = run_of(instance, process_of(process.pid, created), dg.DagsterRunStatus.STARTED)
        older = run_of(instance, process_of(process.pid, created - 1000), dg.DagsterRunStatus.STARTED)
        assert bury_dead_runs(instance) == [older.run_id]
        process.kill()
        process.wait()
    assert bury_dead_runs(instance) == [alive.run_id]
