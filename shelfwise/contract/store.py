"""The uploads folder of a data directory: listing it, reading one file of it, setting a bad file aside.

`uploads/<vendor>/<file>.csv`, on a local disk or in an object store. The folder belongs to the vendors: nothing here
writes to it or removes anything from it. What is set aside is copied to the lake.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fsspec import AbstractFileSystem
from upath import UPath

from shelfwise.artifacts import atomic_write_bytes, atomic_write_json, is_local
from shelfwise.contract.storage import (
    ListingError,
    as_path,
    describe,
    etag_of,
    find_objects,
    modified_of,
    vanished,
)
from shelfwise.errors import InputError, Problem

FOLDER = "uploads"
REJECTED = "rejected"
_UNFINISHED = (".part", ".partial", ".tmp", ".crdownload", ".filepart", ".swp")
_CIRCLE = "a link that leads back to itself"
_RACE_SECONDS = 2.0
_DIGESTS: dict[str, tuple[str, str]] = {}
_DIGESTS_KEPT = 100_000


@dataclass(frozen=True)
class UploadFile:
    """One uploaded file as listed. `key` is 'vendor/file.csv'; `modified` is in seconds since 1970.

    `whole` says that the store shows files only when they are complete, as object stores do. `mark` stands for the
    local file as it was found (inode, size, times): while it stays, so does the content. Empty where that is not sure.
    """

    key: str
    etag: str
    size: int
    modified: float
    whole: bool = False
    mark: str = field(default="", compare=False)

    @property
    def vendor_id(self) -> str:
        return self.key.partition("/")[0]

    @property
    def file(self) -> str:
        return self.key.partition("/")[2]


@dataclass(frozen=True)
class Listing:
    """Files that are uploads, by key, and those that are not, with the reason."""

    files: list[UploadFile] = field(default_factory=list)
    ignored: dict[str, str] = field(default_factory=dict)


class UploadStore:
    """The uploads folder of the data directory `root`.

    Files above `max_bytes` are listed under an etag made of size and time, without being read; reading them is
    refused.
    """

    def __init__(self, root: UPath | Path | str, max_bytes: int = 64 << 20):
        self.root = as_path(root)
        self.max_bytes = max_bytes

    @property
    def folder(self) -> UPath:
        return self.root / FOLDER

    def list(self) -> Sequence[UploadFile]:
        """The uploads there are now; see `listing`."""
        return self.listing().files

    def listing(self, known: Mapping[str, tuple[str, str]] | None = None) -> Listing:
        """List the uploads folder. `known`: (mark, etag) by key from an earlier listing; local files that still bear
        their mark are not read again, and a store's pages are asked for all at once.

        A data directory without the folder has no uploads. Raises ListingError where the data directory is missing
        or anything in it cannot be listed: an incomplete listing is never returned.
        """
        try:
            return self._listing_local(known or {}) if is_local(self.root) else self._listing_remote(known or {})
        except ListingError:
            raise
        except Exception as error:
            raise ListingError(f"cannot list {self.folder}: {describe(error)}") from error

    def read(self, key: str, limit: int | None = None) -> bytes:
        """Return an upload's bytes, reading no more than `limit` + 1 of them (default: the store's `max_bytes`).

        Raises InputError for a key that is not 'vendor/file' or leaves the folder, a file that has disappeared or
        may not be read, and one over the limit.
        """
        limit = self.max_bytes if limit is None else limit
        check_key(key)
        try:
            data = self._read_local(key, limit) if is_local(self.root) else self._read_remote(key, limit)
        except FileNotFoundError:
            raise vanished(key) from None
        except PermissionError as error:
            raise InputError(Problem(key, "a file that may be read", describe(error))) from error
        if len(data) > limit:
            raise InputError(
                Problem(key, f"a file of at most {limit:,} bytes", "a larger one: split it into several files")
            )
        return data

    def _listing_local(self, known: Mapping[str, tuple[str, str]]) -> Listing:
        root = Path(str(self.root))
        if not root.is_dir():
            raise ListingError(f"cannot list {self.folder}: there is no data directory {self.root}")
        folder = root / FOLDER
        listing = Listing()
        if not os.path.lexists(folder):
            return listing
        real = folder.resolve(strict=True)
        for vendor in _scan(folder):
            leaves = _leaves(Path(vendor.path), real)
            if leaves != _CIRCLE and not vendor.is_dir():
                listing.ignored[vendor.name] = f"not in a vendor's folder ({FOLDER}/<vendor>/<file>.csv)"
                continue
            reason = _why_ignored(vendor.name, is_file=False) or leaves
            if reason:
                listing.ignored[vendor.name + "/"] = reason
                continue
            for entry in _scan(Path(vendor.path)):
                key = f"{vendor.name}/{entry.name}"
                self._list_entry(key, entry, real, listing, known.get(key))
        return listing

    def _list_entry(
        self, key: str, entry: os.DirEntry[str], real: Path, listing: Listing, known: tuple[str, str] | None
    ) -> None:
        leaves = _leaves(Path(entry.path), real) if entry.is_symlink() else None
        reason = _why_ignored(entry.name) or leaves
        if leaves != _CIRCLE and entry.is_dir():
            reason = "a folder inside a vendor's folder"
        if reason:
            listing.ignored[key] = reason
            return
        try:
            found = os.stat(entry.path)
            if not stat.S_ISREG(found.st_mode):
                listing.ignored[key] = "not a regular file"
                return
            etag, mark = self._local_etag(entry.path, found, known)
        except FileNotFoundError:
            listing.ignored[key] = "it disappeared while the folder was listed"
            return
        except PermissionError:
            # Listed all the same: reading it fails with a reason that its vendor can see, and nothing else stops.
            etag, mark = hashlib.sha256(f"unreadable-{found.st_size}-{found.st_ctime_ns}".encode()).hexdigest(), ""
        listing.files.append(UploadFile(key, etag, found.st_size, found.st_mtime, mark=mark))

    def _local_etag(self, path: str, found: os.stat_result, known: tuple[str, str] | None) -> tuple[str, str]:
        """SHA-256 of the content, and the mark that stands for it; none while the times are too fresh to be trusted.

        What the ledger of a sensor knows counts, and what this process has read since.
        """
        if found.st_size > self.max_bytes:
            return hashlib.sha256(f"{found.st_size}-{found.st_mtime_ns}".encode()).hexdigest(), ""
        mark = f"{found.st_ino}-{found.st_size}-{found.st_mtime_ns}-{found.st_ctime_ns}"
        for one in (known, _DIGESTS.get(path)):
            if one and one[0] == mark:
                return one[1], mark
        digest, left = hashlib.sha256(), self.max_bytes + 1
        with Path(path).open("rb") as handle:
            while left > 0 and (block := handle.read(min(left, 1 << 20))):
                digest.update(block)
                left -= len(block)
        # A change within the clock's step of the last one leaves the times as they are: do not remember fresh files.
        if time.time() - max(found.st_ctime, found.st_mtime) > _RACE_SECONDS:
            if len(_DIGESTS) >= _DIGESTS_KEPT:
                _DIGESTS.clear()
            _DIGESTS[path] = (mark, digest.hexdigest())
            return digest.hexdigest(), mark
        return digest.hexdigest(), ""

    def _listing_remote(self, known: Mapping[str, tuple[str, str]]) -> Listing:
        infos = find_objects(self.folder, known)
        if not infos and not _anything(self.root.fs, self.root.path):
            raise ListingError(f"cannot list {self.folder}: there is no data directory {self.root}")
        listing = Listing()
        for info in sorted(infos, key=lambda info: info["name"]):
            key = info["name"]
            vendor, _, name = key.partition("/")
            if info["type"] != "file" or not key or key.endswith("/"):
                continue  # a folder, or the empty object by which some tools mark one
            if not name:
                listing.ignored[key] = f"not in a vendor's folder ({FOLDER}/<vendor>/<file>.csv)"
                continue
            reason = (
                "a folder inside a vendor's folder"
                if "/" in name
                else _why_ignored(vendor, is_file=False) or _why_ignored(name)
            )
            if reason:
                listing.ignored[key] = reason
            else:
                listing.files.append(UploadFile(key, etag_of(info), int(info["size"]), modified_of(info), whole=True))
        return listing

    def _read_local(self, key: str, limit: int) -> bytes:
        folder = Path(str(self.root)) / FOLDER
        real = folder.resolve()
        try:
            target = (folder / key).resolve()
        except RuntimeError:
            raise InputError(Problem(key, "a file in the uploads folder", _CIRCLE)) from None
        if not target.is_relative_to(real):
            raise InputError(Problem(key, "a file in the uploads folder", "a link that leaves it"))
        # No link is followed any more, and a pipe that somebody put there cannot block the read.
        try:
            descriptor = os.open(target, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except (IsADirectoryError, NotADirectoryError):
            raise FileNotFoundError(key) from None
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise InputError(Problem(key, "a regular file", "a folder or a device"))
        with os.fdopen(descriptor, "rb") as handle:
            return handle.read(limit + 1)

    def _read_remote(self, key: str, limit: int) -> bytes:
        fs, path = self.root.fs, (self.folder / key).path
        if int(fs.info(path, refresh=True)["size"]) == 0:
            return b""
        return fs.cat_file(path, start=0, end=limit + 1)


def _anything(fs: AbstractFileSystem, path: str) -> bool:
    try:
        return bool(fs.ls(path, detail=True, refresh=True))
    except FileNotFoundError:
        return False


def check_key(key: str) -> None:
    """Raise InputError for a key that is not 'vendor/file' or that could name something outside the folder."""
    parts = key.split("/")
    bad = len(parts) != 2 or any(part in ("", ".", "..") or "\\" in part or "\0" in part for part in parts)
    if bad:
        raise InputError(Problem(key, "a path <vendor>/<file> inside the uploads folder", f"{key!r}"))


def _scan(folder: Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return sorted(entries, key=lambda entry: entry.name)


def _leaves(path: Path, folder: Path) -> str | None:
    if not path.is_symlink():
        return None
    try:
        return None if path.resolve().is_relative_to(folder) else "a link that leaves the uploads folder"
    except (RuntimeError, OSError):  # Python 3.11 raises RuntimeError
        return _CIRCLE


def _why_ignored(name: str, *, is_file: bool = True) -> str | None:
    """Why a name is no upload; None if it is one."""
    if name.startswith("."):
        return "hidden"
    if name.startswith("~$") or name.endswith("~"):
        return "a lock or backup of an editor"
    if not name.isprintable() or "\\" in name or "..." in name:
        return "a name with characters that cannot be part of a partition's name"
    if is_file and name.lower().endswith(_UNFINISHED):
        return "not finished yet, by its name"
    if is_file and not name.lower().endswith(".csv"):
        return "not a .csv file"
    return None


def set_aside(
    lake_root: UPath | Path | str,
    key: str,
    data: bytes | None,
    problems: Sequence[Problem],
    etag: str | None = None,
) -> UPath:
    """Copy a refused upload and the reason to the lake; return the folder.

    `rejected/<vendor>/<file>/<first 12 characters of the etag>/` holds `original` (not where nothing could be read),
    `reason.txt` for people and `reason.json`, which is written last. Doing it twice gives the same files.
    """
    check_key(key)
    tag = etag or (hashlib.sha256(data).hexdigest() if data else "unread")
    folder = as_path(lake_root) / REJECTED / key / tag.replace("/", "_")[:12]
    if data:
        atomic_write_bytes(folder / "original", data)
    lines = [f"{key} was not processed. Nothing of it was used. What has to change:", ""]
    lines += [f"- {problem}" for problem in problems]
    atomic_write_bytes(folder / "reason.txt", "\n".join([*lines, ""]).encode("utf-8", "replace"))
    vendor, _, name = key.partition("/")
    reason = {
        "key": key,
        "vendor_id": vendor,
        "file": name,
        "etag": tag,
        "size": None if data is None else len(data),
        "problems": [problem.as_dict() for problem in problems],
    }
    atomic_write_json(folder / "reason.json", reason)
    return folder


def list_rejected(lake_root: UPath | Path | str) -> list[dict[str, Any]]:
    """What was set aside, by key and etag: the content of each `reason.json`, and its `folder`.

    Raises ListingError where the lake cannot be listed.
    """
    root = as_path(lake_root) / REJECTED
    try:
        if is_local(root):
            reasons = sorted(Path(str(root)).glob("*/*/*/reason.json"))
        else:
            root.fs.invalidate_cache()
            names = [name for name in root.fs.find(root.path) if name.endswith("/reason.json")]
            prefix = root.path.rstrip("/") + "/"
            reasons = [root / name[len(prefix) :] for name in sorted(names)]
        return [{**json.loads(path.read_text()), "folder": str(path.parent)} for path in reasons]
    except FileNotFoundError:
        return []
    except Exception as error:
        raise ListingError(f"cannot list {root}: {describe(error)}") from error
