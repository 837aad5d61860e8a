"""Candidate against champion, line by line."""

from __future__ import annotations

import itertools
from math import comb
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shelfwise.matching.promotion import (
    TRAINED_ON,
    by_source,
    compare,
    lines_never_seen,
    read_trained_on,
    seen_lines,
    trained_on,
    vendors_apart,
)
from shelfwise.promotion.compare import LEAST_LINES, chance_of


def outcomes(rank: list[int], **columns) -> pd.DataFrame:
    """Lines in the form of `Evaluation.lines`; what is not given is plain."""
    n = len(rank)
    right = np.array(rank) == 1
    frame = {
        "vendor_id": [f"v{i % 5}" for i in range(n)],
        "title": [f"line {i}" for i in range(n)],
        "product_id": [f"p{i}" for i in range(n)],
        "in_catalog": True,
        "has_match": True,
        "rank": rank,
        "decision": np.where(right, "approved", "review"),
        "right": right,
        "category": "Drinks",
        "popularity": "tail (1-3)",
    }
    return pd.DataFrame(frame | columns)


# --- The exact test -----------------------------------------------------------------------------------------------


@given(st.integers(0, 60), st.integers(0, 60))
def test_with_one_line_to_a_product_it_is_the_exact_mcnemar_test(gained: int, lost: int) -> None:
    n = gained + lost
    mcnemar = sum(comb(n, k) for k in range(gained, n + 1)) / 2**n
    assert chance_of([1] * gained + [-1] * lost) == pytest.approx(mcnemar, rel=1e-9)


@given(st.lists(st.integers(-4, 4), max_size=10))
def test_with_several_it_counts_all_ways_to_flip_the_signs(net: list[int]) -> None:
    ways = itertools.product((1, -1), repeat=len(net))
    expected = np.mean([sum(s * abs(v) for s, v in zip(signs, net, strict=True)) >= sum(net) for signs in ways])
    assert chance_of(net) == pytest.approx(expected, abs=1e-12)


def test_many_products_are_no_trouble() -> None:
    rng = np.random.default_rng(0)
    net = rng.integers(-3, 4, 20_000)
    z = net.sum() / np.sqrt((net.astype(float) ** 2).sum())
    normal = 0.5 * (1 - np.sign(z) * np.sqrt(1 - np.exp(-2 * z * z / np.pi)))  # a rough normal tail
    assert chance_of(net) == pytest.approx(normal, abs=0.01)
    even = [1, -1] * 12_000 + [2, -2] * 6_000
    assert 0.5 < chance_of(even) < 0.51, "so many that the sums are convolved by Fourier transform"


# --- The comparison -----------------------------------------------------------------------------------------------


def test_what_is_counted_is_where_they_differ() -> None:
    champion = outcomes([1] * 150 + [2] * 60 + [0] * 90)
    candidate = outcomes([1] * 140 + [3] * 10 + [1] * 30 + [2] * 30 + [6] * 50 + [4] * 40)
    found = compare(candidate, champion, None, resamples=400).measures
    top1, top5 = found["top1"], found["top5"]
    assert (top1.gained, top1.lost, top1.lines, top1.groups) == (30, 10, 300, 300)
    assert (top1.candidate, top1.champion) == (pytest.approx(170 / 300), pytest.approx(150 / 300))
    assert top1.difference == pytest.approx(20 / 300)
    assert (top5.gained, top5.lost) == (40, 0)
    assert top1.low < top1.difference < top1.high
    assert top1.low < top1.at_least < top1.difference
    assert top1.p_value == pytest.approx(chance_of([1] * 30 + [-1] * 10))
    assert top1.p_worse == pytest.approx(chance_of([1] * 10 + [-1] * 30))
    assert found["approved_coverage"].gained == 30
    assert found["approved_precision"].difference == 0


def test_the_interval_is_that_of_a_paired_difference() -> None:
    """Against the closed form: variance of the mean of +1, 0, -1."""
    champion, candidate = outcomes([1] * 500 + [0] * 500), outcomes([1] * 440 + [0] * 60 + [1] * 100 + [0] * 400)
    top1 = compare(candidate, champion, None, resamples=4000).measures["top1"]
    net = np.r_[np.ones(100), -np.ones(60), np.zeros(840)]
    half = 1.96 * net.std() / np.sqrt(1000)
    assert top1.high - top1.low == pytest.approx(2 * half, rel=0.08)


