"""Encoders side by side: `python -m benchmarks.encoders [DIR] [--choices NAME ...] [--products N --mappings N]`.

Each choice of architecture, size and loss is trained on the same labelled pairs (three negatives to a positive, two of
them hard) in a process of its own, then finds the products of lines whose vendors and products were held out of the
training, among all titles of the catalog, by the encoder alone: no n-grams, no words, no scorer. DIR is any directory
of the data contract (benchmarks.pricerunner makes one of real offers); without it the catalog is synthetic.

Seconds are of training proper, validations and checkpoints included, imports not; the memory is that of the training
process. On a machine with a GPU training runs there, and its memory is measured too. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.common import about, child_environment, emit, last_object, run_measured, say, use_two_cores

CHOICES: dict[str, dict[str, Any]] = {
    "static_256": {"architecture": "static"},
    "static_128": {"architecture": "static", "hidden_size": 128},
    "static_256_unaugmented": {"architecture": "static", "augmentation": 0.0},
    "static_256_one_way": {"architecture": "static", "loss": "ranking"},
    "static_256_matryoshka": {"architecture": "static", "loss": "matryoshka"},
    "static_256_contrastive": {"architecture": "static", "loss": "contrastive", "negatives": 3},
    "bert_1_layer": {"architecture": "bert"},
}
LABELS = {
    "static_256": "static, 256, multiple negatives both ways (the default on a CPU)",
    "static_128": "static, 128",
    "static_256_unaugmented": "static, 256, lines as they are: no typos or abbreviations added",
    "static_256_one_way": "static, 256, multiple negatives from line to product only",
    "static_256_matryoshka": "static, 256, Matryoshka (256, 128, 64)",
    "static_256_contrastive": "static, 256, contrastive on labelled pairs",
    "bert_1_layer": "BERT, one layer, 128, multiple negatives (the default on a GPU)",
}
KEPT = ("train_seconds", "best_seconds", "pairs_per_second", "gpu_mb", "steps", "best_step", "parameters", "dim")
HELD_OUT_LINES = 4000
MATRYOSHKA_DIM = 64


def labelled_pairs(data: Path | None, products: int, mappings: int, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return (products, training pairs) of a data directory, or of a synthetic catalog without one."""
    from shelfwise.matching.pairs import make_pairs

    if data is None:
        from shelfwise.synthetic import SyntheticConfig, generate

        made = generate(
            SyntheticConfig(n_products=products, n_mappings=mappings, n_uploads=1, lines_per_upload=10, n_listings=0)
        )
        catalog, past = made.products, made.mappings
    else:
        from shelfwise.contract import read_table

        catalog, past = (read_table(data, name).frame for name in ("products", "mappings"))
    positives = past[["vendor_id", "vendor_title", "product_id"]].drop_duplicates(["vendor_id", "vendor_title"])
    positives = positives[positives["product_id"].isin(set(catalog["product_id"]))].reset_index(drop=True)
    positives["line_id"] = [f"{i:08d}" for i in range(len(positives))]
    say(f"making pairs of {len(positives):,} past lines and {len(catalog):,} products")
    return catalog, make_pairs(positives, catalog, seed=seed)


def train(choice: str, pairs: Path, work: Path, seed: int) -> dict[str, Any]:
    """Train one choice in a process of its own into `work`/encoder. Raises SystemExit where it fails."""
    settings = {**CHOICES[choice], "seed": seed}
    flags = [text for name, value in settings.items() for text in ("--set", f"{name}={value}")]
    places = ["--pairs", str(pairs), "--out", str(work / "encoder"), "--work", str(work / "checkpoints")]
    ran = run_measured([sys.executable, "-m", "shelfwise.matching.train", *places, *flags], env=child_environment())
    found = last_object(ran.output)
    if ran.status or found is None:
        raise SystemExit(f"training {choice} failed with status {ran.status}")
    return {**{name: found.get(name) for name in KEPT}, "peak_mb": ran.peak_mb, "settings": settings}


