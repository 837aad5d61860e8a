"""Training of the text classifier as a process: `python -m shelfwise.classification.train_text --listings F ...`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from shelfwise.classification.text import TextConfig, train_text
from shelfwise.training import process


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments that `run` reads."""
    parser.add_argument(
        "--listings",
        required=True,
        type=Path,
        help="Parquet table: listing_id, title, description, category or categories, split",
    )
    process.add_run_arguments(parser, TextConfig.WHAT)


def run(arguments: argparse.Namespace, progress: process.Progress) -> dict[str, Any]:
    """Train as parsed arguments say and return what `train_text` returns."""
    values = json.loads(arguments.config.read_text()) if arguments.config else {}
    config = TextConfig.from_settings(values, arguments.set)
    return train_text(pd.read_parquet(arguments.listings), config, arguments.out, arguments.work, progress)


def main(argv: Sequence[str] | None = None) -> int:
    """Train from the command line; print progress, and the metrics as one JSON object last."""
    return process.main(process.training_module(__name__), "shelfwise.classification.train_text", argv)


if __name__ == "__main__":
    sys.exit(main())
