"""Vendor lines: noisy titles for catalog products, with the truth about each line kept beside it."""

from __future__ import annotations

import random
from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import pandas as pd

from shelfwise.synthetic.config import SyntheticConfig
from shelfwise.synthetic.noise import KINDS, Line
from shelfwise.synthetic.products import UNSTATED, Assortment, Family, Product
from shelfwise.synthetic.vendors import Vendor
from shelfwise.synthetic.vocabulary import NOT_PRODUCTS
from shelfwise.synthetic.words import BRAND, LINE, NOUN, STYLE, Word, plain, stated

# Popularity falls with the rank like this; a vendor's file is two thirds by popularity and one third by chance.
_ZIPF = 0.75
_BY_POPULARITY = 0.67
_REPEATED_SHARE = 0.03
HEAD_SHARE = 0.5


@dataclass(frozen=True)
class NoisyTitle:
    """A vendor's title, the noise kinds that could have been put on it and were, and what can still be read off it."""

    title: str
    applicable: tuple[str, ...]
    noise: tuple[str, ...]
    stated: frozenset[tuple[str, str]]


def noisy_title(words: tuple[Word, ...], vendor: Vendor, sku: str, rng: random.Random) -> NoisyTitle:
    """Put a vendor's noise and habits on the words of a title."""
    line, dressed = Line(words), False
    applicable, noise = [], []
    for kind in KINDS:
        if kind.dressed and not dressed:
            line, dressed = vendor.dress(line), True
        chance = rng.random()
        if kind.applies(line):
            applicable.append(kind.name)
            if chance < vendor.rates[kind.name]:
                line = kind.apply(line, rng, vendor.units)
                noise.append(kind.name)
    return NoisyTitle(vendor.write(line, sku, rng), tuple(applicable), tuple(noise), stated(line.words))


