"""The simulated year: `python -m benchmarks.simulation`. The last line is a JSON object.

Runs what `make simulate` runs, on two cores, in a folder of its own.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.common import about, emit, run_measured, use_two_cores


def told(story: dict[str, Any]) -> dict[str, Any]:
    """Return what a story comes to: weeks, lines, retrains and what came of them, verdicts."""
    weeks = [one for one in story["weeks"] if one["top1"] is not None]
    lines = sum(one["lines"] for one in weeks)
    return {
        "weeks": len(story["weeks"]),
        "files": sum(one["files"] for one in story["weeks"]),
        "lines": lines,
        "top1": sum(one["top1"] * one["lines"] for one in weeks) / lines if lines else None,
        "happenings": dict(Counter(one["kind"] for one in story["happenings"])),
        "verdicts": story["verdicts"],
        "held": sum(one["holds"] for one in story["verdicts"]),
        "not_held": sum(not one["holds"] for one in story["verdicts"]),
    }


def run() -> dict[str, Any]:
    """Run the benchmark and return its object."""
    use_two_cores()
    head = about("simulation")
    with tempfile.TemporaryDirectory(prefix="shelfwise-year-") as scratch:
        folder = Path(scratch) / "simulation"
        ran = run_measured([sys.executable, "-m", "orchestration.simulate", "--folder", str(folder)])
        story = json.loads((folder / "simulation.json").read_text())
    return head | {"seconds": ran.seconds, "peak_mb": ran.peak_mb, "status": ran.status, **told(story)}


def main() -> int:
    """Run from the command line; the exit status is the simulation's: 1 where an event was not answered as it should
    be.
    """
    result = run()
    emit(result)
    return int(result["status"])


if __name__ == "__main__":
    raise SystemExit(main())
