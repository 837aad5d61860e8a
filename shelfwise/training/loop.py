"""The torch side of a training: Hugging Face's trainer with validation, patience, and checkpoints that resume exactly.

Imported by the training process only, and only after `process.prepare_environment`, so it may import torch at its head.

A caller with batches and a loss of its own needs `fit_batches`; one with a trainer of its own (the title encoder's is
sentence-transformers') mixes `WholeCheckpoints` in and needs `fit`.
"""

from __future__ import annotations

import dataclasses
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import torch  # noqa: TID253
import transformers  # noqa: TID253
from safetensors.torch import load_model, save_model
from transformers.trainer_callback import TrainerState  # noqa: TID253

from shelfwise.training.checkpoints import WEIGHTS, last_whole_checkpoint, mark_complete
from shelfwise.training.curves import curve_of
from shelfwise.training.process import Progress, world_size


class LoopConfig(Protocol):
    """The settings that the loop reads; each training's configuration has them among its own."""

    @property
    def batch_size(self) -> int: ...
    @property
    def epochs(self) -> int: ...
    @property
    def max_steps(self) -> int:
        """Steps at most; 0 leaves it to `epochs`."""
        ...

    @property
    def evaluations(self) -> int:
        """Validations and checkpoints in an undisturbed run, evenly spread."""
        ...

    @property
    def patience(self) -> int:
        """Validations without improvement after which training stops; 0 never stops early."""
        ...

    @property
    def learning_rate(self) -> float: ...
    @property
    def weight_decay(self) -> float: ...
    @property
    def warmup_share(self) -> float: ...
    @property
    def schedule(self) -> str:
        """As transformers names it: 'linear', 'cosine', ..."""
        ...

    @property
    def precision(self) -> str:
        """'auto', 'fp32', 'bf16' or 'fp16'."""
        ...

    @property
    def seed(self) -> int: ...


@dataclasses.dataclass(frozen=True)
class Plan:
    """How many steps of what size a training takes, and when it logs, validates and saves."""

    rows: int
    batch_size: int
    """Rows per step and device."""
    steps: int
    passes: int
    """Orders of the rows that hold enough batches for all steps."""
    every: int
    """Steps from one validation and checkpoint to the next."""
    logged: int
    """Steps from one logged loss to the next."""

    @property
    def step_rows(self) -> int:
        """Rows per step of all devices."""
        return self.batch_size * world_size()


