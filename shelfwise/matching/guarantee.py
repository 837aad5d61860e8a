"""Approve on its own only what is right often enough: a threshold with a proof instead of a guess.

Given scores of lines the trees have not seen, and whether each line's best candidate was right, `certify` returns the
smallest threshold whose lower confidence bound on precision meets a target (by default 99 % at 95 % confidence).
Four things make the promise hold, each measured in tests/unit/test_guarantee.py:

* **Exact**: the bound of one threshold is that of Clopper and Pearson (1934), not a normal approximation, which at
  99 % promises too much.
* **Many thresholds looked at**: taking the smallest of many thresholds that pass a test at 5 % is wrong far more often
  than 5 % of the time. This is the setting of Learn then Test (Angelopoulos, Bates, Candes, Jordan and Lei 2021), which
  asks for control of the family-wise error. The lines above a threshold are among those above the next, so the number
  of wrong ones is one random walk that is looked at several times, and the level at which every look may be tested is
  known: a group-sequential boundary (Armitage, McPherson and Rowe 1969; Pocock 1977), from an eighth to half of the
  sample. Below the look that passed, the walk goes on with the fewer looks that are left, at a higher level, and from
  half of the sample on one look at a time, at the whole risk (closed testing: Marcus, Peritz and Gabriel 1976, for
  precision that falls with the threshold). A wrong label among the very surest lines does not end it: a deeper look may
  pass. On simulated lines (`benchmarks.thresholds`, where it stands beside three starts that share the risk by
  Bonferroni) a certified threshold misses the target in 5 % of the draws or fewer even where every threshold just
  misses it, or where precision falls, rises and falls again. A uniform band (DKW) is far too wide at 99 %. The
  thresholds looked at are the scores at fixed ranks: they depend on the scores alone and, given the scores, right and
  wrong are still independent, a Poisson-binomial count whose tails are lighter than the binomial's (Hoeffding 1956).
* **Lines are not independent**: lines of one product, or of one vendor, are wrong together. The bound is taken at the
  effective number of lines: their number over the design effect of a two-way clustered variance (Cameron, Gelbach and
  Miller 2011), with the correction for few clusters of Korn and Graubard (1998). A threshold with few wrong lines says
  nothing about how they cluster, so the design effect is measured where at least `LEAST_WRONG` lines are wrong, and
  taken for `USUAL_EFFECT` at least where so few are in all.
  Which clusters is a choice (`Goal.clusters`). By product, the bound is for vendors in the mix of the sample. By
  product and vendor, it is for another draw of vendors, of which a sample of fifty with one that sent a third of the
  lines says little. Measured on five folds of PriceRunner at 95 % with 3,000 lines each: by product all five are
  certified and each then measured at 0.966 or better, coverage 0.63 over all; with vendors, when measured before, one
  fold, coverage 0.13. So the first is the default, and `vendor_bound` says beside it what the second would promise.
* **Too little evidence is an answer**: then the threshold is None, every line goes to review, and `lines_needed` says
  how many labelled lines it would take.

What is promised holds for lines like those of the sample: vendors and products unseen, the sample's share of lines
whose product is not in the catalog. Where a vendor's lines match nothing far more often, it does not.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

METHOD = "group-sequential boundary with closed testing, Clopper-Pearson at the effective number of lines"
FIRST, MIDDLE = 1 / 8, 1 / 2  # of the sample: where looks begin, and where they are no more tested together
STEP = 1.06  # a threshold holds this many times the lines of the one before
USUAL_EFFECT = 1.25  # design effect that the first look allows for; the least one where too few lines are wrong to tell
MOST_WRONG = 2_000  # expected at the last look of a walk: a longer one is worked out as one of so many
SCALED = 0.98  # of the risk is then given out, as the longer one passes a little more often (measured: 1.5 %)
LEAST_WRONG = 20  # wrong lines from which on a design effect is believed
LEAST_SCORE = 0.5  # a line more likely wrong than right is not approved, even where sure ones make up for it
LEAST_CLUSTERS = 5  # fewer vendors than this say nothing about vendors


BY_PRODUCT, BY_VENDOR = "product", "vendor"


@dataclass(frozen=True)
class Goal:
    """What is promised: precision of approved lines, with which confidence; and how many right answers to keep.

    `recall`: of the lines whose best candidate is right, this share is approved or sent to review. `clusters`: lines of
    what count as wrong together: 'product', or 'vendor' for products and vendors, which is the more careful.
    """

    precision: float = 0.99
    confidence: float = 0.95
    recall: float = 0.99
    clusters: str = BY_PRODUCT

    def __post_init__(self) -> None:
        for name in ("precision", "confidence"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"{name} must be between 0 and 1, not {getattr(self, name)}")
        if self.clusters not in (BY_PRODUCT, BY_VENDOR):
            raise ValueError(f"clusters must be {BY_PRODUCT!r} or {BY_VENDOR!r}, not {self.clusters!r}")
        if not 0 <= self.recall <= 1:
            raise ValueError(f"recall must be between 0 and 1, not {self.recall}")

    @property
    def risk(self) -> float:
        """The probability with which the promise may fail."""
        return 1 - self.confidence


@dataclass(frozen=True)
class Certificate:
    """A threshold and what is known about it. `threshold` is None where there is too little sample.

    `bound`: lower confidence bound on the precision of lines scored at or above it, at `confidence`. `lines`, `wrong`,
    `precision`: what was seen there; without a threshold they describe the depth that came nearest. `effective`: the
    independent lines those are worth, `design_effect` their ratio. `sample`: all lines looked at. `coverage`: approved
    and right among the lines that have a match. `lines_needed`: without a threshold, about how many lines as sure as
    these, of new products and vendors, it would take; None where more of the same would not help. `vendor_bound`: the
    bound of the same lines if vendors count as clusters too; None where there are too few.
    """

    threshold: float | None
    bound: float
    precision: float
    lines: int
    wrong: int
    effective: float
    design_effect: float
    sample: int
    coverage: float
    target: float
    confidence: float
    lines_needed: int | None = None
    vendor_bound: float | None = None
    method: str = METHOD
    reason: str = ""

    @property
    def sentence(self) -> str:
        """One sentence for people."""
        if self.threshold is None:
            return f"nothing is approved on its own: {self.reason}"
        return (
            f"approved from {self.threshold:.4f}: at least {self.bound:.2%} right, {self.confidence:.0%} confidence "
            f"({self.wrong} of {self.lines:,} lines wrong, worth {self.effective:,.0f} independent ones; "
            f"target {self.target:.0%})"
        )

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Certificate:
        """Read what `to_json` made. Raises ValueError where another version made it."""
        if set(raw) != {one.name for one in fields(cls)}:
            raise ValueError("a certificate of another version")
        return cls(**dict(raw))


def lower_bound(right: float, lines: float, risk: float) -> float:
    """Return the exact one-sided lower confidence bound on a share (Clopper and Pearson 1934).

    `right` of `lines` were right; both may be fractions (an effective number of lines). 0 where there are no lines.
    """
    from scipy.special import betaincinv  # the quantile of the beta distribution

    return float(betaincinv(right, lines - right + 1, risk)) if lines > 0 and right > 0 else 0.0


def upper_bound(right: float, lines: float, risk: float) -> float:
    """Return the exact one-sided upper confidence bound on a share."""
    return 1.0 - lower_bound(lines - right, lines, risk)


def lines_needed(target: float, risk: float, wrong_share: float = 0.0) -> int | None:
    """Return how many independent lines would certify `target` if `wrong_share` of them were wrong.

    None where no number would: the share of wrong lines is not below what the target allows.
    """
    if wrong_share >= 1 - target:
        return None
    low, high = 1, 2
    while lower_bound((1 - wrong_share) * high, high, risk) < target:
        low, high = high, high * 2
        if high > 10_000_000:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        enough = lower_bound((1 - wrong_share) * middle, middle, risk) >= target
        low, high = (low, middle) if enough else (middle, high)
    return high


@lru_cache(maxsize=1024)
def shared_level(depths: tuple[int, ...], target: float, risk: float) -> float:
    """Return the level at which 'precision is below the target' may be tested down to each of these depths, ascending.

    With precision at the target all the way, the worst case, any of the tests then passes with probability `risk` at
    most: a boundary of one level at all looks (Pocock 1977). The lines down to one depth are among those down to the
    next, so it is far higher than `risk` over the number of depths.
    """
    if len(depths) == 1:
        return risk
    lines, given = np.asarray(depths), risk
    if (scale := MOST_WRONG / ((1 - target) * lines[-1])) < 1:
        lines, given = np.ceil(scale * lines).astype(np.int64), SCALED * risk
    low, high = risk / len(depths), risk
    while high > 1.002 * low:
        middle = math.sqrt(low * high)
        low, high = (middle, high) if _passes(lines, 1 - target, middle) <= given else (low, middle)
    return low


def _passes(depths: np.ndarray, share: float, level: float) -> float:
    """Return the probability that at any depth so few lines are wrong that a test at this level passes.

    Each line is wrong with probability `share`. Exact, from depth to depth (Armitage, McPherson and Rowe 1969).
    """
    from scipy.special import bdtr, bdtrik  # the binomial distribution and its quantile

    few = np.floor(bdtrik(level, depths, share))  # NaN where even no wrong line passes
    few = np.where(np.isnan(few) | (bdtr(0, depths, share) > level), -1, few).astype(np.int64)
    if few[-1] < 0:
        return 0.0
    walk, passed, before = np.ones(1), 0.0, 0  # walk: probability of each number of wrong lines, not passed so far
    for depth, most in zip(depths.tolist(), few.tolist(), strict=True):
        count = np.arange(min(depth - before, int(few[-1])) + 1)
        added = np.diff(bdtr(count, depth - before, share), prepend=0.0)
        likely = np.flatnonzero(added > 1e-15)
        walk = np.convolve(walk, added[likely[0] : likely[-1] + 1])
        walk = np.concatenate([np.zeros(likely[0]), walk])[: int(few[-1]) + 1]  # who has more will never pass
        passed += float(walk[: most + 1].sum())
        walk[: most + 1] = 0.0
        before = depth
    return passed


def design_effect(right: np.ndarray, *clusters: np.ndarray) -> float:
    """Return by how much clustering widens the variance of the share that is right; at least 1.

    `clusters`: for each line its cluster, one array per way of clustering (product, vendor). With two ways the variance
    is that of Cameron, Gelbach and Miller (2011): the sum of both less that of their intersection; never less than
    that of either way alone.
    """
    n, share = len(right), float(np.mean(right)) if len(right) else 0.0
    plain = n * share * (1 - share)
    if plain <= 0:
        return 1.0
    rest = np.asarray(right, np.float64) - share

    def clustered(codes: np.ndarray) -> float:
        sums = np.bincount(codes, rest)
        return float((sums**2).sum()) * len(sums) / max(len(sums) - 1, 1)

    codes = [_codes(one) for one in clusters]
    each = [clustered(one) for one in codes]
    if len(codes) == 2:
        both = _codes(codes[0].astype(np.int64) * (int(codes[1].max()) + 1) + codes[1])
        each.append(each[0] + each[1] - clustered(both))
    return max([1.0, *(one / plain for one in each)])


def certify(
    score: np.ndarray,
    right: np.ndarray,
    goal: Goal | None = None,
    clusters: Mapping[str, np.ndarray] | None = None,
    has_match: np.ndarray | None = None,
    risk: float | None = None,
    least: float = -math.inf,
) -> Certificate:
    """Return the smallest threshold whose lower confidence bound on precision meets the goal.

    `score`: of each line's best candidate, by trees that saw neither its vendor nor its product. `right`: whether that
    candidate is the line's product; False for lines whose product is not in the catalog. `clusters`: for each line what
    it may be wrong together with others by, at most two ways ('product', 'vendor'); lines count as independent without.
    `has_match`: lines whose product is in the catalog, for the coverage. `risk`: instead of that of the goal, where
    several certificates share it. `least`: no threshold below. Raises ValueError where lengths differ or a score is
    NaN.
    """
    goal, score, right = goal or Goal(), np.asarray(score, np.float64), np.asarray(right, bool)
    risk = goal.risk if risk is None else risk
    ways = {name: _codes(np.asarray(values)) for name, values in (clusters or {}).items()}
    ways = {name: codes for name, codes in ways.items() if len(codes) and codes.max() + 1 >= LEAST_CLUSTERS}
    if len(score) != len(right) or any(len(codes) != len(score) for codes in ways.values()):
        raise ValueError("score, right and clusters must be of one length")
    if np.isnan(score).any():
        raise ValueError("a score is NaN")
    order = np.argsort(-score, kind="stable")
    score, right = score[order], right[order]
    ways = {name: codes[order] for name, codes in ways.items()}
    matchable = int(len(score) if has_match is None else np.sum(has_match))
    tests = _Tests(score, right, ways, goal, risk, int((score >= least).sum()))
    best = tests.smallest()
    depth = tests.nearest() if best is None else best
    if depth is None:
        needed = lines_needed(goal.precision, risk)
        seen = Certificate(
            None, 0.0, 0.0, 0, 0, 0.0, 1.0, len(score), 0.0, goal.precision, 1 - risk, needed,
            reason=f"{len(score):,} labelled lines; even without any error it takes {needed:,}",
        )  # fmt: skip
        return seen
    found = tests.at(depth)
    if best is not None:
        covered = float(right[: found.lines].sum()) / max(matchable, 1)
        return replace(found, threshold=float(score[depth - 1]), coverage=covered)
    independent = lines_needed(goal.precision, tests.level, found.wrong / found.lines)
    if independent is None:
        reason = f"even of the surest {found.lines:,} lines {found.wrong:,} are wrong: more of the same would not help"
        return replace(found, reason=reason)
    needed = math.ceil(independent * found.lines / found.effective)
    reason = (
        f"{found.wrong:,} of the surest {found.lines:,} lines are wrong, which shows {found.bound:.2%} and not "
        f"{goal.precision:.0%}; about {needed:,} such lines would do"
    )
    return replace(found, lines_needed=needed, reason=reason)


class _Tests:
    """Tests of 'precision is below the target' for the lines down to each depth, strictest first."""

    def __init__(
        self, score: np.ndarray, right: np.ndarray, ways: dict[str, np.ndarray], goal: Goal, risk: float, last: int
    ):
        self.score, self.right, self.ways, self.goal, self.risk = score, right, ways, goal, risk
        self.wrong, self.last = np.cumsum(~right), last
        self.depths = self._grid()
        self.level = risk  # at which the threshold found was tested
        self._effects: dict[int, float] = {}

    def _grid(self) -> list[int]:
        """Return the depths looked at; lines of equal score stay together.

        The first holds enough lines to pass alone if none is wrong, with some to spare where they come in clusters
        (`USUAL_EFFECT`): what they are worth is known only after looking at what is right.
        """
        n, least = len(self.score), lines_needed(self.goal.precision, self.risk) or len(self.score) + 1
        first = max(math.ceil(USUAL_EFFECT * least) if self.ways else least, math.ceil(FIRST * n))
        ranks, depth = [], float(first)
        while depth < self.last:
            ranks.append(math.ceil(depth))
            depth *= STEP
        if first <= self.last:
            ranks.append(self.last)
        return sorted({self._down(rank) for rank in ranks})

    def _together(self, start: int) -> list[int]:
        """Return the depths, from the one at position `start` on, of which any may pass."""
        middle = max(MIDDLE * len(self.score), 2 * self.depths[0]) if self.depths else 0
        return [depth for depth in self.depths[start:] if depth <= middle] or self.depths[start : start + 1]

    def _level(self, depths: list[int]) -> float:
        return shared_level(tuple(depths), self.goal.precision, self.risk)

    def _down(self, rank: int) -> int:
        """Return how many lines score at least what the line at this rank (from 1) does."""
        return int(np.searchsorted(-self.score, -self.score[rank - 1], side="right"))

    def smallest(self) -> int | None:
        """Return the largest depth that is proven, None where none is."""
        found, start, level = None, 0, 0.0
        while start < len(self.depths):
            depths = self._together(start)
            level = max(level, self._level(depths))
            passed = [depth for depth in depths if self.bound(depth, level) >= self.goal.precision]
            if not passed:
                break
            found, self.level = passed[-1], level
            start = self.depths.index(found) + 1
        return found

    def nearest(self) -> int | None:
        """Return the depth of the first walk whose bound is highest."""
        depths = self._together(0)
        self.level = self._level(depths) if depths else self.risk
        return max(depths, key=lambda depth: self.bound(depth, self.level), default=None)

    def effect(self, depth: int) -> float:
        """Return the design effect of the lines down to a depth, or as far down as enough of them are wrong."""
        depth = max(depth, int(np.searchsorted(self.wrong, LEAST_WRONG)) + 1)
        depth = min(depth, len(self.right))
        if depth not in self._effects:
            least = USUAL_EFFECT if self.ways and self.wrong[-1] < LEAST_WRONG else 1.0
            measured = design_effect(self.right[:depth], *(codes[:depth] for codes in self.ways.values()))
            self._effects[depth] = max(least, measured)
        return self._effects[depth]

    def effective(self, depth: int, risk: float) -> float:
        """Return how many independent lines the lines down to a depth are worth (Korn and Graubard 1998)."""
        from scipy.special import ndtri, stdtrit  # quantiles of the normal and of Student's distribution

        worth = depth / self.effect(depth)
        few = min((len(np.unique(codes[:depth])) for codes in self.ways.values()), default=0)
        if few and risk < 0.5:
            worth *= float(ndtri(risk) / stdtrit(max(few - 1, 1), risk)) ** 2
        return worth

    def bound(self, depth: int, risk: float) -> float:
        """Return the lower bound on precision down to a depth, at the effective number of lines."""
        worth = self.effective(depth, risk)
        return lower_bound((1 - self.wrong[depth - 1] / depth) * worth, worth, risk)

    def at(self, depth: int) -> Certificate:
        """Return what is known about the lines down to a depth, without a threshold."""
        wrong, worth = int(self.wrong[depth - 1]), self.effective(depth, self.level)
        return Certificate(
            None, self.bound(depth, self.level), 1 - wrong / depth, depth, wrong, worth, depth / worth,
            len(self.score), 0.0, self.goal.precision, 1 - self.risk,
        )  # fmt: skip


def _codes(values: np.ndarray) -> np.ndarray:
    return np.unique(values, return_inverse=True)[1].ravel()


@dataclass(frozen=True, eq=False)
class Sample:
    """What became of lines whose vendor and product the trees had not seen: the sample a guarantee rests on.

    One entry per line and view; `known_view` tells the two views apart: the line's product with the names other vendors
    gave it, or as a product of which nobody ever sent a line. `score`: of the best candidate. `right`: it is the line's
    product. `has_match`: the line's product is in the catalog. `known`: the best candidate has names by vendors.
    `category`: root category of the best candidate. `held_apart`: what the trees had not seen, 'vendor and product' or
    'product'.
    """

    score: np.ndarray = field(default_factory=lambda: np.empty(0))
    right: np.ndarray = field(default_factory=lambda: np.empty(0, bool))
    has_match: np.ndarray = field(default_factory=lambda: np.empty(0, bool))
    known: np.ndarray = field(default_factory=lambda: np.empty(0, bool))
    known_view: np.ndarray = field(default_factory=lambda: np.empty(0, bool))
    vendor: np.ndarray = field(default_factory=lambda: np.empty(0, "U1"))
    product: np.ndarray = field(default_factory=lambda: np.empty(0, "U1"))
    category: np.ndarray = field(default_factory=lambda: np.empty(0, "U1"))
    held_apart: str = "vendor and product"

    def __len__(self) -> int:
        return len(self.score)

    @property
    def clusters(self) -> dict[str, np.ndarray]:
        """What lines may be wrong together by."""
        return {"product": self.product, "vendor": self.vendor}

    def take(self, keep: np.ndarray) -> Sample:
        """Return the entries at `keep`."""
        arrays = {one.name: getattr(self, one.name)[keep] for one in fields(self) if one.name != "held_apart"}
        return replace(self, **arrays)

    def save(self, path: Path) -> None:
        """Write arrays, nothing pickled. The same sample gives the same bytes."""
        arrays = {one.name: np.asarray(getattr(self, one.name)) for one in fields(self)}
        np.savez_compressed(path, allow_pickle=False, **arrays)

    @classmethod
    def load(cls, path: Path) -> Sample:
        """Read what `save` wrote."""
        with np.load(path, allow_pickle=False) as raw:
            arrays = {one.name: raw[one.name] for one in fields(cls) if one.name != "held_apart"}
            return cls(**arrays, held_apart=str(raw["held_apart"]))


@dataclass(frozen=True)
class Guarantee:
    """Certificates by kind of product and, where there is evidence, by vendor and by category; where review begins.

    `new`: lines of products that nobody ever sent a line of; the one that stands for all. `known`: lines whose best
    candidate has names by vendors; approved from the higher of the two, so that either promise holds whatever the mix.
    `by_vendor`, `by_category`: certificates of their own, for those with enough lines. `review`: the score above which
    `goal.recall` of the right answers lie.
    """

    goal: Goal
    new: Certificate
    known: Certificate
    review: float
    by_vendor: Mapping[str, Certificate] = field(default_factory=dict)
    by_category: Mapping[str, Certificate] = field(default_factory=dict)
    held_apart: str = "vendor and product"

    @classmethod
    def of(cls, sample: Sample, goal: Goal | None = None) -> Guarantee:
        """Derive it from sample."""
        goal = goal or Goal()
        new = sample.take(~sample.known_view)
        view = sample.take(sample.known_view)
        pooled, known = _certificate(new, goal), _certificate(view.take(view.known), goal)
        if known.threshold is None and len(view) >= len(sample) / 4:
            whole = _certificate(view, goal)  # too few candidates with names of their own: all lines together
            known = known if whole.threshold is None else whole
        return cls(
            goal,
            pooled,
            known,
            review_from(sample.score[sample.right], goal.recall),
            _by_group(new, new.vendor, goal, pooled),
            _by_group(new, new.category, goal, pooled),
            sample.held_apart,
        )

    def table(self) -> list[dict[str, Any]]:
        """Return one row per certificate, for people."""
        rows = [("products never seen", "", self.new), ("products known by other names", "", self.known)]
        rows += [("vendor", name, one) for name, one in self.by_vendor.items()]
        rows += [("category", name, one) for name, one in self.by_category.items()]
        return [
            {
                "lines of": f"{kind} {name}".strip(),
                "approved from": "–" if one.threshold is None else f"{one.threshold:.4f}",
                "lower bound": one.bound,
                "bound for other vendors": one.vendor_bound,
                "precision seen": one.precision,
                "lines": one.lines,
                "wrong": one.wrong,
                "worth": round(one.effective),
                "coverage": one.coverage,
                "reason": one.reason,
            }
            for kind, name, one in rows
        ]

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "goal": asdict(self.goal),
            "new": self.new.to_json(),
            "known": self.known.to_json(),
            "review": self.review,
            "by_vendor": {name: one.to_json() for name, one in self.by_vendor.items()},
            "by_category": {name: one.to_json() for name, one in self.by_category.items()},
            "held_apart": self.held_apart,
        }

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Guarantee:
        """Read what `to_json` made. Raises ValueError where another version made it."""
        groups = {
            name: {key: Certificate.from_json(one) for key, one in raw[name].items()}
            for name in ("by_vendor", "by_category")
        }
        new, known = Certificate.from_json(raw["new"]), Certificate.from_json(raw["known"])
        return cls(Goal(**raw["goal"]), new, known, raw["review"], **groups, held_apart=raw["held_apart"])


def review_from(right_scores: np.ndarray, recall: float) -> float:
    """Return the score at or above which `recall` of the right answers lie; 0 below `LEAST_WRONG` right answers."""
    if len(right_scores) < LEAST_WRONG:
        return 0.0
    return float(np.quantile(right_scores, 1 - recall, method="lower"))


def _certificate(sample: Sample, goal: Goal) -> Certificate:
    clusters = sample.clusters if goal.clusters == BY_VENDOR else {"product": sample.product}
    found = certify(sample.score, sample.right, goal, clusters, sample.has_match, least=LEAST_SCORE)
    if not found.lines or len(np.unique(sample.vendor)) < LEAST_CLUSTERS:
        return found
    order = np.argsort(-sample.score, kind="stable")
    ways = {name: _codes(values)[order] for name, values in sample.clusters.items()}
    tests = _Tests(sample.score[order], sample.right[order], ways, goal, goal.risk, found.lines)
    return replace(found, vendor_bound=tests.bound(found.lines, goal.risk))


def _by_group(sample: Sample, group: np.ndarray, goal: Goal, pooled: Certificate) -> dict[str, Certificate]:
    """Return a certificate for each group that has the lines to have one, or that breaks the common promise.

    A group breaks it where the upper bound of its own precision from the common threshold on is below the target.
    The groups share the risk, so that all their certificates hold together.
    """
    least = lines_needed(goal.precision, goal.risk) or 0
    large = [name for name in np.unique(group) if name and (group == name).sum() >= 2 * least]
    out = {}
    for name in large:
        part = sample.take(group == name)
        risk = goal.risk / len(large)
        own = certify(part.score, part.right, goal, part.clusters, part.has_match, risk, LEAST_SCORE)
        over = part.score >= (math.inf if pooled.threshold is None else pooled.threshold)
        worth = over.sum() / design_effect(part.right[over], part.product[over]) if over.any() else 0
        breaks = worth and upper_bound(part.right[over].mean() * worth, worth, risk) < goal.precision
        if own.threshold is not None or breaks:
            out[str(name)] = own
    return out
