"""Alerts: one cause is one message, nothing is lost when a target is away, and no secret is told."""

from __future__ import annotations

import json
import logging
import smtplib
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shelfwise import alerts
from shelfwise.alerts import (
    Alert,
    Desk,
    EmailTarget,
    Failure,
    LogTarget,
    WebhookTarget,
    fingerprint,
    normalised,
    redacted,
    targets,
)

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
WINDOW = timedelta(hours=6)
ALERT = Alert("0123456789abcdef", "match_upload failed", "ValueError: no", 1, NOW.isoformat(), ["run-1"])


class Recorder:
    """A target that takes messages, or does not."""

    def __init__(self, name: str = "memory") -> None:
        self.name, self.taken, self.away = name, [], False

    def send(self, alert: Alert) -> None:
        if self.away:
            raise ConnectionError("nobody there")
        self.taken.append((alert.title, alert.count))


def bad_upload(number: int, **changed: str) -> Failure:
    key = f"vendor{number}/prices_{number}.csv"
    said = {"job": "match_upload", "step": "uploads/upload_lines", "error": "InputError", "partition": key}
    return Failure(**{**said, "message": f"{key} was set aside: row {number}, column 'title': missing", **changed})


def tick(desk: Desk, failures: list[Failure], *places: Recorder, after: timedelta = timedelta()) -> list[str]:
    """One tick of the sensor, with the desk written to a cursor and read from it."""
    desk.take(failures, [place.name for place in places], NOW + after, WINDOW)
    problems = desk.deliver(places)
    again = Desk.from_json(json.loads(json.dumps(desk.to_json())))
    assert again == desk
    return problems


# Grouping


def test_fifty_uploads_that_fail_for_one_reason_are_one_message() -> None:
    desk, place = Desk(), Recorder()
    tick(desk, [bad_upload(number) for number in range(50)], place)
    ((title, count),) = place.taken
    assert count == 50
    assert title.startswith("match_upload / uploads/upload_lines of vendor0/prices_0.csv failed, and 49 other place(s)")


def test_other_errors_and_other_steps_are_other_causes() -> None:
    desk, place = Desk(), Recorder()
    other = [bad_upload(1), bad_upload(1, error="KeyError"), bad_upload(1, step="uploads/upload_matches")]
    tick(desk, other, place)
    assert len(place.taken) == 3


def test_a_store_that_is_away_is_one_cause_wherever_it_is_missed() -> None:
    message = "Could not connect to the endpoint URL: 'https://lake.example/{}?x=1'"
    failures = [
        Failure(job, step, "EndpointConnectionError", message.format(number))
        for number, (job, step) in enumerate([("train", "raw/products"), ("match", "uploads/lines"), ("sensor", "")])
    ]
    assert len({fingerprint(failure) for failure in failures}) == 1
    assert len({fingerprint(Failure(f.job, f.step, "KeyError", f.message)) for f in failures}) == 3


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("row 12 of /tmp/a/b.csv is short", "row 7,100 of /srv/other/c.csv is short"),
        ("run 7f3c2a9b11 was killed", "run 00ab12cd34ef was killed"),
        ("no product 'P-1' at 12:30:01", 'no product "Q-77" at 9:01'),
        ("id 6a1f0c3e-1111-2222-3333-444455556666", "id 00000000-aaaa-bbbb-cccc-444455556666"),
        ("GET https://a.example/x?y=1 failed", "GET https://a.example/z failed"),
    ],
)
def test_what_differs_from_case_to_case_is_no_part_of_a_cause(one: str, other: str) -> None:
    assert normalised(one) == normalised(other)
    assert normalised(one) != normalised(one + " for another reason")


def test_repeats_within_the_window_are_counted_and_told_when_it_is_over() -> None:
    desk, place = Desk(), Recorder()
    tick(desk, [bad_upload(1)], place)
    for hour in range(1, 5):
        tick(desk, [bad_upload(hour), bad_upload(hour)], place, after=timedelta(hours=hour))
    assert len(place.taken) == 1
    tick(desk, [], place, after=timedelta(hours=7))
    assert place.taken[1:] == [(f"Seen 8 time(s) again (cause {fingerprint(bad_upload(1))[:8]})", 8)]
    tick(desk, [], place, after=timedelta(hours=20))
    assert len(place.taken) == 2, "and that is told once"
    tick(desk, [bad_upload(9)], place, after=timedelta(hours=21))
    assert len(place.taken) == 3


def test_a_cause_that_is_back_after_the_window_says_what_was_held_back() -> None:
    desk, place = Desk(), Recorder()
    tick(desk, [bad_upload(1)], place)
    tick(desk, [bad_upload(2)], place, after=timedelta(hours=1))
    tick(desk, [bad_upload(3)], place, after=timedelta(hours=8))
    assert [count for _, count in place.taken] == [1, 2]


def test_a_clock_that_jumps_back_only_delays() -> None:
    desk, place = Desk(), Recorder()
    tick(desk, [bad_upload(1)], place)
    tick(desk, [bad_upload(2)], place, after=timedelta(days=-300))
    tick(desk, [], place, after=timedelta(hours=7))
    assert [count for _, count in place.taken] == [1, 1]


