"""What each group of features adds to the raw score of gradient-boosted trees: exact Shapley values of groups.

The game is TreeSHAP's (Lundberg et al. 2020, path-dependent): features that are not in a coalition are averaged over
the training rows that reached each node. The players here are groups of features. A tree is the sum of its leaves, and
at a leaf the coalitions' values are products, so the Shapley values come from one polynomial per leaf and row, whose
degree is the number of groups on the leaf's path. With every feature a group of its own this is what LightGBM's
`pred_contrib` computes (a test compares); with a few groups it takes a tenth of the time.

Importing this module imports numba (half a second): import it inside functions.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numba import njit  # noqa: TID253 - this module is itself imported inside functions

from shelfwise.matching.trees import Forest, Tree

BLOCK = 64  # rows worked on together: what a leaf needs stays in the processor's cache
MOST_GROUPS = 12  # on one path: a leaf's table has two to the power of so many rows


@dataclass
class GroupTrees:
    """Leaves of all trees, their groups, and of each group the conditions that lead to the leaf, as flat arrays.

    Leaf i has the slots `leaf_start[i]:leaf_start[i + 1]`, one per group on its path; a slot has the share of rows
    that its nodes let through and the conditions `slot_start[j]:slot_start[j + 1]`: a feature lies above `low` and
    not above `high`, or is missing where `missing` allows that.
    """

    n_groups: int
    base: float
    leaf_value: np.ndarray
    leaf_start: np.ndarray
    slot_group: np.ndarray
    slot_share: np.ndarray
    slot_start: np.ndarray
    feature: np.ndarray
    low: np.ndarray
    high: np.ndarray
    missing: np.ndarray
    table_start: np.ndarray = field(init=False)
    table: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        width = np.diff(self.leaf_start)
        if width.max(initial=0) > MOST_GROUPS:
            raise ValueError(f"more than {MOST_GROUPS} groups on one path of a tree cannot be explained by groups")
        self.table_start = np.concatenate([[0], np.cumsum(width << width)])
        self.table = _table(self.leaf_value, self.leaf_start, self.slot_share, self.table_start)

    @classmethod
    def of(cls, model: Forest, group_of_feature: np.ndarray, n_groups: int) -> GroupTrees:
        """Take trees apart."""
        leaves: list[tuple[float, dict[int, list]]] = []
        base = model.base
        for tree in model.trees:
            made = _leaves(tree, group_of_feature)
            base += sum(value * float(np.prod([share for share, _ in slots.values()])) for value, slots in made)
            leaves += made
        flat: dict[str, list] = {name: [] for name in ("group", "share", "feature", "low", "high", "missing")}
        leaf_start, slot_start = [0], [0]
        for _, slots in leaves:
            for group, (share, conditions) in slots.items():
                flat["group"].append(group)
                flat["share"].append(share)
                for feature, (low, high, missing) in conditions.items():
                    flat["feature"].append(feature)
                    flat["low"].append(low)
                    flat["high"].append(high)
                    flat["missing"].append(missing)
                slot_start.append(len(flat["feature"]))
            leaf_start.append(len(flat["group"]))
        return cls(
            n_groups,
            base,
            np.array([value for value, _ in leaves], np.float64),
            np.array(leaf_start, np.int64),
            np.array(flat["group"], np.int64),
            np.array(flat["share"], np.float64),
            np.array(slot_start, np.int64),
            np.array(flat["feature"], np.int64),
            np.array(flat["low"], np.float64),
            np.array(flat["high"], np.float64),
            np.array(flat["missing"], np.bool_),
        )

    def values(self, features: np.ndarray) -> np.ndarray:
        """Return float64 [n, n_groups]; with `base` each row adds up to the raw score of the trees."""
        return _values(
            np.ascontiguousarray(features, dtype=np.float32),
            self.n_groups,
            self.leaf_start,
            self.slot_group,
            self.slot_start,
            self.feature,
            self.low,
            self.high,
            self.missing,
            self.table_start,
            self.table,
        )


def _leaves(tree: Tree, group_of_feature: np.ndarray) -> list[tuple[float, dict[int, list]]]:
    """Return (value, {group: [share of rows let through, {feature: (low, high, missing may pass)}]}) of each leaf."""
    counts, leaf_counts = tree.count.tolist(), tree.leaf_count.tolist()
    lefts, rights, missing_lefts = tree.left.tolist(), tree.right.tolist(), tree.missing_left.tolist()
    features, thresholds = tree.feature.tolist(), tree.threshold.tolist()
    out: list[tuple[float, dict[int, list]]] = []
    waiting: list[tuple[int, dict[int, list]]] = [(0, {})]
    while waiting:
        node, slots = waiting.pop()
        if node < 0:
            out.append((float(tree.leaf_value[~node]), slots))
            continue
        feature, threshold = features[node], thresholds[node]
        group = int(group_of_feature[feature])
        for child, left in ((lefts[node], True), (rights[node], False)):
            count = leaf_counts[~child] if child < 0 else counts[child]
            share, conditions = slots.get(group, (1.0, {}))
            low, high, missing = conditions.get(feature, (-np.inf, np.inf, True))
            low, high = (low, min(high, threshold)) if left else (max(low, threshold), high)
            narrowed = {**conditions, feature: (low, high, missing and missing_lefts[node] == left)}
            waiting.append((child, {**slots, group: [share * count / counts[node], narrowed]}))
    return out


@njit(nogil=True, cache=True)
def _table(leaf_value, leaf_start, slot_share, table_start):  # pragma: no cover - compiled
    """Return the Shapley values of each leaf's k groups for each of the 2^k cases of which groups lead to the leaf."""
    table = np.zeros(table_start[-1], np.float64)
    most = 1
    for leaf in range(len(leaf_value)):
        most = max(most, leaf_start[leaf + 1] - leaf_start[leaf])
    # weight[k, s] = s! (k - s - 1)! / k!: of a coalition of s among k players without the one whose value is sought.
    weight = np.zeros((most + 1, most + 1), np.float64)
    for k in range(1, most + 1):
        weight[k, 0] = 1.0 / k
        for s in range(1, k):
            weight[k, s] = weight[k, s - 1] * s / (k - s)
    poly = np.zeros(most + 2, np.float64)
    for leaf in range(len(leaf_value)):
        first = leaf_start[leaf]
        k = leaf_start[leaf + 1] - first
        for case in range(1 << k):
            outside = leaf_value[leaf]  # times the shares of the groups that lead elsewhere
            # poly[s]: over coalitions of s of the groups that lead here, the sum of the products of the other shares.
            poly[0] = 1.0
            size = 0
            for j in range(k):
                share = slot_share[first + j]
                if not (case >> j) & 1:
                    outside *= share
                    continue
                poly[size + 1] = poly[size]
                for s in range(size, 0, -1):
                    poly[s] = poly[s - 1] + share * poly[s]
                poly[0] *= share
                size += 1
            loss = 0.0
            if size < k:
                for s in range(size + 1):
                    loss += weight[k, s] * poly[s]
            for j in range(k):
                place = table_start[leaf] + case * k + j
                if not (case >> j) & 1:
                    table[place] = -outside * loss
                    continue
                # Divide the polynomial by (share + t), from the highest power down.
                share = slot_share[first + j]
                quotient = poly[size]
                gain = weight[k, size - 1] * quotient
                for s in range(size - 1, 0, -1):
                    quotient = poly[s] - share * quotient
                    gain += weight[k, s - 1] * quotient
                table[place] = outside * (1.0 - share) * gain
    return table


@njit(nogil=True, cache=True)
def _values(
    rows, n_groups, leaf_start, slot_group, slot_start, feature, low, high, missing, table_start, table
):  # pragma: no cover - compiled
    out = np.zeros((len(rows), n_groups), np.float64)
    for start in range(0, len(rows), BLOCK):
        end = min(start + BLOCK, len(rows))
        for leaf in range(len(leaf_start) - 1):
            first = leaf_start[leaf]
            k = leaf_start[leaf + 1] - first
            for row in range(start, end):
                case = 0
                for j in range(k):
                    passes = True
                    for at in range(slot_start[first + j], slot_start[first + j + 1]):
                        value = rows[row, feature[at]]
                        if np.isnan(value):
                            passes &= missing[at]
                        else:
                            passes &= (low[at] < value) & (value <= high[at])
                    case |= passes << j
                place = table_start[leaf] + case * k
                for j in range(k):
                    out[row, slot_group[first + j]] += table[place + j]
    return out
