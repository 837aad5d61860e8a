"""Loading the code location: `python -m benchmarks.definitions [--times N]`. The last line is a JSON object.

Each time in a fresh process, without any of the project's environment variables: import of
`orchestration.definitions`, assembling the definitions, and resolving them into a repository. `seconds` is the median
over the processes from before the import; `process_seconds` counts the start of Python too.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Sequence
from typing import Any

from benchmarks.common import about, child_environment, emit, last_object, run_measured, say

HEAVY = ("torch", "transformers", "sentence_transformers", "faiss", "evidently", "lightgbm", "datasets")
CHILD = f"""
import json, sys, time
began = time.perf_counter()
from orchestration import definitions
imported = time.perf_counter()
repository = definitions.build_definitions(definitions.load_settings()).get_repository_def()
done = time.perf_counter()
assets = len(repository.asset_graph.get_all_asset_keys())
heavy = [name for name in {HEAVY!r} if name in sys.modules]
print(json.dumps(dict(seconds=done - began, import_seconds=imported - began, assets=assets, heavy=heavy)))
"""


def run(times: int) -> dict[str, Any]:
    """Run the benchmark and return its object. Raises SystemExit where the definitions do not load."""
    head, each = about("definitions"), []
    with tempfile.TemporaryDirectory(prefix="shelfwise-definitions-") as home:
        env = {name: value for name, value in child_environment().items() if not name.startswith("SHELFWISE_")}
        env["DAGSTER_HOME"] = home
        # The first process of a fresh clone writes byte code and the dbt manifest; it is reported on its own.
        for number in range(times + 1):
            ran = run_measured([sys.executable, "-c", CHILD], env=env)
            found = last_object(ran.output)
            if ran.status or found is None:
                raise SystemExit(f"the definitions did not load (status {ran.status})")
            each.append(found | {"process_seconds": ran.seconds})
            say(f"{number or 'first'}: {found['seconds']:.2f} s")
    first, rest = each[0], each[1:]
    return head | {
        "seconds": statistics.median(one["seconds"] for one in rest),
        "import_seconds": statistics.median(one["import_seconds"] for one in rest),
        "process_seconds": statistics.median(one["process_seconds"] for one in rest),
        "each": [one["seconds"] for one in rest],
        "first_seconds": first["seconds"],
        "times": times,
        "assets": first["assets"],
        "heavy_modules": sorted({name for one in each for name in one["heavy"]}),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Run from the command line; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.definitions")
    parser.add_argument("--times", type=int, default=5)
    emit(run(parser.parse_args(argv).times))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
