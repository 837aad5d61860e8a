"""Training of the title encoder: a static embedding or a small BERT made from scratch, or any encoder fine-tuned.

Runs as a process of its own, from a shell, under torchrun or under Dagster Pipes:

    python -m shelfwise.matching.train --pairs pairs.parquet --out DIR --work DIR [--config F.json] [--set key=value]

The loss is the multiple negatives ranking loss (van den Oord et al. 2018; Henderson et al. 2017): a vendor's line must
be closer to its product than to the line's own hard negatives and to every other product of the batch. A run that was
killed goes on from its last whole checkpoint and ends with the weights it would have had anyway.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from shelfwise.artifacts import atomic_write_json, content_id, file_digest
from shelfwise.matching.training_data import (
    COLUMNS,
    RetrievalTask,
    TrainingRows,
    check_columns,
    training_rows,
    validation_task,
)
from shelfwise.matching.training_models import build_model, vocabulary_size

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from shelfwise.matching.training_loop import Reporter

CODE_VERSION = "4"
METRIC = "eval_mrr"

Progress = Callable[[dict[str, Any]], None]


LOSSES = ("ranking", "symmetric", "matryoshka", "contrastive")

# What an architecture is trained with where nothing else is said, chosen by measurement on validation parts.
DEFAULTS: dict[str, dict[str, Any]] = {
    "static": {
        "vocab_size": 4000,
        "hidden_size": 256,
        "max_length": 64,
        "loss": "symmetric",
        "negatives": 1,
        "batch_size": 512,
        "learning_rate": 2e-2,
        "weight_decay": 0.0,
        "schedule": "linear",
        "epochs": 12,
        "max_steps": 0,
        "scale": 14.0,
        "augmentation": 0.7,
    },
    "bert": {
        "vocab_size": 8000,
        "hidden_size": 128,
        "max_length": 32,
        "loss": "ranking",
        "negatives": 3,
        "batch_size": 128,
        "learning_rate": 1e-3,
        "weight_decay": 0.01,
        "schedule": "cosine",
        "epochs": 8,
        "max_steps": 400,
        "scale": 14.0,
        "augmentation": 0.0,
    },
}
# What `going_on_from` leaves of the learning rate and of the length. A static embedding of 3,000 products that knew
# 60 % of the vendors came to an MRR of 0.968 on unseen ones with these, in a third of the time of one from scratch
# (0.964); a tenth of the rate learned nothing new.
ON_RATE, ON_SHARE = 0.5, 1 / 3

_OWN: Any = None  # stands for the architecture's own default


@dataclass(frozen=True)
class EncoderConfig:
    """What an encoder is and how it is trained.

    Settings left out take the default of the architecture, see `DEFAULTS`. A configuration never holds "auto": the
    architecture is decided when it is made, so what is written down and fingerprinted says what was trained.
    """

    architecture: str = "auto"
    """'static': the mean of one vector per word piece, trained in seconds on a CPU and the fastest to use. 'bert': a
    small transformer. 'auto': static without a GPU, bert with one. A `base` decides it: 'static' where that is a local
    static embedding, else 'bert', whose training fits any other."""
    base: str | None = None
    """Hugging Face id or local path of a model to fine-tune; None trains tokenizer and model from scratch."""
    vocab_size: int = _OWN
    """WordPieces at most (from scratch only). Fewer find unseen titles better in a static embedding."""
    hidden_size: int = _OWN
    """Length of the vectors (from scratch only)."""
    layers: int = 1
    """One layer finds unseen titles better than two do, in half the time: titles are short and hardly have syntax."""
    heads: int = 4
    intermediate_size: int = 256
    dropout: float = 0.0
    """Off by default: a small model over many distinct titles underfits, and random masks cost time on a CPU."""
    max_length: int = _OWN
    """Word pieces kept of a title, special tokens included."""
    loss: str = _OWN
    """'ranking': a line must be closer to its product than to its negatives and to all other products of the batch.
    'symmetric': also the product closer to its line than to other lines. 'matryoshka': symmetric over the whole
    vector, its first half and its first quarter. 'contrastive': each labelled pair for itself (online contrastive)."""
    negatives: int = _OWN
    """Negatives of its own that a line is trained against, hard ones first; at most what the pairs hold."""
    batch_size: int = _OWN
    """Lines per step and device. All products of a batch are candidates, so it also sets how hard the task is."""
    learning_rate: float = _OWN
    weight_decay: float = _OWN
    warmup_share: float = 0.1
    schedule: str = _OWN
    epochs: int = _OWN
    max_steps: int = _OWN
    """Steps at most; 0 leaves it to `epochs`. For a BERT twenty thousand lines gained nothing after 300 steps."""
    scale: float = _OWN
    """What cosines are multiplied by before the softmax, the inverse of the temperature."""
    augmentation: float = _OWN
    """Share of the lines that get a typo, an abbreviation or a lost word on the way in: it taught a static embedding
    lines as they are too, not just misspelt ones."""
    evaluations: int = 5
    """Validations and checkpoints in an undisturbed run, evenly spread."""
    patience: int = 3
    """Validations without improvement after which training stops; 0 never stops early."""
    valid_lines: int = 1000
    """Validation lines at most."""
    precision: str = "auto"
    """'auto' (bf16 or fp16 for a BERT on a GPU, else fp32), 'fp32', 'bf16' or 'fp16'."""
    seed: int = 7
    num_threads: int = 0
    """CPU threads; 0 leaves it to torch. Results are equal bit for bit only for equal numbers of threads."""

    def __post_init__(self) -> None:
        architecture = _architecture_of(self.base) if self.base else self.architecture
        if architecture == "auto":
            architecture = "bert" if gpu_count() else "static"
        if architecture not in DEFAULTS:
            raise ValueError(f"architecture must be auto, {' or '.join(DEFAULTS)}, not {architecture!r}")
        object.__setattr__(self, "architecture", architecture)
        for name, value in DEFAULTS[architecture].items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)
        if architecture == "bert" and not self.base and self.hidden_size % self.heads:
            raise ValueError(f"hidden_size {self.hidden_size} is not a multiple of heads {self.heads}")
        if self.loss not in LOSSES:
            raise ValueError(f"loss must be one of {', '.join(LOSSES)}, not {self.loss!r}")
        if self.precision not in ("auto", "fp32", "bf16", "fp16"):
            raise ValueError(f"precision must be auto, fp32, bf16 or fp16, not {self.precision!r}")
        least = {"batch_size": 2, "epochs": 1, "evaluations": 1, "layers": 1, "max_length": 3, "negatives": 0}
        for name, value in least.items():
            if getattr(self, name) < value:
                raise ValueError(f"{name} must be at least {value}, not {getattr(self, name)}")

    def to_json(self) -> str:
        """Return the configuration as JSON; `from_json` reads it back."""
        return json.dumps(dataclasses.asdict(self), indent=2, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> EncoderConfig:
        """Read a configuration; what it does not state has its default. Raises ValueError on an unknown name."""
        return cls.from_dict(json.loads(text))

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> EncoderConfig:
        """Make a configuration of a dictionary. Raises ValueError on an unknown name."""
        names = {field.name for field in dataclasses.fields(cls)}
        unknown = sorted(set(values) - names)
        if unknown:
            raise ValueError(f"unknown encoder settings {unknown}; known are {sorted(names)}")
        return cls(**values)

    @classmethod
    def from_settings(cls, values: dict[str, Any], settings: Iterable[str] = ()) -> EncoderConfig:
        """Make a configuration of a dictionary and of settings "name=value" above it, values as JSON or text."""
        values = dict(values)
        for setting in settings:
            name, separator, text = setting.partition("=")
            if not separator:
                raise ValueError(f"expected name=value, found {setting!r}")
            try:
                values[name] = json.loads(text)
            except json.JSONDecodeError:
                values[name] = text
        return cls.from_dict(values)


def going_on_from(base: Path | str, settings: dict[str, Any]) -> EncoderConfig:
    """Return the configuration of an incremental fine-tune: a trained encoder learns on, by `settings` as it was made
    by, with smaller steps and in fewer of them. Raises ValueError on an unknown name.
    """
    config = EncoderConfig.from_dict({**settings, "base": str(base)})
    return dataclasses.replace(
        config,
        learning_rate=config.learning_rate * ON_RATE,
        epochs=max(1, round(config.epochs * ON_SHARE)),
        max_steps=round(config.max_steps * ON_SHARE),
    )


def _architecture_of(base: str) -> str:
    """Whether a model to start from is a static embedding, by the modules it lists; a hub's is taken for a BERT."""
    listing = Path(base) / "modules.json"
    kinds = [module["type"] for module in json.loads(listing.read_text())] if listing.is_file() else []
    return "static" if kinds and kinds[0].endswith("StaticEmbedding") else "bert"


