"""An index that followed its catalog step by step is the index of a full build."""

from __future__ import annotations

import dataclasses
import random

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from shelfwise.matching.features import FeatureMaker
from shelfwise.matching.incremental import Change
from shelfwise.matching.index import CatalogIndex, IndexConfig, embed_names, product_names
from shelfwise.matching.lexical import Lexical, UnitRows
from shelfwise.matching.matcher import Matcher
from shelfwise.matching.strokes import Strokes
from shelfwise.matching.vectors import Vectors
from tests.unit.matching_samples import LetterEncoder, catalog, noisy, positives

CONFIG = IndexConfig(threads=1)
WORDS = (
    "Zorgon",
    "Heronfal",
    "kraft",
    "Beac",
    "Falcn",
    "qx200",
    "qx-200",
    "12x75cl",
    "1L",
    "Norvik Heron",
    "450 g",
    "Ω3",
)


@pytest.fixture(scope="module")
def products() -> pd.DataFrame:
    return catalog().iloc[::3].reset_index(drop=True)


@pytest.fixture(scope="module")
def lines(products) -> pd.DataFrame:
    return positives(products, n=250)


@pytest.fixture(scope="module", params=["lexical", "encoder"])
def matcher(request, products, lines) -> Matcher:
    encoder = LetterEncoder() if request.param == "encoder" else None
    names = product_names(products, lines)
    embeddings = None if encoder is None else embed_names(names, encoder)
    index = CatalogIndex.build(products, names, Lexical.fit(names["name"].tolist()), embeddings, CONFIG)
    return Matcher.fit(lines, index, encoder=encoder)


def built(matcher: Matcher, products: pd.DataFrame, lines: pd.DataFrame, config: IndexConfig = CONFIG) -> CatalogIndex:
    return matcher.build_index(products, product_names(products, lines), config=config)


def same(left: object, right: object) -> None:
    """Whatever an index is made of."""
    if sparse.issparse(left):
        assert left.shape == right.shape
        assert left.dtype == right.dtype
        left, right = (left.indptr, left.indices, left.data), (right.indptr, right.indices, right.data)
    if isinstance(left, tuple):
        for one, other in zip(left, right, strict=True):
            same(one, other)
    elif isinstance(left, UnitRows | Vectors):
        same(tuple(vars(left).values()), tuple(vars(right).values()))
    elif isinstance(left, np.ndarray):
        np.testing.assert_array_equal(left, right)
    elif isinstance(left, pd.DataFrame):
        pd.testing.assert_frame_equal(left, right)
    elif isinstance(left, dict):
        assert list(left.items()) == list(right.items())
    else:
        assert left == right


def assert_same_index(left: CatalogIndex, right: CatalogIndex) -> None:
    of_index = (
        "products", "names", "forms", "title_forms", "_plain_titles", "name_product", "grams", "grams_inverted",
        "title_words", "words_inverted", "alias_order", "alias_start", "bags", "twin_group", "embeddings", "stats",
    )  # fmt: skip
    for name in of_index:
        same(getattr(left, name), getattr(right, name))
    for name in ("vocabulary", "idf", "matrix", "starts", "tokens"):
        same(getattr(left.words, name), getattr(right.words, name))
    for name in ("quantity_column", "quantity_dimension", "value_column"):
        same(getattr(left.reader, name), getattr(right.reader, name))
    same(left.reader.spelling.words, right.reader.spelling.words)
    for kind in (FeatureMaker, Strokes):
        ours, theirs = vars(kind.of(left)), vars(kind.of(right))
        for name in sorted(set(ours) - {"index", "reader", "kinds", "_names_sorted"}):
            same(ours[name], theirs[name])


def queries(products: pd.DataFrame, lines: pd.DataFrame, rng: random.Random) -> list[str]:
    """Lines old and new, titles gone and there, and nonsense."""
    titles = products["title"].tolist()
    some = [noisy(title, rng) for title in rng.sample(titles, min(15, len(titles))) if len(title.split()) > 4]
    some += rng.sample(lines["vendor_title"].tolist(), min(15, len(lines)))
    return [*some, *WORDS, "norvik heron single malt whisky 10yr 700ml", "", "999"]


