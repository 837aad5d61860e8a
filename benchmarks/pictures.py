"""Pictures of benchmark results, each a function from a benchmark's object to PNG bytes."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np

from shelfwise.plots import ACCENT, INK, MUTED, precision_coverage_picture

CURVES = {
    "Shelfwise": "Shelfwise",
    "char_tfidf": "character n-gram TF-IDF",
    "char_tfidf_names": "the same, with past lines",
}

PLACES = {"above": (True, True), "below": (True, False), "left": (False, True), "left below": (False, False)}
WORDS = (0.22, 0.1)  # width and height of a point's words, in shares of the axes
TOP = 1.08


def precision_coverage(result: Mapping[str, Any]) -> bytes:
    """Draw precision against coverage of a catalog benchmark, the simple baselines beside it."""
    curves = {
        label: (result["curves"][name]["coverage"], result["curves"][name]["precision"])
        for name, label in CURVES.items()
        if name in result["curves"]
    }
    point = result.get("approved_point")
    return precision_coverage_picture(curves, tuple(point) if point and None not in point else None)


def speed_accuracy(result: Mapping[str, Any]) -> bytes:
    """Draw lines per second against top-1 for Shelfwise and what people use for the same task; 95 % intervals."""
    everybody = [("Shelfwise", result), *((rival["short"], rival) for rival in result["rivals"].values())]
    return _speed_accuracy(everybody, f"{result['lines']:,} lines, {result['products']:,} products, two cores")


def compared_speed(systems: Mapping[str, Mapping[str, Any]], title: str) -> bytes:
    """Draw lines per second against top-1 of every system of a comparison that was measured."""
    return _speed_accuracy([(one["short"], one) for one in systems.values() if "top1" in one], title)


def compared_coverage(systems: Mapping[str, Mapping[str, Any]]) -> bytes:
    """Draw precision against coverage of every system of a comparison that has a curve, Shelfwise first."""
    # A result that was read from its file has its systems in alphabetical order.
    ordered = sorted(systems.items(), key=lambda item: item[0] != "shelfwise")
    curves = {
        one["short"]: (one["curve"]["coverage"], one["curve"]["precision"]) for _, one in ordered if one.get("curve")
    }
    return precision_coverage_picture(curves, None)


def _speed_accuracy(everybody: list[tuple[str, Mapping[str, Any]]], title: str) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(colors=INK, labelsize=8)
    speeds = np.array([one["lines_per_second"] for _, one in everybody])
    least, most = speeds.min() / 3, speeds.max() * 8
    across = np.log(speeds / least) / np.log(most / least)
    places = _places([(x, one["top1"] / TOP) for x, (_, one) in zip(across, everybody, strict=True)])
    for (label, one), place in zip(everybody, places, strict=True):
        right, above = PLACES[place]
        colour = ACCENT if label == "Shelfwise" else MUTED
        x, y = one["lines_per_second"], one["top1"]
        low, high = one.get("top1_low"), one.get("top1_high")
        if low is not None and high is not None:
            axis.errorbar(x, y, [[max(y - low, 0)], [max(high - y, 0)]], color=colour, capsize=3, linewidth=1)
        axis.plot(x, y, "o", color=colour, markersize=7)
        axis.annotate(
            f"{label}\n{x:,.0f} lines/s, {y:.3f}",
            (x, y),
            xytext=(8 if right else -8, 6 if above else -22),
            textcoords="offset points",
            ha="left" if right else "right",
            fontsize=8,
            color=INK,
        )
    axis.set_xscale("log")
    axis.set(xlim=(least, most), ylim=(0, TOP), ylabel="top-1", xlabel="lines per second (log)")
    axis.set_title(title, fontsize=10)
    axis.grid(alpha=0.25)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()


def _places(points: list[tuple[float, float]]) -> list[str]:
    """Return where the words of each point go: the first of `PLACES` where they cover no other words and no point.

    `points`: in shares of the axes.
    """
    taken = [(x - 0.015, y - 0.025, x + 0.015, y + 0.025) for x, y in points]
    chosen = []
    for i, (x, y) in enumerate(points):
        boxes = {name: _box(x, y, name) for name in PLACES}
        others = taken[:i] + taken[i + 1 :]
        free = [name for name, box in boxes.items() if not any(_overlap(box, other) for other in others)]
        chosen.append(free[0] if free else next(iter(PLACES)))
        taken.append(boxes[chosen[-1]])
    return chosen


def _box(x: float, y: float, place: str) -> tuple[float, float, float, float]:
    right, above = PLACES[place]
    left, low = (x if right else x - WORDS[0]), (y + 0.01 if above else y - 0.01 - WORDS[1])
    return left, low, left + WORDS[0], low + WORDS[1]


def _overlap(one: tuple[float, float, float, float], other: tuple[float, float, float, float]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
