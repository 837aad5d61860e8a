"""The noise says what it does, and does what it says."""

from __future__ import annotations

import random

import numpy as np
import pandas as pd
import pytest
from rapidfuzz.distance import OSA

from shelfwise.matching.noise import MADE_UP, SLIPS, Noise, can_shorten, drop_words, made_up_lines, mistype, shorten

QUIET = Noise(dropped=0, shortened=0, shuffled=False, typos=0)


def test_no_noise_changes_nothing():
    assert QUIET.apply("Dry Gin 700 ml", random.Random(0)) == "Dry Gin 700 ml"


@pytest.mark.parametrize(("words", "left"), [(1, 1), (4, 4), (5, 4), (9, 8), (10, 8), (15, 12)])
def test_a_share_of_the_words_is_dropped_rounded_down(words, left):
    title = [f"w{i}" for i in range(words)]
    kept = drop_words(title, 0.2, random.Random(words))
    assert len(kept) == left
    assert kept == [word for word in title if word in kept], "the order stays"


def test_every_word_is_as_likely_to_be_dropped():
    chance, gone = random.Random(3), np.zeros(5)
    for _ in range(5000):
        kept = drop_words(list("abcde"), 0.2, chance)
        gone += [word not in kept for word in "abcde"]
    assert gone.sum() == 5000
    assert np.abs(gone / 5000 - 0.2).max() < 0.02


def test_words_dropped_one_by_one_leave_at_least_one():
    chance = random.Random(4)
    left = [len(drop_words(["a", "b"], 0.5, chance, each=True)) for _ in range(4000)]
    assert min(left) == 1
    assert np.mean(left) == pytest.approx(0.25 * 2 + 0.75, abs=0.03)
    assert drop_words([], 0.5, chance, each=True) == []
    assert drop_words([], 0.5, chance) == []


def test_the_share_of_shortened_words():
    chance, noise = random.Random(5), Noise(dropped=0, shortened=0.2, shuffled=False, typos=0)
    changed = np.array([
        [a != b for a, b in zip(["whiskey", "gin", "12345", "caramel"], noise.apply("whiskey gin 12345 caramel", chance)
                                .split(), strict=True)] for _ in range(4000)
    ])  # fmt: skip
    assert changed[:, 1:3].sum() == 0, "short words and numbers stay"
    assert changed[:, [0, 3]].mean() == pytest.approx(0.2, abs=0.015)


def test_short_forms():
    chance = random.Random(6)
    forms = pd.Series([shorten("Caramel", chance) for _ in range(4000)]).value_counts(normalize=True)
    assert set(forms.index) == {"Car", "Cara", "Crml"}
    assert forms["Crml"] == pytest.approx(0.5, abs=0.03)
    assert [can_shorten(word) for word in ("apple", "pear", "100ml", "a.b.c")] == [True, False, False, False]


def test_all_orders_are_equally_likely():
    chance, noise = random.Random(7), Noise(dropped=0, shortened=0, typos=0)
    orders = pd.Series([noise.apply("a b c", chance) for _ in range(6000)]).value_counts(normalize=True)
    assert len(orders) == 6
    assert (orders - 1 / 6).abs().max() < 0.03


def test_a_typo_is_one_slip_anywhere_digits_and_blanks_included():
    title, chance = "gin 70 cl", random.Random(8)
    lines = [mistype(title, chance) for _ in range(4000)]
    assert all(OSA.distance(title, line) == 1 for line in lines)
    longer, shorter = (np.mean([sign * len(line) > sign * len(title) for line in lines]) for sign in (1, -1))
    assert longer == pytest.approx(1 / len(SLIPS), abs=0.03)
    assert shorter == pytest.approx(1 / len(SLIPS), abs=0.03)
    assert any("70" not in line for line in lines)
    assert any(line.startswith("gin70") for line in lines)


def test_wrong_characters_are_neighbours_on_the_keyboard():
    chance = random.Random(9)
    lines = [line for line in (mistype("Ga7", chance) for _ in range(2000)) if len(line) == 3]
    wrong = {
        (a, b) for line in lines for a, b in zip("Ga7", line, strict=True) if a != b and sorted(line) != sorted("Ga7")
    }
    assert wrong == {("G", "F"), ("G", "H"), ("a", "s"), ("7", "6"), ("7", "8")}


@pytest.mark.parametrize("line", ["", "a", "  ", "aaaa", "ü"])
def test_odd_lines_do_not_stop_it(line):
    for seed in range(40):
        Noise().apply(line, random.Random(seed))
        mistype(line, random.Random(seed))


def test_made_up_lines_are_the_same_for_a_seed():
    products = pd.DataFrame(
        {"product_id": [f"P{i}" for i in range(50)], "title": [f"Dry Gin number {i}" for i in range(50)]}
    )
    lines = made_up_lines(products, seed=1, most=30)
    assert len(lines) == lines["product_id"].nunique() == 30
    assert (lines["vendor_id"] == MADE_UP).all()
    pd.testing.assert_frame_equal(lines, made_up_lines(products, seed=1, most=30))
    assert not lines["vendor_title"].equals(made_up_lines(products, seed=2, most=30)["vendor_title"])
