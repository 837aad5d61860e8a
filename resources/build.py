"""Builds every resource from the settings: the one place where an environment becomes locations."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg

from resources.classification import ClassificationConfig
from resources.dbt import dbt_resource
from resources.lake import Lake, ReferenceIO, TableIO
from resources.matching import MatchingConfig
from resources.monitoring import MonitoringConfig
from resources.registry import ModelRegistry, shown_safely
from resources.source import DataDirectory, Uploads
from resources.trainer import SubprocessTrainer

if TYPE_CHECKING:
    from orchestration.settings import Settings


def build_resources(settings: Settings) -> dict[str, dg.ConfigurableResource | dg.ConfigurableIOManagerFactory]:
    """Return the resources by the names under which assets and sensors ask for them."""
    return {
        "io_manager": TableIO(root=settings.lake_url),
        "reference_io": ReferenceIO(root=settings.lake_url),
        "lake": Lake(root=settings.lake_url),
        "registry": ModelRegistry(
            root=settings.lake_url, uri=shown_safely(settings.registry), keep=settings.keep_versions
        ),
        "source": DataDirectory(
            url=settings.data_url,
            built_in=settings.uses_built_in_data,
            synthetic_products=settings.synthetic_products,
            synthetic_seed=settings.synthetic_seed,
        ),
        "uploads": Uploads(url=settings.data_url, max_mb=settings.upload_max_mb),
        "dbt": dbt_resource(),
        "trainer": SubprocessTrainer(),
        "matching": MatchingConfig(
            policy=settings.policy,
            precision_target=settings.precision_target,
            confidence=settings.confidence,
            review_recall=settings.review_recall,
            clusters=settings.clusters,
            no_match_share=settings.no_match_share,
            approve=settings.approve,
            review=settings.review,
            candidates=settings.candidates,
            hard_share=settings.hard_share,
            split_seed=settings.split_seed,
            encoder_architecture=settings.encoder_architecture,
            encoder_base=settings.encoder_base,
            encoder_config=settings.encoder_config,
            gate_floor_top1=settings.gate_floor_top1,
            gate_margin=settings.gate_margin,
            believe_labels=settings.believe_labels,
        ),
        "classification": ClassificationConfig(
            split_seed=settings.split_seed,
            text_base=settings.text_base,
            text_config=settings.text_config,
            image_base=settings.image_base,
            image_config=settings.image_config,
            picture_side=settings.picture_side,
            text_floor=settings.text_floor,
            image_floor=settings.image_floor,
            gate_margin=settings.gate_margin,
            assign_precision=settings.assign_precision,
            least_listings=settings.least_listings,
        ),
        "monitoring": MonitoringConfig(
            audit_share=settings.audit_share,
            accuracy_drop=settings.accuracy_drop,
            drift_share=settings.drift_share,
            drift_false_alarms=settings.drift_false_alarms,
        ),
    }
