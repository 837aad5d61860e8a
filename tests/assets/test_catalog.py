"""The raw tables as assets: what a bad data directory gets, and what it does not cost."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import pandas as pd
import pytest

from assets.catalog import data_directory, feedback, listings, mappings, product_profile, products
from assets.checks import known_products
from resources.lake import Lake, ReferenceIO, TableIO
from resources.source import DataDirectory
from shelfwise.feedback import record_feedback

GRAPH = [data_directory, products, mappings, listings, feedback, product_profile, known_products]
PRODUCTS = "product_id,title,brand,category,price\n1,Soap 75 cl,Acme,Care > Soap,2.5\n2,Milk 1 l,,Food > Milk,0.9\n"
MAPPINGS = "vendor_id,vendor_title,product_id\nv1,SOAP 0.75L,1\nv2,milk 1000ml,2\n"


class Directory:
    """A data directory, and a lake that its raw tables are materialized into."""

    def __init__(self, base: Path) -> None:
        self.data, self.lake = base / "data", base / "lake"
        self.data.mkdir()
        self.write(products=PRODUCTS, mappings=MAPPINGS)

    def write(self, **tables: str | bytes) -> None:
        for name, content in tables.items():
            data = content if isinstance(content, bytes) else content.encode()
            (self.data / f"{name}.csv").write_bytes(data)

    def materialize(self, selection: list | None = None) -> dg.ExecuteInProcessResult:
        lake = str(self.lake)
        resources = {
            "source": DataDirectory(url=str(self.data)),
            "lake": Lake(root=lake),
            "io_manager": TableIO(root=lake),
            "reference_io": ReferenceIO(root=lake),
        }
        return dg.materialize(GRAPH, resources=resources, selection=selection, raise_on_error=False)

    def table(self, name: str) -> pd.DataFrame:
        return pd.read_parquet(self.lake / "tables" / "raw" / f"{name}.parquet")


@pytest.fixture
def directory(tmp_path: Path) -> Directory:
    return Directory(tmp_path)


def versions(result: dg.ExecuteInProcessResult) -> dict[str, str]:
    events = result.get_asset_materialization_events()
    return {
        e.asset_key.path[-1]: e.materialization.tags["dagster/data_version"]
        for e in events
        if "dagster/data_version" in (e.materialization.tags or {})
    }


def failure(result: dg.ExecuteInProcessResult, step: str) -> str:
    """The message of the first cause of a step's failure."""
    data = result.failure_data_for_node(step)
    assert data is not None
    assert data.error is not None
    error = data.error
    while error.cause is not None:
        error = error.cause
    return error.message


def result_of(result: dg.ExecuteInProcessResult, check: str) -> dg.AssetCheckEvaluation:
    """The evaluation of one check."""
    return next(one for one in result.get_asset_check_evaluations() if one.check_name == check)


def test_tables_are_read_and_reported(directory: Directory) -> None:
    result = directory.materialize()
    assert result.success
    metadata = {e.asset_key.path[-1]: e.materialization.metadata for e in result.get_asset_materialization_events()}
    assert set(metadata) == {"data_directory", "products", "mappings", "listings", "feedback", "product_profile"}
    for name, rows in {"products": 2, "mappings": 2, "listings": 0, "feedback": 0}.items():
        assert metadata[name]["dagster/row_count"].value == rows
        columns = metadata[name]["dagster/column_schema"].value.columns
        assert [column.name for column in columns] == list(directory.table(name).columns)
        assert isinstance(metadata[name]["domain_seconds"], dg.FloatMetadataValue)
    profile = metadata["product_profile"]
    assert profile["products"] == dg.FloatMetadataValue(2.0)
    assert profile["missing_brand_share"] == dg.FloatMetadataValue(0.5)
    assert profile["picture"].value.startswith("![product profile](data:image/png;base64,iVBOR")
    assert "products.csv" in metadata["data_directory"]["files"].value
    check = result_of(result, "known_products")
    assert check.passed


def test_optional_columns_and_tables_are_always_there(directory: Directory) -> None:
    (directory.data / "mappings.csv").unlink()
    assert directory.materialize().success
    assert list(directory.table("products")) == [
        "product_id", "title", "brand", "category", "description", "price", "size", "image",
    ]  # fmt: skip
    assert list(directory.table("mappings")) == ["mapping_id", "vendor_id", "vendor_title", "product_id", "source_row"]
    assert len(directory.table("mappings")) == 0


def test_listings_know_their_pictures_and_without_listings_it_is_said_what_stands_in(directory: Directory) -> None:
    def metadata() -> dict[str, dg.MetadataValue]:
        (event,) = directory.materialize([listings]).get_asset_materialization_events()
        return dict(event.materialization.metadata)

    assert "products of the catalog" in metadata()["stand_in"].value
    assert list(directory.table("listings")) == [
        "listing_id", "title", "description", "category", "image", "seller_id",
    ]  # fmt: skip
    text = "listing_id,title,category,image\nl1,,Care,\nl2,Milk,Food,images/other.png\nl3,Tea,Food | Drinks,\n"
    directory.write(listings=text)
    (directory.data / "images").mkdir()
    told = metadata()
    assert "stand_in" not in told
    assert told["pictures_found_by_id"].value == 0
    assert (told["without_title"].value, told["without_words_or_picture"].value) == (1, 1)
    (directory.data / "images" / "l1.png").write_bytes(b"x")
    (directory.data / "images" / "l2.jpg").write_bytes(b"x")
    told = metadata()
    assert told["pictures_found_by_id"].value == 1
    assert told["without_words_or_picture"].value == 0, "its picture bears its id"
    images = directory.table("listings")["image"]
    assert images.tolist()[:2] == ["images/l1.png", "images/other.png"]
    assert images.isna().tolist() == [False, False, True]


