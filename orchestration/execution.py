"""Running jobs from Python on the persistent instance, each step in its own process, with readable progress.

The demo and the benchmarks use this; in production the daemon and the run launcher do the same.
"""

from __future__ import annotations

import multiprocessing
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import forkserver
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from uuid import uuid4

import dagster as dg
import psutil
from dagster._core.definitions.reconstruct import ReconstructableJob
from dagster._core.storage.dagster_run import FINISHED_STATUSES
from dagster._core.storage.tags import PARTITION_NAME_TAG, RUN_KEY_TAG, SENSOR_NAME_TAG

from orchestration.definitions import PRELOAD, build_definitions
from orchestration.jobs import BUILD_JOB, CATEGORIES_JOB, QUEUE_JOB, TRAIN_JOB, TRAINING_STEPS, UPLOAD_JOB
from orchestration.settings import load_settings
from resources.build import build_resources
from sensors.uploads import UPLOADS_SENSOR
from shelfwise.timing import covered_seconds

if TYPE_CHECKING:
    from collections.abc import Generator

GATE = ": better_than_"  # in a failed check: that of a gate
POLL_SECONDS = 0.5
PROCESS_TAG = "shelfwise/process"
# How the log of a step begins where it is not about the work: Pipes, and Dagster's IO managers.
PLUMBING = ("[pipes]", "Loading file from", "Writing file at")


def resolved_job(name: str) -> dg.JobDefinition:
    """A job of the code location, resolved."""
    return build_definitions(load_settings()).resolve_job_def(name)


def job_named(name: str) -> ReconstructableJob:
    """A job by its name, in the form that step processes can build again."""
    return dg.build_reconstructable_job("orchestration.execution", "resolved_job", (name,))


def train_job() -> dg.JobDefinition:
    """`train_and_promote`, resolved; a module-level function so that step processes can build it again."""
    return resolved_job(TRAIN_JOB)


def build_job() -> dg.JobDefinition:
    """`build_everything`, resolved."""
    return resolved_job(BUILD_JOB)


def categories_job() -> dg.JobDefinition:
    """`classify_upload`, resolved."""
    return resolved_job(CATEGORIES_JOB)


def upload_job() -> dg.JobDefinition:
    """`match_upload`, resolved."""
    return resolved_job(UPLOAD_JOB)


def queue_job() -> dg.JobDefinition:
    """`refresh_queues`, resolved."""
    return resolved_job(QUEUE_JOB)


def warm_up() -> None:
    """Start the fork server of the steps, so that it makes its imports while this process makes its own."""
    with quiet(print):
        # By the names under which the executor will ask for it, so that it finds this one.
        multiprocessing.set_forkserver_preload(["dagster._core.executor.multiprocess", *PRELOAD])
        forkserver.ensure_running()


@dataclass
class RunOutcome:
    """What a run left behind: metadata by asset, check results, failures."""

    success: bool
    run_id: str
    metadata: dict[str, dict[str, Any]] = field(default_factory=dict)
    failed_checks: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    intervals: list[tuple[float, float]] = field(default_factory=list)

    @property
    def refusals(self) -> list[str]:
        """The failed checks that are gates, which refused a candidate."""
        return [check for check in self.failed_checks if GATE in check]


