"""Alerts: what failed, gathered so that one broken cause is one message, and the places the messages go to.

`Desk.take` groups failures and decides what is said now; `Desk.deliver` hands it to the targets. Both keep their memory
in a `Desk`, which fits a sensor's cursor: it is bounded and made of JSON. A target that fails keeps its messages until
it takes them; the others are not told twice.

Secrets (a webhook's address, passwords) stay in the environment. They are in no message and no log, and what looks like
one in a failure's own text is taken out before anything else is done with it.
"""

from __future__ import annotations

import json
import logging
import os
import re
import smtplib
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from typing import Any, Protocol

from shelfwise.artifacts import content_id

LOG = logging.getLogger("shelfwise.alerts")
MESSAGE_LENGTH = 1500
PLACES_SHOWN = 8
CAUSES_KEPT, MESSAGES_KEPT = 200, 40
SMTPS = 465
USER, PASSWORD = "SHELFWISE_SMTP_USER", "SHELFWISE_SMTP_PASSWORD"

# Errors of what lies outside: wherever they happen, the cause is one. Of any other, the place is part of the cause.
OUTSIDE = re.compile(r"Connect|Timeout|Endpoint|ClientError|Permission|BrokenPipe|SSL|NoCredentials|OSError|Remote")


@dataclass(frozen=True)
class Failure:
    """Something that failed: a step of a run, a run without a failed step, a tick of a sensor or schedule."""

    job: str
    step: str
    error: str
    """Class of the error."""
    message: str
    run_id: str = ""
    partition: str = ""

    @property
    def place(self) -> str:
        """Where it failed, for people."""
        of = f" of {self.partition}" if self.partition else ""
        return " / ".join(filter(None, (self.job, self.step))) + of


@dataclass
class Cause:
    """What is remembered of a cause: when it was first seen, when last said, what was held back since."""

    first: str
    said: str
    held: int = 0


@dataclass
class Alert:
    """One message about one cause, and the targets that have yet to take it."""

    cause: str
    title: str
    text: str
    count: int
    at: str
    runs: list[str] = field(default_factory=list)
    owed_by: list[str] = field(default_factory=list)
    tries: int = 0

    def as_dict(self) -> dict[str, Any]:
        """What targets are given."""
        return {name: getattr(self, name) for name in ("cause", "title", "text", "count", "at", "runs")}


class Target(Protocol):
    """A place that takes messages."""

    @property
    def name(self) -> str:
        """By which the desk knows what it was given."""
        ...

    def send(self, alert: Alert) -> None:
        """Hand over a message. Raises an exception, whose text holds no secret, where that fails."""
        ...


def fingerprint(failure: Failure) -> str:
    """Return what failures of one cause have in common: the error's class, its message without what differs from case
    to case, and the step and job, unless the error comes from outside (a store that is away breaks many steps at once).
    """
    where = () if OUTSIDE.search(failure.error) else (failure.job, failure.step)
    return content_id(*where, failure.error, normalised(failure.message, failure.partition))


def normalised(message: str, partition: str = "") -> str:
    """Return a message without what differs from case to case: keys, paths, quoted values, ids, numbers."""
    text = redacted(message)
    if partition:
        text = text.replace(partition, "<key>")
    for pattern, stand_in in _VARIABLE:
        text = pattern.sub(stand_in, text)
    return " ".join(text.split())[:400]


