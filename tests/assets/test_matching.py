"""The matching assets one by one, in this process: trained once, published whole, promoted only through the gate."""

from __future__ import annotations

import functools
import json
import operator
import shutil
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pandas as pd
import pytest

from assets import matching as assets
from assets.checks import better_than_champion, sound_pairs
from assets.evaluation import champion_evaluation
from resources.lake import Lake, ReferenceIO, TableIO
from resources.matching import MatchingConfig
from resources.registry import ModelRegistry
from resources.trainer import Trainer
from shelfwise.artifacts import exists, publish
from shelfwise.matching.promotion import SIMPLE_BASELINES
from shelfwise.registry import CHALLENGER, PREVIOUS, ModelVersion, Registry
from tests.conftest import Shop
from tests.unit.matching_samples import LetterEncoder

OUTSIDE = [
    dg.AssetSpec(["staging", "stg_products"]),
    dg.AssetSpec(["marts", "labelled_positives"]),
]
GRAPH: list[Any] = [
    *OUTSIDE, assets.split_parts, assets.training_pairs, assets.product_names, assets.title_encoder,
    assets.product_embeddings, assets.product_index, assets.matcher, assets.matcher_evaluation, assets.champion,
    assets.catalog_index, champion_evaluation, sound_pairs, better_than_champion,
]  # fmt: skip
PAIRS = [assets.split_parts, assets.training_pairs]
PNG = b"\x89PNG\r\n\x1a\n"


class StubTrainer(Trainer):
    """Stands for the training process: writes the files of an encoder, and fails while `work/fail` says so."""

    log: str

    def train(self, context: Any, module: str, files: Mapping[str, Path]) -> float:
        pairs, config, out, work = (files[name] for name in ("pairs", "config", "out", "work"))
        work.mkdir(parents=True, exist_ok=True)
        checkpoints = len(list(work.iterdir()))
        with Path(self.log).open("a") as log:
            log.write(
                json.dumps(
                    {"rows": len(pd.read_parquet(pairs)), "checkpoints": checkpoints, "module": module, **_json(config)}
                )
            )
            log.write("\n")
        (work / f"checkpoint-{checkpoints}").write_text("weights")
        if Path(self.log).with_suffix(".fail").exists():
            raise RuntimeError("the machine went away")
        out.mkdir(parents=True)
        (out / "metrics.json").write_text(json.dumps({"valid_mrr": 0.5, "steps": 7, "fingerprint": "text"}))
        (out / "curve.png").write_bytes(PNG)
        (out / "model.safetensors").write_bytes(b"weights")
        return 1.5

    def runs(self) -> list[dict[str, Any]]:
        path = Path(self.log)
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def _json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())


@pytest.fixture
def trainer(tmp_path: Path) -> StubTrainer:
    return StubTrainer(log=str(tmp_path / "trainer.log"))


def run(shop: Shop, selection: list, trainer: StubTrainer | None = None, **matching: Any) -> dg.ExecuteInProcessResult:
    root = str(shop.lake)
    resources = {
        "io_manager": TableIO(root=root),
        "reference_io": ReferenceIO(root=root),
        "lake": Lake(root=root),
        "registry": ModelRegistry(root=root),
        "matching": MatchingConfig(**matching),
        "trainer": trainer or StubTrainer(log="unused"),
    }
    wanted = [item if isinstance(item, dg.AssetSelection) else dg.AssetSelection.assets(item) for item in selection]
    chosen = functools.reduce(operator.or_, wanted)
    return dg.materialize(GRAPH, selection=chosen, resources=resources, raise_on_error=False)


def metadata_of(result: dg.ExecuteInProcessResult, asset: str) -> dict[str, Any]:
    (event,) = [e for e in result.get_asset_materialization_events() if e.asset_key.path[-1] == asset]
    return {name: getattr(value, "value", value) for name, value in event.materialization.metadata.items()}


def failure(result: dg.ExecuteInProcessResult, step: str) -> str:
    data = result.failure_data_for_node(step)
    assert data is not None
    return (data.user_failure_data.description if data.user_failure_data else None) or str(data.error)


def write(shop: Shop, name: str, value: dict[str, Any]) -> None:
    path = shop.lake / "tables" / "matching" / f"{name}.json"
    path.write_text(json.dumps(value))


# --- Training data ------------------------------------------------------------------------------------------------


def test_pairs_are_made_reported_and_proven(shop: Shop) -> None:
    result = run(shop, PAIRS)
    assert result.success
    metadata = metadata_of(result, "training_pairs")
    pairs = pd.read_parquet(shop.table("matching", "training_pairs"))
    assert metadata["dagster/row_count"] == len(pairs) > 100
    assert metadata["train_pairs"] == float((pairs["split"] == "train").sum())
    (check,) = result.get_asset_check_evaluations()
    assert (check.passed, check.blocking) == (True, True)


