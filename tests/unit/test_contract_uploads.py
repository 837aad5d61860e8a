"""Vendor files: every kind of bad input gets a message its vendor can act on, or a stated repair."""

from __future__ import annotations

import gzip
import io
import tracemalloc
import zipfile
from collections.abc import Callable
from types import SimpleNamespace

import openpyxl
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from shelfwise.contract import UploadLimits, columns, parse_upload, tabular
from shelfwise.contract.columns import parse_price, prefers_comma
from shelfwise.contract.uploads import LINE_COLUMNS
from shelfwise.errors import InputError

GOOD = b"title,sku,brand,description,price,product_id\nEarl Grey 100g,007,Tea & Co,Loose,3.50,p1\nNothing,8,,,,\n"


def read(data: bytes, **limits: float) -> pd.DataFrame:
    return parse_upload(data, "lines.csv", "vendor", UploadLimits(**limits)).frame  # type: ignore[arg-type]


def repairs(data: bytes) -> dict[str, int]:
    return {repair.what: repair.count for repair in parse_upload(data, "lines.csv", "vendor").repairs}


def test_a_good_file_keeps_every_value() -> None:
    upload = parse_upload(GOOD, "lines.csv", "vendor")
    frame = upload.frame
    assert tuple(frame.columns) == LINE_COLUMNS
    assert frame["row"].tolist() == [2, 3]
    assert frame["title"].tolist() == ["Earl Grey 100g", "Nothing"]
    assert frame["sku"].tolist() == ["007", "8"], "leading zeros are part of an id"
    assert frame["price"].iloc[0] == 3.5
    assert pd.isna(frame["price"].iloc[1])
    assert frame["truth_product_id"].tolist() == ["p1", ""]
    assert set(frame["vendor_id"]) == {"vendor"}
    assert set(frame["file"]) == {"lines.csv"}
    assert upload.repairs == []
    assert repairs(b"title,price\na,2.0900000000000003\nb,0\n") == {}, "what programs write needs no repair"


def test_the_picture_of_a_line_is_kept_as_it_is_named_and_refuses_no_file() -> None:
    frame = read(b"title,image\na,acme/1.jpg\nb, \nc,https://example.org/1.jpg\n")
    assert frame["image"].tolist()[::2] == ["acme/1.jpg", "https://example.org/1.jpg"]
    assert frame["image"].isna().tolist() == [False, True, False]
    assert read(GOOD)["image"].isna().all()
    assert read(GOOD)["image"].dtype == frame["image"].dtype == "str"
    inline = "data:image/png;base64," + "A" * 50_000
    assert read(f'title,image\na,"{inline}"\n'.encode())["image"].tolist() == [inline]


def test_types_do_not_depend_on_what_the_file_holds() -> None:
    full, bare = read(GOOD), read(b"title\nx\n")
    assert full.dtypes.to_dict() == bare.dtypes.to_dict()
    assert bare["truth_product_id"].isna().all(), "not given is not the same as 'matches nothing'"


def test_line_ids_depend_on_vendor_file_row_and_title_only() -> None:
    ids = set(parse_upload(b"title,price\na,1\na,1\n", "f.csv", "v").frame["line_id"])
    assert len(ids) == 2, "a line that is there twice is two lines"
    assert ids == set(parse_upload(b"price;title\n2;a\n3;a\n", "f.csv", "v").frame["line_id"])
    assert not ids & set(parse_upload(b"title\na\na\n", "f.csv", "w").frame["line_id"])
    assert not ids & set(parse_upload(b"title\na\na\n", "g.csv", "v").frame["line_id"])


def workbook() -> bytes:
    out = io.BytesIO()
    book = openpyxl.Workbook()
    book.active.append(["title"])
    book.save(out)
    return out.getvalue()


def zip_bomb() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("title.csv", b"0" * 30_000_000)
    return out.getvalue()


