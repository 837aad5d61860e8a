"""Pictures of how good a classifier is, each a function from plain data to PNG bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from shelfwise.classification.taxonomy import SEPARATOR
from shelfwise.plots import (
    ACCENT,
    BAD,
    GOOD,
    INK,
    MUTED,
    WARN,
    accuracy_picture,
    literal,
    new_figure,
    png,
    precision_coverage_picture,
)

if TYPE_CHECKING:
    from shelfwise.classification.evaluate import Evaluation
    from shelfwise.matching.guarantee import Certificate

MOST_CLASSES = 30
COLOURS = (ACCENT, WARN, GOOD, MUTED, BAD)


def confusion_picture(matrix: np.ndarray, classes: Sequence[str], most: int = MOST_CLASSES) -> bytes:
    """Draw what is taken for what: rows are the truth, each as shares of its listings.

    `matrix`: counts [classes, classes]. Of more than `most` classes those that are confused most are drawn, with all
    others together in a last column, so that rows still add up.
    """
    wrong = matrix - np.diag(np.diag(matrix))
    chosen = np.argsort(-(wrong.sum(axis=0) + wrong.sum(axis=1)), kind="stable")[:most]
    occurs = matrix.sum(axis=1)[chosen] > 0
    chosen = np.sort(chosen[occurs] if occurs.any() else chosen)
    shown = matrix[np.ix_(chosen, chosen)]
    names = [_short(classes[i]) for i in chosen]
    names = [
        name if names.count(name) == 1 else _short(classes[i], parts=2) for i, name in zip(chosen, names, strict=True)
    ]
    columns, all_shown = list(names), len(chosen) >= (matrix.sum(axis=1) > 0).sum()
    if not all_shown:
        shown = np.column_stack([shown, matrix[chosen].sum(axis=1) - shown.sum(axis=1)])
        columns.append("(any other)")
    share = shown / np.maximum(matrix[chosen].sum(axis=1, keepdims=True), 1)
    size = 2.4 + 0.27 * max(len(names), 6)
    figure, axes = new_figure(size + 1.2, size)
    axis = axes[0, 0]
    image = axis.imshow(share, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for i, j in zip(*np.nonzero(share >= 0.05), strict=True):
        colour = "white" if share[i, j] > 0.5 else INK if j == i else BAD
        axis.text(j, i, f"{100 * share[i, j]:.0f}", ha="center", va="center", fontsize=6, color=colour)
    axis.set_xticks(range(len(columns)), columns, rotation=90, fontsize=7)
    axis.set_yticks(range(len(names)), names, fontsize=7)
    title = "What is taken for what (% of each category's listings)"
    if not all_shown:
        title = f"{len(names)} categories that are confused most (% of each one's listings)"
    axis.set(xlabel="predicted", ylabel="true", title=title)
    figure.colorbar(image, ax=axis, fraction=0.03, label="share of the true category")
    return png(figure)


def reliability_picture(tables: Mapping[str, pd.DataFrame], errors: Mapping[str, float] | None = None) -> bytes:
    """Draw how often classifiers are right where they are how sure; below, how often they are that sure.

    `tables[name]`: of `calibration.reliability`; `errors`: expected calibration errors, written beside the names.
    """
    figure, axes = new_figure(6, 6, 2, 1)
    above, below = axes[:, 0]
    above.get_gridspec().set_height_ratios([3, 1])
    above.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle="--", label="sure and right alike")
    for colour, (name, table) in zip(_cycle(len(tables)), tables.items(), strict=True):
        error = "" if errors is None or name not in errors else f" (expected error {errors[name]:.3f})"
        half = 1.96 * np.sqrt(table["accuracy"] * (1 - table["accuracy"]) / table["lines"])
        low, high = np.minimum(half, table["accuracy"]), np.minimum(half, 1 - table["accuracy"])
        above.errorbar(
            table["confidence"], table["accuracy"], yerr=[low, high], marker="o", markersize=4, linewidth=1.4,
            elinewidth=0.8, color=colour, label=f"{literal(name)}{error}",
        )  # fmt: skip
        middle, share = (table["low"] + table["high"]) / 2, table["lines"] / max(table["lines"].sum(), 1)
        below.step(middle, share, where="mid", color=colour, linewidth=1.4)
    above.set(xlim=(0, 1), ylim=(0, 1.02), ylabel="share that is right", title="Do probabilities mean what they say?")
    above.grid(alpha=0.25)
    above.legend(frameon=False, fontsize=8, loc="upper left")
    below.set(xlim=(0, 1), ylim=(0, None), xlabel="probability of the category named first", ylabel="share of listings")
    return png(figure)


def coverage_picture(
    evaluations: Mapping[str, Evaluation],
    certificate: Certificate | None = None,
    point: tuple[float, float] | None = None,
) -> bytes:
    """Draw precision against the share of listings that are named, for each classifier; `point`: where it assigns now,
    (share assigned, precision).
    """
    curves = {name: (one.curve["coverage"], one.curve["precision"]) for name, one in evaluations.items()}
    return precision_coverage_picture(
        curves,
        point,
        certificate,
        title="Precision against coverage, held-out listings",
        covers="coverage: share of listings that are given a category, the surest first",
        settled="assigned",
        lines="listings",
    )


def baselines_picture(metrics: Mapping[str, Mapping[str, float]]) -> bytes:
    """Draw top-1 and top-5 of classifiers and baselines as bars; `metrics[name]` holds `top1`, `top5` with bounds."""
    return accuracy_picture(metrics, "Accuracy on held-out listings, 95 % intervals")


def levels_picture(levels: Mapping[str, pd.DataFrame]) -> bytes:
    """Draw accuracy at each level of the tree; `levels[name]`: `Evaluation.levels` of a classifier."""
    figure, axes = new_figure(6.5, 3.6)
    axis, width = axes[0, 0], 0.8 / max(len(levels), 1)
    for i, (colour, (name, table)) in enumerate(zip(_cycle(len(levels)), levels.items(), strict=True)):
        at = table["level"] + (i - (len(levels) - 1) / 2) * width
        error = np.nan_to_num([table["top1"] - table["top1_low"], table["top1_high"] - table["top1"]])
        axis.bar(at, table["top1"], width * 0.92, color=colour, yerr=np.clip(error, 0, None), label=literal(name))
        for x, value in zip(at, table["top1"], strict=True):
            axis.text(x, 0.02, f"{value:.3f}", ha="center", rotation=90, fontsize=8, color="white")
    last = max(levels.values(), key=len) if levels else pd.DataFrame({"level": [], "categories": []})
    words = [f"level {k}\n({n:,} categories)" for k, n in zip(last["level"], last["categories"], strict=True)]
    axis.set_xticks(last["level"], words)
    axis.set(ylim=(0, 1), ylabel="top-1", title="Accuracy by level of the category tree, 95 % intervals")
    axis.legend(frameon=False, fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=3)
    return png(figure)


def examples_picture(
    pixels: np.ndarray,
    predicted: Sequence[str],
    truth: Sequence[str],
    score: Sequence[float] | None = None,
    columns: int = 8,
    titles: Sequence[str] | None = None,
) -> bytes:
    """Draw pictures with what they were taken for: right ones framed green, wrong ones red with the truth below.

    `pixels`: uint8 [n, height, width, 3]; `predicted`, `truth`: category paths (several right ones joined by " | ");
    `titles`: of the listings, written above.
    """
    n = len(pixels)
    rows = -(-max(n, 1) // columns)
    figure, axes = new_figure(1.55 * columns, 1.95 * rows, rows, columns)
    for axis in axes.flat:
        axis.axis("off")
    for i, axis in enumerate(axes.flat[:n]):
        right = predicted[i] in truth[i].split(" | ")
        colour = GOOD if right else BAD
        axis.imshow(np.asarray(pixels[i], np.uint8), interpolation="nearest")
        axis.axis("on")
        axis.set_xticks([])
        axis.set_yticks([])
        axis.spines[:].set(visible=True, color=colour, linewidth=2.5)
        sure = "" if score is None else f" {score[i]:.0%}"
        said = f"{_short(predicted[i], 20) or '(nothing)'}{sure}"
        axis.set_xlabel(said if right else f"{said}\nis {_short(truth[i], 20)}", fontsize=7, color=colour)
        if titles is not None:
            axis.set_title(literal(str(titles[i] or "")[:24]), fontsize=6, color=INK)
    if not n:
        axes[0, 0].text(0.5, 0.5, "no pictures", ha="center", color=MUTED, transform=axes[0, 0].transAxes)
    return png(figure)


def pictures_of(evaluation: Evaluation, others: Mapping[str, Mapping[str, float]] | None = None) -> dict[str, Any]:
    """Return the pictures of one evaluation by name: accuracy, levels, confusion, calibration, precision_coverage.

    `others`: metrics of others for the bars, such as the champion's. Baselines are drawn from the evaluation itself.
    """
    rows = evaluation.baselines.to_dict("records")
    bars = {"this classifier": evaluation.metrics, **(others or {})}
    bars |= {str(row["baseline"]): {str(k): v for k, v in row.items() if k != "baseline"} for row in rows}
    metrics = evaluation.metrics
    point = (metrics.get("assigned_share", np.nan), metrics.get("assigned_precision", np.nan))
    return {
        "accuracy": baselines_picture(bars),
        "levels": levels_picture({"this classifier": evaluation.levels}),
        "confusion": confusion_picture(evaluation.matrix, evaluation.classes),
        "calibration": reliability_picture(
            {"this classifier": evaluation.reliability}, {"this classifier": metrics["ece"]}
        ),
        "precision_coverage": coverage_picture({"this classifier": evaluation}, point=point),
    }


def _cycle(n: int) -> list[str]:
    return [COLOURS[i % len(COLOURS)] for i in range(n)]


def _short(path: str, most: int = 26, parts: int = 1) -> str:
    """Return the last part of a category path, or some, shortened."""
    name = SEPARATOR.join(path.split(" | ")[0].split(SEPARATOR)[-parts:])
    return literal(name if len(name) <= most else f"{name[: most - 1]}…")
