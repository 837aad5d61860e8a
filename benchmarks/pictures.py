"""Pictures of benchmark results, each a function from a benchmark's object to PNG bytes."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

from shelfwise.plots import ACCENT, INK, MUTED, precision_coverage_picture

CURVES = {
    "Shelfwise": "Shelfwise",
    "char_tfidf": "character n-gram TF-IDF",
    "char_tfidf_names": "the same, with past lines",
}


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
    curves = {
        one["short"]: (one["curve"]["coverage"], one["curve"]["precision"])
        for one in systems.values()
        if one.get("curve")
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
    below = _crowded([(one["lines_per_second"], one["top1"]) for _, one in everybody])
    for (label, one), under in zip(everybody, below, strict=True):
        colour = ACCENT if label == "Shelfwise" else MUTED
        x, y = one["lines_per_second"], one["top1"]
        low, high = one.get("top1_low"), one.get("top1_high")
        if low is not None and high is not None:
            axis.errorbar(x, y, [[max(y - low, 0)], [max(high - y, 0)]], color=colour, capsize=3, linewidth=1)
        axis.plot(x, y, "o", color=colour, markersize=7)
        axis.annotate(
            f"{label}\n{x:,.0f} lines/s, {y:.3f}",
            (x, y),
            xytext=(8, -22 if under else 6),
            textcoords="offset points",
            fontsize=8,
            color=INK,
        )
    speeds = [one["lines_per_second"] for _, one in everybody]
    axis.set_xscale("log")
    axis.set(xlim=(min(speeds) / 2, max(speeds) * 8), ylim=(0, 1.08), ylabel="top-1", xlabel="lines per second (log)")
    axis.set_title(title, fontsize=10)
    axis.grid(alpha=0.25)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()


def _crowded(points: list[tuple[float, float]]) -> list[bool]:
    """Return which points have another just above them on the right or at the same place: their words go below."""
    return [
        any(
            j != i and y <= other_y <= y + 0.15 and (other_y, j) > (y, i) and x / 2 <= other_x <= x * 30
            for j, (other_x, other_y) in enumerate(points)
        )
        for i, (x, y) in enumerate(points)
    ]
