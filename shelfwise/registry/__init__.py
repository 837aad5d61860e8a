"""Model registry: numbered versions that never change, and aliases that point at them, kept by MLflow.

Everything that predicts asks for an alias ("champion"), never for the newest file. MLflow holds the truth: versions
with their artifact, metrics and lineage, and the aliases `champion`, `previous` and `challenger`; any MLflow client
reads the same. What is added here: promotion that compares and swaps, a journal by which a killed one is finished, a
history, a retention rule, and messages that say what to do. `python -m shelfwise.registry` is the same for people.
"""

from shelfwise.registry.client import SETTING, redacted
from shelfwise.registry.core import Registry
from shelfwise.registry.journal import ANY, CHALLENGER, CHAMPION, PREVIOUS
from shelfwise.registry.versions import ModelVersion, RegistryError

__all__ = [
    "ANY",
    "CHALLENGER",
    "CHAMPION",
    "PREVIOUS",
    "SETTING",
    "ModelVersion",
    "Registry",
    "RegistryError",
    "redacted",
]
