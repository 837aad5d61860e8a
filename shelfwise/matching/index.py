"""The catalog as matching searches it: many names per product, several retrieval arms, one candidate list.

A product is known by its catalog title and by the lines vendors used for it in the past. Three arms look for a line:

* `title`:   character n-grams against catalog titles (typos, anything that keeps most letters);
* `word`:    words weighted by rarity against catalog titles, misspelt, shortened and glued words included;
* `alias`:   character n-grams against vendors' past lines (a vendor says it as another vendor said it);
* `encoder`: the trained encoder against catalog titles, through FAISS (abbreviations, other words) - optional.

The arms look at the rarest terms of a line first and stop at `postings` entries of the inverted index: the common ones
cost most and say least, and what they would have told is put right by the exact scores afterwards.

Each arm proposes names; names are folded into products, the union is scored by every arm and by pairs of characters
exactly, the best by the fused score are compared keystroke by keystroke (`strokes`), and the best by either stay.
Product and line text enter in the normal form of `shelfwise.text` only.
"""

from __future__ import annotations

import ctypes
import json
from collections.abc import Iterable, Sequence
from contextlib import suppress
from copy import copy
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
from scipy import sparse

from shelfwise.matching.incremental import MOST_DRIFT, Change, Drift, Kept, rows_of, rows_of_texts, same_rows
from shelfwise.matching.lexical import Lexical, UnitRows, WordMatrix, comparable, csr, distinct
from shelfwise.matching.reading import Read, Reader
from shelfwise.matching.strokes import ALL, Strokes, coded
from shelfwise.matching.vectors import Vectors

PRODUCT_COLUMNS = ("product_id", "title", "brand", "category", "price", "size")
HNSW_LINKS, HNSW_BUILD_WIDTH, LEAST_SEARCH_WIDTH, MAX_SEARCH_WIDTH = 16, 80, 32, 1024
LEAST_WIDTH_GAIN = 0.002  # in recall, for which it is worth doubling the width: rounding to 8 bits has its own limit
# A short line says little and is compared quickly: with as many products as make so many characters.
COMPARED_CHARACTERS, COMPARED_MOST = 400, 40
NAME_COLUMNS = ("product_id", "name", "source", "vendor_id")


class Encoder(Protocol):
    """What matching asks of an encoder (`shelfwise.matching.encoder.TitleEncoder` is one)."""

    def encode(self, titles: Sequence[str]) -> np.ndarray:
        """Return float32 [n, dim], rows of unit length."""


@dataclass(frozen=True)
class IndexConfig:
    """How the index searches. Depths are numbers of names per line and arm, `candidates` of products per line.

    `compared`: products per line (of a short one more) whose titles are compared with it keystroke by keystroke, from
    which the candidates are taken. `postings`: entries of the inverted index that are read per line. `exact_below`:
    names up to which FAISS searches exactly; above, with the recall wanted on a sample of names.
    """

    title_depth: int = 70
    word_depth: int = 25
    alias_depth: int = 30
    encoder_depth: int = 20  # 0: no arm of its own
    candidates: int = 10
    compared: int = 16
    postings: int = 8_000
    word_postings: int = 10_000
    exact_below: int = 50_000
    recall_wanted: float = 0.98
    recall_sample: int = 500
    threads: int = 2
    seed: int = 0


@dataclass
class Candidates:
    """Candidate products of a batch of lines, flat: one entry per (line, product), lines ascending.

    `line` and `product` are positions (in the batch, in `CatalogIndex.products`); `alias` is the position of the
    product's alias that is most like the line, -1 where it has none. Scores: `title`, `alias_score`, `word`,
    `encoder` (NaN where there is no encoder), each a cosine; `fused` is what they were cut by. `forms` are the lines'
    normal forms, `read` what was read in them, `strokes` what `Strokes.compare` says of line and catalog title.
    """

    n_lines: int
    line: np.ndarray
    product: np.ndarray
    alias: np.ndarray
    title: np.ndarray
    alias_score: np.ndarray
    word: np.ndarray
    encoder: np.ndarray
    fused: np.ndarray
    forms: list[str]
    read: Read
    strokes: np.ndarray

    def take(self, keep: np.ndarray) -> Candidates:
        """Return the entries at `keep` (positions or mask)."""
        arrays = {
            name: getattr(self, name)[keep]
            for name in ("line", "product", "alias", "title", "alias_score", "word", "encoder", "fused", "strokes")
        }
        return Candidates(n_lines=self.n_lines, forms=self.forms, read=self.read, **arrays)


