"""The data directory as a resource: the built-in catalog is made once, a user's own directory is only ever read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pandas as pd
import pytest

from assets.catalog import data_directory, feedback, mappings, products
from resources.lake import Lake, TableIO
from resources.source import DataDirectory, Uploads
from tests.s3 import point_at, remove

PRODUCTS = b"product_id,title,price,category\n1,Soap 75 cl,2.50,Care > Soap\n2,=cmd|' /C calc'!A0,,\n"
MAPPINGS = b"vendor_id,vendor_title,product_id\nv,SOAP 0.75L,1\n"


def fill(root: Path) -> None:
    (root / "uploads" / "acme").mkdir(parents=True)
    (root / "products.csv").write_bytes(PRODUCTS)
    (root / "mappings.csv").write_bytes(MAPPINGS)
    (root / "uploads" / "acme" / "a.csv").write_bytes(b"title\nsoap\n")


def contents(root: Path) -> dict[str, tuple[bytes, int]]:
    found = {}
    for path in sorted(root.rglob("*")):
        if path.is_file():
            found[path.relative_to(root).as_posix()] = (path.read_bytes(), path.stat().st_mtime_ns)
    return found


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "synthetic"
    assert DataDirectory(url=str(path), built_in=True, synthetic_products=300, synthetic_seed=3).ensure()
    return path


def test_the_built_in_catalog_is_made_once(made: Path) -> None:
    before = contents(made)
    assert {"products.csv", "mappings.csv", "synthetic.json"} <= set(before)
    assert not DataDirectory(url=str(made), built_in=True, synthetic_products=300, synthetic_seed=3).ensure()
    assert contents(made) == before
    assert json.loads(before["synthetic.json"][0])["config"]["n_products"] == 300


def test_its_vendor_files_are_no_uploads_until_somebody_drops_them(made: Path) -> None:
    assert list((made / "vendor_files").glob("*/*.csv"))
    assert Uploads(url=str(made)).store().list() == []


def test_another_size_is_made_anew_and_uploads_survive(made: Path) -> None:
    mine = made / "uploads" / "acme" / "mine.csv"
    mine.parent.mkdir(parents=True)
    mine.write_text("title\nsoap\n")
    assert DataDirectory(url=str(made), built_in=True, synthetic_products=220, synthetic_seed=3).ensure()
    assert mine.read_text() == "title\nsoap\n"
    assert len(pd.read_csv(made / "products.csv")) == 220
    assert [file.key for file in Uploads(url=str(made)).store().list()] == ["acme/mine.csv"]


def test_a_directory_of_ones_own_is_never_written_to(tmp_path: Path) -> None:
    fill(tmp_path / "mine")
    before = contents(tmp_path / "mine")
    source = DataDirectory(url=str(tmp_path / "mine"), built_in=False)
    assert not source.ensure()
    lake = str(tmp_path / "lake")
    assert materialize(str(tmp_path / "mine"), lake).success
    assert contents(tmp_path / "mine") == before
    assert not DataDirectory(url=str(tmp_path / "nowhere")).ensure()
    assert not (tmp_path / "nowhere").exists()


def test_files_that_are_no_catalog_are_not_replaced_by_the_built_in_one(tmp_path: Path) -> None:
    fill(tmp_path / "data")
    before = contents(tmp_path / "data")
    with pytest.raises(FileExistsError, match="it is no synthetic catalog, so it is left as it is"):
        DataDirectory(url=str(tmp_path / "data"), built_in=True, synthetic_products=300).ensure()
    assert contents(tmp_path / "data") == before


def test_the_limit_of_uploads_is_in_mebibytes(tmp_path: Path) -> None:
    uploads = Uploads(url=str(tmp_path), max_mb=3)
    assert uploads.max_bytes == uploads.store().max_bytes == 3 * 1024 * 1024


def materialize(url: str, lake: str, **options: object) -> dg.ExecuteInProcessResult:
    resources = {
        "source": DataDirectory(url=url),
        "lake": Lake(root=lake),
        "io_manager": TableIO(root=lake),
    }
    return dg.materialize([data_directory, products, mappings, feedback], resources=resources, **options)


@pytest.fixture
def s3(s3_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    client = point_at(s3_url, monkeypatch, "source")
    client.put_object(Bucket="source", Key="d/products.csv", Body=PRODUCTS)
    client.put_object(Bucket="source", Key="d/mappings.csv", Body=MAPPINGS)
    yield "s3://source"
    remove(client, "source")


def test_the_raw_tables_of_a_data_directory_on_s3_are_those_of_a_local_one(s3: str, tmp_path: Path) -> None:
    fill(tmp_path / "data")
    here = materialize(str(tmp_path / "data"), str(tmp_path / "lake"))
    there = materialize(f"{s3}/d", f"{s3}/lake")
    assert here.success
    assert there.success
    for name in ("products", "mappings", "feedback"):
        ours, theirs = (
            pd.read_parquet(str(Lake(root=root).table_path(dg.AssetKey(["raw", name]))))
            for root in (str(tmp_path / "lake"), f"{s3}/lake")
        )
        pd.testing.assert_frame_equal(ours, theirs)
    assert len(ours) == 0, "nobody answered yet"
    versions = [
        {e.asset_key: e.materialization.tags["dagster/data_version"] for e in run.get_asset_materialization_events()}
        for run in (here, there)
    ]
    assert versions[0][dg.AssetKey(["raw", "products"])] == versions[1][dg.AssetKey(["raw", "products"])]