def assert_same_answers(matcher: Matcher, left: CatalogIndex, right: CatalogIndex, titles: list[str]) -> None:
    vectors = None if matcher.encoder is None else matcher.encoder.encode(titles)
    ours, theirs = left.retrieve(titles, embeddings=vectors), right.retrieve(titles, embeddings=vectors)
    for name in ("line", "product", "alias", "title", "alias_score", "word", "encoder", "fused"):
        np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name))
    batch = pd.DataFrame({"line_id": range(len(titles)), "vendor_id": "v", "title": titles, "price": 9.5})
    pd.testing.assert_frame_equal(matcher.match(batch, left), matcher.match(batch, right))


class Shop:
    """A catalog and its vendors' lines, to which things happen."""

    def __init__(self, products: pd.DataFrame, lines: pd.DataFrame, seed: int):
        self.products, self.lines, self.rng, self.made = products, lines, random.Random(seed), 0

    def step(self) -> None:
        for _ in range(self.rng.randrange(1, 4)):
            self.rng.choice((self.add, self.remove, self.rename, self.resize, self.reprice, self.twin))()
            self.rng.choice((self.learn, self.forget, self.move, self.shuffle))()

    def some(self, most: int) -> list[int]:
        return self.rng.sample(range(len(self.products)), min(self.rng.randrange(1, most), len(self.products)))

    def words(self) -> str:
        return " ".join(self.rng.choices(WORDS, k=self.rng.randrange(0, 5)))

    def put(self, column: str, value: object, rows: list[int]) -> None:
        self.products = self.products.copy()
        self.products.loc[self.products.index[rows], column] = value

    def add(self) -> None:
        rows = [
            {"product_id": f"N{self.made + i:03d}", "title": self.words(), "category": "Shop > Gin", "price": 7.0 + i,
             "brand": self.rng.choice(("Norvik", None, "Zorgon")), "size": self.rng.choice(("1kg", None))}
            for i in range(self.rng.randrange(1, 5))
        ]  # fmt: skip
        self.made += len(rows)
        at = self.rng.randrange(len(self.products) + 1)
        parts = [self.products.iloc[:at], pd.DataFrame(rows), self.products.iloc[at:]]
        self.products = pd.concat([part for part in parts if len(part)], ignore_index=True)

    def remove(self) -> None:
        self.products = self.products.drop(index=self.products.index[self.some(8)])

    def rename(self) -> None:
        for row in self.some(4):
            self.put("title", f"{self.products['title'].iloc[row]} {self.words()}", [row])

    def resize(self) -> None:
        self.put("size", self.rng.choice(("50ml", "2kg", None)), self.some(5))

    def reprice(self) -> None:
        self.put("price", self.rng.random() * 10, self.some(5))

    def twin(self) -> None:
        rows = self.some(3)
        self.put("title", self.products["title"].iloc[rows[0]], rows) if rows else None

    def learn(self) -> None:
        rows = self.products.iloc[self.some(6)]
        new = [(f"v{self.rng.randrange(12)}", f"{t} {self.words()}"[self.rng.randrange(9) :]) for t in rows["title"]]
        learnt = pd.DataFrame(new, columns=["vendor_id", "vendor_title"]).assign(product_id=rows["product_id"].tolist())
        self.lines = pd.concat([self.lines, learnt], ignore_index=True)

    def forget(self) -> None:
        self.lines = self.lines.sample(frac=0.95, random_state=self.rng.randrange(99))

    def move(self) -> None:
        self.lines = self.lines.copy()
        rows = self.lines.index[: self.rng.randrange(5)]
        self.lines.loc[rows, "product_id"] = self.rng.choice([*self.products["product_id"], "nowhere"])

    def shuffle(self) -> None:
        if self.rng.random() < 0.2:
            self.products = self.products.sample(frac=1, random_state=self.rng.randrange(99))


@pytest.mark.parametrize("seed", range(6))
def test_an_index_that_followed_its_catalog_is_that_of_a_full_build(matcher, products, lines, seed):
    shop = Shop(products, lines, seed)
    index, touched = built(matcher, products, lines), 0
    for _ in range(5):
        shop.step()
        names = product_names(shop.products, shop.lines, index)
        pd.testing.assert_frame_equal(names, product_names(shop.products, shop.lines))
        index = matcher.update_index(index, shop.products, names)
        touched += index.change.added + index.change.changed + index.change.removed
        whole = built(matcher, shop.products, shop.lines)
        assert_same_index(index, whole)
        assert_same_answers(matcher, index, whole, queries(shop.products, shop.lines, shop.rng))
    assert touched > 10