def held_out(pairs: pd.DataFrame, products: pd.DataFrame, seed: int) -> tuple[list[str], list[str], np.ndarray]:
    """Return lines of the test split, all titles of the catalog, and the place of each line's title: in normal form.

    Products of the same normal title are one: no encoder of titles can tell them apart.
    """
    from shelfwise.text import normalise

    lines = pairs[(pairs["split"] == "test") & (pairs["label"] == 1)]
    lines = lines.sample(min(HELD_OUT_LINES, len(lines)), random_state=seed)
    codes, titles = pd.factorize(np.array([normalise(str(title)) for title in products["title"]], dtype=object))
    place = dict(zip(products["product_id"], codes, strict=True))
    answers = np.array([place[product] for product in lines["product_id"]], np.int64)
    return [normalise(line) for line in lines["line"]], [str(title) for title in titles], answers


def quality(encoder: Path, lines: list[str], titles: list[str], answers: np.ndarray) -> dict[str, Any]:
    """Return how the encoder alone finds the titles of lines (`top1`, `top5`, `mrr`), and titles encoded a second."""
    from shelfwise.matching.encoder import TitleEncoder

    model = TitleEncoder.load(encoder)
    model.encode(titles[:100], normalise=False)  # libraries loaded, loops compiled
    began = time.perf_counter()
    vectors = model.encode(titles, normalise=False)
    rate = len(titles) / (time.perf_counter() - began)
    queries = model.encode(lines, normalise=False)
    found: dict[str, Any] = {**ranks(queries, vectors, answers), "titles_per_second": rate}
    if "matryoshka" in json.loads((encoder / "encoder_config.json").read_text())["loss"]:
        short = [_unit(array[:, :MATRYOSHKA_DIM]) for array in (queries, vectors)]
        found[f"first_{MATRYOSHKA_DIM}"] = ranks(short[0], short[1], answers)
    return found


def ranks(lines: np.ndarray, titles: np.ndarray, answers: np.ndarray) -> dict[str, float]:
    """Return top1, top5 and mrr of unit vectors; a title that ties with the right one counts as ranked before it."""
    rank = np.concatenate(
        [
            (scores >= scores[np.arange(len(scores)), answers[start : start + 256]][:, None]).sum(1)
            for start in range(0, len(lines), 256)
            for scores in [lines[start : start + 256] @ titles.T]
        ]
    )
    return {"top1": float((rank <= 1).mean()), "top5": float((rank <= 5).mean()), "mrr": float((1 / rank).mean())}


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def run(data: Path | None, choices: Sequence[str], products: int, mappings: int, seed: int) -> dict[str, Any]:
    """Run the benchmark and return its object."""
    head = about("encoders")
    catalog, pairs = labelled_pairs(data, products, mappings, seed)
    lines, titles, answers = held_out(pairs, catalog, seed)
    measured: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="shelfwise-encoders-") as scratch:
        pairs.to_parquet(Path(scratch) / "pairs.parquet", index=False)
        for choice in choices:
            say(f"\n-- {choice}")
            work = Path(scratch) / choice
            work.mkdir()
            trained = train(choice, Path(scratch) / "pairs.parquet", work, seed)
            measured[choice] = {"label": LABELS[choice], **trained, **quality(work / "encoder", lines, titles, answers)}
            say(json.dumps({name: measured[choice][name] for name in ("train_seconds", "top1", "top5", "mrr")}))
    sizes = {
        "products": len(catalog),
        "titles": len(titles),
        "held_out_lines": len(lines),
        "labelled_pairs": len(pairs),
    }
    made = "synthetic" if data is None else data.name
    return {
        **head,
        "data": made,
        "seed": seed,
        **sizes,
        "splits": pairs["split"].value_counts().to_dict(),
        "choices": measured,
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.encoders", description=__doc__.splitlines()[0])
    parser.add_argument("data", nargs="?", type=Path, help="data directory; a synthetic catalog without it")
    parser.add_argument("--choices", nargs="+", choices=list(CHOICES), default=list(CHOICES), metavar="NAME")
    parser.add_argument("--products", type=int, default=10_000, help="of the synthetic catalog")
    parser.add_argument("--mappings", type=int, default=15_000, help="of the synthetic catalog")
    parser.add_argument("--seed", type=int, default=7)
    given = parser.parse_args(argv)
    use_two_cores()
    emit(run(given.data, given.choices, given.products, given.mappings, given.seed))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
