"""The queue of categories: which lines a person is asked about, why, and in which order."""

from __future__ import annotations

import pandas as pd
import pytest

from shelfwise.classification.asking import COLUMNS, category_lines

LINES = {  # line: decision, probability, contradiction, audited
    "sure": ("assign", 0.99, False, False),
    "seen": ("assign", 0.98, False, True),
    "torn": ("assign", 0.97, True, False),
    "near": ("suggest", 0.6, False, False),
    "dark": ("ask", 0.2, False, False),
}


def categories(file: str = "list.csv") -> pd.DataFrame:
    rows = []
    for row, (line, (decision, probability, torn, audited)) in enumerate(LINES.items(), start=2):
        shared = {"vendor_id": "acme", "file": file, "row": row, "line_id": line, "title": f"a {line} thing"}
        shared |= {"decision": decision, "contradiction": torn, "audited": audited, "champion_version": "v1-aa"}
        shared |= {"match_category": "Drinks > Wine" if torn else None}
        rows.append({**shared, "rank": 1, "category": "Drinks > Beer", "probability": probability, "explanation": "x"})
        rows += [
            {**shared, "rank": rank, "category": name, "probability": (1 - probability) / rank, "explanation": None}
            for rank, name in ((2, "Food > Soup"), (3, "Food"))
        ]
    return pd.DataFrame(rows)


def test_who_is_asked_about_what_and_why() -> None:
    queue = category_lines({"acme/list.csv": categories(), "acme/gone.csv": None})
    assert list(queue.columns) == list(COLUMNS)
    asked = queue[queue["reason"] != "audit"]
    assert asked["line_id"].tolist() == ["dark", "near", "torn"], "the least probable first"
    assert queue.set_index("line_id")["reason"].to_dict() == {
        "dark": "ask", "near": "suggest", "torn": "contradiction", "seen": "audit",
    }  # fmt: skip
    near = queue.set_index("line_id").loc["near"]
    assert (near["category"], near["probability"]) == ("Drinks > Beer", 0.6)
    assert near["alternatives"] == "Food > Soup (0.20) | Food (0.13)"
    assert queue.set_index("line_id").loc["torn", "match_category"] == "Drinks > Wine"


def test_what_somebody_answered_is_not_asked_again() -> None:
    answered = pd.DataFrame({"vendor_id": ["acme", "other"], "title": ["a dark thing", "a near thing"]})
    queue = category_lines({"acme/list.csv": categories()}, answered)
    assert sorted(queue["line_id"]) == ["near", "seen", "torn"]


@pytest.mark.parametrize("uploads", [None, {}, {"acme/none.csv": categories().iloc[:0]}])
def test_without_uploads_there_is_an_empty_queue(uploads: dict[str, pd.DataFrame] | None) -> None:
    queue = category_lines(uploads)
    assert (len(queue), list(queue.columns)) == (0, list(COLUMNS))


def test_where_nothing_is_in_doubt_nobody_is_asked() -> None:
    frame = categories()
    assert category_lines({"acme/list.csv": frame[frame["line_id"] == "sure"]}).empty
