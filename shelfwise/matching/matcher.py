"""The matcher: everything that is fitted, in one directory, and the one way to use it.

    lexical = Lexical.fit(names["name"])                       # or Matcher.fit does it
    index = CatalogIndex.build(products, names, lexical, embeddings)
    matcher = Matcher.fit(valid_lines, index, encoder_dir)     # lines: vendor_id, vendor_title, product_id
    matcher.save(directory)
    matches = Matcher.load(directory).match(upload_lines, index)

An index belongs to a matcher: its embeddings must come from the matcher's encoder. `Matcher.build_index` makes one
that does, and `match` refuses one that does not.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from shelfwise.matching.decisions import Policy, Thresholds
from shelfwise.matching.features import FEATURE_NAMES, FeatureMaker
from shelfwise.matching.guarantee import Guarantee, Sample
from shelfwise.matching.index import Candidates, CatalogIndex, Encoder, IndexConfig, embed_names, rank_within
from shelfwise.matching.lexical import Lexical, comparable
from shelfwise.matching.scorer import Scorer, ScorerConfig, best_rows, deal
from shelfwise.matching.splits import hashed_share

if TYPE_CHECKING:
    from shelfwise.matching.explain import Explanation, Reasons
    from shelfwise.matching.rerank import Reranker

MATCH_COLUMNS = (
    "line_id",
    "row",
    "vendor_id",
    "file",
    "title",
    "rank",
    "product_id",
    "product_title",
    "score",
    "decision",
)
FORMAT = 3  # of decisions.json and what lies beside it
CHUNK = 2048
MOST_HIDDEN, MOST_PARTS = 0.1, 5  # see `_vendor_parts`
Progress = Callable[[int, int], None]


@dataclass
class Ranked:
    """The best candidates of lines, flat: entries of one line adjacent, in order of rank (0 first)."""

    n_lines: int
    line: np.ndarray
    rank: np.ndarray
    product: np.ndarray
    score: np.ndarray

    def top(self, k: int) -> np.ndarray:
        """Return product positions [n_lines, k], -1 where there are fewer candidates."""
        out = np.full((self.n_lines, k), -1, np.int64)
        inside = self.rank < k
        out[self.line[inside], self.rank[inside]] = self.product[inside]
        return out

    def first(self, k: int) -> Ranked:
        """Return the first `k` candidates of each line."""
        kept = self.rank < k
        return Ranked(self.n_lines, self.line[kept], self.rank[kept], self.product[kept], self.score[kept])

    def best_score(self) -> np.ndarray:
        """Return the score of each line's best candidate, 0 where it has none."""
        out = np.zeros(self.n_lines)
        first = self.rank == 0
        out[self.line[first]] = self.score[first]
        return out


def in_order(work: Callable[[Any], Any], items: Sequence[Any], threads: int) -> Iterator[Any]:
    """Yield `work(item)` in the order of items, computed in threads, at most `threads` + 1 results at a time."""
    if threads <= 1 or len(items) <= 1:
        yield from map(work, items)
        return
    with ThreadPoolExecutor(threads, initializer=_one_thread_each) as pool:
        pending: deque[Future[Any]] = deque()
        try:
            for item in items:
                pending.append(pool.submit(work, item))
                if len(pending) > threads:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()


def _one_thread_each() -> None:
    """Keep FAISS from starting threads of its own for each of ours; the setting is the calling thread's."""
    faiss = sys.modules.get("faiss")
    if faiss is not None:
        faiss.omp_set_num_threads(1)