def catalog_names(products: pd.DataFrame, earlier: CatalogIndex | None = None) -> Sequence[str]:
    """Return the searchable catalog name of each product: its title, with brand and size where the title lacks them.

    `earlier`: an index over names that were made here; those of products with the same title, brand and size are taken
    from it.
    """
    if earlier is not None:
        products = products.reindex(columns=list(PRODUCT_COLUMNS))
        rows = same_rows(
            rows_of(earlier.ids, products["product_id"]), earlier.products, products, ["title", "brand", "size"]
        )
        # Taken as a column: lists of so many strings would take longer than all the rest.
        taken = earlier.names["name"].iloc[np.maximum(rows, 0)] if len(earlier.names) else products["title"].copy()
        new = np.flatnonzero(rows < 0)
        taken.iloc[new] = catalog_names(products.iloc[new])
        return taken.array
    titles = _text(products, "title")
    forms = comparable(titles)
    names = list(titles)
    for column, before in (("brand", True), ("size", False)):
        if column not in products or products[column].isna().all():
            continue
        values = _text(products, column)
        for i, (value, value_form) in enumerate(zip(values, comparable(values), strict=True)):
            if value_form and value_form not in forms[i]:
                names[i] = f"{value} {names[i]}" if before else f"{names[i]} {value}"
    return names


def product_names(
    products: pd.DataFrame, positives: pd.DataFrame | None = None, earlier: CatalogIndex | None = None
) -> pd.DataFrame:
    """Return all names of all products: columns product_id, name, source ('catalog' or 'mapping'), vendor_id.

    Catalog names come first, in the order of `products`, one each. `positives` needs product_id, vendor_title,
    vendor_id (marts/labelled_positives); lines of unknown products are left out. `earlier`: see `catalog_names`.
    """
    catalog = pd.DataFrame(
        {
            "product_id": products["product_id"].astype(str).to_numpy(),
            "name": catalog_names(products, earlier),
            "source": "catalog",
            "vendor_id": None,
        }
    )
    if positives is None or positives.empty:
        return catalog
    known = positives[rows_of(pd.Index(catalog["product_id"]), positives["product_id"]) >= 0]
    known = known.sort_values(["product_id", "vendor_id", "vendor_title"], kind="stable")
    aliases = pd.DataFrame(
        {
            "product_id": known["product_id"].astype(str).to_numpy(),
            "name": known["vendor_title"].astype(str).to_numpy(),
            "source": "mapping",
            "vendor_id": known["vendor_id"].astype(str).to_numpy(),
        }
    )
    return pd.concat([catalog, aliases], ignore_index=True)


def embed_names(
    names: pd.DataFrame, encoder: Encoder, earlier: tuple[Sequence[str], np.ndarray] | None = None
) -> np.ndarray:
    """Return float32 [len(names), dim]: the encoder's embedding of each name, rows of unit length.

    `earlier`: names with their embeddings by the same encoder; only what is not among them is embedded.
    """
    texts = names["name"].tolist()
    if earlier is None or not len(earlier[0]):
        return np.ascontiguousarray(encoder.encode(texts), dtype=np.float32)
    source = rows_of_texts(list(earlier[0]), texts)
    embeddings = np.asarray(earlier[1])[np.maximum(source, 0)]
    embeddings[source < 0] = encoder.encode([text for text, row in zip(texts, source.tolist(), strict=True) if row < 0])
    return embeddings


