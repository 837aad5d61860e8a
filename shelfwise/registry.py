"""Model registry: numbered versions that never change, and aliases that point at them.

Everything that predicts asks for an alias ("champion"), never for the newest file. A version is one JSON document
beside others; an alias is one small file that is replaced as a whole, so a reader sees the old champion or the new.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from upath import UPath

from shelfwise.artifacts import asked_anew, atomic_create_json, atomic_write_json

CHAMPION = "champion"
PREVIOUS = "previous"


class RegistryError(RuntimeError):
    """A version or alias that does not exist, or changed under the caller."""


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


class Registry:
    """Versions and aliases of models under `<root>/<model>/`."""

    def __init__(self, root: UPath | Path | str) -> None:
        self.root = UPath(root)

    def versions(self, model: str) -> list[ModelVersion]:
        """All versions of a model, oldest first."""
        folder = asked_anew(self.root) / model / "versions"
        if not folder.exists():
            return []
        return [ModelVersion(**json.loads(path.read_text())) for path in sorted(folder.glob("*.json"), key=str)]

    def register(
        self,
        model: str,
        artifact: str,
        artifact_id: str,
        metrics: dict[str, float] | None = None,
        lineage: dict[str, str] | None = None,
    ) -> ModelVersion:
        """Register an artifact and return its version; the same artifact again is the same version."""
        known = self.versions(model)
        for version in known:
            if version.artifact_id == artifact_id:
                return version
        number = known[-1].version + 1 if known else 1
        version = ModelVersion(
            model, number, artifact, artifact_id, metrics or {}, lineage or {}, datetime.now(UTC).isoformat()
        )
        path = self.root / model / "versions" / f"{number:06d}.json"
        try:
            atomic_create_json(path, asdict(version))
        except FileExistsError:
            raise RegistryError(f"{model} version {number} was registered by another process; run again") from None
        return version

    def alias(self, model: str, alias: str = CHAMPION) -> ModelVersion | None:
        """The version an alias points at, or None where the alias was never set."""
        path = asked_anew(self.root) / model / "aliases" / f"{alias}.json"
        if not path.exists():
            return None
        number = json.loads(path.read_text())["version"]
        document = self.root / model / "versions" / f"{number:06d}.json"
        if not document.exists():
            raise RegistryError(f"{model}: alias '{alias}' points at version {number}, which does not exist")
        return ModelVersion(**json.loads(document.read_text()))

    def champion(self, model: str) -> ModelVersion:
        """The version in production. Raises RegistryError where none was promoted yet."""
        version = self.alias(model)
        if version is None:
            raise RegistryError(
                f"no champion of '{model}' yet: materialize the matching assets and see why the gate refused, if it did"
            )
        return version

    def promote(self, version: ModelVersion) -> None:
        """Point `champion` at a version and `previous` at the one before. Promoting the champion changes nothing."""
        current = self.alias(version.model)
        if current is not None and current.version == version.version:
            return
        if current is not None:
            self._point(version.model, PREVIOUS, current.version)
        self._point(version.model, CHAMPION, version.version)

    def _point(self, model: str, alias: str, number: int) -> None:
        document = {"version": number, "set_at": datetime.now(UTC).isoformat()}
        atomic_write_json(self.root / model / "aliases" / f"{alias}.json", document)
