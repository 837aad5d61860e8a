"""Live quality: which answers count for what, the estimate over all lines, and its interval."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from shelfwise.feedback import answers_from_matches, read_feedback, record_answers, record_feedback
from shelfwise.matching.decisions import DECISIONS
from shelfwise.monitoring import live
from shelfwise.monitoring.live import FIRST, clopper_pearson, live_quality, wilson

NOW = datetime(2026, 3, 31, 12, tzinfo=UTC)
MADE = datetime(2026, 1, 5, tzinfo=UTC)
EVERYTHING = dict(zip(DECISIONS, (0.6, 0.25, 0.15), strict=True))
# Of lines by decision: right product first, among five, not found, not in the catalog.
OUTCOMES = {
    "approved": (0.985, 0.006, 0.004, 0.005),
    "review": (0.60, 0.20, 0.10, 0.10),
    "no_match": (0.12, 0.08, 0.15, 0.65),
}


def matches(decisions: list[str], vendor: str = "acme", champion: str = "v1", file: str = "f.csv") -> pd.DataFrame:
    """Six candidates per line: a, b, ... f."""
    rows = []
    for number, decision in enumerate(decisions):
        line = {"line_id": f"l{number}", "row": number + 2, "vendor_id": vendor, "file": file, "title": f"t {number}"}
        for rank, product in enumerate("abcdef", start=1):
            found = {"rank": rank, "product_id": product, "product_title": product, "score": 0.9 / rank}
            said = {"decision": decision, "champion_version": champion, "audited": decision != "review"}
            rows.append({**line, **found, **said})
    return pd.DataFrame(rows)


def inbox(tmp_path, *batches: list[dict]) -> pd.DataFrame:
    for batch in batches:
        record_answers(tmp_path / "feedback", batch)
    return read_feedback(tmp_path / "feedback")


def answer(frame: pd.DataFrame, chosen: dict, at: datetime = NOW) -> list[dict]:
    return answers_from_matches(frame, chosen, answered_by="ann", answered_at=at)


def measured(feedback: pd.DataFrame, *frames: pd.DataFrame, champion: str | None = "v1", since=MADE, now=NOW):
    return live_quality(feedback, {str(i): frame for i, frame in enumerate(frames)}, champion, since, now)


def test_no_answers_and_no_uploads_measure_nothing(tmp_path) -> None:
    for frames in ([], [matches(["review"])]):
        quality = measured(read_feedback(tmp_path / "feedback"), *frames)
        assert quality.table.empty
        assert list(quality.table) == live.COLUMNS
        assert (quality.champion, quality.looks, quality.own["answers"]) == (None, (), 0)
    assert live_quality(read_feedback(tmp_path / "feedback"), None, None, None, NOW).table.empty


def test_answers_are_joined_with_what_was_predicted(tmp_path) -> None:
    frame = matches(["review"] * 4 + ["approved"] * 2 + ["no_match"])
    chosen = {"l0": "a", "l1": "e", "l2": "f", "l3": None, "l4": "a", "l5": "b", "l6": None}
    feedback = inbox(tmp_path, answer(frame, chosen))
    quality = measured(feedback, frame)
    (row,) = quality.table[quality.table["level"] == "all"].to_dict("records")
    assert (row["answers"], row["reported"]) == (7, 0)
    assert (row["raw_top1"], row["raw_top5"]) == (2 / 5, 4 / 5), "of five lines with a product; f is the sixth"
    assert (row["audited_approved"], row["approved_precision"]) == (2, 0.5)
    assert (row["audited_no_match"], row["no_match_precision"]) == (1, 1.0)
    assert quality.waiting == 0
    # Lines by decision 4, 2, 1; each stratum's answers stand for its lines, here all of them.
    assert quality.champion is not None
    assert quality.champion.top1.value == pytest.approx(2 / 5)
    assert quality.champion.covered == 1


def test_rows_of_the_table_are_by_week_vendor_and_champion(tmp_path) -> None:
    first, second = matches(["review", "review"]), matches(["review"], "zeta", "v2")
    feedback = inbox(
        tmp_path,
        answer(first, {"l0": "a"}, datetime(2026, 1, 1, 12, tzinfo=UTC)),
        # Sunday evening west of Greenwich is Monday in UTC: the week is that of UTC.
        answer(first, {"l1": "b"}, datetime.fromisoformat("2026-01-04T23:30:00-05:00")),
        answer(second, {"l0": "a"}, datetime(2026, 1, 6, tzinfo=UTC)),
    )
    table = measured(feedback, first, second).table
    finest = table[table["level"] == "week, vendor, version"]
    keys = finest[["week", "vendor_id", "champion_version", "answers", "raw_top1"]].to_numpy().tolist()
    assert keys == [
        ["2026-W01", "acme", "v1", 1, 1],
        ["2026-W02", "acme", "v1", 1, 0],
        ["2026-W02", "zeta", "v2", 1, 1],
    ]
    levels = table.groupby("level", sort=False)["answers"].agg(list).to_dict()
    assert levels["all"] == [3]
    assert (levels["week"], levels["vendor"], levels["version"]) == ([1, 2], [2, 1], [2, 1])
    assert table.dtypes["week"] == "str"
    assert table.loc[table["level"] == "vendor", "week"].isna().all()


def test_what_nobody_asked_for_counts_apart(tmp_path) -> None:
    """Ten approved lines, one audited and right; two corrections that customers reported."""
    frame = matches(["approved"] * 10).assign(audited=lambda f: f["line_id"] == "l0")
    feedback = inbox(tmp_path, answer(frame, {"l0": "a", "l1": "b", "l2": "c"}))
    quality = measured(feedback, frame)
    assert (quality.own["answers"], quality.own["reported"]) == (1, 2)
    assert quality.own["approved_precision"] == 1.0
    assert quality.champion is not None
    assert quality.champion.top1.value == 1.0
    assert quality.champion.answers["approved"] == 1


def test_the_latest_answer_to_a_prediction_counts(tmp_path) -> None:
    frame = matches(["review"])
    feedback = inbox(tmp_path, answer(frame, {"l0": "a"}, NOW - timedelta(hours=1)), answer(frame, {"l0": "b"}, NOW))
    quality = measured(feedback, frame)
    assert (quality.own["answers"], quality.own["raw_top1"], quality.repeated) == (1, 0, 1)


def test_answers_without_or_with_an_unknown_prediction_are_not_lost(tmp_path) -> None:
    frame = matches(["review", "review"])
    strange = answer(frame, {"l1": "a"})
    strange[0]["prediction"]["decision"] = "perhaps"
    record_feedback(tmp_path / "feedback", vendor_id="acme", vendor_title="x", product_id="a")
    feedback = inbox(tmp_path, answer(frame, {"l0": "a"}), strange)
    quality = measured(feedback, frame)
    assert (quality.own["answers"], quality.without) == (1, 1)
    assert quality.unknown["vendor_title"].tolist() == ["t 1"]


def test_an_answer_counts_for_the_champion_that_was_answered(tmp_path) -> None:
    """The upload was matched again since: the new champion learned from the answer, which says nothing of it."""
    old, new = matches(["review"] * 3), matches(["approved"] * 3, champion="v2")
    feedback = inbox(tmp_path, answer(old, {"l0": "b", "l1": "b"}))
    quality = measured(feedback, new, champion="v2")
    assert (quality.champion, quality.own["answers"]) == (None, 0)
    (row,) = quality.table[quality.table["level"] == "version"].to_dict("records")
    assert (row["champion_version"], row["answers"], row["raw_top1"]) == ("v1", 2, 0)
    assert quality.waiting == 3


def test_lines_without_candidates_can_be_answered(tmp_path) -> None:
    frame = matches(["no_match"]).iloc[:1].assign(product_id=None, product_title=None, score=float("nan"))
    quality = measured(inbox(tmp_path, answer(frame, {"l0": "z"})), frame)
    assert (quality.own["raw_top1"], quality.own["no_match_precision"]) == (0, 0)


def test_a_table_survives_parquet(tmp_path) -> None:
    frame = matches(["review", "approved"])
    feedback = inbox(tmp_path, answer(frame, {"l0": "a", "l1": None}))
    feedback.to_parquet(tmp_path / "f.parquet")
    frame.to_parquet(tmp_path / "m.parquet")
    again = measured(pd.read_parquet(tmp_path / "f.parquet"), pd.read_parquet(tmp_path / "m.parquet"))
    pd.testing.assert_frame_equal(again.table, measured(feedback, frame).table)


# --- The estimate over all lines ----------------------------------------------------------------------------------


def world(rng: np.random.Generator, lines: int) -> pd.DataFrame:
    """Lines with what is true of them; within review, low scores are wrong more often."""
    decision = rng.choice(list(EVERYTHING), lines, p=list(EVERYTHING.values()))
    outcome = np.empty(lines, int)
    for name, shares in OUTCOMES.items():
        outcome[decision == name] = rng.choice(4, (decision == name).sum(), p=shares)
    review = decision == "review"
    score = np.where(decision == "approved", 0.95, 0.1)
    score[review] = 0.5 + 0.4 * rng.random(review.sum())
    wrong = rng.random(lines) > (score - 0.4) / 0.5
    outcome = np.where(review & wrong & (outcome == FIRST), 2, outcome)
    return pd.DataFrame({"decision": decision, "score": score, "outcome": outcome})


def answered(truth: pd.DataFrame, rng: np.random.Generator, audit: float) -> pd.DataFrame:
    """The audit, and the doubtful half of the review lines mostly: people begin at the top of the queue."""
    chance = np.where(truth["decision"] != "review", audit, np.where(truth["score"] < 0.7, 0.6, 0.15))
    return truth[rng.random(len(truth)) < chance].assign(asked=True)


def accuracy(frame: pd.DataFrame) -> float:
    return float((frame["outcome"] == 0).sum() / (frame["outcome"] != 3).sum())


def test_the_estimate_is_that_of_all_lines_although_doubtful_ones_are_answered() -> None:
    rng = np.random.default_rng(0)
    errors, raw, inside, rounds = [], [], 0, 150
    for _ in range(rounds):
        truth = world(rng, 4000)
        some = answered(truth, rng, 0.05)
        found = live.estimate(some, truth)
        errors.append(found.top1.value - accuracy(truth))
        raw.append(accuracy(some) - accuracy(truth))
        inside += found.top1.low <= accuracy(truth) <= found.top1.high
    assert np.mean(raw) < -0.15, "the plain share among answers is far off"
    assert abs(np.mean(errors)) < 0.01
    # Of 150 rounds at 95 % 142.5 are expected; fewer than 134 would happen once in a hundred.
    assert inside >= 134
    assert np.std(errors) < 0.03


@pytest.mark.parametrize("number", [(12, 60, 8), (40, 200, 25), (100, 600, 60)])
def test_the_interval_misses_on_either_side_as_seldom_as_it_says(
    number: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 300 samples an interval for 95 % may miss 7.5 on each side; 16 would come once in five hundred."""
    monkeypatch.setattr(live, "DRAWS", 500)
    rng = np.random.default_rng(3)
    mix, true = np.array(list(EVERYTHING.values())), np.array(list(OUTCOMES.values()))
    wanted = mix @ true[:, 0] / (mix @ true[:, :3].sum(axis=1))
    found = [
        live._ratios(mix, np.array([rng.multinomial(n, p) for n, p in zip(number, true, strict=True)], float), 0)[0]
        for _ in range(300)
    ]
    assert sum(one.low > wanted for one in found) < 16
    assert sum(one.high < wanted for one in found) < 16
    assert np.mean([one.high - one.low for one in found]) < 1.6 / np.sqrt(number[0] * 5)


