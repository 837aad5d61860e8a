"""Every upload's content and every correction is handled exactly once, whatever happens: randomised histories.

What is driven is the sensors' own code, against a stand-in for Dagster's run storage that does what the daemon was
read to do: requests and cursor are kept together, then runs are submitted one by one, by run key; a tick that died in
between is resumed with what it had asked for, or, where that has become too old, dropped, so that its cursor is lost.
Snapshots are swept as eagerly as the ledger allows.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg
import pytest
from dagster._core.storage.tags import PARTITION_NAME_TAG, RUN_KEY_TAG, SENSOR_NAME_TAG
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st
from upath import UPath

from assets.uploads import upload_files
from sensors import feedback, history, uploads
from shelfwise.contract import ledger as ledger_module
from shelfwise.contract.decide import MAX_ATTEMPTS
from shelfwise.contract.ledger import Ledger
from shelfwise.contract.store import Listing, UploadFile
from shelfwise.feedback.batches import manifest_name

SETTLE = 5.0
LIMIT = 120  # characters of a cursor: two or three files fill it
HISTORIES = settings(
    max_examples=1000,
    deadline=None,
    derandomize=True,
    database=None,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=list(HealthCheck),
)


class Killed(Exception):
    """The process died."""


@dataclass
class Run:
    """A run as the sensors see it."""

    run_id: str
    tags: dict[str, str]
    status: dg.DagsterRunStatus = dg.DagsterRunStatus.STARTED
    step_failed: bool = False
    root_run_id: str | None = None

    @property
    def interrupted(self) -> bool:
        ended = (dg.DagsterRunStatus.CANCELED, dg.DagsterRunStatus.FAILURE)
        return self.status in ended and not self.step_failed


class Runs:
    """A stand-in for a Dagster instance: the part that the sensors ask."""

    def __init__(self) -> None:
        self.all: list[Run] = []
        self.keys: set[str] = set()

    def get_runs(self, filters: dg.RunsFilter, cursor: str | None = None, limit: int | None = None) -> list[Run]:
        found = [run for run in reversed(self.all) if self._fits(run, filters)]
        if cursor is not None:
            found = [run for run in found if int(run.run_id) < int(cursor)]
        return found[:limit]

    def get_run_ids(self, filters: dg.RunsFilter) -> list[str]:
        assert isinstance(filters.updated_after, datetime)
        return [run.run_id for run in self.get_runs(filters)]

    def get_records_for_run(self, run_id: str, of_type: object, limit: int) -> SimpleNamespace:
        run = self.all[int(run_id)]
        return SimpleNamespace(records=["step failed"] if run.step_failed else [])

    def _fits(self, run: Run, filters: dg.RunsFilter) -> bool:
        if filters.run_ids and run.run_id not in filters.run_ids:
            return False
        if filters.statuses and run.status not in filters.statuses:
            return False
        return all(run.tags.get(name) == value for name, value in (filters.tags or {}).items())

    def submit(self, sensor: str, request: dg.RunRequest) -> None:
        """As the daemon: nothing under a run key that is known."""
        if request.run_key in self.keys:
            return
        self.keys.add(str(request.run_key))
        tags = {**request.tags, SENSOR_NAME_TAG: sensor, RUN_KEY_TAG: str(request.run_key)}
        if request.partition_key:
            tags[PARTITION_NAME_TAG] = request.partition_key
        self.all.append(Run(str(len(self.all)), tags))


@dataclass
class Daemon:
    """The daemon, as far as it was read: `cursor` is kept with the sensor, `left` is what a dead tick had asked for."""

    sensor: str
    evaluate: Callable[[str | None], dg.SensorResult]
    runs: Runs
    cursor: str | None = None
    left: tuple[list[dg.RunRequest], str | None] | None = None

    def tick(self, dies_at: int | None, resumed: bool) -> bool:
        """One tick; it dies before its `dies_at`-th submission or, beyond the last, before the cursor is kept. Returns
        whether it came to its end.
        """
        resumes = self.left is not None and resumed
        if self.left is not None and resumed:
            requests, cursor = self.left
        else:
            result = self.evaluate(self.cursor)
            requests, cursor = list(result.run_requests or []), result.cursor
        self.left = (requests, cursor)
        for number, request in enumerate(requests):
            if dies_at == number:
                return False
            self.runs.submit(self.sensor, request)
        if dies_at is not None:
            return False
        self.left, self.cursor = None, cursor
        return not resumes  # one that was resumed asked for what lay there before


@dataclass
class World:
    """What happens around a sensor."""

    lake: UPath
    runs: Runs = field(default_factory=Runs)
    now: float = 1e9
    writes: int = 0
    dies_at_write: tuple[int, bool] | None = None

    def write(self, path: UPath, data: bytes) -> None:
        """`atomic_write_bytes` of a process that may die before or after it."""
        self.writes += 1
        dies = self.dies_at_write
        if dies == (self.writes, False):
            raise Killed
        Path(str(path)).parent.mkdir(parents=True, exist_ok=True)
        Path(str(path)).write_bytes(data)
        if dies == (self.writes, True):
            raise Killed

    def finish(self, how: int) -> None:
        """The oldest unfinished run ends: well, with a failed step, canceled, or killed."""
        for run in self.runs.all:
            if run.status == dg.DagsterRunStatus.STARTED:
                status = dg.DagsterRunStatus
                run.status = [status.SUCCESS, status.FAILURE, status.CANCELED, status.FAILURE][how]
                run.step_failed = how == 1
                return

    def restart(self) -> None:
        """A new process: nothing is remembered but what was written."""
        ledger_module._READ.clear()
        history._VERDICTS.clear()


@pytest.fixture(autouse=True)
def eager_ledger(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_module, "KEPT_SECONDS", -1e12)
    monkeypatch.setattr(ledger_module, "KEPT_LAST", 1)
    for module in (uploads, feedback):
        monkeypatch.setattr(module, "Ledger", lambda root, name: Ledger(root, name, limit=LIMIT))


TICK = st.tuples(
    st.just("tick"),
    st.one_of(st.none(), st.none(), st.tuples(st.integers(1, 2), st.booleans())),  # dies at a write, before or after
    st.one_of(st.none(), st.none(), st.integers(0, 3)),  # dies at a submission
    st.booleans(),  # a tick that died before is resumed
)
COMMON = (
    TICK,
    TICK,
    st.tuples(st.just("finish"), st.integers(0, 3)),
    st.tuples(st.just("restart")),
    st.tuples(st.just("reset")),
    st.tuples(st.just("clock"), st.sampled_from([-1e6, -3.0, 1.0, 6.0, 1e6])),
)
KEYS = st.sampled_from(["v/a.csv", "v/b.csv", "w/a.csv", "w/c.csv"])
CONTENTS = st.sampled_from(["e1", "e2", "e3"])
UPLOADS = st.lists(
    st.one_of(st.tuples(st.just("put"), KEYS, CONTENTS), st.tuples(st.just("delete"), KEYS), *COMMON), max_size=40
)


class Store:
    """The uploads folder, on a disk or in an object store."""

    def __init__(self, local: bool) -> None:
        self.local, self.files, self.made = local, {}, 0

    def put(self, key: str, etag: str, now: float) -> None:
        self.made += 1
        self.files[key] = UploadFile(key, etag, len(etag), now, not self.local, f"m{self.made}" if self.local else "")

    def listing(self, known: dict[str, tuple[str, str]]) -> Listing:
        for key, (mark, etag) in known.items():
            file = self.files.get(key)
            assert not mark or file is None or file.mark != mark or file.etag == etag, "a mark stands for one content"
        return Listing(list(self.files.values()))


def play(world: World, daemon: Daemon, event: tuple[Any, ...]) -> bool:
    """Let one of the common events happen; return whether it was a tick that came to its end."""
    if event[0] == "finish":
        world.finish(event[1])
    elif event[0] == "restart":
        world.restart()
    elif event[0] == "reset":
        daemon.cursor = None
    elif event[0] == "clock":
        world.now += event[1]
    elif event[0] == "tick":
        world.writes, world.dies_at_write = 0, event[1]
        try:
            return daemon.tick(event[2], event[3])
        except Killed:
            world.restart()
            return False
        finally:
            world.dies_at_write = None
    return False


def requests_of(world: World, key: str) -> list[Run]:
    return [run for run in world.runs.all if run.tags[PARTITION_NAME_TAG] == key]


def etag(run: Run) -> str:
    return run.tags["shelfwise/etag"]


@HISTORIES
@given(UPLOADS, st.booleans())
@example(
    # A run was started, its cursor lost for good, and the older content came back.
    [("put", "v/a.csv", "e1"), ("tick", None, None, False), ("put", "v/a.csv", "e2"), ("tick", None, 1, False),
     ("put", "v/a.csv", "e1"), ("tick", None, None, False)],
    False,
)  # fmt: skip
@example(
    # A restart of the whole machine: the run is killed with everything else, and the cursor is new.
    [("put", "v/a.csv", "e1"), ("tick", None, None, False), ("finish", 3), ("restart",), ("reset",)],
    False,
)
def test_every_upload_is_handled_exactly_once(events: list[tuple[Any, ...]], local: bool) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        world, store = World(UPath(folder)), Store(local)
        world.restart()
        patch.setattr(ledger_module, "atomic_write_bytes", world.write)

        def evaluate(cursor: str | None) -> dg.SensorResult:
            where: Any = (world.runs, cursor, store, world.lake, upload_files)
            result = uploads.evaluate(*where, now=world.now, settle_seconds=SETTLE)
            assert result.cursor is not None
            assert len(result.cursor) <= LIMIT
            return result

        daemon = Daemon(uploads.UPLOADS_SENSOR, evaluate, world.runs)

        def check() -> None:
            """After a tick that came to its end: what lies there is what was asked for last, or it still waits."""
            waiting = Ledger(world.lake, uploads.UPLOADS_SENSOR, limit=LIMIT).load(daemon.cursor).pending
            for key, file in store.files.items():
                made = requests_of(world, key)
                assert key in waiting or (made and etag(made[-1]) == file.etag)
                assert not (key in waiting and not local), "an object in a store is whole"

        for event in events:
            if event[0] == "put":
                store.put(*event[1:], world.now)
            elif event[0] == "delete":
                store.files.pop(event[1], None)
            elif play(world, daemon, event):
                check()
        for _ in range(MAX_ATTEMPTS + 2):  # then nothing happens any more, and what waits becomes whole
            while any(run.status == dg.DagsterRunStatus.STARTED for run in world.runs.all):
                world.finish(0)
            world.now += 10
            play(world, daemon, ("tick", None, None, False))
        check()
        for key, file in store.files.items():
            last = requests_of(world, key)[-1]
            assert etag(last) == file.etag
            assert not last.interrupted or last.tags["shelfwise/attempt"] == str(MAX_ATTEMPTS)
        for key in {run.tags[PARTITION_NAME_TAG] for run in world.runs.all}:
            made = requests_of(world, key)
            for before, after in itertools.pairwise(made):
                again = int(after.tags["shelfwise/attempt"])
                if etag(before) == etag(after):
                    assert before.interrupted, "the same content twice, and nothing was wrong with the first run"
                    assert again == int(before.tags["shelfwise/attempt"]) + 1 <= MAX_ATTEMPTS
                else:
                    assert again == 1


ANSWERS = st.lists(
    st.one_of(
        st.tuples(st.just("answer"), st.integers(1, 3)),
        st.tuples(st.just("grow")),
        st.tuples(st.just("remove")),
        *COMMON,
    ),
    max_size=40,
)


@HISTORIES
@given(ANSWERS)
@example(
    # Runs are killed with everything else, the cursor is new, and more answers came.
    [("answer", 3), ("tick", None, 1, False), ("answer", 2), ("reset",), ("tick", None, None, False), ("finish", 3)]
)
def test_every_correction_is_handled_exactly_once(events: list[tuple[Any, ...]]) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        world = World(UPath(folder))
        world.restart()
        patch.setattr(ledger_module, "atomic_write_bytes", world.write)
        inbox = Path(folder) / "feedback"
        inbox.mkdir()
        wrote: list[tuple[str, str]] = []

        def evaluate(cursor: str | None) -> dg.SensorResult:
            result = feedback.evaluate(world.runs, cursor, world.lake)  # type: ignore[arg-type]
            assert result.cursor is not None
            assert len(result.cursor) <= LIMIT
            return result

        daemon = Daemon(feedback.FEEDBACK_SENSOR, evaluate, world.runs)
        book = Ledger(world.lake, feedback.FEEDBACK_SENSOR)

        def asked() -> dict[str, list[tuple[str, str]]]:
            """(name, size) of the files of each batch that a run was started for."""
            batches = dict.fromkeys(run.tags[feedback.BATCH_TAG] for run in world.runs.all)
            manifests = {batch: book.fetch_aside(manifest_name(batch)) for batch in batches}
            return {batch: [(name, size) for name, (size, _) in files.items()] for batch, files in manifests.items()}

        def check() -> None:
            there = {(path.name, str(path.stat().st_size)) for path in inbox.iterdir()}
            assert there <= {file for files in asked().values() for file in files}

        for event in events:
            if event[0] == "answer":
                for _ in range(event[1]):
                    name = f"{len(wrote):08}-0000.json"
                    (inbox / name).write_text("{}")
                    wrote.append((name, "2"))
            elif event[0] == "grow" and wrote and (path := inbox / wrote[-1][0]).exists():
                path.write_text(path.read_text() + " ")
                wrote.append((path.name, str(path.stat().st_size)))
            elif event[0] == "remove" and wrote:
                (inbox / wrote[-1][0]).unlink(missing_ok=True)
            elif play(world, daemon, event):
                check()
        for _ in range(MAX_ATTEMPTS + 2):
            while any(run.status == dg.DagsterRunStatus.STARTED for run in world.runs.all):
                world.finish(0)
            play(world, daemon, ("tick", None, None, False))
        check()
        files = [file for batch in asked().values() for file in batch]
        assert len(files) == len(set(files)), "in two batches"
        runs = world.runs.all
        for before, after in itertools.pairwise(runs):
            if before.tags[feedback.BATCH_TAG] == after.tags[feedback.BATCH_TAG]:
                assert before.interrupted
                assert int(after.tags["shelfwise/attempt"]) == int(before.tags["shelfwise/attempt"]) + 1
        if runs:
            assert not runs[-1].interrupted or runs[-1].tags["shelfwise/attempt"] == str(MAX_ATTEMPTS)
            batches = [run.tags[feedback.BATCH_TAG] for run in runs]
            assert all(batches[i] == batches[i - 1] or batches[i] not in batches[:i] for i in range(1, len(batches)))
