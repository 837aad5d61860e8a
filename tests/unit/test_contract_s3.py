"""The data contract on S3, against a server of its own on the loopback interface."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import s3fs
from moto.core import DEFAULT_ACCOUNT_ID
from moto.s3.models import s3_backends
from upath import UPath

from shelfwise.artifacts import atomic_create_json, exists, fetch, publish
from shelfwise.contract import (
    CursorError,
    Entry,
    Ledger,
    ListingError,
    SensorState,
    UploadStore,
    fingerprint,
    list_rejected,
    read_table,
    set_aside,
    storage,
)
from shelfwise.contract import ledger as ledger_module
from shelfwise.errors import InputError, Problem
from shelfwise.feedback import read_feedback, read_inbox, record_feedback
from tests.s3 import point_at, remove


@pytest.fixture
def s3(s3_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    client = point_at(s3_url, monkeypatch, "shop")
    yield client
    remove(client, "shop")


def put(client: object, key: str, data: bytes = b"title\na\n") -> str:
    return client.put_object(Bucket="shop", Key=key, Body=data)["ETag"].strip('"')  # type: ignore[attr-defined]


def test_tables_are_read_as_from_a_local_directory(s3: object, tmp_path: Path) -> None:
    data = b"product_id,title,price\n1,a,2.5\n"
    etag = put(s3, "catalog/products.csv", data)
    (tmp_path / "products.csv").write_bytes(data)
    there, here = read_table("s3://shop/catalog", "products"), read_table(tmp_path, "products")
    assert there.frame.equals(here.frame)
    assert (there.sha256, there.version) == (here.sha256, here.version)
    assert there.source == "s3://shop/catalog/products.csv"
    assert fingerprint("s3://shop/catalog") == {"products.csv": etag}
    assert not read_table("s3://shop/catalog", "mappings").present


def test_a_new_version_is_seen_by_the_same_process(s3: object) -> None:
    put(s3, "catalog/products.csv", b"product_id,title\n1,a\n")
    first = fingerprint("s3://shop/catalog")
    put(s3, "catalog/products.csv", b"product_id,title\n1,b\n")
    put(s3, "catalog/mappings.csv", b"vendor_id,vendor_title,product_id\n")
    second = fingerprint("s3://shop/catalog")
    assert set(second) == {"products.csv", "mappings.csv"}
    assert second["products.csv"] != first["products.csv"]
    assert read_table("s3://shop/catalog", "products").frame["title"].tolist() == ["b"]


def test_missing_tables_prefixes_and_buckets_are_named(s3: object) -> None:
    put(s3, "catalog/items.txt")
    for root, part in {
        "s3://shop/catalog": "found the files items.txt",
        "s3://shop/nowhere": "expected a data directory",
        "s3://no-such-bucket/x": "expected a data directory",
    }.items():
        with pytest.raises(InputError) as caught:
            read_table(root, "products")
        assert part in str(caught.value)
        assert root in str(caught.value)


def test_more_uploads_than_one_page_holds(s3: object) -> None:
    backend = s3_backends[DEFAULT_ACCOUNT_ID]["aws"]  # behind the server's back: a thousand requests take long
    for number in range(1_005):
        backend.put_object("shop", f"d/uploads/v{number % 7}/f{number:04}.csv", b"")
    files = UploadStore("s3://shop/d").list()
    assert len({file.key for file in files}) == len(files) == 1_005
    assert all(file.whole for file in files)


@pytest.mark.parametrize("gone", [0, 1_500])
def test_pages_that_are_asked_for_at_once_hold_the_same(s3: object, gone: int, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = s3_backends[DEFAULT_ACCOUNT_ID]["aws"]
    keys = [f"v{number % 7}/f{number:04}-ä.csv" for number in range(2_200)]
    for key in keys[gone:]:
        backend.put_object("shop", f"d/uploads/{key}", b"")
    backend.put_object("shop", "d/uploads-old/v/x.csv", b"")
    for known in (keys[:2_000], keys[:901], ["a", "zz", *keys[1:1_200:3], *(f"zzz{n}" for n in range(1_000))]):
        found = UploadStore("s3://shop/d").listing(dict.fromkeys(known, ("", "etag")))
        assert found == UploadStore("s3://shop/d").listing()
        assert sorted(file.key for file in found.files) == sorted(keys[gone:])
    monkeypatch.setattr(storage, "_RANGE", 3)  # nothing is left out at the seams, wherever they are
    found = UploadStore("s3://shop/d").listing(dict.fromkeys(keys[-40:], ("", "etag")))
    assert sorted(file.key for file in found.files) == sorted(keys[gone:])


def test_a_store_without_order_is_listed_page_by_page(s3: object, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = s3_backends[DEFAULT_ACCOUNT_ID]["aws"]
    keys = [f"v/f{number:04}.csv" for number in range(20)]
    for key in keys:
        backend.put_object("shop", f"d/uploads/{key}", b"")
    whole = UploadStore("s3://shop/d").listing()
    monkeypatch.setattr(storage, "_RANGE", 5)
    call = s3fs.S3FileSystem._call_s3

    async def shuffled(self: s3fs.S3FileSystem, method: str, *args: object, **kwargs: object) -> dict:
        page = await call(self, method, *args, **kwargs)
        return {**page, "Contents": page["Contents"][::-1]} if page.get("Contents") else page

    monkeypatch.setattr(s3fs.S3FileSystem, "_call_s3", shuffled)
    assert UploadStore("s3://shop/d").listing(dict.fromkeys(keys, ("", "e"))) == whole


def test_uploads_are_listed_with_the_stores_etag_and_anew_each_time(s3: object) -> None:
    store = UploadStore("s3://shop/d")
    first = put(s3, "d/uploads/acme/lines.csv")
    (file,) = store.list()
    assert (file.key, file.etag, file.size, file.whole) == ("acme/lines.csv", first, 8, True)
    assert file.modified > 1.6e9
    second = put(s3, "d/uploads/acme/lines.csv", b"title\nb\n")
    put(s3, "d/uploads/acme/more.csv")
    assert [file.etag for file in store.list() if file.key == "acme/lines.csv"] == [second]
    assert len(store.list()) == 2


def test_what_is_no_upload_is_ignored_with_a_reason(s3: object) -> None:
    for key in ("loose.csv", "acme/deep/x.csv", "acme/.hidden.csv", "acme/x.part", "acme/x.xlsx", "acme/ok.csv"):
        put(s3, f"d/uploads/{key}")
    put(s3, "d/uploads/", b"")
    put(s3, "d/uploads/acme/", b"")
    put(s3, "d/uploads-old/acme/a.csv")
    listing = UploadStore("s3://shop/d").listing()
    assert [file.key for file in listing.files] == ["acme/ok.csv"]
    assert set(listing.ignored) == {"loose.csv", "acme/deep/x.csv", "acme/.hidden.csv", "acme/x.part", "acme/x.xlsx"}


def test_no_uploads_is_empty_but_no_data_is_an_error(s3: object) -> None:
    put(s3, "d/products.csv")
    assert UploadStore("s3://shop/d").list() == []
    for root in ("s3://shop/nowhere", "s3://no-such-bucket/d"):
        with pytest.raises(ListingError, match="cannot list"):
            UploadStore(root).list()


def test_a_store_that_does_not_answer_is_an_error(s3: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(ListingError, match="cannot list"):
        UploadStore("s3://shop/d").list()
    with pytest.raises(ListingError, match="cannot list"):
        fingerprint("s3://shop/d")


def test_reading_an_upload(s3: object) -> None:
    put(s3, "d/uploads/acme/lines.csv")
    put(s3, "d/uploads/acme/empty.csv", b"")
    put(s3, "d/products.csv")
    store = UploadStore("s3://shop/d")
    assert store.read("acme/lines.csv") == store.read("acme/lines.csv", limit=8) == b"title\na\n"
    assert store.read("acme/empty.csv") == b""
    with pytest.raises(InputError, match="at most 7 bytes"):
        store.read("acme/lines.csv", limit=7)
    with pytest.raises(InputError, match="disappeared between listing and reading"):
        store.read("acme/gone.csv")
    with pytest.raises(InputError, match="inside the uploads folder"):
        store.read("../products.csv")


def test_a_refused_upload_is_set_aside_in_a_lake_on_s3(s3: object) -> None:
    assert list_rejected("s3://shop/lake") == []
    folder = set_aside(
        "s3://shop/lake", "acme/lines.csv", b"bad", [Problem("lines.csv", "text", row=1)], etag="0123456789abcdef"
    )
    assert str(folder) == "s3://shop/lake/rejected/acme/lines.csv/0123456789ab"
    (entry,) = list_rejected("s3://shop/lake")
    assert (entry["key"], entry["problems"][0]["row"]) == ("acme/lines.csv", 1)
    assert (folder / "original").read_bytes() == b"bad"


def test_artifacts_are_published_to_s3_and_fetched_once(s3: object, tmp_path: Path) -> None:
    source = tmp_path / "model"
    (source / "sub").mkdir(parents=True)
    (source / "sub" / "weights.bin").write_bytes(b"\0\1")
    place = "s3://shop/lake/models/abc"
    assert not exists(place)
    assert publish(source, place) == place
    local = fetch(place, tmp_path / "cache")
    assert (local / "sub" / "weights.bin").read_bytes() == b"\0\1"
    (local / "mark").write_text("here")
    assert (fetch(place, tmp_path / "cache") / "mark").exists(), "it was not downloaded again"


def test_an_upload_to_s3_that_was_cut_short_does_not_exist(s3: object, tmp_path: Path) -> None:
    put(s3, "lake/models/half/weights.bin", b"\0")
    assert not exists("s3://shop/lake/models/half")
    with pytest.raises(FileNotFoundError, match="never published, or not finished"):
        fetch("s3://shop/lake/models/half", tmp_path)


def copy(client: object, source: str, target: str, **changes: object) -> None:
    """What another process writes: this one's client has not seen it."""
    document = json.loads(client.get_object(Bucket="shop", Key=source)["Body"].read())  # type: ignore[attr-defined]
    put(client, target, json.dumps({**document, **changes}).encode())


