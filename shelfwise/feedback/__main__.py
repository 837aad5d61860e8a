"""Corrections from the command line; an export of a queue with a column `answer` is the quickest way.

python -m shelfwise.feedback import answers.csv --lake lake --by ann
python -m shelfwise.feedback answer --lake lake --vendor acme --file list.csv --row 12 --product 4711   (or --none)
python -m shelfwise.feedback category --lake lake --vendor acme --file list.csv --row 12 --category "Drinks > Beer"
python -m shelfwise.feedback list --lake lake
"""

from __future__ import annotations

import argparse
import getpass
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from upath import UPath

from shelfwise.contract.storage import ListingError
from shelfwise.errors import InputError
from shelfwise.feedback.inbox import FOLDER, read_inbox, record_answers
from shelfwise.feedback.lake import answer_row, answers_from_export, category_of_row, examine
from shelfwise.feedback.resolve import NOTHING


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m shelfwise.feedback",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    shared = argparse.ArgumentParser(add_help=False)
    lake = os.environ.get("SHELFWISE_LAKE") or "lake"
    shared.add_argument("--lake", default=lake, help="local or s3:// (default: SHELFWISE_LAKE, or ./lake)")
    who = argparse.ArgumentParser(add_help=False)
    who.add_argument("--by", default=None, help="who answers (default: the user's name)")
    one = commands.add_parser("answer", parents=[shared, who], help="answer one line of an upload")
    one.add_argument("--vendor", required=True)
    one.add_argument("--file", required=True)
    one.add_argument("--row", required=True, type=int, help="as in a spreadsheet: the header is row 1")
    chosen = one.add_mutually_exclusive_group(required=True)
    chosen.add_argument("--product", help="id of the product it is")
    chosen.add_argument("--none", action="store_true", help="it matches nothing in the catalog")
    named = commands.add_parser("category", parents=[shared, who], help="answer the category of one line of an upload")
    named.add_argument("--vendor", required=True)
    named.add_argument("--file", required=True)
    named.add_argument("--row", required=True, type=int, help="as in a spreadsheet: the header is row 1")
    right = named.add_mutually_exclusive_group(required=True)
    right.add_argument("--category", help="the path it belongs to; several right ones joined by ' | '")
    right.add_argument("--none", action="store_true", help="none of those shown is right, and which is, is not known")
    named.add_argument("--new", action="store_true", help="a category that no labelled listing has yet")
    many = commands.add_parser("import", parents=[shared, who], help="take a filled-in export of a queue")
    what = "exports/review_queue.csv or category_queue.csv with a column `answer`"
    many.add_argument("csv", help=f"{what}: a product's id or a category's path, none, or empty")
    many.add_argument("--new", action="store_true", help="categories that no labelled listing has yet")
    listing = commands.add_parser("list", parents=[shared], help="show the last answers and what is wrong with some")
    listing.add_argument("--last", type=int, default=20)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return 1, with what to change on standard error, where nothing was recorded."""
    given = _parser().parse_args(arguments)
    commands = {"answer": _answer, "category": _category, "import": _import, "list": _list}
    try:
        return commands[given.command](given)
    except (InputError, ListingError, OSError) as error:
        print(error, file=sys.stderr)
        return 1


def _who(given: argparse.Namespace) -> str:
    if given.by is not None:
        return given.by
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container without a user database
        return ""


def _answer(given: argparse.Namespace) -> int:
    product = None if given.none else given.product
    answer = answer_row(given.lake, given.vendor, given.file, given.row, product, _who(given))
    batch = record_answers(UPath(given.lake) / FOLDER, [answer])
    print(f"{answer['vendor_title']!r} {NOTHING if product is None else f'is {product}'} ({batch})")
    return 0


def _category(given: argparse.Namespace) -> int:
    category = None if given.none else given.category
    answer = category_of_row(given.lake, given.vendor, given.file, given.row, category, _who(given), given.new)
    batch = record_answers(UPath(given.lake) / FOLDER, [answer])
    print(f"{answer['vendor_title']!r} {_belongs(category)} ({batch})")
    return 0


def _belongs(category: object) -> str:
    return f"belongs to {category}" if isinstance(category, str) else "belongs to none of the categories shown"


def _import(given: argparse.Namespace) -> int:
    data, name = Path(given.csv).read_bytes(), Path(given.csv).name
    answers = answers_from_export(given.lake, data, name, _who(given), new=given.new)
    if not answers:
        print(f"{given.csv}: no row has an answer", file=sys.stderr)
        return 1
    batch = record_answers(UPath(given.lake) / FOLDER, answers)
    print(f"{len(answers)} answer(s) recorded ({batch})")
    return 0


def _list(given: argparse.Namespace) -> int:
    inbox = read_inbox(UPath(given.lake) / FOLDER)
    for one in inbox.frame.tail(given.last).to_dict("records"):
        product = one["product_id"] if isinstance(one["product_id"], str) else NOTHING
        who = f"{one['answered_by'] or 'unnamed'} {one['answered_at']:%Y-%m-%d %H:%M}"
        print(f"{who}  {one['vendor_id']}: {one['vendor_title']!r} {product}")
    for one in inbox.categories.tail(given.last).to_dict("records"):
        who = f"{one['answered_by'] or 'unnamed'} {one['answered_at']:%Y-%m-%d %H:%M}"
        print(f"{who}  {one['vendor_id']}: {one['title']!r} {_belongs(one['category'])}")
    answers = len(inbox.frame) + len(inbox.categories)
    print(f"{answers} answer(s) in {inbox.files} file(s), {inbox.repeats} given again")
    report = examine(inbox, given.lake)
    for one in report.contradictions.to_dict("records"):
        print("contradiction: {vendor_id}: {line!r} counts as {counts} ({why}): {said}".format(**one))
    for problem in report.problems:
        print(problem)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
