"""The code location loads bare: no environment, no network, no data, nothing heavy."""

import os
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest

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


def keys_of(job: str) -> set[str]:
    layer = build_definitions(Settings()).resolve_job_def(job).asset_layer
    return {key.to_user_string() for key in layer.executable_asset_keys}


@pytest.mark.parametrize("job", ["train_and_promote", "fine_tune"])
def test_a_training_job_reaches_the_champion_and_nothing_that_belongs_to_an_upload_or_a_watch(job: str):
    keys = keys_of(job)
    wanted = {"raw/products", "staging/stg_products", "matching/training_pairs", "matching/champion"}
    assert wanted | {"matching/catalog_index", "monitoring/drift_reference"} <= keys
    assert not any(key.startswith("uploads/") for key in keys)
    assert not {"monitoring/live_quality", "monitoring/champion_evaluation", "monitoring/upload_drift"} & keys
    assert not any(key.startswith("classification/") for key in keys)
    assert not {"raw/listings", "marts/labelled_listings"} & keys, "what only the classifiers read"


def test_the_classifiers_job_reaches_the_category_champion_and_nothing_of_the_matcher():
    keys = keys_of("train_classifiers")
    wanted = {"raw/listings", "raw/products", "marts/labelled_listings", "classification/suspicious_labels"}
    wanted |= {"classification/suspicious_sellers", "staging/stg_listings"}
    champions = {f"classification/{name}_champion" for name in ("text", "image", "category")}
    assert wanted | champions | {"classification/text_evaluation"} <= keys
    assert not any(key.startswith(("matching/", "uploads/")) for key in keys)
    assert {key for key in keys if key.startswith("monitoring/")} == {"monitoring/category_reference"}
    assert keys_of("build_everything") == keys | keys_of("train_and_promote")
    assert keys_of("classify_upload") == {"uploads/upload_categories"}


def test_only_the_fine_tune_begins_with_the_champions_encoder():
    definitions = build_definitions(Settings())
    assert not definitions.resolve_job_def("train_and_promote").run_config
    begun = {"ops": {"matching__title_encoder": {"config": {"from_champion": True}}}}
    assert definitions.resolve_job_def("fine_tune").run_config == begun


TRAINED = {"training_pairs", "title_encoder", "product_embeddings", "product_index", "matcher", "champion"}


def test_answers_are_taken_without_reading_the_data_directory_and_without_training():
    keys = keys_of("take_feedback")
    assert keys == {
        "raw/feedback", "staging/stg_feedback", "marts/labelled_positives", "marts/vendor_statistics",
        "matching/product_names", "matching/catalog_index", "monitoring/live_quality", "raw/category_feedback",
        "monitoring/category_quality",
    }  # fmt: skip


def test_the_weekly_evaluation_reads_and_trains_nothing():
    assert keys_of("evaluate_champion") == {"monitoring/champion_evaluation", "monitoring/weekly_drift"}


def test_what_waits_is_matched_again_from_the_lines_that_were_read():
    assert keys_of("rematch_review") == {"uploads/upload_matches"}
    assert keys_of("follow_champion") == {"matching/catalog_index"}


def test_everything_that_can_tick_is_wired_and_on_where_it_should_be():
    repository = build_definitions(Settings()).get_repository_def()
    sensors = {sensor.name: sensor.default_status for sensor in repository.sensor_defs}
    assert set(sensors) == {
        "uploads_sensor", "feedback_sensor", "retrain_sensor", "retrain_classifiers_sensor", "rematch_sensor",
        "failures_sensor", "automation",
    }  # fmt: skip
    assert set(sensors.values()) == {dg.DefaultSensorStatus.RUNNING}
    assert [target.job_name for target in repository.get_sensor_def("feedback_sensor").targets] == ["take_feedback"]
    assert [target.job_name for target in repository.get_sensor_def("retrain_sensor").targets] == ["train_and_promote"]
    classifiers = repository.get_sensor_def("retrain_classifiers_sensor")
    assert [target.job_name for target in classifiers.targets] == ["train_classifiers"]


def test_following_the_catalog_reaches_the_champions_index_and_trains_nothing():
    keys = keys_of("follow_catalog")
    wanted = {"raw/products", "raw/mappings", "staging/stg_products", "marts/labelled_positives"}
    assert wanted | {"matching/product_names", "matching/catalog_index"} <= keys
    assert not {f"matching/{name}" for name in TRAINED} & keys
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
