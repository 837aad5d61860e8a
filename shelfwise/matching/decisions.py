"""From a score to a decision: approved, to review, or no match."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

APPROVED, REVIEW, NO_MATCH = "approved", "review", "no_match"
DECISIONS = (APPROVED, REVIEW, NO_MATCH)


@dataclass(frozen=True)
class Thresholds:
    """Approved from `approve` on, to review from `review` on, no match below. Scores are probabilities."""

    approve: float = 0.85
    review: float = 0.65

    def __post_init__(self) -> None:
        if not 0 <= self.review <= self.approve <= 1:
            raise ValueError(f"0 <= review <= approve <= 1 does not hold: {self.review}, {self.approve}")

    def decide(self, scores: np.ndarray) -> np.ndarray:
        """Return the decision for each score of a line's best candidate, as an array of strings."""
        scores = np.asarray(scores, dtype=np.float64)
        return np.select([scores >= self.approve, scores >= self.review], [APPROVED, REVIEW], NO_MATCH).astype(object)


REVIEW_COLUMNS = ("vendor_id", "file", "row", "line_id", "title", "product_id", "product_title", "score")


def review_lines(upload_matches: Mapping[str, pd.DataFrame] | None) -> pd.DataFrame:
    """Return the lines of all uploads that a person has to decide, the most doubtful (lowest score) first.

    `upload_matches`: matches per uploaded file. Columns: `REVIEW_COLUMNS`, then `alternatives` (the other candidates
    as "product_id: title", best first, joined by " | "), and `why` and `champion_version` where the matches have them.
    """
    frames = [frame for frame in (upload_matches or {}).values() if frame is not None and len(frame)]
    if not frames:
        return pd.DataFrame(columns=[*REVIEW_COLUMNS, "alternatives", "why", "champion_version"])
    matches = pd.concat(frames, ignore_index=True)
    matches = matches[matches["decision"] == REVIEW]
    keys = ["vendor_id", "file", "row", "line_id"]
    best = matches[matches["rank"] == 1]
    others = matches[(matches["rank"] > 1) & matches["product_id"].notna()].sort_values([*keys, "rank"])
    text = others["product_id"].astype(str) + ": " + others["product_title"].astype(str)
    alternatives = text.groupby([others[key] for key in keys]).agg(" | ".join).rename("alternatives")
    queue = best.merge(alternatives.reset_index(), on=keys, how="left") if len(alternatives) else best.copy()
    if "alternatives" not in queue:
        queue["alternatives"] = ""
    queue["alternatives"] = queue["alternatives"].fillna("")
    columns = [*REVIEW_COLUMNS, "alternatives", *[c for c in ("why", "champion_version") if c in queue]]
    return queue.sort_values(["score", *keys], kind="stable")[columns].reset_index(drop=True)
