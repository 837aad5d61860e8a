"""What the fork server does once per run, so that the steps forked from it need not: the heavy imports, and building
the definitions. Never imported by the definitions themselves.
"""

import importlib

import dagster._core.storage.sqlite_storage  # noqa: F401 - sqlalchemy and alembic, by which a step finds its run
import faiss  # noqa: F401, TID253
import lightgbm  # noqa: F401, TID253
import matplotlib.figure  # noqa: F401, TID253
import numba  # noqa: F401, TID253
import pandas  # noqa: F401
import pyarrow.parquet  # noqa: F401
import scipy.sparse  # noqa: F401

from orchestration.definitions import build_definitions
from orchestration.settings import Settings, load_settings
from resources.matching import MatchingConfig
from shelfwise.matching.train import EncoderConfig
from shelfwise.registry.client import preload as preload_registry


def encodes_with_torch(settings: Settings) -> bool:
    """Whether steps run the encoder through torch; a static embedding needs none, and it is a second and 200 MB."""
    names = ("encoder_architecture", "encoder_base", "encoder_config")
    matching = MatchingConfig(**{name: getattr(settings, name) for name in names})
    try:
        return EncoderConfig.from_dict(matching.encoder_overrides()).architecture != "static"
    except ValueError:  # the encoder's own step fails with the reason
        return False


if encodes_with_torch(load_settings()):
    importlib.import_module("torch")
preload_registry()  # nearly two seconds of every step that asks who is champion
build_definitions(load_settings()).get_repository_def().load_all_definitions()