# Delivery


def test_a_target_that_is_away_gets_its_messages_later_and_the_others_once() -> None:
    desk, here, away = Desk(), Recorder("here"), Recorder("away")
    away.away = True
    problems = tick(desk, [bad_upload(1), bad_upload(1, error="KeyError")], here, away)
    assert problems == ["away did not take an alert, it is tried again: nobody there"]
    assert (len(here.taken), len(away.taken)) == (2, 0)
    tick(desk, [], here, away)
    away.away = False
    assert tick(desk, [], here, away) == []
    assert (len(here.taken), len(away.taken)) == (2, 2)
    assert desk.alerts == []


def test_a_target_that_is_gone_from_the_settings_owes_nothing() -> None:
    desk, away = Desk(), Recorder("away")
    away.away = True
    tick(desk, [bad_upload(1)], away)
    assert len(desk.alerts) == 1
    tick(desk, [], Recorder("other"))
    assert desk.alerts == []


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans(), st.integers(0, 12)), max_size=40))
def test_each_failure_is_told_to_each_target_exactly_once_in_the_end(history: list[tuple[int, bool, int]]) -> None:
    desk, here, shaky = Desk(), Recorder("here"), Recorder("shaky")
    hours, seen = 0, 0
    for cause, away, later in history:
        hours, seen, shaky.away = hours + later, seen + 1, away
        tick(desk, [bad_upload(1, error=f"Error{cause}")], here, shaky, after=timedelta(hours=hours))
    shaky.away = False
    tick(desk, [], here, shaky, after=timedelta(hours=hours + 7))
    assert sum(count for _, count in here.taken) == sum(count for _, count in shaky.taken) == seen
    assert desk.alerts == []


def test_the_memory_is_bounded() -> None:
    desk, away = Desk(), Recorder()
    away.away = True
    for number in range(2000):
        message = "x" * 50_000
        failure = Failure(f"job{number % 700}", "step", f"Error{'abcdefghij'[number % 10]}", message, "r" * 36)
        desk.take([failure], ["memory"], NOW + timedelta(minutes=number), WINDOW)
        desk.deliver([away])
    assert len(desk.causes) <= alerts.CAUSES_KEPT
    assert len(desk.alerts) <= alerts.MESSAGES_KEPT
    assert desk.dropped > 0
    assert len(json.dumps(desk.to_json())) < 150_000


# Secrets


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://shelfwise:hunter22@db/registry",
        "password=hunter22 was refused",
        "aws_secret_access_key: 'hunter22'",
        "https://bucket/x?X-Amz-Signature=hunter22&y=1",
        "Authorization: Bearer hunter22hunter22",
        'api_key = "hunter22"',
    ],
)
def test_what_looks_like_a_secret_is_taken_out(text: str) -> None:
    assert "hunter22" not in redacted(text)
    assert "***" in redacted(text)


def test_the_values_of_secret_variables_are_taken_out_of_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHELFWISE_SMTP_PASSWORD", "correct horse")
    desk, place = Desk(), []
    desk.take([bad_upload(1, message="the server said: correct horse is wrong")], ["memory"], NOW, WINDOW)
    place += [alert.text for alert in desk.alerts]
    assert "correct horse" not in json.dumps(desk.to_json())
    assert "***" in place[0]


def test_ordinary_text_stays_as_it_is() -> None:
    text = "row 3: 'Seife 2x 100 g' is no number; see acme/prices.csv"
    assert redacted(text) == text


# Targets


