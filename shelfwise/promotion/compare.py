"""Candidate and champion on the same held-out lines, line by line: what one gained, what it lost, what chance explains.

Two accuracies side by side say little: both are measured on the same lines, so all that counts is where they differ.

* **Which lines.** Lines that the champion was fitted on, or relatives of such, are left out: it would have an advantage
  there (what a model was fitted on is published with it). Where fewer than `LEAST_LINES` are left, all held-out lines
  are compared instead. The advantage is the champion's then, so a candidate found better is better all the same.
* **Lines are not independent.** Lines of one product (or duplicates of a listing) are won and lost together, so these
  groups are what is counted and resampled, not lines. Vendors are not: the comparison is for vendors in the mix of the
  held-out ones.
* **Better**: the sum of gained minus lost lines over groups. If neither model were better, the sign of each group's own
  sum would be a coin's, whatever its size; the p-value is the share of all ways to flip these coins that give a sum at
  least as large, computed exactly. With one line to a group this is the exact one-sided McNemar test (1947); with
  several it is Fisher's randomisation test on paired differences (1935), the group as the unit.
* **How much**: 95 % interval of the difference by bootstrap over groups (percentiles; Poisson weights: Hanley and
  MacGibbon 2006), both models with the same weights, so that the pairing is kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from shelfwise.promotion.rules import Rules

LEAST_LINES = 200  # that the champion has not seen, for a comparison on these alone
FEWEST_LINES = 50  # for any comparison: fewer stand for nothing, however exact the test
LEAST_IN_SLICE = 100  # lines that make a slice one of importance
RESAMPLES = 1000
SLICE_MEASURES = ("top1", "top5")


@dataclass(frozen=True)
class Difference:
    """Candidate minus champion in one measure.

    `lines` count for it, of `groups`. `gained`, `lost`: lines that only the candidate, or only the champion, got
    right (precision of decisions: wrong ones that only the champion, or only the candidate, made). `low`, `high`:
    95 % interval of `difference`; `at_least`: it is no less than that with 95 % confidence, one-sided. `p_value`:
    chance of so much gain if the two were equally good, `p_worse` of so much loss, groups as units; `p_lines`: as
    `p_value`, as if lines were independent (exact McNemar).
    """

    lines: int
    groups: int
    candidate: float
    champion: float
    gained: int
    lost: int
    difference: float
    low: float
    high: float
    at_least: float
    p_value: float
    p_worse: float
    p_lines: float


@dataclass(frozen=True)
class Comparison:
    """Both models on the same lines. `held_out`: all held-out lines; `seen`: those of them that the champion was
    fitted on; `lines`: those compared, `unseen` whether they are the others alone. `slices`: one row per slice of
    importance and measure, fields of `Difference` with slice, value, measure.
    """

    rules: Rules
    held_out: int
    seen: int
    lines: int
    unseen: bool
    recorded: bool
    measures: Mapping[str, Difference]
    slices: list[dict[str, Any]]

    @property
    def sentence(self) -> str:
        """What was compared, for people."""
        called = self.rules.lines
        if not self.recorded:
            return (
                f"compared on all {self.held_out:,} held-out {called}; what the champion was fitted on is not "
                "recorded, so it may have an advantage on some"
            )
        if self.unseen:
            left = f", {self.seen:,} others left out because {self.rules.seen}"
            few = f"; fewer than {LEAST_LINES}, so no slice can be looked at and only large gains can be shown"
            told = f"compared on {self.lines:,} held-out {called}{left if self.seen else ''}"
            return told + few if self.lines < LEAST_LINES else told
        return (
            f"the champion has not seen {self.held_out - self.seen:,} of the held-out {called}, and {LEAST_LINES} are "
            f"needed for a comparison on these alone; compared on all {self.held_out:,}, which favours the champion"
        )

    def to_json(self) -> dict[str, Any]:
        """Return the parts of the evaluation's value: `paired` by measure, `slices`, and `compared` on what."""
        return {
            "paired": {name: asdict(one) for name, one in self.measures.items()},
            "slices": self.slices,
            "compared": {
                "held_out": self.held_out,
                "seen_by_champion": self.seen,
                "lines": self.lines,
                "unseen_only": self.unseen,
                "sentence": self.sentence,
            },
        }


