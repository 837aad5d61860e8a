"""Whether a cross-encoder pays on two cores: `python -m benchmarks.rerank DIR [--model PATH ...]`.

DIR is a data directory whose uploads have a `product_id` column. A matcher is fitted on the past lines as the asset
graph fits it. Then each cross-encoder reads the first candidates of uncertain lines (`shelfwise.matching.rerank`): one
trained from scratch on the labelled pairs of the train part, the same on top of each `--base` (by default the MiniLM
encoder of `benchmarks.comparisons`, where it is installed), and each `--model` as it is. Told are the gain in top-1 on
validation lines out of fold, by which it is kept or dropped; what it costs; and top-1 of the held-out lines without it,
and with it at the weight it learned even where it is dropped. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.certified import read_case
from benchmarks.common import about, emit, peak_mb, say, use_two_cores
from benchmarks.rivals import encoder_path, fit_shelfwise
from shelfwise.matching.evaluate import intervals
from shelfwise.matching.index import CatalogIndex
from shelfwise.matching.matcher import Matcher
from shelfwise.matching.rerank import CrossEncoderModel, CrossTraining, RerankConfig, Reranker, train_cross_encoder

HELD_OUT = 2_000  # lines at most
BASE_PAIRS, BASE_RATE = 4_000, 5e-5  # a base is larger and slower, and knows something already


def top1_of(matcher: Matcher, index: CatalogIndex, lines: pd.DataFrame) -> tuple[dict[str, float], float]:
    """Return top-1 of the held-out lines with its interval, and seconds."""
    truth = index.positions(lines["product_id"].tolist())
    began = time.perf_counter()
    ranked = matcher.rank_lines(lines["vendor_title"].astype(str).tolist(), index, 5)
    seconds = time.perf_counter() - began
    return intervals({"top1": ((ranked.top(1)[:, 0] == truth) & (truth >= 0), truth >= 0)}, 0), seconds


def measure(
    model: Path | str, matcher: Matcher, index: CatalogIndex, valid: pd.DataFrame, lines: pd.DataFrame
) -> dict[str, Any]:
    """Return what a cross-encoder gives on validation lines, and on held-out lines at the weight it learned there."""
    made = Reranker.fit(valid, index, matcher, model, RerankConfig(least_gain=-1.0))
    verdict = made.report["gain_top1"] >= RerankConfig().least_gain and made.weight > 0
    found: dict[str, Any] = {**made.report, "kept": verdict, "least_gain": RerankConfig().least_gain}
    if made.weight > 0:
        matcher.reranker = Reranker(CrossEncoderModel(model), made.config, made.weight, {})
        try:
            measured, seconds = top1_of(matcher, index, lines)
        finally:
            matcher.reranker = None
        found |= {"held_out": measured, "held_out_lines_per_second": len(lines) / seconds}
    return found


def run(folder: Path, bases: Sequence[str], models: Sequence[str], epochs: int) -> dict[str, Any]:
    """Run the benchmark and return its object."""
    head = about("rerank")
    use_two_cores()
    case = read_case(folder)
    lines = case.lines.sample(min(HELD_OUT, len(case.lines)), random_state=0)
    say("fitting the matcher")
    matcher, index, pairs, valid = fit_shelfwise(case)
    top1_of(matcher, index, lines.head(1))  # what is compiled at the first line
    without, seconds = top1_of(matcher, index, lines)
    tried: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="shelfwise-rerank-") as scratch:
        for number, base in enumerate([None] * (epochs > 0) + [*bases]):
            config = CrossTraining(epochs=epochs)
            if base is not None:
                config = replace(config, base=base, max_pairs=BASE_PAIRS, learning_rate=BASE_RATE, epochs=1)
            label = "from scratch" if base is None else f"on top of {Path(base).parent.name}/{Path(base).name}"
            say(f"training a cross-encoder {label}")
            place = Path(scratch) / str(number)
            trained = train_cross_encoder(pairs, place, config, _progress)
            tried[label] = {"training": trained, **measure(place, matcher, index, valid, lines)}
            _tell(label, tried[label])
        for model in models:
            tried[Path(model).name] = measure(model, matcher, index, valid, lines)
            _tell(Path(model).name, tried[Path(model).name])
    return head | {
        "data": folder.resolve().name,
        "lines": len(lines),
        "without": without | {"lines_per_second": len(lines) / seconds},
        "tried": tried,
        "peak_mb": peak_mb(),
    }


def _progress(done: int, steps: int) -> None:
    if done % 200 == 0 or done == steps:
        say(f"  {done:,} of {steps:,} steps")


def _tell(label: str, found: dict[str, Any]) -> None:
    held = found.get("held_out", {}).get("top1")
    say(
        f"{label}: {'kept' if found['kept'] else 'dropped'}, gain {found['gain_top1']:+.4f} of {found['lines']} lines, "
        f"weight {found['weight']:.3g}, {found['seconds_per_1000_lines']:.1f} s for 1,000 lines; held out {held}"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run from the command line; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rerank", description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument("--base", action="append", help="Hugging Face id or local path to train on top of")
    parser.add_argument("--model", action="append", default=[], help="a cross-encoder to use as it is")
    parser.add_argument("--epochs", type=int, default=2, help="of training from scratch; 0: not at all")
    given = parser.parse_args(argv)
    default = encoder_path()
    bases = given.base if given.base is not None else ([str(default)] if default is not None else [])
    emit(run(given.folder, bases, given.model, given.epochs))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
