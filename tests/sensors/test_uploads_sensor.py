"""The shell of the uploads sensor: what it asks Dagster for. What is new and whole is `decide`, tested on its own."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg
import pytest
from dagster._core.storage.tags import PARTITION_NAME_TAG, RUN_KEY_TAG, SENSOR_NAME_TAG
from dagster._daemon import sensor as daemon

from assets.uploads import upload_files
from orchestration import execution
from orchestration.definitions import build_definitions
from orchestration.jobs import match_upload
from orchestration.settings import Settings
from resources.lake import Lake
from resources.source import Uploads
from sensors.history import was_interrupted
from sensors.uploads import UPLOADS_SENSOR, build_uploads_sensor
from shelfwise.contract import Ledger, ListingError, SensorState

KEY = "acme/lines.csv"


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        yield made


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "data" / "uploads").mkdir(parents=True)
    return tmp_path / "data"


def put(data: Path, content: bytes = b"title\nsoap\n", key: str = KEY, age: float = 3600) -> None:
    path = data / "uploads" / key
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    os.utime(path, (time.time() - age,) * 2)


def tick(
    data: Path, instance: dg.DagsterInstance, cursor: str | None = None, settle: float = 5.0
) -> tuple[dg.SensorResult, str]:
    sensor = build_uploads_sensor(upload_files, match_upload, settle, 30)
    resources = {"uploads": Uploads(url=str(data)), "lake": Lake(root=str(lake_of(data)))}
    with dg.build_sensor_context(instance=instance, cursor=cursor, resources=resources) as context:
        result = sensor(context)
    assert isinstance(result, dg.SensorResult)
    assert result.cursor
    return result, result.cursor


def lake_of(data: Path) -> Path:
    """Beside the data directory, wherever that was moved to."""
    return data.parent / "lake"


def requests(result: dg.SensorResult) -> list[dg.RunRequest]:
    return list(result.run_requests or [])


def start(
    instance: dg.DagsterInstance, request: dg.RunRequest, status: dg.DagsterRunStatus = dg.DagsterRunStatus.SUCCESS
) -> dg.DagsterRun:
    """What is left in the instance when the daemon, or the demo, has started the run of a request."""
    tags = {SENSOR_NAME_TAG: UPLOADS_SENSOR, RUN_KEY_TAG: request.run_key, PARTITION_NAME_TAG: request.partition_key}
    return instance.create_run_for_job(_nothing, tags={**request.tags, **tags}, status=status)


@dg.job(name="match_upload")
def _nothing() -> None:
    """Stands for the job: only the run's record counts here."""


def test_a_new_file_waits_and_then_becomes_a_partition_and_a_run(data: Path, instance: dg.DagsterInstance) -> None:
    put(data)
    first, cursor = tick(data, instance)
    assert requests(first) == []
    assert not first.dynamic_partitions_requests
    assert KEY in str(getattr(first.skip_reason, "skip_message", first.skip_reason))
    second, cursor = tick(data, instance, cursor)
    (request,) = requests(second)
    etag = Ledger(lake_of(data), UPLOADS_SENSOR).load(cursor).seen[KEY]
    assert len(etag) == 64
    assert (request.run_key, request.partition_key) == (f"{KEY}:{etag}", KEY)
    assert request.tags["shelfwise/etag"] == etag
    assert request.tags["shelfwise/vendor"] == "acme"
    (partitions,) = second.dynamic_partitions_requests or []
    assert isinstance(partitions, dg.AddDynamicPartitionsRequest)
    assert (partitions.partitions_def_name, list(partitions.partition_keys)) == ("upload_files", [KEY])
    assert not second.skip_reason


def test_what_will_never_be_an_upload_is_named(data: Path, instance: dg.DagsterInstance) -> None:
    for key in ("acme/prices.xlsx", "acme/.DS_Store"):
        put(data, key=key)
    result, _ = tick(data, instance)
    reason = str(getattr(result.skip_reason, "skip_message", result.skip_reason))
    assert "acme/prices.xlsx is not an upload: not a .csv file" in reason
    assert "DS_Store" not in reason


