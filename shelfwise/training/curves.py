"""The curve of a training: loss and validation by step."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd


def curve_of(history: Sequence[Mapping[str, float]], names: Iterable[str]) -> list[dict[str, Any]]:
    """Return loss and validation by step of a trainer's log, without the timings that stand among them.

    `names` are the validation's measures, logged as "eval_<name>".
    """
    keys = {"loss": "loss", **{name: f"eval_{name}" for name in names}}
    points: dict[int, dict[str, Any]] = {}
    for entry in history:
        found = {name: entry[key] for name, key in keys.items() if key in entry}
        if found:
            points.setdefault(int(entry["step"]), {"step": int(entry["step"])}).update(found)
    return [points[step] for step in sorted(points)]


def best_of(curve: Sequence[Mapping[str, Any]], best_step: int, names: Iterable[str]) -> dict[str, Any]:
    """Return the validation of the step that was kept as valid_<name>, with final_loss, steps and best_step."""
    best = next((point for point in curve if point["step"] == best_step), {})
    losses = [point["loss"] for point in curve if "loss" in point]
    return {
        **{f"valid_{name}": best[name] for name in names if name in best},
        "final_loss": losses[-1] if losses else None,
        "steps": curve[-1]["step"] if curve else best_step,
        "best_step": best_step,
    }


def write_curve(
    directory: Path, curve: Sequence[Mapping[str, Any]], labels: Mapping[str, str], title: str, best_step: int
) -> None:
    """Write curve.csv and curve.png; `labels` names the measures of validation as the picture says them."""
    frame = pd.DataFrame(list(curve)).reindex(columns=["step", "loss", *labels])
    frame.to_csv(directory / "curve.csv", index=False)
    (directory / "curve.png").write_bytes(plot_curve(frame, labels, title, best_step))


def plot_curve(curve: pd.DataFrame, labels: Mapping[str, str], title: str, best_step: int | None = None) -> bytes:
    """Return a PNG of loss and validation by step.

    `curve` has the columns step, loss and those of `labels`, with gaps where a step was not logged or not validated.
    Equal curves give equal bytes.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.4), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    loss = curve.dropna(subset=["loss"])
    left.plot(loss["step"], loss["loss"], color="tab:blue")
    left.set(title="Training loss", xlabel="step", ylabel="loss")
    valid = curve.dropna(subset=list(labels), how="all")
    for name, label in labels.items():
        right.plot(valid["step"], valid[name], marker="o", markersize=3, label=label)
    right.set(title=f"Validation: {title}", xlabel="step", ylim=(0, 1))
    if best_step is not None and not valid.empty:
        right.axvline(best_step, color="grey", linestyle=":", label=f"kept (step {best_step})")
    if not valid.empty:
        right.legend(loc="lower right", fontsize=8)
    for axes in (left, right):
        axes.grid(alpha=0.3)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, metadata={"Software": None})
    return buffer.getvalue()
