"""The master catalog: made-up brands, product families, and variants that differ in one attribute.

A family is a brand's product line in one category ("Dorvik Silver Peak Blended Whisky"). Its variants grow as a tree:
each new one is an earlier one with exactly one attribute changed (12 to 15 years, 700ml to 1L). Some variants and some
whole families are withheld from the catalog: vendors sell them too, and such lines match nothing.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import accumulate

import numpy as np
import pandas as pd

from shelfwise.synthetic import vocabulary as vocab
from shelfwise.synthetic.categories import LEAVES, Axis, Leaf
from shelfwise.synthetic.config import SyntheticConfig
from shelfwise.synthetic.words import BRAND, LINE, NOUN, STYLE, Word, joined, plain

UNSTATED = -1
_FAMILY_SIZES = (1, 2, 3, 4, 6, 8, 10, 14, 20, 30)
_FAMILY_SIZE_WEIGHTS = (10, 10, 12, 12, 13, 13, 11, 9, 6, 4)
# In which order titles name their parts; attributes always come last in the master catalog.
_ORDERS = ((BRAND, LINE, STYLE, NOUN), (BRAND, LINE, NOUN, STYLE), (BRAND, STYLE, LINE, NOUN))
_NUMBER = re.compile(r"(\d+(?:\.\d+)?)\s?([A-Za-z]*)")
_THOUSANDFOLD = {"L": 1000, "kg": 1000, "TB": 1000}
# By which power of the amount the price grows, for the attributes that move it.
_PRICE_EXPONENTS = {
    "volume": 0.85, "weight": 0.85, "pack": 0.9, "count": 0.85, "age": 0.8, "screen": 1.1, "storage": 0.4,
    "memory": 0.4, "power": 0.3, "capacity": 0.5, "length": 0.4, "pieces": 0.6, "diameter": 0.7, "voltage": 0.5,
}  # fmt: skip
_COMPOUND_SHARE = 0.45
# How many families are named after an older one of the same brand and category.
_SISTER_SHARE = 0.45
_MISSING_SHARES = {"brand": 0.03, "category": 0.02, "description": 0.15, "price": 0.01}


@dataclass(frozen=True)
class Brand:
    """A made-up brand: where it sells, how dear it is, how its titles are ordered."""

    name: str
    department: str
    price_factor: float
    order: tuple[str, ...]


@dataclass(slots=True, eq=False)
class Family:
    """One brand line in one category; `members` are in the catalog, `withheld` are not."""

    number: int
    brand: Brand
    line: tuple[str, ...]
    style: str
    noun: str
    leaf: Leaf
    price: float
    blurb: str
    members: list[Product] = field(default_factory=list)
    withheld: list[Product] = field(default_factory=list)

    @property
    def axes(self) -> tuple[Axis, ...]:
        """Return the attribute axes of the family's category."""
        return self.leaf.attribute_axes


@dataclass(slots=True, eq=False)
class Product:
    """One product: a value (as index) on each axis of its family, and the variant it was grown from."""

    family: Family
    values: tuple[int, ...]
    parent: Product | None = None
    changed_axis: int | None = None
    product_id: str = ""

    def attributes(self) -> dict[str, str]:
        """Return attribute name to value as titles write it; "" where titles do not mention it."""
        return {
            axis.name: axis.values[value] if value != UNSTATED else ""
            for axis, value in zip(self.family.axes, self.values, strict=True)
        }

    def words(self) -> tuple[Word, ...]:
        """Return the words of the catalog title."""
        family = self.family
        parts = {
            BRAND: [plain(family.brand.name, BRAND)],
            LINE: [plain(text, LINE) for text in family.line],
            STYLE: [plain(family.style, STYLE)] if family.style else [],
            NOUN: [plain(text, NOUN) for text in family.noun.split()],
        }
        words = [word for part in family.brand.order for word in parts[part]]
        words += [plain(text, name) for name, text in self.attributes().items() if text]
        return tuple(words)

    def title(self) -> str:
        """Return the catalog title."""
        return joined(self.words())

    def size(self) -> str | None:
        """Return what the size column says ("700ml", "6 x 330ml"), or None where the product has no size."""
        attributes = self.attributes()
        sizes = [attributes[axis.name] for axis in self.family.axes if axis.is_size and attributes[axis.name]]
        if not sizes:
            return None
        pack = attributes.get("pack", "")
        return f"{pack.split()[0]} x {sizes[0]}" if pack else sizes[0]

    def price(self) -> float:
        """Return the catalog price: the family's price scaled by what the variant holds."""
        price = self.family.price
        for axis, value in zip(self.family.axes, self.values, strict=True):
            if value != UNSTATED:
                price *= _price_factor(axis, axis.values[value])
        return max(0.2, round(round(price * 20) / 20 - 0.01, 2))


