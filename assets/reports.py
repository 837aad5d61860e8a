"""Evaluation results as the UI shows them: numbers it plots over time, pictures, and tables to read."""

from typing import TYPE_CHECKING, Any

from assets.common import float_metadata, picture, table

if TYPE_CHECKING:
    from shelfwise.matching.decisions import Thresholds
    from shelfwise.matching.evaluate import Evaluation

BASELINE_NAMES = {
    "exact": "exact match",
    "token_jaccard": "token Jaccard",
    "char_tfidf": "character n-gram TF-IDF",
    "char_tfidf_names": "the same, with past lines",
}


def evaluation_metadata(
    result: "Evaluation", champion: dict[str, float] | None, thresholds: "Thresholds"
) -> dict[str, Any]:
    """Return metadata for an evaluation: metrics, accuracy and precision-coverage pictures, slices, examples."""
    from shelfwise.plots import accuracy_picture, precision_coverage_picture

    metrics = result.metrics
    bars = {"Shelfwise": metrics}
    if champion is not None:
        bars["current champion"] = champion
    for row in result.baselines.to_dict("records"):
        if row["baseline"] in BASELINE_NAMES:
            bars[BASELINE_NAMES[row["baseline"]]] = {k: v for k, v in row.items() if k != "baseline"}
    curve = result.curve
    points = {"Shelfwise": (curve["coverage"], curve["precision"])}
    approved = (metrics["approved_coverage"], metrics["approved_precision"])
    finite = {name: value for name, value in metrics.items() if value == value}
    return {
        "accuracy": picture(accuracy_picture(bars), "accuracy beside the baselines"),
        "precision_against_coverage": picture(precision_coverage_picture(points, approved), "precision and coverage"),
        "examples": table(result.examples, 40),
        "slices": table(result.slices, 60),
        "thresholds": f"approve at {thresholds.approve:g} or above, review at {thresholds.review:g} or above",
        "about": result.about,
        **({f"champion_{name}": float(champion[name]) for name in ("top1", "top5", "mrr")} if champion else {}),
        **float_metadata(finite),
    }