def compare(
    candidate: pd.DataFrame,
    champion: pd.DataFrame,
    rules: Rules,
    seen: np.ndarray | None = None,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Comparison:
    """Compare two models on the lines that both were evaluated on.

    `candidate`, `champion`: `Evaluation.lines` of either, row by row the same lines, with the columns that the rules
    name and rank (1: the right one came first, 0: not at all), decision, right. `seen`: lines that the champion was
    fitted on, None where that is not recorded. Raises ValueError where the frames are not of the same lines.
    """
    same = list(rules.same)
    if len(candidate) != len(champion) or not candidate[same].astype(str).equals(champion[same].astype(str)):
        raise ValueError("candidate and champion were not evaluated on the same lines")
    held_out, recorded = len(candidate), seen is not None
    seen = np.zeros(held_out, bool) if seen is None else np.asarray(seen, bool)
    unseen = held_out - int(seen.sum()) >= LEAST_LINES or not seen.any()
    if unseen and seen.any():
        candidate, champion = candidate[~seen], champion[~seen]
    candidate, champion = candidate.reset_index(drop=True), champion.reset_index(drop=True)
    counts, measures = _counts(candidate, champion, rules), rules.measures
    everyone = np.ones(len(candidate), bool)
    wanted: list[tuple[dict[str, Any], str, np.ndarray]] = [({}, name, everyone) for name in measures]
    for where, rows in _slices_of_importance(candidate, counts["top1"].among, rules.slices):
        wanted += [({**where, "measure": name}, name, rows) for name in SLICE_MEASURES]
    cluster = _clusters(candidate[rules.unit])
    found = list(_differences([counts[name].within(rows) for _, name, rows in wanted], cluster, seed, resamples))
    return Comparison(
        rules,
        held_out,
        int(seen.sum()),
        len(candidate),
        unseen,
        recorded,
        dict(zip(measures, found, strict=False)),
        [{**where, **asdict(one)} for (where, _, _), one in list(zip(wanted, found, strict=True))[len(measures) :]],
    )


@dataclass(frozen=True)
class _Counts:
    """A measure of both models as two ratios: what is counted, among what; and which lines either had `good`."""

    counted: tuple[np.ndarray, np.ndarray]
    amongst: tuple[np.ndarray, np.ndarray]
    good: tuple[np.ndarray, np.ndarray]

    @property
    def among(self) -> np.ndarray:
        """Lines that count for either model."""
        return self.amongst[0] | self.amongst[1]

    def within(self, rows: np.ndarray) -> _Counts:
        """Return the same for some of the lines."""
        parts = ((a & rows, b & rows) for a, b in (self.counted, self.amongst, self.good))
        return _Counts(*parts)


def _counts(candidate: pd.DataFrame, champion: pd.DataFrame, rules: Rules) -> dict[str, _Counts]:
    """Return the measures of the rules. A line counts where it does for both."""
    frames = candidate, champion

    def for_both(column: str | None) -> np.ndarray:
        if column is None:
            return np.ones(len(candidate), bool)
        return np.logical_and(*(one[column].to_numpy(bool) for one in frames))

    inside, has = for_both(rules.among), for_both(rules.answerable)
    first, five, approved, right = (
        [one["rank"].to_numpy() == 1 for one in frames],
        [one["rank"].between(1, 5).to_numpy() for one in frames],
        [(one["decision"] == rules.decided).to_numpy() for one in frames],
        [one["right"].to_numpy(bool) for one in frames],
    )
    settled = [a & r for a, r in zip(approved, right, strict=True)]

    def paired(hits: list[np.ndarray], among: np.ndarray) -> _Counts:
        good = (hits[0] & among, hits[1] & among)
        return _Counts(good, (among, among), good)

    return {
        "top1": paired(first, inside),
        "top5": paired(five, inside),
        rules.coverage: paired(settled, has),
        # Here `good` is not to have approved what is wrong, whatever else became of the line.
        rules.precision: _Counts(
            (settled[0], settled[1]),
            (approved[0], approved[1]),
            (~(approved[0] & ~right[0]), ~(approved[1] & ~right[1])),
        ),
    }


def _slices_of_importance(
    lines: pd.DataFrame, among: np.ndarray, slices: Mapping[str, str]
) -> Iterator[tuple[dict[str, Any], np.ndarray]]:
    """Yield each slice that holds enough of the lines that count, with which lines those are."""
    for name, column in slices.items():
        values = lines[column].astype(str).to_numpy()
        for value, size in zip(*np.unique(values[among], return_counts=True), strict=True):
            if value and size >= LEAST_IN_SLICE:
                yield {"slice": name, "value": str(value)}, values == value


def _clusters(group: pd.Series) -> np.ndarray:
    """Return a number per line, the same for lines of one group; a line without one stands alone."""
    values = group.astype("string").fillna("").to_numpy(object)
    numbers, alone = pd.factorize(values)[0], values == ""
    numbers[alone] = len(group) + np.arange(alone.sum())
    return np.unique(numbers, return_inverse=True)[1].ravel()


def _differences(measures: list[_Counts], cluster: np.ndarray, seed: int, resamples: int) -> Iterator[Difference]:
    n = int(cluster.max(initial=-1)) + 1

    def per_cluster(lines: np.ndarray) -> np.ndarray:
        return np.bincount(cluster, weights=lines, minlength=n)

    sums = np.stack([per_cluster(a) for one in measures for pair in (one.counted, one.amongst) for a in pair], axis=1)
    totals, drawn = sums.sum(axis=0), _resampled(sums, seed, resamples)
    for i, one in enumerate(measures):
        columns = slice(4 * i, 4 * i + 4)
        candidate, champion, difference = _ratios(totals[columns])
        spread = _ratios(drawn[:, columns].T)[2]
        spread = spread[np.isfinite(spread)]
        nothing = len(spread) == 0
        low, at_least, high = [np.nan] * 3 if nothing else np.percentile(spread, [2.5, 5, 97.5])
        gained, lost = one.good[0] & ~one.good[1], one.good[1] & ~one.good[0]
        net = (per_cluster(gained) - per_cluster(lost)).astype(np.int64)
        yield Difference(
            lines=int(one.among.sum()),
            groups=len(np.unique(cluster[one.among])),
            candidate=float(candidate),
            champion=float(champion),
            gained=int(gained.sum()),
            lost=int(lost.sum()),
            difference=float(difference),
            low=float(low),
            high=float(high),
            at_least=float(at_least),
            p_value=chance_of(net),
            p_worse=chance_of(-net),
            p_lines=chance_of(gained.astype(np.int64) - lost),
        )


def _ratios(sums: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return both ratios and their difference; rows of `sums`: counted by candidate, by champion, among by either."""
    with np.errstate(divide="ignore", invalid="ignore"):
        candidate, champion = sums[0] / sums[2], sums[1] / sums[3]
    return candidate, champion, candidate - champion


def _resampled(sums: np.ndarray, seed: int, resamples: int) -> np.ndarray:
    """Return column sums [resamples, columns] of `sums` [clusters, columns] with clusters drawn anew each time."""
    rng = np.random.default_rng(seed)
    values = sums.astype(np.float32)
    drawn = [
        rng.poisson(1.0, (min(50, resamples - start), len(values))).astype(np.float32) @ values
        for start in range(0, resamples, 50)
    ]
    return np.concatenate(drawn) if drawn else np.empty((0, sums.shape[1]))


def chance_of(net: Iterable[int]) -> float:
    """Return the chance that sums with these sizes and coin-flip signs add up to at least what these add up to.

    `net`: gained minus lost per group. Exact: sums of one size make a binomial number, and numbers of several sizes
    are convolved. 1.0 where nothing differs.
    """
    values = np.asarray(net, np.int64)
    values = values[values != 0]
    chance = np.ones(1)
    for size, n in zip(*np.unique(np.abs(values), return_counts=True), strict=True):
        factorials = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, n + 1)))])
        spaced = np.zeros(size * n + 1)
        spaced[::size] = np.exp(factorials[n] - factorials - factorials[::-1] - n * np.log(2))
        chance = _convolved(chance, spaced)
    return float(np.clip(chance[values[values > 0].sum() :].sum(), 0, 1))


def _convolved(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    if len(a) * len(b) < 10**8:
        return np.convolve(a, b)
    n = len(a) + len(b) - 1
    return np.fft.irfft(np.fft.rfft(a, n) * np.fft.rfft(b, n), n)
