"""How soon a changed catalog is matched against: `python -m benchmarks.incremental [--products N] [--times N]`.

By default 80,000 synthetic products with 15,000 past mappings; the catalog is made and a matcher trained first, which
is not timed. Then, in a fresh process, 1, 100 and 1,000 products change, `--times` times each: a third renamed, a third
added, a third removed (a single one in turn), and as many past lines are learnt, up to a third of the change. Timed is
what it takes until the first line is matched against the changed catalog: making the names, following the change with
`Matcher.update_index`, and one line through the matcher, seconds of the clock and of the processor. Beside it the same
with `Matcher.build_index`, once for each size of change: a full build of the last of these catalogs, and whether lines
then match alike. Loading is not timed, nor is building a FAISS graph again, which an index that has one does after a
tenth of its vectors have changed: these changes stay below. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from benchmarks.common import (
    about,
    child_environment,
    emit,
    last_object,
    peak_mb,
    plain,
    run_measured,
    say,
    use_two_cores,
)

if TYPE_CHECKING:
    from shelfwise.matching.index import CatalogIndex
    from shelfwise.matching.matcher import Matcher

SIZES = (1, 100, 1000)
COMPARED_LINES = 2000
STEMS = ("Zorgon", "Quillar", "Vexatine", "Brumello", "Oxandra", "Pelliard", "Thurnby", "Wexcombe")


class Changing:
    """A catalog with its past lines, to which things happen."""

    def __init__(self, products: pd.DataFrame, lines: pd.DataFrame, seed: int):
        self.products, self.lines, self.made = products, lines, 0
        self.chance = np.random.default_rng(seed)

    def change(self, size: int) -> dict[str, list[str]]:
        """Change `size` products; return ids of those 'renamed', 'added' and 'removed'."""
        turn = self.made % 3 if size < 3 else 0
        kinds = (np.arange(size) + turn) % 3
        rows = self.chance.permutation(len(self.products))[:size]
        renamed, copied, gone = (rows[kinds == kind] for kind in range(3))
        ids = self.products["product_id"].to_numpy()
        told = {"renamed": ids[renamed].tolist(), "removed": ids[gone].tolist()}
        new = self.products.iloc[copied].copy()
        new["product_id"] = told["added"] = [f"NEW{self.made + i:07d}" for i in range(len(new))]
        new["title"] = [self._new(title) for title in new["title"]]
        products = self.products.copy()
        at = products.columns.get_loc("title")
        products.iloc[renamed, at] = [self._new(title) for title in products["title"].iloc[renamed]]
        self.products = pd.concat([products.drop(index=products.index[gone]), new], ignore_index=True)
        learnt = self.products.iloc[self.chance.permutation(len(self.products))[: -(-size // 3)]]
        more = {"vendor_id": "newest", "vendor_title": learnt["title"].str.upper(), "product_id": learnt["product_id"]}
        self.lines = pd.concat([self.lines, pd.DataFrame(more)], ignore_index=True)
        self.made += size
        return told

    def _new(self, title: str) -> str:
        """Return a title with another first word, every other time one the catalog has never held."""
        number = int(self.chance.integers(10_000))
        first = STEMS[number % len(STEMS)] + (str(number) if number % 2 else "")
        return " ".join([first, *title.split()[1:]])


def _timed(work: Callable[[], CatalogIndex], matcher: Matcher, line: pd.DataFrame) -> tuple[CatalogIndex, float, float]:
    """Return the index, and the seconds of clock and processor until the line is matched against it."""
    from shelfwise.text import normalise

    normalise.cache_clear()  # else both would find normal forms there that a process of another day would not
    wall, cpu = time.perf_counter(), time.process_time()
    index = work()
    matcher.match(line, index)
    return index, time.perf_counter() - wall, time.process_time() - cpu


def _visible(matcher: Matcher, index: CatalogIndex, told: dict[str, list[str]], former: pd.DataFrame) -> bool:
    """Whether titles that are new find their products, and what was removed is not found by its own title."""
    title = index.products.set_index("product_id")["title"]
    new = [*told["renamed"], *told["added"]]
    gone = former.set_index("product_id")["title"].reindex(told["removed"]).tolist()
    lines = pd.DataFrame({"line_id": range(len(new) + len(gone)), "title": [*title.reindex(new), *gone]})
    found = matcher.match(lines, index)
    best = found[found["rank"] == 1].set_index("line_id")["product_id"].reindex(range(len(new)))
    same_title = title.reindex(best.to_numpy()).to_numpy() == title.reindex(new).to_numpy()
    return bool(same_title.mean() >= 0.99 if len(new) else True) and not set(found["product_id"]) & set(told["removed"])


def measure_process(work: Path, times: int, seed: int) -> dict[str, Any]:
    """Change the catalog and measure; see above."""
    from shelfwise.contract import parse_upload
    from shelfwise.matching.features import FeatureMaker
    from shelfwise.matching.index import CatalogIndex, product_names
    from shelfwise.matching.matcher import Matcher

    matcher, index = Matcher.load(work / "matcher"), CatalogIndex.load(work / "index")
    FeatureMaker.of(index)
    lines = parse_upload((work / "upload.csv").read_bytes(), "upload.csv", "incremental").frame.head(COMPARED_LINES)
    past = index.names.iloc[len(index.products) :].rename(columns={"name": "vendor_title"})
    catalog = Changing(index.products, past[["vendor_id", "vendor_title", "product_id"]], seed)
    first = lines.iloc[:1]
    matcher.match(first, index)

    def follow() -> CatalogIndex:
        return matcher.update_index(index, catalog.products, product_names(catalog.products, catalog.lines, index))

    def build() -> CatalogIndex:
        return matcher.build_index(
            catalog.products, product_names(catalog.products, catalog.lines), config=index.config
        )

    catalog.change(2)
    index = follow()  # the first update of a process also loads what is compiled
    changes = {}
    for size in SIZES:
        seconds, processor, visible = [], [], True
        for _ in range(times):
            former = catalog.products
            told = catalog.change(size)
            index, wall, cpu = _timed(follow, matcher, first)
            seconds.append(wall)
            processor.append(cpu)
            visible &= _visible(matcher, index, told, former)
        counted = asdict(index.change) if index.change else {}
        whole, wall, cpu = _timed(build, matcher, first)
        say(f"{size:,} products: {np.median(seconds):.2f} s, a full build {wall:.2f} s")
        changes[str(size)] = {
            "seconds": np.median(seconds),
            "slowest_seconds": max(seconds),
            "processor_seconds": np.median(processor),
            "build_seconds": wall,
            "build_processor_seconds": cpu,
            "times_as_fast": wall / np.median(seconds),
            "visible": visible,
            "alike": _alike(matcher.match(lines, index), matcher.match(lines, whole)),
            "alike_exact": _alike(*(matcher.match(lines, _without_graph(one)) for one in (index, whole))),
            "last": counted,
        }
        del whole
    return {"changes": changes, "vectors": index.stats["vectors"], "peak_mb": peak_mb(), "names": len(index.names)}


def _without_graph(index: CatalogIndex) -> CatalogIndex:
    """Return the index without the search by vectors, which is approximate; the encoder's scores stay."""
    return index.with_config(replace(index.config, encoder_depth=0))


