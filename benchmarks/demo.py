"""`make demo`, twice, in a copy of this checkout: `python -m benchmarks.demo`. The last line is a JSON object.

The copy holds the files git knows or would add, and nothing else: no lake, no runs, no catalog; so the first run is
what a newcomer sees once the packages are installed, and nobody's own demo is touched. The second run finds everything
made, and must not train again.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.common import ROOT, about, child_environment, emit, run_measured, say

MADE_HERE = ("lake", "data", ".dagster_home", ".venv", ".git", "__pycache__", ".work", ".dbt", "target", "logs")


def copy_checkout(target: Path) -> None:
    """Copy the project's own files, not what was made with it."""
    git = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(git, capture_output=True, text=True, check=False)
    if listed.returncode:  # not a git checkout: an unpacked archive
        shutil.copytree(ROOT, target, ignore=shutil.ignore_patterns(*MADE_HERE))
        return
    for name in filter(None, listed.stdout.split("\0")):
        source = ROOT / name
        if source.is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target / name)


def trained_steps(home: Path) -> dict[str, bool]:
    """Return for each asset that makes an artifact whether its latest materialization made it (or found it)."""
    import dagster as dg

    found = {}
    with dg.DagsterInstance.from_config(str(home)) as instance:
        for key in instance.all_asset_keys():
            event = instance.get_latest_materialization_event(key)
            materialization = event.asset_materialization if event else None
            for name in ("trained_now", "made_now"):
                value = materialization.metadata.get(name) if materialization else None
                if value is not None:
                    found[key.to_user_string()] = bool(value.value)
    return found


def _demo(copy: Path, products: int) -> dict[str, Any]:
    env = child_environment(
        PYTHONPATH=str(copy), DAGSTER_HOME=str(copy / ".dagster_home"), SHELFWISE_SYNTHETIC_PRODUCTS=str(products)
    )
    env = {name: v for name, v in env.items() if name not in ("SHELFWISE_DATA", "SHELFWISE_LAKE", "SHELFWISE_ENV")}
    # Part of the installation, which is not timed; parsed again only where the project changed.
    run_measured([sys.executable, "-c", "from resources.dbt import dbt_project; dbt_project()"], cwd=copy, env=env)
    ran = run_measured([sys.executable, "-m", "orchestration.demo"], cwd=copy, env=env)
    report = copy / "lake" / "reports" / "demo.json"
    if ran.status or not report.exists():
        raise SystemExit(f"the demo ended with status {ran.status}")
    return json.loads(report.read_text()) | {"wall_seconds": ran.seconds, "peak_mb": ran.peak_mb}


def run(products: int) -> dict[str, Any]:
    """Run the benchmark and return its object. Raises SystemExit where the demo fails."""
    head = about("demo")
    with tempfile.TemporaryDirectory(prefix="shelfwise-demo-") as scratch:
        copy = Path(scratch) / "shelfwise"
        copy_checkout(copy)
        home = copy / ".dagster_home"
        home.mkdir()
        shutil.copy(copy / "dagster.yaml", home / "dagster.yaml")
        first = _demo(copy, products)
        made_first = trained_steps(home)
        say("\nAgain, nothing changed")
        second = _demo(copy, products)
        made_again = trained_steps(home)
    return head | {
        "products": products,
        "seconds": first["wall_seconds"],
        "outside_seconds": first["outside_seconds"],
        "outside_share": first["outside_share"],
        "peak_mb": first["peak_mb"],
        "evaluation": first["evaluation"],
        "trained_first": sorted(name for name, made in made_first.items() if made),
        "again": {
            "seconds": second["wall_seconds"],
            "trained": sorted(name for name, made in made_again.items() if made),
        },
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Run from the command line; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.demo")
    parser.add_argument("--products", type=int, default=10_000)
    emit(run(parser.parse_args(argv).products))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