class Matcher:
    """Encoder (optional), lexical weights, scorer, calibration and thresholds."""

    def __init__(
        self,
        lexical: Lexical,
        scorer: Scorer | None = None,
        encoder: Encoder | None = None,
        encoder_dir: Path | None = None,
        thresholds: Thresholds | None = None,
        policy: Policy | None = None,
        sample: Sample | None = None,
        index_config: IndexConfig | None = None,
    ):
        """`sample`: what became of lines unseen in training; `policy` derives the thresholds from it, unless
        `thresholds` gives them. `index_config`: how the index it was fitted on searches, and those it builds will.
        """
        self.lexical = lexical
        self.scorer = scorer or Scorer()
        self.encoder = encoder
        self.encoder_dir = encoder_dir
        self.policy = policy or Policy()
        self.sample = sample or Sample()
        self.guarantee = Guarantee.of(self.sample, self.policy.goal)
        self.thresholds = thresholds or self.policy.thresholds(self.guarantee)
        self.index_config = index_config or IndexConfig()
        self.reranker: Reranker | None = None  # looks at uncertain lines again where it was set (`rerank`)

    @classmethod
    def fit(
        cls,
        lines: pd.DataFrame,
        index: CatalogIndex,
        encoder_dir: Path | None = None,
        encoder: Encoder | None = None,
        config: ScorerConfig | None = None,
        thresholds: Thresholds | None = None,
        no_match_share: float = 0.25,
        progress: Progress | None = None,
        policy: Policy | None = None,
    ) -> Matcher:
        """Fit scorer, calibration and thresholds on lines whose vendors and products the encoder has not seen (the
        valid part).

        `lines`: vendor_id, vendor_title, product_id. `index`: over the whole catalog with all known aliases; those of
        a line's own vendor are hidden from it here, as if the vendor were new, together with those of a few others
        (`_vendor_parts`). Lines are looked at in two views: with the names other vendors gave their products, and as if
        nobody had ever sent a line of these products. In either,
        `no_match_share` of the products (by hash) are hidden from their lines a second time, which makes lines that
        match nothing. `encoder`: a loaded encoder; else it is loaded from `encoder_dir`; None for a lexical matcher.
        `policy`: how thresholds are derived from scores of trees that saw neither vendor nor product of the line.
        """
        if encoder is None and encoder_dir is not None:
            encoder = _load_encoder(encoder_dir)
        made = cls(index.lexical, Scorer(config), encoder, encoder_dir)
        lines = lines.sort_values(["vendor_id", "vendor_title", "product_id"], kind="stable").reset_index(drop=True)
        lines["product_id"] = lines["product_id"].astype(str)
        looked, x, named, product, line = [], [], [], [], []
        n = 0
        for one in _looks(lines, index, no_match_share):
            titles = lines["vendor_title"].astype(str).to_numpy()[one.rows].tolist()
            prices = line_prices(lines, one.rows)
            for start, found, features in made._each_chunk(lambda x: x, titles, one.view, prices, one.hide, progress):
                x.append(features)
                named.append(has_names(one.view, found.product))
                product.append(found.product)
                line.append(found.line + start + n)
            n += len(one.rows)
            looked.append(replace(one, view=index))  # the view itself is no longer needed
        rows, wanted, typical = (
            np.concatenate([getattr(one, name) for one in looked]) for name in ("rows", "wanted", "typical")
        )
        known_view = np.repeat([one.known for one in looked], [len(one.rows) for one in looked])
        vendors, ids = (lines[name].astype(str).to_numpy(str)[rows] for name in ("vendor_id", "product_id"))
        features = np.concatenate([np.empty((0, len(FEATURE_NAMES)), np.float32), *x])
        products, lines_of = (np.concatenate([np.empty(0, np.int64), *parts]) for parts in (product, line))
        x.clear()
        made.scorer.fit(features, (products == wanted[lines_of]).astype(np.int8), lines_of, ids, typical, vendors)
        at = best_rows(lines_of, made.scorer.unseen)
        best, score = np.full(len(rows), -1, np.int64), np.zeros(len(rows))
        best_named, some = np.zeros(len(rows), bool), lines_of[at]
        best[some], score[some] = products[at], made.scorer.calibration(made.scorer.unseen[at])
        best_named[some] = np.concatenate([np.empty(0, bool), *named])[at]
        category = np.full(len(rows), "", dtype=object)
        category[some] = categories(index, best[some])
        sample = Sample(
            score, (best >= 0) & (best == wanted), wanted >= 0, best_named, known_view, vendors, ids,
            category.astype(str), made.scorer.held_apart,
        ).take(np.flatnonzero(typical))  # fmt: skip
        return cls(index.lexical, made.scorer, encoder, encoder_dir, thresholds, policy, sample, index.config)

    def decide(
        self,
        product: np.ndarray,
        score: np.ndarray,
        vendors: Sequence[str] | None,
        index: CatalogIndex,
        thresholds: Thresholds | None = None,
    ) -> np.ndarray:
        """Return the decision of each line. `product`: position of its best candidate, -1 for none; `score`: its score;
        `thresholds`: instead of the matcher's own.
        """
        thresholds, some = thresholds or self.thresholds, product >= 0
        known = np.zeros(len(product), bool)
        category = np.full(len(product), "", dtype=object)
        known[some], category[some] = has_names(index, product[some]), categories(index, product[some])
        return thresholds.decide(score, known, vendors, category.tolist())

    def build_index(
        self,
        products: pd.DataFrame,
        names: pd.DataFrame,
        embeddings: np.ndarray | None = None,
        config: IndexConfig | None = None,
    ) -> CatalogIndex:
        """Return an index this matcher can use; names are embedded here unless their embeddings are given.

        `config`: by default that of the index the matcher was fitted on.
        """
        if embeddings is None and self.encoder is not None:
            embeddings = embed_names(names, self.encoder)
        return CatalogIndex.build(products, names, self.lexical, embeddings, config or self.index_config)

    def update_index(self, index: CatalogIndex, products: pd.DataFrame, names: pd.DataFrame) -> CatalogIndex:
        """Return the index of another state of the catalog, as `build_index` would make it, from the one there is.

        Only names with a new text are read and embedded (see `CatalogIndex.updated`); `product_names(products,
        positives, index)` makes the names in the same way. The index given stays as it is. Raises ValueError where it
        was embedded by another encoder.
        """
        self.check_index(index)
        made = index.updated(products, names, self.encoder)
        made.checked = self.encoder
        return made

    def check_index(self, index: CatalogIndex) -> None:
        """Raise ValueError where the index's embeddings are not those of this matcher's encoder."""
        if (self.encoder is None) != (index.embeddings is None):
            raise ValueError("the index and the matcher must both have an encoder, or neither")
        if self.encoder is None or index.embeddings is None or not len(index.names) or index.checked is self.encoder:
            return
        probe = np.unique(np.linspace(0, len(index.names) - 1, 4).astype(int))
        ours = self.encoder.encode(index.names["name"].iloc[probe].tolist())
        theirs = index.embeddings[probe]
        if ours.shape != theirs.shape or np.abs(ours - theirs).max() > 0.02:
            raise ValueError("the index was embedded by another encoder; build it with Matcher.build_index")
        index.checked = self.encoder

    def rank_lines(
        self,
        titles: list[str],
        index: CatalogIndex,
        k: int = 5,
        prices: np.ndarray | None = None,
        hide: np.ndarray | None = None,
        progress: Progress | None = None,
        reasons: Reasons | None = None,
    ) -> Ranked:
        """Return the `k` best products of each title. `hide`: see `CatalogIndex.retrieve`. `reasons`: is told what
        explains the best product of each line.
        """
        self.check_index(index)
        depth = k if self.reranker is None else self.reranker.depth(k)
        lines, ranks, products, scores = [], [], [], []

        def work(features: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
            return self.scorer.raw(features), None if reasons is None else features

        for start, found, (raw, features) in self._each_chunk(work, titles, index, prices, hide, progress):
            score = self.scorer.probabilities(raw, found.line)
            # Equal scores: the more similar, then the earlier product, so that the same input gives the same output.
            order = np.lexsort((found.product, -found.fused, -raw, found.line))
            rank = rank_within(found.line[order])
            if reasons is not None and features is not None:
                reasons.add(start, found, features, raw, score, order, rank, prices)
            kept, rank = order[rank < depth], rank[rank < depth]
            lines.append(found.line[kept] + start)
            ranks.append(rank)
            products.append(found.product[kept])
            scores.append(score[kept])

        def joined(parts: list[np.ndarray], dtype: type) -> np.ndarray:
            return np.concatenate(parts).astype(dtype) if parts else np.empty(0, dtype)

        ranked = Ranked(
            len(titles),
            joined(lines, np.int64),
            joined(ranks, np.int64),
            joined(products, np.int64),
            joined(scores, np.float64),
        )
        if self.reranker is None:
            return ranked
        return self.reranker.rerank(ranked, titles, index, self.thresholds, reasons).first(k)

    def _each_chunk(
        self,
        then: Callable[[np.ndarray], Any],
        titles: list[str],
        index: CatalogIndex,
        prices: np.ndarray | None,
        hide: np.ndarray | None,
        progress: Progress | None,
    ) -> Iterator[tuple[int, Candidates, Any]]:
        """Yield (first line, candidates, `then(features)`) chunk by chunk, which bounds the memory.

        Chunks are worked on in threads, each chunk by one: nearly all the work is in libraries that let go of the
        interpreter lock. Results come in order.
        """
        maker = FeatureMaker.of(index)

        def work(start: int) -> tuple[int, Candidates, Any]:
            part = slice(start, start + CHUNK)
            chunk = titles[part]
            embeddings = self.encoder.encode(chunk) if self.encoder is not None else None
            found = index.retrieve(chunk, embeddings=embeddings, hide=None if hide is None else hide[part])
            return start, found, then(maker.features(found, None if prices is None else prices[part]))

        for start, found, made in in_order(work, range(0, len(titles), CHUNK), index.config.threads):
            yield start, found, made
            if progress is not None:
                progress(min(start + CHUNK, len(titles)), len(titles))

    def match(
        self,
        lines: pd.DataFrame,
        index: CatalogIndex,
        k: int = 5,
        progress: Progress | None = None,
        explain: bool = False,
    ) -> pd.DataFrame:
        """Return the `k` best products of each line: columns `MATCH_COLUMNS`, by line in input order, then rank.

        `lines`: uploads/upload_lines (line_id, row, vendor_id, file, title; brand and price where known). Every line
        has at least its rank 1 row: with product_id null, score 0 and decision no_match where nothing resembles it.
        The decision is the line's, repeated on its ranks. `progress(done, all)` is called as lines are done.
        `explain`: with a column `why`, on rank 1 what agreed and conflicted (`Explanation.text`), null on other ranks.
        """
        titles, reasons = searched_titles(lines), None
        if explain:
            from shelfwise.matching.explain import Explainer, Reasons

            vendors = lines["vendor_id"].tolist() if "vendor_id" in lines else None
            reasons = Reasons(Explainer(self.scorer, index), titles, vendors)
        ranked = self.rank_lines(titles, index, k, line_prices(lines), None, progress, reasons)
        vendors = [str(v) for v in lines["vendor_id"]] if "vendor_id" in lines else None
        decisions = self.decide(ranked.top(1)[:, 0], ranked.best_score(), vendors, index)
        lonely = np.setdiff1d(np.arange(len(lines)), ranked.line)
        line = np.concatenate([ranked.line, lonely]).astype(np.int64)
        order = np.argsort(line, kind="stable")
        product = np.concatenate([ranked.product, np.full(len(lonely), -1)])[order].astype(np.int64)
        line = line[order]
        given = ("line_id", "row", "vendor_id", "file", "title")
        columns = {name: lines[name].array.take(line) if name in lines else None for name in given}
        columns["rank"] = (np.concatenate([ranked.rank, np.zeros(len(lonely), np.int64)])[order] + 1).astype("int64")
        for column, name in (("product_id", "product_id"), ("product_title", "title")):
            # Position -1 takes null, whatever the catalog's column holds its text in.
            named = index.products[name].array.take(product, allow_fill=True)
            columns[column] = pd.array(named, dtype="str")
        columns["score"] = np.concatenate([ranked.score, np.zeros(len(lonely))])[order]
        columns["decision"] = decisions[line]
        if reasons is not None:
            first = columns["rank"] == 1
            why = [reasons.text(i) if told else None for i, told in zip(line.tolist(), first.tolist(), strict=True)]
            columns["why"] = pd.array(why, dtype="str")
        return pd.DataFrame(columns, index=range(len(line)))

    def explain(
        self,
        title: str,
        product_id: str | None,
        index: CatalogIndex,
        vendor_id: str | None = None,
        brand: str | None = None,
        price: float | None = None,
    ) -> Explanation:
        """Explain the score of any product of the index for a vendor's line; None explains the line's best product.

        Raises ValueError for a product that is not in the index.
        """
        from shelfwise.matching.explain import explain

        line = {"title": [title], "vendor_id": [vendor_id], "brand": [brand], "price": [price]}
        return explain(self, pd.DataFrame(line), product_id, index)

    def save(self, directory: Path) -> None:
        """Write scorer.*, calibration.json, decisions.json, sample.npz, lexical/ and a copy of encoder/."""
        directory.mkdir(parents=True, exist_ok=True)
        self.scorer.save(directory)
        self.lexical.save(directory / "lexical")
        self.sample.save(directory / "sample.npz")
        described = {
            "format": FORMAT,
            "policy": asdict(self.policy),
            "thresholds": self.thresholds.to_json(),
            "guarantee": self.guarantee.to_json(),
            "index": asdict(self.index_config),
        }
        (directory / "decisions.json").write_text(json.dumps(described, indent=2, sort_keys=True))
        if self.encoder_dir is not None and Path(self.encoder_dir) != directory / "encoder":
            shutil.copytree(self.encoder_dir, directory / "encoder", dirs_exist_ok=True)
        if self.reranker is not None:
            self.reranker.save(directory / "reranker")

    @classmethod
    def load(cls, directory: Path, thresholds: Thresholds | None = None, policy: Policy | None = None) -> Matcher:
        """Read what `save` wrote; `policy` replaces the saved one (thresholds are derived again, from the sample saved
        with the matcher), `thresholds` both.

        Raises FileNotFoundError where it is not there, ValueError where another version made it.
        """
        directory = Path(directory)
        encoder_dir = directory / "encoder"
        has_encoder = encoder_dir.is_dir()
        scorer = Scorer.load(directory)
        try:
            saved = json.loads((directory / "decisions.json").read_text())
        except FileNotFoundError:
            saved = {}
        if saved.get("format") != FORMAT:
            raise ValueError(f"the matcher in {directory} was made by another version; train it again")
        if policy is None:
            policy = Policy.from_json(saved["policy"])
            thresholds = thresholds or Thresholds.from_json(saved["thresholds"])
        made = cls(
            Lexical.load(directory / "lexical"),
            scorer,
            _load_encoder(encoder_dir) if has_encoder else None,
            encoder_dir if has_encoder else None,
            thresholds,
            policy,
            Sample.load(directory / "sample.npz"),
            IndexConfig(**saved["index"]),
        )
        if (directory / "reranker").is_dir():
            from shelfwise.matching.rerank import Reranker

            made.reranker = Reranker.load(directory / "reranker")
        return made


def has_names(index: CatalogIndex, product: np.ndarray) -> np.ndarray:
    """Return for each product (a position) whether it has names by vendors."""
    return index.alias_start[product + 1] > index.alias_start[product]


def categories(index: CatalogIndex, product: np.ndarray) -> np.ndarray:
    """Return the root category of each product (a position), '' where it has none."""
    found = index.products["category"].take(product)
    return np.array(["" if c is None or c != c else str(c).split(" > ")[0] for c in found], object)


@dataclass(frozen=True)
class _Look:
    """Lines as one view of the catalog shows them. `rows`: their positions; a line whose product is hidden from it
    stands there a second time. `hide`: that product, or -1. `wanted`: the line's product, -1 where it is hidden.
    `typical`: of a line that stands there twice, the one without its product, which is what calibration takes. `known`:
    the view holds the names that other vendors gave the lines' products.
    """

    view: CatalogIndex
    known: bool
    rows: np.ndarray
    hide: np.ndarray
    wanted: np.ndarray
    typical: np.ndarray


def _looks(lines: pd.DataFrame, index: CatalogIndex, no_match_share: float) -> Iterator[_Look]:
    """Yield the lines of each part of the vendors, in both views where the products have names by others."""
    for part in _vendor_parts(lines["vendor_id"], index):
        some = lines.iloc[part]
        seen = index.without_vendors(some["vendor_id"].unique())
        as_new = seen.without_names(seen.names["product_id"].isin(set(some["product_id"])).to_numpy())
        truth = index.positions(some["product_id"].tolist())
        hidden = np.flatnonzero(hashed_share(some["product_id"], no_match_share, 1) & (truth >= 0))
        at = np.concatenate([np.arange(len(part)), hidden]).astype(np.int64)
        hide, typical = np.full(len(at), -1, np.int64), np.ones(len(at), bool)
        hide[len(part) :] = truth[hidden]
        typical[hidden] = False
        wanted = np.where(hide >= 0, -1, truth[at])
        if len(as_new.names) < len(seen.names):
            yield _Look(seen, True, part[at], hide, wanted, typical)
        yield _Look(as_new, False, part[at], hide, wanted, typical)


def _vendor_parts(vendors: pd.Series, index: CatalogIndex) -> list[np.ndarray]:
    """Return positions of lines by part of their vendors.

    A line must not see its own vendor's past lines; were those of all fitted vendors hidden at once, rivals would lack
    the names they have in use, and the evidence would be that of another index. So parts are made of which each hides
    about `MOST_HIDDEN` of the past lines. Source: cross-fitting (Schick 1986), by vendor.
    """
    past = index.names["vendor_id"].dropna()
    share = past.isin(set(vendors)).sum() / max(len(past), 1)
    parts = int(np.clip(np.ceil(share / MOST_HIDDEN), 1, min(MOST_PARTS, max(vendors.nunique(), 1))))
    part = deal(vendors.astype(str).to_numpy(), parts, 0)
    return [np.flatnonzero(part == k) for k in range(parts)]


def searched_titles(lines: pd.DataFrame) -> list[str]:
    """Return what is searched for each upload line: its title, after its brand where the title does not name it."""
    titles = ["" if t is None or t != t else str(t) for t in lines["title"].tolist()]
    if "brand" not in lines or lines["brand"].isna().all():
        return titles
    brands = ["" if b is None or b != b else str(b) for b in lines["brand"].tolist()]
    forms, brand_forms = comparable(titles), comparable(brands)
    return [
        f"{brand} {title}" if brand_form and brand_form not in form else title
        for title, form, brand, brand_form in zip(titles, forms, brands, brand_forms, strict=True)
    ]


def _load_encoder(directory: Path) -> Encoder:
    from shelfwise.matching.encoder import TitleEncoder

    return TitleEncoder.load(directory)


def line_prices(lines: pd.DataFrame, rows: np.ndarray | None = None) -> np.ndarray | None:
    """Return the prices of upload lines, NaN where unknown, None without a column of them."""
    if "price" not in lines:
        return None
    prices = pd.to_numeric(lines["price"], errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    return prices if rows is None else prices[rows]