def test_an_interval_from_few_right_answers_is_not_certain() -> None:
    lines = pd.DataFrame({"decision": ["approved"] * 100, "score": 0.9})
    some = lines.head(5).assign(outcome=0, asked=True)
    top1 = live.estimate(some, lines).top1
    assert top1.value == top1.high == 1
    assert top1.low < 0.9
    many = live.estimate(pd.concat([some] * 40), lines).top1
    assert many.low > 0.97


def test_what_nobody_answered_for_is_not_covered() -> None:
    lines = pd.DataFrame({"decision": ["approved"] * 70 + ["review"] * 27 + ["no_match"] * 3, "score": 0.7})
    some = lines[lines["decision"] == "review"].assign(outcome=0, asked=True)
    found = live.estimate(some, lines)
    assert found.covered == pytest.approx(0.27)
    assert found.lacking == ("approved",), "three in a hundred lines can be left out"
    nothing = live.estimate(some.assign(outcome=3), lines)
    assert np.isnan(nothing.top1.value)


def test_looks_begin_with_the_champion_and_at_each_cycle_whatever_clocks_said(tmp_path) -> None:
    frame = matches(["review"] * 6)
    times = [MADE - timedelta(days=400), MADE, MADE + timedelta(days=27), MADE + timedelta(days=28), NOW]
    future = NOW + timedelta(days=900)
    batches = [answer(frame, {f"l{i}": "a"}, at) for i, at in enumerate([*times, future])]
    looks = measured(inbox(tmp_path, *batches), frame).looks
    assert [(look.index, look.estimate.answers["review"]) for look in looks] == [(0, 6), (1, 3), (3, 2)]
    assert [look.since for look in looks] == [MADE, MADE + timedelta(weeks=4), MADE + timedelta(weeks=12)]
    unknown = measured(read_feedback(tmp_path / "feedback"), frame, since=None).looks
    assert unknown[0].since == times[0]


@pytest.mark.parametrize("interval", [wilson, clopper_pearson])
@pytest.mark.parametrize(("share", "number"), [(0.5, 40), (0.9, 60), (0.99, 300)])
def test_intervals_of_a_share_hold_what_they_promise(interval, share: float, number: int) -> None:
    from scipy.stats import binom

    hits = np.arange(number + 1)
    ends = np.array([interval(int(k), number) for k in hits])
    inside = (ends[:, 0] <= share) & (share <= ends[:, 1])
    coverage = binom.pmf(hits, number, share)[inside].sum()
    assert coverage >= (0.95 if interval is clopper_pearson else 0.93)
    assert (np.diff(ends, axis=0) >= 0).all()
    assert ends[0, 0] == 0
    assert ends[-1, 1] == 1


def test_intervals_as_published() -> None:
    """Newcombe (1998), table I: 81 of 263, and 0 of 20."""
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert clopper_pearson(81, 263) == pytest.approx((0.2527, 0.3676), abs=5e-5)
    assert clopper_pearson(0, 20) == pytest.approx((0.0, 0.1684), abs=5e-5)
