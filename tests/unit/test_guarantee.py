"""The guarantee: the promise holds in at least as many draws as it says, and nothing is promised without evidence."""

import json
import math

import numpy as np
import pytest
from scipy.special import betaincinv

from shelfwise.matching.decisions import NEVER, Policy, Thresholds, guaranteed
from shelfwise.matching.guarantee import (
    Certificate,
    Goal,
    Guarantee,
    Sample,
    _passes,
    certify,
    design_effect,
    lines_needed,
    lower_bound,
    review_from,
    shared_level,
    upper_bound,
)

GOAL = Goal(precision=0.95, confidence=0.9)
KNEE, SLOPE = 0.9, 0.3  # right with probability 1 - SLOPE * (share of lines that score higher) ** 2 / KNEE


def probability(score: np.ndarray) -> np.ndarray:
    """Whether a line of this score (uniform in 0..1) is right: 0.99 at the top, less and less below."""
    return 0.99 - SLOPE * (1 - score) ** 2 / KNEE


def true_precision(threshold: float) -> float:
    """The precision of all lines that score at least the threshold: the mean of `probability` from there to 1."""
    return 0.99 - SLOPE * (1 - threshold) ** 2 / 3 / KNEE


def naive(score: np.ndarray, right: np.ndarray, goal: Goal) -> float | None:
    """The smallest threshold whose own bound meets the target, as if it were the only one looked at."""
    order = np.argsort(-score)
    hits, lines = np.cumsum(right[order]), np.arange(1, len(score) + 1)
    (passed,) = np.nonzero(betaincinv(hits, lines - hits + 1, goal.risk) >= goal.precision)
    return float(score[order][passed[-1]]) if len(passed) else None


