"""A year of a distributor, week by week: vendors' files as they arrive, and the events that test the loop.

    year = Year(YearConfig(seed=7))
    year.products(week), year.mappings(week)  # the data directory as it is delivered in a week
    year.arrivals(week)                       # the files of that week, with the truth about each line
    year.events                               # what is planted, and in which week

Everything is drawn from one synthetic catalog, so each truth is known. Weeks count from 0.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from shelfwise.synthetic.catalog import SyntheticCatalog, generate
from shelfwise.synthetic.config import SyntheticConfig

JOINED, RENAMED, NAMING, BAD, REPAIRED, OUTAGE, ROLLBACK = (
    "vendor joins",
    "brand renamed",
    "vendor changes its naming",
    "bad training set",
    "training set repaired",
    "outage",
    "operator rolls back",
)
_VOWELS = re.compile(r"(?<=\w)[aeiouAEIOU](?=\w)")


@dataclass(frozen=True)
class Event:
    """Something planted: the week in which it happens, what it is, and to whom."""

    week: int
    kind: str
    what: str = ""


@dataclass(frozen=True)
class Arrival:
    """A vendor's file, and per line the product it means ("" for none)."""

    week: int
    vendor_id: str
    file: str
    lines: pd.DataFrame
    truth: list[str]

    @property
    def key(self) -> str:
        return f"{self.vendor_id}/{self.file}"


@dataclass(frozen=True)
class YearConfig:
    """Sizes of the year and weeks of its events.

    `vendors` send files of `lines` lines every `every` weeks; half of them from the start, the others join one after
    another. `bad_share` of the mappings name another product from week `bad` to week `repaired`.
    """

    weeks: int = 52
    products: int = 2000
    past_mappings: int = 1000
    past_vendors: int = 4
    vendors: int = 8
    lines: int = 100
    every: int = 4
    renamed: int = 17
    naming: int = 25
    bad: int = 29
    repaired: int = 33
    bad_share: float = 0.4
    rollback: int = 38
    outage: int = 44
    outage_weeks: int = 1
    seed: int = 7

    def __post_init__(self) -> None:
        if not 0 < self.renamed < self.naming < self.bad < self.repaired < self.rollback < self.outage < self.weeks:
            raise ValueError("the events must happen in their order, within the year")


class Year:
    """The year of a config; the same one every time."""

    def __init__(self, config: YearConfig | None = None) -> None:
        self.config = config or YearConfig()

    @cached_property
    def catalog(self) -> SyntheticCatalog:
        """The catalog behind it; `uploads` holds all that a vendor will ever send in one frame."""
        one = self.config
        # Every fifth file of a catalog is an earlier vendor's: ask for enough that each of ours has one of its own.
        files = one.vendors + one.vendors // 4
        return generate(
            SyntheticConfig(
                n_products=one.products,
                n_mappings=one.past_mappings,
                n_vendors=one.past_vendors,
                n_listings=0,
                n_uploads=files,
                lines_per_upload=one.lines * (one.weeks // one.every),
                seed=one.seed,
            )
        )

    @cached_property
    def vendors(self) -> list[str]:
        """The vendors that send files, in the order in which they join."""
        return list(dict.fromkeys(vendor for vendor, _ in self.catalog.uploads))[: self.config.vendors]

    def joins(self, vendor: str) -> int:
        """Return the week of a vendor's first file: half are there from the start, one follows every 5 weeks."""
        place, there = self.vendors.index(vendor), (len(self.vendors) + 1) // 2
        return place % self.config.every if place < there else 3 + 5 * (place - there)

    @cached_property
    def brand(self) -> tuple[str, str]:
        """The brand that is renamed, the largest whose name is one word of some length, and its new name."""
        counts = self.catalog.products["brand"].dropna().value_counts()
        old = next(name for name in counts.index if len(name) >= 5 and name.isalpha())
        return old, f"{old[::-1].capitalize()}ex"

    @cached_property
    def changing(self) -> str:
        """The vendor that will write its titles in another way: the first one."""
        return self.vendors[0]

    @cached_property
    def events(self) -> list[Event]:
        """What is planted, by week."""
        one = self.config
        there = (len(self.vendors) + 1) // 2
        planted = [Event(self.joins(vendor), JOINED, vendor) for vendor in self.vendors[there:]]
        planted += [
            Event(one.renamed, RENAMED, " is now ".join(self.brand)),
            Event(one.naming, NAMING, self.changing),
            Event(one.bad, BAD, f"{one.bad_share:.0%} of the past mappings name another product"),
            Event(one.repaired, REPAIRED),
            Event(one.rollback, ROLLBACK),
            Event(one.outage, OUTAGE, f"{one.outage_weeks} week(s)"),
        ]
        return sorted((event for event in planted if event.week < one.weeks), key=lambda event: event.week)

    def products(self, week: int) -> pd.DataFrame:
        """Return the master catalog as it is in a week."""
        products = self.catalog.products
        if week < self.config.renamed:
            return products
        old, new = self.brand
        rows = products["brand"] == old
        titles = products["title"].where(~rows, products["title"].map(lambda title: _renamed(title, old, new)))
        return products.assign(title=titles, brand=products["brand"].where(~rows, new))

    def mappings(self, week: int) -> pd.DataFrame:
        """Return the past mappings as they are delivered in a week; spoilt between `bad` and `repaired`."""
        mappings, one = self.catalog.mappings, self.config
        if not one.bad <= week < one.repaired:
            return mappings
        rng = random.Random(f"{one.seed}/bad")
        ids = self.catalog.products["product_id"].tolist()
        spoilt = [rng.choice(ids) if rng.random() < one.bad_share else held for held in mappings["product_id"]]
        return mappings.assign(product_id=spoilt)

    def arrivals(self, week: int) -> list[Arrival]:
        """Return the files that vendors send in a week."""
        one, found = self.config, []
        for vendor in self.vendors:
            since = week - self.joins(vendor)
            if since < 0 or since % one.every:
                continue
            key = next(key for key in self.catalog.uploads if key[0] == vendor)
            rows = slice(since // one.every * one.lines, (since // one.every + 1) * one.lines)
            lines = self.catalog.uploads[key].iloc[rows].reset_index(drop=True)
            truth = self.catalog.upload_truth[key]["product_id"].iloc[rows].tolist()
            if len(lines):
                lines = lines.assign(title=self._as_written(lines["title"].tolist(), vendor, week))
                found.append(Arrival(week, vendor, f"week-{week:02d}.csv", lines, truth))
        return found

    def _as_written(self, titles: list[str], vendor: str, week: int) -> list[str]:
        """Return titles as a vendor writes them in a week: with a brand's new name two weeks after the catalog; the
        changing vendor's as a till with codes would print them.
        """
        if week >= self.config.renamed + 2:
            titles = [_renamed(title, *self.brand) for title in titles]
        if vendor == self.changing and week >= self.config.naming:
            rng = random.Random(f"{self.config.seed}/naming/{week}")
            titles = [changed_naming(title, rng) for title in titles]
        return titles


def changed_naming(title: str, rng: random.Random) -> str:
    """Return a title as a system prints it that puts a code before it, knows capitals only and saves vowels."""
    words = [
        _VOWELS.sub("", word) if len(word) > 4 and not any(map(str.isdigit, word)) else word for word in title.split()
    ]
    return f"{rng.randrange(10**7, 10**8)}/{rng.choice('ABCDEF')} {' '.join(words).upper()}"


def _renamed(title: str, old: str, new: str) -> str:
    return re.sub(rf"\b{re.escape(old)}\b", new, title, flags=re.IGNORECASE)
