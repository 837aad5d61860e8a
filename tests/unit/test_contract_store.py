"""The uploads folder on a local disk: listing, reading one file, setting a bad one aside."""

from __future__ import annotations

import hashlib
import json
import os
import time
from pathlib import Path

import pytest

from shelfwise.contract import ListingError, UploadStore, list_rejected, set_aside
from shelfwise.contract import store as store_module
from shelfwise.errors import InputError, Problem


@pytest.fixture
def data(tmp_path: Path) -> Path:
    root = tmp_path / "data"
    (root / "uploads" / "acme").mkdir(parents=True)
    (root / "uploads" / "acme" / "lines.csv").write_text("title\na\n")
    return root


def keys(root: Path) -> list[str]:
    return [file.key for file in UploadStore(root).list()]


def test_a_listing_names_content_size_and_time(data: Path) -> None:
    path = data / "uploads" / "acme" / "lines.csv"
    os.utime(path, (1_000, 1_000))
    (file,) = UploadStore(data).list()
    assert (file.key, file.vendor_id, file.file) == ("acme/lines.csv", "acme", "lines.csv")
    assert file.etag == hashlib.sha256(b"title\na\n").hexdigest()
    assert (file.size, file.modified, file.whole) == (8, 1_000.0, False)


@pytest.mark.parametrize("remembered", [False, True])
def test_a_change_is_seen_even_when_size_and_time_stay(
    data: Path, monkeypatch: pytest.MonkeyPatch, remembered: bool
) -> None:
    if remembered:  # the file counts as old, so that its digest is kept
        monkeypatch.setattr(time, "time", lambda: 4e9)
    path = data / "uploads" / "acme" / "lines.csv"
    os.utime(path, (1_000, 1_000))
    (before,) = UploadStore(data).list()
    time.sleep(0.05)  # longer than the step of the file system's clock
    path.write_text("title\nb\n")
    os.utime(path, (1_000, 1_000))
    (after,) = UploadStore(data).list()
    assert (after.size, after.modified) == (before.size, before.modified)
    assert after.etag != before.etag


def test_a_file_that_bears_its_mark_is_not_read_in_another_process(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: 4e9)
    (first,) = UploadStore(data).list()
    assert first.mark
    known = {first.key: (first.mark, "etag of the ledger")}
    store_module._DIGESTS.clear()
    assert [file.etag for file in UploadStore(data).listing(known).files] == ["etag of the ledger"]
    (data / "uploads" / "acme" / "lines.csv").write_bytes(b"title\nother\n")
    (changed,) = UploadStore(data).listing(known).files
    assert changed.etag not in (first.etag, "etag of the ledger")
    assert changed.mark != first.mark


def test_an_old_file_is_not_read_again_at_every_look(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = UploadStore(data).list()
    path = str(data / "uploads" / "acme" / "lines.csv")
    assert path not in store_module._DIGESTS, "a fresh file may change without its times changing"
    monkeypatch.setattr(time, "time", lambda: 4e9)
    assert UploadStore(data).list() == first
    monkeypatch.setattr(Path, "open", lambda *_, **__: pytest.fail("read again"))
    assert UploadStore(data).list() == first


def test_no_uploads_folder_is_no_uploads_but_no_data_directory_is_an_error(tmp_path: Path) -> None:
    assert UploadStore(tmp_path).list() == []
    with pytest.raises(ListingError, match="no data directory"):
        UploadStore(tmp_path / "nowhere").list()


def test_an_uploads_folder_that_is_a_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "uploads").write_text("x")
    with pytest.raises(ListingError):
        UploadStore(tmp_path).list()


@pytest.mark.parametrize("error", [PermissionError("denied"), OSError(5, "Input/output error"), FileNotFoundError("v")])
def test_a_listing_that_fails_half_way_is_an_error_and_never_short(
    data: Path, monkeypatch: pytest.MonkeyPatch, error: OSError
) -> None:
    (data / "uploads" / "zeta").mkdir()
    whole = os.scandir

    def scandir(path: str | Path) -> object:
        if str(path).endswith("zeta"):
            raise error
        return whole(path)

    monkeypatch.setattr(store_module.os, "scandir", scandir)
    with pytest.raises(ListingError, match="cannot list"):
        UploadStore(data).list()