class TestBounds:
    def test_the_bound_is_exact(self):
        assert lower_bound(299, 299, 0.05) >= 0.99 > lower_bound(298, 298, 0.05)
        # of all shares, the bound is the one that gives so many right with probability `risk`
        from scipy.stats import binom

        low = lower_bound(480, 500, 0.05)
        assert binom.sf(479, 500, low) == pytest.approx(0.05)
        assert binom.cdf(480, 500, upper_bound(480, 500, 0.05)) == pytest.approx(0.05)
        assert lower_bound(0, 0, 0.05) == lower_bound(0, 10, 0.05) == 0

    def test_lines_needed(self):
        assert lines_needed(0.99, 0.05) == 299
        assert lines_needed(0.95, 0.05) == 59
        needed = lines_needed(0.95, 0.05, wrong_share=0.02)
        assert lower_bound(0.98 * needed, needed, 0.05) >= 0.95 > lower_bound(0.98 * (needed - 1), needed - 1, 0.05)
        assert lines_needed(0.95, 0.05, wrong_share=0.05) is None

    def test_design_effect_of_repeated_and_of_independent_lines(self):
        rng = np.random.default_rng(0)
        right, product = rng.random(4000) < 0.9, np.arange(4000)
        assert design_effect(right, product) == pytest.approx(1, abs=0.01)
        assert design_effect(np.repeat(right, 4), np.repeat(product, 4)) == pytest.approx(4, rel=0.01)
        both = design_effect(np.repeat(right, 4), np.repeat(product, 4), np.repeat(product // 100, 4))
        assert both >= design_effect(np.repeat(right, 4), np.repeat(product // 100, 4)) > 3
        assert design_effect(np.ones(9, bool), np.arange(9)) == 1
        assert design_effect(np.empty(0, bool), np.empty(0)) == 1


class TestSharedLevel:
    @pytest.mark.parametrize(("n", "target", "risk"), [(3000, 0.95, 0.05), (3000, 0.99, 0.05), (1500, 0.9, 0.01)])
    def test_as_many_walks_pass_as_risked(self, n, target, risk):
        """20,000 draws of lines that are right just as often as the target says."""
        depths = tuple(range(n // 8, n // 2, n // 40))
        level = shared_level(depths, target, risk)
        assert risk / len(depths) < level < risk
        steps = np.diff(depths, prepend=0)
        wrong = np.cumsum(np.random.default_rng(0).binomial(steps, 1 - target, (20_000, len(steps))), axis=1)
        bound = betaincinv(np.array(depths) - wrong, wrong + 1, level)
        passed = (bound >= target).any(axis=1).mean()
        assert 0.85 * risk < passed < risk + 3 * math.sqrt(risk / 20_000)

    def test_one_look_has_the_whole_risk_and_few_lines_none_to_give(self):
        assert shared_level((300,), 0.99, 0.05) == 0.05
        assert _passes(np.array([200, 250]), 0.01, 0.05) == 0
        assert _passes(np.array([300]), 0.01, 0.05) == pytest.approx(0.99**300)

    def test_a_long_walk_passes_no_more_often(self):
        depths = np.unique(np.ceil(25_000 * 1.06 ** np.arange(24)).astype(int))
        level = shared_level(tuple(depths.tolist()), 0.9, 0.05)
        assert 0.048 < _passes(depths, 0.1, level) <= 0.05


class TestCertify:
    def test_the_promise_holds_as_often_as_promised(self):
        """400 draws of 800 lines: the certified threshold is wrong in a tenth of them at most."""
        broken, found = 0, 0
        for seed in range(400):
            rng = np.random.default_rng(seed)
            score = rng.random(800)
            threshold = certify(score, rng.random(800) < probability(score), GOAL).threshold
            found += threshold is not None
            broken += threshold is not None and true_precision(threshold) < GOAL.precision
        assert found > 250, "a promise that is never made holds too"
        assert broken <= 0.1 * 400

    def test_it_holds_where_every_promise_would_be_false_and_the_naive_bound_does_not(self):
        """Scores that say nothing, just below the target: whoever looks at every threshold finds one that passes."""
        broken, broken_naive = 0, 0
        for seed in range(400):
            rng = np.random.default_rng(seed)
            score, right = rng.random(2000), rng.random(2000) < 0.949
            broken += certify(score, right, GOAL).threshold is not None
            broken_naive += naive(score, right, GOAL) is not None
        assert broken <= 0.1 * 400
        assert broken_naive > 0.3 * 400

    @pytest.mark.parametrize(
        "parts",
        [
            [(1.0, 0.051)],
            [(0.2, 0.02), (0.3, 0.113), (1.0, 0.051)],
            [(0.45, 0.02), (0.6, 0.144), (1.0, 0.051)],
            [(0.2, 0.051), (0.4, 0.02), (0.55, 0.0923), (1.0, 0.051)],
        ],
        ids=["nowhere", "at the top", "down to the middle", "in between only"],
    )
    def test_the_promise_holds_at_its_edge(self, parts):
        """600 draws of lines of which, down to some depths, just more are wrong than the target allows.

        `parts`: (share of the lines, from the surest on, down to which; share of them that are wrong).
        """
        n, goal = 1500, Goal(precision=0.95, confidence=0.95)
        wrong = np.array([next(share for end, share in parts if at < end) for at in (np.arange(n) + 0.5) / n])
        missed = np.cumsum(wrong) / np.arange(1, n + 1) > 0.05
        broken = 0
        for seed in range(600):
            found = certify(np.linspace(1, 0, n), np.random.default_rng(seed).random(n) >= wrong, goal)
            broken += found.threshold is not None and missed[found.lines - 1]
        assert 0 < broken <= 0.05 * 600

    def test_any_look_may_be_the_first_that_passes(self):
        """The surest lines are wrong too often for a start there, and so are half of all; what lies between is not."""
        right = np.ones(3000, bool)
        right[:375:28] = False  # 14 of 375
        right[375:750:29] = False  # 27 of 750
        right[1100::12] = False
        found = certify(np.linspace(1, 0, 3000), right, Goal(0.95))
        for depth in (375, 750, 1500):
            assert lower_bound(right[:depth].sum(), depth, 0.05 / 3) < 0.95
        assert 1000 < found.lines < 1500
        assert found.bound >= 0.95

    def test_the_promise_holds_where_lines_of_a_product_are_wrong_together(self):
        """Five equal lines to each product: counted as independent they promise too much, as clusters not."""
        broken = {"clusters": 0, "none": 0}
        for seed in range(300):
            rng = np.random.default_rng(seed)
            score = np.repeat(rng.random(250), 5)
            right = np.repeat(rng.random(250) < probability(score[::5]), 5)
            for name, clusters in (("clusters", {"product": np.repeat(np.arange(250), 5)}), ("none", None)):
                threshold = certify(score, right, GOAL, clusters).threshold
                broken[name] += threshold is not None and true_precision(threshold) < GOAL.precision
        assert broken["clusters"] <= 0.1 * 300
        assert broken["none"] > 0.1 * 300

    @pytest.mark.parametrize("together", [0.5, 1.0])
    def test_the_bound_holds_in_repeated_draws_of_uneven_clusters(self, together):
        """200 draws of 1,500 products with one to thirty lines each, which share their scores in part and, with
        probability `together`, their luck: the precision promised at 95 % confidence is the true one in 95 % of them.
        """
        goal = Goal(precision=0.95, confidence=0.95)

        def draw(rng, n):
            product = np.repeat(np.arange(n), np.minimum(rng.geometric(0.35, n), 30))
            score = 0.7 * rng.random(n)[product] + 0.3 * rng.random(len(product))
            shared = rng.random(len(product)) < together
            luck = np.where(shared, rng.random(n)[product], rng.random(len(product)))
            return product, score, luck < probability(score)

        _, scores, _ = draw(np.random.default_rng(99), 300_000)
        scores = np.sort(scores)[::-1]
        precision = np.cumsum(probability(scores)) / np.arange(1, len(scores) + 1)
        broken, found = 0, 0
        for seed in range(200):
            product, score, right = draw(np.random.default_rng(seed), 1500)
            threshold = certify(score, right, goal, {"product": product}).threshold
            if threshold is not None:
                found += 1
                broken += precision[np.searchsorted(-scores, -threshold, side="right") - 1] < goal.precision
        assert found > 100, "a promise that is never made holds too"
        assert broken <= 0.05 * 200

    def test_it_covers_what_can_be_covered(self):
        rng = np.random.default_rng(5)
        score = rng.random(20_000)
        right = rng.random(20_000) < probability(score)
        found = certify(score, right, GOAL)
        best = 1 - math.sqrt(0.04 * 3 * KNEE / SLOPE)  # where the precision is exactly the target
        assert best <= found.threshold < best + 0.06
        assert found.bound >= 0.95
        assert found.precision >= found.bound
        assert found.lines == (score >= found.threshold).sum()
        assert found.wrong == (~right[score >= found.threshold]).sum()
        assert found.coverage == pytest.approx((right & (score >= found.threshold)).sum() / 20_000)

    def test_too_little_evidence_says_how_much_it_takes(self):
        found = certify(np.linspace(0, 1, 298), np.ones(298, bool))
        assert found.threshold is None
        assert found.lines_needed == 299
        assert "299" in found.sentence
        assert certify(np.linspace(0, 1, 299), np.ones(299, bool)).threshold == 0
        assert certify(np.empty(0), np.empty(0)).threshold is None
        one = certify(np.array([0.9]), np.array([True]))
        assert (one.threshold, one.sample, one.lines_needed) == (None, 1, 299)

    def test_few_lines_in_clusters_are_certified_where_they_are_worth_enough(self):
        """650 faultless lines, worth about 580 where 409 are asked, though less than a quarter of the sample."""
        rng = np.random.default_rng(1)
        right = np.concatenate([np.ones(650, bool), rng.random(900) < 0.7])
        products = np.arange(1550) // 3 * 3 + rng.integers(0, 2, 1550)
        found = certify(np.linspace(1, 0, 1550), right, clusters={"product": products})
        assert found.threshold is not None
        assert 1.05 < found.design_effect < 1.6
        assert found.bound >= 0.99

    @pytest.mark.parametrize("seed", range(30))
    def test_what_is_shown_without_a_threshold_is_below_the_target(self, seed):
        rng = np.random.default_rng(seed)
        n = int(rng.integers(300, 3000))
        right = rng.random(n) < np.linspace(1, 0.5, n) ** rng.uniform(0.05, 0.5)
        found = certify(np.linspace(1, 0, n), right, clusters={"product": rng.integers(0, n // 2, n)})
        assert (found.threshold is None) == (found.bound < 0.99)
        if found.threshold is None and found.lines_needed is not None:
            assert found.lines_needed > found.lines

    def test_some_wrong_lines_among_few_ask_for_more(self):
        right = np.ones(400, bool)
        right[[50, 150]] = False
        found = certify(np.linspace(1, 0, 400), right)
        assert found.threshold is None
        assert found.lines_needed > 400
        assert certify(np.linspace(1, 0, 400), right, Goal(0.95)).threshold is not None

    def test_all_wrong_and_all_right(self):
        score = np.linspace(0, 1, 3000)
        never = certify(score, np.zeros(3000, bool))
        assert never.threshold is None
        assert never.lines_needed is None
        assert "would not help" in never.reason
        always = certify(score, np.ones(3000, bool))
        assert (always.threshold, always.wrong, always.coverage) == (0, 0, 1)

    def test_lines_of_equal_score_are_approved_together_or_not_at_all(self):
        score = np.repeat([0.9, 0.5], [700, 700])
        right = np.repeat([True, False], [700, 700])
        found = certify(score, right)
        assert (found.threshold, found.lines) == (0.9, 700)
        mixed = np.tile([True, False], 700)
        assert certify(np.full(1400, 0.9), mixed).threshold is None

    def test_one_wrong_label_at_the_very_top_does_not_end_it(self):
        right = np.ones(8000, bool)
        right[[0, 3]] = False
        found = certify(np.linspace(1, 0, 8000), right)
        assert found.lines == 8000

    def test_few_wrong_lines_do_not_say_that_there_are_no_clusters(self):
        right = np.ones(1500, bool)
        right[::100] = False
        few = certify(np.linspace(1, 0, 1500), right, Goal(0.95), {"product": np.arange(1500) // 3})
        assert few.wrong == 15
        assert few.design_effect >= 1.25
        right[::50] = False
        more = certify(np.linspace(1, 0, 1500), right, Goal(0.95), {"product": np.arange(1500) // 3})
        assert more.wrong == 30
        assert more.design_effect < 1.1

    def test_vendors_that_are_wrong_together_cost_coverage(self):
        rng = np.random.default_rng(1)
        vendor = rng.integers(0, 30, 4000)
        score = rng.random(4000)
        right = rng.random(4000) < probability(score) - 0.15 * (vendor < 3)
        plain, careful = certify(score, right, GOAL), certify(score, right, GOAL, {"vendor": vendor})
        assert careful.design_effect > 2 * plain.design_effect
        assert careful.effective < plain.effective
        assert careful.threshold is None or careful.threshold > plain.threshold

    def test_a_monotone_change_of_the_scores_changes_nothing_but_the_threshold(self):
        rng = np.random.default_rng(2)
        score = rng.random(3000)
        right = rng.random(3000) < probability(score)
        one, other = certify(score, right, GOAL), certify(np.exp(5 * score), right, GOAL)
        assert other.threshold == pytest.approx(np.exp(5 * one.threshold))
        assert (other.lines, other.bound) == (one.lines, one.bound)

    def test_what_cannot_be_is_refused(self):
        with pytest.raises(ValueError, match="one length"):
            certify(np.zeros(3), np.zeros(2, bool))
        with pytest.raises(ValueError, match="NaN"):
            certify(np.array([np.nan]), np.zeros(1, bool))
        for bad in ({"precision": 1.0}, {"confidence": 0.0}, {"recall": 1.1}):
            with pytest.raises(ValueError, match="between 0 and 1"):
                Goal(**bad)


def sample(n: int = 4000, seed: int = 0, bad_vendor: str | None = None) -> Sample:
    rng = np.random.default_rng(seed)
    score = rng.random(n)
    vendor = rng.integers(0, 60, n).astype(str)
    right = rng.random(n) < probability(score)
    right[(vendor == bad_vendor) & (rng.random(n) < 0.3)] = False
    view = np.arange(n) % 2 == 0
    return Sample(
        score, right, np.ones(n, bool), view & (rng.random(n) < 0.9), view, vendor,
        np.arange(n).astype(str), rng.choice(["A", "B", ""], n),
    )  # fmt: skip


class TestGuarantee:
    def test_it_comes_back_from_json_and_from_disk(self, tmp_path):
        made = Guarantee.of(sample(), GOAL)
        assert made.new.threshold is not None
        assert Guarantee.from_json(json.loads(json.dumps(made.to_json()))) == made
        sample().save(tmp_path / "sample.npz")
        assert Guarantee.of(Sample.load(tmp_path / "sample.npz"), GOAL) == made
        nothing = Guarantee.of(Sample(), GOAL)
        again = Guarantee.from_json(json.loads(json.dumps(nothing.to_json(), allow_nan=False)))
        assert again.new.lines_needed == nothing.new.lines_needed
        with pytest.raises(ValueError, match="another version"):
            Certificate.from_json({"threshold": 0.5})

    def test_without_evidence_everything_goes_to_review(self):
        thresholds = guaranteed(Guarantee.of(Sample()))
        assert thresholds.approve == NEVER
        assert set(thresholds.decide(np.array([0.0, 0.5, 1.0]), np.array([True, False, True]))) == {"review"}
        assert Thresholds.from_json(json.loads(json.dumps(thresholds.to_json()))) == thresholds

    def test_known_products_need_the_higher_of_the_two(self):
        given = sample()
        wrong = given.known_view & given.known & (given.score < 0.5)
        right = given.right & ~(wrong & (np.arange(len(given)) % 4 == 0))
        made = Guarantee.of(Sample(**{**vars(given), "right": right}), GOAL)
        thresholds = guaranteed(made)
        assert thresholds.known > thresholds.approve == made.new.threshold
        between = (thresholds.known + thresholds.approve) / 2
        decided = thresholds.decide(np.array([between, between]), np.array([True, False]))
        assert decided.tolist() == ["review", "approved"]

    def test_a_vendor_that_breaks_the_promise_has_a_threshold_of_its_own(self):
        made = Guarantee.of(sample(160_000, bad_vendor="3"), GOAL)
        thresholds = guaranteed(made)
        assert thresholds.by_vendor["3"] == NEVER
        decided = thresholds.decide(np.array([0.999] * 3), vendors=["3", "4", "unknown"])
        assert decided.tolist() == ["review", "approved", "approved"]
        name, good = next((name, one) for name, one in made.by_vendor.items() if one.threshold is not None)
        assert good.confidence > GOAL.confidence, "the vendors share the risk"
        assert thresholds.by_vendor[name] == good.threshold

    def test_review_begins_where_the_recall_wanted_ends(self):
        scores = np.linspace(0, 1, 1001)
        assert review_from(scores, 0.99) == pytest.approx(0.01)
        assert (scores >= review_from(scores, 0.9)).mean() >= 0.9
        assert review_from(scores[:5], 0.9) == 0

    def test_a_line_more_likely_wrong_than_right_is_never_approved(self):
        given = sample()
        made = Guarantee.of(Sample(**{**vars(given), "right": np.ones(len(given), bool)}), GOAL)
        assert 0.5 <= made.new.threshold < 0.51

    def test_policies(self):
        made = Guarantee.of(sample(), GOAL)
        assert Policy("fixed", approve=0.7, review=0.1).thresholds(made) == Thresholds(0.7, 0.1)
        assert Policy("guaranteed", GOAL).thresholds(made) == guaranteed(made)
        with pytest.raises(ValueError, match="policy"):
            Policy("hopeful")