def fingerprint(pairs: pd.DataFrame, config: EncoderConfig, world_size: int = 1) -> str:
    """Return an id of everything that decides the weights: pairs, configuration, base model, library versions."""
    ordered = pairs[list(COLUMNS)].astype(str).sort_values("pair_id", kind="stable")
    rows = pd.util.hash_pandas_object(ordered, index=False).to_numpy().tobytes()
    base: Any = config.base
    if config.base and Path(config.base).is_dir():
        files = sorted(path for path in Path(config.base).rglob("*") if path.is_file())
        base = [(path.relative_to(config.base).as_posix(), file_digest(path)) for path in files]
    settings = {name: value for name, value in dataclasses.asdict(config).items() if name != "base"}
    libraries = [version(name) for name in ("torch", "transformers", "sentence-transformers", "tokenizers")]
    return content_id(CODE_VERSION, rows, settings, base, libraries, world_size)


def train_encoder(
    pairs: pd.DataFrame,
    config: EncoderConfig,
    out_dir: Path | str,
    work_dir: Path | str,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Train an encoder on the split 'train' of `pairs` and write it to `out_dir`.

    `pairs` is the table `matching/training_pairs`. `work_dir` keeps checkpoints under the fingerprint of the inputs:
    called again after a kill, training goes on from the last whole one; checkpoints of other inputs are not touched.
    `out_dir` is replaced as a whole at the end, and holds the model with its tokenizer as sentence-transformers saves
    it, `encoder_config.json`, `metrics.json`, `curve.csv` and `curve.png`. Equal trainings write equal files.

    Returns the metrics, the curve (a list of {step, loss, top1, top5, mrr}) and the timing, which is in no file:
    seconds of imports, of preparing (rows, word pieces) and of training, seconds until the weights that were kept,
    labelled pairs a second, memory of a GPU.
    Raises ValueError where the pairs cannot be trained on and FloatingPointError where training diverges.
    """
    began = time.monotonic()
    _prepare_environment(config)
    report = progress or (lambda event: None)
    check_columns(pairs)
    importlib.import_module("shelfwise.matching.training_loop")
    imported = time.monotonic() - began
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    identity = fingerprint(pairs, config, world_size)
    run_dir = Path(work_dir) / f"encoder-{identity}"
    run_dir.mkdir(parents=True, exist_ok=True)
    rows = training_rows(pairs, config.negatives)
    task = validation_task(pairs, config.valid_lines, config.seed)

    model = build_model(config, rows, run_dir)
    report({"event": "start", "message": _opening(model, rows, task, time.monotonic() - began)})
    prepared = time.monotonic() - began - imported
    curve, best_step, speed = _fit(model, config, rows, task, run_dir, report)
    trained = time.monotonic() - began - imported - prepared

    metrics = _metrics(curve, best_step, rows, task, model, identity)
    if int(os.environ.get("RANK", "0")) == 0:
        _write(model, config, metrics, curve, Path(out_dir))
        shutil.rmtree(run_dir, ignore_errors=True)
    timing = {
        "start_seconds": round(imported, 2),
        "prepare_seconds": round(prepared, 2),
        "train_seconds": round(trained, 2),
        "total_seconds": round(time.monotonic() - began, 2),
        **speed,
    }
    report(
        {"event": "done", "metrics": metrics, **timing, "message": f"encoder written in {timing['total_seconds']} s"}
    )
    return {"metrics": metrics, "curve": curve, "timing": timing}


def launch_command(module: str, arguments: Sequence[str], n_gpus: int) -> list[str]:
    """Return the command that runs a training module: plain Python, or torchrun where there is more than one GPU."""
    if n_gpus > 1:
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(n_gpus), "-m"]
    else:
        launcher = ["-m"]
    return [sys.executable, *launcher, module, *arguments]


def gpu_count() -> int:
    """Return how many GPUs a child process would see, without importing torch. 0 where there is no driver."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([name for name in visible.split(",") if name.strip() not in ("", "-1")])
    if shutil.which("nvidia-smi") is None:
        return 0
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=30, check=False)
    return sum(line.startswith("GPU ") for line in listed.stdout.splitlines())


