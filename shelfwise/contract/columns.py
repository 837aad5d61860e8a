"""From what a file holds to the contract's types, column by column, with every wrong value named by its row."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute

from shelfwise.contract.repairs import Repair, repair, shorten
from shelfwise.contract.tables import KINDS, ColumnSpec
from shelfwise.contract.tabular import ProblemList
from shelfwise.errors import Problem
from shelfwise.text import MOJIBAKE_STARTS

# pyarrow makes these functions at import, where type checkers cannot see them.
pc: Any = pyarrow.compute

_LONGEST_PRICE = 100  # characters; the patterns below take time that grows with the square of it
_PLAIN_NUMBER = r"^\d{1,15}(\.\d{1,30})?$"
_CURRENCY = re.compile(
    r"^(?:[$€£¥₹₽₺₩]|zł|kr\.?|Kč|Ft|lei|Rs\.?|[A-Z]{3}|US\$|R\$|C\$|A\$)\s*(?=[\d.,+-])"
    r"|(?<=[\d.,-])\s*(?:[$€£¥₹₽₺₩]|zł|kr\.?|Kč|Ft|lei|[A-Z]{3})$"
)
_SPACES = re.compile(r"[\s\u00a0\u202f'’]+(?=\d{3}(?!\d))")
_DOT_DECIMAL = re.compile(r"-?(?:\d+|\d{1,3}(?:,\d{3})+)?\.\d+|-?\d+\.?|-?\d{1,3}(?:,\d{3})+")
_COMMA_DECIMAL = re.compile(r"-?(?:\d+|\d{1,3}(?:\.\d{3})+)?,\d+|-?\d+,?|-?\d{1,3}(?:\.\d{3})+")
_COMMA_HABIT = re.compile(r",(\d{1,2}|\d{4,})(-|\D*)$")
_DOT_HABIT = re.compile(r"\.(\d{1,2}|\d{4,})\D*$")


class Typist:
    """Types the columns of one file, collecting problems and repairs; `rows[i]` is where the i-th record stands."""

    def __init__(self, file: str, rows: np.ndarray):
        self.file = file
        self.rows = rows
        self.problems = ProblemList()
        self.repairs: list[Repair] = []

    def column(self, spec: ColumnSpec, values: pa.ChunkedArray | pa.Array | Sequence[Any] | None) -> pd.Series:
        """Return a column in the contract's type; None stands for a column that the file does not have."""
        dtype = KINDS[spec.kind][1]
        if values is None:
            missing = pd.Series([None] * len(self.rows), dtype="object")
            return missing if dtype == "object" else missing.astype(dtype)
        if spec.kind == "ids":
            return self._ids(spec, values if isinstance(values, Sequence) else values.to_pylist())
        if not isinstance(values, pa.ChunkedArray | pa.Array):
            values = self._arrow(spec, values)
        if isinstance(values, pa.ChunkedArray):
            values = values.combine_chunks()
        if pa.types.is_dictionary(values.type):
            values = values.dictionary_decode()
        read = {"price": self._price, "time": self._time}.get(spec.kind, self._text)
        return read(spec, values)

    def problem(self, spec: ColumnSpec, index: int, found: object, expected: str | None = None) -> None:
        """Note a wrong value of the i-th record."""
        text = f"'{shorten(found)}'" if isinstance(found, str) else f"{type(found).__name__} {shorten(repr(found))}"
        self.problems.add(Problem(self.file, expected or KINDS[spec.kind][0], text, int(self.rows[index]), spec.name))

    def _note(
        self, what: str, indices: Sequence[int] | np.ndarray, show: Callable[[int], str] = lambda index: ""
    ) -> None:
        examples = (f"row {self.rows[index]}{show(index)}" for index in indices[:5])
        self.repairs += repair(what, len(indices), examples)

    def _arrow(self, spec: ColumnSpec, values: Sequence[Any]) -> pa.Array:
        """Python values (from JSON) as Arrow: all text or all numbers; anything mixed is brought to text."""
        try:
            found = pa.array(values)
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError, UnicodeEncodeError):
            found = None
        if found is not None and not pa.types.is_struct(found.type):
            return found
        texts: list[str | None] = []
        for index, value in enumerate(values):
            plain = isinstance(value, str | int) and not isinstance(value, bool)
            if isinstance(value, str) and not value.isprintable() and any("\ud800" <= c <= "\udfff" for c in value):
                self.problem(spec, index, value, "text that is valid Unicode")
                value = None
            elif value is not None and not plain and not (isinstance(value, float) and spec.kind not in ("id",)):
                self.problem(spec, index, value)
                value = None
            texts.append(None if value is None else str(value))
        return pa.array(texts, type=pa.string())

    # --- text

    def _strings(self, spec: ColumnSpec, values: pa.Array) -> pa.Array:
        """Trimmed strings with blanks as nulls; whole numbers are taken as text and noted."""
        kind = values.type
        if pa.types.is_null(kind):
            return pa.nulls(len(values), pa.string())
        number = pa.types.is_floating(kind) or pa.types.is_decimal(kind)
        if pa.types.is_integer(kind) or (number and spec.kind != "id"):
            given = np.flatnonzero(pc.is_valid(values).to_numpy(zero_copy_only=False))
            self._note(f"numbers in column '{spec.name}' were read as text", given)
            return pc.cast(values, pa.string())
        if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)):
            for index in np.flatnonzero(pc.is_valid(values).to_numpy(zero_copy_only=False))[:20]:
                self.problem(spec, int(index), values[int(index)].as_py())
            return pa.nulls(len(values), pa.string())
        text = pc.utf8_trim_whitespace(values.cast(pa.string()))
        return pc.if_else(pc.equal(text, ""), pa.scalar(None, pa.string()), text)

    def _text(self, spec: ColumnSpec, values: pa.Array) -> pd.Series:
        text = self._strings(spec, values)
        for index in _where(pc.match_substring(text, "\0")):
            self.problem(spec, index, text[index].as_py(), "text without NUL bytes")
        if spec.kind != "id":
            text = self._without_mojibake(spec, text)
        return pd.Series(text.to_pandas(), dtype="str")

    def _without_mojibake(self, spec: ColumnSpec, text: pa.Array) -> pa.Array:
        """Undo UTF-8 that was read as another encoding, by ftfy's rules: it changes only what cannot be meant."""
        suspects = _where(pc.match_substring_regex(text, MOJIBAKE_STARTS))
        if not suspects:
            return text
        import ftfy
        from ftfy.badness import is_bad

        values, changed = text.to_pylist(), {}
        for index in suspects:
            if is_bad(values[index]):
                mended = ftfy.fix_encoding(values[index])
                if mended != values[index]:
                    changed[index] = f" '{shorten(values[index], 30)}' to '{shorten(mended, 30)}'"
                    values[index] = mended
        self._note(f"wrongly decoded text in column '{spec.name}' was mended", list(changed), changed.__getitem__)
        return pa.array(values, type=pa.string()) if changed else text

    # --- numbers

    def _price(self, spec: ColumnSpec, values: pa.Array) -> pd.Series:
        if pa.types.is_integer(values.type) or pa.types.is_floating(values.type) or pa.types.is_decimal(values.type):
            numbers = np.asarray(pc.cast(values, pa.float64(), safe=False).to_pandas(), dtype=np.float64)
            for index in np.flatnonzero(np.isinf(numbers)):
                self.problem(spec, int(index), float(numbers[index]), "a number that is finite")
            return pd.Series(numbers)
        text = self._strings(spec, values)
        plain = pc.match_substring_regex(text, _PLAIN_NUMBER)
        nothing = pa.scalar(None, pa.string())
        numbers = np.array(pc.cast(pc.if_else(plain, text, nothing), pa.float64()).to_pandas(), dtype=np.float64)
        rest = _where(pc.invert(plain))
        written = [text[index].as_py() for index in rest]
        comma = prefers_comma([value for value in written if len(value) <= _LONGEST_PRICE]) and not any(
            "." in value for value in text.filter(plain).slice(0, 1000).to_pylist()
        )
        mended = []
        for index, value in zip(rest, written, strict=True):
            number = parse_price(value, comma)
            if number is None:
                self.problem(spec, index, value)
            else:
                numbers[index] = number
                mended.append(index)
        self._note(
            f"column '{spec.name}' was read as numbers",
            mended,
            lambda index: f" '{shorten(text[index].as_py(), 30)}' as {numbers[index]:g}",
        )
        return pd.Series(numbers)

    # --- time

    def _time(self, spec: ColumnSpec, values: pa.Array) -> pd.Series:
        if pa.types.is_timestamp(values.type) or pa.types.is_date(values.type):
            times = values.cast(pa.timestamp("us", getattr(values.type, "tz", None)), safe=False)
            naive = times.type.tz is None
            series = times.to_pandas()
            if naive:
                self._note("times without a zone were taken as UTC", np.flatnonzero(series.notna()))
                series = series.dt.tz_localize("UTC")
            return series.dt.tz_convert("UTC").astype(KINDS["time"][1])
        text = self._strings(spec, values).to_pandas()
        # Bare numbers are no times: "20260131" would pass as one, 1769860800 would not, and both may be meant.
        text = text.mask(text.str.fullmatch(r"[\d.]+").fillna(False).astype(bool), "?")
        parsed = pd.to_datetime(text, format="ISO8601", utc=True, errors="coerce")
        for index in np.flatnonzero(parsed.isna() & text.notna()):
            self.problem(spec, int(index), values[int(index)].as_py())
        naive = text.notna() & ~text.str.contains(r"(?:Z|z|[+-]\d{2}:?\d{0,2})$", regex=True, na=True)
        self._note("times without a zone were taken as UTC", np.flatnonzero(naive))
        return parsed.astype(KINDS["time"][1])

    # --- lists of ids

    def _ids(self, spec: ColumnSpec, values: Sequence[Any]) -> pd.Series:
        read: list[list[str]] = []
        for index, value in enumerate(values):
            parts = value.split("|") if isinstance(value, str) else [] if value is None else value
            if not isinstance(parts, list) or any(isinstance(part, bool | float | list | dict) for part in parts):
                self.problem(spec, index, value)
                parts = []
            ids = [str(part).strip() for part in parts if part is not None and str(part).strip()]
            if any(len(part) > spec.limit for part in ids):
                self.problem(spec, index, value, f"ids of at most {spec.limit:,} characters")
            read.append(ids)
        return pd.Series(read, dtype="object")


