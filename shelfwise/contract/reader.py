"""Reading the tables of a data directory by the data contract, from a local directory or an `s3://` URL.

A table is read whole or not at all. The rules are in the docstring of `shelfwise.contract.tables`.
"""

from __future__ import annotations

import difflib
import hashlib
import io
import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from upath import UPath

from shelfwise.artifacts import content_id
from shelfwise.contract.columns import Typist
from shelfwise.contract.repairs import Repair, repair, shorten
from shelfwise.contract.storage import StoredFile, as_path, list_folder
from shelfwise.contract.tables import DIRECTORY_TABLES, TABLES, TableSpec, empty_frame, validate
from shelfwise.contract.tabular import (
    ProblemList,
    Records,
    check_header,
    clean_header,
    decode,
    read_csv,
    refuse_foreign,
)
from shelfwise.errors import InputError, Problem

EXTENSIONS = (".csv", ".jsonl", ".ndjson", ".json", ".parquet")
MAX_UNKNOWN_SHARE = 0.2


@dataclass(frozen=True)
class TableRead:
    """A table as read: every column of the contract, typed; where it came from; what was repaired.

    An optional table that is not there has no rows, no `uri`, and the digest of nothing.
    """

    name: str
    frame: pd.DataFrame
    uri: str | None
    sha256: str
    repairs: list[Repair] = field(default_factory=list)

    @property
    def rows(self) -> int:
        return len(self.frame)

    @property
    def present(self) -> bool:
        return self.uri is not None

    @property
    def source(self) -> str:
        """The file's location, or words saying that there is none."""
        return self.uri or f"no {self.name} table was given"

    @property
    def version(self) -> str:
        """An id of the file's content: the same bytes always have the same one."""
        return content_id(self.name, self.sha256)


def list_tables(root: UPath | Path | str) -> dict[str, StoredFile]:
    """Return the file of each table that a data directory holds.

    Raises InputError where the directory is missing, one table has two files, or a file is nearly named as a table that
    is not there (it would be lost without a word); ListingError where the directory cannot be listed.
    """
    found: dict[str, StoredFile] = {}
    strangers = []
    problems = []
    for file in list_folder(as_path(root)):
        stem, extension = _split(file.name)
        if extension not in EXTENSIONS:
            continue
        if stem not in DIRECTORY_TABLES:
            strangers.append(file.name)
            continue
        if stem in found:
            names = f"'{found[stem].name}' and '{file.name}'"
            problems.append(Problem(str(root), f"one file for the table {stem}", f"{names}: keep one"))
        found[stem] = file
    for name in strangers:
        close = difflib.get_close_matches(_split(name)[0], [t for t in DIRECTORY_TABLES if t not in found], 1, 0.85)
        problems += [Problem(str(root), f"a file {table}{_split(name)[1]}", f"'{name}': rename it") for table in close]
    if problems:
        raise InputError(problems)
    return found


def fingerprint(root: UPath | Path | str) -> dict[str, str]:
    """Return file name -> etag (SHA-256 for local files) of every table of a data directory; errors as list_tables."""
    return {file.name: file.digest() for file in list_tables(root).values()}


def read_table(root: UPath | Path | str, name: str) -> TableRead:
    """Read one table of a data directory; see `TableRead`.

    Raises InputError naming file, row, column, what was expected and what was found; ListingError where the
    directory cannot be listed; ValueError for a table the contract does not have.
    """
    if name not in DIRECTORY_TABLES:
        raise ValueError(f"the data contract has no table {name!r}; it has {', '.join(DIRECTORY_TABLES)}")
    spec = TABLES[name]
    file = list_tables(root).get(name)
    if file is None:
        if spec.required:
            raise _missing(root, name)
        return TableRead(name, empty_frame(name), None, hashlib.sha256(b"").hexdigest())
    data = file.read()
    records, repairs = parse_table(data, file.name, spec)
    return TableRead(name, records, str(file.path), hashlib.sha256(data).hexdigest(), repairs)


def _split(name: str) -> tuple[str, str]:
    stem, dot, extension = name.rpartition(".")
    return stem.lower(), (dot + extension).lower()


