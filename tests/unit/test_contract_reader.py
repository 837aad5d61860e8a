"""Tables of a data directory: the same values from every format, and one clear error for everything that is off."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shelfwise.contract import TABLES, check_mappings, fingerprint, list_tables, read_table, schema
from shelfwise.contract.reader import DIRECTORY_TABLES
from shelfwise.contract.tables import KINDS, arrow_type
from shelfwise.errors import InputError

PRODUCTS = [
    {"product_id": "007", "title": "Earl Grey", "brand": "Tea & Co", "category": "Drinks > Tea", "price": 3.5},
    {"product_id": "8", "title": "Café noir, fort", "brand": None, "category": None, "price": None},
]


def write(folder: Path, name: str, records: list[dict]) -> None:
    path = folder / name
    frame = pd.DataFrame(records)
    match path.suffix:
        case ".csv":
            frame.to_csv(path, index=False)
        case ".parquet":
            frame.to_parquet(path, index=False)
        case ".json":
            path.write_text(json.dumps(records))
        case _:
            path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records))


def refused(folder: Path, name: str = "products") -> str:
    with pytest.raises(InputError) as caught:
        read_table(folder, name)
    return str(caught.value)


@pytest.mark.parametrize("extension", ["csv", "jsonl", "ndjson", "json", "parquet"])
def test_every_format_gives_the_same_frame(tmp_path: Path, extension: str) -> None:
    write(tmp_path, f"products.{extension}", PRODUCTS)
    read = read_table(tmp_path, "products")
    assert read.frame.columns.tolist() == TABLES["products"].names
    assert read.frame["product_id"].tolist() == ["007", "8"]
    assert read.frame["title"].tolist() == ["Earl Grey", "Café noir, fort"]
    assert read.frame["price"].iloc[0] == 3.5
    assert pd.isna(read.frame["price"].iloc[1])
    assert read.frame[["brand", "category"]].iloc[1].isna().all()
    assert read.frame["image"].isna().all()
    assert {name: str(dtype) for name, dtype in read.frame.dtypes.items()} == {
        column.name: KINDS[column.kind][1] for column in TABLES["products"].columns
    }
    assert read.repairs == []
    assert read.rows == 2
    assert read.source.endswith(f"products.{extension}")
    assert len(read.sha256) == 64


@pytest.mark.parametrize("name", [name for name in DIRECTORY_TABLES if name != "products"])
def test_an_optional_table_that_is_not_there_is_empty_and_typed(tmp_path: Path, name: str) -> None:
    write(tmp_path, "products.csv", PRODUCTS)
    read = read_table(tmp_path, name)
    assert not read.present
    assert len(read.frame) == 0
    schema(name).validate(read.frame)


def test_frames_can_be_written_as_parquet_in_the_stated_types(tmp_path: Path) -> None:
    write(tmp_path, "products.csv", PRODUCTS)
    for name in DIRECTORY_TABLES:
        columns = TABLES[name].columns
        wanted = pa.schema([(column.name, arrow_type(column.kind)) for column in columns])
        table = pa.Table.from_pandas(read_table(tmp_path, name).frame, schema=wanted, preserve_index=False)
        assert table.schema.names == TABLES[name].names


def test_mappings_get_an_id_and_their_row(tmp_path: Path) -> None:
    (tmp_path / "mappings.csv").write_text("vendor_id,vendor_title,product_id\nv,tea,1\nv,tea,1\nw,tea,1\n")
    frame = read_table(tmp_path, "mappings").frame
    assert frame["source_row"].tolist() == [2, 3, 4]
    assert frame["mapping_id"].is_unique
    (tmp_path / "mappings.csv").write_text("vendor_id,vendor_title,product_id\nx,new,9\nv,tea,1\nv,tea,1\nw,tea,1\n")
    later = read_table(tmp_path, "mappings").frame
    assert later["mapping_id"].tolist()[1:] == frame["mapping_id"].tolist(), "ids follow the content, not the row"


def test_interactions_and_feedback_are_typed(tmp_path: Path) -> None:
    (tmp_path / "interactions.csv").write_text(
        "session_id,product_id,event,timestamp\ns,1,view,2026-01-31T12:00:00+02:00\ns,1,view,2026-01-31 12:00\n"
    )
    read = read_table(tmp_path, "interactions")
    assert read.frame["timestamp"].tolist() == [
        pd.Timestamp("2026-01-31T10:00:00Z"),
        pd.Timestamp("2026-01-31T12:00:00Z"),
    ]
    assert [(repair.what, repair.count) for repair in read.repairs] == [("times without a zone were taken as UTC", 1)]
    answer = {"vendor_id": "v", "vendor_title": "t", "answered_at": "2026-01-31T12:00:00Z"}
    write(tmp_path, "feedback.jsonl", [{**answer, "rejected_product_ids": ["a", 2]}, {**answer, "product_id": "p"}])
    frame = read_table(tmp_path, "feedback").frame
    assert frame["rejected_product_ids"].tolist() == [["a", "2"], []]
    assert pd.isna(frame["product_id"].iloc[0])
    assert frame["feedback_id"].is_unique
    (tmp_path / "feedback.jsonl").unlink()
    (tmp_path / "feedback.csv").write_text(
        "vendor_id,vendor_title,answered_at,product_id,rejected_product_ids\nv,t,2026-01-31T12:00:00Z,,a| b\n"
    )
    assert read_table(tmp_path, "feedback").frame["rejected_product_ids"].tolist() == [["a", "b"]]


def test_timestamps_in_parquet_may_be_naive_or_zoned(tmp_path: Path) -> None:
    for zone in (None, "America/New_York"):
        times = pd.to_datetime(["2026-01-31T12:00:00"]).tz_localize(zone)
        frame = pd.DataFrame({"session_id": ["s"], "product_id": ["1"], "event": ["view"], "timestamp": times})
        frame.to_parquet(tmp_path / "interactions.parquet")
        hour = 12 if zone is None else 17
        read = read_table(tmp_path, "interactions")
        assert read.frame["timestamp"].tolist() == [pd.Timestamp(f"2026-01-31T{hour}:00:00Z")]
        assert bool(read.repairs) == (zone is None)


# text of products.csv, parts of the message
BAD_CSV: dict[str, tuple[str, list[str]]] = {
    "empty file": ("", ["an empty file", "product_id, title"]),
    "header only": ("product_id,title\n", ["at least one row", "a header only"]),
    "missing column": ("product_id,price\n1,2\n", ["row 1", "column 'title'", "'product_id', 'price'"]),
    "renamed column": ("product_id,titel\n1,a\n", ["'titel'", "did you mean 'title'"]),
    "renamed optional": ("product_id,title,categorie\n1,a,b\n", ["'categorie': did you mean 'category'"]),
    "wrong type": ("product_id,title,price\n1,a,2\n2,b,free\n", ["row 3", "column 'price'", "a number", "'free'"]),
    "blank id": ("product_id,title\n1,a\n,b\n", ["row 3", "column 'product_id'", "a value", "none"]),
    "blank title": ("product_id,title\n1,a\n2, \n", ["row 3", "column 'title'", "a value"]),
    "long title": ("product_id,title\n1," + "x" * 2001, ["row 2", "column 'title'", "at most 2,000", "2,001"]),
    "million-character title": ("product_id,title\n1," + "x" * 1_000_000, ["row 2", "column 'title'", "1,000,000"]),
    "conflicting ids": ("product_id,title\n1,a\n2,b\n1,c\n", ["row 4", "'1' also in row 2", "another title", "'c'"]),
    "conflict with a blank": ("product_id,title,brand\n1,a,b\n1,a,\n", ["row 3", "also in row 2", "another brand"]),
    "ragged": ("product_id,title\n1,a\n2,b,c\n", ["row 3", "2 fields", "3 fields"]),
    "NUL": ("product_id,title\n1,a\0b\n", ["row 2", "column 'title'", "NUL"]),
    "category with a hole": ("product_id,title,category\n1,a,A > > C\n", ["row 2", "column 'category'", "A > B > C"]),
}


@pytest.mark.parametrize(("text", "parts"), BAD_CSV.values(), ids=BAD_CSV.keys())
def test_bad_csv_tables_are_refused(tmp_path: Path, text: str, parts: list[str]) -> None:
    (tmp_path / "products.csv").write_text(text)
    message = refused(tmp_path)
    for part in ["products.csv", "expected", *parts]:
        assert part in message


LISTINGS = "listing_id,title,category"
BAD_LISTINGS: dict[str, tuple[str, list[str]]] = {
    "no category column": ("listing_id,title,class\n1,a,b\n", ["column 'category'", "did you mean 'category'"]),
    "no category": (f"{LISTINGS}\n1,a,A > B\n2,b,\n", ["row 3", "column 'category'", "a value", "none"]),
    "a hole in the path": (f"{LISTINGS}\n1,a,A\n2,b,A >  > C\n", ["row 3", "column 'category'", "levels"]),
    "a hole among several": (f"{LISTINGS}\n1,a,A | B\n2,b,A |  | C\n", ["row 3", "column 'category'", "paths", "A |"]),
    "nothing after the bar": (f"{LISTINGS}\n1,a,A |\n", ["row 2", "column 'category'", "paths"]),
    "a path that ends at the bar": (f"{LISTINGS}\n1,a,A > | B\n", ["row 2", "column 'category'", "paths"]),
    "no title column": ("listing_id,name,category\n1,a,A\n", ["column 'title'"]),
    "long seller": (f"{LISTINGS},seller_id\n1,a,A,{'s' * 201}\n", ["row 2", "column 'seller_id'", "at most 200"]),
    "one id twice": (f"{LISTINGS}\n1,a,A\n1,a,B\n", ["row 3", "'1' also in row 2", "another category"]),
    "renamed optional": (f"{LISTINGS},seller\n1,a,A,s\n", ["'seller': did you mean 'seller_id'"]),
}


@pytest.mark.parametrize(("text", "parts"), BAD_LISTINGS.values(), ids=BAD_LISTINGS.keys())
def test_bad_listings_are_refused(tmp_path: Path, text: str, parts: list[str]) -> None:
    (tmp_path / "listings.csv").write_text(text)
    message = refused(tmp_path, "listings")
    for part in ["listings.csv", "expected", *parts]:
        assert part in message


def test_listings_have_one_or_several_categories_and_maybe_a_seller(tmp_path: Path) -> None:
    text = f"{LISTINGS},seller_id,image\n1,a,A > B | C,s1,images/x.png\n2,b,Nuts|Bolts,,\n"
    (tmp_path / "listings.csv").write_text(text)
    read = read_table(tmp_path, "listings")
    assert read.frame["category"].tolist() == ["A > B | C", "Nuts|Bolts"]
    assert read.frame["seller_id"].tolist()[0] == "s1"
    assert read.frame[["seller_id", "image", "description"]].iloc[1].isna().all()
    assert not read.repairs
    (tmp_path / "listings.csv").write_text(f"{LISTINGS}\n")
    assert read_table(tmp_path, "listings").frame.empty
    (tmp_path / "listings.csv").unlink()
    nothing = read_table(tmp_path, "listings")
    assert (nothing.present, nothing.source) == (False, "no listings table was given")
    assert list(nothing.frame) == TABLES["listings"].names


def test_a_listing_needs_no_title(tmp_path: Path) -> None:
    """Whether a description or a picture (maybe one that bears its id) is left is known only later: none is refused."""
    text = f"{LISTINGS},description,image\n1, ,A,a soap,\n2,,A,,images/x.png\n3,,A,,\n4,Milk,B,,\n"
    (tmp_path / "listings.csv").write_text(text)
    read = read_table(tmp_path, "listings")
    assert read.frame["title"].isna().tolist() == [True, True, True, False]
    assert read.frame["listing_id"].tolist() == ["1", "2", "3", "4"]
    assert not read.repairs
    (tmp_path / "listings.csv").unlink()
    (tmp_path / "listings.jsonl").write_text('{"listing_id": "1", "title": null, "category": "A"}\n')
    assert read_table(tmp_path, "listings").frame["title"].isna().all()


def _json(**values: object) -> str:
    return json.dumps({"product_id": "1", "title": "a", **values})


BAD_JSON: dict[str, tuple[str, list[str]]] = {
    "empty file": ("", ["an empty file"]),
    "no object": ('{"product_id": "1", "title": "a"}\n[1]\n', ["row 2", "one JSON object per line", "[1]"]),
    "cut": (f'{_json()}\n{{"product_id"', ["row 2", "one JSON object per line"]),
    "missing column": ('{"product_id": "1", "name": "a"}', ["a column 'title'", "did you mean 'title' by 'name'"]),
    "value missing in one": (f'{_json()}\n{{"product_id": "2"}}', ["row 2", "column 'title'", "a value"]),
    "bool for text": (_json(title=True), ["row 1", "column 'title'", "text", "bool True"]),
    "list for text": (f"{_json()}\n{_json(product_id='2', title=['a'])}", ["row 2", "column 'title'", "list"]),
    "fraction for id": (f"{_json()}\n{_json(product_id=1.5)}", ["row 2", "column 'product_id'", "float 1.5"]),
    "text for price": (f"{_json()}\n{_json(product_id='2', price='free')}", ["row 2", "column 'price'", "'free'"]),
    "object for price": (_json(price={"eur": 1}), ["row 1", "column 'price'", "a number", "dict"]),
    "NaN": ('{"product_id": "1", "title": "a", "price": NaN}', ["row 1", "NaN is not JSON"]),
    "half a surrogate": ('{"product_id": "1", "title": "a\\ud800"}', ["row 1", "column 'title'", "Unicode"]),
    "NUL": (_json(title="a\0b"), ["row 1", "column 'title'", "NUL"]),
    "too deep": ("[" * 100_000, ["JSON"]),
    "million-character title": (_json(title="x" * 1_000_000), ["row 1", "column 'title'", "1,000,000 characters"]),
    "workbook": ("PK\x03\x04 xl/workbook.xml", ["an Excel workbook"]),
}


@pytest.mark.parametrize(("text", "parts"), BAD_JSON.values(), ids=BAD_JSON.keys())
def test_bad_json_tables_are_refused(tmp_path: Path, text: str, parts: list[str]) -> None:
    (tmp_path / "products.jsonl").write_text(text)
    message = refused(tmp_path)
    for part in ["products.jsonl", "expected", *parts]:
        assert part in message


BAD_PARQUET: dict[str, tuple[dict, list[str]]] = {
    "missing column": ({"product_id": ["1"], "titles": ["a"]}, ["a column 'title'", "did you mean 'title'"]),
    "fractions for ids": ({"product_id": [1.0, 2.0], "title": ["a", "b"]}, ["row 1", "column 'product_id'", "float"]),
    "bool for title": ({"product_id": ["1"], "title": [True]}, ["row 1", "column 'title'", "bool True"]),
    "text for price": ({"product_id": ["1"], "title": ["a"], "price": ["x"]}, ["row 1", "column 'price'", "'x'"]),
    "infinite price": ({"product_id": ["1"], "title": ["a"], "price": [float("inf")]}, ["row 1", "finite"]),
    "no rows": ({"product_id": [], "title": []}, ["at least one row"]),
    "null id": ({"product_id": ["1", None], "title": ["a", "b"]}, ["row 2", "column 'product_id'", "a value"]),
}


@pytest.mark.parametrize(("columns", "parts"), BAD_PARQUET.values(), ids=BAD_PARQUET.keys())
def test_bad_parquet_tables_are_refused(tmp_path: Path, columns: dict, parts: list[str]) -> None:
    pq.write_table(pa.table(columns), tmp_path / "products.parquet")
    message = refused(tmp_path)
    for part in ["products.parquet", "expected", *parts]:
        assert part in message


def test_a_damaged_parquet_file_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "products.parquet", PRODUCTS)
    path = tmp_path / "products.parquet"
    for data in (b"", b"product_id,title\n1,a\n", path.read_bytes()[:-100]):
        path.write_bytes(data)
        assert "products.parquet: expected a Parquet file" in refused(tmp_path)


@pytest.mark.parametrize("value", ["yesterday", "31.01.2026", "1769860800", "2026-02-30"])
def test_bad_times_are_refused(tmp_path: Path, value: str) -> None:
    header = "session_id,product_id,event,timestamp\ns,1,view,2026-01-01T00:00:00Z\n"
    (tmp_path / "interactions.csv").write_text(f"{header}s,1,view,{value}\n")
    message = refused(tmp_path, "interactions")
    assert "interactions.csv, row 3, column 'timestamp': expected a time such as" in message
    assert f"'{value}'" in message


def test_repairs_are_counted_with_examples(tmp_path: Path) -> None:
    (tmp_path / "products.csv").write_text(
        'Product_ID; title ;price;colour\n1;CafÃ©;"12,50 €";x\n1;CafÃ©;"12,50 €";y\n\n2;Tea;3;\n'
    )
    read = read_table(tmp_path, "products")
    assert read.frame["title"].tolist() == ["Café", "Tea"]
    assert read.frame["price"].tolist() == [12.5, 3.0]
    said = {repair.what: (repair.count, repair.examples) for repair in read.repairs}
    assert said["blank rows were skipped"] == (1, ("row 4",))
    assert said["columns outside the contract were left out"] == (1, ("colour",))
    assert said["wrongly decoded text in column 'title' was mended"][0] == 2
    assert said["column 'price' was read as numbers"] == (2, ("row 2 '12,50 €' as 12.5", "row 3 '12,50 €' as 12.5"))
    assert said["identical rows with one id were collapsed"] == (1, ("row 3 repeats row 2",))
    assert len(said) == 5


def test_whole_numbers_as_ids_are_read_as_text(tmp_path: Path) -> None:
    write(tmp_path, "products.jsonl", [{"product_id": 7, "title": "a"}, {"product_id": "x", "title": 2**70}])
    assert read_table(tmp_path, "products").frame["product_id"].tolist() == ["7", "x"]
    (tmp_path / "products.jsonl").unlink()
    write(tmp_path, "products.parquet", [{"product_id": 7, "title": "a"}, {"product_id": 8, "title": "b"}])
    read = read_table(tmp_path, "products")
    assert read.frame["product_id"].tolist() == ["7", "8"]
    assert [(repair.what, repair.count) for repair in read.repairs] == [
        ("numbers in column 'product_id' were read as text", 2)
    ]


def test_two_files_for_one_table_are_refused_by_name(tmp_path: Path) -> None:
    write(tmp_path, "products.csv", PRODUCTS)
    write(tmp_path, "products.parquet", PRODUCTS)
    message = refused(tmp_path)
    assert "'products.csv' and 'products.parquet'" in message


def test_missing_tables_and_directories_are_named(tmp_path: Path) -> None:
    (tmp_path / "notes.csv").write_text("x")
    message = refused(tmp_path)
    for part in (str(tmp_path), "products.csv, products.jsonl", "notes.csv"):
        assert part in message
    assert "a data directory" in refused(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="no table 'prices'"):
        read_table(tmp_path, "prices")


def test_a_file_nearly_named_as_a_table_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "products.csv", PRODUCTS)
    (tmp_path / "mapping.csv").write_text("vendor_id,vendor_title,product_id\n")
    assert "expected a file mappings.csv; found 'mapping.csv': rename it" in refused(tmp_path)
    (tmp_path / "mapping.csv").rename(tmp_path / "Mappings.CSV")
    assert read_table(tmp_path, "mappings").present


def test_a_file_that_disappears_between_listing_and_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "products.csv", PRODUCTS)
    listed = list_tables(tmp_path)
    (tmp_path / "products.csv").unlink()
    monkeypatch.setattr("shelfwise.contract.reader.list_tables", lambda root: listed)
    assert "disappeared between listing and reading" in refused(tmp_path)


def test_a_failed_read_leaves_the_input_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "products.csv").write_text("product_id,title\n1,a\n1,b\n")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    refused(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_fingerprint_and_version_follow_the_content(tmp_path: Path) -> None:
    write(tmp_path, "products.csv", PRODUCTS)
    (tmp_path / "readme.txt").write_text("x")
    first, version = fingerprint(tmp_path), read_table(tmp_path, "products").version
    assert list(first) == ["products.csv"]
    assert first["products.csv"] == read_table(tmp_path, "products").sha256
    write(tmp_path, "products.csv", PRODUCTS)
    assert (fingerprint(tmp_path), read_table(tmp_path, "products").version) == (first, version)
    write(tmp_path, "products.csv", PRODUCTS[:1])
    assert fingerprint(tmp_path) != first
    assert read_table(tmp_path, "products").version != version


def _mappings(*products: str | None) -> pd.DataFrame:
    return pd.DataFrame({"product_id": pd.Series(products, dtype="str"), "source_row": range(2, len(products) + 2)})


def test_mappings_to_unknown_products_are_set_aside_and_counted() -> None:
    products = pd.DataFrame({"product_id": ["1", "2"]})
    kept, repairs = check_mappings(_mappings("1", "2", "1", "9", None), products)
    assert kept["source_row"].tolist() == [2, 3, 4, 6], "a row without a product says that it matches nothing"
    assert [(repair.count, repair.examples) for repair in repairs] == [(1, ("row 5: '9'",))]
    everything, none = check_mappings(_mappings("1", "2"), products)
    assert (len(everything), none) == (2, [])


def test_too_many_unknown_products_are_an_error() -> None:
    products = pd.DataFrame({"product_id": ["1", "2"]})
    with pytest.raises(InputError) as caught:
        check_mappings(_mappings("1", "2", "8", "9"), products, file="mappings.csv")
    for part in ("mappings.csv", "column 'product_id'", "at most 20%", "50% (2 of 4 rows)", "row 4", "'8'"):
        assert part in str(caught.value)
    assert len(check_mappings(_mappings("1", "2", "8", "9"), products, max_unknown_share=0.5)[0]) == 2


def test_every_contract_column_is_described() -> None:
    for table in TABLES.values():
        described = schema(table.name).columns
        assert list(described) == table.names
        assert all(column.description for column in described.values())