def test_lines_of_one_product_count_as_one_witness() -> None:
    """Ten lines of three products gained, each of which would be a witness of its own if lines were independent."""
    ids = [f"p{i}" for i in range(270)] + ["a"] * 10 + ["b"] * 10 + ["c"] * 10
    champion = outcomes([1] * 270 + [2] * 30, product_id=ids)
    candidate = outcomes([1] * 300, product_id=ids)
    top1 = compare(candidate, champion, None, resamples=400).measures["top1"]
    assert top1.p_lines == pytest.approx(2.0**-30)
    assert top1.p_value == pytest.approx(1 / 8)
    alone = compare(outcomes([1] * 300), outcomes([1] * 270 + [2] * 30), None, resamples=400).measures["top1"]
    assert top1.high - top1.low > 2 * (alone.high - alone.low)


def test_a_line_without_a_product_is_a_witness_of_its_own() -> None:
    none = outcomes([0] * 300, product_id=None, in_catalog=False, has_match=False, right=False)
    none["decision"] = "approved"
    quiet = none.assign(decision="no_match")
    found = compare(quiet, none, None, resamples=100).measures["approved_precision"]
    assert (found.gained, found.lost) == (300, 0)
    assert found.p_value == pytest.approx(2.0**-300)


def test_wrong_approvals_are_what_precision_counts() -> None:
    champion, candidate = outcomes([1] * 280 + [2] * 20), outcomes([1] * 280 + [2] * 20)
    champion["decision"] = "approved"
    found = compare(candidate, champion, None, resamples=200).measures["approved_precision"]
    assert (found.gained, found.lost) == (20, 0)
    assert found.champion == pytest.approx(280 / 300)
    assert found.candidate == 1


def test_where_one_approves_nothing_there_is_no_precision_to_compare() -> None:
    champion, candidate = outcomes([1] * 300), outcomes([1] * 300, decision="review")
    found = compare(candidate, champion, None, resamples=100).measures
    assert np.isnan(found["approved_precision"].difference)
    assert found["approved_coverage"].candidate == 0


def test_lines_that_the_champion_was_fitted_on_are_left_out() -> None:
    n = 400
    champion = outcomes([1] * n)
    candidate = outcomes([2] * 100 + [1] * 300)
    known = pd.DataFrame({"kind": ["product"] * 60 + ["vendor"], "id": [f"p{i}" for i in range(60)] + ["v0"]})
    found = compare(candidate, champion, known, resamples=100)
    seen = [i for i in range(n) if i < 60 or i % 5 == 0]
    assert (found.held_out, found.seen, found.lines, found.unseen) == (n, len(seen), n - len(seen), True)
    assert found.measures["top1"].lost == sum(i not in seen for i in range(100))
    assert f"{len(seen)} others left out" in found.sentence
    by_product = compare(candidate, champion, known, by_vendor=False, resamples=100)
    assert by_product.seen == 60, "where vendors are not kept apart nobody has unseen ones"


def test_too_few_unseen_lines_are_compared_together_with_the_seen_ones() -> None:
    frame = outcomes([1] * 300)
    known = pd.DataFrame({"kind": "product", "id": [f"p{i}" for i in range(300 - LEAST_LINES + 1)]})
    found = compare(frame, frame, known, resamples=100)
    assert (found.lines, found.unseen) == (300, False)
    assert "199 of the held-out lines" in found.sentence
    assert "favours the champion" in found.sentence
    assert compare(frame, frame, known.iloc[1:], resamples=100).lines == LEAST_LINES


def test_a_champion_that_does_not_say_what_it_saw_is_compared_on_all_lines() -> None:
    found = compare(outcomes([1] * 300), outcomes([1] * 300), None, resamples=100)
    assert (found.lines, found.seen) == (300, 0)
    assert "not recorded" in found.sentence


