"""Train, valid and test, apart by vendor and by product.

Every line has a vendor and a product. Vendors are dealt to the three parts; a product takes the part of one of its
lines, drawn by hash; a line is used where the two agree and left out elsewhere. So no vendor and no product of valid or
test occurs in train, and products with one line (the long tail) are never wasted. What is left out of the pairs still
serves the index as an alias: that is memory, not learning.

Fallback, where vendors cannot be kept apart: with fewer than three vendors, or with one that sent more than 70 % of
the lines, parts are apart by product only (`Splits.by_vendor` is False, and whoever reports should say so).

Parts last. A model that was trained on a vendor must not be measured on that vendor later, so whoever has a part keeps
it when data grows: `split_positives(..., former=parts_table(...))` deals new vendors only, each to the part that lacks
the most. Products keep their part from their first line on; one without a line has nothing to keep, it goes where the
first line leads it. With the table it made, the same data is split in the same way again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from shelfwise.text import normalise

PARTS = ("train", "valid", "test")
LARGEST_VENDOR = 0.7
VENDOR, PRODUCT = "vendor", "product"
PARTS_COLUMNS = ("kind", "id", "split", "seed")


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
    """`line`: part of each positive, None where it is left out; `product`: part of each product of the catalog.

    `vendor`: part of each vendor, empty where they are not kept apart. `mapped`: products that have a line. `anew`: why
    former parts were not kept, '' where they were or where there were none.
    """

    line: pd.Series
    product: pd.Series
    by_vendor: bool
    vendor: Mapping[str, str] = field(default_factory=dict)
    mapped: frozenset[str] = frozenset()
    anew: str = ""


def vendors_separable(vendor_ids: pd.Series) -> bool:
    """Whether the vendors are enough, and even enough, to be kept apart."""
    counts = vendor_ids.value_counts()
    return len(counts) >= 3 and bool(counts.iloc[0] <= LARGEST_VENDOR * counts.sum())


def split_positives(
    positives: pd.DataFrame,
    products: pd.DataFrame,
    config: SplitConfig | None = None,
    former: pd.DataFrame | None = None,
) -> Splits:
    """Assign each positive line and each product to a part.

    `positives`: line_id, vendor_id, vendor_title, product_id. `products`: product_id, title. Products with the same
    normal form of the title stay together, and a line whose normal form occurs in a later part (test, then valid) is
    left out of an earlier one. `former`: `parts_table` of the split before; vendors and products in it keep their part,
    unless it is of no use (`Splits.anew` says why). Deterministic: depends on ids, the seed and `former`, not on the
    order of rows.
    """
    config = config or SplitConfig()
    if former is None:
        return _split(positives, products, config, None)
    anew = unsound(former, positives, config)
    if not anew:
        kept = _split(positives, products, config, former)
        lacking = [part for part in PARTS if part not in set(kept.line)]
        if not lacking:
            return kept
        anew = f"no line would be left for {' and '.join(lacking)}"
    splits = _split(positives, products, config, None)
    splits.anew = anew
    return splits


def unsound(former: pd.DataFrame, positives: pd.DataFrame, config: SplitConfig) -> str:
    """Return why a former table of parts cannot be kept to; '' where it can."""
    if set(former.columns) != set(PARTS_COLUMNS):
        return f"the former table has the columns {', '.join(map(str, former.columns))}"
    if not set(former["split"]) <= set(PARTS) or not set(former["kind"]) <= {VENDOR, PRODUCT}:
        return "the former table holds an unknown part or kind"
    if former.duplicated(["kind", "id"]).any():
        return "the former table gives somebody two parts"
    if (former["seed"] != config.seed).any():
        return f"the seed was another one, it is {config.seed} now"
    vendors, products = (set(former.loc[former["kind"] == kind, "id"]) for kind in (VENDOR, PRODUCT))
    if not (vendors & set(positives["vendor_id"]) or products & set(positives["product_id"])):
        return "the former table knows none of these vendors and products"
    if vendors_separable(positives["vendor_id"]) and not vendors:
        return "vendors could not be kept apart before, and can now"
    return ""


def parts_table(splits: Splits, seed: int, former: pd.DataFrame | None = None) -> pd.DataFrame:
    """Return who has which part, to be kept to: columns `PARTS_COLUMNS`, one row per vendor and per product that has,
    or had, a line. `former`: the table that was kept to; who is gone now keeps the part for the day of return.
    """
    product = splits.product[splits.product.index.isin(splits.mapped)]
    frames = [
        pd.DataFrame({"kind": kind, "id": [str(one) for one in own], "split": list(own.values())})
        for kind, own in ((VENDOR, dict(splits.vendor)), (PRODUCT, product.to_dict()))
    ]
    if former is not None and not splits.anew:
        frames.append(former[["kind", "id", "split"]])
    made = pd.concat(frames, ignore_index=True).drop_duplicates(["kind", "id"])
    made = made.sort_values(["kind", "id"], kind="stable").reset_index(drop=True)
    return made.assign(seed=seed)[list(PARTS_COLUMNS)]


def _split(positives: pd.DataFrame, products: pd.DataFrame, config: SplitConfig, former: pd.DataFrame | None) -> Splits:
    group_of = pd.Series([normalise(t or "") for t in products["title"]], index=products["product_id"].to_numpy())
    group = positives["product_id"].map(group_of)
    shares = np.array([1 - config.valid - config.test, config.valid, config.test])
    by_vendor = vendors_separable(positives["vendor_id"])
    part_of_group = {name: _part(_unit_hash(config.seed, "group", name), shares) for name in set(group_of)}
    vendor_part: dict[str, int] = {}
    if by_vendor:
        vendor_part = _deal_vendors(positives["vendor_id"], shares, config.seed, _kept(former, VENDOR))
        draws = pd.Series([_unit_hash(config.seed, "line", v) for v in positives["line_id"]], index=positives.index)
        chosen = pd.DataFrame({"group": group, "draw": draws, "vendor": positives["vendor_id"]}).dropna()
        chosen = chosen.sort_values(["group", "draw", "vendor"]).drop_duplicates("group")
        part_of_group |= dict(zip(chosen["group"], chosen["vendor"].map(vendor_part), strict=True))
    # Where products of several parts bear one title now, the earliest part: what was trained on is never held out.
    kept = pd.Series(_kept(former, PRODUCT), dtype=object)
    kept_groups = group_of.reindex(kept.index).dropna()
    part_of_group |= kept[kept_groups.index].groupby(kept_groups).min().to_dict()
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
        vendor={vendor: names[part] for vendor, part in vendor_part.items()},
        mapped=frozenset(positives["product_id"].dropna()),
    )


def _kept(former: pd.DataFrame | None, kind: str) -> dict[str, int]:
    """Return the former part of each vendor or product, as a number."""
    if former is None:
        return {}
    own = former[former["kind"] == kind]
    return dict(zip(own["id"], own["split"].map(PARTS.index), strict=True))


def _deal_vendors(
    vendor_ids: pd.Series, shares: np.ndarray, seed: int, kept: Mapping[str, int] | None = None
) -> dict[str, int]:
    """Deal vendors, in hashed order, each to the part that still lacks the largest share of its lines; those in `kept`
    have theirs already.
    """
    counts = vendor_ids.value_counts()
    wanted = shares * counts.sum()
    filled = np.zeros(3)
    taken = {vendor: part for vendor, part in (kept or {}).items() if vendor in counts.index}
    for vendor, part in taken.items():
        filled[part] += counts[vendor]
    order = sorted(set(counts.index) - set(taken), key=lambda vendor: _unit_hash(seed, "vendor", vendor))
    for i, vendor in enumerate(order):
        empty = [part for part in range(3) if filled[part] == 0]
        if empty and len(empty) >= len(order) - i:  # no more vendors left than parts without one
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
