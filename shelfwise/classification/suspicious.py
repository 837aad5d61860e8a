"""Labels that are probably wrong, and sellers who keep choosing unlikely categories: listed for people, never dropped.

Every listing is judged by a model that has not seen it, nor another listing of the same text (cross-validation over
groups). From these probabilities confident learning (Northcutt, Jiang and Chuang, "Confident Learning: Estimating
Uncertainty in Dataset Labels", 2021; the library cleanlab) estimates how often each category is confused with each
other one, and names the listings that make up these confusions. A category that the model is often wrong about must be
doubted with more certainty than one that it knows well, which a fixed threshold would not do.

A listing with several right categories is taken for the most likely of them; it is suspicious only if none fits.

Sellers are judged by what they chose: by all staged listings, as labels have a person's correction where there is one,
and hold a text that several sellers have once. The models are the same, taught by the corrected labels.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from shelfwise.classification.listings import with_text
from shelfwise.classification.splits import group_ids
from shelfwise.classification.taxonomy import Taxonomy
from shelfwise.text import normalise

COLUMNS = [
    "listing_id", "title", "category", "suggested", "category_probability", "suggested_probability", "reason",
    "seller_id", "group_id",
]  # fmt: skip
SELLER_COLUMNS = ["seller_id", "listings", "unlikely", "texts", "share", "expected_share", "p_value", "examples"]
FOLDS = 4
# A category with fewer texts than this cannot be learnt well enough for its labels to be doubted.
LEAST_GROUPS = 6
VERY_UNLIKELY = 0.05
SIGNIFICANCE = 0.01

# From titles, descriptions (in normal form) and right classes to what scores other texts, float [n, classes], in logs.
Scorer = Callable[[Sequence[str], Sequence[str]], np.ndarray]
Model = Callable[[Sequence[str], Sequence[str], Sequence[Sequence[int]], int], Scorer]


def ngrams(titles: Sequence[str], descriptions: Sequence[str], labels: Sequence[Sequence[int]], classes: int) -> Scorer:
    """Train the project's linear classifier, for a few epochs: it should not learn single wrong labels by heart."""
    from shelfwise.classification.ngrams import NgramClassifier, NgramConfig

    return NgramClassifier.fit(titles, descriptions, labels, classes, NgramConfig(epochs=4, longest=4)).scores


@dataclass(frozen=True)
class Judged:
    """Listings that were judged by models that had not seen them.

    `listings`: listing_id, title, category, group_id, seller_id, by row; `truths`: their given classes; `p`: float32
    [n, classes], calibrated; `left_out`: listings of categories too small to be judged.
    """

    listings: pd.DataFrame
    taxonomy: Taxonomy
    truths: list[list[int]]
    p: np.ndarray
    left_out: int

    @property
    def given(self) -> np.ndarray:
        """The most likely of each listing's given classes, int64 [n]."""
        best = (max(right, key=lambda one: row[one]) for row, right in zip(self.p, self.truths, strict=True))
        return np.fromiter(best, np.int64, len(self.p))

    @property
    def best_other(self) -> np.ndarray:
        """The most likely class that was not given, int64 [n]."""
        p = self.p.copy()
        for row, right in zip(p, self.truths, strict=True):
            row[right] = -1.0
        return p.argmax(axis=1)


def out_of_fold(listings: pd.DataFrame, model: Model = ngrams, folds: int = FOLDS, seed: int = 0) -> Judged:
    """Judge every listing by a model of the other folds.

    `listings`: listing_id, title, group_id, category or categories; optional description and seller_id. Folds share
    out each category evenly and keep a group together; they depend on the ids and the seed alone. Listings without any
    text are not judged.
    """
    frame = with_text(listings)
    cells = frame["categories"] if "categories" in frame else frame["category"]
    taxonomy, truths = _known(frame["group_id"].tolist(), cells.tolist())
    judged = [place for place, right in enumerate(truths) if right]
    kept, truths = frame.iloc[judged].reset_index(drop=True), [truths[place] for place in judged]
    about = pd.DataFrame({name: kept.get(name) for name in ("listing_id", "title", "category", "group_id")})
    about["seller_id"] = kept.get("seller_id")
    scores = np.zeros((len(kept), len(taxonomy)), np.float32)
    if len(taxonomy) > 1:
        titles, descriptions = _forms(kept, "title"), _forms(kept, "description")
        fold = _folds(kept["group_id"], [right[0] for right in truths], folds, seed)
        for number in range(folds):
            seen, held = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
            if len(seen) and len(held):
                of = [[texts[place] for place in seen] for texts in (titles, descriptions)]
                scorer = model(of[0], of[1], [truths[place] for place in seen], len(taxonomy))
                scores[held] = scorer([titles[place] for place in held], [descriptions[place] for place in held])
    return Judged(about, taxonomy, truths, _calibrated(scores, truths), len(frame) - len(kept))


