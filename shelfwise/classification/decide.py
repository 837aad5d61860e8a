"""What to do with a listing: assign a category, suggest five, or ask; and the part of the path that is certain.

* **assign**: the category named first is probable enough. From which probability on is not guessed: it is the smallest
  threshold whose precision is proven on validation listings, by the machinery that proves the matcher's
  (`shelfwise.matching.guarantee`: an exact bound, valid for the best of many thresholds, duplicates counted once).
* **suggest**: one of five is probably right; a person chooses.
* **ask**: not even that, or nothing is known of the listing: how often categories occur is no reason to suggest five.

Where the category is not certain its parent may be: `certain` names the deepest category of the tree that is proven,
with a threshold of its own at each level, found on the listings that are not certain below. The five suggestions then
begin with those under it, so that no child contradicts its parent.

Listings with a title alone, with a picture alone and with both can be told apart (`cases`): each has thresholds of its
own, so that what is promised holds in each, whatever the mix. Each holds with the stated confidence by itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from shelfwise.classification import calibration
from shelfwise.classification.calibration import Truth, right_answers
from shelfwise.classification.ensemble import NONE
from shelfwise.classification.evaluate import DEPTH, top_classes
from shelfwise.classification.taxonomy import Taxonomy
from shelfwise.matching.guarantee import BY_PRODUCT, LEAST_SCORE, Certificate, Goal, certify

ASSIGN, SUGGEST, ASK = "assign", "suggest", "ask"
ALL = "all"
GOAL = Goal(precision=0.95, confidence=0.95)
LIKELY = 0.8  # that one of the five is right, for a suggestion
COLUMNS = ("row", "rank", "category", "probability", "decision", "certain")


@dataclass(frozen=True)
class Thresholds:
    """From where on what is certain. `certificates`: by case and level; the deepest is the category itself, 1 the root.

    `suggest`: five are suggested where they are this probable together.
    """

    certificates: Mapping[str, Mapping[int, Certificate]] = field(default_factory=dict)
    suggest: float = LIKELY

    @classmethod
    def fit(
        cls,
        p: np.ndarray,
        truth: Truth,
        taxonomy: Taxonomy,
        goal: Goal = GOAL,
        groups: Sequence[Any] | None = None,
        cases: Sequence[str] | np.ndarray | None = None,
        suggest: float = LIKELY,
    ) -> Thresholds:
        """Prove thresholds on validation listings: `p` [n, classes] by a model that was not fitted on them.

        `truth`: the right class of each, or lists of them (none of a category that is no class: whatever is said is
        wrong). `groups`: duplicates share one. `cases`: of each listing, such as 'text', 'image', 'both'.
        """
        right = right_answers(truth)
        said = calibration.said(p)
        case = np.full(len(p), ALL) if cases is None else np.asarray(cases).astype(str)
        group = np.arange(len(p)) if groups is None else pd.factorize(np.asarray(groups).astype(str))[0]
        certificates: dict[str, dict[int, Certificate]] = {}
        for name in np.unique(case[said]).tolist():
            rows = np.flatnonzero(said & (case == name))
            certificates[name] = {}
            for level in range(max(taxonomy.depth, 1), 0, -1):
                node, score = best_node(p[rows], taxonomy, level)
                names_of = taxonomy.level(level)[1]
                among = np.where(right[rows] >= 0, names_of[np.maximum(right[rows], 0)], -1)
                hit = (among == node[:, None]).any(axis=1)
                found = certify(score, hit, goal, {BY_PRODUCT: group[rows]}, least=LEAST_SCORE)
                certificates[name][level] = found
                if found.threshold is not None:
                    rows = rows[score < found.threshold]
        return cls(certificates, suggest)

    def threshold(self, case: str, level: int) -> float:
        """Return from which probability on a category of this level is certain; infinity where nothing is proven."""
        found = self.certificates.get(case, {}).get(level)
        return np.inf if found is None or found.threshold is None else found.threshold

    @property
    def sentence(self) -> str:
        """What is assigned and what is promised, for people."""
        told = []
        for case, levels in self.certificates.items():
            one, who = levels[max(levels)], "" if case == ALL else f"{case}: "
            if one.threshold is None:
                told.append(f"{who}nothing is assigned, {one.reason}")
            else:
                told.append(
                    f"{who}assigned from {one.threshold:.3f}: at least {one.bound:.2%} right, {one.confidence:.0%} "
                    f"confidence ({one.wrong:,} of {one.lines:,} wrong, of {one.sample:,} looked at)"
                )
        return "; ".join(told) or "nothing is assigned: there was nothing to prove a threshold on"

    def table(self) -> pd.DataFrame:
        """Return a row per case and level: listings with, level, certain from, lower bound, precision seen, ..."""
        rows = [
            {
                "listings with": case,
                "level": level,
                "certain from": "–" if one.threshold is None else f"{one.threshold:.4f}",
                "lower bound": one.bound,
                "target": one.target,
                "precision seen": one.precision,
                "listings": one.lines,
                "wrong": one.wrong,
                "looked at": one.sample,
                "reason": one.reason,
            }
            for case, levels in self.certificates.items()
            for level, one in sorted(levels.items(), reverse=True)
        ]
        return pd.DataFrame(rows)

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        certificates = {
            case: {str(level): one.to_json() for level, one in levels.items()}
            for case, levels in self.certificates.items()
        }
        return {"certificates": certificates, "suggest": self.suggest}

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Thresholds:
        """Read what `to_json` made. Raises ValueError where another version made it."""
        certificates = {
            case: {int(level): Certificate.from_json(one) for level, one in levels.items()}
            for case, levels in raw["certificates"].items()
        }
        return cls(certificates, float(raw["suggest"]))


def best_node(p: np.ndarray, taxonomy: Taxonomy, level: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the most probable category of a level for each row, as its number there, with its probability."""
    rolled = taxonomy.roll_up(p, level)
    node = rolled.argmax(axis=1)
    return node, rolled[np.arange(len(node)), node].astype(np.float64)


