"""Jobs: the selections people and sensors start."""

from __future__ import annotations

import dagster as dg

TRAIN_JOB = "train_and_promote"
FOLLOW_JOB = "follow_catalog"
UPLOAD_JOB = "match_upload"
QUEUE_JOB = "refresh_review_queue"

UPLOAD_ASSETS = dg.AssetSelection.assets(["uploads", "upload_lines"], ["uploads", "upload_matches"])
QUEUE_ASSETS = dg.AssetSelection.assets(["uploads", "review_queue"])

# From the raw tables to the champion and its index; everything but what belongs to one upload.
train_and_promote = dg.define_asset_job(
    TRAIN_JOB,
    selection=dg.AssetSelection.all() - dg.AssetSelection.groups("uploads"),
    description="Read the data directory, train a matcher, evaluate it, and promote it if the gate lets it pass.",
    tags={"dagster/max_runtime": 6 * 3600},
)

follow_catalog = dg.define_asset_job(
    FOLLOW_JOB,
    selection=dg.AssetSelection.assets(["matching", "product_names"]).upstream()
    | dg.AssetSelection.assets(["matching", "catalog_index"]),
    description="Read the data directory and let the champion's index follow what has changed; nothing is trained.",
    tags={"dagster/max_runtime": 3600},
)

# The run is a process of its own already and its steps are short: processes for them would take longer than the work.
match_upload = dg.define_asset_job(
    UPLOAD_JOB,
    selection=UPLOAD_ASSETS,
    executor_def=dg.in_process_executor,
    description="Match one uploaded file with the champion.",
    tags={"dagster/max_runtime": 3600},
    # The sensor asks once per content. A file that arrives while a new champion's index is still being made, or while
    # the store is away for a moment, would otherwise stay unmatched; bad files fail without being tried again.
    op_retry_policy=dg.RetryPolicy(max_retries=3, delay=20),
)

refresh_review_queue = dg.define_asset_job(
    QUEUE_JOB,
    selection=QUEUE_ASSETS,
    executor_def=dg.in_process_executor,
    description="Collect the lines of all uploads that a person has to decide.",
)

JOBS = [train_and_promote, follow_catalog, match_upload, refresh_review_queue]