def suspicious(judged: Judged) -> pd.DataFrame:
    """Return the listings whose label is probably wrong, the most suspicious first: `COLUMNS`."""
    if len(judged.p) == 0 or len(judged.taxonomy) < 2:
        return pd.DataFrame(columns=pd.Index(COLUMNS))
    from cleanlab.filter import find_label_issues

    given, other = judged.given, judged.best_other
    rows = np.arange(len(given))
    # `both`: among the least likely of their category, and among those that another category explains best.
    found = find_label_issues(given, judged.p.astype(np.float64), filter_by="both", n_jobs=1)
    mask = np.asarray(found, bool) & (judged.p[rows, other] > judged.p[rows, given])
    table = judged.listings.assign(
        suggested=[judged.taxonomy.classes[place] for place in other],
        category_probability=judged.p[rows, given],
        suggested_probability=judged.p[rows, other],
    )
    twins = _same_text_elsewhere(judged)
    told = table[["group_id", "category", "suggested", "category_probability", "suggested_probability"]][mask]
    reasons = [_reason(twins.get(group, []), *rest) for group, *rest in told.itertuples(index=False, name=None)]
    table["reason"] = pd.Series(reasons, index=told.index, dtype="str")
    certain = table["suggested_probability"] - table["category_probability"]
    order = certain[mask].sort_values(ascending=False, kind="stable").index
    return table.loc[order, COLUMNS].reset_index(drop=True)


def suspicious_labels(listings: pd.DataFrame, model: Model = ngrams, seed: int = 0) -> pd.DataFrame:
    """Return the listings whose label is probably wrong; see `out_of_fold` and `suspicious`."""
    return suspicious(out_of_fold(listings, model, seed=seed))


def choices(judged: Judged, listings: pd.DataFrame, below: float = VERY_UNLIKELY) -> pd.DataFrame:
    """Return what sellers chose: seller_id, title, group_id, and whether it is very `unlikely`: less likely than
    `below`, while another category is more likely than not.

    `listings`: staging/stg_listings, a row for each listing as its seller has it; one has the probabilities of its
    text in `judged`. Listings whose text, or whose every category, was not judged are left out.
    """
    listings = listings.reset_index(drop=True)
    place = {group: at for at, group in enumerate(judged.listings["group_id"])}
    groups = group_ids(listings["title"], listings["description"], listings["listing_id"])
    truths = judged.taxonomy.truths(listings["categories"])
    known = [(one, place[group]) for one, group in enumerate(groups) if truths[one] and group in place]
    kept, at = [one for one, _ in known], [text for _, text in known]
    own = np.array([judged.p[text, truths[one]].max() for one, text in known], np.float32)
    unlikely = (own < below) & (judged.p.max(axis=1, initial=0.0)[at] > 0.5)
    told = {"seller_id": listings["seller_id"], "title": listings["title"], "group_id": groups}
    return pd.DataFrame(told).iloc[kept].reset_index(drop=True).assign(unlikely=unlikely)


def unlikely_sellers(chosen: pd.DataFrame, significance: float = SIGNIFICANCE) -> pd.DataFrame:
    """Return the sellers who choose unlikely categories more often than chance explains: `SELLER_COLUMNS`, the worst
    first. `chosen`: of `choices`.

    An exact binomial test of each seller against the rate of all others (so that one large seller does not excuse
    itself), with Bonferroni's correction for the number of sellers: among honest sellers, a list with anybody on it is
    as rare as `significance` says, if their mistakes are independent. Reposts are choices as well, but repeat a mistake
    with the text: `texts` says how many different ones the unlikely choices are. Listings without a seller count among
    the others.
    """
    from scipy.stats import binomtest

    sellers = chosen.dropna(subset=["seller_id"]).groupby("seller_id")["unlikely"].agg(["size", "sum"])
    all_wrong, rows = chosen["unlikely"].sum(), []
    for seller, (n, wrong) in sellers.iterrows():
        others, wrong_others = len(chosen) - n, all_wrong - wrong
        expected = (wrong_others + 1) / (others + 2)
        p_value = min(1.0, binomtest(int(wrong), int(n), float(expected), "greater").pvalue * len(sellers))
        if p_value < significance:
            own = chosen[(chosen["seller_id"] == seller) & chosen["unlikely"]].drop_duplicates("group_id")
            examples = own["title"].dropna().head(5).tolist()
            rows.append((seller, n, wrong, len(own), wrong / n, expected, p_value, examples))
    found = pd.DataFrame(rows, columns=pd.Index(SELLER_COLUMNS))
    return found.sort_values(["p_value", "seller_id"], kind="stable").reset_index(drop=True)


