"""Probabilities that mean what they say: temperature scaling, and how far confidence is from accuracy.

A classifier that is right in 70 % of the cases where it says 90 % is of no use to a rule that assigns from 90 % on. One
number repairs most of it (Guo, Pleiss, Sun and Weinberger, "On calibration of modern neural networks", ICML 2017):
scores are divided by a temperature before the softmax. It changes no order, so no accuracy, and cannot overfit.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

BINS = 15
COLDEST, HOTTEST = 0.02, 50.0

Truth = np.ndarray | Sequence[Sequence[int]]


def log_softmax(scores: np.ndarray) -> np.ndarray:
    """Return log softmax by row of `scores` [n, classes]."""
    shifted = scores - scores.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def right_answers(truth: Truth) -> np.ndarray:
    """Return the right classes of each row as int64 [n, most], filled up with -1.

    `truth`: one class index per row (-1: not known), or a list of them where several are right.
    """
    if isinstance(truth, np.ndarray) and truth.dtype != object:
        return truth.astype(np.int64) if truth.ndim == 2 else truth.astype(np.int64)[:, None]
    sizes = np.array([np.size(one) for one in truth], np.int64)
    out = np.full((len(sizes), max(int(sizes.max(initial=1)), 1)), -1, np.int64)
    if sizes.sum():
        out[np.arange(out.shape[1]) < sizes[:, None]] = np.concatenate([np.ravel(one) for one in truth])
    return out


def said(p: np.ndarray) -> np.ndarray:
    """Return which rows of `p` [n, classes] say something: a row of NaN stands for nothing to look at."""
    return np.asarray(np.isfinite(p).all(axis=1))


def usable(scores: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return which rows have scores and a right answer (`right`: of `right_answers`)."""
    return said(scores) & np.asarray((right >= 0).any(axis=1))


def log_likelihood(log_p: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return by row the logarithm of the probability given to the right answers (their sum where there are several).

    `right`: of `right_answers`; -inf for a row without any.
    """
    taken = np.where(right >= 0, np.take_along_axis(log_p, np.maximum(right, 0), axis=1), -np.inf)
    return taken[:, 0] if taken.shape[1] == 1 else np.logaddexp.reduce(taken, axis=1)


def fit_temperature(scores: np.ndarray, truth: Truth) -> float:
    """Return the temperature with which the right answers are most likely, on rows the model was not fitted on.

    `scores`: logits or log probabilities [n, classes]; rows with NaN, or without a known answer, do not count. `truth`:
    class index per row, or lists of them. A weak prior (log temperature: normal with deviation 1, worth one row) keeps
    a few rows that are all right from asking for certainty. 1.0 where no row counts.
    """
    from scipy.optimize import minimize_scalar

    right = right_answers(truth)
    keep = usable(scores, right)
    scores, right = np.asarray(scores, np.float32)[keep], right[keep]
    if not len(scores):
        return 1.0
    scores = scores - scores.max(axis=1, keepdims=True)

    def loss(log_t: float) -> float:
        likely = log_likelihood(log_softmax(scores * np.float32(np.exp(-log_t))), right)
        return float(-likely.sum(dtype=np.float64) + log_t**2 / 2)

    found = minimize_scalar(loss, bounds=(np.log(COLDEST), np.log(HOTTEST)), method="bounded", options={"xatol": 1e-4})
    return float(np.exp(found.x))


def apply(scores: np.ndarray, temperature: float) -> np.ndarray:
    """Return calibrated probabilities, float32 [n, classes], rows sum to 1. `scores`: logits or log probabilities."""
    scores = np.asarray(scores, np.float32) / np.float32(temperature)
    p = np.exp(scores - scores.max(axis=1, keepdims=True))
    return p / p.sum(axis=1, keepdims=True)


def expected_calibration_error(confidence: np.ndarray, right: np.ndarray, bins: int = BINS) -> float:
    """Return the mean distance of confidence and accuracy, over bins of equal width, weighted by their rows.

    `confidence`: probability of the class named first; `right`: whether it was right. NaN where there are no rows.
    """
    table = reliability(confidence, right, bins)
    distance = (table["confidence"] - table["accuracy"]).abs() * table["lines"]
    return float(distance.sum() / table["lines"].sum()) if len(table) else float("nan")


def reliability(confidence: np.ndarray, right: np.ndarray, bins: int = BINS) -> pd.DataFrame:
    """Return a row per bin of confidence that holds any rows: low, high, lines, confidence and accuracy (means).

    Bins are (low, high], as in Guo et al. (2017).
    """
    confidence, right = np.asarray(confidence, np.float64), np.asarray(right, np.float64)
    at = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    lines = np.bincount(at, minlength=bins)
    full = np.flatnonzero(lines)
    return pd.DataFrame(
        {
            "low": full / bins,
            "high": (full + 1) / bins,
            "lines": lines[full],
            "confidence": np.bincount(at, confidence, bins)[full] / lines[full],
            "accuracy": np.bincount(at, right, bins)[full] / lines[full],
        }
    )
