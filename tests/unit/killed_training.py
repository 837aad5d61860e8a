"""A training whose process is killed while it saves its third checkpoint."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

CHILD = """
import os, signal, sys
import pandas as pd
from shelfwise.training import process
process.prepare_environment(1)
from shelfwise.training import loop
whole, calls = loop.mark_complete, []
def killed_while_saving(checkpoint):
    calls.append(checkpoint)
    if len(calls) == 3:
        (checkpoint / "optimizer.pt").write_bytes(b"half")
        os.kill(os.getpid(), signal.SIGKILL)
    whole(checkpoint)
loop.mark_complete = killed_while_saving
"""


def kill_while_saving(training: str, *arguments: Path) -> None:
    """Run the lines of a training in a child, which finds `arguments` in sys.argv, and see it killed half way."""
    command = [sys.executable, "-c", CHILD + training, *map(str, arguments)]
    child = subprocess.run(command, capture_output=True, text=True, check=False)
    assert child.returncode == -signal.SIGKILL, child.stderr[-2000:]
