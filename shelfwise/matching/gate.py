"""The gate: whether a candidate goes live. A pure decision over a stored evaluation.

The first champion has to reach a floor and to beat the simple baselines. Whoever comes after it has to do so too, and
in the paired comparison with the champion (`shelfwise.matching.compare`) on the same lines

* **is not worse**: the difference in top-1 and in top-5 is, with 95 % confidence, not below minus half a point. Where
  lines are too few to show that, a measured loss of up to a point is excused if chance explains it easily (with a
  probability above 20 %): a catalog with a few hundred held-out lines could else never have a better champion;
* **is better** in top-1, in top-5, or in what is approved rightly while approvals stay as precise: an exact one-sided
  p-value of at most 3 % for the first or 1 % for either other, 5 % for the three together (Bonferroni, most of it to
  what matters most). So a candidate that is no better goes live in at most one of twenty trials;
* **approves as precisely**: the precision of approved lines is not lower by more than half a point beyond chance;
* **keeps what is promised**: where the champion approves lines on its own, the candidate does too;
* **harms no slice of importance** (at least 100 lines of a vendor, of a root category, or of products with many, few
  or no other names): none loses more than the margin in top-1 or top-5 beyond what chance explains, at 5 % for all that
  are looked at together (Bonferroni over slices and measures).

Few lines make it hard to be better, never easy: the tests are exact whatever their number, and nothing is proven by
fewer than 50.

A candidate that is the champion itself has nothing to win: it stays. One that a person rolled back does not come back
by itself.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from shelfwise.matching.compare import FEWEST_LINES

PRIMARY_METRIC = "top1"
# A candidate must beat each of these on the same lines. Those ending in `_names` know the vendors' past lines too.
SIMPLE_BASELINES = ("exact", "token_jaccard", "char_tfidf", "exact_names", "token_jaccard_names", "char_tfidf_names")
NOT_WORSE = 0.005  # a difference that does not matter
EXCUSED, EASILY = 0.01, 0.2  # a loss on too few lines, and how probable by chance alone it has to be
RISK = 0.05
MARGIN = 0.01
NAMES = {
    "top1": "top-1",
    "top5": "top-5",
    "approved_coverage": "share approved rightly",
    "approved_precision": "precision of approved lines",
}
WAYS = {"top1": 0.6 * RISK, "top5": 0.2 * RISK, "approved_coverage": 0.2 * RISK}  # to be better, with their levels
COMPARED, BETTER = "enough lines to compare", "is better in one measure"
PROMOTE, REFUSE, STAY = "promote", "refuse", "stay"


@dataclass(frozen=True)
class Condition:
    """One thing the gate asked: what it measured, what it needed, whether that held, and a sentence for people."""

    name: str
    measured: float
    needed: float
    holds: bool
    sentence: str


@dataclass(frozen=True)
class GateDecision:
    """What becomes of the candidate ('promote', 'refuse', or 'stay' where it is the champion), with every condition
    behind it.
    """

    outcome: str
    conditions: Sequence[Condition]

    @property
    def passes(self) -> bool:
        """Whether everything after the gate may run."""
        return self.outcome != REFUSE

    @property
    def promote(self) -> bool:
        """Whether the candidate becomes champion."""
        return self.outcome == PROMOTE

    @property
    def summary(self) -> str:
        """One sentence for people."""
        if self.outcome == STAY:
            return "the candidate is the champion itself: nothing to promote, it stays"
        if self.promote:
            told = [c for c in self.conditions if c.name in (COMPARED, BETTER)] or self.conditions
            return "the candidate passes: " + "; ".join(c.sentence for c in told)
        return "the candidate is refused: " + "; ".join(c.sentence for c in self.conditions if not c.holds)

    def table(self) -> pd.DataFrame:
        """The conditions as rows, those that do not hold first: condition, measured, needed, holds, in words."""
        ordered = sorted(self.conditions, key=lambda c: c.holds)
        rows = [(c.name, c.measured, c.needed, "yes" if c.holds else "no", c.sentence) for c in ordered]
        return pd.DataFrame(rows, columns=["condition", "measured", "needed", "holds", "in words"])


def decide_promotion(
    evaluation: Mapping[str, Any],
    floor: float,
    margin: float = MARGIN,
    baselines: Sequence[str] = SIMPLE_BASELINES,
) -> GateDecision:
    """Decide whether a candidate replaces the champion.

    `evaluation`: what matching/matcher_evaluation stores. `metrics`: the candidate's; a baseline that is missing there
    (`<baseline>_top1`) counts as not beaten. `paired`, `compared`, `slices`: `Comparison.to_json`, absent without a
    champion. `same`: the candidate is the champion. `rolled_back`: when a person rolled this very candidate back.
    `champion_unusable`: why the champion could not be measured; the candidate is then looked at like a first one, for
    else nothing could ever replace it. `champion_metrics` without `paired` is a comparison that was not made, and a
    reason to refuse. `margin`: what a slice may lose.
    """
    conditions = list(_absolute(evaluation["metrics"], floor, baselines))
    if evaluation.get("same"):
        return GateDecision(STAY, tuple(conditions))
    if evaluation.get("rolled_back"):
        conditions.append(_rolled_back(str(evaluation["rolled_back"])))
    if evaluation.get("champion_unusable"):
        words = f"the champion cannot be measured any more ({evaluation['champion_unusable']}): no comparison with it"
        conditions.append(Condition(COMPARED, 0.0, 0.0, True, words))
    elif evaluation.get("paired") or evaluation.get("champion_metrics"):
        conditions += _against_champion(evaluation, margin)
    return GateDecision(PROMOTE if all(c.holds for c in conditions) else REFUSE, tuple(conditions))


def rolled_back_at(history: Sequence[Mapping[str, Any]], version: int) -> str | None:
    """Return when a person rolled this version back, None where nobody did, or it was promoted again since.

    `history`: the registry's events, oldest first.
    """
    for event in reversed(history):
        moved = event["action"] in ("promoted", "rolled_back")
        if moved and event["version"] == version:
            return None
        if event["action"] == "rolled_back" and event["from_version"] == version:
            return str(event["at"])
    return None


def _absolute(metrics: Mapping[str, float], floor: float, baselines: Sequence[str]) -> Iterator[Condition]:
    top1 = metrics[PRIMARY_METRIC]
    holds = top1 >= floor
    words = f"top-1 is {top1:.4f}, {'at least' if holds else 'below'} the floor of {floor:.4f}"
    yield Condition("top-1 reaches the floor", top1, floor, holds, words)
    for name in baselines:
        baseline, called = metrics.get(f"{name}_top1", float("inf")), name.replace("_", " ")
        holds = top1 > baseline
        words = f"top-1 is {top1:.4f}, {'above' if holds else 'not above'} the {baseline:.4f} of {called}"
        if baseline == float("inf"):
            words = f"{called} was not measured, so it was not beaten"
        yield Condition(f"top-1 beats {called}", top1, baseline, holds, words)


def _rolled_back(when: str) -> Condition:
    words = f"this very matcher was champion and a person rolled it back ({when}); it takes other data to try again"
    return Condition("was not rolled back", 1.0, 0.0, False, words)


def _against_champion(evaluation: Mapping[str, Any], margin: float) -> list[Condition]:
    paired, about = evaluation.get("paired"), evaluation.get("compared") or {}
    if not paired:
        words = "it was not compared with the champion line by line: materialize matching/matcher_evaluation"
        return [Condition("was compared with the champion", 0.0, FEWEST_LINES, False, words)]
    lines = about.get("lines", 0)
    words = about.get("sentence", "")
    if lines < FEWEST_LINES:
        words = (
            f"a comparison with the champion is not possible: {lines:,} held-out lines, {FEWEST_LINES} are needed: "
            "map more lines, a part of them is held out"
        )
    conditions = [
        Condition(COMPARED, lines, FEWEST_LINES, lines >= FEWEST_LINES, words),
        *(_not_worse(name, paired[name]) for name in ("top1", "top5")),
        _better(paired),
        _as_precise(paired["approved_precision"]),
        _still_approves(paired["approved_coverage"]),
        _no_slice_worse(evaluation.get("slices") or [], margin),
    ]
    return conditions


def _points(share: float) -> str:
    """Return a difference of shares in points, with its sign."""
    return f"{100 * share:+.2f}"


def _allowed(one: Mapping[str, Any]) -> tuple[float, bool]:
    """Return down to where the lower bound of a difference may lie, and whether it does."""
    width = one["difference"] - one["at_least"]
    needed = -max(NOT_WORSE, width)
    # The same numbers in another order: as a comparison of bounds, rounding would decide where width counts.
    return needed, one["difference"] >= (width - NOT_WORSE if width <= NOT_WORSE else 0)


def _not_worse(name: str, one: Mapping[str, Any]) -> Condition:
    needed, holds = _allowed(one)
    few = needed < -NOT_WORSE
    excused = few and not holds and one["difference"] >= -EXCUSED and one["p_worse"] > EASILY
    if excused:
        needed -= EXCUSED
    words = (
        f"{NAMES[name]} {'is not' if holds else 'is not shown to be' if excused else 'may be'} worse: "
        f"{_points(one['difference'])} points, with 95% confidence at least {_points(one['at_least'])} "
        f"(allowed {_points(needed)})"
    )
    if few and not holds:
        words += f"; {one['lines']:,} lines are too few to show that a measured loss is none"
        words += f", and chance explains it with p = {one['p_worse']:.2g}"
    return Condition(
        f"{NAMES[name]} is not worse than the champion's", one["at_least"], needed, holds or excused, words
    )


def _better(paired: Mapping[str, Mapping[str, Any]]) -> Condition:
    ways, precision = dict(WAYS), paired["approved_precision"]
    if math.isfinite(precision["champion"]) and not _allowed(precision)[1]:
        del ways["approved_coverage"]  # more approved and less of it right is nothing better
    best = min(ways, key=lambda name: paired[name]["p_value"] / ways[name])
    one, needed = paired[best], ways[best]
    holds = one["p_value"] <= needed
    words = (
        f"{'better' if holds else 'not shown to be better in anything, at best'} in {NAMES[best]}: "
        f"{_points(one['difference'])} points, {one['gained']:,} lines gained and {one['lost']:,} lost, which chance "
        f"explains with p = {one['p_value']:.2g} (at most {needed:.2g} is needed)"
    )
    return Condition(BETTER, one["p_value"], needed, holds, words)


def _as_precise(one: Mapping[str, Any]) -> Condition:
    difference = one["difference"]
    if not math.isfinite(difference):
        words = "one of the two approves nothing among these lines, so precision is not compared"
        return Condition("approves as precisely", 0.0, -NOT_WORSE, True, words)
    holds = not (difference < -NOT_WORSE and one["p_worse"] <= RISK)
    words = (
        f"precision of approved lines {'is not shown to be lower' if holds else 'is lower'}: {_points(difference)} "
        f"points, {one['gained']:,} wrong approvals less and {one['lost']:,} more (p = {one['p_worse']:.2g})"
    )
    return Condition("approves as precisely", difference, -NOT_WORSE, holds, words)


def _still_approves(one: Mapping[str, Any]) -> Condition:
    candidate, champion = (value if math.isfinite(value) else 0.0 for value in (one["candidate"], one["champion"]))
    holds = candidate > 0 or champion <= 0
    words = f"approves {candidate:.1%} of lines rightly on its own, the champion {champion:.1%}"
    if not holds:
        words += ": what the champion settles would all go to review, as the candidate can prove nothing"
    return Condition("keeps what is promised", candidate, 0.0, holds, words)


def _no_slice_worse(slices: Sequence[Mapping[str, Any]], margin: float) -> Condition:
    name = "no slice of importance is worse"
    if not slices:
        return Condition(name, 0.0, -margin, True, "no slice holds enough lines to be looked at on its own")
    level = RISK / len(slices)
    worse = [one for one in slices if one["difference"] < -margin and one["p_worse"] <= level]
    worst = min(worse or slices, key=lambda one: one["difference"])
    lost = f"of {len(slices)} slices and measures lost more than the allowed {100 * margin:.1f} points beyond chance"
    words = f"none {lost}"
    if worse:
        told = "; ".join(
            f"{one['slice']} {one['value']}: {_points(one['difference'])} points in {NAMES[one['measure']]} on "
            f"{one['lines']:,} lines (p = {one['p_worse']:.2g})"
            for one in sorted(worse, key=lambda one: one["difference"])[:5]
        )
        words = f"{len(worse)} {lost} (p at most {level:.2g}): {told}"
    return Condition(name, worst["difference"], -margin, not worse, words)
