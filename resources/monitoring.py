"""How production is watched, as one resource: what a run compared with is visible in the UI."""

from __future__ import annotations

import dagster as dg


class MonitoringConfig(dg.ConfigurableResource):
    """Audit, live accuracy and drift."""

    audit_share: float = 0.02
    accuracy_drop: float = 0.05
    drift_share: float = 0.2
    drift_false_alarms: float = 0.01
