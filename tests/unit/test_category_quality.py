"""Live quality of categories: which answers count for what, and when a fall is said to be one."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from shelfwise.feedback import category_answers, category_prediction_ids, read_inbox, record_answers
from shelfwise.monitoring.categories import (
    COLUMNS,
    category_quality,
    contradicting_vendors,
    fallen,
    predicted_lines,
    promised,
)

SHOWN = ("A", "B", "C")
ACCEPTED = {"top1": 0.95, "text_top1": 0.5, "case_text_top1": 0.9}
NOTHING = "there is no category champion with an accuracy to compare with, measured by what a listing has"


def upload(decisions: list[str], vendor: str = "acme", champion: str = "v1", audited: int = 0) -> pd.DataFrame:
    """Lines with three categories each; the first `audited` lines are audited."""
    rows = [
        (f"l{number}", f"title {number}", rank, category, 0.9 / rank, decision, number < audited)
        for number, decision in enumerate(decisions)
        for rank, category in enumerate(SHOWN, start=1)
    ]
    columns = ["line_id", "title", "rank", "category", "probability", "decision", "audited"]
    frame = pd.DataFrame(rows, columns=columns).assign(
        vendor_id=vendor, file="f.csv", champion_version=champion, contradiction=False
    )
    return frame.assign(prediction_id=category_prediction_ids(frame))


def answered(place: Path, *batches: tuple[pd.DataFrame, dict[str, str | None]]) -> pd.DataFrame:
    for frame, chosen in batches:
        record_answers(place, category_answers(frame, chosen))
    return read_inbox(place).categories


def lines(first: int, last: int, category: str | None) -> dict[str, str | None]:
    return {f"l{number}": category for number in range(first, last)}


def test_no_answers_measure_nothing(tmp_path: Path) -> None:
    quality = category_quality(answered(tmp_path), {"f": upload(["suggest"])}, "v1")
    assert list(quality.table) == COLUMNS
    assert quality.own["answers"] == 0
    assert fallen(quality, ACCEPTED, 0.05) == (
        False,
        "0 answers to the champion's categories, 50 are needed; too few to lines of: suggest",
    )
    assert category_quality(answered(tmp_path), None, None).answers.empty


def test_an_answer_counts_by_its_place_among_those_shown(tmp_path: Path) -> None:
    frame = upload(["suggest"] * 5)
    chosen = {"l0": "A", "l1": "B", "l2": "other", "l3": None, "l4": "other | A"}
    quality = category_quality(answered(tmp_path, (frame, chosen)), {"f": frame}, "v1")
    assert quality.answers.set_index("line_id")["rank"].to_dict() == {"l0": 1, "l1": 2, "l2": 0, "l3": 0, "l4": 1}
    assert (quality.own["raw_top1"], quality.own["raw_top5"]) == (pytest.approx(0.4), pytest.approx(0.6))
    levels = quality.table.groupby("level").size().to_dict()
    assert levels == {"all": 1, "week": 1, "vendor": 1, "version": 1, "week, vendor, version": 1}


def test_answers_of_each_decision_stand_for_its_lines(tmp_path: Path) -> None:
    """90 of 100 lines were assigned, and the audit finds them right; all that was doubted is answered, half wrong."""
    frame = upload(["assign"] * 90 + ["suggest"] * 10, audited=20)
    chosen = lines(0, 20, "A") | lines(90, 95, "A") | lines(95, 100, "C")
    own = category_quality(answered(tmp_path, (frame, chosen)), {"f": frame}, "v1").own
    assert own["raw_top1"] == pytest.approx(25 / 30)
    assert own["top1"] == pytest.approx(0.95)
    assert own["top1_low"] < 0.95 < own["top1_high"]
    assert (own["assigned_precision"], own["audited"]) == (1.0, 20)


def test_what_people_report_of_assigned_lines_is_counted_apart(tmp_path: Path) -> None:
    frame = upload(["assign"] * 50, audited=12)
    own = category_quality(answered(tmp_path, (frame, lines(0, 12, "A") | lines(40, 50, "C"))), {"f": frame}, "v1").own
    assert (own["reported"], own["audited"], own["assigned_precision"], own["top1"]) == (10, 12, 1.0, 1.0)


def test_the_latest_answer_to_a_prediction_counts_and_for_the_champion_that_made_it(tmp_path: Path) -> None:
    old, new = upload(["suggest"] * 2, champion="v1"), upload(["suggest"] * 2, champion="v2")
    feedback = answered(tmp_path, (old, {"l0": "B"}), (old, {"l0": "A"}), (new, {"l1": "A"}))
    quality = category_quality(feedback, {"f": new}, "v2")
    assert quality.own["answers"] == 1
    by = quality.table[quality.table["level"] == "version"].set_index("champion_version")
    assert by["answers"].to_dict() == {"v1": 1, "v2": 1}
    assert by["raw_top1"]["v1"] == 1.0


def test_a_fall_is_one_when_even_the_upper_bound_lies_below(tmp_path: Path) -> None:
    frame = upload(["suggest"] * 100)
    wrong, right = tmp_path / "wrong", tmp_path / "right"
    bad = category_quality(answered(wrong, (frame, lines(0, 40, "A") | lines(40, 80, "C"))), {"f": frame}, "v1")
    fell, told = fallen(bad, ACCEPTED, 0.05)
    assert fell
    assert "top-1 over all lines is 50.0%" in told
    assert "90.0% was accepted of lines with as much to go by" in told
    good = category_quality(answered(right, (frame, lines(0, 70, "A") | lines(70, 80, "C"))), {"f": frame}, "v1")
    assert fallen(good, ACCEPTED, 0.05)[0] is False
    assert fallen(good, {}, 0.05) == (False, NOTHING)


def of_evidence(counts: dict[str, int], decision: str = "suggest") -> pd.DataFrame:
    frame = upload([decision] * sum(counts.values()))
    return frame.assign(evidence=[case for case, n in counts.items() for _ in range(n * len(SHOWN))])


def test_what_was_accepted_is_the_mean_over_the_cases_of_the_lines(tmp_path: Path) -> None:
    accepted = {"top1": 0.9, "case_both_top1": 0.9, "case_text_top1": 0.6, "case_text_top5": 0.8}
    lines_of = predicted_lines({"f": of_evidence({"text": 75, "both": 25})})
    assert promised(lines_of, accepted) == {"top1": pytest.approx(0.675), "top5": 0.8}
    of_assigned = {"case_both_assigned_precision": 1.0, "case_text_assigned_precision": 0.9}
    doubtful, sure = of_evidence({"text": 10}), of_evidence({"text": 10, "both": 30}, "assign")
    both = predicted_lines({"doubtful": doubtful, "sure": sure})
    assert promised(both, of_assigned)["assigned_precision"] == pytest.approx(0.975), "of the assigned ones"


def test_lines_of_a_case_of_which_nothing_was_accepted_are_left_out_and_it_is_said(tmp_path: Path) -> None:
    frame = of_evidence({"text": 60, "image": 40})
    feedback = answered(tmp_path, (frame, lines(0, 60, "A") | lines(60, 100, "C")))
    quality = category_quality(feedback, {"f": frame}, "v1")
    assert quality.own["top1"] == pytest.approx(0.6)
    fell, told = fallen(quality, ACCEPTED, 0.05)
    assert not fell, "by picture alone all are wrong, but nobody knows how many were before"
    assert "top-1 over all lines is 100.0%" in told
    assert "; 40 lines (image) are left out: nothing was accepted of such lines" in told
    assert fallen(quality, ACCEPTED | {"case_image_top1": 0.9}, 0.05)[0]


def test_a_champion_from_before_cases_were_measured_is_compared_by_text_alone_or_not_at_all(tmp_path: Path) -> None:
    frame = upload(["suggest"] * 100)
    quality = category_quality(answered(tmp_path, (frame, lines(0, 75, "A") | lines(75, 100, "C"))), {"f": frame}, "v1")
    assert quality.own_lines["evidence"].eq("text").all(), "as stored before the evidence was"
    assert fallen(quality, {"top1": 0.91, "text_top1": 0.745}, 0.05)[0] is False
    assert fallen(quality, {"top1": 0.91, "text_top1": 0.91}, 0.05)[0]
    assert fallen(quality, {"top1": 0.91, "image_top1": 0.91}, 0.05) == (False, NOTHING)


def test_an_answer_counts_as_the_category_that_its_own_is_merged_into(tmp_path: Path) -> None:
    frame = upload(["suggest"] * 3)
    feedback = answered(tmp_path, (frame, {"l0": "a >older", "l1": "A", "l2": "other"}))
    merged = pd.DataFrame({"category": ["a > older", "A", "B"], "counts_as": ["A", "A", "A"]})
    plain, known = (category_quality(feedback, {"f": frame}, "v1", table) for table in (None, merged))
    assert plain.answers.set_index("line_id")["rank"].to_dict() == {"l0": 0, "l1": 1, "l2": 0}
    assert known.answers.set_index("line_id")["rank"].to_dict() == {"l0": 1, "l1": 1, "l2": 0}


def test_a_decision_that_nobody_answers_for_keeps_a_fall_from_being_said(tmp_path: Path) -> None:
    frame = upload(["assign"] * 100 + ["ask"] * 60)
    quality = category_quality(answered(tmp_path, (frame, lines(100, 160, "C"))), {"f": frame}, "v1")
    fell, told = fallen(quality, ACCEPTED, 0.05)
    assert not fell
    assert "too few to lines of: assign" in told


def test_vendors_whose_matches_contradict_their_categories_are_listed() -> None:
    torn = upload(["assign"] * 4).assign(contradiction=lambda rows: rows["line_id"] == "l0")
    found = contradicting_vendors({"a": torn, "b": upload(["assign"] * 9, vendor="zeta")})
    assert found.to_dict("records") == [{"vendor_id": "acme", "lines": 4, "contradictions": 1, "share": 0.25}]
    assert predicted_lines({"a": torn})["line_id"].tolist() == ["l0", "l1", "l2", "l3"]
