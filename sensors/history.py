"""What Dagster's runs tell a sensor: which requests were made, and which of them came to nothing.

A run is the memory that a crash cannot take: it exists before the cursor that knows of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import dagster as dg
from dagster._core.storage.tags import SENSOR_NAME_TAG

from shelfwise.contract.decide import Request, SensorState, is_news, learn

REVISION_TAG, ATTEMPT_TAG = "shelfwise/revision", "shelfwise/attempt"
PAGE = 50
LOOKED_BACK = timedelta(days=7)
_ENDED = [dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
# Whether a run that ended was interrupted, by its id: that never changes.
_VERDICTS: dict[str, dg.DagsterRun | None] = {}
_VERDICTS_KEPT = 20_000


def requests_made(
    instance: dg.DagsterInstance,
    sensor: str,
    state: SensorState,
    parse: Callable[[dg.DagsterRun], Request | None],
) -> list[Request]:
    """Return the requests that `state` does not know of (all, after the cursor was reset) and those that were
    interrupted and not made again, oldest first. `parse` reads a request from the tags of its run.
    """
    news = []
    for page in _pages(instance, sensor):
        made = [one for one in map(parse, page) if one is not None]
        fresh = [one for one in made if is_news(state, one)]
        news += fresh
        # Runs come newest first: behind a page that is known, all are.
        if made and not fresh:
            break
    news.reverse()
    return [*news, *_interrupted(instance, sensor, learn(state, news), parse)]


def _pages(instance: dg.DagsterInstance, sensor: str) -> Iterator[list[dg.DagsterRun]]:
    filters, last = dg.RunsFilter(tags={SENSOR_NAME_TAG: sensor}), None
    while runs := list(instance.get_runs(filters=filters, cursor=last, limit=PAGE)):
        yield runs
        last = runs[-1].run_id


def _interrupted(
    instance: dg.DagsterInstance, sensor: str, state: SensorState, parse: Callable[[dg.DagsterRun], Request | None]
) -> list[Request]:
    """Requests whose runs were interrupted in the last days, where they are the last ones of their key."""
    # The system's clock, not the project's: it is compared with the times of the run storage.
    since = datetime.now(UTC) - LOOKED_BACK
    filters = dg.RunsFilter(tags={SENSOR_NAME_TAG: sensor}, statuses=_ENDED, updated_after=since)
    ids = instance.get_run_ids(filters=filters)
    if unread := [run_id for run_id in ids if run_id not in _VERDICTS]:
        if len(_VERDICTS) + len(unread) > _VERDICTS_KEPT:
            _VERDICTS.clear()
            unread = ids
        for run in instance.get_runs(filters=dg.RunsFilter(run_ids=list(unread))):
            _VERDICTS[run.run_id] = run if was_interrupted(instance, run) else None
    found = []
    for run_id in reversed(ids):
        run = _VERDICTS.get(run_id)
        request = parse(run) if run is not None else None
        if run is None or request is None or is_news(state, request):
            continue
        entry = state.entries[request.key]
        stands = (entry.etag, entry.requests - 1) == (request.etag, request.revision)
        if stands and not _made_again(instance, run):
            found.append(request._replace(interrupted=True))
    return found


def _made_again(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    """Whether a person, or Dagster's own retry, has executed an interrupted run again."""
    root = run.root_run_id or run.run_id
    again = instance.get_runs(filters=dg.RunsFilter(tags={"dagster/root_run_id": root}), limit=1)
    return bool(again) and again[0].run_id != run.run_id


def was_interrupted(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    """Whether a run ended without an answer: canceled, or dead without any of its steps having failed.

    A bad file is an answer: its step failed, and trying it again would fail again.
    """
    if run.status != dg.DagsterRunStatus.FAILURE:
        return run.status == dg.DagsterRunStatus.CANCELED
    return not instance.get_records_for_run(run.run_id, of_type=dg.DagsterEventType.STEP_FAILURE, limit=1).records
