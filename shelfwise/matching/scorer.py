"""The listwise scorer: gradient-boosted trees over pair features, calibrated to the probability of being right.

The trees are fitted on lines of vendors and products the encoder has not seen, some of them with their product hidden
from the catalog, so that "none of these" is learned. Calibration uses out-of-fold scores of the best candidate of
each line (folds are apart by vendor and by product), so a score of 0.9 means: of such lines, nine in ten are right.
"""

from __future__ import annotations

import heapq
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from shelfwise.matching.features import FEATURE_NAMES
from shelfwise.matching.index import rank_within
from shelfwise.matching.trees import Forest

FORMAT = 2
TAIL, SLOPE = 12.0, 0.25  # how far beyond its data a calibration rises, and how steeply, in log odds
LEAST_VENDORS = 3
LEAST_KEPT = 1 / 3  # of the rows that trees of a fold are grown on, else vendors and products are dealt together


@dataclass(frozen=True)
class ScorerConfig:
    """How the trees are grown. Below `least_positives` lines with a match, `FORMULA` is used instead.

    One thread by default: the data is small, and LightGBM's threads wait for each other actively, which on a machine
    with other work took five times as long as one thread. Many lines to a leaf and a shrinkage: real labels are
    wrong now and then, and near 99 % what matters is not to learn those. Out of fold, on the past mappings of
    PriceRunner, coverage at 98 % precision was 0.55 with them and 0.38 without (at 95 %: 0.70 either way). 400 rows to
    a leaf and a fifth of the features to a tree, instead of 200 and three tenths, raised the mean coverage of three of
    its folds from 0.49 to 0.57 at 96 % and from 0.36 to 0.44 at 97 %, top-1 by 0.001. Where rows are few a leaf may
    hold a two-hundredth of them, but not below 200.
    """

    rounds: int = 300
    leaves: int = 31
    learning_rate: float = 0.05
    least_in_leaf: int = 400
    shrinkage: float = 20.0
    feature_share: float = 0.2
    row_share: float = 0.8
    folds: int = 5
    least_positives: int = 200
    threads: int = 1
    seed: int = 0


# The fallback for too little data: log odds as a fixed sum. The weights are round numbers set by hand: agreement of
# the whole list of similarities and the lead over the best rival speak for a match, a different code, number or unit
# against it; a line that agrees on everything gets about 0.95, one that shares half its words about 0.3.
FORMULA: dict[str, float] = {
    "fused": 1.5,
    "line_in_names": 2.5,
    "title_in_line": 2.0,
    "overall_gap": 4.0,
    "exact_title": 2.0,
    "exact_alias": 2.0,
    "codes_conflict": -1.5,
    "quantities_conflict": -1.5,
    "pack_conflict": -0.5,
    "numbers_conflict": -0.5,
}
FORMULA_INTERCEPT = -4.5