def review(
    listings: pd.DataFrame, staged: pd.DataFrame, model: Model = ngrams, seed: int = 0
) -> tuple[pd.DataFrame, pd.DataFrame, Mapping[str, float]]:
    """Return suspicious labels, sellers who choose unlikely categories, and how many of what was judged they are.

    `listings`: see `out_of_fold`. `staged`: what sellers chose, see `choices`.
    """
    judged = out_of_fold(listings, model, seed=seed)
    labels, chosen = suspicious(judged), choices(judged, staged)
    sellers = unlikely_sellers(chosen)
    n = len(judged.listings)
    numbers = {
        "judged": float(n),
        "left_out": float(judged.left_out),
        "suspicious": float(len(labels)),
        "suspicious_share": len(labels) / n if n else 0.0,
        "agreement": float((judged.given == judged.p.argmax(axis=1)).mean()) if n else 0.0,
        "choices": float(len(chosen)),
        "unlikely_choices": float(chosen["unlikely"].sum()),
        "sellers": float(chosen["seller_id"].nunique()),
        "unlikely_sellers": float(len(sellers)),
    }
    return labels, sellers, numbers


def _known(groups: Sequence[str], cells: Sequence[object]) -> tuple[Taxonomy, list[list[int]]]:
    """The taxonomy of the categories that have texts enough, and each listing's classes in it."""
    whole = Taxonomy.of(cells)
    pairs = {(one, group) for group, right in zip(groups, whole.truths(cells), strict=True) for one in right}
    counts = np.bincount(np.array([one for one, _ in pairs], np.int64), minlength=len(whole))
    taxonomy = Taxonomy(tuple(path for path, n in zip(whole.classes, counts, strict=True) if n >= LEAST_GROUPS))
    return taxonomy, taxonomy.truths(cells)


def _forms(listings: pd.DataFrame, column: str) -> list[str]:
    if column not in listings:
        return [""] * len(listings)
    return [normalise(text) if isinstance(text, str) else "" for text in listings[column].tolist()]


def _folds(groups: pd.Series, classes: Sequence[int], folds: int, seed: int) -> np.ndarray:
    """The fold of each listing: within a class, groups in hashed order are dealt to the folds in turn."""
    one = pd.DataFrame({"group": groups.astype(str), "class": classes}).drop_duplicates("group")
    digests = (hashlib.blake2b(f"{seed}/{group}".encode(), digest_size=8).digest() for group in one["group"])
    one = one.assign(order=list(digests)).sort_values(["class", "order"], kind="stable")
    # Where one class ends the next goes on, so that folds are even over many small classes too.
    fold = pd.Series(np.arange(len(one)) % folds, index=one["group"].to_numpy())
    return groups.astype(str).map(fold).to_numpy()


def _calibrated(scores: np.ndarray, truths: Sequence[Sequence[int]]) -> np.ndarray:
    from shelfwise.classification.calibration import apply, fit_temperature

    if scores.shape[1] < 2 or not len(scores):
        return np.ones(scores.shape, np.float32)
    return apply(scores, fit_temperature(scores, truths)).astype(np.float32)


def _same_text_elsewhere(judged: Judged) -> dict[str, list[str]]:
    """Group -> the categories under which its text stands, where they are several."""
    named = judged.listings.groupby("group_id")["category"].agg(lambda values: sorted(set(values)))
    return {str(group): names for group, names in named.items() if len(names) > 1}


def _reason(same_text: Sequence[str], category: str, suggested: str, own: float, others: float) -> str:
    told = f"a model that had not seen it gives '{suggested}' {others:.0%} and the category it has {own:.1%}"
    elsewhere = [f"'{name}'" for name in same_text if name != category]
    return told + (f"; the same text stands under {', '.join(elsewhere)} too" if elsewhere else "")
