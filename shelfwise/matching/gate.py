"""The gate: whether a candidate goes live. A pure decision over two evaluations on the same held-out lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

PRIMARY_METRIC = "top1"
# A candidate must beat each of these on the same lines. Those ending in `_names` know the vendors' past lines too.
SIMPLE_BASELINES = ("exact", "token_jaccard", "char_tfidf", "exact_names", "token_jaccard_names", "char_tfidf_names")


@dataclass(frozen=True)
class Condition:
    """One thing the gate asked: what it measured, what it needed, whether that held."""

    name: str
    value: float
    needed: float
    holds: bool


@dataclass(frozen=True)
class GateDecision:
    """Whether to promote, with every condition behind it."""

    promote: bool
    conditions: Sequence[Condition]

    @property
    def summary(self) -> str:
        """One sentence for people."""
        failed = [c for c in self.conditions if not c.holds]
        if not failed:
            return "the candidate passes: " + "; ".join(c.name for c in self.conditions)
        return "the candidate is refused: " + "; ".join(
            f"{c.name} (measured {c.value:.4f}, needed {c.needed:.4f})" for c in failed
        )

    def table(self) -> pd.DataFrame:
        """The conditions as rows: condition, measured, needed, holds."""
        rows = [(c.name, c.value, c.needed, "yes" if c.holds else "no") for c in self.conditions]
        return pd.DataFrame(rows, columns=["condition", "measured", "needed", "holds"])


def decide_promotion(
    candidate: Mapping[str, float],
    champion: Mapping[str, float] | None,
    floor: float,
    baselines: Sequence[str] = SIMPLE_BASELINES,
) -> GateDecision:
    """Decide whether a candidate replaces the champion.

    `candidate` and `champion`: metrics of `shelfwise.matching.evaluate` on the same lines; `champion` is None for the
    first one. The candidate must reach `floor` in top-1, beat every simple baseline (which stand in the candidate's
    metrics as `<baseline>_top1`; one that is missing counts as not beaten), and be at least as good as the champion.
    """
    top1 = candidate[PRIMARY_METRIC]
    conditions = [Condition("top-1 reaches the floor", top1, floor, top1 >= floor)]
    for name in baselines:
        baseline = candidate.get(f"{name}_top1", float("inf"))
        conditions.append(Condition(f"top-1 beats {name.replace('_', ' ')}", top1, baseline, top1 > baseline))
    if champion is not None:
        needed = champion[PRIMARY_METRIC]
        conditions.append(Condition("top-1 is not below the champion's", top1, needed, top1 >= needed))
    return GateDecision(all(c.holds for c in conditions), tuple(conditions))
