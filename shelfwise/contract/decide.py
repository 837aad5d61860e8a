"""Which files are new and whole: a pure function of what is listed now, what was seen before and what became of it.

Shared by the uploads sensor (vendors' files) and the feedback sensor (people's answers). The rules:
- A content (key and etag) is requested once. New content under a known key is requested again, and so is an older
  content that comes back after another: what was made of the one in between is no longer what the file says. Requests
  of a key are counted, because a run key that was used before would start nothing.
- A local file may still be written: it waits until a second look finds the same content and its last change is at
  least `settle_seconds` old (a time in the future, from another clock, is as good as old). Objects in a store appear
  whole and are requested at once.
- A file that was deleted stays known: the same content coming back is not new.
- A listing that failed never gets here (`UploadStore.list` raises), so it cannot read as "everything was deleted".
- A run that was started counts even where the state does not know of it: after a crash between starting a run and
  keeping the cursor, the run is the memory.
- A run that ended without an answer (canceled, or its process killed) is requested again under a key of its own, as
  long as its file is there with the same content, `MAX_ATTEMPTS` times in all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from shelfwise.contract.store import UploadFile

MAX_ATTEMPTS = 3
_SHOWN = 5


class Entry(NamedTuple):
    """What is remembered of a key: the etag requested last, how many requests were made, and the mark (see
    `UploadFile`) under which that content was last found. An etag of None says that nothing stands.
    """

    etag: str | None
    requests: int
    mark: str = ""


class Request(NamedTuple):
    """A request that was made, as the tags of its run tell. `revision`: how many requests of the key came before it.
    `attempt` counts, from 1, the requests of the same content after interruptions.
    """

    key: str
    etag: str
    revision: int
    interrupted: bool = False
    attempt: int = 1


@dataclass(frozen=True)
class SensorState:
    """What a sensor remembers: an entry per key, and (etag, size) of files that wait.

    `snapshot` names the stored part of it (see `ledger`).
    """

    entries: Mapping[str, Entry] = field(default_factory=dict)
    pending: Mapping[str, tuple[str, int]] = field(default_factory=dict)
    snapshot: str | None = None

    def revision(self, key: str) -> int:
        """How many requests of a key came before its last one."""
        return self.entries[key].requests - 1

    @property
    def seen(self) -> dict[str, str]:
        """The etag requested last, by key."""
        return {key: entry.etag for key, entry in self.entries.items() if entry.etag is not None}

    @property
    def marks(self) -> dict[str, tuple[str, str]]:
        """(mark, etag) by key, for `UploadStore.listing`; a store's objects have no mark."""
        return {key: (entry.mark, entry.etag) for key, entry in self.entries.items() if entry.etag is not None}


@dataclass(frozen=True)
class Decision:
    """Files to request now, the state to keep, keys that wait with the reason why, the attempt of each request that is
    not the first for its content, and keys that are not tried again.
    """

    new: list[UploadFile]
    state: SensorState
    waiting: dict[str, str] = field(default_factory=dict)
    attempts: dict[str, int] = field(default_factory=dict)
    given_up: list[str] = field(default_factory=list)

    @property
    def seen(self) -> Mapping[str, str]:
        return self.state.seen

    @property
    def pending(self) -> Mapping[str, tuple[str, int]]:
        return self.state.pending

    @property
    def reason(self) -> str:
        """One line on why nothing (more) was requested."""
        parts = []
        if self.waiting:
            shown = "; ".join(f"{key}: {why}" for key, why in list(self.waiting.items())[:_SHOWN])
            parts.append(f"{len(self.waiting)} file(s) wait until they are whole ({shown})")
        if self.given_up:
            parts.append(
                f"{len(self.given_up)} file(s) are not tried again, their runs were interrupted {MAX_ATTEMPTS} times: "
                f"{', '.join(self.given_up[:_SHOWN])}. Re-execute the last run of each"
            )
        return ". ".join(parts) or f"no new or changed file among {len(self.state.seen)} known"


def decide(
    listed: Iterable[UploadFile],
    state: SensorState,
    *,
    now: float,
    settle_seconds: float = 5.0,
    history: Iterable[Request] = (),
) -> Decision:
    """Decide what to request, by the rules above. `now` is in seconds since 1970; nothing is modified.

    `history`: requests that the state may not know of and those whose runs were interrupted, oldest first. Requests
    that the state knows and that were answered may be among them or not.
    """
    history = list(history)
    entries = dict(learn(state, history).entries)
    interrupted = {(one.key, one.etag, one.revision): one.attempt for one in history if one.interrupted}
    decision = Decision([], state)
    pending: dict[str, tuple[str, int]] = {}
    for file in sorted(listed, key=lambda file: file.key):
        entry = entries.get(file.key, Entry(None, 0))
        if entry.etag == file.etag:
            attempt = interrupted.get((file.key, file.etag, entry.requests - 1))
            if attempt is None or attempt >= MAX_ATTEMPTS:
                if attempt is not None:
                    decision.given_up.append(file.key)
                if file.mark and file.mark != entry.mark:
                    entries[file.key] = entry._replace(mark=file.mark)
                continue
            decision.attempts[file.key] = attempt + 1
        else:
            why = None if file.whole or settle_seconds <= 0 else _unsettled(file, state, now, settle_seconds)
            if why:
                decision.waiting[file.key] = why
                pending[file.key] = (file.etag, file.size)
                continue
        decision.new.append(file)
        entries[file.key] = Entry(file.etag, entry.requests + 1, file.mark)
    return replace(decision, state=replace(state, entries=entries, pending=pending))


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


def learn(state: SensorState, history: Iterable[Request]) -> SensorState:
    """Add requests that were made without the state knowing, oldest first."""
    entries = dict(state.entries)
    for one in history:
        if is_news(state, one) and one.revision >= entries.get(one.key, Entry(None, 0)).requests:
            entries[one.key] = Entry(one.etag, one.revision + 1)
    return replace(state, entries=entries)


def is_news(state: SensorState, request: Request) -> bool:
    """Whether the state does not know of a request that was made."""
    return request.revision >= state.entries.get(request.key, Entry(None, 0)).requests


def remembered(history: Iterable[Request]) -> SensorState:
    """The state behind requests that were made, oldest first: what is known without a cursor."""
    return learn(SensorState(), history)
