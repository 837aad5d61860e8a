"""How long a sensor's tick takes: `python -m benchmarks.sensors [--seen N] [--new N] [--times N]`.

Uploads and feedback, on a local disk and on S3 (moto's server on loopback, in a process of its own). By default 10,000
files have been seen and run, which Dagster's run storage (SQLite) holds; then, `--times` times, 100 new ones arrive and
the sensor is evaluated once: load the cursor, ask the run storage, list, decide, write a snapshot, make the requests.
Also after a restart, with nothing remembered in the process, and with nothing new. `slowest_seconds` is the slowest of
all these ticks. Beside it what the listing alone takes, and on S3 the same pages asked for with boto3 and nothing else,
which is what the server needs. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.common import ROOT, about, child_environment, emit, say, use_two_cores

CONTENT = "title,price\n" + "".join(f"Soap {number} 75 cl,2.5\n" for number in range(40))
BUCKET, VENDORS = "shop", 100
# The server keeps its objects in memory; to put ten thousand of them there behind its back takes a second.
SERVER = f"""
import json, sys
from moto.core import DEFAULT_ACCOUNT_ID
from moto.s3.models import s3_backends
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
server.start()
backend = s3_backends[DEFAULT_ACCOUNT_ID]["aws"]
backend.create_bucket({BUCKET!r}, "us-east-1")
print("at %s:%s" % server.get_host_and_port(), flush=True)
for line in sys.stdin:
    for key, text in json.loads(line).items():
        backend.put_object({BUCKET!r}, key, text.encode())
    print("put", flush=True)
"""


class Disk:
    """A local data directory and lake."""

    def __init__(self, root: Path) -> None:
        self.root, self.data, self.lake = root, str(root / "data"), str(root / "lake")

    def put(self, files: dict[str, str]) -> None:
        """Write files by their path below the root."""
        for key, text in files.items():
            path = self.root / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    def settle(self) -> None:
        """Wait until the times of the files are old enough to be trusted."""
        time.sleep(2.1)

    def pages(self, folder: str) -> float | None:
        """Return the seconds that the bare listing takes; not on a disk."""
        return None


class Bucket:
    """The same on S3."""

    def __init__(self, server: subprocess.Popen[str]) -> None:
        self.server, self.data, self.lake = server, f"s3://{BUCKET}/data", f"s3://{BUCKET}/lake"

    def put(self, files: dict[str, str]) -> None:
        """Put objects by their key."""
        assert self.server.stdin
        self.server.stdin.write(json.dumps(files) + "\n")
        self.server.stdin.flush()
        _answer(self.server, "put")

    def settle(self) -> None:
        """Objects in a store are whole at once."""

    def pages(self, folder: str) -> float:
        """Return the seconds that the pages of a folder's listing take with boto3 alone."""
        import boto3

        client = boto3.client("s3")
        began = time.perf_counter()
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=f"{folder}/"):
            page.get("Contents")
        return time.perf_counter() - began


