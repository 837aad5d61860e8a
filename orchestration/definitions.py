"""The code location: the only module that sees assets, resources and sensors together."""

from __future__ import annotations

from functools import lru_cache, partial
from typing import Any

import dagster as dg

import assets
from assets.uploads import upload_files
from orchestration.automation import with_automation
from orchestration.jobs import (
    INDEX_MAKERS,
    JOBS,
    follow_champion,
    match_upload,
    rematch_review,
    take_feedback,
    train_and_promote,
    train_classifiers,
)
from orchestration.schedules import build_schedules
from orchestration.settings import Settings, load_settings
from resources.build import build_resources
from resources.registry import CATEGORY_ENSEMBLE
from sensors.failures import build_failures_sensor
from sensors.feedback import build_feedback_sensor
from sensors.rematch import build_rematch_sensor
from sensors.retrain import CLASSIFIERS_SENSOR, build_retrain_sensor
from sensors.uploads import build_uploads_sensor
from shelfwise import alerts
from shelfwise.monitoring.signals import CATEGORIES

# A step costs the import of what it uses. The fork server pays for that once per run, and every step starts as a fork
# of it. The definitions themselves stay light: the web server and the daemon load no more than they need.
PRELOAD = ["orchestration.preload"]
AUTOMATION = "automation"


@lru_cache(maxsize=2)
def build_definitions(settings: Settings) -> dg.Definitions:
    """As `assemble`, once per process."""
    return assemble(settings)


def assemble(settings: Settings, **resources: Any) -> dg.Definitions:
    """Assemble every definition from one settings object; touches neither network nor data.

    `resources` take the place of those that the settings choose.
    """
    return dg.Definitions(
        assets=with_automation(list(dg.load_assets_from_package_module(assets))),
        asset_checks=dg.load_asset_checks_from_package_module(assets),
        jobs=JOBS,
        sensors=_sensors(settings),
        schedules=build_schedules(settings),
        resources={**build_resources(settings), **resources},
        executor=dg.multiprocess_executor.configured(
            {"max_concurrent": 2, "start_method": {"forkserver": {"preload_modules": PRELOAD}}}
        ),
    )


def _sensors(settings: Settings) -> list[dg.SensorDefinition]:
    return [
        build_uploads_sensor(
            upload_files, match_upload, settings.upload_settle_seconds, settings.upload_interval_seconds
        ),
        build_feedback_sensor(take_feedback, settings.feedback_interval_seconds),
        build_retrain_sensor(train_and_promote, 60, settings.retrain_min_days),
        build_retrain_sensor(
            train_classifiers, 60, settings.retrain_min_days, CLASSIFIERS_SENSOR, CATEGORY_ENSEMBLE, CATEGORIES
        ),
        build_rematch_sensor(rematch_review, follow_champion, INDEX_MAKERS),
        build_failures_sensor(partial(alerts.targets, settings.alert_webhook, settings.alert_email, settings.smtp)),
        dg.AutomationConditionSensorDefinition(
            AUTOMATION, target=dg.AssetSelection.all(), default_status=dg.DefaultSensorStatus.RUNNING
        ),
    ]


@dg.definitions
def defs() -> dg.Definitions:
    """Entry point of the code location."""
    return build_definitions(load_settings())
