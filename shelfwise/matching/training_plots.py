"""The picture of a training run."""

from __future__ import annotations

import io

import pandas as pd


def plot_curve(curve: pd.DataFrame, best_step: int | None = None) -> bytes:
    """Return a PNG of loss and validation by step.

    `curve` has the columns step, loss, top1, top5 and mrr, with gaps where a step was not logged or not validated.
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
    valid = curve.dropna(subset=["mrr"])
    for name, label in (("top1", "top-1"), ("top5", "top-5"), ("mrr", "MRR")):
        right.plot(valid["step"], valid[name], marker="o", markersize=3, label=label)
    right.set(title="Validation: right product among all of the split", xlabel="step", ylim=(0, 1))
    if best_step is not None and not valid.empty:
        right.axvline(best_step, color="grey", linestyle=":", label=f"kept (step {best_step})")
    if not valid.empty:
        right.legend(loc="lower right", fontsize=8)
    for axes in (left, right):
        axes.grid(alpha=0.3)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, metadata={"Software": None})
    return buffer.getvalue()
