"""Exported CSV: nothing a vendor wrote is run by the spreadsheet that opens it."""

from __future__ import annotations

import csv
import io

import numpy as np
import openpyxl
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shelfwise.safe_export import safe_text, to_csv_bytes

DANGEROUS = ['=HYPERLINK("http://x","y")', "+1+1", "-2+3", "@SUM(A1)", "\t=1+1", "\r=1+1", "\n=1", "＝1+1"]


def rows(data: bytes) -> list[list[str]]:
    return list(csv.reader(io.StringIO(data.decode("utf-8"), newline="")))


@pytest.mark.parametrize("text", DANGEROUS)
def test_formulas_come_out_as_text(text: str) -> None:
    (_, (cell, number)) = rows(to_csv_bytes(pd.DataFrame({"title": [text], "price": [-1.5]})))
    inside = text.replace("=", "'=") if text[0] in "\t\r\n" else text
    assert cell == "'" + inside
    assert number == "-1.5", "a negative number is no formula"


@pytest.mark.parametrize("text", DANGEROUS)
def test_no_formula_where_semicolons_or_tabs_separate_fields(text: str) -> None:
    for separator in (";", "\t"):
        frame = pd.DataFrame({"row": [1], "title": [f"tea{separator}{text}"], "other": [f'tea"{separator} "{text}']})
        exported = io.StringIO(to_csv_bytes(frame).decode("utf-8"), newline="")
        cells = [cell for row in csv.reader(exported, delimiter=separator) for cell in row]
        assert not [cell for cell in cells if cell.strip(' "').startswith(("=", "+", "-", "@", "＝"))]


@pytest.mark.parametrize("text", DANGEROUS)
def test_a_spreadsheet_made_from_the_export_holds_no_formula(text: str) -> None:
    book = openpyxl.Workbook()
    for row in rows(to_csv_bytes(pd.DataFrame({"title": [text]}))):
        book.active.append([cell.replace("\r", " ") for cell in row])
    assert book.active["A2"].data_type == "s"
    unsafe = openpyxl.Workbook()
    unsafe.active.append(["=1+1"])
    assert unsafe.active["A1"].data_type == "f", "openpyxl would have made it a formula"


def test_everything_else_is_unchanged() -> None:
    frame = pd.DataFrame(
        {
            "title": ["Café, 5%", 'say "hi"', "two\nlines", None],
            "score": [0.5, np.nan, -0.25, 1e-9],
            "rank": [1, 2, 3, -4],
            "yes": [True, False, True, True],
            "ids": [["a", "=b"], [], ["=c"], None],
            "when": pd.to_datetime(["2026-01-31T12:00:00Z", None, None, None]),
        }
    )
    back = pd.read_csv(io.BytesIO(to_csv_bytes(frame)))
    assert back["title"].tolist()[:3] == ["Café, 5%", 'say "hi"', "two\nlines"]
    assert pd.isna(back["title"].iloc[3])
    assert back["score"].tolist()[2:] == [-0.25, 1e-9]
    assert back["rank"].tolist() == [1, 2, 3, -4]
    assert back["yes"].tolist() == [True, False, True, True]
    assert back["ids"].fillna("").tolist() == ["a|=b", "", "'=c", ""]
    arrays = pd.DataFrame({"ids": [np.array(["a", "=b"], dtype=object), np.array([], dtype=object)]})
    assert to_csv_bytes(arrays) == b'ids\r\na|=b\r\n""\r\n'
    assert back["when"].iloc[0] == "2026-01-31T12:00:00+00:00"


def test_column_names_are_cells_too() -> None:
    assert rows(to_csv_bytes(pd.DataFrame({"=cmd": [1]})))[0] == ["'=cmd"]


def test_utf_8_without_mark_and_an_empty_frame() -> None:
    assert to_csv_bytes(pd.DataFrame({"ü": pd.Series([], dtype="str")})) == "ü\r\n".encode()


@given(st.lists(st.text(), min_size=1, max_size=20))
def test_no_cell_starts_a_formula_and_no_text_is_lost(texts: list[str]) -> None:
    texts = [text.encode("utf-8", "replace").decode() for text in texts]
    cells = [row[0] if row else "" for row in rows(to_csv_bytes(pd.DataFrame({"t": texts}, dtype="object")))[1:]]
    assert [cell.replace("'", "") for cell in cells] == [text.replace("'", "") for text in texts]
    plain = [(cell, text) for cell, text in zip(cells, texts, strict=True) if not set(text) & set(";\t\r\n")]
    assert all(cell in (text, "'" + text) for cell, text in plain)
    assert not any(cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n")) for cell in cells)
    assert all(safe_text(cell) == cell for cell in cells)