def _missing(root: UPath | Path | str, name: str) -> InputError:
    wanted = ", ".join(f"{name}{extension}" for extension in EXTENSIONS)
    there = [file.name for file in list_folder(as_path(root))]
    found = f"the files {', '.join(there[:20])}" if there else "no files"
    return InputError(Problem(str(root), f"a table of {name}: one of {wanted}", found))


def parse_table(data: bytes, file: str, spec: TableSpec) -> tuple[pd.DataFrame, list[Repair]]:
    """Turn the bytes of a table's file into a typed, validated frame and the repairs made on the way."""
    extension = _split(file)[1]
    if extension == ".parquet":
        records = _read_parquet(data, file, spec)
    elif extension == ".csv":
        records = read_csv(data, file, spec.in_file, spec.required_names)
    else:
        records = _read_json(data, file, spec)
    if not len(records.rows) and not spec.may_be_empty:
        raise InputError(Problem(file, "at least one row below the header", "a header only"))
    typist = Typist(file, records.rows)
    frame = pd.DataFrame(
        {
            column.name: records.rows
            if column.kind == "row"
            else typist.column(column, records.columns.get(column.name))
            for column in spec.columns
        }
    )
    typist.problems.stop()
    for column in spec.columns:
        if column.made and column.kind == "id" and column.name not in records.columns:
            frame[column.name] = _made_ids(frame, column.name)
    validate(frame, spec.name, file, records.rows)
    repairs = records.repairs + typist.repairs
    if spec.key:
        frame, collapsed = _one_row_per_key(frame, spec.key, file, records.rows)
        repairs += collapsed
    return frame, repairs


def _made_ids(frame: pd.DataFrame, name: str) -> pd.Series:
    """Ids made from the content; rows that repeat get their number, so that an id moves only when its row changes."""
    content = frame.drop(columns=[name, "source_row"], errors="ignore").astype(str).fillna("")
    repeated = content.groupby(list(content.columns), sort=False).cumcount()
    values = zip(*(content[column] for column in content.columns), repeated, strict=True)
    return pd.Series([content_id(*value[:-1], int(value[-1])) for value in values], dtype="str", index=frame.index)


def _one_row_per_key(frame: pd.DataFrame, key: str, file: str, rows: np.ndarray) -> tuple[pd.DataFrame, list[Repair]]:
    """Collapse identical rows with one id; raise InputError naming both rows where they differ."""
    repeats = np.flatnonzero(frame[key].duplicated())
    if not len(repeats):
        return frame, []
    first = {value: index for index, value in zip(frame.index[::-1], frame[key].iloc[::-1], strict=True)}
    compared = [column for column in frame.columns if column != "source_row"]
    plain = frame[compared].astype(object).where(frame[compared].notna(), None)
    problems = ProblemList()
    for index in repeats:
        before = first[frame[key].iloc[index]]
        differing = [name for name in compared if plain[name].iloc[index] != plain[name].iloc[before]]
        if differing:
            name = differing[0]
            found = (
                f"'{shorten(frame[key].iloc[index], 40)}' also in row {rows[before]}, with another {name} "
                f"('{shorten(plain[name].iloc[index], 40)}', there '{shorten(plain[name].iloc[before], 40)}')"
            )
            problems.add(Problem(file, "each id once", found, int(rows[index]), key))
    problems.stop()
    examples = (f"row {rows[i]} repeats row {rows[first[frame[key].iloc[i]]]}" for i in repeats)
    kept = frame.drop(index=frame.index[repeats]).reset_index(drop=True)
    return kept, repair("identical rows with one id were collapsed", len(repeats), examples)


