"""Every setting of the project in one typed object, read from the environment (and `.env` through the Makefile).

Relative paths are relative to the checkout, whatever directory a process was started in: the web server, the
daemon and the steps of a run do not share one.
"""

from __future__ import annotations

import json
from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

PROJECT_ROOT = Path(__file__).resolve().parents[1]
BUILT_IN_DATA = "data/synthetic"


class Settings(BaseSettings):
    """Settings with their defaults; each is the environment variable `SHELFWISE_<NAME>`."""

    model_config = SettingsConfigDict(env_prefix="SHELFWISE_", extra="ignore", frozen=True)

    env: Literal["local", "staging", "production"] = "local"
    data: str = Field(default="", description="data directory, local or s3://; built-in catalog if empty")
    lake: str = Field(default="", description="what the project makes is kept here, local or s3://")

    synthetic_products: int = Field(default=10_000, ge=2_000, le=1_000_000)
    synthetic_seed: int = 7

    policy: Literal["guaranteed", "fixed"] = Field(
        default="guaranteed", description="approve from where the precision is proven, or from a fixed score"
    )
    precision_target: float = Field(default=0.99, gt=0, lt=1, description="guaranteed: precision of approved lines")
    confidence: float = Field(default=0.95, gt=0, lt=1, description="guaranteed: confidence of that promise")
    review_recall: float = Field(
        default=0.99, ge=0, le=1, description="guaranteed: share of right answers that are approved or reviewed"
    )
    clusters: Literal["product", "vendor"] = Field(
        default="product", description="guaranteed: lines of what count as wrong together; vendor is more careful"
    )
    no_match_share: float = Field(
        default=0.25, ge=0, lt=1, description="share of lines without a product that thresholds are derived for"
    )
    approve: float = Field(default=0.85, ge=0, le=1, description="fixed: auto-approve at or above this score")
    review: float = Field(default=0.65, ge=0, le=1, description="fixed: send to review at or above this score")
    candidates: int = Field(default=5, ge=1, le=50, description="candidates kept per line")

    hard_share: float = Field(default=2 / 3, ge=0, le=1, description="share of negatives that are hard ones")
    split_seed: int = 13
    encoder_architecture: Literal["auto", "static", "bert"] = Field(
        default="auto",
        description="static: trains in seconds on a CPU; bert: a transformer for a GPU; auto: by machine",
    )
    encoder_base: str = Field(default="", description="model to fine-tune, id or path; from scratch if empty")
    encoder_config: str = Field(default="{}", description="JSON object that overrides fields of EncoderConfig")

    gate_floor_top1: float = Field(default=0.5, ge=0, le=1, description="the first champion's top-1 must reach this")
    gate_margin: float = Field(
        default=0.01, ge=0, lt=1, description="a slice of importance may lose this much accuracy to the champion"
    )
    believe_labels: bool = Field(
        default=False, description="past mappings are learnt from even where they contradict the champion in number"
    )
    text_base: str = Field(
        default="", description="text classifier: model to fine-tune beside its own networks, id or path"
    )
    text_config: str = Field(default="{}", description="JSON object that overrides fields of TextConfig")
    image_base: str = Field(default="", description="image classifier: backbone, id or path; from scratch if empty")
    image_config: str = Field(default="{}", description="JSON object that overrides fields of ImageConfig")
    picture_side: int = Field(default=0, ge=0, le=512, description="pixels to which pictures are scaled; 0: own choice")
    text_floor: float = Field(default=0.75, ge=0, le=1, description="top-1 that the text classifier must reach")
    image_floor: float = Field(default=0.20, ge=0, le=1, description="top-1 that the image classifier must reach")
    # Sellers' own labels are wrong in a few of a hundred listings, so more than this can rarely be shown with them.
    assign_precision: float = Field(
        default=0.9, gt=0, lt=1, description="share of categories assigned without a person that are to be right"
    )
    least_listings: int = Field(default=50, ge=10, description="labelled listings, or pictures, to train on at least")

    registry: str = Field(default="", description="MLflow's URI; a SQLite file in a local lake if empty")
    keep_versions: int = Field(
        default=10, ge=3, description="registered versions that are kept, champion and previous always"
    )

    audit_share: float = Field(
        default=0.02, ge=0, le=1, description="share of approved and no-match lines that a person sees all the same"
    )
    accuracy_drop: float = Field(
        default=0.05, gt=0, lt=1, description="live accuracy this far below the accepted evaluation asks for a retrain"
    )
    drift_share: float = Field(
        default=0.2, gt=0, le=1, description="share of drifted columns at which an upload's drift check fails"
    )
    drift_false_alarms: float = Field(
        default=0.01, gt=0, lt=1, description="share of undisturbed uploads that may be called drifted"
    )
    retrain_min_days: float = Field(default=7, ge=0, description="least time between two retrains that were asked for")
    fine_tune_answers: int = Field(default=200, ge=1, description="new answers after which the champion is fine-tuned")
    retrain_anchor: date = Field(default=date(2026, 1, 5), description="a day on which a four-week cycle begins")
    retrain_hour: int = Field(default=6, ge=0, le=23)
    timezone: str = Field(default="UTC", description="of the schedules")
    feedback_interval_seconds: int = Field(default=30, ge=1, description="how often the feedback sensor looks")

    alert_webhook: str = Field(default="", description="alerts are posted here as JSON")
    alert_email: str = Field(default="", description="alerts are sent here; SHELFWISE_SMTP says through which server")
    smtp: str = Field(
        default="", description="host:port; user and password come from SHELFWISE_SMTP_USER, ..._PASSWORD"
    )
    upload_settle_seconds: float = Field(default=5.0, ge=0, description="a local file younger than this waits")
    upload_interval_seconds: int = Field(default=30, ge=1, description="how often the uploads sensor looks")
    upload_max_mb: int = Field(default=50, ge=1)

    @field_validator("encoder_config", "text_config", "image_config")
    @classmethod
    def _json_object(cls, text: str, info: ValidationInfo) -> str:
        # Read here already, so that a slip of the pen does not wait for the training step to be found.
        if not isinstance(json.loads(text), dict):
            raise ValueError(f"SHELFWISE_{str(info.field_name).upper()} must be a JSON object")
        return text

    @model_validator(mode="after")
    def _consistent(self) -> Settings:
        if self.review > self.approve:
            raise ValueError(f"SHELFWISE_REVIEW ({self.review}) must not exceed SHELFWISE_APPROVE ({self.approve})")
        if self.env != "local" and not self.lake_url.startswith("s3://"):
            raise ValueError(f"SHELFWISE_LAKE must be an s3:// URL in {self.env}, not {self.lake_url!r}")
        other = {"staging": "production", "production": "staging"}.get(self.env)
        if other and any(other in url for url in (self.lake_url, self.data_url)):
            raise ValueError(f"SHELFWISE_ENV is {self.env}, but its data or lake points at {other}")
        return self

    @property
    def uses_built_in_data(self) -> bool:
        """Whether the data directory is the built-in synthetic catalog."""
        return self.env == "local" and not self.data

    @property
    def data_url(self) -> str:
        """The data directory, absolute."""
        return _absolute(self.data or (BUILT_IN_DATA if self.env == "local" else f"s3://shelfwise-{self.env}/data"))

    @property
    def lake_url(self) -> str:
        """The lake, absolute."""
        return _absolute(self.lake or ("lake" if self.env == "local" else f"s3://shelfwise-{self.env}/lake"))


def _absolute(location: str) -> str:
    location = location.removeprefix("file://")
    if "://" in location:
        return location.rstrip("/")
    return str((PROJECT_ROOT / Path(location).expanduser()).resolve())


@lru_cache(maxsize=1)
def load_settings() -> Settings:
    """Read the settings once per process. An unknown environment or a bad value raises pydantic's ValidationError."""
    return Settings()
