"""Whether to train anew now: a pure function of the signals, of what was requested before, and of the time.

The rules:
- A cause asks once, ever. What was requested is remembered by the runs themselves.
- Between two requests lie at least `min_days`, whatever their causes. One request answers every signal that waits.
- A signal about a champion that is no longer in production asks for nothing: its successor is not what was noticed.
- Clocks jump. A request that lies in the future was made by a clock that was wrong: it counts as made when it is first
  seen. That is remembered (`Decision.noticed`), or it would be made anew at every look, and nothing would be requested
  before that future has come.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from shelfwise.monitoring.signals import Signal


@dataclass(frozen=True)
class RetrainDecision:
    """What to request now: the signals that one retrain answers, oldest first, none if empty.

    `reason`: one sentence for people. `possible_at`: from when on a request can be made. `noticed`: requests of a wrong
    clock and when they were first seen, for the next decision.
    """

    signals: tuple[Signal, ...]
    reason: str
    possible_at: datetime
    noticed: Mapping[str, datetime] = field(default_factory=dict)


def decide_retrain(
    signals: Iterable[Signal],
    requested: Mapping[str, datetime],
    now: datetime,
    min_days: float,
    champion: str | None = None,
    noticed: Mapping[str, datetime] | None = None,
) -> RetrainDecision:
    """Decide by the rules above. `requested`: when each signal (by id) was requested. `champion`: the version in
    production; None takes signals about any. `noticed`: that of the decision before. All times with a time zone.
    """
    signals = sorted(signals, key=lambda signal: (signal.at, signal.id))
    corrected = _corrected(requested, now, timedelta(days=min_days), noticed or {})
    times = [corrected.get(name, at) for name, at in requested.items()]
    possible_at = max(times) + timedelta(days=min_days) if times else now
    new = [signal for signal in signals if signal.id not in requested]
    waiting = [signal for signal in new if champion is None or signal.champion_version == champion]
    if not waiting:
        reason = _nothing(signals, new, champion)
        if possible_at > now:
            reason += f"; the next retrain can be requested from {_moment(possible_at)} on"
        return RetrainDecision((), reason, possible_at, corrected)
    causes = "; ".join(f"{signal.kind}: {signal.detail}" for signal in waiting)
    if possible_at > now:
        reason = (
            f"a retrain is wanted ({causes}), but the last one was requested less than {min_days:g} days ago: "
            f"the next can be requested from {_moment(possible_at)} on"
        )
        return RetrainDecision((), reason, possible_at, corrected)
    return RetrainDecision(tuple(waiting), f"a retrain is requested: {causes}", possible_at, corrected)


def _corrected(
    requested: Mapping[str, datetime], now: datetime, pause: timedelta, noticed: Mapping[str, datetime]
) -> dict[str, datetime]:
    """Return when requests that lay in the future were first seen, until neither time matters any more."""
    corrected = {}
    for name, at in sorted(requested.items()):
        if at > now:
            corrected[name] = min(noticed.get(name, now), now)
        elif name in noticed and noticed[name] < at and at + pause > now:
            corrected[name] = noticed[name]
    return corrected


def _nothing(signals: list[Signal], new: list[Signal], champion: str | None) -> str:
    if not signals:
        return "nothing asks for a retrain"
    if new:
        return f"{len(new)} signal(s) were about an earlier champion than {champion}, and nothing is known against it"
    return f"nothing new asks for a retrain: each of {len(signals)} cause(s) has had one"


def _moment(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M} UTC"
