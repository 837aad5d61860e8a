"""The memory of a sensor: a cursor of bounded size, and immutable snapshots that it names."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shelfwise.contract import CursorError, Entry, Ledger, SensorState, ledger
from shelfwise.contract.ledger import KEPT_LAST


@pytest.fixture(autouse=True)
def another_process() -> None:
    """Nothing is remembered from another test."""
    ledger._READ.clear()


def entries(count: int, etag: str = "e") -> dict[str, Entry]:
    return {f"acme/file-{number:05}.csv": Entry(etag * 64, 1, "mark") for number in range(count)}


def snapshots(root: Path) -> list[Path]:
    return sorted((root / "sensors" / "s").glob("*.json.gz"))


def test_a_short_memory_is_in_the_cursor_itself(tmp_path: Path) -> None:
    state = SensorState({"v/ä.csv": Entry("e1", 3, "m"), "v/b.csv": Entry(None, 1)}, {"v/c.csv": ("e2", 5)})
    cursor = Ledger(tmp_path, "s").save(state)
    assert Ledger(tmp_path, "s").load(cursor) == state
    assert list(tmp_path.iterdir()) == []
    shuffled = SensorState(dict(reversed(state.entries.items())), state.pending)
    assert Ledger(tmp_path, "s").save(shuffled) == cursor, "the same text for the same state"


def test_a_long_memory_goes_into_a_snapshot_and_the_cursor_stays_short(tmp_path: Path) -> None:
    book = Ledger(tmp_path, "s", limit=1000)
    state = SensorState(entries(5000), {f"w/{number}.csv": ("e" * 64, 9) for number in range(200)})
    cursor = book.save(state)
    assert len(cursor) < 200
    (first,) = snapshots(tmp_path)
    ledger._READ.clear()
    loaded = book.load(cursor)
    assert (loaded.entries, loaded.pending) == (state.entries, state.pending)
    changed = SensorState(
        {**loaded.entries, "new/a.csv": Entry("n", 1), "acme/file-00001.csv": Entry("n", 2)}, {}, loaded.snapshot
    )
    cursor = book.save(changed)
    assert len(cursor) <= 1000
    assert snapshots(tmp_path) == [first], "what came since is in the cursor"
    ledger._READ.clear()
    assert book.load(cursor) == changed


@given(st.lists(st.dictionaries(st.text(max_size=8), st.sampled_from("abc"), max_size=6), max_size=8), st.booleans())
def test_whatever_was_saved_is_loaded_and_the_cursor_is_never_over_its_limit(
    tmp_path_factory: pytest.TempPathFactory, steps: list[dict[str, str]], restart: bool
) -> None:
    book, state = Ledger(tmp_path_factory.mktemp("lake"), "s", limit=250), SensorState()
    for step in steps:
        known = {key: Entry(etag, state.entries.get(key, Entry(None, 0)).requests + 1) for key, etag in step.items()}
        state = SensorState({**state.entries, **known}, {key: (etag, 1) for key, etag in step.items()}, state.snapshot)
        cursor = book.save(state)
        assert len(cursor) <= 250
        if restart:
            ledger._READ.clear()
        loaded = book.load(cursor)
        assert (loaded.entries, loaded.pending) == (state.entries, state.pending)
        state = loaded


def test_a_crash_before_the_cursor_is_kept_leaves_the_old_one_whole(tmp_path: Path) -> None:
    book = Ledger(tmp_path, "s", limit=300)
    kept = book.save(SensorState(entries(50)))
    state = book.load(kept)
    for round_ in range(20):  # each time the snapshot is written and the cursor is lost
        book.save(SensorState({**state.entries, **entries(60, str(round_ % 10))}, {}, state.snapshot))
        for path in snapshots(tmp_path):
            os.utime(path, (0, 0))
    ledger._READ.clear()
    assert book.load(kept).entries == entries(50)


def test_old_snapshots_are_removed_and_young_or_last_ones_are_not(tmp_path: Path) -> None:
    book, state, cursors = Ledger(tmp_path, "s", limit=300), SensorState(), []
    for number in range(KEPT_LAST + 5):
        cursors.append(book.save(SensorState(entries(20 + number, str(number % 10)), {}, state.snapshot)))
        state = book.load(cursors[-1])
    assert len(snapshots(tmp_path)) == KEPT_LAST + 5, "none is a day old"
    for number, cursor in enumerate(cursors):
        path = tmp_path / "sensors" / "s" / f"{json.loads(cursor)['snapshot']}.json.gz"
        os.utime(path, (1000 + number,) * 2)
    state = book.load(book.save(SensorState(entries(90), {}, state.snapshot)))
    assert len(snapshots(tmp_path)) == KEPT_LAST
    assert book.load(cursors[-1]).entries == entries(20 + KEPT_LAST + 4, str((KEPT_LAST + 4) % 10))


def test_a_snapshot_that_was_removed_or_damaged_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    book = Ledger(tmp_path, "s", limit=100)
    cursor = book.save(SensorState(entries(50)))
    (path,) = snapshots(tmp_path)
    whole = path.read_bytes()
    for damaged in (whole[:100], b"", b"not gzip", whole[:-20] + whole[-8:]):
        path.write_bytes(damaged)
        ledger._READ.clear()
        with pytest.raises(CursorError, match=r"cannot read the snapshot .* Reset the cursor"):
            book.load(cursor)
    path.unlink()
    ledger._READ.clear()
    with pytest.raises(CursorError, match=r"was removed\. Reset the cursor"):
        book.load(cursor)
    path.write_bytes(whole)
    assert book.load(cursor).entries == entries(50)


def test_a_process_that_has_read_a_snapshot_survives_its_removal(tmp_path: Path) -> None:
    book = Ledger(tmp_path, "s", limit=100)
    cursor = book.save(SensorState(entries(50)))
    (path,) = snapshots(tmp_path)
    path.unlink()
    state = book.load(cursor)
    cursor = book.save(SensorState({**state.entries, **entries(60)}, {}, state.snapshot))
    ledger._READ.clear()
    assert book.load(cursor).entries == entries(60)


def test_a_cursor_of_the_first_version_is_read(tmp_path: Path) -> None:
    old = {"version": 1, "seen": {"a": "e"}, "pending": {"b": ["f", 3]}, "requests": {"a": 2, "c": 1}}
    state = Ledger(tmp_path, "s").load(json.dumps(old))
    assert state == SensorState({"a": Entry("e", 2), "c": Entry(None, 1)}, {"b": ("f", 3)})


@pytest.mark.parametrize(
    "cursor",
    [
        "1700000000.0",
        "not json",
        "[]",
        "{}",
        json.dumps({"version": 3, "snapshot": None, "recent": {}, "pending": {}}),
        json.dumps({"version": 1, "seen": [], "pending": {}, "requests": {}}),
        json.dumps({"version": 1, "seen": {"a": None}, "pending": {}, "requests": {"a": 1}}),
        json.dumps({"version": 1, "seen": {"a": "e"}, "pending": {}, "requests": {}}),
        json.dumps({"version": 2, "recent": {}, "pending": {}}),
        json.dumps({"version": 2, "snapshot": 3, "recent": {}, "pending": {}}),
        json.dumps({"version": 2, "snapshot": "../../../etc/passwd", "recent": {}, "pending": {}}),
        json.dumps({"version": 2, "snapshot": None, "recent": {"a": "e"}, "pending": {}}),
        json.dumps({"version": 2, "snapshot": None, "recent": {"a": ["e", "x", ""]}, "pending": {}}),
        json.dumps({"version": 2, "snapshot": None, "recent": {}, "pending": {"a": "e"}}),
        "[" * 100_000,
    ],
)
def test_a_broken_cursor_is_an_error_that_says_what_to_do(tmp_path: Path, cursor: str) -> None:
    with pytest.raises(CursorError, match="Reset the cursor"):
        Ledger(tmp_path, "s").load(cursor)


def test_no_cursor_is_an_empty_memory(tmp_path: Path) -> None:
    assert Ledger(tmp_path, "s").load(None) == Ledger(tmp_path, "s").load("") == SensorState()


def test_what_is_put_aside_is_found_and_what_is_damaged_is_lost(tmp_path: Path) -> None:
    book = Ledger(tmp_path, "s")
    book.put_aside("batches/x.json", {"a": ["1", 0]})
    assert book.fetch_aside("batches/x.json") == {"a": ["1", 0]}
    assert book.fetch_aside("batches/y.json") is None
    (tmp_path / "sensors/s/batches/x.json").write_text("{")
    assert book.fetch_aside("batches/x.json") is None
