"""How right categories are in production, from the answers that came back.

An answer carries the prediction it answers, so it counts for the champion that made it; of several answers to a
prediction the latest counts. People are mostly asked about lines that the champion doubts, so the plain share of right
answers (`raw_top1`) is below the accuracy over all lines: `top1` is the post-stratified estimate, in which each
decision's answers (assign, suggest, ask) stand for its lines, answered or not (Cochran 1977, section 5A.9). Of what was
assigned without a person, only audited lines tell how often it is right: others are reported because they are wrong.
Intervals: Wilson (1927) for shares; the normal approximation with the strata's Wilson-centred variances for the
estimate.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

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
    `LEVELS`; `own`: numbers of the champion alone; `lacking`: decisions of weight with too few answers to them, without
    which nothing can be said of all lines; `without`: answers that name no prediction.
    """

    answers: pd.DataFrame
    table: pd.DataFrame
    own: Mapping[str, float] = field(default_factory=dict)
    lacking: tuple[str, ...] = ()
    without: int = 0


def category_quality(
    feedback: pd.DataFrame, uploads: Mapping[str, pd.DataFrame] | None, champion: str | None
) -> CategoryQuality:
    """Join answers with what was predicted. `feedback`: raw/category_feedback. `uploads`: uploads/upload_categories by
    partition; `champion`: label of the category champion.
    """
    lines = predicted_lines(uploads)
    known = feedback[feedback["prediction_id"].notna()]
    known = known.sort_values(["answered_at", "answer_id"]).drop_duplicates("prediction_id", keep="last")
    answers = known.assign(
        rank=[_rank(*pair) for pair in zip(known["category"], known["categories_shown"], strict=True)],
        week=known["answered_at"].dt.tz_localize(None).dt.to_period("W").dt.start_time.dt.date.astype(str),
        audited=known["prediction_id"].isin(lines.loc[lines["audited"], "prediction_id"]),
    ).reset_index(drop=True)
    rows = []
    for level, columns in LEVELS.items():
        groups = answers.groupby(columns, sort=True) if columns else [((), answers)]
        for key, part in groups:
            where = dict(zip(columns, key, strict=True))
            rows.append({"level": level, **where, **_measured(part, _lines_of(lines, where))})
    table = pd.DataFrame(rows, columns=COLUMNS)
    own, ours = answers[answers["champion_version"] == champion], lines[lines["champion_version"] == champion]
    measured = _measured(own, ours)
    return CategoryQuality(answers, table, measured, _lacking(own, ours), int(feedback["prediction_id"].isna().sum()))


def predicted_lines(uploads: Mapping[str, pd.DataFrame] | None) -> pd.DataFrame:
    """Return the best category of each line of all uploads."""
    columns = ["vendor_id", "file", "line_id", "title", "category", "probability", "decision", "audited",
               "contradiction", "champion_version", "prediction_id"]  # fmt: skip
    parts = [frame.loc[frame["rank"] == 1, columns] for frame in (uploads or {}).values() if len(frame)]
    if not parts:
        return pd.DataFrame(columns=columns).astype({"audited": bool, "contradiction": bool})
    return pd.concat(parts, ignore_index=True)


def contradicting_vendors(uploads: Mapping[str, pd.DataFrame] | None) -> pd.DataFrame:
    """Return for each vendor how many lines were compared with their matches and how many contradict them, most first:
    vendor_id, lines, contradictions, share.
    """
    lines = predicted_lines(uploads)
    found = lines.groupby("vendor_id")["contradiction"].agg(lines="size", contradictions="sum").reset_index()
    found = found[found["contradictions"] > 0].assign(share=lambda rows: rows["contradictions"] / rows["lines"])
    return found.sort_values(["contradictions", "vendor_id"], ascending=[False, True]).reset_index(drop=True)


def fallen(quality: CategoryQuality, accepted: Mapping[str, float], drop: float) -> tuple[bool, str]:
    """Return whether accuracy over all lines is, with 97.5 % confidence, more than `drop` below what was accepted."""
    said, promised = quality.own, accepted.get("top1")
    if promised is None:
        return False, "there is no category champion with a measured accuracy to compare with"
    if said["answers"] < FEWEST or quality.lacking:
        few = f"; too few to lines of: {', '.join(quality.lacking)}" if quality.lacking else ""
        return False, f"{said['answers']:.0f} answers to the champion's categories, {FEWEST} are needed{few}"
    told = (
        f"top-1 over all lines is {said['top1']:.1%} ({said['top1_low']:.1%} to {said['top1_high']:.1%}) by "
        f"{said['answers']:.0f} answers, {promised:.1%} was accepted"
    )
    return bool(said["top1_high"] < promised - drop), told


def _rank(category: object, shown: object) -> int:
    """The place of the right category among those shown, 0 where it is none of them."""
    right = split_categories(category) if isinstance(category, str) else []
    names = list(shown) if isinstance(shown, list | tuple | np.ndarray) else []
    return next((place for place, name in enumerate(names, start=1) if name in right), 0)


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
