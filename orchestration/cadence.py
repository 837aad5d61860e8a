"""When the four-week retrain is due: pure functions over days.

No cron string means "every four weeks": `*/28` starts over each month, and a day of the month or-ed with a day of the
week is neither. So a schedule ticks every week, and these functions say what a tick is for. They count whole days from
an anchor, a day on which a cycle begins: years, leap days and daylight saving cannot shift them.
"""

from __future__ import annotations

from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

CYCLE = timedelta(weeks=4)
WEEK = timedelta(weeks=1)


def cycle_start(day: date, anchor: date) -> date:
    """Return the first day of the cycle that `day` lies in. Cycles also reach back before the anchor."""
    return anchor + (day - anchor) // CYCLE * CYCLE


def is_cycle_week(day: date, anchor: date) -> bool:
    """Whether `day` lies in the first week of its cycle."""
    return day - cycle_start(day, anchor) < WEEK


def next_cycle(day: date, anchor: date) -> date:
    """Return the first day of the next cycle after the one `day` lies in; the anchor for a day before it."""
    return anchor if day < anchor else cycle_start(day, anchor) + CYCLE


def local_day(moment: datetime, timezone: str) -> date:
    """Return the day it is in a time zone at a moment that knows its own. Raises ValueError for one that does not."""
    if moment.tzinfo is None:
        raise ValueError(f"{moment} does not say in which time zone it is")
    return moment.astimezone(ZoneInfo(timezone)).date()


def weekly_cron(anchor: date, hour: int) -> str:
    """Return the cron string of a tick on the anchor's day of the week, at `hour`."""
    return f"0 {hour} * * {anchor.isoweekday() % 7}"
