"""Trainers: where a model is trained is a choice of deployment, not of the asset that wants it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import dagster as dg

PROJECT_ROOT = Path(__file__).resolve().parents[1]


class EncoderTrainer(dg.ConfigurableResource, ABC):
    """Trains a title encoder in a process of its own and leaves it in a local directory."""

    @abstractmethod
    def train(self, context: dg.AssetExecutionContext, *, pairs: Path, config: Path, out: Path, work: Path) -> float:
        """Train on the pairs (Parquet) with the configuration (JSON) into `out`.

        `work` holds checkpoints: called again with the same arguments after a kill, training resumes from the last.
        Returns the seconds of training proper, without the start of the process and its imports. Raises an exception
        when the process fails.
        """


class SubprocessTrainer(EncoderTrainer):
    """Trains on this machine through Dagster Pipes, with every GPU it has."""

    def train(self, context: dg.AssetExecutionContext, *, pairs: Path, config: Path, out: Path, work: Path) -> float:
        from shelfwise.matching.train import gpu_count, launch_command

        arguments = ["--pairs", str(pairs), "--config", str(config), "--out", str(out), "--work", str(work)]
        done = dg.PipesSubprocessClient().run(
            context=context,
            command=launch_command("resources.pipes_entry", arguments, gpu_count()),
            cwd=str(PROJECT_ROOT),
            # A hub is asked only when somebody names a model of one; a run never waits for a network it does not need.
            env={"TOKENIZERS_PARALLELISM": "false", "HF_HUB_DISABLE_TELEMETRY": "1", "OMP_WAIT_POLICY": "PASSIVE"},
        )
        timing = done.get_custom_messages()[-1]["timing"]
        return float(timing["prepare_seconds"] + timing["train_seconds"])


class InProcessTrainer(EncoderTrainer):
    """Trains in the step's own process: for processes that run many trainings of small catalogs, one after the other,
    and would pay the start of a process and its imports each time. Nothing of it outlives a kill of that process but
    the checkpoints.
    """

    def train(self, context: dg.AssetExecutionContext, *, pairs: Path, config: Path, out: Path, work: Path) -> float:
        import pandas as pd

        from shelfwise.matching.train import EncoderConfig, train_encoder

        def tell(event: dict[str, Any]) -> None:
            context.log.info(event["message"])

        settings = EncoderConfig.from_json(config.read_text())
        timing = train_encoder(pd.read_parquet(pairs), settings, out, work, tell)["timing"]
        return float(timing["prepare_seconds"] + timing["train_seconds"])
