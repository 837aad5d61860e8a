"""Answers to categories: beside answers to matches in the same inbox, and never taken for one."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest

from shelfwise.classification.asking import category_lines
from shelfwise.errors import InputError
from shelfwise.feedback import (
    category_answers,
    category_of_row,
    category_prediction_id,
    category_prediction_ids,
    prediction_id,
    read_inbox,
    record_answers,
    record_feedback,
)
from shelfwise.feedback.__main__ import main
from shelfwise.feedback.categories import COLUMNS, new_category_answer
from shelfwise.safe_export import to_csv_bytes

NOW = datetime(2026, 2, 1, tzinfo=UTC)


def categories(champion: str = "v1-aa") -> pd.DataFrame:
    rows = [
        ("l1", 2, "merlot", "dry and red", rank, name, p)
        for rank, (name, p) in enumerate([("Wine", 0.7), ("Beer", 0.2), ("Juice", 0.1)], start=1)
    ] + [("l2", 3, "lamp", None, 1, "Lamps", 0.99)]
    frame = pd.DataFrame(rows, columns=["line_id", "row", "title", "description", "rank", "category", "probability"])
    decision = frame["line_id"].map({"l1": "suggest", "l2": "assign"})
    return frame.assign(vendor_id="acme", file="list.csv", decision=decision, champion_version=champion)


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    tables = {
        "uploads/upload_categories/acme/list.csv.parquet": categories(),
        "marts/labelled_listings.parquet": pd.DataFrame(
            {"category": ["Wine", "Beer"], "categories": [["Wine"], ["Beer", "Drinks > Ale"]]}
        ),
    }
    for name, frame in tables.items():
        path = tmp_path / "tables" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        frame.to_parquet(path, index=False)
    return tmp_path


def test_answers_to_categories_and_to_products_are_kept_apart(tmp_path: Path) -> None:
    record_feedback(tmp_path, vendor_id="acme", vendor_title="merlot", product_id=None, answered_at=NOW)
    record_answers(tmp_path, category_answers(categories(), {"l1": "Beer", "l2": None}, answered_by="ann"))
    inbox = read_inbox(tmp_path)
    assert (inbox.files, inbox.bad_files, inbox.unknown_predictions) == (2, [], [])
    assert inbox.frame["vendor_title"].tolist() == ["merlot"]
    assert list(inbox.categories.columns) == list(COLUMNS)
    found = inbox.categories.set_index("line_id")
    assert found["category"].fillna("").to_dict() == {"l1": "Beer", "l2": ""}
    assert found["title"].to_dict() == {"l1": "merlot", "l2": "lamp"}
    assert found["description"].fillna("").to_dict() == {"l1": "dry and red", "l2": ""}
    assert list(found["categories_shown"]["l1"]) == ["Wine", "Beer", "Juice"]
    assert found["probability"].to_dict() == {"l1": 0.7, "l2": 0.99}
    assert found["decision"].to_dict() == {"l1": "suggest", "l2": "assign"}
    assert set(found["prediction_id"]) == set(category_prediction_ids(categories()))


def test_an_inbox_without_answers_has_an_empty_table_of_categories(tmp_path: Path) -> None:
    found = read_inbox(tmp_path / "nothing").categories
    assert (len(found), list(found.columns)) == (0, list(COLUMNS))
    assert str(found["answered_at"].dtype) == "datetime64[us, UTC]"


def test_a_category_and_a_match_of_one_line_by_one_champion_are_two_predictions() -> None:
    key = ("acme", "list.csv", "l1", "v1-aa")
    assert category_prediction_id(*key) != prediction_id(*key)
    assert category_prediction_ids(categories()).iloc[0] == category_prediction_id(*key)


def test_an_answer_to_a_prediction_that_was_never_made_counts_for_its_line_alone(tmp_path: Path) -> None:
    (answer,) = category_answers(categories(), {"l1": "Beer"})
    record_answers(tmp_path, [answer | {"prediction_id": category_prediction_id("acme", "list.csv", "l1", "v2")}])
    inbox = read_inbox(tmp_path)
    assert inbox.categories["prediction_id"].isna().all()
    assert inbox.categories["category"].tolist() == ["Beer"]
    assert len(inbox.unknown_predictions) == 1


@pytest.mark.parametrize(
    ("field", "value"),
    [("category", " > "), ("category", 3), ("vendor_title", ""), ("answered_at", "yesterday"), ("product_id", "p1"),
     ("prediction", {"candidates": [{"category": "A", "probability": "high"}]})],
)  # fmt: skip
def test_what_is_no_answer_is_refused_and_named(tmp_path: Path, field: str, value: object) -> None:
    answer = new_category_answer("acme", "merlot", "Wine") | {field: value}
    with pytest.raises(InputError) as refused:
        record_answers(tmp_path, [answer])
    assert [problem.column for problem in refused.value.problems] == [f"answers[0].{field}"]
    assert not list(tmp_path.iterdir())


def test_a_bad_file_of_categories_is_named_and_stops_nothing(tmp_path: Path) -> None:
    batch = record_answers(tmp_path, [new_category_answer("acme", "merlot", "Wine")])
    broken = json.loads((tmp_path / f"{batch}.json").read_text())
    broken["answers"][0]["category"] = ["Wine"]
    (tmp_path / "4f9b8a52-0000-4000-8000-000000000000.json").write_text(json.dumps(broken))
    inbox = read_inbox(tmp_path)
    assert inbox.categories["category"].tolist() == ["Wine"]
    assert [problem.column for problem in inbox.bad_files] == ["answers[0].category"]


def test_the_same_answer_recorded_twice_counts_once(tmp_path: Path) -> None:
    answer = new_category_answer("acme", "merlot", "Wine")
    record_answers(tmp_path, [answer])
    record_answers(tmp_path, [answer])
    assert len(read_inbox(tmp_path).categories) == 1


def test_answers_come_in_order_of_time(tmp_path: Path) -> None:
    times = [NOW + timedelta(hours=hours) for hours in (2, 1)]
    record_answers(tmp_path, [new_category_answer("a", str(at.hour), "W", answered_at=at.isoformat()) for at in times])
    assert read_inbox(tmp_path).categories["title"].tolist() == ["1", "2"]


def test_the_command_line_answers_a_line(lake: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = ["--lake", str(lake), "--vendor", "acme", "--file", "list.csv"]
    assert main(["category", *place, "--row", "2", "--category", "Beer | Drinks > Ale", "--by", "ann"]) == 0
    assert main(["category", *place, "--row", "3", "--none"]) == 0
    assert main(["list", "--lake", str(lake)]) == 0
    said = capsys.readouterr().out
    assert "'merlot' belongs to Beer | Drinks > Ale" in said
    assert "'lamp' belongs to none of the categories shown" in said
    assert "2 answer(s) in 2 file(s)" in said
    assert len(read_inbox(lake / "feedback").categories) == 2


def test_a_category_that_nothing_has_is_taken_for_a_slip_unless_it_is_said_to_be_new(lake: Path) -> None:
    with pytest.raises(InputError, match="such as 'Wine'"):
        category_of_row(lake, "acme", "list.csv", 2, "Wines")
    assert category_of_row(lake, "acme", "list.csv", 2, "Wines", new=True)["category"] == "Wines"
    with pytest.raises(InputError, match="a row with a line"):
        category_of_row(lake, "acme", "list.csv", 9, "Wine")
    with pytest.raises(InputError, match="given categories"):
        category_of_row(lake, "acme", "other.csv", 2, "Wine")


def sheet_of(lake: Path, answers: dict[str, str], champion: str = "v1-aa") -> Path:
    """The queue's export with a filled-in column, as a spreadsheet saves it."""
    best = categories(champion).query("rank == 1").assign(contradiction=False, audited=True, explanation="x")
    queue = category_lines({"acme/list.csv": best.assign(match_category=None)})
    path = lake / "answers.csv"
    path.write_bytes(to_csv_bytes(queue.assign(answer=queue["line_id"].map(answers).fillna(""))))
    return path


