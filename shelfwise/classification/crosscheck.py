"""The two systems check each other: what a line was matched to, beside what its words say it is.

A match contradicts a category where both are sure: the match was approved, the category would be assigned, and yet the
classifier gives the category of the matched product hardly any probability. One of the two is then wrong, or the
product stands under a wrong category in the catalog. Where the catalog's category has nothing to do with the categories
that the classifier knows (another tree), nothing can be compared and nothing is flagged.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from shelfwise.classification.taxonomy import SEPARATOR, Taxonomy, split_categories

LEAST = 0.05  # probability of the product's category below which it is as good as ruled out
SURE_MATCH, SURE_CATEGORY = "approved", "assign"
COLUMNS = ["match_product_id", "match_category", "match_probability", "contradiction"]


def related_classes(path: str, taxonomy: Taxonomy) -> np.ndarray:
    """Return which classes agree with a category path: itself, all below it, all that it lies below. bool [classes].

    Of several paths in one cell any may agree.
    """
    out = np.zeros(len(taxonomy), bool)
    for one in split_categories(path):
        below, inside = f"{one}{SEPARATOR}", one
        out |= [c == one or c.startswith(below) or inside.startswith(f"{c}{SEPARATOR}") for c in taxonomy.classes]
    return out


def cross_check(
    lines: pd.DataFrame,
    p: np.ndarray,
    taxonomy: Taxonomy,
    matches: pd.DataFrame | None,
    products: pd.DataFrame | None,
) -> pd.DataFrame:
    """Return for each line its match and whether the two contradict each other: columns `COLUMNS`, index of `lines`.

    `lines`: line_id, title, decision ('assign', 'suggest', 'ask'); `p`: float [n, classes]. `matches`: rows of
    uploads/upload_matches, None where there are none; a match of another title is that of an older file. `products`:
    product_id, category. match_probability: what the classifier gives the categories that agree with the product's, NaN
    where that cannot be said.
    """
    out = pd.DataFrame(index=lines.index, columns=COLUMNS[:2], dtype="object")
    out["match_probability"], out["contradiction"] = np.nan, False
    if matches is None or products is None or matches.empty or lines.empty:
        return out
    best = matches[(matches["rank"] == 1) & matches["product_id"].notna()].drop_duplicates("line_id")
    best = best.set_index("line_id")
    known = lines["line_id"].isin(best.index).to_numpy(copy=True)
    known[known] = best.loc[lines.loc[known, "line_id"], "title"].to_numpy() == lines.loc[known, "title"].to_numpy()
    found = best.loc[lines.loc[known, "line_id"]]
    category = products.drop_duplicates("product_id").set_index("product_id")["category"]
    paths = found["product_id"].map(category).astype("object").to_numpy()
    out.loc[known, "match_product_id"] = found["product_id"].to_numpy(object)
    out.loc[known, "match_category"] = paths
    mass = _mass(p[known], paths, taxonomy)
    out.loc[known, "match_probability"] = mass
    sure = (found["decision"].to_numpy() == SURE_MATCH) & (lines.loc[known, "decision"].to_numpy() == SURE_CATEGORY)
    out.loc[known, "contradiction"] = sure & (mass < LEAST)  # NaN is not below it
    return out


def _mass(p: np.ndarray, paths: np.ndarray, taxonomy: Taxonomy) -> np.ndarray:
    """Return what each row of p gives the classes that agree with its path, NaN where no class does."""
    out = np.full(len(p), np.nan)
    for path in {one for one in paths if isinstance(one, str)}:
        classes = related_classes(path, taxonomy)
        if classes.any():
            rows = np.flatnonzero(paths == path)
            out[rows] = p[np.ix_(rows, np.flatnonzero(classes))].sum(axis=1)
    return out
