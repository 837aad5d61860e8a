"""The lake: Parquet tables and artifact directories under one root, on local disk or S3."""

from __future__ import annotations

import io
import json
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
import pyarrow
from dagster._core.storage.upath_io_manager import escape_dotdot_segments, escape_leading_slash, is_dict_type
from upath import UPath

from shelfwise.artifacts import atomic_write_bytes, atomic_write_json, fetch, publish

AT_ONCE = 8  # partitions that are read at the same time: on S3 most of it is waiting


class Lake(dg.ConfigurableResource):
    """Where everything the project makes is kept. The layout below the root is decided here and nowhere else."""

    root: str

    @property
    def path(self) -> UPath:
        return UPath(self.root)

    def table_path(self, key: dg.AssetKey) -> UPath:
        """Path of an unpartitioned table's Parquet file."""
        return self.path.joinpath("tables", *key.path[:-1], f"{key.path[-1]}.parquet")

    def last_table(self, key: dg.AssetKey) -> pd.DataFrame | None:
        """Return the table an asset gave when it was last materialized, None where it never was; one without columns
        where the file is damaged.
        """
        return _table(self.table_path(key))

    def last_partition(self, key: dg.AssetKey, partition: str) -> pd.DataFrame | None:
        """Return the table of one partition of an asset, as `last_table`."""
        safe = escape_dotdot_segments(escape_leading_slash(partition))
        return _table(self.path.joinpath("tables", *key.path, f"{safe}.parquet"))

    def last_reference(self, key: dg.AssetKey) -> dict[str, Any] | None:
        """Return the reference an asset gave when it was last materialized, None where it never was."""
        path = self.table_path(key).with_suffix(".json")
        try:
            return json.loads(path.read_bytes())
        except FileNotFoundError:
            return None

    def artifact_path(self, kind: str, artifact_id: str) -> UPath:
        """Path of an artifact directory."""
        return self.path / "artifacts" / kind / artifact_id

    def publish(self, kind: str, artifact_id: str, directory: Path) -> str:
        """Publish a local directory as an artifact; return its location."""
        return publish(directory, self.artifact_path(kind, artifact_id))

    def fetch(self, location: str) -> Path:
        """Local directory that holds an artifact's files."""
        return fetch(location)

    def work_directory(self, *parts: str) -> Path:
        """Local scratch space that outlives a killed process: checkpoints are kept here."""
        base = Path(self.root) if "://" not in self.root else Path(tempfile.gettempdir()) / "shelfwise"
        directory = base.joinpath(".work", *parts)
        directory.mkdir(parents=True, exist_ok=True)
        return directory

    def forget(self, directory: Path) -> None:
        """Remove scratch space whose result was published."""
        shutil.rmtree(directory, ignore_errors=True)


def _table(path: UPath) -> pd.DataFrame | None:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    try:
        return pd.read_parquet(io.BytesIO(data))
    except pyarrow.ArrowInvalid:
        return pd.DataFrame()


class _LakeIOManager(dg.UPathIOManager):
    """One file per asset or partition below `<root>/tables`, replaced as a whole."""

    def make_safe_partition_path(self, base_path: UPath, partition: str) -> UPath:
        """Keep every partition below its table, whatever its key says."""
        return base_path / escape_dotdot_segments(escape_leading_slash(partition))


def _read(context: dg.InputContext, path: UPath) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        name = context.asset_key.to_user_string()
        raise FileNotFoundError(f"{name} was never materialized in this lake: there is no {path}") from None


class TableIOManager(_LakeIOManager):
    """Tables as Parquet."""

    extension = ".parquet"

    def load_input(self, context: dg.InputContext) -> Any:
        """Like the base class, but a dictionary of partitions is one however many there are.

        The base class gives None for no partition and the bare table for a single one.
        """
        loaded = super().load_input(context)
        if isinstance(loaded, dict) or not is_dict_type(context.dagster_type.typing_type):
            return loaded
        return {} if loaded is None else {context.asset_partition_keys[0]: loaded}

    def load_partitions(self, context: dg.InputContext) -> Any:
        """Like the base class, but several at a time, and what is missing is said in one line.

        The base class reads one after the other and writes to the event log that it does, for every file: that takes
        longer than the reading.
        """
        paths: dict[str, UPath] = self._get_paths_for_partitions(context)
        if len(paths) == 1:
            return super().load_partitions(context)
        optional = (context.definition_metadata or {}).get("allow_missing_partitions", False)

        def load(path: UPath) -> pd.DataFrame | None:
            try:
                return self.load_from_path(context, path)
            except FileNotFoundError:
                if optional:
                    return None
                raise

        with ThreadPoolExecutor(AT_ONCE) as pool:
            tables = dict(zip(paths, pool.map(load, paths.values()), strict=True))
        missing = [key for key, one in tables.items() if one is None]
        told = f"{len(tables) - len(missing)} of {len(tables)} partitions were read"
        context.log.debug(f"{told}; missing: {', '.join(missing[:20]) or 'none'}")
        return {key: one for key, one in tables.items() if one is not None}

    def dump_to_path(self, context: dg.OutputContext, obj: Any, path: UPath) -> None:
        """Write a table. Raises TypeError for anything that is not one."""
        if not isinstance(obj, pd.DataFrame):
            raise TypeError(f"{context.asset_key.to_user_string()}: expected a DataFrame, not {type(obj).__name__}")
        buffer = io.BytesIO()
        obj.to_parquet(buffer, index=False, compression="zstd")
        atomic_write_bytes(path, buffer.getvalue())

    def load_from_path(self, context: dg.InputContext, path: UPath) -> pd.DataFrame:
        """Read a table. Raises FileNotFoundError where it was never written."""
        return pd.read_parquet(io.BytesIO(_read(context, path)))


class ReferenceIOManager(_LakeIOManager):
    """References to artifacts (dictionaries) as JSON: assets pass where a model lies, never the model."""

    extension = ".json"

    def dump_to_path(self, context: dg.OutputContext, obj: Any, path: UPath) -> None:
        """Write a reference. Raises TypeError for anything else, above all for what would need a pickle."""
        if not isinstance(obj, dict):
            raise TypeError(f"{context.asset_key.to_user_string()}: expected a reference, not {type(obj).__name__}")
        atomic_write_json(path, obj)

    def load_from_path(self, context: dg.InputContext, path: UPath) -> dict[str, Any]:
        """Read a reference. Raises FileNotFoundError where it was never written."""
        return json.loads(_read(context, path))


class TableIO(dg.ConfigurableIOManagerFactory):
    """Builds the IO manager of tables."""

    root: str

    def create_io_manager(self, context: dg.InitResourceContext) -> TableIOManager:
        return TableIOManager(base_path=UPath(self.root) / "tables")


class ReferenceIO(dg.ConfigurableIOManagerFactory):
    """Builds the IO manager of references."""

    root: str

    def create_io_manager(self, context: dg.InitResourceContext) -> ReferenceIOManager:
        return ReferenceIOManager(base_path=UPath(self.root) / "tables")