def test_everything_gone_one_product_back_and_the_old_catalog_again(matcher, products, lines):
    index, rng = built(matcher, products, lines), random.Random(0)
    for part in (products.iloc[:0], products.iloc[[5]], products.iloc[[7, 5]], products.iloc[:0], products):
        index = matcher.update_index(index, part, product_names(part, lines, index))
        whole = built(matcher, part, lines)
        assert_same_index(index, whole)
        assert_same_answers(matcher, index, whole, queries(products, lines, rng))
    assert index.change == Change(added=len(products), names_new=len(index.names))


def test_a_product_that_was_removed_is_never_found(matcher, products, lines):
    gone = products.iloc[[3, 40, 90]]
    left = products.drop(index=gone.index)
    index = matcher.update_index(built(matcher, products, lines), left, product_names(left, lines))
    assert index.change.removed == 3
    titles = [*gone["title"], *lines[lines["product_id"].isin(gone["product_id"])]["vendor_title"]]
    batch = pd.DataFrame({"line_id": range(len(titles)), "title": titles})
    found = matcher.match(batch, index, k=len(products))
    assert len(found) > len(titles)
    assert not set(found["product_id"]) & set(gone["product_id"])


def test_whoever_searches_the_earlier_index_is_not_disturbed(matcher, products, lines):
    index, rng = built(matcher, products, lines), random.Random(1)
    titles = queries(products, lines, rng)
    batch = pd.DataFrame({"line_id": range(len(titles)), "title": titles})
    FeatureMaker.of(index)
    changed = products.iloc[10:].assign(title=lambda frame: frame["title"] + " crafted heronbeacon qx300 3L")
    later = matcher.update_index(index, changed, product_names(changed, lines.iloc[30:]))
    assert not matcher.match(batch, later).equals(matcher.match(batch, built(matcher, products, lines)))
    pd.testing.assert_frame_equal(matcher.match(batch, index), matcher.match(batch, built(matcher, products, lines)))
    assert_same_index(index, built(matcher, products, lines))


def test_what_changed_is_counted(matcher, products, lines):
    index = built(matcher, products, lines)
    changed = products.drop(index=[0, 1]).reset_index(drop=True)
    changed.loc[[4, 5], "price"] = 1.0
    changed.loc[6, "title"] = "Something else"
    new = changed.iloc[[0]].assign(product_id="NEW", title="Zorgon kettle")
    changed = pd.concat([new, changed], ignore_index=True)
    names = product_names(changed, lines)
    change = matcher.update_index(index, changed, names).change
    assert change == Change(added=1, changed=3, removed=2, names_new=2, names_kept=len(names) - 2)
    same_again = matcher.update_index(index, products, product_names(products, lines)).change
    assert same_again == Change(names_kept=len(index.names))


def test_only_names_never_seen_are_embedded(products, lines):
    class Counting(LetterEncoder):
        def __init__(self):
            self.seen: list[str] = []

        def encode(self, titles, batch_size: int = 64):
            self.seen += titles
            return super().encode(titles)

    encoder, names = Counting(), product_names(products, lines)
    index = CatalogIndex.build(
        products, names, Lexical.fit(names["name"].tolist()), embed_names(names, encoder), CONFIG
    )
    encoder.seen.clear()
    renamed = products.assign(product_id="X" + products["product_id"]).iloc[::-1]
    renamed = pd.concat([renamed, products.iloc[[0]].assign(title="Zorgon kettle")])
    index.updated(renamed, product_names(renamed), encoder)
    assert encoder.seen == ["Norvik Zorgon kettle 700ml"]


def test_parts_that_do_not_belong_together_are_refused(products, lines):
    names = product_names(products, lines)
    index = CatalogIndex.build(
        products, names, Lexical.fit(names["name"].tolist()), embed_names(names, LetterEncoder()), CONFIG
    )
    with pytest.raises(ValueError, match="encoder"):
        index.updated(products, names)
    with pytest.raises(ValueError, match="one catalog name per product"):
        index.updated(products.iloc[1:], names, LetterEncoder())
    with pytest.raises(ValueError, match="not in the catalog"):
        index.updated(products.iloc[:5], names.drop(index=range(5, len(products))), LetterEncoder())


