"""The model registry as a resource: assets know versions and aliases, nothing of how they are kept."""

from __future__ import annotations

import os

import dagster as dg
from upath import UPath

from shelfwise.registry import SETTING, Registry, redacted

TITLE_MATCHER = "title_matcher"
TEXT_CLASSIFIER, IMAGE_CLASSIFIER, CATEGORY_ENSEMBLE = "text_classifier", "image_classifier", "category_ensemble"


class ModelRegistry(dg.ConfigurableResource):
    """Registered models in MLflow: at `uri`, or in a SQLite file below `<root>/registry`."""

    root: str
    uri: str = ""
    keep: int = 10

    def open(self) -> Registry:
        """Return the registry. Raises RegistryError where the settings name none that could be used."""
        uri = self.uri.get_value() if isinstance(self.uri, dg.EnvVar) else self.uri
        return Registry(UPath(self.root) / "registry", uri or "", self.keep)


def shown_safely(uri: str) -> str:
    """Return a registry's URI as a resource's value: the UI shows those, so one with a password stays a variable."""
    if redacted(uri) != uri and os.environ.get(SETTING) == uri:
        return dg.EnvVar(SETTING)
    return uri
