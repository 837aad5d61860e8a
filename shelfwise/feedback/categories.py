"""Answers to category predictions: the same inbox, beside the answers that name products.

As JSON, one object:

| field | what it holds |
| --- | --- |
| answer_id | a UUID of its own |
| vendor_id, vendor_title | the line, as the vendor wrote it |
| description | its description, null where it had none |
| category | the path it belongs to ("A > B > C"; several right ones joined by " | "); null says: none of those shown |
| answered_by, answered_at | who, and when, in ISO 8601 with its offset |
| file, line_id | the upload the line came with, null where it is not known |
| prediction_id | which prediction was answered (see `category_prediction_id`), null where none was |
| prediction | candidates by rank (category, probability), decision, champion_version; null where there was none |

What makes an answer one to a category is that it has the field `category`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import pandas as pd

from shelfwise import clock
from shelfwise.errors import Problem
from shelfwise.feedback.answers import (
    Answer,
    blank_answer,
    is_number,
    is_text,
    parse_time,
    prediction_id,
    prediction_ids,
    rows_by_line,
    shown,
)

_OF = "category\x1e"  # keeps the ids apart from those of matches
COLUMNS = {
    "feedback_id": "str",
    "answer_id": "str",
    "prediction_id": "str",
    "vendor_id": "str",
    "title": "str",
    "description": "str",
    "file": "str",
    "line_id": "str",
    "category": "str",
    "categories_shown": "object",
    "probability": "float64",
    "decision": "str",
    "champion_version": "str",
    "answered_by": "str",
    "answered_at": "datetime64[us, UTC]",
}


def is_category_answer(answer: object) -> bool:
    """Whether an answer is one to a category prediction."""
    return isinstance(answer, Mapping) and "category" in answer


def category_prediction_id(vendor_id: str, file: str, line_id: str, champion_version: str) -> str:
    """Return the id of the category that a champion predicted for a line: the same whenever it predicts it again."""
    return prediction_id(vendor_id, file, line_id, f"{_OF}{champion_version}")


def category_prediction_ids(categories: pd.DataFrame) -> pd.Series:
    """Return `category_prediction_id` for each row (vendor_id, file, line_id, champion_version)."""
    return prediction_ids(categories.assign(champion_version=_OF + categories["champion_version"].astype(str)))


def new_category_answer(
    vendor_id: str,
    vendor_title: str,
    category: str | None,
    description: str | None = None,
    answered_by: str = "",
    answered_at: str | None = None,
) -> Answer:
    """Return an answer with every field, to a line of which nothing else is known. The default time is now."""
    blank = blank_answer(vendor_id, vendor_title, answered_by, answered_at)
    return blank | {"description": description, "category": category}


def category_answers(
    categories: pd.DataFrame,
    chosen: Mapping[str, str | None],
    *,
    answered_by: str = "",
    answered_at: datetime | None = None,
) -> list[Answer]:
    """Return the answers to lines of an upload's categories: `chosen` gives the right path by line_id, None where none
    of those shown is right and the right one is not known.

    `categories`: rows of uploads/upload_categories. Raises InputError naming each line that they do not hold.
    """
    by_line = rows_by_line(categories, chosen, "categories")
    at, made = (answered_at or clock.now()).isoformat(), []
    for line, category in chosen.items():
        own = by_line[line]
        best = own.iloc[0]
        description = best.get("description")
        text = description if isinstance(description, str) and description else None
        one = new_category_answer(str(best["vendor_id"]), str(best["title"]), category, text, answered_by, at)
        keys = (str(best["vendor_id"]), str(best["file"]), str(line), str(best["champion_version"]))
        candidates = [
            {"category": str(name), "probability": float(p)}
            for name, p in zip(own["category"], own["probability"], strict=True)
        ]
        prediction = {"candidates": candidates, "decision": str(best["decision"]), "champion_version": keys[3]}
        one |= {"file": keys[1], "line_id": keys[2], "prediction_id": category_prediction_id(*keys)}
        made.append(one | {"prediction": prediction})
    return made


def check_category_answer(answer: Mapping[str, Any], file: str, place: str = "") -> list[Problem]:
    """Return what is wrong with an answer, by field; `place` says which of a batch it is."""
    problems = []

    def wrong(field: str, expected: str) -> None:
        problems.append(Problem(file, expected, shown(answer.get(field)), column=f"{place}{field}"))

    for field in ("answer_id", "vendor_id", "vendor_title"):
        if not is_text(answer.get(field)) or not answer[field].strip():
            wrong(field, "text")
    if "product_id" in answer:
        wrong("product_id", "no such field: an answer names a category or a product; record two")
    category = answer["category"]
    if category is not None and (not is_text(category) or not category.strip(" >|")):
        wrong("category", 'a category path "A > B > C", or null where none of those shown is right')
    for field in ("description", "prediction_id", "line_id", "file", "answered_by"):
        if answer.get(field) is not None and not is_text(answer[field]):
            wrong(field, "text or null")
    if parse_time(answer.get("answered_at")) is None:
        wrong("answered_at", "a time in ISO 8601 between 1970 and 2200")
    if answer.get("prediction") is not None and not _is_prediction(answer["prediction"]):
        wrong("prediction", "null, or an object with candidates (category, probability), decision, champion_version")
    return problems


def _is_prediction(value: object) -> bool:
    if not isinstance(value, Mapping) or not isinstance(value.get("candidates"), list):
        return False
    return all(
        isinstance(one, Mapping) and is_text(one.get("category")) and is_number(one.get("probability"))
        for one in value["candidates"]
    ) and all(is_text(value.get(field)) for field in ("decision", "champion_version"))


def category_row(feedback_id: str, answer: Answer) -> dict[str, Any]:
    """An answer as a row. What it says of a prediction stands only where the id is the one of that prediction."""
    prediction, known = answer.get("prediction") or {}, answer.get("prediction_id")
    parts = (answer["vendor_id"], answer.get("file"), answer.get("line_id"), prediction.get("champion_version"))
    if known is not None and (None in parts or category_prediction_id(*map(str, parts)) != known):
        known = None
    row = {name: answer.get(name) for name in COLUMNS} | {
        "feedback_id": feedback_id,
        "prediction_id": known,
        "title": answer["vendor_title"],
        "categories_shown": [],
        "answered_by": answer.get("answered_by") or "",
        "answered_at": parse_time(answer["answered_at"]),
    }
    if known is None:
        return row
    candidates = prediction["candidates"]
    return row | {
        "categories_shown": [str(one["category"]) for one in candidates],
        "probability": float(candidates[0]["probability"]) if candidates else None,
        "decision": prediction["decision"],
        "champion_version": prediction["champion_version"],
    }


def category_frame(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Return rows as a table with columns `COLUMNS`, in order of time, each answer once."""
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    frame["answered_at"] = pd.to_datetime(frame["answered_at"], utc=True)
    frame = frame.astype(COLUMNS).sort_values(["answered_at", "answer_id", "feedback_id"])
    return frame.drop_duplicates("answer_id").reset_index(drop=True)