@pytest.mark.parametrize(
    "damage",
    ["a negative is a known positive", "a negative is missing", "a product of test is in train", "a vendor leaks"],
)
def test_damaged_pairs_stop_the_training(shop: Shop, trainer: StubTrainer, damage: str) -> None:
    assert run(shop, PAIRS).success
    path = shop.table("matching", "training_pairs")
    pairs = pd.read_parquet(path)
    negatives, train = pairs.index[pairs["label"] == 0], pairs.index[pairs["split"] == "train"]
    test_row = pairs[pairs["split"] == "test"].iloc[0]
    if damage == "a negative is a known positive":
        line = pairs.loc[negatives[0], "line_id"]
        positive = pairs[(pairs["line_id"] == line) & (pairs["label"] == 1)].iloc[0]
        pairs.loc[negatives[0], ["product_id", "product_title"]] = positive[["product_id", "product_title"]].to_numpy()
    elif damage == "a negative is missing":
        pairs = pairs.drop(index=negatives[0])
    elif damage == "a product of test is in train":
        row = train.intersection(negatives)[0]
        pairs.loc[row, ["product_id", "product_title"]] = test_row[["product_id", "product_title"]].to_numpy()
    else:
        pairs.loc[train[0], "vendor_id"] = test_row["vendor_id"]
    pairs.to_parquet(path, index=False)
    key = dg.AssetCheckKey(dg.AssetKey(["matching", "training_pairs"]), "sound_pairs")
    result = run(shop, [dg.AssetSelection.checks(key)])
    (check,) = result.get_asset_check_evaluations()
    assert not check.passed
    assert check.severity == dg.AssetCheckSeverity.ERROR
    assert check.description
    assert check.metadata["problems"].value >= 1


