"""Artifacts on a local disk: whole or not there at all, whatever happens half way (S3 is in test_contract_s3)."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shelfwise import artifacts
from shelfwise.artifacts import atomic_write_bytes, atomic_write_json, content_id, exists, fetch, file_digest, publish


def make(folder: Path, **files: str) -> Path:
    folder.mkdir(parents=True)
    for name, text in files.items():
        (folder / name).write_text(text)
    return folder


def leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.name.endswith(".tmp"))


def test_content_ids_depend_on_the_parts_and_where_they_are_cut() -> None:
    assert content_id("a", "b") == content_id("a", "b")
    assert len(content_id("a")) == 16
    assert len({content_id(*parts) for parts in [("ab",), ("a", "b"), ("b", "a"), (b"ab",), ("a", "b", "")]}) == 5
    assert content_id({"a": 1, "b": 2}) == content_id({"b": 2, "a": 1})
    assert content_id(1) != content_id("1")


@given(st.lists(st.text(), max_size=4), st.lists(st.text(), max_size=4))
def test_different_parts_have_different_ids(left: list[str], right: list[str]) -> None:
    assert (content_id(*left) == content_id(*right)) == (left == right)


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file"
    atomic_write_bytes(path, b"old")
    atomic_write_bytes(str(path), b"new")
    assert path.read_bytes() == b"new"
    atomic_write_json(path, {"b": 1, "a": 2})
    assert json.loads(path.read_text()) == {"a": 2, "b": 1}
    assert leftovers(tmp_path) == []


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    atomic_write_bytes(path, b"old")
    monkeypatch.setattr(os, "fsync", lambda descriptor: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space left"):
        atomic_write_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    assert leftovers(tmp_path) == []


def test_publishing_lists_every_file_with_its_digest(tmp_path: Path) -> None:
    source = make(tmp_path / "model", weights="w")
    make(source / "sub", config="c")
    place = publish(source, tmp_path / "lake" / "abc")
    assert place == str(tmp_path / "lake" / "abc")
    manifest = json.loads((tmp_path / "lake" / "abc" / "manifest.json").read_text())
    assert manifest["files"]["weights"] == {"size": 1, "sha256": file_digest(source / "weights")}
    assert set(manifest["files"]) == {"weights", "sub/config"}
    assert fetch(place) == tmp_path / "lake" / "abc"
    assert leftovers(tmp_path) == []


def test_what_was_published_is_never_changed(tmp_path: Path) -> None:
    place = tmp_path / "lake" / "abc"
    publish(make(tmp_path / "first", weights="1"), place)
    publish(make(tmp_path / "second", weights="2"), place)
    assert (place / "weights").read_text() == "1"


def test_a_directory_without_a_manifest_does_not_exist_and_is_replaced(tmp_path: Path) -> None:
    place = make(tmp_path / "lake" / "abc", weights="half", rest="x")
    assert not exists(place)
    with pytest.raises(FileNotFoundError, match="never published, or not finished"):
        fetch(place)
    publish(make(tmp_path / "model", weights="whole"), place)
    assert sorted(path.name for path in place.iterdir()) == ["manifest.json", "weights"]
    assert (place / "weights").read_text() == "whole"


def test_of_two_processes_that_publish_the_same_the_first_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, source = tmp_path / "lake" / "abc", make(tmp_path / "model", weights="w")
    rename = os.rename

    def other_was_faster(old: Path, new: Path) -> None:
        monkeypatch.setattr(artifacts.os, "rename", rename)
        publish(source, place)
        rename(old, new)

    monkeypatch.setattr(artifacts.os, "rename", other_was_faster)
    assert publish(source, place) == str(place)
    assert exists(place)
    assert leftovers(tmp_path) == []


def test_what_another_process_published_meanwhile_is_not_taken_from_its_readers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, copytree = tmp_path / "lake" / "abc", artifacts.shutil.copytree
    publish(make(tmp_path / "first", weights="1"), tmp_path / "elsewhere")

    def other_was_faster(source: Path, staging: Path) -> None:
        copytree(source, staging)
        place.parent.mkdir(exist_ok=True)
        os.rename(tmp_path / "elsewhere", place)

    monkeypatch.setattr(artifacts.shutil, "copytree", other_was_faster)
    assert publish(make(tmp_path / "second", weights="2"), place) == str(place)
    assert (place / "weights").read_text() == "1"
    assert leftovers(tmp_path) == []


def test_a_publish_that_fails_leaves_nothing_and_raises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(artifacts, "atomic_write_json", full)
    with pytest.raises(OSError, match="No space left"):
        publish(make(tmp_path / "model", weights="w"), tmp_path / "lake" / "abc")
    assert not exists(tmp_path / "lake" / "abc")
    assert leftovers(tmp_path) == []


_PUBLISH_FOR_EVER = """
import itertools, sys
from pathlib import Path
from shelfwise.artifacts import publish
source, lake = Path(sys.argv[1]), Path(sys.argv[2])
for number in itertools.count():
    publish(source, lake / str(number))
    print(number, flush=True)
"""


@pytest.mark.parametrize("delay", [0.0, 0.003, 0.011])
def test_killing_a_process_leaves_whole_artifacts_or_none(tmp_path: Path, delay: float) -> None:
    source = make(tmp_path / "model", **{f"part{number}": "x" * 50_000 for number in range(20)})
    lake = tmp_path / "lake"
    command = [sys.executable, "-c", _PUBLISH_FOR_EVER, str(source), str(lake)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
    finished = [path for path in lake.iterdir() if exists(path) and not path.name.startswith(".")]
    assert finished
    for path in finished:
        manifest = json.loads((path / "manifest.json").read_text())["files"]
        assert len(manifest) == 20
        assert all(file_digest(path / name) == entry["sha256"] for name, entry in manifest.items())
    publish(source, lake / "after")
    assert exists(lake / "after")
