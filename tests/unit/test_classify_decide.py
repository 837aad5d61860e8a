"""Assign, suggest or ask: what is promised holds, children lie under their parents, and nothing is certain unproven."""

import json

import numpy as np
import pytest

from shelfwise.classification import calibration
from shelfwise.classification.decide import ASK, ASSIGN, COLUMNS, SUGGEST, Thresholds, decide, decisions
from shelfwise.classification.taxonomy import Taxonomy
from shelfwise.matching.guarantee import Certificate, Goal

TREE = Taxonomy.of([f"{root} > {leaf}" for root in "ABC" for leaf in "stuv"])


def listings(n: int, seed: int = 0, leaf: float = 3.0, root: float = 5.0) -> tuple[np.ndarray, np.ndarray]:
    """Calibrated probabilities and truth, where the root is easier to see than the leaf."""
    rng = np.random.default_rng(seed)
    classes = len(TREE)
    truth, group = rng.integers(0, classes, n), TREE.level(1)[1]
    evidence = rng.normal(0, 1, (n, classes)) * np.sqrt(leaf)
    evidence[np.arange(n), truth] += leaf
    coarse = rng.normal(0, 1, (n, 3)) * np.sqrt(root)
    coarse[np.arange(n), group[truth]] += root
    return calibration.apply(evidence + coarse[:, group], 1.0), truth


def certificate(threshold: float | None) -> Certificate:
    return Certificate(threshold, 0.95, 0.97, 100, 3, 90.0, 1.1, 1000, 0.5, 0.95, 0.95)


def by_hand(leaf: float | None = 0.9, root: float | None = 0.9, case: str = "all") -> Thresholds:
    return Thresholds({case: {2: certificate(leaf), 1: certificate(root)}})


def row(**shares: float) -> np.ndarray:
    """One listing's probabilities; the rest is spread over all others."""
    p = np.full(len(TREE), (1 - sum(shares.values())) / (len(TREE) - len(shares)))
    for name, share in shares.items():
        p[TREE.classes.index(f"{name[0]} > {name[1]}")] = share
    return p.astype(np.float32)[None, :]


def test_a_probable_category_is_assigned() -> None:
    found = decide(row(As=0.95), TREE, by_hand())
    assert tuple(found.columns) == COLUMNS
    assert found["rank"].tolist() == [1, 2, 3, 4, 5]
    assert found["decision"].unique().tolist() == [ASSIGN]
    assert found["certain"].unique().tolist() == ["A > s"]
    assert (found["category"][0], found["probability"][0]) == ("A > s", pytest.approx(0.95))
    assert found["probability"].is_monotonic_decreasing


def test_where_only_the_parent_is_certain_its_children_are_suggested_first() -> None:
    p = row(As=0.5, At=0.43, Bs=0.03)
    found = decide(p, TREE, by_hand())
    assert found["decision"].unique().tolist() == [SUGGEST]
    assert found["certain"].unique().tolist() == ["A"]
    # The most probable category lies under another root than the most probable root: no suggestion contradicts that.
    split = row(Bs=0.3, As=0.2, At=0.2, Au=0.2, Av=0.08)
    found = decide(split, TREE, by_hand(root=0.6))
    assert found["certain"][0] == "A"
    assert found["category"].tolist() == ["A > s", "A > t", "A > u", "A > v", "B > s"]
    np.testing.assert_allclose(found["probability"], [0.2, 0.2, 0.2, 0.08, 0.3], rtol=1e-5)


def test_what_is_neither_is_suggested_or_asked() -> None:
    assert decisions(row(As=0.5, Bs=0.4), TREE, by_hand()).tolist() == [SUGGEST]
    flat = np.full((1, len(TREE)), 1 / len(TREE), np.float32)
    found = decide(flat, TREE, by_hand())
    assert found["decision"].tolist() == [ASK] * 5
    assert found["certain"].tolist() == [""] * 5


def test_nothing_is_assigned_without_a_proof() -> None:
    sure = row(As=1.0)
    assert decisions(sure, TREE, by_hand(leaf=None)).tolist() == [SUGGEST]
    assert decide(sure, TREE, by_hand(leaf=None))["certain"][0] == "A"
    assert decide(sure, TREE, Thresholds())["certain"][0] == ""
    assert decisions(sure, TREE, by_hand(case="both"), ["text"]).tolist() == [SUGGEST], "of another case"
    assert decisions(sure, TREE, by_hand(case="both"), ["both"]).tolist() == [ASSIGN]
    p, truth = listings(20)
    assert Thresholds.fit(p, truth, TREE).threshold("all", 2) == np.inf
    assert "nothing is assigned" in Thresholds.fit(p, truth, TREE).sentence
    assert "nothing" in Thresholds().sentence