def test_a_file_that_was_changed_just_now_waits_longer(data: Path, instance: dg.DagsterInstance) -> None:
    put(data, age=0)
    _, cursor = tick(data, instance, settle=600)
    result, cursor = tick(data, instance, cursor, settle=600)
    assert requests(result) == []
    put(data, b"title\nsoap\nmore\n")
    result, cursor = tick(data, instance, cursor, settle=600)
    assert requests(result) == [], "it grew: one more look"
    assert len(requests(tick(data, instance, cursor, settle=600)[0])) == 1


def test_a_content_runs_once_and_a_changed_one_again(data: Path, instance: dg.DagsterInstance) -> None:
    put(data, b"title\na\n")
    result, cursor = tick(data, instance, settle=0)
    (first,) = requests(result)
    for _ in range(3):
        os.utime(data / "uploads" / KEY)
        result, cursor = tick(data, instance, cursor, settle=0)
        assert requests(result) == []
        assert not result.dynamic_partitions_requests
    put(data, b"title\nb\n")
    result, cursor = tick(data, instance, cursor, settle=0)
    (second,) = requests(result)
    put(data, b"title\na\n")
    result, cursor = tick(data, instance, cursor, settle=0)
    (third,) = requests(result)
    assert third.tags["shelfwise/etag"] == first.tags["shelfwise/etag"] != second.tags["shelfwise/etag"]
    assert len({first.run_key, second.run_key, third.run_key}) == 3, "Dagster starts nothing under a known run key"


def test_two_files_of_one_moment_both_run(data: Path, instance: dg.DagsterInstance) -> None:
    put(data, key="acme/a.csv")
    put(data, key="zeta/a.csv")
    result, _ = tick(data, instance, settle=0)
    assert [r.partition_key for r in requests(result)] == ["acme/a.csv", "zeta/a.csv"]
    assert len({r.run_key for r in requests(result)}) == 2, "the same content under another key is another upload"


