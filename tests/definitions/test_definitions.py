"""The code location loads bare: no environment, no network, no data, nothing heavy."""

import os
import subprocess
import sys
from pathlib import Path

import dagster as dg

from orchestration.definitions import build_definitions
from orchestration.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
HEAVY = (
    "torch",
    "transformers",
    "sentence_transformers",
    "faiss",
    "evidently",
    "lightgbm",
    "datasets",
    "sklearn",
    "mlflow",
)
BARE = {name: value for name, value in os.environ.items() if not name.startswith(("SHELFWISE_", "AWS_", "DAGSTER_"))}


def test_loading_leaves_heavy_packages_out_and_needs_no_environment(tmp_path):
    code = (
        "import socket, sys\n"
        "def refuse(*a, **k): raise AssertionError('definitions opened a network connection')\n"
        "socket.socket.connect = refuse\n"
        "import orchestration.definitions as d\n"
        "d.defs().get_repository_def().load_all_definitions()\n"
        f"print(','.join(name for name in {HEAVY!r} if name in sys.modules))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=BARE, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == ""


def test_definitions_are_loadable():
    dg.Definitions.validate_loadable(build_definitions(Settings()))


def test_the_training_job_reaches_the_champion_and_no_upload():
    job = build_definitions(Settings()).resolve_job_def("train_and_promote")
    keys = {key.to_user_string() for key in job.asset_layer.executable_asset_keys}
    assert {"raw/products", "staging/stg_products", "matching/training_pairs", "matching/champion"} <= keys
    assert not any(key.startswith("uploads/") for key in keys)


def test_following_the_catalog_reaches_the_champions_index_and_trains_nothing():
    job = build_definitions(Settings()).resolve_job_def("follow_catalog")
    keys = {key.to_user_string() for key in job.asset_layer.executable_asset_keys}
    wanted = {"raw/products", "raw/mappings", "staging/stg_products", "marts/labelled_positives"}
    assert wanted | {"matching/product_names", "matching/catalog_index"} <= keys
    trained = {"training_pairs", "title_encoder", "product_embeddings", "product_index", "matcher", "champion"}
    assert not {f"matching/{name}" for name in trained} & keys
    assert not any(key.startswith("uploads/") for key in keys)


def test_assets_never_import_sensors_or_orchestration():
    offenders = [
        f"{path.name}: {line}"
        for folder in ("assets", "resources", "shelfwise")
        for path in (ROOT / folder).rglob("*.py")
        for line in path.read_text().splitlines()
        if line.startswith(("from sensors", "import sensors", "from orchestration", "import orchestration"))
    ]
    assert offenders == []


def test_the_domain_package_imports_no_dagster():
    code = (
        "import importlib, pkgutil, sys, shelfwise\n"
        "for module in pkgutil.walk_packages(shelfwise.__path__, 'shelfwise.'):\n"
        "    if not module.name.endswith('__main__'): importlib.import_module(module.name)\n"
        "print(','.join(sorted(name for name in sys.modules if name.split('.')[0] in ('dagster', 'dagster_pipes'))))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=BARE, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == ""
