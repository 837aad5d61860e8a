"""An object store behind a bad network: errors, silence, no access, nobody there. Nothing is lost or doubled."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import boto3
import fsspec.config
import pytest
import s3fs

from shelfwise import artifacts
from shelfwise.artifacts import exists, fetch, publish
from shelfwise.contract import ListingError, UploadStore, read_table
from shelfwise.contract.decide import SensorState, decide
from shelfwise.errors import InputError
from shelfwise.feedback import read_feedback, record_feedback
from tests.flaky import Flaky
from tests.s3 import point_at, remove


@pytest.fixture
def network(s3_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Flaky]:
    """A bucket `shop` behind a proxy; the client's patience is cut to what a test can wait for."""
    proxy = Flaky(s3_url, seed=7)
    shorter = {**artifacts._client, "read_timeout": 0.15}
    monkeypatch.setitem(fsspec.config.conf, "s3", {"config_kwargs": shorter})
    monkeypatch.setattr(s3fs.core.asyncio, "sleep", _at_once)
    point_at(proxy.url, monkeypatch)
    proxy.client = boto3.client("s3", endpoint_url=s3_url)
    proxy.client.create_bucket(Bucket="shop")
    yield proxy
    proxy.trouble = ""
    proxy.stop()
    remove(proxy.client, "shop")


async def _at_once(_seconds: float) -> None:
    """Waiting between two tries shows nothing here."""


def put(network: Flaky, key: str, data: bytes = b"title\na\n") -> None:
    network.client.put_object(Bucket="shop", Key=key, Body=data)


def test_a_request_is_given_up_within_minutes_unless_somebody_chose_otherwise() -> None:
    chosen = fsspec.config.conf["s3"]["config_kwargs"]
    tries = chosen["retries"]["total_max_attempts"]
    assert tries * s3fs.S3FileSystem.retries * max(chosen["read_timeout"], chosen["connect_timeout"]) <= 600
    assert 0.5**tries < 0.005, "of two hundred requests, half of whose tries fail, nearly all succeed in the end"


@pytest.mark.parametrize("trouble", ["errors", "late errors"])
def test_errors_half_the_time_change_nothing(network: Flaky, tmp_path: Path, trouble: str) -> None:
    put(network, "d/products.csv", b"product_id,title\n1,a\n")
    for vendor in ("acme", "zeta"):
        put(network, f"d/uploads/{vendor}/lines.csv")
    (tmp_path / "weights.bin").write_bytes(b"\1" * 1000)
    network.trouble = trouble
    uploads = UploadStore("s3://shop/d")
    assert [file.key for file in uploads.list()] == ["acme/lines.csv", "zeta/lines.csv"]
    assert uploads.read("zeta/lines.csv") == b"title\na\n"
    assert read_table("s3://shop/d", "products").frame["title"].tolist() == ["a"]
    place = publish(tmp_path, "s3://shop/lake/models/abc")
    assert (fetch(place, tmp_path / "cache") / "weights.bin").read_bytes() == b"\1" * 1000
    ids = {record_feedback("s3://shop/lake/feedback", vendor_id="v", vendor_title=t, product_id="1") for t in "abc"}
    answers = read_feedback("s3://shop/lake/feedback")
    assert len(answers) == 3, "an answer that was written twice is one"
    assert set(answers["feedback_id"]) == ids


@pytest.mark.parametrize("trouble", ["hang", "denied", "nobody there"])
def test_a_store_that_is_away_reads_as_an_error_and_never_as_empty(network: Flaky, trouble: str) -> None:
    put(network, "d/uploads/acme/lines.csv")
    uploads = UploadStore("s3://shop/d")
    known = decide(uploads.list(), SensorState(), now=time.time()).state
    if trouble == "nobody there":
        network.stop()
    network.trouble = trouble
    began = time.monotonic()
    with pytest.raises(ListingError, match="cannot list s3://shop/d/uploads"):
        uploads.list()
    with pytest.raises((ListingError, InputError, OSError)):
        read_table("s3://shop/d", "products")
    assert time.monotonic() - began < 60, "it gives up"
    if trouble != "nobody there":
        network.trouble = ""
        assert decide(uploads.list(), known, now=time.time()).new == [], "what was seen is still known"


def test_an_artifact_whose_upload_was_cut_short_is_published_by_the_next_try(network: Flaky, tmp_path: Path) -> None:
    for number in range(5):
        (tmp_path / f"part{number}.bin").write_bytes(bytes([number]) * 100)
    place = "s3://shop/lake/models/abc"
    network.trouble = "hang"
    with pytest.raises(Exception, match=r"(?i)time"):
        publish(tmp_path, place)
    network.trouble = ""
    assert not exists(place)
    publish(tmp_path, place)
    local = fetch(place, tmp_path / "cache")
    assert [(local / f"part{number}.bin").read_bytes()[0] for number in range(5)] == list(range(5))


def test_files_of_one_second_and_other_contents_under_one_name_are_each_seen_once(network: Flaky) -> None:
    keys = [f"d/uploads/acme/{number}.csv" for number in range(5)]
    state, seen = SensorState(), []
    for look in range(7):  # S3 keeps times to the second: all of this happens in one or two
        for key in keys[: look + 1]:
            put(network, key, b"title\na\n" if look < 5 else b"title\nb\n")
        decision = decide(UploadStore("s3://shop/d").list(), state, now=time.time())
        seen += [(file.key, file.etag) for file in decision.new]
        state = decision.state
    assert len(seen) == len(set(seen)) == 10, "five files, each in two contents"