def _where(mask: pa.Array) -> list[int]:
    return [int(index) for index in np.flatnonzero(pc.fill_null(mask, False).to_numpy(zero_copy_only=False))]


def prefers_comma(values: Sequence[str]) -> bool:
    """Whether a column of prices is written with decimal commas: some end in one, none in a decimal point."""
    commas = sum(bool(_COMMA_HABIT.search(value)) for value in values)
    return commas > 0 and not any(_DOT_HABIT.search(value) for value in values)


def parse_price(text: str, decimal_comma: bool = False) -> float | None:
    """Read a price as people write it: "12,50 €", "$1,299.00", "1.299,00", "EUR 5", "1 234,50", "5,-".

    A comma or point before exactly three digits separates thousands unless the column is written the other way
    round (`decimal_comma`, see `prefers_comma`): "1,299" is 1299, and "1.299" is 1.299 or, with decimal commas, 1299.
    Returns None where the text is no price.
    """
    if len(text) > _LONGEST_PRICE:
        return None
    bare = _CURRENCY.sub("", _CURRENCY.sub("", text.strip())).strip()
    bare = _SPACES.sub("", re.sub(r"[,.][-–—]{1,2}$", "", bare))
    styles = (_COMMA_DECIMAL, _DOT_DECIMAL) if decimal_comma else (_DOT_DECIMAL, _COMMA_DECIMAL)
    for style in styles:
        if style.fullmatch(bare):
            thousands, decimal = (".", ",") if style is _COMMA_DECIMAL else (",", ".")
            number = float(bare.replace(thousands, "").replace(decimal, "."))
            return number if math.isfinite(number) else None
    return None
