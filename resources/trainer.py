"""Trainers: where a model is trained is a choice of deployment, not of the asset that wants it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg

PROJECT_ROOT = Path(__file__).resolve().parents[1]


class Trainer(dg.ConfigurableResource, ABC):
    """Trains a model in a process of its own and leaves it in a local directory."""

    @abstractmethod
    def train(self, context: dg.AssetExecutionContext, module: str, files: Mapping[str, Path]) -> float:
        """Run a training module, such as "shelfwise.matching.train", on `files` by the names of its arguments.

        Among them are `out`, the directory of the model, `config` (JSON), and `work`, which holds checkpoints: called
        again with the same arguments after a kill, training resumes from the last. Returns the seconds of training
        proper, without the start of the process and its imports. Raises an exception when the process fails.
        """


class SubprocessTrainer(Trainer):
    """Trains on this machine through Dagster Pipes, with every GPU it has."""

    def train(self, context: dg.AssetExecutionContext, module: str, files: Mapping[str, Path]) -> float:
        from shelfwise.training.process import file_arguments, gpu_count, launch_command

        done = dg.PipesSubprocessClient().run(
            context=context,
            command=launch_command("resources.pipes_entry", [module, *file_arguments(files)], gpu_count()),
            cwd=str(PROJECT_ROOT),
            # A hub is asked only when somebody names a model of one; a run never waits for a network it does not need.
            env={"TOKENIZERS_PARALLELISM": "false", "HF_HUB_DISABLE_TELEMETRY": "1", "OMP_WAIT_POLICY": "PASSIVE"},
        )
        return _seconds(done.get_custom_messages()[-1])


class InProcessTrainer(Trainer):
    """Trains in the step's own process: for processes that run many trainings of small catalogs, one after the other,
    and would pay the start of a process and its imports each time. Nothing of it outlives a kill of that process but
    the checkpoints.
    """

    def train(self, context: dg.AssetExecutionContext, module: str, files: Mapping[str, Path]) -> float:
        from shelfwise.training.process import file_arguments, parse, training_module

        trained = training_module(module)
        arguments = parse(trained, module, file_arguments(files))
        return _seconds(trained.run(arguments, lambda event: context.log.info(event["message"])))


def _seconds(result: dict[str, Any]) -> float:
    return float(result["timing"]["prepare_seconds"] + result["timing"]["train_seconds"])
