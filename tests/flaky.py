"""An HTTP proxy that treats an object store's client as a bad network does."""

from __future__ import annotations

import http.client
import random
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

HOP_BY_HOP = {"connection", "transfer-encoding", "keep-alive", "content-length"}


class Flaky:
    """Forwards to `target`, unless `trouble` says otherwise.

    `trouble`: "" forwards; "errors" answers half of the requests, by chance and at most four in a row, with 503 or 500,
    before they are forwarded; "late errors" does what is asked and then says that it failed; "hang" answers nothing;
    "denied" answers 403. A proxy that was stopped refuses connections. `asked` counts requests.
    """

    def __init__(self, target: str, seed: int = 0) -> None:
        self.trouble, self.asked = "", 0
        self._in_a_row: dict[str, int] = {}
        self._random, self._lock = random.Random(seed), threading.Lock()
        self._over = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler(urlsplit(target)))
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def stop(self) -> None:
        self._over.set()
        self._server.shutdown()
        self._server.server_close()

    def _fails(self, request: str) -> bool:
        """Whether this request is one of those that fail."""
        with self._lock:
            self.asked += 1
            before = self._in_a_row.get(request, 0)
            fails = before < 4 and self._random.random() < 0.5
            self._in_a_row[request] = before + 1 if fails else 0
            return fails

    def _handler(self, target) -> type[BaseHTTPRequestHandler]:
        flaky = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _any(self) -> None:
                body = self._body()
                fails, trouble = flaky._fails(f"{self.command} {self.path}"), flaky.trouble
                if flaky._over.is_set():  # connections that were open before have nobody at their end either
                    self.close_connection = True
                    return
                if trouble == "hang":
                    deadline = time.monotonic() + 60
                    while flaky.trouble == "hang" and time.monotonic() < deadline and not flaky._over.is_set():
                        time.sleep(0.05)
                    self.close_connection = True
                    return
                if trouble == "denied":
                    self._say(403, b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>")
                elif trouble == "errors" and fails:
                    self._fail(flaky.asked % 2 == 0)
                else:
                    status, headers, data = self._forward(body)
                    if trouble == "late errors" and fails:
                        self._fail(flaky.asked % 2 == 0)
                    else:
                        self._say(status, data, headers)

            do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _any

            def _fail(self, slow_down: bool) -> None:
                code, name = (503, "SlowDown") if slow_down else (500, "InternalError")
                self._say(code, f"<Error><Code>{name}</Code><Message>try again</Message></Error>".encode())

            def _body(self) -> bytes:
                if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
                    return self.rfile.read(int(self.headers.get("Content-Length") or 0))
                parts = []
                while size := int(self.rfile.readline().split(b";")[0], 16):
                    parts.append(self.rfile.read(size))
                    self.rfile.readline()
                while self.rfile.readline().strip():
                    pass
                return b"".join(parts)

            def _forward(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
                connection = http.client.HTTPConnection(target.hostname, target.port, timeout=30)
                headers = {name: value for name, value in self.headers.items() if name.lower() not in HOP_BY_HOP}
                connection.request(self.command, self.path, body, headers)
                answer = connection.getresponse()
                data = answer.read()
                connection.close()
                return answer.status, answer.getheaders(), data

            def _say(self, status: int, data: bytes, headers: list[tuple[str, str]] | None = None) -> None:
                self.send_response(status)
                given = headers if headers is not None else [("Content-Type", "application/xml")]
                length = next((value for name, value in given if name.lower() == "content-length"), str(len(data)))
                for name, value in given:
                    if name.lower() not in HOP_BY_HOP | {"date", "server"}:
                        self.send_header(name, value)
                self.send_header("Content-Length", length if self.command == "HEAD" else str(len(data)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        return Handler
