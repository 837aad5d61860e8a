"""From bytes to records: what a file is, how its text is encoded, how its CSV is written.

Strict where a guess could shift or lose a value (ragged rows, open quotes, NUL bytes: an error that names the row),
lenient where nothing can be lost (encoding, delimiter, blank rows: a stated repair).
"""

from __future__ import annotations

import codecs
import csv
import difflib
import io
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from shelfwise.contract.repairs import EXAMPLES_SHOWN, Repair, repair, shorten
from shelfwise.errors import InputError, Problem

MAX_PROBLEMS = 1_000
MAX_LINE = 2_000_000
MAX_COLUMNS = 1_000
DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
_CHUNK = 65_536
_CELLS = 2_000_000  # held as Python strings at a time

# The UTF-32 marks come first: the little-endian one starts with the UTF-16 mark.
_BOMS = (
    (codecs.BOM_UTF8, "utf-8", "UTF-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le", "UTF-32"),
    (codecs.BOM_UTF32_BE, "utf-32-be", "UTF-32"),
    (codecs.BOM_UTF16_LE, "utf-16-le", "UTF-16"),
    (codecs.BOM_UTF16_BE, "utf-16-be", "UTF-16"),
)
_FOREIGN = (
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an Excel workbook (.xls)"),
    (b"%PDF", "a PDF document"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"PAR1", "a Parquet file"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"Rar!\x1a\x07", "a RAR archive"),
    (b"BZh", "a bzip2 archive"),
    (b"\xfd7zXZ\x00", "an xz archive"),
    (b"\x28\xb5\x2f\xfd", "a Zstandard archive"),
    (b"\x89PNG", "a picture"),
    (b"\xff\xd8\xff", "a picture"),
    (b"SQLite format 3", "a database"),
    (b"{\\rtf", "a Rich Text document"),
)
_MARKUP = re.compile(rb"\s*<(?:!doctype|html|\?xml|table|head|meta)", re.IGNORECASE)
# Signs that never stand between two letters of a Western word; there they are letters of another code page.
_ODD_INSIDE_WORD = re.compile(r"(?<=[^\W\d_])[¡-§¬¯-¶¸¹¼-¿×÷](?=[^\W\d_])")
_LONG_ACCENTED_RUN = re.compile(r"[À-ÿ]{4,}")
_CODE_PAGES = [
    "cp1250", "cp1251", "cp1253", "cp1254", "cp1255", "cp1256", "cp1257", "koi8_r", "mac_roman",
    "cp932", "gb18030", "big5", "euc_kr",
]  # fmt: skip
_SAMPLE_BYTES = 65_536


@dataclass
class Records:
    """A table as text: column name -> strings (Arrow), and the row each record has in the file (header = row 1)."""

    columns: dict[str, pa.ChunkedArray]
    rows: np.ndarray
    repairs: list[Repair] = field(default_factory=list)


