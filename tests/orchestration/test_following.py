"""The real code location, ticked: an upload to its matches, a new champion to its index and to what is in review, and a
rollback to all of it again. A champion is a version of the registry here; how it is trained is tested elsewhere.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pandas as pd
import pytest

from orchestration.daemon import Daemon
from orchestration.definitions import assemble
from orchestration.rollback import roll_back
from orchestration.settings import Settings
from sensors.rematch import REMATCH_SENSOR
from sensors.uploads import UPLOADS_SENSOR
from shelfwise.artifacts import content_id, publish
from shelfwise.registry import ModelVersion, Registry
from tests.conftest import Shop

pytestmark = pytest.mark.slow
KEY, OTHER, BAD = "acme/lines.csv", "zeta/lines.csv", "acme/not really.csv"


class Place:
    """A small shop with a champion, and the daemon of its code location."""

    def __init__(self, shop: Shop, instance: dg.DagsterInstance) -> None:
        self.shop, self.instance = shop, instance
        # Every line is doubted, so that every upload waits in review.
        settings = Settings(
            data=str(shop.data), lake=str(shop.lake), upload_settle_seconds=0, policy="fixed", approve=1.0, review=0.0
        )
        self.daemon = Daemon(instance, assemble(settings))
        self.registry = Registry(shop.lake / "registry")

    def champion_of(self, key: str) -> set[str]:
        return set(pd.read_parquet(self.shop.table("uploads", "upload_matches", key))["champion_version"])

    def index(self) -> dict[str, str]:
        return json.loads((self.shop.lake / "tables" / "matching" / "catalog_index.json").read_text())

    def register_another(self) -> ModelVersion:
        """A second version: the same matcher under another id."""
        former, name = self.registry.champion("title_matcher"), content_id("another matcher")
        copy = self.shop.lake / "copy"
        shutil.copytree(former.artifact, copy, ignore=shutil.ignore_patterns("manifest.json"))
        place = publish(copy, self.shop.lake / "artifacts" / "title_matcher" / name)
        return self.registry.register("title_matcher", place, name, {}, former.lineage)

    def promote(self, version: ModelVersion) -> None:
        """What the asset does: the alias moves, and the champion is materialized."""
        self.registry.promote(version)
        self.instance.report_runless_asset_event(dg.AssetMaterialization(dg.AssetKey(["matching", "champion"])))

    def upload(self, key: str) -> None:
        titles = self.shop.products["title"].head(6)
        self.shop.upload(key, ("title\n" + "\n".join(titles.str.replace(",", " ")) + "\n").encode())

    def made(self, tick: object) -> list[str]:
        """Which assets the runs of a tick have made, in order."""
        return [name for outcome in tick.outcomes for name in outcome.metadata]


@pytest.fixture
def place(shop: Shop, tmp_path: Path) -> Iterator[Place]:
    (tmp_path / "home").mkdir()
    with dg.DagsterInstance.local_temp(str(tmp_path / "home")) as instance:
        made = Place(shop, instance)
        made.daemon.follow()
        yield made


def test_from_an_upload_to_a_new_champion_and_back(place: Place) -> None:
    daemon, first = place.daemon, place.registry.champion("title_matcher")
    place.upload(KEY)
    place.shop.upload(BAD, b"PK\x03\x04" + b"\0" * 60)
    place.upload(OTHER)
    matched = daemon.tick_sensor(UPLOADS_SENSOR)
    assert sorted(outcome.success for outcome in matched.outcomes) == [False, True, True], "one bad upload is one"
    followed = place.made(daemon.follow(REMATCH_SENSOR))
    assert followed.count("uploads/review_queue") == 1
    assert followed.count("monitoring/upload_drift") == 2
    assert place.champion_of(KEY) == place.champion_of(OTHER) == {first.label}

    second = place.register_another()
    place.promote(second)
    made = place.made(daemon.follow(REMATCH_SENSOR))
    assert made.count("matching/catalog_index") == 1
    assert place.index()["champion_id"] == second.artifact_id
    assert made.count("uploads/upload_matches") == 2, "each upload once, and not the one that could not be read"
    assert place.champion_of(KEY) == place.champion_of(OTHER) == {second.label}
    assert daemon.follow(UPLOADS_SENSOR, REMATCH_SENSOR).outcomes == []

    said: list[str] = []
    assert roll_back(daemon, place.registry, "worse on Mondays", said.append) == 0, said
    assert place.registry.champion("title_matcher") == first
    assert place.index()["champion_id"] == first.artifact_id
    assert place.champion_of(KEY) == {first.label}
    queue = pd.read_parquet(place.shop.table("uploads", "review_queue"))
    assert set(queue["champion_version"]) == {first.label}
    assert said == [
        f"{first.label} is champion again; {second.label} is the previous one",
        "The catalog's index is its own again",
        "2 of 2 uploads in review were matched again",
    ]
    event = place.instance.get_latest_materialization_event(dg.AssetKey(["matching", "champion"]))
    assert event.asset_materialization.metadata["reason"].value == "worse on Mondays"


def test_a_rollback_by_the_job_alone_is_followed_by_the_rest(place: Place) -> None:
    first, daemon = place.registry.champion("title_matcher"), place.daemon
    place.promote(place.register_another())
    daemon.follow(REMATCH_SENSOR)
    config = {"ops": {"roll_back": {"config": {"reason": "by hand"}}}}
    assert daemon.run("rollback_champion", config=config).success
    assert place.made(daemon.follow(REMATCH_SENSOR)).count("matching/catalog_index") == 1
    assert place.index()["champion_id"] == first.artifact_id


def test_a_rollback_that_was_killed_half_way_is_finished_by_the_sensor(place: Place) -> None:
    first, daemon = place.registry.champion("title_matcher"), place.daemon
    place.promote(place.register_another())
    daemon.follow(REMATCH_SENSOR)
    place.registry.rollback("title_matcher", "and then the process died")
    assert daemon.tick_sensor(REMATCH_SENSOR).outcomes == []
    (outcome,) = daemon.tick_sensor(REMATCH_SENSOR).outcomes
    assert outcome.success
    assert place.index()["champion_id"] == first.artifact_id


def test_a_rollback_without_a_previous_champion_says_so_and_changes_nothing(place: Place) -> None:
    said: list[str] = []
    assert roll_back(place.daemon, place.registry, "no reason", said.append) == 1
    assert "no previous champion" in said[0]


def test_a_run_that_is_started_twice_does_not_swap_them_back(place: Place) -> None:
    first, second = place.registry.champion("title_matcher"), place.register_another()
    place.promote(second)
    config = {"ops": {"roll_back": {"config": {"reason": "twice", "champion": second.version}}}}
    assert place.daemon.run("rollback_champion", config=config).success
    again = place.daemon.run("rollback_champion", config=config)
    assert not again.success
    assert "nothing was rolled back" in again.failures[0]
    assert place.registry.champion("title_matcher") == first


def test_a_failed_upload_is_remembered_until_a_good_one_comes(place: Place) -> None:
    daemon = place.daemon
    place.upload(KEY)
    place.shop.upload(BAD, b"PK\x03\x04" + b"\0" * 60)
    daemon.tick_sensor(UPLOADS_SENSOR)
    daemon.follow()
    assert _standing(place) == (False, ["acme/not really.csv"])
    place.upload(BAD)
    daemon.tick_sensor(UPLOADS_SENSOR)
    assert daemon.run("check_uploads").success
    assert _standing(place) == (True, [])


def _standing(place: Place) -> tuple[bool, list[str]]:
    key = dg.AssetCheckKey(dg.AssetKey(["uploads", "review_queue"]), "no_failed_uploads")
    (record,) = place.instance.event_log_storage.get_asset_check_execution_history(key, limit=1)
    evaluation = record.event.dagster_event.asset_check_evaluation_data
    rows = evaluation.metadata["uploads"].value.splitlines()[2:]
    return evaluation.passed, [row.split("|")[1].strip() for row in rows]