def test_a_listing_that_fails_is_a_failed_tick(
    data: Path, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(data)
    _, cursor = tick(data, instance, settle=0)
    (data / "uploads").rename(data / "elsewhere")
    result, _ = tick(data, instance, cursor, settle=0)
    assert requests(result) == [], "a data directory without the folder has no uploads"
    with pytest.raises(ListingError, match="there is no data directory"):
        tick(data / "gone", instance, cursor, settle=0)

    def refuse(*_: object) -> None:
        raise OSError(5, "Input/output error")

    (data / "elsewhere").rename(data / "uploads")
    with monkeypatch.context() as broken:
        broken.setattr("shelfwise.contract.store._scan", refuse)
        with pytest.raises(ListingError, match="Input/output error"):
            tick(data, instance, cursor, settle=0)
    # Dagster keeps the old cursor after a failed tick: nothing was forgotten, nothing runs twice.
    assert requests(tick(data, instance, cursor, settle=0)[0]) == []


def test_a_broken_cursor_is_a_failed_tick(data: Path, instance: dg.DagsterInstance) -> None:
    with pytest.raises(ValueError, match="Reset the cursor"):
        tick(data, instance, "17")


def test_after_a_reset_the_runs_are_the_memory(data: Path, instance: dg.DagsterInstance) -> None:
    put(data, b"title\na\n")
    put(data, key="acme/other.csv")
    result, cursor = tick(data, instance, settle=0)
    for request in requests(result):
        start(instance, request)
    put(data, b"title\nb\n")
    (request,) = requests(tick(data, instance, cursor, settle=0)[0])
    start(instance, request)
    result, cursor = tick(data, instance, None, settle=0)
    assert requests(result) == [], "everything was matched before"
    put(data, b"title\na\n")
    (request,) = requests(tick(data, instance, None, settle=0)[0])
    assert request.run_key.endswith(":r2"), "the older content is back: neither of its two keys is free"


def test_without_a_cursor_only_what_was_interrupted_runs_again(data: Path, instance: dg.DagsterInstance) -> None:
    for name in ("canceled", "dead", "bad", "good", "busy"):
        put(data, key=f"acme/{name}.csv")
    by_key = {r.partition_key: r for r in requests(tick(data, instance, settle=0)[0])}
    start(instance, by_key["acme/good.csv"])
    start(instance, by_key["acme/busy.csv"], dg.DagsterRunStatus.STARTED)
    start(instance, by_key["acme/canceled.csv"], dg.DagsterRunStatus.CANCELED)
    dead = start(instance, by_key["acme/dead.csv"], dg.DagsterRunStatus.STARTED)
    instance.report_run_failed(dead, "the process was killed")
    bad = _failed_run(instance, by_key["acme/bad.csv"])
    assert was_interrupted(instance, instance.get_run_by_id(dead.run_id))
    assert not was_interrupted(instance, instance.get_run_by_id(bad))
    again = requests(tick(data, instance, settle=0)[0])
    assert [r.partition_key for r in again] == ["acme/canceled.csv", "acme/dead.csv"]
    assert all(r.run_key.endswith(":r1") for r in again)


def _failed_run(instance: dg.DagsterInstance, request: dg.RunRequest) -> str:
    @dg.op
    def refuse() -> None:
        raise dg.Failure("set aside", allow_retries=False)

    @dg.job(name="match_upload")
    def failing() -> None:
        refuse()

    tags = {SENSOR_NAME_TAG: UPLOADS_SENSOR, RUN_KEY_TAG: request.run_key, PARTITION_NAME_TAG: request.partition_key}
    return failing.execute_in_process(instance=instance, tags={**request.tags, **tags}, raise_on_error=False).run_id


def test_the_demo_skips_what_the_daemon_would_skip(
    data: Path, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(data, key="acme/known.csv")
    put(data, key="acme/new.csv")
    known, new = requests(tick(data, instance, settle=0)[0])
    settings = Settings(data=str(data), lake=str(lake_of(data)), upload_settle_seconds=0)
    ran: list[dict[str, str]] = []

    def run_job(job: object, where: dg.DagsterInstance, tags: dict[str, str], say: object) -> execution.RunOutcome:
        ran.append(tags)
        return execution.RunOutcome(True, "id")

    monkeypatch.setattr(execution, "load_settings", lambda: settings)
    monkeypatch.setattr(execution, "run_job", run_job)
    # The state before the run was made, as after a crash between starting a run and keeping the cursor.
    empty = Ledger(lake_of(data), UPLOADS_SENSOR).save(SensorState())
    start(instance, known)
    cursor, outcomes, reason = execution.tick_uploads_sensor(instance, empty, say=lambda text: None)
    assert [tags[PARTITION_NAME_TAG] for tags in ran] == ["acme/new.csv"]
    assert len(outcomes) == 1
    assert reason is None, "the run that is there is the memory: it was not asked for again"
    assert ran[0][RUN_KEY_TAG] == new.run_key
    assert ran[0]["shelfwise/etag"] == new.tags["shelfwise/etag"]
    sensor: Any = SimpleNamespace(name=UPLOADS_SENSOR)
    assert set(daemon.fetch_existing_runs(instance, sensor, [known, new])) == {known.run_key}
    assert instance.has_dynamic_partition("upload_files", "acme/new.csv")
    assert execution.tick_uploads_sensor(instance, cursor, say=lambda text: None)[1] == []


def test_the_sensor_of_the_project_starts_match_upload_and_runs_by_default(tmp_path: Path) -> None:
    settings = Settings(data=str(tmp_path), lake=str(tmp_path / "lake"), upload_settle_seconds=0)
    repository = build_definitions(settings).get_repository_def()
    sensor = repository.get_sensor_def(UPLOADS_SENSOR)
    assert sensor.default_status == dg.DefaultSensorStatus.RUNNING
    assert [target.job_name for target in sensor.targets] == ["match_upload"]
    assert sensor.minimum_interval_seconds == settings.upload_interval_seconds
    job = repository.get_job("match_upload")
    assert {key.to_user_string() for key in job.asset_layer.executable_asset_keys} == {
        "uploads/upload_lines",
        "uploads/upload_matches",
    }
