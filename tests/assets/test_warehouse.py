"""The dbt models as Dagster assets: what is published, what is reported, and what a failing test prevents."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import dagster as dg
import pandas as pd
import pytest

from assets import warehouse as warehouse_module
from assets.warehouse import warehouse
from orchestration.definitions import defs
from resources import dbt as dbt_module
from resources import dbt_run, dbt_server
from resources.dbt import Scratch, dbt_resource
from resources.dbt_run import PARSED
from resources.dbt_server import warm_dbt
from resources.lake import Lake, TableIO
from shelfwise.contract.tables import empty_frame
from shelfwise.feedback import read_feedback
from shelfwise.feedback.categories import category_frame
from tests.s3 import point_at, remove

MODELS = {
    "raw": ("category_mapping",),
    "staging": (
        "stg_products",
        "stg_mappings",
        "stg_feedback",
        "stg_categories",
        "stg_listings",
        "stg_category_feedback",
    ),
    "marts": ("labelled_positives", "vendor_statistics", "labelled_listings"),
}
KEYS = {dg.AssetKey([schema, name]) for schema, names in MODELS.items() for name in names}
SEED = dg.AssetKey(["raw", "category_mapping"])


def _write_raw(root: Path, product_ids: list[str]) -> None:
    folder = root / "tables" / "raw"
    folder.mkdir(parents=True, exist_ok=True)
    missing = dict.fromkeys(("brand", "category", "description", "price", "size", "image"))
    products = pd.DataFrame({"product_id": product_ids}).assign(title=lambda frame: "Soap " + frame["product_id"])
    products.assign(**missing).to_parquet(folder / "products.parquet", index=False)
    mappings = pd.DataFrame(
        {
            "mapping_id": ["m1", "m2"],
            "vendor_id": ["v1", "v2"],
            "vendor_title": ["SOAP A", "soap b"],
            "product_id": ["a", "b"],
            "source_row": [2, 3],
        }
    )
    mappings.to_parquet(folder / "mappings.parquet", index=False)
    read_feedback(root / "nobody").to_parquet(folder / "feedback.parquet", index=False)
    listings = empty_frame("listings")
    listings.loc[0] = ["l1", "Old phone", None, "All Electronics > Phones", None, None]
    listings.to_parquet(folder / "listings.parquet", index=False)
    category_frame([]).to_parquet(folder / "category_feedback.parquet", index=False)


def _materialize(root: Path, selection: dg.AssetSelection | None = None) -> dg.ExecuteInProcessResult:
    resources = {"dbt": dbt_resource(), "lake": Lake(root=str(root))}
    return dg.materialize([warehouse], resources=resources, selection=selection, raise_on_error=False)


def _published(root: Path) -> dict[str, bytes]:
    tables = root / "tables"
    return {
        path.relative_to(tables).as_posix(): path.read_bytes()
        for folder, names in MODELS.items()
        for path in (tables / folder).glob("*")
        if path.stem in names
    }


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    root = tmp_path_factory.mktemp("lake")
    _write_raw(root, ["a", "b"])
    return root, _materialize(root)


@pytest.fixture(scope="module")
def materialized(run):
    _, result = run
    assert result.success
    events = result.get_asset_materialization_events()
    return {event.materialization.asset_key: event.materialization for event in events}


def test_every_table_is_published_where_the_io_manager_reads_it(run, materialized):
    root, _ = run
    assert set(materialized) == KEYS

    @dg.asset(ins={"positives": dg.AssetIn(key=dg.AssetKey(["marts", "labelled_positives"]))})
    def downstream(positives: pd.DataFrame) -> list[str]:
        return positives.sort_values("vendor_id")["product_title"].tolist()

    source = dg.AssetSpec(["marts", "labelled_positives"])
    io_managers = {"io_manager": dg.mem_io_manager, "tables": TableIO(root=str(root))}
    loaded = dg.materialize(
        [source.with_io_manager_key("tables"), downstream], resources=io_managers, selection=[downstream]
    )
    assert loaded.output_for_node("downstream") == ["Soap a", "Soap b"]
    assert not list((root / ".work" / "dbt").iterdir()), "scratch is removed after a build"


def test_metadata_has_row_count_columns_and_digest(run, materialized):
    root, _ = run
    for key, event in materialized.items():
        frame = pd.read_parquet(root.joinpath("tables", *key.path).with_suffix(".parquet"))
        assert event.metadata["dagster/row_count"].value == len(frame)
        schema = event.metadata["dagster/column_schema"].schema
        assert [column.name for column in schema.columns] == list(frame.columns)
        assert all(column.description for column in schema.columns), f"{key}: every column is described in YAML"
        assert event.tags["dagster/data_version"]
    assert materialized[dg.AssetKey(["staging", "stg_feedback"])].metadata["dagster/row_count"].value == 0


def test_column_lineage_reaches_from_the_marts_to_the_raw_tables(materialized):
    def lineage(*key: str) -> dict[str, set[str]]:
        metadata = materialized[dg.AssetKey(key)].metadata["dagster/column_lineage"].lineage
        return {
            column: {f"{dep.asset_key.to_user_string()}.{dep.column_name}" for dep in deps}
            for column, deps in metadata.deps_by_column.items()
        }

    assert lineage("staging", "stg_products")["category_leaf"] == {"raw/products.category"}
    assert lineage("staging", "stg_mappings")["normalised_title"] == {"raw/mappings.vendor_title"}
    assert lineage("staging", "stg_feedback")["product_id"] == {"raw/feedback.product_id"}
    positives = lineage("marts", "labelled_positives")
    assert positives["product_title"] == {"staging/stg_products.title"}
    assert positives["product_id"] == {"staging/stg_mappings.product_id", "staging/stg_feedback.product_id"}
    assert lineage("marts", "vendor_statistics")["share_upper"] == {"marts/labelled_positives.vendor_title"}
    assert "raw/category_mapping.merged_into" in lineage("staging", "stg_categories")["counts_as"]
    assert lineage("staging", "stg_listings")["seller_id"] == {"raw/listings.seller_id"}
    listed = lineage("marts", "labelled_listings")
    said = {"staging/stg_feedback.vendor_title", "staging/stg_category_feedback.title"}
    assert listed["title"] == {"staging/stg_listings.title", "staging/stg_products.title", *said}


def test_dbt_tests_arrive_as_checks(run):
    _, result = run
    specs = {spec.key: spec for spec in warehouse.check_specs}
    evaluations = {evaluation.asset_check_key: evaluation for evaluation in result.get_asset_check_evaluations()}
    assert set(evaluations) == set(specs)
    assert all(evaluation.passed for evaluation in evaluations.values())
    assert {spec.asset_key for spec in specs.values()} == KEYS
    not_blocking = {spec.name for spec in specs.values() if not spec.blocking}
    assert not_blocking == {"products_with_the_same_title"}


def test_specs_are_complete_and_tied_to_the_raw_assets():
    for spec in warehouse.specs:
        assert spec.group_name == spec.key.path[0]
        assert list(spec.owners) == ["team:data"]
        assert {"dbt", "duckdb", "parquet"} <= spec.kinds
        assert spec.description
        assert "select" not in spec.description
    dependencies = {dep.asset_key for spec in warehouse.specs for dep in spec.deps} - KEYS
    raw = ("products", "mappings", "feedback", "listings", "category_feedback")
    assert dependencies == {dg.AssetKey(["raw", name]) for name in raw}


def test_a_failing_test_publishes_nothing(run, tmp_path):
    _write_raw(tmp_path, ["a", "b", "b"])
    old = {}
    for key in KEYS:
        path = tmp_path.joinpath("tables", *key.path).with_suffix(".parquet")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(f"old {key}".encode())
        old[path.relative_to(tmp_path / "tables").as_posix()] = path.read_bytes()
    result = _materialize(tmp_path)
    assert not result.success
    assert _published(tmp_path) == old
    assert not result.get_asset_materialization_events()
    failure = result.get_step_failure_events()[0].step_failure_data.error
    assert "unique_stg_products_product_id" in str(failure.message)
    failed = {check.check_name: check for check in result.get_asset_check_evaluations() if not check.passed}
    assert failed["unique_stg_products_product_id"].severity == dg.AssetCheckSeverity.ERROR


def test_one_table_alone_reads_the_published_ones(run, materialized):
    root, _ = run
    before = _published(root)
    positives = root / "tables" / "marts" / "labelled_positives.parquet"
    pd.read_parquet(positives).query("vendor_id == 'v1'").to_parquet(positives, index=False)
    key = dg.AssetKey(["marts", "vendor_statistics"])
    result = _materialize(root, dg.AssetSelection.assets(key))
    positives.write_bytes(before["marts/labelled_positives.parquet"])
    assert result.success
    assert {event.materialization.asset_key for event in result.get_asset_materialization_events()} == {key}
    after = _published(root)
    assert pd.read_parquet(root / "tables/marts/vendor_statistics.parquet")["vendor_id"].tolist() == ["v1"]
    assert {name for name in before if before[name] != after[name]} == {"marts/vendor_statistics.parquet"}


@pytest.mark.parametrize("job", ["train_classifiers", "follow_catalog", "train_and_promote"])
def test_a_job_builds_its_tables_in_a_lake_where_nothing_was_built_before(tmp_path, job):
    _write_raw(tmp_path, ["a", "b"])
    selected = KEYS & defs().resolve_job_def(job).asset_layer.selected_asset_keys
    assert selected
    result = _materialize(tmp_path, dg.AssetSelection.assets(*selected))
    assert result.success
    assert {event.materialization.asset_key for event in result.get_asset_materialization_events()} == selected


def test_the_mapping_is_read_from_its_file_by_a_run_that_does_not_build_it(run, tmp_path):
    root, _ = run
    lake = tmp_path / "lake"
    shutil.copytree(root / "tables", lake / "tables")
    (lake / "tables" / "raw" / "category_mapping.parquet").unlink()
    key = dg.AssetKey(["staging", "stg_categories"])
    result = _materialize(lake, dg.AssetSelection.assets(key))
    assert result.success
    merged = pd.read_parquet(lake / "tables/staging/stg_categories.parquet")
    assert merged[["category", "counts_as"]].values.tolist() == [["All Electronics > Phones", "Electronics > Phones"]]
    assert not (lake / "tables" / "raw" / "category_mapping.parquet").exists()


def test_a_chain_in_the_mapping_stops_what_reads_it_and_names_the_row(run, tmp_path, monkeypatch):
    root, _ = run
    (tmp_path / "seeds").mkdir()
    (tmp_path / "seeds" / "category_mapping.csv").write_text("category,merged_into,note\nA,B,\nB,C,\n")
    monkeypatch.setattr(warehouse_module, "MAPPING", tmp_path / "seeds" / "category_mapping.csv")
    before = _published(root)
    result = _materialize(root, dg.AssetSelection.assets(SEED))
    assert _published(root) == before
    assert not result.success
    message = str(result.get_step_failure_events()[0].step_failure_data.error.message)
    assert "category_mapping.csv, row 2, column 'merged_into'" in message
    assert "'B', which row 3 merges into 'C'" in message
    other = _materialize(root, dg.AssetSelection.assets(["marts", "vendor_statistics"]))
    assert other.success, "what does not read the mapping goes on"


@pytest.fixture
def s3_lake(s3_url, monkeypatch, tmp_path):
    """The raw tables in a bucket of a local S3 server."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    client = point_at(s3_url, monkeypatch, "shelf")
    _write_raw(tmp_path / "raw", ["a", "b"])
    for path in (tmp_path / "raw" / "tables" / "raw").iterdir():
        client.upload_file(str(path), "shelf", f"lake/tables/raw/{path.name}")
    yield Lake(root="s3://shelf/lake")
    remove(client, "shelf")


