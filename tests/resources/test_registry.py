"""Where the registry's settings are seen: in the UI, which shows the values of resources."""

import dagster as dg
import pytest

from orchestration.settings import Settings
from resources.build import build_resources
from resources.registry import ModelRegistry
from shelfwise.registry import RegistryError

SECRET = "https://bob:hunter2@registry.example"


def test_a_password_in_the_uri_is_no_value_that_the_ui_shows(monkeypatch, tmp_path):
    monkeypatch.setenv("SHELFWISE_REGISTRY", SECRET)
    resource = build_resources(Settings(lake=str(tmp_path)))["registry"]
    assert isinstance(resource, ModelRegistry)
    assert "hunter2" not in repr(resource)
    assert resource.open().client.uri == SECRET

    @dg.asset
    def asks(registry: ModelRegistry) -> None:
        assert registry.uri == SECRET
        assert registry.open().client.uri == SECRET

    assert dg.materialize([asks], resources={"registry": resource}).success


def test_a_uri_without_one_is_shown_and_the_retention_rule_is_passed_on(monkeypatch, tmp_path):
    monkeypatch.setenv("SHELFWISE_REGISTRY", "https://registry.example")
    resource = build_resources(Settings(lake=str(tmp_path), keep_versions=4))["registry"]
    assert isinstance(resource, ModelRegistry)
    assert (resource.uri, resource.open().keep) == ("https://registry.example", 4)


def test_a_lake_on_s3_without_a_registry_fails_where_it_is_asked_for(tmp_path):
    resource = build_resources(Settings(env="staging"))["registry"]
    assert isinstance(resource, ModelRegistry)
    with pytest.raises(RegistryError, match="set SHELFWISE_REGISTRY"):
        resource.open()