@dataclass
class CatalogIndex:
    """Products and their names, ready to be searched. Make it with `build`, keep it with `save` and `load`; where the
    catalog has changed, `updated` gives the index of the new one in a fraction of the time.
    """

    products: pd.DataFrame
    names: pd.DataFrame
    lexical: Lexical
    config: IndexConfig
    embeddings: Vectors | None = None
    stats: dict[str, Any] = field(default_factory=dict)
    feature_maker: Any = field(default=None, repr=False, compare=False)  # see `FeatureMaker.of`
    strokes: Any = field(default=None, repr=False, compare=False)  # see `Strokes.of`
    checked: Any = field(default=None, repr=False, compare=False)  # the encoder that made the embeddings, once known
    change: Change | None = field(default=None, compare=False)  # what `updated` found
    vectors: Any = field(default=None, repr=False, compare=False)
    drift: Drift | None = field(default=None, repr=False, compare=False)  # of the catalog from that of `vectors`

    @classmethod
    def build(
        cls,
        products: pd.DataFrame,
        names: pd.DataFrame,
        lexical: Lexical,
        embeddings: np.ndarray | None = None,
        config: IndexConfig | None = None,
    ) -> CatalogIndex:
        """Build from parts.

        `products`: product_id, title and optionally brand, category, price, size. `names`: what `product_names`
        returns for them. `embeddings`: what `embed_names` returns for these names, or None for a lexical index.
        Raises ValueError where the parts do not belong together.
        """
        products, names = _tables(products, names)
        if embeddings is not None and len(embeddings) != len(names):
            raise ValueError(f"{len(embeddings)} embeddings for {len(names)} names")
        vectors = None if embeddings is None else Vectors.of(embeddings)
        made = cls(products, names, lexical, config or IndexConfig(), vectors)
        made._prepare(comparable(names["name"].tolist()), comparable(_text(products, "title")))
        made._build_vectors()
        return made

    def updated(self, products: pd.DataFrame, names: pd.DataFrame, encoder: Encoder | None = None) -> CatalogIndex:
        """Return the index of another state of the catalog, as `build` would give it with the same n-gram weights.

        Products and names that were added, changed or removed are found by comparing the tables; only texts that are
        new are read, and embedded by `encoder`, which must be the one that embedded the others. This index stays as it
        is: whoever searches it can go on. What was found stands in `change`. See `shelfwise.matching.incremental` for
        what equals a full build. Raises ValueError where the parts do not belong together, or an encoder is missing.
        """
        products, names = _tables(products, names)
        if self.embeddings is not None and encoder is None:
            raise ValueError("the index has embeddings: updating it takes the encoder that made them")
        kept = Kept.of(self, products, names)
        texts = names["name"][kept.names < 0].tolist()
        embeddings = None
        if self.embeddings is not None and encoder is not None:
            embeddings = self.embeddings.taken(kept.names, encoder.encode(texts))
        made = CatalogIndex(products, names, self.lexical, self.config, embeddings)
        forms = _taken_texts(self.forms, kept.names, comparable(texts))
        titles = comparable(_text(products[kept.titles < 0], "title"))
        made._prepare(forms, _taken_texts(self._plain_titles, kept.titles, titles), (self, kept.names))
        made.change = kept.change
        made._build_vectors((self, kept.named))
        return made

    @cached_property
    def ids(self) -> pd.Index:
        """The products' ids, to look up their positions."""
        return pd.Index(self.products["product_id"])

    # ---- derived arrays ---------------------------------------------------------------------------------------

    def _prepare(
        self, forms: list[str], plain_titles: list[str], earlier: tuple[CatalogIndex, np.ndarray] | None = None
    ) -> None:
        """Compute what searching needs: `forms` of the names, `plain_titles` the forms of the titles as they stand.

        `earlier`: an index with the same n-gram weights, and for each name its row there, -1 for those it lacks.
        """
        n = len(self.products)
        self.name_product = np.arange(len(self.names), dtype=np.int32)  # the catalog names stand first
        self.name_product[n:] = rows_of(self.ids, self.names["product_id"].iloc[n:])
        if (self.name_product[n:] < 0).any():
            raise ValueError("there are names of products that are not in the catalog")
        self.forms, self.title_forms = forms, forms[:n]
        # Mostly the same text, then held once.
        self._plain_titles = [a if a == b else b for a, b in zip(self.title_forms, plain_titles, strict=True)]
        if earlier is None:
            self.grams = self.lexical.ngrams.rows(self.forms)
            self.words = WordMatrix.build(self.forms, self.lexical.words)
            self.reader = Reader(self.words, n)
        else:
            former, source = earlier
            new = [forms[i] for i in np.flatnonzero(source < 0).tolist()]
            self.grams = former.grams.updated(source, self.lexical.ngrams.rows(new))
            self.words = former.words.updated(source, new, self.lexical.words)
            self.reader = Reader(self.words, n, former.reader.spelling.tables)
        self.grams_inverted = self.grams.inverted()
        self.title_words = UnitRows.of(self.words.matrix[:n], self.words.idf)
        self.words_inverted = self.title_words.inverted()
        alias_products = self.name_product[n:]
        order = np.argsort(alias_products, kind="stable")
        self.alias_order = (order + n).astype(np.int64)  # name positions of aliases, grouped by product
        self.alias_start = np.searchsorted(alias_products[order], np.arange(n + 1))
        self.bags = _union_rows(self.words.matrix, self.name_product, n)
        same = pd.factorize(pd.Series(plain_titles, dtype=object))[0]
        self.twin_group = same.astype(np.int32)  # products with one normal form of the title share a group

    def _build_vectors(self, earlier: tuple[CatalogIndex, np.ndarray] | None = None) -> None:
        """Build the FAISS index of the catalog names: exact where small, else a graph with a measured search width.

        Past lines are left to the n-grams: on 80,000 products their vectors hid more right answers than they found.
        `earlier`: an index whose graph may be kept, and for each product its row there, -1 without the same name.
        """
        self.vectors, self.drift = None, None
        self.stats = {"products": len(self.products), "names": len(self.names), "vectors": "none"}
        if self.embeddings is None or not len(self.embeddings) or not self.config.encoder_depth:
            return
        n = len(self.products)
        if earlier is not None and earlier[0].vectors is not None and n >= self.config.exact_below:
            former, kept = earlier
            if len(former.products) >= self.config.exact_below:
                drift = Drift.of(former, self.embeddings, kept)
                if drift.share <= MOST_DRIFT:
                    self.vectors, self.drift = former.vectors, drift
                    told = ("vectors", "search_width", "recall_at_10")
                    self.stats |= {name: former.stats[name] for name in told if name in former.stats}
                    self.stats |= {"vectors_beside": len(drift.beside), "vectors_gone": drift.gone}
                    return
        self.vectors, stats = build_vectors(self.embeddings[:n], self.config)
        self.stats |= stats

    # ---- views and persistence -----------------------------------------------------------------------------------

    def with_config(self, config: IndexConfig) -> CatalogIndex:
        """Return the index as it searches by another configuration; what is searched is shared."""
        made = copy(self)
        made.config = config
        made._build_vectors()
        return made

    def without_vendors(self, vendors: Iterable[str]) -> CatalogIndex:
        """Return the index as if these vendors had never sent a line: their aliases are gone from every arm.

        This is how training and evaluation simulate a vendor never seen.
        """
        return self.without_names(self.names["vendor_id"].isin(set(vendors)).to_numpy())

    def without_names(self, gone: np.ndarray) -> CatalogIndex:
        """Return the index as if these names (a mask) had never been sent; catalog names stay."""
        keep = np.flatnonzero(~gone | (np.arange(len(self.names)) < len(self.products)))
        embeddings = None if self.embeddings is None else self.embeddings.taken(keep, self.embeddings[:0])
        names = self.names.iloc[keep].reset_index(drop=True)
        made = CatalogIndex(self.products, names, self.lexical, self.config, embeddings)
        made._prepare([self.forms[i] for i in keep.tolist()], self._plain_titles, (self, keep))
        made._build_vectors((self, np.arange(len(self.products))))
        return made

    def save(self, directory: Path) -> None:
        """Write parquet, npz, npy and FAISS files; nothing is pickled."""
        directory.mkdir(parents=True, exist_ok=True)
        # With the normal forms, which take longer to make than everything else that is made on loading.
        self.products.assign(form=self._plain_titles).to_parquet(directory / "products.parquet", index=False)
        self.names.assign(form=self.forms).to_parquet(directory / "names.parquet", index=False)
        self.lexical.save(directory / "lexical")
        (directory / "index.json").write_text(
            json.dumps({"config": asdict(self.config), "stats": self.stats}, indent=2, sort_keys=True)
        )
        if self.embeddings is not None:
            np.save(directory / "embeddings.npy", self.embeddings.codes, allow_pickle=False)
            np.save(directory / "scales.npy", self.embeddings.scale, allow_pickle=False)
            if self.vectors is not None:
                import faiss

                faiss.write_index(self.vectors, str(directory / "vectors.faiss"))
                if self.drift is not None:
                    self.drift.save(directory / "drift.npz")

    @classmethod
    def load(cls, directory: Path) -> CatalogIndex:
        """Read what `save` wrote. Raises FileNotFoundError where it is not there."""
        raw = json.loads((directory / "index.json").read_text())
        embeddings = None
        if (directory / "embeddings.npy").exists():
            codes = np.load(directory / "embeddings.npy", mmap_mode="r", allow_pickle=False)
            embeddings = Vectors(codes, np.load(directory / "scales.npy", allow_pickle=False))
        products = pd.read_parquet(directory / "products.parquet")
        names = pd.read_parquet(directory / "names.parquet")
        forms, plain_titles = names.pop("form").tolist(), products.pop("form").tolist()
        made = cls(
            products,
            names,
            Lexical.load(directory / "lexical"),
            IndexConfig(**raw["config"]),
            embeddings,
        )
        made._prepare(forms, plain_titles)
        made.vectors, made.stats = None, raw["stats"]
        if (directory / "vectors.faiss").exists():
            import faiss

            made.vectors = faiss.read_index(str(directory / "vectors.faiss"))  # holds its search width
            if embeddings is not None and (directory / "drift.npz").exists():
                made.drift = Drift.load(directory / "drift.npz", embeddings)
        _give_back_memory()
        return made

    # ---- retrieval --------------------------------------------------------------------------------------------

    def positions(self, product_ids: Sequence[str | None]) -> np.ndarray:
        """Return positions in `products`, -1 for an id that is null or unknown."""
        return rows_of(self.ids, pd.Series(product_ids, dtype=object))

    def retrieve(
        self,
        titles: Sequence[str],
        k: int | None = None,
        embeddings: np.ndarray | None = None,
        hide: np.ndarray | None = None,
        also: np.ndarray | None = None,
    ) -> Candidates:
        """Return the best `k` products (default `config.candidates`) for each title, by the fused score.

        `embeddings`: the titles' embeddings, float32 [n, dim]; without them the encoder arm is silent. `hide`: for
        each title the position of a product to be treated as not in the catalog, with all products of the same
        title, or -1: how lines without a match are simulated. `also`: for each title the position of a product that
        is to be among its candidates whatever its score, or -1.
        """
        k = k or self.config.candidates
        forms, queries, read, words = self.read(titles)
        line, product = self._propose(queries, words, embeddings)
        if hide is not None:
            hidden_group = np.where(hide >= 0, self.twin_group[np.maximum(hide, 0)], -1)
            keep = self.twin_group[product] != hidden_group[line]
            line, product = line[keep], product[keep]
        if also is not None:
            asked = np.flatnonzero(also >= 0)
            n = len(self.products)
            union = distinct(np.concatenate([line * n + product, asked * n + also[asked]]))
            line, product = union // n, union % n
        title = self.grams.dots(queries, line, product)
        alias, alias_score = self._best_alias(queries, line, product)
        encoder = np.full(len(line), np.nan, np.float32)
        if embeddings is not None and self.embeddings is not None:
            encoder = self.embeddings.scores(embeddings, line, product)
            has = alias >= 0
            by_alias = self.embeddings.scores(embeddings, line[has], alias[has])
            encoder[has] = np.maximum(encoder[has], by_alias)
        word = self.title_words.dots(words, line, product)
        strokes, lines = Strokes.of(self), coded(forms)
        pairs = strokes.cosines(lines, line, product)
        fused = 0.6 * np.maximum(title, alias_score) + 1.25 * pairs + 0.65 * word + 0.3 * np.nan_to_num(encoder)
        asked_for = np.zeros(len(line), bool) if also is None else product == also[line]
        rank = ranks_by(line, -fused, product)
        length = np.maximum(np.diff(lines[0]), 1)
        most = np.maximum(np.clip(COMPARED_CHARACTERS // length, self.config.compared, COMPARED_MOST), k)
        kept = np.flatnonzero((rank < most[line]) | asked_for)
        line, product, rank = line[kept], product[kept], rank[kept]
        compared = strokes.compare(lines, line, product)
        found = Candidates(
            len(titles), line, product, alias[kept], title[kept], alias_score[kept], word[kept], encoder[kept],
            fused[kept], forms, read, compared,
        )  # fmt: skip
        # By the better of two ranks: what the scores put first, and, half as many, what needs the fewest keystrokes.
        either = np.minimum(rank, 2 * ranks_by(line, compared[:, ALL], rank) + 0.5)
        return found.take(np.flatnonzero((ranks_by(line, either, rank) < k) | asked_for[kept]))

    def read(self, titles: Sequence[str]) -> tuple[list[str], sparse.csr_matrix, Read, sparse.csr_matrix]:
        """Return normal forms, n-gram rows, what was read in them, and word rows of titles, as the arms take them."""
        forms = comparable(titles)
        read = self.reader.read(forms)
        return forms, self.lexical.ngrams.transform(forms), read, UnitRows.of(read.explained, self.words.idf).matrix()

    def _propose(
        self, queries: sparse.csr_matrix, words: sparse.csr_matrix, embeddings: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the union over arms of (line, product), sorted."""
        config, n = self.config, len(self.products)
        depths = config.title_depth, config.alias_depth
        rows, names = self.grams.propose(queries, self.grams_inverted, n, depths, config.postings)
        keys = [rows.astype(np.int64) * n + self.name_product[names]]
        depths = config.word_depth, 0
        rows, names = self.title_words.propose(words, self.words_inverted, n, depths, config.word_postings)
        keys.append(rows.astype(np.int64) * n + names)
        if embeddings is not None and self.vectors is not None:
            products = self._nearest(embeddings, config.encoder_depth)
            rows = np.repeat(np.arange(len(embeddings)), products.shape[1])
            found = products.ravel() >= 0
            keys.append((rows * n + products.ravel())[found])
        union = distinct(np.concatenate(keys)) if n else np.empty(0, np.int64)
        return (union // n, union % n) if n else (union, union)

    def _nearest(self, embeddings: np.ndarray, depth: int) -> np.ndarray:
        """Return the products [n, depth] whose names are nearest by the encoder, -1 where there are fewer."""
        if self.drift is not None:
            return self.drift.search(self.vectors, embeddings, depth)
        return self.vectors.search(embeddings, depth)[1]

    def _best_alias(
        self, queries: sparse.csr_matrix, line: np.ndarray, product: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return, per pair, the alias most like the line (-1: no alias) and its cosine."""
        from shelfwise.matching.kernels import best_of_groups

        return best_of_groups(*csr(queries), *self.grams.parts, line, product, self.alias_start, self.alias_order)


def rank_within(sorted_groups: np.ndarray) -> np.ndarray:
    """Return the position of each entry in its group; equal groups must be adjacent."""
    n = len(sorted_groups)
    if n == 0:
        return np.empty(0, np.int64)
    starts = np.flatnonzero(np.concatenate([[True], sorted_groups[1:] != sorted_groups[:-1]]))
    return np.arange(n) - np.repeat(starts, np.diff(np.append(starts, n)))


def ranks_by(line: np.ndarray, value: np.ndarray, then: np.ndarray) -> np.ndarray:
    """Return the rank of each entry in its line (equal ones adjacent) by ascending value, equal values by `then`."""
    from shelfwise.matching.kernels import list_order

    return list_order(line, value, then)


def build_vectors(embeddings: np.ndarray, config: IndexConfig) -> tuple[Any, dict[str, Any]]:
    """Return a FAISS inner-product index and what is to be said about it.

    Exact below `config.exact_below` names. Above, a graph (HNSW; Malkov and Yashunin 2018) over vectors of 8 bits a
    number, or of 32 where that is too coarse, whose search width is the smallest power of two, from 32 on, with recall
    at 10 of `config.recall_wanted` against exact search on a sample of the names themselves. Measured on 95,000 names
    of many near twins, an inverted file needed half of its lists for the same recall and was ten times slower; on
    80,000 titles, 8 bits instead of 32 left recall at 0.98 and took a third of the time.
    """
    import faiss

    dim = embeddings.shape[1]
    flat = faiss.IndexFlatIP(dim)
    flat.add(embeddings)
    if len(embeddings) < config.exact_below:
        return flat, {"vectors": "exact", "recall_at_10": 1.0}
    sample = np.sort(np.random.default_rng(config.seed).permutation(len(embeddings))[: config.recall_sample])
    _, truth = flat.search(embeddings[sample], 10)
    graph: Any = None
    stats: dict[str, Any] = {}
    for bits, storage in ((8, "SQ8"), (32, "Flat")):
        graph = faiss.index_factory(dim, f"HNSW{HNSW_LINKS},{storage}", faiss.METRIC_INNER_PRODUCT)
        _fill(graph, embeddings)
        stats = {"vectors": f"HNSW{HNSW_LINKS}, {bits} bits", **_search_width(graph, embeddings[sample], truth, config)}
        if stats["recall_at_10"] >= config.recall_wanted:
            break
    return graph, stats


def _fill(graph: Any, embeddings: np.ndarray) -> None:
    """Add vectors by one thread, so that the same ones give the same graph."""
    import faiss

    graph.hnsw.efConstruction = HNSW_BUILD_WIDTH
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        graph.train(embeddings)
        graph.add(embeddings)
    finally:
        faiss.omp_set_num_threads(threads)


def _search_width(graph: Any, queries: np.ndarray, truth: np.ndarray, config: IndexConfig) -> dict[str, float]:
    """Set the smallest width that reaches the recall wanted, or the last one that still gained; return what it is."""
    width, recall = LEAST_SEARCH_WIDTH, -1.0
    while True:
        graph.hnsw.efSearch = width
        _, found = graph.search(queries, 10)
        before, recall = recall, float(np.mean([len(set(a) & set(b)) / 10 for a, b in zip(truth, found, strict=True)]))
        if recall >= config.recall_wanted or width >= MAX_SEARCH_WIDTH or recall - before < LEAST_WIDTH_GAIN:
            return {"search_width": width, "recall_at_10": recall}
        width *= 2


def _union_rows(matrix: sparse.csr_matrix, group: np.ndarray, n: int) -> sparse.csr_matrix:
    """Return for each group which columns any of its rows holds, as 0/1 rows [n, columns]."""
    member = sparse.csr_matrix((np.ones(len(group), np.float32), (group, np.arange(len(group)))), shape=(n, len(group)))
    summed = (member @ matrix).tocsr()
    summed.data = np.ones_like(summed.data)
    summed.sort_indices()
    return summed


def _tables(products: pd.DataFrame, names: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the two with the columns an index holds. Raises ValueError where they do not belong together."""
    products = products.reset_index(drop=True).reindex(columns=list(PRODUCT_COLUMNS))
    names = names.reset_index(drop=True)[list(NAME_COLUMNS)]
    n = len(products)
    if len(names) < n or not (names["product_id"].to_numpy()[:n] == products["product_id"].to_numpy()).all():
        raise ValueError("names must begin with one catalog name per product, in the order of products")
    return products, names


def _taken_texts(before: list[str], source: np.ndarray, new: list[str]) -> list[str]:
    """Return texts of `before`, and of `new` in their order where `source` is -1."""
    fresh = iter(new)
    return [before[row] if row >= 0 else next(fresh) for row in source.tolist()]


def _give_back_memory() -> None:
    """Give the system what reading has used and needs no more: Arrow and the C library would keep it for the next time,
    which for an index that stays loaded is never.
    """
    import pyarrow as pa

    pa.default_memory_pool().release_unused()
    with suppress(OSError, AttributeError):  # not every C library can
        ctypes.CDLL(None).malloc_trim(0)


def _text(frame: pd.DataFrame, column: str) -> list[str]:
    return ["" if value is None or value != value else str(value) for value in frame[column].tolist()]
