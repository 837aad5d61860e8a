"""One writer at a time, beside a lake in an object store."""

import json
import re
import threading
import time
from collections.abc import Iterator

import pytest
from upath import UPath

from shelfwise.artifacts import asked_anew
from shelfwise.registry import Registry, RegistryError
from shelfwise.registry.lock import KEPT, _Generation, locked
from tests.s3 import point_at, remove


@pytest.fixture(scope="module")
def bucket(s3_url: str) -> Iterator[UPath]:
    with pytest.MonkeyPatch.context() as patched:
        client = point_at(s3_url, patched, "locks")
        yield UPath("s3://locks")
        remove(client, "locks")


@pytest.fixture
def root(bucket: UPath, request: pytest.FixtureRequest) -> UPath:
    return bucket / re.sub(r"\W", "_", request.node.name)


def generations(root: UPath) -> list[int]:
    return sorted(int(path.stem) for path in asked_anew(root / "lock").iterdir())


def test_only_one_holds_it(root):
    inside, together, counted = [], [], []

    def work(number: int) -> None:
        for _ in range(6):
            with locked(root):
                inside.append(number)
                together.append(len(inside))
                time.sleep(0.001)
                counted.append(number)
                inside.remove(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(counted), set(together)) == (24, {1})
    assert generations(root)[-1] == 24
    assert len(generations(root)) <= KEPT + 1


def test_whoever_waits_in_vain_is_told_who_holds_it(root):
    with (
        locked(root),
        pytest.raises(RegistryError, match=r"process \d+ on .* has held the registry's lock s3://locks/"),
    ):
        _Generation(root / "lock", 90).acquire(0.3)
    with locked(root) as held:
        held.confirm()


def test_a_lock_of_a_killed_process_is_taken_over_when_its_lease_is_over(root):
    killed = _Generation(root / "lock", lease=0.4)
    killed.acquire(1)
    began = time.monotonic()
    with locked(root, lease=60):
        assert time.monotonic() - began >= 0.4, "it was watched for its whole lease"
        # The other was not killed after all, but slow; its giving back takes nothing from the one who has it now.
        killed.release()
        with pytest.raises(RegistryError, match="has held the registry's lock"):
            _Generation(root / "lock", 60).acquire(0.3)


def test_whoever_holds_it_too_long_goes_no_further(root):
    with locked(root, lease=0.2) as held:
        held.confirm()
        time.sleep(0.2)
        with pytest.raises(RegistryError, match=r"took longer than its lock lasts.*run it again"):
            held.confirm()


def test_a_number_that_was_swept_cannot_be_taken_by_one_who_listed_long_ago(root):
    for _ in range(6):
        with locked(root):
            pass
    assert 1 not in generations(root)
    late = _Generation(root / "lock", 60)
    assert not late._create(1)
    assert 1 not in generations(root)
    with locked(root):
        assert generations(root)[-1] == 7


def test_a_bucket_that_is_not_there_says_what_to_check():
    with (
        pytest.raises(RegistryError, match=r"cannot be taken .*check that the bucket answers"),
        locked(UPath("s3://none/x")),
    ):
        pass


def test_a_registry_beside_a_lake_on_s3(root, tmp_path):
    registry = Registry(root, f"sqlite:///{tmp_path}/mlflow.db")
    first = registry.register("m", "s3://shop/lake/artifacts/a", "aaaa1111")
    registry.promote(first, None)
    assert Registry(root, f"sqlite:///{tmp_path}/mlflow.db").champion("m") == first
    (path,) = [path for path in asked_anew(root / "lock").iterdir() if path.stem == f"{generations(root)[-1]:09d}"]
    assert json.loads(path.read_text())["released"]
