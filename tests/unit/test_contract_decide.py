"""The decision of the uploads sensor, without Dagster: which files are new and whole."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from shelfwise.contract import Entry, Request, SensorState, UploadFile, decide, remembered, run_key
from shelfwise.contract.decide import MAX_ATTEMPTS

NOW = 1_000_000.0


def local(key: str = "v/a.csv", etag: str = "e1", size: int = 10, modified: float = NOW - 60) -> UploadFile:
    return UploadFile(key, etag, size, modified)


def remote(key: str = "v/a.csv", etag: str = "e1", modified: float = NOW) -> UploadFile:
    return UploadFile(key, etag, 10, modified, whole=True)


def tick(
    files: list[UploadFile],
    state: SensorState | None = None,
    now: float = NOW,
    settle: float = 5,
    history: list[Request] | None = None,
) -> tuple[list[str], SensorState, dict[str, str]]:
    decision = decide(files, state or SensorState(), now=now, settle_seconds=settle, history=history or [])
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
    made = [Request("v/a.csv", "e1", 0), Request("v/b.csv", "b1", 0), Request("v/a.csv", "e2", 1)]
    state = remembered(made)
    assert tick([remote(etag="e2"), remote("v/b.csv", "b1")], state)[0] == []
    assert tick([remote(etag="e1"), remote("v/b.csv", "b1")], state)[0] == ["v/a.csv:e1:r2"]
    assert remembered([]) == SensorState()


def test_a_run_that_the_state_does_not_know_is_learnt() -> None:
    _, state, _ = tick([remote(etag="e1")])
    lost = [Request("v/a.csv", "e1", 0), Request("v/a.csv", "e2", 1), Request("v/b.csv", "b1", 0)]
    listed = [remote(etag="e2"), remote("v/b.csv", "b1")]
    assert tick(listed, state, history=lost)[0] == []
    new, state, _ = tick([remote(etag="e1")], state, history=lost)
    assert new == ["v/a.csv:e1:r2"], "the run in between made what stands now"
    assert tick([remote(etag="e1")], state, history=lost)[0] == [], "what is known already teaches nothing"


def test_what_was_interrupted_is_requested_again_a_few_times() -> None:
    _, state, _ = tick([local()])
    new, state, _ = tick([local()], state)
    made: list[Request] = []
    while new:
        attempt = len(made) + 1
        made.append(Request("v/a.csv", "e1", state.revision("v/a.csv"), interrupted=True, attempt=attempt))
        decision = decide([local()], state, now=NOW, history=made)
        again = [run_key(file, decision.state.revision(file.key)) for file in decision.new]
        assert again == ([f"v/a.csv:e1:r{attempt}"] if attempt < MAX_ATTEMPTS else []), "at once: the file is whole"
        assert decision.attempts == ({"v/a.csv": attempt + 1} if again else {})
        new, state = again, decision.state
    assert len(made) == MAX_ATTEMPTS
    assert "not tried again" in decide([local()], state, now=NOW, history=made).reason
    assert tick([remote(etag="e2")], state, history=made)[0] == ["v/a.csv:e2:r3"], "another content is another matter"


def test_an_interruption_of_what_is_no_longer_there_asks_for_nothing() -> None:
    _, state, _ = tick([remote(etag="e1")])
    cut = [Request("v/a.csv", "e1", 0, interrupted=True)]
    assert tick([], state, history=cut)[0] == []
    new, state, _ = tick([remote(etag="e2")], state, history=cut)
    assert new == ["v/a.csv:e2:r1"]
    assert tick([remote(etag="e2")], state, history=cut)[0] == [], "only the last request of a key counts"


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
    assert decide([], SensorState({"a/b.csv": Entry("e", 1)}), now=NOW).reason == "no new or changed file among 1 known"


def test_a_mark_is_kept_while_the_content_stays() -> None:
    _, state, _ = tick([UploadFile("v/a.csv", "e1", 10, NOW, whole=True, mark="m1")])
    assert state.marks == {"v/a.csv": ("m1", "e1")}
    new, state, _ = tick([UploadFile("v/a.csv", "e1", 10, NOW, whole=True, mark="m2")], state)
    assert (new, state.marks) == ([], {"v/a.csv": ("m2", "e1")}), "touched, with the same content"
    _, state, _ = tick([UploadFile("v/a.csv", "e2", 10, NOW - 60, mark="m3")], state)
    assert state.marks == {"v/a.csv": ("m2", "e1")}, "the mark of a content that waits stands for nothing yet"


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