def last_whole_checkpoint(run_dir: Path) -> Path | None:
    """Return the newest checkpoint that is whole, and remove those that are not.

    A checkpoint is whole when the list of its files was written, which comes last, and every file has its listed size.
    """
    whole: dict[int, Path] = {}
    for path in run_dir.glob("checkpoint-*"):
        listing = path / "complete.json"
        files = json.loads(listing.read_text()) if listing.exists() else None
        if files and all((path / name).exists() and (path / name).stat().st_size == files[name] for name in files):
            whole[int(path.name.rsplit("-", 1)[1])] = path
        elif int(os.environ.get("RANK", "0")) == 0:
            shutil.rmtree(path, ignore_errors=True)
    return whole[max(whole)] if whole else None


def main(argv: Sequence[str] | None = None) -> int:
    """Train from the command line; print progress, and the metrics as one JSON object last."""
    parser = argparse.ArgumentParser(prog="python -m shelfwise.matching.train", description=__doc__.splitlines()[0])
    add_arguments(parser)
    arguments = parser.parse_args(argv)
    leads = int(os.environ.get("RANK", "0")) == 0

    def show(event: dict[str, Any]) -> None:
        if leads:
            print(event["message"], flush=True)

    result = run(arguments, show)
    if leads:
        print(json.dumps({**result["metrics"], **result["timing"]}, sort_keys=True), flush=True)
    return 0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments that `run` reads."""
    parser.add_argument("--pairs", required=True, type=Path, help="Parquet table of training pairs")
    parser.add_argument(
        "--out", required=True, type=Path, help="directory to write the encoder to; replaced as a whole"
    )
    parser.add_argument("--work", required=True, type=Path, help="directory for checkpoints")
    parser.add_argument("--config", type=Path, help="JSON file of encoder settings")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="one setting; may be repeated")


def run(arguments: argparse.Namespace, progress: Progress) -> dict[str, Any]:
    """Train as parsed arguments say and return what `train_encoder` returns."""
    values = json.loads(arguments.config.read_text()) if arguments.config else {}
    config = EncoderConfig.from_settings(values, arguments.set)
    return train_encoder(pd.read_parquet(arguments.pairs), config, arguments.out, arguments.work, progress)


def _prepare_environment(config: EncoderConfig) -> None:
    """Set what the libraries read at import time, and the number of threads."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    # OpenMP threads that spin while they wait made training many times slower on two cores that others used too.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    import torch

    if config.num_threads:
        torch.set_num_threads(config.num_threads)
    from transformers.utils import logging

    logging.disable_progress_bar()


