"""Pictures of benchmark results, each a function from a benchmark's object to PNG bytes."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np

from shelfwise.plots import ACCENT, BAD, INK, MUTED, precision_coverage_picture

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


def rounds_accuracy(result: Mapping[str, Any]) -> bytes:
    """Draw top-1 and top-5 of unseen lines over the rounds, of vendors that upload at some time and of those that never
    do: the champion after each round with its 95 % interval, what the names alone gave, what the gate refused, and a
    model trained on everything at once.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    first = result["seeds"][0]
    rounds, once = first["rounds"], first["once"]["after"]
    figure = Figure(figsize=(8, 3.8), layout="constrained")
    FigureCanvasAgg(figure)
    groups = (("ever", "vendors that upload", ACCENT), ("never", "vendors that never do", MUTED))
    for axis, measure in zip(figure.subplots(1, 2), ("top1", "top5"), strict=True):
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(colors=INK, labelsize=8)
        for group, label, colour in groups:
            if group not in once:
                continue
            after = [one["after"][group] for one in rounds]
            at, value = [one["round"] for one in rounds], [one[measure] for one in after]
            low, high = ([one[f"{measure}{end}"] for one in after] for end in ("_low", "_high"))
            axis.fill_between(at, low, high, color=colour, alpha=0.15, linewidth=0)
            axis.plot(at, value, "o-", color=colour, markersize=5, linewidth=1.8, label=label)
            axis.axhline(once[group][measure], color=colour, linestyle="--", linewidth=0.9)
            later = [one for one in rounds if "names" in one]
            names = [one["names"][group][measure] for one in later]
            axis.plot([one["round"] for one in later], names, "_", color=INK, markersize=11)
            refused = [one for one in later if not one["promoted"]]
            lost = [one["candidate"][group][measure] for one in refused]
            axis.plot([one["round"] for one in refused], lost, "x", color=BAD, markersize=7)
        axis.set_title(measure.replace("top", "top-"), fontsize=10)
        axis.set_xlabel("round", fontsize=9)
        axis.set_xticks([one["round"] for one in rounds])
        axis.grid(alpha=0.25)
    axis = figure.axes[0]
    axis.plot([], [], "_", color=INK, markersize=11, label="names only, nothing trained")
    axis.plot([], [], "--", color=INK, linewidth=0.9, label="trained on everything at once")
    if any(not one["promoted"] for one in rounds):
        axis.plot([], [], "x", color=BAD, label="refused by the gate")
    axis.legend(frameon=False, fontsize=8, loc="lower right")
    axis.set_ylabel("of unseen lines with a product", fontsize=9)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()


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
