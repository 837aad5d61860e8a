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
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pandas as pd

from shelfwise.artifacts import atomic_write_json
from shelfwise.matching.training_data import (
    COLUMNS,
    RetrievalTask,
    TrainingRows,
    check_columns,
    training_rows,
    validation_task,
)
from shelfwise.matching.training_models import build_model, vocabulary_size
from shelfwise.training import process
from shelfwise.training.curves import best_of, write_curve
from shelfwise.training.process import Progress, Run, gpu_count, identity_of, world_size
from shelfwise.training.settings import Settings

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from shelfwise.training.loop import Fit

CODE_VERSION = "4"
METRIC = "mrr"
MEASURES = {"top1": "top-1", "top5": "top-5", "mrr": "MRR"}
LIBRARIES = ("torch", "transformers", "sentence-transformers", "tokenizers")

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
class EncoderConfig(Settings):
    """What an encoder is and how it is trained.

    Settings left out take the default of the architecture, see `DEFAULTS`. A configuration never holds "auto": the
    architecture is decided when it is made, so what is written down and fingerprinted says what was trained.
    """

    WHAT: ClassVar[str] = "encoder"

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
    return identity_of(CODE_VERSION, rows, config.to_dict(), LIBRARIES, world_size)


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
    work = Run("encoder", progress)
    process.prepare_environment(config.num_threads)
    check_columns(pairs)
    importlib.import_module("shelfwise.matching.training_loop")
    work.stage("start")
    identity = fingerprint(pairs, config, world_size())
    run_dir = work.open(work_dir, identity)
    rows = training_rows(pairs, config.negatives)
    task = validation_task(pairs, config.valid_lines, config.seed)

    model = build_model(config, rows, run_dir)
    work.report({"event": "start", "message": _opening(model, rows, task, work.elapsed())})
    work.stage("prepare")
    fit = _fit(model, config, rows, task, run_dir, work.report)
    work.stage("train")

    metrics = _metrics(fit, rows, task, model, identity)
    return work.finish(
        out_dir,
        lambda directory: _write(model, config, metrics, fit, directory),
        metrics,
        fit.curve,
        _speed(fit, rows.negatives.shape[1]),
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments that `run` reads."""
    parser.add_argument("--pairs", required=True, type=Path, help="Parquet table of training pairs")
    process.add_run_arguments(parser, "encoder")


def run(arguments: argparse.Namespace, progress: Progress) -> dict[str, Any]:
    """Train as parsed arguments say and return what `train_encoder` returns."""
    values = json.loads(arguments.config.read_text()) if arguments.config else {}
    config = EncoderConfig.from_settings(values, arguments.set)
    return train_encoder(pd.read_parquet(arguments.pairs), config, arguments.out, arguments.work, progress)


def main(argv: Sequence[str] | None = None) -> int:
    """Train from the command line; print progress, and the metrics as one JSON object last."""
    return process.main(process.training_module(__name__), "shelfwise.matching.train", argv)


def _fit(
    model: SentenceTransformer,
    config: EncoderConfig,
    rows: TrainingRows,
    task: RetrievalTask | None,
    run_dir: Path,
    report: Progress,
) -> Fit:
    """Train the model in place, to its best validated weights."""
    import torch
    from datasets import Dataset
    from sentence_transformers import SentenceTransformerTrainingArguments

    from shelfwise.matching import training_loop as parts
    from shelfwise.training import loop

    plan = loop.plan_of(config, len(rows))
    mixed = torch.cuda.is_available() and config.architecture != "static"  # sums of vectors gain nothing by it
    kind, decides = SentenceTransformerTrainingArguments, METRIC if task is not None else None
    arguments = loop.training_arguments(kind, config, plan, run_dir, decides, mixed)
    arguments.batch_sampler = lambda dataset, **_: parts.DistinctProductSampler(
        rows, plan.batch_size, plan.passes, config.seed
    )
    collator: Any = parts.Collator(model, rows, config.augmentation, config.seed, config.loss == "contrastive")
    trainer = parts.Trainer(
        model=model,
        args=arguments,
        train_dataset=Dataset.from_dict({"row": range(plan.passes * len(rows))}),
        loss=parts.loss_of(model, config, gather=world_size() > 1),
        evaluator=parts.RetrievalEvaluator(task) if task is not None else None,
        data_collator=collator,
    )
    reporter = loop.Reporter(tuple(MEASURES), METRIC, config.patience, plan.step_rows, report)
    return loop.fit(trainer, reporter, run_dir, report)


def _speed(fit: Fit, negatives: int) -> dict[str, float]:
    """Return the loop's speed, with labelled pairs a second in place of lines."""
    speed = dict(fit.speed)
    lines = speed.pop("rows_per_second", None)
    return speed if lines is None else {**speed, "pairs_per_second": round(lines * (1 + negatives), 1)}


def _metrics(
    fit: Fit, rows: TrainingRows, task: RetrievalTask | None, model: SentenceTransformer, identity: str
) -> dict[str, Any]:
    return {
        **best_of(fit.curve, fit.best_step, MEASURES),
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
    model: SentenceTransformer, config: EncoderConfig, metrics: dict[str, Any], fit: Fit, directory: Path
) -> None:
    model.save_pretrained(str(directory), create_model_card=False)
    (directory / "encoder_config.json").write_text(config.to_json() + "\n")
    atomic_write_json(directory / "metrics.json", metrics)
    write_curve(directory, fit.curve, MEASURES, "right product among all of the split", fit.best_step)


def _opening(model: SentenceTransformer, rows: TrainingRows, task: RetrievalTask | None, seconds: float) -> str:
    parameters = sum(parameter.numel() for parameter in model.parameters())
    validated = f"{len(task.lines)} validation lines" if task else "no validation lines"
    return (
        f"{len(rows)} lines with {rows.negatives.shape[1]} negatives each, {validated}, "
        f"{parameters / 1e6:.1f} million parameters, ready after {seconds:.1f} s"
    )


if __name__ == "__main__":
    sys.exit(main())
