"""The table by which people merge categories: what is wrong with it, by row. What it does: `test_dbt_sql`."""

from __future__ import annotations

from pathlib import Path

import pytest

from resources.dbt import PROJECT_DIR
from shelfwise.classification.merging import check_mapping
from shelfwise.errors import InputError

HEADER = "category,merged_into,note\n"


def checked(folder: Path, text: str) -> dict[str, str]:
    path = folder / "category_mapping.csv"
    path.write_text(text, encoding="utf-8")
    return check_mapping(path)


def test_paths_are_read_in_any_spelling(tmp_path):
    mapping = checked(tmp_path, f"\ufeff{HEADER}A>B,X > Y,why\n\n A ,Z,\n")
    assert mapping == {"A > B": "X > Y", "A": "Z"}


@pytest.mark.parametrize(
    ("rows", "parts"),
    [
        ("A,B,\nB,C,\n", ["row 2", "merged_into", "'B', which row 3 merges into 'C'"]),
        ("A,B > C,\nX,Y,\nB,D,\n", ["row 2", "row 4 merges into 'D'"]),
        ("A,B,\nB,A,\n", ["row 2", "row 3"]),
        ("A,A,\n", ["row 2", "this row"]),
        ("A,A > B,\n", ["row 2", "'A > B', which this row merges into"]),
        ("A,B,\nA,C,\n", ["row 3", "column 'category'", "'A' also in row 2"]),
        (" > ,B,\n", ["row 2", "column 'category'", "none"]),
        ("A,,\n", ["row 2", "column 'merged_into'", "none"]),
        ("A,B\n", ["row 2", "3 fields", "2"]),
    ],
)
def test_what_is_wrong_is_named_by_row(tmp_path, rows, parts):
    with pytest.raises(InputError) as caught:
        checked(tmp_path, HEADER + rows)
    assert all(part in str(caught.value) for part in ["category_mapping.csv", *parts]), str(caught.value)


@pytest.mark.parametrize("text", ["", "category,into\nA,B\n"])
def test_another_header_is_refused(tmp_path, text):
    with pytest.raises(InputError, match="the columns category, merged_into, note"):
        checked(tmp_path, text)


def test_the_table_that_is_shipped_is_sound_and_an_empty_one_too(tmp_path):
    shipped = check_mapping(PROJECT_DIR / "seeds" / "category_mapping.csv")
    assert shipped["All Electronics"] == "Electronics"
    assert checked(tmp_path, HEADER) == {}
