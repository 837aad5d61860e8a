"""The registry on its default, a SQLite database of MLflow's beside the lake."""

import itertools
import os
import re
import shutil
import sqlite3
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from shelfwise.artifacts import MANIFEST, publish
from shelfwise.registry import CHALLENGER, CHAMPION, PREVIOUS, ModelVersion, Registry, RegistryError
from shelfwise.registry.__main__ import main
from shelfwise.registry.client import Client, redacted
from shelfwise.registry.journal import INTENT, LONGEST_REASON


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "registry")


def register(registry: Registry, *names: str) -> list[ModelVersion]:
    return [registry.register("m", f"/{name}", name * 8, {"top1": ord(name) / 128}) for name in names]


def mlflow(registry: Registry):
    """Return MLflow's own client, as another program would use it."""
    from mlflow.tracking import MlflowClient

    return MlflowClient(tracking_uri=registry.client.uri, registry_uri=registry.client.uri)


def actions(registry: Registry) -> list[tuple]:
    return [(event["action"], event["version"], event["from_version"]) for event in registry.history("m")]


def test_nothing_yet_is_an_error_that_says_what_to_do_and_makes_no_database(registry, tmp_path):
    with pytest.raises(
        RegistryError, match=r"no champion of 'm' yet: materialize .*there is no registry at .*put back"
    ):
        registry.champion("m")
    assert (registry.versions("m"), registry.alias("m"), registry.aliases("m"), registry.history("m")) == (
        [],
        None,
        {},
        [],
    )
    with pytest.raises(RegistryError, match="nothing was registered yet"):
        registry.rollback("m")
    assert not (tmp_path / "registry" / "mlflow.db").exists()


def test_versions_count_up_and_the_same_artifact_is_the_same_version(registry):
    first = registry.register("m", "/a", "aaaa1111", {"top1": 0.1 + 0.2}, {"pairs": "x", "unknown": None})
    again = registry.register("m", "/a", "aaaa1111")
    second = registry.register("m", "/b", "bbbb2222")
    assert (first.version, again, second.version) == (1, first, 2)
    assert registry.versions("m") == [first, second]
    assert (first.label, first.artifact) == ("v1-aaaa1111", "/a")
    assert (first.metrics, first.lineage) == ({"top1": 0.1 + 0.2}, {"pairs": "x", "unknown": None})
    assert registry.versions("other") == []


def test_any_mlflow_client_sees_versions_and_aliases(registry):
    (first,) = register(registry, "a")
    registry.promote(first)
    found = mlflow(registry).get_model_version_by_alias("m", "champion")
    assert (int(found.version), found.source, found.tags["shelfwise.artifact_id"]) == (1, "/a", "aaaaaaaa")
    assert found.description == "aaaaaaaa: top1 0.7578"


def test_a_version_that_another_program_registered_is_one_too(registry):
    register(registry, "a")
    mlflow(registry).create_model_version("m", "/elsewhere")
    foreign = registry.versions("m")[-1]
    assert (foreign.version, foreign.artifact, len(foreign.artifact_id)) == (2, "/elsewhere", 16)
    registry.promote(foreign)
    assert registry.champion("m") == foreign


def test_metrics_and_lineage_of_any_length_come_back_whole(registry):
    metrics = {f"slice {number}: précision@{number}": number / 7 for number in range(800)}
    lineage = {"long": "é" * 9_000, "broken": "😀 \"'\\"}
    version = registry.register("m", "/a", "aaaa1111", metrics, lineage)
    assert (version.metrics, version.lineage) == (metrics, lineage)
    assert registry.versions("m") == [version]


def test_more_than_nine_versions_stay_in_order(registry):
    register(registry, *"abcdefghijkl")
    assert [v.version for v in registry.versions("m")] == list(range(1, 13))


def test_registering_promotes_nothing(registry):
    registry.promote(register(registry, "a")[0])
    register(registry, "b")
    assert registry.champion("m").artifact == "/a"