@pytest.mark.slow
def test_a_lake_on_s3(s3_lake):
    resources = {"dbt": dbt_resource(), "lake": s3_lake}
    result = dg.materialize([warehouse], resources=resources, raise_on_error=False)
    assert result.success
    with s3_lake.table_path(dg.AssetKey(["marts", "labelled_positives"])).open("rb") as file:
        positives = pd.read_parquet(file)
    assert sorted(positives["product_title"]) == ["Soap a", "Soap b"]
    (made,) = [
        event.materialization
        for event in result.get_asset_materialization_events()
        if event.asset_key == dg.AssetKey(["staging", "stg_products"])
    ]
    lineage = made.metadata["dagster/column_lineage"]
    assert lineage.lineage.deps_by_column["title"][0].column_name == "title"


def test_scratch_starts_empty_and_forgets_what_killed_runs_left(tmp_path):
    base = tmp_path / ".work" / "dbt"
    for name in ("mine", "recent", "old"):
        (base / name).mkdir(parents=True)
        (base / name / "warehouse.duckdb").write_text("half")
    os.utime(base / "old", (time.time() - 2 * 86400,) * 2)
    Scratch.fresh(Lake(root=str(tmp_path)), "mine")
    assert sorted(path.name for path in base.iterdir()) == ["mine", "recent"]
    assert [path.name for path in (base / "mine").iterdir()] == ["output"]


