"""Real sets as data directories for `benchmarks.classify`: `python -m benchmarks.classify_data SET SRC OUT`.

    instacart  listings.csv with listing_id, title, category ("department > aisle"), without the aisle "missing"
    fashion    listings.csv with listing_id, title, category ("masterCategory > subCategory > articleType"), and images/

`fashion --without-category-words` removes from each title every word that names its or any category, at any level:

- Words are what stands between spaces, without signs around them, compared case-folded and without regard to plural
  endings (s, es, ies for y, ves for f) or a possessive 's.
- A word goes if it is a word of a category's name, or a category's name of several words written as one ("trackpants").
- A word of parts joined by - / & + . ' goes if it is one of these without the sign ("T-Shirt", "flip-flops"); else
  its parts that are go ("semi-formal" leaves "semi").
- Two words in a row go if they are one when written together ("t shirt", "sun glasses").
- A word goes that ends in the last word of a category's name ("wristwatch", "necktie"), if that has four letters or is
  "bag" or "tie"; other short ones end too many words ("that", "laptop").

OUT must lie outside this checkout: none of the data may get into the repository.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.common import ROOT

SEPARATOR = " > "
MISSING_AISLE = "missing"
LEVELS = ("masterCategory", "subCategory", "articleType")
SHORT_ENDINGS = ("bag", "tie")
LEAST_ENDING = 4
_EDGES = re.compile(r"^\W+|\W+$")
_JOINTS = re.compile(r"[-/&+.'’_]+")
_WORD = re.compile(r"[^\W_]+")


# ---- words of categories ---------------------------------------------------------------------------------------------


def forms(word: str) -> set[str]:
    """Return a word case-folded, with what it may be in the singular: 'Dresses' gives 'dresses', 'dresse', 'dress'."""
    word = re.sub(r"['’]s$", "", word.casefold())
    found = {word}
    if len(word) >= 4 and word.endswith("s") and not word.endswith("ss"):
        found.add(word[:-1])
        if re.search(r"(?:s|x|z|ch|sh)es$", word):
            found.add(word[:-2])
        found |= {word[: -len(end)] + one for end, one in (("ies", "y"), ("ves", "f")) if word.endswith(end)}
    return found


class CategoryWords:
    """Removes what names a category from titles, by the rule above. `names`: category names of every level."""

    def __init__(self, names: Iterable[str]) -> None:
        split = [words for words in (_WORD.findall(name) for name in names) if words]
        self.words = {form for words in split for word in (*words, "".join(words)) for form in forms(word)}
        heads = [words[-1].casefold() for words in split]
        singular = {form for head in heads for form in (forms(head) - {head} or {head})}
        self.endings = tuple(sorted(form for form in singular if len(form) >= LEAST_ENDING or form in SHORT_ENDINGS))

    def names_one(self, word: str) -> bool:
        """Return whether a word, by itself, is one to remove."""
        return any(form in self.words or form.endswith(self.endings) for form in forms(word))

    def remove(self, title: str) -> str:
        """Return the title without them; the other words stay as they are, signs included."""
        kept: list[str] = []
        tokens = title.split()
        at = 0
        while at < len(tokens):
            bare = [_EDGES.sub("", token) for token in tokens[at : at + 2]]
            if len(bare) == 2 and all(bare) and forms(_JOINTS.sub("", "".join(bare))) & self.words:
                at += 2
                continue
            kept += self._left_of(tokens[at], bare[0])
            at += 1
        return " ".join(kept)

    def _left_of(self, token: str, bare: str) -> list[str]:
        if not bare:
            return [token]
        if self.names_one(bare) or self.names_one(_JOINTS.sub("", bare)):
            return []
        parts = [part for part in _JOINTS.split(bare) if part]
        left = [part for part in parts if not self.names_one(part)]
        return [token] if len(left) == len(parts) else left


# ---- the sets --------------------------------------------------------------------------------------------------------


def instacart(source: Path, out: Path) -> dict[str, Any]:
    """Write Instacart's products as listings; return counts. Raises ValueError where an aisle has two departments."""
    products, aisles, departments = (
        pd.read_csv(source / f"{name}.csv", dtype=str, keep_default_na=False)
        for name in ("products", "aisles", "departments")
    )
    products = products.merge(aisles, on="aisle_id", validate="many_to_one").merge(
        departments, on="department_id", validate="many_to_one"
    )
    products = products[products["aisle"] != MISSING_AISLE]
    if (products.groupby("aisle_id")["department_id"].nunique() > 1).any():
        raise ValueError(f"{source}: an aisle lies in two departments, so the leaf would not say the path")
    listings = pd.DataFrame(
        {
            "listing_id": products["product_id"],
            "title": products["product_name"],
            "category": products["department"] + SEPARATOR + products["aisle"],
        }
    )
    return _write(listings, out, {"set": "instacart"})


def fashion(source: Path, out: Path, without_category_words: bool = False) -> dict[str, Any]:
    """Write the fashion products as listings, with their pictures; return counts."""
    styles = pd.read_csv(source / "styles.csv", dtype=str, keep_default_na=False)
    titles = styles["title"]
    counts: dict[str, Any] = {"set": "fashion", "without_category_words": without_category_words}
    if without_category_words:
        words = CategoryWords(name for level in LEVELS for name in styles[level].unique())
        titles = pd.Series([words.remove(title) for title in styles["title"]], index=styles.index, dtype=object)
        counts |= {"titles_changed": int((titles != styles["title"]).sum()), "titles_empty": int((titles == "").sum())}
    category = styles[LEVELS[0]]
    for level in LEVELS[1:]:
        category = category + SEPARATOR + styles[level]
    listings = pd.DataFrame({"listing_id": styles["id"], "title": titles, "category": category})
    counts = _write(listings, out, counts)
    with zipfile.ZipFile(source / "images.zip") as archive:
        names = [name for name in archive.namelist() if re.fullmatch(r"images/[\w-]+\.jpg", name)]
        archive.extractall(out, names)
    return counts | {"pictures": len(names)}


def _write(listings: pd.DataFrame, out: Path, counts: dict[str, Any]) -> dict[str, Any]:
    out.mkdir(parents=True, exist_ok=True)
    listings.to_csv(out / "listings.csv", index=False)
    return {**counts, "listings": len(listings), "classes": int(listings["category"].nunique())}


def main(argv: Sequence[str] | None = None) -> int:
    """Run from the command line and print the counts as JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.classify_data", description=__doc__.splitlines()[0])
    parser.add_argument("set", choices=("instacart", "fashion"))
    parser.add_argument("source", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--without-category-words", action="store_true", help="fashion: take them out of the titles")
    given = parser.parse_args(argv)
    if given.out.resolve().is_relative_to(ROOT):
        parser.error(f"{given.out} lies in the checkout; no data may get into the repository")
    if given.set == "instacart":
        made = instacart(given.source, given.out)
    else:
        made = fashion(given.source, given.out, given.without_category_words)
    print(json.dumps(made))
    return 0


if __name__ == "__main__":
    sys.exit(main())