# name, bytes, parts of the message
BAD: list[tuple[str, bytes | Callable[[], bytes], list[str]]] = [
    ("no bytes", b"", ["an empty file", "title"]),
    ("blank", b" \r\n\r\n", ["an empty file"]),
    ("header only", b"title,price\n", ["a header only", "at least one line"]),
    ("missing column", b"ean,cost\n1,2\n", ["row 1", "column 'title'", "'ean', 'cost'"]),
    ("renamed column", b"titel;price\na;1\n", ["'titel'", "did you mean 'title'"]),
    ("other system's name", b"Product_Name,price\na,1\n", ["did you mean 'title' by 'Product_Name'"]),
    ("renamed optional column", b"title,pric\na,1\n", ["'pric': did you mean 'price'"]),
    ("nearly a picture", b"title,images\na,b.jpg\n", ["'images': did you mean 'image'"]),
    ("no header", b"Earl Grey,3.50\nCoffee,4\n", ["a column 'title'", "'Earl Grey', '3.50'"]),
    ("column twice", b"title,Title\na,b\n", ["each column once", "2 times", "column 'title'"]),
    ("values without a name", b"title,,price\na,b,1\n", ["a name for column 2", "'b' in row 2"]),
    ("short row", b"title,price\na,1\nb\nc,3\n", ["row 3", "2 fields (title, price)", "1 fields"]),
    ("long row", b"title,price\na,1\n\nb,2,3\n", ["row 4", "2 fields", "3 fields"]),
    ("price that is none", b"title,price\na,1\nb,cheap\n", ["row 3", "column 'price'", "a number", "'cheap'"]),
    ("negative price", b"title,price\na,-1\n", ["row 2", "column 'price'", "zero or more", "-1"]),
    ("price nan", b"title,price\na,nan\n", ["row 2", "column 'price'"]),
    ("price inf", b"title,price\na,inf\n", ["row 2", "column 'price'"]),
    ("blank title", b"title,price\na,1\n,2\n", ["row 3", "column 'title'", "a title"]),
    ("long title", b"title\n" + b"x" * 2_001 + b"\n", ["row 2", "column 'title'", "at most 2,000", "2,001 characters"]),
    ("million-character title", b"sku,title\n1,a\n2," + b"x" * 1_000_000, ["row 3", "column 'title'", "1,000,000"]),
    ("million columns", b"title," + b"," * 1_000_000 + b"x\n1\n", ["at most 1,000 columns"]),
    ("row without end", b"title\n" + b"a,b" * 1_000_000, ["row 2", "a row of at most"]),
    ("long sku", b"title,sku\na," + b"9" * 201 + b"\n", ["row 2", "column 'sku'", "at most 200"]),
    ("NUL byte", b"title,brand\na,b\nc\0d,e\n", ["row 3", "column 'title'", "NUL"]),
    ("open quote", b'title,brand\na,b\n"c,d\ne,f\n', ["row 3", "column 'title'", "closing quote"]),
    ("stray quote", b'title,brand\n"Best" Tea,b\n', ["row 2", "column 'title'", '""']),
    ("workbook", workbook, ["an Excel workbook", "save it as CSV (UTF-8)"]),
    ("old workbook", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 500, ["Excel workbook (.xls)", "save it as CSV"]),
    ("zip bomb", zip_bomb, ["a zip archive", "unpack it"]),
    ("gzip", gzip.compress(GOOD), ["a gzip archive", "unpack it"]),
    ("pdf", b"%PDF-1.7 ...", ["a PDF document", "save it as CSV"]),
    ("parquet", b"PAR1....PAR1", ["a Parquet file"]),
    ("web page", b"<!DOCTYPE html><html><body>Not found</body></html>", ["a web page"]),
    ("broken UTF-8", "title\nCafé\nThé\nCaf\udce9\n".encode("utf-8", "surrogateescape"), ["row 4", "UTF-8"]),
    ("cut UTF-16", "title\nCafé".encode("utf-16")[:-1], ["UTF-16"]),
]


@pytest.mark.parametrize(("data", "parts"), [bad[1:] for bad in BAD], ids=[bad[0] for bad in BAD])
def test_bad_input_is_refused_with_a_message_that_says_where_and_what(
    data: bytes | Callable[[], bytes], parts: list[str]
) -> None:
    with pytest.raises(InputError) as caught:
        read(data if isinstance(data, bytes) else data())
    message = str(caught.value)
    assert message.startswith("lines.csv")
    for part in parts:
        assert part in message
    assert "expected" in message


def test_every_ragged_row_is_named_not_only_the_first() -> None:
    with pytest.raises(InputError) as caught:
        read(b"title,price\na\nb,1\nc,2,3\n")
    assert [problem.row for problem in caught.value.problems] == [2, 4]


def test_endless_problems_are_cut_short() -> None:
    with pytest.raises(InputError) as caught:
        read(b"title,price\n" + b"a\n" * 50_000)
    assert len(caught.value.problems) == 1_000
    assert len(str(caught.value)) < 5_000


@pytest.mark.parametrize(
    "data",
    [
        b"title\nabc\n" + b"\n" * 400_000,
        ("title\n" + "яблоко\n" * 40_000).encode() + b"\xff\n",
        b"title\n" + "яяяя\n".encode() * 30_000 + b"\xff\n" * 20_000,
        b",".join([b"title"] + [b"c%d" % i for i in range(999)]) + b"\n" + (b"ab," * 999 + b"ab\n") * 300,
    ],
    ids=["blank rows", "one broken byte", "many broken bytes", "a thousand columns"],
)
def test_hostile_files_take_memory_in_proportion_to_their_size(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tabular, "_CELLS", 20_000)  # as small beside these files as it is beside the largest
    parse_upload(GOOD, "lines.csv", "vendor")  # what is imported and remembered once does not count
    tracemalloc.start()
    try:
        parse_upload(data, "lines.csv", "vendor")
    except InputError:
        pass
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 20 * len(data)