def test_scratch_of_a_run_that_ends_meanwhile_is_no_error(tmp_path, monkeypatch):
    base = tmp_path / ".work" / "dbt"
    (base / "ending").mkdir(parents=True)
    listed = Path.iterdir

    def list_and_end(path: Path):
        entries = list(listed(path))
        if path == base:
            (base / "ending").rmdir()
        return iter(entries)

    monkeypatch.setattr(Path, "iterdir", list_and_end)
    assert Scratch.fresh(Lake(root=str(tmp_path)), "mine").output.is_dir()


def test_manifest_is_made_when_missing_and_when_older_than_the_project(tmp_path, monkeypatch):
    parsed = []

    def parse(path: Path) -> None:
        parsed.append(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")
        path.with_name(PARSED.name).write_bytes(b"")

    (tmp_path / "models").mkdir()
    for name in ("dbt_project.yml", "profiles.yml", "models/model.sql"):
        (tmp_path / name).write_text("name: shelfwise\n")
        os.utime(tmp_path / name, (1_000_000, 1_000_000))
    os.utime(tmp_path / "models", (1_000_000, 1_000_000))
    monkeypatch.setattr(dbt_module, "PROJECT_DIR", tmp_path)
    monkeypatch.setattr(dbt_module, "parse", parse)
    manifest = dbt_module.dbt_project().manifest_path
    assert parsed == [manifest]
    dbt_module.dbt_project()
    assert len(parsed) == 1
    manifest.with_name(PARSED.name).unlink()
    dbt_module.dbt_project()
    assert len(parsed) == 2
    later = manifest.stat().st_mtime + 10
    os.utime(tmp_path / "models" / "model.sql", (later, later))
    dbt_module.dbt_project()
    assert len(parsed) == 3


def test_dbt_runs_on_the_parsed_project_and_parses_itself_where_that_is_of_no_use(tmp_path, monkeypatch):
    dbt_module.dbt_project()
    kept = dbt_run.parsed(PARSED)
    assert "model.shelfwise.labelled_positives" in kept.nodes
    damaged = tmp_path / "parsed.msgpack"
    damaged.write_bytes(PARSED.read_bytes()[:1000])
    assert dbt_run.parsed(damaged) is None
    assert dbt_run.parsed(tmp_path / "missing") is None
    monkeypatch.setattr("dbt.version.__version__", "0.0.1")
    assert dbt_run.parsed(PARSED) is None


def test_a_server_runs_each_command_as_if_dbt_had_been_started_for_it(tmp_path):
    _write_raw(tmp_path / "warm", ["a", "b"])
    _write_raw(tmp_path / "cold", ["a", "b"])
    _write_raw(tmp_path / "broken", ["a", "a"])
    with warm_dbt() as dbt:
        assert dbt.dbt_executable == dbt_resource().dbt_executable
        place = Path(dbt.global_config_flags[-1])
        for name, succeeds in (("warm", True), ("broken", False), ("warm", True)):
            resources = {"dbt": dbt, "lake": Lake(root=str(tmp_path / name))}
            assert dg.materialize([warehouse], resources=resources, raise_on_error=False).success is succeeds
    assert not place.exists(), "the server has ended and left nothing"
    assert _published(tmp_path / "broken") == {}
    assert _materialize(tmp_path / "cold").success
    assert _published(tmp_path / "warm") == _published(tmp_path / "cold")


def test_a_server_without_a_parsed_project_runs_nothing_before_it_forks(tmp_path, monkeypatch):
    def run(*_: object) -> int:
        raise AssertionError("the server has dbt's threads now, and its children wait for them forever")

    monkeypatch.setattr(dbt_run, "PARSED", tmp_path / "target" / "parsed.msgpack")
    monkeypatch.setattr(dbt_run, "run", run)
    assert dbt_server._warmed_up(str(tmp_path)) is None


def test_a_project_that_does_not_parse_says_why_and_keeps_the_old_manifest(tmp_path, monkeypatch):
    (tmp_path / "dbt_project.yml").write_text("name: shelfwise\nprofile: missing\n")
    monkeypatch.setattr(dbt_module, "PROJECT_DIR", tmp_path)
    manifest = tmp_path / "target" / "manifest.json"
    manifest.parent.mkdir()
    manifest.write_text("old")
    with pytest.raises(RuntimeError, match="profile"):
        dbt_module.parse(manifest)
    assert [path.name for path in manifest.parent.iterdir()] == ["manifest.json"]
    assert manifest.read_text() == "old"
