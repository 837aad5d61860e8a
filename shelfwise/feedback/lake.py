"""Finding in the lake what an answer is to: the matches of an upload, the export of the review queue, the catalog."""

from __future__ import annotations

import difflib
import io
import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from upath import UPath

from shelfwise import clock
from shelfwise.artifacts import is_local
from shelfwise.classification.taxonomy import split_categories
from shelfwise.contract.store import check_key
from shelfwise.contract.tabular import read_csv
from shelfwise.errors import InputError, Problem
from shelfwise.feedback.answers import Answer, answers_from_matches, new_answer, prediction_id, rejected
from shelfwise.feedback.categories import category_answers
from shelfwise.feedback.inbox import Inbox
from shelfwise.feedback.resolve import contradictions, review
from shelfwise.matching.decisions import REVIEW
from shelfwise.queues import AUDIT

NONE = "none"
_LINE = ("vendor_id", "file", "row", "line_id")
_MATCH_EXPORT = (
    *_LINE, "title", "product_id", "product_title", "score", "alternatives", "reason", "why", "champion_version",
    "answer", "answered_by",
)  # fmt: skip
_CATEGORY_EXPORT = (
    *_LINE, "title", "category", "probability", "alternatives", "reason", "match_category", "explanation",
    "champion_version", "answer", "answered_by",
)  # fmt: skip
EXPORT_COLUMNS = tuple(dict.fromkeys([*_MATCH_EXPORT, *_CATEGORY_EXPORT]))
REQUIRED = (*_LINE, "answer")
_MATCHES = ("tables", "uploads", "upload_matches")
_CATEGORIES = ("tables", "uploads", "upload_categories")
_LABELLED = ("tables", "marts", "labelled_listings.parquet")
_CATALOGS = (("tables", "raw", "products.parquet"), ("tables", "staging", "stg_products.parquet"))


def matches_of(lake: UPath | Path | str, vendor_id: str, file: str) -> pd.DataFrame:
    """Return the matches of an upload. Raises InputError for names that are no upload's and where it has none."""
    return _of_upload(lake, _MATCHES, vendor_id, file, "an upload that was matched")


def categories_of(lake: UPath | Path | str, vendor_id: str, file: str) -> pd.DataFrame:
    """Return the categories of an upload. Raises InputError for names that are no upload's and where it has none."""
    return _of_upload(lake, _CATEGORIES, vendor_id, file, "an upload whose lines were given categories")


def _of_upload(
    lake: UPath | Path | str, table: tuple[str, ...], vendor_id: str, file: str, expected: str
) -> pd.DataFrame:
    key = f"{vendor_id}/{file}"
    check_key(key)
    path = UPath(lake).joinpath(*table, vendor_id, f"{file}.parquet")
    try:
        data = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(Problem(key, expected, f"no {path}")) from None
    return pd.read_parquet(io.BytesIO(data))


def matched_uploads(lake: UPath | Path | str) -> set[str]:
    """Return "vendor/file" of every upload that has matches."""
    folder = UPath(lake).joinpath(*_MATCHES)
    if is_local(folder):
        root = Path(str(folder))
        found: Iterator[str] = (path.relative_to(root).as_posix() for path in root.glob("*/*.parquet"))
    else:
        folder.fs.invalidate_cache()
        prefix = folder.path.rstrip("/") + "/"
        found = (name.removeprefix(prefix) for name in folder.fs.find(folder.path) if name.endswith(".parquet"))
    return {name.removesuffix(".parquet") for name in found}


def catalog_products(lake: UPath | Path | str) -> set[str] | None:
    """Return the ids of the catalog's products, None where the lake has no catalog yet."""
    for place in _CATALOGS:
        try:
            data = UPath(lake).joinpath(*place).read_bytes()
        except FileNotFoundError:
            continue
        return set(pd.read_parquet(io.BytesIO(data), columns=["product_id"])["product_id"].astype(str))
    return None


def known_categories(lake: UPath | Path | str) -> set[str] | None:
    """Return every category that a labelled listing has, None where the lake holds no labelled listings yet."""
    try:
        data = UPath(lake).joinpath(*_LABELLED).read_bytes()
    except FileNotFoundError:
        return None
    frame = pd.read_parquet(io.BytesIO(data))
    several = [one for many in frame.get("categories", ()) if many is not None for one in many]
    return {str(one) for one in [*frame["category"].dropna(), *several]}


@dataclass(frozen=True)
class Report:
    """What a person should look at: problems with files and answers, and lines with answers that differ."""

    problems: list[Problem]
    contradictions: pd.DataFrame

    @property
    def sentence(self) -> str:
        """One line; the first problem in full."""
        if not self.problems and self.contradictions.empty:
            return "every file of the inbox was read, and no two answers differ"
        first = f"; the first: {self.problems[0]}" if self.problems else ""
        return f"{len(self.problems)} problem(s), {len(self.contradictions)} contradicted line(s){first}"


