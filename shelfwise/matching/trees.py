"""Gradient-boosted trees as they are used: read from LightGBM's text form, evaluated here.

LightGBM grows the trees. Evaluating them was a third of the time of a match, and importing LightGBM (with scikit-learn,
which it brings along) a seventh of the memory of a loaded matcher. Here features are first replaced by the rank of
their value among the thresholds, one byte each, and a node is four bytes, so that a row and most of a model stay in the
processor's first cache; leaves lead to themselves, so that every row of a tree takes the same number of steps and the
processor has nothing to guess. The results are LightGBM's, bit for bit (a test compares).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_CATEGORICAL, _DEFAULT_LEFT, _MISSING_ZERO, _MISSING_NAN = 1, 2, 4, 8  # bits of LightGBM's decision_type
MOST_THRESHOLDS = 254  # of a feature: with the place of a missing value, their ranks fill a byte
MOST_FEATURES = 128


@dataclass(frozen=True)
class Tree:
    """One tree of more than one leaf, as LightGBM numbers it: nodes from 0, leaf i as child ~i.

    `missing_left`: whether a missing value goes left. `count`, `leaf_count`: training rows that reached node and leaf.
    """

    feature: np.ndarray
    threshold: np.ndarray
    left: np.ndarray
    right: np.ndarray
    missing_left: np.ndarray
    gain: np.ndarray
    count: np.ndarray
    leaf_value: np.ndarray
    leaf_count: np.ndarray


def read_trees(text: str) -> tuple[float, list[Tree]]:
    """Read a model in LightGBM's text form; return the sum of its trees of one leaf, and the others.

    Raises ValueError for categorical splits and zeros taken as missing, which are not evaluated here.
    """
    base, trees = 0.0, []
    for block in text.split("\nTree=")[1:]:
        fields = dict(line.split("=", 1) for line in block.split("\n\n", 1)[0].splitlines()[1:] if "=" in line)
        real = {name: np.array(fields.get(name, "").split(), np.float64) for name in ("leaf_value", "threshold")}
        gain = np.array(fields.get("split_gain", "").split(), np.float64)
        if int(fields["num_leaves"]) == 1:
            base += float(real["leaf_value"][0])
            continue
        names = ("split_feature", "decision_type", "left_child", "right_child", "leaf_count", "internal_count")
        whole = {name: np.array(fields[name].split(), np.int64) for name in names}
        kind, threshold = whole["decision_type"], real["threshold"]
        if ((kind & (_CATEGORICAL | _MISSING_ZERO)) > 0).any():
            raise ValueError("trees with categorical splits or zeros taken as missing cannot be used")
        # A missing value goes where the split says, or counts as zero where training saw none.
        missing_left = np.where(kind & _MISSING_NAN, (kind & _DEFAULT_LEFT) > 0, threshold >= 0)
        trees.append(
            Tree(
                feature=whole["split_feature"],
                threshold=threshold,
                left=whole["left_child"],
                right=whole["right_child"],
                missing_left=missing_left,
                gain=gain,
                count=whole["internal_count"],
                leaf_value=real["leaf_value"],
                leaf_count=whole["leaf_count"],
            )
        )
    return base, trees


@dataclass(frozen=True, eq=False)
class Forest:
    """Trees ready to be evaluated.

    Of feature f the thresholds stand, ascending, at `threshold_start[f]:threshold_start[f + 1]`. `node`: a node in four
    bytes: the column of a row's ranks it looks at (the feature; or features later, where a missing value goes right),
    the rank of its threshold (a row goes right where its own is larger), and its left child counted from the tree's
    root, which the right one follows (two bytes). `value`: of a node that is a leaf. Tree t begins at `root[t]` and
    takes `steps[t]` steps. `gain`: of each feature, summed over all splits.
    """

    base: float
    n_features: int
    threshold: np.ndarray
    threshold_start: np.ndarray
    node: np.ndarray
    value: np.ndarray
    root: np.ndarray
    steps: np.ndarray
    gain: np.ndarray
    trees: list[Tree]
    text: str

    @classmethod
    def of(cls, text: str, n_features: int) -> Forest:
        """Read a model in LightGBM's text form. Raises ValueError where it is none that can be evaluated here."""
        base, trees = read_trees(text)
        used: list[list[float]] = [[] for _ in range(n_features)]
        gain = np.zeros(n_features)
        for tree in trees:
            np.add.at(gain, tree.feature, tree.gain)
            for feature, threshold in zip(tree.feature.tolist(), tree.threshold.tolist(), strict=True):
                used[feature].append(threshold)
        thresholds = [np.unique(values) for values in used]
        if max(map(len, thresholds), default=0) > MOST_THRESHOLDS:
            raise ValueError(f"trees with more than {MOST_THRESHOLDS} thresholds of one feature cannot be used")
        if n_features > MOST_FEATURES:
            raise ValueError(f"trees of {n_features} features cannot be used, {MOST_FEATURES} are the most")
        nodes: list[int] = []
        values: list[float] = []
        root, steps = [], []
        for tree in trees:
            root.append(len(nodes))
            steps.append(_lay_out(tree, thresholds, n_features, nodes, values))
        return cls(
            base,
            n_features,
            np.concatenate([np.empty(0), *thresholds]),
            np.cumsum([0, *map(len, thresholds)]),
            np.array(nodes, np.uint32),
            np.array(values, np.float64),
            np.array(root, np.uint32),
            np.array(steps, np.int64),
            gain,
            trees,
            text,
        )

    def predict(self, features: np.ndarray) -> np.ndarray:
        """Return the sum of the trees, float64 [n], for float32 features [n, n_features]; NaN is missing."""
        from shelfwise.matching.kernels import forest_scores

        features = np.ascontiguousarray(features, dtype=np.float32)
        layout = (self.threshold, self.threshold_start, self.node, self.value, self.root, self.steps)
        return forest_scores(features, *layout, self.base)


def _lay_out(tree: Tree, thresholds: list[np.ndarray], n_features: int, nodes: list[int], values: list[float]) -> int:
    """Append a tree's nodes, breadth first, the two children of a node side by side; return its depth."""
    first = len(nodes)
    level, depth = [0], 0
    placed = 1  # nodes of this tree that have a place
    while level:
        below = []
        for node in level:
            if node < 0:  # a leaf: no rank is above 255, so it leads left, to itself
                nodes.append(255 << 16 | len(nodes) - first)
                values.append(float(tree.leaf_value[~node]))
                continue
            feature = int(tree.feature[node])
            column = feature if tree.missing_left[node] else n_features + feature
            rank = int(np.searchsorted(thresholds[feature], tree.threshold[node])) + 1
            nodes.append(column << 24 | rank << 16 | placed)
            values.append(0.0)
            placed += 2
            below += [int(tree.left[node]), int(tree.right[node])]
        level = below
        depth += bool(below)
    return depth
