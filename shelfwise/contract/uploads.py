"""Reading one uploaded vendor file by the data contract.

Whatever a vendor sends, the answer is the lines of the file or an InputError that says what to change; see the table
in the docstring of `shelfwise.contract.tables`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from shelfwise.artifacts import content_id
from shelfwise.contract.columns import Typist
from shelfwise.contract.repairs import Repair, repair
from shelfwise.contract.tables import TABLES, validate
from shelfwise.contract.tabular import ProblemList, read_csv
from shelfwise.errors import InputError, Problem

LINE_COLUMNS = (
    "line_id", "row", "vendor_id", "file", "title", "sku", "brand", "description", "price", "image",
    "truth_product_id",
)  # fmt: skip


@dataclass(frozen=True)
class UploadLimits:
    """How much one upload may hold; `blank_title_share` of its rows may lack a title before it is refused."""

    max_bytes: int = 64 << 20
    max_rows: int = 500_000
    blank_title_share: float = 0.05


@dataclass(frozen=True)
class Upload:
    """The lines of one uploaded file (columns `LINE_COLUMNS`, in the file's order) and what was repaired."""

    frame: pd.DataFrame
    repairs: list[Repair] = field(default_factory=list)


def parse_upload(data: bytes, file: str, vendor_id: str, limits: UploadLimits | None = None) -> Upload:
    """Read an uploaded CSV file.

    `truth_product_id` is null where the file has no product_id column, and "" where that column is blank: the line is
    known to match nothing. `line_id` depends on vendor, file, row and title only. Raises InputError and nothing else.
    """
    limits = limits or UploadLimits()
    if len(data) > limits.max_bytes:
        found = f"{len(data):,} bytes; split it into several files"
        raise InputError(Problem(file, f"a file of at most {limits.max_bytes:,} bytes", found))
    spec = TABLES["uploads"]
    records = read_csv(data, file, spec.names, spec.required_names, limits.max_rows)
    if not len(records.rows):
        raise InputError(Problem(file, "at least one line below the header", "a header only"))
    typist = Typist(file, records.rows)
    frame = pd.DataFrame({c.name: typist.column(c, records.columns.get(c.name)) for c in spec.columns})
    frame, rows, left_out = _without_blank_titles(frame, records.rows, file, limits, typist.problems)
    typist.problems.stop()
    validate(frame, "uploads", file, rows)
    if "product_id" in records.columns:
        frame["product_id"] = frame["product_id"].fillna("")
    frame = frame.rename(columns={"product_id": "truth_product_id"}).assign(row=rows, vendor_id=vendor_id, file=file)
    ids = _line_ids(vendor_id, file, rows, frame["title"])
    frame["line_id"] = pd.Series(ids, dtype="str", index=frame.index)
    frame = frame.astype({"vendor_id": "str", "file": "str", "row": "int64"})
    return Upload(frame[list(LINE_COLUMNS)], records.repairs + typist.repairs + left_out)


def _line_ids(vendor_id: str, file: str, rows: np.ndarray, titles: pd.Series) -> list[str]:
    """16 hex digits per line. Hashes only what differs from line to line: a file may hold half a million."""
    start = hashlib.sha256(content_id(vendor_id, file).encode())
    ids = []
    for row, title in zip(rows.tolist(), titles.tolist(), strict=True):
        digest = start.copy()
        digest.update(f"{row}:{title}".encode())
        ids.append(digest.hexdigest()[:16])
    return ids


def _without_blank_titles(
    frame: pd.DataFrame, rows: np.ndarray, file: str, limits: UploadLimits, problems: ProblemList
) -> tuple[pd.DataFrame, np.ndarray, list[Repair]]:
    blank = frame["title"].isna().to_numpy()
    if not blank.any():
        return frame, rows, []
    if blank.mean() > limits.blank_title_share:
        for row in rows[blank]:
            problems.add(Problem(file, "a title", "none", int(row), "title"))
        problems.stop()
    kept = frame[~blank].reset_index(drop=True)
    left_out = repair("rows without a title were left out", blank.sum(), (f"row {row}" for row in rows[blank]))
    return kept, rows[~blank], left_out
