"""Listing and reading files of a data directory, on a local disk or in an object store.

Object store clients remember listings; everything here asks again, because the sensor lives for weeks in one process.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from fsspec.asyn import AsyncFileSystem, sync
from upath import UPath

from shelfwise.artifacts import file_digest, is_local
from shelfwise.errors import InputError, Problem

# Known keys to a range of a listing: one page, which holds a thousand, has room for them and for what came since.
_RANGE = 900


class ListingError(RuntimeError):
    """A folder could not be listed. It says nothing about what is in the folder, least of all that it is empty."""


@dataclass(frozen=True)
class StoredFile:
    """A file directly in a folder. `etag` is the store's own; local files have none until `digest` is asked."""

    path: UPath
    name: str
    size: int
    etag: str | None

    def read(self) -> bytes:
        """Return the content; raises InputError where the file is gone or may not be read."""
        try:
            return self.path.read_bytes()
        except FileNotFoundError:
            raise vanished(self.name) from None
        except PermissionError as error:
            raise InputError(Problem(self.name, "a file that may be read", str(error))) from error

    def digest(self) -> str:
        """The store's ETag, or the SHA-256 of a local file."""
        if self.etag is not None:
            return self.etag
        try:
            return file_digest(Path(str(self.path)))
        except FileNotFoundError:
            raise vanished(self.name) from None


def vanished(file: str) -> InputError:
    """The error for a file that was there when the folder was listed and is not there any more."""
    return InputError(Problem(file, "a file that stays", "that it disappeared between listing and reading"))


def list_folder(root: UPath | Path | str) -> list[StoredFile]:
    """List the files directly in a folder, by name.

    Raises InputError where there is no such folder, ListingError where it cannot be listed.
    """
    folder = as_path(root)
    try:
        if is_local(folder):
            return _list_local(Path(str(folder)))
        infos = folder.fs.ls(folder.path, detail=True, refresh=True)
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(Problem(str(folder), "a data directory", "nothing there")) from None
    except Exception as error:
        raise ListingError(f"cannot list {folder}: {describe(error)}") from error
    prefix = folder.path.rstrip("/") + "/"
    files = [
        StoredFile(folder / info["name"][len(prefix) :], info["name"][len(prefix) :], int(info["size"]), etag_of(info))
        for info in infos
        if info["type"] == "file" and info["name"].startswith(prefix) and len(info["name"]) > len(prefix)
    ]
    return sorted(files, key=lambda file: file.name)


def _list_local(folder: Path) -> list[StoredFile]:
    paths = sorted(path for path in folder.iterdir() if path.is_file())
    return [StoredFile(UPath(path), path.name, path.stat().st_size, None) for path in paths]


def find_objects(folder: UPath, known: Collection[str] = ()) -> list[dict[str, Any]]:
    """Return every object below a folder of a store, asked for anew: name (below the folder), size, type and what the
    store says of content and time (see `etag_of`, `modified_of`).

    `known`: names that were there before. S3 gives a thousand at a time, and each page says where the next begins;
    with many known names the pages are asked for all at once, each from the last known name of the one before.
    """
    fs, prefix = folder.fs, folder.path.rstrip("/") + "/"
    fs.invalidate_cache()  # s3fs does not remember such a listing, other stores' clients do
    found = None
    if len(known) > _RANGE and isinstance(fs, AsyncFileSystem) and "s3" in fs.protocol:
        found = sync(fs.loop, _pages_at_once, fs, prefix, sorted(known)[_RANGE - 1 :: _RANGE])
    if found is None:
        try:
            found = list(fs.find(prefix.rstrip("/"), detail=True).values())
        except FileNotFoundError:
            return []
    inside = [one for one in found if one["name"].startswith(prefix)]
    return [{**one, "name": one["name"][len(prefix) :]} for one in inside]


async def _pages_at_once(fs: Any, prefix: str, starts: list[str]) -> list[dict[str, Any]] | None:
    """The objects below a prefix in ranges that end at `starts`; None where the store does not keep them in order."""
    bucket, key, _ = fs.split_path(prefix)
    ends = [None, *(key + start for start in starts), None]
    parts = await asyncio.gather(*(_range(fs, bucket, key, after, until) for after, until in pairwise(ends)))
    found: list[dict[str, Any]] = []
    for part in parts:
        if part is None:
            return None
        found += part
    return [{**one, "name": f"{bucket}/{one['Key']}", "size": one["Size"], "type": "file"} for one in found]


async def _range(
    fs: Any, bucket: str, prefix: str, after: str | None, until: str | None
) -> list[dict[str, Any]] | None:
    """The objects of a range, without its start and with its end; None where they do not come in order."""
    found: list[dict[str, Any]] = []
    start = {} if after is None else {"StartAfter": after}
    last = after or ""
    while True:
        page = await fs._call_s3("list_objects_v2", Bucket=bucket, Prefix=prefix, **start)
        for one in page.get("Contents", []):
            if one["Key"] <= last:
                return None
            last = one["Key"]
            if until is not None and last > until:
                return found
            found.append(one)
        if not page.get("IsTruncated"):
            return found
        start = {"ContinuationToken": page["NextContinuationToken"]}


def as_path(root: UPath | Path | str) -> UPath:
    """A location as a UPath; `~` stands for the home directory as in a shell."""
    return UPath(str(Path(root).expanduser())) if isinstance(root, str) and root.startswith("~") else UPath(root)


def etag_of(info: dict) -> str:
    """What the store says identifies an object's content; size and time of change where it has no ETag."""
    tag = info.get("ETag") or info.get("etag") or info.get("checksum")
    return str(tag).strip('"') if tag else f"{info.get('size')}-{modified_of(info):.6f}"


def modified_of(info: dict) -> float:
    """Time of the last change in seconds since 1970, 0 where the store does not say."""
    when = info.get("LastModified") or info.get("mtime") or info.get("created") or 0.0
    return when.timestamp() if isinstance(when, datetime) else float(when)


def describe(error: BaseException) -> str:
    """An exception in one line, with its type where its text alone says little."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
