"""`make rollback REASON="..."`: the previous champion again, its index, and the matches of what is still in review."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from typing import cast

import dagster as dg

from orchestration.daemon import Daemon
from orchestration.execution import RunOutcome
from orchestration.jobs import CHAMPION_JOB, CHAMPIONS, QUEUE_JOB, ROLLBACK_JOB
from orchestration.settings import load_settings
from resources.build import build_resources
from resources.registry import CATEGORY_ENSEMBLE, TITLE_MATCHER, ModelRegistry
from sensors.rematch import REMATCH_SENSOR
from shelfwise.registry import Registry, RegistryError

MAX_ROUNDS = 1000


def main(argv: Sequence[str] | None = None) -> int:
    """Roll back from the command line; return the process's exit status."""
    parser = argparse.ArgumentParser(prog="python -m orchestration.rollback", description=__doc__.splitlines()[0])
    parser.add_argument("--reason", required=True, help="goes into the history and into the UI")
    parser.add_argument("--model", choices=list(CHAMPIONS), default=TITLE_MATCHER, help="(default: %(default)s)")
    given = parser.parse_args(argv)
    reason = given.reason.strip()
    if not reason:
        print('say why: make rollback REASON="..."', file=sys.stderr)
        return 2
    if not os.environ.get("DAGSTER_HOME"):
        print("DAGSTER_HOME is not set; `make rollback` sets it", file=sys.stderr)
        return 2
    registry = cast("ModelRegistry", build_resources(load_settings())["registry"]).open()
    with dg.DagsterInstance.get() as instance:
        if given.model != TITLE_MATCHER:
            return roll_back_categories(Daemon(instance), registry, given.model, reason)
        return roll_back(Daemon(instance), registry, reason)


def roll_back(daemon: Daemon, registry: Registry, reason: str, say: Callable[[str], None] = print) -> int:
    """Roll back and rebuild what depends on the champion, as the daemon would; say what was done. Returns the exit
    status: 0 when all of it succeeded. What did not is made up for by the daemon, or by asking for it again in the UI.
    """
    try:
        champion = registry.champion(TITLE_MATCHER)
    except RegistryError as error:
        say(str(error))
        return 1
    config = {"ops": {"roll_back": {"config": {"reason": reason, "champion": champion.version}}}}
    done = daemon.run(ROLLBACK_JOB, config=config)
    if not done.success:
        return _told(done, say)
    say(f"{registry.champion(TITLE_MATCHER).label} is champion again; {champion.label} is the previous one")
    # By job and not by condition: the conditions may have been told to wait, and this is not to wait for them.
    index = daemon.run(CHAMPION_JOB)
    if not index.success:
        return _told(index, say)
    say("The catalog's index is its own again")
    matched = []
    for _ in range(MAX_ROUNDS):
        tick = daemon.tick_sensor(REMATCH_SENSOR)
        if tick.error is not None:
            say(f"What is in review could not be found: {tick.error}")
            return 1
        matched += tick.outcomes
        if not tick.outcomes:
            break
    say(f"{sum(outcome.success for outcome in matched)} of {len(matched)} uploads in review were matched again")
    queue = daemon.run(QUEUE_JOB) if matched else None
    failed = [outcome for outcome in [*matched, *([queue] if queue else [])] if not outcome.success]
    for outcome in failed:
        _told(outcome, say)
    return 1 if failed else 0


def roll_back_categories(
    daemon: Daemon, registry: Registry, model: str, reason: str, say: Callable[[str], None] = print
) -> int:
    """Roll a classifier or the category ensemble back; say what was done and return the exit status.

    A version of the ensemble holds the classifiers it was measured with, so nothing has to be made anew for it.
    """
    try:
        champion = registry.champion(model)
    except RegistryError as error:
        say(str(error))
        return 1
    config = {"ops": {"roll_back": {"config": {"reason": reason, "champion": champion.version, "model": model}}}}
    done = daemon.run(ROLLBACK_JOB, config=config)
    if not done.success:
        return _told(done, say)
    say(f"{registry.champion(model).label} is champion of {model} again; {champion.label} is the previous one")
    if model == CATEGORY_ENSEMBLE:
        say("Uploads from now on get their categories from it; what was classified stays until it is asked for again")
    else:
        say("Uploads get their categories from the category champion, which holds the parts it was measured with;")
        say(f"an ensemble with this one follows by itself and has to pass its gate (--model {CATEGORY_ENSEMBLE})")
    return 0


def _told(outcome: RunOutcome, say: Callable[[str], None]) -> int:
    for line in [*outcome.failed_checks, *outcome.failures]:
        say(f"  {line}")
    say(f"  see run {outcome.run_id} in the UI (make dev)")
    return 1


if __name__ == "__main__":
    raise SystemExit(main())
