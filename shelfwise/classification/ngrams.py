"""A linear classifier on word and character n-grams: the baseline of the text classifier, and mostly its better half.

Softmax regression on hashed grams of title and description, trained by AdaGrad with features left out at random
(dropout training regularises text classifiers as few other things do: Wager, Wang and Liang 2013). A title gives its
words, parts of words, neighbours, and what stands at its ends: brands stand first, and what a thing is mostly last. A
description gives words and neighbours, which share their weights with the title's, so that a listing without a title
is read by what was learnt from titles. Linear, so that the share of each word in a decision can be told exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import numpy as np

WEIGHTS = "ngrams.safetensors"

MOST_WEIGHTS = 120_000_000
"""Features times classes at most, half a gigabyte of weights; beyond it the rarest grams are no features."""

_MOST_WORDS, _MOST_DESCRIPTION = 32, 160
_RARELY = np.array([1, 2, 1, 2, 1, 1, 2, 2])  # documents that a kind of gram has to be in, to be a feature


@dataclass(frozen=True)
class NgramConfig:
    """How the linear classifier reads text and how it learns."""

    shortest: int = 2
    """Characters of the shortest part of a word, the spaces around the word included."""
    longest: int = 5
    window: int = 1
    """Words apart that still make a pair."""
    epochs: int = 8
    learning_rate: float = 0.5
    lost: float = 0.3
    """Share of the features left out at random in training."""
    blind: float = 0.1
    """Share of the listings with title and description that are learnt from without the title; as many without the
    description."""
    smooth: float = 0.0
    """Share of the target spread over all classes."""
    seed: int = 7


@dataclass(frozen=True)
class Grams:
    """Grams of listings, row i at starts[i]:starts[i + 1], those of its description from cuts[i] on.

    `features` int32, `values` float32; `first` and `second` int16: the words that a gram stands for, counted in the
    title, or in the description.
    """

    features: np.ndarray
    values: np.ndarray
    first: np.ndarray
    second: np.ndarray
    starts: np.ndarray
    cuts: np.ndarray

    def __len__(self) -> int:
        return len(self.starts) - 1


class NgramClassifier:
    """Class scores of texts in normal form, and what each word had to do with them."""

    def __init__(self, keys: np.ndarray, idf: np.ndarray, weights: np.ndarray, bias: np.ndarray, config: NgramConfig):
        """`keys` uint64 [features], `idf` float32 [features], `weights` float32 [features, classes], `bias`."""
        from shelfwise.classification import ngram_kernels

        self.config, self.weights, self.bias = config, weights, bias
        self._keys, self._idf = keys, idf
        self._slots, self._numbers = ngram_kernels.table(keys)

    @classmethod
    def fit(
        cls,
        titles: Sequence[str],
        descriptions: Sequence[str],
        labels: Sequence[Sequence[int]],
        classes: int,
        config: NgramConfig,
    ) -> NgramClassifier:
        """Train on texts in normal form ("" where there is none) with their right classes, equally right each."""
        from shelfwise.classification import ngram_kernels

        keys, idf = _vocabulary(titles, descriptions, max(1, MOST_WEIGHTS // classes), config)
        model = cls(keys, idf, np.zeros((len(keys), classes), np.float32), np.zeros(classes, np.float32), config)
        grams = model.grams(titles, descriptions)
        label_starts = np.concatenate([[0], np.cumsum([len(right) for right in labels])]).astype(np.int64)
        flat = np.concatenate([np.asarray(right, np.int64) for right in labels])
        shares = np.bincount(flat, 1 / np.repeat(np.diff(label_starts), np.diff(label_starts)), classes)
        # What is known of a listing without any text: how often each class was right.
        model.bias[:] = np.log((shares + 0.5) / (shares + 0.5).sum())
        squares = np.zeros(len(keys), np.float32)
        for epoch in range(config.epochs):
            left = np.array([1 - epoch / config.epochs, 1 - (epoch + 1) / config.epochs]) * config.learning_rate
            order = np.random.default_rng((config.seed, epoch)).permutation(len(grams))
            ngram_kernels.learn(
                grams.features,
                grams.values,
                grams.starts,
                grams.cuts,
                flat,
                label_starts,
                order,
                model.weights,
                squares,
                model.bias,
                left,
                config.lost,
                config.blind,
                config.smooth,
                config.seed * 1000 + epoch,
            )
        return model

    def grams(self, titles: Sequence[str], descriptions: Sequence[str]) -> Grams:
        """Return the known grams of texts in normal form, weighted: those of a title's words and of its parts of words
        at length 1 each, those of a description at length 1.
        """
        from shelfwise.classification import ngram_kernels as kernels

        fields = []
        for texts, title in ((titles, True), (descriptions, False)):
            hashes, kinds, first, second, starts = _cut(texts, title, self.config)
            features, origins, starts = kernels.found(hashes, starts, self._slots, self._numbers)
            group = np.repeat(2 * np.arange(len(texts)), np.diff(starts)) + (kinds[origins] == kernels.PART)
            idf = self._idf[features]
            length = np.sqrt(np.bincount(group, idf * idf, 2 * len(texts)))
            fields.append((features, (idf / length[group]).astype(np.float32), first[origins], second[origins], starts))
        return _joined(*fields)

    def scores(self, titles: Sequence[str], descriptions: Sequence[str]) -> np.ndarray:
        """Return float32 [n, classes], logarithms of probabilities but for a constant by row."""
        from shelfwise.classification import ngram_kernels

        grams = self.grams(titles, descriptions)
        return ngram_kernels.scores(grams.features, grams.values, grams.starts, self.weights, self.bias)

    def shares(
        self, titles: Sequence[str], descriptions: Sequence[str], chosen: np.ndarray
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return for each listing what the words of its title and of its description added to the score of the class
        `chosen` (int64 [n]), above what they added to all classes on average.

        A gram of two words counts half for each. Shares and bias sum to the score, each less its mean over classes.
        """
        grams = self.grams(titles, descriptions)
        row = np.repeat(np.arange(len(grams)), np.diff(grams.starts))
        added = (self.weights[grams.features, chosen[row]] - self._means[grams.features]) * grams.values / 2
        counts = [len(text.split()) for both in zip(titles, descriptions, strict=True) for text in both]
        starts = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
        begin = starts[2 * row + (np.arange(len(row)) >= grams.cuts[row])]
        words = np.bincount(begin + grams.first, added, starts[-1])
        words += np.bincount(begin + grams.second, added, starts[-1])
        fields = [words[start:end] for start, end in pairwise(starts)]
        return list(zip(fields[::2], fields[1::2], strict=True))

    @cached_property
    def _means(self) -> np.ndarray:
        """Float32 [features], the means over classes; of a model that is trained."""
        return self.weights.mean(1)

    def save(self, directory: Path) -> None:
        """Write the model to a directory; weights keep eleven bits, which changes no decision worth the name."""
        from safetensors.numpy import save_file

        arrays = {"keys": self._keys, "idf": self._idf, "weights": self.weights.astype(np.float16), "bias": self.bias}
        reading = np.array([self.config.shortest, self.config.longest, self.config.window])
        save_file({**arrays, "reading": reading}, directory / WEIGHTS)

    @classmethod
    def load(cls, directory: Path) -> NgramClassifier:
        """Read what `save` wrote."""
        from safetensors.numpy import load_file

        arrays = load_file(directory / WEIGHTS)
        shortest, longest, window = map(int, arrays["reading"])
        config = NgramConfig(shortest=shortest, longest=longest, window=window)
        return cls(arrays["keys"], arrays["idf"], arrays["weights"].astype(np.float32), arrays["bias"], config)


