"""Keystrokes from a title to a line, and cosines of character pairs."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from shelfwise.matching.index import CatalogIndex, IndexConfig, product_names
from shelfwise.matching.lexical import Lexical, comparable
from shelfwise.matching.strokes import ALL, FOUND, LOST, SHORTENED, SLIPS, SPARE, Strokes, coded, consonants

TITLES = ["Organic Caramel Apple Liqueur", "Garlic Pickle Slices", "Garlic", "Dill Pickle", "Виски Норвик"]


def index_of(titles: list[str]) -> CatalogIndex:
    products = pd.DataFrame({"product_id": [f"P{i}" for i in range(len(titles))], "title": titles})
    names = product_names(products)
    return CatalogIndex.build(products, names, Lexical.fit(names["name"].tolist()), config=IndexConfig(threads=1))


@pytest.fixture(scope="module")
def strokes() -> Strokes:
    return Strokes.of(index_of(TITLES))


def compare(strokes: Strokes, line: str, product: int) -> np.ndarray:
    return strokes.compare(coded(comparable([line])), np.zeros(1, np.int64), np.array([product]))[0]


@pytest.mark.parametrize(
    ("line", "product", "slips", "spare", "shortened", "lost"),
    [
        ("organic caramel apple liqueur", 0, 0, 0, 0, 0),
        ("LIQUEUR Apple organic caramel", 0, 0, 0, 0, 0),
        ("organic apple liqueur", 0, 0, 0, 0, 1),
        ("organic caramel appel liqueur", 0, 1, 0, 0, 0),  # two letters swapped
        ("orgaic carramel appke liqueur", 0, 3, 0, 0, 0),  # one less, one more, another
        ("organic caramel apple liq", 0, 0, 0, 1, 0),
        ("organic crml apple lqr", 0, 0, 0, 2, 0),
        ("organiccaramel apple liqueur", 0, 1, 0, 0, 0),  # a space lost
        ("organicxcaramel apple liqueur", 0, 1, 0, 0, 0),  # a letter for a space
        ("orga nic caramel apple liqueur", 0, 1, 0, 0, 0),  # a space too many
        ("garli cpickle slices", 1, 1, 0, 0, 0),  # a space swapped with the letter before it
        ("garlicp ickle slices", 1, 1, 0, 0, 0),  # ... after it
        ("garlic pickle slices xyw", 1, 0, 3, 0, 0),
        ("pickle slices", 1, 0, 0, 0, 1),
        ("garlic garlic", 2, 0, 6, 0, 0),  # a word is written once
        ("виски норвик", 4, 0, 0, 0, 0),
    ],
)
def test_the_cheapest_story_is_found(strokes, line, product, slips, spare, shortened, lost):
    found = compare(strokes, line, product)
    assert found[[SLIPS, SPARE, SHORTENED, LOST]].tolist() == [slips, spare, shortened, lost]
    assert found[ALL] == pytest.approx(slips + spare + 0.4 * shortened + lost)
    assert found[FOUND] == pytest.approx(1.0) if lost == 0 else 0 < found[FOUND] < 1


def test_nothing_in_common(strokes):
    found = compare(strokes, "zzzz", 1)
    assert found[[SLIPS, SPARE, SHORTENED, LOST, FOUND]].tolist() == [0, 4, 0, 3, 0]
    assert compare(strokes, "", 1)[[SPARE, LOST]].tolist() == [0, 3]


def test_pairs_do_not_depend_on_what_else_is_compared(strokes):
    """Lines and products share scratch memory in the kernels."""
    lines = ["crml apl liquer", "garlc pikcle", "", "dill", "x" * 400, "caramel garlic pickle"]
    line, product = np.repeat(np.arange(len(lines)), len(TITLES)), np.tile(np.arange(len(TITLES)), len(lines))
    codes = coded(comparable(lines))
    together, cosines = strokes.compare(codes, line, product), strokes.cosines(codes, line, product)
    for i in range(len(line)):
        one = coded(comparable([lines[line[i]]])), np.zeros(1, np.int64), product[i : i + 1]
        np.testing.assert_array_equal(strokes.compare(*one)[0], together[i])
        np.testing.assert_array_equal(strokes.cosines(*one)[0], cosines[i])


def test_cosine_of_pairs(strokes):
    codes = coded(comparable([*TITLES, "zzz"]))
    n = len(TITLES)
    own = strokes.cosines(codes, np.arange(n), np.arange(n))
    np.testing.assert_allclose(own, 1, atol=1e-5)
    assert strokes.cosines(codes, np.array([n]), np.array([0])).tolist() == [0.0]
    near, far = strokes.cosines(coded(["dll picle"]), np.zeros(2, np.int64), np.array([3, 0]))
    assert 0.4 < near < 1
    assert far < 0.2


def test_a_title_and_a_line_beyond_all_bounds():
    long = " ".join(f"word{chr(97 + i // 26)}{chr(97 + i % 26)}ing" for i in range(60))
    made = Strokes.of(index_of([long, "a"]))
    for line in (long, long.upper(), "q" * 5000, " ".join("abcdefghij" * 40)):
        found = compare(made, line, 0)
        assert np.isfinite(found).all()
        assert (found >= 0).all()


@pytest.mark.parametrize(
    ("word", "short"), [("liqueur", "lqr"), ("aioli", "al"), ("apple", ""), ("gin", ""), ("12yrs", ""), ("", "")]
)
def test_consonants(word, short):
    """Only where they are shorter by two letters: `apple` without its `e` is a slip."""
    assert consonants(word) == short


def test_a_catalog_without_words():
    made = index_of(["", " - "])
    found = made.retrieve(["gin", ""])
    assert len(found.line) == 0
    assert index_of([]).retrieve(["gin"]).strokes.shape == (0, 6)
