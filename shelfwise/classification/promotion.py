"""By which rules classifiers are promoted, each by itself, and which held-out listings a champion was not fitted on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from shelfwise.promotion import compare as comparison
from shelfwise.promotion.compare import RESAMPLES, Comparison
from shelfwise.promotion.rules import Rules

TRAINED_ON = "trained_on.parquet"
MAJORITY, NGRAMS = "majority", "ngrams"
SEEN = "the champion was fitted on them or on duplicates of them"

# The source system's floors. The linear model on n-grams has to be beaten, or it is what the classifier consists of.
TEXT = Rules(
    floor=0.75,
    beat=(MAJORITY,),
    keep=(NGRAMS,),
    same=("listing_id", "group_id"),
    unit="group_id",
    decided="assign",
    slices={
        "category": "category",
        "categories of the": "popularity",
        "listings": "description",
        "listings with a picture:": "picture",
        "about": "kind",
    },
    evaluation="classification/text_evaluation",
    model="text classifier",
    lines="listings",
    more="label more listings, a part of them is held out",
    seen=SEEN,
    does="assigns",
    done="assigned",
    deeds="assignments",
    rest="would all be asked about",
    called={MAJORITY: "the most frequent category", NGRAMS: "the linear model on n-grams"},
)
IMAGE = replace(TEXT, floor=0.2, keep=(), evaluation="classification/image_evaluation", model="image classifier")
# Together they have to be as good as either alone, on the same listings; half a point is a difference that does not
# matter.
ENSEMBLE = replace(
    TEXT,
    floor=0.2,
    keep=("text", "image"),
    slack=0.005,
    evaluation="classification/ensemble_evaluation",
    model="category ensemble",
    called={**TEXT.called, "text": "the text classifier alone", "image": "the image classifier alone"},
)


def trained_on(parts: pd.DataFrame) -> pd.DataFrame:
    """Return which groups of listings a classifier is fitted on, those of train and valid: one column, group_id.

    `parts`: classification/listing_parts.
    """
    return pd.DataFrame({"group_id": np.unique(parts.loc[parts["split"] != "test", "group_id"].astype(str))})


def read_trained_on(directory: Path) -> pd.DataFrame | None:
    """Return what a classifier says it was fitted on, None where it does not say (an older version made it)."""
    try:
        return pd.read_parquet(Path(directory) / TRAINED_ON)
    except FileNotFoundError:
        return None


def seen_listings(listings: pd.DataFrame, known: pd.DataFrame | None) -> np.ndarray:
    """Return which listings (group_id) are of a group in `known`, a frame of `trained_on`; none without it."""
    if known is None:
        return np.zeros(len(listings), bool)
    return listings["group_id"].astype(str).isin(set(known["group_id"].astype(str))).to_numpy(bool)


def compare(
    candidate: pd.DataFrame,
    champion: pd.DataFrame,
    rules: Rules,
    known: pd.DataFrame | None = None,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Comparison:
    """Compare two classifiers on the listings that both were evaluated on.

    `candidate`, `champion`: `Evaluation.lines` of either, row by row the same listings. `rules`: `TEXT`, `IMAGE` or
    `ENSEMBLE`. `known`: what the champion was fitted on (`trained_on`), None where that is not recorded. Raises
    ValueError where the frames are not of the same listings.
    """
    seen = None if known is None else seen_listings(candidate, known)
    return comparison.compare(candidate, champion, rules, seen, seed, resamples)
