"""What a model's aliases and history are, also when a process was killed while it changed them.

A change is: the intent is written as a tag of the registered model; the alias `champion` is moved, which is the one
step that decides; `previous`, `challenger` and the history follow; the intent is removed. An intent whose champion was
never moved is one that never happened. An intent whose champion was moved did happen: whoever reads puts the rest in
mind, and whoever writes next finishes it. So nobody ever sees a half of it, and finishing never changes the champion.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace

from shelfwise.registry.versions import PREFIX

CHAMPION, PREVIOUS, CHALLENGER = "champion", "previous", "challenger"
ANY = "any"
INTENT = f"{PREFIX}intent"
HISTORY = f"{PREFIX}history."
RETIRED = f"{PREFIX}retired."

PROMOTED, ROLLED_BACK, REFUSED, WITHDRAWN = "promoted", "rolled_back", "refused", "withdrawn"
MOVES = (PROMOTED, ROLLED_BACK)
LONGEST_REASON = 2_000  # characters


@dataclass(frozen=True)
class Event:
    """One line of a model's history. `version` is what it was about, `from_version` the champion until then."""

    at: str
    action: str
    version: int | None
    from_version: int | None = None
    reason: str = ""
    label: str = ""


@dataclass(frozen=True)
class Intent:
    """A change under way: the event, its number in the history and what `previous` shall be."""

    number: int
    event: Event
    previous: int | None

    def as_tag(self) -> str:
        """Return the value of the tag."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_tag(cls, text: str) -> Intent:
        """Read the value of the tag."""
        document = json.loads(text)
        return cls(document["number"], Event(**document["event"]), document["previous"])


@dataclass(frozen=True)
class State:
    """Aliases and tags of a registered model."""

    aliases: dict[str, int] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)

    @property
    def intent(self) -> Intent | None:
        """The change that was begun and not finished."""
        return Intent.from_tag(self.tags[INTENT]) if INTENT in self.tags else None

    @property
    def history(self) -> list[Event]:
        """What happened, oldest first."""
        return [Event(**json.loads(self.tags[key])) for key in sorted(self.tags) if key.startswith(HISTORY)]

    @property
    def next_number(self) -> int:
        """The number of the next line of the history."""
        return max((int(key.removeprefix(HISTORY)) for key in self.tags if key.startswith(HISTORY)), default=0) + 1

    @property
    def expects_champion(self) -> int | None:
        """The version that the history says is champion."""
        for event in reversed(self.history):
            if event.action in MOVES:
                return event.version
            if event.action == WITHDRAWN:
                return None
        return None

    def settled(self) -> State:
        """Return the state with the change that was begun either whole or gone."""
        intent = self.intent
        if intent is None:
            return self
        event, aliases = intent.event, dict(self.aliases)
        tags = {key: value for key, value in self.tags.items() if key != INTENT}
        if event.action in MOVES and aliases.get(CHAMPION) != event.version:
            return State(aliases, tags)
        if event.action in MOVES:
            aliases.pop(PREVIOUS, None)
            if intent.previous is not None:
                aliases[PREVIOUS] = intent.previous
        if aliases.get(CHALLENGER) == event.version:
            del aliases[CHALLENGER]
        return State(aliases, {**tags, history_key(intent.number): history_value(event)})


def history_key(number: int) -> str:
    """Return the tag of a line of the history."""
    return f"{HISTORY}{number:06d}"


def history_value(event: Event) -> str:
    """Return a line of the history as a tag's value."""
    return json.dumps(asdict(event), sort_keys=True)


def shortened(event: Event) -> Event:
    """Return the event with a reason that fits into a tag."""
    reason = event.reason
    return event if len(reason) <= LONGEST_REASON else replace(event, reason=reason[: LONGEST_REASON - 1] + "…")


def tagged(tags: Mapping[str, str], prefix: str) -> dict[str, str]:
    """Return the tags below a prefix, without it."""
    return {key.removeprefix(prefix): value for key, value in sorted(tags.items()) if key.startswith(prefix)}