@contextmanager
def bucket() -> Generator[Bucket]:
    """A server with an empty bucket, for as long as it is asked."""
    command = [sys.executable, "-c", SERVER]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, cwd=ROOT, env=child_environment(), text=True, **pipes) as server:
        os.environ |= {
            "AWS_ENDPOINT_URL": f"http://{_answer(server, 'at ')}",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        try:
            yield Bucket(server)
        finally:
            server.terminate()


def _answer(server: subprocess.Popen[str], start: str) -> str:
    """Return the rest of the next line of the server that begins so; it says other things as well."""
    assert server.stdout
    for line in server.stdout:
        if line.startswith(start):
            return line.removeprefix(start).strip()
    raise SystemExit("the S3 server ended")


def upload_names(first: int, count: int) -> dict[str, str]:
    """Return vendor files, as keys below the root."""
    return {
        f"data/uploads/vendor-{number % VENDORS:03}/price-list-2026-{number:06}.csv": CONTENT + f"extra {number},1\n"
        for number in range(first, first + count)
    }


def answer_names(first: int, count: int) -> dict[str, str]:
    """Return files of the feedback inbox, as keys below the root."""
    from shelfwise.feedback.answers import new_answer

    made = {}
    for number in range(first, first + count):
        name = f"{number:08x}-0000-4000-8000-000000000000"
        answers = [new_answer(f"vendor-{number % VENDORS:03}", f"soap {number}", "p1")]
        made[f"lake/feedback/{name}.json"] = json.dumps({"version": 1, "feedback_id": name, "answers": answers})
    return made


def forget() -> None:
    """Forget what the process remembers, as after a restart."""
    import s3fs

    from sensors import history
    from shelfwise.contract import ledger, store

    ledger._READ.clear()
    store._DIGESTS.clear()
    history._VERDICTS.clear()
    s3fs.S3FileSystem.clear_instance_cache()


class Sensor:
    """One of the two sensors over one of the two places."""

    def __init__(self, name: str, place: Disk | Bucket, home: Path) -> None:
        import dagster as dg
        from upath import UPath

        from assets.uploads import upload_files
        from sensors import feedback, uploads
        from shelfwise.contract import UploadStore
        from shelfwise.feedback.inbox import list_files

        self.name, self.place, self.cursor, self.files = name, place, "", 0
        self.processor: list[float] = []
        home.mkdir()
        self.instance = dg.DagsterInstance.local_temp(str(home))
        lake = UPath(place.lake)
        self._names = upload_names if name == "uploads" else answer_names
        self.folder = "data/uploads" if name == "uploads" else "lake/feedback"
        self.listing: Callable[[], object]
        if name == "uploads":
            store = UploadStore(place.data)
            self.sensor = uploads.UPLOADS_SENSOR
            self.listing = store.listing
            self._evaluate = lambda: uploads.evaluate(
                self.instance, self.cursor, store, lake, upload_files, now=time.time(), settle_seconds=0
            )
        else:
            self.sensor = feedback.FEEDBACK_SENSOR
            self.listing = lambda: list_files(lake / "feedback")
            self._evaluate = lambda: feedback.evaluate(self.instance, self.cursor, lake)

    def arrive(self, count: int) -> None:
        """Let new files arrive."""
        self.place.put(self._names(self.files, count))
        self.files += count

    def tick(self) -> tuple[float, int]:
        """Evaluate the sensor; return its seconds and how many runs it asked for. The runs are recorded afterwards."""
        began, used = time.perf_counter(), time.process_time()
        result = self._evaluate()
        seconds = time.perf_counter() - began
        self.processor.append(time.process_time() - used)
        self.cursor = result.cursor or ""
        for request in result.run_requests or []:
            self._record(request)
        return seconds, len(result.run_requests or [])

    def _record(self, request: Any) -> None:
        import dagster as dg
        from dagster._core.storage.tags import PARTITION_NAME_TAG, RUN_KEY_TAG, SENSOR_NAME_TAG

        tags = {**request.tags, SENSOR_NAME_TAG: self.sensor, RUN_KEY_TAG: request.run_key}
        if request.partition_key:
            tags[PARTITION_NAME_TAG] = request.partition_key
        run = dg.DagsterRun(job_name="job", tags=tags, status=dg.DagsterRunStatus.SUCCESS)
        self.instance.run_storage.add_run(run)


def measure(sensor: Sensor, seen: int, new: int, times: int) -> dict[str, Any]:
    """Return the seconds of a sensor's ticks."""
    sensor.arrive(seen)
    sensor.place.settle()
    first, runs = sensor.tick()
    wanted = 1 if sensor.name == "feedback" else new
    if runs != (1 if sensor.name == "feedback" else seen):
        raise SystemExit(f"the first tick asked for {runs} runs")
    sensor.tick()
    ticks: dict[str, list[float]] = {"new": [], "restarted": [], "quiet": []}
    cursors = []
    for _ in range(times):
        for kind in ticks:
            if kind != "quiet":
                sensor.arrive(new)
            if kind == "restarted":
                forget()
            seconds, runs = sensor.tick()
            if runs != (0 if kind == "quiet" else wanted):
                raise SystemExit(f"{sensor.name}: a tick asked for {runs} runs")
            ticks[kind].append(seconds)
            cursors.append(len(sensor.cursor.encode()))
    began = time.perf_counter()
    sensor.listing()
    listing = time.perf_counter() - began
    return {
        "first_seconds": first,
        "processor_seconds": max(sensor.processor[2:]),  # of this process, at most
        "slowest_seconds": max(one for part in ticks.values() for one in part),
        **{f"{kind}_seconds": median(part) for kind, part in ticks.items()},
        "listing_seconds": listing,
        "server_seconds": sensor.place.pages(sensor.folder),
        "cursor_bytes": max(cursors),
        "files": sensor.files,
    }


def run(seen: int, new: int, times: int) -> dict[str, Any]:
    """Run the benchmark and return its object."""
    use_two_cores()
    ticks = {}
    head = about("sensors")
    with tempfile.TemporaryDirectory(prefix="shelfwise-sensors-") as scratch, ExitStack() as open_places:
        places = {"local": lambda: Disk(Path(scratch) / "local"), "s3": lambda: open_places.enter_context(bucket())}
        for where, make in places.items():
            place = make()
            for name in ("uploads", "feedback"):
                found = measure(Sensor(name, place, Path(scratch) / f"{name}-{where}"), seen, new, times)
                ticks[f"{name}_{where}"] = found
                shown = f"{found['new_seconds']:.2f} s, after a restart {found['restarted_seconds']:.2f} s"
                say(f"{name}, {where}: {shown}, cursor {found['cursor_bytes']:,} bytes")
    return head | {"seen": seen, "new": new, "times": times, "ticks": ticks}


def main(argv: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sensors", description=__doc__.splitlines()[0])
    parser.add_argument("--seen", type=int, default=10_000, help="files already seen")
    parser.add_argument("--new", type=int, default=100, help="files that arrive before each tick")
    parser.add_argument("--times", type=int, default=5)
    given = parser.parse_args(argv)
    emit(run(given.seen, given.new, given.times))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
