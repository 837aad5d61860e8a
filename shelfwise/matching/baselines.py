"""What anybody would try first: the yardsticks every evaluation puts beside the matcher.

All three rank the same catalog for the same lines, by catalog titles alone or by all names of a product.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from scipy import sparse

from shelfwise.matching.index import CatalogIndex, rank_within
from shelfwise.matching.lexical import (
    LexicalConfig,
    NgramVectorizer,
    WordMatrix,
    WordVectorizer,
    comparable,
    top_products,
)
from shelfwise.matching.matcher import Ranked

DEPTH = 60  # names looked at per line: room for several names of one product, and for the hidden one


class Baseline(Protocol):
    """Ranks products for titles."""

    def rank(self, titles: Sequence[str], k: int, hide: np.ndarray | None = None) -> Ranked:
        """Return the `k` best products per title; `hide` as in `CatalogIndex.retrieve`."""


class ExactMatch:
    """The normal forms are equal. Several products of one title come in the order of the catalog."""

    def __init__(self, index: CatalogIndex, all_names: bool = False):
        self.index = index
        self.names = len(index.names) if all_names else len(index.products)
        self.place: dict[str, list[int]] = {}
        for i, form in enumerate(index.forms[: self.names]):
            if form:
                self.place.setdefault(form, []).append(i)

    def rank(self, titles: Sequence[str], k: int, hide: np.ndarray | None = None) -> Ranked:
        """See `Baseline`."""
        found = [self.place.get(form, []) for form in comparable(titles)]
        rows = np.repeat(np.arange(len(titles)), [len(f) for f in found])
        names = np.array([name for f in found for name in f], dtype=np.int64)
        return _ranked(self.index, len(titles), rows, names, np.ones(len(names), np.float32), k, hide)


class TokenJaccard:
    """Shared words over all words of both."""

    def __init__(self, index: CatalogIndex, all_names: bool = False, threads: int = 2):
        self.index, self.threads = index, threads
        names = len(index.names) if all_names else len(index.products)
        self.words = WordMatrix.build(index.forms[:names], WordVectorizer())
        # 1/(|a|+|b|-|a∩b|) is no product of two vectors, so candidates come by overlap and are ranked exactly.
        self.size = np.diff(self.words.matrix.indptr).astype(np.float32)
        scaled = sparse.diags_array(1 / np.sqrt(np.maximum(self.size, 1))).tocsr() @ self.words.matrix
        self.transposed = sparse.csr_matrix(scaled.T.tocsr().astype(np.float32))

    def rank(self, titles: Sequence[str], k: int, hide: np.ndarray | None = None) -> Ranked:
        """See `Baseline`."""
        rows_of, unknown = self.words.rows(comparable(titles))
        size = np.diff(rows_of.indptr) + unknown
        rows, names, value = top_products(rows_of, self.transposed, 2 * DEPTH, self.threads)
        overlap = value * np.sqrt(np.maximum(self.size[names], 1))
        score = overlap / np.maximum(size[rows] + self.size[names] - overlap, 1)
        return _ranked(self.index, len(titles), rows, names, score, k, hide)


class CharTfidf:
    """Cosine of TF-IDF vectors of character trigrams within words."""

    def __init__(self, index: CatalogIndex, all_names: bool = False, threads: int = 2):
        self.index, self.threads = index, threads
        names = len(index.names) if all_names else len(index.products)
        self.vectorizer = NgramVectorizer(LexicalConfig()).fit(index.forms[:names])
        self.transposed = self.vectorizer.transform(index.forms[:names]).T.tocsr()

    def rank(self, titles: Sequence[str], k: int, hide: np.ndarray | None = None) -> Ranked:
        """See `Baseline`."""
        queries = self.vectorizer.transform(comparable(titles))
        rows, names, score = top_products(queries, self.transposed, DEPTH, self.threads)
        return _ranked(self.index, len(titles), rows, names, score, k, hide)


def all_baselines(index: CatalogIndex, threads: int = 2) -> dict[str, Baseline]:
    """Return every baseline by name; those called `*_names` also know the vendors' past lines."""
    made: dict[str, Baseline] = {}
    for suffix, all_names in (("", False), ("_names", True)):
        made[f"exact{suffix}"] = ExactMatch(index, all_names)
        made[f"token_jaccard{suffix}"] = TokenJaccard(index, all_names, threads)
        made[f"char_tfidf{suffix}"] = CharTfidf(index, all_names, threads)
    return made


def _ranked(
    index: CatalogIndex,
    n: int,
    rows: np.ndarray,
    names: np.ndarray,
    score: np.ndarray,
    k: int,
    hide: np.ndarray | None,
) -> Ranked:
    """Fold names into products (the best name counts), drop hidden ones, rank; equal scores in catalog order."""
    product = index.name_product[names].astype(np.int64)
    if hide is not None:
        hidden = np.where(hide >= 0, index.twin_group[np.maximum(hide, 0)], -1)
        keep = index.twin_group[product] != hidden[rows]
        rows, product, score = rows[keep], product[keep], score[keep]
    order = np.lexsort((-score, product, rows))
    rows, product, score = rows[order], product[order], score[order]
    first = rank_within(rows * (len(index.products) + 1) + product) == 0
    rows, product, score = rows[first], product[first], score[first]
    order = np.lexsort((product, -score, rows))
    rank = rank_within(rows[order])
    kept = order[rank < k]
    return Ranked(n, rows[kept], rank[rank < k], product[kept], score[kept].astype(np.float64))
