"""What every benchmark says about itself, and how it measures a child process."""

from __future__ import annotations

import json
import math
import os
import platform
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
LIBRARIES = (
    "dagster",
    "torch",
    "sentence-transformers",
    "faiss-cpu",
    "lightgbm",
    "scikit-learn",
    "pandas",
    "rapidfuzz",
)
MB = 1024 * 1024
POLL_SECONDS = 0.5


def machine() -> dict[str, Any]:
    """Return what the numbers depend on: processor, cores this process may use, memory in GB, accelerators."""
    import psutil

    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 2**30, 1),
        "gpus": _gpus(),
        "system": f"{platform.system()} {platform.machine()}",
    }


def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _gpus() -> int:
    from shelfwise.training.process import gpu_count

    return gpu_count()


def versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries that the numbers depend on."""
    return {"python": platform.python_version(), **{name: version(name) for name in LIBRARIES}}


def commit() -> str | None:
    """Return the commit that was measured, with a `+` where files were changed since; None outside a checkout."""
    git = ["git", "-C", str(ROOT)]
    try:
        found = subprocess.run([*git, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=True)
        changed = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    # What the benchmarks write while they run changes nothing that is measured.
    edited = [line for line in changed.stdout.splitlines() if not line[3:].startswith("benchmarks/")]
    return found.stdout.strip() + ("+" if edited else "")


def about(benchmark: str) -> dict[str, Any]:
    """Return the part that every benchmark's object begins with. Call it first: it notes how busy the machine was."""
    return {
        "benchmark": benchmark,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "machine": machine(),
        "load_before": round(os.getloadavg()[0], 2),
        "versions": versions(),
        "settings": settings(),
    }


def settings() -> dict[str, str]:
    """Return the project's settings that were given in the environment; where things lie is left out."""
    places = ("SHELFWISE_DATA", "SHELFWISE_LAKE", "SHELFWISE_CACHE", "SHELFWISE_BENCH_DATA", "SHELFWISE_BENCH_ENCODER")
    return {
        name: value
        for name, value in sorted(os.environ.items())
        if name.startswith("SHELFWISE_") and name not in places
    }


def plain(value: Any) -> Any:
    """Return a value as JSON knows it: numbers of numpy as numbers, NaN and infinity as null."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set):
        return [plain(item) for item in value]
    if hasattr(value, "item") and not isinstance(value, str):
        value = value.item()
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else None
    return str(value) if isinstance(value, Path) else value


def emit(result: Mapping[str, Any]) -> None:
    """Print a benchmark's object as the last line of its output."""
    sys.stderr.flush()
    print(json.dumps(plain(result), allow_nan=False), flush=True)


def last_object(output: str) -> dict[str, Any] | None:
    """Return the JSON object on the last line that is not blank; None where there is none."""
    lines = [line for line in output.splitlines() if line.strip()]
    try:
        found = json.loads(lines[-1]) if lines else None
    except json.JSONDecodeError:
        return None
    return found if isinstance(found, dict) else None


def say(sentence: str) -> None:
    """Print progress where it does not mix with the object on standard output."""
    print(sentence, file=sys.stderr, flush=True)


def peak_mb() -> float:
    """Return the largest resident size of this process so far, in MB (2^20 bytes)."""
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    except OSError:
        pass
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (MB if sys.platform == "darwin" else 1024)


def use_two_cores() -> int:
    """Keep this process and its children to two cores, so that larger machines give the same kind of number."""
    if not hasattr(os, "sched_setaffinity"):
        return os.cpu_count() or 1
    cores = sorted(os.sched_getaffinity(0))[:2]
    os.sched_setaffinity(0, cores)
    return len(cores)


def child_environment(**changes: str) -> dict[str, str]:
    """Return the environment of a child that imports this checkout's packages."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "DO_NOT_TRACK": "1", **changes}


@dataclass
class Measured:
    """A finished child: exit status, seconds of wall clock, largest memory of it and its children in MB, output."""

    status: int
    seconds: float
    peak_mb: float
    output: str


def run_measured(command: Sequence[str], cwd: Path = ROOT, env: Mapping[str, str] | None = None) -> Measured:
    """Run a command, show its output as progress, and measure it with every process it starts."""
    started = time.monotonic()
    process = subprocess.Popen(
        list(command), cwd=cwd, env=dict(env) if env else None, stdout=subprocess.PIPE, text=True, errors="replace"
    )
    watch = _TreeMemory(process.pid)
    watch.start()
    lines = []
    try:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line)
            say(line.rstrip("\n"))
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    except BaseException:
        process.terminate()
        process.wait()
        raise
    finally:
        watch.stop()
    # The watch sees all processes together, but only now and then; the system knows the largest one exactly.
    peak = max(watch.peak_mb, used.ru_maxrss / (MB if sys.platform == "darwin" else 1024))
    return Measured(process.returncode, time.monotonic() - started, peak, "".join(lines))


class _TreeMemory(threading.Thread):
    """Looks at the memory of a process and its descendants; memory they share counts once where the system tells."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.pid, self.peak_mb, self._finished = pid, 0.0, threading.Event()

    def run(self) -> None:
        import psutil

        while not self._finished.wait(POLL_SECONDS):
            try:
                root = psutil.Process(self.pid)
                total = sum(_memory(process) for process in [root, *root.children(recursive=True)])
            except psutil.Error:
                continue
            self.peak_mb = max(self.peak_mb, total / MB)

    def stop(self) -> None:
        """End the watch and wait for it."""
        self._finished.set()
        self.join()


def _memory(process: Any) -> int:
    import psutil

    try:
        full = process.memory_full_info()
        return getattr(full, "pss", 0) or full.rss
    except psutil.Error:
        return 0