def test_a_filled_in_export_of_the_queue_becomes_answers(lake: Path) -> None:
    path = sheet_of(lake, {"l1": "Beer | Drinks > Ale", "l2": "none"})
    assert main(["import", "--lake", str(lake), str(path), "--by", "ann"]) == 0
    found = read_inbox(lake / "feedback").categories.set_index("line_id")
    assert found["category"].fillna("").to_dict() == {"l1": "Beer | Drinks > Ale", "l2": ""}
    assert list(found["categories_shown"]["l1"]) == ["Wine", "Beer", "Juice"]
    assert found["prediction_id"]["l1"] == category_prediction_id("acme", "list.csv", "l1", "v1-aa")
    assert found["answered_by"].tolist() == ["ann", "ann"]


def test_an_export_of_another_champion_gives_labels_and_measures_nothing(lake: Path) -> None:
    path = sheet_of(lake, {"l1": "Beer"}, champion="v0-old")
    assert main(["import", "--lake", str(lake), str(path)]) == 0
    (one,) = read_inbox(lake / "feedback").categories.to_dict("records")
    assert (one["category"], list(one["categories_shown"])) == ("Beer", [])
    assert pd.isna(one["prediction_id"])


def test_slips_in_an_export_are_named_and_nothing_is_taken(lake: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = sheet_of(lake, {"l1": "Beers", "l2": "Wine"})
    assert main(["import", "--lake", str(lake), str(path)]) == 1
    said = capsys.readouterr().err
    assert "answers.csv, row " in said
    assert "column 'answer': expected a category that some listing has, such as 'Beer' (--new for a new one)" in said
    assert not (lake / "feedback").exists()
    assert main(["import", "--lake", str(lake), str(path), "--new"]) == 0
    sheet = path.read_text().replace("list.csv", "gone.csv")
    path.write_text(sheet)
    assert main(["import", "--lake", str(lake), str(path), "--new"]) == 1
    assert "expected an upload whose lines were given categories" in capsys.readouterr().err
