"""The model registry as a resource: assets know versions and aliases, nothing of how they are kept."""

from __future__ import annotations

import dagster as dg
from upath import UPath

from shelfwise.registry import Registry

TITLE_MATCHER = "title_matcher"


class ModelRegistry(dg.ConfigurableResource):
    """Registered models below `<root>/registry`."""

    root: str
    uri: str = ""
    keep: int = 10

    def open(self) -> Registry:
        return Registry(UPath(self.root) / "registry")
