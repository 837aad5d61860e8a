"""Making the built-in kind of catalog: `python -m benchmarks.synthetic_generation`. The last line is a JSON object.

Measures `python -m shelfwise.synthetic` from the start of the process to its end, files written.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.common import about, child_environment, emit, run_measured


def run(products: int, mappings: int, uploads: int, lines: int, seed: int) -> dict[str, Any]:
    """Run the benchmark and return its object. Raises SystemExit where the generator fails."""
    head = about("synthetic_generation")
    sizes = {"products": products, "mappings": mappings, "uploads": uploads, "lines": lines, "seed": seed}
    with tempfile.TemporaryDirectory(prefix="shelfwise-synthetic-") as scratch:
        out = Path(scratch) / "catalog"
        flags = [text for name, value in sizes.items() for text in (f"--{name}", str(value))]
        ran = run_measured([sys.executable, "-m", "shelfwise.synthetic", str(out), *flags], env=child_environment())
        if ran.status:
            raise SystemExit(f"the generator failed with status {ran.status}")
        size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    return head | sizes | {"seeds": [seed], "seconds": ran.seconds, "peak_mb": ran.peak_mb, "written_mb": size / 2**20}


def main(argv: Sequence[str] | None = None) -> int:
    """Run from the command line; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.synthetic_generation")
    parser.add_argument("--products", type=int, default=80_000)
    parser.add_argument("--mappings", type=int, default=15_000)
    parser.add_argument("--uploads", type=int, default=20)
    parser.add_argument("--lines", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=7)
    given = parser.parse_args(argv)
    emit(run(given.products, given.mappings, given.uploads, given.lines, given.seed))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