def decide(
    p: np.ndarray, taxonomy: Taxonomy, thresholds: Thresholds, cases: Sequence[str] | np.ndarray | None = None
) -> pd.DataFrame:
    """Return up to five categories for each row of calibrated `p` [n, classes], and the decision.

    Columns: row (from 0), rank (from 1), category, probability, decision and certain (of the listing, repeated):
    'assign', 'suggest' or 'ask', and the deepest category that is certain, '' where none is. A row of NaN has one row
    without a category: 'ask'. Asked about is also each row whose case is 'none'.
    """
    decision, level, node = _decided(p, taxonomy, thresholds, cases)
    said = calibration.said(p)
    known = np.where(said[:, None], p, 0)
    top, certain = _named(known, taxonomy, level, node)
    probability = np.take_along_axis(known, top, axis=1).astype(np.float64)
    n, k = top.shape
    kept = said[:, None] | (np.arange(k) == 0)
    row, rank = np.broadcast_arrays(np.arange(n)[:, None], np.arange(1, k + 1))
    names = np.where(said[:, None], np.array(taxonomy.classes, dtype=object)[top], "")
    return pd.DataFrame(
        {
            "row": row[kept],
            "rank": rank[kept],
            "category": names[kept],
            "probability": np.where(said[:, None], probability, np.nan)[kept],
            "decision": decision[row[kept]],
            "certain": certain[row[kept]],
        },
        columns=list(COLUMNS),
    )


def decisions(
    p: np.ndarray, taxonomy: Taxonomy, thresholds: Thresholds, cases: Sequence[str] | np.ndarray | None = None
) -> np.ndarray:
    """Return the decision for each row of `p` alone, as evaluations count it."""
    return _decided(p, taxonomy, thresholds, cases)[0]


def _decided(
    p: np.ndarray, taxonomy: Taxonomy, thresholds: Thresholds, cases: Sequence[str] | np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the decision for each row, and level (0: none) and number of the category that is certain."""
    n = len(p)
    case = np.full(n, ALL) if cases is None else np.asarray(cases).astype(str)
    said = calibration.said(p) & (case != NONE)
    known = np.where(said[:, None], p, 0)
    certain_level, certain_node = np.zeros(n, np.int64), np.zeros(n, np.int64)
    names, number = np.unique(case, return_inverse=True)
    for level in range(max(taxonomy.depth, 1), 0, -1):
        limit = np.array([thresholds.threshold(name, level) for name in names])
        if not np.isfinite(limit).any():
            continue
        node, score = best_node(known, taxonomy, level)
        sure = (certain_level == 0) & (score >= limit[number]) & said
        certain_level[sure], certain_node[sure] = level, node[sure]
    k = min(DEPTH, p.shape[1])
    together = np.partition(known, p.shape[1] - k, axis=1)[:, -k:].sum(axis=1)
    suggested = (together >= thresholds.suggest) | (certain_level > 0)
    decision = np.where(suggested & said, SUGGEST, ASK).astype(object)
    decision[certain_level == max(taxonomy.depth, 1)] = ASSIGN
    return decision, certain_level, certain_node


def _named(p: np.ndarray, taxonomy: Taxonomy, level: np.ndarray, node: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return five classes for each row, those under what is certain first, and the path of what is certain."""
    certain = np.full(len(p), "", dtype=object)
    first = top_classes(p, DEPTH)
    for one in np.unique(level[level > 0]).tolist():
        names, group = taxonomy.level(one)
        rows = np.flatnonzero(level == one)
        certain[rows] = np.array(names, dtype=object)[node[rows]]
        if one < taxonomy.depth:
            first[rows] = top_classes(np.where(group == node[rows, None], p[rows], p[rows] - 2), DEPTH)
    return first, certain
