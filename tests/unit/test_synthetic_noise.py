"""Each kind of noise does what its name says, and occurs as often as stated."""

from __future__ import annotations

import math
import random
import re

import pandas as pd
import pytest

from shelfwise.synthetic import KINDS, NOISE_RATES, SyntheticConfig, generate
from shelfwise.synthetic import noise as kinds
from shelfwise.synthetic.noise import Line, UnitHabit, misread
from shelfwise.synthetic.products import Assortment
from shelfwise.synthetic.units import respell
from shelfwise.synthetic.words import BRAND, NOUN, Word, joined, plain
from shelfwise.text import normalise

HABIT = UnitHabit("", "")
BY_NAME = {kind.name: kind for kind in KINDS}
NAMES = [
    "unit_rewriting", "abbreviation", "dropped_tokens", "reordered_tokens", "pos_truncation",
    "case", "marketing", "typo", "look_alike", "mojibake",
]  # fmt: skip


@pytest.fixture(scope="module")
def lines() -> list[Line]:
    """Clean titles of a small catalog."""
    products = Assortment(SyntheticConfig(n_products=800, n_uploads=0)).products
    return [Line(product.words()) for product in products]


def applied(name: str, line: Line, seed: int = 1, habit: UnitHabit = HABIT) -> str:
    return joined(BY_NAME[name].apply(line, random.Random(seed), habit).words)


def test_the_table_lists_every_named_kind_in_order():
    assert list(NOISE_RATES) == NAMES
    assert all(0 < rate < 0.6 for rate in NOISE_RATES.values())


@pytest.mark.parametrize("name", NAMES)
def test_a_kind_changes_every_line_it_applies_to_and_is_a_pure_function(lines, name):
    kind = BY_NAME[name]
    able = [line for line in lines if kind.applies(line)]
    assert len(able) > 50
    for number, line in enumerate(able):
        before = tuple(line.words)
        first = kind.apply(line, random.Random(number), HABIT)
        assert joined(first.words) != joined(line.words), joined(line.words)
        assert kind.apply(line, random.Random(number), HABIT) == first
        assert line.words == before


@pytest.mark.parametrize(
    ("text", "volume", "weight", "expected"),
    [
        ("750ml", "cl", "", {"75cl", "75 cl", "75CL"}),
        ("750ml", "l", "", {"0.75L", ".75L", "0.75 ltr", "0,75 L"}),
        ("750ml", "oz", "", {"25.4oz", "25.4 fl oz", "25.4 OZ"}),
        ("1.75L", "ml", "", {"1750ml", "1750 ml", "1750 ML", "1750ML"}),
        ("500g", "", "kg", {"0.5kg", "0.5 kg", "0,5 KG"}),
        ("1kg", "", "lb", {"2.2lb", "2.2 lbs"}),
        ("12 Year", "", "", {"12yr", "12yo", "12 yrs", "12 Years Old", "12YR"}),
        ("EU 42", "", "", {"EU42", "sz 42", "size 42", "42"}),
        ("Smoked Pepper", "", "", set()),
        ("2019", "", "", set()),
    ],
)
def test_units_are_rewritten(text, volume, weight, expected):
    assert set(respell(text, volume, weight)) == expected


@pytest.mark.parametrize("text", ["50ml", "187ml", "700ml", "750ml", "1.75L", "400g", "1.5kg", "15kg"])
def test_metric_spellings_of_a_measure_mean_the_same(text):
    same = {normalise(text)}
    for volume, weight in (("ml", "g"), ("cl", "kg"), ("l", "kg")):
        same |= {normalise(spelling) for spelling in respell(text, volume, weight)}
    assert len(same) == 1


def test_a_vendor_uses_its_favourite_unit():
    line = Line((plain("Brand", BRAND), plain("750ml", "volume"), plain("300g", "weight")))
    for seed in range(20):
        text = applied("unit_rewriting", line, seed, UnitHabit("oz", "lb"))
        assert re.fullmatch(r"Brand 25\.4(oz| fl oz| OZ) 0\.66(lb| lbs)", text)


def test_words_are_abbreviated_by_dictionary_without_vowels_or_with_a_dot():
    line = Line((plain("Chocolate", NOUN),))
    assert applied("abbreviation", line) == "Choc"
    seen = {applied("abbreviation", Line((plain("Blackthorne", BRAND),)), seed) for seed in range(60)}
    assert seen == {"Blckthrne", "Blac.", "Black."}


def test_dropping_leaves_out_words_and_adds_none(lines):
    for seed, line in enumerate(lines):
        rest = BY_NAME["dropped_tokens"].apply(line, random.Random(seed), HABIT).words
        assert len(line.words) - 2 <= len(rest) < len(line.words)
        assert set(rest) <= set(line.words)


def test_distinguishing_attributes_are_seldom_dropped(lines):
    losses = sum(
        sum(word.is_attribute for word in line.words)
        - sum(word.is_attribute for word in BY_NAME["dropped_tokens"].apply(line, random.Random(seed), HABIT).words)
        for seed, line in enumerate(lines)
    )
    assert 0 < losses / len(lines) < 0.2


def test_reordering_keeps_every_word(lines):
    for seed, line in enumerate(lines):
        other = BY_NAME["reordered_tokens"].apply(line, random.Random(seed), HABIT).words
        assert sorted(other) == sorted(line.words)


