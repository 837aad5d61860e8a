"""The inbox: one immutable JSON file per correction or batch, `<lake>/feedback/<uuid>.json`.

    {"version": 1, "feedback_id": "<uuid>", "answers": [<answer>, ...]}    (see `answers`)

Nothing in it is ever changed, moved or removed. A file that cannot be read is reported each time and stops no other.
Files of one answer each, with its fields at the top, are of an older version and are read as well.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd
from upath import UPath

from shelfwise.artifacts import atomic_create_json, is_local
from shelfwise.contract.storage import ListingError, describe, find_objects, vanished
from shelfwise.contract.store import UploadFile
from shelfwise.errors import InputError, Problem
from shelfwise.feedback.answers import Answer, check_answer, new_answer, parse_time, prediction_id, rejected
from shelfwise.feedback.categories import category_frame, category_row, check_category_answer, is_category_answer
from shelfwise.text import normalise

VERSION = 1
FOLDER = "feedback"
ENDING = ".json"
MAX_BYTES = 64 << 20
_AT_ONCE = 500
WHAT_TO_DO = "nothing of this file was used: record its answers again and remove it"

COLUMNS = {
    "feedback_id": "str",
    "answer_id": "str",
    "prediction_id": "str",
    "vendor_id": "str",
    "vendor_title": "str",
    "file": "str",
    "line_id": "str",
    "product_id": "str",
    "rejected_product_ids": "object",
    "candidates": "object",
    "score": "float64",
    "decision": "str",
    "champion_version": "str",
    "audited": "boolean",
    "answered_by": "str",
    "answered_at": "datetime64[us, UTC]",
}


@dataclass(frozen=True)
class Inbox:
    """What was read: answers that name products (columns `COLUMNS`, in order of time) and those that name categories
    (see `categories`), how many files there are, what is wrong with some.

    `bad_files`: files of which nothing was used. `unknown_predictions`: answers whose prediction is not the one they
    say, which count as answers to the line and to no prediction. `repeats`: answers given again word for word.
    """

    frame: pd.DataFrame
    categories: pd.DataFrame = field(default_factory=lambda: category_frame([]))
    files: int = 0
    bad_files: list[Problem] = field(default_factory=list)
    unknown_predictions: list[Problem] = field(default_factory=list)
    repeats: int = 0


def record_answers(inbox: UPath | Path | str, answers: Sequence[Answer], feedback_id: str | None = None) -> str:
    """Write a batch of answers as one file, whole or not at all, and return its id.

    `feedback_id`: a UUID by which a client that got no reply can send the same again: what is there already stays.
    Raises InputError where there is none or one of them is no answer.
    """
    file = _file_name(feedback_id)
    problems = [p for number, one in enumerate(answers) for p in _check(one, file, f"answers[{number}].")]
    if not answers:
        problems.append(Problem(file, "at least one answer", "none", column="answers"))
    if problems:
        raise InputError(problems)
    batch = file.removesuffix(ENDING)
    value = {"version": VERSION, "feedback_id": batch, "answers": [dict(one) for one in answers]}
    try:
        atomic_create_json(UPath(inbox) / file, value)
    except FileExistsError:
        if feedback_id is None:
            raise
    return batch


def record_feedback(
    inbox: UPath | Path | str,
    *,
    vendor_id: str,
    vendor_title: str,
    product_id: str | None,
    rejected_product_ids: Sequence[str] = (),
    answered_by: str = "",
    answered_at: datetime | None = None,
) -> str:
    """Write one answer to a line by its title alone and return its id. `product_id` None: the line matches nothing."""
    at = answered_at.isoformat() if answered_at else None
    answer = new_answer(vendor_id, vendor_title, product_id, answered_by, at)
    return record_answers(inbox, [{**answer, "rejected_product_ids": list(rejected_product_ids)}])


def _file_name(feedback_id: str | None) -> str:
    """Nothing but a UUID in its usual form becomes a file's name."""
    try:
        return f"{uuid.uuid4() if feedback_id is None else uuid.UUID(feedback_id)}{ENDING}"
    except (ValueError, AttributeError, TypeError):
        raise InputError(Problem(f"{feedback_id!r:.80}", "a UUID", column="feedback_id")) from None


