"""Text and picture together: which combination is kept, what happens where one is missing, and calibration."""

from pathlib import Path

import numpy as np
import pytest

from shelfwise.classification import calibration
from shelfwise.classification.calibration import expected_calibration_error
from shelfwise.classification.ensemble import ACCURACY, BOTH, IMAGE, LEARNED, TEXT, Ensemble, Weights, align

CLASSES = 12


def listings(n: int = 3000, seed: int = 0, text: float = 1.6, image: float = 1.6) -> tuple[np.ndarray, ...]:
    """Probabilities of two classifiers with independent evidence, each calibrated, and the truth. `text`, `image`: how
    much either sees. Classes differ in size.
    """
    rng = np.random.default_rng(seed)
    prior = np.arange(1, CLASSES + 1) / np.arange(1, CLASSES + 1).sum()
    truth = rng.choice(CLASSES, n, p=prior)
    made = []
    for strength in (text, image):
        evidence = rng.normal(0, 1, (n, CLASSES)).astype(np.float32) * np.sqrt(strength)
        evidence[np.arange(n), truth] += strength  # the posterior of this likelihood is softmax(evidence + log prior)
        made.append(calibration.apply(evidence + np.log(prior).astype(np.float32), 1.0))
    return made[0], made[1], truth


def top1(p: np.ndarray, truth: np.ndarray) -> float:
    return float((p.argmax(axis=1) == truth).mean())


def error(p: np.ndarray, truth: np.ndarray) -> float:
    return expected_calibration_error(p.max(axis=1), p.argmax(axis=1) == truth)


def test_both_together_are_better_than_either_and_calibrated() -> None:
    text, image, truth = listings()
    made = Ensemble.fit(text, image, truth, {"text": top1(text, truth), "image": top1(image, truth)})
    text, image, truth = listings(6000, seed=1)
    p = made.probabilities(text, image)
    assert p.shape == text.shape
    np.testing.assert_allclose(p.sum(axis=1), 1, atol=1e-5)
    assert top1(p, truth) > max(top1(text, truth), top1(image, truth)) + 0.05
    assert error(p, truth) < 0.03


def test_independent_evidence_is_combined_by_the_product_rule() -> None:
    text, image, truth = listings(8000)
    made = Ensemble.fit(text, image, truth, {"text": 0.5, "image": 0.5})
    assert made.method == LEARNED
    assert made.learned is not None
    assert made.learned.text == pytest.approx(1, abs=0.15)
    assert made.learned.image == pytest.approx(1, abs=0.15)
    assert made.learned.rarity == pytest.approx(1, abs=0.4)
    assert made.why.startswith("learned combination: top-1 0.")
    rows = {row["way"]: row["top1"] for row in made.table}
    assert rows[LEARNED] > rows[ACCURACY]
    assert f"{100 * (rows[LEARNED] - rows[ACCURACY]):+.2f} points against the accuracy-weighted mean" in made.why


def test_the_weights_of_the_mean_are_those_that_were_handed_over() -> None:
    text, image, truth = listings(40)
    made = Ensemble.fit(text, image, truth, {"text": 0.8, "image": 0.2})
    assert made.method == ACCURACY
    assert "40 validation listings have both" in made.why
    expected = 0.8 * np.clip(text, 1e-6, None) + 0.2 * np.clip(image, 1e-6, None)
    p = made.probabilities(text, image)
    assert (np.argsort(p, axis=1)[:, -3:] == np.argsort(expected, axis=1)[:, -3:]).all()
    np.testing.assert_allclose(p, calibration.apply(np.log(expected), made.temperatures[BOTH]), rtol=1e-3, atol=1e-6)
    for weights in ({"text": 0.8}, {"text": 0.8, "image": 0.0}, {"text": 0.8, "image": float("nan")}):
        with pytest.raises(ValueError, match="accuracy of image"):
            Ensemble.fit(text, image, truth, weights)


@pytest.mark.parametrize("missing", [TEXT, IMAGE])
def test_where_one_is_missing_the_other_answers_as_if_alone(missing: str) -> None:
    text, image, truth = listings()
    made = Ensemble.fit(text, image, truth, {"text": 0.6, "image": 0.6})
    text, image, truth = listings(2000, seed=2)
    other = image if missing == TEXT else text
    for gone in (None, np.full_like(text, np.nan)):
        p = made.probabilities(gone, image) if missing == TEXT else made.probabilities(text, gone)
        assert (np.argsort(-p, axis=1) == np.argsort(-other, axis=1)).mean() > 0.999, "its order, so its accuracy"
        assert top1(p, truth) == top1(other, truth)
        assert error(p, truth) < 0.04