def test_what_is_no_upload_is_ignored_with_a_reason(data: Path, tmp_path: Path) -> None:
    uploads, outside = data / "uploads", tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.csv").write_text("title\nsecret\n")
    vendor = uploads / "acme"
    for name in (".hidden.csv", "a.csv.part", "b.tmp", "~$c.csv", "d.csv~", "e.xlsx", "f...csv", "g\nh.csv"):
        (vendor / name).write_text("x")
    (vendor / "deep").mkdir()
    (vendor / "deep" / "x.csv").write_text("title\nx\n")
    (vendor / "link.csv").symlink_to(outside / "secret.csv")
    (vendor / "broken.csv").symlink_to(vendor / "nothing.csv")
    (vendor / "dir.csv").mkdir()
    os.mkfifo(vendor / "pipe.csv")
    (uploads / "loose.csv").write_text("title\nx\n")
    (uploads / "escape").symlink_to(outside)
    (vendor / "circle.csv").symlink_to("circle.csv")
    (uploads / "circle").symlink_to("circle")
    (uploads / ".git").mkdir()
    (vendor / "UPPER.CSV").write_text("title\ny\n")

    listing = UploadStore(data).listing()
    assert [file.key for file in listing.files] == ["acme/UPPER.CSV", "acme/lines.csv"]
    expected = {
        "acme/.hidden.csv": "hidden",
        "acme/a.csv.part": "not finished",
        "acme/b.tmp": "not finished",
        "acme/~$c.csv": "editor",
        "acme/d.csv~": "editor",
        "acme/e.xlsx": "not a .csv file",
        "acme/f...csv": "name",
        "acme/g\nh.csv": "name",
        "acme/deep": "folder inside",
        "acme/dir.csv": "folder inside",
        "acme/link.csv": "link that leaves",
        "acme/broken.csv": "disappeared",
        "acme/pipe.csv": "not a regular file",
        "loose.csv": "not in a vendor's folder",
        "escape/": "link that leaves",
        "acme/circle.csv": "back to itself",
        "circle/": "back to itself",
        ".git/": "hidden",
    }
    assert set(listing.ignored) == set(expected)
    for key, reason in expected.items():
        assert reason in listing.ignored[key]


def test_reading(data: Path) -> None:
    assert UploadStore(data).read("acme/lines.csv") == b"title\na\n"
    assert UploadStore(data).read("acme/lines.csv", limit=8) == b"title\na\n"


def test_a_file_over_the_limit_is_listed_but_not_read(data: Path) -> None:
    (data / "uploads" / "acme" / "big.csv").write_bytes(b"x" * 1_000)
    store = UploadStore(data, max_bytes=100)
    assert [file.key for file in store.list()] == ["acme/big.csv", "acme/lines.csv"]
    with pytest.raises(InputError, match=r"acme/big.csv: expected a file of at most 100 bytes"):
        store.read("acme/big.csv")
    with pytest.raises(InputError, match="at most 7 bytes"):
        store.read("acme/lines.csv", limit=7)


def test_a_file_that_disappears_between_listing_and_reading(data: Path) -> None:
    store = UploadStore(data)
    (file,) = store.list()
    (data / "uploads" / "acme" / "lines.csv").unlink()
    with pytest.raises(InputError, match=r"acme/lines.csv.*disappeared between listing and reading"):
        store.read(file.key)


@pytest.mark.parametrize(
    "key",
    ["../products.csv", "acme/../../secret.csv", "acme/..", "..", "/etc/passwd", "acme//etc", "", "acme", "acme/", "/x",
     "acme/b/c.csv", "acme\\..\\x/a.csv", "acme/a\0.csv", "./lines.csv"],
)  # fmt: skip
def test_a_path_that_tries_to_leave_the_folder_is_refused(data: Path, key: str) -> None:
    (data / "secret.csv").write_text("secret")
    with pytest.raises(InputError, match="a path <vendor>/<file> inside the uploads folder"):
        UploadStore(data).read(key)


