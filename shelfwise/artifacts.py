"""Artifacts: directories of files under a content id, published whole or not at all, on disk or on S3.

A published artifact holds `manifest.json`, which lists its files with sizes and digests and is written last. A
directory without one does not exist as far as readers are concerned, so a process killed half way through leaves
nothing that could be loaded.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from pathlib import Path

import fsspec.config
import pandas as pd
from upath import UPath

MANIFEST = "manifest.json"

# An object store in trouble: errors are worth more tries than the usual five, silence is worth less than the usual
# minute for each of them, and s3fs asks five times over. Whoever set `FSSPEC_S3` knows better.
_PATIENCE = {"connect_timeout": 5, "read_timeout": 10, "retries": {"mode": "standard", "total_max_attempts": 8}}
_client = fsspec.config.conf.setdefault("s3", {}).setdefault("config_kwargs", {})
for _name, _value in _PATIENCE.items():
    _client.setdefault(_name, _value)


def content_id(*parts: object) -> str:
    """Return 16 hex digits that depend on nothing but the parts (JSON values, bytes or strings)."""
    digest = hashlib.sha256()
    for part in parts:
        data = part if isinstance(part, bytes) else json.dumps(part, sort_keys=True, default=str).encode()
        digest.update(len(data).to_bytes(8, "big"))
        digest.update(data)
    return digest.hexdigest()[:16]


def file_digest(path: Path | UPath) -> str:
    """Return the SHA-256 of a file, read in pieces of one MiB."""
    digest = hashlib.sha256()
    with path.open("rb") as handle:
        while block := handle.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def is_local(path: UPath | Path | str) -> bool:
    """Whether a path lies on this machine's disk rather than in an object store."""
    return UPath(path).protocol in ("", "file", "local")


def atomic_write_bytes(path: UPath | Path | str, data: bytes) -> None:
    """Write a file so that readers see the old content or the new, never a part.

    On local disk: a temporary file beside it, flushed, then renamed. An object store's put is atomic already.
    """
    target = UPath(path)
    if not is_local(target):
        target.write_bytes(data)
        return
    final = Path(str(target))
    final.parent.mkdir(parents=True, exist_ok=True)
    temporary = final.with_name(f".{final.name}.{uuid.uuid4().hex}.tmp")
    try:
        with temporary.open("wb") as handle:
            handle.write(data)
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(temporary, final)
    finally:
        temporary.unlink(missing_ok=True)


def asked_anew(path: UPath | Path | str) -> UPath:
    """Return a path whose store forgot what it listed: clients of object stores remember what others have changed."""
    location = UPath(path)
    if not is_local(location):
        location.fs.invalidate_cache()
    return location


def atomic_create_json(path: UPath | Path | str, value: object) -> None:
    """Write JSON whole where nothing is yet. Raises FileExistsError, also where another process was first."""
    data = json.dumps(value, indent=2, sort_keys=True, default=str).encode() + b"\n"
    target = UPath(path)
    if not is_local(target):
        try:
            target.fs.pipe_file(target.path, data, mode="create")
        except FileExistsError:
            # A store that wrote it and then failed to say so is asked again by its client, and finds our own. Read in
            # one request: a file that s3fs opens and then reads must not be replaced in between, and some are.
            if target.fs.cat_file(target.path) != data:
                raise
        return
    final = Path(str(target))
    temporary = final.with_name(f".{final.name}.{uuid.uuid4().hex}.tmp")
    atomic_write_bytes(temporary, data)
    try:
        os.link(temporary, final)
    finally:
        temporary.unlink(missing_ok=True)


def atomic_write_json(path: UPath | Path | str, value: object) -> None:
    """Write JSON with `atomic_write_bytes`."""
    atomic_write_bytes(path, json.dumps(value, indent=2, sort_keys=True, default=str).encode() + b"\n")


def exists(location: UPath | Path | str) -> bool:
    """Whether a whole artifact was published at this location."""
    return (asked_anew(location) / MANIFEST).exists()


def publish(directory: Path, location: UPath | Path | str) -> str:
    """Publish a local directory at a location and return the location as a string.

    A location that already holds an artifact is left as it is: its id stands for its content.
    """
    target = UPath(location)
    if exists(target):
        return str(target)
    files = sorted(path for path in directory.rglob("*") if path.is_file() and path.name != MANIFEST)
    manifest = {
        "files": {
            path.relative_to(directory).as_posix(): {"size": path.stat().st_size, "sha256": file_digest(path)}
            for path in files
        }
    }
    if is_local(target):
        final = Path(str(target))
        final.parent.mkdir(parents=True, exist_ok=True)
        staging = final.with_name(f".{final.name}.{uuid.uuid4().hex}.tmp")
        try:
            shutil.copytree(directory, staging)
            atomic_write_json(staging / MANIFEST, manifest)
            if exists(final):  # another process published it while this one copied: readers may have it open
                return str(target)
            # A directory without its manifest is not a published one.
            if final.exists():
                shutil.rmtree(final)
            os.rename(staging, final)
        except OSError:
            if not exists(final):  # two processes published the same content: the first one stands
                raise
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    else:
        for path in files:
            (target / path.relative_to(directory).as_posix()).write_bytes(path.read_bytes())
        atomic_write_json(target / MANIFEST, manifest)
    return str(target)


def fetch(location: UPath | Path | str, cache: Path | None = None) -> Path:
    """Return a local directory with the artifact's files; S3 artifacts are downloaded once into `cache`.

    Raises FileNotFoundError where no whole artifact was published at the location.
    """
    source = UPath(location)
    if not exists(source):
        raise FileNotFoundError(f"no artifact at {source} (it was never published, or not finished)")
    if is_local(source):
        return Path(str(source))
    root = cache or Path(os.environ.get("SHELFWISE_CACHE", Path.home() / ".cache" / "shelfwise"))
    local = root / content_id(str(source)) / source.name
    if exists(local):
        return local
    staging = local.with_name(f".{local.name}.{uuid.uuid4().hex}.tmp")
    manifest = json.loads((source / MANIFEST).read_text())
    try:
        for name in manifest["files"]:
            destination = staging / name
            destination.parent.mkdir(parents=True, exist_ok=True)
            destination.write_bytes((source / name).read_bytes())
        publish(staging, local)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return local


def frame_id(frame: pd.DataFrame) -> str:
    """Return a content id of a table: columns, order of rows and every value count."""
    rows = pd.util.hash_pandas_object(frame.astype(str), index=False).to_numpy().tobytes()
    return content_id(list(frame.columns), rows)
