"""What the test behind an approval threshold finds, and how often it promises too much, on simulated lines.

    python -m benchmarks.thresholds [--draws N]

The true precision of every threshold is known here. `certify` (a group-sequential boundary) is set
beside what it replaced: a sequence of tests with starts at an eighth, a quarter and half of the sample, each with a
third of the risk, which is handed on while tests pass. Both see the same lines, independent or five to a product. Two
families of curves, neither made after a data set:

* `power`: the share of wrong lines grows with the depth as a power of it and meets the target somewhere;
* `logistic`: the score is normal, a line is right with a probability logistic in it, and a few labels are wrong.

Some parameters of a curve are drawn anew for every draw. `edge`: curves on which every threshold, or those from some
depth on, just miss the target: how often one of them is certified. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from benchmarks.common import about, emit, say
from shelfwise.matching.guarantee import STEP, Goal, certify, design_effect, lines_needed, lower_bound

CASES = tuple((target, n) for target in (0.95, 0.99) for n in (1000, 3000, 10_000))
STARTS = (1 / 8, 1 / 4, 1 / 2)
TOGETHER = 5  # lines of a product
EDGES = {
    "nowhere": [(1.0, 1.02)],
    "at the top": [(0.2, 0.4), (0.3, 2.26), (1.0, 1.02)],
    "down to the middle": [(0.45, 0.4), (0.6, 2.88), (1.0, 1.02)],
    "in between only": [(0.2, 1.02), (0.4, 0.4), (0.55, 1.85), (1.0, 1.02)],
}
Curve = Callable[[np.random.Generator, np.ndarray, float], np.ndarray]


def power(rng: np.random.Generator, at: np.ndarray, allowed: float) -> np.ndarray:
    """Return the probability to be wrong of lines at these depths (0 to 1, from the surest on)."""
    meets, steep = rng.uniform(0.1, 1.2), math.exp(rng.uniform(math.log(0.5), math.log(4)))
    base = allowed * rng.uniform(0, 0.8)
    return np.minimum(base + (allowed - base) * (steep + 1) * (at / meets) ** steep, 0.9)


def logistic(rng: np.random.Generator, at: np.ndarray, allowed: float) -> np.ndarray:
    """Return the probability to be wrong of lines at these depths."""
    from scipy.special import expit, ndtri

    score, slope = ndtri(1 - at), math.exp(rng.uniform(math.log(0.8), math.log(4)))
    right, noise = rng.uniform(0.5, 0.97), allowed * rng.uniform(0, 0.6)
    low, high = -20.0, 20.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if expit(middle + slope * score).mean() < right else (low, middle)
    return noise + (1 - noise) * (1 - expit(low + slope * score))


def three_starts(right: np.ndarray, goal: Goal, product: np.ndarray | None) -> int:
    """Return how many lines, sorted from the surest on, the sequence with three starts certifies."""
    n, level = len(right), goal.risk / len(STARTS)
    least, all_at_once = lines_needed(goal.precision, level) or n, lines_needed(goal.precision, goal.risk) or n
    if product is not None:
        least, all_at_once = math.ceil(1.25 * least), math.ceil(1.25 * all_at_once)
    starts = sorted({max(least, math.ceil(n * share)) for share in STARTS}) if least <= n else [all_at_once]
    depths, depth = set(starts) | {n}, float(starts[0])
    while depth < n:
        depths.add(math.ceil(depth))
        depth *= STEP
    carried, found = 0.0, 0
    for depth in sorted(depth for depth in depths if starts[0] <= depth <= n):
        level = carried + goal.risk * (depth in starts) / len(starts)
        worth = float(depth)
        if product is not None:
            seen = max(depth, min(int(np.searchsorted(np.cumsum(~right), 20)) + 1, n))
            worth /= design_effect(right[:seen], product[:seen])
        passed = level > 0 and lower_bound(right[:depth].mean() * worth, worth, level) >= goal.precision
        carried, found = (level, depth) if passed else (0.0, found)
    return found


def compare(curve: Curve, target: float, n: int, draws: int, together: int) -> dict[str, Any]:
    """Return coverage (certified share of the lines), share of draws certified and missed, of both ways."""
    goal, kept = Goal(target), {"boundary": np.zeros((draws, 3)), "three_starts": np.zeros((draws, 3))}
    for draw in range(draws):
        rng = np.random.default_rng((draw, n, together))
        at = np.sort(rng.random(n))
        product = _near(rng, at, together)
        wrong = curve(rng, at, 1 - target)
        right, depth = _luck(rng, product, together) >= wrong, np.arange(1, n + 1)
        missed = np.cumsum(wrong) / depth > 1 - target
        for name, lines in _both(at, right, goal, product if together > 1 else None).items():
            kept[name][draw] = lines / n, lines > 0, lines > 0 and missed[lines - 1]
    return {
        name: dict(zip(("coverage", "certified", "missed"), rows.mean(axis=0).tolist(), strict=True))
        for name, rows in kept.items()
    }


def _near(rng: np.random.Generator, at: np.ndarray, together: int) -> np.ndarray:
    """Return a product for each line; lines of one product are near each other."""
    order = np.argsort(at + rng.normal(0, 0.05, len(at)), kind="stable")
    out = np.empty(len(at), np.int64)
    out[order] = np.arange(len(at)) // together
    return out


def _luck(rng: np.random.Generator, product: np.ndarray, together: int) -> np.ndarray:
    """Return luck that half of the lines share with their product, where a product has more than one."""
    own, shared = rng.random(len(product)), rng.random(int(product.max()) + 1)[product]
    return np.where((rng.random(len(product)) < 0.5) & (together > 1), shared, own)


def edge(parts: Sequence[tuple[float, float]], target: float, n: int, draws: int, together: int) -> dict[str, float]:
    """Return how often either way certifies a threshold that misses the target. `parts`: see `EDGES`."""
    at, goal, broken = (np.arange(n) + 0.5) / n, Goal(target), np.zeros(2)
    wrong = (1 - target) * np.array([next(share for end, share in parts if x < end) for x in at])
    missed = np.append(np.cumsum(wrong) / np.arange(1, n + 1) > 1 - target, False)
    for draw in range(draws):
        rng = np.random.default_rng((draw, n))
        product = _near(rng, at, together)
        right = _luck(rng, product, together) >= wrong
        found = _both(at, right, goal, product if together > 1 else None)
        broken += missed[np.array(list(found.values())) - 1]
    return dict(zip(found, (broken / draws).tolist(), strict=True))


def _both(at: np.ndarray, right: np.ndarray, goal: Goal, product: np.ndarray | None) -> dict[str, int]:
    """Return how many of the lines either way certifies."""
    sure = certify(-at, right, goal, None if product is None else {"product": product})
    lines = 0 if sure.threshold is None else sure.lines
    return {"boundary": lines, "three_starts": three_starts(right, goal, product)}


def main(argv: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.thresholds", description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=500)
    given = parser.parse_args(argv)
    result: dict[str, Any] = about("thresholds") | {"draws": given.draws, "cases": [], "edge": []}
    for together in (1, TOGETHER):
        for curve in (power, logistic):
            for target, n in CASES:
                one = compare(curve, target, n, given.draws, together)
                case = {"curve": curve.__name__, "target": target, "lines": n, "lines_of_a_product": together}
                result["cases"].append(case | one)
                say(f"{curve.__name__}, {target}, {n:,} lines, {together} to a product: {one}")
        for name, parts in EDGES.items():
            for target, n in CASES:
                case = {"edge": name, "target": target, "lines": n, "lines_of_a_product": together}
                result["edge"].append(case | edge(parts, target, n, given.draws, together))
                say(f"{result['edge'][-1]}")
    means = {
        way: float(np.mean([case[way]["coverage"] for case in result["cases"]])) for way in ("boundary", "three_starts")
    }
    emit(result | {"mean_coverage": means})
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