def test_answers_of_another_process_are_seen(s3: object) -> None:
    inbox = "s3://shop/lake/feedback"
    answer = record_feedback(inbox, vendor_id="v", vendor_title="a", product_id="p")
    assert len(read_feedback(inbox)) == 1
    copy(s3, f"lake/feedback/{answer}.json", "lake/feedback/copy.json")
    assert read_feedback(inbox)["feedback_id"].tolist() == [answer], "a copy says nothing new"
    other = record_feedback(inbox, vendor_id="v", vendor_title="b", product_id="p")
    put(s3, "lake/feedback/broken.json", b'{"version": 1, "ans')
    put(s3, "lake/feedback/batches/not-here.json", b"{")
    found = read_inbox(inbox)
    assert set(found.frame["feedback_id"]) == {answer, other}
    assert [problem.file for problem in found.bad_files] == ["broken.json"]
    with pytest.raises(FileExistsError):
        atomic_create_json(UPath(inbox) / f"{other}.json", {})


def test_a_sensor_remembers_in_the_store(s3: object) -> None:
    ledger = Ledger("s3://shop/lake", "uploads_sensor", limit=200)
    entries = {f"v/f{number:03}.csv": Entry("e" * 32, 1) for number in range(50)}
    cursor = ledger.save(SensorState(entries))
    assert len(cursor) <= 200
    ledger_module._READ.clear()
    assert ledger.load(cursor).entries == entries
    for item in s3.list_objects_v2(Bucket="shop", Prefix="lake/sensors/")["Contents"]:  # type: ignore[attr-defined]
        s3.delete_object(Bucket="shop", Key=item["Key"])  # type: ignore[attr-defined]
    ledger_module._READ.clear()
    with pytest.raises(CursorError, match=r"was removed\. Reset the cursor"):
        ledger.load(cursor)


def test_an_artifact_that_another_process_finished_is_seen(s3: object) -> None:
    place = UPath("s3://shop/lake/artifacts/abc")
    put(s3, "lake/artifacts/abc/weights", b"w")
    assert [path.name for path in place.iterdir()] == ["weights"]
    assert not exists(place)
    put(s3, "lake/artifacts/abc/manifest.json", b'{"files": {}}')
    assert exists(place)
