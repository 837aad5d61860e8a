"""The categories of a vendor's lines: what uploads/upload_categories holds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from upath import UPath

from shelfwise.classification import picture_files
from shelfwise.classification.crosscheck import cross_check
from shelfwise.classification.decide import ASSIGN, decide
from shelfwise.classification.ensemble import IMAGE
from shelfwise.classification.merging import counts_as
from shelfwise.classification.model import CategoryModel
from shelfwise.feedback import category_prediction_ids
from shelfwise.matching.decisions import audited

if TYPE_CHECKING:
    from shelfwise.classification.pictures import Pictures

LINE = ("line_id", "row", "vendor_id", "file", "title", "description")
COLUMNS = {
    "line_id": "str",
    "row": "int64",
    "vendor_id": "str",
    "file": "str",
    "title": "str",
    "description": "str",
    "rank": "int64",
    "category": "str",
    "probability": "float64",
    "decision": "str",
    "certain": "str",
    "evidence": "str",
    "explanation": "str",
    "match_product_id": "str",
    "match_category": "str",
    "match_probability": "float64",
    "contradiction": "bool",
    "audited": "bool",
    "champion_version": "str",
    "prediction_id": "str",
}


PICTURE_ALONE = "the picture alone"  # what stands for the words that spoke for a category


def nothing() -> pd.DataFrame:
    """Return the table without rows."""
    return pd.DataFrame(columns=list(COLUMNS)).astype(COLUMNS)


def as_classes(products: pd.DataFrame | None, categories: pd.DataFrame | None) -> pd.DataFrame | None:
    """Return products with their category as labelled listings have it: merged by the table that people edit.

    `products`: staging/stg_products; `categories`: staging/stg_categories (category, counts_as); None: not made yet.
    """
    if products is None or products.empty:
        return None
    merged = counts_as(categories)
    if not merged:
        return products[["product_id", "category"]]
    return products[["product_id"]].assign(category=products["category"].map(merged).fillna(products["category"]))


def line_pictures(root: UPath | Path | str, lines: pd.DataFrame, side: int, directory: Path) -> Pictures | None:
    """Return the pictures that lines name, packed into a directory under their line_id, with what cannot be read; None
    where no line names one. Raises ListingError where the store fails.
    """
    from shelfwise.classification.pictures import Pictures

    found = picture_files.named(root, lines)
    return None if found.empty else Pictures.pack(picture_files.read(root, found), side, directory)


def unreadable(lines: pd.DataFrame, pictures: Pictures | None) -> pd.DataFrame:
    """Return which lines' pictures could not be read: row (in the vendor's file), title, image, problem."""
    columns = ["row", "title", "image", "problem"]
    if pictures is None:
        return pd.DataFrame(columns=columns)
    problems = pictures.problems.rename(columns={"listing_id": "line_id"})
    return lines.merge(problems, on="line_id")[columns]


def classify_lines(
    model: CategoryModel,
    lines: pd.DataFrame,
    matches: pd.DataFrame | None,
    products: pd.DataFrame | None,
    champion_version: str,
    audit_share: float = 0.0,
    pictures: Pictures | None = None,
) -> pd.DataFrame:
    """Return the five most probable categories of each line, a row each (columns `COLUMNS`): probability, decision (of
    the line, repeated), what it comes from (`evidence`: 'both', 'text', 'image' or 'none'), which words spoke for the
    first, and whether its match contradicts it (see `crosscheck`).

    `lines`: rows of uploads/upload_lines. `matches`: of uploads/upload_matches, None where there are none. `products`:
    product_id, category. `audit_share`: of the lines whose category is assigned, those that a person sees all the same;
    the same lines whose matches are audited. `pictures`: of the lines that have one, see `line_pictures`.
    """
    if lines.empty:
        return nothing()
    lines = lines.reset_index(drop=True)
    p, cases = model.answer(lines.assign(listing_id=lines["line_id"]), pictures)
    ranked = decide(p, model.taxonomy, model.thresholds, cases)
    best = ranked[ranked["rank"] == 1].set_index("row").loc[range(len(lines))]
    decided = lines[["line_id", "title"]].assign(decision=best["decision"].to_numpy())
    checked = cross_check(decided, p, model.taxonomy, matches, products)
    checked["evidence"] = cases
    words = model.explain(lines, best["category"].tolist())
    checked["explanation"] = np.where(cases == IMAGE, PICTURE_ALONE, np.array(words, dtype=object))
    own = lines.reindex(columns=list(LINE)).join(checked)
    ranked = ranked.rename(columns={"row": "line"})
    rows = ranked.merge(own, left_on="line", right_index=True, how="left").assign(champion_version=champion_version)
    rows["audited"] = audited(rows, audit_share) & (rows["decision"] == ASSIGN)
    rows["prediction_id"] = category_prediction_ids(rows)
    rows.loc[rows["rank"] > 1, "explanation"] = None
    return rows.sort_values(["line", "rank"])[list(COLUMNS)].reset_index(drop=True).astype(COLUMNS)
