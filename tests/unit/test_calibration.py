"""Temperature scaling and calibration error, on scores whose truth is drawn from known probabilities."""

import numpy as np
import pytest

from shelfwise.classification import calibration
from shelfwise.classification.calibration import (
    expected_calibration_error,
    fit_temperature,
    log_likelihood,
    reliability,
    right_answers,
)


def drawn(n: int = 6000, classes: int = 12, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits, and answers drawn from their softmax: the logits are calibrated as they are."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (n, classes)).astype(np.float32)
    cumulative = np.cumsum(calibration.apply(logits, 1.0).astype(np.float64), axis=1)
    return logits, (cumulative < rng.random((n, 1))).sum(axis=1).clip(0, classes - 1)


@pytest.mark.parametrize("planted", [0.4, 1.0, 2.5])
def test_a_planted_temperature_is_found_and_taken_back(planted: float) -> None:
    logits, truth = drawn()
    found = fit_temperature(logits * planted, truth)
    assert found == pytest.approx(planted, rel=0.05)
    p = calibration.apply(logits * planted, found)
    np.testing.assert_allclose(p.sum(axis=1), 1, atol=1e-5)
    assert (p.argmax(axis=1) == logits.argmax(axis=1)).all(), "the order stays"
    assert expected_calibration_error(p.max(axis=1), p.argmax(axis=1) == truth) < 0.02
    if planted != 1.0:
        raw = calibration.apply(logits * planted, 1.0)
        assert expected_calibration_error(raw.max(axis=1), raw.argmax(axis=1) == truth) > 0.08


def test_logits_and_their_log_probabilities_have_one_temperature() -> None:
    logits, truth = drawn(1500)
    of_p = fit_temperature(np.log(calibration.apply(logits * 2, 1.0)), truth)
    assert of_p == pytest.approx(fit_temperature(logits * 2, truth), rel=0.01)


def test_rows_without_scores_or_answer_do_not_count() -> None:
    logits, truth = drawn(1000)
    more = np.vstack([logits * 2, np.full((50, logits.shape[1]), np.nan), logits[:70] * 30])
    answers = np.concatenate([truth, np.zeros(50, int), np.full(70, -1)])
    assert fit_temperature(more, answers) == pytest.approx(fit_temperature(logits * 2, truth), rel=1e-3)
    assert fit_temperature(logits[:5], np.full(5, -1)) == 1.0
    assert fit_temperature(np.empty((0, 3)), np.empty(0, int)) == 1.0


def test_a_few_rows_that_are_all_right_do_not_ask_for_certainty() -> None:
    scores = np.tile([2.0, 0, 0], (5, 1))
    t = fit_temperature(scores, np.zeros(5, int))
    assert 0.2 < t < 1
    many = np.tile([2.0, 0, 0], (5000, 1))
    assert fit_temperature(many, np.zeros(5000, int)) < t


def test_several_right_answers_share_their_probability() -> None:
    logits, truth = drawn(3000)
    lists = [[int(one)] for one in truth]
    assert fit_temperature(logits, lists) == pytest.approx(fit_temperature(logits, truth), rel=1e-4)
    log_p = np.log(np.array([[0.5, 0.3, 0.2], [0.5, 0.3, 0.2]]))
    shared = np.exp(log_likelihood(log_p, right_answers([[0, 2], [1]])))
    np.testing.assert_allclose(shared, [0.7, 0.3], rtol=1e-5)
    assert right_answers([[2], [], [0, 1]]).tolist() == [[2, -1], [-1, -1], [0, 1]]
    assert right_answers(np.array([3, -1])).tolist() == [[3], [-1]]


def test_the_calibration_error_is_that_of_the_bins() -> None:
    confidence = np.repeat([0.9, 0.5], 10)
    right = np.concatenate([np.arange(10) < 9, np.arange(10) < 2])
    assert expected_calibration_error(confidence, right) == pytest.approx(0.15)
    table = reliability(confidence, right)
    assert table["lines"].tolist() == [10, 10]
    np.testing.assert_allclose(table["accuracy"], [0.2, 0.9])
    assert (table["low"] < table["confidence"]).all()
    assert (table["confidence"] <= table["high"]).all()
    edge = reliability(np.array([0.0, 1.0, 1 / 15]), np.ones(3))
    assert edge["lines"].tolist() == [2, 1], "bins hold their upper edge"
    assert np.isnan(expected_calibration_error(np.empty(0), np.empty(0)))
