"""The lake and its IO managers, on disk and on S3: what is written is read back, whole or not at all."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import numpy as np
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from resources.lake import Lake, ReferenceIO, TableIO
from shelfwise.artifacts import exists
from tests.s3 import point_at, remove

FRAME = pd.DataFrame(
    {
        "product_id": pd.Series(["a", "b", "c"], dtype="str"),
        "title": pd.Series(["Süße Möhre", None, "=1+1"], dtype="str"),
        "price": [1.5, float("nan"), -2.0],
        "row": np.array([2, 3, 4], dtype="int64"),
        "rejected": [["x", "y"], [], ["z"]],
        "at": pd.to_datetime(["2024-01-01", None, "2024-02-01"], utc=True).astype("datetime64[us, UTC]"),
    }
)
FILES = dg.DynamicPartitionsDefinition(name="files")


@pytest.fixture
def bucket(s3_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("SHELFWISE_CACHE", str(tmp_path / "cache"))
    name = f"lake-{time.monotonic_ns()}"
    client = point_at(s3_url, monkeypatch, name)
    yield f"s3://{name}"
    remove(client, name)


@pytest.fixture(params=["disk", "s3"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "lake") if request.param == "disk" else request.getfixturevalue("bucket") + "/shop/lake"


def resources(root: str) -> dict[str, object]:
    return {"io_manager": TableIO(root=root), "reference_io": ReferenceIO(root=root), "lake": Lake(root=root)}


@dg.asset(key_prefix="raw")
def products() -> pd.DataFrame:
    return FRAME


@dg.asset(key_prefix="matching", io_manager_key="reference_io")
def model() -> dict:
    return {"id": "abc", "location": "s3://x/y", "nested": {"n": 1}}


@dg.asset(partitions_def=FILES, key_prefix="uploads")
def lines(context: dg.AssetExecutionContext) -> pd.DataFrame:
    return FRAME.assign(file=context.partition_key)


def test_tables_references_and_partitions_are_read_back_as_they_were(root: str) -> None:
    seen: dict[str, object] = {}

    @dg.asset(
        io_manager_key="reference_io",
        ins={
            "products": dg.AssetIn(["raw", "products"]),
            "model": dg.AssetIn(["matching", "model"]),
            "lines": dg.AssetIn(["uploads", "lines"], metadata={"allow_missing_partitions": True}),
        },
    )
    def reader(products: pd.DataFrame, model: dict, lines: dict[str, pd.DataFrame]) -> dict:
        seen.update(products=products, model=model, lines=lines)
        return {}

    keys = ["acme/a.csv", "zeta/a.csv", "acme/never read.csv"]
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions("files", keys)
        assert dg.materialize([products, model], resources=resources(root)).success
        for key in keys[:2]:
            assert dg.materialize([lines], partition_key=key, instance=instance, resources=resources(root)).success
        graph = [products, model, lines, reader]
        assert dg.materialize(graph, instance=instance, selection=[reader], resources=resources(root)).success
    assert_frame_equal(seen["products"], FRAME)
    assert seen["model"] == {"id": "abc", "location": "s3://x/y", "nested": {"n": 1}}
    found = seen["lines"]
    assert isinstance(found, dict)
    assert set(found) == set(keys[:2]), "a partition that was never written is left out"
    assert_frame_equal(found["zeta/a.csv"], FRAME.assign(file=pd.Series(["zeta/a.csv"] * 3, dtype="str")))


@pytest.mark.parametrize("written", [[], ["acme/a.csv"], ["acme/a.csv", "zeta/a.csv"]])
@pytest.mark.parametrize("missing", [[], ["acme/bad.csv"]])
def test_a_dictionary_of_partitions_is_one_however_many_there_are(
    tmp_path: Path, written: list[str], missing: list[str]
) -> None:
    seen: dict[str, pd.DataFrame] = {}

    @dg.asset(ins={"lines": dg.AssetIn(["uploads", "lines"], metadata={"allow_missing_partitions": True})})
    def reader(lines: dict[str, pd.DataFrame]) -> None:
        seen.update(lines)

    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions("files", [*written, *missing])
        for key in written:
            dg.materialize([lines], partition_key=key, instance=instance, resources=resources(str(tmp_path)))
        run = {"selection": [reader], "instance": instance, "resources": resources(str(tmp_path))}
        assert dg.materialize([lines, reader], **run).success
    assert {key: set(frame["file"]) for key, frame in seen.items()} == {key: {key} for key in written}


def test_the_place_of_a_table_is_the_one_the_lake_names(root: str) -> None:
    dg.materialize([products, model], resources=resources(root))
    lake = Lake(root=root)
    assert lake.table_path(dg.AssetKey(["raw", "products"])).exists()
    assert (lake.path / "tables" / "matching" / "model.json").exists()
    names = {path.name for path in (lake.path / "tables" / "raw").iterdir()}
    assert names == {"products.parquet"}, "nothing is left beside it"


def test_artifacts_travel_to_the_lake_and_back(root: str, tmp_path: Path) -> None:
    lake, source = Lake(root=root), tmp_path / "model"
    (source / "sub").mkdir(parents=True)
    (source / "sub" / "weights.bin").write_bytes(bytes(range(256)))
    (source / "empty").write_bytes(b"")
    location = lake.publish("title_encoder", "abc", source)
    assert location == str(lake.artifact_path("title_encoder", "abc"))
    assert exists(location)
    assert not exists(lake.artifact_path("title_encoder", "abd"))
    local = lake.fetch(location)
    assert (local / "sub" / "weights.bin").read_bytes() == bytes(range(256))
    assert (local / "empty").read_bytes() == b""
    (source / "empty").write_bytes(b"changed")
    assert lake.publish("title_encoder", "abc", source) == location
    assert (lake.fetch(location) / "empty").read_bytes() == b"", "an id stands for its content"
    with pytest.raises(FileNotFoundError, match="never published"):
        lake.fetch(str(lake.artifact_path("title_encoder", "abd")))


@pytest.mark.parametrize("value", [["a"], "text", 7, {"a": 1}, np.zeros(3)])
def test_what_is_no_table_is_refused(tmp_path: Path, value: object) -> None:
    @dg.asset
    def wrong():
        return value

    with pytest.raises(TypeError, match="wrong: expected a DataFrame, not"):
        dg.materialize([wrong], resources=resources(str(tmp_path)))
    assert not list(tmp_path.rglob("*.parquet"))


@pytest.mark.parametrize("value", [FRAME, ["a"], "text", 7, object()])
def test_what_is_no_reference_is_refused(tmp_path: Path, value: object) -> None:
    @dg.asset(io_manager_key="reference_io")
    def wrong():
        return value

    with pytest.raises(TypeError, match="wrong: expected a reference, not"):
        dg.materialize([wrong], resources=resources(str(tmp_path)))
    assert not list(tmp_path.rglob("*.json"))


def test_a_table_that_was_never_written_is_an_error(tmp_path: Path) -> None:
    @dg.asset(ins={"products": dg.AssetIn(["raw", "products"])})
    def reader(products: pd.DataFrame) -> None: ...

    with pytest.raises(FileNotFoundError, match="raw/products was never materialized in this lake"):
        dg.materialize([products, reader], selection=[reader], resources=resources(str(tmp_path)))


@pytest.mark.parametrize(
    "key", ["../../raw/products", "/etc/passwd", "a/../../../x", "..", "acme/..", "%2Fetc", "a//b"]
)
def test_no_partition_leaves_its_table(tmp_path: Path, key: str) -> None:
    root, key = tmp_path / "deep" / "lake", key.replace("{tmp}", str(tmp_path))
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions("files", [key])
        dg.materialize([lines], partition_key=key, instance=instance, resources=resources(str(root)))
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(written) == 1
    assert written[0].resolve().is_relative_to(root / "tables" / "uploads" / "lines")


def test_keys_that_are_alike_have_places_of_their_own(tmp_path: Path) -> None:
    keys = ["acme/a.csv", "acme/a.CSV", "acme/a", "acme/a.csv.csv", "acme.a/csv", "/acme/a.csv", "../acme/a.csv"]
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions("files", keys)
        for key in keys:
            dg.materialize([lines], partition_key=key, instance=instance, resources=resources(str(tmp_path)))
    written = {pd.read_parquet(path)["file"].iloc[0] for path in tmp_path.rglob("*.parquet")}
    assert written == set(keys)


def test_a_write_that_fails_leaves_the_old_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dg.materialize([products], resources=resources(str(tmp_path)))
    path = Lake(root=str(tmp_path)).table_path(dg.AssetKey(["raw", "products"]))
    before = path.read_bytes()

    @dg.asset(key=["raw", "products"])
    def changed() -> pd.DataFrame:
        return FRAME.head(1)

    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space left"):
        dg.materialize([changed], resources=resources(str(tmp_path)))
    assert path.read_bytes() == before
    assert [file.name for file in Path(str(path)).parent.iterdir()] == ["products.parquet"]


SIZE = 8 << 20
_WRITE_FOR_EVER = f"""
import sys
from shelfwise.artifacts import atomic_write_bytes
for turn in range(10**9):
    atomic_write_bytes(sys.argv[1], bytes([turn % 251]) * {SIZE})
    if turn == 0:
        print("ready", flush=True)
