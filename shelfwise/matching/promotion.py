"""By which rules a matcher is promoted, and on which lines it is compared: those the champion was not fitted on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from shelfwise.matching.decisions import APPROVED
from shelfwise.matching.splits import PRODUCT, VENDOR, hashed_share, vendors_separable
from shelfwise.promotion import compare as comparison
from shelfwise.promotion.compare import RESAMPLES, Comparison
from shelfwise.promotion.rules import Rules

TRAINED_ON = "trained_on.parquet"
# A candidate must beat each of these on the same lines. Those ending in `_names` know the vendors' past lines too.
SIMPLE_BASELINES = ("exact", "token_jaccard", "char_tfidf", "exact_names", "token_jaccard_names", "char_tfidf_names")
# Approved precision and coverage count lines as an upload would be, where some lines match nothing (`has_match`);
# top-1 and top-5 those whose product is in both catalogs.
RULES = Rules(
    floor=0.5,
    beat=SIMPLE_BASELINES,
    same=("vendor_id", "title", "product_id"),
    unit="product_id",
    among="in_catalog",
    answerable="has_match",
    decided=APPROVED,
    slices={"vendor": "vendor_id", "category": "category", "other names": "popularity"},
    evaluation="matching/matcher_evaluation",
    model="matcher",
    lines="lines",
    more="map more lines, a part of them is held out",
    seen="the champion was fitted on their vendor or product",
    does="approves",
    done="approved",
    deeds="approvals",
    rest="would all go to review",
)


def trained_on(pairs: pd.DataFrame) -> pd.DataFrame:
    """Return whose lines encoder and scorer are fitted on: the vendors and products of the labelled lines of train and
    valid, columns kind, id. A product that was only ever a wrong answer is not among them.

    `pairs`: matching/training_pairs.
    """
    used = pairs[(pairs["split"] != "test") & (pairs["label"] == 1)]
    ids = {VENDOR: used["vendor_id"], PRODUCT: used["product_id"]}
    frames = [pd.DataFrame({"kind": kind, "id": np.unique(own.astype(str))}) for kind, own in ids.items()]
    return pd.concat(frames, ignore_index=True)


def read_trained_on(directory: Path) -> pd.DataFrame | None:
    """Return what a matcher says it was fitted on, None where it does not say (an older version made it)."""
    try:
        return pd.read_parquet(Path(directory) / TRAINED_ON)
    except FileNotFoundError:
        return None


def vendors_apart(pairs: pd.DataFrame) -> bool:
    """Whether no vendor occurs in more than one part of matching/training_pairs."""
    return bool((pairs.groupby("vendor_id")["split"].nunique() <= 1).all())


def seen_lines(lines: pd.DataFrame, known: pd.DataFrame | None, by_vendor: bool = True) -> np.ndarray:
    """Return which lines (vendor_id, product_id) are of a vendor or product in `known`, a frame of `trained_on`.

    `by_vendor`: False where vendors cannot be kept apart, for then nobody has unseen ones. Without `known` none is.
    """
    if known is None:
        return np.zeros(len(lines), bool)
    ids = {kind: set(known.loc[known["kind"] == kind, "id"]) for kind in (VENDOR, PRODUCT)}
    seen = lines["product_id"].astype(str).isin(ids[PRODUCT]).to_numpy()
    return seen | lines["vendor_id"].astype(str).isin(ids[VENDOR]).to_numpy() if by_vendor else seen


def lines_never_seen(positives: pd.DataFrame, known: pd.DataFrame, most: int) -> pd.DataFrame:
    """Return the labelled lines of vendors and products that a matcher was not fitted on, at most about `most` of them
    (a sample by line_id). Where vendors cannot be kept apart, products alone decide.

    `positives`: marts/labelled_positives.
    """
    kept = positives[~seen_lines(positives, known, vendors_separable(positives["vendor_id"]))]
    if len(kept) > most:
        kept = kept[hashed_share(kept["line_id"].astype(str), most / len(kept), 0)]
    return kept.reset_index(drop=True)


def by_source(lines: pd.DataFrame, outcomes: pd.DataFrame) -> pd.DataFrame:
    """Return accuracy by where labels come from: corrections are lines that somebody found doubtful, and harder.

    `lines`: with `source` (mapping, feedback); `outcomes`: `Evaluation.lines` of the same. Columns: source, lines,
    top1, top5.
    """
    inside = outcomes["in_catalog"].to_numpy(bool)
    hits = pd.DataFrame(
        {
            "source": lines["source"].to_numpy(),
            "lines": 1,
            "top1": (outcomes["rank"] == 1).to_numpy(),
            "top5": outcomes["rank"].between(1, 5).to_numpy(),
        }
    )[inside]
    return hits.groupby("source").agg({"lines": "sum", "top1": "mean", "top5": "mean"}).reset_index()


def compare(
    candidate: pd.DataFrame,
    champion: pd.DataFrame,
    known: pd.DataFrame | None = None,
    by_vendor: bool = True,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Comparison:
    """Compare two matchers on the lines that both were evaluated on.

    `candidate`, `champion`: `Evaluation.lines` of either, row by row the same lines. `known`: what the champion was
    fitted on (`trained_on`), None where that is not recorded; `by_vendor`: whether the split keeps vendors apart.
    Raises ValueError where the frames are not of the same lines.
    """
    seen = None if known is None else seen_lines(candidate, known, by_vendor)
    return comparison.compare(candidate, champion, RULES, seen, seed, resamples)
