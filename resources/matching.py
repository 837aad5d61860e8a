"""How matching is configured, as one resource: what a run used is visible in the UI."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import dagster as dg

from shelfwise.matching.decisions import GUARANTEED, Policy
from shelfwise.matching.guarantee import BY_PRODUCT, Goal
from shelfwise.matching.promotion import RULES
from shelfwise.promotion.rules import Rules


class MatchingConfig(dg.ConfigurableResource):
    """Decisions, negatives, encoder and gate."""

    policy: str = GUARANTEED
    precision_target: float = 0.99
    confidence: float = 0.95
    review_recall: float = 0.99
    clusters: str = BY_PRODUCT
    no_match_share: float = 0.25
    approve: float = 0.85
    review: float = 0.65
    candidates: int = 5
    hard_share: float = 2 / 3
    split_seed: int = 13
    encoder_architecture: str = "auto"
    encoder_base: str = ""
    encoder_config: str = "{}"
    gate_floor_top1: float = 0.5
    gate_margin: float = 0.01
    believe_labels: bool = False

    def decisions(self) -> Policy:
        """How scores become decisions. Raises ValueError where settings contradict each other."""
        goal = Goal(self.precision_target, self.confidence, self.review_recall, self.clusters)
        return Policy(self.policy, goal, self.approve, self.review)

    def rules(self) -> Rules:
        """What the gate asks of a matcher."""
        return replace(RULES, floor=self.gate_floor_top1, margin=self.gate_margin)

    def encoder_overrides(self) -> dict[str, Any]:
        """Fields of `EncoderConfig` that differ from its defaults."""
        said = {"architecture": self.encoder_architecture} if self.encoder_architecture != "auto" else {}
        said |= {"base": self.encoder_base} if self.encoder_base else {}
        return {**json.loads(self.encoder_config), **said}