def test_broken_bytes_are_named_by_row_with_what_stands_before_them() -> None:
    with pytest.raises(InputError) as caught:
        read("title\ncafé\nthéière\n".encode() + b"ok\xff \xfe\nb\nab\xff\n")
    assert [(p.row, p.found) for p in caught.value.problems] == [
        (4, "broken bytes after 'ok'"),
        (6, "broken bytes after 'ab'"),
    ]


def test_rows_before_the_header_count() -> None:
    with pytest.raises(InputError) as caught:
        read(b"\n,\ntitle,,sku\nabc,1,2\n")
    assert caught.value.problems[0].row == 3
    with pytest.raises(InputError) as caught:
        read(b',\ntitle,sku\nabc,"1\n')
    assert (caught.value.problems[0].row, caught.value.problems[0].column) == (3, "sku")


def test_limits_on_bytes_and_rows() -> None:
    with pytest.raises(InputError, match="at most 10 bytes"):
        read(GOOD, max_bytes=10)
    with pytest.raises(InputError, match=r"row 3: expected at most 1 rows"):
        read(GOOD, max_rows=1)
    assert len(read(GOOD, max_rows=2, max_bytes=len(GOOD))) == 2


TEXT = "title,brand\nCafé crème brûlée 5 €,Müller\nThé “noir”,Nestlé\n"


@pytest.mark.parametrize(
    ("encoding", "said"),
    [
        ("utf-8", None),
        ("utf-8-sig", None),
        ("utf-16", "UTF-16"),
        ("utf-16-le", "UTF-16"),
        ("utf-16-be", "UTF-16"),
        ("utf-32", "UTF-32"),
        ("cp1252", "Windows-1252"),
    ],
)
def test_encodings_give_the_same_lines(encoding: str, said: str | None) -> None:
    data = TEXT.encode(encoding)
    frame = read(data)
    assert frame["title"].tolist() == ["Café crème brûlée 5 €", "Thé “noir”"]
    assert frame["brand"].tolist() == ["Müller", "Nestlé"]
    notes = list(repairs(data))
    assert notes == [] if said is None else [said in note for note in notes] == [True]


def test_latin_1() -> None:
    data = "title\nSüßer Käse\nCrème fraîche\n".encode("latin-1")
    assert read(data)["title"].tolist() == ["Süßer Käse", "Crème fraîche"]


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("cp1250", "Kawa mielona żółta łąka\nŚwieże mięso i ćwikła\nŹródło żywiec\n"),
        ("cp1251", "Кофе молотый 500 г\nЧай чёрный листовой\nСахар белый\n"),
        ("cp932", "日本のコーヒー豆 500g\nお茶 緑茶 ティーバッグ\n抹茶チョコレート\n"),
    ],
)
def test_other_code_pages_are_found_where_western_text_makes_no_sense(encoding: str, text: str) -> None:
    data = f"title\n{text}".encode(encoding)
    assert read(data)["title"].tolist() == text.splitlines()
    assert any(encoding in what for what in repairs(data))


def test_mojibake_is_mended_and_said() -> None:
    data = "title,sku\nCafÃ© crÃ¨me,CafÃ©\nplain,1\n".encode()
    frame = read(data)
    assert frame["title"].tolist() == ["Café crème", "plain"]
    assert frame["sku"].iloc[0] == "CafÃ©", "ids are compared as they are, so they are left as they are"
    assert repairs(data) == {"wrongly decoded text in column 'title' was mended": 1}


def test_text_that_only_looks_odd_is_left_alone() -> None:
    titles = ["CHÂTEAU Ângela", "AÇÃO São", "Ørsted Øl", "naïve €"]
    assert read(("title\n" + "\n".join(titles)).encode())["title"].tolist() == titles


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_delimiters_and_line_ends(delimiter: str, end: str) -> None:
    rows = [["Brand", " Title ", "PRICE"], ["b", '"Tea, green; fine | 100\tg"', "2.5"], ["", "x", ""]]
    frame = read((end.join(delimiter.join(row) for row in rows) + end).encode())
    assert frame["title"].tolist() == ["Tea, green; fine | 100\tg", "x"]
    assert frame["price"].iloc[0] == 2.5
    assert frame["row"].tolist() == [2, 3]


def test_the_delimiter_line_of_spreadsheets() -> None:
    assert read(b"sep=;\r\ntitle;brand\r\na,b;c\r\n")["title"].tolist() == ["a,b"]


