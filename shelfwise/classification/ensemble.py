"""Text and picture together: two ways to combine what the classifiers say, and the better one is kept.

* **Accuracy-weighted mean**: each classifier's probabilities, weighted with the accuracy that its registered evaluation
  measured, as the source system does it. The weights are handed over, never typed in.
* **Learned**: a softmax over weighted log probabilities, `a log p(class | text) + b log p(class | picture) - k log
  p(class) + bias of the class`. If title and picture told independent things about a category, the right weights would
  be a = b = k = 1 (Bayes; Kittler, Hatef, Duin and Matas, "On combining classifiers", 1998, call it the product rule);
  as they do not quite, weights are fitted to validation listings, with a normal prior on what could overfit.

Which is better is decided out of fold, on validation listings that have both; `why` says it with its numbers. Where one
of the two is missing the answer is the other's, in its order and so with its accuracy; where both are, it is how often
each category occurs. Each of the cases text alone, picture alone and both has a temperature of its own, so that
probabilities mean what they say in each. A category that one of the two has never seen (its column is 0) is none that
it speaks against: there it counts as saying how often that category occurs.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from shelfwise.classification import calibration
from shelfwise.classification.calibration import Truth, right_answers

TEXT, IMAGE, BOTH, NONE = "text", "image", "both", "none"
ACCURACY, LEARNED = "accuracy-weighted mean", "learned combination"
FILE = "ensemble.json"
FOLDS = 5
FEWEST = 50  # listings with both, for anything to be learnt from them
MOST = 20_000  # listings that are learnt from: a handful of numbers needs no more
LEAST = 1e-6  # a probability below counts as this, so that neither classifier alone can rule a category out
BIAS = 0.3  # standard deviation of the prior on a category's bias


def align(p: np.ndarray, own: Sequence[str], classes: Sequence[str]) -> np.ndarray:
    """Return probabilities over `classes` from those over a classifier's own; 0 for what it does not know.

    Rows sum to 1 unless the classifier names categories that are not among `classes`; those are given to nobody.
    """
    if tuple(own) == tuple(classes):
        return np.asarray(p, np.float32)
    place = {name: i for i, name in enumerate(classes)}
    kept = [(i, place[name]) for i, name in enumerate(own) if name in place]
    out = np.zeros((len(p), len(classes)), np.float32)
    if kept:
        here, there = np.array(kept).T
        out[:, there] = np.asarray(p, np.float32)[:, here]
    out[~calibration.said(p)] = np.nan
    return out


@dataclass(frozen=True, eq=False)
class Weights:
    """What the learned combination consists of: weights of text, picture and how rare a class is, biases of classes."""

    text: float
    image: float
    rarity: float
    bias: np.ndarray

    def scores(self, text: np.ndarray, image: np.ndarray, log_prior: np.ndarray) -> np.ndarray:
        """Return scores [n, classes] from log probabilities; their softmax is the combination."""
        shift = (self.bias - self.rarity * log_prior).astype(np.float32)
        return np.float32(self.text) * text + np.float32(self.image) * image + shift

    @classmethod
    def fit(cls, text: np.ndarray, image: np.ndarray, right: np.ndarray, log_prior: np.ndarray) -> Weights:
        """Return the most likely weights for log probabilities [n, classes], given a normal prior on each: 1 with
        deviation 1 for text and picture, 0 with 1 for rarity, 0 with `BIAS` for each bias.
        """
        from scipy.optimize import minimize

        classes, known = text.shape[1], right >= 0
        at = np.maximum(right, 0)
        rows = np.broadcast_to(np.arange(len(right))[:, None], right.shape)[known]
        parts = (text, image, np.broadcast_to(-log_prior.astype(np.float32), text.shape))

        def loss(theta: np.ndarray) -> tuple[float, np.ndarray]:
            made = cls(*theta[:3], theta[3:])
            log_p = calibration.log_softmax(made.scores(text, image, log_prior))
            likely = calibration.log_likelihood(log_p, right)
            rest = np.exp(log_p)
            share = np.exp(np.take_along_axis(log_p, at, axis=1) - likely[:, None])[known]
            np.subtract.at(rest, (rows, at[known]), share)
            slope = np.concatenate([[np.vdot(rest, part) for part in parts], rest.sum(axis=0)]).astype(np.float64)
            far = theta - start
            return float(-likely.sum(dtype=np.float64) + (far**2 / spread**2).sum() / 2), slope + far / spread**2

        start = np.concatenate([[1.0, 1.0, 0.0], np.zeros(classes)])
        spread = np.concatenate([[1.0, 1.0, 1.0], np.full(classes, BIAS)])
        bounds = [(0, None), (0, None), (None, None), *[(None, None)] * classes]
        found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 60}).x
        return cls(float(found[0]), float(found[1]), float(found[2]), found[3:])


@dataclass(frozen=True, eq=False)
class Ensemble:
    """Two classifiers together; make it with `fit`. `method`: which combination is used. `weights`: the accuracies that
    were handed over. `temperatures`: by case. `why`: which combination was chosen, and by how much. `table`: what each
    way reached out of fold. `frequency`: of each class. `out_of_fold`: probabilities of the listings it was fitted on,
    by ensembles that were not fitted on them, to prove thresholds with; not saved. `unknown`: classes that a
    classifier never gives any probability, as numbers.
    """

    method: str
    weights: Mapping[str, float]
    learned: Weights | None
    temperatures: Mapping[str, float]
    frequency: np.ndarray
    why: str
    classes: tuple[str, ...] = ()
    table: list[dict[str, Any]] = field(default_factory=list)
    unknown: Mapping[str, list[int]] = field(default_factory=dict)
    out_of_fold: np.ndarray = field(default_factory=lambda: np.empty((0, 0), np.float32))

    @classmethod
    def fit(
        cls,
        text_p: np.ndarray | None,
        image_p: np.ndarray | None,
        truth: Truth,
        weights: Mapping[str, float],
        classes: Sequence[str] = (),
        groups: Sequence[Any] | None = None,
        seed: int = 0,
    ) -> Ensemble:
        """Fit on answers to validation listings of classifiers that were not fitted on them.

        `text_p`, `image_p`: probabilities [n, classes], rows of NaN where there is no text or picture, None where there
        is no such classifier. `truth`: as for `calibration.fit_temperature`. `weights`: accuracy of 'text' and 'image'
        by their registered evaluations. `groups`: of duplicates, kept together when folds are made. Raises ValueError
        without any probabilities, or where an accuracy is missing.
        """
        parts = {name: p for name, p in ((TEXT, text_p), (IMAGE, image_p)) if p is not None}
        if not parts:
            raise ValueError("neither text nor picture: there is nothing to combine")
        if missing := [name for name in parts if not weights.get(name, 0) > 0]:
            raise ValueError(
                f"the accuracy of {' and '.join(missing)} is not known or zero: it comes from an evaluation"
            )
        right = right_answers(truth)
        size = next(iter(parts.values())).shape[1]
        frequency = np.bincount(right[right >= 0], minlength=size) + 1.0
        unknown = {name: np.flatnonzero(~(p > 0).any(axis=0)).tolist() for name, p in parts.items()}
        made = cls(ACCURACY, dict(weights), None, {}, frequency / frequency.sum(), "", tuple(classes), unknown=unknown)
        logs = {name: made._log(name, p) for name, p in parts.items()}
        temperatures = {name: calibration.fit_temperature(log, right) for name, log in logs.items()}
        if len(parts) == 1:
            (only,) = parts
            why = f"only {only} is there: nothing is combined"
            made = replace(made, method=only, temperatures=temperatures, why=why)
            return replace(made, out_of_fold=made.probabilities(text_p, image_p))
        both = np.flatnonzero(np.all([calibration.usable(log, right) for log in logs.values()], axis=0))
        if len(both) > MOST:
            both = np.sort(np.random.default_rng(seed).choice(both, MOST, replace=False))
        text, image, answers = logs[TEXT][both], logs[IMAGE][both], right[both]
        mean = made._mean(text, image)
        if len(both) < FEWEST:
            temperatures[BOTH] = calibration.fit_temperature(mean, answers)
            why = f"{ACCURACY}: {len(both)} validation listings have both, {FEWEST} are needed to learn from them"
            made = replace(made, temperatures=temperatures, why=why)
            return replace(made, out_of_fold=made.probabilities(text_p, image_p))
        log_prior = np.log(made.frequency)
        scores = np.empty_like(text)
        for inside, outside in _folds(both if groups is None else np.asarray(groups)[both], seed):
            fitted = Weights.fit(text[inside], image[inside], answers[inside], log_prior)
            scores[outside] = fitted.scores(text[outside], image[outside], log_prior)
        ways = {ACCURACY: mean, LEARNED: scores, f"{TEXT} alone": text, f"{IMAGE} alone": image}
        table = [_reached(name, way, answers) for name, way in ways.items()]
        method = max(table[:2], key=lambda row: (row["top1"], row["log_likelihood"]))["way"]
        temperatures[BOTH] = calibration.fit_temperature(ways[method], answers)
        learned = Weights.fit(text, image, answers, log_prior)
        why = _why(method, {row["way"]: row["top1"] for row in table}, len(both), weights, learned)
        made = replace(made, method=method, learned=learned, temperatures=temperatures, why=why, table=table)
        p = made.probabilities(text_p, image_p)
        p[both] = calibration.apply(ways[method], temperatures[BOTH])
        return replace(made, out_of_fold=p)

    def probabilities(self, text_p: np.ndarray | None, image_p: np.ndarray | None) -> np.ndarray:
        """Return calibrated probabilities, float32 [n, classes]; rows sum to 1.

        Rows of NaN: no text or no picture there; None: for no row. Raises ValueError where lengths differ or both are
        None.
        """
        parts = {name: np.asarray(p, np.float32) for name, p in ((TEXT, text_p), (IMAGE, image_p)) if p is not None}
        shapes = {p.shape for p in parts.values()}
        if len(shapes) != 1 or next(iter(shapes))[1] != len(self.frequency):
            raise ValueError("text and picture need probabilities of the same listings over the ensemble's classes")
        n, _ = next(iter(shapes))
        there = {name: calibration.said(parts[name]) if name in parts else np.zeros(n, bool) for name in MODES}
        out = np.tile(self.frequency.astype(np.float32), (n, 1))
        both = there[TEXT] & there[IMAGE] if self.method in (ACCURACY, LEARNED) else np.zeros(n, bool)
        for name, p in parts.items():
            alone = there[name] & ~both
            if name in self.temperatures and (self.method not in MODES or self.method == name):
                out[alone] = calibration.apply(self._log(name, p[alone]), self.temperatures[name])
        if both.any():
            scores = self._combined(*(self._log(name, parts[name][both]) for name in MODES))
            out[both] = calibration.apply(scores, self.temperatures[BOTH])
        return out

    @staticmethod
    def cases(text_p: np.ndarray | None, image_p: np.ndarray | None) -> np.ndarray:
        """Return what there is of each listing: 'both', 'text', 'image' or 'none'."""
        text, image = (np.zeros(1, bool) if p is None else calibration.said(p) for p in (text_p, image_p))
        n = len(next(p for p in (text_p, image_p) if p is not None))
        words = np.select([text & image, text, image], [BOTH, TEXT, IMAGE], NONE)
        return np.broadcast_to(words, n)

    def evidence(
        self, text_p: np.ndarray | None, image_p: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return what thresholds are proven with, for the listings that this was fitted on: probabilities, the number
        of the listing and the case of each.

        A listing with both stands there three times: with both (out of fold), with its picture hidden and with its
        text hidden. So what a listing without a picture may be assigned is known although all of these have one.
        """
        n = len(self.out_of_fold)
        cases, everyone = self.cases(text_p, image_p), np.arange(n)
        found = [(self.out_of_fold, everyone[cases == BOTH], BOTH)]
        for name, p in ((TEXT, text_p), (IMAGE, image_p)):
            if p is not None:
                alone = self.probabilities(p, None) if name == TEXT else self.probabilities(None, p)
                found.append((alone, everyone[(cases == BOTH) | (cases == name)], name))
        rows = np.concatenate([rows for _, rows, _ in found])
        names = np.concatenate([np.full(len(rows), name) for _, rows, name in found])
        return np.concatenate([p[rows] for p, rows, _ in found]), rows, names

    def _log(self, name: str, p: np.ndarray) -> np.ndarray:
        """Return log probabilities, with what is usual for classes that the classifier does not know."""
        log_p = np.log(np.clip(np.asarray(p, np.float32), LEAST, None))
        if not (strange := self.unknown.get(name)):
            return log_p
        usual = self.frequency[strange]
        log_p += np.float32(np.log1p(-usual.sum()))
        log_p[np.ix_(np.flatnonzero(calibration.said(p)), np.array(strange))] = np.log(usual)
        return log_p

    def _combined(self, text: np.ndarray, image: np.ndarray) -> np.ndarray:
        if self.method == LEARNED and self.learned is not None:
            return self.learned.scores(text, image, np.log(self.frequency))
        return self._mean(text, image)

    def _mean(self, text: np.ndarray, image: np.ndarray) -> np.ndarray:
        """Return the logarithm of the accuracy-weighted mean of two classifiers' log probabilities."""
        share = self.weights[TEXT] / (self.weights[TEXT] + self.weights[IMAGE])
        return np.log(np.float32(share) * np.exp(text) + np.float32(1 - share) * np.exp(image))

    def save(self, directory: Path) -> None:
        """Write the one file it consists of."""
        learned = self.learned
        said = {
            "method": self.method,
            "weights": dict(self.weights),
            "temperatures": dict(self.temperatures),
            "frequency": self.frequency.tolist(),
            "why": self.why,
            "classes": list(self.classes),
            "table": self.table,
            "unknown": dict(self.unknown),
            "learned": learned and {**vars(learned), "bias": learned.bias.tolist()},
        }
        directory.mkdir(parents=True, exist_ok=True)
        (directory / FILE).write_text(json.dumps(said, ensure_ascii=False, indent=1))

    @classmethod
    def load(cls, directory: Path) -> Ensemble:
        """Read what `save` wrote. Raises FileNotFoundError, or ValueError where another version wrote it."""
        said = json.loads((Path(directory) / FILE).read_text())
        try:
            part = said["learned"]
            learned = part and Weights(part["text"], part["image"], part["rarity"], np.array(part["bias"]))
            return cls(
                said["method"],
                said["weights"],
                learned,
                said["temperatures"],
                np.array(said["frequency"]),
                said["why"],
                tuple(said["classes"]),
                said["table"],
                said["unknown"],
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"an ensemble of another version: {error}") from error