def _alike(ours: pd.DataFrame, theirs: pd.DataFrame) -> float:
    """Return the share of lines whose rows (products, ranks, scores, decisions) are the same, bit for bit."""
    differ = set()
    for one, other in ((ours, theirs), (theirs, ours)):
        merged = one.merge(other, how="left", indicator=True)
        differ |= set(merged.loc[merged["_merge"] != "both", "line_id"])
    return 1 - len(differ) / max(ours["line_id"].nunique(), 1)


# ---- together --------------------------------------------------------------------------------------------------------


def run(given: argparse.Namespace, work: Path) -> dict[str, Any]:
    """Run the benchmark and return its object."""
    head, cores = about("incremental"), use_two_cores()
    say(f"a catalog of {given.products:,} products")
    made, found = (_child(given, work, part) for part in ("prepare", "measure"))
    wanted = {name: getattr(given, name) for name in ("products", "mappings", "times")}
    return {**head, **wanted, **found, "seeds": [given.seed], "cores_used": cores, "prepared": made}


def _child(given: argparse.Namespace, work: Path, part: str) -> dict[str, Any]:
    arguments = ["--part", part, "--work", str(work)]
    for name in ("products", "mappings", "times", "steps", "seed"):
        arguments += [f"--{name}", str(getattr(given, name))]
    command = [sys.executable, "-m", "benchmarks.incremental", *arguments]
    ran = run_measured(command, env=child_environment(OMP_NUM_THREADS="2", TOKENIZERS_PARALLELISM="true"))
    found = last_object(ran.output)
    if ran.status or found is None:
        raise SystemExit(f"{part} failed with status {ran.status}")
    return found


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.incremental", description=__doc__.splitlines()[0])
    parser.add_argument("--products", type=int, default=80_000)
    parser.add_argument("--mappings", type=int, default=15_000)
    parser.add_argument("--times", type=int, default=4, help="changes of each size")
    parser.add_argument("--steps", type=int, default=0, help="training steps of the encoder; 0: as configured")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--part", choices=["prepare", "measure"], help=argparse.SUPPRESS)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run from the command line; return the exit status."""
    given = _parser().parse_args(argv)
    if given.part == "prepare":
        from benchmarks.speed import prepare

        made = prepare(given.work, given.products, given.mappings, COMPARED_LINES, given.steps, given.seed)
        print(json.dumps(plain(made)), flush=True)
    elif given.part == "measure":
        print(json.dumps(plain(measure_process(given.work, given.times, given.seed))), flush=True)
    else:
        with tempfile.TemporaryDirectory(prefix="shelfwise-incremental-") as scratch:
            emit(run(given, Path(scratch)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
