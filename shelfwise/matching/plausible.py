"""Whether labels can be believed: a champion that is sure of a line and a label that says another product.

A delivery of labels that is wrong (a column shifted, a file of another catalog, an outsourced mapping gone bad) reaches
production by a way that no gate watches: every mapped line is a name by which the index finds its product. So labels
that are new are laid before the champion, which has not seen them. It approves on its own what is right nearly always;
where it is sure and a label contradicts, one of the two is wrong, and labels people made with care contradict it about
as often as it is wrong. The idea is that of confident learning (Northcutt, Jiang and Chuang 2021), for a delivery.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from shelfwise.matching.index import CatalogIndex
    from shelfwise.matching.matcher import Matcher

LOOKED_AT = 2000
SURE = 0.9  # of a line whose best candidate scores lower nothing is said, whatever the policy approves
ALLOWED = 0.1
LEAST = 30
SHOWN = 20


@dataclass(frozen=True)
class Plausibility:
    """`new`: labels the champion's index does not hold. Of `sure` ones looked at, `contradicted` name another product
    than the champion; `bound` is the lower 95 % bound of that share. `examples`: line, labelled, champion, score.
    """

    new: int
    sure: int
    contradicted: int
    bound: float
    examples: pd.DataFrame

    @property
    def believable(self) -> bool:
        """Whether chance may explain what was seen, if no more than the allowed share is wrong."""
        return self.sure < LEAST or self.bound <= ALLOWED

    @property
    def sentence(self) -> str:
        """One sentence for people, with what to do."""
        if not self.sure:
            return f"{self.new:,} labels are new, and the champion is sure of none of those looked at"
        seen = (
            f"of {self.sure:,} new labels about whose lines the champion is sure, {self.contradicted:,} name another "
            f"product ({self.contradicted / self.sure:.1%}; allowed {ALLOWED:.0%})"
        )
        if self.believable:
            return seen
        return (
            f"{seen}. Nothing learns from this delivery: see the examples, and deliver it again when it is mended. "
            "If the labels are right and the champion is wrong, set SHELFWISE_BELIEVE_LABELS=1 for one run"
        )


def new_labels(positives: pd.DataFrame, names: pd.DataFrame) -> pd.DataFrame:
    """Return the mapped lines (source 'mapping') that are no name of their product yet.

    `positives`: marts/labelled_positives. `names`: product_id, name, vendor_id of the index. What a person answered to
    a prediction is not among them: such an answer contradicts the champion on purpose.
    """
    mapped = positives[positives["source"] == "mapping"]
    known = pd.MultiIndex.from_frame(names[["product_id", "name"]].astype(str))
    new = ~pd.MultiIndex.from_frame(mapped[["product_id", "vendor_title"]].astype(str)).isin(known)
    return mapped[new]


def examine(new: pd.DataFrame, matcher: Matcher, index: CatalogIndex, seed: int = 0) -> Plausibility:
    """Lay at most `LOOKED_AT` new labels (`new_labels`) before a champion and its index."""
    chosen = new if len(new) <= LOOKED_AT else new.sample(LOOKED_AT, random_state=seed)
    lines = pd.DataFrame(
        {
            "line_id": chosen["line_id"].astype(str), "row": np.arange(len(chosen)), "file": "",
            "vendor_id": chosen["vendor_id"].astype(str), "title": chosen["vendor_title"].astype(str),
        }
    )  # fmt: skip
    # The product of a line may be another record with the same title; neither is then a contradiction.
    best = matcher.match(lines, index, k=1).set_index("line_id").reindex(lines["line_id"])
    titles = index.products.set_index("product_id")["title"]
    labelled = chosen["product_id"].astype(str)
    sure = ((best["score"] >= SURE) & best["product_id"].notna()).to_numpy()
    same = (best["product_id"].astype(str).to_numpy() == labelled.to_numpy()) | (
        best["product_title"].to_numpy() == titles.reindex(labelled).to_numpy()
    )
    wrong = sure & ~same
    examples = pd.DataFrame(
        {
            "line": chosen["vendor_title"].to_numpy()[wrong],
            "labelled": titles.reindex(labelled).to_numpy()[wrong],
            "champion": best["product_title"].to_numpy()[wrong],
            "score": best["score"].to_numpy()[wrong],
        }
    ).sort_values("score", ascending=False, kind="stable")
    n, k = int(sure.sum()), int(wrong.sum())
    return Plausibility(len(new), n, k, _lower_bound(k, n), examples.head(SHOWN).reset_index(drop=True))


def _lower_bound(k: int, n: int, confidence: float = 0.95) -> float:
    """Return the lower Clopper-Pearson bound of k of n."""
    if k == 0:
        return 0.0
    from scipy.stats import beta

    return float(beta.ppf(1 - confidence, k, n - k + 1))