MODES = (TEXT, IMAGE)


def _folds(groups: np.ndarray, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield rows to fit on and rows to look at; rows of one group stay together."""
    codes = pd.factorize(groups)[0]
    fold = np.random.default_rng(seed).permutation(int(codes.max(initial=0)) + 1)[codes] % FOLDS
    for k in range(FOLDS):
        yield np.flatnonzero(fold != k), np.flatnonzero(fold == k)


def _reached(way: str, scores: np.ndarray, right: np.ndarray) -> dict[str, Any]:
    """Return what scores reach on listings: top1, and the mean log likelihood at their best temperature."""
    first = scores.argmax(axis=1)
    log_p = calibration.log_softmax(scores / np.float32(calibration.fit_temperature(scores, right)))
    return {
        "way": way,
        "top1": float((first[:, None] == right).any(axis=1).mean()),
        "log_likelihood": float(calibration.log_likelihood(log_p, right).mean(dtype=np.float64)),
        "listings": len(scores),
    }


def _why(method: str, top1: Mapping[str, float], n: int, weights: Mapping[str, float], learned: Weights) -> str:
    other = ACCURACY if method == LEARNED else LEARNED
    best = max((f"{name} alone" for name in MODES), key=lambda name: top1[name])
    told = (
        f"{method}: top-1 {top1[method]:.4f} out of fold on {n:,} validation listings with both, "
        f"{100 * (top1[method] - top1[other]):+.2f} points against the {other} ({top1[other]:.4f}) and "
        f"{100 * (top1[method] - top1[best]):+.2f} against {best} ({top1[best]:.4f}); "
    )
    if method == LEARNED:
        return told + f"weights text {learned.text:.2f}, image {learned.image:.2f}, rarity {learned.rarity:.2f}"
    return told + f"weights by registered accuracy: text {weights[TEXT]:.4f}, image {weights[IMAGE]:.4f}"
