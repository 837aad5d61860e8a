"""Which environment points where: the mistake that is only found in production."""

import pytest
from pydantic import ValidationError

from orchestration.settings import PROJECT_ROOT, Settings
from resources.build import build_resources


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch):
    for name in ("ENV", "DATA", "LAKE", "APPROVE", "REVIEW"):
        monkeypatch.delenv(f"SHELFWISE_{name}", raising=False)


def test_local_is_the_default_and_lies_in_the_checkout():
    settings = Settings()
    assert settings.env == "local"
    assert settings.uses_built_in_data
    assert settings.data_url == str(PROJECT_ROOT / "data" / "synthetic")
    assert settings.lake_url == str(PROJECT_ROOT / "lake")


@pytest.mark.parametrize("env", ["staging", "production"])
def test_each_remote_environment_points_at_its_own_buckets(env, monkeypatch):
    monkeypatch.setenv("SHELFWISE_ENV", env)
    settings = Settings()
    resources = build_resources(settings)
    assert settings.lake_url == f"s3://shelfwise-{env}/lake"
    assert settings.data_url == f"s3://shelfwise-{env}/data"
    assert not settings.uses_built_in_data
    for name in ("io_manager", "reference_io", "lake", "registry"):
        assert resources[name].root == f"s3://shelfwise-{env}/lake", name
    for name in ("source", "uploads"):
        assert resources[name].url == f"s3://shelfwise-{env}/data", name
    assert resources["source"].built_in is False


def test_an_unknown_environment_raises(monkeypatch):
    monkeypatch.setenv("SHELFWISE_ENV", "prod")
    with pytest.raises(ValidationError, match="'local', 'staging' or 'production'"):
        Settings()


@pytest.mark.parametrize(
    ("env", "name", "value", "message"),
    [
        ("production", "LAKE", "./lake", "must be an s3:// URL in production"),
        ("production", "LAKE", "s3://shelfwise-staging/lake", "points at staging"),
        ("staging", "DATA", "s3://shelfwise-production/data", "points at production"),
    ],
)
def test_an_environment_cannot_point_at_another(env, name, value, message, monkeypatch):
    monkeypatch.setenv("SHELFWISE_ENV", env)
    monkeypatch.setenv(f"SHELFWISE_{name}", value)
    with pytest.raises(ValidationError, match=message):
        Settings()


def test_review_above_approve_raises(monkeypatch):
    monkeypatch.setenv("SHELFWISE_REVIEW", "0.9")
    with pytest.raises(ValidationError, match="SHELFWISE_REVIEW"):
        Settings()


@pytest.mark.parametrize("text", ["{epochs: 3}", "[]", "3", ""])
def test_an_encoder_configuration_that_is_no_json_object_raises(text, monkeypatch):
    monkeypatch.setenv("SHELFWISE_ENCODER_CONFIG", text)
    with pytest.raises(ValidationError, match="encoder_config"):
        Settings()


def test_relative_paths_do_not_depend_on_the_working_directory(monkeypatch, tmp_path):
    monkeypatch.setenv("SHELFWISE_LAKE", "elsewhere/lake")
    here = Settings().lake_url
    monkeypatch.chdir(tmp_path)
    assert Settings().lake_url == here == str(PROJECT_ROOT / "elsewhere" / "lake")


def test_a_file_url_is_the_path_it_names(monkeypatch, tmp_path):
    monkeypatch.setenv("SHELFWISE_LAKE", f"file://{tmp_path}/lake")
    assert Settings().lake_url == f"{tmp_path}/lake"