def examine(inbox: Inbox, lake: UPath | Path | str) -> Report:
    """Compare what was read from the inbox with the catalog and the matches that the lake holds now."""
    products = catalog_products(lake)
    problems = [*inbox.bad_files, *inbox.unknown_predictions]
    if products is None:
        products = set(inbox.frame["product_id"].dropna())
    problems += review(inbox.frame, products, known_uploads=matched_uploads(lake), now=clock.now())
    return Report(problems, contradictions(inbox.frame, products))


def answer_row(
    lake: UPath | Path | str, vendor_id: str, file: str, row: int, product_id: str | None, answered_by: str = ""
) -> Answer:
    """Return the answer to the line in a row of an upload (header = row 1), with what was predicted for it.

    Raises InputError where there is no such line, or no such product in the catalog.
    """
    matches = matches_of(lake, vendor_id, file)
    lines = matches.loc[matches["row"] == row, "line_id"].unique().tolist()
    problems = [] if lines else [Problem(f"{vendor_id}/{file}", "a row with a line of this upload", str(row), row)]
    problems += _unknown(product_id, catalog_products(lake), f"{vendor_id}/{file}", row, "product_id")
    if problems:
        raise InputError(problems)
    return answers_from_matches(matches, {lines[0]: product_id}, answered_by=answered_by)[0]


def category_of_row(
    lake: UPath | Path | str,
    vendor_id: str,
    file: str,
    row: int,
    category: str | None,
    answered_by: str = "",
    new: bool = False,
) -> Answer:
    """Return the answer to the category of the line in a row of an upload (header = row 1), with what was predicted.

    Raises InputError where there is no such line, and for a category that no labelled listing has, unless it is `new`.
    """
    rows, key = categories_of(lake, vendor_id, file), f"{vendor_id}/{file}"
    lines = rows.loc[rows["row"] == row, "line_id"].unique().tolist()
    problems = [] if lines else [Problem(key, "a row with a line of this upload", str(row), row)]
    problems += _unknown_paths(category, None if new else known_categories(lake), key, row, "category")
    if problems:
        raise InputError(problems)
    return category_answers(rows, {lines[0]: category}, answered_by=answered_by)[0]


def answers_from_export(
    lake: UPath | Path | str,
    data: bytes,
    name: str,
    answered_by: str = "",
    at: datetime | None = None,
    new: bool = False,
) -> list[Answer]:
    """Return the answers in a filled-in export of the review queue or of the category queue. Its column `answer` holds
    the product's id, or the category's path, or `none` where the line matches nothing, or where no category shown is
    right and the right one is not known; rows where it is empty are skipped.

    `at` is the time of all of them, now by default. A category that no labelled listing has is an error, unless it may
    be `new`. Raises InputError naming file, row and column of everything that is wrong; then nothing of the file is an
    answer.
    """
    records = read_csv(data, name, EXPORT_COLUMNS, REQUIRED)
    table = pd.DataFrame({column: values.to_pylist() for column, values in records.columns.items()})
    table = table.apply(lambda values: values.str.strip()).assign(at_row=records.rows)
    filled = table[table["answer"] != ""]
    kind = _categories_export(lake, new) if "category" in table else _matches_export(lake)
    at = at or clock.now()
    problems: list[Problem] = []
    answers: list[Answer] = []
    uploads: dict[tuple[str, str], pd.DataFrame | None] = {}
    for row in filled.to_dict("records"):
        wrong, own = _check(row, name, kind, uploads)
        problems += wrong
        if not wrong and own is not None:
            answers.append(kind.answer(row, own, row.get("answered_by") or answered_by, at))
    repeated = filled[filled.duplicated(["vendor_id", "file", "line_id"])]
    problems += [Problem(name, "each line once", "it again", int(row), "line_id") for row in repeated["at_row"]]
    if problems:
        raise InputError(sorted(problems, key=lambda one: (one.row or 0, one.column or "")))
    return answers


@dataclass(frozen=True)
class _Export:
    """What is to know of a kind of export."""

    upload: str
    """What a row's file has to be, for people."""
    predicted: Callable[[str, str], pd.DataFrame]
    """The rows of the lake for vendor and file."""
    wrong: Callable[[str, str, int], list[Problem]]
    """What is wrong with an answer in a row of a file."""
    answer: Callable[[dict[str, Any], pd.DataFrame, str, datetime], Answer]
    """The answer of a row, whose line has these rows in the lake."""


def _matches_export(lake: UPath | Path | str) -> _Export:
    products = catalog_products(lake)
    return _Export(
        "an upload that was matched",
        partial(matches_of, lake),
        lambda answer, name, row: _unknown(_said(answer), products, name, row, "answer"),
        lambda row, own, by, at: _answer(row, own, by, at, products),
    )


