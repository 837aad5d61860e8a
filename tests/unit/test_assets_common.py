"""What every asset reports: tables, pictures and times, in the form the UI understands."""

from __future__ import annotations

import base64
import re
import time

import dagster as dg
import numpy as np
import pandas as pd
import pytest

from assets.common import clock_metadata, float_metadata, picture, table, table_metadata
from shelfwise.timing import DomainClock, covered_seconds


def rows(metadata: dg.MarkdownMetadataValue) -> list[list[str]]:
    """The cells of a Markdown table as a renderer splits them: at bars that are not escaped."""
    lines = (metadata.md_str or "").splitlines()
    cells = [line.replace("\\\\", "\0").replace("\\|", "\1").strip("|").split("|") for line in lines]
    return [
        [re.sub(r"\\(.)", r"\1", cell.strip()).replace("\1", "|").replace("\0", "\\") for cell in line]
        for line in cells
    ]


def test_a_table_has_a_header_a_rule_and_one_line_per_row() -> None:
    shown = rows(table(pd.DataFrame({"title": ["soap", "milk"], "score": [0.51239, 1.0]})))
    assert shown == [["title", "score"], ["---", "---"], ["soap", "0.512"], ["milk", "1.000"]]


@pytest.mark.parametrize(
    "value",
    ["a|b", "a\nb", "a\\|b", "\\", "a\r\nb", "a\rb", "a\u2028b", "<script>alert(1)</script>", "`code`", "\\\\|"],
)
def test_no_cell_breaks_out_of_the_table(value: str) -> None:
    shown = rows(table(pd.DataFrame({"title": [value, "next"], "other": ["x", "y"]})))
    assert len(shown) == 4
    assert [len(row) for row in shown] == [2, 2, 2, 2]
    assert [row[1] for row in shown[2:]] == ["x", "y"]
    assert "<" not in shown[2][0]
    assert "`" not in shown[2][0]


def test_a_cell_is_neither_a_link_nor_a_picture() -> None:
    text = table(pd.DataFrame({"title": ["![soap](https://example.com/track.png)"]})).md_str or ""
    assert "!\\[soap\\](" in text


def test_a_columns_name_cannot_break_the_table_either() -> None:
    shown = rows(table(pd.DataFrame([[1, 2]], columns=["a|b\nc", "<b>"])))
    assert [len(row) for row in shown] == [2, 2, 2]
    assert len(shown) == 3


def test_what_is_missing_is_empty_and_what_is_long_is_cut() -> None:
    frame = pd.DataFrame({"a": [None, pd.NA, np.nan, pd.NaT, "x" * 1_000_000]}, dtype=object)
    shown = [row[0] for row in rows(table(frame))[2:]]
    assert shown[:4] == ["", "", "", ""]
    assert shown[4] == "x" * 120


def test_only_the_first_rows_are_shown() -> None:
    assert len(rows(table(pd.DataFrame({"a": range(100)}), 7))) == 2 + 7
    assert len(rows(table(pd.DataFrame({"a": []})))) == 2


def test_lists_in_a_cell_are_shown() -> None:
    assert rows(table(pd.DataFrame({"a": [["x", "y"], np.array([1, 2])]})))[2:] == [["['x', 'y']"], ["[1 2]"]]


def test_tables_report_rows_and_columns_under_dagsters_keys() -> None:
    frame = pd.DataFrame({"title": pd.Series(["a", None], dtype="str"), "price": [1.5, 2.0]})
    found = table_metadata(frame)
    assert found["dagster/row_count"] == 2
    columns = found["dagster/column_schema"].schema.columns
    assert [(column.name, column.type) for column in columns] == [("title", "str"), ("price", "float64")]
    assert set(found) == {"dagster/row_count", "dagster/column_schema"}
    assert "domain_seconds" in table_metadata(frame, DomainClock())


def test_metrics_are_floats_whatever_they_were() -> None:
    found = float_metadata({"n": 3, "share": np.float32(0.5), "big": np.int64(7)})
    assert {name: value.value for name, value in found.items()} == {"n": 3.0, "share": 0.5, "big": 7.0}
    assert all(isinstance(value, dg.FloatMetadataValue) and type(value.value) is float for value in found.values())


def test_a_picture_is_carried_whole() -> None:
    png = bytes(range(256))
    text = picture(png, "curve").md_str or ""
    assert text.startswith("![curve](data:image/png;base64,")
    assert base64.b64decode(text.partition("base64,")[2].rstrip(")")) == png


def test_the_clock_counts_what_ran_inside_even_when_it_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([100.0, 103.0, 110.0, 111.5])
    monkeypatch.setattr(time, "time", lambda: next(now))
    clock = DomainClock()
    with clock:
        pass
    with pytest.raises(KeyError), clock:
        raise KeyError
    found = clock_metadata(clock)
    assert found["domain_seconds"] == 4.5
    assert found["domain_intervals"].data == [[100.0, 103.0], [110.0, 111.5]]
    assert covered_seconds([*clock.intervals, (102.0, 110.5)]) == 11.5
