"""Feedback: what people answered to the matcher's proposals, one immutable JSON file per answer."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
from upath import UPath

from shelfwise.artifacts import asked_anew, atomic_write_json
from shelfwise.errors import InputError, Problem

COLUMNS = {
    "feedback_id": "str",
    "vendor_id": "str",
    "vendor_title": "str",
    "product_id": "str",
    "rejected_product_ids": "object",
    "answered_by": "str",
    "answered_at": "datetime64[us, UTC]",
}


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
    """Write one answer to the inbox and return its id. `product_id` None says that the line matches nothing."""
    answer = {
        "feedback_id": str(uuid.uuid4()),
        "vendor_id": vendor_id,
        "vendor_title": vendor_title,
        "product_id": product_id,
        "rejected_product_ids": list(rejected_product_ids),
        "answered_by": answered_by,
        "answered_at": (answered_at or datetime.now(UTC)).isoformat(),
    }
    atomic_write_json(UPath(inbox) / f"{answer['feedback_id']}.json", answer)
    return answer["feedback_id"]


def read_feedback(inbox: UPath | Path | str) -> pd.DataFrame:
    """Read every answer in the inbox, in order of time; an inbox that does not exist yet holds none.

    Raises InputError naming each file that is not an answer.
    """
    folder = asked_anew(inbox)
    answers, problems = [], []
    for path in sorted(folder.glob("*.json"), key=str) if folder.exists() else []:
        try:
            answer = json.loads(path.read_text())
            answers.append({name: answer[name] for name in COLUMNS})
            datetime.fromisoformat(answer["answered_at"])
        except (ValueError, KeyError, TypeError) as error:
            problems.append(Problem(str(path), "an answer with the fields " + ", ".join(COLUMNS), repr(error)))
    if problems:
        raise InputError(problems)
    frame = pd.DataFrame(answers, columns=list(COLUMNS))
    frame["answered_at"] = pd.to_datetime(frame["answered_at"], utc=True, format="ISO8601")
    return frame.astype(COLUMNS).sort_values(["answered_at", "feedback_id"], ignore_index=True)