def _categories_export(lake: UPath | Path | str, new: bool) -> _Export:
    known = None if new else known_categories(lake)
    return _Export(
        "an upload whose lines were given categories",
        partial(categories_of, lake),
        lambda answer, name, row: _unknown_paths(_said(answer), known, name, row, "answer"),
        _category_answer,
    )


def _check(
    row: dict[str, Any], name: str, kind: _Export, uploads: dict[tuple[str, str], pd.DataFrame | None]
) -> tuple[list[Problem], pd.DataFrame | None]:
    """What is wrong with a filled-in row, and what the lake holds of its line."""
    at, key = int(row["at_row"]), (_plain(row["vendor_id"]), _plain(row["file"]))
    if key not in uploads:
        try:
            uploads[key] = kind.predicted(*key)
        except InputError:
            uploads[key] = None
    predicted = uploads[key]
    if predicted is None:
        return [Problem(name, kind.upload, f"{key[0]}/{key[1]}", at, "file")], None
    own = predicted[predicted["line_id"] == _plain(row["line_id"])]
    problems = []
    if own.empty:
        problems.append(Problem(name, f"a line of {key[0]}/{key[1]}", row["line_id"], at, "line_id"))
    elif str(own["row"].iloc[0]) != row["row"]:
        problems.append(Problem(name, f"{own['row'].iloc[0]}, the row of this line", row["row"], at, "row"))
    return [*problems, *kind.wrong(row["answer"], name, at)], own


def _unknown(product: str | None, products: Collection[str] | None, name: str, row: int, column: str) -> list[Problem]:
    if product is None or products is None or product in products:
        return []
    return [Problem(name, f"a product of the catalog, or {NONE} where the line matches nothing", product, row, column)]


def _unknown_paths(cell: str | None, known: set[str] | None, name: str, row: int, column: str) -> list[Problem]:
    problems = []
    for path in split_categories(cell):
        if known is not None and path not in known:
            near = difflib.get_close_matches(path, sorted(known), 1)
            expected = "a category that some listing has" + (f", such as {near[0]!r}" if near else "")
            problems.append(Problem(name, f"{expected} (--new for a new one)", path, row, column))
    return problems


def _category_answer(row: dict[str, Any], own: pd.DataFrame, answered_by: str, at: datetime) -> Answer:
    """The answer of a row of the category queue. Where another champion has spoken since, it is a label only: what the
    person saw is not what the lake holds.
    """
    best, category = own[own["rank"] == 1].iloc[0], _said(row["answer"])
    line = str(best["line_id"])
    answer = category_answers(own, {line: category}, answered_by=answered_by, answered_at=at)[0]
    if (row.get("champion_version") or str(best["champion_version"])) == str(best["champion_version"]):
        return answer
    return answer | {"prediction": None, "prediction_id": None}


def _answer(
    row: dict[str, Any], matches: pd.DataFrame, answered_by: str, at: datetime, products: Collection[str] | None
) -> Answer:
    """The answer of a row: to what its export showed, which may be what an earlier champion had predicted."""
    best, product = matches[matches["rank"] == matches["rank"].min()].iloc[0], _said(row["answer"])
    shown = row.get("champion_version") or str(best["champion_version"])
    if shown == str(best["champion_version"]):
        line = str(best["line_id"])
        return answers_from_matches(matches, {line: product}, answered_by=answered_by, answered_at=at)[0]
    shown_ids = _shown_candidates(row, products)
    answer = new_answer(str(best["vendor_id"]), str(best["title"]), product, answered_by, at.isoformat())
    answer |= {"file": str(best["file"]), "line_id": str(best["line_id"])}
    if row.get("reason") == AUDIT:
        # Which decision was audited the export does not tell, so that nobody is led by it: a label, no measurement.
        return answer | {"rejected_product_ids": rejected(shown_ids, product)}
    score = float(row["score"]) if re.fullmatch(r"[0-9.eE+-]+", row.get("score") or "") else None
    scores = [score, *[None] * len(shown_ids)]
    return answer | {
        "prediction_id": prediction_id(answer["vendor_id"], answer["file"], answer["line_id"], shown),
        "prediction": {
            "candidates": [{"product_id": one, "score": its} for one, its in zip(shown_ids, scores, strict=False)],
            "decision": REVIEW,
            "champion_version": shown,
            "audited": False,
        },
    }


def _shown_candidates(row: dict[str, Any], products: Collection[str] | None) -> list[str]:
    """The candidates that an export showed for a line, best first."""
    first = [_plain(row["product_id"])] if row.get("product_id") else []
    others = re.findall(r"(?:^| \| )'?([^:|]+?): ", row.get("alternatives") or "")
    return [one for one in dict.fromkeys([*first, *others]) if products is None or one in products]


def _said(answer: str) -> str | None:
    return None if answer.casefold() == NONE else _plain(answer)


def _plain(text: str) -> str:
    """A cell as it was before `safe_export` kept spreadsheets from taking it for a formula."""
    return text[1:] if re.match(r"'[=+\-@\t\r\n＝＋－＠]", text) else text
