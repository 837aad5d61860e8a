"""Checkpoints that are used only when they are whole."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from shelfwise.artifacts import atomic_write_json
from shelfwise.training.process import leads

COMPLETE = "complete.json"
WEIGHTS = "model.safetensors"


def mark_complete(checkpoint: Path) -> None:
    """Write the list of a checkpoint's files and sizes, last of all: without it the checkpoint is not used."""
    files = {path.name: path.stat().st_size for path in sorted(checkpoint.iterdir()) if path.name != COMPLETE}
    atomic_write_json(checkpoint / COMPLETE, files)


def last_whole_checkpoint(run_dir: Path) -> Path | None:
    """Return the newest checkpoint that is whole, and remove those that are not.

    A checkpoint is whole when the list of its files was written, which comes last, and every file has its listed size.
    """
    whole: dict[int, Path] = {}
    for path in run_dir.glob("checkpoint-*"):
        listing = path / COMPLETE
        files = json.loads(listing.read_text()) if listing.exists() else None
        if files and all((path / name).exists() and (path / name).stat().st_size == files[name] for name in files):
            whole[int(path.name.rsplit("-", 1)[1])] = path
        elif leads():
            shutil.rmtree(path, ignore_errors=True)
    return whole[max(whole)] if whole else None