_VARIABLE = [
    (re.compile(r"\b[a-z][a-z0-9+.-]*://\S+", re.I), "<url>"),
    (re.compile(r"\b[0-9a-f]{8}-[0-9a-f-]{27}\b", re.I), "<id>"),
    (re.compile(r"'[^'\n]{1,200}'|\"[^\"\n]{1,200}\""), "<value>"),
    (re.compile(r"(?<![\w<])[~.]{0,2}(?:/[\w.@ -]+?){2,}(?=[\s,;:)]|$)"), "<path>"),
    (re.compile(r"\b[0-9a-f]{7,}\b", re.I), "<id>"),
    (re.compile(r"\d+(?:[.,:]\d+)*"), "<n>"),
]
_SECRET = [
    (re.compile(r"(?<=://)[^\s/@:]+:[^\s/@]+(?=@)"), "***"),
    (re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"), "***"),
    (re.compile(r"(?i)\b((?:[\w-]*(?:password|passwd|secret|token|api[_-]?key|signature|credential)[\w-]*)\s*[=:]\s*)"
                r"(?:\"[^\"]*\"|'[^']*'|[^\s,;&]+)"), r"\1***"),
    (re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/=-]{8,}"), r"\1 ***"),
]  # fmt: skip
_SECRET_NAMES = re.compile(r"PASSWORD|SECRET|TOKEN|API_?KEY|WEBHOOK|CREDENTIAL", re.I)


def redacted(text: str) -> str:
    """Return a text without what looks like a secret, and without the values of this process's secret variables."""
    for name, value in os.environ.items():
        if len(value) >= 6 and _SECRET_NAMES.search(name):
            text = text.replace(value, "***")
    for pattern, stand_in in _SECRET:
        text = pattern.sub(stand_in, text)
    return text


@dataclass
class Desk:
    """What was said about which cause, and what is still to be delivered."""

    causes: dict[str, Cause] = field(default_factory=dict)
    alerts: list[Alert] = field(default_factory=list)
    dropped: int = 0

    def take(self, failures: Iterable[Failure], targets: Sequence[str], now: datetime, window: timedelta) -> None:
        """Group failures into messages. A cause that was spoken of within `window` is counted; when the window is over
        and it was seen again meanwhile, one message says how often.
        """
        groups: dict[str, list[Failure]] = {}
        for failure in failures:
            groups.setdefault(fingerprint(failure), []).append(failure)
        for name, found in groups.items():
            cause = self.causes.get(name)
            if cause is not None and now - datetime.fromisoformat(cause.said) < window:
                cause.held += len(found)
                continue
            self.causes[name] = Cause(cause.first if cause else now.isoformat(), now.isoformat())
            self._say(_alert(name, found, cause, now), targets)
        for name, cause in self.causes.items():
            if cause.held and now - datetime.fromisoformat(cause.said) >= window:
                self._say(_reminder(name, cause, now), targets)
                cause.said, cause.held = now.isoformat(), 0
        oldest = sorted(self.causes, key=lambda name: self.causes[name].said)
        for name in oldest[: max(0, len(oldest) - CAUSES_KEPT)]:
            del self.causes[name]

    def _say(self, alert: Alert, targets: Sequence[str]) -> None:
        alert.owed_by = list(targets)
        self.alerts.append(alert)
        if len(self.alerts) > MESSAGES_KEPT:
            self.dropped += len(self.alerts) - MESSAGES_KEPT
            self.alerts = self.alerts[-MESSAGES_KEPT:]

    def deliver(self, targets: Iterable[Target], budget: float = 25.0) -> list[str]:
        """Hand every message to the targets that lack it; return what went wrong, in words without secrets.

        After a target has failed it is left alone until the next call: what is away for one message is away for all.
        So is everything that is left after `budget` seconds.
        """
        known = {target.name: target for target in targets}
        problems: dict[str, str] = {}
        began = time.monotonic()
        for alert in self.alerts:
            # A target that is configured no more owes nothing.
            alert.owed_by = [name for name in alert.owed_by if name in known]
            for name in [name for name in alert.owed_by if name not in problems]:
                if time.monotonic() - began > budget:
                    break
                try:
                    known[name].send(alert)
                except Exception as error:
                    problems[name] = redacted(f"{name} did not take an alert, it is tried again: {error}")
                    alert.tries += 1
                else:
                    alert.owed_by.remove(name)
        self.alerts = [alert for alert in self.alerts if alert.owed_by]
        return list(problems.values())

    def to_json(self) -> dict[str, Any]:
        """The desk as JSON; bounded, see `CAUSES_KEPT` and `MESSAGES_KEPT`."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Desk:
        """Read what `to_json` wrote. Raises TypeError or KeyError for anything else."""
        causes = {name: Cause(**cause) for name, cause in value["causes"].items()}
        return cls(causes, [Alert(**alert) for alert in value["alerts"]], int(value["dropped"]))


def _alert(name: str, found: list[Failure], before: Cause | None, now: datetime) -> Alert:
    first = found[0]
    places = list(dict.fromkeys(failure.place for failure in found))
    others = len(places) - 1
    title = f"{places[0]} failed" + (f", and {others} other place(s) for the same reason" if others else "")
    lines = [f"{first.error}: {redacted(first.message).strip()[:MESSAGE_LENGTH]}"]
    if len(places) > 1:
        more = [f"and {len(places) - PLACES_SHOWN} more"] if len(places) > PLACES_SHOWN else []
        lines += ["", "Where:", *(f"- {place}" for place in [*places[:PLACES_SHOWN], *more])]
    if before is not None:
        lines += ["", f"Known since {before.first[:16]}; it was seen {before.held} time(s) more in the meantime."]
    runs = list(dict.fromkeys(failure.run_id for failure in found if failure.run_id))
    if runs:
        lines += ["", "Runs: " + ", ".join(run[:8] for run in runs[:PLACES_SHOWN])]
    count = len(found) + (before.held if before else 0)
    return Alert(name, redacted(title), "\n".join(lines), count, now.isoformat(), runs[:PLACES_SHOWN])


def _reminder(name: str, cause: Cause, now: datetime) -> Alert:
    text = f"First seen {cause.first[:16]}, last told {cause.said[:16]}; {cause.held} time(s) more since then."
    return Alert(name, f"Seen {cause.held} time(s) again (cause {name[:8]})", text, cause.held, now.isoformat())


@dataclass(frozen=True)
class LogTarget:
    """Writes messages to a logger."""

    logger: logging.Logger = LOG
    name: str = "log"

    def send(self, alert: Alert) -> None:
        """Log the message as a warning."""
        self.logger.warning("%s\n%s", alert.title, alert.text)


@dataclass(frozen=True)
class WebhookTarget:
    """Posts messages as JSON. The address may be a secret by itself, so only its host is ever named."""

    url: str = field(repr=False)
    timeout: float = 5.0
    retries: int = 2
    pause: float = 0.5
    name: str = "webhook"

    def send(self, alert: Alert) -> None:
        """Post the message. Raises ConnectionError where it was not taken, after a few tries within one call."""
        body = json.dumps({**alert.as_dict(), "source": "shelfwise"}).encode()
        why = ""
        for attempt in range(self.retries + 1):
            if attempt:
                time.sleep(self.pause * attempt)
            try:
                request = urllib.request.Request(self.url, data=body, headers={"Content-Type": "application/json"})
                with _NO_REDIRECTS.open(request, timeout=self.timeout):
                    return
            except urllib.error.HTTPError as error:
                error.close()
                why = f"status {error.code}"
                if 300 <= error.code < 500 and error.code not in (408, 429):
                    break  # asking again gives the same answer
            except (OSError, ValueError) as error:
                why = type(getattr(error, "reason", error)).__name__
        host = urllib.parse.urlsplit(self.url).hostname or "an address without a host"
        raise ConnectionError(f"the webhook at {host} did not take it ({why})") from None


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A redirected post would become a get, which says nothing to anybody."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


_NO_REDIRECTS = urllib.request.build_opener(_NoRedirects)


@dataclass(frozen=True)
class EmailTarget:
    """Sends messages by SMTP: over TLS from the start on port 465, else over TLS where the server offers it. User and
    password are read from the environment when they are needed, and go nowhere without TLS.
    """

    to: str
    server: str
    """host:port"""
    timeout: float = 10.0
    name: str = "email"

    def send(self, alert: Alert) -> None:
        """Send the message. Raises ConnectionError where that fails."""
        user, password = os.environ.get(USER, ""), os.environ.get(PASSWORD, "")
        mail = EmailMessage()
        mail["From"], mail["To"] = user if "@" in user else self.to, self.to
        mail["Subject"] = " ".join(f"[Shelfwise] {alert.title}".split())[:200]
        mail["Date"] = datetime.now(UTC)
        mail.set_content(alert.text)
        try:
            with self._connect() as server:
                if user and password:
                    if not isinstance(server.sock, ssl.SSLSocket):
                        raise ConnectionError("it offers no TLS, and a password is not sent without")
                    server.login(user, password)
                server.send_message(mail)
        except smtplib.SMTPAuthenticationError as error:
            raise ConnectionError(f"{self.server} refused {USER} and {PASSWORD} ({error.smtp_code})") from None
        except (OSError, smtplib.SMTPException, ValueError) as error:
            # The server's answer may repeat what it was sent.
            raise ConnectionError(f"{self.server}: {redacted(str(error)) or type(error).__name__}") from None

    def _connect(self) -> smtplib.SMTP:
        host, _, port = self.server.rpartition(":")
        if int(port) == SMTPS:
            return smtplib.SMTP_SSL(host, SMTPS, timeout=self.timeout, context=ssl.create_default_context())
        server = smtplib.SMTP(host, int(port), timeout=self.timeout)
        try:
            server.ehlo()
            if server.has_extn("starttls"):
                server.starttls(context=ssl.create_default_context())
        except BaseException:
            server.close()
            raise
        return server


def targets(webhook: str = "", email: str = "", smtp: str = "", logger: logging.Logger = LOG) -> list[Target]:
    """Return the targets that settings name; the log is always one."""
    chosen: list[Target] = [LogTarget(logger)]
    if webhook:
        chosen.append(WebhookTarget(webhook))
    if email:
        chosen.append(EmailTarget(email, smtp or "localhost:25"))
    return chosen
