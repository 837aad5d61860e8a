"""How much of a run is the work itself, and how much is process starts, imports, input and output."""

from __future__ import annotations

import time
from collections.abc import Iterable


class DomainClock:
    """Context manager that records when domain functions ran (epoch seconds); may be entered several times."""

    def __init__(self) -> None:
        self.intervals: list[tuple[float, float]] = []
        self._started = 0.0

    def __enter__(self) -> DomainClock:
        self._started = time.time()
        return self

    def __exit__(self, *exc: object) -> None:
        self.intervals.append((self._started, time.time()))

    def add(self, seconds: float) -> None:
        """Count work of another process that ended just now and says itself how long it took."""
        now = time.time()
        self.intervals.append((now - seconds, now))

    @property
    def seconds(self) -> float:
        """Seconds spent inside, over all intervals."""
        return sum(end - start for start, end in self.intervals)


def covered_seconds(intervals: Iterable[tuple[float, float]]) -> float:
    """Length of the union of intervals, in seconds: steps that ran side by side count once."""
    total, reach = 0.0, float("-inf")
    for start, end in sorted(intervals):
        total += max(0.0, end - max(start, reach))
        reach = max(reach, end)
    return total
