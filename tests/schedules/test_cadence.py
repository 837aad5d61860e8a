"""Every four weeks means every 28 days: over years, leap days and daylight saving."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestration.cadence import CYCLE, cycle_start, is_cycle_week, local_day, next_cycle, weekly_cron

ANCHOR = date(2026, 1, 5)
DAYS = st.dates(date(2000, 1, 1), date(2060, 12, 31))


@given(day=DAYS, anchor=DAYS)
def test_a_cycle_has_28_days_and_each_day_lies_in_one(day: date, anchor: date) -> None:
    start = cycle_start(day, anchor)
    assert start <= day < start + timedelta(days=28)
    assert (start - anchor).days % 28 == 0
    assert is_cycle_week(day, anchor) == ((day - anchor).days % 28 < 7)


@given(day=DAYS, anchor=DAYS)
def test_the_next_cycle_begins_after_today_and_is_a_cycle(day: date, anchor: date) -> None:
    following = next_cycle(day, anchor)
    assert following > day
    assert cycle_start(following, anchor) == following
    assert following == anchor if day < anchor else following - day <= CYCLE


def test_weekly_ticks_of_twenty_years_find_each_cycle_once_in_its_first_week() -> None:
    ticks = [ANCHOR + timedelta(weeks=week) for week in range(20 * 52)]
    first = [day for day in ticks if is_cycle_week(day, ANCHOR)]
    assert first == ticks[::4]
    assert {(later - earlier).days for earlier, later in pairwise(first)} == {28}


def test_known_days() -> None:
    assert next_cycle(date(2026, 1, 5), ANCHOR) == date(2026, 2, 2)
    assert next_cycle(date(2026, 2, 1), ANCHOR) == date(2026, 2, 2)
    assert cycle_start(date(2028, 3, 1), ANCHOR) == date(2028, 2, 28), "over the leap day of 2028"
    assert not is_cycle_week(date(2026, 1, 12), ANCHOR)
    assert is_cycle_week(date(2025, 12, 8), ANCHOR), "cycles reach back before the anchor"


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "UTC"])
def test_daylight_saving_shifts_no_cycle(zone: str) -> None:
    local = [datetime(2026, 1, 5, 2, 30, tzinfo=ZoneInfo(zone)) + timedelta(weeks=week) for week in range(104)]
    days = [local_day(moment.astimezone(UTC), zone) for moment in local]
    assert [day for day in days if is_cycle_week(day, ANCHOR)] == days[::4]


def test_the_day_is_that_of_the_time_zone() -> None:
    moment = datetime(2026, 1, 4, 23, 30, tzinfo=UTC)
    assert local_day(moment, "UTC") == date(2026, 1, 4)
    assert local_day(moment, "Europe/Berlin") == date(2026, 1, 5)
    with pytest.raises(ValueError, match="time zone"):
        local_day(datetime(2026, 1, 4), "UTC")


def test_the_tick_comes_on_the_anchors_weekday() -> None:
    assert weekly_cron(ANCHOR, 6) == "0 6 * * 1", "a Monday"
    assert weekly_cron(date(2026, 1, 4), 0) == "0 0 * * 0", "a Sunday"
