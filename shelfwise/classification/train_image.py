"""Training of the image classifier: a compact network made from scratch, or any model of transformers fine-tuned.

    python -m shelfwise.classification.train_image --pictures DIR --labels F.parquet --out DIR --work DIR [--set ...]

The same trainer as the title encoder's: whole checkpoints, exact resumption, the best validated weights are kept.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import importlib
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from shelfwise.artifacts import atomic_write_json
from shelfwise.classification.calibration import apply as calibrated
from shelfwise.classification.calibration import expected_calibration_error, fit_temperature, right_answers
from shelfwise.classification.image import ABOUT, BACKBONE, CONFIG, WEIGHTS, ImageClassifier, ImageConfig
from shelfwise.classification.listings import labels_of
from shelfwise.classification.pictures import Pictures
from shelfwise.classification.taxonomy import Taxonomy
from shelfwise.training import process
from shelfwise.training.curves import best_of, write_curve
from shelfwise.training.process import Progress, Run, identity_of, world_size

if TYPE_CHECKING:
    from shelfwise.classification.image_augment import Batches
    from shelfwise.classification.image_net import Averaged
    from shelfwise.training.loop import Fit

CODE_VERSION = "1"
METRIC = "top1"
MEASURES = {"top1": "top-1", "top5": "top-5"}
LIBRARIES = ("torch", "transformers")
AT_ONCE = 1024
WARM, TIMED = 1, 3  # steps before the speed is measured, and measured
RESERVE = 0.9  # share of a budget in minutes that training itself may take


@dataclass(frozen=True)
class Part:
    """Pictures with their right classes."""

    rows: np.ndarray
    """int64 [n]: places among the packed pictures."""
    truth: np.ndarray
    """int64 [n, most]: right classes, filled up with -1."""


@dataclass(frozen=True)
class Task:
    """What is learnt: the classes, the pictures to learn from and those to validate on."""

    taxonomy: Taxonomy
    train: Part
    valid: Part
    left_out: int
    """Labelled listings without a picture, or of a category that no picture of the training part shows."""


def task_of(pictures: Pictures, labels: pd.DataFrame) -> Task:
    """Return the task of labelled pictures. Raises ValueError where it cannot be learnt.

    `labels`: listing_id, split ('train', 'valid', any other is left alone), category, and categories where several are
    right. The classes are those of the training part.
    """
    lacking = sorted({"listing_id", "category", "split"} - set(labels.columns))
    if lacking:
        raise ValueError(f"the labels lack the columns {lacking}")
    labels = labels[labels["split"].isin(["train", "valid"])]
    # The order of a table must not decide a model.
    labels = labels.sort_values("listing_id", key=lambda ids: ids.astype(str), kind="stable")
    cells, place = labels_of(labels), pictures.rows_of(labels["listing_id"])
    training = (labels["split"] == "train").to_numpy() & (place >= 0)
    taxonomy = Taxonomy.of(cells[training])
    if len(taxonomy) < 2:
        raise ValueError(f"pictures of at least two categories are needed to train on, found {len(taxonomy)}")
    right = right_answers(taxonomy.truths(cells))
    known = (place >= 0) & (right >= 0).any(axis=1)
    parts = {
        split: Part(place[chosen], right[chosen])
        for split in ("train", "valid")
        for chosen in [known & (labels["split"] == split).to_numpy()]
    }
    return Task(taxonomy, parts["train"], parts["valid"], int((~known).sum()))


def fingerprint(pictures: Pictures, labels: pd.DataFrame, config: ImageConfig, world_size: int = 1) -> str:
    """Return an id of everything that decides the weights: pictures, labels, configuration, base model, libraries."""
    task, digest = task_of(pictures, labels), hashlib.sha256()
    for part in (task.train, task.valid):
        digest.update(json.dumps([task.taxonomy.classes, part.truth.tolist()]).encode())
        for start in range(0, len(part.rows), AT_ONCE):
            digest.update(np.ascontiguousarray(pictures.pixels[part.rows[start : start + AT_ONCE]]).tobytes())
    return identity_of(CODE_VERSION, digest.digest(), config.to_dict(), LIBRARIES, world_size)


def train_images(
    pictures: Pictures | Path | str,
    labels: pd.DataFrame,
    config: ImageConfig,
    out_dir: Path | str,
    work_dir: Path | str,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Train an image classifier on the split 'train' of labelled pictures and write it to `out_dir`.

    `pictures`: packed ones, or their directory. `labels`: see `task_of`. `work_dir` keeps checkpoints under the
    fingerprint of the inputs: called again after a kill, training goes on from the last whole one. `out_dir` is
    replaced as a whole at the end; `ImageClassifier.load` reads it, and it holds `metrics.json`, `curve.csv` and
    `curve.png`. Equal trainings write equal files.

    Returns the metrics, the curve (a list of {step, loss, top1, top5}) and the timing, which is in no file: seconds of
    imports, of preparing and of training, pictures a second. Raises ValueError where there is too little to learn from
    and FloatingPointError where training diverges.
    """
    work = Run("image-classifier", progress)
    process.prepare_environment(config.num_threads)
    importlib.import_module("shelfwise.training.loop")
    work.stage("start")
    pictures = pictures if isinstance(pictures, Pictures) else Pictures.load(pictures)
    task = task_of(pictures, labels)
    identity = fingerprint(pictures, labels, config, world_size())
    run_dir = work.open(work_dir, identity)
    model, seen = _network(config, task)
    epochs = _affordable(model, config, task, pictures, run_dir)
    planned = dataclasses.replace(config, epochs=epochs, precision=_precision(config))
    batches = _batches(planned, task, pictures, seen)
    work.report({"event": "start", "message": _opening(model, task, epochs, work.elapsed())})
    work.stage("prepare")
    fit = _fit(model, planned, task, pictures, batches, run_dir, work.report)
    work.stage("train")

    about = {
        "classes": list(task.taxonomy.classes),
        "side": config.side,
        "mean": batches.mean.tolist(),
        "spread": batches.spread.tolist(),
        "mirrored": config.mirrored,
        "temperature": 1.0,
        **({"backbone_side": seen["side"]} if seen else {}),
    }
    judged = _judge(ImageClassifier(model.average.cpu(), about), task, pictures)
    about["temperature"] = judged.pop("temperature", 1.0)
    metrics = {
        **best_of(fit.curve, fit.best_step, MEASURES),
        **judged,
        "temperature": about["temperature"],
        "epochs": epochs,
        "train_pictures": len(task.train.rows),
        "valid_pictures": len(task.valid.rows),
        "left_out": task.left_out,
        "classes": len(task.taxonomy),
        "parameters": sum(parameter.numel() for parameter in model.average.parameters()),
        "fingerprint": identity,
    }
    return work.finish(
        out_dir, lambda directory: _write(model, config, about, metrics, fit, directory), metrics, fit.curve, fit.speed
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments that `run` reads."""
    parser.add_argument("--pictures", required=True, type=Path, help="directory of packed pictures")
    parser.add_argument("--labels", required=True, type=Path, help="Parquet table: listing_id, category, split")
    process.add_run_arguments(parser, "image classifier")


def run(arguments: argparse.Namespace, progress: Progress) -> dict[str, Any]:
    """Train as parsed arguments say and return what `train_images` returns."""
    values = json.loads(arguments.config.read_text()) if arguments.config else {}
    config = ImageConfig.from_settings(values, arguments.set)
    labels = pd.read_parquet(arguments.labels)
    return train_images(arguments.pictures, labels, config, arguments.out, arguments.work, progress)


def main(argv: Sequence[str] | None = None) -> int:
    """Train from the command line; print progress, and the metrics as one JSON object last."""
    return process.main(process.training_module(__name__), "shelfwise.classification.train_image", argv)


def _precision(config: ImageConfig) -> str:
    """Return the precision to train with on this machine, 'auto' where the trainer is to choose on a GPU."""
    import torch

    if config.precision != "auto" or torch.cuda.is_available():
        return config.precision
    return "bf16" if torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported() else "fp32"


def _network(config: ImageConfig, task: Task) -> tuple[Averaged, dict[str, Any]]:
    """Return the untrained network with its average and, of a pretrained one, what its pictures were like."""
    import torch

    from shelfwise.classification import image_net

    torch.manual_seed(config.seed)
    seen: dict[str, Any] = image_net.pretrained_input(config.base) if config.base else {}
    learner: Any
    if config.base:
        learner = image_net.load_pretrained(config.base, seen["side"], len(task.taxonomy))
    else:
        learner = image_net.compact(config, len(task.taxonomy))
    return image_net.Averaged(learner), seen


def _batches(config: ImageConfig, task: Task, pictures: Pictures, seen: dict[str, Any]) -> Batches:
    import torch

    from shelfwise.classification.image_augment import Batches
    from shelfwise.training.loop import plan_of

    plan = plan_of(config, len(task.train.rows))
    rows, total = task.train, plan.steps * plan.step_rows
    batches = Batches(config, pictures.pixels, rows.rows, rows.truth, len(task.taxonomy), total)
    if seen:
        batches.mean, batches.spread = torch.tensor(seen["mean"]), torch.tensor(seen["spread"])
    return batches


def _affordable(model: Averaged, config: ImageConfig, task: Task, pictures: Pictures, run_dir: Path) -> int:
    """Return how many epochs fit into the minutes allowed, by the speed of a few steps; at most those configured.

    A training that goes on after a kill keeps what was found at its beginning.
    """
    if not config.minutes:
        return config.epochs
    found = run_dir / "epochs.json"
    if found.exists():
        return int(json.loads(found.read_text()))
    trial = dataclasses.replace(config, growing=())
    seconds = _seconds_a_picture(model, trial, _batches(trial, task, pictures, {}), len(task.train.rows))
    whole = 1 - sum(part for _, part in config.growing)
    cost = seconds * len(task.train.rows) * (whole + sum(part * side**2 for side, part in config.growing))
    epochs = int(np.clip(RESERVE * config.minutes * 60 / cost, 1, config.epochs))
    if process.leads():
        atomic_write_json(found, epochs)
    return epochs


def _seconds_a_picture(model: Averaged, config: ImageConfig, batches: Batches, rows: int) -> float:
    """Return the seconds that a picture takes in a step, measured on a copy that is thrown away."""
    import copy

    import torch

    learner = copy.deepcopy(model.learner).train()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    learner.to(device)
    size, began = min(config.batch_size, rows), 0.0
    kind = torch.float16 if _precision(config) == "fp16" else torch.bfloat16
    half = torch.autocast(device, kind, enabled=_precision(config) != "fp32")
    for step in range(WARM + TIMED):
        if step == WARM:
            began = time.monotonic()
        batch = batches([(step * size + row) % rows for row in range(size)])
        with half:
            said = learner(batch["pixels"].to(device))
        said = torch.log_softmax(said.float(), dim=1)
        loss = -(batch["target"].to(device) * said).sum()
        loss.backward()
        float(loss.detach())
    return (time.monotonic() - began) / (TIMED * size)


def _fit(
    model: Averaged,
    config: ImageConfig,
    task: Task,
    pictures: Pictures,
    batches: Batches,
    run_dir: Path,
    report: Progress,
) -> Fit:
    """Train the network in place; its average is the best validated one then."""
    import torch
    import transformers

    from shelfwise.classification.image_augment import targets
    from shelfwise.classification.image_net import level_losses, smoothed
    from shelfwise.training import loop

    levels = [torch.from_numpy(np.array(task.taxonomy.level(k)[1])) for k in range(1, task.taxonomy.depth)]
    some = np.unique(np.linspace(0, len(task.valid.rows) - 1, config.valid_pictures).astype(int)) if _any(task) else []
    shown = Part(task.valid.rows[some], task.valid.truth[some])

    class Averaging(transformers.TrainerCallback):
        def on_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            # The average of a few steps is of few: it begins short and grows.
            model.update(min(config.averaging, (state.global_step + 1) / (state.global_step + 21)))

    def loss(network: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        logits, target = network(batch["pixels"]).float(), batch["target"]
        found = -(smoothed(target, config.smoothing) * torch.log_softmax(logits, dim=1)).sum(1).mean()
        if not config.parents or not levels:
            return found
        groups = [level.to(logits.device) for level in levels]
        return found + config.parents * level_losses(logits, target, groups).sum()

    def validate() -> dict[str, float]:
        logits = _logits(model.average, shown.rows, pictures, config.side, batches)
        return _tops(logits, targets(shown.truth, len(task.taxonomy)).numpy() > 0)

    named = list(model.learner.named_parameters())
    groups = [
        {"params": [p for _, p in named if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for _, p in named if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return loop.fit_batches(
        model,
        config,
        len(task.train.rows),
        run_dir,
        report,
        collate=batches,
        loss=loss,
        validate=validate if _any(task) else None,
        names=tuple(MEASURES),
        metric=METRIC,
        groups=groups,
        callbacks=[Averaging()],
    )


def _any(task: Task) -> bool:
    return len(task.valid.rows) > 0


def _logits(network: Any, rows: np.ndarray, pictures: Pictures, side: int, batches: Batches) -> np.ndarray:
    import torch

    from shelfwise.classification.image_augment import scaled
    from shelfwise.classification.image_net import standardised

    device, out = next(network.parameters()).device, []
    for start in range(0, len(rows), 128):
        pixels = torch.from_numpy(np.array(pictures.pixels[rows[start : start + 128]])).permute(0, 3, 1, 2)
        pixels = standardised(scaled(pixels, side), batches.mean, batches.spread).to(device)
        out.append(network(pixels.contiguous(memory_format=torch.channels_last)).float().cpu().numpy())
    return np.concatenate(out)


def _tops(logits: np.ndarray, right: np.ndarray) -> dict[str, float]:
    """Return top1 and top5: how often a right class is first, or among the first five. `right` bool [n, classes]."""
    first = np.argsort(-logits, axis=1, kind="stable")[:, :5]
    hit = np.take_along_axis(right, first, axis=1)
    return {"top1": float(hit[:, 0].mean()), "top5": float(hit.any(axis=1).mean())}


def _judge(classifier: ImageClassifier, task: Task, pictures: Pictures) -> dict[str, float]:
    """Return the temperature that fits the validation part, and how the classifier as it is used does there."""
    if not _any(task):
        return {}
    rows, truth = task.valid.rows, task.valid.truth
    logits = np.concatenate(
        [classifier.logits(pictures.pixels[rows[at : at + AT_ONCE]]) for at in range(0, len(rows), AT_ONCE)]
    )
    temperature = fit_temperature(logits, truth)
    p = calibrated(logits, temperature)
    right = np.zeros(p.shape, bool)
    at, column = np.nonzero(truth >= 0)
    right[at, truth[at, column]] = True
    found = {f"valid_{name}": value for name, value in _tops(p, right).items()}
    for k in range(1, task.taxonomy.depth):
        group = np.asarray(task.taxonomy.level(k)[1])
        said = np.asarray(task.taxonomy.roll_up(p, k)).argmax(axis=1)
        under = np.zeros((len(p), int(group.max()) + 1), bool)
        under[at, group[truth[at, column]]] = True
        found[f"valid_level_{k}_top1"] = float(under[np.arange(len(p)), said].mean())
    hit = right[np.arange(len(p)), p.argmax(axis=1)]
    return {
        **found,
        "valid_ece": expected_calibration_error(p.max(axis=1), hit),
        "temperature": temperature,
    }


def _write(
    model: Averaged, config: ImageConfig, about: dict[str, Any], metrics: dict[str, Any], fit: Fit, directory: Path
) -> None:
    from safetensors.torch import save_model

    average: Any = model.average
    if config.base:
        average.model.save_pretrained(directory / BACKBONE)
    else:
        save_model(average, str(directory / WEIGHTS))
    (directory / CONFIG).write_text(config.to_json() + "\n")
    atomic_write_json(directory / ABOUT, about)
    atomic_write_json(directory / "metrics.json", metrics)
    write_curve(directory, fit.curve, MEASURES, "categories of pictures", fit.best_step)


def _opening(model: Averaged, task: Task, epochs: int, seconds: float) -> str:
    parameters = sum(parameter.numel() for parameter in model.learner.parameters())
    validated = f"{len(task.valid.rows)} to validate on" if _any(task) else "none to validate on"
    return (
        f"{len(task.train.rows)} pictures of {len(task.taxonomy)} categories, {validated}, {epochs} epochs, "
        f"{parameters / 1e6:.1f} million parameters, ready after {seconds:.1f} s"
    )


if __name__ == "__main__":
    sys.exit(main())
