"""Vendors with habits of their own: how each writes titles, and how much of each kind of noise it makes."""

from __future__ import annotations

import random
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from shelfwise.synthetic.noise import KINDS, Line, UnitHabit
from shelfwise.synthetic.products import made_up_name
from shelfwise.synthetic.words import ADDED, BRAND, Word

_TRADES = (
    "trading", "wholesale", "supply", "foods", "direct", "imports", "distribution", "market", "cash-and-carry",
    "partners", "logistics", "depot",
)  # fmt: skip
# What vendors may be used to; an option that is named twice is twice as common.
_HABITS: dict[str, tuple[Any, ...]] = {
    "case": ("as is", "as is", "upper", "lower", "title"),
    "separator": ("space", "space", "space", "dash", "comma", "pipe", "brackets"),
    "volume": ("ml", "cl", "l", "oz", "oz", ""),
    "weight": ("g", "kg", "oz", "lb", ""),
    "strips_accents": (True, False, False),
    "sku_in_title": (0.0, 0.0, 0.0, 0.25, 0.8),
    "gives_brand": (True, True, True, False, False),
    "gives_description": (True, False, False, False),
}
# A vendor's rate of a kind is the stated one times a factor between these two; factors average to one.
_LEAST_FACTOR, _MOST_FACTOR = 0.4, 1.6


@dataclass(frozen=True)
class Vendor:
    """One vendor's habits.

    `rates` are its own noise rates; `case` is "as is", "upper", "lower" or "title"; `separator` is "space", "dash",
    "comma", "pipe" or "brackets"; `sku_in_title` is the share of titles that begin with the SKU; `margin` scales the
    catalog price.
    """

    vendor_id: str
    rates: dict[str, float]
    case: str
    separator: str
    units: UnitHabit
    strips_accents: bool
    sku_prefix: str
    sku_digits: int
    sku_in_title: float
    gives_brand: bool
    gives_description: bool
    margin: float

    def dress(self, line: Line) -> Line:
        """Return the line with the vendor's habits of accents and case; what a till printed stays in capitals."""
        words = line.words
        if self.strips_accents:
            words = tuple(word._replace(text=_ascii(word.text)) for word in words)
        change = {"upper": str.upper, "lower": str.lower, "title": str.title}.get(self.case)
        if change is not None and not line.till:
            words = tuple(word._replace(text=change(word.text)) for word in words)
        return line._replace(words=words)

    def write(self, line: Line, sku: str, rng: random.Random) -> str:
        """Return the title as the vendor's file holds it."""
        if line.till:
            return " ".join(word.text for word in line.words)
        title = _SEPARATORS[self.separator](line.words)
        if self.sku_in_title and rng.random() < self.sku_in_title:
            title = f"[{sku}] {title}" if self.separator == "brackets" else f"{sku} {title}"
        return title

    def sku(self, number: int) -> str:
        """Return the vendor's own code for an item number."""
        return f"{self.sku_prefix}{number:0{self.sku_digits}d}"


def _ascii(text: str) -> str:
    return "".join(char for char in unicodedata.normalize("NFKD", text) if not unicodedata.combining(char))


def _part(word: Word) -> int:
    """Return which part of a title a word belongs to: 0 brand, 1 name, 2 attributes, 3 added."""
    return 3 if word.fact == ADDED else 0 if word.fact == BRAND else 2 if word.is_attribute else 1


def _parts_joined(words: tuple[Word, ...], between: str) -> str:
    text, before = "", None
    for word in words:
        part = _part(word)
        text += ("" if before is None else " " if part == before else between) + word.text
        before = part
    return text


def _in_brackets(words: tuple[Word, ...]) -> str:
    return " ".join(f"({word.text})" if word.is_attribute else word.text for word in words)


_SEPARATORS = {
    "space": lambda words: _parts_joined(words, " "),
    "dash": lambda words: _parts_joined(words, " - "),
    "comma": lambda words: _parts_joined(words, ", "),
    "pipe": lambda words: _parts_joined(words, " | "),
    "brackets": _in_brackets,
}


def make_vendors(
    count: int, seed: int, group: str, taken: set[str], shares: Sequence[float] | None = None
) -> list[Vendor]:
    """Return `count` vendors for a group ("mappings", "uploads") with ids that are not in `taken` (which grows).

    Within the group the rates of each kind of noise average to its stated rate, weighted by the vendors' `shares` of
    the group's lines (equal ones by default). The factors are dealt out anew for each kind, so that a vendor sloppy in
    one way may be careful in another. Habits are dealt like cards: a group has all of them before one comes again.
    """
    rng = random.Random(f"{seed}/vendors/{group}")
    weights = list(shares) if shares is not None else [1.0] * count
    spread = _MOST_FACTOR - _LEAST_FACTOR
    factors = [_LEAST_FACTOR + spread * (place + 0.5) / max(1, count) for place in range(count)]
    rates: list[dict[str, float]] = [{} for _ in range(count)]
    for kind in KINDS:
        rng.shuffle(factors)
        mean = sum(factor * weight for factor, weight in zip(factors, weights, strict=True)) / (sum(weights) or 1.0)
        for own, factor in zip(rates, factors, strict=True):
            own[kind.name] = min(0.97, kind.rate * factor / mean)
    hands = zip(*(_dealt(options, count, rng) for options in _HABITS.values()), strict=True)
    return [
        _make_vendor(rng, own, dict(zip(_HABITS, hand, strict=True)), taken)
        for own, hand in zip(rates, hands, strict=True)
    ]


def _dealt(options: tuple[Any, ...], count: int, rng: random.Random) -> list[Any]:
    """Return `count` of the options, each as often as the others or once more, in random order."""
    deck: list[Any] = []
    while len(deck) < count:
        deck += rng.sample(options, len(options))
    return deck[:count]


def _make_vendor(rng: random.Random, rates: dict[str, float], habits: dict[str, Any], taken: set[str]) -> Vendor:
    while True:
        name = made_up_name(rng)
        vendor_id = f"{name.lower()}-{rng.choice(_TRADES)}"
        if vendor_id not in taken:
            break
    taken.add(vendor_id)
    return Vendor(
        vendor_id=vendor_id,
        rates=rates,
        case=habits["case"],
        separator=habits["separator"],
        units=UnitHabit(habits["volume"], habits["weight"]),
        strips_accents=habits["strips_accents"],
        sku_prefix=rng.choice(("", f"{name[:3].upper()}-", f"{name[:2].upper()}", "ART", "#")),
        sku_digits=rng.choice((5, 6, 8)),
        sku_in_title=habits["sku_in_title"],
        gives_brand=habits["gives_brand"],
        gives_description=habits["gives_description"],
        margin=rng.uniform(0.85, 1.25),
    )
