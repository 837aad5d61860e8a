"""What the validation of a text classifier's parts measures."""

from __future__ import annotations

import numpy as np

from shelfwise.classification import calibration


def measures(scores: np.ndarray, right: np.ndarray) -> dict[str, float]:
    """Return top1, top5 and likelihood of scores [n, classes]: the mean logarithm of the right classes' probability.

    `right` [n, most]: right classes, filled up with -1 (`calibration.right_answers`).
    """
    depth = min(5, scores.shape[1])
    first = np.argsort(-scores, axis=1, kind="stable")[:, :depth]
    hits = (first[:, :, None] == right[:, None, :]).any(2)
    likely = calibration.log_likelihood(calibration.log_softmax(scores), right)
    return {"top1": float(hits[:, 0].mean()), "top5": float(hits.any(1).mean()), "likelihood": float(likely.mean())}
