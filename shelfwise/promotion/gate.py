"""The gate: whether a candidate goes live. A pure decision over a stored evaluation.

One gate for every system; what differs between them (baselines, floors, words) are its `Rules`.

The first champion has to reach a floor and to beat the simple baselines. Whoever comes after it has to do so too, and
in the paired comparison with the champion (`shelfwise.promotion.compare`) on the same lines

* **is not worse**: the difference in top-1 and in top-5 is, with 95 % confidence, not below minus half a point. Where
  lines are too few to show that, a measured loss of up to a point is excused if chance explains it easily (with a
  probability above 20 %): a catalog with a few hundred held-out lines could else never have a better champion;
* **is better** in top-1, in top-5, or in what is settled rightly without a person (approved, assigned) while that stays
  as precise: an exact one-sided p-value of at most 3 % for the first or 1 % for either other, 5 % for the three
  together (Bonferroni, most of it to what matters most). So a candidate that is no better goes live in at most one of
  twenty trials;
* **decides as precisely**: the precision of lines settled so is not lower by more than half a point beyond chance;
* **keeps what is promised**: where the champion settles lines on its own, the candidate does too;
* **harms no slice of importance** (at least 100 lines of a vendor, of a root category, of products with many, few or no
  other names, and so on: the rules name them): none loses more than the margin in top-1 or top-5 beyond what chance
  explains, at 5 % for all that are looked at together (Bonferroni over slices and measures).

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

from shelfwise.promotion.compare import FEWEST_LINES
from shelfwise.promotion.rules import Rules

NOT_WORSE = 0.005  # a difference that does not matter
EXCUSED, EASILY = 0.01, 0.2  # a loss on too few lines, and how probable by chance alone it has to be
RISK = 0.05
FIRST, OTHER = 0.6 * RISK, 0.2 * RISK  # the ways to be better share it: top-1; top-5 and what is settled rightly
PROMOTE, REFUSE, STAY = "promote", "refuse", "stay"


@dataclass(frozen=True)
class Condition:
    """One thing the gate asked: what it measured, what it needed, whether that held, and a sentence for people.

    `headline`: told of a candidate that passes.
    """

    name: str
    measured: float
    needed: float
    holds: bool
    sentence: str
    headline: bool = False


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
            told = [c for c in self.conditions if c.headline] or self.conditions
            return "the candidate passes: " + "; ".join(c.sentence for c in told)
        return "the candidate is refused: " + "; ".join(c.sentence for c in self.conditions if not c.holds)

    def table(self) -> pd.DataFrame:
        """The conditions as rows, those that do not hold first: condition, measured, needed, holds, in words."""
        ordered = sorted(self.conditions, key=lambda c: c.holds)
        rows = [(c.name, c.measured, c.needed, "yes" if c.holds else "no", c.sentence) for c in ordered]
        return pd.DataFrame(rows, columns=["condition", "measured", "needed", "holds", "in words"])


def decide_promotion(evaluation: Mapping[str, Any], rules: Rules) -> GateDecision:
    """Decide whether a candidate replaces the champion.

    `evaluation`: what the evaluation asset that the rules name stores. `metrics`: the candidate's; a baseline that is
    missing there (`<baseline>_top1`) counts as not beaten. `paired`, `compared`, `slices`: `Comparison.to_json`, absent
    without a champion. `same`: the candidate is the champion. `rolled_back`: when a person rolled this very candidate
    back. `champion_unusable`: why the champion could not be measured; the candidate is then looked at like a first one,
    for else nothing could ever replace it. `champion_metrics` without `paired` is a comparison that was not made, and a
    reason to refuse.
    """
    conditions = list(_absolute(evaluation["metrics"], rules))
    if evaluation.get("same"):
        return GateDecision(STAY, tuple(conditions))
    if evaluation.get("rolled_back"):
        conditions.append(_rolled_back(str(evaluation["rolled_back"]), rules))
    if evaluation.get("champion_unusable"):
        words = f"the champion cannot be measured any more ({evaluation['champion_unusable']}): no comparison with it"
        conditions.append(Condition(_compared(rules), 0.0, 0.0, True, words, headline=True))
    elif evaluation.get("paired") or evaluation.get("champion_metrics"):
        conditions += _against_champion(evaluation, rules)
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


def _absolute(metrics: Mapping[str, float], rules: Rules) -> Iterator[Condition]:
    value, called = metrics[rules.primary], rules.names.get(rules.primary, rules.primary)
    holds = value >= rules.floor
    words = f"{called} is {value:.4f}, {'at least' if holds else 'below'} the floor of {rules.floor:.4f}"
    yield Condition(f"{called} reaches the floor", value, rules.floor, holds, words)
    for name in (*rules.beat, *rules.keep):
        baseline, who = metrics.get(f"{name}_{rules.primary}", float("inf")), rules.baseline(name)
        if name in rules.keep:
            needed = baseline - rules.slack
            holds, asked = value >= needed, f"{called} is not below {who}"
            near = f"no more than {100 * rules.slack:g} points below" if holds else "below"
            place = "not below" if value >= baseline else near
        else:
            needed, holds, asked = baseline, value > baseline, f"{called} beats {who}"
            place = "above" if holds else "not above"
        words = f"{called} is {value:.4f}, {place} the {baseline:.4f} of {who}"
        if baseline == float("inf"):
            words = f"{who} was not measured, so it was not beaten"
        yield Condition(asked, value, needed, holds, words)


def _rolled_back(when: str, rules: Rules) -> Condition:
    words = (
        f"this very {rules.model} was champion and a person rolled it back ({when}); it takes other data to try again"
    )
    return Condition("was not rolled back", 1.0, 0.0, False, words)


def _compared(rules: Rules) -> str:
    return f"enough {rules.lines} to compare"


def _against_champion(evaluation: Mapping[str, Any], rules: Rules) -> list[Condition]:
    paired, about = evaluation.get("paired"), evaluation.get("compared") or {}
    if not paired:
        words = f"it was not compared with the champion line by line: materialize {rules.evaluation}"
        return [Condition("was compared with the champion", 0.0, FEWEST_LINES, False, words)]
    lines = about.get("lines", 0)
    words = about.get("sentence", "")
    if lines < FEWEST_LINES:
        words = (
            f"a comparison with the champion is not possible: {lines:,} held-out {rules.lines}, {FEWEST_LINES} are "
            f"needed: {rules.more}"
        )
    conditions = [
        Condition(_compared(rules), lines, FEWEST_LINES, lines >= FEWEST_LINES, words, headline=True),
        *(_not_worse(name, paired[name], rules) for name in ("top1", "top5")),
        _better(paired, rules),
        _as_precise(paired[rules.precision], rules),
        _still_decides(paired[rules.coverage], rules),
        _no_slice_worse(evaluation.get("slices") or [], rules),
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


def _not_worse(name: str, one: Mapping[str, Any], rules: Rules) -> Condition:
    called = rules.names[name]
    needed, holds = _allowed(one)
    few = needed < -NOT_WORSE
    excused = few and not holds and one["difference"] >= -EXCUSED and one["p_worse"] > EASILY
    if excused:
        needed -= EXCUSED
    words = (
        f"{called} {'is not' if holds else 'is not shown to be' if excused else 'may be'} worse: "
        f"{_points(one['difference'])} points, with 95% confidence at least {_points(one['at_least'])} "
        f"(allowed {_points(needed)})"
    )
    if few and not holds:
        words += f"; {one['lines']:,} {rules.lines} are too few to show that a measured loss is none"
        words += f", and chance explains it with p = {one['p_worse']:.2g}"
    return Condition(f"{called} is not worse than the champion's", one["at_least"], needed, holds or excused, words)


def ways(rules: Rules) -> dict[str, float]:
    """Return the measures in which a candidate may be better, with the level each is tested at."""
    return {"top1": FIRST, "top5": OTHER, rules.coverage: OTHER}


def _better(paired: Mapping[str, Mapping[str, Any]], rules: Rules) -> Condition:
    levels, precision = ways(rules), paired[rules.precision]
    if math.isfinite(precision["champion"]) and not _allowed(precision)[1]:
        del levels[rules.coverage]  # more approved and less of it right is nothing better
    best = min(levels, key=lambda name: paired[name]["p_value"] / levels[name])
    one, needed = paired[best], levels[best]
    holds = one["p_value"] <= needed
    words = (
        f"{'better' if holds else 'not shown to be better in anything, at best'} in {rules.names[best]}: "
        f"{_points(one['difference'])} points, {one['gained']:,} {rules.lines} gained and {one['lost']:,} lost, which "
        f"chance explains with p = {one['p_value']:.2g} (at most {needed:.2g} is needed)"
    )
    return Condition("is better in one measure", one["p_value"], needed, holds, words, headline=True)


def _as_precise(one: Mapping[str, Any], rules: Rules) -> Condition:
    difference, name = one["difference"], f"{rules.does} as precisely"
    if not math.isfinite(difference):
        words = f"one of the two {rules.does} nothing among these {rules.lines}, so precision is not compared"
        return Condition(name, 0.0, -NOT_WORSE, True, words)
    holds = not (difference < -NOT_WORSE and one["p_worse"] <= RISK)
    words = (
        f"{rules.names[rules.precision]} {'is not shown to be lower' if holds else 'is lower'}: "
        f"{_points(difference)} points, {one['gained']:,} wrong {rules.deeds} less and {one['lost']:,} more "
        f"(p = {one['p_worse']:.2g})"
    )
    return Condition(name, difference, -NOT_WORSE, holds, words)


def _still_decides(one: Mapping[str, Any], rules: Rules) -> Condition:
    candidate, champion = (value if math.isfinite(value) else 0.0 for value in (one["candidate"], one["champion"]))
    holds = candidate > 0 or champion <= 0
    words = f"{rules.does} {candidate:.1%} of {rules.lines} rightly on its own, the champion {champion:.1%}"
    if not holds:
        words += f": what the champion settles {rules.rest}, as the candidate can prove nothing"
    return Condition("keeps what is promised", candidate, 0.0, holds, words)


def _no_slice_worse(slices: Sequence[Mapping[str, Any]], rules: Rules) -> Condition:
    name, margin = "no slice of importance is worse", rules.margin
    if not slices:
        return Condition(name, 0.0, -margin, True, f"no slice holds enough {rules.lines} to be looked at on its own")
    level = RISK / len(slices)
    worse = [one for one in slices if one["difference"] < -margin and one["p_worse"] <= level]
    worst = min(worse or slices, key=lambda one: one["difference"])
    lost = f"of {len(slices)} slices and measures lost more than the allowed {100 * margin:.1f} points beyond chance"
    words = f"none {lost}"
    if worse:
        told = "; ".join(
            f"{one['slice']} {one['value']}: {_points(one['difference'])} points in {rules.names[one['measure']]} on "
            f"{one['lines']:,} {rules.lines} (p = {one['p_worse']:.2g})"
            for one in sorted(worse, key=lambda one: one["difference"])[:5]
        )
        words = f"{len(worse)} {lost} (p at most {level:.2g}): {told}"
    return Condition(name, worst["difference"], -margin, not worse, words)
