"""Labelled marketplace listings: a seller's title, text and picture, and the category that the seller chose.

Hard in the ways such data is, each of them written down in the truth: missing and useless descriptions, accessories
that read like the product they are for ("case for ..."), two right categories where that is natural, older names of
categories, categories chosen wrongly (mostly a neighbour of the right one), one seller who does so all the time, and
pictures that are missing, broken, turned, tiny, no photograph at all.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from shelfwise.synthetic.categories import LEAVES
from shelfwise.synthetic.lines import noisy_title
from shelfwise.synthetic.products import Product
from shelfwise.synthetic.vendors import Vendor

DESCRIBED_SHARE, USELESS_SHARE = 0.7, 0.08
ACCESSORY_SHARE = 0.15
BOTH_SHARE = 0.8
MISLABELLED_SHARE, CARELESS_SHARE = 0.025, 0.35
PICTURED_SHARE = 0.9
# Kinds of pictures that are not as they should be, and the share of each; "plain" is the rest.
ODD_PICTURES = {
    "turned": 0.02, "cmyk": 0.01, "transparent": 0.02, "animated": 0.005, "tiny": 0.005, "broken": 0.005,
    "placeholder": 0.02,
}  # fmt: skip
PLACEHOLDER = "images/no-photo.jpg"

_USELESS = (
    "Fast delivery. New and unused.", "See photos for details.", "Ships within 24 hours, satisfaction guaranteed!",
    "Please read our terms before you buy.", "100% original. Buy with confidence.",
)  # fmt: skip
# What is sold for the products of a category, and where that belongs.
_ACCESSORIES: dict[str, tuple[tuple[str, str], ...]] = {
    "Electronics > Phones > Smartphones": (
        ("Case for", "Electronics > Accessories > Phone Cases"),
        ("Bumper cover compatible with", "Electronics > Accessories > Phone Cases"),
        ("Charger for", "Electronics > Accessories > Chargers"),
        ("Charging cable for", "Electronics > Accessories > Cables"),
    ),
    "Electronics > Computers > Laptops": (("Power adapter for", "Electronics > Accessories > Chargers"),),
    "Electronics > Computers > Tablets": (
        ("Folding case for", "Electronics > Accessories > Phone Cases"),
        ("Charger for", "Electronics > Accessories > Chargers"),
    ),
    "Electronics > TV & Video > Televisions": (("HDMI cable for", "Electronics > Accessories > Cables"),),
    "Electronics > Audio > Headphones": (("Replacement cable for", "Electronics > Accessories > Cables"),),
    "Electronics > Cameras > Cameras": (("Memory card for", "Electronics > Computers > Memory Cards"),),
    "Electronics > Wearables > Smartwatches": (("Charging dock for", "Electronics > Accessories > Chargers"),),
    "Garden > Tools > Power Tools": (("Bit set for", "Garden > Tools > Drill Bits"),),
    "Pet > Dogs > Dry Dog Food": (("Airtight container for", "Household > Kitchen > Storage Boxes"),),
}
# (category, attribute or part of the name, what has to be in it, the other right category); "" is any value.
_SECOND: tuple[tuple[str, str, str, str], ...] = (
    ("Beauty > Skin > Face Cream", "spf", "", "Beauty > Sun > Sun Cream"),
    ("Beauty > Make-up > Foundation", "noun", "BB Cream", "Beauty > Skin > Face Cream"),
    ("Grocery > Biscuits > Cookies", "flavour", "Chocolate", "Grocery > Snacks > Chocolate"),
    ("Sports > Nutrition > Protein Powder", "noun", "Creatine", "Health > Vitamins > Multivitamins"),
)
# What some sellers still call a category; the seed category_mapping of the dbt project merges these names.
OLDER_NAMES: dict[str, str] = {
    "Electronics": "All Electronics",
    "Drinks > Spirits > Whisky": "Drinks > Spirits > Whiskey",
    "Household > Cleaning > Laundry": "Household > Cleaning > Detergents",
}
_SEVERAL = " | "
LISTING_COLUMNS = ["listing_id", "title", "description", "category", "image", "seller_id"]
TRUTH_COLUMNS = [
    "listing_id", "product_id", "noise", "kind", "category", "is_mislabelled", "is_older_name", "picture",
]  # fmt: skip
PICTURE_COLUMNS = ["listing_id", "category", "colour", "kind"]


@dataclass(frozen=True)
class Listings:
    """`listings`: the table of the data contract. `truth`: per listing the product (of an accessory: what it is for),
    noise, kind ("product" or "accessory"), the right category (or several), whether the seller chose another one or
    wrote an older name, and the kind of its picture ("" without). `pictures`: what to draw.
    `sellers`: seller_id and whether it is the careless one.
    """

    listings: pd.DataFrame
    truth: pd.DataFrame
    pictures: pd.DataFrame
    sellers: pd.DataFrame


def make_listings(products: list[Product], sellers: Sequence[Vendor], count: int, n_images: int, seed: int) -> Listings:
    """Return `count` listings by these sellers; the first `n_images` of them may have a picture of their own."""
    rng = random.Random(f"{seed}/listings")
    chosen = rng.sample(products, count) if count <= len(products) else rng.choices(products, k=count)
    careless = rng.choice(sellers).vendor_id
    old_fashioned = {seller.vendor_id for seller in rng.sample(list(sellers), max(1, len(sellers) // 4))}
    neighbours = _Neighbours({product.family.leaf.path for product in products})
    rows, truth, pictures = [], [], []
    for number, product in enumerate(chosen, start=1):
        listing_id, seller = f"L{number:07d}", rng.choice(sellers)
        line = noisy_title(product.words(), seller, seller.sku(number), rng)
        title, kind, right = line.title, "product", product.family.leaf.path
        fitting = _ACCESSORIES.get(right, ())
        if fitting and rng.random() < ACCESSORY_SHARE:
            phrase, right = rng.choice(fitting)
            kind, title = "accessory", f"{_in_case(phrase, seller)} {title}"
        both = [right] if kind == "accessory" else [right, *_second(product, rng)]
        given = list(both)
        wrong = rng.random() < (CARELESS_SHARE if seller.vendor_id == careless else MISLABELLED_SHARE)
        if wrong:
            given = [neighbours.another(right, both, seller.vendor_id == careless, rng)]
        named = [_older_name(path) if seller.vendor_id in old_fashioned else path for path in given]
        picture = _picture_kind(rng) if number <= n_images else ""
        image = PLACEHOLDER if picture == "placeholder" else f"images/{listing_id}{_ending(picture)}"
        description = _description(product, kind, rng)
        rows.append(
            (listing_id, title, description, _SEVERAL.join(named), image if picture else None, seller.vendor_id)
        )
        noise = "|".join(line.noise)
        truth.append((listing_id, product.product_id, noise, kind, _SEVERAL.join(both), wrong, named != given, picture))
        if picture:
            pictures.append((listing_id, right, product.attributes().get("colour", ""), picture))
    who = pd.DataFrame({"seller_id": [seller.vendor_id for seller in sellers]})
    who["is_careless"] = who["seller_id"] == careless
    return Listings(
        pd.DataFrame(rows, columns=pd.Index(LISTING_COLUMNS)).astype({"image": "object"}),
        pd.DataFrame(truth, columns=pd.Index(TRUTH_COLUMNS)),
        pd.DataFrame(pictures, columns=pd.Index(PICTURE_COLUMNS)),
        who,
    )


class _Neighbours:
    """Which category somebody chooses by mistake: one beside the right one, or anything at all."""

    def __init__(self, known: set[str]) -> None:
        self.all = [leaf.path for leaf in LEAVES if leaf.path in known]
        self.beside: dict[str, list[str]] = defaultdict(list)
        for path in self.all:
            self.beside[path.rpartition(" > ")[0]].append(path)
            self.beside[path.partition(" > ")[0]].append(path)

    def another(self, right: str, not_these: Sequence[str], anything: bool, rng: random.Random) -> str:
        """Return a wrong category: of the same branch, else of the same department, else any one."""
        nearest = [right.rpartition(" > ")[0], right.partition(" > ")[0]]
        if rng.random() < 0.4:
            nearest = nearest[1:]
        for options in [*([] if anything else [self.beside[one] for one in nearest]), self.all]:
            others = [path for path in options if path not in not_these]
            if others:
                return rng.choice(others)
        return right  # a catalog of one category: nothing else could be chosen


def _second(product: Product, rng: random.Random) -> list[str]:
    family, facts = product.family, product.attributes()
    for path, name, needed, other in _SECOND:
        if path == family.leaf.path:
            value = {"noun": family.noun, "style": family.style}.get(name, facts.get(name, ""))
            if value and needed in value and rng.random() < BOTH_SHARE:
                return [other]
    return []


def _older_name(path: str) -> str:
    for name, older in OLDER_NAMES.items():
        if f"{path} > ".startswith(f"{name} > "):
            return older + path[len(name) :]
    return path


def _description(product: Product, kind: str, rng: random.Random) -> str | None:
    draw = rng.random()
    if draw >= DESCRIBED_SHARE:
        return None
    if draw < USELESS_SHARE:
        return rng.choice(_USELESS)
    return f"Fits: {product.family.blurb}" if kind == "accessory" else product.family.blurb


def _in_case(phrase: str, seller: Vendor) -> str:
    change = {"upper": str.upper, "lower": str.lower, "title": str.title}.get(seller.case)
    return change(phrase) if change else phrase


def _picture_kind(rng: random.Random) -> str:
    if rng.random() >= PICTURED_SHARE:
        return ""
    draw = rng.random()
    for kind, share in ODD_PICTURES.items():
        if draw < share:
            return kind
        draw -= share
    return "plain"


def _ending(kind: str) -> str:
    return {"transparent": ".png", "animated": ".gif"}.get(kind, ".jpg")
