import json

import pytest

from shelfwise.registry import PREVIOUS, Registry, RegistryError


@pytest.fixture
def registry(tmp_path):
    return Registry(tmp_path)


def test_no_champion_is_an_error_that_says_what_to_do(registry):
    with pytest.raises(RegistryError, match="no champion of 'm' yet: materialize"):
        registry.champion("m")


def test_versions_count_up_and_the_same_artifact_is_the_same_version(registry):
    first = registry.register("m", "/a", "aaaa1111", {"top1": 0.5}, {"pairs": "x"})
    again = registry.register("m", "/a", "aaaa1111")
    second = registry.register("m", "/b", "bbbb2222")
    assert (first.version, again, second.version) == (1, first, 2)
    assert [v.artifact_id for v in registry.versions("m")] == ["aaaa1111", "bbbb2222"]
    assert first.label == "v1-aaaa1111"


def test_registering_promotes_nothing(registry):
    registry.promote(registry.register("m", "/a", "aaaa1111"))
    registry.register("m", "/b", "bbbb2222")
    assert registry.champion("m").artifact_id == "aaaa1111"


def test_promotion_keeps_the_previous_champion(registry):
    first, second = registry.register("m", "/a", "aaaa1111"), registry.register("m", "/b", "bbbb2222")
    registry.promote(first)
    assert registry.alias("m", PREVIOUS) is None
    registry.promote(second)
    registry.promote(second)
    assert registry.champion("m") == second
    assert registry.alias("m", PREVIOUS) == first


def test_more_than_nine_versions_stay_in_order(registry):
    for number in range(12):
        registry.register("m", f"/{number}", f"{number:08d}")
    assert [v.version for v in registry.versions("m")] == list(range(1, 13))


def test_an_alias_without_its_version_is_an_error_not_a_guess(registry, tmp_path):
    registry.promote(registry.register("m", "/a", "aaaa1111"))
    (tmp_path / "m" / "aliases" / "champion.json").write_text(json.dumps({"version": 9}))
    with pytest.raises(RegistryError, match="version 9, which does not exist"):
        registry.champion("m")


def test_of_two_processes_that_register_at_once_one_is_told_to_run_again(registry, tmp_path, monkeypatch):
    first = registry.register("m", "/a", "aaaa1111")
    monkeypatch.setattr(Registry, "versions", lambda *_: [])  # it looked before the other one wrote
    with pytest.raises(RegistryError, match="another process; run again"):
        registry.register("m", "/b", "bbbb2222")
    monkeypatch.undo()
    assert registry.versions("m") == [first]
    assert [path.name for path in (tmp_path / "m" / "versions").iterdir()] == ["000001.json"]
