"""Rules that every asset keeps, so that nobody has to remember them."""

import ast
import inspect
from pathlib import Path

import dagster as dg
import pytest

from orchestration.definitions import build_definitions
from orchestration.settings import Settings

ROOT = Path(__file__).resolve().parents[1]
PREFIXES = {"raw", "staging", "marts", "catalog", "matching", "classification", "uploads", "monitoring"}
MAX_BODY_LINES = 45

DEFINITIONS = build_definitions(Settings())


def name(definition: dg.AssetsDefinition) -> str:
    """The name of an asset or check, by which pytest's processes agree on an order."""
    return definition.node_def.name


ASSETS = sorted((a for a in DEFINITIONS.resolve_asset_graph().assets_defs if a.is_executable), key=name)
SPECS = sorted((spec for definition in ASSETS for spec in definition.specs), key=lambda spec: spec.key)


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.key.to_user_string())
def test_every_asset_says_what_it_is(spec):
    assert len(spec.key.path) == 2
    assert spec.key.path[0] in PREFIXES
    assert spec.group_name in PREFIXES
    assert spec.owners, "an owner"
    assert spec.kinds, "a kind"
    assert len(spec.description or "") > 30, "a description that helps"


@pytest.mark.parametrize("definition", ASSETS, ids=name)
def test_asset_bodies_stay_short(definition: dg.AssetsDefinition):
    compute = definition.op.compute_fn
    function = inspect.unwrap(getattr(compute, "decorated_fn", compute))
    body = ast.parse(inspect.cleandoc("\n" + inspect.getsource(function))).body[0]
    lines = body.end_lineno - body.body[0].lineno
    assert lines <= MAX_BODY_LINES, f"{lines} lines: move the work into shelfwise/"


def test_every_model_and_table_declares_a_code_version():
    bare = [s.key.to_user_string() for s in SPECS if s.code_version is None and "dbt" not in s.kinds]
    assert bare == []


def test_only_definitions_sees_everything():
    importers = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "orchestration").glob("*.py")
        if "import assets" in path.read_text() or "from assets" in path.read_text()
    }
    assert importers == {"orchestration/definitions.py"}
