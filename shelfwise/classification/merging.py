"""The table by which people merge categories (`dbt_project/seeds/category_mapping.csv`), checked before dbt reads it.

A row moves a category, with all that lies below it, to another path, once. dbt's models apply the table
(`staging/stg_categories`); here is said, by row and column, what is wrong with it.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from shelfwise.classification.taxonomy import SEPARATOR, clean_path
from shelfwise.errors import InputError, Problem

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("category", "merged_into", "note")


def check_mapping(path: Path) -> dict[str, str]:
    """Return category -> path that it counts as, of the whole file.

    Raises InputError, with row and column, where a column is missing, a cell is blank, a category is there twice, or a
    merged category leads to another row or back to itself (a chain, a cycle): which of them came first would matter.
    """
    file = path.name
    rows = list(csv.reader(io.StringIO(path.read_bytes().decode("utf-8-sig"))))
    header = tuple(name.strip() for name in rows[0]) if rows else ()
    if header != COLUMNS:
        raise InputError(Problem(file, f"the columns {', '.join(COLUMNS)}", ", ".join(header) or "nothing", 1))
    problems: list[Problem] = []
    mapping: dict[str, str] = {}
    row_of: dict[str, int] = {}
    for row, cells in enumerate(rows[1:], start=2):
        if not cells:
            continue
        if len(cells) != len(COLUMNS):
            problems.append(Problem(file, f"{len(COLUMNS)} fields", f"{len(cells)}", row))
            continue
        category, merged_into = clean_path(cells[0]), clean_path(cells[1])
        for name, value in (("category", category), ("merged_into", merged_into)):
            if not value:
                problems.append(Problem(file, 'a category path "A > B"', "none", row, name))
        if category in row_of:
            problems.append(
                Problem(file, "each category once", f"'{category}' also in row {row_of[category]}", row, "category")
            )
        elif category and merged_into:
            mapping[category], row_of[category] = merged_into, row
    for category, merged_into in mapping.items():
        further = _row_for(merged_into, mapping)
        if further is not None:
            expected = "a path that is not merged itself: name where it ends"
            where = "this row" if further == category else f"row {row_of[further]}"
            found = f"'{merged_into}', which {where} merges into '{mapping[further]}'"
            problems.append(Problem(file, expected, found, row_of[category], "merged_into"))
    if problems:
        raise InputError(problems)
    return mapping


def counts_as(categories: pd.DataFrame | None) -> dict[str, str]:
    """Return what each category counts as by staging/stg_categories (category, counts_as); none where it is None, as it
    was not made yet.
    """
    if categories is None or categories.empty:
        return {}
    return categories.drop_duplicates("category").set_index("category")["counts_as"].to_dict()


def _row_for(path: str, mapping: Mapping[str, str]) -> str | None:
    parts = path.split(SEPARATOR)
    longest_first = (SEPARATOR.join(parts[:depth]) for depth in range(len(parts), 0, -1))
    return next((one for one in longest_first if one in mapping), None)
