"""Candidate and champion on the same held-out lines, line by line: what one gained, what it lost, what chance explains.

Two accuracies side by side say little: both are measured on the same lines, so all that counts is where they differ.

* **Which lines.** Lines of vendors and products that the champion was fitted on are left out: it would have an
  advantage there (`trained_on` is published with each matcher). Where fewer than `LEAST_LINES` are left, all held-out
  lines are compared instead. The advantage is the champion's then, so a candidate found better is better all the same.
* **Lines are not independent.** Lines of one product are won and lost together, so products are what is counted and
  resampled, not lines. Vendors are not: the comparison is for vendors in the mix of the held-out ones.
* **Better**: the sum of gained minus lost lines over products. If neither matcher were better, the sign of each
  product's own sum would be a coin's, whatever its size; the p-value is the share of all ways to flip these coins that
  give a sum at least as large, computed exactly. With one line to a product this is the exact one-sided McNemar test
  (1947); with several it is Fisher's randomisation test on paired differences (1935), the product as the unit.
* **How much**: 95 % interval of the difference by bootstrap over products (percentiles; Poisson weights: Hanley and
  MacGibbon 2006), both matchers with the same weights, so that the pairing is kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from shelfwise.matching.decisions import APPROVED
from shelfwise.matching.splits import PRODUCT, VENDOR, hashed_share, vendors_separable

LEAST_LINES = 200  # that the champion has not seen, for a comparison on these alone
FEWEST_LINES = 50  # for any comparison: fewer stand for nothing, however exact the test
LEAST_IN_SLICE = 100  # lines that make a slice one of importance
RESAMPLES = 1000
TRAINED_ON = "trained_on.parquet"
MEASURES = ("top1", "top5", "approved_precision", "approved_coverage")
VIEWS = ("in_catalog", "has_match")  # the whole catalog, and an upload in which some lines match nothing
SLICE_MEASURES = ("top1", "top5")
SLICES = {"vendor": "vendor_id", "category": "category", "other names": "popularity"}


# --- What a matcher was fitted on ---------------------------------------------------------------------------------


def trained_on(pairs: pd.DataFrame) -> pd.DataFrame:
    """Return whose lines encoder and scorer are fitted on: the vendors and products of the labelled lines of train and
    valid, columns kind, id. A product that was only ever a wrong answer is not among them.

    `pairs`: matching/training_pairs.
    """
    used = pairs[(pairs["split"] != "test") & (pairs["label"] == 1)]
    ids = {VENDOR: used["vendor_id"], PRODUCT: used["product_id"]}
    frames = [pd.DataFrame({"kind": kind, "id": np.unique(own.astype(str))}) for kind, own in ids.items()]
    return pd.concat(frames, ignore_index=True)


def read_trained_on(directory: Path) -> pd.DataFrame | None:
    """Return what a matcher says it was fitted on, None where it does not say (an older version made it)."""
    try:
        return pd.read_parquet(Path(directory) / TRAINED_ON)
    except FileNotFoundError:
        return None


def vendors_apart(pairs: pd.DataFrame) -> bool:
    """Whether no vendor occurs in more than one part of matching/training_pairs."""
    return bool((pairs.groupby("vendor_id")["split"].nunique() <= 1).all())


def seen_lines(lines: pd.DataFrame, known: pd.DataFrame | None, by_vendor: bool = True) -> np.ndarray:
    """Return which lines (vendor_id, product_id) are of a vendor or product in `known`, a frame of `trained_on`.

    `by_vendor`: False where vendors cannot be kept apart, for then nobody has unseen ones. Without `known` none is.
    """
    if known is None:
        return np.zeros(len(lines), bool)
    ids = {kind: set(known.loc[known["kind"] == kind, "id"]) for kind in (VENDOR, PRODUCT)}
    seen = lines["product_id"].astype(str).isin(ids[PRODUCT]).to_numpy()
    return seen | lines["vendor_id"].astype(str).isin(ids[VENDOR]).to_numpy() if by_vendor else seen


def lines_never_seen(positives: pd.DataFrame, known: pd.DataFrame, most: int) -> pd.DataFrame:
    """Return the labelled lines of vendors and products that a matcher was not fitted on, at most about `most` of them
    (a sample by line_id). Where vendors cannot be kept apart, products alone decide.

    `positives`: marts/labelled_positives.
    """
    kept = positives[~seen_lines(positives, known, vendors_separable(positives["vendor_id"]))]
    if len(kept) > most:
        kept = kept[hashed_share(kept["line_id"].astype(str), most / len(kept), 0)]
    return kept.reset_index(drop=True)


def by_source(lines: pd.DataFrame, outcomes: pd.DataFrame) -> pd.DataFrame:
    """Return accuracy by where labels come from: corrections are lines that somebody found doubtful, and harder.

    `lines`: with `source` (mapping, feedback); `outcomes`: `Evaluation.lines` of the same. Columns: source, lines,
    top1, top5.
    """
    inside = outcomes["in_catalog"].to_numpy(bool)
    hits = pd.DataFrame(
        {
            "source": lines["source"].to_numpy(),
            "lines": 1,
            "top1": (outcomes["rank"] == 1).to_numpy(),
            "top5": outcomes["rank"].between(1, 5).to_numpy(),
        }
    )[inside]
    return hits.groupby("source").agg({"lines": "sum", "top1": "mean", "top5": "mean"}).reset_index()


# --- The comparison -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Difference:
    """Candidate minus champion in one measure.

    `lines` count for it, of `products`. `gained`, `lost`: lines that only the candidate, or only the champion, got
    right (approved precision: wrong approvals that only the champion, or only the candidate, made). `low`, `high`:
    95 % interval of `difference`; `at_least`: it is no less than that with 95 % confidence, one-sided. `p_better`:
    chance of so much gain if the two were equally good, `p_worse` of so much loss, products as units; `p_lines`: as
    `p_better`, as if lines were independent (exact McNemar).
    """

    lines: int
    products: int
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
    """Both matchers on the same lines. `held_out`: all held-out lines; `seen`: those of them that the champion was
    fitted on; `lines`: those compared, `unseen` whether they are the others alone. `slices`: one row per slice of
    importance and measure, fields of `Difference` with slice, value, measure.
    """

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
        if not self.recorded:
            return (
                f"compared on all {self.held_out:,} held-out lines; what the champion was fitted on is not recorded, "
                "so it may have an advantage on some"
            )
        if self.unseen:
            left = f", {self.seen:,} others left out because the champion was fitted on their vendor or product"
            few = f"; fewer than {LEAST_LINES}, so no slice can be looked at and only large gains can be shown"
            told = f"compared on {self.lines:,} held-out lines{left if self.seen else ''}"
            return told + few if self.lines < LEAST_LINES else told
        return (
            f"the champion has not seen {self.held_out - self.seen:,} of the held-out lines, and {LEAST_LINES} are "
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
    known: pd.DataFrame | None = None,
    by_vendor: bool = True,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Comparison:
    """Compare two matchers on the lines that both were evaluated on.

    `candidate`, `champion`: `Evaluation.lines` of either, row by row the same lines. `known`: what the champion was
    fitted on (`trained_on`), None where that is not recorded; `by_vendor`: whether the split keeps vendors apart.
    Raises ValueError where the frames are not of the same lines.
    """
    same = ["vendor_id", "title", "product_id"]
    if len(candidate) != len(champion) or not candidate[same].astype(str).equals(champion[same].astype(str)):
        raise ValueError("candidate and champion were not evaluated on the same lines")
    held_out = len(candidate)
    seen = seen_lines(candidate, known, by_vendor)
    unseen = held_out - int(seen.sum()) >= LEAST_LINES or not seen.any()
    if unseen and seen.any():
        candidate, champion = candidate[~seen], champion[~seen]
    candidate, champion = candidate.reset_index(drop=True), champion.reset_index(drop=True)
    counts = _counts(candidate, champion)
    everyone = np.ones(len(candidate), bool)
    wanted: list[tuple[dict[str, Any], str, np.ndarray]] = [({}, name, everyone) for name in MEASURES]
    for where, rows in _slices_of_importance(candidate, counts["top1"].among):
        wanted += [({**where, "measure": name}, name, rows) for name in SLICE_MEASURES]
    cluster = _clusters(candidate)
    found = list(_differences([counts[name].within(rows) for _, name, rows in wanted], cluster, seed, resamples))
    return Comparison(
        held_out,
        int(seen.sum()),
        len(candidate),
        unseen,
        known is not None,
        dict(zip(MEASURES, found, strict=False)),
        [{**where, **asdict(one)} for (where, _, _), one in list(zip(wanted, found, strict=True))[len(MEASURES) :]],
    )


@dataclass(frozen=True)
class _Counts:
    """A measure of both matchers as two ratios: what is counted, among what; and which lines either had `good`."""

    counted: tuple[np.ndarray, np.ndarray]
    amongst: tuple[np.ndarray, np.ndarray]
    good: tuple[np.ndarray, np.ndarray]

    @property
    def among(self) -> np.ndarray:
        """Lines that count for either matcher."""
        return self.amongst[0] | self.amongst[1]

    def within(self, rows: np.ndarray) -> _Counts:
        """Return the same for some of the lines."""
        parts = ((a & rows, b & rows) for a, b in (self.counted, self.amongst, self.good))
        return _Counts(*parts)


def _counts(candidate: pd.DataFrame, champion: pd.DataFrame) -> dict[str, _Counts]:
    """Return the measures of `MEASURES`. A line counts where both catalogs hold its product."""
    frames = candidate, champion
    inside, has = (
        np.logical_and(*(one[name].to_numpy(bool) for one in frames)) for name in ("in_catalog", "has_match")
    )
    first, five, approved, right = (
        [one["rank"].to_numpy() == 1 for one in frames],
        [one["rank"].between(1, 5).to_numpy() for one in frames],
        [(one["decision"] == APPROVED).to_numpy() for one in frames],
        [one["right"].to_numpy(bool) for one in frames],
    )
    settled = [a & r for a, r in zip(approved, right, strict=True)]

    def paired(hits: list[np.ndarray], among: np.ndarray) -> _Counts:
        good = (hits[0] & among, hits[1] & among)
        return _Counts(good, (among, among), good)

    return {
        "top1": paired(first, inside),
        "top5": paired(five, inside),
        "approved_coverage": paired(settled, has),
        # Here `good` is not to have approved what is wrong, whatever else became of the line.
        "approved_precision": _Counts(
            (settled[0], settled[1]),
            (approved[0], approved[1]),
            (~(approved[0] & ~right[0]), ~(approved[1] & ~right[1])),
        ),
    }


def _slices_of_importance(lines: pd.DataFrame, among: np.ndarray) -> Iterator[tuple[dict[str, Any], np.ndarray]]:
    """Yield each slice that holds enough of the lines that count, with which lines those are."""
    for name, column in SLICES.items():
        values = lines[column].astype(str).to_numpy()
        for value, size in zip(*np.unique(values[among], return_counts=True), strict=True):
            if value and size >= LEAST_IN_SLICE:
                yield {"slice": name, "value": str(value)}, values == value


def _clusters(lines: pd.DataFrame) -> np.ndarray:
    """Return a number per line, the same for lines of one product; a line without one stands alone."""
    product = lines["product_id"].astype("string").fillna("").to_numpy(object)
    numbers, alone = pd.factorize(product)[0], product == ""
    numbers[alone] = len(lines) + np.arange(alone.sum())
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
            products=len(np.unique(cluster[one.among])),
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

    `net`: gained minus lost per product. Exact: sums of one size make a binomial number, and numbers of several sizes
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
