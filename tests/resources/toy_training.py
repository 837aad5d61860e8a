"""A training module that trains nothing: it writes what it was told and says so."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rows", required=True, type=Path)
    parser.add_argument("--out", required=True, type=Path)


def run(arguments: argparse.Namespace, progress: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    text = arguments.rows.read_text()
    if not text:
        raise ValueError("there are no rows")
    progress({"event": "step", "message": f"read {len(text)} letters"})
    arguments.out.mkdir()
    (arguments.out / "model").write_text(text.upper())
    return {"metrics": {"letters": len(text)}, "timing": {"prepare_seconds": 1.0, "train_seconds": 2.5}}
