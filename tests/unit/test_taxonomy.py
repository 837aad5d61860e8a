"""The category tree: classes, levels, sums that no child exceeds."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from shelfwise.classification.taxonomy import SEVERAL, Taxonomy, clean_path, levels_of, split_categories

PATHS = ["Drinks > Wine > Red", "Drinks > Beer", "Pet", "Drinks", "Drinks > Wine > White", "Drinks (hot) > Tea"]
TREE = Taxonomy.of(PATHS)


def probabilities(n: int, classes: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.full(classes, 0.4), n).astype(np.float32)


@pytest.mark.parametrize(
    ("text", "path"), [("A>B > C >", "A > B > C"), ("  A  >  B ", "A > B"), ("A", "A"), (" > ", ""), ("A|B", "A|B")]
)
def test_paths_are_cleaned(text, path):
    assert clean_path(text) == path


@pytest.mark.parametrize(
    ("text", "paths"),
    [
        ("A > B", ["A > B"]),
        ("A > B | C", ["A > B", "C"]),
        ("A>B  |  A > B | C", ["A > B", "C"]),
        ("Nuts|Bolts", ["Nuts|Bolts"]),
        ("A | ", ["A |"]),
        ("", []),
        (None, []),
        (float("nan"), []),
    ],
)
def test_a_cell_holds_one_or_several_paths(text, paths):
    assert split_categories(text) == paths


def test_what_is_joined_comes_apart_again():
    assert split_categories(SEVERAL.join(PATHS)) == PATHS


def test_classes_are_sorted_and_distinct_whatever_the_cells_are():
    cells = ["B > C | A", None, float("nan"), pd.NA, ["A", "D"], np.array(["D"], dtype=object), ""]
    assert Taxonomy.of(cells).classes == ("A", "B > C", "D")
    assert len(Taxonomy.of(cells)) == 3
    assert Taxonomy.of([]).depth == 0
    for wrong in (("B", "A"), ("A", "A"), ("A>B",), ("",)):
        with pytest.raises(ValueError, match=r"taxonomy|path"):
            Taxonomy(wrong)


def test_index_and_truths_know_the_classes_and_nothing_else():
    assert TREE.index(["Pet", "Drinks", "Beer", None]).tolist() == [5, 0, -1, -1]
    assert TREE.index([]).dtype == np.int64
    assert TREE.truths(["Pet | Drinks", None, ["Drinks > Beer", "gone"], "gone"]) == [[5, 0], [], [2], []]


def test_levels_cover_all_classes_and_short_classes_are_their_own_nodes():
    assert TREE.depth == 3
    names, group = TREE.level(1)
    assert names == ("Drinks", "Drinks (hot)", "Pet")
    assert [names[place] for place in group] == [path.split(" > ")[0] for path in TREE.classes]
    names, group = TREE.level(2)
    assert names == ("Drinks", "Drinks (hot) > Tea", "Drinks > Beer", "Drinks > Wine", "Pet")
    assert names[group[TREE.index(["Drinks > Wine > White"])[0]]] == "Drinks > Wine"
    for k in (3, 4):
        names, group = TREE.level(k)
        assert names == TREE.classes
        assert group.tolist() == list(range(len(TREE)))
    with pytest.raises(ValueError, match="count from 1"):
        TREE.level(0)
    assert levels_of("A > B > C") == ("A", "A > B", "A > B > C")


def test_a_child_never_contradicts_its_parent():
    p = probabilities(200, len(TREE))
    before = None
    for k in range(1, TREE.depth + 1):
        names, _ = TREE.level(k)
        rolled = TREE.roll_up(p, k)
        assert rolled.shape == (200, len(names))
        assert rolled.dtype == p.dtype
        np.testing.assert_allclose(rolled.sum(axis=1), 1, rtol=1e-5)
        if before is not None:
            parents, above = before
            for column, name in enumerate(names):
                parent = max((up for up in parents if f"{name} > ".startswith(f"{up} > ")), key=len)
                assert (rolled[:, column] <= above[:, parents.index(parent)] + 1e-6).all()
        before = names, rolled


def test_sums_are_those_of_the_classes_below():
    p = np.zeros((1, len(TREE)))
    p[0, TREE.index(["Drinks", "Drinks > Wine > Red", "Drinks (hot) > Tea"])] = 0.5, 0.3, 0.2
    assert TREE.roll_up(p, 1).tolist() == [[0.8, 0.2, 0.0]]
    assert TREE.roll_up(np.zeros((0, len(TREE))), 2).shape == (0, 5)
    with pytest.raises(ValueError, match="columns"):
        TREE.roll_up(p[:, :-1], 1)


def test_descending_finds_the_best_class_of_the_best_root():
    p = np.zeros((2, len(TREE)), dtype=np.float32)
    p[0, TREE.index(["Pet", "Drinks > Beer", "Drinks > Wine > Red", "Drinks"])] = 0.4, 0.25, 0.2, 0.15
    p[1, TREE.index(["Pet", "Drinks > Beer"])] = 0.6, 0.4
    assert [TREE.classes[place] for place in p.argmax(axis=1)] == ["Pet", "Pet"]
    assert [TREE.classes[place] for place in TREE.descend(p)] == ["Drinks > Beer", "Pet"]
    many = probabilities(300, len(TREE), seed=1)
    roots = TREE.level(1)[1]
    assert (roots[TREE.descend(many)] == TREE.roll_up(many, 1).argmax(axis=1)).all()


def test_json_round_trip():
    tree = Taxonomy.of(["Drinks > Rosé", "Pet"])
    assert Taxonomy.from_json(tree.to_json()) == tree
    with pytest.raises(ValueError, match="taxonomy"):
        Taxonomy.from_json('{"classes": ["b", "a"]}')
