"""Evaluation results as the UI shows them: numbers it plots over time, pictures, and tables to read."""

from typing import TYPE_CHECKING, Any

import pandas as pd

from assets.common import float_metadata, picture, table
from shelfwise.matching.decisions import GUARANTEED
from shelfwise.promotion import gate
from shelfwise.promotion.rules import Rules

if TYPE_CHECKING:
    from shelfwise.matching.evaluate import Evaluation
    from shelfwise.matching.guarantee import Guarantee
    from shelfwise.matching.incremental import Change
    from shelfwise.matching.matcher import Matcher

BASELINE_NAMES = {
    "exact": "exact match",
    "token_jaccard": "token Jaccard",
    "char_tfidf": "character n-gram TF-IDF",
    "char_tfidf_names": "the same, with past lines",
}


def update_metadata(change: "Change | None") -> dict[str, Any]:
    """Return how much of a catalog had changed, and how much of its index was taken over; nothing of a full build."""
    if change is None:
        return {}
    return float_metadata(
        {
            "products_added": change.added,
            "products_changed": change.changed,
            "products_removed": change.removed,
            "names_embedded": change.names_new,
            "names_reused": change.names_kept,
        }
    )


def guarantee_metadata(guarantee: "Guarantee") -> dict[str, Any]:
    """Return what is guaranteed: the threshold with its bound and its sample as floats, and a table with the groups."""
    one, goal = guarantee.new, guarantee.goal
    numbers = {
        "guaranteed_bound": one.bound,
        "guaranteed_lines": one.lines,
        "guaranteed_wrong": one.wrong,
        "guaranteed_effective_lines": one.effective,
        "guarantee_sample": one.sample,
        "precision_target": goal.precision,
        "confidence": goal.confidence,
    }
    if one.threshold is not None:
        numbers["guaranteed_threshold"] = one.threshold
    return {
        **float_metadata(numbers),
        "guarantee": one.sentence,
        "guarantees": table(pd.DataFrame(guarantee.table())),
        "guarantee_method": f"{one.method}; trees had not seen the {guarantee.held_apart} of a line",
    }


def policy_metadata(matcher: "Matcher") -> dict[str, Any]:
    """Return by which policy lines were decided: its thresholds, and what is promised."""
    one, approve = matcher.guarantee.new, matcher.thresholds.approve
    promised = one.sentence
    if matcher.policy.name != GUARANTEED:
        promised = f"nothing, the thresholds are fixed scores; with the policy {GUARANTEED!r}: {one.sentence}"
    numbers = {"review_threshold": matcher.thresholds.review}
    if approve <= 1:
        numbers["approve_threshold"] = approve
    if matcher.policy.name == GUARANTEED:
        numbers["approve_bound"] = one.bound
    return {
        "policy": matcher.policy.name,
        "thresholds": matcher.thresholds.sentence,
        "promised": promised,
        **float_metadata(numbers),
    }


def evaluation_metadata(result: "Evaluation", champion: dict[str, float] | None, matcher: "Matcher") -> dict[str, Any]:
    """Return metadata for an evaluation: metrics, accuracy and precision-coverage pictures, slices, examples, and what
    is guaranteed.
    """
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
        "precision_against_coverage": picture(
            precision_coverage_picture(points, approved, matcher.guarantee.new), "precision and coverage"
        ),
        "examples": table(result.examples, 40, width=400),
        "slices": table(result.slices, 60),
        **policy_metadata(matcher),
        **guarantee_metadata(matcher.guarantee),
        "about": result.about,
        **({f"champion_{name}": float(champion[name]) for name in ("top1", "top5", "mrr")} if champion else {}),
        **float_metadata(finite),
    }


SLICES_DRAWN = 30


def comparison_metadata(value: dict[str, Any], rules: Rules) -> dict[str, Any]:
    """Return candidate and champion line by line: what was compared, a table, and a picture of the differences; nothing
    where there was no champion to compare with. `value`: what the evaluation asset stores. `rules`: of its system.
    """
    from shelfwise.plots import differences_picture

    if not value["paired"]:
        return {"champion_unusable": value["champion_unusable"]} if value["champion_unusable"] else {}
    paired = pd.DataFrame(value["paired"]).T.rename_axis("measure").reset_index()
    slices = pd.DataFrame(value["slices"])
    free = paired["measure"] == rules.coverage  # may fall as long as it does not vanish
    measures = paired.assign(group=free.map({True: "free", False: "all"}), label=paired["measure"].map(rules.names))
    frames = [measures]
    if len(slices):
        slices = slices.sort_values("p_worse", kind="stable")  # what got worse first
        names = slices["measure"].map(rules.names)
        label = slices["slice"] + " " + slices["value"] + ", " + names
        frames.append(slices.assign(group="slices", label=label).head(SLICES_DRAWN))
    columns = ["label", "group", "difference", "low", "high"]
    rows = pd.concat([frame[columns] for frame in frames], ignore_index=True)
    margins = {"all": gate.NOT_WORSE, "slices": rules.margin}
    return {
        "compared": value["compared"]["sentence"],
        "paired": table(_in_points(paired)),
        "paired_slices": table(_in_points(slices), 60),
        "paired_picture": picture(differences_picture(rows, margins), "candidate against champion"),
        **float_metadata({f"gain_{name}": one["difference"] for name, one in value["paired"].items() if _finite(one)}),
    }


def _in_points(rows: pd.DataFrame) -> pd.DataFrame:
    """Return differences in points and chances with their first digits, as a table shows them."""
    points = {
        name: (100 * rows[name]).map("{:+.2f}".format)
        for name in ("difference", "low", "high", "at_least")
        if len(rows)
    }
    chances = {name: rows[name].map("{:.2g}".format) for name in ("p_value", "p_worse", "p_lines") if len(rows)}
    counts = {name: rows[name].astype(int) for name in ("lines", "groups", "gained", "lost") if len(rows)}
    return rows.assign(**points, **chances, **counts)


def _finite(one: dict[str, Any]) -> bool:
    return one["difference"] == one["difference"]
