"""dbt: the project, its manifest, and a build whose tables are published only when every test has passed.

The manifest is not committed. `python -m resources.dbt` writes it; definitions that load without one, or with one
older than the project's files, parse the project once (about four seconds) and find it there afterwards. Parsing
needs no lake, no network and no environment variable.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any

import dagster as dg
from dagster_dbt import DbtCliInvocation, DbtCliResource, DbtProject
from dagster_dbt.core.dbt_cli_event import EventHistoryMetadata, _build_column_lineage_metadata
from dagster_dbt.core.dbt_event_iterator import DbtDagsterEventType
from dagster_dbt.errors import DagsterDbtCliRuntimeError
from filelock import FileLock
from packaging import version

from resources.dbt_run import PARSED
from resources.lake import Lake
from shelfwise.artifacts import atomic_write_bytes, content_id

PROJECT_DIR = Path(__file__).resolve().parents[1] / "dbt_project"
DBT = str(Path(sys.executable).with_name("dbt"))
RUN = Path(__file__).with_name("dbt_run.py")
STALE_SECONDS = 24 * 3600


class DbtCli(DbtCliResource):
    """dagster-dbt's resource without what it does before dbt is started, four seconds on a small machine."""

    @cached_property
    def _cli_version(self) -> version.Version:
        """Read from the package: `dbt --version` starts a process and asks the package index for newer ones."""
        return version.parse(installed_version("dbt-core"))

    def _initialize_dbt_core_adapter(self, args: Sequence[str]) -> None:  # ty: ignore[incompatible-method-override]
        """No adapter: it would only count rows and list columns, which the Parquet files say as well (`_describe`)."""


def dbt_project() -> DbtProject:
    """Return the dbt project with a manifest that is up to date. Raises RuntimeError where dbt cannot parse it.

    Processes that load the definitions at the same time (web server and daemon, a run and its fork server) parse once.
    """
    project = DbtProject(project_dir=PROJECT_DIR)
    if _is_outdated(project.manifest_path):
        project.manifest_path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(project.manifest_path.with_suffix(".lock")):
            if _is_outdated(project.manifest_path):
                parse(project.manifest_path)
    return project


def dbt_resource(*command: str) -> DbtCli:
    """Return the resource that assets know as `dbt`; `command` is what Python runs instead of `dbt_run.py`."""
    return DbtCli(
        project_dir=str(PROJECT_DIR),
        profiles_dir=str(PROJECT_DIR),
        dbt_executable=sys.executable,
        # The folder of this file would hide the package dbt.
        global_config_flags=list(command) or ["-P", str(RUN)],
    )


def parse(manifest_path: Path) -> None:
    """Parse the dbt project and put its manifest in place as a whole. Raises RuntimeError with what dbt said."""
    manifest_path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=manifest_path.parent) as target:
        flags = ["--quiet", "--no-partial-parse", "--target-path", target, "--log-path", target]
        done = subprocess.run(
            [DBT, "parse", "--project-dir", PROJECT_DIR, "--profiles-dir", PROJECT_DIR, *flags],
            capture_output=True,
            text=True,
            env={**os.environ, "DBT_SEND_ANONYMOUS_USAGE_STATS": "false"},
        )
        if done.returncode != 0:
            raise RuntimeError(f"dbt parse failed:\n{done.stdout}{done.stderr}")
        # The manifest last: by its time it is told whether both are up to date.
        os.replace(Path(target) / "partial_parse.msgpack", manifest_path.with_name(PARSED.name))
        os.replace(Path(target) / "manifest.json", manifest_path)


def _is_outdated(manifest_path: Path) -> bool:
    if not (manifest_path.exists() and manifest_path.with_name(PARSED.name).exists()):
        return True
    folders = [path for name in ("models", "macros", "seeds", "tests") if (path := PROJECT_DIR / name).exists()]
    sources = [PROJECT_DIR / "dbt_project.yml", PROJECT_DIR / "profiles.yml"]
    sources += [path for folder in folders for path in [folder, *folder.rglob("*")]]
    return max(path.stat().st_mtime for path in sources) > manifest_path.stat().st_mtime


@dataclass(frozen=True)
class Scratch:
    """A run's own directory: dbt's target and logs, the scratch database, and the files that are not published yet."""

    directory: Path

    @classmethod
    def fresh(cls, lake: Lake, run_id: str) -> Scratch:
        """Make the run's directory, empty, and remove what killed runs left there more than a day ago."""
        base = lake.work_directory("dbt").absolute()
        for old in base.iterdir():
            if old.name == run_id or _is_abandoned(old):
                shutil.rmtree(old, ignore_errors=True)
        scratch = cls(base / run_id)
        scratch.output.mkdir(parents=True)
        return scratch

    @property
    def target(self) -> Path:
        return self.directory / "target"

    @property
    def output(self) -> Path:
        return self.directory / "output"

    def table(self, key: dg.AssetKey) -> Path:
        """The file that the macro `write_parquet` wrote for a model or seed."""
        return self.output / f"{'.'.join(key.path)}.parquet"

    def variables(self, lake: Lake) -> str:
        """Variables of the dbt project (see `profiles.yml`), as the command line takes them."""
        # The file's name is the database's name in the manifest, by which column lineage finds its tables.
        database = self.directory / "warehouse.duckdb"
        paths = {"lake": lake.path.absolute(), "output": self.output, "database": database, "project": PROJECT_DIR}
        return json.dumps({name: str(path) for name, path in paths.items()})

    def remove(self) -> None:
        shutil.rmtree(self.directory, ignore_errors=True)


def _is_abandoned(directory: Path) -> bool:
    try:
        return time.time() - directory.stat().st_mtime > STALE_SECONDS
    except FileNotFoundError:
        return False  # a run that goes on at the same time has just removed its own