def list_files(inbox: UPath | Path | str, known: Collection[str] = ()) -> list[UploadFile]:
    """List the inbox: a file's name is its key. Its size stands for its content, as files are written whole and once:
    one that grew all the same, because somebody copied it slowly, is another. `known` as for `find_objects`.

    An inbox that does not exist holds none. Raises ListingError where it cannot be listed.
    """
    folder = UPath(inbox)
    try:
        found = sorted(_list_local(Path(str(folder))) if is_local(folder) else _list_remote(folder, known))
    except FileNotFoundError:
        return []
    except Exception as error:
        raise ListingError(f"cannot list {folder}: {describe(error)}") from error
    return [UploadFile(name, str(size), size, 0.0, whole=True) for name, size in found]


def _list_local(folder: Path) -> Iterator[tuple[str, int]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if _is_answer(entry.name):
                try:
                    if entry.is_file():
                        yield entry.name, entry.stat().st_size
                except FileNotFoundError:
                    continue


def _list_remote(folder: UPath, known: Collection[str]) -> Iterator[tuple[str, int]]:
    for info in find_objects(folder, known):
        if "/" not in info["name"] and info["type"] == "file" and _is_answer(info["name"]):
            yield info["name"], int(info["size"])


def _is_answer(name: str) -> bool:
    return name.endswith(ENDING) and not name.startswith(".")


def read_feedback(inbox: UPath | Path | str) -> pd.DataFrame:
    """Return the answers in the inbox, as `read_inbox` reads them; what is wrong with others is said there."""
    return read_inbox(inbox).frame


def read_inbox(inbox: UPath | Path | str) -> Inbox:
    """Read every answer in the inbox; one that does not exist yet holds none.

    A file that is no batch of answers is named in `bad_files`, with the field and what was expected, and the others
    are read. An answer recorded twice (the same answer_id, or the same answer of the same person to the same
    prediction with no other in between) counts once. Raises ListingError where the inbox cannot be listed.
    """
    files = list_files(inbox)
    rows, categories, bad, unknown = [], [], [], []
    for file, data in _contents(UPath(inbox), files):
        answers, problems = _parse(file.key, data)
        bad += problems
        for feedback_id, answer in answers:
            of_category = is_category_answer(answer)
            row = category_row(feedback_id, answer) if of_category else _row(feedback_id, answer)
            (categories if of_category else rows).append(row)
            if row["prediction_id"] is None and answer.get("prediction_id") is not None:
                expected = "the prediction that this line of this file got from this champion; the answer counts, for "
                expected += "its line alone"
                unknown.append(Problem(file.key, expected, str(answer["prediction_id"]), column="prediction_id"))
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    frame["answered_at"] = pd.to_datetime(frame["answered_at"], utc=True)
    frame = frame.astype(COLUMNS).sort_values(["answered_at", "answer_id", "feedback_id"], ignore_index=True)
    kept = frame[~_repeated(frame)].reset_index(drop=True)
    return Inbox(kept, category_frame(categories), len(files), bad, unknown, len(frame) - len(kept))


def _contents(folder: UPath, files: Sequence[UploadFile]) -> Iterator[tuple[UploadFile, bytes | Exception]]:
    """Yield the content of each file, or why it could not be read; from a store many at a time."""
    small = [file for file in files if file.size <= MAX_BYTES]
    for file in files:
        if file.size > MAX_BYTES:
            yield file, InputError(Problem(file.key, f"a file of at most {MAX_BYTES:,} bytes", f"{file.size:,}"))
    if is_local(folder):
        for file in small:
            try:
                yield file, (Path(str(folder)) / file.key).read_bytes()
            except OSError as error:
                yield file, error
        return
    prefix = folder.path.rstrip("/") + "/"
    for start in range(0, len(small), _AT_ONCE):
        some = small[start : start + _AT_ONCE]
        found = folder.fs.cat([prefix + file.key for file in some], on_error="return")
        for file in some:
            data = found.get(prefix + file.key, FileNotFoundError(file.key))
            # A store that fails is no reason to call a file bad: what it would give later must not be left out now.
            if isinstance(data, Exception) and not isinstance(data, FileNotFoundError | PermissionError):
                raise ListingError(f"cannot read {folder / file.key}: {describe(data)}") from data
            yield file, data


def _parse(name: str, data: bytes | Exception) -> tuple[list[tuple[str, Answer]], list[Problem]]:
    """Return (feedback_id, answer) for each answer of a file, or none and what is wrong with it."""
    if isinstance(data, InputError):
        return [], data.problems
    if isinstance(data, FileNotFoundError):
        return [], vanished(name).problems
    if isinstance(data, Exception):
        return [], [Problem(name, "a file that may be read", describe(data))]
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        return [], [Problem(name, f"a whole JSON file of answers; {WHAT_TO_DO}", f"{len(data):,} bytes: {error}")]
    if isinstance(value, dict) and "answers" not in value and "vendor_id" in value:
        value = _of_version_0(value)
    problems = _check_batch(name, value)
    if problems:
        return [], problems
    return [(value["feedback_id"], answer) for answer in value["answers"]], []


def _of_version_0(value: dict[str, Any]) -> dict[str, Any]:
    """A file of the first kind, which was one answer, as a batch."""
    answer = {**value, "answer_id": value.get("feedback_id")}
    return {"version": VERSION, "feedback_id": value.get("feedback_id"), "answers": [answer]}


def _check_batch(name: str, value: object) -> list[Problem]:
    if not isinstance(value, dict):
        return [Problem(name, f"a batch of answers; {WHAT_TO_DO}", type(value).__name__)]
    if value.get("version") != VERSION:
        expected = f"{VERSION}, or a newer Shelfwise; {WHAT_TO_DO}"
        return [Problem(name, expected, f"{value.get('version')!r:.80}", column="version")]
    problems = []
    if not isinstance(value.get("feedback_id"), str) or not value["feedback_id"]:
        problems.append(Problem(name, "text", f"{value.get('feedback_id')!r:.80}", column="feedback_id"))
    answers = value.get("answers")
    if not isinstance(answers, list) or not answers:
        return [*problems, Problem(name, "a list of answers", f"{answers!r:.80}", column="answers")]
    return [*problems, *(p for i, one in enumerate(answers) for p in _check(one, name, f"answers[{i}]."))]


def _check(answer: object, file: str, place: str) -> list[Problem]:
    if isinstance(answer, Mapping) and is_category_answer(answer):
        return check_category_answer(answer, file, place)
    return check_answer(answer, file, place)


def _row(feedback_id: str, answer: Answer) -> dict[str, Any]:
    """An answer as a row. What it says of a prediction stands only where the id is the one of that prediction."""
    prediction, known = answer.get("prediction") or {}, answer.get("prediction_id")
    candidates = [str(one["product_id"]) for one in prediction.get("candidates", [])]
    parts = (answer["vendor_id"], answer.get("file"), answer.get("line_id"), prediction.get("champion_version"))
    if known is not None and (None in parts or prediction_id(*map(str, parts)) != known):
        known = None
    passed_over = answer.get("rejected_product_ids")
    row = {name: answer.get(name) for name in COLUMNS} | {
        "feedback_id": feedback_id,
        "prediction_id": known,
        "rejected_product_ids": rejected(candidates, answer["product_id"]) if passed_over is None else passed_over,
        "answered_by": answer.get("answered_by") or "",
        "answered_at": parse_time(answer["answered_at"]),
    }
    if known is None:
        return row
    scores = [one.get("score") for one in prediction["candidates"]]
    return row | {
        "candidates": candidates,
        "score": scores[0] if scores else None,
        "decision": prediction["decision"],
        "champion_version": prediction["champion_version"],
        "audited": prediction.get("audited", False),
    }


def _repeated(frame: pd.DataFrame) -> pd.Series:
    """Which answers were recorded before: the same id, or the same answer by the same person to the same prediction,
    at the same moment or with no other answer to the line in between. `frame` is in order of time.
    """
    again = frame["answer_id"].duplicated()
    line = pd.DataFrame({"vendor": frame["vendor_id"], "line": [normalise(title) for title in frame["vendor_title"]]})
    said = line.assign(
        product=frame["product_id"].fillna("\0"),
        who=frame["answered_by"],
        prediction=frame["prediction_id"].fillna(""),
        rejected=["\x1f".join(ids) for ids in frame["rejected_product_ids"]],
    )
    again |= said.assign(at=frame["answered_at"]).duplicated()
    left = said[~again]
    before = left.groupby(["vendor", "line"], sort=False).shift()
    same = (before == left[before.columns]).all(axis=1)
    return again | same.reindex(frame.index, fill_value=False)
