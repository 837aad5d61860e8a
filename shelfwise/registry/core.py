"""The registry: what can be asked of it and done with it. The words of `journal` say how a change survives a kill."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from upath import UPath

from shelfwise import artifacts, clock
from shelfwise.registry.client import Client, Missing
from shelfwise.registry.journal import (
    ANY,
    CHALLENGER,
    CHAMPION,
    INTENT,
    PREVIOUS,
    PROMOTED,
    REFUSED,
    RETIRED,
    ROLLED_BACK,
    WITHDRAWN,
    Event,
    Intent,
    State,
    history_key,
    shortened,
    tagged,
)
from shelfwise.registry.lock import Held, locked
from shelfwise.registry.versions import (
    LOCAL_SOURCE,
    ModelVersion,
    RegistryError,
    description_of,
    read_version,
    tags_of,
)

# What compares a candidate with the champion, for messages.
EVALUATIONS = {
    "title_matcher": "matching/matcher_evaluation",
    "text_classifier": "classification/text_evaluation",
    "image_classifier": "classification/image_evaluation",
    "category_ensemble": "classification/ensemble_evaluation",
}
READS = 20  # tries to see a state that nobody changes meanwhile
PAGE = 200  # versions
GRACE = timedelta(days=1)


class Registry:
    """Versions and aliases of models in MLflow, whose database is `<root>/mlflow.db` where `uri` names no other.

    `root` holds the lock too. Raises RegistryError for a root on S3 without a `uri`, and wherever the registry cannot
    be read or written, with a message that says what to do.
    """

    def __init__(self, root: UPath | Path | str, uri: str = "", keep: int = 10) -> None:
        self.root = UPath(root)
        self.keep = keep
        self.client = Client(self.root, uri)

    # What it holds

    def versions(self, model: str) -> list[ModelVersion]:
        """All versions of a model, oldest first."""
        _check_name(model)
        if not self.client.exists():
            return []
        found, token = [], None
        while True:
            page = self.client.call("search_model_versions", f"name = '{model}'", max_results=PAGE, page_token=token)
            found += page
            token = page.token
            if not token:
                return sorted((read_version(version) for version in found), key=lambda version: version.version)

    def alias(self, model: str, alias: str = CHAMPION) -> ModelVersion | None:
        """The version an alias points at, or None where it was never set.

        Raises RegistryError where it points nowhere, and where the champion's alias is gone though the history says
        that there is a champion.
        """
        for _ in range(READS):
            state = self._state(model)
            number = state.aliases.get(alias)
            if number is None:
                break
            found = self._version(model, number)
            if found is not None:
                return found
            if self._state(model).aliases.get(alias) == number:  # and not one that was moved and deleted meanwhile
                raise RegistryError(
                    f"{model}: alias '{alias}' points at version {number}, which does not exist. {self._way_out(model)}"
                )
        if alias == CHAMPION and state.expects_champion is not None:
            raise RegistryError(
                f"{model}: version {state.expects_champion} is champion by the history, but the alias is gone: the "
                f"version or the alias was deleted in MLflow. {self._way_out(model)}"
            )
        return None

    def aliases(self, model: str) -> dict[str, int]:
        """The aliases of a model and the numbers of the versions they point at."""
        return dict(self._state(model).aliases)

    def champion(self, model: str) -> ModelVersion:
        """The version in production. Raises RegistryError where none was promoted yet."""
        version = self.alias(model)
        if version is None:
            reason = "materialize the assets that train it and see why the gate refused, if it did"
            if not self.client.exists():
                reason += f" (there is no registry at {self.client.shown}; if there was, put back a copy of it)"
            raise RegistryError(f"no champion of '{model}' yet: {reason}")
        return version

    def history(self, model: str) -> list[dict[str, Any]]:
        """What happened to a model, oldest first: at, action (promoted, rolled_back, refused, withdrawn), version,
        from_version (the champion until then), reason, label.
        """
        return [asdict(event) for event in self._state(model).history]

    # What changes it

    def register(
        self,
        model: str,
        artifact: str,
        artifact_id: str,
        metrics: dict[str, float] | None = None,
        lineage: dict[str, str] | None = None,
    ) -> ModelVersion:
        """Register an artifact and return its version; the same artifact again is the same version."""
        with self._writing(model, create=True):
            known = self._same(model, artifact_id)
            if known is not None:
                self._unretire(model, artifact_id)
                return known
            at = clock.now().isoformat()
            version = ModelVersion(model, 0, artifact, artifact_id, metrics or {}, lineage or {}, at)
            local = artifacts.is_local(artifact) and not self.client.takes_local_sources
            source = f"{LOCAL_SOURCE}{artifact}" if local else artifact
            self.client.call(
                "create_model_version",
                model,
                source,
                tags=tags_of(version),
                description=description_of(version) or None,
                await_creation_for=0,
            )
            self._unretire(model, artifact_id)
            # Asked again: a request that a server answered too late was sent twice, and the first one counts.
            made = self._same(model, artifact_id)
            assert made is not None
            return made

    def promote(self, version: ModelVersion, expected: int | Literal["any"] | None = ANY, reason: str = "") -> None:
        """Make a version champion, and the champion `previous`. Promoting the champion changes nothing.

        `expected` is the number of the champion with which the version was compared, None where there was none:
        raises RegistryError, and changes nothing, where another is champion by now.
        """
        with self._writing(version.model) as held:
            self._known(version)
            state = self._state(version.model)
            current = state.aliases.get(CHAMPION)
            if current == version.version:
                return
            if expected != ANY and current != expected:
                now, then = self._label(version.model, current), self._label(version.model, expected)
                happened = f"{now} was promoted meanwhile" if current else "the champion was taken away meanwhile"
                raise RegistryError(
                    f"{version.model}: {happened}, and {version.label} was compared with {then}; nothing was "
                    f"promoted: materialize {EVALUATIONS.get(version.model, 'its evaluation')} to compare with what is "
                    "champion now"
                )
            self._move(held, state, version, PROMOTED, reason)

    def rollback(self, model: str, reason: str = "", expected: int | Literal["any"] | None = ANY) -> ModelVersion:
        """Make the previous champion champion again, the champion `previous`, and return the new champion.

        With `expected`, only where that is the champion: whoever tries again after a kill does not swap them back.
        Raises RegistryError where there is no previous champion.
        """
        with self._writing(model) as held:
            state = self._state(model)
            current = state.aliases.get(CHAMPION)
            number = state.aliases.get(PREVIOUS)
            if expected != ANY and current != expected:
                raise RegistryError(
                    f"{model}: {self._label(model, current)} is champion, not {self._label(model, expected)}: "
                    "nothing was rolled back"
                )
            target = None if number in (None, current) else self._version(model, number)
            if target is None:
                raise RegistryError(
                    f"{model} has no previous champion to go back to ({self._label(model, current)} is champion); "
                    f"`{self._command('list')}` lists the versions, and `promote` makes one of them champion"
                )
            self._move(held, state, target, ROLLED_BACK, reason)
            return target

    def challenge(self, version: ModelVersion) -> None:
        """Point the alias `challenger` at a version that is to be compared with the champion."""
        with self._writing(version.model):
            self._known(version)
            if self._state(version.model).aliases.get(CHAMPION) != version.version:
                self.client.call("set_registered_model_alias", version.model, CHALLENGER, str(version.version))

    def refuse(self, version: ModelVersion, reason: str) -> None:
        """Record that the gate refused a version, once for the same reason, and end its challenge."""
        with self._writing(version.model) as held:
            self._known(version)
            state = self._state(version.model)
            event = self._event(version, REFUSED, state.aliases.get(CHAMPION), reason)
            about = [past for past in state.history if past.version == version.version]
            if about and (about[-1].action, about[-1].reason) == (REFUSED, event.reason):
                return
            self._intend(held, version.model, Intent(state.next_number, event, None))
            self._settle(version.model)

    def retain(self, model: str, keep: int | None = None) -> list[ModelVersion]:
        """Delete all but the newest `keep` versions and return them; never champion, previous or challenger.

        Their artifacts stay until `discard_artifacts`.
        """
        keep = self.keep if keep is None else keep
        with self._writing(model) as held:
            spared = set(self._state(model).aliases.values())
            known = self.versions(model)
            old = [version for version in known[: max(len(known) - keep, 0)] if version.version not in spared]
            for version in old:
                held.confirm()
                note = {"artifact": version.artifact, "at": clock.now().isoformat()}
                self._tag(model, f"{RETIRED}{version.artifact_id}", json.dumps(note))
                self.client.call("delete_model_version", model, str(version.version))
            return old

    def discard_artifacts(self, model: str, folder: UPath | Path | str, grace: timedelta = GRACE) -> list[str]:
        """Delete the artifacts of versions that `retain` deleted, and return their locations.

        Only what lies below `folder` and no version uses, and what was retired longer ago than `grace`, so that
        whoever still reads it can finish. A killed one is finished by the next.
        """
        gone = []
        with self._writing(model) as held:
            used = {version.artifact for version in self.versions(model)}
            for artifact_id, text in tagged(self._state(model).tags, RETIRED).items():
                note = json.loads(text)
                if clock.now() - datetime.fromisoformat(note["at"]) < grace:
                    continue
                held.confirm()
                if note["artifact"] not in used and _below(note["artifact"], folder):
                    _remove(note["artifact"])
                    gone.append(note["artifact"])
                self._untag(model, f"{RETIRED}{artifact_id}")
        return gone

    def repair(self, model: str) -> list[str]:
        """Finish what a killed process began, and take away aliases that point nowhere; return what was done.

        A champion that is gone for good is recorded as withdrawn: the next candidate is a first one.
        """
        done = []
        with self._writing(model) as held:
            state = self._state(model)
            dangling = {a: n for a, n in state.aliases.items() if self._version(model, n) is None}
            for alias, number in dangling.items():
                held.confirm()
                self.client.call("delete_registered_model_alias", model, alias)
                done.append(f"alias '{alias}' pointed at version {number}, which does not exist: taken away")
            state = self._state(model)
            expected = state.expects_champion
            if expected is not None and CHAMPION not in state.aliases:
                event = Event(
                    clock.now().isoformat(), WITHDRAWN, expected, expected, "its version or alias was deleted"
                )
                self._intend(held, model, Intent(state.next_number, event, None))
                self._settle(model)
                done.append(f"version {expected} is no champion any more: the next candidate is a first one")
        return done

    # How

    @contextmanager
    def _writing(self, model: str, create: bool = False) -> Generator[Held]:
        """Hold the lock, with a registered model whose last change is whole."""
        _check_name(model)
        with locked(self.root) as held:
            if create or self.client.exists():
                self.client.create()
            else:
                raise RegistryError(f"there is no model registry at {self.client.shown}: nothing was registered yet")
            if create and self._registered(model) is None:
                self.client.call("create_registered_model", model)
            self._settle(model)
            yield held

    def _move(self, held: Held, state: State, version: ModelVersion, action: str, reason: str) -> None:
        """Journal and carry out a change of the champion."""
        current = state.aliases.get(CHAMPION)
        alive = current is not None and self._version(version.model, current) is not None
        event = self._event(version, action, current, reason)
        kept = state.aliases.get(PREVIOUS)
        previous = current if alive else (None if kept == version.version else kept)
        self._intend(held, version.model, Intent(state.next_number, event, previous))
        held.confirm()
        self.client.call("set_registered_model_alias", version.model, CHAMPION, str(version.version))
        self._settle(version.model)

    def _intend(self, held: Held, model: str, intent: Intent) -> None:
        held.confirm()
        self._tag(model, INTENT, intent.as_tag())

    def _settle(self, model: str) -> None:
        """Finish the change that was begun, or forget it where it never moved the champion."""
        found = self._registered(model)
        if found is None or found.intent is None:
            return
        settled, intent = found.settled(), found.intent
        for alias in (PREVIOUS, CHALLENGER):
            number = settled.aliases.get(alias)
            if number == found.aliases.get(alias):
                continue
            if number is None:
                self.client.call("delete_registered_model_alias", model, alias)
            else:
                self.client.call("set_registered_model_alias", model, alias, str(number))
        key = history_key(intent.number)
        if key in settled.tags:
            self._tag(model, key, settled.tags[key])
        self._untag(model, INTENT)

    def _state(self, model: str) -> State:
        """Aliases and tags as they were at one moment. MLflow reads the one after the other, so it is asked until two
        answers agree.
        """
        _check_name(model)
        if not self.client.exists():
            return State()
        seen = self._registered(model)
        for _ in range(READS):
            again = self._registered(model)
            if again == seen:
                break
            seen = again
        return seen.settled() if seen else State()

    def _registered(self, model: str) -> State | None:
        try:
            found = self.client.call("get_registered_model", model)
        except Missing:
            return None
        return State({alias: int(number) for alias, number in found.aliases.items()}, dict(found.tags))

    def _version(self, model: str, number: int) -> ModelVersion | None:
        try:
            return read_version(self.client.call("get_model_version", model, str(number)))
        except Missing:
            return None

    def _known(self, version: ModelVersion) -> None:
        found = self._version(version.model, version.version)
        if found is None or found.artifact_id != version.artifact_id:
            raise RegistryError(
                f"{version.model} has no version {version.label} any more: it was deleted, or the registry begun anew; "
                "materialize its evaluation to register it"
            )

    def _same(self, model: str, artifact_id: str) -> ModelVersion | None:
        return next((known for known in self.versions(model) if known.artifact_id == artifact_id), None)

    def _event(self, version: ModelVersion, action: str, current: int | None, reason: str) -> Event:
        return shortened(Event(clock.now().isoformat(), action, version.version, current, reason, version.label))

    def _label(self, model: str, number: int | None) -> str:
        if number is None:
            return "no champion"
        found = self._version(model, number)
        return found.label if found else f"v{number} (deleted)"

    def _tag(self, model: str, key: str, value: str) -> None:
        self.client.call("set_registered_model_tag", model, key, value)

    def _untag(self, model: str, key: str) -> None:
        self.client.call("delete_registered_model_tag", model, key)

    def _unretire(self, model: str, artifact_id: str) -> None:
        found = self._registered(model)
        if found is not None and f"{RETIRED}{artifact_id}" in found.tags:
            self._untag(model, f"{RETIRED}{artifact_id}")

    def _command(self, what: str) -> str:
        return f"python -m shelfwise.registry --root {self.root} {what}"

    def _way_out(self, model: str) -> str:
        return (
            f"`{self._command('rollback')}` makes the previous champion champion; `repair` instead takes the alias "
            "away, and the next candidate that passes the gate is a first champion"
        )


def _check_name(model: str) -> None:
    if not re.fullmatch(r"[\w.-]+", model, re.ASCII):
        raise RegistryError(f"a model's name is made of letters, digits, '_', '-' and '.', not {model!r}")


def _below(location: str, folder: UPath | Path | str) -> bool:
    inside, outside = UPath(location), UPath(folder)
    if inside.protocol != outside.protocol or ".." in inside.parts:
        return False
    return str(inside).startswith(f"{str(outside).rstrip('/')}/")


def _remove(location: str) -> None:
    """Delete an artifact: its manifest first, so that what is left of it after a kill counts as none."""
    target = UPath(location)
    (target / artifacts.MANIFEST).unlink(missing_ok=True)
    if artifacts.is_local(target):
        shutil.rmtree(str(target), ignore_errors=True)
    elif target.exists():
        target.fs.rm(target.path, recursive=True)