def test_rows_are_counted_as_a_spreadsheet_shows_them() -> None:
    data = b'\ntitle,brand\n"two\nlines",a\n\n,\nlast,b\n'
    frame = read(data)
    assert frame["row"].tolist() == [3, 6]
    assert repairs(data) == {"blank rows were skipped": 2}


def test_empty_trailing_fields_and_unknown_columns_are_left_out_and_said() -> None:
    data = b"title,price,colour,,\na,1,red,,,,\n"
    assert read(data)["price"].tolist() == [1.0]
    assert repairs(data) == {
        "empty fields after the last column were left out": 1,
        "columns outside the contract were left out": 1,
    }


def test_a_few_blank_titles_are_left_out_many_are_an_error() -> None:
    lines = [f"t{n},1" for n in range(38)]
    few = "\n".join(["title,price", *lines, ",9", " ,9"]).encode()
    assert len(read(few)) == 38
    assert repairs(few) == {"rows without a title were left out": 2}
    many = "\n".join(["title,price", *lines, ",9", ",9", ",9"]).encode()
    with pytest.raises(InputError, match=r"row 42, column 'title': expected a title"):
        read(many)


def test_formulas_stay_data() -> None:
    assert read(b'title\n"=HYPERLINK(""http://x"",""y"")"\n')["title"].tolist() == ['=HYPERLINK("http://x","y")']


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("12", 12.0), ("12.5", 12.5), ("12,50 €", 12.5), ("€ 12,50", 12.5), ("$1,299.00", 1299.0), ("1.299,00", 1299.0),
        ("1,299", 1299.0), ("EUR 5", 5.0), ("5 EUR", 5.0), ("1 234,50", 1234.5), ("1\u202f234,50 €", 1234.5),
        ("1'234.50", 1234.5), ("5,-", 5.0), (".99", 0.99), ("0,5", 0.5), ("1,234,567.89", 1234567.89),
        ("12,5 zł", 12.5),
        ("£3", 3.0), ("-1", -1.0),
        ("", None), ("cheap", None), ("1 2", None), ("1.2.3", None), ("12,34,5", None), ("nan", None), ("inf", None),
        ("1e5", None), ("0x10", None), ("12 per kg", None), ("5-6", None), ("--5", None), ("٣", 3.0), ("9" * 400, None),
    ],
)  # fmt: skip
def test_prices_as_people_write_them(text: str, number: float | None) -> None:
    assert parse_price(text) == number


def test_a_price_of_a_hundred_thousand_spaces_is_refused_without_trying_to_read_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def patterns_tried(*_: object) -> str:
        raise AssertionError("the time of the patterns grows with the square of the length")

    text = "1" + " " * 100_000 + "x"
    monkeypatch.setattr(columns, "_SPACES", SimpleNamespace(sub=patterns_tried))
    assert parse_price(text) is None
    with pytest.raises(InputError, match="row 2, column 'price': expected a number"):
        read(f"title,price\na,{text}\n".encode())


def test_a_column_with_decimal_commas_is_read_that_way_throughout() -> None:
    assert read(b"title;price\na;1.299\nb;12,50\n")["price"].tolist() == [1.299, 12.5], "a plain number stays one"
    assert read("title;price\na;1.299 €\nb;12,50 €\n".encode())["price"].tolist() == [1299.0, 12.5]
    assert prefers_comma(["1,5", "2"])
    assert not prefers_comma(["1,5", "2.5"])


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=400))
@example(b"PK\x03\x04")
@example(b"\xff\xfe")
@example(b"\xff\xfe\x00\x00title")
@example(b"title\n\xed\xa0\x80")
def test_arbitrary_bytes_give_lines_or_an_input_error(data: bytes) -> None:
    _lines_or_input_error(data)


@settings(max_examples=250, deadline=None)
@given(
    st.lists(st.text(alphabet="ab1é=,;\t|\"'\r\n\0 \x1c\u2028Ã©€.", max_size=12), max_size=12),
    st.sampled_from(["title", "title,price", "title;product_id;price", '"title"\tbrand', "sep=|\ntitle|sku"]),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "cp1252"]),
)
def test_arbitrary_text_under_a_good_header_gives_lines_or_an_input_error(
    rows: list[str], header: str, encoding: str
) -> None:
    _lines_or_input_error("\n".join([header, *rows]).encode(encoding, "replace"))


def _lines_or_input_error(data: bytes) -> None:
    try:
        frame = parse_upload(data, "f.csv", "v").frame
    except InputError as caught:
        problems = caught.problems
        frame = None
    else:
        problems = []
    if frame is None:
        assert {problem.file for problem in problems} == {"f.csv"}
        return
    assert len(frame) > 0
    assert frame["title"].str.len().between(1, 2_000).all()
    assert frame["line_id"].is_unique
    assert frame["row"].is_monotonic_increasing
    assert "\0" not in "".join(frame["title"])
