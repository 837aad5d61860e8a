"""Evaluation of classifiers: measures against their definitions, intervals, slices, and the pairing with a champion."""

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from shelfwise.classification import calibration
from shelfwise.classification.evaluate import (
    Bootstrap,
    MacroF1,
    Outcome,
    ancestors,
    coverage_at,
    evaluate,
    popularity,
    precision_curve,
    reads_like_an_accessory,
    top_classes,
)
from shelfwise.classification.promotion import (
    ENSEMBLE,
    IMAGE,
    TEXT,
    TRAINED_ON,
    compare,
    read_trained_on,
    seen_listings,
    trained_on,
)
from shelfwise.classification.taxonomy import Taxonomy
from shelfwise.promotion.gate import decide_promotion

TREE = Taxonomy.of([*(f"{root} > {leaf}" for root in "ABC" for leaf in "stuv"), "D", "E > x > y"])


def listings(n: int = 600, seed: int = 0, strength: float = 3.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = rng.choice(len(TREE), n, p=np.arange(1, len(TREE) + 1) / np.arange(1, len(TREE) + 1).sum())
    scores = rng.normal(0, 1, (n, len(TREE))) * np.sqrt(strength)
    scores[np.arange(n), truth] += strength
    return calibration.apply(scores, 1.0), truth


def at(name: str) -> int:
    return TREE.classes.index(name)


def saying(*names: str | None) -> np.ndarray:
    """Probabilities that name these classes first; None says nothing."""
    p = np.full((len(names), len(TREE)), 0.02, np.float32)
    for i, name in enumerate(names):
        p[i] = np.nan if name is None else p[i]
        if name is not None:
            p[i, at(name)] = 1 - 0.02 * (len(TREE) - 1)
    return p


# --- Measures -----------------------------------------------------------------------------------------------------


def test_accuracy_and_macro_f1_are_those_of_scikit_learn() -> None:
    from sklearn.metrics import f1_score, top_k_accuracy_score

    p, truth = listings()
    found = evaluate(p, truth, TREE, resamples=100)
    labels = np.arange(len(TREE))
    assert found.metrics["top1"] == pytest.approx((p.argmax(axis=1) == truth).mean())
    assert found.metrics["top5"] == pytest.approx(top_k_accuracy_score(truth, p, k=5, labels=labels))
    assert found.metrics["macro_f1"] == pytest.approx(f1_score(truth, p.argmax(axis=1), average="macro"))
    expected = calibration.expected_calibration_error(p.max(axis=1), p.argmax(axis=1) == truth)
    assert found.metrics["ece"] == pytest.approx(expected)
    assert found.matrix.sum() == len(p)
    assert np.trace(found.matrix) == round(found.metrics["top1"] * len(p))
    few = truth < 3
    part = evaluate(p[few], truth[few], TREE, resamples=20).metrics["macro_f1"]
    assert part == pytest.approx(f1_score(truth[few], p[few].argmax(axis=1), average="macro")), "of what occurs"


def test_hierarchical_measures_count_shared_ancestors() -> None:
    truth = [at("A > s"), at("A > s"), at("A > s"), at("D"), at("E > x > y"), at("E > x > y")]
    p = saying("A > s", "A > t", "B > s", "D", "E > x > y", "D")
    found = evaluate(p, np.array(truth), TREE, resamples=20).metrics
    # shared with the truth: 2 1 0 1 3 0; named: 2 2 2 1 3 1; true: 2 2 2 1 3 3
    assert found["hierarchical_precision"] == pytest.approx(7 / 11)
    assert found["hierarchical_recall"] == pytest.approx(7 / 13)
    assert found["hierarchical_f1"] == pytest.approx(2 * 7 / 24)
    nodes = ancestors(TREE)
    assert nodes.shape == (len(TREE), 3)
    assert nodes[at("A > s"), 0] == nodes[at("A > t"), 0]
    assert (nodes[at("D"), 1:] == -1).all()


def test_several_right_answers_are_all_right() -> None:
    p = saying("A > t", "B > s", "C > s")
    truth = [[at("A > s"), at("A > t")], [at("A > s"), at("B > t")], [at("A > s")]]
    found = evaluate(p, truth, TREE, resamples=20)
    assert found.metrics["top1"] == pytest.approx(1 / 3)
    assert found.metrics["level_1_top1"] == pytest.approx(2 / 3)
    assert found.metrics["hierarchical_recall"] == pytest.approx(3 / 6), "of several the nearest counts"
    assert found.about["several_right"] == 2
    assert found.lines["rank"].tolist()[0] == 1


def test_what_is_unknown_or_not_said_is_wrong() -> None:
    p = saying("A > s", "A > s", None)
    found = evaluate(p, [[at("A > s")], [], [at("A > s")]], TREE, resamples=20)
    assert found.metrics["top1"] == pytest.approx(1 / 3)
    assert found.metrics["level_1_top1"] == pytest.approx(1 / 3)
    assert found.metrics["hierarchical_recall"] < 1
    assert found.metrics["ece"] == pytest.approx(p[0].max() - 0.5, abs=1e-6), "of what was said"
    assert (found.about["unknown_category"], found.about["nothing_said"]) == (1, 1)
    assert found.lines["predicted_category"].tolist() == ["A > s", "A > s", ""]
    assert found.lines["score"].tolist()[2] == 0
    named = evaluate(p, [[at("A > s")], [], [0]], TREE, pd.DataFrame({"category": ["A > s", "Z > z", "A > s"]}))
    assert named.lines["truth_category"].tolist()[1] == "Z > z"


def test_levels_are_asked_alone_and_of_the_class_named_first() -> None:
    p = np.full((1, len(TREE)), 1e-3, np.float32)
    for name, share in (("A > s", 0.2), ("A > t", 0.2), ("A > u", 0.2), ("B > s", 0.3)):
        p[0, at(name)] = share
    found = evaluate(p, np.array([at("A > s")]), TREE, resamples=20)
    first = found.levels.iloc[0]
    assert (first["level"], first["categories"], first["top1"], first["top1_of_first"]) == (1, 5, 1, 0)
    assert found.levels["categories"].tolist() == [5, 14, 14]
    p, truth = listings()
    found = evaluate(p, truth, TREE, resamples=20).levels
    assert found["top1"].is_monotonic_decreasing
    assert found["top1"].iloc[-1] == found["top1_of_first"].iloc[-1]


def test_coverage_is_the_largest_share_named_with_the_precision() -> None:
    score = np.array([0.9, 0.8, 0.7, 0.6, 0.5])
    right = np.array([True, True, False, True, False])
    curve = precision_curve(score, right)
    np.testing.assert_allclose(curve["precision"], [1, 1, 2 / 3, 3 / 4, 3 / 5])
    assert coverage_at(curve, 0.95) == pytest.approx(0.4)
    assert coverage_at(curve, 0.7) == pytest.approx(0.8), "not only down to the first that is too low"
    assert coverage_at(precision_curve(score, ~right), 0.95) == 0
    tied = precision_curve(np.array([0.9, 0.9, 0.1]), np.array([True, False, True]))
    assert tied["threshold"].tolist() == [0.9, 0.1], "equals are named together"
    said = precision_curve(score, right, np.array([True, True, True, True, False]))
    assert said["coverage"].max() == pytest.approx(0.8)


def test_baselines_are_measured_on_the_same_listings() -> None:
    p, truth = listings()
    other, _ = listings(seed=1)
    found = evaluate(p, truth, TREE, baselines={"ngrams": p, "chance": other}, resamples=50)
    for measure in ("top1", "top5", "macro_f1"):
        for end in ("", "_low", "_high"):
            assert found.metrics[f"ngrams_{measure}{end}"] == found.metrics[f"{measure}{end}"]
    assert found.metrics["chance_top1"] < 0.2
    majority = np.bincount(truth, minlength=len(TREE)).argmax()
    assert found.metrics["majority_top1"] == pytest.approx((truth == majority).mean())
    assert found.baselines["baseline"].tolist() == ["majority", "ngrams", "chance"]
    counts = np.zeros(len(TREE))
    counts[0] = 10
    trained = evaluate(p, truth, TREE, counts=counts, resamples=20)
    assert trained.metrics["majority_top1"] == pytest.approx((truth == 0).mean()), "the majority of training"


def test_what_does_not_fit_together_is_refused() -> None:
    p, truth = listings(20)
    for arguments in ((p[:0], truth[:0], TREE), (p, truth[:5], TREE), (p[:, :3], truth, TREE)):
        with pytest.raises(ValueError, match=r"no listing|one length"):
            evaluate(*arguments)
    with pytest.raises(ValueError, match="one length"):
        evaluate(p, truth, TREE, pd.DataFrame({"title": ["a"]}))


def test_the_best_classes_come_in_order() -> None:
    p = np.array([[0.1, 0.4, 0.05, 0.3, 0.1, 0.0], [0, 0.2, 0.2, 0, 0, 0.6]])
    assert top_classes(p, 3).tolist()[1] == [5, 1, 2]
    assert top_classes(p, 3).tolist()[0][:2] == [1, 3]
    assert top_classes(p, 9).shape == (2, 6)
    assert Outcome.of(p, np.array([[3], [5]])).rank.tolist() == [2, 1]


# --- Intervals ----------------------------------------------------------------------------------------------------


def test_intervals_hold_the_closed_form() -> None:
    p, truth = listings(2000)
    found = evaluate(p, truth, TREE, resamples=2000).metrics
    half = 1.96 * np.sqrt(found["top1"] * (1 - found["top1"]) / 2000)
    assert found["top1_high"] - found["top1_low"] == pytest.approx(2 * half, rel=0.08)
    for name in ("top1", "top5", "macro_f1", "hierarchical_f1", "level_1_top1"):
        assert found[f"{name}_low"] < found[name] < found[f"{name}_high"]


def test_duplicates_are_one_witness() -> None:
    p, truth = listings(200)
    often = np.repeat(np.arange(200), 9)
    lines = pd.DataFrame({"group_id": often.astype(str)})

    def width(found: Any, name: str) -> float:
        return found.metrics[f"{name}_high"] - found.metrics[f"{name}_low"]

    once = evaluate(p, truth, TREE, resamples=600)
    copied = evaluate(p[often], truth[often], TREE, lines, resamples=600)
    apart = evaluate(p[often], truth[often], TREE, resamples=600)
    assert copied.about["groups"] == 200
    for name in ("top1", "macro_f1"):
        assert width(copied, name) == pytest.approx(width(once, name), rel=0.01)
        assert width(apart, name) < width(once, name) / 2


def test_resampled_macro_f1_is_that_of_repeated_listings() -> None:
    rng = np.random.default_rng(0)
    truth, predicted = rng.integers(-1, 4, 50), rng.integers(-1, 4, 50)
    weights = rng.integers(0, 3, (6, 50))
    found = MacroF1(truth, predicted, 4)(weights.astype(np.float32))
    for row, value in zip(weights, found, strict=True):
        assert value == pytest.approx(MacroF1(np.repeat(truth, row), np.repeat(predicted, row), 4)()[0])


def test_weights_are_poisson() -> None:
    drawn = np.concatenate(list(Bootstrap(pd.Series(range(2000)), 0, 100)._weights()))
    assert drawn.mean() == pytest.approx(1, abs=0.01)
    assert drawn.var() == pytest.approx(1, abs=0.02)
    assert (drawn == 0).mean() == pytest.approx(np.exp(-1), abs=0.005)


# --- Slices and what a person reads -------------------------------------------------------------------------------


def test_listings_without_a_title_are_a_slice() -> None:
    p, truth = listings(400)
    bad = np.arange(400) < 120
    p[bad] = np.roll(p[bad], 1, axis=1)
    lines = pd.DataFrame({"title": pd.Series(np.where(bad, None, "phone"), dtype=object)})
    lines.loc[:40, "title"] = [" ", float("nan"), ""] * 13 + [None] * 2
    found = evaluate(p, truth, TREE, lines, resamples=100)
    told = found.slices.set_index(["slice", "value"]).loc["title"]
    assert told["lines"].to_dict() == {"with": 280, "without": 120}
    assert told.loc["without", "top1_high"] < told.loc["with", "top1_low"]
    assert "description" not in found.slices["slice"].tolist(), "nothing is known of it"


def test_slices_are_measured_by_themselves() -> None:
    p, truth = listings(400)
    bad = np.arange(400) < 100
    p[bad] = np.roll(p[bad], 1, axis=1)
    lines = pd.DataFrame(
        {
            "title": np.where(bad, "case for a phone", "phone"),
            "has_image": ~bad,
            "has_description": [True, None] * 200,
        }
    )
    found = evaluate(p, truth, TREE, lines, resamples=100).slices.set_index(["slice", "value"])
    assert found.loc[("picture", "without"), "lines"] == 100
    assert found.loc[("picture", "without"), "top1"] == pytest.approx(found.loc[("kind", "accessory"), "top1"])
    assert found.loc[("picture", "without"), "top1_high"] < found.loc[("picture", "with"), "top1_low"]
    assert found.loc[("description", "with"), "lines"] == 200
    assert "title" not in found.index.get_level_values("slice"), "all have one"
    assert {"head", "middle"} <= set(found.loc["popularity"].index)
    assert {"A", "B", "C"} <= set(found.loc["category"].index)
    assert found.loc["category"]["lines"].sum() <= 400


def test_head_and_tail_are_shares_of_listings() -> None:
    counts = np.array([1, 60, 2, 25, 7, 5])
    assert popularity(counts).tolist() == ["tail", "head", "tail", "middle", "middle", "tail"]
    assert popularity(np.zeros(2)).tolist() == ["head", "head"]


def test_accessories_are_told_by_category_or_title() -> None:
    titles = pd.Series(["Leather Case for iPhone 12", "Shampoo for dry hair", "Pencil case", "Belt", None])
    paths = pd.Series(["Phones", "Care", "School", "Accessories > Belts", "Phones"])
    assert reads_like_an_accessory(titles, paths).tolist() == [True, False, False, True, False]


def test_confused_pairs_come_with_their_share() -> None:
    names = ["A > s"] * 4 + ["A > t"] + ["B > s"] * 2
    said = ["A > t"] * 3 + ["A > s"] + ["A > t"] + ["C > s"] * 2
    found = evaluate(saying(*said), TREE.index(names), TREE, resamples=20)
    assert found.confusion.values.tolist() == [["A > s", "A > t", 3, 0.75, True], ["B > s", "C > s", 2, 1.0, False]]
    assert found.examples["example"].unique().tolist() == ["sure and wrong", "sure and right", "unsure"]


def test_decisions_are_counted_where_there_are_any() -> None:
    p = saying("A > s", "A > s", "B > s", "C > s")
    truth = TREE.index(["A > s", "A > t", "B > s", "B > s"])
    lines = pd.DataFrame({"decision": ["assign", "assign", "suggest", "ask"]})
    found = evaluate(p, truth, TREE, lines, resamples=50).metrics
    assert (found["assigned_precision"], found["assigned_coverage"], found["ask_share"]) == (0.5, 0.25, 0.25)
    assert "assigned_precision" not in evaluate(p, truth, TREE, resamples=20).metrics


# --- Gate ---------------------------------------------------------------------------------------------------------


def stored(p: np.ndarray, truth: np.ndarray, **more: Any) -> dict[str, Any]:
    found = evaluate(p, truth, TREE, baselines={"ngrams": listings(len(p), 7, 2.0)[0]}, resamples=50)
    return {"metrics": found.metrics, "champion_metrics": None, "paired": None, **more}


def test_each_modality_has_its_floor() -> None:
    p, truth = listings(1000, strength=4)
    low = {"metrics": {"top1": 0.5, "majority_top1": 0.1, "ngrams_top1": 0.4}}
    assert decide_promotion(stored(p, truth), replace(TEXT, floor=0.6)).promote
    assert not decide_promotion(low, TEXT).promote
    assert decide_promotion(low, IMAGE).promote
    assert "below the floor of 0.7500" in decide_promotion(low, TEXT).summary
    assert decide_promotion(low, replace(TEXT, floor=0.5)).promote


def test_the_linear_model_has_to_be_beaten_or_kept() -> None:
    def said(ngrams: float | None) -> str:
        metrics = {"top1": 0.9, "majority_top1": 0.1} | ({} if ngrams is None else {"ngrams_top1": ngrams})
        decision = decide_promotion({"metrics": metrics}, TEXT)
        return decision.outcome if decision.promote else decision.summary

    assert said(0.9) == said(0.85) == "promote"
    assert "top-1 is 0.9000, below the 0.9010 of the linear model on n-grams" in said(0.901)
    assert "was not measured" in said(None)
    bad = {"metrics": {"top1": 0.9, "majority_top1": 0.9, "ngrams_top1": 0.1}}
    assert "not above the 0.9000 of the most frequent category" in decide_promotion(bad, TEXT).summary


def test_together_they_may_be_half_a_point_below_the_better_one_and_no_more() -> None:
    def promoted(text: float) -> bool:
        metrics = {"top1": 0.9, "majority_top1": 0.1, "text_top1": text, "image_top1": 0.5}
        return decide_promotion({"metrics": metrics}, ENSEMBLE).promote

    assert promoted(0.904)
    assert not promoted(0.906)


def test_a_better_classifier_replaces_the_champion_and_an_equal_one_does_not() -> None:
    truth = listings(1500)[1]
    champion, other, better = (listings(1500, 0, s)[0] for s in (3.0, 3.0, 3.5))
    other[:30] = np.roll(other[:30], 1, axis=0)
    lines = {
        name: evaluate(p, truth, TREE, resamples=20).lines
        for name, p in (("champion", champion), ("other", other), ("better", better))
    }
    rules = replace(TEXT, floor=0.1, keep=())

    def decided(name: str) -> Any:
        compared = compare(lines[name], lines["champion"], rules, None, resamples=200)
        return decide_promotion(stored(champion, truth, champion_metrics={}, **compared.to_json()), rules)

    assert decided("better").promote
    assert "listings gained and" in decided("better").summary
    assert not decided("other").promote
    assert "is better in one measure" in {c.name for c in decided("other").conditions if not c.holds}


def test_a_slice_that_gets_worse_is_named() -> None:
    p, truth = listings(1500, strength=6)
    rules = replace(TEXT, floor=0.1, keep=())
    champion, candidate = p.copy(), p.copy()
    lines = pd.DataFrame({"has_image": np.arange(1500) < 200})
    champion[300:] = np.where((np.arange(1200) % 8 == 0)[:, None], np.roll(p[300:], 1, axis=1), p[300:])
    candidate[:60] = np.roll(p[:60], 1, axis=1)
    made = [evaluate(one, truth, TREE, lines, resamples=20).lines for one in (candidate, champion)]
    compared = compare(*made, rules, None, resamples=200)
    decision = decide_promotion(stored(p, truth, champion_metrics={}, **compared.to_json()), rules)
    assert [c.name for c in decision.conditions if not c.holds] == ["no slice of importance is worse"]
    assert "listings with a picture: with: -" in decision.summary


def test_listings_that_the_champion_was_fitted_on_are_left_out(tmp_path: Any) -> None:
    parts = pd.DataFrame({"group_id": ["a", "b", "c", "b"], "split": ["train", "valid", "test", "valid"]})
    known = trained_on(parts)
    assert known["group_id"].tolist() == ["a", "b"]
    known.to_parquet(tmp_path / TRAINED_ON)
    pd.testing.assert_frame_equal(read_trained_on(tmp_path), known)
    assert read_trained_on(tmp_path / "x") is None
    assert seen_listings(pd.DataFrame({"group_id": ["c", "b"]}), known).tolist() == [False, True]
    assert not seen_listings(pd.DataFrame({"group_id": ["c", "b"]}), None).any()
    p, truth = listings(400)
    lines = pd.DataFrame({"group_id": [f"g{i // 2}" for i in range(400)]})
    frame = evaluate(p, truth, TREE, lines, resamples=20).lines
    found = compare(frame, frame, TEXT, pd.DataFrame({"group_id": [f"g{i}" for i in range(50)]}), resamples=20)
    assert (found.lines, found.seen, found.measures["top1"].groups) == (300, 100, 150)
    assert found.sentence == (
        "compared on 300 held-out listings, 100 others left out because the champion was fitted on them or on "
        "duplicates of them"
    )
    with pytest.raises(ValueError, match="same lines"):
        compare(frame, frame[::-1], TEXT)
