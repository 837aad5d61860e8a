"""Train, valid and test for listings: every category in its share, duplicates together, and a part once given is kept.

What must not be apart: listings with the same normalised title and description, and listings with the same picture. A
chain of such pairs is one bundle, and a bundle has one part. Within a category the bundles are dealt in hashed order,
so many to each part as its share says (rounded by one offset per category, drawn by hash: small categories give to
valid and test what they should on average). A category has a bundle in train whenever it has any.

Parts last, as those of vendors and products do (`shelfwise.matching.splits`): with `former`, the table made before,
every known group keeps its part, and new ones go to the part that lacks most in their category. Where groups of two
parts turn out to be one bundle (a picture tied them), the earliest part has it: what was trained on is never held out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np
import pandas as pd

from shelfwise.text import normalise

PARTS = ("train", "valid", "test")
_BETWEEN = "\x1f"


def group_ids(titles: pd.Series, descriptions: pd.Series | None, listing_ids: pd.Series) -> pd.Series:
    """Return an id per listing that is the same where normalised title and description are; as dbt's
    `labelled_listings` makes it. A listing whose normal forms are both empty is like no other.
    """
    others = [None] * len(titles) if descriptions is None else descriptions
    made = []
    for listing_id, title, description in zip(listing_ids, titles, others, strict=True):
        forms = [normalise(text) if isinstance(text, str) else "" for text in (title, description)]
        key = _BETWEEN.join(forms if any(forms) else ["", "", str(listing_id)])
        made.append(hashlib.md5(key.encode()).hexdigest())
    return pd.Series(made, index=titles.index, dtype="str")


def bundles(listings: pd.DataFrame) -> pd.Series:
    """Return a number per listing: the same for listings that must not be apart.

    `listings`: group_id; optional image_key (a digest of the picture) or else image (its name).
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    ids, groups = pd.factorize(listings["group_id"])
    pictures = next((listings[name] for name in ("image_key", "image") if name in listings), None)
    codes = np.full(len(listings), -1) if pictures is None else pd.factorize(pictures)[0]
    has = codes >= 0
    n = len(groups) + int(codes.max(initial=-1)) + 1
    links = coo_array((np.ones(has.sum()), (ids[has], len(groups) + codes[has])), shape=(n, n))
    return pd.Series(connected_components(links, directed=False)[1][ids], index=listings.index)


def listing_parts(
    listings: pd.DataFrame,
    seed: int = 0,
    valid: float = 0.1,
    test: float = 0.2,
    former: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Return the part of each group: columns group_id, split ("train", "valid" or "test"), seed; one row per group.

    `listings`: group_id (or listing_id, title and optional description, from which it is made), category (a class to
    share out evenly; several in a cell count as what they are together), optional image_key or image. `valid`, `test`:
    shares of the bundles of a category. `former`: the table made before; groups that are gone keep their row. A former
    table of another seed is not kept to. Deterministic: depends on ids, seed and `former`, not on the order of rows.

    Raises ValueError for shares that leave nothing to train on.
    """
    if not (0 <= valid < 1 and 0 <= test < 1 and valid + test < 1):
        raise ValueError("shares of valid and test must be between 0 and 1 and leave something for train")
    if "group_id" not in listings:
        made = group_ids(listings["title"], listings.get("description"), listings["listing_id"])
        listings = listings.assign(group_id=made)
    kept = _kept(former, seed)
    frame = pd.DataFrame({"group_id": listings["group_id"].astype("str"), "bundle": bundles(listings)})
    frame["category"] = listings["category"].astype(object).where(listings["category"].notna(), "")
    frame["part"] = frame["group_id"].map(kept)
    frame = frame.sort_values(["group_id", "category"], kind="stable")
    one = frame.groupby("bundle").agg(
        name=("group_id", "min"), category=("category", _most_frequent), part=("part", "min")
    )
    one["order"] = [_unit_hash(seed, "bundle", name) for name in one["name"]]
    one = one.sort_values(["order", "name"])
    part_of: dict[int, int] = {}
    for category, members in one.groupby("category", sort=True):
        part_of |= _deal(members["part"], (test, valid), _unit_hash(seed, "category", str(category)))
    split = frame["bundle"].map(part_of).astype(int)
    found = pd.DataFrame({"group_id": frame["group_id"], "split": split}).drop_duplicates("group_id")
    gone = pd.Series(kept, dtype="float64")
    gone = gone[~gone.index.isin(found["group_id"])]
    rest = pd.DataFrame({"group_id": gone.index.astype("str"), "split": gone.astype(int).to_numpy()})
    table = pd.concat([found, rest], ignore_index=True).sort_values("group_id").reset_index(drop=True)
    names = table["split"].astype(int).map(dict(enumerate(PARTS)))
    return table.assign(split=names.astype("str"), seed=seed)


def _kept(former: pd.DataFrame | None, seed: int) -> Mapping[str, int]:
    """Return the former part of each group, as a number; nothing where the table is of no use."""
    if former is None or former.empty or not set(former["split"]) <= set(PARTS):
        return {}
    if "seed" in former and (former["seed"] != seed).any():
        return {}
    return dict(zip(former["group_id"], former["split"].map(PARTS.index).astype(int), strict=True))


def _most_frequent(values: pd.Series) -> str:
    counts = values.value_counts()
    return str(min(counts.index[counts == counts.iloc[0]]))


def _deal(parts: pd.Series, shares: tuple[float, float], offset: float) -> dict[int, int]:
    """Return bundle -> part for the bundles of one category, in dealing order; `parts` holds the parts they have."""
    n, (test, valid) = len(parts), shares
    # Systematic sampling: of n places, so many lie in each share as on average should.
    places = (np.arange(n) + offset) / n
    wanted = np.array([0, np.sum((places >= test) & (places < test + valid)), np.sum(places < test)])
    wanted[0] = n - wanted.sum()
    if not wanted[0]:
        wanted[int(wanted.argmax())] -= 1
        wanted[0] = 1
    held = parts.dropna().astype(int)
    lacking = wanted - np.bincount(held, minlength=3)
    dealt: dict[int, int] = dict(zip(held.index.tolist(), held.tolist(), strict=True))
    for bundle in parts.index[parts.isna()].tolist():
        part = int(lacking.argmax())
        lacking[part] -= 1
        dealt[bundle] = part
    return dealt


def _unit_hash(seed: int, *parts: str) -> float:
    """Return a number in [0, 1) that depends on nothing but the arguments."""
    digest = hashlib.blake2b(_BETWEEN.join((str(seed), *parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64