class Popularity:
    """How often each product is asked for: a Zipf tail over the catalog, and cold products that nobody mentions."""

    def __init__(self, count: int, cold_share: float, seed: int) -> None:
        rng = np.random.default_rng([seed, 2])
        ranks = rng.permutation(count)
        weights = 1.0 / (ranks + 10.0) ** _ZIPF
        self.is_cold = rng.random(count) < cold_share
        weights[self.is_cold] = 0.0
        self.weights = weights / weights.sum()

    def draw(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """Return product positions drawn by popularity, with repetition."""
        places = np.searchsorted(np.cumsum(self.weights), rng.random(count), side="right")
        return np.minimum(places, len(self.weights) - 1)

    def draw_file(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """Return the positions of the products in one vendor's file: each at most once while the catalog lasts."""
        wanted: dict[int, None] = {}
        limit = min(count, len(self.weights))
        while len(wanted) < limit:
            popular = self.draw(count, rng)
            anything = rng.integers(0, len(self.weights), count)
            by_popularity = rng.random(count) < _BY_POPULARITY
            wanted.update(dict.fromkeys(np.where(by_popularity, popular, anything).tolist()))
        positions = np.array(list(wanted)[:limit], dtype=np.int64)
        extra = rng.integers(0, len(self.weights), count - limit)
        return np.concatenate([positions, extra])


class Identifier:
    """Says whether what a line still states fits one catalog product only: could a person with the catalog tell?"""

    def __init__(self, families: list[Family]) -> None:
        self._whole: dict[tuple[str, tuple[str, ...]], list[Family]] = defaultdict(list)
        self._by_brand: dict[str, list[Family]] = defaultdict(list)
        self._by_word: dict[str, list[Family]] = defaultdict(list)
        self._by_brand_and_word: dict[tuple[str, str], list[Family]] = defaultdict(list)
        for family in families:
            brand = family.brand.name
            self._whole[brand, family.line].append(family)
            self._by_brand[brand].append(family)
            for word in dict.fromkeys(family.line):
                self._by_word[word].append(family)
                self._by_brand_and_word[brand, word].append(family)

    def identifies(self, product: Product, facts: frozenset[tuple[str, str]]) -> bool:
        """Whether no catalog product other than `product` agrees with all stated facts.

        An attribute that the product's own title does not mention counts as stated: a line without a pack size means
        the single item. A line that names neither the brand nor a word of the product line identifies nothing.
        """
        told = {name: text for name, text in product.attributes().items() if not text or (name, text) in facts}
        for family in self._candidates(product, facts):
            if family is not product.family and not _family_agrees(family, facts, told):
                continue
            if any(member is not product and _member_agrees(member, told) for member in family.members):
                return False
        return any(fact in (BRAND, LINE) for fact, _ in facts)

    def _candidates(self, product: Product, facts: frozenset[tuple[str, str]]) -> list[Family]:
        """Return every family that could agree with the facts."""
        brand = product.family.brand.name if (BRAND, product.family.brand.name) in facts else None
        words = [word for word in product.family.line if (LINE, word) in facts]
        if brand is not None and len(words) == len(product.family.line):
            return self._whole.get((brand, product.family.line), [])
        if brand is not None and not words:
            return self._by_brand.get(brand, [])
        if brand is not None:
            return min((self._by_brand_and_word.get((brand, word), []) for word in words), key=len)
        return min((self._by_word.get(word, []) for word in words), key=len) if words else []


def _family_agrees(family: Family, facts: frozenset[tuple[str, str]], told: dict[str, str]) -> bool:
    names = {axis.name for axis in family.axes}
    if any(text and name not in names for name, text in told.items()):
        return False
    known = {
        BRAND: (family.brand.name,),
        LINE: family.line,
        STYLE: (family.style,),
        NOUN: family.noun.split(),
    }
    return all(text in known[fact] for fact, text in facts if fact in known)


def _member_agrees(member: Product, told: dict[str, str]) -> bool:
    for axis, value in zip(member.family.axes, member.values, strict=True):
        text = told.get(axis.name)
        if text is not None and text != ("" if value == UNSTATED else axis.values[value]):
            return False
    return True


def mapping_shares(n_vendors: int) -> np.ndarray:
    """Return each vendor's share of the historical mappings: a few large ones, many small ones."""
    shares = 1.0 / (np.arange(n_vendors) + 3.0)
    return shares / shares.sum()


def make_mappings(
    config: SyntheticConfig,
    assortment: Assortment,
    vendors: list[Vendor],
    popularity: Popularity,
    identifier: Identifier,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return historical mappings (vendor_id, vendor_title, product_id) and the truth about each row.

    Truth columns: row (1-based row in the file, the header is row 1), vendor_id, product_id, noise and applicable
    (kinds joined by "|"), identifiable. A few rows repeat an earlier one word for word, as exports do.
    """
    draws = np.random.default_rng([config.seed, 3])
    rng = random.Random(f"{config.seed}/mappings")
    whose = draws.choice(len(vendors), size=config.mappings, p=mapping_shares(len(vendors)))
    which = popularity.draw(config.mappings, draws)
    rows, truth = [], []
    for number, (vendor_at, product_at) in enumerate(zip(whose.tolist(), which.tolist(), strict=True), start=2):
        if rows and rng.random() < _REPEATED_SHARE:
            place = rng.randrange(len(rows))
            rows.append(rows[place])
            truth.append((number, *truth[place][1:]))
            continue
        vendor, product = vendors[vendor_at], assortment.products[product_at]
        line = noisy_title(product.words(), vendor, vendor.sku(10 * product_at + vendor_at % 10), rng)
        rows.append((vendor.vendor_id, line.title, product.product_id))
        truth.append(
            (
                number,
                vendor.vendor_id,
                product.product_id,
                "|".join(line.noise),
                "|".join(line.applicable),
                identifier.identifies(product, line.stated),
            )
        )
    frame = pd.DataFrame(rows, columns=pd.Index(["vendor_id", "vendor_title", "product_id"]))
    names = ["row", "vendor_id", "product_id", "noise", "applicable", "identifiable"]
    return frame, pd.DataFrame(truth, columns=pd.Index(names))


def segments(product_ids: pd.Series, mappings: pd.DataFrame) -> pd.DataFrame:
    """Return product_id, n_mappings and segment: "cold" without mappings, "head" with half of them, else "tail"."""
    counts = mappings["product_id"].value_counts()
    frame = pd.DataFrame({"product_id": product_ids, "n_mappings": product_ids.map(counts).fillna(0).astype(int)})
    ordered = frame.sort_values(["n_mappings", "product_id"], ascending=[False, True])["n_mappings"]
    is_head = (ordered.cumsum() <= HEAD_SHARE * len(mappings)).reindex(frame.index)
    frame["segment"] = np.where(frame["n_mappings"] == 0, "cold", np.where(is_head, "head", "tail"))
    return frame


UPLOAD_TRUTH = (
    "row", "product_id", "line_kind", "withheld_id", "catalog_style_title", "category", "noise", "applicable",
    "identifiable",
)  # fmt: skip


def make_upload(
    config: SyntheticConfig,
    assortment: Assortment,
    vendor: Vendor,
    number: int,
    popularity: Popularity,
    identifier: Identifier,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return one vendor's file (sku, title, brand?, description?, price) and the truth about each line.

    Truth: line_kind is "match", "near_miss" (a variant withheld from the catalog), "foreign" (a family that the
    catalog does not hold) or "not_a_product"; product_id is "" for all but the first, and withheld_id names the
    product that the line means although the catalog does not hold it.
    """
    total = config.lines_per_upload
    draws = np.random.default_rng([config.seed, 4, number])
    rng = random.Random(f"{config.seed}/upload/{number}")
    n_none = round(config.no_match_share * total)
    n_near = min(round(config.near_miss_share * n_none), n_none) if assortment.near_misses else 0
    n_odd = min(round(config.not_a_product_share * n_none), n_none - n_near)
    matched = [assortment.products[place] for place in popularity.draw_file(total - n_none, draws).tolist()]
    meant: list[tuple[str, Product | None]] = [("match", product) for product in matched]
    meant += [("near_miss", product) for product in _some(assortment.near_misses, n_near, rng)]
    meant += [("foreign", product) for product in _some(assortment.foreign, n_none - n_near - n_odd, rng)]
    meant += [("not_a_product", None)] * n_odd
    rng.shuffle(meant)
    skus = rng.sample(range(10 ** (vendor.sku_digits - 1)), len(meant))
    rows, truth = [], []
    for place, ((kind, product), item) in enumerate(zip(meant, skus, strict=True)):
        sku = vendor.sku(item)
        words = product.words() if product else tuple(plain(word, NOUN) for word in rng.choice(NOT_PRODUCTS).split())
        line = noisy_title(words, vendor, sku, rng)
        price = (product.price() if product else rng.uniform(2, 40)) * vendor.margin * rng.uniform(0.93, 1.07)
        brand = product.family.brand.name if product and rng.random() < 0.9 else None
        blurb = product.family.blurb if product else None
        rows.append((sku, line.title, brand, blurb, round(price, 2)))
        truth.append(
            (
                place + 2,
                product.product_id if product and kind == "match" else "",
                kind,
                product.product_id if product and kind != "match" else "",
                " ".join(word.text for word in words),
                product.family.leaf.path if product else "",
                "|".join(line.noise),
                "|".join(line.applicable),
                product is not None and identifier.identifies(product, line.stated),
            )
        )
    frame = pd.DataFrame(rows, columns=pd.Index(["sku", "title", "brand", "description", "price"]))
    dropped = [] if vendor.gives_brand else ["brand"]
    dropped += [] if vendor.gives_description else ["description"]
    return frame.drop(columns=dropped), pd.DataFrame(truth, columns=pd.Index(UPLOAD_TRUTH))


def _some(products: list[Product], count: int, rng: random.Random) -> list[Product]:
    """Return `count` of the products: each once while they last."""
    if count <= len(products):
        return rng.sample(products, count)
    return [*products, *rng.choices(products, k=count - len(products))]
