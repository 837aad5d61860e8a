"""The simulated year without its runs: what people say, what is measured, and verdicts that can also be "no"."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from typing import Any

import pandas as pd
import pytest

from shelfwise.plots import simulation_picture
from shelfwise.simulation import (
    FAILED_TICK,
    PROMOTED,
    REFUSED,
    RETRAIN,
    ROLLED_BACK,
    SIGNAL,
    Happening,
    Story,
    Week,
    judge,
    measured,
    people_answer,
    trend,
    week_of,
)
from shelfwise.synthetic.year import Year, YearConfig


def matches(*lines: tuple[int, str, bool, list[str]]) -> pd.DataFrame:
    """Rows of upload_matches: (row, decision, audited, candidates by rank) per line."""
    rows = [
        {
            "vendor_id": "acme", "file": "a.csv", "row": row, "line_id": f"line{row}", "rank": rank,
            "product_id": product, "decision": decision, "audited": audited,
        }
        for row, decision, audited, candidates in lines
        for rank, product in enumerate(candidates, start=1)
    ]  # fmt: skip
    return pd.DataFrame(rows)


TRUTH = {("acme/a.csv", row): product for row, product in {2: "p1", 3: "p2", 4: "", 5: "p9"}.items()}
FRAME = matches(
    (2, "approved", False, ["p1", "p2"]),
    (3, "review", False, ["p1", "p2"]),
    (4, "no_match", True, ["p5"]),
    (5, "approved", True, ["p4", "p5"]),
)


def test_a_week_is_measured_by_its_truth():
    week = measured(7, "v1", [FRAME], TRUTH)
    assert (week.week, week.champion, week.files, week.lines) == (7, "v1", 1, 4)
    assert week.top1 == pytest.approx(1 / 3)
    assert week.top5 == pytest.approx(2 / 3)
    assert week.settled == pytest.approx(1 / 3)
    assert week.approved_precision == pytest.approx(1 / 2)
    assert measured(8, "v1", [], TRUTH).top1 is None


def test_people_are_asked_about_review_and_audit_and_are_mostly_right():
    assert people_answer(FRAME, TRUTH, random.Random(1), mistakes=0) == {"line3": "p2", "line4": None, "line5": "p9"}
    mistaken = people_answer(FRAME, TRUTH, random.Random(1), mistakes=1)
    assert mistaken["line3"] == "p1"
    assert mistaken["line4"] == "p5"
    assert mistaken["line5"] in ("p4", "p5")


def test_the_trend_counts_lines_and_looks_back_four_weeks():
    weeks = [Week(i, "v1", 1, n, top1, top1, 0.5, None) for i, (n, top1) in enumerate([(10, 0.0), (30, 1.0)])]
    weeks += [Week(2, "v1", 0, 0, None, None, None, None)]
    weeks += [Week(3 + i, "v1", 1, 10, 1.0, 1.0, 0.5, None) for i in range(3)]
    assert trend(weeks) == [(0, 0.0), (1, 0.75), (3, 0.8), (4, pytest.approx(5 / 6)), (5, 1.0)]


def test_weeks_are_counted_from_the_start():
    start = datetime(2026, 1, 5, tzinfo=UTC)
    assert [week_of(datetime(2026, 1, day, 23, tzinfo=UTC), start) for day in (5, 11, 12)] == [0, 0, 1]


YEAR = Year(YearConfig(products=300, past_mappings=300))


def good_story() -> Story:
    one = YEAR.config
    story = Story([Week(week, "v1", 1, 100, 0.8 + week / 500, 0.9, 0.5, 0.99) for week in range(one.weeks)])
    story.happenings = [
        Happening(0, PROMOTED, "first"),
        Happening(8, PROMOTED, "better"),
        Happening(one.naming + 3, SIGNAL, "drift"),
        Happening(one.naming + 3, RETRAIN, "drift"),
        Happening(one.bad + 3, REFUSED, "worse"),
        Happening(one.rollback, ROLLED_BACK, "back"),
        Happening(one.outage, FAILED_TICK, "away"),
    ]
    return story


def verdicts(story: Story, **changes: Any) -> dict[str, bool]:
    given: dict[str, Any] = {
        "cycles": [f"c{i}" for i in range(13)], "arrived": {"a", "b"}, "matched": {"a", "b"}, "given": {"1", "2"},
        "taken": ["1", "2"],
    }  # fmt: skip
    return {verdict.event: verdict.holds for verdict in judge(YEAR, story, **(given | changes))}


def test_a_loop_that_answered_everything_passes():
    assert all(verdicts(good_story()).values())
    assert len(verdicts(good_story())) == 10


@pytest.mark.parametrize(
    ("event", "changes"),
    [
        ("every file was matched once", {"matched": {"a"}}),
        ("every answer was taken once", {"taken": ["1"]}),
        ("every answer was taken once", {"taken": ["1", "2", "2"]}),
        ("a training for each cycle of four weeks", {"cycles": ["c1"] * 13}),
    ],
)
def test_what_was_lost_or_doubled_fails(event: str, changes: dict[str, Any]):
    assert [name for name, holds in verdicts(good_story(), **changes).items() if not holds] == [event]


@pytest.mark.parametrize(
    ("event", "kind"),
    [
        ("better candidates replaced the champion", PROMOTED),
        ("nothing trained on the bad training set went live", REFUSED),
        ("the vendor's new naming was noticed and asked for a retrain", SIGNAL),
        ("the vendor's new naming was noticed and asked for a retrain", RETRAIN),
        ("the rollback put the previous champion back", ROLLED_BACK),
        ("during the outage ticks failed, and nothing after it", FAILED_TICK),
    ],
)
def test_what_did_not_happen_fails(event: str, kind: str):
    story = good_story()
    story.happenings = [one for one in story.happenings if one.kind != kind]
    assert [name for name, holds in verdicts(story).items() if not holds] == [event]


def test_a_bad_promotion_and_a_fall_of_accuracy_fail():
    story = good_story()
    story.happenings.append(Happening(YEAR.config.bad + 3, PROMOTED, "bad"))
    assert not verdicts(story)["nothing trained on the bad training set went live"]
    story = good_story()
    story.weeks = [Week(w.week, w.champion, 1, 100, 1 - w.top1, 0.9, 0.5, 0.99) for w in story.weeks]
    failed = [name for name, holds in verdicts(story).items() if not holds]
    assert failed == ["accuracy rose over the year"]


def test_the_picture_is_drawn_also_of_a_year_that_only_began():
    for story in (good_story(), Story([Week(0, "", 0, 0, None, None, None, None)])):
        assert simulation_picture(story, [(3, "vendor joins")]).startswith(b"\x89PNG")
