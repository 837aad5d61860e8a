"""How long the tests take: `python -m benchmarks.suite`. The last line is a JSON object.

Runs what `make test` runs, in a DAGSTER_HOME of its own.
"""

from __future__ import annotations

import re
import sys
import tempfile
from typing import Any

from benchmarks.common import about, child_environment, emit, run_measured

COMMAND = ("-m", "pytest", "-n", "2", "--dist", "loadfile")


def counts(output: str) -> dict[str, int]:
    """Return how many tests passed, failed and so on, from the last line of pytest's summary."""
    for line in reversed(output.splitlines()):
        found = re.findall(r"(\d+) (passed|failed|errors?|skipped|xfailed|xpassed)", line)
        if found:
            return {name: int(number) for number, name in found}
    return {}


def run() -> dict[str, Any]:
    """Run the benchmark and return its object."""
    head = about("tests")
    with tempfile.TemporaryDirectory(prefix="shelfwise-tests-") as home:
        env = {name: value for name, value in child_environment().items() if not name.startswith("SHELFWISE_")}
        ran = run_measured([sys.executable, *COMMAND], env=env | {"DAGSTER_HOME": home})
    return head | {"seconds": ran.seconds, "peak_mb": ran.peak_mb, "status": ran.status, "tests": counts(ran.output)}


def main() -> int:
    """Run from the command line; the exit status is that of the tests."""
    result = run()
    emit(result)
    return int(result["status"])


if __name__ == "__main__":
    raise SystemExit(main())
