"""The simulated year, without Dagster: what people answer, what was seen week by week, and whether the loop answered
each planted event as it should.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd

from shelfwise.matching.decisions import APPROVED, REVIEW
from shelfwise.synthetic.year import Year

PROMOTED, REFUSED, ROLLED_BACK = "promoted", "refused", "rolled_back"
SIGNAL, FAILED_TICK, RETRAIN, STOPPED = "signal", "failed tick", "retrain", "stopped by a check"


@dataclass(frozen=True)
class Week:
    """What the champion was worth on the files of a week, by their truth, as shares of lines; None without lines."""

    week: int
    champion: str
    files: int
    lines: int
    top1: float | None
    top5: float | None
    settled: float | None
    approved_precision: float | None


@dataclass(frozen=True)
class Happening:
    """Something the loop did: which week, what, and why."""

    week: int
    kind: str
    what: str


@dataclass
class Story:
    """Everything that was seen of a year."""

    weeks: list[Week] = field(default_factory=list)
    happenings: list[Happening] = field(default_factory=list)

    def of(self, kind: str, since: int = 0, before: int = 10**6) -> list[Happening]:
        """Return what happened of a kind from week `since` to the one before `before`."""
        return [one for one in self.happenings if one.kind == kind and since <= one.week < before]

    def top1(self, since: int, before: int) -> float:
        """Return the top-1 of all lines of these weeks; NaN where there were none."""
        chosen = [one for one in self.weeks if since <= one.week < before and one.top1 is not None]
        weights = [one.lines for one in chosen]
        return float(np.average([one.top1 for one in chosen], weights=weights)) if chosen else float("nan")

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {"weeks": [asdict(one) for one in self.weeks], "happenings": [asdict(one) for one in self.happenings]}


@dataclass(frozen=True)
class Verdict:
    """One thing the loop should have done, whether it did, and what was seen."""

    event: str
    holds: bool
    seen: str


def measured(week: int, champion: str, matches: Sequence[pd.DataFrame], truth: Mapping[tuple[str, int], str]) -> Week:
    """Return what a week's matches (rows of uploads/upload_matches) were worth. `truth`: product, "" for none, by key
    of the upload and row of the file.
    """
    if not matches:
        return Week(week, champion, 0, 0, None, None, None, None)
    frame = pd.concat(matches, ignore_index=True)
    frame["truth"] = [
        truth[f"{vendor}/{file}", int(row)]
        for vendor, file, row in frame[["vendor_id", "file", "row"]].itertuples(index=False, name=None)
    ]
    hit = frame["product_id"].astype(object).eq(frame["truth"]) & (frame["truth"] != "")
    best = frame["rank"] == 1
    has = frame["truth"][best] != ""
    first = hit[best]
    five = hit[frame["rank"] <= 5].groupby([frame["vendor_id"], frame["file"], frame["row"]]).any()
    approved = frame["decision"][best] == APPROVED
    return Week(
        week, champion, len(matches), int(best.sum()), float(first[has].mean()), float(five.sum() / has.sum()),
        float((approved & first)[has].mean()), float(first[approved].mean()) if approved.any() else None,
    )  # fmt: skip


def people_answer(
    matches: pd.DataFrame, truth: Mapping[tuple[str, int], str], rng: random.Random, mistakes: float = 0.02
) -> dict[str, str | None]:
    """Return what a person says to each line of an upload that asks for one (in review, or drawn for the audit): the
    product by line_id, None for none. They are right but for a share of `mistakes`, when they take another candidate.
    """
    asked = matches[(matches["decision"] == REVIEW) | matches["audited"].eq(True)]
    answers: dict[str, str | None] = {}
    for line, rows in asked.groupby("line_id", sort=True):
        best = rows.iloc[0]
        right = truth[f"{best['vendor_id']}/{best['file']}", int(best["row"])] or None
        others = [product for product in rows["product_id"].dropna().tolist() if product != right]
        answers[str(line)] = rng.choice(others) if others and rng.random() < mistakes else right
    return answers


def week_of(at: datetime, start: datetime) -> int:
    """Return in which week after `start` a moment lies."""
    return (at - start).days // 7


def trend(weeks: Sequence[Week], span: int = 4) -> list[tuple[int, float]]:
    """Return (week, top-1 over the last `span` weeks with files), weighted by lines."""
    seen = [one for one in weeks if one.top1 is not None]
    out = []
    for i, one in enumerate(seen):
        part = seen[max(0, i - span + 1) : i + 1]
        out.append((one.week, float(np.average([w.top1 for w in part], weights=[w.lines for w in part]))))
    return out


def judge(
    year: Year,
    story: Story,
    cycles: Sequence[str],
    arrived: set[str],
    matched: set[str],
    given: set[str],
    taken: Sequence[str],
) -> list[Verdict]:
    """Say of each planted event whether the loop answered it as it should.

    `cycles`: the cycle of each training that the calendar asked for. `arrived`, `matched`: keys of uploads. `given`:
    ids of the answers that people gave; `taken`: those in the table of feedback.
    """
    one = year.config
    verdicts = [
        Verdict(
            "every file was matched once", arrived == matched, f"{len(matched)} of {len(arrived)} uploads have matches"
        ),
        Verdict(
            "every answer was taken once",
            set(taken) == given and len(set(taken)) == len(taken),
            f"{len(given):,} given, {len(taken):,} rows in the table",
        ),
        _cycles(cycles, one.weeks),
        _promotions(story),
        _bad(story, one.bad, one.repaired),
        _naming(story, one.naming),
        _renamed(story, one.renamed),
        _rollback(story, one.rollback),
        _outage(story, one.outage, one.outage + one.outage_weeks),
        _better(story, one.weeks),
    ]
    return verdicts


def _cycles(cycles: Sequence[str], weeks: int) -> Verdict:
    wanted = -(-weeks // 4)
    return Verdict(
        "a training for each cycle of four weeks",
        len(set(cycles)) == wanted,
        f"{len(set(cycles))} of {wanted} cycles, {len(cycles)} runs",
    )


def _promotions(story: Story) -> Verdict:
    promoted, refused = story.of(PROMOTED), story.of(REFUSED)
    return Verdict(
        "better candidates replaced the champion",
        len(promoted) >= 2,
        f"{len(promoted)} promotions, {len(refused)} refusals",
    )


def _bad(story: Story, since: int, until: int) -> Verdict:
    promoted, refused = story.of(PROMOTED, since, until), story.of(REFUSED, since, until)
    stopped = story.of(STOPPED, since, until)
    seen = [f"week {one.week}: {one.what}" for one in [*promoted, *refused, *stopped]]
    return Verdict(
        "nothing trained on the bad training set went live", not promoted and bool(refused or stopped), "; ".join(seen)
    )


def _naming(story: Story, since: int) -> Verdict:
    signals = story.of(SIGNAL, since, since + 9)
    asked = story.of(RETRAIN, since, since + 9)
    return Verdict(
        "the vendor's new naming was noticed and asked for a retrain",
        bool(signals and asked),
        "; ".join(f"week {one.week}: {one.kind} {one.what}" for one in [*signals, *asked]) or "nothing was noticed",
    )


def _renamed(story: Story, week: int) -> Verdict:
    before, after = story.top1(week - 8, week), story.top1(week, week + 8)
    return Verdict(
        "the renamed brand cost no accuracy", after >= before - 0.03, f"top-1 {before:.3f} before, {after:.3f} after"
    )


def _rollback(story: Story, week: int) -> Verdict:
    rolled = story.of(ROLLED_BACK, week, week + 1)
    return Verdict(
        "the rollback put the previous champion back", len(rolled) == 1, "; ".join(one.what for one in rolled)
    )


def _outage(story: Story, since: int, until: int) -> Verdict:
    failed = story.of(FAILED_TICK, since, until)
    later = story.of(FAILED_TICK, until)
    return Verdict(
        "during the outage ticks failed, and nothing after it",
        bool(failed) and not later,
        f"{len(failed)} failed tick(s) then, {len(later)} later",
    )


def _better(story: Story, weeks: int) -> Verdict:
    first, last = story.top1(0, 8), story.top1(weeks - 8, weeks)
    return Verdict(
        "accuracy rose over the year",
        last > first,
        f"top-1 {first:.3f} in the first eight weeks, {last:.3f} in the last",
    )
