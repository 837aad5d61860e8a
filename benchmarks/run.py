"""Runs the benchmarks and writes RESULTS.md: `python -m benchmarks.run [--only NAME ...] [--seeds N]` (`make bench`).

Each prints one JSON object last, kept as benchmarks/results/NAME.json with the commands that made it. Real data
is looked for in `SHELFWISE_BENCH_DATA`, by default `../shared/data` beside the checkout; what is not there is skipped.
A benchmark that fails leaves the result of its last good run.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import report
from benchmarks.common import ROOT, child_environment, last_object, run_measured, say
from shelfwise.artifacts import atomic_write_json


@dataclass(frozen=True)
class Benchmark:
    """One result: the commands that make it (`{data}` real data, `{dir}` an empty directory, `{seeds}`), what it needs.

    `extra` ones run only when asked for by name.
    """

    name: str
    commands: tuple[str, ...]
    needs: str = ""
    extra: bool = False

    def filled(self, data: str, scratch: str, seeds: int) -> list[str]:
        """Return the commands with their places filled in."""
        return [command.format(data=data, dir=scratch, seeds=seeds) for command in self.commands]


def _pricerunner(name: str, flags: str = "", seeds: str = "{seeds}", extra: bool = False) -> Benchmark:
    convert = f"benchmarks.pricerunner {{data}}/pricerunner {{dir}}/pricerunner{flags}"
    commands = (convert, f"benchmarks.catalog {{dir}}/pricerunner --seeds {seeds}")
    return Benchmark(name, commands, "pricerunner/offers.csv", extra)


def _classify(name: str, made: str, flags: str = "", extra: bool = False) -> Benchmark:
    source = made.split()[0]
    needs = {"instacart": "instacart/products.csv", "fashion": "fashion/images.zip"}[source]
    make = f"benchmarks.classify_data {source} {{data}}/{source} {{dir}}/{source}{made.removeprefix(source)}"
    return Benchmark(f"classify_{name}", (make, f"benchmarks.classify {{dir}}/{source}{flags}"), needs, extra)


SYNTHETIC = "shelfwise.synthetic {dir}/synthetic --products 10000 --uploads 10 --lines 500 --with-truth-column"
BENCHMARKS = (
    Benchmark("definitions", ("benchmarks.definitions",)),
    Benchmark("synthetic_generation", ("benchmarks.synthetic_generation",)),
    Benchmark("demo", ("benchmarks.demo",)),
    Benchmark("certified", ("benchmarks.certified --data {data}",)),
    Benchmark("rounds", ("benchmarks.rounds {data}/pricerunner",), "pricerunner/offers.csv"),
    Benchmark("robustness", ("benchmarks.robustness {data}",), "instacart/products.csv"),
    Benchmark("speed", ("benchmarks.speed",)),
    Benchmark("incremental", ("benchmarks.incremental",)),
    Benchmark("sensors", ("benchmarks.sensors",)),
    Benchmark("drift", ("benchmarks.drift --data {data}",)),
    Benchmark("simulation", ("benchmarks.simulation",)),
    Benchmark("kills", ("benchmarks.kills",)),
    Benchmark("speed_million", ("benchmarks.speed --products 1000000 --lines 20000 --sample 20",), extra=True),
    Benchmark("pairs_abt_buy", ("benchmarks.pairs {data}/abt-buy",), "abt-buy/tableA.csv"),
    Benchmark("pairs_amazon_google", ("benchmarks.pairs {data}/amazon-google",), "amazon-google/tableA.csv"),
    Benchmark("comparisons", ("benchmarks.comparisons --data {data}",), "pricerunner/offers.csv"),
    _classify("instacart", "instacart", " --only text"),
    _classify("instacart_pretrained", "instacart", " --only text --text-base minilm", extra=True),
    _classify("fashion_subcategory", "fashion", " --only image --level 2"),
    _classify("fashion_both", "fashion --without-category-words"),
    _classify("fashion_titles", "fashion", extra=True),
    Benchmark("tests", ("benchmarks.suite",)),
    Benchmark("synthetic", (SYNTHETIC, "benchmarks.catalog {dir}/synthetic --seeds 1")),
    _pricerunner("pricerunner"),
    Benchmark("encoders_synthetic", ("benchmarks.encoders",)),
    Benchmark(
        "encoders_pricerunner",
        (
            "benchmarks.pricerunner {data}/pricerunner {dir}/pricerunner",
            "benchmarks.encoders {dir}/pricerunner",
        ),
        "pricerunner/offers.csv",
    ),
    Benchmark(
        "encoders_80000",
        ("benchmarks.encoders --products 80000 --mappings 310000 --choices static_256",),
        extra=True,
    ),
    Benchmark(
        "rerank_pricerunner",
        (
            "benchmarks.pricerunner {data}/pricerunner {dir}/pricerunner",
            "benchmarks.rerank {dir}/pricerunner",
        ),
        "pricerunner/offers.csv",
        extra=True,
    ),
    _pricerunner("pricerunner_withheld", " --withheld 0.1", "1", extra=True),
    *(_pricerunner(f"pricerunner_fold{fold}", f" --fold {fold}", "1", extra=True) for fold in range(1, 5)),
)


def data_folder() -> Path:
    """Return where real data is looked for."""
    return Path(os.environ.get("SHELFWISE_BENCH_DATA") or ROOT.parent / "shared" / "data").expanduser().resolve()


def selected(only: Sequence[str]) -> list[Benchmark]:
    """Return the benchmarks asked for by name, or all that are not extra. Raises ValueError for an unknown name."""
    by_name = {benchmark.name: benchmark for benchmark in BENCHMARKS}
    if unknown := [name for name in only if name not in by_name]:
        raise ValueError(f"no benchmark {', '.join(unknown)}; there are {', '.join(by_name)}")
    return [by_name[name] for name in only] if only else [one for one in BENCHMARKS if not one.extra]


def execute(benchmark: Benchmark, seeds: int, folder: Path = report.RESULTS) -> str:
    """Run one benchmark and keep its object; return 'done', 'skipped' or 'failed'."""
    data = data_folder()
    if benchmark.needs and not (data / benchmark.needs).exists():
        say(f"{benchmark.name}: skipped, there is no {benchmark.needs} in {data} (set SHELFWISE_BENCH_DATA)")
        return "skipped"
    began, result, status = time.monotonic(), None, 0
    with tempfile.TemporaryDirectory(prefix="shelfwise-bench-") as scratch:
        for command in benchmark.filled(str(data), scratch, seeds):
            ran = run_measured([sys.executable, "-m", *shlex.split(command)], env=child_environment())
            result, status = last_object(ran.output), ran.status
            if status:
                break
    if result is None or "benchmark" not in result:
        say(f"{benchmark.name}: failed with status {status} and without a result; the last good one stays")
        return "failed"
    shown = benchmark.filled("../shared/data" if not os.environ.get("SHELFWISE_BENCH_DATA") else "DATA", "DIR", seeds)
    kept = {**result, "how": [f"python -m {command}" for command in shown], "took_seconds": time.monotonic() - began}
    folder.mkdir(parents=True, exist_ok=True)
    atomic_write_json(folder / f"{benchmark.name}.json", kept)
    return "failed" if status else "done"


def main(argv: Sequence[str] | None = None) -> int:
    """Run from the command line; exit status 1 where anything failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__.splitlines()[0])
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="may be repeated")
    parser.add_argument("--seeds", type=int, default=1, help="encoder seeds on PriceRunner; each runs the whole graph")
    parser.add_argument("--list", action="store_true", help="name the benchmarks and end")
    given = parser.parse_args(argv)
    if given.list:
        print("\n".join(f"{one.name}{'  (only by name)' if one.extra else ''}" for one in BENCHMARKS))
        return 0
    try:
        chosen = selected(given.only)
    except ValueError as error:
        parser.error(str(error))
    outcomes = {}
    for benchmark in chosen:
        say(f"\n== {benchmark.name}")
        outcomes[benchmark.name] = execute(benchmark, given.seeds)
        report.main()  # after each, so that hours of measuring survive an interruption
    print("\n".join(f"{name:<22}{outcome}" for name, outcome in outcomes.items()))
    return 1 if "failed" in outcomes.values() else 0


if __name__ == "__main__":
    raise SystemExit(main())
