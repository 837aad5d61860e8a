"""When a retrain is requested: once per cause, not too often, whatever the clocks say."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from shelfwise.monitoring.retrain import decide_retrain
from shelfwise.monitoring.signals import KINDS, Signal

NOW = datetime(2026, 5, 4, 6, tzinfo=UTC)
DAY = timedelta(days=1)


def signal(cause: str = "a", champion: str = "v1", at: datetime = NOW - DAY, kind: str = "accuracy") -> Signal:
    return Signal.of(kind, cause, f"because of {cause}", champion, at)


def test_nothing_known_asks_for_nothing() -> None:
    decision = decide_retrain([], {}, NOW, 7)
    assert (decision.signals, decision.reason) == ((), "nothing asks for a retrain")


def test_one_retrain_answers_all_that_waits_oldest_first() -> None:
    young, old = signal("young", at=NOW), signal("old", at=NOW - 3 * DAY, kind="drift")
    decision = decide_retrain([young, old], {}, NOW, 7, "v1")
    assert decision.signals == (old, young)
    assert "drift: because of old; accuracy: because of young" in decision.reason


def test_a_cause_asks_once_ever() -> None:
    one = signal()
    for age in (8, 800):
        decision = decide_retrain([one], {one.id: NOW - age * DAY}, NOW, 7)
        assert decision.signals == ()
        assert "each of 1 cause(s) has had one" in decision.reason


def test_the_rate_holds_over_all_causes_and_the_reason_says_until_when() -> None:
    before, new = signal("before", kind="drift"), signal("new")
    decision = decide_retrain([before, new], {before.id: NOW - 6 * DAY}, NOW, 7)
    assert decision.signals == ()
    assert "because of new" in decision.reason
    assert "less than 7 days ago: the next can be requested from 2026-05-05 06:00 UTC on" in decision.reason
    assert decision.possible_at == NOW + DAY
    assert decide_retrain([before, new], {before.id: NOW - 7 * DAY}, NOW, 7).signals == (new,)
    assert decide_retrain([before, new], {before.id: NOW - DAY}, NOW, 0).signals == (new,)


def test_nothing_to_request_still_says_when_it_would_be_possible() -> None:
    one = signal()
    assert "from 2026-05-09 06:00 UTC on" in decide_retrain([one], {one.id: NOW - 2 * DAY}, NOW, 7).reason


def test_what_was_said_of_an_earlier_champion_is_settled() -> None:
    old, new = signal("a", "v1"), signal("a", "v2")
    assert decide_retrain([old], {}, NOW, 7, "v2").signals == ()
    assert "earlier champion than v2" in decide_retrain([old], {}, NOW, 7, "v2").reason
    assert decide_retrain([old, new], {}, NOW, 7, "v2").signals == (new,)
    assert decide_retrain([old], {}, NOW, 7, None).signals == (old,)


def test_a_request_of_a_clock_that_was_wrong_counts_as_made_when_it_is_seen() -> None:
    """It lies ten years ahead. Were it taken at its word, or as made anew at each look, no retrain would ever come."""
    strange, new = signal("strange"), signal("new")
    requested = {strange.id: NOW + 3650 * DAY}
    first = decide_retrain([strange, new], requested, NOW, 7)
    assert first.signals == ()
    assert first.possible_at == NOW + 7 * DAY
    assert first.noticed == {strange.id: NOW}
    later = decide_retrain([strange, new], requested, NOW + 6 * DAY, 7, noticed=first.noticed)
    assert (later.signals, later.noticed) == ((), first.noticed)
    last = decide_retrain([strange, new], requested, NOW + 7 * DAY, 7, noticed=first.noticed)
    assert last.signals == (new,)
    back = decide_retrain([strange, new], requested, NOW - 90 * DAY, 7, noticed=first.noticed)
    assert back.noticed == {strange.id: NOW - 90 * DAY}, "and when the clock jumps back once more, from there"


# A history: time passes, signals come, the champion changes, the clock jumps, and the sensor looks.
HOURS = st.integers(0, 24 * 20).map(lambda hours: ("pass", timedelta(hours=hours)))
JUMPS = st.one_of(st.integers(-24 * 10, 24 * 10), st.integers(-24 * 400, 24 * 400)).map(
    lambda hours: ("jump", timedelta(hours=hours))
)
RAISED = st.tuples(st.just("raise"), st.tuples(st.sampled_from(KINDS), st.sampled_from("abcd")))
PROMOTED = st.just(("promote", None))
FORGOTTEN = st.just(("forget", None))


def play(steps: list, min_days: float) -> None:
    """Look after every step. Requests are remembered by their runs; the cursor may be lost."""
    true, offset, champion = NOW, timedelta(0), 1
    signals: dict[str, Signal] = {}
    requested: dict[str, datetime] = {}
    made: list[tuple[datetime, datetime]] = []
    noticed: dict[str, datetime] = {}
    jumped = False
    for action, value in steps:
        if action == "pass":
            true += value
        elif action == "jump":
            offset, jumped = offset + value, True
        elif action == "raise":
            new = Signal.of(value[0], value[1], "", f"v{champion}", true + offset)
            signals.setdefault(new.id, new)
        elif action == "promote":
            champion += 1
        else:
            noticed = {}
        now = true + offset
        decision = decide_retrain(signals.values(), requested, now, min_days, f"v{champion}", noticed)
        noticed = dict(decision.noticed)
        assert set(noticed) <= set(requested)
        assert decision.reason
        for one in decision.signals:
            assert one.id not in requested, "once per cause"
            assert one.champion_version == f"v{champion}"
            requested[one.id] = now
        if decision.signals:
            made.append((true, now))
        waiting = [s for s in signals.values() if s.id not in requested and s.champion_version == f"v{champion}"]
        if waiting:
            assert decision.possible_at > now
            assert decision.possible_at <= now + timedelta(days=min_days), "however wrong clocks were"
    if not jumped:
        gaps = [later - sooner for (sooner, _), (later, _) in pairwise(made)]
        assert all(gap >= timedelta(days=min_days) for gap in gaps)
    # Once the clock stands, whatever waits is requested within the shortest time between two retrains.
    end = true + offset + timedelta(days=min_days)
    noticed = dict(decide_retrain([], requested, true + offset, min_days, None, noticed).noticed)
    final = decide_retrain(signals.values(), requested, end, min_days, f"v{champion}", noticed)
    left = {s.id for s in signals.values() if s.champion_version == f"v{champion}"} - set(requested)
    assert {s.id for s in final.signals} == left


@settings(max_examples=500, deadline=None)
@given(st.lists(st.one_of(HOURS, RAISED, PROMOTED, FORGOTTEN), max_size=30), st.sampled_from([0.0, 0.5, 7.0]))
def test_any_history_with_a_right_clock(steps, min_days: float) -> None:
    play(steps, min_days)


@settings(max_examples=500, deadline=None)
@given(st.lists(st.one_of(HOURS, JUMPS, RAISED, PROMOTED), max_size=30), st.sampled_from([0.0, 0.5, 7.0]))
def test_any_history_with_a_clock_that_jumps(steps, min_days: float) -> None:
    play(steps, min_days)
