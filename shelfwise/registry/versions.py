"""A registered version, and how it is written into the tags of an MLflow model version and read back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from shelfwise.artifacts import content_id

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion as MlflowVersion

PREFIX = "shelfwise."
PIECE = 4_000  # characters; databases of older MLflow servers cut a tag at 5,000
SHOWN = ("top1", "top5", "approved_share", "approved_precision")
# A server takes no path of the caller's disk as a source; with this in front it takes it as it is.
LOCAL_SOURCE = "lake:"


class RegistryError(RuntimeError):
    """A version or alias that does not exist or changed under the caller, or a registry that cannot be used."""


@dataclass(frozen=True)
class ModelVersion:
    """A registered model: where it lies, what it measured, what it was made from."""

    model: str
    version: int
    artifact: str
    artifact_id: str
    metrics: dict[str, float] = field(default_factory=dict)
    lineage: dict[str, str] = field(default_factory=dict)
    created_at: str = ""

    @property
    def label(self) -> str:
        """Short name for people and for the `champion_version` column, such as `v3-1f0c2a9b`."""
        return f"v{self.version}-{self.artifact_id[:8]}"


def tags_of(version: ModelVersion) -> dict[str, str]:
    """Return the tags that hold what MLflow has no field for."""
    return {
        f"{PREFIX}artifact_id": version.artifact_id,
        f"{PREFIX}created_at": version.created_at,
        **in_pieces("metrics", version.metrics),
        **in_pieces("lineage", version.lineage),
    }


def description_of(version: ModelVersion) -> str:
    """Return the line by which people tell versions apart in MLflow's pages."""
    shown = [f"{name} {version.metrics[name]:.4f}" for name in SHOWN if name in version.metrics]
    return f"{version.label.split('-', 1)[1]}: {', '.join(shown)}" if shown else ""


def read_version(found: MlflowVersion) -> ModelVersion:
    """Return the version that MLflow returned. One that others registered, without our tags, is a version too."""
    tags = found.tags
    source = (found.source or "").removeprefix(LOCAL_SOURCE)
    return ModelVersion(
        model=found.name,
        version=int(found.version),
        artifact=source,
        artifact_id=tags.get(f"{PREFIX}artifact_id") or content_id(source),
        metrics=from_pieces("metrics", tags),
        lineage=from_pieces("lineage", tags),
        created_at=tags.get(f"{PREFIX}created_at", ""),
    )


def in_pieces(name: str, value: object) -> dict[str, str]:
    """Return a JSON value as one tag, or as numbered ones where it is long."""
    text = json.dumps(value, sort_keys=True)
    pieces = [text[start : start + PIECE] for start in range(0, len(text), PIECE)]
    return {f"{PREFIX}{name}" + (f".{number}" if number else ""): piece for number, piece in enumerate(pieces)}


def from_pieces(name: str, tags: Mapping[str, str]) -> dict[str, Any]:
    """Return what `in_pieces` wrote; nothing where there is none."""
    text, number = tags.get(f"{PREFIX}{name}", ""), 1
    while (piece := tags.get(f"{PREFIX}{name}.{number}")) is not None:
        text, number = text + piece, number + 1
    return json.loads(text) if text else {}
