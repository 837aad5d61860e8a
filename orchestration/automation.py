"""What follows what by itself, declared in one place.

Keys that are not listed are materialized by a job: started by a person, a schedule or a sensor. The sensors and what
they start:

- `uploads_sensor`: a new or changed file -> `match_upload` of its partition, once per content.
- `feedback_sensor`: new answers -> `take_feedback`: live quality, labelled lines, names, the champion's index.
- `retrain_sensor`: live accuracy fell, or inputs drifted -> `train_and_promote`, once per cause and not too often.
- `rematch_sensor`: the champion changed -> `rematch_review` of each upload that still waits in the review queue. It is
  a sensor because a condition over partitions cannot know which of them hold lines that wait: it would match every
  upload of the past again.

The conditions:

- `matching/champion` follows an evaluation whose gate let the candidate pass. A training run does both itself; this is
  for what a killed run left undone, and for a gate that was asked again. `eager()` alone would ignore the failed check,
  as the champion then runs apart from the evaluation: hence `all_deps_blocking_checks_passed()`.
- `matching/catalog_index` follows a champion: a promoted one, a rolled back one. It does not follow names and products
  by itself, as `follow_catalog` and `take_feedback` make it at their end: a training run makes names anew too, and
  where the gate refuses its candidate nothing in production may move.
- `uploads/review_queue` follows every upload that was matched, and every answer. It reads all partitions of
  `upload_matches`. A plain `eager()` waits until none of them is missing, and a bad upload's partition is missing for
  ever: one bad file would freeze the queue. So that part of the condition is taken out, and the asset skips missing
  partitions when it reads.
- `monitoring/drift_reference`, what the champion was trained on, follows the champion as its index does.
- `monitoring/upload_drift` follows the matches of its own upload, and nothing else: with a new champion, uploads of the
  past are not compared anew; those that are matched again are.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import dagster as dg

CHAMPION = dg.AssetKey(["matching", "champion"])
EVALUATION = dg.AssetKey(["matching", "matcher_evaluation"])
INDEX = dg.AssetKey(["matching", "catalog_index"])
MATCHES = dg.AssetKey(["uploads", "upload_matches"])
QUEUE = dg.AssetKey(["uploads", "review_queue"])
DRIFT = dg.AssetKey(["monitoring", "upload_drift"])
REFERENCE = dg.AssetKey(["monitoring", "drift_reference"])
CHAMPION_EVALUATION = dg.AssetKey(["monitoring", "champion_evaluation"])


def following(*keys: dg.AssetKey) -> dg.AutomationCondition:
    """`eager()`, behind the blocking checks of what is followed, and deaf to what else the asset is made from."""
    condition = dg.AutomationCondition.eager() & dg.AutomationCondition.all_deps_blocking_checks_passed()
    return condition.allow(dg.AssetSelection.assets(*keys))


FOLLOWS: dict[dg.AssetKey, dg.AutomationCondition] = {
    CHAMPION: following(EVALUATION),
    INDEX: following(CHAMPION),
    QUEUE: dg.AutomationCondition.eager().without(~dg.AutomationCondition.any_deps_missing()),
    REFERENCE: following(CHAMPION),
    DRIFT: following(MATCHES),
}

# When silence is a fault. An evaluation is made by every training run, whatever the gate says: one that is older than a
# cycle and a week means that training has stopped. A champion may stay longer, as nothing was better: after two cycles
# and a week the refusals deserve a look.
FRESH: dict[dg.AssetKey, dg.FreshnessPolicy] = {
    EVALUATION: dg.FreshnessPolicy.time_window(fail_window=timedelta(weeks=6), warn_window=timedelta(weeks=5)),
    CHAMPION: dg.FreshnessPolicy.time_window(fail_window=timedelta(weeks=13), warn_window=timedelta(weeks=9)),
    CHAMPION_EVALUATION: dg.FreshnessPolicy.time_window(fail_window=timedelta(days=15), warn_window=timedelta(days=8)),
}


def with_automation(assets: Sequence) -> list:
    """Return the assets with the conditions of `FOLLOWS` and the freshness policies of `FRESH` attached."""

    def attach(spec: dg.AssetSpec) -> dg.AssetSpec:
        if spec.key in FOLLOWS:
            spec = spec.replace_attributes(automation_condition=FOLLOWS[spec.key])
        return spec.replace_attributes(freshness_policy=FRESH[spec.key]) if spec.key in FRESH else spec

    return list(dg.map_asset_specs(attach, assets))