def refuse_foreign(data: bytes, file: str, wanted: str = "CSV") -> None:
    """Raise InputError where the first bytes are those of another kind of file. Nothing is ever unpacked."""
    kind = None
    if data.startswith((b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")):
        head = data[:65_536]
        kind = "an Excel workbook" if b"xl/" in head or b"[Content_Types].xml" in head else "a zip archive"
    elif wanted != "JSON" and _MARKUP.match(data[:200]):
        kind = "a web page or XML document"
    else:
        kind = next((name for magic, name in _FOREIGN if data.startswith(magic)), None)
    if kind:
        verb = "unpack it and upload the file inside" if "archive" in kind else f"save it as {wanted} (UTF-8)"
        raise InputError(Problem(file, f"{wanted} text in UTF-8", f"{kind}: {verb}"))


def decode(data: bytes, file: str) -> tuple[str, list[Repair]]:
    """Return the text of a file and the repair that its encoding called for.

    UTF-8 (with or without mark) is read as it is. UTF-16 and UTF-32 are known by their mark, UTF-16 without one by
    its zero bytes. Other bytes are read as Windows-1252 (which holds Latin-1's letters) where that gives plausible
    Western text, else as the code page charset-normalizer finds. A file that is mostly UTF-8 with some broken bytes
    is refused, by row: each guess about them would damage either these or the others.

    Raises InputError where no encoding fits.
    """
    for mark, encoding, name in _BOMS:
        if data.startswith(mark):
            text = _strictly(data[len(mark) :], encoding, name, file)
            return text, [] if name == "UTF-8" else repair(f"read as {name}, not UTF-8", 1)
    encoding = _utf16_without_mark(data)
    if encoding:
        return _strictly(data, encoding, "UTF-16", file), repair("read as UTF-16 without a mark, not UTF-8", 1)
    try:
        return data.decode("utf-8"), []
    except UnicodeDecodeError:
        _refuse_broken_utf8(data, file)
    return _decode_code_page(data, file)


def _strictly(data: bytes, encoding: str, name: str, file: str) -> str:
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        good = data[: error.start].decode(encoding, "replace")
        found = f"bytes that are not {name} (0x{data[error.start : error.start + 4].hex()})"
        raise InputError(Problem(file, f"{name} text", found, row=good.count("\n") + 1)) from None


def _utf16_without_mark(data: bytes) -> str | None:
    head = data[:4096]
    if len(head) < 4 or len(data) % 2 or b"\0" not in head:
        return None
    even, odd = head[::2].count(0) / len(head[::2]), head[1::2].count(0) / len(head[1::2])
    if odd > 0.4 and even < 0.05:
        return "utf-16-le"
    return "utf-16-be" if even > 0.4 and odd < 0.05 else None


def _refuse_broken_utf8(data: bytes, file: str) -> None:
    # Counted on the bytes: a list of the letters of a large file would take gigabytes.
    whole = len(data.decode("utf-8", "ignore")) - len(data.translate(None, bytes(range(128, 256))))
    text = data.decode("utf-8", "surrogateescape")
    positions = []
    for count, match in enumerate(re.finditer("[\udc80-\udcff]+", text), start=1):
        if count > whole:
            return
        if count <= MAX_PROBLEMS:
            positions.append(match.start())
    problems, row, counted = {}, 1, 0
    for position in positions:
        row, counted = row + text.count("\n", counted, position), position
        before = text[max(0, position - 20) : position].rpartition("\n")[2]
        found = f"broken bytes after '{shorten(before)}'"
        problems.setdefault(row, Problem(file, "UTF-8 text, as in the rest of the file", found, row))
    raise InputError(list(problems.values()))


def _decode_code_page(data: bytes, file: str) -> tuple[str, list[Repair]]:
    western = data.decode("cp1252", "replace")
    encoding, text = "Windows-1252", western
    if not _plausibly_western(western):
        from charset_normalizer import from_bytes

        lines = [line for line in data[: 16 * _SAMPLE_BYTES].splitlines() if not line.isascii()]
        best = from_bytes(b"\n".join(lines)[:_SAMPLE_BYTES], cp_isolation=_CODE_PAGES).best()
        if best is None:
            raise InputError(Problem(file, "text in UTF-8", "bytes that are text in no encoding known here"))
        encoding = best.encoding
        text = _strictly(data, encoding, encoding, file)
    changed = (line for line in io.StringIO(text) if not line.isascii())
    return text, repair(f"read as {encoding}, not UTF-8", 1, (line.strip() for line in changed))


def _plausibly_western(text: str) -> bool:
    accented = sum(not char.isascii() for char in text)
    odd = len(_ODD_INSIDE_WORD.findall(text)) + sum(map(len, _LONG_ACCENTED_RUN.findall(text))) + text.count("\ufffd")
    return odd <= 0.05 * accented


def read_csv(
    data: bytes, file: str, known: Collection[str], required: Collection[str] = (), max_rows: int | None = None
) -> Records:
    """Read a CSV file strictly; every value stays text.

    `known` are the contract's column names (matched without regard to case and surrounding space; they also decide
    between delimiters), `required` those that must be there. Columns the contract does not know are left out, and
    named in a repair. Raises InputError naming row and column.
    """
    refuse_foreign(data, file)
    text, repairs = decode(data, file)
    if not text.strip("\ufeff\0 \t\r\n"):
        raise InputError(Problem(file, f"a header row ({', '.join(known)}) and at least one row", "an empty file"))
    delimiter, said = _delimiter(text, known)
    if said:
        text = text.split("\n", 1)[1] if "\n" in text else ""
    records = _records(text, file, delimiter)
    header_row, raw_header = next(((row, cells) for row, cells in records if any(map(str.strip, cells))), (1, []))
    header = clean_header(raw_header, known)
    check_header(header, file, known, required, header_row)
    table = _collect(records, header, header_row, file, max_rows)
    unknown = [name for name in table.columns if name not in known]
    repairs += table.repairs + repair("columns outside the contract were left out", len(unknown), unknown)
    return Records({name: table.columns[name] for name in header if name in known}, table.rows, repairs)


def clean_header(names: list[str], known: Collection[str]) -> list[str]:
    """Header cells without surrounding space, in the contract's spelling where they differ in case only."""
    stripped = [name.strip().lstrip("\ufeff").strip() for name in names]
    while stripped and not stripped[-1]:
        stripped.pop()
    spelling = {name.casefold(): name for name in known}
    return [spelling.get(name.casefold(), name) for name in stripped]


def check_header(
    header: list[str],
    file: str,
    known: Collection[str],
    required: Collection[str],
    row: int | None,
    aliases: Mapping[str, Collection[str]] | None = None,
) -> None:
    """Raise InputError for required columns that are missing, columns given twice, and columns that are nearly named
    as one of the contract that is not there: such a column would be lost without a word.
    """
    problems = []
    if len(header) > MAX_COLUMNS:
        raise InputError(Problem(file, f"at most {MAX_COLUMNS:,} columns", f"{len(header):,}", row=row))
    shown = ", ".join(f"'{shorten(name, 40)}'" for name in header[:30]) or "none"
    problems += [
        Problem(file, "each column once", f"it {header.count(name)} times", row=row, column=name)
        for name in known
        if header.count(name) > 1
    ]
    missing = [name for name in known if name not in header]
    strangers = [name for name in header if name and name not in known]
    for name in missing:
        close = _closest(name, strangers)
        if name in required:
            hint = f": did you mean '{name}' by '{shorten(close, 40)}'? Rename that column" if close else ""
            problems.append(Problem(file, f"a column '{name}'", f"the columns {shown}{hint}", row=row, column=name))
        elif close and _similarity(name, close) >= 0.8:
            expected = f"the column name '{name}' (optional)"
            problems.append(Problem(file, expected, f"'{shorten(close, 40)}': did you mean '{name}'?", row, name))
    if problems:
        raise InputError(problems)


# What other systems call a column. Only ever suggested: a guess that renames silently could pick the wrong one.
_OTHER_NAMES = {
    "title": ("name", "product_name", "product name", "product", "product_title", "vendor_title", "item", "article",
              "bezeichnung", "artikel", "produit", "libelle", "nombre", "description"),
    "vendor_title": ("title", "name", "line", "offer"),
    "product_id": ("id", "sku", "product", "productid", "item_id", "item_number", "master_id"),
    "vendor_id": ("vendor", "supplier", "supplier_id", "seller", "shop", "merchant"),
    "category": ("category_label", "category_name", "class", "label"),
    "seller_id": ("seller", "vendor_id", "merchant", "shop"),
    "listing_id": ("id",), "session_id": ("session", "order_id", "invoice"),
    "timestamp": ("time", "date", "created_at"),
    "event": ("type", "action", "event_type"), "answered_at": ("time", "date", "timestamp"),
}  # fmt: skip


def _similarity(wanted: str, found: str) -> float:
    return difflib.SequenceMatcher(None, wanted.casefold(), found.casefold()[:100]).ratio()


def _closest(wanted: str, found: Collection[str]) -> str | None:
    folded = {name.casefold(): name for name in found}
    best = max(found, key=lambda name: _similarity(wanted, name), default=None)
    if best is not None and _similarity(wanted, best) >= 0.7:
        return best
    return next((folded[name] for name in _OTHER_NAMES.get(wanted, ()) if name in folded), None)


def _delimiter(text: str, known: Collection[str]) -> tuple[str, bool]:
    """Return the delimiter, and whether the first line says it (`sep=;`, which spreadsheets write and hide)."""
    first = text[:20].split("\n", 1)[0].strip()
    if len(first) == 5 and first.lower().startswith("sep=") and first[4] in DELIMITERS:
        return first[4], True
    names = {name.casefold() for name in known}

    def score(delimiter: str) -> tuple[int, float, int]:
        rows = []
        try:
            for cells in csv.reader(io.StringIO(text[:_CHUNK], newline=""), delimiter=delimiter):
                if any(map(str.strip, cells)):
                    rows.append(cells)
                if len(rows) > 20:
                    break
        except csv.Error:
            pass
        if not rows:
            return 0, 0.0, 0
        header, body = rows[0], rows[1:]
        hits = len({name.strip().casefold() for name in header} & names)
        even = sum(len(cells) == len(header) for cells in body) / max(1, len(body))
        return hits, even if len(header) > 1 else 0.0, len(header)

    return max(DELIMITERS, key=score), False


class _LineTooLong(Exception):
    pass


def _lines(text: str) -> Iterator[str]:
    for line in io.StringIO(text, newline=""):
        if len(line) > MAX_LINE:
            raise _LineTooLong
        yield line


def _records(text: str, file: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yield (row, cells) for every record, blank ones too. A record over several lines is one row, as in a sheet."""
    reader = csv.reader(_lines(text), delimiter=delimiter, strict=True)
    row, header = 0, []
    while True:
        start = reader.line_num
        try:
            cells = next(reader)
        except StopIteration:
            return
        except (csv.Error, _LineTooLong) as error:
            raise InputError(_broken_record(text, start, row + 1, header, delimiter, file, error)) from None
        row += 1
        header = header or ([cell.strip() for cell in cells] if any(map(str.strip, cells)) else [])
        yield row, cells


def _broken_record(
    text: str, start: int, row: int, header: list[str], delimiter: str, file: str, error: Exception
) -> Problem:
    """Say what is wrong with the record that starts after `start` lines: a field too long, or a quote that is off."""
    lines = io.StringIO(text, newline="")
    for _ in range(start):
        lines.readline()
    record = lines.read()
    limit = csv.field_size_limit()
    position, index = 0, 0
    while position <= len(record) and index < 10 * MAX_COLUMNS:
        opened = record.startswith('"', position)
        end = _end_of_field(record, position, delimiter)
        length = (len(record) if end is None else end) - position
        column = header[index] if index < len(header) else None
        if end is None:
            return Problem(
                file, "a closing quote for the quote that opens this field",
                f"none up to the end of the file; it starts '{shorten(record[position:], 40)}'", row, column,
            )  # fmt: skip
        if length > limit:
            found = f"{length:,} characters, starting '{shorten(record[position:], 40)}'"
            return Problem(file, f"a field of at most {limit:,} characters", found, row, column)
        follows = record[end : end + 1]
        if opened and follows not in (delimiter, "\r", "\n", ""):
            found = f"'{shorten(record[position : end + 20], 60)}'"
            return Problem(
                file, 'a quoted field that ends at its quote (a quote inside is written "")', found, row, column
            )
        if follows != delimiter:
            break
        position, index = end + 1, index + 1
    if isinstance(error, _LineTooLong):
        return Problem(file, f"a row of at most {MAX_LINE:,} characters", "a longer one", row)
    return Problem(file, "a row of CSV", str(error), row)


def _end_of_field(record: str, position: int, delimiter: str) -> int | None:
    """Where the field that starts at `position` ends (after its closing quote), None if its quote is never closed."""
    if record.startswith('"', position):
        position += 1
        while (quote := record.find('"', position)) >= 0:
            if not record.startswith('""', quote):
                return quote + 1
            position = quote + 2
        return None
    end = re.compile(f"[{re.escape(delimiter)}\r\n]").search(record, position)
    return end.start() if end else len(record)


class ProblemList(list[Problem]):
    """Problems found so far; reading stops at a thousand, nobody reads more."""

    def add(self, problem: Problem) -> None:
        """Add one; raises InputError with all of them when there are too many to go on."""
        self.append(problem)
        if len(self) >= MAX_PROBLEMS:
            raise InputError(self)

    def stop(self) -> None:
        """Raise InputError if there is any problem."""
        if self:
            raise InputError(self)


class _Noted:
    """Rows counted, the first ones kept to show: a file may hold sixty million blank ones."""

    def __init__(self) -> None:
        self.count = 0
        self.first: list[int] = []

    def add(self, row: int) -> None:
        self.count += 1
        if len(self.first) < EXAMPLES_SHOWN:
            self.first.append(row)

    def repair(self, what: str) -> list[Repair]:
        return repair(what, self.count, (f"row {row}" for row in self.first))


def _collect(
    records: Iterator[tuple[int, list[str]]], header: list[str], header_row: int, file: str, max_rows: int | None
) -> Records:
    width, wanted = len(header), f"{len(header)} fields ({', '.join(header[:10])}{', …' if len(header) > 10 else ''})"
    problems, blank, trimmed = ProblemList(), _Noted(), _Noted()
    chunks: list[list[pa.Array]] = [[] for _ in header]
    rows: list[int] = []
    pending: list[list[str]] = []
    at_once = min(_CHUNK, _CELLS // max(1, width))

    def flush() -> None:
        for index, values in enumerate(zip(*pending, strict=True)):
            chunks[index].append(pa.array(values, type=pa.string()))
        pending.clear()

    for row, cells in records:
        if not any(map(str.strip, cells)):
            blank.add(row)
            continue
        if len(cells) > width and not any(map(str.strip, cells[width:])):
            trimmed.add(row)
            cells = cells[:width]
        if len(cells) != width:
            problems.add(Problem(file, wanted, f"{len(cells)} fields", row))
            continue
        if any("\0" in cell for cell in cells):
            index = next(index for index, cell in enumerate(cells) if "\0" in cell)
            found = f"a NUL byte in '{shorten(cells[index], 40)}': the file is damaged or not text"
            problems.add(Problem(file, "text", found, row, header[index]))
            continue
        if max_rows is not None and len(rows) >= max_rows:
            raise InputError([*problems, Problem(file, f"at most {max_rows:,} rows", "more", row)])
        rows.append(row)
        pending.append(cells)
        if len(pending) >= at_once:
            flush()
    flush()
    _check_unnamed(header, header_row, chunks, rows, file, problems)
    problems.stop()
    repairs = blank.repair("blank rows were skipped")
    repairs += trimmed.repair("empty fields after the last column were left out")
    columns = {
        name: pa.chunked_array(parts, type=pa.string()) for name, parts in zip(header, chunks, strict=True) if name
    }
    return Records(columns, np.asarray(rows, dtype=np.int64), repairs)


def _check_unnamed(
    header: list[str],
    header_row: int,
    chunks: list[list[pa.Array]],
    rows: list[int],
    file: str,
    problems: ProblemList,
) -> None:
    for index, name in enumerate(header):
        if name:
            continue
        values = (value for part in chunks[index] for value in part.to_pylist())
        filled = next(((row, value) for row, value in zip(rows, values, strict=True) if value.strip()), None)
        if filled:
            found = f"no name, and values such as '{shorten(filled[1], 40)}' in row {filled[0]}"
            problems.add(Problem(file, f"a name for column {index + 1} in the header", found, header_row))