def _vocabulary(
    titles: Sequence[str], descriptions: Sequence[str], most: int, config: NgramConfig
) -> tuple[np.ndarray, np.ndarray]:
    """Return the grams that are features, uint64 ascending, and their inverse document frequency, float32; of more
    than `most` those in most documents.
    """
    hashes, kinds, _, _, starts = _cut(titles, True, config)
    more, more_kinds, _, _, more_starts = _cut(descriptions, False, config)
    row = np.repeat(np.arange(len(titles)), np.diff(starts))
    more_row = np.repeat(np.arange(len(titles)), np.diff(more_starts))
    hashes, row = np.concatenate([hashes, more]), np.concatenate([row, more_row])
    keys, first, place = np.unique(hashes, return_index=True, return_inverse=True)
    in_row = np.unique(place * len(titles) + row) // max(len(titles), 1)
    documents = np.bincount(in_row, minlength=len(keys))
    kept = documents >= _RARELY[np.concatenate([kinds, more_kinds])[first]]
    keys, documents = keys[kept], documents[kept]
    if len(keys) > most:
        frequent = np.sort(np.lexsort((keys, -documents))[:most])
        keys, documents = keys[frequent], documents[frequent]
    return keys, (np.log((1 + len(titles)) / (1 + documents)) + 1).astype(np.float32)


def _cut(texts: Sequence[str], title: bool, config: NgramConfig) -> tuple[np.ndarray, ...]:
    from shelfwise.classification import ngram_kernels

    most = _MOST_WORDS if title else _MOST_DESCRIPTION
    return ngram_kernels.grams(*codes_of(texts), config.shortest, config.longest, config.window, most, title)


def codes_of(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return the characters of texts one after another, uint32, and where each text ends, int64 [n]."""
    ends = np.cumsum(np.fromiter(map(len, texts), np.int64, len(texts)))
    return np.frombuffer("".join(texts).encode("utf-32-le", "surrogatepass"), np.uint32), ends


def _joined(title: tuple[np.ndarray, ...], description: tuple[np.ndarray, ...]) -> Grams:
    """Put the grams of each description behind those of its title."""
    if not len(description[0]):
        return Grams(*title, cuts=title[-1][1:])
    counts = [np.diff(title[-1]), np.diff(description[-1])]
    starts = np.concatenate([[0], np.cumsum(counts[0] + counts[1])])
    cuts = starts[:-1] + counts[0]
    places = []
    for count, begin, field in ((counts[0], starts[:-1], title), (counts[1], cuts, description)):
        places.append(np.arange(len(field[0])) + np.repeat(begin - field[-1][:-1], count))
    columns = []
    for one, other in zip(title[:4], description[:4], strict=True):
        column = np.empty(len(one) + len(other), one.dtype)
        column[places[0]], column[places[1]] = one, other
        columns.append(column)
    return Grams(columns[0], columns[1], columns[2], columns[3], starts, cuts)