def test_nothing_said_is_asked_about() -> None:
    p = np.vstack([np.full((1, len(TREE)), np.nan), row(As=0.95)])
    found = decide(p, TREE, by_hand())
    assert found["row"].tolist() == [0, 1, 1, 1, 1, 1]
    assert found.loc[0, ["category", "decision", "certain"]].tolist() == ["", ASK, ""]
    assert np.isnan(found["probability"][0])
    empty = decide(p[:0], TREE, by_hand())
    assert len(empty) == 0
    assert tuple(empty.columns) == COLUMNS


def test_what_nothing_is_known_of_is_asked_about_however_often_categories_occur() -> None:
    often = np.vstack([row(As=0.97)] * 2)
    found = decide(often, TREE, by_hand(case="none"), ["none", "text"])
    assert found.groupby("row")["decision"].unique().map(list).tolist() == [[ASK], [SUGGEST]]
    assert found["certain"].unique().tolist() == [""]
    assert found.loc[found["row"] == 0, "rank"].tolist() == [1, 2, 3, 4, 5], "what occurs often is still shown"
    assert decisions(often, TREE, by_hand(case="none"), ["none", "text"]).tolist() == [ASK, SUGGEST]


def test_a_tree_with_fewer_than_five_categories_names_them_all() -> None:
    tree = Taxonomy.of(["a", "b"])
    found = decide(np.array([[0.4, 0.6]]), tree, Thresholds({"all": {1: certificate(0.5)}}))
    assert found["category"].tolist() == ["b", "a"]
    assert found["decision"].tolist() == [ASSIGN] * 2


def test_what_is_promised_holds_on_other_listings_at_every_level() -> None:
    """Over draws of validation listings: assigned categories, and certain parents, are as often right as promised."""
    goal, broken = Goal(0.9, 0.95), np.zeros(2, int)
    p, truth = listings(20_000, seed=99)
    names = np.array(TREE.classes, dtype=object)[truth]
    assigned = []
    for seed in range(40):
        made = Thresholds.fit(*listings(600, seed), TREE, goal)
        found = decide(p, TREE, made).drop_duplicates("row")
        leaf = (found["decision"] == ASSIGN).to_numpy()
        parent = (found["certain"] != "").to_numpy() & ~leaf
        assigned.append((leaf.mean(), parent.mean()))
        right = [(found["certain"] == names), found["certain"] == np.array([name[0] for name in names])]
        for i, among in enumerate((leaf, parent)):
            broken[i] += among.any() and right[i][among].mean() < goal.precision - 0.005
    assert np.mean(assigned, axis=0).min() > 0.1, "both levels are used"
    assert broken.max() <= 5


def test_each_case_has_a_threshold_of_its_own() -> None:
    p, truth = listings(3000)
    worse, answers = listings(3000, 1, leaf=1.0)
    worse = calibration.apply(np.log(worse), 0.4)  # says more than it knows
    cases = ["text"] * 3000 + ["image"] * 3000
    made = Thresholds.fit(np.vstack([p, worse]), np.concatenate([truth, answers]), TREE, Goal(0.9), cases=cases)
    assert made.threshold("text", 2) < made.threshold("image", 2)
    assert made.threshold("other", 2) == np.inf
    assert made.sentence.count("assigned from") + made.sentence.count("nothing is assigned") == 2
    assert made.table()["listings with"].tolist() == ["image", "image", "text", "text"]
    assert made.table()["level"].tolist() == [2, 1, 2, 1]


def test_duplicates_are_one_witness_and_unknown_categories_are_wrong() -> None:
    p, truth = listings(900)
    plain = Thresholds.fit(p, truth, TREE, Goal(0.9)).certificates["all"][2]
    often = np.repeat(np.arange(900), 3)
    copied = Thresholds.fit(p[often], truth[often], TREE, Goal(0.9), groups=often).certificates["all"][2]
    assert plain.threshold is not None
    assert copied.design_effect > 2
    lost = Thresholds.fit(p, np.where(np.arange(900) % 4 == 0, -1, truth), TREE, Goal(0.9)).certificates["all"][2]
    assert lost.threshold is None, "a quarter is of no known category, so nothing is nine times out of ten right"


def test_thresholds_are_written_and_read() -> None:
    for made in (Thresholds.fit(*listings(900), TREE), Thresholds.fit(*listings(10), TREE), Thresholds()):
        assert Thresholds.from_json(json.loads(json.dumps(made.to_json(), allow_nan=False))) == made
