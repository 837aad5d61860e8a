"""What a classifier has to beat: a linear SVM on n-grams (scikit-learn), five nearest neighbours on pixels."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from benchmarks.common import say

NEIGHBOURS = 5
SIDE = 32  # pixels a picture is reduced to for the neighbours
AT_ONCE = 500
# One-vs-rest fits every class on all listings: beyond this product it would take longer than what it is compared with.
MOST = 20_000_000


def linear_svm(texts: Sequence[str], labels: np.ndarray, asked: Sequence[str], classes: int) -> np.ndarray | None:
    """Return scores [asked, classes] that sum to 1 (a softmax of margins: ranks mean something, sizes do not).

    Words and pairs of words, and character 3- to 5-grams within words, TF-IDF, `LinearSVC`. None, said aloud, where
    listings times classes are too many for it.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.pipeline import make_pipeline, make_union
    from sklearn.svm import LinearSVC

    known = np.unique(labels)
    if len(texts) * len(known) > MOST:
        say(f"linear SVM: left out, {len(texts):,} listings times {len(known):,} classes are too many")
        return None
    began = time.perf_counter()
    features = make_union(
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, dtype=np.float32),
        TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5), min_df=2, sublinear_tf=True, dtype=np.float32),
    )
    model = make_pipeline(features, LinearSVC()).fit(texts, labels)
    margins = np.asarray(model.decision_function(asked), np.float64)
    if margins.ndim == 1:  # two classes have one margin
        margins = np.stack([-margins, margins], axis=1)
    say(f"linear SVM: {time.perf_counter() - began:.0f} s")
    return spread(softmax(margins), known, classes)


def nearest_pixels(pixels: np.ndarray, labels: np.ndarray, asked: np.ndarray, classes: int) -> np.ndarray:
    """Return the votes [asked, classes] of the nearest training pictures, Euclidean on pixels of a reduced picture.

    `pixels`, `asked`: uint8 [n, side, side, 3]. Of classes with equal votes the one with the nearer picture is first.
    """
    began = time.perf_counter()
    known, wanted = reduced(pixels), reduced(asked)
    squares = (known**2).sum(axis=1)
    out = np.zeros((len(wanted), classes), np.float32)
    k = min(NEIGHBOURS, len(known))
    for start in range(0, len(wanted), AT_ONCE):
        some = wanted[start : start + AT_ONCE]
        distance = squares - 2 * (some @ known.T)
        near = np.argpartition(distance, k - 1, axis=1)[:, :k]
        near = np.take_along_axis(near, np.argsort(np.take_along_axis(distance, near, axis=1), axis=1), axis=1)
        for place in range(k):
            np.add.at(out, (np.arange(start, start + len(some)), labels[near[:, place]]), 1 - 0.01 * place)
    say(f"nearest pixels: {time.perf_counter() - began:.0f} s")
    return out / out.sum(axis=1, keepdims=True)


def reduced(pixels: np.ndarray) -> np.ndarray:
    """Return pictures as float32 rows of at most 32 x 32 x 3 numbers, 0 to 1: means over blocks."""
    n, side = pixels.shape[:2]
    block = -(-side // SIDE)
    kept = side // block * block
    out = np.empty((n, (side // block) ** 2 * 3), np.float32)
    for start in range(0, n, AT_ONCE):
        some = pixels[start : start + AT_ONCE, :kept, :kept].astype(np.float32) / 255
        some = some.reshape(len(some), side // block, block, side // block, block, 3).mean(axis=(2, 4))
        out[start : start + AT_ONCE] = some.reshape(len(some), -1)
    return out


def softmax(scores: np.ndarray) -> np.ndarray:
    """Return exp(scores) by row, divided by their sum."""
    p = np.exp(scores - scores.max(axis=1, keepdims=True))
    return p / p.sum(axis=1, keepdims=True)


def spread(p: np.ndarray, known: np.ndarray, classes: int) -> np.ndarray:
    """Return columns of the classes `known` among all classes."""
    out = np.zeros((len(p), classes), np.float32)
    out[:, known] = p
    return out
