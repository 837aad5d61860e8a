"""How right categories are in production, from the answers that came back.

An answer carries the prediction it answers, so it counts for the champion that made it; of several answers to a
prediction the latest counts. People are mostly asked about lines that the champion doubts, so the plain share of right
answers (`raw_top1`) is below the accuracy over all lines: `top1` is the post-stratified estimate, in which each
decision's answers (assign, suggest, ask) stand for its lines, answered or not (Cochran 1977, section 5A.9). Of what was
assigned without a person, only audited lines tell how often it is right: others are reported because they are wrong.

What was accepted is known by case (text and picture, text alone, picture alone), and uploads mostly bring text alone:
live accuracy is compared with the mean over the cases of the champion's lines, weighted by how many lines each has.
Lines of a case of which nothing was accepted are left out of the comparison, and their answers with them.

Categories are compared as training counts them: merged by the table that people edit.

Intervals: Wilson (1927) for shares; the normal approximation with the strata's Wilson-centred variances for the
estimate.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from shelfwise.classification.ensemble import BOTH, IMAGE, TEXT
from shelfwise.classification.judge import CASE_MEASURES, case_metric
from shelfwise.classification.merging import counts_as
from shelfwise.classification.taxonomy import split_categories
from shelfwise.monitoring.live import wilson

ASSIGN, SUGGEST, ASK = DECISIONS = ("assign", "suggest", "ask")
LEAST = 10  # answers to a decision's lines before they stand for the others
WEIGHTY = 0.05  # a decision with fewer of the lines can be left out
FEWEST = 50  # answers before anybody is told that accuracy fell
Z = 1.959964
LEVELS: dict[str, list[str]] = {
    "all": [],
    "week": ["week"],
    "vendor": ["vendor_id"],
    "version": ["champion_version"],
    "week, vendor, version": ["week", "vendor_id", "champion_version"],
}
SHARES = ("raw_top1", "raw_top5", "assigned_precision")
COLUMNS = [
    "level", "week", "vendor_id", "champion_version", "answers", "audited", "reported", "top1", "top1_low", "top1_high",
    *[f"{name}{end}" for name in SHARES for end in ("", "_low", "_high")],
]  # fmt: skip


@dataclass(frozen=True)
class CategoryQuality:
    """What came back. `answers`: one row per answered prediction; `table`: `COLUMNS`, one row per group of each of
    `LEVELS`; of the champion alone `own` (numbers), `own_answers` and `own_lines` (of `predicted_lines`); `without`:
    answers that name no prediction.
    """

    answers: pd.DataFrame
    table: pd.DataFrame
    own: Mapping[str, float]
    own_answers: pd.DataFrame
    own_lines: pd.DataFrame
    without: int = 0


def category_quality(
    feedback: pd.DataFrame,
    uploads: Mapping[str, pd.DataFrame] | None,
    champion: str | None,
    categories: pd.DataFrame | None = None,
) -> CategoryQuality:
    """Join answers with what was predicted. `feedback`: raw/category_feedback. `uploads`: uploads/upload_categories by
    partition; `champion`: label of the category champion. `categories`: staging/stg_categories (category, counts_as),
    None: not made yet.
    """
    lines, merged = predicted_lines(uploads), counts_as(categories)
    known = feedback[feedback["prediction_id"].notna()]
    known = known.sort_values(["answered_at", "answer_id"]).drop_duplicates("prediction_id", keep="last")
    answers = known.assign(
        rank=[_rank(*pair, merged) for pair in zip(known["category"], known["categories_shown"], strict=True)],
        week=known["answered_at"].dt.tz_localize(None).dt.to_period("W").dt.start_time.dt.date.astype(str),
        audited=known["prediction_id"].isin(lines.loc[lines["audited"], "prediction_id"]),
        evidence=known["prediction_id"].map(lines.set_index("prediction_id")["evidence"]).fillna(TEXT),
    ).reset_index(drop=True)
    rows = []
    for level, columns in LEVELS.items():
        groups = answers.groupby(columns, sort=True) if columns else [((), answers)]
        for key, part in groups:
            where = dict(zip(columns, key, strict=True))
            rows.append({"level": level, **where, **_measured(part, _lines_of(lines, where))})
    table = pd.DataFrame(rows, columns=COLUMNS)
    own, ours = answers[answers["champion_version"] == champion], lines[lines["champion_version"] == champion]
    return CategoryQuality(answers, table, _measured(own, ours), own, ours, int(feedback["prediction_id"].isna().sum()))


def predicted_lines(uploads: Mapping[str, pd.DataFrame] | None) -> pd.DataFrame:
    """Return the best category of each line of all uploads, and what it comes from (`evidence`)."""
    columns = ["vendor_id", "file", "line_id", "title", "category", "probability", "decision", "audited",
               "contradiction", "champion_version", "prediction_id"]  # fmt: skip
    parts = [_best_lines(frame, columns) for frame in (uploads or {}).values() if len(frame)]
    if not parts:
        return pd.DataFrame(columns=[*columns, "evidence"]).astype({"audited": bool, "contradiction": bool})
    return pd.concat(parts, ignore_index=True)


def _best_lines(frame: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    best = frame[frame["rank"] == 1]
    return best[columns].assign(evidence=evidence_of(best))


def evidence_of(categories: pd.DataFrame) -> pd.Series:
    """Return what each row of uploads/upload_categories comes from; of tables from before that was said their text,
    which was all that there was.
    """
    return categories["evidence"].fillna(TEXT) if "evidence" in categories else pd.Series(TEXT, categories.index)


def contradicting_vendors(uploads: Mapping[str, pd.DataFrame] | None) -> pd.DataFrame:
    """Return for each vendor how many lines were compared with their matches and how many contradict them, most first:
    vendor_id, lines, contradictions, share.
    """
    lines = predicted_lines(uploads)
    found = lines.groupby("vendor_id")["contradiction"].agg(lines="size", contradictions="sum").reset_index()
    found = found[found["contradictions"] > 0].assign(share=lambda rows: rows["contradictions"] / rows["lines"])
    return found.sort_values(["contradictions", "vendor_id"], ascending=[False, True]).reset_index(drop=True)


def accepted_by_case(accepted: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """Return what a champion's registered metrics say of each case: case -> measure -> value.

    One that was registered before accuracy was measured by case says of text alone what its text classifier reached.
    """
    found: dict[str, dict[str, float]] = {}
    for case in (BOTH, TEXT, IMAGE):
        names = {name: case_metric(case, name) for name in CASE_MEASURES}
        if known := {name: accepted[metric] for name, metric in names.items() if metric in accepted}:
            found[case] = known
    if found:
        return found
    alone = {name: accepted[f"text_{name}"] for name in ("top1", "top5") if f"text_{name}" in accepted}
    return {TEXT: alone} if alone else {}


def promised(lines: pd.DataFrame, accepted: Mapping[str, float]) -> dict[str, float]:
    """Return what was accepted of lines like these (of `predicted_lines`): the mean over their cases, weighted by how
    many have each; of `assigned_precision` by how many were assigned. A measure that no case of theirs has is left out.
    """
    cases, out = accepted_by_case(accepted), {}
    for name in CASE_MEASURES:
        rows = lines[lines["decision"] == ASSIGN] if name == "assigned_precision" else lines
        counts = rows["evidence"].value_counts()
        known = [case for case in counts.index if name in cases.get(case, {})]
        if known:
            out[name] = float(np.average([cases[case][name] for case in known], weights=counts[known]))
    return out


def fallen(quality: CategoryQuality, accepted: Mapping[str, float], drop: float) -> tuple[bool, str]:
    """Return whether accuracy over the lines of which it is known what was accepted is, with 97.5 % confidence, more
    than `drop` below that, and a sentence. `accepted`: the champion's registered metrics.
    """
    cases = [case for case, known in accepted_by_case(accepted).items() if "top1" in known]
    if not cases:
        return False, "there is no category champion with an accuracy to compare with, measured by what a listing has"
    answers, lines = (rows[rows["evidence"].isin(cases)] for rows in (quality.own_answers, quality.own_lines))
    said, promise, lacking = _measured(answers, lines), promised(lines, accepted), _lacking(answers, lines)
    left = quality.own_lines.loc[~quality.own_lines["evidence"].isin(cases), "evidence"]
    without = f"; {len(left):,} lines ({', '.join(sorted(set(left)))}) are left out: nothing was accepted of such lines"
    beside = without if len(left) else ""
    if said["answers"] < FEWEST or lacking or "top1" not in promise:
        few = f"; too few to lines of: {', '.join(lacking)}" if lacking else ""
        return False, f"{said['answers']:.0f} answers to the champion's categories, {FEWEST} are needed{few}{beside}"
    told = (
        f"top-1 over all lines is {said['top1']:.1%} ({said['top1_low']:.1%} to {said['top1_high']:.1%}) by "
        f"{said['answers']:.0f} answers, {promise['top1']:.1%} was accepted of lines with as much to go by{beside}"
    )
    return bool(said["top1_high"] < promise["top1"] - drop), told


def _rank(category: object, shown: object, merged: Mapping[str, str]) -> int:
    """The place of the right category among those shown, 0 where it is none of them."""
    right = {merged.get(name, name) for name in split_categories(category)} if isinstance(category, str) else set()
    names = list(shown) if isinstance(shown, list | tuple | np.ndarray) else []
    return next((place for place, name in enumerate(names, start=1) if merged.get(name, name) in right), 0)


def _lines_of(lines: pd.DataFrame, where: Mapping[str, str]) -> pd.DataFrame:
    for column in ("vendor_id", "champion_version"):
        if column in where:
            lines = lines[lines[column] == where[column]]
    return lines


def _unasked(answers: pd.DataFrame) -> pd.Series:
    """Which answers are to lines that nobody was asked about: assigned, and not drawn for the audit."""
    return (answers["decision"] == ASSIGN) & ~answers["audited"]


def _lacking(answers: pd.DataFrame, lines: pd.DataFrame) -> tuple[str, ...]:
    asked = answers[~_unasked(answers)]["decision"].value_counts()
    weights = lines["decision"].value_counts(normalize=True)
    return tuple(name for name, weight in weights.items() if weight > WEIGHTY and asked.get(name, 0) < LEAST)


def _measured(answers: pd.DataFrame, lines: pd.DataFrame) -> dict[str, float]:
    asked = answers[~_unasked(answers)]
    right, five = asked["rank"] == 1, asked["rank"] > 0
    settled = asked["decision"] == ASSIGN
    out: dict[str, float] = {
        "answers": len(answers),
        "audited": int(settled.sum()),
        "reported": int(_unasked(answers).sum()),
        **_over_all(asked, lines),
    }
    for name, good, number in (
        ("raw_top1", right.sum(), len(asked)),
        ("raw_top5", five.sum(), len(asked)),
        ("assigned_precision", (right & settled).sum(), settled.sum()),
    ):
        low, high = wilson(int(good), int(number)) if number else (math.nan, math.nan)
        out |= {name: good / number if number else math.nan, f"{name}_low": low, f"{name}_high": high}
    return out


def _over_all(asked: pd.DataFrame, lines: pd.DataFrame) -> dict[str, float]:
    """The estimate over all lines, NaN where a decision of weight has too few answers."""
    counts = lines["decision"].value_counts()
    answered = asked.groupby("decision")["rank"].agg(lambda rank: int((rank == 1).sum()))
    numbers = asked["decision"].value_counts()
    total = value = variance = 0.0
    for name, weight in counts.items():
        n = int(numbers.get(name, 0))
        if n < LEAST:
            if weight / max(counts.sum(), 1) > WEIGHTY:
                return {"top1": math.nan, "top1_low": math.nan, "top1_high": math.nan}
            continue
        good = int(answered[name])
        centred = (good + 2) / (n + 4)
        total, value = total + weight, value + weight * good / n
        variance += weight**2 * centred * (1 - centred) / (n + 4)
    if not total:
        return {"top1": math.nan, "top1_low": math.nan, "top1_high": math.nan}
    half = Z * math.sqrt(variance) / total
    return {"top1": value / total, "top1_low": max(value / total - half, 0), "top1_high": min(value / total + half, 1)}