@contextmanager
def webhook(answers: list[int]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A server that answers with these statuses in order, the last for ever; yields its address and what it took."""
    taken: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            status = answers.pop(0) if len(answers) > 1 else answers[0]
            if status == 200:
                taken.append({**body, "content_type": self.headers["Content-Type"]})
            self.send_response(status)
            self.send_header("Location", "/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/hooks/s3cr3t-path", taken
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_a_webhook_is_posted_json() -> None:
    with webhook([200]) as (url, taken):
        WebhookTarget(url).send(ALERT)
    (body,) = taken
    assert body["content_type"] == "application/json"
    assert body["title"] == ALERT.title
    assert body["runs"] == ["run-1"]
    assert body["source"] == "shelfwise"


def test_a_webhook_that_stumbles_is_asked_again() -> None:
    with webhook([500, 503, 200]) as (url, taken):
        WebhookTarget(url, pause=0).send(ALERT)
    assert len(taken) == 1


@pytest.mark.parametrize(
    ("answers", "left"), [([500, 500, 500, 500, 500], 2), ([404, 404, 404], 2), ([302, 200, 200], 2)]
)
def test_tries_are_bounded_and_a_clear_no_is_not_asked_again(answers: list[int], left: int) -> None:
    with webhook(answers) as (url, taken), pytest.raises(ConnectionError, match="status") as caught:
        WebhookTarget(url, pause=0).send(ALERT)
    assert taken == []
    assert len(answers) == left
    assert "s3cr3t" not in str(caught.value)
    assert "127.0.0.1" in str(caught.value)


def test_a_webhook_that_is_silent_is_left_after_the_timeout() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        target = WebhookTarget(f"http://127.0.0.1:{silent.getsockname()[1]}/s3cr3t", timeout=0.2, retries=1, pause=0)
        with pytest.raises(ConnectionError, match="TimeoutError") as caught:
            target.send(ALERT)
    assert "s3cr3t" not in str(caught.value)
    assert "s3cr3t" not in repr(target)


@pytest.mark.parametrize("url", ["not a url", "ftp://example/s3cr3t", "http://"])
def test_an_address_that_is_none_is_told_without_naming_it(url: str) -> None:
    with pytest.raises(ConnectionError) as caught:
        WebhookTarget(url, retries=0).send(ALERT)
    assert "s3cr3t" not in str(caught.value)


class MailServer(threading.Thread):
    """As much of a mail server as a client without TLS needs; refuses recipients where it is told to."""

    def __init__(self, extensions: tuple[str, ...] = (), refuse: bool = False) -> None:
        super().__init__(daemon=True)
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.extensions, self.refuse, self.heard, self.mail = extensions, refuse, [], ""

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.listening.getsockname()[1]}"

    def run(self) -> None:
        connection, _ = self.listening.accept()
        with connection, connection.makefile("rwb", buffering=0) as stream:

            def say(text: str) -> None:
                stream.write(f"{text}\r\n".encode())

            say("220 test")
            while line := stream.readline().decode().strip():
                self.heard.append(line)
                verb = line.split()[0].upper()
                if verb == "EHLO":
                    for extension in self.extensions:
                        say(f"250-{extension}")
                    say("250 test")
                elif verb == "DATA":
                    say("354 go on")
                    body = b""
                    while not body.endswith(b"\r\n.\r\n"):
                        body += stream.readline()
                    self.mail = body.decode()
                    say("250 taken")
                elif verb == "RCPT" and self.refuse:
                    say("550 no such user, password=hunter22")
                elif verb == "QUIT":
                    say("221 bye")
                    return
                else:
                    say("250 fine")


@pytest.fixture
def mail_server() -> Iterator[MailServer]:
    server = MailServer()
    server.start()
    yield server
    server.listening.close()


def test_an_email_arrives_with_subject_and_text(mail_server: MailServer) -> None:
    alert = Alert(ALERT.cause, "two\nlines", "Größe: falsch\n" * 3, 1, ALERT.at)
    EmailTarget("ops@example.org", mail_server.address).send(alert)
    mail_server.join(10)
    assert "Subject: [Shelfwise] two lines" in mail_server.mail
    assert "rcpt TO:<ops@example.org>" in mail_server.heard
    assert "To: ops@example.org" in mail_server.mail


def test_a_refused_recipient_is_a_failure_whose_text_holds_no_secret() -> None:
    server = MailServer(refuse=True)
    server.start()
    with pytest.raises(ConnectionError) as caught:
        EmailTarget("ops@example.org", server.address).send(ALERT)
    assert "hunter22" not in str(caught.value)
    server.listening.close()


def test_a_password_is_not_sent_without_tls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(alerts.USER, "shelfwise")
    monkeypatch.setenv(alerts.PASSWORD, "correct horse")
    server = MailServer(extensions=("AUTH PLAIN LOGIN",))
    server.start()
    with pytest.raises(ConnectionError, match="no TLS"):
        EmailTarget("ops@example.org", server.address).send(ALERT)
    server.listening.close()
    server.join(10)
    assert not any(line.upper().startswith("AUTH") for line in server.heard)


def test_a_refused_password_names_the_variables_and_not_their_values(monkeypatch: pytest.MonkeyPatch) -> None:
    class Server:
        sock = ssl.SSLSocket.__new__(ssl.SSLSocket)

        def __enter__(self) -> Server:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def login(self, user: str, password: str) -> None:
            raise smtplib.SMTPAuthenticationError(535, f"{user}:{password} is wrong".encode())

    monkeypatch.setenv(alerts.USER, "shelfwise")
    monkeypatch.setenv(alerts.PASSWORD, "correct horse")
    monkeypatch.setattr(EmailTarget, "_connect", lambda self: Server())
    with pytest.raises(ConnectionError, match=f"refused {alerts.USER} and {alerts.PASSWORD}") as caught:
        EmailTarget("ops@example.org", "mail.example:587").send(ALERT)
    assert "correct horse" not in str(caught.value)


@pytest.mark.parametrize("server", ["127.0.0.1:1", "nowhere.invalid:25", "no port"])
def test_a_mail_server_that_is_not_there_is_a_failure(server: str) -> None:
    with pytest.raises(ConnectionError):
        EmailTarget("ops@example.org", server, timeout=2).send(ALERT)


def test_the_log_is_always_a_target(caplog: pytest.LogCaptureFixture) -> None:
    assert [target.name for target in targets()] == ["log"]
    assert [target.name for target in targets("http://x/", "a@b")] == ["log", "webhook", "email"]
    with caplog.at_level(logging.WARNING):
        LogTarget().send(ALERT)
    assert "ValueError: no" in caplog.text
