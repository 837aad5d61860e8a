"""Calibration in two steps: a temperature for the whole distribution, and a line for the confidence in the first.

A temperature alone cannot serve a model that is too sure where it has seen nearly the same title before, and not sure
enough where it has not: with labels that people gave differently to equal titles both happen at once. So the odds of
the class that stands first are corrected by a line in the logit (Platt 1999), and the others share what is left as they
did before. The order of the classes stays.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from shelfwise.classification import calibration

_LEAST = 1e-6
_FEW = 10.0  # rows that the prior of the line is worth: slope 1, intercept 0


@dataclass(frozen=True)
class Confidence:
    """Fitted numbers of both steps; (1, 1, 0) leaves probabilities as they are."""

    temperature: float = 1.0
    slope: float = 1.0
    intercept: float = 0.0

    @classmethod
    def fit(cls, scores: np.ndarray, right: np.ndarray) -> Confidence:
        """Fit on rows that the model was not fitted on: scores [n, classes], right classes [n, most] (-1: none)."""
        temperature = calibration.fit_temperature(scores, right)
        if not len(scores) or scores.shape[1] < 2:
            return cls(temperature)
        p = calibration.apply(scores, temperature)
        hit = (right == p.argmax(1)[:, None]).any(1)
        return cls(temperature, *_line(_logit(p.max(1)), hit))

    def apply(self, scores: np.ndarray) -> np.ndarray:
        """Return probabilities float32 [n, classes], rows sum to 1, of scores or logarithms of probabilities."""
        p = calibration.apply(scores, self.temperature)
        if p.shape[1] < 2 or not len(p):
            return p
        rows, first = np.arange(len(p)), p.argmax(1)
        top = p[rows, first].astype(np.float64)
        others = p.copy()
        others[rows, first] = 0.0
        rest = np.maximum(others.sum(1, dtype=np.float64), _LEAST)
        # The first stays first: at least as probable as the second becomes.
        second = others.max(1) / rest
        to = np.maximum(_sigmoid(self.slope * _logit(top) + self.intercept), second / (1 + second))
        out = others * ((1 - to) / rest)[:, None]
        out[rows, first] = to
        return (out / out.sum(1, keepdims=True)).astype(np.float32)


def _line(x: np.ndarray, hit: np.ndarray) -> tuple[float, float]:
    """Return slope and intercept of the logistic regression of `hit` on x, drawn towards 1 and 0; the slope is not
    negative.
    """
    from scipy.optimize import minimize

    sign = np.where(hit, 1.0, -1.0)

    def loss(line: np.ndarray) -> float:
        likely = -np.logaddexp(0, -sign * (line[0] * x + line[1])).sum()
        return float(-likely + _FEW * ((line[0] - 1) ** 2 + line[1] ** 2) / 2)

    found = minimize(loss, np.array([1.0, 0.0]), method="L-BFGS-B", bounds=[(0.05, 5.0), (-5.0, 5.0)])
    return float(found.x[0]), float(found.x[1])


def _logit(p: np.ndarray) -> np.ndarray:
    p = np.clip(np.asarray(p, np.float64), _LEAST, 1 - _LEAST)
    return np.log(p / (1 - p))


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))
