"""The gate between a candidate and production: a pure decision over a stored evaluation."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shelfwise.matching.promotion import RULES, SIMPLE_BASELINES, compare
from shelfwise.promotion.compare import FEWEST_LINES, LEAST_LINES
from shelfwise.promotion.gate import (
    PROMOTE,
    REFUSE,
    STAY,
    GateDecision,
    decide_promotion,
    rolled_back_at,
    ways,
)
from tests.unit.matching_samples import positives

FLOOR, MARGIN = 0.5, 0.01
MATCHER = replace(RULES, floor=FLOOR, margin=MARGIN)


def metrics(top1: float = 0.8, **changes: float) -> dict[str, float]:
    return {"top1": top1, **{f"{name}_top1": 0.4 for name in SIMPLE_BASELINES}, **changes}


def first(top1: float = 0.8, **changes: float) -> dict[str, Any]:
    """The evaluation of a first candidate."""
    return {"metrics": metrics(top1, **changes), "champion_metrics": None, "paired": None}


def difference(value: float = 0.0, at_least: float | None = None, p: float = 0.5, **changes: Any) -> dict[str, Any]:
    low = value - 0.002 if at_least is None else at_least
    plain = {
        "lines": 3000, "groups": 1200, "candidate": 0.8 + value, "champion": 0.8, "gained": 20, "lost": 10,
        "difference": value, "low": low - 0.001, "high": value + 0.003, "at_least": low, "p_value": p,
        "p_worse": 1 - p, "p_lines": p,
    }  # fmt: skip
    return plain | changes


def second(lines: int = 3000, slices: tuple = (), **paired: dict[str, Any]) -> dict[str, Any]:
    """The evaluation of a candidate that was compared with a champion; better in top-1 unless told otherwise."""
    measures = {
        "top1": difference(0.01, p=0.001),
        "top5": difference(),
        "approved_coverage": difference(),
        "approved_precision": difference(),
    }
    return {
        "metrics": metrics(),
        "champion_metrics": {"top1": 0.79},
        "paired": measures | paired,
        "slices": list(slices),
        "compared": {"lines": lines, "sentence": f"compared on {lines:,} held-out lines"},
    }


def refused(evaluation: dict[str, Any]) -> list[str]:
    decision = decide_promotion(evaluation, MATCHER)
    names = [condition.name for condition in decision.conditions if not condition.holds]
    assert decision.outcome == (REFUSE if names else PROMOTE)
    assert decision.passes == decision.promote == (not names)
    for condition in decision.conditions:
        assert condition.sentence
        assert condition.holds or condition.sentence in decision.summary
    return names


# --- The first champion -------------------------------------------------------------------------------------------


def test_the_first_champion_needs_the_floor_and_every_baseline() -> None:
    decision = decide_promotion(first(), MATCHER)
    assert decision.promote
    assert len(decision.conditions) == 1 + len(SIMPLE_BASELINES)
    assert decision.summary.startswith("the candidate passes")


def test_below_the_floor_is_refused_even_for_the_first() -> None:
    assert refused(first(0.49)) == ["top-1 reaches the floor"]
    summary = decide_promotion(first(0.49), MATCHER).summary
    assert summary == "the candidate is refused: top-1 is 0.4900, below the floor of 0.5000"
    assert refused(first(0.5)) == [], "the floor itself is reached"


@pytest.mark.parametrize("baseline", SIMPLE_BASELINES)
def test_each_baseline_has_to_be_beaten_not_equalled(baseline: str) -> None:
    assert refused(first(0.8, **{f"{baseline}_top1": 0.8})) == [f"top-1 beats {baseline.replace('_', ' ')}"]
    assert refused(first(0.8, **{f"{baseline}_top1": 0.7999})) == []
    unmeasured = first()
    del unmeasured["metrics"][f"{baseline}_top1"]
    assert len(refused(unmeasured)) == 1, "what was not measured was not beaten"


def test_a_metric_that_is_no_number_is_refused() -> None:
    nan = float("nan")
    assert refused(first(nan))
    assert refused(first(0.9, exact_top1=nan))
    assert refused(second(top1=difference(nan, nan, nan)))
    assert refused(second(top5=difference(nan, nan, nan)))


unit = st.floats(0, 1)


@given(unit, unit, st.lists(unit, min_size=len(SIMPLE_BASELINES), max_size=len(SIMPLE_BASELINES)))
def test_what_is_promoted_first_is_at_least_as_good_as_everything(
    top1: float, floor: float, baselines: list[float]
) -> None:
    values = {f"{name}_top1": value for name, value in zip(SIMPLE_BASELINES, baselines, strict=True)}
    promoted = decide_promotion(first(top1, **values), replace(MATCHER, floor=floor)).promote
    assert promoted == (top1 >= floor and all(top1 > value for value in baselines))


# --- Against a champion -------------------------------------------------------------------------------------------


def test_a_candidate_that_is_better_line_by_line_is_promoted() -> None:
    assert refused(second()) == []
    decision = decide_promotion(second(), MATCHER)
    assert "compared on 3,000 held-out lines" in decision.summary
    assert "better in top-1: +1.00 points, 20 lines gained and 10 lost" in decision.summary


def test_a_higher_number_that_chance_explains_is_not_better() -> None:
    luck = second(top1=difference(0.01, p=0.04))
    assert refused(luck) == ["is better in one measure"]
    assert "which chance explains with p = 0.04 (at most 0.03 is needed)" in decide_promotion(luck, MATCHER).summary
    assert refused(second(top1=difference(0.01, p=0.029))) == []
    assert sum(ways(MATCHER).values()) == pytest.approx(0.05), "the ways to be better share the risk"


@pytest.mark.parametrize("measure", ["top1", "top5", "approved_coverage"])
def test_one_measure_in_which_it_is_better_is_enough(measure: str) -> None:
    equal = {"top1": difference(), "top5": difference(), "approved_coverage": difference()}
    assert refused(second(**equal)) == ["is better in one measure"]
    assert refused(second(**{**equal, measure: difference(0.02, p=0.009)})) == []


def test_more_approved_and_less_of_it_right_is_not_better() -> None:
    more = {"top1": difference(), "approved_coverage": difference(0.1, p=1e-9)}
    assert refused(second(**more, approved_precision=difference(-0.004))) == ["is better in one measure"]
    assert refused(second(**more, approved_precision=difference(-0.001))) == []


@pytest.mark.parametrize("measure", ["top1", "top5"])
def test_half_a_point_is_what_may_be_lost(measure: str) -> None:
    name = f"{measure.replace('top', 'top-')} is not worse than the champion's"
    won = {} if measure == "top5" else {"top5": difference(0.02, p=0.001)}
    assert refused(second(**won, **{measure: difference(-0.002, -0.0049)})) == []
    assert refused(second(**won, **{measure: difference(-0.002, -0.0051)})) == [name]


@pytest.mark.parametrize(
    ("lost", "p_worse", "excused"), [(0.0, 0.5, True), (-0.009, 0.3, True), (-0.009, 0.1, False), (-0.011, 0.3, False)]
)
def test_too_few_lines_excuse_a_small_loss_that_chance_explains(lost: float, p_worse: float, excused: bool) -> None:
    few = second(top5=difference(lost, lost - 0.02, p_worse=p_worse))
    assert refused(few) == ([] if excused else ["top-5 is not worse than the champion's"])
    said = decide_promotion(few, MATCHER).table()["in words"].str.cat()
    assert ("too few to show" in said) == (lost < 0)


def test_many_lines_excuse_no_loss_beyond_half_a_point() -> None:
    many = second(top5=difference(-0.006, -0.008, p_worse=0.5))
    assert refused(many) == ["top-5 is not worse than the champion's"]


def test_approved_lines_stay_as_precise() -> None:
    assert refused(second(approved_precision=difference(-0.02, p_worse=0.01))) == ["approves as precisely"]
    assert refused(second(approved_precision=difference(-0.02, p_worse=0.2))) == [], "chance explains it"
    assert refused(second(approved_precision=difference(-0.004, p_worse=0.001))) == [], "it does not matter"


def test_what_was_promised_is_not_given_up() -> None:
    nan = float("nan")
    none = difference(nan, nan, 1.0, candidate=nan)
    lost = second(approved_precision=none, approved_coverage=difference(-0.7, p=1, candidate=0.0, champion=0.7))
    assert refused(lost) == ["keeps what is promised"]
    assert "approves 0.0% of lines rightly on its own, the champion 70.0%" in decide_promotion(lost, MATCHER).summary
    neither = difference(0.0, candidate=0.0, champion=0.0)
    assert refused(second(approved_precision=none | {"champion": nan}, approved_coverage=neither)) == []


def one_slice(value: str, difference: float, p_worse: float, measure: str = "top1") -> dict[str, Any]:
    row = {"slice": "vendor", "value": value, "measure": measure, "lines": 250, "difference": difference}
    return row | {"p_worse": p_worse}


def test_no_slice_of_importance_may_get_worse() -> None:
    fine = [one_slice(f"v{i}", 0.01, 0.9) for i in range(9)]
    assert refused(second(slices=fine)) == []
    worse = second(slices=(*fine, one_slice("acme", -0.08, 0.0004)))
    assert refused(worse) == ["no slice of importance is worse"]
    told = decide_promotion(worse, MATCHER).summary
    assert "vendor acme: -8.00 points in top-1 on 250 lines (p = 0.0004)" in told
    assert "more than the allowed 1.0 points beyond chance" in told
    assert decide_promotion(worse, replace(MATCHER, margin=0.1)).promote, "a wider margin"


def test_the_more_slices_are_looked_at_the_less_is_proof_of_one() -> None:
    suspect = one_slice("acme", -0.08, 0.004)
    assert refused(second(slices=(suspect, *[one_slice(f"v{i}", 0.01, 0.9) for i in range(9)])))
    assert not refused(second(slices=(suspect, *[one_slice(f"v{i}", 0.01, 0.9) for i in range(19)])))
    assert not refused(second(slices=(one_slice("acme", -0.009, 1e-9),))), "proven, and less than the margin"


def test_too_few_lines_are_no_comparison() -> None:
    few = second(lines=FEWEST_LINES - 1)
    assert refused(few) == ["enough lines to compare"]
    assert "not possible: 49 held-out lines, 50 are needed" in decide_promotion(few, MATCHER).summary
    assert refused(second(lines=FEWEST_LINES)) == []


def test_a_comparison_that_was_not_made_is_no_pass() -> None:
    old = {**first(), "champion_metrics": {"top1": 0.1}}
    assert refused(old) == ["was compared with the champion"]
    assert "materialize matching/matcher_evaluation" in decide_promotion(old, MATCHER).summary


def test_a_champion_that_cannot_be_measured_blocks_nobody() -> None:
    broken = {**first(), "champion_unusable": "made by another version"}
    assert refused(broken) == []
    assert "made by another version" in decide_promotion(broken, MATCHER).summary
    assert refused({**broken, "metrics": metrics(0.3)}), "the floor stands"


def test_the_champion_itself_stays_without_a_failure() -> None:
    for evaluation in ({**first(), "same": True}, {**first(0.1), "same": True}):
        decision = decide_promotion(evaluation, MATCHER)
        assert (decision.outcome, decision.promote, decision.passes) == (STAY, False, True)
        assert "it stays" in decision.summary


def test_what_a_person_rolled_back_does_not_come_back_by_itself() -> None:
    again = {**second(), "rolled_back": "2026-03-01"}
    assert refused(again) == ["was not rolled back"]
    assert "2026-03-01" in decide_promotion(again, MATCHER).summary


def test_a_rollback_is_found_in_the_history_unless_it_was_undone() -> None:
    def event(action: str, version: int, before: int | None, at: str) -> dict[str, Any]:
        return {"action": action, "version": version, "from_version": before, "at": at}

    history = [event("promoted", 1, None, "a"), event("promoted", 2, 1, "b"), event("rolled_back", 1, 2, "c")]
    assert rolled_back_at(history, 2) == "c"
    assert rolled_back_at([*history, event("refused", 2, 1, "d")], 2) == "c"
    assert rolled_back_at(history, 1) is None
    assert rolled_back_at([*history, event("promoted", 2, 1, "d")], 2) is None
    assert rolled_back_at([*history, event("rolled_back", 2, 1, "d")], 2) is None
    assert rolled_back_at([], 2) is None


def test_every_reason_is_named_at_once_and_stands_first_in_the_table() -> None:
    bad = second(lines=10, top1=difference(-0.1, -0.2, 1.0), slices=(one_slice("acme", -0.5, 1e-9),))
    bad["metrics"] = metrics(0.3)
    names = refused(bad)
    assert len(names) == 1 + len(SIMPLE_BASELINES) + 4
    table = decide_promotion(bad, MATCHER).table()
    assert table["condition"].head(len(names)).tolist() == names
    assert table["holds"].tolist() == ["no"] * len(names) + ["yes"] * (len(table) - len(names))
    floor = table.set_index("condition").loc["top-1 reaches the floor"]
    assert floor.tolist() == [0.3, 0.5, "no", "top-1 is 0.3000, below the floor of 0.5000"]


# --- Simulated histories: how often the whole gate is right -------------------------------------------------------


def history(seed: int, lines: int, better: float = 0.0, harm: float = 0.0) -> dict[str, Any]:
    """Return the evaluation of two matchers whose truth is known.

    Either has luck of its own with each product (so lines of one product are won and lost together) and with each
    line; luck of both is drawn alike, so that they are equal in truth. Then the candidate gets `better` of all lines
    right that it had wrong, and of one vendor's lines it loses the share `harm`.
    """
    rng = np.random.default_rng(seed)
    product = rng.integers(0, lines // 2, lines)
    vendor = rng.choice(12, lines, p=np.arange(1, 13) / 78)
    common = 1.6 + rng.normal(0, 1, lines)[product] + rng.normal(0, 0.8, lines)
    fifth = rng.random(lines) < 0.6
    frames = []
    for who in range(2):
        latent = common + rng.normal(0, 0.25, lines)[product] + rng.normal(0, 0.25, lines)
        right, near = latent > 0, fifth ^ (rng.random(lines) < 0.05)
        if who == 0:
            right |= rng.random(lines) < better / (1 - right.mean())
            right &= ~((vendor == 4) & (rng.random(lines) < harm))
        rank = np.where(right, 1, np.where(near, 3, 0))
        frame = {
            "vendor_id": [f"v{v}" for v in vendor],
            "title": "line",
            "product_id": [f"p{p}" for p in product],
            "in_catalog": True,
            "has_match": True,
            "rank": rank,
            "decision": np.where(right & (latent > 1.2), "approved", "review"),
            "right": right,
            "category": [f"c{p % 6}" for p in product],
            "popularity": np.where(product % 3 == 0, "none known", "tail (1-3)"),
        }
        frames.append(pd.DataFrame(frame))
    compared = compare(*frames, None, seed=seed, resamples=200).to_json()
    return {**first(0.85), "champion_metrics": {"top1": 0.85}, **compared}


def decisions(n: int, *arguments: Any, **named: Any) -> list[GateDecision]:
    return [decide_promotion(history(seed, *arguments, **named), MATCHER) for seed in range(n)]


def promoted(made: list[GateDecision]) -> int:
    return sum(decision.promote for decision in made)


def test_a_candidate_that_is_equal_in_truth_is_promoted_in_one_of_twenty_trials_at_most() -> None:
    assert promoted(decisions(150, 1500) + decisions(50, 5000)) <= 10


def test_a_better_candidate_is_promoted_in_most_trials() -> None:
    assert promoted(decisions(30, 1500, better=0.03)) > 25
    assert promoted(decisions(20, 5000, better=0.01)) > 10


def test_a_better_candidate_that_fails_one_vendor_is_refused_for_that() -> None:
    made = decisions(10, 3000, better=0.04, harm=0.25)
    assert promoted(made) == 0
    reasons = [{c.name for c in decision.conditions if not c.holds} for decision in made]
    assert reasons == [{"no slice of importance is worse"}] * 10


def test_a_matcher_of_a_bad_training_set_is_refused(products: pd.DataFrame) -> None:
    """A third of the lines that the scorer is fitted on name another product; the champion's do not."""
    from shelfwise.matching.evaluate import evaluate
    from shelfwise.matching.index import CatalogIndex, IndexConfig, product_names
    from shelfwise.matching.lexical import Lexical
    from shelfwise.matching.matcher import Matcher
    from shelfwise.matching.splits import split_positives

    lines = positives(products, n=1500, vendors=10)
    part = split_positives(lines, products).line
    valid, test = lines[part == "valid"].reset_index(drop=True), lines[part != "valid"].reset_index(drop=True)
    names = product_names(products, lines)
    index = CatalogIndex.build(products, names, Lexical.fit(names["name"].tolist()), config=IndexConfig(threads=1))
    rng = np.random.default_rng(0)
    bad = valid.assign(
        product_id=np.where(rng.random(len(valid)) < 1 / 3, rng.permutation(valid["product_id"]), valid["product_id"])
    )
    champion, candidate = (evaluate(Matcher.fit(own, index), index, test, baselines=False) for own in (valid, bad))
    compared = compare(candidate.lines, champion.lines, None)
    assert compared.lines >= LEAST_LINES
    decision = decide_promotion({**first(0.9), "champion_metrics": champion.metrics, **compared.to_json()}, MATCHER)
    assert not decision.promote
    assert "is better in one measure" in [c.name for c in decision.conditions if not c.holds]