def _fit(
    model: SentenceTransformer,
    config: EncoderConfig,
    rows: TrainingRows,
    task: RetrievalTask | None,
    run_dir: Path,
    report: Progress,
) -> tuple[list[dict[str, Any]], int, dict[str, float]]:
    """Train the model in place, to its best validated weights. Returns the curve, the step of those weights, and what
    `_speed` measured.
    """
    from datasets import Dataset
    from transformers import PrinterCallback
    from transformers.trainer_callback import TrainerState

    from shelfwise.matching import training_loop as loop

    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    batch_size = min(config.batch_size, max(2, len(rows) // world_size))
    steps_per_pass = max(1, len(rows) // (batch_size * world_size))
    steps = config.epochs * steps_per_pass
    steps = min(steps, config.max_steps) if config.max_steps else steps
    passes = -(-(steps + 1) * batch_size * world_size // len(rows))
    every = -(-steps // config.evaluations)
    logged = max(1, every // 5)
    every = -(-every // logged) * logged  # a checkpoint keeps no half of a logged loss
    arguments = loop.training_arguments(
        dataclasses.replace(config, batch_size=batch_size), run_dir, steps, every, logged, validates=task is not None
    )
    arguments.batch_sampler = lambda dataset, **_: loop.DistinctProductSampler(rows, batch_size, passes, config.seed)
    reporter = loop.Reporter(METRIC, config.patience, batch_size * world_size, report)
    labelled = config.loss == "contrastive"
    collator: Any = loop.Collator(model, rows, config.augmentation, config.seed, labelled)
    trainer = loop.Trainer(
        model=model,
        args=arguments,
        train_dataset=Dataset.from_dict({"row": range(passes * len(rows))}),
        loss=loop.loss_of(model, config, gather=world_size > 1),
        evaluator=loop.RetrievalEvaluator(task) if task is not None else None,
        data_collator=collator,
        callbacks=[reporter],
    )
    trainer.remove_callback(PrinterCallback)

    checkpoint = last_whole_checkpoint(run_dir)
    state = TrainerState.load_from_json(str(checkpoint / "trainer_state.json")) if checkpoint else trainer.state
    if checkpoint is not None:
        report({"event": "resume", "step": state.global_step, "message": f"going on from step {state.global_step}"})
    over = loop.patience_exhausted(state.log_history, METRIC, config.patience)
    if state.global_step < steps and not over:
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        state = trainer.state
    best_step = state.best_global_step or state.global_step
    loop.load_weights(model, run_dir / f"checkpoint-{best_step}")
    model.eval()
    return _curve(state.log_history), best_step, _speed(reporter, best_step, rows.negatives.shape[1])


def _speed(reporter: Reporter, best_step: int, negatives: int) -> dict[str, float]:
    """Return labelled pairs a second, the seconds until the kept weights, and the memory of a GPU, as far as this
    process saw them: of a training that another process began, what came before is not in it.
    """
    import torch

    found = {"best_seconds": round(reporter.seconds[best_step], 2)} if best_step in reporter.seconds else {}
    if reporter.lines:
        pairs = reporter.lines * (1 + negatives)
        found["pairs_per_second"] = round(pairs / max(reporter.seconds.values()), 1)
    if torch.cuda.is_available():
        found["gpu_mb"] = round(torch.cuda.max_memory_allocated() / 2**20, 1)
    return found


def _curve(history: list[dict[str, float]]) -> list[dict[str, Any]]:
    """Return loss and validation by step, without the timings that the trainer logs among them."""
    points: dict[int, dict[str, Any]] = {}
    for entry in history:
        found = {
            name: entry[key]
            for name, key in (("loss", "loss"), ("top1", "eval_top1"), ("top5", "eval_top5"), ("mrr", "eval_mrr"))
            if key in entry
        }
        if found:
            points.setdefault(int(entry["step"]), {"step": int(entry["step"])}).update(found)
    return [points[step] for step in sorted(points)]


def _metrics(
    curve: list[dict[str, Any]],
    best_step: int,
    rows: TrainingRows,
    task: RetrievalTask | None,
    model: SentenceTransformer,
    identity: str,
) -> dict[str, Any]:
    best = next((point for point in curve if point["step"] == best_step), {})
    losses = [point["loss"] for point in curve if "loss" in point]
    return {
        **{f"valid_{name}": best[name] for name in ("top1", "top5", "mrr") if name in best},
        "final_loss": losses[-1] if losses else None,
        "steps": curve[-1]["step"] if curve else best_step,
        "best_step": best_step,
        "train_lines": len(rows),
        "train_titles": len(rows.titles),
        "valid_lines": len(task.lines) if task else 0,
        "valid_titles": len(task.titles) if task else 0,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "vocabulary": vocabulary_size(model),
        "dim": int(model.get_embedding_dimension() or 0),
        "fingerprint": identity,
    }


def _write(
    model: SentenceTransformer,
    config: EncoderConfig,
    metrics: dict[str, Any],
    curve: list[dict[str, Any]],
    out_dir: Path,
) -> None:
    """Write the encoder beside its place and move it there, so that a kill leaves the old one, the new or none.

    None where it strikes between the removal of the old one and the move; the checkpoints are still there then.
    """
    from shelfwise.matching.training_plots import plot_curve

    staging = out_dir.with_name(f".{out_dir.name}.partial")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    model.save_pretrained(str(staging), create_model_card=False)
    (staging / "encoder_config.json").write_text(config.to_json() + "\n")
    atomic_write_json(staging / "metrics.json", metrics)
    frame = pd.DataFrame(curve).reindex(columns=["step", "loss", "top1", "top5", "mrr"])
    frame.to_csv(staging / "curve.csv", index=False)
    (staging / "curve.png").write_bytes(plot_curve(frame, metrics["best_step"]))
    shutil.rmtree(out_dir, ignore_errors=True)
    os.replace(staging, out_dir)


def _opening(model: SentenceTransformer, rows: TrainingRows, task: RetrievalTask | None, seconds: float) -> str:
    parameters = sum(parameter.numel() for parameter in model.parameters())
    validated = f"{len(task.lines)} validation lines" if task else "no validation lines"
    return (
        f"{len(rows)} lines with {rows.negatives.shape[1]} negatives each, {validated}, "
        f"{parameters / 1e6:.1f} million parameters, ready after {seconds:.1f} s"
    )


if __name__ == "__main__":
    sys.exit(main())