# ---- a graph of vectors, which cannot forget -----------------------------------------------------------------------

GRAPH = dataclasses.replace(CONFIG, exact_below=50)


@pytest.fixture(scope="module")
def graph(products, lines) -> CatalogIndex:
    names = product_names(products, lines)
    embeddings = embed_names(names, LetterEncoder())
    return CatalogIndex.build(products, names, Lexical.fit(names["name"].tolist()), embeddings, GRAPH)


def follow(index: CatalogIndex, products: pd.DataFrame, lines: pd.DataFrame) -> CatalogIndex:
    return index.updated(products, product_names(products, lines), LetterEncoder())


def near(index: CatalogIndex, titles: list[str], depth: int = 10) -> list[list[str]]:
    """Ids of the nearest products by the encoder alone."""
    found = index._nearest(LetterEncoder().encode(titles), depth)
    return [[index.products["product_id"].iloc[p] for p in row if p >= 0] for row in found]


def test_a_graph_is_kept_and_what_changed_is_searched_beside_it(graph, products, lines):
    changed = products.drop(index=[2, 3]).reset_index(drop=True)
    changed.loc[7, "title"] = "Completely other words"
    changed = pd.concat([products.iloc[[0]].assign(product_id="NEW", title="Xylophone quartz"), changed])
    once = follow(graph, changed, lines)
    assert once.vectors is graph.vectors
    assert (once.drift.gone, once.drift.beside.tolist()) == (3, [0, 8])
    assert once.stats["vectors_beside"] == 2
    titles = ["Norvik Xylophone quartz 700ml", "Norvik Completely other words 700ml", products["title"].iloc[2]]
    new, other, gone = near(once, titles)
    assert new[0] == "NEW"
    assert other[0] == changed["product_id"].iloc[8]
    assert products["product_id"].iloc[2] not in gone
    assert len(gone) == 10
    back = pd.concat([changed.iloc[1:], products.iloc[[2]]])
    twice = follow(once, back, lines)
    assert twice.vectors is graph.vectors
    new, _, again = near(twice, titles)
    assert "NEW" not in new
    assert again[0] == products["product_id"].iloc[2]
    exact = follow(graph.with_config(CONFIG), back, lines)
    alike = [len(set(a) & set(b)) / 10 for a, b in zip(near(twice, titles), near(exact, titles), strict=True)]
    assert np.mean(alike) > 0.8, "graph and exact search differ in what the graph approximates"


def test_a_graph_with_its_changes_survives_saving(graph, products, lines, tmp_path):
    index = follow(graph, products.iloc[4:], lines)
    index.save(tmp_path)
    again = CatalogIndex.load(tmp_path)
    titles = products["title"].tolist()[:20]
    assert near(again, titles) == near(index, titles)
    assert (again.drift.gone, again.stats) == (4, index.stats)
    later = follow(again, products.iloc[6:], lines)
    assert (later.drift.gone, later.vectors is again.vectors) == (6, True)


def test_a_graph_is_built_again_when_a_tenth_has_changed(graph, products, lines):
    index = follow(graph, products.iloc[20:], lines)
    assert index.vectors is not graph.vectors
    assert index.drift is None
    assert "vectors_gone" not in index.stats


def test_a_small_catalog_is_searched_exactly_and_a_grown_one_gets_its_graph(graph, products, lines):
    small = follow(graph, products.iloc[:30], lines)
    assert (small.stats["vectors"], small.drift) == ("exact", None)
    grown = follow(small, products, lines)
    assert grown.stats == graph.stats
    assert near(grown, products["title"].tolist()[:9]) == near(graph, products["title"].tolist()[:9])


def test_an_updated_index_survives_saving(matcher, products, lines, tmp_path):
    changed = products.iloc[5:].assign(title=products["title"] + " crafted")
    index = matcher.update_index(built(matcher, products, lines), changed, product_names(changed, lines))
    index.save(tmp_path)
    again = CatalogIndex.load(tmp_path)
    assert_same_answers(matcher, again, index, queries(products, lines, random.Random(2)))
    assert again.stats == index.stats
