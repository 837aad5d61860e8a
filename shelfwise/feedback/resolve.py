"""Which of several answers to a line counts, and what a person should know about the others.

The rule, for all answers to the same line (vendor and normal form of the title) that name a product of the catalog or
say that there is none: the latest answer counts. Of several at the same moment it is the one that most of them give;
of these the one with the greatest answer_id, which is as good as any and the same each time. The dbt model
`stg_feedback` says the same in SQL; a test proves that the two agree.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta

import pandas as pd

from shelfwise.errors import Problem
from shelfwise.text import normalise

NOTHING = "matches nothing"
_CLOCKS_APART = timedelta(minutes=5)
CONTRADICTION_COLUMNS = ("vendor_id", "line", "answers", "counts", "why", "said")


def resolve(feedback: pd.DataFrame, known_products: Collection[str]) -> pd.DataFrame:
    """Return raw/feedback with the columns normalised_title, usable (whether an answer may count at all), agreeing
    (how many give the same answer at the same moment) and counts (whether it is the one that does).
    """
    out = feedback.assign(normalised_title=[normalise(str(title)) for title in feedback["vendor_title"]])
    known = out["product_id"].isna() | out["product_id"].isin(list(known_products))
    out["usable"] = known & (out["normalised_title"] != "")
    line = ["vendor_id", "normalised_title"]
    same = [*line, "answered_at", "product_id"]
    usable = out[out["usable"]]
    out["agreeing"] = usable.groupby(same, dropna=False)["answer_id"].transform("size").reindex(out.index, fill_value=0)
    order = out[out["usable"]].sort_values(["answered_at", "agreeing", "answer_id"], kind="stable")
    out["counts"] = out.index.isin(order.drop_duplicates(line, keep="last").index)
    return out


def contradictions(feedback: pd.DataFrame, known_products: Collection[str]) -> pd.DataFrame:
    """Return the lines with answers that cannot all be right, the latest first: vendor, line, how many answers, the
    one that counts and why, and all of them with who and when.
    """
    resolved = resolve(feedback, known_products)
    usable = resolved[resolved["usable"]].assign(said=resolved["product_id"].fillna(NOTHING))
    line = ["vendor_id", "normalised_title"]
    torn = usable[usable.groupby(line)["said"].transform("nunique") > 1]
    rows = []
    for (vendor, title), answers in torn.groupby(line, sort=True):
        ordered = answers.sort_values(["answered_at", "agreeing", "answer_id"], ascending=False)
        won = ordered.iloc[0]
        said = [
            f"{one['said']} ({one['answered_by'] or 'unnamed'}, {one['answered_at']:%Y-%m-%d %H:%M})"
            for one in ordered.to_dict("records")
        ]
        rows.append((vendor, title, len(ordered), won["said"], _why(ordered), "; ".join(said), won["answered_at"]))
    out = pd.DataFrame(rows, columns=[*CONTRADICTION_COLUMNS, "at"])
    return out.sort_values("at", ascending=False, kind="stable").drop(columns="at").reset_index(drop=True)


def _why(ordered: pd.DataFrame) -> str:
    """Why the first of a line's answers counts."""
    together = ordered[ordered["answered_at"] == ordered["answered_at"].iloc[0]]
    if together["said"].nunique() == 1:
        return "the latest"
    rivals = together[together["said"] != together["said"].iloc[0]]
    if together["agreeing"].iloc[0] > rivals["agreeing"].max():
        return "most of those at the latest moment"
    return "as many at the latest moment: ask them"


def review(
    feedback: pd.DataFrame,
    known_products: Collection[str],
    *,
    known_uploads: Collection[str] | None = None,
    now: datetime | None = None,
) -> list[Problem]:
    """Return what is wrong with single answers, and what to do. `known_uploads`: "vendor/file" of those matched.

    A product that the catalog does not have, an upload that was never matched, a time that has not come yet.
    """
    problems = []

    def wrong(rows: pd.DataFrame, column: str, expected: str) -> None:
        for one in rows.to_dict("records"):
            found = f"{one[column]!s} ({one['vendor_id']}: {str(one['vendor_title'])[:60]})"
            problems.append(Problem(f"{one['feedback_id']}.json", expected, found, column=column))

    stranger = feedback["product_id"].notna() & ~feedback["product_id"].isin(list(known_products))
    wrong(
        feedback[stranger],
        "product_id",
        "a product of the catalog (the answer does not count until the product is there; answer again if it is a slip)",
    )
    if known_uploads is not None:
        keys = feedback["vendor_id"] + "/" + feedback["file"]
        never = feedback["prediction_id"].notna() & ~keys.isin(list(known_uploads))
        wrong(feedback[never], "file", "an upload that was matched (the answer counts for its line)")
    if now is not None:
        early = feedback["answered_at"] > pd.Timestamp(now + _CLOCKS_APART)
        wrong(
            feedback[early],
            "answered_at",
            "a time that has come (the clock of who answered is ahead: until then no other answer to the line counts)",
        )
    return problems
