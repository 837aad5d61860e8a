"""How categories are learnt and decided, as one resource: what a run used is visible in the UI."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import dagster as dg

from shelfwise.classification import promotion
from shelfwise.promotion.rules import Rules

NOT_BELOW = 0.005  # of top-1: a difference to a part of itself that does not matter


class ClassificationConfig(dg.ConfigurableResource):
    """Split, models, gate and decisions of the category classifiers."""

    split_seed: int = 13
    text_base: str = ""
    text_config: str = "{}"
    image_base: str = ""
    image_config: str = "{}"
    picture_side: int = 0
    text_floor: float = 0.75
    image_floor: float = 0.20
    gate_margin: float = 0.01
    assign_precision: float = 0.9
    least_listings: int = 50

    def rules(self, kind: str, parts: Sequence[str] = ()) -> Rules:
        """By which rules a candidate is judged: a 'text' or 'image' classifier, or an 'ensemble' of `parts`."""
        if kind == "text":
            return replace(promotion.TEXT, floor=self.text_floor, margin=self.gate_margin, slack=NOT_BELOW)
        if kind == "image":
            return replace(promotion.IMAGE, floor=self.image_floor, margin=self.gate_margin)
        return replace(promotion.ENSEMBLE, floor=self.image_floor, margin=self.gate_margin, keep=tuple(parts))

    def side(self) -> int:
        """Side of the pictures that classifiers are taught and asked with, in pixels."""
        from shelfwise.classification.pictures import SIDE

        return self.picture_side or SIDE

    def text_overrides(self) -> dict[str, Any]:
        """Fields of `TextConfig` that differ from its defaults."""
        return _with_base(self.text_config, self.text_base)

    def image_overrides(self) -> dict[str, Any]:
        """Fields of `ImageConfig` that differ from its defaults."""
        return _with_base(self.image_config, self.image_base)


def _with_base(config: str, base: str) -> dict[str, Any]:
    return {**json.loads(config), **({"base": base} if base else {})}
