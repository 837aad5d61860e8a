"""The gate between a candidate and production: a pure decision."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shelfwise.matching.gate import SIMPLE_BASELINES, decide_promotion

FLOOR = 0.5


def metrics(top1: float = 0.8, **changes: float) -> dict[str, float]:
    return {"top1": top1, **{f"{name}_top1": 0.4 for name in SIMPLE_BASELINES}, **changes}


def refused(decision) -> list[str]:
    return [condition.name for condition in decision.conditions if not condition.holds]


def test_the_first_champion_needs_the_floor_and_every_baseline() -> None:
    decision = decide_promotion(metrics(), None, FLOOR)
    assert decision.promote
    assert len(decision.conditions) == 1 + len(SIMPLE_BASELINES)
    assert decision.summary.startswith("the candidate passes")


def test_below_the_floor_is_refused_even_for_the_first() -> None:
    decision = decide_promotion(metrics(0.49), None, FLOOR)
    assert not decision.promote
    assert refused(decision) == ["top-1 reaches the floor"]
    assert decision.summary == ("the candidate is refused: top-1 reaches the floor (measured 0.4900, needed 0.5000)")
    assert decide_promotion(metrics(0.5), None, FLOOR).promote, "the floor itself is reached"


@pytest.mark.parametrize("baseline", SIMPLE_BASELINES)
def test_each_baseline_has_to_be_beaten_not_equalled(baseline: str) -> None:
    equal = decide_promotion(metrics(0.8, **{f"{baseline}_top1": 0.8}), None, FLOOR)
    assert refused(equal) == [f"top-1 beats {baseline.replace('_', ' ')}"]
    assert decide_promotion(metrics(0.8, **{f"{baseline}_top1": 0.7999}), None, FLOOR).promote
    unmeasured = metrics()
    del unmeasured[f"{baseline}_top1"]
    assert not decide_promotion(unmeasured, None, FLOOR).promote, "what was not measured was not beaten"


def test_a_champion_may_be_equalled_but_not_undercut() -> None:
    assert decide_promotion(metrics(0.8), {"top1": 0.8}, FLOOR).promote
    worse = decide_promotion(metrics(0.8), {"top1": 0.8001}, FLOOR)
    assert refused(worse) == ["top-1 is not below the champion's"]


def test_every_reason_is_named_at_once() -> None:
    decision = decide_promotion(metrics(0.3), {"top1": 0.9}, FLOOR)
    assert len(refused(decision)) == 2 + len(SIMPLE_BASELINES)
    assert all(name in decision.summary for name in refused(decision))


def test_the_table_shows_each_condition_with_its_numbers() -> None:
    table = decide_promotion(metrics(0.45), {"top1": 0.9}, FLOOR).table().set_index("condition")
    assert table.loc["top-1 reaches the floor"].tolist() == [0.45, 0.5, "no"]
    assert table.loc["top-1 beats exact"].tolist() == [0.45, 0.4, "yes"]
    assert table.loc["top-1 is not below the champion's"].tolist() == [0.45, 0.9, "no"]


def test_a_metric_that_is_no_number_is_refused() -> None:
    nan = float("nan")
    assert not decide_promotion(metrics(nan), None, FLOOR).promote
    assert not decide_promotion(metrics(0.9), {"top1": nan}, FLOOR).promote
    assert not decide_promotion(metrics(0.9, exact_top1=nan), None, FLOOR).promote


unit = st.floats(0, 1)


@given(unit, unit, unit, st.lists(unit, min_size=len(SIMPLE_BASELINES), max_size=len(SIMPLE_BASELINES)))
def test_what_is_promoted_is_at_least_as_good_as_everything(
    top1: float, champion: float, floor: float, baselines: list[float]
) -> None:
    candidate = {
        "top1": top1,
        **{f"{name}_top1": value for name, value in zip(SIMPLE_BASELINES, baselines, strict=True)},
    }
    promoted = decide_promotion(candidate, {"top1": champion}, floor).promote
    assert promoted == (top1 >= floor and top1 >= champion and all(top1 > value for value in baselines))
