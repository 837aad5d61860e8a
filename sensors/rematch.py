"""The rematch sensor: a new champion's index, if nobody has made it, and then the uploads that still wait in review.

It looks at what is there (the registry's champion, the index in the lake, the review queue), not at what happened: a
process that was killed between two of these steps leaves nothing that the next tick does not see.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

import dagster as dg
from dagster._core.storage.dagster_run import FINISHED_STATUSES

from resources.lake import Lake
from resources.registry import TITLE_MATCHER, ModelRegistry
from shelfwise.registry import ModelVersion, Registry
from shelfwise.rematch import next_batch, waiting_uploads

REMATCH_SENSOR = "rematch_sensor"
CHAMPION_TAG, MOVE_TAG = "shelfwise/champion", "shelfwise/move"
AT_ONCE = 100
ATTEMPTS = 3
INDEX = dg.AssetKey(["matching", "catalog_index"])
QUEUE = dg.AssetKey(["uploads", "review_queue"])
FEEDBACK = dg.AssetKey(["raw", "feedback"])


@dataclass(frozen=True)
class Place:
    """How far the sensor has come with a champion; anew with each move of the alias, as after a rollback."""

    move: str = ""
    lagging: bool = False
    """Whether the index was another champion's at the last look."""
    after: str = ""
    """The upload requested last."""


def build_rematch_sensor(rematch: Any, follow: Any, makers: frozenset[str], interval: int = 60) -> dg.SensorDefinition:
    """Build the sensor that starts `rematch` for each upload that waits in review and was matched by another champion.

    `follow` makes the index of the champion; it is started when the index is still another's at a second look and no
    run of `makers` (names of jobs that make it) is on its way: that is left to the conditions otherwise.
    """
    rematch_name, follow_name = rematch.name, follow.name

    @dg.sensor(
        name=REMATCH_SENSOR,
        jobs=[rematch, follow],
        minimum_interval_seconds=interval,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Matches uploads that still wait in the review queue again when the champion has changed, each "
        "once per champion.",
    )
    def rematch_sensor(context: dg.SensorEvaluationContext, lake: Lake, registry: ModelRegistry) -> dg.SensorResult:
        versions = registry.open()
        champion = versions.alias(TITLE_MATCHER)
        if champion is None:
            return _idle(Place(), "there is no champion yet")
        move = _move(versions, champion)
        before = _decode(context.cursor)
        place = before if before.move == move else Place(move)
        tags = {CHAMPION_TAG: champion.label, MOVE_TAG: move}
        index = lake.last_reference(INDEX) or {}
        if index.get("champion_id") != champion.artifact_id:
            lagging = Place(move, lagging=True)
            why = f"the catalog's index is not that of champion {champion.label} yet"
            tried = len(context.instance.get_run_ids(filters=dg.RunsFilter(job_name=follow_name, tags=tags)))
            if not place.lagging or tried >= ATTEMPTS or _is_being_made(context.instance, makers):
                return _idle(lagging, f"{why}; {tried} run(s) to make it failed" if tried >= ATTEMPTS else why)
            request = dg.RunRequest(job_name=follow_name, run_key=f"follow:{move}:{tried}", tags=tags)
            return dg.SensorResult(run_requests=[request], cursor=_encode(lagging))
        queue, answers = _table(lake, QUEUE, QUEUE_COLUMNS), _table(lake, FEEDBACK, ANSWER_COLUMNS)
        keys = waiting_uploads(queue, answers, champion.label)
        known = set(context.instance.get_dynamic_partitions("upload_files"))
        batch, after = next_batch([key for key in keys if key in known], place.after, AT_ONCE)
        requests = [
            dg.RunRequest(job_name=rematch_name, partition_key=key, run_key=f"rematch:{move}:{key}", tags=tags)
            for key in batch
        ]
        if not requests:
            return _idle(Place(move), f"no upload in review was matched by another champion than {champion.label}")
        return dg.SensorResult(run_requests=requests, cursor=_encode(Place(move, after=after)))

    return rematch_sensor


QUEUE_COLUMNS = ("vendor_id", "file", "title", "champion_version", "reason")
ANSWER_COLUMNS = ("vendor_id", "vendor_title")


def _table(lake: Lake, key: dg.AssetKey, columns: tuple[str, ...]) -> Any:
    """Return columns of a table, as far as it has them; none of its rows where it was never made."""
    import pandas as pd
    import pyarrow.parquet as pq

    path = lake.table_path(key)
    if not path.exists():
        return pd.DataFrame(columns=list(columns))
    with path.open("rb") as file:
        table = pq.ParquetFile(file)
        return table.read([name for name in columns if name in table.schema_arrow.names]).to_pandas()


def _move(versions: Registry, champion: ModelVersion) -> str:
    """Name the last move of the alias: a champion that comes back after a rollback starts over."""
    moves = [entry for entry in versions.history(champion.model) if entry["action"] in ("promoted", "rolled_back")]
    return f"{champion.label}@{moves[-1]['at']}#{len(moves)}" if moves else champion.label


def _is_being_made(instance: dg.DagsterInstance, makers: frozenset[str]) -> bool:
    statuses = [status for status in dg.DagsterRunStatus if status not in FINISHED_STATUSES]
    runs = instance.get_runs(filters=dg.RunsFilter(statuses=statuses))
    return any(run.job_name in makers or INDEX in (run.asset_selection or ()) for run in runs)


def _idle(place: Place, why: str) -> dg.SensorResult:
    return dg.SensorResult(skip_reason=why, cursor=_encode(place))


def _encode(place: Place) -> str:
    return json.dumps(asdict(place), sort_keys=True)


def _decode(cursor: str | None) -> Place:
    """What a cursor holds; one that cannot be read is as none: run keys know what was started."""
    try:
        return Place(**json.loads(cursor or "{}"))
    except (ValueError, TypeError):
        return Place()
