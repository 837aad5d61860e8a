"""Labelled listings as training, evaluation and the ensemble take them: with their part, their truth, their picture."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from shelfwise.text import normalise

if TYPE_CHECKING:
    from shelfwise.classification.pictures import Pictures
    from shelfwise.classification.taxonomy import Taxonomy

# A picture that so many listings of so many categories share shows nothing of any of them ("no photo yet").
PLACEHOLDER_LISTINGS, PLACEHOLDER_CATEGORIES = 10, 3
LEAST_HELD_OUT = 10
TEXTS = ("title", "description")
# Each of these stays in the normal form, so a text that holds one is not blank: most need not be normalised to know.
_STAYS = re.compile("[0-9A-Za-z]")


def with_parts(listings: pd.DataFrame, parts: pd.DataFrame) -> pd.DataFrame:
    """Return marts/labelled_listings with `split`, its part by classification/listing_parts."""
    split = parts.drop_duplicates("group_id").set_index("group_id")["split"]
    return listings.assign(split=listings["group_id"].map(split)).dropna(subset=["split"]).reset_index(drop=True)


def of_part(listings: pd.DataFrame, parts: pd.DataFrame, split: str) -> pd.DataFrame:
    """Return the listings of one part."""
    known = with_parts(listings, parts)
    return known[known["split"] == split].reset_index(drop=True)


def with_text(listings: pd.DataFrame) -> pd.DataFrame:
    """Return the listings that have a title or a description that says something: what is there to be read."""
    said = [[not is_blank(one) for one in listings[name].tolist()] for name in TEXTS if name in listings]
    return listings[np.any(said, axis=0)].reset_index(drop=True)


def is_blank(text: object) -> bool:
    """Return whether there is nothing to be read: no text, or one of signs alone, whose normal form is empty."""
    return not (isinstance(text, str) and (_STAYS.search(text) or normalise(text)))


def why_too_few(listings: pd.DataFrame, least: int, what: str = "labelled listings") -> str:
    """Return why these listings (with `split`) are too few to train and judge a classifier, "" where they are not."""
    if listings.empty:
        return f"there are no {what}"
    if len(listings) < least:
        return f"there are {len(listings)} {what}, and {least} are needed (SHELFWISE_LEAST_LISTINGS)"
    if listings["category"].nunique() < 2:
        return f"the {what} are all of one category"
    counts = listings["split"].value_counts()
    few = [f"{counts.get(part, 0)} in {part}" for part in ("valid", "test") if counts.get(part, 0) < LEAST_HELD_OUT]
    return f"too few {what} are held out: {', '.join(few)}, {LEAST_HELD_OUT} are needed" if few else ""


def labels_of(listings: pd.DataFrame) -> pd.Series:
    """Return the right category paths of each listing as lists: `categories` where it has any, else `category`."""
    single = [[one] if isinstance(one, str) and one else [] for one in listings["category"]]
    if "categories" not in listings:
        return pd.Series(single, index=listings.index)
    several = [list(many) if isinstance(many, list | tuple | np.ndarray) else [] for many in listings["categories"]]
    return pd.Series([many or one for many, one in zip(several, single, strict=True)], index=listings.index)


def class_counts(listings: pd.DataFrame, taxonomy: Taxonomy) -> np.ndarray:
    """Return how many listings each class has, int64 [classes]."""
    named = [one for many in taxonomy.truths(labels_of(listings)) for one in many]
    return np.bincount(np.asarray(named, np.int64), minlength=len(taxonomy))


def evaluation_lines(listings: pd.DataFrame, pictured: Sequence[bool] | np.ndarray) -> pd.DataFrame:
    """Return what `evaluate` takes of each listing; `pictured`: whether a picture of it could be read."""
    description = listings["description"] if "description" in listings else pd.Series("", index=listings.index)
    return pd.DataFrame(
        {
            "listing_id": listings["listing_id"].astype(str),
            "group_id": listings["group_id"].astype(str),
            "title": listings["title"],
            "category": listings["category"].astype(str),
            "category_root": listings["category"].astype(str).str.split(" > ").str[0],
            "has_description": description.fillna("").astype(str).str.strip() != "",
            "has_image": np.asarray(pictured, bool),
        }
    ).reset_index(drop=True)


def picture_keys(listings: pd.DataFrame, pictures: Pictures) -> pd.Series:
    """Return a digest of each listing's pixels, null without a picture: duplicates share it and belong together.

    The key of a placeholder, which listings of many categories
    show, is null too: it would tie the whole catalog into one bundle.
    """
    digests = {
        one: hashlib.blake2b(np.ascontiguousarray(pixel).tobytes(), digest_size=16).hexdigest()
        for one, pixel in zip(pictures.listing_ids, pictures.pixels, strict=True)
    }
    keys = listings["listing_id"].astype(str).map(digests).astype(object)
    known = pd.DataFrame({"key": keys, "category": listings["category"]}).dropna(subset=["key"])
    shown = known.groupby("key")["category"].agg(["size", "nunique"])
    common = shown.index[(shown["size"] >= PLACEHOLDER_LISTINGS) & (shown["nunique"] >= PLACEHOLDER_CATEGORIES)]
    return keys.where(keys.notna() & ~keys.isin(common), None)
