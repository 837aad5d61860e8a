"""Picture files of a data directory, on a local disk or in an object store: which listing has which, and their bytes.

A listing's picture is what its column `image` names below `images/` ("images/a/1.jpg", or "a/1.jpg"), else
`images/<listing_id>.jpg` (or .jpeg, .png, .webp, .gif, .bmp). A line of an upload has what its column names, nothing
else. Nothing outside `images/` is read and no URL is fetched: a data directory or an upload that somebody delivers
cannot make this project read other files or ask other machines.
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterable, Iterator
from pathlib import Path

import pandas as pd
from upath import UPath

from shelfwise.artifacts import is_local
from shelfwise.contract.storage import ListingError, as_path, describe, etag_of, find_objects

FOLDER = "images"
ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp")
MAX_BYTES = 32 << 20
_AT_ONCE = 64  # files whose bytes are in memory together
COLUMNS = ["listing_id", "path", "stamp", "problem"]


def find(root: UPath | Path | str, listings: pd.DataFrame) -> pd.DataFrame:
    """Return a row per listing that has a picture or names one: listing_id, path (below the data directory), stamp
    (which changes with the file), problem (None, or why there is nothing to read).

    `listings`: listing_id and image. A listing that names none and has none has no row. Raises ListingError where the
    folder is there and cannot be listed.
    """
    files = _listed(as_path(root))
    images = listings["image"] if "image" in listings else pd.Series(None, index=listings.index, dtype="object")
    rows = []
    for listing_id, image in zip(listings["listing_id"].astype(str), images.tolist(), strict=True):
        named = isinstance(image, str) and image.strip() != ""
        path, problem = _named(image.strip(), files) if named else (_by_id(listing_id, files), None)
        if path is None and problem is None:
            continue
        if path is not None and files[path][0] > MAX_BYTES:
            problem = f"a file of {files[path][0]:,} bytes; {MAX_BYTES:,} are allowed"
        rows.append((listing_id, path or str(image), files[path][1] if path else "", problem))
    # As objects: a column of text would turn the None of what can be read into NaN beside the reasons of others.
    return pd.DataFrame(rows, columns=COLUMNS, dtype="object").drop_duplicates("listing_id").reset_index(drop=True)


def named(root: UPath | Path | str, lines: pd.DataFrame) -> pd.DataFrame:
    """Return `find` for lines of an upload (line_id, image), the line_id as listing_id: a row per line that names a
    picture. The folder is listed only where one does; lines that were read before there was this column name none.
    """
    if "image" not in lines:
        return pd.DataFrame(columns=COLUMNS)
    some = lines[lines["image"].fillna("").str.strip() != ""]
    return find(root, some.rename(columns={"line_id": "listing_id"})) if len(some) else pd.DataFrame(columns=COLUMNS)


def with_pictures(root: UPath | Path | str, listings: pd.DataFrame) -> tuple[pd.DataFrame, int]:
    """Return listings whose `image` names the file that bears their id, where they name none; and how many there are.

    One listing of the folder, nothing is read. Raises ListingError where the folder is there and cannot be listed.
    """
    unnamed = listings["image"].isna()
    found = find(root, listings.loc[unnamed, ["listing_id", "image"]])
    paths = listings["listing_id"].map(found.set_index("listing_id")["path"].astype("object"))
    filled = listings["image"].astype("object").where(~unnamed, paths).astype(listings["image"].dtype)
    return listings.assign(image=filled), int(filled[unnamed].notna().sum())


def read(root: UPath | Path | str, found: pd.DataFrame) -> Iterator[tuple[str, bytes | str]]:
    """Yield (listing_id, bytes, or in words why there are none) for each row of `find`.

    Raises ListingError where the store fails: what it would give later must not be left out now.
    """
    folder = as_path(root)
    for start in range(0, len(found), _AT_ONCE):
        some = found.iloc[start : start + _AT_ONCE]
        sound = some[some["problem"].isna()]
        data = dict(_contents(folder, sound["path"].unique().tolist()))
        for row in some.itertuples(index=False):
            yield row.listing_id, row.problem if row.problem is not None else data[row.path]


def _named(image: str, files: dict[str, tuple[int, str]]) -> tuple[str | None, str | None]:
    if "://" in image:
        return None, "a URL: only files below images/ are read"
    path = posixpath.normpath(image.replace("\\", "/"))
    if path.startswith(("/", "..")):
        return None, "a path that leaves the data directory"
    path = path if path.startswith(f"{FOLDER}/") else f"{FOLDER}/{path}"
    return (path, None) if path in files else (None, f"there is no file {path}")


def _by_id(listing_id: str, files: dict[str, tuple[int, str]]) -> str | None:
    paths = (f"{FOLDER}/{listing_id}{ending}" for ending in ENDINGS)
    return next((path for path in paths if path in files), None)


def _listed(root: UPath) -> dict[str, tuple[int, str]]:
    """Return path -> (size, stamp) of every file below `images/`; none where there is no such folder."""
    try:
        if is_local(root):
            return {f"{FOLDER}/{name}": told for name, told in _walk(Path(str(root)) / FOLDER, "")}
        infos = find_objects(root / FOLDER)
    except FileNotFoundError:
        return {}
    except Exception as error:
        raise ListingError(f"cannot list {root / FOLDER}: {describe(error)}") from error
    return {f"{FOLDER}/{one['name']}": (int(one["size"]), etag_of(one)) for one in infos if one["type"] == "file"}


def _walk(folder: Path, below: str) -> Iterator[tuple[str, tuple[int, str]]]:
    """Files of a local folder and its subfolders; links are not followed."""
    with os.scandir(folder / below) as entries:
        for entry in entries:
            name = f"{below}/{entry.name}" if below else entry.name
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(folder, name)
            elif entry.is_file(follow_symlinks=False):
                told = entry.stat(follow_symlinks=False)
                yield name, (told.st_size, f"{told.st_size}-{told.st_mtime_ns}")


def _contents(root: UPath, paths: list[str]) -> Iterable[tuple[str, bytes | str]]:
    if is_local(root):
        for path in paths:
            try:
                yield path, (Path(str(root)) / path).read_bytes()
            except OSError as error:
                yield path, describe(error)
        return
    full = {path: (root / path).path for path in paths}
    data = root.fs.cat(list(full.values()), on_error="return") if full else {}
    for path, key in full.items():
        one = data.get(key, FileNotFoundError(path))
        if isinstance(one, Exception) and not isinstance(one, FileNotFoundError | PermissionError):
            raise ListingError(f"cannot read {root / path}: {describe(one)}") from one
        yield path, describe(one) if isinstance(one, Exception) else one
