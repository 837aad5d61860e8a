"""The lines that people are asked about, of all uploads: what queues of matches and of categories have in common."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from shelfwise.artifacts import content_id

LINE_KEYS = ["vendor_id", "file", "row", "line_id"]
AUDIT = "audit"  # why a line is in a queue that needs no person


def joined(uploads: Mapping[str, pd.DataFrame] | None) -> pd.DataFrame | None:
    """Return the rows of all uploads, None where there are none."""
    frames = [frame for frame in (uploads or {}).values() if frame is not None and len(frame)]
    return pd.concat(frames, ignore_index=True) if frames else None


def unanswered(lines: pd.DataFrame, answered: pd.DataFrame) -> np.ndarray:
    """Return per line (vendor_id, title) whether nobody has answered it (`answered`: vendor_id, vendor_title)."""
    settled = pd.MultiIndex.from_frame(answered[["vendor_id", "vendor_title"]].astype(str))
    return ~pd.MultiIndex.from_frame(lines[["vendor_id", "title"]].astype(str)).isin(settled)


def queue(
    rows: pd.DataFrame, alternatives: pd.Series, by: str, columns: Sequence[str], answered: pd.DataFrame | None
) -> pd.DataFrame:
    """Return the best row of each line, the lowest `by` first, with the line's other candidates in one cell.

    `rows`: every rank of the lines that somebody is asked about, with `reason`. `alternatives`: by index of `rows`, how
    each other candidate is written, best first within a line; they are joined by " | ". `answered`: see `unanswered`;
    those lines are not asked again. Of `columns` those that there are are kept.

    Audited lines are spread evenly over the queue: by score they would stand at its ends, where they can be told apart,
    and where a queue that is worked on from the top would never reach the surest ones.
    """
    best = rows[rows["rank"] == 1]
    if answered is not None:
        best = best[unanswered(best, answered)]
    others: dict[tuple, list[str]] = defaultdict(list)
    for line, text in zip(_lines(rows.loc[alternatives.index]), alternatives, strict=True):
        others[line].append(text)
    best = best.assign(alternatives=pd.Series([" | ".join(others[one]) for one in _lines(best)], best.index, "str"))
    kept = [name for name in columns if name in best]
    return _mixed(best.sort_values([by, *LINE_KEYS], kind="stable"))[kept].reset_index(drop=True)


def _lines(rows: pd.DataFrame) -> list[tuple]:
    return list(rows[LINE_KEYS].itertuples(index=False, name=None))


def _mixed(lines: pd.DataFrame) -> pd.DataFrame:
    """Return a queue with its audited lines at hashed places among the others, which keep their order."""
    audit = (lines["reason"] == AUDIT).to_numpy()
    place = np.cumsum(~audit).astype(np.float64)
    keys = lines.loc[audit, ["vendor_id", "file", "line_id"]].astype(str).itertuples(index=False, name=None)
    place[audit] = [int(content_id("place", *key), 16) / 16**16 * (len(lines) - audit.sum()) for key in keys]
    return lines.iloc[np.argsort(place, kind="stable")]
