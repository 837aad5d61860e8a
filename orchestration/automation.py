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
  partitions when it reads. `uploads/category_queue` follows the categories of uploads, and answers to them, likewise.
- `monitoring/drift_reference`, what the champion was trained on, follows the champion as its index does.
- `monitoring/upload_drift` follows the matches of its own upload, and nothing else: with a new champion, uploads of the
  past are not compared anew; those that are matched again are.
- `classification/text_champion`, `image_champion` and `category_champion` each follow their own evaluation whose gate
  let the candidate pass, as `matching/champion` does.
- `classification/category_ensemble` follows a champion of text or of pictures, promoted or rolled back, whichever: in a
  training run one gate that refuses stops the ensemble too, and it is made after all where the other one passed. A
  modality that never had a champion is missing for ever, so that part of the condition is taken out.
  `classification/ensemble_evaluation` follows the ensemble, and the category champion that.
- `uploads/upload_categories` follows the lines and the matches of its own upload, once neither is being made: after the
  matches, or without them where they failed. Only the lines have to be there. With a new category champion, uploads of
  the past are not classified anew.
- `monitoring/category_reference` follows the category champion, and `monitoring/category_drift` the categories of its
  own upload.
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
CATEGORY_QUEUE = dg.AssetKey(["uploads", "category_queue"])
DRIFT = dg.AssetKey(["monitoring", "upload_drift"])
REFERENCE = dg.AssetKey(["monitoring", "drift_reference"])
CHAMPION_EVALUATION = dg.AssetKey(["monitoring", "champion_evaluation"])
LINES = dg.AssetKey(["uploads", "upload_lines"])
CATEGORIES = dg.AssetKey(["uploads", "upload_categories"])
CATEGORY_REFERENCE = dg.AssetKey(["monitoring", "category_reference"])
CATEGORY_DRIFT = dg.AssetKey(["monitoring", "category_drift"])
TEXT_EVALUATION, IMAGE_EVALUATION, ENSEMBLE_EVALUATION, TEXT_CHAMPION, IMAGE_CHAMPION, CATEGORY_CHAMPION, ENSEMBLE = (
    dg.AssetKey(["classification", name])
    for name in (
        "text_evaluation", "image_evaluation", "ensemble_evaluation", "text_champion", "image_champion",
        "category_champion", "category_ensemble",
    )
)  # fmt: skip


def following(*keys: dg.AssetKey) -> dg.AutomationCondition:
    """`eager()`, behind the blocking checks of what is followed, and deaf to what else the asset is made from."""
    condition = dg.AutomationCondition.eager() & dg.AutomationCondition.all_deps_blocking_checks_passed()
    return condition.allow(dg.AssetSelection.assets(*keys))


def following_any(*keys: dg.AssetKey, needs: Sequence[dg.AssetKey] = ()) -> dg.AutomationCondition:
    """As `following`, but of what is followed, and of all else the asset is made from, only `needs` has to be there.

    For what is followed without a gate: a check that failed is no reason to do without the others.
    """
    anything_missing = dg.AutomationCondition.any_deps_missing()
    condition = dg.AutomationCondition.eager().without(~anything_missing).allow(dg.AssetSelection.assets(*keys))
    return condition & ~anything_missing.allow(dg.AssetSelection.assets(*needs)) if needs else condition


# Whatever is missing among what a queue is made from is skipped when it is read.
COLLECTED = dg.AutomationCondition.eager().without(~dg.AutomationCondition.any_deps_missing())

FOLLOWS: dict[dg.AssetKey, dg.AutomationCondition] = {
    CHAMPION: following(EVALUATION),
    INDEX: following(CHAMPION),
    QUEUE: COLLECTED,
    CATEGORY_QUEUE: COLLECTED,
    REFERENCE: following(CHAMPION),
    DRIFT: following(MATCHES),
    TEXT_CHAMPION: following(TEXT_EVALUATION),
    IMAGE_CHAMPION: following(IMAGE_EVALUATION),
    ENSEMBLE: following_any(TEXT_CHAMPION, IMAGE_CHAMPION),
    ENSEMBLE_EVALUATION: following(ENSEMBLE),
    CATEGORY_CHAMPION: following(ENSEMBLE_EVALUATION),
    CATEGORIES: following_any(LINES, MATCHES, needs=[LINES]),
    CATEGORY_REFERENCE: following(CATEGORY_CHAMPION),
    CATEGORY_DRIFT: following(CATEGORIES),
}

# When silence is a fault. An evaluation is made by every training run, whatever the gate says: one that is older than a
# cycle and a week means that training has stopped. A champion may stay longer, as nothing was better: after two cycles
# and a week the refusals deserve a look.
FRESH: dict[dg.AssetKey, dg.FreshnessPolicy] = {
    EVALUATION: dg.FreshnessPolicy.time_window(fail_window=timedelta(weeks=6), warn_window=timedelta(weeks=5)),
    CHAMPION: dg.FreshnessPolicy.time_window(fail_window=timedelta(weeks=13), warn_window=timedelta(weeks=9)),
    TEXT_EVALUATION: dg.FreshnessPolicy.time_window(fail_window=timedelta(weeks=6), warn_window=timedelta(weeks=5)),
    CATEGORY_CHAMPION: dg.FreshnessPolicy.time_window(fail_window=timedelta(weeks=13), warn_window=timedelta(weeks=9)),
    CHAMPION_EVALUATION: dg.FreshnessPolicy.time_window(fail_window=timedelta(days=15), warn_window=timedelta(days=8)),
}


def with_automation(assets: Sequence) -> list:
    """Return the assets with the conditions of `FOLLOWS` and the freshness policies of `FRESH` attached."""

    def attach(spec: dg.AssetSpec) -> dg.AssetSpec:
        if spec.key in FOLLOWS:
            spec = spec.replace_attributes(automation_condition=FOLLOWS[spec.key])
        return spec.replace_attributes(freshness_policy=FRESH[spec.key]) if spec.key in FRESH else spec

    return list(dg.map_asset_specs(attach, assets))
