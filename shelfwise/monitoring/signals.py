"""Signals: why a champion should be trained anew, one immutable file per cause.

Whoever notices something raises a signal; a sensor reads them and decides (`retrain`). The file's name follows from
what was noticed about which champion, so a cause is raised once, however often and by however many it is noticed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from upath import UPath

from shelfwise import clock
from shelfwise.artifacts import asked_anew, atomic_create_json, content_id

ACCURACY, DRIFT, FRESHNESS = "accuracy", "drift", "freshness"
KINDS = (ACCURACY, DRIFT, FRESHNESS)
FOLDER, CATEGORIES = "signals", "category_signals"  # about the matcher, about what says categories


class SignalError(ValueError):
    """A file among the signals that is none."""


@dataclass(frozen=True)
class Signal:
    """`kind` of thing, its `cause` within that kind, a sentence for people, whom it is about, and when it was seen."""

    id: str
    kind: str
    cause: str
    detail: str
    champion_version: str
    at: datetime

    @classmethod
    def of(cls, kind: str, cause: str, detail: str, champion_version: str, at: datetime | None = None) -> Signal:
        """Return the signal of a cause; its id depends on kind, champion and cause. Raises ValueError for a kind that
        does not exist.
        """
        if kind not in KINDS:
            raise ValueError(f"a signal is of one of the kinds {', '.join(KINDS)}, not {kind!r}")
        return cls(
            content_id("signal", kind, champion_version, cause),
            kind,
            cause,
            detail,
            champion_version,
            at or clock.now(),
        )


def raise_signal(root: UPath | Path | str, signal: Signal, folder: str = FOLDER) -> bool:
    """Write a signal into a folder of the lake; return False, and change nothing, where its cause was raised before."""
    path = UPath(root) / folder / f"{signal.id}.json"
    if asked_anew(path).exists():
        return False
    try:
        atomic_create_json(path, {**asdict(signal), "at": signal.at.isoformat()})
    except FileExistsError:
        return False
    return True


def read_signals(root: UPath | Path | str, problems: list[str] | None = None, folder: str = FOLDER) -> list[Signal]:
    """Return all signals in a folder of the lake, in order of time.

    A file that is no signal is told of in `problems`; without such a list it raises SignalError.
    """
    found = []
    for path, data in _files(asked_anew(UPath(root) / folder)):
        try:
            raw = json.loads(data)
            at = datetime.fromisoformat(raw.pop("at"))
            signal = Signal(**raw, at=at if at.tzinfo else at.replace(tzinfo=UTC))
            if signal.kind not in KINDS:
                raise ValueError(f"kind {signal.kind!r}")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            said = f"{path} is not a signal ({error!r}); delete the file, its cause is raised again if it lasts"
            if problems is None:
                raise SignalError(said) from error
            problems.append(said)
        else:
            found.append(signal)
    return sorted(found, key=lambda signal: (signal.at, signal.id))


def _files(folder: UPath) -> Iterator[tuple[UPath, bytes]]:
    for path in sorted(folder.glob("*.json"), key=str) if folder.exists() else []:
        if not path.name.startswith("."):
            yield path, path.read_bytes()
