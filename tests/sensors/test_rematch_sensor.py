"""A new champion looks again at what still waits: each upload once per champion, whatever was killed in between."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
import pytest
from dagster._core.storage.tags import RUN_KEY_TAG
from hypothesis import given
from hypothesis import strategies as st

from orchestration.definitions import build_definitions
from orchestration.jobs import INDEX_MAKERS, follow_champion, rematch_review
from orchestration.settings import Settings
from resources.lake import Lake
from resources.registry import ModelRegistry
from sensors.rematch import AT_ONCE, FEEDBACK, INDEX, QUEUE, REMATCH_SENSOR, build_rematch_sensor
from shelfwise.artifacts import atomic_write_json
from shelfwise.registry import ModelVersion
from shelfwise.rematch import next_batch, waiting_uploads

MODEL = "title_matcher"


class World:
    """A lake with a registry, an index and a review queue, and the sensor's cursor."""

    def __init__(self, root: Path, instance: dg.DagsterInstance) -> None:
        self.lake, self.registry = Lake(root=str(root)), ModelRegistry(root=str(root))
        self.instance, self.cursor = instance, None
        self.versions = self.registry.open()

    def promote(self, name: str) -> ModelVersion:
        version = self.versions.register(MODEL, f"/artifacts/{name}", name * 16)
        self.versions.promote(version)
        return version

    def index_of(self, version: ModelVersion) -> None:
        path = self.lake.table_path(INDEX).with_suffix(".json")
        atomic_write_json(path, {"id": "x", "location": "/index", "champion_id": version.artifact_id})

    def queue(self, *lines: tuple[str, str], reason: str = "review") -> None:
        """Lines that wait: upload and champion."""
        rows = [(*key.split("/", 1), f"line {n}", label, reason) for n, (key, label) in enumerate(lines)]
        columns = ["vendor_id", "file", "title", "champion_version", "reason"]
        self._write(QUEUE, pd.DataFrame(rows, columns=columns))
        self.instance.add_dynamic_partitions("upload_files", sorted({key for key, _ in lines}))

    def answer(self, vendor: str, title: str) -> None:
        self._write(FEEDBACK, pd.DataFrame([{"vendor_id": vendor, "vendor_title": title}]))

    def _write(self, key: dg.AssetKey, frame: pd.DataFrame) -> None:
        path = self.lake.table_path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        frame.to_parquet(path)

    def tick(self) -> dg.SensorResult:
        sensor = build_rematch_sensor(rematch_review, follow_champion, INDEX_MAKERS)
        with dg.build_sensor_context(
            instance=self.instance,
            cursor=self.cursor,
            resources={"lake": self.lake, "registry": self.registry},
            definitions=DEFINITIONS,
        ) as context:
            result: Any = sensor(context)
        self.cursor = result.cursor
        return result

    def requested(self) -> list[str | None]:
        return [request.partition_key for request in self.tick().run_requests or []]


DEFINITIONS = build_definitions(Settings())


@pytest.fixture
def world(tmp_path: Path, instance: dg.DagsterInstance) -> World:
    return World(tmp_path, instance)


def test_what_waits_is_matched_again_by_the_new_champion_only(world: World) -> None:
    first = world.promote("a")
    world.index_of(first)
    world.queue(("acme/x.csv", first.label), ("zeta/y.csv", first.label), ("zeta/y.csv", first.label))
    assert world.requested() == []
    second = world.promote("b")
    world.index_of(second)
    assert world.requested() == ["acme/x.csv", "zeta/y.csv"]
    world.queue(("acme/x.csv", second.label))
    assert world.requested() == []


def test_the_same_request_has_the_same_run_key_until_the_champion_moves_again(world: World) -> None:
    first, second = world.promote("a"), world.promote("b")
    world.index_of(second)
    world.queue(("acme/x.csv", first.label))
    (one,) = world.tick().run_requests
    (again,) = world.tick().run_requests
    assert one.run_key == again.run_key
    assert one.tags["shelfwise/champion"] == second.label
    back = world.versions.rollback(MODEL, "test")
    world.index_of(back)
    world.queue(("acme/x.csv", second.label))
    (rolled,) = world.tick().run_requests
    third = world.versions.rollback(MODEL, "and back")
    assert third.label == second.label
    world.index_of(third)
    world.queue(("acme/x.csv", first.label))
    (last,) = world.tick().run_requests
    assert len({one.run_key, rolled.run_key, last.run_key}) == 3, "a champion that comes back starts over"