def check_mappings(
    mappings: pd.DataFrame,
    products: pd.DataFrame,
    max_unknown_share: float = MAX_UNKNOWN_SHARE,
    file: str = "mappings",
) -> tuple[pd.DataFrame, list[Repair]]:
    """Set aside mappings (or feedback) to products that the catalog does not have; return the others and the repair.

    Rows without a product (feedback: "matches nothing") are kept. Raises InputError, with rows, where more than
    `max_unknown_share` of the rows are unknown: then the two tables do not belong together.
    """
    unknown = (mappings["product_id"].notna() & ~mappings["product_id"].isin(products["product_id"])).to_numpy()
    if not unknown.any():
        return mappings, []
    rows = mappings["source_row"] if "source_row" in mappings else pd.Series(mappings.index + 2, index=mappings.index)
    strangers = list(zip(rows[unknown], mappings["product_id"][unknown], strict=True))
    share = len(strangers) / len(mappings)
    if share > max_unknown_share:
        head = Problem(
            file,
            f"at most {max_unknown_share:.0%} of the rows to name products that are not in the catalog",
            f"{share:.0%} ({len(strangers):,} of {len(mappings):,} rows)",
            column="product_id",
        )
        some = [
            Problem(file, "the id of a product in the catalog", f"'{shorten(product, 40)}'", int(row), "product_id")
            for row, product in strangers[:10]
        ]
        raise InputError([head, *some])
    examples = (f"row {row}: '{product}'" for row, product in strangers)
    kept = mappings[~unknown].reset_index(drop=True)
    return kept, repair("rows that name a product outside the catalog were set aside", len(strangers), examples)


def _read_parquet(data: bytes, file: str, spec: TableSpec) -> Records:
    import pyarrow.parquet as pq

    if not data:
        raise InputError(Problem(file, "a Parquet file", "an empty file"))
    try:
        names = pq.read_schema(io.BytesIO(data)).names
        header = clean_header(list(names), spec.in_file)
        check_header(header, file, spec.in_file, spec.required_names, None)
        wanted = {names[index]: name for index, name in enumerate(header) if name in spec.in_file}
        table = pq.read_table(io.BytesIO(data), columns=list(wanted))
    except (pa.ArrowException, OSError) as error:
        raise InputError(Problem(file, "a Parquet file", f"something else or a damaged one ({error})")) from error
    unknown = [name for name in header if name not in spec.in_file]
    repairs = repair("columns outside the contract were left out", len(unknown), unknown)
    columns = {new: table.column(old) for old, new in wanted.items()}
    return Records(columns, np.arange(1, table.num_rows + 1), repairs)


def _read_json(data: bytes, file: str, spec: TableSpec) -> Records:
    refuse_foreign(data, file, "JSON")
    text, repairs = decode(data, file)
    if not text.strip():
        raise InputError(Problem(file, "one JSON object per line", "an empty file"))
    found = _json_array(text, file) if text.lstrip().startswith("[") else _json_lines(text, file)
    names: dict[str, str] = {}
    for _, record in found:
        for name in record:
            if name not in names:
                names[name] = clean_header([name], spec.in_file)[0] if name.strip() else name
    header = list(names.values())
    if found:
        check_header(header, file, spec.in_file, spec.required_names, None)
    columns = {new: [record.get(old) for _, record in found] for old, new in names.items() if new in spec.in_file}
    unknown = [name for name in header if name not in spec.in_file]
    repairs += repair("columns outside the contract were left out", len(unknown), unknown)
    return Records(columns, np.asarray([row for row, _ in found], dtype=np.int64), repairs)  # type: ignore[arg-type]


def _json_lines(text: str, file: str) -> list[tuple[int, dict]]:
    found, problems = [], ProblemList()
    for row, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line, parse_constant=_no_constant)
        except (ValueError, RecursionError) as error:
            problems.add(Problem(file, "one JSON object per line", f"'{shorten(line, 60)}' ({error})", row))
            continue
        if isinstance(record, dict):
            found.append((row, record))
        else:
            problems.add(Problem(file, "one JSON object per line", f"'{shorten(line, 60)}'", row))
    problems.stop()
    return found


def _json_array(text: str, file: str) -> list[tuple[int, dict]]:
    try:
        records = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        row = getattr(error, "lineno", None)
        raise InputError(Problem(file, "JSON: one object per line, or one array of them", str(error), row)) from None
    found, problems = [], ProblemList()
    for row, record in enumerate(records, start=1):
        if isinstance(record, dict):
            found.append((row, record))
        else:
            problems.add(Problem(file, "an object", f"'{shorten(record, 60)}'", row))
    problems.stop()
    return found


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")
