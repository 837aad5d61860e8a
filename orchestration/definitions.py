"""The code location: the only module that sees assets, resources and sensors together."""

from __future__ import annotations

from functools import lru_cache

import dagster as dg

import assets
from assets.uploads import upload_files
from orchestration.automation import with_automation
from orchestration.jobs import JOBS, match_upload
from orchestration.settings import Settings, load_settings
from resources.build import build_resources
from sensors.uploads import build_uploads_sensor

# A step costs the import of what it uses. The fork server pays for that once per run, and every step starts as a fork
# of it. The definitions themselves stay light: the web server and the daemon load no more than they need.
PRELOAD = ["orchestration.preload"]


@lru_cache(maxsize=2)
def build_definitions(settings: Settings) -> dg.Definitions:
    """Assemble every definition from one settings object, once per process; touches neither network nor data."""
    uploads_sensor = build_uploads_sensor(
        upload_files, match_upload, settings.upload_settle_seconds, settings.upload_interval_seconds
    )
    return dg.Definitions(
        assets=with_automation(list(dg.load_assets_from_package_module(assets))),
        asset_checks=dg.load_asset_checks_from_package_module(assets),
        jobs=JOBS,
        sensors=[
            uploads_sensor,
            dg.AutomationConditionSensorDefinition(
                "automation", target=dg.AssetSelection.all(), default_status=dg.DefaultSensorStatus.RUNNING
            ),
        ],
        resources=build_resources(settings),
        executor=dg.multiprocess_executor.configured(
            {"max_concurrent": 2, "start_method": {"forkserver": {"preload_modules": PRELOAD}}}
        ),
    )


@dg.definitions
def defs() -> dg.Definitions:
    """Entry point of the code location."""
    return build_definitions(load_settings())
