"""The matching assets one by one, in this process: trained once, published whole, promoted only through the gate."""

from __future__ import annotations

import functools
import json
import operator
import shutil
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pandas as pd
import pytest

from assets import matching as assets
from assets.checks import better_than_champion, sound_pairs
from resources.lake import Lake, ReferenceIO, TableIO
from resources.matching import MatchingConfig
from resources.registry import ModelRegistry
from resources.trainer import EncoderTrainer
from shelfwise.artifacts import exists, publish
from shelfwise.matching.gate import SIMPLE_BASELINES
from shelfwise.registry import PREVIOUS, Registry
from tests.conftest import Shop
from tests.unit.matching_samples import LetterEncoder

OUTSIDE = [
    dg.AssetSpec(["staging", "stg_products"]),
    dg.AssetSpec(["marts", "labelled_positives"]),
]
GRAPH: list[Any] = [
    *OUTSIDE, assets.training_pairs, assets.product_names, assets.title_encoder, assets.product_embeddings,
    assets.product_index, assets.matcher, assets.matcher_evaluation, assets.champion, assets.catalog_index,
    sound_pairs, better_than_champion,
]  # fmt: skip
PNG = b"\x89PNG\r\n\x1a\n"


class StubTrainer(EncoderTrainer):
    """Stands for the training process: writes the files of an encoder, and fails while `work/fail` says so."""

    log: str

    def train(self, context: Any, *, pairs: Path, config: Path, out: Path, work: Path) -> float:
        work.mkdir(parents=True, exist_ok=True)
        checkpoints = len(list(work.iterdir()))
        with Path(self.log).open("a") as log:
            log.write(json.dumps({"rows": len(pd.read_parquet(pairs)), "checkpoints": checkpoints, **_json(config)}))
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
    result = run(shop, [assets.training_pairs])
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
    assert run(shop, [assets.training_pairs]).success
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
    result = run(shop, [assets.training_pairs, assets.title_encoder], trainer)
    assert not result.success
    assert result.get_asset_check_evaluations()[0].description == "line l1 has two negatives"
    assert trainer.runs() == []


# --- The encoder --------------------------------------------------------------------------------------------------


@pytest.fixture
def paired(shop: Shop) -> Shop:
    assert run(shop, [assets.training_pairs]).success
    return shop


def test_the_same_pairs_and_settings_are_trained_once(paired: Shop, trainer: StubTrainer) -> None:
    first = metadata_of(run(paired, [assets.title_encoder], trainer), "title_encoder")
    second = metadata_of(run(paired, [assets.title_encoder], trainer), "title_encoder")
    assert (first["trained_now"], second["trained_now"]) == (True, False)
    assert first["location"] == second["location"]
    assert len(trainer.runs()) == 1
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


def evaluation(top1: float, matcher_id: str, champion: float | None = None, compared: str | None = None) -> dict:
    return {
        "matcher": {
            "id": matcher_id,
            "location": f"/lake/{matcher_id}",
            "encoder": "e",
            "index": {"location": "/i", "version": "5"},
        },
        "metrics": {"top1": top1, **{f"{name}_top1": 0.3 for name in SIMPLE_BASELINES}},
        "champion_metrics": None if champion is None else {"top1": champion},
        "champion_version": compared,
        "about": {},
        "data": {"training_pairs": "p", "catalog": "c"},
    }


def promote(shop: Shop, value: dict[str, Any], **matching: Any) -> dg.ExecuteInProcessResult:
    write(shop, "matcher_evaluation", value)
    return run(shop, [assets.champion], **matching)


@pytest.fixture
def registry(shop: Shop) -> Registry:
    return Registry(shop.lake / "registry")


def test_a_better_candidate_becomes_champion_and_the_old_one_previous(shop: Shop, registry: Registry) -> None:
    before = registry.champion("title_matcher")
    result = promote(shop, evaluation(0.8, "better00", 0.7, before.label))
    assert result.success
    after = registry.champion("title_matcher")
    assert after.artifact_id == "better00"
    assert after.label == "v2-better00" == metadata_of(result, "champion")["version"]
    assert registry.alias("title_matcher", PREVIOUS) == before
    made_with = {"training_pairs": "p", "catalog": "c", "encoder": "e"}
    assert after.lineage == {**made_with, "index": "/i", "index_version": "5"}
    assert after.metrics["top1"] == 0.8
    assert promote(shop, evaluation(0.8, "better00", None, before.label)).success
    assert len(registry.versions("title_matcher")) == 2, "the same candidate again is the same version"


@pytest.mark.parametrize(
    ("top1", "floor", "reason"),
    [(0.69, 0.5, "not below the champion's"), (0.8, 0.9, "reaches the floor"), (0.3, 0.1, "beats char tfidf")],
)
def test_a_worse_candidate_is_refused_on_its_own_too(
    shop: Shop, registry: Registry, top1: float, floor: float, reason: str
) -> None:
    before = registry.champion("title_matcher")
    result = promote(shop, evaluation(top1, "worse000", 0.7, before.label), gate_floor_top1=floor)
    assert not result.success
    assert reason in failure(result, "matching__champion")
    assert registry.champion("title_matcher") == before
    assert registry.versions("title_matcher") == [before]


def test_a_comparison_with_a_former_champion_is_out_of_date(shop: Shop, registry: Registry) -> None:
    former = registry.champion("title_matcher")
    registry.promote(registry.register("title_matcher", "/lake/new", "newer000", {}, {}))
    for compared in (former.label, None):
        result = promote(shop, evaluation(0.8, "late0000", 0.7, compared))
        assert "materialize matching/matcher_evaluation" in failure(result, "matching__champion")
        assert registry.champion("title_matcher").artifact_id == "newer000"


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


def test_the_candidate_is_measured_beside_the_champion_on_the_same_lines(paired: Shop) -> None:
    write(paired, "matcher", candidate(paired, "twin0000"))
    result = run(paired, [assets.matcher_evaluation])
    assert result.success
    value = _json(paired.lake / "tables/matching/matcher_evaluation.json")
    assert value["champion_version"] == paired.version
    assert value["champion_metrics"]["top1"] == value["metrics"]["top1"], "they are the same model"
    assert value["champion_unusable"] is None
    metadata = metadata_of(result, "matcher_evaluation")
    assert metadata["champion_top1"] == metadata["top1"] > metadata["exact_top1"]
    assert "data:image/png;base64," in metadata["accuracy"]
    assert metadata["policy"] == "guaranteed"
    assert "nothing is approved" in metadata["thresholds"], "so few lines prove nothing at 99 %"
    assert metadata["guarantee_sample"] > 100
    assert metadata["guarantee"] in metadata["promised"]
    assert "products never seen" in metadata["guarantees"]
    pairs = pd.read_parquet(paired.table("matching", "training_pairs"))
    assert value["about"]["lines"] == ((pairs["split"] == "test") & (pairs["label"] == 1)).sum()


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
    assert run(paired, [assets.matcher_evaluation]).success
    value = _json(paired.lake / "tables/matching/matcher_evaluation.json")
    assert value["champion_metrics"] is None
    assert value["champion_unusable"]


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