"""


def test_a_killed_writer_leaves_the_old_table_or_the_new_and_readers_never_see_half(tmp_path: Path) -> None:
    table = tmp_path / "tables" / "raw" / "products.parquet"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    seen = set()
    for looks in (3, 7, 20):
        command = [sys.executable, "-c", _WRITE_FOR_EVER, str(table)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as process:
            assert process.stdout is not None
            try:
                process.stdout.readline()
                seen.update(_content_of_one_write(table) for _ in range(looks))
            finally:
                process.send_signal(signal.SIGKILL)
        seen.add(_content_of_one_write(table))
    assert len(seen) > 2, "the file was replaced while it was read"
    leftovers = [path.name for path in table.parent.iterdir() if path != table]
    assert all(name.startswith(".") and name.endswith(".tmp") for name in leftovers), "hidden from readers"


def _content_of_one_write(path: Path) -> int:
    data = path.read_bytes()
    assert len(data) == SIZE
    assert data.count(data[0]) == SIZE
    return data[0]


def test_scratch_space_stays_until_it_is_forgotten(tmp_path: Path) -> None:
    lake = Lake(root=str(tmp_path / "lake"))
    work = lake.work_directory("title_encoder", "abc")
    (work / "checkpoint").write_text("1")
    assert work.is_relative_to(tmp_path / "lake")
    assert (lake.work_directory("title_encoder", "abc") / "checkpoint").exists()
    lake.forget(work)
    assert not work.exists()
    lake.forget(work)


def test_scratch_space_of_a_lake_on_s3_is_on_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    first = Lake(root="s3://one/lake").work_directory("title_encoder", "abc")
    assert first.is_dir()
    assert first.is_relative_to(tmp_path)