def test_promotion_keeps_the_previous_champion_and_ends_the_challenge(registry):
    first, second = register(registry, "a", "b")
    registry.promote(first, None)
    assert registry.alias("m", PREVIOUS) is None
    registry.challenge(second)
    registry.challenge(first)  # the champion challenges nobody
    assert registry.alias("m", CHALLENGER) == second
    registry.promote(second, 1, "better")
    registry.promote(second, 1)
    assert registry.champion("m") == second
    assert registry.aliases("m") == {CHAMPION: 2, PREVIOUS: 1}
    assert actions(registry) == [("promoted", 1, None), ("promoted", 2, 1)]
    assert registry.history("m")[-1] | {"at": ""} == {
        "at": "", "action": "promoted", "version": 2, "from_version": 1, "reason": "better", "label": "v2-bbbbbbbb",
    }  # fmt: skip


@pytest.mark.parametrize(("expected", "compared"), [(1, "v1-aaaaaaaa"), (None, "no champion"), (9, "v9 (deleted)")])
def test_whoever_compared_with_a_former_champion_is_told_both(registry, expected, compared):
    first, second, third = register(registry, "a", "b", "c")
    registry.promote(first)
    registry.promote(second)
    before = (registry.aliases("m"), registry.history("m"))
    message = f"v2-bbbbbbbb was promoted meanwhile, and v3-cccccccc was compared with {compared}"
    with pytest.raises(RegistryError, match=re.escape(message)):
        registry.promote(third, expected)
    assert (registry.aliases("m"), registry.history("m")) == before


def test_a_first_champion_that_is_gone_is_not_replaced_unawares(registry):
    first, second = register(registry, "a", "b")
    with pytest.raises(RegistryError, match=r"the champion was taken away meanwhile, and v2-.* compared with v1-"):
        registry.promote(second, first.version)


def test_rollback_puts_the_previous_champion_back_and_can_be_taken_back(registry):
    first, second = register(registry, "a", "b")
    registry.promote(first)
    with pytest.raises(RegistryError, match=r"no previous champion to go back to \(v1-aaaaaaaa is champion\)"):
        registry.rollback("m")
    registry.promote(second)
    assert registry.rollback("m", "wrong thresholds") == first
    assert registry.aliases("m") == {CHAMPION: 1, PREVIOUS: 2}
    with pytest.raises(RegistryError, match="v1-aaaaaaaa is champion, not v2-bbbbbbbb: nothing was rolled back"):
        registry.rollback("m", expected=2)
    assert registry.rollback("m", expected=1) == second
    assert actions(registry)[2:] == [("rolled_back", 1, 2), ("rolled_back", 2, 1)]
    assert registry.history("m")[2]["reason"] == "wrong thresholds"


def test_a_refusal_is_recorded_once_and_ends_the_challenge(registry):
    first, second = register(registry, "a", "b")
    registry.promote(first)
    registry.challenge(second)
    registry.refuse(second, "worse on beer")
    registry.refuse(second, "worse on beer")
    assert registry.aliases("m") == {CHAMPION: 1}
    registry.refuse(second, "x" * 5_000)
    assert actions(registry)[1:] == [("refused", 2, 1)] * 2
    assert len(registry.history("m")[-1]["reason"]) == LONGEST_REASON


def test_time_is_what_the_clock_says(registry, tmp_path, monkeypatch):
    (tmp_path / "clock").write_text("2031-05-06T07:00:00+00:00")
    monkeypatch.setenv("SHELFWISE_CLOCK", str(tmp_path / "clock"))
    (first,) = register(registry, "a")
    registry.promote(first)
    assert first.created_at == registry.history("m")[0]["at"] == "2031-05-06T07:00:00+00:00"
    (tmp_path / "clock").write_text("2030-01-01T00:00:00+00:00")  # a clock that jumps backwards
    (second,) = register(registry, "b")
    registry.promote(second)
    assert [event["version"] for event in registry.history("m")] == [1, 2]


# Retention


def test_retention_spares_champion_previous_and_challenger(registry):
    versions = register(registry, *"abcdefgh")
    registry.promote(versions[0])
    registry.promote(versions[2])
    registry.challenge(versions[1])
    assert registry.retain("m", 3) == versions[3:5]
    assert registry.versions("m") == versions[:3] + versions[5:]
    assert registry.retain("m", 3) == []
    assert registry.retain("m", 0) == versions[5:]
    assert registry.aliases("m") == {CHAMPION: 3, PREVIOUS: 1, CHALLENGER: 2}
    assert Registry(registry.root, keep=1).retain("m") == []
    (after,) = register(registry, "d")
    assert after.version == 9, "a number is never used twice"


