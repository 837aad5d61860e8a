"""Whether live accuracy has fallen below what the champion was accepted with, by more than chance explains.

A fall of 5 points or more asks for a retrain if both hold, for top-1 or for top-5:

* the estimate over all lines is at least 5 points below the accepted accuracy, and
* the upper end of its interval is below the accepted accuracy: that there was no fall at all is ruled out.

To rule out that the fall is less than 5 points would take the upper end below "accepted - 5 points". A fall of exactly
5 points would then never be found, and one of 8 points only after thousands of answers. The other way round, the
interval alone would call a proven fall of one point a reason to retrain.

**Many looks.** The question is asked anew whenever answers come in. An ordinary 95 % interval, looked at every week of
a year, misses at some time with a probability of far more than 5 %. So this one is a confidence sequence: it holds at
all times at once, however often one looks (Robbins 1970; Howard, Ramdas, McAuliffe and Sekhon 2021; asymptotically
for estimates such as this, Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas 2024). With the variance v of the estimate
and falls that are, if there is one, about as large as the one looked for (mixing distribution N(0, drop^2), r =
drop^2 / v), its half width is sqrt(v (1 + 1/r) ln((1 + r) / (2 a)^2)), which misses on one side with probability a.

**Falls that come late.** Good answers of months ago would hide a fall of today. So the answers since the champion came
are looked at, and those since each cycle of four weeks after that. The j-th of these sequences may err with
`error` / (j (j + 1)), half for top-1 and half for top-5, which adds up to `error` over a champion's life, however long.

The accepted accuracy was measured on finitely many lines as well; v includes its variance.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from math import inf, isfinite, log, sqrt
from typing import Literal

import pandas as pd

from shelfwise.monitoring.live import LEAST, Z95, Look, Value

ERROR = 0.05  # chance that a champion which is as good as accepted is ever said to have fallen
METRICS = {"top1": "top-1", "top5": "top-5"}
FELL, WATCH, STEADY, UNKNOWN = "fell", "watch", "steady", "unknown"
State = Literal["fell", "watch", "steady", "unknown"]


@dataclass(frozen=True)
class Comparison:
    """One metric since one time: live beside accepted. `bound`: the upper end of its confidence sequence."""

    metric: str
    since: datetime
    live: Value
    accepted: float
    bound: float
    answers: int
    state: State


@dataclass(frozen=True)
class FallDecision:
    """`state`: fell; watch (low enough, which the interval still explains); steady; unknown (too few answers).

    `reason`: for people. `worst`: the comparison it is about. `comparisons`: all that were made.
    """

    state: State
    reason: str
    worst: Comparison | None
    comparisons: tuple[Comparison, ...]

    @property
    def fell(self) -> bool:
        return self.state == FELL

    def table(self) -> pd.DataFrame:
        """The comparisons as rows."""
        return pd.DataFrame(
            [
                {
                    "since": f"{c.since:%Y-%m-%d}",
                    "metric": METRICS[c.metric],
                    "answers": c.answers,
                    "live": c.live.value,
                    "low": c.live.low,
                    "high": c.live.high,
                    "accepted": c.accepted,
                    "could be as high as": c.bound,
                    "state": c.state,
                }
                for c in self.comparisons
            ]
        )


def decide_fall(
    looks: Sequence[Look], accepted: Mapping[str, float], drop: float, error: float = ERROR
) -> FallDecision:
    """Decide whether live accuracy has fallen by `drop` or more.

    `looks`: estimates since the champion came and since each cycle after (`live.LiveQuality.looks`). `accepted`:
    metrics the champion was registered with: top1, top5, with `_low` and `_high` where known.
    """
    known = {name: value for name in METRICS if (value := accepted.get(name)) is not None and isfinite(value)}
    if not known:
        return FallDecision(UNKNOWN, "the champion was registered without an evaluation to compare with", None, ())
    if not looks:
        return FallDecision(UNKNOWN, "no answer to a prediction of the champion has come back yet", None, ())
    made = []
    for look in looks:
        if look.estimate.lacking:
            continue
        risk = error / ((look.index + 1) * (look.index + 2)) / len(known)
        made += [_compare(name, look, accepted, drop, risk) for name in known]
    made = [one for one in made if isfinite(one.live.value)]
    if not made:
        return FallDecision(UNKNOWN, _too_few(looks[0]), None, ())
    order = [FELL, WATCH, STEADY]
    worst = min(made, key=lambda one: (order.index(one.state), one.live.value - one.accepted))
    return FallDecision(worst.state, _sentence(worst, drop), worst, tuple(made))


def _compare(name: str, look: Look, accepted: Mapping[str, float], drop: float, risk: float) -> Comparison:
    live: Value = getattr(look.estimate, name)
    low, high = accepted.get(f"{name}_low", float("nan")), accepted.get(f"{name}_high", float("nan"))
    own = (high - low) / (2 * Z95) if isfinite(high - low) else 0.0
    bound = live.value + half_width(live.error**2 + own**2, risk, drop)
    low_enough = live.value <= accepted[name] - drop
    state: State = (FELL if bound < accepted[name] else WATCH) if low_enough else STEADY
    answers = sum(look.estimate.answers.values())
    return Comparison(name, look.since, live, accepted[name], bound, answers, state)


def half_width(variance: float, risk: float, drop: float) -> float:
    """Return how far an estimate of this variance may lie below the truth at any time, with one-sided risk `risk`."""
    if not isfinite(variance):
        return inf
    if variance <= 0:
        return 0.0
    ratio = drop**2 / variance
    return sqrt(variance * (1 + 1 / ratio) * log((1 + ratio) / (2 * risk) ** 2))


def _sentence(one: Comparison, drop: float) -> str:
    live, fall = one.live, (one.accepted - one.live.value) * 100
    numbers = (
        f"live {METRICS[one.metric]} over all lines is {live.value:.1%} ({live.low:.1%} to {live.high:.1%}, from "
        f"{one.answers:,} answers since {one.since:%Y-%m-%d})"
    )
    if one.state == STEADY:
        return f"{numbers}; {one.accepted:.1%} was accepted, less than {drop * 100:g} points above it"
    below = f"{numbers}, {fall:.1f} points below the {one.accepted:.1%} that were accepted"
    if one.state == WATCH:
        return f"{below}; so few answers still explain it (it could be {min(one.bound, 1):.1%}), nothing is requested"
    return f"{below}, and chance does not explain it (at most {one.bound:.1%}): a retrain is requested"


def _too_few(look: Look) -> str:
    wanted = ", ".join(f"{look.estimate.answers[name]} of {LEAST} on {name} lines" for name in look.estimate.lacking)
    return f"too few answers to say anything about all lines: {wanted}" if wanted else "no line had a product"
