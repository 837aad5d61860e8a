"""How a model comes to be, whatever it models: trained once, published whole, promoted only through its gate."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd

from assets.common import clock_metadata, float_metadata, picture, table
from resources.lake import Lake
from resources.trainer import Trainer
from shelfwise.artifacts import exists
from shelfwise.promotion.gate import GateDecision, rolled_back_at
from shelfwise.registry import ModelVersion, Registry, RegistryError
from shelfwise.timing import DomainClock
from shelfwise.training.settings import Settings


def publish_once(lake: Lake, kind: str, artifact_id: str, write: Callable[[Path], None]) -> tuple[str, bool]:
    """Publish what `write` puts into a directory, unless it was made before; return (location, made now)."""
    location = lake.artifact_path(kind, artifact_id)
    if exists(location):
        return str(location), False
    with tempfile.TemporaryDirectory() as scratch:
        write(Path(scratch))
        return lake.publish(kind, artifact_id, Path(scratch)), True


def artifact_metadata(location: str, made: bool, clock: DomainClock) -> dict[str, Any]:
    """What the UI shows of every artifact: where it lies, whether it was made now, and how long that took."""
    return {"made_now": made, "location": dg.MetadataValue.path(location), **clock_metadata(clock)}


@dataclass(frozen=True)
class Trained:
    """A trained model: where it lies, what its training measured, whether it was trained now, and how long."""

    location: str
    directory: Path
    metrics: Mapping[str, Any]
    now: bool
    clock: DomainClock

    @property
    def metadata(self) -> dict[str, Any]:
        """What the UI shows of a training: its numbers, its curve, and whether it was done now."""
        numbers = {name: value for name, value in self.metrics.items() if isinstance(value, int | float)}
        words = {name: value for name, value in self.metrics.items() if isinstance(value, str) and len(value) < 500}
        curve = self.directory / "curve.png"
        return {
            **words,
            **float_metadata({name: value for name, value in numbers.items() if value == value}),
            **({"curve": picture(curve.read_bytes(), "loss and validation")} if curve.exists() else {}),
            "trained_now": self.now,
            "location": dg.MetadataValue.path(self.location),
            **clock_metadata(self.clock),
        }


def train_once(
    context: dg.AssetExecutionContext,
    trainer: Trainer,
    lake: Lake,
    module: str,
    model: tuple[str, str],
    config: Settings,
    write: Callable[[Path], Mapping[str, Path]],
    beside: Mapping[str, pd.DataFrame] | None = None,
) -> Trained:
    """Train a model in a process of its own, unless it was trained before: the same inputs have the same content id.

    `module`: the training's module. `model`: kind of artifact and content id. `config`: its settings. `write`: puts the
    other inputs into a directory and returns them by the names of the module's arguments. `beside`: tables published
    with the model, by file name. A training that was killed goes on where it was.
    """
    kind, model_id = model
    location = lake.artifact_path(kind, model_id)
    clock, reused = DomainClock(), exists(location)
    if not reused:
        work = lake.work_directory(kind, model_id)
        settings = work / "config.json"
        settings.write_text(config.to_json())
        files = {**write(work), "config": settings, "out": work / "model", "work": work / "checkpoints"}
        clock.add(trainer.train(context, module, files))
        for name, frame in (beside or {}).items():
            frame.to_parquet(work / "model" / name, index=False)
        lake.publish(kind, model_id, work / "model")
        lake.forget(work)
    directory = lake.fetch(str(location))
    metrics = json.loads((directory / "metrics.json").read_text())
    return Trained(str(location), directory, metrics, not reused, clock)


def beside_champion(current: ModelVersion | None, candidate_id: str) -> dict[str, Any]:
    """Return what an evaluation stores of the champion before the two are compared, which overwrites the empty places
    (`Comparison.to_json`): who is champion, and whether that is the candidate itself.
    """
    return {
        "champion_version": current.label if current else None,
        "champion_number": current.version if current else None,
        "champion_metrics": None,
        "champion_unusable": None,
        "paired": None,
        "slices": [],
        "compared": None,
        "same": current is not None and current.artifact_id == candidate_id,
    }


def challenge(versions: Registry, version: ModelVersion) -> str | None:
    """Make an evaluated candidate the challenger; return when a person rolled it back, None where nobody did."""
    versions.challenge(version)
    return rolled_back_at(versions.history(version.model), version.version)


def refuse(versions: Registry, version: ModelVersion, reason: str) -> None:
    """Record that the gate refused a candidate; refused ones are registered too, so old ones go."""
    versions.refuse(version, reason)
    versions.retain(version.model)


def promote(
    versions: Registry, version: ModelVersion, decision: GateDecision, evaluation: Mapping[str, Any], lake: Lake
) -> dg.MaterializeResult[dict]:
    """Make a candidate champion where its gate lets it pass, and return what its champion asset returns.

    `decision`: of the gate, which is asked again here, so that it also holds when the asset runs on its own.
    `evaluation`: what was decided on. It names the champion it compared with: where another is champion by now, it is
    old and says nothing about that one. Raises Failure, not to be retried, where nothing may be promoted.
    """
    gate = table(decision.table(), width=400)
    if not decision.passes:
        versions.refuse(version, decision.summary)
        raise dg.Failure(decision.summary, metadata={"gate": gate}, allow_retries=False)
    try:
        versions.promote(version, expected=evaluation.get("champion_number"), reason=decision.summary)
    except RegistryError as error:
        raise dg.Failure(str(error), allow_retries=False) from error
    deleted = versions.retain(version.model)
    removed = versions.discard_artifacts(version.model, lake.path / "artifacts")
    metadata = {
        "version": version.label,
        "decision": decision.summary,
        **float_metadata({"number": version.version, "top1": evaluation["metrics"]["top1"]}),
        "gate": gate,
        "versions_deleted": [one.label for one in deleted],
        "artifacts_deleted": removed,
    }
    value = {"version": version.label, "location": version.artifact, "id": version.artifact_id}
    return dg.MaterializeResult(value=value, metadata=metadata, data_version=dg.DataVersion(version.artifact_id))


def missing(why: str, **more: Any) -> dg.MaterializeResult[dict]:
    """Return the result of an asset for which there is nothing to do: it says why, and whoever reads it goes on."""
    return dg.MaterializeResult(value={"missing": why, **more}, metadata={"skipped": why})
