"""An answer: the line, what the champion had predicted for it, what a person says it is, who and when.

As JSON, one object:

| field | what it holds |
| --- | --- |
| answer_id | a UUID of its own |
| vendor_id, vendor_title | the line, as the vendor wrote it |
| product_id | the product it is; null says that the catalog holds none |
| answered_by, answered_at | who, and when, in ISO 8601 with its offset |
| file, line_id | the upload the line came with, null where it is not known |
| prediction_id | which prediction was answered (see `prediction_id`), null where none was |
| prediction | candidates by rank (product_id, score), decision, champion_version, audited; null where there was none |
| rejected_product_ids | only where there is no prediction: what the person saw and did not choose |
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import pandas as pd

from shelfwise import clock
from shelfwise.errors import InputError, Problem

_NAMESPACE = uuid.UUID("3f0a1c1e-6c1d-5b8e-9a43-5f1f6c2f7d10")
MAX_TEXT = 10_000
Answer = dict[str, Any]


def prediction_id(vendor_id: str, file: str, line_id: str, champion_version: str) -> str:
    """Return the id of what a champion predicted for a line of an upload: the same whenever it predicts it again."""
    return str(uuid.uuid5(_NAMESPACE, "\x1f".join((f"{vendor_id}/{file}", line_id, champion_version))))


def prediction_ids(matches: pd.DataFrame) -> pd.Series:
    """Return `prediction_id` for each row of matches (vendor_id, file, line_id, champion_version)."""
    keys = matches[["vendor_id", "file", "line_id", "champion_version"]].astype(str)
    made = {key: prediction_id(*key) for key in set(keys.itertuples(index=False, name=None))}
    return pd.Series([made[key] for key in keys.itertuples(index=False, name=None)], index=matches.index, dtype="str")


def answer_from_matches(
    matches: pd.DataFrame,
    line_id: str,
    product_id: str | None,
    *,
    answered_by: str = "",
    answered_at: datetime | None = None,
) -> Answer:
    """Return the answer to one line of an upload's matches; `product_id` None says that it matches nothing.

    Raises InputError where the matches hold no such line.
    """
    return answers_from_matches(matches, {line_id: product_id}, answered_by=answered_by, answered_at=answered_at)[0]


def answers_from_matches(
    matches: pd.DataFrame,
    chosen: Mapping[str, str | None],
    *,
    answered_by: str = "",
    answered_at: datetime | None = None,
) -> list[Answer]:
    """Return the answers to lines of an upload's matches: `chosen` gives the product by line_id.

    `matches`: rows of uploads/upload_matches. Raises InputError naming each line that they do not hold.
    """
    by_line = rows_by_line(matches, chosen, "matches")
    at = (answered_at or clock.now()).isoformat()
    made = []
    for line, product in chosen.items():
        best = by_line[line].iloc[0]
        one = new_answer(str(best["vendor_id"]), str(best["title"]), product, answered_by, at)
        keys = (str(best["vendor_id"]), str(best["file"]), str(line), str(best["champion_version"]))
        one |= {"line_id": keys[2], "file": keys[1], "prediction_id": prediction_id(*keys)}
        made.append(one | {"prediction": _prediction(by_line[line])})
    return made


def rows_by_line(predicted: pd.DataFrame, chosen: Iterable[str], what: str) -> dict[str, pd.DataFrame]:
    """Return the rows of each chosen line by rank. Raises InputError naming each line that `predicted` does not hold;
    `what` it is, for people.
    """
    rows = predicted[predicted["line_id"].isin(list(chosen))].sort_values("rank", kind="stable")
    by_line = dict(iter(rows.groupby("line_id", sort=False)))
    if missing := [line for line in chosen if line not in by_line]:
        raise InputError([Problem(str(line), f"a line of these {what}", column="line_id") for line in missing])
    return by_line


def _prediction(rows: pd.DataFrame) -> dict[str, Any]:
    """What the champion had predicted for a line, as the person saw it."""
    best = rows.iloc[0]
    candidates = [
        {"product_id": str(product), "score": None if pd.isna(score) else float(score)}
        for product, score in zip(rows["product_id"], rows["score"], strict=True)
        if not pd.isna(product)
    ]
    audited = "audited" in rows and bool(best["audited"])
    return {
        "candidates": candidates,
        "decision": str(best["decision"]),
        "champion_version": str(best["champion_version"]),
        "audited": audited,
    }


def new_answer(
    vendor_id: str, vendor_title: str, product_id: str | None, answered_by: str = "", answered_at: str | None = None
) -> Answer:
    """Return an answer with every field, to a line of which nothing else is known. The default time is now."""
    return blank_answer(vendor_id, vendor_title, answered_by, answered_at) | {"product_id": product_id}


def blank_answer(vendor_id: str, vendor_title: str, answered_by: str, answered_at: str | None) -> Answer:
    """Return what every answer holds, whatever it is about, without the answer itself."""
    return {
        "answer_id": str(uuid.uuid4()),
        "prediction_id": None,
        "vendor_id": vendor_id,
        "vendor_title": vendor_title,
        "line_id": None,
        "file": None,
        "prediction": None,
        "answered_by": answered_by,
        "answered_at": answered_at or clock.now().isoformat(),
    }


def rejected(candidates: Sequence[str], product_id: str | None) -> list[str]:
    """Return the candidates that a person passed over: those above the chosen one, all where none was chosen."""
    known = list(candidates)
    return known[: known.index(product_id)] if product_id in known else known


def check_answer(answer: object, file: str, place: str = "") -> list[Problem]:
    """Return what is wrong with an answer, by field; `place` says which of a batch it is."""
    if not isinstance(answer, Mapping):
        return [Problem(file, "an answer: an object with the fields of shelfwise.feedback.answers", shown(answer))]
    problems = []

    def wrong(field: str, expected: str, found: object) -> None:
        problems.append(Problem(file, expected, shown(found), column=f"{place}{field}"))

    for field in ("answer_id", "vendor_id", "vendor_title"):
        if not is_text(answer.get(field)) or not answer[field].strip():
            wrong(field, "text", answer.get(field))
    if "product_id" not in answer:
        wrong("product_id", "a product's id, or null where the line matches nothing", "no such field")
    elif answer["product_id"] is not None and (not is_text(answer["product_id"]) or not answer["product_id"].strip()):
        wrong("product_id", "a product's id, or null where the line matches nothing", answer["product_id"])
    for field in ("prediction_id", "line_id", "file", "answered_by"):
        if answer.get(field) is not None and not is_text(answer[field]):
            wrong(field, "text or null", answer[field])
    if parse_time(answer.get("answered_at")) is None:
        wrong("answered_at", "a time in ISO 8601 between 1970 and 2200", answer.get("answered_at"))
    ids = answer.get("rejected_product_ids")
    if ids is not None and (not isinstance(ids, list) or not all(map(is_text, ids))):
        wrong("rejected_product_ids", "a list of products' ids", ids)
    if answer.get("prediction") is not None and not _is_prediction(answer["prediction"]):
        expected = "null, or an object with candidates (product_id, score), decision, champion_version and audited"
        wrong("prediction", expected, answer["prediction"])
    return problems


def _is_prediction(value: object) -> bool:
    if not isinstance(value, Mapping) or not isinstance(value.get("candidates"), list):
        return False
    return (
        all(isinstance(one, Mapping) and is_text(one.get("product_id")) for one in value["candidates"])
        and all(one.get("score") is None or is_number(one["score"]) for one in value["candidates"])
        and all(is_text(value.get(field)) for field in ("decision", "champion_version"))
        and isinstance(value.get("audited", False), bool)
    )


def is_text(value: object) -> bool:
    """Text of a sane length that can be written as UTF-8 (JSON may escape halves of characters)."""
    return isinstance(value, str) and len(value) <= MAX_TEXT and not any("\ud800" <= sign <= "\udfff" for sign in value)


def is_number(value: object) -> bool:
    """A number of a sane size."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e9


def parse_time(text: object) -> datetime | None:
    """Return a time in UTC (of one without an offset, as UTC), None where the text is none of a sane year."""
    if not isinstance(text, str):
        return None
    try:
        at = datetime.fromisoformat(text)
        at = at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None
    return at if 1970 <= at.year < 2200 else None


def shown(value: object) -> str:
    """A value as a message tells it."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
