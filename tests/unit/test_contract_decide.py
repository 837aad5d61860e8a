"""The decision of the uploads sensor, without Dagster: which files are new and whole."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shelfwise.contract import SensorState, UploadFile, decide, decode_cursor, encode_cursor, remembered, run_key
from shelfwise.contract.decide import CursorError

NOW = 1_000_000.0


def local(key: str = "v/a.csv", etag: str = "e1", size: int = 10, modified: float = NOW - 60) -> UploadFile:
    return UploadFile(key, etag, size, modified)


def remote(key: str = "v/a.csv", etag: str = "e1", modified: float = NOW) -> UploadFile:
    return UploadFile(key, etag, 10, modified, whole=True)


def tick(
    files: list[UploadFile], state: SensorState | None = None, now: float = NOW, settle: float = 5
) -> tuple[list[str], SensorState, dict[str, str]]:
    decision = decide(files, state or SensorState(), now=now, settle_seconds=settle)
    keys = [run_key(file, decision.state.revision(file.key)) for file in decision.new]
    return keys, decision.state, decision.waiting


def test_a_local_file_is_requested_on_the_second_look() -> None:
    new, state, waiting = tick([local()])
    assert (new, waiting) == ([], {"v/a.csv": "first seen now"})
    new, state, waiting = tick([local()], state)
    assert (new, waiting) == (["v/a.csv:e1"], {})
    new, state, _ = tick([local()], state)
    assert new == [], "the same content is never requested twice"
    assert state.pending == {}


def test_a_file_that_still_grows_waits() -> None:
    _, state, _ = tick([local(etag="e1", size=10)])
    new, state, waiting = tick([local(etag="e2", size=20)], state)
    assert (new, waiting) == ([], {"v/a.csv": "changed since the last look"})
    new, state, _ = tick([local(etag="e2", size=20)], state)
    assert new == ["v/a.csv:e2"]


def test_a_file_that_was_just_written_waits_even_if_it_did_not_change() -> None:
    fresh = local(modified=NOW - 1)
    _, state, _ = tick([fresh])
    new, state, waiting = tick([fresh], state)
    assert (new, waiting) == ([], {"v/a.csv": "changed 1 s ago"})
    assert tick([fresh], state, now=NOW + 10)[0] == ["v/a.csv:e1"]


def test_a_clock_that_is_ahead_does_not_hold_a_file_for_ever() -> None:
    ahead = local(modified=NOW + 1e6)
    _, state, _ = tick([ahead])
    assert tick([ahead], state)[0] == ["v/a.csv:e1"]


def test_objects_in_a_store_are_whole_at_once_and_settling_can_be_switched_off() -> None:
    assert tick([remote()])[0] == ["v/a.csv:e1"]
    assert tick([local(modified=NOW)], settle=0)[0] == ["v/a.csv:e1"]


def test_changed_content_is_requested_again_and_a_deleted_file_stays_known() -> None:
    _, state, _ = tick([remote(etag="e1")])
    new, state, _ = tick([remote(etag="e2")], state)
    assert new == ["v/a.csv:e2:r1"]
    new, state, _ = tick([], state)
    assert (new, dict(state.seen)) == ([], {"v/a.csv": "e2"})
    assert tick([remote(etag="e2")], state)[0] == []


def test_an_older_content_that_comes_back_is_requested_under_a_key_of_its_own() -> None:
    state, keys = SensorState(), []
    for etag in ("e1", "e2", "e2", "e1", "e1", "e2"):
        new, state, _ = tick([remote(etag=etag)], state)
        keys += new
    assert keys == ["v/a.csv:e1", "v/a.csv:e2:r1", "v/a.csv:e1:r2", "v/a.csv:e2:r3"]


def test_a_tick_that_is_evaluated_again_asks_for_the_same_run_keys() -> None:
    _, state, _ = tick([remote(etag="e1")])
    assert tick([remote(etag="e2")], state)[0] == tick([remote(etag="e2")], state)[0] == ["v/a.csv:e2:r1"]


def test_without_a_cursor_the_requests_made_so_far_are_the_memory() -> None:
    state = remembered([("v/a.csv", "e1", 0), ("v/b.csv", "b1", 0), ("v/a.csv", "e2", 1)])
    assert tick([remote(etag="e2"), remote("v/b.csv", "b1")], state)[0] == []
    assert tick([remote(etag="e1"), remote("v/b.csv", "b1")], state)[0] == ["v/a.csv:e1:r2"]
    assert remembered([]) == SensorState()


def test_what_was_interrupted_is_requested_again_under_a_new_key() -> None:
    assert tick([remote(etag="e1")], remembered([("v/a.csv", None, 0)]))[0] == ["v/a.csv:e1:r1"]
    earlier_is_stale = remembered([("v/a.csv", "e1", 0), ("v/a.csv", None, 1)])
    assert tick([remote(etag="e1")], earlier_is_stale)[0] == ["v/a.csv:e1:r2"]
    repeated = remembered([("v/a.csv", None, 0), ("v/a.csv", "e1", 1)])
    assert tick([remote(etag="e1")], repeated)[0] == []


def test_uploads_of_the_same_second_are_both_requested() -> None:
    new, state, _ = tick([remote("v/a.csv", "e1"), remote("v/b.csv", "e2")])
    assert new == ["v/a.csv:e1", "v/b.csv:e2"]
    assert tick([remote("v/a.csv", "e3"), remote("v/b.csv", "e2")], state)[0] == ["v/a.csv:e3:r1"]


def test_one_file_that_waits_does_not_hold_up_others() -> None:
    _, state, _ = tick([local("v/slow.csv", "e1"), local("v/done.csv", "d1")])
    new, _, waiting = tick([local("v/slow.csv", "e2"), local("v/done.csv", "d1")], state)
    assert new == ["v/done.csv:d1"]
    assert list(waiting) == ["v/slow.csv"]


def test_the_reason_says_what_is_waited_for() -> None:
    decision = decide([local()], SensorState(), now=NOW, settle_seconds=5)
    assert "v/a.csv: first seen now" in decision.reason
    assert decide([], SensorState({"a/b.csv": "e"}), now=NOW).reason == "no new or changed file among 1 known"


def test_the_state_that_went_in_is_not_changed() -> None:
    state = SensorState({}, {"v/a.csv": ("e1", 10)})
    tick([local()], state)
    assert (dict(state.seen), dict(state.pending)) == ({}, {"v/a.csv": ("e1", 10)})


KEYS = st.sampled_from(["v/a.csv", "v/b.csv", "w/a.csv"])
LISTINGS = st.lists(st.dictionaries(KEYS, st.sampled_from(["e1", "e2", "e3"])), max_size=12)


@given(LISTINGS, st.booleans())
def test_a_content_is_never_requested_twice_in_a_row_and_none_is_forgotten(
    listings: list[dict[str, str]], whole: bool
) -> None:
    state, last, used = SensorState(), {}, set()
    for listed in listings:
        files = [UploadFile(key, etag, 1, NOW - 60, whole) for key, etag in listed.items()]
        state = decode_cursor(encode_cursor(state))
        decision = decide(files, state, now=NOW, settle_seconds=5)
        for file in decision.new:
            assert last.get(file.key) != file.etag
            last[file.key] = file.etag
            name = run_key(file, decision.state.revision(file.key))
            assert name not in used, "Dagster starts nothing under a run key it knows"
            used.add(name)
        state = decision.state
        assert dict(state.seen) == last
        assert set(listed) <= {file.key for file in decision.new} | set(decision.waiting) | {
            key for key, etag in listed.items() if last.get(key) == etag
        }
        if whole:
            assert all(last[key] == etag for key, etag in listed.items())


def test_the_cursor_survives_a_round_trip() -> None:
    state = SensorState({"v/ä.csv": "e1"}, {"v/b.csv": ("e2", 5)}, {"v/ä.csv": 3})
    assert decode_cursor(encode_cursor(state)) == state
    assert decode_cursor(None) == decode_cursor("") == SensorState()
    counts = {"a/a.csv": 1, "b/b.csv": 1}
    shuffled = SensorState(dict(reversed([("a/a.csv", "1"), ("b/b.csv", "2")])), {}, counts)
    assert encode_cursor(shuffled) == encode_cursor(SensorState({"a/a.csv": "1", "b/b.csv": "2"}, {}, counts))


@pytest.mark.parametrize(
    "cursor",
    [
        "1700000000.0",
        "not json",
        "[]",
        "{}",
        json.dumps({"version": 2, "seen": {}, "pending": {}, "requests": {}}),
        json.dumps({"version": 1, "seen": [], "pending": {}, "requests": {}}),
        json.dumps({"version": 1, "seen": {"a": None}, "pending": {}, "requests": {"a": 1}}),
        json.dumps({"version": 1, "seen": {}, "pending": {"a": "e"}, "requests": {}}),
        json.dumps({"version": 1, "seen": {}, "pending": {}}),
        json.dumps({"version": 1, "seen": {"a": "e"}, "pending": {}, "requests": {}}),
        "[" * 100_000,
    ],
)
def test_a_broken_cursor_is_an_error_that_says_what_to_do(cursor: str) -> None:
    with pytest.raises(CursorError, match="Reset the cursor"):
        decode_cursor(cursor)
