"""CSV that is safe to open in a spreadsheet.

A cell that starts with `=`, `+`, `-`, `@`, tab or carriage return is run as a formula by Excel, LibreOffice and Google
Sheets, quoted or not. Following OWASP ("CSV Injection"), such text gets a leading apostrophe. Numbers are left alone:
a negative number is no formula. The same goes for what follows a semicolon, tab or line break inside a text: where
these separate fields (semicolons do in half of Europe's Excel), quotes in the middle of a field keep nothing together,
and a new cell starts there.
"""

from __future__ import annotations

import csv
import io
import numbers
import re

import numpy as np
import pandas as pd

# The full-width forms count too: Excel folds them for users of East Asian keyboards. So does a leading line feed.
_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
_LATER_STARTS = re.compile(r"([;\t\r\n][\s\"]*)(?=[=+\-@＝＋－＠])")


def safe_text(text: str) -> str:
    """Return text that no spreadsheet takes for a formula: as it is, or with apostrophes where one could start."""
    text = _LATER_STARTS.sub(r"\1'", text)
    return f"'{text}" if text.startswith(_STARTS) else text


def to_csv_bytes(frame: pd.DataFrame) -> bytes:
    """Return a frame as CSV: UTF-8 without mark, comma, one header row, no index; nulls are empty.

    Text (column names too) goes through `safe_text`; lists are joined with "|"; numbers and times keep their form.
    """
    out = io.StringIO()
    writer = csv.writer(out, quoting=csv.QUOTE_MINIMAL, lineterminator="\r\n")
    writer.writerow([safe_text(str(name)) for name in frame.columns])
    columns = [[_cell(value) for value in frame[name].tolist()] for name in frame.columns]
    writer.writerows(zip(*columns, strict=True))
    return out.getvalue().encode("utf-8", "replace")


def _cell(value: object) -> object:
    if isinstance(value, list | tuple | np.ndarray):
        return safe_text("|".join(map(str, value)))
    if value is None or value is pd.NA or value is pd.NaT or (isinstance(value, float) and value != value):
        return ""
    if isinstance(value, numbers.Number):
        return value
    if isinstance(value, pd.Timestamp):
        return value.isoformat()
    return safe_text(str(value))
