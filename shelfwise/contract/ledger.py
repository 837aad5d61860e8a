"""What a sensor remembers, in a cursor of bounded size however many files it has seen.

The cursor names an immutable snapshot in the lake, `<lake>/sensors/<sensor>/<content id>.json.gz`, and holds what came
after it. When that grows over `LIMIT` characters, everything goes into a new snapshot, which is written before the
cursor that names it exists: a crash in between leaves the old cursor with its old snapshot, and the next tick decides
the same again. Snapshots that no cursor needs are removed a day later.
"""

from __future__ import annotations

import gzip
import json
import time
import zlib
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from upath import UPath

from shelfwise.artifacts import asked_anew, atomic_write_bytes, content_id
from shelfwise.contract.decide import Entry, SensorState
from shelfwise.contract.storage import modified_of

VERSION = 2
LIMIT = 4_000
KEPT_SECONDS = 24 * 3600.0
KEPT_LAST = 10
ENDING = ".json.gz"
# Snapshots never change; a sensor's process reads each once.
_READ: OrderedDict[str, SensorState] = OrderedDict()
_READ_KEPT = 4


class CursorError(ValueError):
    """A cursor that this code cannot read. Starting over instead of raising would hide why it is broken."""


class Ledger:
    """The memory of the sensor `name` below `root`, the lake. `limit`: the longest cursor, in characters."""

    def __init__(self, root: UPath | Path | str, name: str, limit: int = LIMIT):
        self.folder, self.name, self.limit = UPath(root) / "sensors" / name, name, limit

    def load(self, cursor: str | None) -> SensorState:
        """Return the state behind a cursor; none (a sensor that never ran) is the empty state.

        Raises CursorError where the cursor is not one of this ledger's, or its snapshot is missing or damaged. To
        reset the cursor in the UI is safe: the sensor then remembers by the runs it started (`decide.remembered`).
        """
        if not cursor:
            return SensorState()
        try:
            value = json.loads(cursor)
            if value["version"] == 1:
                return _version_1(value)
            if value["version"] != VERSION:
                raise ValueError(f"version {value['version']}, not {VERSION}")
            snapshot = None if value["snapshot"] is None else _text(value["snapshot"])
            recent = _entries(value["recent"])
            pending = None if value["pending"] is None else _pending(value["pending"])
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise self._unreadable(f"cannot read its cursor ({error!r})") from error
        base = self._snapshot(snapshot)
        return SensorState({**base.entries, **recent}, base.pending if pending is None else pending, snapshot)

    def save(self, state: SensorState) -> str:
        """Return the cursor for a state, after writing a snapshot where it would grow over the limit."""
        base = self._snapshot(state.snapshot)
        recent = {key: entry for key, entry in state.entries.items() if base.entries.get(key) != entry}
        pending = None if dict(state.pending) == dict(base.pending) else dict(state.pending)
        cursor = _dump({"version": VERSION, "snapshot": state.snapshot, "recent": recent, "pending": pending})
        if len(cursor) <= self.limit:
            return cursor
        snapshot = self._write(state)
        return _dump({"version": VERSION, "snapshot": snapshot, "recent": {}, "pending": None})

    def put_aside(self, name: str, value: object) -> None:
        """Keep a small JSON value below the ledger under a name that stands for its content."""
        atomic_write_bytes(self.folder / name, _dump(value).encode())

    def fetch_aside(self, name: str) -> Any | None:
        """Return what `put_aside` kept, None where it is missing or damaged."""
        try:
            return json.loads((self.folder / name).read_bytes())
        except (FileNotFoundError, ValueError):
            return None

    def _path(self, snapshot: str) -> UPath:
        return self.folder / f"{snapshot}{ENDING}"

    def _snapshot(self, snapshot: str | None) -> SensorState:
        if snapshot is None:
            return SensorState()
        path = self._path(snapshot)
        if str(path) in _READ:
            _READ.move_to_end(str(path))
            return _READ[str(path)]
        if not snapshot.isalnum():
            raise self._unreadable(f"names no snapshot by {snapshot[:40]!r}")
        try:
            data = gzip.decompress(path.read_bytes())
            if content_id(data) != snapshot:
                raise ValueError("its content is not what its name says")
            value = json.loads(data)
            state = SensorState(_entries(value["entries"]), _pending(value["pending"]), snapshot)
        except FileNotFoundError:
            raise self._unreadable(f"misses the snapshot that its cursor names: {path} was removed") from None
        except (ValueError, KeyError, TypeError, AttributeError, EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise self._unreadable(f"cannot read the snapshot {path} ({error!r})") from error
        self._remember(path, state)
        return state

    def _write(self, state: SensorState) -> str:
        data = _dump({"entries": dict(state.entries), "pending": dict(state.pending)}).encode()
        snapshot = content_id(data)
        path = self._path(snapshot)
        atomic_write_bytes(path, gzip.compress(data, compresslevel=1, mtime=0))
        self._remember(path, SensorState(dict(state.entries), dict(state.pending), snapshot))
        self._sweep({snapshot, state.snapshot})
        return snapshot

    def _remember(self, path: UPath, state: SensorState) -> None:
        _READ[str(path)] = state
        while len(_READ) > _READ_KEPT:
            _READ.popitem(last=False)

    def _sweep(self, needed: set[str | None]) -> None:
        """Remove snapshots over a day old, but not the last ones nor those needed.

        Times are the store's; one in the future, after a clock was set back, is as good as now. What cannot be removed
        now is removed another time.
        """
        folder, now = asked_anew(self.folder), time.time()
        try:
            found = [info for info in folder.fs.ls(folder.path, detail=True) if info["name"].endswith(ENDING)]
            found.sort(key=modified_of, reverse=True)
            for info in found[KEPT_LAST:]:
                snapshot = info["name"].rpartition("/")[2].removesuffix(ENDING)
                if snapshot not in needed and now - modified_of(info) > KEPT_SECONDS:
                    folder.fs.rm_file(info["name"])
        except OSError:
            return

    def _unreadable(self, why: str) -> CursorError:
        return CursorError(
            f"{self.name} {why}. Reset the cursor in the UI: files that were processed are not processed again"
        )


def _dump(value: object) -> str:
    """JSON, the same text for the same value."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _entries(value: Mapping[str, Any]) -> dict[str, Entry]:
    made = {}
    for key, (etag, requests, mark) in value.items():
        made[key] = Entry(etag if etag is None else _text(etag), int(requests), _text(mark))
    return made


def _pending(value: Mapping[str, Any]) -> dict[str, tuple[str, int]]:
    return {key: (_text(etag), int(size)) for key, (etag, size) in value.items()}


def _version_1(value: Mapping[str, Any]) -> SensorState:
    """The state behind a cursor of the first kind, which held everything."""
    seen = {key: _text(etag) for key, etag in value["seen"].items()}
    requests = {key: int(number) for key, number in value["requests"].items()}
    if not seen.keys() <= requests.keys():
        raise ValueError("files were seen that were never requested")
    return SensorState({key: Entry(seen.get(key), n) for key, n in requests.items()}, _pending(value["pending"]))


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not text")
    return value