@lru_cache(maxsize=4096)
def _amount(text: str) -> float | None:
    """Return the number in an attribute value, litres as millilitres and so on, or None where it holds none."""
    match = _NUMBER.match(text)
    if match is None:
        return None
    return float(match.group(1)) * _THOUSANDFOLD.get(match.group(2), 1)


@lru_cache(maxsize=256)
def _middling(axis: Axis) -> float:
    amounts = sorted(amount for amount in map(_amount, axis.values) if amount)
    return amounts[len(amounts) // 2]


def _price_factor(axis: Axis, text: str) -> float:
    """Return how an attribute's value scales the price: bigger is dearer, but less than proportionally."""
    exponent = _PRICE_EXPONENTS.get(axis.name)
    amount = _amount(text) if exponent else None
    if not exponent or not amount:
        return 1.0
    return (amount / (1 if axis.name == "pack" else _middling(axis))) ** exponent


def made_up_name(rng: random.Random, accent_share: float = 0.0) -> str:
    """Return a pronounceable made-up word of two or three syllables, some with an accent."""
    syllables = rng.choice((2, 2, 2, 3))
    name = ""
    for _ in range(syllables):
        name += rng.choice(vocab.ONSETS) + rng.choice(vocab.VOWELS)
    name += rng.choice(vocab.CODAS)
    if rng.random() < accent_share:
        places = [index for index, char in enumerate(name) if char in vocab.ACCENTED and index]
        if places:
            place = rng.choice(places)
            name = name[:place] + vocab.ACCENTED[name[place]] + name[place + 1 :]
    return name.capitalize()


def _compound_name(rng: random.Random) -> str:
    """Return a name put together from the words that product lines use too ("Silverpeak"): brands sound alike."""
    return rng.choice(vocab.LINE_FIRST) + rng.choice(vocab.LINE_SECOND).lower()


def make_brands(count: int, rng: random.Random, taken: set[str]) -> list[Brand]:
    """Return `count` brands with names that are not in `taken` (which grows by them)."""
    shares: dict[str, float] = {}
    for leaf, weight in zip(LEAVES, leaf_weights(), strict=True):
        shares[leaf.department] = shares.get(leaf.department, 0.0) + weight
    departments = list(shares)
    homes = departments + rng.choices(departments, [shares[name] for name in departments], k=count)
    brands = []
    while len(brands) < count:
        form = rng.choice(vocab.BRAND_FORMS)
        first = _compound_name(rng) if rng.random() < _COMPOUND_SHARE else made_up_name(rng, 0.2)
        name = form.format(a=first, b=made_up_name(rng))
        if name.lower() in taken:
            continue
        taken.add(name.lower())
        factor = min(4.0, rng.lognormvariate(0.0, 0.4))
        brands.append(Brand(name, homes[len(brands) % len(homes)], factor, rng.choice(_ORDERS)))
    return brands


def leaf_weights() -> list[float]:
    """Return the share of each leaf in the catalog, unscaled: a Zipf tail over the order in the vocabulary."""
    return [1.0 / (rank + 2) for rank in range(1, len(LEAVES) + 1)]


def _sister_line(older: tuple[str, ...], fresh: tuple[str, ...]) -> tuple[str, ...]:
    """Return a line named like an older one of the brand, with its last word changed or one word more."""
    if len(older) < 2 or not fresh:
        return (*older, *fresh[-1:])
    return (*older[:-1], fresh[-1])


class Assortment:
    """Every family there is, in the catalog or withheld from it; deterministic for a config.

    `products` is the catalog in the order of its ids, `near_misses` are withheld variants of catalog families,
    `foreign` are products of families that the catalog does not hold. `duplicates` maps a product id to the extra
    ids under which the same product is listed again.
    """

    def __init__(self, config: SyntheticConfig) -> None:
        self._rng = random.Random(f"{config.seed}/products")
        self._keys: set[tuple[str, tuple[str, ...], str]] = set()
        # The newest family of each brand and leaf: (noun, line).
        self._latest: dict[tuple[str, str], tuple[str, tuple[str, ...]]] = {}
        self._cumulative = list(accumulate(leaf_weights()))
        taken: set[str] = set()
        known = make_brands(int(5 * config.n_products**0.45), self._rng, taken)
        unknown = make_brands(max(12, len(known) // 8), self._rng, taken)
        self._known = _by_department(known)
        self._foreign_brands = {
            name: [*_by_department(unknown).get(name, []), *brands[: len(brands) // 8 + 1]]
            for name, brands in self._known.items()
        }
        n_duplicates = int(config.duplicate_share * config.n_products)
        self.families: list[Family] = []
        self._fill(config.n_products - n_duplicates)
        needed = round(config.n_uploads * config.lines_per_upload * config.no_match_share) + 20
        self.near_misses = self._withhold(needed)
        self.foreign = self._make_foreign(min(needed, 3 * config.lines_per_upload + 50))
        self.products = [product for family in self.families for product in family.members]
        self._rng.shuffle(self.products)
        self._number(n_duplicates)

    def _fill(self, count: int) -> None:
        made = 0
        first_of_each = iter(LEAVES)
        while made < count:
            leaf = next(first_of_each, None) or self._pick_leaf()
            family = self._make_family(leaf, self._known)
            size = self._rng.choices(_FAMILY_SIZES, _FAMILY_SIZE_WEIGHTS)[0]
            family.members = self._grow(family, min(size, count - made))
            made += len(family.members)
            self.families.append(family)

    def _pick_leaf(self) -> Leaf:
        return self._rng.choices(LEAVES, cum_weights=self._cumulative)[0]

    def _make_family(self, leaf: Leaf, brands: dict[str, list[Brand]]) -> Family:
        """Return a family whose brand, line and noun no other family has together."""
        rng = self._rng
        own = brands[leaf.department]
        attempts = 0
        while True:
            attempts += 1
            brand = own[int(len(own) * rng.random() ** 1.7)]
            line = self._make_line(leaf.department)
            noun = rng.choice(leaf.nouns)
            older = self._latest.get((brand.name, leaf.path))
            if older and rng.random() < _SISTER_SHARE:
                noun, line = older[0], _sister_line(older[1], line)
            if attempts > 4:
                line = (*line, str(rng.randint(2, 99 if attempts < 40 else 99_999)))
            if (brand.name, line, noun) not in self._keys:
                break
        self._keys.add((brand.name, line, noun))
        self._latest[brand.name, leaf.path] = (noun, line)
        style = rng.choice(leaf.styles) if rng.random() < 0.6 else ""
        blurb = rng.choice(vocab.DESCRIPTION_OPENERS).format(
            style=style.lower() or "fine", noun=noun.lower(), brand=brand.name, line=" ".join(line) or brand.name
        )
        blurb = f"{blurb[0].upper()}{blurb[1:]} {rng.choice(vocab.DESCRIPTION_CLOSERS)}".rstrip()
        price = leaf.price * brand.price_factor * rng.lognormvariate(0, 0.2)
        return Family(len(self._keys) - 1, brand, line, style, noun, leaf, price, blurb)

    def _make_line(self, department: str) -> tuple[str, ...]:
        rng = self._rng
        if department in vocab.TECH_DEPARTMENTS:
            line = [rng.choice(vocab.TECH_LINES)] if rng.random() < 0.75 else []
            code = rng.choice("ABEGKMPQRSTVXZ") * (rng.random() < 0.6) + str(
                rng.choice((1, 10, 100)) * rng.randint(1, 29)
            )
            line += [code] if not line or rng.random() < 0.7 else []
            return (*line, rng.choice(vocab.TECH_TIERS)) if rng.random() < 0.4 else tuple(line)
        firsts = vocab.CARE_LINES if department in vocab.CARE_DEPARTMENTS else vocab.LINE_FIRST
        form = rng.random()
        if form < 0.08:
            return ()
        if form < 0.5:
            return (rng.choice(rng.choice((firsts, vocab.LINE_SECOND))),)
        return (rng.choice(firsts), rng.choice(vocab.LINE_SECOND))

    def _grow(self, family: Family, size: int) -> list[Product]:
        """Return up to `size` variants: each differs from an earlier one in exactly one attribute."""
        rng = self._rng
        axes = family.axes
        varying = rng.sample(range(len(axes)), k=min(len(axes), rng.choice((1, 2, 2, 3))))
        base = tuple(
            UNSTATED
            if index not in varying and not axis.is_size and rng.random() < 0.4
            else rng.randrange(len(axis.values))
            for index, axis in enumerate(axes)
        )
        members = [Product(family, base)]
        seen = {base}
        for _ in range(size - 1):
            child = self._vary(members, varying, seen)
            if child is None:
                break
            members.append(child)
        return members

    def _vary(self, members: list[Product], varying: list[int], seen: set[tuple[int, ...]]) -> Product | None:
        rng = self._rng
        for _ in range(12):
            parent = rng.choice(members)
            axis = rng.choice(varying)
            value = rng.randrange(len(parent.family.axes[axis].values))
            values = (*parent.values[:axis], value, *parent.values[axis + 1 :])
            if values not in seen:
                seen.add(values)
                return Product(parent.family, values, parent, axis)
        return None

    def _withhold(self, needed: int) -> list[Product]:
        """Grow variants of catalog families that stay out of the catalog."""
        rng = self._rng
        withheld: list[Product] = []
        candidates = [family for family in self.families if family.axes]
        chosen = rng.sample(candidates, k=min(len(candidates), max(20, needed)))
        for family in chosen:
            stated = [index for index, value in enumerate(family.members[0].values) if value != UNSTATED]
            seen = {member.values for member in family.members}
            variant = self._vary(family.members, stated, seen)
            if variant is not None:
                variant.product_id = f"W{len(withheld):07d}"
                family.withheld.append(variant)
                withheld.append(variant)
        return withheld

    def _make_foreign(self, needed: int) -> list[Product]:
        """Make families that the catalog does not hold at all, some of them by brands that it knows."""
        foreign: list[Product] = []
        while len(foreign) < needed:
            family = self._make_family(self._pick_leaf(), self._foreign_brands)
            family.withheld = self._grow(family, 3)
            for product in family.withheld:
                product.product_id = f"F{len(foreign):07d}"
                foreign.append(product)
        return foreign

    def _number(self, n_duplicates: int) -> None:
        total = len(self.products) + n_duplicates
        places = sorted(self._rng.sample(range(1, total), n_duplicates))
        originals = self._rng.sample(self.products, n_duplicates)
        self.duplicates: dict[str, Product] = {
            f"P{place + 1:07d}": product for place, product in zip(places, originals, strict=True)
        }
        free = (f"P{place + 1:07d}" for place in range(total) if f"P{place + 1:07d}" not in self.duplicates)
        for product, product_id in zip(self.products, free, strict=True):
            product.product_id = product_id

    def listed(self) -> list[tuple[str, Product]]:
        """Return (product_id, product) for every row of the catalog in the order of the ids."""
        rows = [(product.product_id, product) for product in self.products]
        return sorted([*rows, *self.duplicates.items()], key=lambda row: row[0])


def _by_department(brands: list[Brand]) -> dict[str, list[Brand]]:
    grouped: dict[str, list[Brand]] = {}
    for brand in brands:
        grouped.setdefault(brand.department, []).append(brand)
    return grouped


def products_frame(assortment: Assortment, seed: int) -> pd.DataFrame:
    """Return the products table of the data contract; a few brands, categories, descriptions and prices are missing."""
    rows = assortment.listed()
    frame = pd.DataFrame(
        {
            "product_id": [product_id for product_id, _ in rows],
            "title": [product.title() for _, product in rows],
            "brand": [product.family.brand.name for _, product in rows],
            "category": [product.family.leaf.path for _, product in rows],
            "description": [product.family.blurb for _, product in rows],
            "price": [product.price() for _, product in rows],
            "size": [product.size() for _, product in rows],
            "image": pd.Series([None] * len(rows), dtype="object"),
        }
    )
    rng = np.random.default_rng([seed, 1])
    for column, share in _MISSING_SHARES.items():
        frame.loc[rng.random(len(frame)) < share, column] = None
    return frame


def product_truth(assortment: Assortment) -> pd.DataFrame:
    """Return what only the generator knows of each product: family, attributes, which variant it was grown from.

    Columns: product_id, family_id, attributes (JSON), variant_of, variant_attribute, duplicate_of.
    """
    import json

    rows = []
    for product_id, product in assortment.listed():
        parent, axis = product.parent, product.changed_axis
        rows.append(
            (
                product_id,
                f"family-{product.family.number:06d}",
                json.dumps(product.attributes(), ensure_ascii=False),
                parent.product_id if parent else None,
                product.family.axes[axis].name if axis is not None else None,
                product.product_id if product.product_id != product_id else None,
            )
        )
    names = ["product_id", "family_id", "attributes", "variant_of", "variant_attribute", "duplicate_of"]
    return pd.DataFrame(rows, columns=pd.Index(names))