def run_job(
    job: Callable[[], dg.JobDefinition] | ReconstructableJob,
    instance: dg.DagsterInstance,
    tags: Mapping[str, str] | None = None,
    say: Callable[[str], None] = print,
    run_config: Mapping[str, Any] | None = None,
    assets: Sequence[dg.AssetKey] | None = None,
) -> RunOutcome:
    """Execute a job to its end and return what it left; a failed step is an outcome, not an exception.

    `assets`: the part of the job's assets to make; all of them where nothing is said.
    """
    bury_dead_runs(instance)
    marker = uuid4().hex
    with quiet(say) as say, _progress(instance, marker, say):
        result = dg.execute_job(
            job if isinstance(job, ReconstructableJob) else dg.reconstructable(job),
            instance=instance,
            run_config={**(run_config or {}), "loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
            asset_selection=assets,
            tags={**(tags or {}), "shelfwise/started_by": marker, **process_tag()},
        )
    return outcome_of(instance, result.run_id, result.success)


def bury_dead_runs(instance: dg.DagsterInstance) -> list[str]:
    """Report the runs of `run_job` whose process was killed as failed, and free the pools they held; return their ids.

    Without it such a run counts as started for ever, and the next training waits for the killed one's place.
    """
    unfinished = dg.RunsFilter(statuses=[s for s in dg.DagsterRunStatus if s not in FINISHED_STATUSES])
    dead = [run for run in instance.get_runs(filters=unfinished) if _is_dead(run.tags.get(PROCESS_TAG, ""))]
    for run in dead:
        instance.report_run_failed(run, "The process that executed this run was killed.")
        instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)
    return [run.run_id for run in dead]


def process_tag() -> dict[str, str]:
    """The tag that says which process executes a run, for `bury_dead_runs`."""
    return {PROCESS_TAG: _this_process()}


def _this_process() -> str:
    process = psutil.Process()
    return f"{socket.gethostname()}:{process.pid}:{process.create_time():.0f}"


def _is_dead(process: str) -> bool:
    """Whether a process named by `_this_process` is known to be gone; one of another machine is not."""
    host, _, rest = process.partition(":")
    if host != socket.gethostname():
        return False
    pid, _, created = rest.partition(":")
    try:
        # The clock may have been set since: a process that took over the number was started long after.
        return abs(psutil.Process(int(pid)).create_time() - float(created)) > 5
    except psutil.NoSuchProcess:
        return True


def outcome_of(instance: dg.DagsterInstance, run_id: str, success: bool) -> RunOutcome:
    """Read from the log of a finished run what it left behind."""
    outcome = RunOutcome(success, run_id)
    for entry in instance.all_logs(run_id):
        event = entry.dagster_event
        if event is None:
            continue
        if event.is_step_materialization:
            materialization = event.step_materialization_data.materialization
            values = {name: getattr(value, "value", value) for name, value in materialization.metadata.items()}
            values["partition"] = materialization.partition
            outcome.metadata[materialization.asset_key.to_user_string()] = values
            outcome.intervals += [tuple(pair) for pair in _json(materialization.metadata.get("domain_intervals"))]
        elif event.event_type == dg.DagsterEventType.ASSET_CHECK_EVALUATION:
            evaluation = event.asset_check_evaluation_data
            outcome.intervals += [tuple(pair) for pair in _json(evaluation.metadata.get("domain_intervals"))]
            if not evaluation.passed and evaluation.severity == dg.AssetCheckSeverity.ERROR:
                name = f"{evaluation.asset_key.to_user_string()}: {evaluation.check_name}"
                outcome.failed_checks.append(f"{name}: {evaluation.description or ''}")
        elif event.is_step_failure:
            outcome.failures.append(f"{event.step_key}: {_why(event.step_failure_data)}")
    return outcome


def _why(failure: object) -> str:
    """The reason a person can act on: what the asset said, else the first cause of the exception."""
    said = getattr(failure, "user_failure_data", None)
    if said is not None and said.description:
        return said.description.strip()
    error = getattr(failure, "error", None)
    while error is not None and error.cause is not None:
        error = error.cause
    return error.message.strip() if error is not None else "no reason was given"


def _json(value: object) -> list:
    data = getattr(value, "data", None)
    return data if isinstance(data, list) else []


