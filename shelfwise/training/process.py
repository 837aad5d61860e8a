"""A training as a process: its command line, how it is launched, and the clock and directories of one run.

Imports no torch, so that whoever wants something trained need not.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol, cast

from shelfwise.artifacts import content_id, file_digest

Progress = Callable[[dict[str, Any]], None]
"""Called with events: {"event": "start" | "step" | "validation" | "resume" | "done", "message": a line, ...}."""


class TrainingModule(Protocol):
    """What a module that trains something offers to whoever starts it."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the arguments that `run` reads."""
        ...

    def run(self, arguments: argparse.Namespace, progress: Progress) -> dict[str, Any]:
        """Train and return {"metrics", "curve", "timing"}; the timing has prepare_seconds and train_seconds."""
        ...


def training_module(name: str) -> TrainingModule:
    """Return a training module by its name. Raises ValueError where the module trains nothing."""
    module = importlib.import_module(name)
    if not all(hasattr(module, wanted) for wanted in ("add_arguments", "run")):
        raise ValueError(f"{name} is not a training: it lacks add_arguments or run")
    return cast(TrainingModule, module)


# ---- the command line ------------------------------------------------------------------------------------------------


def main(module: TrainingModule, name: str, argv: Sequence[str] | None = None) -> int:
    """Train from the command line; print progress, and metrics and timing as one JSON object last."""
    arguments = parse(module, f"python -m {name}", argv)
    result = module.run(arguments, lambda event: print(event["message"], flush=True) if leads() else None)
    if leads():
        print(json.dumps({**result["metrics"], **result["timing"]}, sort_keys=True), flush=True)
    return 0


def parse(module: TrainingModule, program: str, argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the arguments that a training module declares."""
    parser = argparse.ArgumentParser(prog=program, description=(module.__doc__ or "").partition("\n")[0])
    module.add_arguments(parser)
    return parser.parse_args(argv)


def add_run_arguments(parser: argparse.ArgumentParser, what: str) -> None:
    """Declare what every training takes: where to write, where to keep checkpoints, its settings."""
    parser.add_argument("--out", required=True, type=Path, help=f"directory of the {what}; replaced as a whole")
    parser.add_argument("--work", required=True, type=Path, help="directory for checkpoints")
    parser.add_argument("--config", type=Path, help=f"JSON file of {what} settings")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="one setting; may be repeated")


def file_arguments(files: Mapping[str, Path]) -> list[str]:
    """Return named files as arguments: {"out": p} as ["--out", "p"]."""
    return [part for name, path in files.items() for part in (f"--{name.replace('_', '-')}", str(path))]


def launch_command(module: str, arguments: Sequence[str], n_gpus: int) -> list[str]:
    """Return the command that runs a training module: plain Python, or torchrun where there is more than one GPU."""
    if n_gpus > 1:
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(n_gpus), "-m"]
    else:
        launcher = ["-m"]
    return [sys.executable, *launcher, module, *arguments]


# ---- the machine -----------------------------------------------------------------------------------------------------


def gpu_count() -> int:
    """Return how many GPUs a child process would see, without importing torch. 0 where there is no driver."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([name for name in visible.split(",") if name.strip() not in ("", "-1")])
    if shutil.which("nvidia-smi") is None:
        return 0
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=30, check=False)
    return sum(line.startswith("GPU ") for line in listed.stdout.splitlines())


def leads() -> bool:
    """Whether this process speaks and writes for all that train one model together."""
    return int(os.environ.get("RANK", "0")) == 0


def world_size() -> int:
    """Return how many processes train one model together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def prepare_environment(num_threads: int = 0) -> None:
    """Set what the libraries read at import time, and the number of CPU threads (0 leaves it to torch)."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    # OpenMP threads that spin while they wait made training many times slower on two cores that others used too.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    import torch

    if num_threads:
        torch.set_num_threads(num_threads)
    from transformers.utils import logging

    logging.disable_progress_bar()


# ---- one run ---------------------------------------------------------------------------------------------------------


def identity_of(
    code_version: str, rows: bytes, settings: Mapping[str, Any], libraries: Iterable[str], processes: int
) -> str:
    """Return an id of everything that decides the weights: rows, settings, the files of a base model, libraries."""
    base: Any = settings.get("base")
    if base and Path(base).is_dir():
        files = sorted(path for path in Path(base).rglob("*") if path.is_file())
        base = [(path.relative_to(settings["base"]).as_posix(), file_digest(path)) for path in files]
    others = {name: value for name, value in settings.items() if name != "base"}
    return content_id(code_version, rows, others, base, [version(name) for name in libraries], processes)


class Run:
    """One training from its start to the directory it writes: its clock, its checkpoints' directory, what it says."""

    def __init__(self, what: str, progress: Progress | None = None):
        self.what = what
        self.report: Progress = progress or (lambda event: None)
        self.directory = Path()
        self._began = self._last = time.monotonic()
        self._stages: dict[str, float] = {}

    def elapsed(self) -> float:
        """Return the seconds since the beginning."""
        return time.monotonic() - self._began

    def stage(self, name: str) -> None:
        """End the stage 'start', 'prepare' or 'train': the seconds since the last one ended are its."""
        now = time.monotonic()
        self._stages[f"{name}_seconds"] = round(now - self._last, 2)
        self._last = now

    def open(self, work_dir: Path | str, identity: str) -> Path:
        """Return the directory of this training's checkpoints, and of no other's."""
        self.directory = Path(work_dir) / f"{self.what}-{identity}"
        self.directory.mkdir(parents=True, exist_ok=True)
        return self.directory

    def finish(
        self,
        out_dir: Path | str,
        write: Callable[[Path], None],
        metrics: dict[str, Any],
        curve: list[dict[str, Any]],
        speed: Mapping[str, float],
    ) -> dict[str, Any]:
        """Write the model, remove the checkpoints, and return metrics, curve and timing."""
        if leads():
            with replaced(Path(out_dir)) as staging:
                write(staging)
            shutil.rmtree(self.directory, ignore_errors=True)
        timing = {**self._stages, "total_seconds": round(self.elapsed(), 2), **speed}
        said = f"{self.what} written in {timing['total_seconds']} s"
        self.report({"event": "done", "metrics": metrics, **timing, "message": said})
        return {"metrics": metrics, "curve": curve, "timing": timing}


@contextmanager
def replaced(directory: Path) -> Generator[Path]:
    """Give an empty directory beside `directory` and move it there, so that a kill leaves the old one, the new or none.

    None where it strikes between the removal of the old one and the move; the checkpoints are still there then.
    """
    staging = directory.with_name(f".{directory.name}.partial")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    yield staging
    shutil.rmtree(directory, ignore_errors=True)
    os.replace(staging, directory)
