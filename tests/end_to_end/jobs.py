"""Jobs that only the tests run: parts of the graph, resolvable by name in a step's process."""

from __future__ import annotations

import dagster as dg

from orchestration.definitions import build_definitions
from orchestration.settings import load_settings

AFTER_RAW = "after_raw"


def after_raw_job() -> dg.JobDefinition:
    """Everything of `train_and_promote` but the raw tables and their profile."""
    graph = dg.AssetSelection.all() - dg.AssetSelection.groups("uploads", "monitoring", "raw", "catalog")
    job = dg.define_asset_job(AFTER_RAW, selection=graph - dg.AssetSelection.checks_for_assets(["raw", "mappings"]))
    definitions = build_definitions(load_settings())
    return dg.Definitions.merge(definitions, dg.Definitions(jobs=[job])).resolve_job_def(AFTER_RAW)