def test_the_version_of_a_table_follows_its_content_and_nothing_else(directory: Directory) -> None:
    first = versions(directory.materialize())
    directory.write(products=PRODUCTS)
    assert versions(directory.materialize()) == first
    directory.write(products=PRODUCTS.replace("Milk", "Cream"))
    changed = versions(directory.materialize())
    assert changed["products"] != first["products"]
    assert changed["data_directory"] != first["data_directory"]
    assert changed["mappings"] == first["mappings"]


@pytest.mark.parametrize(
    ("table", "content", "parts"),
    [
        ("products", "product_id,name\n1,Soap\n", ["products.csv", "'title'"]),
        ("products", "product_id,title,price\n1,Soap,2.5\n2,Milk,cheap\n", ["products.csv, row 3, column 'price'"]),
        ("products", "product_id,title\n1,Soap\n1,Milk\n", ["products.csv, row 3, column 'product_id'"]),
        ("products", "", ["products.csv", "empty"]),
        ("products", "product_id,title\n", ["products.csv", "header only"]),
        ("products", b"PK\x03\x04" + b"\0" * 200, ["products.csv", "CSV"]),
        ("listings", "listing_id,title,category\n1,Soap,Care\n2,Milk,\n", ["listings.csv, row 3, column 'category'"]),
        ("mappings", "vendor,title,product\nv,a,1\n", ["mappings.csv", "'vendor_id'"]),
        ("mappings", "vendor_id,vendor_title,product_id\nv1,SOAP,1\nv2,milk,2,3,4\n", ["mappings.csv, row 3"]),
    ],
)
def test_a_bad_table_is_named_and_the_last_good_one_stays(
    directory: Directory, table: str, content: str | bytes, parts: list[str]
) -> None:
    assert directory.materialize().success
    before = {path: path.read_bytes() for path in directory.lake.rglob("*") if path.is_file()}
    directory.write(**{table: content})
    result = directory.materialize([products, mappings, listings])
    assert not result.success
    message = failure(result, f"raw__{table}")
    assert all(part in message for part in parts), message
    after = {path: path.read_bytes() for path in directory.lake.rglob("*") if path.is_file()}
    assert (
        after[directory.lake / "tables/raw" / f"{table}.parquet"]
        == before[directory.lake / "tables/raw" / f"{table}.parquet"]
    )
    assert set(after) == set(before)


def test_a_data_directory_that_is_not_there_is_named(directory: Directory) -> None:
    for path in directory.data.iterdir():
        path.unlink()
    directory.data.rmdir()
    result = directory.materialize()
    assert str(directory.data) in failure(result, "raw__data_directory")


def test_few_mappings_to_strangers_are_a_warning_and_many_stop_everything(directory: Directory) -> None:
    many = [f"v1,soap {number},1\n" for number in range(99)]
    directory.write(mappings=MAPPINGS + "".join(many) + "v9,what,77\n")
    result = directory.materialize()
    check = result_of(result, "known_products")
    assert result.success
    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert check.metadata["set_aside"].value == 1
    assert "'77'" in (check.description or "")
    directory.write(mappings=MAPPINGS + "v9,what,77\nv9,who,78\nv9,how,79\n")
    result = directory.materialize()
    check = result_of(result, "known_products")
    assert not result.success
    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.ERROR)
    assert "mappings" in (check.description or "")


def test_an_answer_in_the_inbox_becomes_a_row_and_rubbish_is_named(directory: Directory) -> None:
    inbox = directory.lake / "feedback"
    record_feedback(inbox, vendor_id="v1", vendor_title="SOAP", product_id="1", answered_by="ann")
    record_feedback(inbox, vendor_id="v1", vendor_title="sope", product_id=None, rejected_product_ids=["1", "2"])
    assert directory.materialize([feedback]).success
    frame = directory.table("feedback")
    assert frame["product_id"].tolist()[0] == "1"
    assert frame["product_id"].isna().tolist() == [False, True]
    assert list(frame["rejected_product_ids"].iloc[1]) == ["1", "2"]
    (check,) = directory.materialize([feedback]).get_asset_check_evaluations()
    assert (check.passed, check.severity) == (True, dg.AssetCheckSeverity.WARN)
    (inbox / "broken.json").write_text("{")
    record_feedback(inbox, vendor_id="v1", vendor_title="new", product_id="77")
    result = directory.materialize([products, feedback])
    assert result.success, "what is wrong with one file stops no other"
    assert len(directory.table("feedback")) == 3
    record_feedback(inbox, vendor_id="v1", vendor_title="soap", product_id="2", answered_by="bob")
    (check,) = directory.materialize([feedback]).get_asset_check_evaluations()
    assert not check.passed
    assert "broken.json" in (check.description or "")
    told = check.metadata["problems"].value
    assert all(part in told for part in ("broken.json", "a whole JSON file", "product_id", "77 (v1: new)"))
    torn = check.metadata["contradictions"].value
    assert all(part in torn for part in ("soap", "the latest", "2 (bob", "1 (ann"))
