"""Which uploaded files are new and whole: a pure function of what is listed now and what was seen before.

The rules:
- A content (key and etag) is requested once. New content under a known key is requested again, and so is an older
  content that comes back after another: what was made of the one in between is no longer what the file says. Requests
  of a key are counted, because a run key that was used before would start nothing.
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
    """What the sensor remembers: the last requested etag per key, (etag, size) of files that wait, and how many
    requests were made per key.
    """

    seen: Mapping[str, str] = field(default_factory=dict)
    pending: Mapping[str, tuple[str, int]] = field(default_factory=dict)
    requests: Mapping[str, int] = field(default_factory=dict)

    def revision(self, key: str) -> int:
        """How many requests of a key came before its last one."""
        return self.requests[key] - 1


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
    seen, pending, requests = dict(state.seen), {}, dict(state.requests)
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
            requests[file.key] = requests.get(file.key, 0) + 1
    return Decision(new, SensorState(seen, pending, requests), waiting)


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


def run_key(file: UploadFile, revision: int = 0) -> str:
    """What Dagster remembers a run by: one per content and appearance, the same when a tick is evaluated again."""
    return f"{file.key}:{file.etag}:r{revision}" if revision else f"{file.key}:{file.etag}"


def remembered(requests: Iterable[tuple[str, str | None, int]]) -> SensorState:
    """The state behind requests that were made: (key, etag, revision), oldest first.

    An etag of None stands for a request that came to nothing because its run was interrupted: the file counts as
    unseen, and its next request gets a run key of its own.
    """
    seen: dict[str, str] = {}
    counts: dict[str, int] = {}
    for key, etag, revision in requests:
        seen.pop(key, None)
        if etag is not None:
            seen[key] = etag
        counts[key] = max(revision + 1, counts.get(key, 0))
    return SensorState(seen, {}, counts)


def encode_cursor(state: SensorState) -> str:
    """The state as text, the same text for the same state."""
    pending = {key: list(value) for key, value in state.pending.items()}
    value = {"version": CURSOR_VERSION, "seen": dict(state.seen), "pending": pending, "requests": dict(state.requests)}
    return json.dumps(value, sort_keys=True)


def decode_cursor(cursor: str | None) -> SensorState:
    """The state behind a cursor; none (a sensor that never ran) is the empty state.

    Raises CursorError for anything else that `encode_cursor` did not write. Resetting the cursor in the UI is safe:
    the sensor then remembers by the runs it started (`remembered`).
    """
    if not cursor:
        return SensorState()
    try:
        value = json.loads(cursor)
        if value["version"] != CURSOR_VERSION:
            raise ValueError(f"version {value['version']}, not {CURSOR_VERSION}")
        seen = {_text(key): _text(etag) for key, etag in value["seen"].items()}
        pending = {_text(key): (_text(etag), int(size)) for key, (etag, size) in value["pending"].items()}
        requests = {_text(key): int(number) for key, number in value["requests"].items()}
        if not seen.keys() <= requests.keys():
            raise ValueError("files were seen that were never requested")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CursorError(
            f"the uploads sensor cannot read its cursor ({error!r}). Reset the cursor in the UI: files that were "
            "processed are not processed again"
        ) from error
    return SensorState(seen, pending, requests)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not text")
    return value