def lake_with_models(tmp_path: Path, *names: str) -> list[str]:
    made = []
    for name in names:
        (tmp_path / name).mkdir()
        (tmp_path / name / "weights").write_text(name)
        made.append(publish(tmp_path / name, tmp_path / "lake" / "artifacts" / "title_matcher" / name))
    return made


def test_artifacts_go_when_no_version_uses_them_and_nobody_still_reads_them(tmp_path):
    registry = Registry(tmp_path / "lake" / "registry")
    old, shared, elsewhere, kept = lake_with_models(tmp_path, "old", "shared", "elsewhere", "kept")
    shutil.move(elsewhere, tmp_path / "outside")
    for artifact_id, artifact in enumerate([old, shared, str(tmp_path / "outside"), shared, kept]):
        registry.register("m", artifact, f"{artifact_id:08d}")
    folder = tmp_path / "lake" / "artifacts"
    assert len(registry.retain("m", 2)) == 3
    assert registry.discard_artifacts("m", folder) == [], "they were retired a moment ago"
    assert registry.discard_artifacts("m", folder, timedelta(0)) == [old]
    assert not Path(old).exists()
    assert all((Path(path) / MANIFEST).exists() for path in (shared, kept, tmp_path / "outside"))
    assert registry.discard_artifacts("m", folder, timedelta(0)) == []


def test_an_artifact_that_is_registered_again_stays(tmp_path):
    registry = Registry(tmp_path / "lake" / "registry")
    first, second = lake_with_models(tmp_path, "first", "second")
    registry.register("m", first, "first")
    registry.register("m", second, "second")
    registry.retain("m", 1)
    assert registry.register("m", first, "first").version == 3
    registry.retain("m", 0)
    registry.register("m", first, "first")
    assert registry.discard_artifacts("m", tmp_path / "lake" / "artifacts", timedelta(0)) == [second]
    assert (Path(first) / MANIFEST).exists()


# What people and disks do to it


def champions(registry: Registry) -> tuple[ModelVersion, ModelVersion]:
    first, second = register(registry, "a", "b")
    registry.promote(first)
    registry.promote(second)
    return first, second


def test_a_deleted_database_is_no_empty_one(registry):
    champions(registry)
    database = registry.client.database
    backup = database.read_bytes()
    database.unlink()
    for ask in (registry.champion, registry.alias, registry.versions, registry.history, registry.rollback):
        with pytest.raises(
            RegistryError, match=r"mlflow\.db was deleted\. Put back a copy .* or, to begin anew, delete"
        ):
            ask("m")
    with pytest.raises(RegistryError, match="was deleted"):
        register(registry, "c")
    assert not database.exists()
    database.write_bytes(backup)
    assert registry.champion("m").version == 2


def test_a_deleted_folder_is_a_new_beginning(registry):
    champions(registry)
    stale = registry.champion("m")
    shutil.rmtree(registry.root)
    with pytest.raises(RegistryError, match=r"no champion of 'm' yet.*put back a copy"):
        registry.champion("m")
    (other,) = register(registry, "c")
    assert other.version == 1
    with pytest.raises(RegistryError, match="has no version v2-bbbbbbbb any more"):
        registry.promote(stale)
    registry.promote(other, None)
    assert registry.champion("m") == other


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[: len(content) // 2],
        lambda content: content[:100],
        lambda content: b"not a database at all " * 500,
        lambda content: content[:4096] + os.urandom(len(content) - 4096),
    ],
    ids=["empty", "half", "header", "text", "overwritten"],
)
def test_a_damaged_database_is_said_to_be_one_at_once(registry, damage):
    champions(registry)
    database = registry.client.database
    other = Path(f"{database}.damaged")  # put in its place as a whole, as a broken copy would be
    other.write_bytes(damage(database.read_bytes()))
    os.replace(other, database)
    for ask in (registry.champion, registry.versions, lambda model: register(registry, "c")):
        with pytest.raises(RegistryError, match=r"mlflow\.db is damaged \(.*\)\. Put back a copy of .*mlflow\.db"):
            ask("m")


def test_a_database_of_something_else_is_no_registry(registry):
    champions(registry)
    registry.client.database.unlink()
    with sqlite3.connect(registry.client.database) as connection:
        connection.execute("CREATE TABLE cats (name TEXT)")
    with pytest.raises(RegistryError, match=r"mlflow\.db is damaged"):
        registry.champion("m")


