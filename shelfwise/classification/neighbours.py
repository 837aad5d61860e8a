"""What the most similar training listings are: the memory of the text classifier.

A linear model and a network forget single listings; here every training listing votes for its categories, with the
fifth power of the cosine of its n-grams with the listing in question. Worse than either alone where a listing is like
no other, it knows what they do not where a brand has a line of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from shelfwise.classification.leaving_out import Variants, falls
from shelfwise.classification.ngrams import WEIGHTS, Grams, NgramClassifier

FILE = "neighbours.safetensors"
POWER = 5
MOST = 60_000
"""Training listings remembered at most: what a question costs grows with them."""

_COMMON = 0.03  # share of the remembered listings above which a gram tells little and costs most
_COMMON_LEAST = 100
_NOTHING = 1e-3  # weight of the shares of the training listings beside the votes
_FLOOR = 0.02  # of every category's share that no vote can take away


class Neighbours:
    """Categories of similar listings, as a part of the text classifier; it reads grams as the linear model does."""

    def __init__(self, linear: NgramClassifier, arrays: Mapping[str, np.ndarray]):
        """`arrays`, of the remembered listings: features int32, values float16 and starts int64 of their grams, scaled
        to length 1 by listing; labels int64, label_starts int64; and prior float32 [classes].
        """
        self._linear, self._arrays = linear, dict(arrays)
        self._lists = _lists(arrays, len(linear.weights))

    @classmethod
    def fit(
        cls,
        linear: NgramClassifier,
        titles: Sequence[str],
        descriptions: Sequence[str],
        labels: Sequence[Sequence[int]],
        prior: np.ndarray,
    ) -> Neighbours:
        """Remember texts in normal form with their right classes; of more than `MOST` a random choice."""
        rows = np.arange(len(titles))
        if len(rows) > MOST:
            rows = np.sort(np.random.default_rng(0).choice(rows, MOST, replace=False))
        grams = linear.grams([titles[i] for i in rows], [descriptions[i] for i in rows])
        right = [np.asarray(labels[i], np.int64) for i in rows]
        arrays = {
            "features": grams.features,
            "values": _unit(grams).astype(np.float16),
            "starts": grams.starts,
            "labels": np.concatenate(right),
            "label_starts": np.concatenate([[0], np.cumsum([len(one) for one in right])]).astype(np.int64),
            "prior": np.asarray(prior, np.float32),
        }
        return cls(linear, arrays)

    def scores(self, titles: Sequence[str], descriptions: Sequence[str]) -> np.ndarray:
        """Return float32 [n, classes], logarithms of probabilities."""
        from shelfwise.classification import ngram_kernels

        grams, prior = self._linear.grams(titles, descriptions), self._arrays["prior"]
        found = ngram_kernels.votes(
            grams.features,
            _unit(grams),
            grams.starts,
            *self._lists,
            self._arrays["label_starts"],
            self._arrays["labels"],
            POWER,
            len(prior),
        )
        return _log_p(found, found.sum(1, keepdims=True), prior).astype(np.float32)

    def shares(
        self, titles: Sequence[str], descriptions: Sequence[str], chosen: np.ndarray
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return by how much the logarithm of the probability of `chosen` falls without each word."""
        return falls(self._chosen_log_p, titles, descriptions, chosen)

    def _chosen_log_p(self, variants: Variants, chosen: np.ndarray) -> np.ndarray:
        from shelfwise.classification import ngram_kernels

        grams = self._linear.grams(variants.titles, variants.descriptions)
        found, everything = ngram_kernels.chosen_votes(
            grams.features,
            _unit(grams),
            grams.starts,
            variants.starts,
            chosen,
            *self._lists,
            self._arrays["label_starts"],
            self._arrays["labels"],
            POWER,
        )
        return _log_p(found, everything, self._arrays["prior"][variants.of_texts(chosen)])

    def save(self, directory: Path) -> None:
        """Write what is remembered to a directory, beside the linear model that it needs."""
        from safetensors.numpy import save_file

        save_file(self._arrays, directory / FILE)
        if not (directory / WEIGHTS).exists():
            self._linear.save(directory)

    @classmethod
    def load(cls, directory: Path, linear: NgramClassifier | None = None) -> Neighbours:
        """Read what `save` wrote; `linear`: the directory's linear model where it is loaded already."""
        from safetensors.numpy import load_file

        return cls(linear or NgramClassifier.load(directory), load_file(directory / FILE))


def _log_p(found: np.ndarray, everything: np.ndarray, prior: np.ndarray) -> np.ndarray:
    """Return logarithms of probabilities of classes with the votes `found` among `everything` that was voted."""
    p = (found + _NOTHING * prior) / (everything + _NOTHING)
    return np.log((1 - _FLOOR) * p + _FLOOR * prior)


def _unit(grams: Grams) -> np.ndarray:
    """Return the values of grams, scaled to length 1 by listing, float32."""
    row = np.repeat(np.arange(len(grams)), np.diff(grams.starts))
    length = np.sqrt(np.bincount(row, grams.values * grams.values, len(grams)))
    return (grams.values / length[row]).astype(np.float32)


def _lists(arrays: Mapping[str, np.ndarray], features: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the inverted index: (starts, rows, values), by feature the listings that hold it; none for common ones."""
    held, starts = arrays["features"], arrays["starts"]
    rows = np.repeat(np.arange(len(starts) - 1, dtype=np.int32), np.diff(starts))
    keep = np.bincount(held, minlength=features)[held] <= max(_COMMON * (len(starts) - 1), _COMMON_LEAST)
    order = np.argsort(held[keep], kind="stable")
    counts = np.bincount(held[keep], minlength=features)
    values = arrays["values"][keep][order].astype(np.float32)
    return np.concatenate([[0], np.cumsum(counts)]), rows[keep][order], values
