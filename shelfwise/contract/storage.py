"""Listing and reading files of a data directory, on a local disk or in an object store.

Object store clients remember listings; everything here asks again, because the sensor lives for weeks in one process.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from upath import UPath

from shelfwise.artifacts import file_digest, is_local
from shelfwise.errors import InputError, Problem


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
