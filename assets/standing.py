"""Checks on what stands for a while, whoever caused it: not part of any one run."""

import dagster as dg
import pandas as pd

from assets.common import table
from assets.uploads import upload_files

LINES, MATCHES = dg.AssetKey(["uploads", "upload_lines"]), dg.AssetKey(["uploads", "upload_matches"])


@dg.asset_check(
    asset=["uploads", "review_queue"],
    description="Every upload was read and matched; lists those that are still failed, with their last run.",
)
def no_failed_uploads(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
    """A bad file fails its own run and nothing else, so somebody has to remember it: this check does."""
    failed = failed_uploads(context.instance)
    what = "1 upload is" if len(failed) == 1 else f"{len(failed)} uploads are"
    return dg.AssetCheckResult(
        passed=failed.empty,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"{what} failed: a new file under the same name is matched by itself, and `match_upload` can be "
        "run again for its partition"
        if len(failed)
        else "no upload is failed",
        metadata={"failed": len(failed), "uploads": table(failed, 100)},
    )


def failed_uploads(instance: dg.DagsterInstance) -> pd.DataFrame:
    """Return upload, step and run of every partition whose last attempt failed, in order of their keys."""
    rows = []
    keys = sorted(instance.get_dynamic_partitions(str(upload_files.name)))
    for asset in (LINES, MATCHES):
        status = instance.get_status_by_partition(asset, keys, upload_files) or {}
        rows += [(key, asset.path[-1]) for key in keys if _is_failed(status.get(key))]
    runs = {key: _last_run(instance, key) for key in sorted({key for key, _ in rows})}
    # Where the lines could not be read, that the matches are missing is no news.
    first = pd.DataFrame(rows, columns=["upload", "failed"]).drop_duplicates("upload").sort_values("upload")
    return first.assign(run=first["upload"].map(runs).astype(object)).reset_index(drop=True)


def _is_failed(status: object) -> bool:
    return getattr(status, "name", "") == "FAILED"


def _last_run(instance: dg.DagsterInstance, key: str) -> str:
    runs = instance.get_runs(filters=dg.RunsFilter(tags={"dagster/partition": key}), limit=1)
    return runs[0].run_id[:8] if runs else ""