def build(context: dg.AssetExecutionContext, dbt: DbtCli, lake: Lake) -> Iterator[object]:
    """Build the selected models in a scratch database, test them, and publish them to the lake.

    Yields the results of dbt's tests as check results, then an output with its metadata for every table. Nothing is
    published, and no table reported, unless dbt and every test of severity error succeeded. Each table is replaced
    as a whole; a process killed between two of them leaves tables of both builds, which the next run puts right.

    Raises dagster's Failure, not to be retried, where a test failed, and dagster-dbt's error for any other reason.
    """
    scratch = Scratch.fresh(lake, context.run_id)
    arguments = ["build", "--vars", scratch.variables(lake)]
    invocation = dbt.cli(arguments, context=context, target_path=scratch.target)
    events, error = _exhaust(invocation.stream())
    yield from (event for event in events if not isinstance(event, dg.Output))
    if error is not None:
        raise _as_failure(error, events) from error
    outputs = [event for event in events if isinstance(event, dg.Output)]
    described = [(output, _describe(output, invocation, scratch, lake)) for output in outputs]
    if described:
        described[0][1]["domain_intervals"] = dg.MetadataValue.json(_work_intervals(scratch.target))
    yield from [_publish(output, metadata, context, scratch, lake) for output, metadata in described]
    scratch.remove()


def _work_intervals(target: Path) -> list[list[float]]:
    """When dbt was running models and tests, in epoch seconds: its work, without its start and its parsing."""
    results = json.loads((target / "run_results.json").read_text())["results"]
    timings = [timing for result in results for timing in result["timing"] if timing["name"] == "execute"]
    return [
        [datetime.fromisoformat(timing[end]).timestamp() for end in ("started_at", "completed_at")]
        for timing in timings
        if timing["started_at"] and timing["completed_at"]
    ]


def _exhaust(stream: Iterator[DbtDagsterEventType]) -> tuple[list[DbtDagsterEventType], Exception | None]:
    """Events up to the end or the error that ended them."""
    events = []
    try:
        for event in stream:
            events.append(event)
    except DagsterDbtCliRuntimeError as error:
        return events, error
    return events, None


def _as_failure(error: Exception, events: Sequence[object]) -> Exception:
    checks = [event for event in events if isinstance(event, dg.AssetCheckResult) and not event.passed]
    failed = sorted(str(check.check_name) for check in checks if check.severity == dg.AssetCheckSeverity.ERROR)
    if not failed:
        return error
    return dg.Failure(f"Nothing was published, because these tests failed: {', '.join(failed)}", allow_retries=False)


def _publish(
    output: dg.Output, metadata: dict[str, Any], context: dg.AssetExecutionContext, scratch: Scratch, lake: Lake
) -> dg.Output:
    """Replace a table in the lake; return the output with its metadata, and the file's digest as its data version."""
    key = context.asset_key_for_output(output.output_name)
    path, data = lake.table_path(key), scratch.table(key).read_bytes()
    atomic_write_bytes(path, data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.BetaWarning)  # data versions of outputs
        return dg.Output(
            output.value,
            output_name=output.output_name,
            metadata={**output.metadata, **metadata, "path": str(path)},
            data_version=dg.DataVersion(content_id(data)),
        )


def _describe(output: dg.Output, invocation: DbtCliInvocation, scratch: Scratch, lake: Lake) -> dict[str, Any]:
    """Row count, columns with their descriptions, and column lineage of a table that was built.

    What `fetch_row_counts().fetch_column_metadata()` adds, read from the Parquet files instead of the database, and
    without the busy waiting by which dagster-dbt keeps a core from dbt and from the other steps.
    """
    import pyarrow.parquet as pq

    manifest, translator = invocation.manifest, invocation.dagster_dbt_translator
    node = manifest["nodes"][output.metadata["unique_id"].value]
    described = {name: column["description"].strip() for name, column in node["columns"].items()}
    schema = pq.read_schema(scratch.table(_key(node)))
    above = node["depends_on"].get("nodes", [])  # a seed has none
    parents = [manifest["nodes"].get(id) or manifest["sources"][id] for id in above]
    lineage = _build_column_lineage_metadata(
        EventHistoryMetadata(
            columns=_untyped(schema.names),
            parents={p["relation_name"]: _untyped(_columns_of(p, scratch, lake)) for p in parents},
        ),
        node,
        manifest,
        translator,
        invocation.target_path,
        invocation.project,
    )
    columns = [dg.TableColumn(field.name, str(field.type), described.get(field.name)) for field in schema]
    return {
        "dagster/row_count": pq.read_metadata(scratch.table(_key(node))).num_rows,
        "dagster/column_schema": dg.TableSchema(columns),
        **lineage,
    }


def _key(node: Mapping[str, Any]) -> dg.AssetKey:
    return dg.AssetKey([node["schema"], node["name"]])


def _columns_of(node: Mapping[str, Any], scratch: Scratch, lake: Lake) -> list[str]:
    import pyarrow.parquet as pq

    if node["resource_type"] == "seed":  # maybe never published yet: it is read from its file
        return list(node["columns"])
    key = _key(node)
    built = scratch.table(key)
    with (built if built.exists() else lake.table_path(key)).open("rb") as file:
        return pq.read_schema(file).names


def _untyped(names: Sequence[str]) -> dict[str, dict[str, str]]:
    """Columns in the form in which dagster-dbt passes them on; lineage follows names and needs no true types."""
    return {name: {"data_type": "varchar"} for name in names}


if __name__ == "__main__":
    parse(DbtProject(project_dir=PROJECT_DIR).manifest_path)