def test_a_champion_deleted_in_mlflow_is_not_taken_for_none(registry):
    first, second = champions(registry)
    mlflow(registry).delete_model_version("m", "2")
    with pytest.raises(RegistryError, match=r"version 2 is champion by the history, but the alias is gone.*rollback"):
        registry.alias("m")
    assert registry.rollback("m") == first
    assert registry.champion("m") == first
    assert registry.aliases("m") == {CHAMPION: 1}
    with pytest.raises(RegistryError, match=r"has no version v2-bbbbbbbb any more: it was deleted"):
        registry.promote(second)


def dangle(registry: Registry, alias: str, number: int) -> None:
    """MLflow's client would not let an alias point nowhere; a database edited by hand does."""
    registry.versions("m")
    with sqlite3.connect(registry.client.database) as connection:
        changed = connection.execute("UPDATE registered_model_aliases SET version = ? WHERE alias = ?", (number, alias))
    assert changed.rowcount == 1


def test_a_champion_alias_that_points_nowhere_says_so_and_can_be_repaired(registry):
    first, _ = champions(registry)
    dangle(registry, CHAMPION, 9)
    with pytest.raises(RegistryError, match=r"alias 'champion' points at version 9, which does not exist.*rollback"):
        registry.champion("m")
    assert registry.rollback("m") == first
    assert registry.aliases("m") == {CHAMPION: 1}
    dangle(registry, CHAMPION, 9)
    done = registry.repair("m")
    assert "alias 'champion' pointed at version 9" in done[0]
    assert "the next candidate is a first one" in done[1]
    assert registry.alias("m") is None
    assert registry.repair("m") == []
    registry.promote(registry.versions("m")[1], None)
    assert actions(registry)[-2:] == [("withdrawn", 1, 1), ("promoted", 2, None)]


def test_a_registry_without_rights_says_so(registry, monkeypatch):
    champions(registry)

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(RegistryError, match=r"cannot be written \(Permission denied\): check its owner"):
        register(registry, "c")


@pytest.mark.parametrize("name", ["", "a/b", "a'b", "ä"])
def test_a_name_that_mlflow_could_not_keep_is_refused(registry, name):
    with pytest.raises(RegistryError, match="a model's name is made of"):
        registry.register(name, "/a", "aaaa1111")


# Where it is


def test_a_lake_on_s3_needs_a_registry_of_its_own(tmp_path):
    with pytest.raises(RegistryError, match="set SHELFWISE_REGISTRY to an MLflow server"):
        Registry("s3://shop/lake/registry")
    assert Registry("s3://shop/lake/registry", f"sqlite:///{tmp_path}/r.db").client.database == tmp_path / "r.db"


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("sqlite:///mlflow.db", "the path must be absolute"),
        ("mlflow.db", "it should be a server"),
        ("ftp://bob:secret@host/x", r"'ftp://\*\*\*@host/x': it should be a server"),
    ],
)
def test_a_uri_that_cannot_be_meant_is_refused(tmp_path, uri, message):
    with pytest.raises(RegistryError, match=message):
        Registry(tmp_path, uri)


def test_a_database_that_was_named_is_used(tmp_path):
    registry = Registry(tmp_path / "lake", f"sqlite:///{tmp_path}/elsewhere/r.db")
    champions(registry)
    assert (tmp_path / "elsewhere" / "r.db").exists()
    assert not (tmp_path / "lake" / "mlflow.db").exists()


@pytest.mark.parametrize(
    "text",
    [
        "https://bob:hunter2@host:1/x",
        "postgresql+psycopg2://bob:hunter2@db/mlflow?sslmode=require",
        "failed for https://hunter2@host/api and https://bob:hunter2@other/",
        "mysql://db/mlflow?user=x&password=hunter2&ssl=1",
        "https://bob:hunter2/with/slashes@host/x",
        "https://bob:hun@hunter2@host/x",
    ],
)
def test_passwords_are_never_shown(text):
    assert "hunter2" not in redacted(text)
    assert "host" not in text or "host" in redacted(text)