def test_a_row_has_what_it_has() -> None:
    text, image, truth = listings()
    made = Ensemble.fit(text, image, truth, {"text": 0.6, "image": 0.6})
    text, image = text[:4].copy(), image[:4].copy()
    whole, by_text, by_image = (
        made.probabilities(text, image), made.probabilities(text, None), made.probabilities(None, image)
    )  # fmt: skip
    text[1], image[2], text[3], image[3] = np.nan, np.nan, np.nan, np.nan
    p = made.probabilities(text, image)
    np.testing.assert_array_equal(p[:3], [whole[0], by_image[1], by_text[2]])
    np.testing.assert_allclose(p[3], made.frequency, rtol=1e-5)
    assert p[3].argmax() == np.bincount(truth).argmax()


def test_each_case_is_calibrated_by_itself() -> None:
    text, image, truth = listings(4000)
    boastful = calibration.apply(np.log(text), 0.3)
    made = Ensemble.fit(boastful, image, truth, {"text": 0.6, "image": 0.6})
    assert made.temperatures[TEXT] == pytest.approx(1 / 0.3, rel=0.1)
    assert made.temperatures[IMAGE] == pytest.approx(1, rel=0.1)
    text, image, truth = listings(4000, seed=3)
    boastful = calibration.apply(np.log(text), 0.3)
    assert error(boastful, truth) > 0.1
    for p in (made.probabilities(boastful, None), made.probabilities(boastful, image)):
        assert error(p, truth) < 0.03


def test_a_classifier_that_sees_nothing_does_no_harm() -> None:
    text, _, truth = listings(3000, text=4)
    noise = np.roll(listings(3000, seed=9, image=4)[1], 1, axis=0)
    made = Ensemble.fit(text, noise, truth, {"text": top1(text, truth), "image": top1(noise, truth)})
    text, _, truth = listings(3000, seed=5, text=4)
    noise = np.roll(listings(3000, seed=8, image=4)[1], 1, axis=0)
    assert made.method == LEARNED
    assert top1(made.probabilities(text, noise), truth) > top1(text, truth) - 0.005


def test_one_classifier_alone_is_an_ensemble_too() -> None:
    text, image, truth = listings()
    made = Ensemble.fit(text, None, truth, {"text": 0.6})
    assert made.method == TEXT
    assert (made.probabilities(text, None).argmax(axis=1) == text.argmax(axis=1)).all()
    np.testing.assert_array_equal(made.probabilities(text, image), made.probabilities(text, None))
    with pytest.raises(ValueError, match="neither"):
        Ensemble.fit(None, None, truth, {})
    for wrong in ((None, None), (text, image[:5]), (text[:, :3], image[:, :3])):
        with pytest.raises(ValueError, match="same listings"):
            made.probabilities(*wrong)


def test_thresholds_are_proven_on_probabilities_that_did_not_know_the_answer() -> None:
    text, image, truth = listings(400)
    text[:100], image[100:150] = np.nan, np.nan
    made = Ensemble.fit(text, image, truth, {"text": 0.6, "image": 0.6})
    p, again = made.out_of_fold, made.probabilities(text, image)
    np.testing.assert_array_equal(p[:150], again[:150])
    assert (p[150:] != again[150:]).all(axis=1).all()
    likely = [np.log(one[np.arange(150, 400), truth[150:]]).mean() for one in (p, again)]
    assert likely[0] < likely[1], "who was fitted on a listing knows it better"
    cases = made.cases(text, image)
    assert [(cases == name).sum() for name in (IMAGE, TEXT, BOTH, "none")] == [100, 50, 250, 0]
    assert set(made.cases(text, None)) == {"none", TEXT}


def test_a_category_that_one_has_never_seen_is_not_ruled_out_by_it() -> None:
    text, image, truth = listings(3000, text=4)
    there = np.delete(np.arange(CLASSES), CLASSES - 1)
    blind = align(
        image[:, there] / image[:, there].sum(axis=1, keepdims=True), there.astype(str), np.arange(12).astype(str)
    )
    made = Ensemble.fit(text, blind, truth, {"text": 0.6, "image": 0.6})
    assert made.unknown == {"text": [], "image": [CLASSES - 1]}
    strange = truth == CLASSES - 1
    p = made.probabilities(text, blind)
    assert top1(p[strange], truth[strange]) > top1(text[strange], truth[strange]) - 0.1
    assert top1(p[~strange], truth[~strange]) > top1(text[~strange], truth[~strange]) + 0.02
    alone = made.probabilities(None, blind)
    assert top1(alone, truth) >= top1(blind, truth)
    assert error(blind, truth) > 0.06, "it does not allow for what it has never seen"
    assert error(alone, truth) < 0.05


