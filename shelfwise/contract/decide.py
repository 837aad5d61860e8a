"""Which uploaded files are new and whole: a pure function of what is listed now and what was seen before.

The rules:
- A content (key and etag) is requested once. New content under a known key is requested again.
- A local file may still be written: it waits until a second look finds the same content and its last change is at
  least `settle_seconds` old (a time in the future, from another clock, is as good as old). Objects in a store appear
  whole and are requested at once.
- A file that was deleted stays known: the same content coming back is not new.
- A listing that failed never gets here (`UploadStore.list` raises), so it cannot read as "everything was deleted".
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from shelfwise.contract.store import UploadFile

CURSOR_VERSION = 1


class CursorError(ValueError):
    """A cursor that this code cannot read. Starting over instead of raising would hide why it is broken."""


@dataclass(frozen=True)
class SensorState:
    """What the sensor remembers: the last requested etag per key, and (etag, size) of files that wait."""

    seen: Mapping[str, str] = field(default_factory=dict)
    pending: Mapping[str, tuple[str, int]] = field(default_factory=dict)


@dataclass(frozen=True)
class Decision:
    """Files to request now, the state to keep, keys that wait with the reason why."""

    new: list[UploadFile]
    state: SensorState
    waiting: dict[str, str]

    @property
    def seen(self) -> Mapping[str, str]:
        return self.state.seen

    @property
    def pending(self) -> Mapping[str, tuple[str, int]]:
        return self.state.pending

    @property
    def reason(self) -> str:
        """One line on why nothing (more) was requested."""
        if self.waiting:
            shown = "; ".join(f"{key}: {why}" for key, why in list(self.waiting.items())[:5])
            return f"{len(self.waiting)} file(s) wait until they are whole ({shown})"
        return f"no new or changed file among {len(self.state.seen)} known"


def decide(listed: Iterable[UploadFile], state: SensorState, *, now: float, settle_seconds: float = 5.0) -> Decision:
    """Decide what to request, by the rules above. `now` is in seconds since 1970; nothing is modified."""
    seen, pending = dict(state.seen), {}
    new: list[UploadFile] = []
    waiting: dict[str, str] = {}
    for file in sorted(listed, key=lambda file: file.key):
        if seen.get(file.key) == file.etag:
            continue
        why = None if file.whole or settle_seconds <= 0 else _unsettled(file, state, now, settle_seconds)
        if why:
            waiting[file.key] = why
            pending[file.key] = (file.etag, file.size)
        else:
            new.append(file)
            seen[file.key] = file.etag
    return Decision(new, SensorState(seen, pending), waiting)


def _unsettled(file: UploadFile, state: SensorState, now: float, settle_seconds: float) -> str | None:
    before = state.pending.get(file.key)
    if before is None:
        return "first seen now"
    if tuple(before) != (file.etag, file.size):
        return "changed since the last look"
    age = now - file.modified
    if 0 <= age < settle_seconds:
        return f"changed {age:.0f} s ago"
    return None


def run_key(file: UploadFile) -> str:
    """What Dagster remembers a run by: one per content."""
    return f"{file.key}:{file.etag}"


def encode_cursor(state: SensorState) -> str:
    """The state as text, the same text for the same state."""
    pending = {key: list(value) for key, value in state.pending.items()}
    return json.dumps({"version": CURSOR_VERSION, "seen": dict(state.seen), "pending": pending}, sort_keys=True)


def decode_cursor(cursor: str | None) -> SensorState:
    """The state behind a cursor; none (a sensor that never ran) is the empty state.

    Raises CursorError for anything else that `encode_cursor` did not write. Resetting the cursor in the UI is safe:
    every file is requested again, and Dagster skips the run keys it knows.
    """
    if not cursor:
        return SensorState()
    try:
        value = json.loads(cursor)
        if value["version"] != CURSOR_VERSION:
            raise ValueError(f"version {value['version']}, not {CURSOR_VERSION}")
        seen = {_text(key): _text(etag) for key, etag in value["seen"].items()}
        pending = {_text(key): (_text(etag), int(size)) for key, (etag, size) in value["pending"].items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CursorError(
            f"the uploads sensor cannot read its cursor ({error!r}). Reset the cursor in the UI: files that were "
            "processed are not processed again"
        ) from error
    return SensorState(seen, pending)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not text")
    return value
