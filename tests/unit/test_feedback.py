"""The inbox of answers: what is written, what is read in spite of what, and which of several answers counts."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from shelfwise import clock
from shelfwise.errors import InputError
from shelfwise.feedback import (
    COLUMNS,
    answer_from_matches,
    answers_from_matches,
    contradictions,
    examine,
    prediction_id,
    prediction_ids,
    read_feedback,
    read_inbox,
    record_answers,
    record_feedback,
    resolve,
    review,
)
from shelfwise.feedback.__main__ import main
from shelfwise.feedback.answers import new_answer
from shelfwise.safe_export import to_csv_bytes

NEW_YEAR = datetime(2026, 1, 1, tzinfo=UTC)


def at(hours: float) -> datetime:
    return NEW_YEAR + timedelta(hours=hours)


def matches(champion: str = "v3", vendor: str = "acme", file: str = "list.csv") -> pd.DataFrame:
    """Three lines: one with three candidates, one audited, one of which nothing is like anything."""
    rows = [
        ("l1", 2, "SOAP 75CL", 1, "p1", 0.7, "review", False),
        ("l1", 2, "SOAP 75CL", 2, "p2", 0.2, "review", False),
        ("l1", 2, "SOAP 75CL", 3, "p3", 0.1, "review", False),
        ("l2", 3, "milk", 1, "p2", 0.99, "approved", True),
        ("l3", 4, "=strange", 1, None, None, "no_match", False),
    ]
    columns = ["line_id", "row", "title", "rank", "product_id", "score", "decision", "audited"]
    frame = pd.DataFrame(rows, columns=columns)
    titles = frame["product_id"].map({"p1": "Soap 1 l", "p2": "Milk", "p3": "Soap bar"})
    return frame.assign(vendor_id=vendor, file=file, product_title=titles, champion_version=champion)


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    write_matches(tmp_path, matches())
    products = tmp_path / "tables" / "raw" / "products.parquet"
    products.parent.mkdir(parents=True)
    pd.DataFrame({"product_id": ["p1", "p2", "p3", "p4"]}).to_parquet(products, index=False)
    return tmp_path


def write_matches(lake: Path, frame: pd.DataFrame) -> None:
    path = lake / "tables/uploads/upload_matches" / frame["vendor_id"][0] / f"{frame['file'][0]}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    frame.to_parquet(path, index=False)


def files(inbox: Path) -> list[Path]:
    return sorted(inbox.glob("*")) if inbox.exists() else []


def test_an_inbox_that_does_not_exist_is_an_empty_table_with_its_columns(tmp_path: Path) -> None:
    frame = read_feedback(tmp_path / "nothing")
    assert list(frame.columns) == list(COLUMNS)
    assert len(frame) == 0
    assert str(frame["answered_at"].dtype) == "datetime64[us, UTC]"


def test_answers_come_back_in_order_of_time(tmp_path: Path) -> None:
    late = record_feedback(tmp_path, vendor_id="v", vendor_title="b", product_id=None, answered_at=at(2))
    passed_over = ["p2", "p3"]
    early = record_feedback(
        tmp_path, vendor_id="v", vendor_title="a", product_id="p1", rejected_product_ids=passed_over, answered_at=at(1)
    )
    frame = read_feedback(tmp_path)
    assert frame["feedback_id"].tolist() == [early, late]
    assert list(frame["rejected_product_ids"][0]) == passed_over
    assert frame["product_id"].isna().tolist() == [False, True]


def test_an_answer_carries_the_prediction_that_was_answered(tmp_path: Path) -> None:
    chosen = {"l1": "p3", "l2": None, "l3": "p4"}
    batch = record_answers(tmp_path, answers_from_matches(matches(), chosen, answered_by="ann", answered_at=at(0)))
    (path,) = files(tmp_path)
    assert path.name == f"{uuid.UUID(batch)}.json"
    frame = read_feedback(tmp_path).set_index("line_id")
    assert set(frame["feedback_id"]) == {batch}
    assert frame["product_id"].fillna("").to_dict() == {"l1": "p3", "l2": "", "l3": "p4"}
    assert {line: list(ids) for line, ids in frame["candidates"].items()} == {
        "l1": ["p1", "p2", "p3"],
        "l2": ["p2"],
        "l3": [],
    }
    assert {line: list(ids) for line, ids in frame["rejected_product_ids"].items()} == {
        "l1": ["p1", "p2"],  # those above the chosen one
        "l2": ["p2"],  # all, where it is none of them
        "l3": [],
    }
    assert frame["decision"].to_dict() == {"l1": "review", "l2": "approved", "l3": "no_match"}
    assert frame["audited"].to_dict() == {"l1": False, "l2": True, "l3": False}
    assert frame["score"].fillna(-1).to_dict() == {"l1": 0.7, "l2": 0.99, "l3": -1}
    assert set(frame["champion_version"]) == {"v3"}
    expected = dict(zip(matches()["line_id"], prediction_ids(matches()), strict=True))
    assert frame["prediction_id"].to_dict() == expected
    assert expected["l1"] == prediction_id("acme", "list.csv", "l1", "v3")
    assert len(set(expected.values())) == 3
    assert not set(prediction_ids(matches(champion="v4"))) & set(expected.values())
    with pytest.raises(InputError, match="l9, column 'line_id': expected a line"):
        answer_from_matches(matches(), "l9", "p1")


def test_time_is_the_projects_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "clock").write_text("2031-05-06T07:08:09+00:00")
    monkeypatch.setenv(clock.VARIABLE, str(tmp_path / "clock"))
    record_answers(tmp_path / "inbox", [answer_from_matches(matches(), "l1", "p1")])
    assert read_feedback(tmp_path / "inbox")["answered_at"].tolist() == [pd.Timestamp("2031-05-06 07:08:09", tz="UTC")]


def test_a_batch_is_written_whole_or_not_at_all_and_never_changed(tmp_path: Path) -> None:
    good = new_answer("v", "a", "p1")
    with pytest.raises(InputError) as caught:
        record_answers(tmp_path, [good, {**good, "vendor_title": " "}, {**good, "answered_at": "soon"}])
    assert {problem.column for problem in caught.value.problems} == {
        "answers[1].vendor_title",
        "answers[2].answered_at",
    }
    for bad in ([], [good | {"product_id": 7}], [good | {"prediction": {"candidates": "p1"}}], ["p1"]):
        with pytest.raises(InputError):
            record_answers(tmp_path, bad)  # type: ignore[arg-type]
    for name in ("../escape", "a/b", "", "x" * 40, "..", str(tmp_path)):
        with pytest.raises(InputError, match="a UUID"):
            record_answers(tmp_path, [good], feedback_id=name)
    assert files(tmp_path) == []
    known = str(uuid.uuid4())
    record_answers(tmp_path, [good], feedback_id=known.upper())
    record_answers(tmp_path, [{**good, "product_id": "p2"}], feedback_id=known)
    assert read_feedback(tmp_path)["product_id"].tolist() == ["p1"], "sent again: what is there stays"
    assert len(files(tmp_path)) == 1


BAD_FILES: dict[str, tuple[Any, str]] = {
    "truncated": ('{"version": 1, "feedback_id": "x", "answers": [{"ans', "a whole JSON file"),
    "empty": ("", "a whole JSON file"),
    "binary": ("PK\x03\x04\0\0", "a whole JSON file"),
    "list": ([1, 2], "a batch of answers"),
    "foreign": ({"orders": []}, "column 'version'"),
    "newer": ({"version": 2, "answers": []}, "column 'version'"),
    "no_answers": ({"version": 1, "feedback_id": "x", "answers": []}, "column 'answers'"),
    "no_id": ({"version": 1, "answers": [new_answer("v", "t", "p1")]}, "column 'feedback_id'"),
    "half": ({"version": 1, "feedback_id": "x", "answers": [new_answer("v", "t", "p1"), {}]}, "answers[1].vendor_id"),
    "number": ({"version": 1, "feedback_id": "x", "answers": [new_answer("v", "t", "p1") | {"file": 3}]}, ".file'"),
    "year": (
        {"version": 1, "feedback_id": "x", "answers": [new_answer("v", "t", "p", answered_at="9999-12-31T23:59Z")]},
        "answered_at",
    ),
    "surrogate": ({"version": 1, "feedback_id": "x", "answers": [new_answer("v", "\ud800", "p1")]}, "vendor_title"),
    "deep": ("[" * 100_000, "a whole JSON file"),
    "old_partial": ({"vendor_id": "v"}, "vendor_title"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_file_is_named_with_what_was_expected_and_stops_no_other(tmp_path: Path, name: str) -> None:
    content, expected = BAD_FILES[name]
    record_feedback(tmp_path, vendor_id="v", vendor_title="a", product_id="p1")
    (tmp_path / f"{name}.json").write_text(content if isinstance(content, str) else json.dumps(content))
    inbox = read_inbox(tmp_path)
    assert inbox.frame["product_id"].tolist() == ["p1"]
    assert inbox.files == 2
    assert {problem.file for problem in inbox.bad_files} == {f"{name}.json"}
    assert any(expected in str(problem) for problem in inbox.bad_files), inbox.bad_files
    assert len(files(tmp_path)) == 2, "nothing in the inbox is moved"


def test_what_is_no_json_file_is_no_answer(tmp_path: Path) -> None:
    record_feedback(tmp_path, vendor_id="v", vendor_title="a", product_id="p1")
    for name in (".hidden.json", "notes.txt", ".x.json.1234.tmp"):
        (tmp_path / name).write_text("{")
    (tmp_path / "folder.json").mkdir()
    inbox = read_inbox(tmp_path)
    assert (inbox.files, inbox.bad_files, len(inbox.frame)) == (1, [], 1)


def test_a_file_of_the_first_kind_is_read(tmp_path: Path) -> None:
    old = {
        "feedback_id": "old", "vendor_id": "v", "vendor_title": "a", "product_id": None,
        "rejected_product_ids": ["p1"], "answered_by": "ann", "answered_at": "2026-01-01T00:00:00+00:00",
    }  # fmt: skip
    (tmp_path / "old.json").write_text(json.dumps(old))
    (row,) = read_feedback(tmp_path).to_dict("records")
    assert {name: row[name] for name in ("feedback_id", "answer_id", "answered_by")} == {
        "feedback_id": "old", "answer_id": "old", "answered_by": "ann",
    }  # fmt: skip
    assert list(row["rejected_product_ids"]) == ["p1"]


def test_an_answer_given_again_counts_once_unless_another_came_between(tmp_path: Path) -> None:
    def say(product: str, hours: float, who: str = "ann", **more: Any) -> None:
        answer = new_answer("v", "Soap 75 cl", product, who, at(hours).isoformat())
        record_answers(tmp_path, [answer | more])

    say("p1", 1)
    say("p1", 2)  # clicked twice
    say("p1", 3, vendor_title="SOAP 75CL")  # the same line
    say("p1", 4, who="bob")  # another person
    say("p1", 5)
    say("p2", 6)
    say("p1", 7)  # a change of mind, and back
    (first, *_) = files(tmp_path)
    (tmp_path / "copy.json").write_text(first.read_text())
    inbox = read_inbox(tmp_path)
    assert inbox.frame["answered_at"].tolist() == [at(hours) for hours in (1, 4, 5, 6, 7)]
    assert inbox.repeats == 3
    assert resolve(inbox.frame, {"p1", "p2"})["counts"].tolist() == [False] * 4 + [True]


def test_an_answer_to_an_unknown_prediction_is_an_answer_to_its_line(tmp_path: Path) -> None:
    good = answer_from_matches(matches(), "l1", "p3")
    record_answers(tmp_path, [good])
    forged = answer_from_matches(matches(), "l2", "p1") | {"prediction_id": str(uuid.uuid4())}
    nameless = answer_from_matches(matches(), "l3", "p1") | {"prediction": None}
    record_answers(tmp_path, [forged, nameless])
    inbox = read_inbox(tmp_path)
    assert len(inbox.frame) == 3
    known = inbox.frame.set_index("line_id")["prediction_id"]
    assert known.notna().to_dict() == {"l1": True, "l2": False, "l3": False}
    assert inbox.frame["decision"].notna().sum() == inbox.frame["candidates"].notna().sum() == 1
    assert list(inbox.frame.set_index("line_id")["rejected_product_ids"]["l2"]) == ["p2"]
    assert [p.column for p in inbox.unknown_predictions] == ["prediction_id"] * 2
    assert forged["prediction_id"] in str(inbox.unknown_predictions)


def test_what_is_odd_about_single_answers_is_said_with_what_to_do(tmp_path: Path) -> None:
    record_answers(tmp_path, [answer_from_matches(matches(file="never.csv"), "l1", "p1", answered_at=at(0))])
    record_answers(tmp_path, [answer_from_matches(matches(), "l2", "gone", answered_at=at(0))])
    record_feedback(tmp_path, vendor_id="v", vendor_title="a", product_id="p1", answered_at=at(3))
    frame = read_feedback(tmp_path)
    problems = review(frame, {"p1", "p2"}, known_uploads={"acme/list.csv"}, now=at(1))
    assert [problem.column for problem in problems] == ["product_id", "file", "answered_at"]
    assert all(part in str(problems[0]) for part in ("gone", "acme: milk", "answer again"))
    assert "clock" in str(problems[2])
    assert review(frame[frame["product_id"] != "gone"], {"p1"}, now=at(3)) == []


def test_contradictions_say_who_said_what_and_what_counts(tmp_path: Path) -> None:
    def say(title: str, product: str | None, hours: float, who: str) -> None:
        record_feedback(
            tmp_path, vendor_id="v", vendor_title=title, product_id=product, answered_by=who, answered_at=at(hours)
        )

    say("Later", "p1", 1, "ann")
    say("LATER", None, 2, "bob")
    say("agreed", "p1", 1, "ann")
    say("agreed", "p1", 2, "bob")
    say("most", "p2", 5, "ann")
    say("most", "p1", 5, "bob")
    say("most", "p1", 5, "cem")
    say("tie", "p1", 4, "ann")
    say("tie", None, 4, "bob")
    say("stranger", "p1", 1, "ann")
    say("stranger", "gone", 2, "bob")
    torn = contradictions(read_feedback(tmp_path), {"p1", "p2"})
    assert torn["line"].tolist() == ["most", "tie", "later"], "the latest first"
    by_line = torn.set_index("line")
    assert by_line["counts"].to_dict() | {"tie": ""} == {"most": "p1", "tie": "", "later": "matches nothing"}
    assert by_line["why"]["later"] == "the latest"
    assert by_line["why"]["most"] == "most of those at the latest moment"
    assert "ask them" in by_line["why"]["tie"]
    assert by_line["said"]["later"] == "matches nothing (bob, 2026-01-01 02:00); p1 (ann, 2026-01-01 01:00)"
    counts = resolve(read_feedback(tmp_path), {"p1", "p2"}).query("counts")
    assert len(counts) == 5
    assert counts.set_index("normalised_title")["product_id"]["stranger"] == "p1"


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    status = main([str(one) for one in arguments])
    said = capsys.readouterr()
    return status, said.out, said.err


def test_a_line_is_answered_from_the_command_line(lake: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = ("answer", "--lake", lake, "--vendor", "acme", "--file", "list.csv", "--by", "ann")
    status, out, _ = run(capsys, *place, "--row", 2, "--product", "p3")
    assert (status, "'SOAP 75CL' is p3" in out) == (0, True)
    assert run(capsys, *place, "--row", 3, "--none")[0] == 0
    frame = read_feedback(lake / "feedback")
    assert frame["line_id"].tolist() == ["l1", "l2"]
    assert frame["decision"].tolist() == ["review", "approved"]
    assert set(frame["answered_by"]) == {"ann"}
    before = files(lake / "feedback")
    for arguments, part in {
        (*place, "--row", 9, "--none"): "acme/list.csv, row 9: expected a row with a line",
        (*place, "--row", 2, "--product", "p77"): "column 'product_id': expected a product of the catalog",
        ("answer", "--lake", lake, "--vendor", "..", "--file", "x", "--row", 2, "--none"): "inside the uploads folder",
        ("answer", "--lake", lake, "--vendor", "acme", "--file", "../../x", "--row", 2, "--none"): "inside the uploads",
        ("answer", "--lake", lake, "--vendor", "acme", "--file", "no.csv", "--row", 2, "--none"): "that was matched",
    }.items():
        status, _, err = run(capsys, *arguments)
        assert status == 1
        assert part in err, err
    assert files(lake / "feedback") == before
    status, out, _ = run(capsys, "list", "--lake", lake)
    assert status == 0
    assert "ann" in out
    assert "2 answer(s) in 2 file(s)" in out


def export(frame: pd.DataFrame, answers: dict[str, str]) -> bytes:
    """The review queue of matches as it is exported, with a column that somebody filled in."""
    best = frame[frame["rank"] == 1].copy()
    others = {"l1": "p2: Milk | p3: Soap bar"}
    best["alternatives"] = best["line_id"].map(others).fillna("")
    best["reason"] = ["audit" if one else "review" for one in best["audited"]]
    best["answer"] = best["line_id"].map(answers).fillna("")
    return to_csv_bytes(best.drop(columns=["rank", "decision", "audited"]))


def test_a_filled_in_export_becomes_one_batch(lake: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sheet = lake / "answers.csv"
    sheet.write_bytes(export(matches(), {"l1": " p2 ", "l3": "None"}))
    status, out, _ = run(capsys, "import", "--lake", lake, sheet, "--by", "bob")
    assert status == 0
    assert "2 answer(s)" in out
    assert len(files(lake / "feedback")) == 1
    frame = read_feedback(lake / "feedback").set_index("line_id")
    assert frame["product_id"].fillna("").to_dict() == {"l1": "p2", "l3": ""}
    assert frame["vendor_title"]["l3"] == "=strange", "as the vendor wrote it, not as the spreadsheet has it"
    assert list(frame["rejected_product_ids"]["l1"]) == ["p1"]
    assert frame["prediction_id"]["l1"] == prediction_id("acme", "list.csv", "l1", "v3")
    assert run(capsys, "import", "--lake", lake, sheet, "--by", "bob")[0] == 0
    assert len(read_feedback(lake / "feedback")) == 2, "the same sheet once more changes nothing"
    # As Excel saves it in half of Europe.
    sheet.write_bytes(sheet.read_bytes().decode().replace(",", ";").encode("utf-8-sig"))
    assert run(capsys, "import", "--lake", lake, sheet, "--by", "cem")[0] == 0


def test_an_export_that_a_new_champion_has_overtaken_answers_what_it_showed(lake: Path) -> None:
    sheet = lake / "answers.csv"
    sheet.write_bytes(export(matches(), {"l1": "p3", "l2": "p1"}))
    newer = matches(champion="v4").assign(product_id=["p4", "p1", None, "p1", None])
    write_matches(lake, newer)
    assert main(["import", "--lake", str(lake), str(sheet)]) == 0
    inbox = read_inbox(lake / "feedback")
    frame = inbox.frame.set_index("line_id")
    assert inbox.unknown_predictions == []
    assert list(frame["candidates"]["l1"]) == ["p1", "p2", "p3"]
    assert (frame["score"]["l1"], frame["champion_version"]["l1"]) == (0.7, "v3")
    assert list(frame["rejected_product_ids"]["l1"]) == ["p1", "p2"]
    # An audited line's decision is not in the export: a label, but nothing that is measured.
    assert pd.isna(frame["prediction_id"]["l2"])
    assert (frame["product_id"]["l2"], list(frame["rejected_product_ids"]["l2"])) == ("p1", ["p2"])


def test_a_sheet_with_mistakes_is_refused_as_a_whole_and_each_is_named(
    lake: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        "vendor_id,file,row,line_id,answer",
        "acme,list.csv,2,l1,p1",
        "acme,list.csv,3,l9,p1",
        "acme,list.csv,7,l2,p1",
        "acme,gone.csv,2,l1,p1",
        "acme,list.csv,4,l3,p99",
        "../..,x,2,l1,none",
        "acme,list.csv,2,l1,none",
        "acme,list.csv,3,l2,",
    ]
    sheet = lake / "answers.csv"
    sheet.write_text("\n".join(rows))
    status, _, err = run(capsys, "import", "--lake", lake, sheet)
    assert status == 1
    places = [line.partition(": expected")[0] for line in err.splitlines()]
    assert places == [
        "answers.csv, row 3, column 'line_id'",
        "answers.csv, row 4, column 'row'",
        "answers.csv, row 5, column 'file'",
        "answers.csv, row 6, column 'answer'",
        "answers.csv, row 7, column 'file'",
        "answers.csv, row 8, column 'line_id'",
    ]
    assert not (lake / "feedback").exists()
    sheet.write_text("vendor_id,file,row,line_id\nacme,list.csv,2,l1\n")
    assert "column 'answer'" in run(capsys, "import", "--lake", lake, sheet)[2]
    sheet.write_text("\n".join([rows[0], rows[-1]]))
    assert "no row has an answer" in run(capsys, "import", "--lake", lake, sheet)[2]
    assert "No such file" in run(capsys, "import", "--lake", lake, lake / "nothing.csv")[2]


def test_the_lake_tells_what_is_known(lake: Path) -> None:
    record_answers(lake / "feedback", [answer_from_matches(matches(), "l1", "p1")])
    record_answers(lake / "feedback", [answer_from_matches(matches(file="other.csv"), "l1", "p1")])
    report = examine(read_inbox(lake / "feedback"), lake)
    assert [problem.column for problem in report.problems] == ["file"]
    assert "acme" in report.sentence
    assert examine(read_inbox(lake / "none"), lake).sentence.startswith("every file")
