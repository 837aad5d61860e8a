"""A small world to run the graph in: a synthetic catalog, a lake and a DAGSTER_HOME of its own, and a driver process.

The driver is a process of its own because the settings are read once per process and the steps' fork server keeps the
environment it was started with; and because a test that kills it must survive.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
ENCODER = {
    "architecture": "static",
    "hidden_size": 32,
    "vocab_size": 1500,
    "batch_size": 8,  # many small steps: it has to be killed half way
    "epochs": 20,
    "evaluations": 20,
    "patience": 0,
    "num_threads": 1,
}
LINES = 60
DRIVER_SECONDS = 400


@dataclass(frozen=True)
class World:
    """Where everything of a world lies, and the settings that differ from the defaults."""

    base: Path
    settings: dict[str, str] = field(default_factory=dict)

    @property
    def home(self) -> Path:
        return self.base / "home"

    @property
    def data(self) -> Path:
        return self.base / "data"

    @property
    def lake(self) -> Path:
        return self.base / "lake"

    def environment(self) -> dict[str, str]:
        """The environment of a process in this world."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("SHELFWISE_")}
        return {
            **inherited,
            "PYTHONPATH": str(ROOT),
            "DAGSTER_HOME": str(self.home),
            "SHELFWISE_DATA": str(self.data),
            "SHELFWISE_LAKE": str(self.lake),
            "SHELFWISE_UPLOAD_SETTLE_SECONDS": "0",
            "SHELFWISE_POLICY": "fixed",  # this little data proves nothing, so nothing would be approved
            "SHELFWISE_ENCODER_CONFIG": json.dumps(ENCODER),
            # A split on which the matcher beats the baselines clearly: about a hundred lines decide here.
            "SHELFWISE_SPLIT_SEED": "5",
            # Products stand in for listings, six to a category.
            "SHELFWISE_TEXT_CONFIG": json.dumps({"architecture": "none"}),
            "SHELFWISE_TEXT_FLOOR": "0.1",
            "OMP_NUM_THREADS": "1",
            "DO_NOT_TRACK": "1",
            **self.settings,
        }

    def start(self, *commands: str) -> subprocess.Popen[bytes]:
        """Start the driver, in a process group of its own."""
        self.home.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / "dagster.yaml", self.home / "dagster.yaml")
        with (self.base / "driver.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "tests.end_to_end.driver", str(self.base / "outcomes.json"), *commands],
                cwd=ROOT,
                env=self.environment(),
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def drive(self, *commands: str) -> list[dict[str, Any]]:
        """Run the driver to its end; return the outcomes of its runs in order (fields of `RunOutcome`, and `job`)."""
        process = self.start(*commands)
        try:
            status = process.wait(DRIVER_SECONDS)
        finally:
            kill_group(process)
        assert status == 0, (self.base / "driver.log").read_text()[-4000:]
        return json.loads((self.base / "outcomes.json").read_text())

    def drive_until(self, reached: Callable[[], bool], *commands: str) -> None:
        """Start the driver and kill it and all its children with SIGKILL as soon as `reached` says so."""
        process = self.start(*commands)
        deadline = time.monotonic() + DRIVER_SECONDS
        try:
            while not reached():
                assert process.poll() is None, "it ended before it could be killed:\n" + self.log()
                assert time.monotonic() < deadline, "it never came so far:\n" + self.log()
                time.sleep(0.005)
        finally:
            kill_group(process)

    def log(self) -> str:
        """The end of what the driver's processes printed."""
        return (self.base / "driver.log").read_text()[-3000:] + (self.home / "output.log").read_text()[-3000:]


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """Kill a process group with SIGKILL and wait until its leader is gone."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def build(base: Path) -> World:
    """Make a world with a synthetic catalog whose three vendor files are not uploaded yet."""
    from shelfwise.synthetic import SyntheticConfig, generate, write

    world = World(base)
    config = SyntheticConfig(
        n_products=600, n_mappings=1800, n_vendors=24, n_uploads=3, lines_per_upload=LINES, n_listings=0, seed=5
    )
    write(generate(config), world.data, uploads_folder="vendor_files")
    return world