def test_a_failed_check_keeps_the_encoder_from_being_trained(
    shop: Shop, trainer: StubTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shelfwise.matching.pairs.check_pairs", lambda *_: ["line l1 has two negatives"])
    result = run(shop, [*PAIRS, assets.title_encoder], trainer)
    assert not result.success
    assert result.get_asset_check_evaluations()[0].description == "line l1 has two negatives"
    assert trainer.runs() == []


# --- The encoder --------------------------------------------------------------------------------------------------


@pytest.fixture
def paired(shop: Shop) -> Shop:
    assert run(shop, PAIRS).success
    return shop


def test_the_same_pairs_and_settings_are_trained_once(paired: Shop, trainer: StubTrainer) -> None:
    first = metadata_of(run(paired, [assets.title_encoder], trainer), "title_encoder")
    second = metadata_of(run(paired, [assets.title_encoder], trainer), "title_encoder")
    assert (first["trained_now"], second["trained_now"]) == (True, False)
    assert first["location"] == second["location"]
    assert len(trainer.runs()) == 1
    assert trainer.runs()[0]["module"] == "shelfwise.matching.train"
    assert trainer.runs()[0]["rows"] == len(pd.read_parquet(paired.table("matching", "training_pairs")))
    assert (first["valid_mrr"], first["steps"]) == (0.5, 7.0)
    assert (first["domain_seconds"], second["domain_seconds"]) == (pytest.approx(1.5), 0.0)
    assert "data:image/png;base64," in first["curve"]
    assert not list((paired.lake / ".work" / "title_encoder").iterdir()), "scratch space was given back"
    reference = _json(paired.lake / "tables/matching/title_encoder.json")
    assert exists(reference["location"])
    assert Path(reference["location"]).name == reference["id"]


def test_other_settings_or_pairs_are_another_encoder(paired: Shop, trainer: StubTrainer) -> None:
    def train(**settings: Any) -> str:
        return metadata_of(run(paired, [assets.title_encoder], trainer, **settings), "title_encoder")["location"]

    plain = train()
    other = train(encoder_config='{"seed": 8}')
    path = paired.table("matching", "training_pairs")
    pd.read_parquet(path).iloc[4:].to_parquet(path, index=False)
    assert len({plain, other, train()}) == 3
    assert [settings["seed"] for settings in trainer.runs()] == [7, 8, 7]


def test_a_training_that_fails_publishes_nothing_and_goes_on_where_it_was(paired: Shop, trainer: StubTrainer) -> None:
    switch = Path(trainer.log).with_suffix(".fail")
    switch.touch()
    result = run(paired, [assets.title_encoder], trainer)
    assert not result.success
    assert not (paired.lake / "artifacts").exists()
    assert not (paired.lake / "tables/matching/title_encoder.json").exists()
    switch.unlink()
    assert run(paired, [assets.title_encoder], trainer).success
    assert [run["checkpoints"] for run in trainer.runs()] == [0, 1], "the second found what the first had left"


def test_unknown_settings_of_the_encoder_are_named(paired: Shop, trainer: StubTrainer) -> None:
    result = run(paired, [assets.title_encoder], trainer, encoder_config='{"hiden_size": 8}')
    assert "unknown encoder settings ['hiden_size']" in failure(result, "matching__title_encoder")
    assert trainer.runs() == []


# --- Evaluation, gate and champion --------------------------------------------------------------------------------


def difference(value: float, p_value: float, at_least: float | None = None) -> dict[str, float]:
    low = value - 0.004 if at_least is None else at_least
    counts = {"lines": 900, "products": 700, "gained": 40, "lost": 10}
    shares = {"candidate": 0.8, "champion": 0.8 - value, "difference": value, "low": low, "high": value + 0.01}
    return counts | shares | {"at_least": low, "p_value": p_value, "p_worse": 1 - p_value, "p_lines": p_value}


def evaluation(
    top1: float, matcher_id: str, compared: ModelVersion | None = None, gain: float = 0.01, **more: Any
) -> dict[str, Any]:
    """What `matcher_evaluation` stores of a candidate that was compared with a champion, or is the first."""
    measures = {name: difference(0.0, 0.5) for name in ("top5", "approved_coverage", "approved_precision")}
    measures["top1"] = difference(gain, 0.001 if gain > 0 else 0.999)
    against = {
        "champion_metrics": {"top1": top1 - gain},
        "paired": measures,
        "slices": [],
        "compared": {"lines": 900, "sentence": "compared on 900 held-out lines"},
    }
    return {
        "matcher": {
            "id": matcher_id,
            "location": f"/lake/{matcher_id}",
            "encoder": "e",
            "index": {"location": "/i", "version": "5"},
        },
        "metrics": {"top1": top1, **{f"{name}_top1": 0.3 for name in SIMPLE_BASELINES}},
        "champion_version": compared.label if compared else None,
        "champion_number": compared.version if compared else None,
        "same": False,
        "about": {},
        "data": {"training_pairs": "p", "catalog": "c"},
        **({"champion_metrics": None, "paired": None} if compared is None else against),
        **more,
    }


def promote(shop: Shop, value: dict[str, Any], **matching: Any) -> dg.ExecuteInProcessResult:
    write(shop, "matcher_evaluation", value)
    return run(shop, [assets.champion], **matching)


def ask_gate(shop: Shop, **matching: Any) -> Any:
    """Run the blocking check alone."""
    key = dg.AssetCheckKey(dg.AssetKey(["matching", "matcher_evaluation"]), "better_than_champion")
    (check,) = run(shop, [dg.AssetSelection.checks(key)], **matching).get_asset_check_evaluations()
    return check


@pytest.fixture
def registry(shop: Shop) -> Registry:
    return Registry(shop.lake / "registry")


def actions(registry: Registry) -> list[tuple[str, int]]:
    return [(event["action"], event["version"]) for event in registry.history("title_matcher")]


def test_a_better_candidate_becomes_champion_and_the_old_one_previous(shop: Shop, registry: Registry) -> None:
    before = registry.champion("title_matcher")
    result = promote(shop, evaluation(0.8, "better00", before))
    assert result.success
    after = registry.champion("title_matcher")
    assert after.artifact_id == "better00"
    metadata = metadata_of(result, "champion")
    assert after.label == "v2-better00" == metadata["version"]
    assert "better in top-1: +1.00 points" in metadata["decision"]
    assert "compared on 900 held-out lines" in metadata["gate"]
    assert registry.history("title_matcher")[-1]["reason"] == metadata["decision"]
    assert registry.alias("title_matcher", PREVIOUS) == before
    made_with = {"training_pairs": "p", "catalog": "c", "encoder": "e"}
    assert after.lineage == {**made_with, "index": "/i", "index_version": "5"}
    assert after.metrics["top1"] == 0.8
    assert promote(shop, evaluation(0.8, "better00", before)).success
    assert len(registry.versions("title_matcher")) == 2, "the same candidate again is the same version"
    assert actions(registry) == [("promoted", 1), ("promoted", 2)]


@pytest.mark.parametrize(
    ("top1", "gain", "floor", "reason"),
    [
        (0.69, -0.01, 0.5, "top-1 may be worse: -1.00 points"),
        (0.8, 0.01, 0.9, "below the floor"),
        (0.3, 0.01, 0.1, "not above the 0.3000 of char tfidf"),
    ],
)
def test_a_worse_candidate_is_refused_on_its_own_too(
    shop: Shop, registry: Registry, top1: float, gain: float, floor: float, reason: str
) -> None:
    before = registry.champion("title_matcher")
    value = evaluation(top1, "worse000", before, gain)
    result = promote(shop, value, gate_floor_top1=floor)
    assert not result.success
    assert reason in failure(result, "matching__champion")
    assert registry.champion("title_matcher") == before
    check = ask_gate(shop, gate_floor_top1=floor)
    assert (check.passed, check.blocking) == (False, True)
    assert reason in check.description
    assert reason in check.metadata["gate"].value
    assert not promote(shop, value, gate_floor_top1=floor).success
    (event,) = [one for one in registry.history("title_matcher") if one["action"] == "refused"]
    assert (event["version"], event["from_version"]) == (2, before.version), "recorded once, however often it is asked"
    assert reason in event["reason"]


def test_the_gate_lets_a_better_one_pass_and_writes_nothing_down(shop: Shop, registry: Registry) -> None:
    write(shop, "matcher_evaluation", evaluation(0.8, "better00", registry.champion("title_matcher")))
    check = ask_gate(shop)
    assert check.passed
    assert check.metadata["outcome"].value == "promote"
    assert actions(registry) == [("promoted", 1)]
    assert not ask_gate(shop, gate_floor_top1=0.9).passed


def test_a_slice_that_got_worse_is_named_and_the_margin_is_a_setting(shop: Shop, registry: Registry) -> None:
    row = {"slice": "vendor", "value": "acme", "measure": "top1", **difference(-0.08, 0.9999)}
    value = evaluation(0.8, "better00", registry.champion("title_matcher"), slices=[row | {"p_worse": 0.0001}])
    write(shop, "matcher_evaluation", value)
    assert "vendor acme: -8.00 points" in ask_gate(shop).description
    assert ask_gate(shop, gate_margin=0.1).passed


def test_a_comparison_with_a_former_champion_is_out_of_date(shop: Shop, registry: Registry) -> None:
    former = registry.champion("title_matcher")
    registry.promote(registry.register("title_matcher", "/lake/new", "newer000", {}, {}))
    for compared in (former, None):
        result = promote(shop, evaluation(0.8, "late0000", compared))
        assert "materialize matching/matcher_evaluation" in failure(result, "matching__champion")
        assert registry.champion("title_matcher").artifact_id == "newer000"


def test_the_champion_evaluated_again_stays_whatever_the_floor(shop: Shop, registry: Registry) -> None:
    current = registry.champion("title_matcher")
    value = evaluation(0.2, current.artifact_id, same=True)
    again = {**value, "champion_version": current.label, "champion_number": current.version}
    result = promote(shop, again)
    assert result.success
    assert "it stays" in metadata_of(result, "champion")["decision"]
    assert ask_gate(shop).metadata["outcome"].value == "stay"
    assert actions(registry) == [("promoted", 1)]
    registry.promote(registry.register("title_matcher", "/lake/new", "newer000", {}, {}))
    assert not promote(shop, again).success, "it is champion no more"
    assert registry.champion("title_matcher").artifact_id == "newer000"


def test_old_versions_go_with_a_promotion_and_their_artifacts_a_while_later(
    shop: Shop, registry: Registry, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "model").mkdir()
    old = []
    for i in range(12):
        location = publish(tmp_path / "model", shop.lake / "artifacts" / "title_matcher" / f"old{i:05}")
        old.append(registry.register("title_matcher", location, f"old{i:05}", {}, {}))
    metadata = metadata_of(promote(shop, evaluation(0.8, "better00", registry.champion("title_matcher"))), "champion")
    assert metadata["versions_deleted"] == [version.label for version in old[:3]]
    assert metadata["artifacts_deleted"] == [], "somebody may still read them"
    assert exists(old[0].artifact)
    year = timedelta(days=365)
    monkeypatch.setattr("shelfwise.clock.now", lambda: datetime.now(UTC) + year)
    metadata = metadata_of(promote(shop, evaluation(0.8, "better00", registry.champion("title_matcher"))), "champion")
    assert metadata["artifacts_deleted"] == [version.artifact for version in old[:3]]
    assert not exists(old[0].artifact)
    assert exists(old[3].artifact)


def test_without_any_champion_the_floor_decides(shop: Shop, registry: Registry) -> None:
    shutil.rmtree(shop.lake / "registry")
    assert not promote(shop, evaluation(0.49, "first000")).success
    assert registry.alias("title_matcher") is None
    assert promote(shop, evaluation(0.5, "first000")).success
    assert registry.champion("title_matcher").label == "v1-first000"


def candidate(shop: Shop, matcher_id: str) -> dict[str, Any]:
    """The shop's champion, published a second time as a candidate."""
    champion = Registry(shop.lake / "registry").champion("title_matcher")
    location = shop.lake / "artifacts" / "title_matcher" / matcher_id
    shutil.copytree(champion.artifact, location)
    index = {"location": champion.lineage["index"], "catalog_id": champion.lineage["catalog"]}
    return {"id": matcher_id, "location": str(location), "index": index, "encoder": "none"}


def test_the_candidate_is_measured_beside_the_champion_line_by_line(paired: Shop, registry: Registry) -> None:
    write(paired, "matcher", candidate(paired, "twin0000"))
    result = run(paired, [assets.matcher_evaluation])
    (check,) = result.get_asset_check_evaluations()
    assert not check.passed, "a twin is not better"
    value = _json(paired.lake / "tables/matching/matcher_evaluation.json")
    assert (value["champion_version"], value["champion_number"]) == (paired.version, 1)
    assert value["champion_metrics"]["top1"] == value["metrics"]["top1"], "they are the same model"
    assert (value["champion_unusable"], value["same"], value["rolled_back"]) == (None, False, None)
    top1 = value["paired"]["top1"]
    assert (top1["gained"], top1["lost"], top1["difference"], top1["p_value"]) == (0, 0, 0.0, 1.0)
    assert top1["lines"] == value["compared"]["lines"] == value["about"]["lines"]
    metadata = metadata_of(result, "matcher_evaluation")
    assert metadata["champion_top1"] == metadata["top1"] > metadata["exact_top1"]
    for name in ("accuracy", "paired_picture"):
        assert "data:image/png;base64," in metadata[name]
    assert "not recorded" in metadata["compared"], "the shop's champion does not say what it was fitted on"
    assert "approved_coverage" in metadata["paired"]
    assert metadata["gain_top1"] == 0.0
    assert metadata["policy"] == "guaranteed"
    assert "nothing is approved" in metadata["thresholds"], "so few lines prove nothing at 99 %"
    assert metadata["guarantee_sample"] > 100
    assert metadata["guarantee"] in metadata["promised"]
    assert "products never seen" in metadata["guarantees"]
    pairs = pd.read_parquet(paired.table("matching", "training_pairs"))
    assert value["about"]["lines"] == ((pairs["split"] == "test") & (pairs["label"] == 1)).sum()
    assert metadata["candidate"] == "v2-twin0000"
    assert registry.alias("title_matcher", CHALLENGER) is None, "it was, until the gate refused it"
    assert actions(registry) == [("promoted", 1), ("refused", 2)]
    assert "not shown to be better in anything" in registry.history("title_matcher")[-1]["reason"]


def test_lines_that_the_champion_was_fitted_on_count_for_neither(paired: Shop, registry: Registry) -> None:
    from shelfwise.matching.promotion import TRAINED_ON

    champion = registry.champion("title_matcher")
    own = paired.lake / "artifacts" / "title_matcher" / "knows000"
    shutil.copytree(champion.artifact, own)
    pairs = pd.read_parquet(paired.table("matching", "training_pairs"))
    test = pairs[(pairs["split"] == "test") & (pairs["label"] == 1)]
    seen = test["product_id"].drop_duplicates().head(3).tolist()
    pd.DataFrame({"kind": "product", "id": seen}).to_parquet(own / TRAINED_ON)
    registry.promote(registry.register("title_matcher", str(own), "knows000", {}, champion.lineage))
    write(paired, "matcher", candidate(paired, "twin0000"))
    run(paired, [assets.matcher_evaluation])
    compared = _json(paired.lake / "tables/matching/matcher_evaluation.json")["compared"]
    assert compared["seen_by_champion"] == test["product_id"].isin(seen).sum()
    assert not compared["unseen_only"], "this little is left, so the champion keeps its advantage"
    assert "favours the champion" in compared["sentence"]


def test_the_champion_itself_is_not_compared_with_itself(paired: Shop, registry: Registry) -> None:
    own = candidate(paired, "unused00") | {"id": registry.champion("title_matcher").artifact_id}
    write(paired, "matcher", own)
    assert run(paired, [assets.matcher_evaluation]).success
    value = _json(paired.lake / "tables/matching/matcher_evaluation.json")
    assert (value["same"], value["paired"], value["champion_metrics"]) == (True, None, None)
    assert registry.alias("title_matcher", CHALLENGER) is None
    assert ask_gate(paired).passed


def test_a_matcher_that_was_rolled_back_is_not_promoted_again(paired: Shop, registry: Registry) -> None:
    write(paired, "matcher", candidate(paired, "twin0000"))
    twin = registry.register("title_matcher", candidate(paired, "other000")["location"], "twin0000", {}, {})
    registry.promote(twin)
    registry.rollback("title_matcher")
    run(paired, [assets.matcher_evaluation])
    assert _json(paired.lake / "tables/matching/matcher_evaluation.json")["rolled_back"]
    assert "a person rolled it back" in ask_gate(paired).description


def test_the_evaluation_names_threshold_bound_and_sample_and_both_policies(paired: Shop) -> None:
    write(paired, "matcher", candidate(paired, "twin0000"))
    result = run(paired, [assets.matcher_evaluation], precision_target=0.7, confidence=0.8)
    metadata = metadata_of(result, "matcher_evaluation")
    assert metadata["guaranteed_bound"] >= 0.7 == metadata["precision_target"]
    assert metadata["guaranteed_lines"] > metadata["guaranteed_wrong"]
    assert metadata["guaranteed_threshold"] == metadata["approve_threshold"]
    assert f"{metadata['guaranteed_threshold']:.4f}" in metadata["guarantees"]
    assert metadata["guaranteed_approved_precision"] == metadata["approved_precision"] > 0.5
    fixed = metadata_of(run(paired, [assets.matcher_evaluation], policy="fixed"), "matcher_evaluation")
    assert (fixed["policy"], fixed["approve_threshold"]) == ("fixed", 0.85)
    assert fixed["approved_coverage"] == metadata["fixed_approved_coverage"]
    assert "nothing" in fixed["promised"]


def test_a_champion_that_cannot_be_read_any_more_blocks_nobody(paired: Shop, registry: Registry) -> None:
    write(paired, "matcher", candidate(paired, "twin0000"))
    broken = paired.lake / "artifacts" / "title_matcher" / "broken00"
    shutil.copytree(registry.champion("title_matcher").artifact, broken)
    scorer = _json(broken / "scorer.json")
    (broken / "scorer.json").write_text(json.dumps({**scorer, "features": ["of", "another", "version"]}))
    registry.promote(registry.register("title_matcher", str(broken), "broken00", {}, {}))
    for damage in ("of another version", "gone"):
        assert run(paired, [assets.matcher_evaluation]).success
        value = _json(paired.lake / "tables/matching/matcher_evaluation.json")
        assert (value["champion_metrics"], value["paired"]) == (None, None)
        assert value["champion_unusable"]
        assert ask_gate(paired).passed, damage
        shutil.rmtree(broken, ignore_errors=True)
    assert "no artifact at" in value["champion_unusable"]


# --- Who has which part -------------------------------------------------------------------------------------------


def test_parts_are_kept_when_data_grows_and_pairs_follow_them(shop: Shop) -> None:
    path = shop.table("marts", "labelled_positives")
    positives = pd.read_parquet(path)
    some = positives[positives["vendor_id"].isin(sorted(positives["vendor_id"].unique())[:6])]
    some.to_parquet(path, index=False)
    first = metadata_of(run(shop, PAIRS), "split_parts")
    before = pd.read_parquet(shop.table("matching", "split_parts"))
    assert first["dealt_anew"] == "there was no former table"
    positives.to_parquet(path, index=False)
    second = metadata_of(run(shop, PAIRS), "split_parts")
    after = pd.read_parquet(shop.table("matching", "split_parts"))
    assert (second["dealt_anew"], second["new"]) == ("no", len(after) - len(before))
    both = before.merge(after, on=["kind", "id"])
    assert len(both) == len(before)
    assert (both["split_x"] == both["split_y"]).all()
    pairs = pd.read_parquet(shop.table("matching", "training_pairs"))
    vendors = after[after["kind"] == "vendor"].set_index("id")["split"]
    assert (pairs["vendor_id"].map(vendors) == pairs["split"]).all()
    files = [shop.table("matching", name) for name in ("split_parts", "training_pairs")]
    content = [path.read_bytes() for path in files]
    assert run(shop, PAIRS).success
    assert [path.read_bytes() for path in files] == content, "nothing new, nothing changed"
    files[0].write_bytes(b"PAR1 torn")
    assert "columns" in metadata_of(run(shop, PAIRS), "split_parts")["dealt_anew"]


# --- The champion, week by week -----------------------------------------------------------------------------------


def knowing(shop: Shop, registry: Registry, kind: str, ids: list[str]) -> None:
    """Let the champion say that it was fitted on these."""
    from shelfwise.matching.promotion import TRAINED_ON

    champion = registry.champion("title_matcher")
    own = shop.lake / "artifacts" / "title_matcher" / "knows000"
    shutil.copytree(champion.artifact, own)
    pd.DataFrame({"kind": kind, "id": ids}).to_parquet(own / TRAINED_ON)
    registry.promote(registry.register("title_matcher", str(own), "knows000", {"top1": 0.75}, champion.lineage))
    reference = _json(shop.lake / "tables/matching/catalog_index.json")
    write(shop, "catalog_index", {**reference, "champion_id": "knows000"})


def test_the_champion_is_measured_again_on_lines_it_never_saw(shop: Shop, registry: Registry) -> None:
    positives = pd.read_parquet(shop.table("marts", "labelled_positives"))
    vendors = sorted(positives["vendor_id"].unique())
    knowing(shop, registry, "vendor", vendors[:-3])
    result = run(shop, [champion_evaluation])
    assert result.success
    metadata = metadata_of(result, "champion_evaluation")
    unseen = positives["vendor_id"].isin(vendors[-3:])
    assert metadata["lines"] == unseen.sum() > 50
    assert isinstance(metadata["top1"], float)
    assert 0.3 < metadata["top1_low"] <= metadata["top1"] <= metadata["top5"] <= 1
    assert metadata["accepted_top1"] == 0.75
    assert metadata["champion_version"] == "v2-knows000"
    assert "data:image/png;base64," in metadata["accuracy"]
    assert "mapping" in metadata["by_source"]
    value = _json(shop.lake / "tables/monitoring/champion_evaluation.json")
    assert value["metrics"]["top1"] == metadata["top1"]
    assert value["champion_version"] == "v2-knows000"


def test_a_champion_without_unseen_lines_or_of_another_index_says_so(shop: Shop, registry: Registry) -> None:
    step = "monitoring__champion_evaluation"
    assert "not recorded" in failure(run(shop, [champion_evaluation]), step)
    positives = pd.read_parquet(shop.table("marts", "labelled_positives"))
    knowing(shop, registry, "vendor", sorted(positives["vendor_id"].unique()))
    assert "nothing to measure" in failure(run(shop, [champion_evaluation]), step)
    write(shop, "catalog_index", {"champion_id": "elsewhere"})
    assert "materialize matching/catalog_index" in failure(run(shop, [champion_evaluation]), step)


# --- The catalog that the champion searches -----------------------------------------------------------------------


def test_the_index_that_was_evaluated_is_used_as_long_as_the_catalog_is_the_same(shop: Shop) -> None:
    result = run(shop, [assets.catalog_index])
    metadata = metadata_of(result, "catalog_index")
    champion = Registry(shop.lake / "registry").champion("title_matcher")
    assert metadata["made_now"] is False
    assert metadata["location"] == champion.lineage["index"]
    assert metadata["champion_version"] == shop.version
    assert _json(shop.lake / "tables/matching/catalog_index.json")["champion_id"] == champion.artifact_id


def test_a_new_product_is_found_by_the_champion_there_is(shop: Shop) -> None:
    from shelfwise.matching.index import CatalogIndex
    from shelfwise.matching.matcher import Matcher

    path = shop.table("staging", "stg_products")
    products = pd.read_parquet(path)
    new = products.iloc[[0]].assign(product_id="NEW", title="Zorgon 3000 Kettle", normalised_title="zorgon 3000 kettle")
    pd.concat([products, new], ignore_index=True).to_parquet(path, index=False)
    assert run(shop, [assets.product_names]).success
    first = metadata_of(run(shop, [assets.catalog_index]), "catalog_index")
    second = metadata_of(run(shop, [assets.catalog_index]), "catalog_index")
    assert (first["made_now"], second["made_now"]) == (True, False)
    assert first["location"] == second["location"]
    assert first["products"] == len(products) + 1
    champion = Registry(shop.lake / "registry").champion("title_matcher")
    lines = pd.DataFrame(
        {"line_id": ["l"], "row": [2], "vendor_id": ["v"], "file": ["f"], "title": ["ZORGON 3000 KETTLE"]}
    )
    found = Matcher.load(Path(champion.artifact)).match(lines, CatalogIndex.load(Path(first["location"])), k=1)
    assert found["product_id"].tolist() == ["NEW"]


def change_catalog(shop: Shop, products: pd.DataFrame) -> dict[str, Any]:
    """Put another catalog into the lake and let the champion's index follow it; return what the index told."""
    products.to_parquet(shop.table("staging", "stg_products"), index=False)
    assert run(shop, [assets.product_names]).success
    result = run(shop, [assets.catalog_index])
    assert result.success
    return metadata_of(result, "catalog_index")


def test_an_index_follows_its_catalog_and_equals_one_that_is_built(shop: Shop, tmp_path: Path) -> None:
    from shelfwise.matching.matcher import Matcher

    products = pd.read_parquet(shop.table("staging", "stg_products"))
    first = change_catalog(shop, products.iloc[5:])
    assert "names_reused" not in first, "an index of unknown making is not built upon"
    changed = products.iloc[8:].reset_index(drop=True)
    changed.loc[[3, 4], "title"] = ["Zorgon 3000 Kettle", "Zorgon 4000 Kettle"]
    changed.loc[5, "price"] = 1.25
    second = change_catalog(shop, pd.concat([products.iloc[[0]], changed]))
    assert (second["made_now"], second["products_added"], second["products_removed"]) == (True, 1, 3)
    assert (second["products_changed"], second["names_embedded"]) == (3, 3 + known_names(shop, products.iloc[[0]]) - 1)
    assert second["names_reused"] == second["names"] - second["names_embedded"]
    assert second["domain_seconds"] > 0
    champion = Registry(shop.lake / "registry").champion("title_matcher")
    names = pd.read_parquet(shop.table("matching", "product_names"))
    products = pd.read_parquet(shop.table("staging", "stg_products"))
    Matcher.load(Path(champion.artifact)).build_index(products, names).save(tmp_path / "built")
    publish(tmp_path / "built", tmp_path / "published")
    assert _json(Path(second["location"]) / "manifest.json") == _json(tmp_path / "published" / "manifest.json")


def known_names(shop: Shop, products: pd.DataFrame) -> int:
    names = pd.read_parquet(shop.table("matching", "product_names"))
    return int(names["product_id"].isin(products["product_id"]).sum())


def test_the_first_change_builds_upon_the_index_that_was_evaluated(shop: Shop, registry: Registry) -> None:
    champion = registry.champion("title_matcher")
    lineage = {**champion.lineage, "index_version": assets.INDEX_VERSION}
    shutil.copytree(champion.artifact, shop.lake / "artifacts" / "title_matcher" / "again000")
    location = str(shop.lake / "artifacts" / "title_matcher" / "again000")
    registry.promote(registry.register("title_matcher", location, "again000", {}, lineage))
    products = pd.read_parquet(shop.table("staging", "stg_products"))
    assert change_catalog(shop, products)["location"] == champion.lineage["index"]
    told = change_catalog(shop, products.iloc[1:])
    assert (told["products_removed"], told["names_embedded"]) == (1, 0)


def test_only_names_that_changed_are_embedded(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    embedded: list[str] = []

    class Encoder(LetterEncoder):
        def encode(self, titles, batch_size: int = 64):
            embedded.extend(titles)
            return super().encode(titles)

    monkeypatch.setattr("shelfwise.matching.encoder.TitleEncoder.load", lambda directory: Encoder())
    (shop.data / "model").write_text("weights")

    def embed(encoder: str) -> dict[str, Any]:
        location = publish(shop.data, shop.lake / "artifacts" / "title_encoder" / encoder)
        write(shop, "title_encoder", {"id": encoder, "location": location})
        embedded.clear()
        result = run(shop, [assets.product_embeddings])
        assert result.success
        told = metadata_of(result, "product_embeddings")
        names = pd.read_parquet(shop.table("matching", "product_names"))["name"].tolist()
        vectors = np.load(Path(told["location"]) / "embeddings.npy")
        np.testing.assert_array_equal(vectors, LetterEncoder().encode(names))
        assert told["names_embedded"] + told["names_reused"] == len(names)
        assert len(embedded) == told["names_embedded"]
        return told

    names = len(pd.read_parquet(shop.table("matching", "product_names")))
    assert embed("first000")["names_embedded"] == names
    assert embed("first000")["made_now"] is False
    products = pd.read_parquet(shop.table("staging", "stg_products")).iloc[::-1].reset_index(drop=True)
    products.loc[7, ["title", "brand", "size"]] = ["Zorgon 3000 Kettle", None, None]
    products.iloc[3:].to_parquet(shop.table("staging", "stg_products"), index=False)
    assert run(shop, [assets.product_names]).success
    embed("first000")
    assert embedded == ["Zorgon 3000 Kettle"]
    assert embed("second00")["names_reused"] == 0, "another encoder embeds everything"
