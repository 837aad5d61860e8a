"""The registry on an MLflow server, on the loopback interface, and on servers that are not well."""

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from shelfwise.registry import CHAMPION, PREVIOUS, Registry, RegistryError

SERVER = """
import logging, os, sys
from shelfwise.registry.client import _empty_database, _prepare
_prepare()
open(sys.argv[1], "wb").write(_empty_database())
for name in ("FILE_STORE", "REGISTRY_STORE"):
    os.environ["_MLFLOW_SERVER_" + name] = "sqlite:///" + sys.argv[1]
from mlflow.server import app
from werkzeug.serving import make_server
logging.getLogger("werkzeug").setLevel(logging.ERROR)
server = make_server("127.0.0.1", 0, app, threaded=True)
print(server.port, flush=True)
server.serve_forever()
"""


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    database = tmp_path_factory.mktemp("server") / "mlflow.db"
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER, str(database)], stdout=subprocess.PIPE, cwd=Path(__file__).parents[2], text=True
    )
    assert process.stdout is not None
    try:
        yield int(process.stdout.readline())
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_JITTER", "0")


def test_a_server_holds_what_a_file_does(port, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
    registry = Registry(tmp_path, f"http://127.0.0.1:{port}/")
    assert (registry.versions("m"), registry.alias("m"), registry.history("m")) == ([], None, [])
    with pytest.raises(RegistryError, match="no champion of 'm' yet"):
        registry.champion("m")
    local = registry.register("m", "/lake/artifacts/a", "aaaa1111", {"top1": 0.5}, {"data": "x" * 5_000})
    remote = registry.register("m", "s3://shop/lake/artifacts/b", "bbbb2222")
    assert [version.artifact for version in registry.versions("m")] == [
        "/lake/artifacts/a",
        "s3://shop/lake/artifacts/b",
    ]
    assert registry.register("m", "/lake/artifacts/a", "aaaa1111") == local
    with pytest.raises(RegistryError, match=r"127\.0\.0\.1:\d+ refuses this: .*absolute path"):
        registry.register("m", "s3://nothing-but-a-bucket", "dddd4444")
    registry.promote(local, None)
    registry.challenge(remote)
    registry.refuse(remote, "worse")
    registry.promote(remote, 1)
    other = Registry(tmp_path / "of another lake", f"http://127.0.0.1:{port}")
    with pytest.raises(RegistryError, match="v2-bbbb2222 was promoted meanwhile"):
        other.promote(other.register("m", "s3://shop/c", "cccc3333"), 1)
    assert other.rollback("m", "complaints") == local
    assert registry.aliases("m") == {CHAMPION: 1, PREVIOUS: 2}
    assert [version.version for version in registry.retain("m", 0)] == [3]
    assert registry.versions("m") == [local, remote]
    assert [event["action"] for event in registry.history("m")] == ["promoted", "refused", "promoted", "rolled_back"]


def said(uri: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> str:
    """What is raised where a server should answer; nothing of it may hold a password, nor may what is printed."""
    registry = Registry(tmp_path, uri)
    with pytest.raises(RegistryError) as reading:
        registry.champion("m")
    with pytest.raises(RegistryError) as writing:
        registry.register("m", "/a", "aaaa1111")
    printed = capfd.readouterr()
    for text in (str(reading.value), str(writing.value), printed.out, printed.err):
        assert "hunter2" not in text
    assert reading.value.__cause__ is None
    assert reading.value.__context__ is None
    return str(reading.value)


def test_a_server_that_refuses_the_connection(tmp_path, capfd):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        message = said(f"http://bob:hunter2@127.0.0.1:{unused.getsockname()[1]}", tmp_path, capfd)
    assert "the model registry at http://***@127.0.0.1:" in message
    assert "does not answer as it should: check that it runs and that SHELFWISE_REGISTRY is right" in message


def test_a_server_that_never_answers_is_given_up(tmp_path, capfd):
    with socket.create_server(("127.0.0.1", 0), backlog=64) as silent:
        message = said(f"http://bob:hunter2@127.0.0.1:{silent.getsockname()[1]}", tmp_path, capfd)
    assert "does not answer as it should" in message
    assert "timeout" in message


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (401, "You are not authenticated", "refuses access: set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"),
        (403, '{"error_code": "PERMISSION_DENIED", "message": "Permission denied"}', "refuses access"),
        (500, "oops", "does not answer as it should"),
        (200, "<html>another program</html>", "does not answer as it should"),
        (404, "<html>another program</html>", "does not answer as it should"),
    ],
)
def test_a_server_that_answers_badly(tmp_path, capfd, status, body, expected):
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        do_POST = do_GET

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        assert expected in said(f"http://bob:hunter2@127.0.0.1:{server.server_port}", tmp_path, capfd)
    finally:
        server.shutdown()
        server.server_close()


def test_a_name_of_no_host(tmp_path, capfd):
    assert "does not answer as it should" in said("http://bob:hunter2@registry.invalid:5000", tmp_path, capfd)
