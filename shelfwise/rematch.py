"""What a new champion should look at again: the uploads whose lines still wait for a person."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from shelfwise.queues import unanswered


def waiting_uploads(queue: pd.DataFrame, answered: pd.DataFrame, champion: str) -> list[str]:
    """Return the uploads ("vendor/file", sorted) with lines in review that another champion than `champion` matched.

    `queue`: the review queue (vendor_id, file, title, champion_version; reason, where it is known). Lines that are only
    audited were decided; lines a person has answered (`answered`: vendor_id, vendor_title) are settled.
    """
    if queue.empty:
        return []
    waits = queue["champion_version"] != champion
    if "reason" in queue:
        waits &= queue["reason"] == "review"
    waits &= unanswered(queue, answered)
    chosen = queue.loc[waits, ["vendor_id", "file"]].drop_duplicates()
    return sorted(f"{vendor}/{file}" for vendor, file in chosen.itertuples(index=False, name=None))


def next_batch(keys: Iterable[str], after: str, limit: int) -> tuple[list[str], str]:
    """Return the next `limit` keys behind `after` in order, and where to go on: "" once the end was reached.

    So keys that lead to nothing, however many there are, do not keep the others from their turn.
    """
    behind = [key for key in sorted(keys) if key > after]
    batch = behind[:limit]
    return batch, batch[-1] if len(behind) > limit else ""
