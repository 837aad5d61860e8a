"""What the fork server does once per run, so that the steps forked from it need not: the heavy imports, and building
the definitions. Never imported by the definitions themselves.
"""

import dagster._core.storage.sqlite_storage  # noqa: F401 - sqlalchemy and alembic, by which a step finds its run
import faiss  # noqa: F401, TID253
import lightgbm  # noqa: F401, TID253
import matplotlib.figure  # noqa: F401, TID253
import pandas  # noqa: F401
import pyarrow.parquet  # noqa: F401
import scipy.sparse  # noqa: F401
import torch  # noqa: F401, TID253

from orchestration.definitions import build_definitions
from orchestration.settings import load_settings

build_definitions(load_settings()).get_repository_def().load_all_definitions()