def test_a_till_prints_18_to_30_capitals(lines):
    kind = BY_NAME["pos_truncation"]
    lengths = []
    for seed, line in enumerate(line for line in lines if kind.applies(line)):
        squeezed = kind.apply(line, random.Random(seed), HABIT)
        text = joined(squeezed.words)
        assert squeezed.till
        assert text == text.upper()
        lengths.append(len(text))
    assert max(lengths) == 30
    assert sum(length >= 18 for length in lengths) / len(lengths) > 0.9


def test_a_till_leaves_no_room_for_marketing_or_other_cases():
    line = Line((plain("BRAND", BRAND), plain("ALE", NOUN)), till=True)
    assert not BY_NAME["marketing"].applies(line)
    assert not BY_NAME["case"].applies(line)


def test_a_cut_word_no_longer_states_its_fact():
    line = Line(tuple(plain(text, NOUN) for text in ["Extraordinarily", "Longwinded", "Nomenclature"]))
    for seed in range(40):
        words = BY_NAME["pos_truncation"].apply(line, random.Random(seed), HABIT).words
        for word in words:
            assert word.origin == "" or len(word.text) >= 3


def test_case_changes_nothing_but_case(lines):
    for seed, line in enumerate(lines[:200]):
        assert applied("case", line, seed).lower() == joined(line.words).lower()


def test_marketing_words_surround_the_title(lines):
    for seed, line in enumerate(lines[:200]):
        title = joined(line.words)
        before, found, after = applied("marketing", line, seed).partition(title)
        assert found
        assert before or after
        assert {text.strip() for text in (before, after)} - {""} <= set(kinds.MARKETING)


def test_typos_stay_within_words_of_four_letters_and_more(lines):
    for seed, line in enumerate(lines):
        typed = BY_NAME["typo"].apply(line, random.Random(seed), HABIT).words
        changed = [(old, new) for old, new in zip(line.words, typed, strict=True) if old != new]
        assert 1 <= len(changed) <= 2
        for old, new in changed:
            assert sum(char.isalpha() for char in old.text) >= 4
            assert abs(len(old.text) - len(new.text)) <= 1
            assert re.sub(r"\D", "", old.text) == re.sub(r"\D", "", new.text)


def test_look_alikes_look_the_same_to_the_normal_form():
    line = Line((plain("Pearl", BRAND), plain("Cocoa", NOUN)))
    for seed in range(30):
        text = applied("look_alike", line, seed)
        assert not text.isascii()
        assert 1 <= sum(not char.isascii() for char in text) <= 3
        assert len(text) == len("Pearl Cocoa")


@pytest.mark.parametrize(("text", "broken"), [("Café", "CafÃ©"), ("Ürün", "Ãœrün"), ("plain", "plain")])
def test_mojibake_is_utf8_read_as_latin1(text, broken):
    expected = text.encode().decode("cp1252")
    assert misread(text) == expected
    assert broken[:2] == expected[:2]
    assert normalise(misread(text)) == normalise(text)


def test_mojibake_copes_with_bytes_that_windows_1252_lacks():
    assert misread("À Í") == "Ã€ Ã\x8d"


def test_an_added_word_states_nothing():
    assert not Word("NEW!", "", "").is_attribute


@pytest.fixture(scope="module")
def catalog():
    return generate(SyntheticConfig(n_products=2_000, n_mappings=9_000, n_uploads=10, lines_per_upload=300))


def _counts(truth: pd.DataFrame, name: str) -> tuple[pd.Series, pd.Series]:
    return (
        truth["applicable"].str.split("|").map(lambda names: name in names),
        truth["noise"].str.split("|").map(lambda names: name in names),
    )


@pytest.mark.parametrize("name", NAMES)
def test_each_kind_occurs_at_its_stated_rate(catalog, name):
    truth = catalog.truth["mappings"]
    applies, applied_to = _counts(truth, name)
    assert not (applied_to & ~applies).any()
    n = int(applies.sum())
    assert n > 500
    rates = catalog.truth["vendors"].set_index("vendor_id")[f"rate_{name}"]
    own = truth.loc[applies, "vendor_id"].map(rates)
    spread = math.sqrt((own * (1 - own)).sum())
    assert abs(applied_to.sum() - own.sum()) < 4 * spread
    # Accents, and with them mojibake, are unknown to some vendors, so that the others' mean may differ from the stated.
    assert applied_to.sum() / n == pytest.approx(NOISE_RATES[name], rel=0.2 if name == "mojibake" else 0.07, abs=0.012)


@pytest.mark.parametrize("name", NAMES)
def test_uploads_have_the_stated_rates_too(catalog, name):
    truth = pd.concat(catalog.upload_truth.values())
    applies, applied_to = _counts(truth, name)
    rate, n = NOISE_RATES[name], int(applies.sum())
    tolerance = 4 * math.sqrt(rate * (1 - rate) / n) + (0.2 * rate if name == "mojibake" else 0.03 * rate)
    assert abs(applied_to.sum() / n - rate) < tolerance


def test_vendors_differ_in_their_rates(catalog):
    vendors = catalog.truth["vendors"]
    for name in NAMES:
        rates = vendors.loc[vendors["group"] == "mappings", f"rate_{name}"]
        assert rates.max() > 2 * rates.min()
