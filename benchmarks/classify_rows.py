"""Listings of any data directory, and the stated split, for `benchmarks.classify`.

Read leniently, because the directory may be anybody's: `listings.csv`, `.jsonl`, `.json` or `.parquet` with `category`
and at least one of `title`, `description` and pictures. A row may lack any of the others. Pictures are named by the
column `image` (a file below `images/`, or its name), else `images/<listing_id>` with any usual ending.

The split: rows with a category; classes (the category path, cut at `level`) with at least ten of them;
`sklearn.model_selection.train_test_split(test_size=0.2, stratify=class, random_state=seed)` over the rows in the file's
order. A training row that says the same as a test row (normalised title and description for text, pixels for pictures)
is not learned from, and counted. The validation part, an eighth but no more than about 2,500 listings, which is plenty
to choose and to calibrate by, comes out of the training part, by the project's own rule
(`shelfwise.classification.splits`): rows that say the same are together in one part.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from shelfwise.classification import picture_files
from shelfwise.classification.splits import listing_parts
from shelfwise.classification.taxonomy import SEPARATOR, SEVERAL, split_categories
from shelfwise.contract.tabular import clean_header, decode, read_csv
from shelfwise.errors import InputError, Problem
from shelfwise.text import normalise

COLUMNS = ("listing_id", "title", "description", "category", "image")
EXTENSIONS = (".parquet", ".csv", ".jsonl", ".ndjson", ".json")
LEAST_OF_A_CLASS = 10
TEST_SHARE, VALID_SHARE, MOST_VALID = 0.2, 0.125, 2_500


@dataclass
class Rows:
    """The listings that take part, in the file's order, with what was left out and why.

    `frame`: listing_id, title and description ('' where missing), text_key ('' without any text), category (the class),
    categories (all right ones that are classes), split ('train', 'valid', 'test'). `pictures`: of `find_pictures`.
    """

    frame: pd.DataFrame
    pictures: pd.DataFrame
    classes: tuple[str, ...]
    counts: dict[str, Any] = field(default_factory=dict)

    def of(self, split: str) -> np.ndarray:
        """Return the positions of one part."""
        return np.flatnonzero((self.frame["split"] == split).to_numpy())


# ---- reading ---------------------------------------------------------------------------------------------------------


def listings_file(folder: Path) -> Path:
    """Return the file of the table `listings`. Raises InputError where there is none, or more than one."""
    if not folder.is_dir():
        raise InputError(Problem(str(folder), "a data directory", "no folder of this name"))
    found = sorted(p for p in folder.iterdir() if p.stem.lower() == "listings" and p.suffix.lower() in EXTENSIONS)
    if len(found) != 1:
        names = ", ".join(p.name for p in found) or "none"
        raise InputError(Problem(str(folder), f"one file listings{'|'.join(EXTENSIONS)}", names))
    return found[0]


def read_listings(folder: Path) -> pd.DataFrame:
    """Return the table as text ('' where a value is missing), only the columns known here.

    Raises InputError where there is no table, it cannot be read, or it has no column `category`.
    """
    path = listings_file(folder)
    data = path.read_bytes()
    try:
        if path.suffix.lower() == ".csv":
            read = read_csv(data, path.name, COLUMNS, ("category",))
            frame = pd.DataFrame({name: column.to_pylist() for name, column in read.columns.items()})
        elif path.suffix.lower() == ".parquet":
            frame = pd.read_parquet(io.BytesIO(data))
        else:
            frame = pd.DataFrame(_records(decode(data, path.name)[0]))
    except (ValueError, OSError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(Problem(path.name, f"a {path.suffix} file", str(error))) from error
    frame.columns = pd.Index(clean_header([str(name) for name in frame.columns], COLUMNS))
    if "category" not in frame:
        raise InputError(Problem(path.name, "a column 'category'", ", ".join(map(str, frame.columns))))
    out = pd.DataFrame(
        {name: _texts(frame[name]) if name in frame else [""] * len(frame) for name in COLUMNS}, dtype=object
    )
    if "listing_id" not in frame:
        out["listing_id"] = [str(number) for number in range(1, len(out) + 1)]
    return out


def _records(text: str) -> list[dict[str, Any]]:
    if text.lstrip().startswith("["):
        return json.loads(text)
    return [json.loads(line) for line in text.split("\n") if line.strip()]


def _texts(values: Iterable[Any]) -> list[str]:
    return [_text(value) for value in values]


def _text(value: Any) -> str:
    """Return a cell as text: '' for nothing, a whole number without a point, a list as several categories."""
    if isinstance(value, list | tuple | np.ndarray):
        return SEVERAL.join(filter(None, map(_text, value)))
    if value is None or value is pd.NA or value is pd.NaT or (isinstance(value, float) and np.isnan(value)):
        return ""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).strip()


def paths_of(cell: str, level: int | None = None) -> list[str]:
    """Return the category paths of a cell, tidied, cut at a level, each once."""
    found = []
    for path in split_categories(cell):
        path = SEPARATOR.join([name for name in map(str.strip, path.split(">")) if name][:level])
        if path and path not in found:
            found.append(path)
    return found


def find_pictures(folder: Path, listings: pd.DataFrame) -> pd.DataFrame:
    """Return the picture of each listing that has or names one (`shelfwise.classification.picture_files.find`).

    Where the column `image` names no file below `images/`, its last part and then the listing's id are tried.
    """
    found = picture_files.find(folder, listings)
    for images in (listings["image"].str.rsplit("/", n=1).str[-1], pd.Series("", index=listings.index)):
        lost = listings["listing_id"].isin(found.loc[found["problem"].notna(), "listing_id"])
        if not lost.any():
            break
        again = picture_files.find(folder, listings[lost].assign(image=images[lost]))
        again = again[again["problem"].isna()]
        found = pd.concat([found[~found["listing_id"].isin(again["listing_id"])], again])
    return found.reset_index(drop=True)


# ---- the split -------------------------------------------------------------------------------------------------------


def text_key(title: str, description: str) -> str:
    """Return what two listings with the same text share, '' where there is none."""
    text = f"{normalise(title)}\n{normalise(description)}" if title or description else ""
    return hashlib.sha256(text.encode()).hexdigest()[:24] if text.strip() else ""


def prepare(folder: Path, level: int | None = None, seed: int = 0) -> Rows:
    """Read a data directory and split it by the rule above.

    Raises InputError where fewer than two classes have ten listings.
    """
    listings = read_listings(folder)
    counts: dict[str, Any] = {"read": len(listings)}
    repeated = listings["listing_id"].duplicated()
    listings = listings[~repeated]
    paths = [paths_of(cell, level) for cell in listings["category"]]
    known = np.array([bool(each) for each in paths], bool)
    counts |= {"repeated_ids": int(repeated.sum()), "without_category": int((~known).sum())}
    listings, paths = listings[known].reset_index(drop=True), [each for each in paths if each]
    first = pd.Series([each[0] for each in paths], dtype=object)
    sizes = first.value_counts()
    classes = set(sizes.index[sizes >= LEAST_OF_A_CLASS])
    keep = first.isin(classes).to_numpy()
    counts |= {
        "classes": len(classes),
        "classes_too_small": len(sizes) - len(classes),
        "in_classes_too_small": int((~keep).sum()),
        "used": int(keep.sum()),
        "several_categories": sum(len(each) > 1 for each, kept in zip(paths, keep, strict=True) if kept),
    }
    if len(classes) < 2:
        wanted = f"at least two categories with {LEAST_OF_A_CLASS} listings each"
        raise InputError(Problem(str(folder), wanted, f"{len(classes)} of {len(sizes)}", column="category"))
    frame = listings[keep].reset_index(drop=True)
    frame["category"] = first[keep].to_numpy()
    frame["categories"] = [
        [path for path in each if path in classes] for each, kept in zip(paths, keep, strict=True) if kept
    ]
    frame["text_key"] = [text_key(*pair) for pair in zip(frame["title"], frame["description"], strict=True)]
    pictures = find_pictures(folder, frame)
    frame["split"] = split(frame["category"], seed)  # validation is parted from training once all keys are known
    counts |= {
        "without_title": int((frame["title"] == "").sum()),
        "without_text": int((frame["text_key"] == "").sum()),
        "without_picture": int((~frame["listing_id"].isin(pictures["listing_id"])).sum()),
    }
    return Rows(frame, pictures, tuple(sorted(classes)), counts)


def split(category: pd.Series, seed: int = 0) -> np.ndarray:
    """Return 'train' or 'test' by row."""
    from sklearn.model_selection import train_test_split

    where = np.arange(len(category))
    _, test = train_test_split(where, test_size=TEST_SHARE, stratify=category.to_numpy(), random_state=seed)
    out = np.full(len(category), "train", dtype=object)
    out[test] = "test"
    return out


def nothing_to_learn_from(folder: Path) -> Problem:
    """Return what is wrong with a directory in which too few listings have a text, or a picture that can be read."""
    return Problem(str(folder), "titles, descriptions or pictures to learn from", "too few of the kinds asked for")


def settle(rows: Rows, keys: Mapping[str, np.ndarray], seed: int = 0) -> dict[str, np.ndarray]:
    """Return by modality which rows may be learned from, and part validation from training.

    `keys`: 'text', 'image' -> what equal rows share ('' where the row has none of it). Changes the split of `rows` and
    adds to its counts.
    """
    usable, dropped = {}, {}
    test = (rows.frame["split"] == "test").to_numpy()
    for modality, key in keys.items():
        seen = np.isin(key, np.unique(key[test])) & (key != "") & ~test
        usable[modality] = ~test & (key != "") & ~seen
        dropped[modality] = int(seen.sum())
    part = np.where(test, "test", validation(rows.frame, keys, ~test, seed))
    rows.frame["split"] = part
    rows.counts |= {name: int((part == name).sum()) for name in ("train", "valid", "test")}
    rows.counts |= {
        "duplicates_of_test_dropped": dropped,
        "learned_from": {modality: int((mask & (part == "train")).sum()) for modality, mask in usable.items()},
    }
    return usable


def validation(frame: pd.DataFrame, keys: Mapping[str, np.ndarray], among: np.ndarray, seed: int) -> np.ndarray:
    """Return 'valid' or 'train' for the rows `among`, 'train' for the others."""
    text = keys.get("text", np.full(len(frame), "", dtype=object))
    ids = pd.DataFrame(
        {"group_id": np.where(text != "", text, "id " + frame["listing_id"]), "category": frame["category"]}
    )
    if "image" in keys:
        ids["image_key"] = pd.Series(keys["image"], dtype=object).where(keys["image"] != "", None)
    share = min(VALID_SHARE, MOST_VALID / max(among.sum(), 1))
    parts = listing_parts(ids[among].reset_index(drop=True), seed, share, 0.0).set_index("group_id")["split"]
    return np.where(among, ids["group_id"].map(parts), "train")
