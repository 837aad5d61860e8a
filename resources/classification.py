"""How categories are learnt and decided, as one resource: what a run used is visible in the UI."""

from __future__ import annotations

import json
from typing import Any

import dagster as dg


class ClassificationConfig(dg.ConfigurableResource):
    """Split, models, gate and decisions of the category classifiers."""

    split_seed: int = 13
    text_base: str = ""
    text_config: str = "{}"
    image_base: str = ""
    image_config: str = "{}"
    picture_side: int = 64
    text_floor: float = 0.75
    image_floor: float = 0.20
    gate_margin: float = 0.01
    assign_precision: float = 0.95
    least_listings: int = 50

    def text_overrides(self) -> dict[str, Any]:
        """Fields of `TextConfig` that differ from its defaults."""
        return _with_base(self.text_config, self.text_base)

    def image_overrides(self) -> dict[str, Any]:
        """Fields of `ImageConfig` that differ from its defaults."""
        return _with_base(self.image_config, self.image_base)


def _with_base(config: str, base: str) -> dict[str, Any]:
    return {**json.loads(config), **({"base": base} if base else {})}
