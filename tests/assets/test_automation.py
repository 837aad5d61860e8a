"""What follows by itself: the review queue follows every matched upload, whatever became of the others."""

from __future__ import annotations

import inspect

import dagster as dg
import pytest

from assets.uploads import upload_files
from orchestration.automation import FOLLOWS
from orchestration.definitions import build_definitions
from orchestration.settings import Settings

QUEUE = dg.AssetKey(["uploads", "review_queue"])
MATCHES = dg.AssetKey(["uploads", "upload_matches"])
DEFINITIONS = build_definitions(Settings())


class Daemon:
    """Evaluates the automation conditions tick by tick, as the daemon does."""

    def __init__(self, instance: dg.DagsterInstance, definitions=DEFINITIONS) -> None:
        self.instance, self.definitions, self.cursor = instance, definitions, None

    def tick(self) -> int:
        """Evaluate once; return how often the review queue was requested. A requested queue is made at once."""
        result = dg.evaluate_automation_conditions(self.definitions, self.instance, cursor=self.cursor)
        self.cursor = result.cursor
        requested = result.get_num_requested(QUEUE)
        assert result.total_requested == requested, "nothing else follows by itself"
        if requested:
            self.instance.report_runless_asset_event(dg.AssetMaterialization(QUEUE))
        return requested

    def match(self, key: str) -> None:
        self.instance.report_runless_asset_event(dg.AssetMaterialization(MATCHES, partition=key))


@pytest.fixture
def daemon(instance: dg.DagsterInstance) -> Daemon:
    instance.add_dynamic_partitions("upload_files", ["acme/good.csv", "acme/bad.csv"])
    made = Daemon(instance)
    made.tick()
    assert made.tick() == 0, "nothing happened"
    return made


def test_the_queue_follows_each_matched_upload_once(daemon: Daemon) -> None:
    daemon.match("acme/good.csv")
    assert [daemon.tick(), daemon.tick(), daemon.tick()] == [1, 0, 0]
    daemon.match("acme/good.csv")
    assert [daemon.tick(), daemon.tick()] == [1, 0]


def test_uploads_of_one_moment_are_one_request(daemon: Daemon) -> None:
    daemon.instance.add_dynamic_partitions("upload_files", ["zeta/more.csv"])
    daemon.match("acme/good.csv")
    daemon.match("zeta/more.csv")
    assert [daemon.tick(), daemon.tick()] == [1, 0]


def test_an_upload_that_was_never_matched_freezes_nothing(daemon: Daemon) -> None:
    for number in range(3):
        daemon.instance.add_dynamic_partitions("upload_files", [f"acme/bad{number}.csv"])
        assert daemon.tick() == 0, "a new partition alone is no reason"
        daemon.match("acme/good.csv")
        assert daemon.tick() == 1


def test_an_upload_that_failed_freezes_nothing(daemon: Daemon) -> None:
    @dg.asset(key=MATCHES, partitions_def=upload_files)
    def failing() -> None:
        raise dg.Failure("set aside", allow_retries=False)

    run = dg.materialize([failing], partition_key="acme/bad.csv", instance=daemon.instance, raise_on_error=False)
    assert not run.success
    assert daemon.tick() == 0
    daemon.match("acme/good.csv")
    assert daemon.tick() == 1


def test_the_plain_condition_would_freeze_which_is_why_it_is_not_used(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(FOLLOWS, QUEUE, dg.AutomationCondition.eager())
    # Unwrapped: definitions are built once per settings, and these are others.
    plain = Daemon(daemon.instance, inspect.unwrap(build_definitions)(Settings()))
    plain.tick()
    plain.match("acme/good.csv")
    assert plain.tick() == 0


def test_every_key_that_follows_exists() -> None:
    graph = DEFINITIONS.resolve_asset_graph()
    conditioned = {key for key in graph.get_all_asset_keys() if graph.get(key).automation_condition is not None}
    assert conditioned == set(FOLLOWS) == {QUEUE}


def test_a_sensor_evaluates_the_conditions_by_default() -> None:
    sensor = DEFINITIONS.get_repository_def().get_sensor_def("automation")
    assert sensor.default_status == dg.DefaultSensorStatus.RUNNING
