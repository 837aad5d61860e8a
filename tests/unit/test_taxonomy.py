"""The category tree: classes, levels, sums, and decisions in which no child contradicts its parent."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from shelfwise.classification.decide import ASSIGN, Thresholds, decide
from shelfwise.classification.taxonomy import SEVERAL, Taxonomy, clean_path, levels_of, split_categories
from shelfwise.matching.guarantee import Certificate

PATHS = ["Drinks > Wine > Red", "Drinks > Beer", "Pet", "Drinks", "Drinks > Wine > White", "Drinks (hot) > Tea"]
TREE = Taxonomy.of(PATHS)


def probabilities(n: int, classes: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.full(classes, 0.4), n).astype(np.float32)


def under(path: str, above: str) -> bool:
    """Whether a path is another one or lies below it; all lie below none."""
    return not above or f"{path} > ".startswith(f"{above} > ")


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


@pytest.mark.parametrize("depth", [1, 2, 3, 0])
def test_a_child_never_contradicts_its_parent(depth):
    """`depth`: the only level on which anything can be certain; 0: all of them."""
    proven = Certificate(0.5, 0.95, 0.97, 100, 3, 90.0, 1.1, 1000, 0.5, 0.95, 0.95)
    levels = {level: proven for level in range(1, TREE.depth + 1) if depth in (0, level)}
    p = probabilities(2000, len(TREE))
    p[:500] = probabilities(500, len(TREE), seed=1) ** 0.1  # nothing stands out
    found = decide(p / p.sum(axis=1, keepdims=True), TREE, Thresholds({"all": levels}))
    best = found[found["rank"] == 1].reset_index(drop=True)
    inside = [under(*pair) for pair in zip(best["category"], best["certain"], strict=True)]
    assert all(inside), "the category named first lies under what is certain"
    assigned = best["decision"] == ASSIGN
    assert assigned.any() == (depth in (0, 3))
    assert (best.loc[assigned, "certain"] == best.loc[assigned, "category"]).all()
    assert (best.loc[~assigned, "certain"] != "").any() == (depth != 3)
    most_probable = np.array(TREE.classes)[p.argmax(axis=1)]
    assert (most_probable != best["category"]).any() == (depth in (0, 1, 2)), "and not merely the most probable one"


def test_sums_are_those_of_the_classes_below():
    p = np.zeros((1, len(TREE)))
    p[0, TREE.index(["Drinks", "Drinks > Wine > Red", "Drinks (hot) > Tea"])] = 0.5, 0.3, 0.2
    assert TREE.roll_up(p, 1).tolist() == [[0.8, 0.2, 0.0]]
    assert TREE.roll_up(np.zeros((0, len(TREE))), 2).shape == (0, 5)
    assert TREE.roll_up(p.astype(np.float32), 2).dtype == np.float32
    with pytest.raises(ValueError, match="columns"):
        TREE.roll_up(p[:, :-1], 1)


def test_json_round_trip():
    tree = Taxonomy.of(["Drinks > Rosé", "Pet"])
    assert Taxonomy.from_json(tree.to_json()) == tree
    with pytest.raises(ValueError, match="taxonomy"):
        Taxonomy.from_json('{"classes": ["b", "a"]}')