def test_links_and_devices_are_refused_when_read_too(data: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.csv"
    secret.write_text("secret")
    vendor = data / "uploads" / "acme"
    (vendor / "link.csv").symlink_to(secret)
    (data / "uploads" / "escape").symlink_to(tmp_path)
    os.mkfifo(vendor / "pipe.csv")
    (vendor / "dir.csv").mkdir()
    (vendor / "circle.csv").symlink_to("circle.csv")
    for key, reason in {
        "acme/circle.csv": "a link that leads back to itself",
        "acme/link.csv": "a link that leaves it",
        "escape/secret.csv": "a link that leaves it",
        "acme/pipe.csv": "a regular file",
        "acme/dir.csv": "a regular file",
    }.items():
        with pytest.raises(InputError, match=reason):
            UploadStore(data).read(key)
    (vendor / "inside.csv").symlink_to(vendor / "lines.csv")
    assert UploadStore(data).read("acme/inside.csv") == b"title\na\n"


def test_an_unreadable_file_is_listed_and_refused_by_name(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (data / "uploads" / "acme" / "good.csv").write_text("title\ng\n")

    def denied(self: Path, *args: object, **kwargs: object) -> object:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "open", denied)
    assert keys(data) == ["acme/good.csv", "acme/lines.csv"]
    monkeypatch.setattr(store_module.os, "open", denied)
    with pytest.raises(InputError, match=r"acme/lines.csv: expected a file that may be read"):
        UploadStore(data).read("acme/lines.csv")


PROBLEMS = [Problem("lines.csv", "a number", "'cheap'", row=3, column="price")]


def test_setting_aside_copies_file_and_reason_and_leaves_the_input_alone(data: Path, tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    before = sorted(path for path in data.rglob("*"))
    folder = set_aside(lake, "acme/lines.csv", b"title\na\n", PROBLEMS)
    etag = hashlib.sha256(b"title\na\n").hexdigest()
    assert Path(str(folder)) == lake / "rejected" / "acme" / "lines.csv" / etag[:12]
    assert sorted(path.name for path in Path(str(folder)).iterdir()) == ["original", "reason.json", "reason.txt"]
    assert (folder / "original").read_bytes() == b"title\na\n"
    text = (folder / "reason.txt").read_text()
    assert "lines.csv, row 3, column 'price': expected a number; found 'cheap'" in text
    reason = json.loads((folder / "reason.json").read_text())
    assert (reason["key"], reason["etag"], reason["problems"][0]["row"]) == ("acme/lines.csv", etag, 3)
    assert sorted(path for path in data.rglob("*")) == before


def test_setting_aside_twice_gives_the_same_files(tmp_path: Path) -> None:
    folder = set_aside(tmp_path, "v/a.csv", b"x", PROBLEMS, etag="e" * 40)
    first = {path.name: path.read_bytes() for path in Path(str(folder)).iterdir()}
    again = set_aside(tmp_path, "v/a.csv", b"x", PROBLEMS, etag="e" * 40)
    assert str(again) == str(folder)
    assert {path.name: path.read_bytes() for path in Path(str(folder)).iterdir()} == first
    set_aside(tmp_path, "v/a.csv", b"y", PROBLEMS, etag="f" * 40)
    assert [entry["etag"][0] for entry in list_rejected(tmp_path)] == ["e", "f"]


def test_what_could_not_be_read_is_set_aside_without_an_original(tmp_path: Path) -> None:
    set_aside(tmp_path, "v/gone.csv", None, PROBLEMS, etag="e1")
    (entry,) = list_rejected(tmp_path)
    assert (entry["key"], entry["size"]) == ("v/gone.csv", None)
    assert not (Path(entry["folder"]) / "original").exists()


def test_nothing_set_aside_yet(tmp_path: Path) -> None:
    assert list_rejected(tmp_path / "lake") == []


def test_setting_aside_cannot_write_outside_the_lake(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="inside the uploads folder"):
        set_aside(tmp_path / "lake", "../x/y.csv", b"x", PROBLEMS)
    assert list(tmp_path.iterdir()) == []
