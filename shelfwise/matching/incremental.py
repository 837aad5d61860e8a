"""From one catalog to the next: what of an index still holds, and what has to be made for the change.

What follows from the text of a name alone (its normal form, n-grams, words, embedding) is taken over from the earlier
index wherever the text occurs there; only new texts are read and embedded. What depends on the catalog as a whole
(positions, inverted lists, which words titles hold) is made again from those parts, which is quick. So an updated index
is the index that a full build gives, and not only one that answers alike.

The exception is a graph of embeddings (HNSW), which large catalogs search where the encoder has an arm of its own: it
takes longer to build than all the rest and cannot forget a vector. An updated index keeps the graph, passes over the
products it should not know any more, and searches the new ones beside it, exactly (`Drift`). Its answers differ from
those of a new graph as two graphs differ: in what either approximates. After a tenth of its vectors have come or gone
the graph is built again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from shelfwise.matching.index import CatalogIndex
    from shelfwise.matching.vectors import Vectors

FEW_NAMES = 0.02  # of all names are read and embedded in the time it takes to look for them among all
MOST_DRIFT = 0.1  # vectors added to and gone from a graph, as a share of it, from which on it is built again


@dataclass(frozen=True)
class Change:
    """What an update found: products that are new, that differ, that are gone; names whose text was read and embedded
    anew, and names taken over.
    """

    added: int = 0
    changed: int = 0
    removed: int = 0
    names_new: int = 0
    names_kept: int = 0


@dataclass(frozen=True)
class Kept:
    """Where the parts of a catalog stand in an earlier one, -1 for what was not in it.

    `products`: of each product the row of its id. `titles`, `named`: the same for products with the same title and
    with the same catalog name. `names`: of each name a row of the same text. `change`: the counts.
    """

    products: np.ndarray
    titles: np.ndarray
    named: np.ndarray
    names: np.ndarray
    change: Change

    @classmethod
    def of(cls, earlier: CatalogIndex, products: pd.DataFrame, names: pd.DataFrame) -> Kept:
        """Compare the tables, whose columns are those of the index."""
        n = len(products)
        rows = rows_of(earlier.ids, products["product_id"])
        titles = same_rows(rows, earlier.products, products, ["title"])
        named = same_rows(rows, earlier.names, names.iloc[:n], ["name"])
        source = np.concatenate([named, np.full(len(names) - n, -1)])
        # Past lines are among the past lines. All names are gone through only where that is less work than reading
        # the new ones, as when all ids have changed.
        for start, few in ((len(earlier.products), 0.0), (0, FEW_NAMES)):
            asked = np.flatnonzero(source < 0)
            if len(asked) > few * len(earlier.names):
                found = rows_of_texts(earlier.names["name"].iloc[start:].tolist(), names["name"].iloc[asked].tolist())
                source[asked] = np.where(found >= 0, found + start, -1)
        known, new = int((rows >= 0).sum()), int((source < 0).sum())
        same = int((same_rows(rows, earlier.products, products, list(products.columns)) >= 0).sum())
        change = Change(n - known, known - same, len(earlier.products) - known, new, len(names) - new)
        return cls(rows, titles, named, source, change)


def rows_of(before: pd.Index, now: pd.Series) -> np.ndarray:
    """Return for each id its row in `before`, which holds no id twice, and -1 where there is none."""
    return before.get_indexer(pd.Index(now)).astype(np.int64)


def same_rows(rows: np.ndarray, before: pd.DataFrame, now: pd.DataFrame, columns: Sequence[str]) -> np.ndarray:
    """Return `rows`, which say where each row of `now` was `before`, with -1 where the two differ in these columns.

    Nulls are equal.
    """
    out = rows.copy()
    at = np.flatnonzero(rows >= 0)
    for column in columns:
        left, right = before[column].iloc[rows[at]].reset_index(drop=True), now[column].iloc[at].reset_index(drop=True)
        if left.dtype != right.dtype:
            left, right = left.astype(object), right.astype(object)
        same = (left == right).to_numpy(bool) | (left.isna() & right.isna()).to_numpy(bool)
        out[at[~same]] = -1
    return out


def rows_of_texts(before: list[str], now: list[str]) -> np.ndarray:
    """Return for each text a row of the same text in `before`, -1 where there is none."""
    row = {text: i for i, text in enumerate(before)} if now else {}
    return np.fromiter((row.get(text, -1) for text in now), np.int64, len(now))


@dataclass
class Drift:
    """How the catalog differs from the one that a graph of vectors was built over.

    `product`: of each vector in the graph the product it belongs to now, -1 where that is gone or has another name.
    `beside`: the products without a vector in the graph; `flat` searches theirs.
    """

    product: np.ndarray
    beside: np.ndarray
    flat: Any = None

    @classmethod
    def of(cls, earlier: CatalogIndex, embeddings: np.ndarray | Vectors, kept: np.ndarray) -> Drift:
        """Return the drift of a catalog whose products were at `kept` in the earlier one with the same name, -1 for
        others. `embeddings`: of all its products.
        """
        now = np.full(len(earlier.products) + 1, -1, np.int32)
        still = np.flatnonzero(kept >= 0)
        now[kept[still]] = still
        before = earlier.drift.product if earlier.drift is not None else np.arange(len(earlier.products))
        product = now[before]  # -1 is the last entry, which is -1 too
        outside = np.ones(len(kept), bool)
        outside[product[product >= 0]] = False
        return cls(product, np.flatnonzero(outside).astype(np.int32)).prepared(embeddings)

    def prepared(self, embeddings: np.ndarray | Vectors) -> Drift:
        """Return this with what searches the products beside the graph."""
        import faiss

        self.flat = faiss.IndexFlatIP(embeddings.shape[1])
        self.flat.add(np.ascontiguousarray(embeddings[self.beside], dtype=np.float32))
        return self

    @property
    def gone(self) -> int:
        """How many vectors of the graph belong to no product any more."""
        return int((self.product < 0).sum())

    @property
    def share(self) -> float:
        """How much has changed, as a share of the graph."""
        return (self.gone + len(self.beside)) / max(len(self.product), 1)

    def search(self, graph: Any, queries: np.ndarray, depth: int) -> np.ndarray:
        """Return the `depth` nearest products of each query, -1 where there are fewer."""
        scores, vectors = graph.search(queries, depth + min(self.gone, depth))
        products = np.where(vectors >= 0, self.product[vectors], -1)
        scores = np.where(products >= 0, scores, -np.inf)
        if len(self.beside):
            more, places = self.flat.search(queries, min(depth, len(self.beside)))
            products = np.concatenate([products, self.beside[places]], axis=1)
            scores = np.concatenate([scores, more], axis=1)
        best = np.argsort(-scores, axis=1, kind="stable")[:, :depth]
        return np.take_along_axis(products, best, axis=1)

    def save(self, path: Path) -> None:
        """Write both lists."""
        np.savez(path, product=self.product, beside=self.beside)

    @classmethod
    def load(cls, path: Path, embeddings: np.ndarray | Vectors) -> Drift:
        """Read what `save` wrote. `embeddings`: of all names."""
        with np.load(path, allow_pickle=False) as arrays:
            return cls(arrays["product"], arrays["beside"]).prepared(embeddings)