def test_thresholds_are_known_for_listings_without_a_picture_where_all_have_one() -> None:
    text, image, truth = listings(500)
    image[:100] = np.nan
    made = Ensemble.fit(text, image, truth, {"text": 0.6, "image": 0.6})
    p, rows, cases = made.evidence(text, image)
    assert [(cases == name).sum() for name in (BOTH, TEXT, IMAGE)] == [400, 500, 400]
    np.testing.assert_array_equal(p[cases == BOTH], made.out_of_fold[100:])
    np.testing.assert_array_equal(p[cases == TEXT], made.probabilities(text, None))
    np.testing.assert_array_equal(p[cases == IMAGE], made.probabilities(None, image)[100:])
    assert rows[cases == IMAGE].tolist() == list(range(100, 500))
    only = Ensemble.fit(text, None, truth, {"text": 0.6}).evidence(text, None)
    assert set(only[2]) == {TEXT}


def test_several_right_answers_and_unknown_ones_are_learnt_from_too() -> None:
    text, image, truth = listings()
    lists = [[int(one)] for one in truth]
    once = Ensemble.fit(text, image, lists, {"text": 0.6, "image": 0.6})
    lists += [[], []]
    more = Ensemble.fit(np.vstack([text, text[:2]]), np.vstack([image, image[:2]]), lists, {"text": 0.6, "image": 0.6})
    assert more.learned is not None
    assert once.learned is not None
    assert more.learned.text == pytest.approx(once.learned.text, abs=0.02)


def test_the_slope_is_that_of_the_loss() -> None:
    """At the optimum no small step is better; with several right answers, too."""
    text, image, truth = listings(400)
    right = np.stack([truth, np.where(np.arange(400) % 3 == 0, (truth + 1) % CLASSES, -1)], axis=1)
    log_prior = np.log(np.full(CLASSES, 1 / CLASSES))
    logs = np.log(text), np.log(image)
    best = Weights.fit(*logs, right, log_prior)

    def loss(made: Weights) -> float:
        log_p = calibration.log_softmax(made.scores(*logs, log_prior))
        far = (made.text - 1) ** 2 + (made.image - 1) ** 2 + made.rarity**2 + (made.bias**2 / 0.09).sum()
        return float(-calibration.log_likelihood(log_p, right).sum(dtype=np.float64) + far / 2)

    for step in (-0.05, 0.05):
        assert loss(best) < loss(Weights(best.text + step, best.image, best.rarity, best.bias))
        assert loss(best) < loss(Weights(best.text, best.image + step, best.rarity, best.bias))
        for k in range(CLASSES):
            moved = best.bias + step * (np.arange(CLASSES) == k)
            assert loss(best) < loss(Weights(best.text, best.image, best.rarity, moved))


def test_saved_and_read_again_it_says_the_same(tmp_path: Path) -> None:
    text, image, truth = listings(1000)
    names = [f"c{i:02}" for i in range(CLASSES)]
    for parts in ((text, image), (text, None)):
        made = Ensemble.fit(*parts, truth, {"text": 0.6, "image": 0.6}, names)
        made.save(tmp_path)
        again = Ensemble.load(tmp_path)
        np.testing.assert_array_equal(made.probabilities(text, image), again.probabilities(text, image))
        assert (again.classes, again.why, again.table) == (tuple(names), made.why, made.table)
    (tmp_path / "ensemble.json").write_text("{}")
    with pytest.raises(ValueError, match="another version"):
        Ensemble.load(tmp_path)
    with pytest.raises(FileNotFoundError):
        Ensemble.load(tmp_path / "elsewhere")


def test_classifiers_with_different_classes_are_laid_over_each_other() -> None:
    p = np.array([[0.7, 0.3], [np.nan, np.nan]])
    out = align(p, ["b", "x"], ["a", "b", "c"])
    np.testing.assert_allclose(out[0], [0, 0.7, 0], rtol=1e-6)
    assert np.isnan(out[1]).all()
    assert align(p, ["b", "x"], ["b", "x"]).shape == (2, 2)
