"""One writer at a time: a file lock beside a local registry, an object with an expiry beside one on S3."""

from __future__ import annotations

import json
import os
import random
import socket
import time
import uuid
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from upath import UPath

from shelfwise.artifacts import atomic_create_json, atomic_write_json, is_local
from shelfwise.registry.versions import RegistryError

WAIT = 60.0  # seconds
LEASE = 90.0  # seconds; far more than a change takes when the server answers slowly
KEPT = 3  # generations


@dataclass
class Held:
    """A lock that is held until its lease ends; a file lock's never does."""

    ends: float = float("inf")

    def confirm(self) -> None:
        """Raise RegistryError where another process may have taken the lock over already."""
        if time.monotonic() >= self.ends:
            raise RegistryError("the change took longer than its lock lasts, so it was given up: run it again")


@contextmanager
def locked(root: UPath, wait: float = WAIT, lease: float = LEASE) -> Generator[Held]:
    """Hold the lock of a registry. Raises RegistryError where another process keeps it longer than `wait` seconds."""
    if is_local(root):
        with _file_lock(Path(str(root)), wait):
            yield Held()
        return
    generation = _Generation(root / "lock", lease)
    _acquire(generation, wait + lease)
    try:
        yield Held(generation.taken_at + lease * 0.9)
    finally:
        generation.release()


@contextmanager
def _file_lock(folder: Path, wait: float) -> Generator[None]:
    import filelock

    path = folder / ".lock"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(path, timeout=wait, poll_interval=0.01).acquire()
    except filelock.Timeout:
        reason = f"another process has held the registry's lock {path} for {wait:.0f} s: wait for it, or end it"
    except OSError as error:
        reason = f"the registry's folder {folder} cannot be written ({error.strerror}): check its owner and rights"
    else:
        with lock:
            yield
        return
    raise RegistryError(reason)


def _acquire(generation: _Generation, wait: float) -> None:
    try:
        generation.acquire(wait)
    except RegistryError:
        raise
    except Exception as error:  # what an object store's client raises depends on what failed in it
        failure = RegistryError(
            f"the registry's lock in {generation.folder} cannot be taken ({type(error).__name__}: {error}): check that "
            "the bucket answers and that listing, reading, writing and deleting there are allowed"
        )
    else:
        return
    raise failure


@dataclass
class _Generation:
    """The holder of generation n is whoever created object n, which an object store lets only one process do.

    Whoever wants the lock creates the object after the highest one, once that is released or stale. Stale means that
    this process has watched it unchanged for its whole lease: no two machines' clocks are compared.
    """

    folder: UPath
    lease: float
    token: str = field(default_factory=lambda: uuid.uuid4().hex)
    number: int = 0
    taken_at: float = 0.0

    def acquire(self, wait: float) -> None:
        began = time.monotonic()
        watched, since = None, began
        while True:
            numbers = self._numbers()
            highest = max(numbers, default=0)
            holder = self._read(highest) if highest else None
            current = (highest, (holder or {}).get("token"))
            if current != watched:
                watched, since = current, time.monotonic()
            free = holder is None or holder["released"] or time.monotonic() - since >= holder["lease_seconds"]
            if free and self._create(highest + 1):
                self._sweep(numbers)
                return
            if time.monotonic() - began > wait:
                by = f"{(holder or {}).get('holder', 'another process')}"
                raise RegistryError(
                    f"{by} has held the registry's lock {self._path(highest)} for {wait:.0f} s: wait for it, or end it"
                )
            time.sleep(random.uniform(0.05, 0.25) if not free else 0)

    def release(self) -> None:
        """Give the lock back; one that cannot be, because the store does not answer, is taken over when stale."""
        with suppress(Exception):
            atomic_write_json(self._path(self.number), self._document(released=True))

    def _create(self, number: int) -> bool:
        self.taken_at = time.monotonic()
        try:
            atomic_create_json(self._path(number), self._document(released=False))
        except FileExistsError:
            return False
        except FileNotFoundError:  # it was taken by another and swept since; or the bucket is not there
            if max(self._numbers(), default=0) >= number:
                return False
            raise
        self.number = number
        # Whoever listed long ago may create a number that was swept since: then a higher one exists.
        if max(self._numbers(), default=number) > number:
            self._path(number).unlink(missing_ok=True)
            return False
        return True

    def _sweep(self, numbers: list[int]) -> None:
        for number in numbers:
            if number <= self.number - KEPT:
                self._path(number).unlink(missing_ok=True)

    def _numbers(self) -> list[int]:
        try:
            listed = self.folder.fs.ls(self.folder.path, detail=False, refresh=True)
        except FileNotFoundError:
            return []
        return [int(PurePosixPath(path).stem) for path in listed if path.endswith(".json")]

    def _read(self, number: int) -> dict | None:
        try:
            # In one request: a file that is opened and then read must not change in between, and this one may.
            return json.loads(self.folder.fs.cat_file(self._path(number).path))
        except FileNotFoundError:
            return None

    def _path(self, number: int) -> UPath:
        return self.folder / f"{number:09d}.json"

    def _document(self, released: bool) -> dict:
        holder = f"process {os.getpid()} on {socket.gethostname()}"
        return {"token": self.token, "holder": holder, "lease_seconds": self.lease, "released": released}