def plan_of(config: LoopConfig, rows: int) -> Plan:
    """Return the plan of a training of so many rows."""
    processes = world_size()
    batch_size = min(config.batch_size, max(2, rows // processes))
    steps = config.epochs * max(1, rows // (batch_size * processes))
    steps = min(steps, config.max_steps) if config.max_steps else steps
    passes = -(-(steps + 1) * batch_size * processes // rows)
    every = -(-steps // config.evaluations)
    logged = max(1, every // 5)
    every = -(-every // logged) * logged  # a checkpoint keeps no half of a logged loss
    return Plan(rows, batch_size, steps, passes, every, logged)


def halves_are_native() -> bool:
    """Return whether this processor computes with bfloat16 itself, where there is no GPU."""
    native = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)  # private: it may go
    return not torch.cuda.is_available() and native()


Arguments = TypeVar("Arguments", bound=transformers.TrainingArguments)


def training_arguments(
    kind: type[Arguments], config: LoopConfig, plan: Plan, directory: Path, metric: str | None, mixed: bool, **more: Any
) -> Arguments:
    """Return a trainer's settings. Everything that phones home or names the machine is off.

    `metric` is the measure by which the best step is kept, None where nothing is validated. `mixed` asks for the
    configured precision ('auto': half on a GPU); without it everything is computed in full.
    """
    cuda = torch.cuda.is_available()
    auto = config.precision == "auto" and cuda
    bf16 = mixed and (config.precision == "bf16" or (auto and torch.cuda.is_bf16_supported()))
    fp16 = mixed and cuda and not bf16 and (auto or config.precision == "fp16")
    return kind(
        output_dir=str(directory),
        max_steps=plan.steps,
        per_device_train_batch_size=plan.batch_size,
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay,
        warmup_steps=round(config.warmup_share * plan.steps),
        lr_scheduler_type=config.schedule,
        max_grad_norm=1.0,
        seed=config.seed,
        bf16=bf16,
        fp16=fp16,
        use_cpu=not cuda,
        ddp_backend=("nccl" if cuda else "gloo") if "WORLD_SIZE" in os.environ else None,
        ddp_find_unused_parameters=True,  # the pooler of a BERT has no part in mean pooling
        eval_strategy="steps" if metric else "no",
        eval_steps=plan.every,
        save_strategy="steps",
        save_steps=plan.every,
        save_total_limit=2,
        load_best_model_at_end=False,
        metric_for_best_model=metric,
        greater_is_better=True,
        logging_steps=plan.logged,
        logging_nan_inf_filter=False,
        disable_tqdm=True,
        report_to=[],
        dataloader_pin_memory=cuda,
        **more,
    )


class Reporter(transformers.TrainerCallback):
    """Reports progress, stops when validation no longer improves, and marks checkpoints that are whole."""

    def __init__(self, names: Sequence[str], metric: str, patience: int, step_rows: int, progress: Progress):
        """`names` are the validation's measures, `metric` the one that decides, `step_rows` the rows of a step."""
        self.names, self.metric, self.patience = names, metric, patience
        self._step_rows, self._progress = step_rows, progress
        self._began, self._first_step = 0.0, 0
        self.seconds: dict[int, float] = {}
        """Seconds since the beginning of this run by the step of each checkpoint."""
        self.rows = 0
        """Rows that this run has trained on."""

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._began, self._first_step = time.monotonic(), state.global_step

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **kwargs: Any) -> None:
        if not logs or "loss" not in logs:
            return
        if not math.isfinite(logs["loss"]):
            raise FloatingPointError(f"the loss is {logs['loss']} at step {state.global_step}: lower the learning rate")
        elapsed = max(time.monotonic() - self._began, 1e-9)
        rate = (state.global_step - self._first_step) / elapsed
        event = {
            "event": "step",
            "step": state.global_step,
            "steps": state.max_steps,
            "loss": round(logs["loss"], 5),
            "samples_per_second": round(rate * self._step_rows, 1),
            "eta_seconds": round((state.max_steps - state.global_step) / rate, 1),
        }
        event["message"] = (
            f"step {event['step']}/{event['steps']} loss {event['loss']:.4f} "
            f"{event['samples_per_second']:.0f} samples/s, {event['eta_seconds']:.0f} s left"
        )
        self._report(state, event)

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        metrics = kwargs["metrics"]
        found = {name: metrics[f"eval_{name}"] for name in self.names}
        listed = ", ".join(f"{name} {value:.4f}" for name, value in found.items())
        self._report(
            state,
            {"event": "validation", "step": state.global_step, **found, "message": f"validation: {listed}"},
        )
        if patience_exhausted(state.log_history, f"eval_{self.metric}", self.patience):
            control.should_training_stop = True

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.barrier()  # the other processes write their random states too
        self.seconds[state.global_step] = time.monotonic() - self._began
        self.rows = (state.global_step - self._first_step) * self._step_rows
        if state.is_world_process_zero:
            mark_complete(Path(args.output_dir) / f"checkpoint-{state.global_step}")

    def _report(self, state: Any, event: dict[str, Any]) -> None:
        if state.is_world_process_zero:
            self._progress(event)


def patience_exhausted(history: Sequence[dict[str, float]], metric: str, patience: int) -> bool:
    """Whether the last `patience` validations brought nothing above the best before them. 0 never stops."""
    values = [entry[metric] for entry in history if metric in entry]
    return bool(patience) and len(values) > patience and max(values[-patience:]) <= max(values[:-patience])


def load_weights(model: torch.nn.Module, checkpoint: Path) -> None:
    """Load a checkpoint's weights, all of them. Raises RuntimeError where names or shapes differ."""
    load_model(model, str(checkpoint / WEIGHTS), strict=True)


class WholeCheckpoints:
    """Mixed into a trainer: checkpoints hold the weights and nothing that can be rebuilt."""

    args: Any
    model: Any

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        target = Path(output_dir or str(self.args.output_dir))
        target.mkdir(parents=True, exist_ok=True)
        save_model(self.model, str(target / WEIGHTS))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        load_weights(self.model, Path(resume_from_checkpoint))


@dataclasses.dataclass(frozen=True)
class Fit:
    """A training that is over; the model holds its best validated weights."""

    curve: list[dict[str, Any]]
    """Loss and validation by step."""
    best_step: int
    speed: dict[str, float]
    """Seconds until the kept weights, rows a second and the memory of a GPU, as far as this process saw them: of a
    training that another process began, what came before is not in it."""


def fit(trainer: transformers.Trainer, reporter: Reporter, run_dir: Path, report: Progress) -> Fit:
    """Train the trainer's model in place, to its best validated weights, going on from the last whole checkpoint."""
    trainer.add_callback(reporter)
    trainer.remove_callback(transformers.PrinterCallback)
    steps = int(trainer.args.max_steps)
    checkpoint = last_whole_checkpoint(run_dir)
    state = TrainerState.load_from_json(str(checkpoint / "trainer_state.json")) if checkpoint else trainer.state
    if checkpoint is not None:
        report({"event": "resume", "step": state.global_step, "message": f"going on from step {state.global_step}"})
    over = patience_exhausted(state.log_history, f"eval_{reporter.metric}", reporter.patience)
    if state.global_step < steps and not over:
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        state = trainer.state
    best_step = state.best_global_step or state.global_step
    model: Any = trainer.model
    load_weights(model, run_dir / f"checkpoint-{best_step}")
    model.eval()
    return Fit(curve_of(state.log_history, reporter.names), best_step, _speed(reporter, best_step))


def _speed(reporter: Reporter, best_step: int) -> dict[str, float]:
    found = {"best_seconds": round(reporter.seconds[best_step], 2)} if best_step in reporter.seconds else {}
    if reporter.rows:
        found["rows_per_second"] = round(reporter.rows / max(reporter.seconds.values()), 1)
    if torch.cuda.is_available():
        found["gpu_mb"] = round(torch.cuda.max_memory_allocated() / 2**20, 1)
    return found


# ---- batches and a loss of the caller's own --------------------------------------------------------------------------

Batch = dict[str, torch.Tensor]


POOL = 50  # batches that are made of rows together where lengths count


class Passes:
    """Batches of indices that count through `passes` orders of the rows: index = pass * rows + row.

    Each pass is shuffled by the seed and its own number, so what stands in a batch follows from its place alone.
    """

    def __init__(self, rows: int, batch_size: int, passes: int, seed: int, lengths: np.ndarray | None = None):
        """`lengths` [rows]: batches are made of rows about as long as each other, which want little padding."""
        self.batch_size, self.drop_last = batch_size, True
        self._rows, self._passes, self._seed, self._lengths = rows, passes, seed, lengths

    def __len__(self) -> int:
        return self._rows * self._passes // self.batch_size

    def __iter__(self) -> Iterator[list[int]]:
        batch: list[int] = []
        for turn in range(self._passes):
            chance = np.random.default_rng((self._seed, turn))
            order = chance.permutation(self._rows)
            if self._lengths is not None:
                # What the last pass left over is filled up first, so that batches begin where groups of a length do.
                full = -len(batch) % self.batch_size
                order = np.concatenate([order[:full], self._alike(order[full:], chance)])
            for row in order.tolist():
                batch.append(turn * self._rows + row)
                if len(batch) == self.batch_size:
                    yield batch
                    batch = []

    def _alike(self, order: np.ndarray, chance: np.random.Generator) -> np.ndarray:
        """Return the rows with those of about a length in batches, the batches in any order; rest last."""
        assert self._lengths is not None
        out = []
        size = POOL * self.batch_size
        for start in range(0, len(order), size):
            pool = order[start : start + size]
            pool = pool[np.argsort(self._lengths[pool], kind="stable")]
            whole = len(pool) // self.batch_size * self.batch_size
            batches = pool[:whole].reshape(-1, self.batch_size)
            out += [batches[chance.permutation(len(batches))].ravel(), pool[whole:]]
        return np.concatenate(out) if out else order


class BatchTrainer(WholeCheckpoints, transformers.Trainer):
    """Hugging Face's trainer over batches that a function makes of indices, with a loss and a validation of its own."""

    def __init__(
        self,
        model: torch.nn.Module,
        arguments: transformers.TrainingArguments,
        plan: Plan,
        collate: Callable[[list[int]], Batch],
        loss: Callable[[Any, Batch], torch.Tensor],
        validate: Callable[[], dict[str, float]] | None,
        groups: list[dict[str, Any]] | None = None,
        callbacks: Sequence[transformers.TrainerCallback] = (),
        lengths: np.ndarray | None = None,
    ):
        """See `fit_batches`."""
        self._plan, self._loss, self._validate, self._groups, self._lengths = plan, loss, validate, groups, lengths
        dataset: Any = range(plan.passes * plan.rows)
        super().__init__(
            model=model,
            args=arguments,
            train_dataset=dataset,
            # Never read: the trainer wants one before it validates.
            eval_dataset=dataset if validate else None,
            data_collator=collate,
            callbacks=list(callbacks),
        )

    def get_train_dataloader(self) -> torch.utils.data.DataLoader:
        """Return the batches, and each process its own."""
        indices: Any = self.train_dataset
        plan = self._plan
        sampler: Any = Passes(plan.rows, plan.batch_size, plan.passes, self.args.seed, self._lengths)
        loader = torch.utils.data.DataLoader(indices, batch_sampler=sampler, collate_fn=self.data_collator)
        return self.accelerator.prepare(loader)

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """Return the optimizer over the caller's groups of parameters, where there are any."""
        if self._groups is not None and self.optimizer is None:
            kind, settings = self.get_optimizer_cls_and_kwargs(self.args, self.model)
            self.optimizer = kind(self._groups, **settings)
        return super().create_optimizer(model)

    def compute_loss(self, model: Any, inputs: Any, *arguments: Any, **kwargs: Any) -> Any:
        """Return the caller's loss of a batch."""
        return self._loss(model, inputs)

    def evaluate(self, *arguments: Any, **kwargs: Any) -> dict[str, float]:
        """Return the caller's measures as eval_<name>."""
        model: Any = self.model
        was_training = model.training
        model.eval()
        with torch.no_grad():
            found = self._validate() if self._validate else {}
        model.train(was_training)
        metrics = {f"eval_{name}": value for name, value in found.items()}
        self.log(dict(metrics))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics


def fit_batches(
    model: torch.nn.Module,
    config: LoopConfig,
    rows: int,
    run_dir: Path,
    report: Progress,
    *,
    collate: Callable[[list[int]], Batch],
    loss: Callable[[Any, Batch], torch.Tensor],
    validate: Callable[[], dict[str, float]] | None,
    names: Sequence[str],
    metric: str,
    groups: list[dict[str, Any]] | None = None,
    callbacks: Sequence[transformers.TrainerCallback] = (),
    mixed: bool = True,
    lengths: np.ndarray | None = None,
    **more: Any,
) -> Fit:
    """Train `model` in place on batches of `rows` rows and return the curve; the model holds its best weights then.

    `collate` makes a batch of indices (index = pass * rows + row, see `Passes`); it must depend on nothing else, so
    that a resumed training sees the same batches. `loss(model, batch)` returns a scalar; the model it is given computes
    in the configured precision. `validate` measures the model as it is and returns `names`, of which `metric` decides;
    None where there is nothing to validate on. `groups` are the optimizer's groups of parameters, by default decayed
    and not decayed ones as transformers tells them apart. `lengths` [rows]: see `Passes`. `more` goes to
    `transformers.TrainingArguments`. Raises FloatingPointError where training diverges.
    """
    plan = plan_of(config, rows)
    decides = metric if validate else None
    arguments = training_arguments(
        transformers.TrainingArguments, config, plan, run_dir, decides, mixed, remove_unused_columns=False, **more
    )
    reporter = Reporter(names, metric, config.patience, plan.step_rows, report)
    trainer = BatchTrainer(model, arguments, plan, collate, loss, validate, groups, callbacks, lengths)
    return fit(trainer, reporter, run_dir, report)
