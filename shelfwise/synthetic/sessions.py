"""Shopping sessions in which substitutes and complements are planted.

Products of a category are sorted by price and cut into groups of about six: the members of a group substitute each
other. Groups of categories that are bought together (`vocabulary.COMPLEMENTS`) are tied pairwise: each product of the
one has two complements in the other. A session looks at a product and some of its substitutes, buys at most one of
them, and may add a complement; now and then something unrelated is looked at. Cold products occur in no session.
"""

from __future__ import annotations

import random
from collections import defaultdict
from itertools import permutations

import numpy as np
import pandas as pd

from shelfwise.synthetic.categories import COMPLEMENTS
from shelfwise.synthetic.lines import Popularity
from shelfwise.synthetic.products import Product

GROUP_SIZE = 6
_COMPLEMENTS_EACH = 2
_START, _DAYS = pd.Timestamp("2024-01-01", tz="UTC"), 180
_COMPLEMENT_SHARE, _UNRELATED_SHARE, _KNOWN_USER_SHARE, _PURCHASE_SHARE = 0.45, 0.25, 0.6, 0.55


def substitute_groups(products: list[Product]) -> dict[str, list[list[int]]]:
    """Return, for each category path, its groups of product positions that substitute each other."""
    by_leaf: dict[str, list[int]] = defaultdict(list)
    for place, product in enumerate(products):
        by_leaf[product.family.leaf.path].append(place)
    groups = {}
    for path, places in sorted(by_leaf.items()):
        places.sort(key=lambda place: (products[place].price(), products[place].product_id))
        groups[path] = [places[at : at + GROUP_SIZE] for at in range(0, len(places), GROUP_SIZE)]
    return groups


def planted_complements(groups: dict[str, list[list[int]]], rng: random.Random) -> dict[int, list[int]]:
    """Return product position to the positions of its complements."""
    planted: dict[int, list[int]] = {}
    for path, partners in COMPLEMENTS.items():
        for number, group in enumerate(groups.get(path, [])):
            choices = [partner for partner in partners if groups.get(partner)]
            if not choices:
                continue
            others = groups[choices[number % len(choices)]]
            tied = others[number % len(others)]
            for place in group:
                planted[place] = sorted(rng.sample(tied, k=min(_COMPLEMENTS_EACH, len(tied))))
    return planted


def make_sessions(
    products: list[Product], popularity: Popularity, n_sessions: int, seed: int
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Return interactions (session_id, product_id, event, timestamp, user_id) and the two planted truths.

    The truths are (product_id, substitute_id) and (product_id, complement_id); they cover cold products too.
    Events are "view", "cart" and "purchase"; timestamps are UTC and rise within a session.
    """
    rng = random.Random(f"{seed}/sessions")
    groups = substitute_groups(products)
    group_of = {place: group for path in groups for group in groups[path] for place in group}
    complements = planted_complements(groups, rng)
    cold = popularity.is_cold
    starts = popularity.draw(n_sessions, np.random.default_rng([seed, 5])).tolist()
    n_users = max(1, n_sessions // 5)
    events: list[tuple[str, str, str, int, str | None]] = []
    for number, start in enumerate(starts, start=1):
        moment = rng.randrange(_DAYS * 86_400)
        user = f"U{int(n_users * rng.random() ** 2):06d}" if rng.random() < _KNOWN_USER_SHARE else None
        for place, event in _session(start, group_of[start], complements, cold, rng):
            events.append((f"S{number:08d}", products[place].product_id, event, moment, user))
            moment += rng.randint(5, 240)
    frame = pd.DataFrame(events, columns=pd.Index(["session_id", "product_id", "event", "timestamp", "user_id"]))
    seconds = pd.to_timedelta(frame["timestamp"].to_numpy(dtype="int64"), unit="s")
    frame["timestamp"] = (_START + seconds).strftime("%Y-%m-%dT%H:%M:%SZ")
    ids = [product.product_id for product in products]
    substitutes = [
        (ids[one], ids[other]) for path in groups for group in groups[path] for one, other in permutations(group, 2)
    ]
    pairs = [(ids[place], ids[other]) for place in sorted(complements) for other in complements[place]]
    return (
        frame,
        pd.DataFrame(substitutes, columns=pd.Index(["product_id", "substitute_id"])),
        pd.DataFrame(pairs, columns=pd.Index(["product_id", "complement_id"])),
    )


def _session(
    start: int, group: list[int], complements: dict[int, list[int]], cold: np.ndarray, rng: random.Random
) -> list[tuple[int, str]]:
    """Return the (position, event) steps of one session."""
    others = [place for place in group if place != start and not cold[place]]
    looked_at = [start, *rng.sample(others, k=min(len(others), rng.choice((0, 1, 2, 2, 3))))]
    steps = [(place, "view") for place in looked_at]
    if rng.random() < _UNRELATED_SHARE:
        unrelated = rng.randrange(len(cold))
        if not cold[unrelated]:
            steps.insert(rng.randrange(1, len(steps) + 1), (unrelated, "view"))
    if rng.random() >= _PURCHASE_SHARE:
        return steps
    bought = rng.choice(looked_at)
    steps += [(bought, "cart"), (bought, "purchase")]
    extras = [place for place in complements.get(bought, ()) if not cold[place]]
    if extras and rng.random() < _COMPLEMENT_SHARE / _PURCHASE_SHARE:
        extra = rng.choice(extras)
        steps += [(extra, "view"), (extra, "cart"), (extra, "purchase")]
    return steps
