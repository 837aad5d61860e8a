"""The lines whose category a person is asked about, over all uploads."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from shelfwise.classification.decide import ASSIGN
from shelfwise.queues import AUDIT, LINE_KEYS, joined, queue

CONTRADICTION = "contradiction"
REASONS = ("suggest", "ask", CONTRADICTION, AUDIT)
COLUMNS = (
    "vendor_id", "file", "row", "line_id", "title", "category", "probability", "alternatives", "reason",
    "match_category", "explanation", "champion_version",
)  # fmt: skip


def category_lines(
    upload_categories: Mapping[str, pd.DataFrame] | None, answered: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Return the lines of all uploads whose category a person is asked about, the least probable first, and among them
    those that are audited.

    `upload_categories`: rows of uploads/upload_categories per file. `answered`: vendor_id and title of lines that
    somebody has given a category, which are not asked again. Columns `COLUMNS`: `alternatives` are the next categories
    as "path (probability)", best first, joined by " | "; `reason` is why the line is here: its category is only
    suggested or asked about, its approved match stands under another one (`match_category`), or it is audited.
    """
    rows = joined(upload_categories)
    if rows is None:
        return pd.DataFrame(columns=list(COLUMNS))
    assigned = rows["decision"] == ASSIGN
    sure = np.where(rows["contradiction"], CONTRADICTION, np.where(rows["audited"], AUDIT, ""))
    rows = rows.assign(reason=np.where(assigned, sure, rows["decision"]))
    rows = rows[rows["reason"] != ""]
    others = rows[rows["rank"] > 1].sort_values([*LINE_KEYS, "rank"])
    odds = others["probability"].map(" ({:.2f})".format).astype("str")
    alternatives = others["category"].astype("str") + odds
    settled = None if answered is None else answered.rename(columns={"title": "vendor_title"})
    return queue(rows, alternatives, "probability", COLUMNS, settled)