@dataclass
class Calibration:
    """A non-decreasing, piecewise linear map from raw scores (log odds) to probabilities."""

    knots: np.ndarray = field(default_factory=lambda: np.linspace(-8, 8, 65))
    values: np.ndarray = field(default_factory=lambda: 1 / (1 + np.exp(-np.linspace(-8, 8, 65))))
    method: str = "none"

    def __call__(self, raw: np.ndarray) -> np.ndarray:
        """Return probabilities."""
        return np.interp(raw, self.knots, self.values)

    @classmethod
    def fit(cls, raw: np.ndarray, right: np.ndarray) -> Calibration:
        """Fit by isotonic regression on bins of equal size, joined by straight lines; Platt below 500 lines.

        The two ends are held off 0 and 1 by Laplace's rule. Sources: Zadrozny and Elkan 2002; Platt 1999.
        """
        if len(raw) < 500 or right.min(initial=1) == right.max(initial=0):
            return cls._platt(raw, right)
        from sklearn.isotonic import isotonic_regression

        order = np.argsort(raw, kind="stable")
        bins = np.array_split(order, min(len(raw) // 25, 200))
        centre = np.array([raw[part].mean() for part in bins])
        hits = np.array([right[part].sum() for part in bins], dtype=np.float64)
        size = np.array([len(part) for part in bins], dtype=np.float64)
        rate = isotonic_regression(hits / size, sample_weight=size)
        # One knot per level, at its mean score: between levels the map rises instead of jumping.
        level = np.concatenate([[0], np.cumsum(np.diff(rate) > 1e-12)])
        total = np.bincount(level, size)
        knots = np.bincount(level, size * centre) / total
        # Laplace's rule holds levels off 0 and 1, more so small ones; they stay apart, as equal scores have no order.
        values = np.maximum.accumulate((np.bincount(level, hits) + 0.5) / (total + 1))
        values = np.minimum(values + 1e-6 * np.arange(len(values)), 1 - 1e-6)
        # Beyond the ends the map goes on rising, slowly: among the surest lines too, a surer one must score higher.
        odds = np.log(values[[0, -1]] / (1 - values[[0, -1]]))
        reach = TAIL * np.linspace(1, 0, 16, endpoint=False)
        below, above = knots[0] - reach, knots[-1] + reach[::-1]
        ends = [1 / (1 + np.exp(-(odds[i] + SLOPE * (x - knots[-i])))) for i, x in enumerate((below, above))]
        return cls(np.concatenate([below, knots, above]), np.concatenate([ends[0], values, ends[1]]), "isotonic")

    @classmethod
    def _platt(cls, raw: np.ndarray, right: np.ndarray) -> Calibration:
        from sklearn.linear_model import LogisticRegression

        if len(raw) < 20 or right.min(initial=1) == right.max(initial=0):
            return cls()
        model = LogisticRegression(C=10.0).fit(raw.reshape(-1, 1), right.astype(int))
        slope, shift = max(float(model.coef_[0, 0]), 0.05), float(model.intercept_[0])
        knots = np.linspace(float(raw.min()) - 2, float(raw.max()) + 2, 65)
        return cls(knots, 1 / (1 + np.exp(-(slope * knots + shift))), "platt")

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {"method": self.method, "knots": self.knots.tolist(), "values": self.values.tolist()}

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> Calibration:
        """Read what `to_json` made."""
        return cls(np.array(raw["knots"]), np.array(raw["values"]), raw["method"])


class Scorer:
    """Scores candidates of lines. `fit`, then `raw` and `probabilities`; `save` and `load` without pickle."""

    def __init__(self, config: ScorerConfig | None = None):
        self.config = config or ScorerConfig()
        self.model: Forest | None = None  # None for FORMULA
        self.calibration = Calibration()
        self.report: dict[str, Any] = {"method": "formula"}
        self.unseen, self.held_apart = np.empty(0), "vendor and product"  # see `fit`; not saved

    def fit(
        self,
        features: np.ndarray,
        right: np.ndarray,
        line: np.ndarray,
        group: np.ndarray,
        typical: np.ndarray | None = None,
        vendor: np.ndarray | None = None,
    ) -> Scorer:
        """Fit trees and calibration.

        `features`: [m, len(FEATURES)]. `right`: 1 where the candidate is the line's product. `line`: of each
        candidate, sorted. `group`, `vendor`: of each line; the score by which a line is calibrated comes from trees
        that saw no line of its group (a product) nor of its vendor. `typical`: mask over lines, those on which the
        scores are calibrated (default all): the trees may see a line twice, with and without its product in the
        catalog, calibration should see it as uploads hold it. `unseen` holds those scores afterwards, as log odds of
        each candidate.
        """
        typical = np.ones(len(group), bool) if typical is None else typical
        has_match = np.zeros(len(group), bool)
        has_match[line[right == 1]] = True
        scored = np.unique(line)
        self.report = {"lines": len(scored), "matched": int(has_match.sum())}
        trees = has_match.sum() >= self.config.least_positives
        if trees:
            self.unseen, self.held_apart = self._cross_fit(features, right, line, group, vendor)
        else:
            self.unseen = self.raw(features)  # nothing is fitted, so nothing has been seen
        best = best_rows(line, self.unseen)
        top1 = float(right[best][has_match[line[best]]].mean()) if has_match.any() else 0.0
        best = best[typical[line[best]]]
        self.calibration = Calibration.fit(self.unseen[best], right[best])
        if not trees:
            self.report |= {"method": "formula"}
            return self
        self.model = Forest.of(self._grow(features, right).model_to_string(), len(FEATURE_NAMES))
        self.report |= {
            "method": "lightgbm",
            "out_of_fold_top1": top1,
            "held_apart": self.held_apart,
            "calibration": self.calibration.method,
            "calibration_error": _calibration_error(self.calibration(self.unseen[best]), right[best]),
        }
        return self

    def _cross_fit(
        self, features: np.ndarray, right: np.ndarray, line: np.ndarray, group: np.ndarray, vendor: np.ndarray | None
    ) -> tuple[np.ndarray, str]:
        """Return scores of every candidate by trees that saw neither its line's group nor its vendor, and what they
        did not see.
        """
        out, seed, folds = np.empty(len(line)), self.config.seed, self.config.folds
        for held, kept in cross_folds(group, vendor, folds, seed):
            inside, outside = held[line], kept[line]
            if inside.any():
                out[inside] = self._grow(features[outside], right[outside]).predict(
                    features[inside], raw_score=True, num_threads=self.config.threads
                )
        apart = vendor is not None and len(np.unique(vendor)) >= LEAST_VENDORS
        return out, "vendor and product" if apart else "product"

    def _grow(self, features: np.ndarray, right: np.ndarray) -> Any:
        import lightgbm

        config = self.config
        parameters = {
            "objective": "binary",
            "num_leaves": config.leaves,
            "learning_rate": config.learning_rate,
            "min_data_in_leaf": min(config.least_in_leaf, max(200, len(features) // 200)),
            "lambda_l2": config.shrinkage,
            "feature_fraction": config.feature_share,
            "bagging_fraction": config.row_share,
            "bagging_freq": 1,
            "num_threads": config.threads,
            "seed": config.seed + 1,
            "deterministic": True,
            "force_row_wise": True,
            "verbose": -1,
        }
        data = lightgbm.Dataset(features, right, feature_name=list(FEATURE_NAMES), free_raw_data=True)
        return lightgbm.train(parameters, data, config.rounds)

    def raw(self, features: np.ndarray) -> np.ndarray:
        """Return log odds of each candidate, before calibration."""
        if self.model is None:
            position = {name: i for i, name in enumerate(FEATURE_NAMES)}
            columns = [position[name] for name in FORMULA]
            weights = np.array(list(FORMULA.values()))
            return np.nan_to_num(features[:, columns]).astype(np.float64) @ weights + FORMULA_INTERCEPT
        return self.model.predict(features)

    def probabilities(self, raw: np.ndarray, line: np.ndarray) -> np.ndarray:
        """Return calibrated probabilities; those of a line sum to at most 1, as it has one product at most."""
        probability = self.calibration(raw)
        if not len(line):
            return probability
        best = best_rows(line, raw)
        top = np.zeros(int(line[-1]) + 1)
        top[line[best]] = probability[best]
        is_best = np.zeros(len(line), bool)
        is_best[best] = True
        rest = np.bincount(line, np.where(is_best, 0, probability), minlength=len(top))
        room = np.divide(1 - top, rest, out=np.ones_like(rest), where=rest > 0)
        return np.where(is_best, probability, probability * np.minimum(room, 1)[line])

    def importance(self) -> dict[str, float]:
        """Return each feature's share of the gain, largest first; the formula's weights where there are no trees."""
        if self.model is None:
            return dict(FORMULA)
        gain = self.model.gain / max(self.model.gain.sum(), 1e-12)
        order = np.argsort(-gain, kind="stable")
        return {FEATURE_NAMES[i]: float(gain[i]) for i in order}

    def save(self, directory: Path) -> None:
        """Write scorer.txt (LightGBM's text form, where there are trees), scorer.json and calibration.json."""
        directory.mkdir(parents=True, exist_ok=True)
        described = {
            "format": FORMAT,
            "features": list(FEATURE_NAMES),
            "config": asdict(self.config),
            "report": self.report,
            "trees": self.model is not None,
        }
        (directory / "scorer.json").write_text(json.dumps(described, indent=2, sort_keys=True))
        (directory / "calibration.json").write_text(json.dumps(self.calibration.to_json()))
        if self.model is not None:
            (directory / "scorer.txt").write_text(self.model.text)

    @classmethod
    def load(cls, directory: Path) -> Scorer:
        """Read what `save` wrote. Raises ValueError where it was made for other features or by another version."""
        raw = json.loads((directory / "scorer.json").read_text())
        if raw["format"] != FORMAT or raw["features"] != list(FEATURE_NAMES):
            raise ValueError(f"the scorer in {directory} was made for another version of the features; train it again")
        made = cls(ScorerConfig(**raw["config"]))
        made.report = raw["report"]
        made.calibration = Calibration.from_json(json.loads((directory / "calibration.json").read_text()))
        if raw["trees"]:
            made.model = Forest.of((directory / "scorer.txt").read_text(), len(FEATURE_NAMES))
        return made


def cross_folds(
    group: np.ndarray, vendor: np.ndarray | None, folds: int, seed: int = 0
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield (held out, kept), masks over lines: no group and no vendor is on both sides; each line is held out once.

    Vendors are dealt to folds, and lines of other vendors that share a group with a held out line are left out. Where
    that leaves too few lines, vendors and groups are dealt to three folds each and their nine crossings held out.
    With fewer than three vendors lines are held apart by group alone.
    """
    groups = deal(group, folds, seed)
    if vendor is None or len(np.unique(vendor)) < LEAST_VENDORS:
        yield from ((groups == k, groups != k) for k in np.unique(groups))
        return
    vendors = deal(vendor, folds, seed)
    parts = [(vendors == k, (vendors != k) & ~np.isin(group, group[vendors == k])) for k in np.unique(vendors)]
    if min(kept.mean() for _, kept in parts) < LEAST_KEPT:
        groups, vendors = deal(group, 3, seed), deal(vendor, 3, seed)
        cells = [(i, j) for i in range(3) for j in range(3)]
        parts = [((vendors == i) & (groups == j), (vendors != i) & (groups != j)) for i, j in cells]
    yield from parts


def deal(values: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """Return the fold of each entry: values are dealt, the frequent first, to the fold with the fewest entries."""
    _, code, count = np.unique(values, return_inverse=True, return_counts=True)
    order = np.lexsort((np.random.default_rng(seed).random(len(count)), -count))
    heap = [(0, k) for k in range(folds)]
    fold = np.empty(len(count), np.int64)
    for i in order:
        size, k = heapq.heappop(heap)
        fold[i] = k
        heapq.heappush(heap, (size + int(count[i]), k))
    return fold[code.ravel()]


def best_rows(line: np.ndarray, score: np.ndarray) -> np.ndarray:
    """Return the row of the highest score of each line; the first of equal ones."""
    order = np.lexsort((-score, line))
    return order[rank_within(line[order]) == 0]


def _calibration_error(probability: np.ndarray, right: np.ndarray, bins: int = 10) -> float:
    """Expected calibration error over bins of equal size (Naeini et al. 2015)."""
    parts = np.array_split(np.argsort(probability, kind="stable"), bins)
    gaps = [abs(probability[p].mean() - right[p].mean()) * len(p) for p in parts if len(p)]
    return float(sum(gaps) / max(len(probability), 1))