def test_opening_it_prints_nothing_and_leaves_nothing_in_the_working_directory(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    champions(Registry(tmp_path / "registry"))
    assert capfd.readouterr() == ("", "")
    assert [path.name for path in tmp_path.iterdir()] == ["registry"]


# A kill at every step


class Killed(BaseException):
    """Stands for SIGKILL: nothing catches it."""


OPERATIONS = {
    "register": lambda registry, versions: registry.register("m", "/new", "new00000", {"top1": 1.0}),
    "promote": lambda registry, versions: registry.promote(versions[2], 2, "better"),
    "rollback": lambda registry, versions: registry.rollback("m", "bad", expected=2),
    "refuse": lambda registry, versions: registry.refuse(versions[2], "worse"),
    "retain": lambda registry, versions: registry.retain("m", 1),
}


def view(registry: Registry) -> tuple:
    """Everything a reader can ask for; raises where it is not whole."""
    state, versions = registry._state("m"), registry.versions("m")
    assert set(state.aliases.values()) <= {version.version for version in versions}
    assert registry.champion("m") in versions
    return state.aliases, versions, [replace(event, at="") for event in state.history]


@pytest.mark.parametrize("name", OPERATIONS)
def test_a_kill_at_any_step_leaves_the_old_state_or_the_new(registry, monkeypatch, name):
    versions = register(registry, *"abcdef")
    registry.promote(versions[0])
    registry.promote(versions[1])
    registry.challenge(versions[2])
    database = registry.client.database
    begun, before = database.read_bytes(), view(registry)
    OPERATIONS[name](registry, versions)
    after = view(registry)
    assert after != before
    call, calls = Client.call, []

    def killed_after(limit: int):
        def counted(self, method, *arguments, **named):
            answer = call(self, method, *arguments, **named)
            if method.startswith(("set_", "delete_", "create_")):
                calls.append(method)
                if len(calls) == limit:
                    raise Killed
            return answer

        return counted

    for step in itertools.count(1):
        database.write_bytes(begun)
        calls.clear()
        with monkeypatch.context() as patched:
            patched.setattr(Client, "call", killed_after(step))
            try:
                OPERATIONS[name](registry, versions)
            except Killed:
                pass
            else:
                break
        left = view(registry)
        if name != "retain":  # one version after the other, each of them whole
            assert left in (before, after) or _undated(left, after) == after, step
        registry.repair("m")
        raw = registry._registered("m")
        assert INTENT not in raw.tags
        assert raw.aliases == left[0]
        assert [replace(event, at="") for event in raw.history] == left[2], "what a reader saw is what is kept"
        if name != "rollback" or left == before:
            OPERATIONS[name](registry, versions)
        assert _undated(view(registry), after) == after, "trying again ends where it would have"
    assert len(calls) >= (1 if name == "register" else 3), "there was more than one step to be killed at"


def _undated(seen: tuple, like: tuple) -> tuple:
    """Versions are made anew, at another time."""
    dates = {version.artifact_id: version.created_at for version in like[1]}
    return seen[0], [replace(v, created_at=dates.get(v.artifact_id, v.created_at)) for v in seen[1]], seen[2]


# The command line


def test_the_command_line_lists_tells_and_rolls_back(registry, capsys):
    root = ["--root", str(registry.root), "--model", "m"]
    assert main([*root, "list"]) == 0
    assert "no version of m was registered yet" in capsys.readouterr().out
    champions(registry)
    assert main([*root, "rollback", "--reason", "complaints"]) == 0
    assert "v1-aaaaaaaa is champion of m again" in capsys.readouterr().out
    assert main([*root, "list"]) == 0
    one, two = capsys.readouterr().out.splitlines()
    assert ("v1-aaaaaaaa" in one, "champion" in one, "top1 0.7578" in one, "previous" in two) == (True,) * 4
    assert main([*root, "history"]) == 0
    assert "rolled_back  v1-aaaaaaaa (champion until then: version 2)  complaints" in capsys.readouterr().out
    assert main([*root, "promote", "2"]) == 0
    assert registry.champion("m").version == 2
    assert main([*root, "repair"]) == 0
    assert "m is in order" in capsys.readouterr().out


def test_the_command_line_fails_with_the_reason(registry, capsys):
    root = ["--root", str(registry.root), "--model", "m"]
    register(registry, "a")
    assert main([*root, "rollback"]) == 1
    assert main([*root, "promote", "7"]) == 1
    assert main(["--root", "s3://shop/lake/registry", "list"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert [line.split(":")[0] for line in err.splitlines()] == ["error"] * 3
    assert "no previous champion" in err
    assert "has no version 7" in err
    assert "set SHELFWISE_REGISTRY" in err
