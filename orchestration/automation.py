"""What follows by itself, declared in one place.

Keys that are not listed are materialized by a job, a schedule or a person.

- `uploads/review_queue` follows every upload that was matched. It reads all partitions of `upload_matches`. A plain
  `eager()` waits until none of them is missing, and a bad upload's partition is missing for ever: one bad file would
  freeze the queue. So that part of the condition is taken out, and the asset skips missing partitions when it reads.
"""

from __future__ import annotations

import dagster as dg

FOLLOWS: dict[dg.AssetKey, dg.AutomationCondition] = {
    dg.AssetKey(["uploads", "review_queue"]): dg.AutomationCondition.eager().without(
        ~dg.AutomationCondition.any_deps_missing()
    ),
}


def with_automation(assets: list) -> list:
    """Return the assets with the conditions of `FOLLOWS` attached."""

    def attach(spec: dg.AssetSpec) -> dg.AssetSpec:
        condition = FOLLOWS.get(spec.key)
        return spec if condition is None else spec.replace_attributes(automation_condition=condition)

    return list(dg.map_asset_specs(attach, assets))
