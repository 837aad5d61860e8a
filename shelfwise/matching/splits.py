"""Train, valid and test, apart by vendor and by product.

Every line has a vendor and a product. Vendors are dealt to the three parts; a product takes the part of one of its
lines, drawn by hash; a line is used where the two agree and left out elsewhere. So no vendor and no product of valid or
test occurs in train, and products with one line (the long tail) are never wasted. What is left out of the pairs still
serves the index as an alias: that is memory, not learning.

Fallback, where vendors cannot be kept apart: with fewer than three vendors, or with one that sent more than 70 % of
the lines, parts are apart by product only (`Splits.by_vendor` is False, and whoever reports should say so).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from shelfwise.text import normalise

PARTS = ("train", "valid", "test")
LARGEST_VENDOR = 0.7


@dataclass(frozen=True)
class SplitConfig:
    """Shares of the lines that valid and test should get; train gets the rest."""

    valid: float = 0.25
    test: float = 0.2
    seed: int = 0

    def __post_init__(self) -> None:
        if not (0 < self.valid < 1 and 0 < self.test < 1 and self.valid + self.test < 1):
            raise ValueError("shares of valid and test must be between 0 and 1 and leave something for train")


@dataclass
class Splits:
    """`line`: part of each positive, None where it is left out; `product`: part of each product of the catalog."""

    line: pd.Series
    product: pd.Series
    by_vendor: bool


def vendors_separable(vendor_ids: pd.Series) -> bool:
    """Whether the vendors are enough, and even enough, to be kept apart."""
    counts = vendor_ids.value_counts()
    return len(counts) >= 3 and counts.iloc[0] <= LARGEST_VENDOR * counts.sum()


def split_positives(positives: pd.DataFrame, products: pd.DataFrame, config: SplitConfig | None = None) -> Splits:
    """Assign each positive line and each product to a part.

    `positives`: line_id, vendor_id, vendor_title, product_id. `products`: product_id, title. Products with the same
    normal form of the title stay together, and a line whose normal form occurs in a later part (test, then valid) is
    left out of an earlier one. Deterministic: depends on ids and the seed, not on the order of rows.
    """
    config = config or SplitConfig()
    group_of = pd.Series([normalise(t or "") for t in products["title"]], index=products["product_id"].to_numpy())
    group = positives["product_id"].map(group_of)
    shares = np.array([1 - config.valid - config.test, config.valid, config.test])
    by_vendor = vendors_separable(positives["vendor_id"])
    part_of_group = {name: _part(_unit_hash(config.seed, "group", name), shares) for name in set(group_of)}
    vendor_part: dict[str, int] = {}
    if by_vendor:
        vendor_part = _deal_vendors(positives["vendor_id"], shares, config.seed)
        draws = pd.Series([_unit_hash(config.seed, "line", v) for v in positives["line_id"]], index=positives.index)
        chosen = pd.DataFrame({"group": group, "draw": draws, "vendor": positives["vendor_id"]}).dropna()
        chosen = chosen.sort_values(["group", "draw", "vendor"]).drop_duplicates("group")
        part_of_group |= dict(zip(chosen["group"], chosen["vendor"].map(vendor_part), strict=True))
    line_part = group.map(part_of_group).fillna(-1).astype(int)
    if by_vendor:
        line_part = line_part.where(line_part == positives["vendor_id"].map(vendor_part), -1)
    forms = positives["vendor_title"].map(lambda title: normalise(title or ""))
    latest = line_part.groupby(forms).transform("max")
    line_part = line_part.where(line_part == latest, -1)
    names = dict(enumerate(PARTS))
    return Splits(
        line=line_part.map(names).astype(object).where(line_part >= 0, None),
        product=group_of.map(part_of_group).map(names),
        by_vendor=by_vendor,
    )


def _deal_vendors(vendor_ids: pd.Series, shares: np.ndarray, seed: int) -> dict[str, int]:
    """Deal vendors, in hashed order, each to the part that still lacks the largest share of its lines."""
    counts = vendor_ids.value_counts()
    order = sorted(counts.index, key=lambda vendor: _unit_hash(seed, "vendor", vendor))
    wanted = shares * counts.sum()
    filled = np.zeros(3)
    taken: dict[str, int] = {}
    for i, vendor in enumerate(order):
        empty = [part for part in range(3) if filled[part] == 0]
        if len(empty) == len(order) - i:  # as many vendors left as parts without one
            part = empty[int(np.argmax(wanted[empty]))]
        else:
            part = int(np.argmax((wanted - filled) / wanted))
        taken[vendor] = part
        filled[part] += counts[vendor]
    return taken


def _unit_hash(seed: int, *parts: str) -> float:
    """Return a number in [0, 1) that depends on nothing but the arguments."""
    digest = hashlib.blake2b("\x1f".join((str(seed), *map(str, parts))).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def hashed_share(ids: Iterable[str], share: float, seed: int) -> np.ndarray:
    """Return a mask over ids: a deterministic sample of about this share."""
    return np.array([_unit_hash(seed, "share", value) < share for value in ids], dtype=bool)


def _part(draw: float, shares: np.ndarray) -> int:
    return int(min(np.searchsorted(np.cumsum(shares), draw, side="right"), 2))
