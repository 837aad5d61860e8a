"""The data contract: which tables a data directory holds, their columns, types and limits, as pandera schemas.

| Table | Columns (? = optional) | Key |
| --- | --- | --- |
| `products` | product_id, title, brand?, category?, description?, price?, size?, image? | product_id |
| `mappings` | vendor_id, vendor_title, product_id, mapping_id? | mapping_id |
| `listings` | listing_id, title, category, description?, image?, seller_id? | listing_id |
| `interactions` | session_id, product_id, event, timestamp, user_id? | none |
| `feedback` | vendor_id, vendor_title, product_id, answered_at, answered_by?, rejected_product_ids? | feedback_id? |
| uploads | title, sku?, brand?, description?, price?, image?, product_id? (the truth, for benchmarks) | none |

Only `products` has to be there. In feedback a blank product_id says that the line matches nothing, and the rejected ids
are a list, in CSV written "a|b". A listing with several right categories has them in one cell, "A > B | A > C". What a
reader meets, and what it does:

| Found | Tables | Uploads |
| --- | --- | --- |
| column missing, or nearly named as one | error with a suggestion | same |
| column name in other case or with space around | read | same |
| column outside the contract | left out (repair) | same |
| column given twice, or values under no name | error | same |
| empty file | error | same |
| header only | error for products, else none | error |
| two files for one table | error naming both |  |
| wrong type (a price that is no number, ...) | error naming row and column | same |
| price with currency or decimal comma ("12,50 €") | read as a number (repair) | same |
| whole number as id (JSON, Parquet) | read as text (repair) |  |
| time without zone | read as UTC (repair) |  |
| id over 200 characters, title or brand over 2,000, description over 100,000 | error naming the row | same |
| category path with a blank level, or a blank one among several | error naming the row |  |
| blank id or title | error naming the row | up to 5 % of rows left out (repair), else error |
| listing without a category | error naming the row |  |
| listing without a title | read; without description and picture too it is not learned from |  |
| rows with one id: identical | one is kept (repair) | lines may repeat |
| rows with one id: different | error naming both rows |  |
| mapping to an unknown product | set aside (repair); over 20 %: error |  |
| UTF-16, UTF-32, Windows-1252, other code pages | read (repair) | same |
| UTF-8 with some broken bytes | error naming the rows | same |
| UTF-8 that was read as Windows-1252 ("CafÃ©") | mended (repair) | same |
| NUL byte | error naming row and column | same |
| ragged row, open or stray quote | error naming the row | same |
| empty fields after the last column | left out (repair) | same |
| blank row | skipped (repair) | same |
| space around a value | removed | same |
| Excel, zip, gzip, PDF, ... under another name | error; never unpacked | same |
| file too large, too many rows |  | error |
| cell that a spreadsheet would run ("=HYPERLINK") | kept, harmless when exported | same |

Rows are counted as a spreadsheet shows them: the header of a CSV file is row 1. In JSON Lines the row is the line, in
a JSON array or a Parquet file (which have no header) the first record is row 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pyarrow as pa

from shelfwise.contract.repairs import shorten
from shelfwise.contract.tabular import ProblemList
from shelfwise.errors import Problem

if TYPE_CHECKING:
    import pandera.pandas

MAX_ID = 200
MAX_TITLE = 2_000
MAX_TEXT = 100_000

# What each kind of column is called in messages, and the pandas type it has once read.
KINDS = {
    "id": ("text", "str"),
    "title": ("text", "str"),
    "text": ("text", "str"),
    "category": ("text", "str"),
    "categories": ("text", "str"),
    "price": ("a number", "float64"),
    "time": ("a time such as 2026-01-31T12:00:00Z", "datetime64[us, UTC]"),
    "ids": ("a list of ids", "object"),
    "row": ("a whole number", "int64"),
}


@dataclass(frozen=True)
class ColumnSpec:
    """One column of the contract. `made` columns are filled by the reader where the file does not have them."""

    name: str
    kind: str
    meaning: str
    required: bool = False
    nullable: bool = True
    limit: int = MAX_TITLE
    made: bool = False


@dataclass(frozen=True)
class TableSpec:
    """One table of the contract: its columns, in order, and the column that identifies a row (if any)."""

    name: str
    columns: tuple[ColumnSpec, ...]
    key: str | None = None
    required: bool = False
    may_be_empty: bool = True

    @property
    def names(self) -> list[str]:
        return [column.name for column in self.columns]

    @property
    def in_file(self) -> list[str]:
        """Columns that a file may have."""
        return [column.name for column in self.columns if column.kind != "row"]

    @property
    def required_names(self) -> list[str]:
        return [column.name for column in self.columns if column.required]

    def column(self, name: str) -> ColumnSpec:
        return next(column for column in self.columns if column.name == name)


def _id(name: str, meaning: str, *, required: bool = True, nullable: bool = False, made: bool = False) -> ColumnSpec:
    return ColumnSpec(name, "id", meaning, required, nullable, MAX_ID, made)


def _title(name: str, meaning: str) -> ColumnSpec:
    return ColumnSpec(name, "title", meaning, required=True, nullable=False)


_BRAND = ColumnSpec("brand", "text", "brand or maker")
_DESCRIPTION = ColumnSpec("description", "text", "longer text", limit=MAX_TEXT)
_PRICE = ColumnSpec("price", "price", "price, in whatever currency the catalog uses")
_IMAGE = ColumnSpec("image", "text", "path or URL of a picture")
_CATEGORY = 'category path, "A > B > C"'
_CATEGORIES = 'category path, "A > B > C"; several right ones as "A > B | A > C"'

TABLES: dict[str, TableSpec] = {
    table.name: table
    for table in (
        TableSpec(
            "products",
            (
                _id("product_id", "the product's id"),
                _title("title", "the product's name"),
                _BRAND,
                ColumnSpec("category", "category", _CATEGORY),
                _DESCRIPTION,
                _PRICE,
                ColumnSpec("size", "text", "size or pack as written, such as 6 x 330 ml"),
                _IMAGE,
            ),
            key="product_id",
            required=True,
            may_be_empty=False,
        ),
        TableSpec(
            "mappings",
            (
                _id("mapping_id", "id of the mapping, made from its content if absent", required=False, made=True),
                _id("vendor_id", "the vendor's id"),
                _title("vendor_title", "the line as the vendor wrote it"),
                _id("product_id", "the product it was mapped to"),
                ColumnSpec("source_row", "row", "row in the file", nullable=False, made=True),
            ),
            key="mapping_id",
        ),
        TableSpec(
            "listings",
            (
                _id("listing_id", "the listing's id"),
                ColumnSpec("title", "title", "the listing's title, blank where it has none", required=True),
                _DESCRIPTION,
                ColumnSpec("category", "categories", _CATEGORIES, required=True, nullable=False, limit=MAX_TEXT),
                ColumnSpec("image", "text", "file of the picture in the data directory; else images/<listing_id>.jpg"),
                _id("seller_id", "who listed it and chose the category", required=False, nullable=True),
            ),
            key="listing_id",
        ),
        TableSpec(
            "interactions",
            (
                _id("session_id", "the session or basket"),
                _id("product_id", "the product"),
                ColumnSpec("event", "text", "what happened: view, cart, purchase, ...", True, False, MAX_ID),
                ColumnSpec("timestamp", "time", "when, in UTC", True, False),
                _id("user_id", "the user, if known", required=False, nullable=True),
            ),
        ),
        TableSpec(
            "feedback",
            (
                _id("feedback_id", "id of the answer, made from its content if absent", required=False, made=True),
                _id("vendor_id", "the vendor's id"),
                _title("vendor_title", "the line that was answered"),
                _id("product_id", "the product it is; blank = it matches nothing", nullable=True),
                ColumnSpec("rejected_product_ids", "ids", "products it is not", limit=MAX_ID),
                ColumnSpec("answered_by", "text", "who answered", limit=MAX_ID),
                ColumnSpec("answered_at", "time", "when, in UTC", True, False),
            ),
            key="feedback_id",
        ),
        TableSpec(
            "uploads",
            (
                _title("title", "the line as the vendor writes it"),
                _id("sku", "the vendor's own number", required=False, nullable=True),
                _BRAND,
                _DESCRIPTION,
                _PRICE,
                # As long as a description may be: a picture that cannot be read, such as a data URL, refuses no file.
                ColumnSpec("image", "text", "file of the picture below images/ of the data directory", limit=MAX_TEXT),
                _id("product_id", "the truth, where known; blank = matches nothing", required=False, nullable=True),
            ),
            may_be_empty=False,
        ),
    )
}
DIRECTORY_TABLES = tuple(name for name in TABLES if name != "uploads")


@cache
def schema(name: str) -> pandera.pandas.DataFrameSchema:
    """The pandera schema of a table once read: every column present and typed, limits and nullability as above."""
    import pandera.pandas as pandera

    columns = {}
    for column in TABLES[name].columns:
        checks = []
        if column.kind in ("id", "title", "text", "category", "categories"):
            checks.append(
                pandera.Check.str_length(max_value=column.limit, error=f"at most {column.limit:,} characters")
            )
        if column.kind in ("category", "categories"):
            checks.append(
                pandera.Check(_no_blank_level, ignore_na=True, error='levels "A > B > C" none of which is blank')
            )
        if column.kind == "categories":
            checks.append(
                pandera.Check(_no_blank_among_several, ignore_na=True, error='paths "A > B | C" none of which is blank')
            )
        if column.kind == "price":
            checks.append(pandera.Check.in_range(0, 1e12, error="a price of zero or more"))
        dtype = KINDS[column.kind][1]
        columns[column.name] = pandera.Column(
            None if dtype == "object" else pd.DatetimeTZDtype("us", "UTC") if column.kind == "time" else dtype,
            checks,
            nullable=column.nullable,
            required=True,
            description=column.meaning,
        )
    return pandera.DataFrameSchema(columns, name=name, strict=True)


def _no_blank_level(values: pd.Series) -> pd.Series:
    return ~values.str.contains(r"^\s*>|>\s*>|>\s*$", regex=True)


def _no_blank_among_several(values: pd.Series) -> pd.Series:
    return ~values.str.contains(r"^\s*\||\|\s*$|\s\|\s+\||>\s*\||\|\s*>", regex=True)


def validate(frame: pd.DataFrame, name: str, file: str, rows: np.ndarray) -> None:
    """Check a typed frame against its schema; `rows[i]` is the row in the file of the frame's i-th row.

    Raises InputError with one problem per cell.
    """
    import pandera.errors

    try:
        schema(name).validate(frame, lazy=True)
    except pandera.errors.SchemaErrors as error:
        problems = ProblemList()
        for case in error.failure_cases.sort_values("index", kind="stable").itertuples(index=False):
            place = None if case.index is None or pd.isna(case.index) else int(case.index)
            row = None if place is None else int(rows[place])
            column = str(case.column)
            if case.check == "not_nullable":
                problems.add(Problem(file, "a value", "none", row, column))
                continue
            value = frame[column].iloc[place] if place is not None else case.failure_case
            problems.add(Problem(file, str(case.check), _shown(value), row, column))
        problems.stop()
        raise


def _shown(value: object) -> str:
    text = value if isinstance(value, str) else f"{value}"
    return f"{len(text):,} characters, '{shorten(text, 40)}'" if len(text) > MAX_ID else f"'{shorten(text)}'"


def empty_frame(name: str) -> pd.DataFrame:
    """A frame without rows that has a table's columns and types."""
    columns = TABLES[name].columns
    return pd.DataFrame({column.name: pd.Series([], dtype=KINDS[column.kind][1]) for column in columns})


def arrow_type(kind: str) -> pa.DataType:
    """The Parquet type of a kind of column."""
    return {
        "float64": pa.float64(),
        "int64": pa.int64(),
        "datetime64[us, UTC]": pa.timestamp("us", "UTC"),
        "object": pa.list_(pa.string()),
    }.get(KINDS[kind][1], pa.string())
