"""Which files of the inbox are new, and the run they are for: each file once, all new ones of a moment together.

A run reads the whole inbox, so one that is interrupted is made good by any later one; if there is none, it is asked
for again. What a run is for is kept below the ledger before the run is asked for, `batches/<id>.json`: after a crash,
or when the cursor was reset, the runs and these files are the memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from shelfwise.artifacts import content_id
from shelfwise.contract.decide import MAX_ATTEMPTS, Entry, Request, SensorState, decide, is_news, learn
from shelfwise.contract.store import UploadFile

# The entry under which the state counts batches: no file of the inbox has this name.
LATEST = "latest batch"
Batch = Mapping[str, tuple[str, int]]


@dataclass(frozen=True)
class FeedbackDecision:
    """The run to ask for now (none where `batch` is None), the files it is for, and the state to keep."""

    state: SensorState
    reason: str
    batch: str | None = None
    files: Batch | None = None
    attempt: int = 1

    @property
    def run_key(self) -> str:
        """What Dagster remembers the run by: the same when a tick is evaluated again."""
        return f"feedback:{self.batch}:r{self.state.revision(LATEST)}"

    @property
    def manifest(self) -> dict[str, list]:
        """The files of the batch as they are kept: (size, revision) by name."""
        return {name: list(entry) for name, entry in (self.files or {}).items()}


def manifest_name(batch: str) -> str:
    """Where a batch's files are kept below the ledger."""
    return f"batches/{batch}.json"


def decide_feedback(
    listed: Iterable[UploadFile],
    state: SensorState,
    history: Iterable[Request] = (),
    files_of: Callable[[str], Mapping[str, Iterable] | None] = lambda batch: None,
) -> FeedbackDecision:
    """Decide which run to ask for. `history`: requests of batches (key `LATEST`, etag its id) as for
    `decide.decide`; `files_of` gives the manifest of a batch, None where it is lost: its files are taken once more.
    """
    history = list(history)
    for one in history:
        if is_news(state, one):
            files = {name: tuple(entry) for name, entry in (files_of(one.etag) or {}).items()}
            state = learn(state, [Request(name, etag, revision) for name, (etag, revision) in files.items()])
            state = learn(state, [one])
    latest = state.entries.get(LATEST, Entry(None, 0))
    decision = decide(listed, state, now=0.0, settle_seconds=0.0)
    if decision.new:
        files = {file.key: (file.etag, decision.state.revision(file.key)) for file in decision.new}
        batch = content_id(sorted(files.items()))
        entry = Entry(batch, latest.requests + 1)
        reason = f"{len(files)} new file(s) with answers"
        return FeedbackDecision(_with(decision.state, entry), reason, batch, files)
    for one in history:
        if one.interrupted and (one.etag, one.revision) == (latest.etag, latest.requests - 1):
            if one.attempt >= MAX_ATTEMPTS:
                told = f"the last run was interrupted {MAX_ATTEMPTS} times and is not tried again: re-execute it"
                return FeedbackDecision(decision.state, told)
            files = {name: tuple(entry) for name, entry in (files_of(one.etag) or {}).items()}
            entry = Entry(one.etag, latest.requests + 1)
            told = "the last run was interrupted"
            return FeedbackDecision(_with(decision.state, entry), told, one.etag, files, one.attempt + 1)
    seen = len(decision.state.entries) - (LATEST in decision.state.entries)
    return FeedbackDecision(decision.state, f"no new answers among {seen} known file(s)")


def _with(state: SensorState, latest: Entry) -> SensorState:
    return replace(state, entries={**state.entries, LATEST: latest})