def test_slices_of_importance_hold_a_hundred_lines() -> None:
    vendor = ["big"] * 100 + ["small"] * 99 + ["bad"] * 150
    frame = {"vendor_id": vendor, "popularity": ["none known"] * 200 + ["head (4+)"] * 149, "category": ""}
    champion = outcomes([1] * 349, **frame)
    candidate = outcomes([1] * 199 + [2] * 150, **frame)
    rows = pd.DataFrame(compare(candidate, champion, None, resamples=200).slices)
    assert set(zip(rows["slice"], rows["value"], strict=True)) == {
        ("vendor", "big"), ("vendor", "bad"), ("other names", "none known"), ("other names", "head (4+)"),
    }  # fmt: skip
    bad = rows[(rows["value"] == "bad") & (rows["measure"] == "top1")].iloc[0]
    assert (bad["lines"], bad["lost"], bad["difference"]) == (150, 150, -1)
    assert bad["p_worse"] == pytest.approx(2.0**-150)
    assert rows[(rows["value"] == "big")]["difference"].eq(0).all()


def test_the_same_lines_give_the_same_numbers_and_others_are_refused() -> None:
    champion, candidate = outcomes([1, 2] * 150), outcomes([2, 1] * 150)
    assert compare(candidate, champion, None).to_json() == compare(candidate, champion, None).to_json()
    for other in (champion.head(299), champion.assign(title="another"), champion[::-1]):
        with pytest.raises(ValueError, match="same lines"):
            compare(candidate, other, None)


def test_a_product_in_one_catalog_only_counts_for_neither() -> None:
    champion, candidate = outcomes([1] * 300), outcomes([1] * 290 + [0] * 10)
    candidate.loc[290:, "in_catalog"] = False
    assert compare(candidate, champion, None, resamples=100).measures["top1"].lost == 0


# --- What a matcher was fitted on ---------------------------------------------------------------------------------


@pytest.fixture
def pairs() -> pd.DataFrame:
    rows = [
        ("a", "train", "P1", 1), ("a", "train", "P2", 0), ("b", "valid", "P3", 1), ("b", "valid", "P4", 0),
        ("c", "test", "P5", 1), ("c", "test", "P6", 0),
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=["vendor_id", "split", "product_id", "label"])


def test_what_was_fitted_on_are_the_labelled_lines_of_train_and_valid(pairs: pd.DataFrame, tmp_path: Path) -> None:
    known = trained_on(pairs)
    assert known.to_dict("list") == {
        "kind": ["vendor", "vendor", "product", "product"],
        "id": ["a", "b", "P1", "P3"],
    }
    known.to_parquet(tmp_path / TRAINED_ON, index=False)
    pd.testing.assert_frame_equal(read_trained_on(tmp_path), known)
    assert read_trained_on(tmp_path / "elsewhere") is None
    lines = pd.DataFrame({"vendor_id": ["a", "x", "x", "P1"], "product_id": ["P9", "P3", "P2", None]})
    assert seen_lines(lines, known).tolist() == [True, True, False, False]
    assert seen_lines(lines, known, by_vendor=False).tolist() == [False, True, False, False]
    assert not seen_lines(lines, None).any()


def test_vendors_are_apart_where_none_is_in_two_parts(pairs: pd.DataFrame) -> None:
    assert vendors_apart(pairs)
    assert not vendors_apart(pairs.assign(vendor_id=["a", "a", "b", "b", "a", "a"]))


def test_lines_never_seen_are_a_sample_that_stays_the_same(pairs: pd.DataFrame) -> None:
    positives = pd.DataFrame(
        {
            "line_id": [f"l{i}" for i in range(3000)],
            "vendor_id": [f"{'abcde'[i % 5]}" for i in range(3000)],
            "product_id": [f"P{i % 7}" for i in range(3000)],
        }
    )
    kept = lines_never_seen(positives, trained_on(pairs), 10_000)
    assert set(kept["vendor_id"]) == {"c", "d", "e"}
    assert set(kept["product_id"]) == {"P0", "P2", "P4", "P5", "P6"}
    fewer = lines_never_seen(positives, trained_on(pairs), 300)
    assert 200 < len(fewer) < 400
    pd.testing.assert_frame_equal(fewer, lines_never_seen(positives, trained_on(pairs), 300))


def test_accuracy_by_where_labels_come_from() -> None:
    lines = pd.DataFrame({"source": ["mapping", "mapping", "feedback", "feedback"]})
    frame = outcomes([1, 2, 0, 9])
    frame.loc[3, "in_catalog"] = False
    assert by_source(lines, frame).to_dict("records") == [
        {"source": "feedback", "lines": 1, "top1": 0.0, "top5": 0.0},
        {"source": "mapping", "lines": 2, "top1": 0.5, "top5": 1.0},
    ]