def test_answered_and_audited_lines_do_not_wait(world: World) -> None:
    first, second = world.promote("a"), world.promote("b")
    world.index_of(second)
    world.queue(("acme/x.csv", first.label), ("zeta/y.csv", first.label))
    world.answer("acme", "line 0")
    assert world.requested() == ["zeta/y.csv"]
    world.queue(("zeta/y.csv", first.label), reason="audit")
    assert world.requested() == []


def test_nothing_is_matched_while_the_index_is_anothers(world: World) -> None:
    first = world.promote("a")
    world.index_of(first)
    world.queue(("acme/x.csv", first.label))
    second = world.promote("b")
    result = world.tick()
    assert result.run_requests == []
    assert "the catalog's index is not that of champion" in str(result.skip_reason)
    world.index_of(second)
    assert world.requested() == ["acme/x.csv"]


def test_an_index_that_nobody_makes_is_made_after_a_second_look(world: World) -> None:
    world.index_of(world.promote("a"))
    world.promote("b")
    assert world.tick().run_requests == [], "the conditions come first"
    (request,) = world.tick().run_requests
    assert request.job_name == "follow_champion"


def test_an_index_that_is_being_made_is_waited_for(world: World) -> None:
    @dg.job(name="train_and_promote")
    def training() -> None:
        pass

    world.promote("a")
    run = world.instance.create_run_for_job(training, status=dg.DagsterRunStatus.STARTED)
    assert [world.tick().run_requests, world.tick().run_requests] == [[], []]
    world.instance.report_run_failed(run)
    assert [one.job_name for one in world.tick().run_requests] == ["follow_champion"]


def test_an_index_that_cannot_be_made_is_given_up(world: World) -> None:
    @dg.job(name="follow_champion")
    def failing() -> None:
        pass

    world.promote("a")
    world.tick()
    keys = []
    for _ in range(3):
        (request,) = world.tick().run_requests
        keys.append(request.run_key)
        tags = {**request.tags, RUN_KEY_TAG: request.run_key}
        world.instance.create_run_for_job(failing, tags=tags, status=dg.DagsterRunStatus.FAILURE)
    assert len(set(keys)) == 3
    result = world.tick()
    assert result.run_requests == []
    assert "3 run(s) to make it failed" in str(result.skip_reason)


def test_without_a_champion_a_queue_or_a_readable_cursor_it_goes_on(world: World) -> None:
    assert "no champion" in str(world.tick().skip_reason)
    world.index_of(world.promote("a"))
    assert world.requested() == []
    world.cursor = "[17"
    assert world.requested() == []


def test_an_upload_whose_partition_was_deleted_is_left_alone(world: World) -> None:
    first, second = world.promote("a"), world.promote("b")
    world.index_of(second)
    world.queue(("acme/x.csv", first.label), ("zeta/y.csv", first.label))
    world.instance.delete_dynamic_partition("upload_files", "acme/x.csv")
    assert world.requested() == ["zeta/y.csv"]


def test_a_thousand_uploads_come_in_batches_and_those_that_fail_hold_up_no_other(world: World) -> None:
    first, second = world.promote("a"), world.promote("b")
    world.index_of(second)
    keys = [f"v{number:04d}/f.csv" for number in range(250)]
    world.queue(*((key, first.label) for key in keys))
    asked = [world.requested() for _ in range(3)]
    assert [len(batch) for batch in asked] == [AT_ONCE, AT_ONCE, 50]
    assert [key for batch in asked for key in batch] == keys
    assert world.requested() == keys[:AT_ONCE], "from the beginning again; run keys know what was started"
    assert len(world.cursor) < 300


KEYS = st.lists(st.text("abc/", min_size=1, max_size=4), unique=True, max_size=12)


@given(KEYS, st.integers(1, 5))
def test_batches_reach_every_key(keys: list[str], limit: int) -> None:
    after, reached = "", []
    for _ in range(len(keys) + 1):
        batch, after = next_batch(keys, after, limit)
        assert len(batch) <= limit
        reached += batch
        if not after:
            break
    assert reached == sorted(keys)


def test_a_queue_from_before_the_audit_is_read_too() -> None:
    queue = pd.DataFrame({"vendor_id": ["a"], "file": ["b/c.csv"], "title": ["x"], "champion_version": ["v1"]})
    nobody = pd.DataFrame(columns=["vendor_id", "vendor_title"])
    assert waiting_uploads(queue, nobody, "v2") == ["a/b/c.csv"]
    assert waiting_uploads(queue, nobody, "v1") == []


def test_the_sensor_of_the_project_runs_by_default_and_starts_both_jobs() -> None:
    sensor = DEFINITIONS.get_repository_def().get_sensor_def(REMATCH_SENSOR)
    assert sensor.default_status == dg.DefaultSensorStatus.RUNNING
    assert {target.job_name for target in sensor.targets} == {"rematch_review", "follow_champion"}
