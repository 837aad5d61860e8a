"""From a score to a decision: approved, to review, or no match.

A policy says by which rule: `guaranteed` approves from the threshold whose precision is proven (see `guarantee`) and
sends to review what else may be right; `fixed` compares with two numbers that somebody chose.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from shelfwise.matching.guarantee import Certificate, Goal, Guarantee
from shelfwise.matching.splits import hashed_share
from shelfwise.queues import AUDIT, LINE_KEYS, joined, queue

APPROVED, REVIEW, NO_MATCH = "approved", "review", "no_match"
DECISIONS = (APPROVED, REVIEW, NO_MATCH)
NEVER = math.inf  # a threshold that no score reaches
FIXED, GUARANTEED = "fixed", "guaranteed"
AUDIT_SEED = 4  # another than training's: what is audited has nothing to do with what was held out


@dataclass(frozen=True)
class Thresholds:
    """Approved from `approve` on, to review from `review` on, no match below. Scores are probabilities.

    `known`: approved from there where the best candidate has names by vendors; as `approve` if None. `by_vendor` and
    `by_category` (root category of the best candidate) replace both where they name the line's own; of several, the
    vendor's counts. `NEVER` approves nothing. A line that scores between a threshold and `review` goes to review.
    """

    approve: float = 0.85
    review: float = 0.65
    known: float | None = None
    by_vendor: Mapping[str, float] = field(default_factory=dict)
    by_category: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 0 <= self.review <= self.approve or not (self.approve <= 1 or self.approve == NEVER):
            raise ValueError(f"0 <= review <= approve <= 1 does not hold: {self.review}, {self.approve}")

    def decide(
        self,
        scores: np.ndarray,
        known: np.ndarray | None = None,
        vendors: Sequence[str] | None = None,
        categories: Sequence[str] | None = None,
    ) -> np.ndarray:
        """Return the decision for each score of a line's best candidate, as an array of strings.

        `known`: whether that candidate has names by vendors; `vendors`, `categories`: of line and candidate.
        """
        scores = np.asarray(scores, dtype=np.float64)
        approve = np.full(len(scores), self.approve)
        if known is not None and self.known is not None:
            approve[np.asarray(known, bool)] = self.known
        for own, values in ((self.by_category, categories), (self.by_vendor, vendors)):
            if own and values is not None:
                found = pd.Series(values, dtype=object).map(dict(own)).to_numpy(dtype=np.float64, na_value=np.nan)
                approve = np.where(np.isnan(found), approve, found)
        return np.select([scores >= approve, scores >= self.review], [APPROVED, REVIEW], NO_MATCH).astype(object)

    def to_json(self) -> dict[str, Any]:
        """Return plain values; `NEVER` becomes null, a missing `known` is left out."""

        def plain(value: float) -> float | None:
            return None if value == NEVER else value

        raw: dict[str, Any] = {"approve": plain(self.approve), "review": self.review}
        for name in ("by_vendor", "by_category"):
            raw[name] = {key: plain(value) for key, value in getattr(self, name).items()}
        return raw if self.known is None else {**raw, "known": plain(self.known)}

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Thresholds:
        """Read what `to_json` made."""

        def value(one: float | None) -> float:
            return NEVER if one is None else one

        groups = {name: {k: value(v) for k, v in raw[name].items()} for name in ("by_vendor", "by_category")}
        known = value(raw["known"]) if "known" in raw else None
        return cls(value(raw["approve"]), raw["review"], known, groups["by_vendor"], groups["by_category"])

    @property
    def sentence(self) -> str:
        """One sentence for people."""
        approve = "nothing is approved" if self.approve == NEVER else f"approve at {self.approve:.4g} or above"
        known = self.known is not None and self.known != self.approve
        other = "never" if self.known == NEVER else f"{self.known:.4g}" if known else ""
        return f"{approve}{f' ({other} for products known by other names)' if known else ''}, " + (
            f"review at {self.review:.4g} or above"
        )


@dataclass(frozen=True)
class Policy:
    """By which rule lines are decided: `guaranteed` with a goal, or `fixed` with two scores."""

    name: str = GUARANTEED
    goal: Goal = field(default_factory=Goal)
    approve: float = 0.85
    review: float = 0.65

    def __post_init__(self) -> None:
        if self.name not in (FIXED, GUARANTEED):
            raise ValueError(f"the policy is {FIXED!r} or {GUARANTEED!r}, not {self.name!r}")
        Thresholds(self.approve, self.review)

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Policy:
        """Read what `dataclasses.asdict` made."""
        return cls(raw["name"], Goal(**raw["goal"]), raw["approve"], raw["review"])

    def thresholds(self, guarantee: Guarantee) -> Thresholds:
        """Return the thresholds of this policy for a matcher of which this is guaranteed."""
        return Thresholds(self.approve, self.review) if self.name == FIXED else guaranteed(guarantee)


def guaranteed(guarantee: Guarantee) -> Thresholds:
    """Return the thresholds that keep what is promised. Without enough evidence nothing is approved."""

    def value(one: Certificate) -> float:
        return NEVER if one.threshold is None else one.threshold

    approve = value(guarantee.new)
    groups: dict[str, Any] = {
        "by_vendor": {name: value(one) for name, one in guarantee.by_vendor.items()},
        "by_category": {name: max(value(one), approve) for name, one in guarantee.by_category.items()},
    }
    return Thresholds(approve, min(guarantee.review, approve), max(approve, value(guarantee.known)), **groups)


REVIEW_COLUMNS = (
    "vendor_id", "file", "row", "line_id", "title", "product_id", "product_title", "score", "alternatives", "reason",
    "why", "champion_version",
)  # fmt: skip


def audited(upload_matches: pd.DataFrame, share: float) -> np.ndarray:
    """Return per row whether a person sees the line although it was decided without one.

    Of the lines that were approved or decided to match nothing, about `share` is drawn, so that these decisions can be
    measured at all. The draw is a hash of vendor, file and line: a line that is matched again, by whichever champion,
    is drawn again. All ranks of a line say the same. A decision is never changed.
    """
    settled = (upload_matches["decision"] != REVIEW).to_numpy()
    keys = upload_matches[["vendor_id", "file", "line_id"]].astype(str)
    lines = keys.drop_duplicates()
    drawn = hashed_share(["\x1f".join(key) for key in lines.itertuples(index=False, name=None)], share, AUDIT_SEED)
    chosen = pd.MultiIndex.from_frame(keys).isin(pd.MultiIndex.from_frame(lines[drawn]))
    return settled & chosen


def review_lines(
    upload_matches: Mapping[str, pd.DataFrame] | None, answered: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Return the lines of all uploads that a person is asked about, the most doubtful (lowest score) first, and among
    them those that are audited.

    `upload_matches`: matches per uploaded file. `answered`: vendor_id and vendor_title of lines that somebody has
    answered, which are not asked again. Columns: `REVIEW_COLUMNS`, where `alternatives` are the other candidates as
    "product_id: title", best first, joined by " | ", and `reason` is "review", or "audit" where the decision stands and
    is only measured; `why` and `champion_version` where the matches have them.
    """
    matches = joined(upload_matches)
    if matches is None:
        return pd.DataFrame(columns=list(REVIEW_COLUMNS))
    drawn = matches["audited"].eq(True) if "audited" in matches else pd.Series(False, matches.index)
    reason = np.where(drawn & (matches["decision"] != REVIEW), AUDIT, REVIEW)
    matches = matches.assign(reason=reason)[(reason == AUDIT) | (matches["decision"] == REVIEW)]
    others = matches[(matches["rank"] > 1) & matches["product_id"].notna()].sort_values([*LINE_KEYS, "rank"])
    alternatives = others["product_id"].astype(str) + ": " + others["product_title"].astype(str)
    return queue(matches, alternatives, "score", REVIEW_COLUMNS, answered)