@contextmanager
def quiet(say: Callable[[str], None]) -> Generator[Callable[[str], None]]:
    """Send what libraries and child processes print to a file beside the runs; yield a `say` that still shows.

    At the level of file descriptors, because steps are processes of their own and write there directly.
    """
    log = Path(os.environ.get("DAGSTER_HOME", ".")) / "output.log"
    sys.stdout.flush()
    shown = os.dup(1), os.dup(2)
    with log.open("ab") as file, os.fdopen(os.dup(shown[0]), "w", buffering=1) as terminal:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        try:
            yield (lambda text: print(text, file=terminal)) if say is print else say
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for number, original in enumerate(shown, start=1):
                os.dup2(original, number)
                os.close(original)


@contextmanager
def _progress(instance: dg.DagsterInstance, marker: str, say: Callable[[str], None]) -> Generator[None]:
    """Say what the run marked with `marker` does while it does it, from a thread of its own."""
    finished = threading.Event()

    def watch() -> None:
        seen = 0
        while True:
            last = finished.is_set()
            runs = instance.get_runs(filters=dg.RunsFilter(tags={"shelfwise/started_by": marker}), limit=1)
            if runs:
                entries = instance.all_logs(runs[0].run_id)
                for entry in entries[seen:]:
                    _say(entry, say)
                seen = len(entries)
            if last:
                return
            finished.wait(POLL_SECONDS)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        finished.set()
        thread.join()


def _say(entry: dg.EventLogEntry, say: Callable[[str], None]) -> None:
    event = entry.dagster_event
    if event is None:
        # What the training process reports through Pipes: losses, validation, time left.
        if entry.step_key in TRAINING_STEPS and not entry.user_message.startswith(PLUMBING):
            say(f"      {entry.user_message}")
        return
    name = (event.step_key or "").replace("__", "/")
    if event.is_step_success:
        say(f"   ✓ {name} ({event.step_success_data.duration_ms / 1000:.1f} s)")
    elif event.is_step_failure:
        say(f"   ✗ {name}")


def tick_uploads_sensor(
    instance: dg.DagsterInstance, cursor: str | None, say: Callable[[str], None] = print
) -> tuple[str | None, list[RunOutcome], str | None]:
    """Evaluate the uploads sensor once, as the daemon does, and execute the runs it asks for.

    A request whose run key already has a run is skipped, by the rule the daemon applies, so that the daemon will not
    repeat what this did nor this what the daemon did. Returns the new cursor, the outcomes, and why nothing ran.
    """
    bury_dead_runs(instance)
    settings = load_settings()
    sensor = build_definitions(settings).get_repository_def().get_sensor_def(UPLOADS_SENSOR)
    available = build_resources(settings)
    resources = {name: available[name] for name in sensor.required_resource_keys}
    with dg.build_sensor_context(instance=instance, cursor=cursor, resources=resources) as context:
        tick = cast("dg.SensorResult", sensor(context))
    for request in tick.dynamic_partitions_requests or []:
        instance.add_dynamic_partitions(request.partitions_def_name, list(request.partition_keys))
    outcomes: list[RunOutcome] = []
    skipped = 0
    for request in tick.run_requests or []:
        tags = {SENSOR_NAME_TAG: UPLOADS_SENSOR, RUN_KEY_TAG: str(request.run_key)}
        if instance.get_runs(filters=dg.RunsFilter(tags=tags), limit=1):
            skipped += 1
            continue
        say(f"   the uploads sensor saw {request.partition_key}")
        tags = {**request.tags, **tags, PARTITION_NAME_TAG: str(request.partition_key)}
        outcomes.append(run_job(upload_job, instance, tags, say))
    reason = tick.skip_reason.skip_message if isinstance(tick.skip_reason, dg.SkipReason) else tick.skip_reason
    if skipped:
        reason = f"{skipped} file(s) were matched before"
    return tick.cursor, outcomes, reason


def overhead(outcomes: list[RunOutcome], started: float) -> tuple[float, float]:
    """Return (seconds since `started`, seconds of them outside domain functions: processes, imports, input, output)."""
    whole = time.time() - started
    return whole, whole - covered_seconds(interval for outcome in outcomes for interval in outcome.intervals)
