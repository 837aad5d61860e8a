"""The classification assets one by one, in this process: trained once, each modality promoted by itself, then together;
and the categories of an upload.
"""

from __future__ import annotations

import functools
import json
import operator
import re
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
import pytest

from assets import catalog, categories, category_models, category_monitoring, classification
from assets.uploads import upload_files
from assets.warehouse import warehouse
from resources.classification import ClassificationConfig
from resources.dbt import dbt_resource
from resources.lake import Lake, ReferenceIO, TableIO
from resources.monitoring import MonitoringConfig
from resources.registry import CATEGORY_ENSEMBLE, IMAGE_CLASSIFIER, TEXT_CLASSIFIER, ModelRegistry
from resources.source import DataDirectory
from resources.trainer import InProcessTrainer
from shelfwise.classification import held_out
from shelfwise.classification.bulk import PICTURE_ALONE
from shelfwise.classification.listings import with_parts
from shelfwise.classification.splits import group_ids
from shelfwise.contract import ListingError
from shelfwise.contract.tables import empty_frame
from shelfwise.feedback import read_feedback
from shelfwise.feedback.categories import category_frame
from shelfwise.registry import PREVIOUS, Registry
from tests.assets.classification_samples import CATEGORIES, draw, draw_all, listings

OUTSIDE = [
    dg.AssetSpec(list(key))
    for key in (("marts", "labelled_listings"), ("staging", "stg_listings"), ("raw", "data_directory"))
]
MADE = (
    "listing_pictures", "listing_parts", "suspicious_listings", "text_classifier", "image_classifier",
    "text_evaluation", "image_evaluation", "text_champion", "image_champion", "category_ensemble",
    "ensemble_evaluation", "category_champion",
)  # fmt: skip
MODELS = tuple(name for name in MADE if name != "suspicious_listings")
GATES = [category_models.better_text, category_models.better_image, category_models.better_together]
ASSETS: dict[str, Any] = {name: getattr(classification, name, None) or getattr(category_models, name) for name in MADE}
GRAPH: list[Any] = [*OUTSIDE, *ASSETS.values(), *GATES]
UPLOAD = "acme/lines.csv"
TINY = {
    "widths": [8, 16], "depths": [1, 1], "side": 24, "growing": [], "epochs": 8, "evaluations": 2, "batch_size": 16,
    "averaging": 0.9, "mixing": 0.0, "recolouring": 0.3,
}  # fmt: skip
SMALL = {
    "picture_side": 32,
    "text_config": json.dumps({"architecture": "none"}),
    "image_config": json.dumps(TINY),
    "assign_precision": 0.8,
}
POOR = json.dumps({"architecture": "none", "linear_epochs": 1, "linear_rate": 0.001})


@dataclass(frozen=True)
class World:
    """A data directory and a lake that holds labelled listings."""

    data: Path
    lake: Path

    def label(self, frame: pd.DataFrame, staged: pd.DataFrame | None = None) -> None:
        self.write("marts/labelled_listings", frame)
        self.write("staging/stg_listings", frame if staged is None else staged)

    def write(self, name: str, frame: pd.DataFrame) -> None:
        path = self.lake / "tables" / f"{name}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        frame.to_parquet(path, index=False)

    def value(self, name: str) -> dict[str, Any]:
        return json.loads((self.lake / "tables" / "classification" / f"{name}.json").read_text())

    @property
    def registry(self) -> Registry:
        return Registry(self.lake / "registry")


def run(world: World, *names: str, graph: list[Any] | None = None, **more: Any) -> dg.ExecuteInProcessResult:
    root = str(world.lake)
    resources = {
        "io_manager": TableIO(root=root),
        "reference_io": ReferenceIO(root=root),
        "lake": Lake(root=root),
        "registry": ModelRegistry(root=root),
        "classification": ClassificationConfig(**{**SMALL, **more}),
        "trainer": InProcessTrainer(),
        "source": DataDirectory(url=str(world.data)),
    }
    chosen = functools.reduce(operator.or_, [dg.AssetSelection.assets(ASSETS[name]) for name in names or MADE])
    return dg.materialize(graph or GRAPH, selection=chosen, resources=resources, raise_on_error=False)


def metadata_of(result: dg.ExecuteInProcessResult, asset: str) -> dict[str, Any]:
    (event,) = [e for e in result.get_asset_materialization_events() if e.asset_key.path[-1] == asset]
    return {name: getattr(value, "value", value) for name, value in event.materialization.metadata.items()}


def checks_of(result: dg.ExecuteInProcessResult) -> dict[str, dg.AssetCheckEvaluation]:
    return {check.check_name: check for check in result.get_asset_check_evaluations()}


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> tuple[World, dict[str, dict[str, Any]]]:
    """Everything made once, from listings and their pictures to the category champion."""
    base = tmp_path_factory.mktemp("categories")
    world = World(base / "data", base / "lake")
    frame = listings()
    draw_all(world.data, frame)
    world.label(frame)
    result = run(world)
    assert result.success, [str(e.event_specific_data) for e in result.all_events if e.is_failure]
    return world, {name: metadata_of(result, name) for name in MODELS} | {
        "checks": {name: check.passed for name, check in checks_of(result).items()}
    }


@pytest.fixture
def trained(made_once: tuple[World, Any], tmp_path: Path) -> World:
    """A copy that a test may change; artifacts are shared and never change."""
    shutil.copytree(made_once[0].lake, tmp_path / "lake", ignore=shutil.ignore_patterns("artifacts"))
    (tmp_path / "lake" / "artifacts").symlink_to(made_once[0].lake / "artifacts")
    return World(made_once[0].data, tmp_path / "lake")


# --- From listings to a category champion ------------------------------------------------------------------------


def test_everything_is_made_measured_and_promoted(made_once: tuple[World, dict[str, Any]]) -> None:
    world, told = made_once
    assert told["checks"] == {
        "better_than_text_champion": True, "better_than_image_champion": True, "better_than_category_champion": True,
        "plausible_categories": True, "plausible_sellers": True,
    }  # fmt: skip
    text, image, both = (told[f"{kind}_evaluation"] for kind in ("text", "image", "ensemble"))
    assert text["top1"] > max(0.75, text["majority_top1"])
    assert image["top1"] > max(0.2, image["majority_top1"])
    assert both["top1"] >= max(both["text_top1"], both["image_top1"]) - 0.005
    assert both["case_text_top1"] == both["text_top1"], "pictures hidden from all of them"
    assert both["case_image_top1"] == image["top1"], "texts hidden from those with a picture"
    assert both["case_both_top1"] > both["case_image_top1"]
    accepted = world.registry.champion(CATEGORY_ENSEMBLE).metrics
    for name in ("case_both_top5", "case_text_top5", "case_image_top5", "case_text_assigned_precision"):
        assert accepted[name] == both[name] > 0.5, name
    for name in ("accuracy", "confusion", "calibration", "precision_coverage"):
        for one in (text, image, both):
            assert "data:image/png;base64," in one[name], name
    for one in (image, both):
        assert "data:image/png;base64," in one["seen"], "pictures with what they were taken for"
    assert "seen" not in text
    assert "linear model on n-grams" in text["baselines"]
    assert "5 nearest pictures by pixels" in image["baselines"]
    parts = pd.read_parquet(world.lake / "tables/classification/listing_parts.parquet")
    assert told["listing_parts"]["dagster/row_count"] == len(parts) == 400


def test_broken_pictures_are_listed_and_stop_nothing(made_once: tuple[World, dict[str, Any]]) -> None:
    told = made_once[1]["listing_pictures"]
    assert (told["pictures"], told["broken"]) == (348, 2)
    assert told["listings_without_picture"] == 50
    assert "an empty file" in told["problems"]
    assert "L00001" in told["problems"]


def test_the_ensemble_weighs_by_registered_accuracy_and_says_why(made_once: tuple[World, dict[str, Any]]) -> None:
    world, told = made_once
    text, image = (world.registry.champion(name) for name in (TEXT_CLASSIFIER, IMAGE_CLASSIFIER))
    ensemble, champion = told["category_ensemble"], world.registry.champion(CATEGORY_ENSEMBLE)
    assert (ensemble["text_weight"], ensemble["image_weight"]) == (text.metrics["top1"], image.metrics["top1"])
    assert ensemble["why"].startswith(ensemble["combined_by"])
    assert champion.lineage["text_version"] == text.label == told["text_champion"]["version"]
    assert champion.lineage["image_version"] == image.label == told["image_champion"]["version"]
    for part, version in (("text", text), ("image", image)):
        for file in Path(version.artifact).iterdir():
            copied = Path(champion.artifact) / part / file.name
            needed = file.name not in ("manifest.json", held_out.FILE)
            assert copied.read_bytes() == file.read_bytes() if needed else not copied.exists()


def test_the_same_listings_and_settings_are_trained_once_and_their_champions_stay(trained: World) -> None:
    before = {name: trained.registry.champion(name) for name in (TEXT_CLASSIFIER, IMAGE_CLASSIFIER, CATEGORY_ENSEMBLE)}
    result = run(trained, *MODELS)
    assert result.success
    for name in ("text_classifier", "image_classifier"):
        assert metadata_of(result, name)["trained_now"] is False, name
    for name in ("listing_pictures", "category_ensemble"):
        assert metadata_of(result, name)["made_now"] is False, name
    assert "it stays" in metadata_of(result, "text_champion")["decision"]
    assert {name: trained.registry.champion(name) for name in before} == before


def test_an_ensemble_answers_like_its_parts_where_one_of_them_is_silent(made_once: tuple[World, Any]) -> None:
    from shelfwise.classification.model import CategoryModel
    from shelfwise.classification.pictures import Pictures

    world = made_once[0]
    model = CategoryModel.load(world.registry.champion(CATEGORY_ENSEMBLE).artifact)
    pictures = Pictures.load(world.value("listing_pictures")["location"])
    frame = listings(16)
    blank = frame.assign(title=None, description=None)
    both, cases = model.answer(frame, pictures)
    assert set(cases) == {"text", "both"}, "two pictures are broken and two were never there"
    text, _ = model.parts(frame, pictures)
    assert (model.probabilities(frame).argmax(1) == text.argmax(1)).all()
    alone, cases = model.answer(blank, pictures)
    has = pictures.rows_of(frame["listing_id"]) >= 0
    assert cases.tolist() == ["image" if one else "none" for one in has]
    _, image = model.parts(blank, pictures)
    assert (alone[has].argmax(1) == image[has].argmax(1)).all()
    for p in (both, alone, model.probabilities(blank)):
        assert p.sum(axis=1) == pytest.approx(1, abs=1e-4)


# --- What is missing, and what is refused -------------------------------------------------------------------------


def test_without_pictures_the_image_assets_say_so_and_text_goes_on_alone(tmp_path: Path) -> None:
    world = World(tmp_path / "data", tmp_path / "lake")
    world.data.mkdir()
    world.label(listings())
    result = run(world)
    assert result.success
    for name in ("listing_pictures", "image_classifier", "image_evaluation", "image_champion"):
        assert "no listing has a picture" in metadata_of(result, name)["skipped"], name
    assert all(check.passed for check in checks_of(result).values())
    assert metadata_of(result, "category_ensemble")["why"] == "only text is there: nothing is combined"
    assert "image_version" not in world.registry.champion(CATEGORY_ENSEMBLE).lineage


@pytest.mark.parametrize(("count", "why"), [(0, "there are no labelled listings"), (30, "and 50 are needed")])
def test_without_listings_enough_everything_says_so_and_nothing_fails(tmp_path: Path, count: int, why: str) -> None:
    world = World(tmp_path / "data", tmp_path / "lake")
    world.data.mkdir()
    world.label(listings(30).head(count))
    result = run(world)
    assert result.success
    for name in ("text_classifier", "text_evaluation", "text_champion"):
        assert why in metadata_of(result, name)["skipped"], name
    for name in ("category_ensemble", "category_champion"):
        assert "neither the text nor the image classifier" in metadata_of(result, name)["skipped"]
    assert not (world.lake / "registry").exists()


def test_titles_may_be_missing_all_the_way_from_the_file_to_the_champion(tmp_path: Path) -> None:
    world = World(tmp_path / "data", tmp_path / "lake")
    frame = listings(480)
    kind = frame.index % 10
    frame.loc[kind == 2, "description"] = [
        f"a very good {CATEGORIES[path][0][0]} {number}" for number, path in frame.loc[kind == 2, "category"].items()
    ]
    frame.loc[kind == 2, "title"] = None
    frame.loc[(kind == 4) | (kind == 5), ["title", "description"]] = None
    draw_all(world.data, frame)
    columns = ["listing_id", "title", "description", "category", "seller_id"]
    frame[columns].to_csv(world.data / "listings.csv", index=False)
    told = staged(world)
    assert (told["without_title"], told["without_words_or_picture"]) == (144, 12), "every eighth has no picture"
    labelled = pd.read_parquet(world.lake / "tables/marts/labelled_listings.parquet")
    assert len(labelled) == 480 - 12
    result = run(world, text_floor=0.3)
    assert result.success, [str(e.event_specific_data) for e in result.all_events if e.is_failure]
    assert metadata_of(result, "text_classifier")["listings"] == 480 - 96
    assert metadata_of(result, "image_classifier")["listings"] == 480 - 60 - 2, "two pictures are broken"
    judged = {kind: world.value(f"{kind}_evaluation")["about"] for kind in ("text", "image", "ensemble")}
    parts = with_parts(labelled, pd.read_parquet(world.lake / "tables/classification/listing_parts.parquet"))
    test = parts[parts["split"] == "test"]
    assert judged["ensemble"]["lines"] == len(test)
    assert judged["text"]["lines"] == (test["text"] != "").sum() < len(test)
    assert judged["text"]["nothing_said"] == judged["image"]["nothing_said"] == 0
    for kind in ("text", "image", "ensemble"):
        told = metadata_of(result, f"{kind}_evaluation")
        assert ("| title | without |" in told["slices"]) == ("| title | with |" in told["slices"])
        assert not re.search(r"\| (nan|None) \|", told["examples"], re.IGNORECASE), "a missing title is blank"
    assert "| title | without |" in told["slices"]
    doubted = pd.read_parquet(world.lake / "tables/classification/suspicious_labels.parquet")
    assert not doubted["listing_id"].isin(labelled.loc[labelled["text"] == "", "listing_id"]).any()
    check, _, _ = drift_of(world, listings(120, seed=9)["title"].tolist())
    assert check.passed, check.description


def staged(world: World) -> dict[str, Any]:
    """Read the listings of the data directory and stage them; return what was told of them."""
    for name in ("products", "mappings"):
        world.write(f"raw/{name}", empty_frame(name))
    world.write("raw/feedback", read_feedback(world.lake / "nobody"))
    world.write("raw/category_feedback", category_frame([]))
    names = ("data_directory", "products", "mappings", "feedback", "category_feedback")
    graph = [*(dg.AssetSpec(["raw", name]) for name in names), catalog.listings, warehouse]
    resources = {
        "io_manager": TableIO(root=str(world.lake)), "lake": Lake(root=str(world.lake)), "dbt": dbt_resource(),
        "source": DataDirectory(url=str(world.data)),
    }  # fmt: skip
    return metadata_of(dg.materialize(graph, resources=resources), "listings")


def test_each_modality_is_promoted_by_itself(tmp_path: Path) -> None:
    """The text gate refuses: pictures are promoted all the same, and the ensemble is made of them when asked again."""
    world = World(tmp_path / "data", tmp_path / "lake")
    frame = listings(240)
    draw_all(world.data, frame)
    world.label(frame)
    result = run(world, *MODELS, text_floor=1.0)
    assert not result.success
    assert {name: check.passed for name, check in checks_of(result).items() if "better" in name} == {
        "better_than_text_champion": False,
        "better_than_image_champion": True,
    }
    registry = world.registry
    assert registry.alias(TEXT_CLASSIFIER) is None
    assert [event["action"] for event in registry.history(TEXT_CLASSIFIER)] == ["refused"]
    assert registry.champion(IMAGE_CLASSIFIER)
    again = run(world, "category_ensemble", "ensemble_evaluation", "category_champion")
    assert again.success
    assert metadata_of(again, "category_ensemble")["combined_by"] == "image"
    wine = frame.index[frame["category"] == "Drinks > Wine"][0]
    lines = lines_of(("merlot", f"{frame['listing_id'][wine]}.jpg"), ("riesling", None), ("???", "gone.jpg"))
    best, told = upload(world, lines=lines)
    best = best[best["rank"] == 1]
    assert best["evidence"].tolist() == ["image", "none", "none"]
    assert best["decision"].tolist()[1:] == ["ask", "ask"], "whatever occurs most often"
    assert best["explanation"].tolist() == [PICTURE_ALONE, "", ""]
    assert (told["lines_with_picture"], told["unreadable_pictures"]) == (1, 1)
    upload(world, lines=lines_of(("merlot", None)))
    for path in (world.data / "images").iterdir():
        path.write_bytes(b"no picture any more")
    blind = run(world, "listing_pictures", "category_ensemble")
    assert blind.success
    assert "none has a picture" in metadata_of(blind, "category_ensemble")["skipped"]


def test_an_image_champion_that_nothing_can_be_shown_is_left_out(trained: World, tmp_path: Path) -> None:
    world = replace(trained, data=tmp_path / "data")
    draw_all(world.data, listings())
    for path in (world.data / "images").iterdir():
        path.write_bytes(b"no picture any more")
    result = run(world, "listing_pictures", "category_ensemble")
    assert result.success
    assert metadata_of(result, "category_ensemble")["why"] == "only text is there: nothing is combined"
    value = world.value("category_ensemble")
    assert value["modalities"] == ["text"]
    assert "image_version" not in value["lineage"]
    assert not (Path(value["location"]) / "image").exists()


def test_another_candidate_is_compared_listing_by_listing_and_a_worse_one_refused(trained: World) -> None:
    champion = trained.registry.champion(TEXT_CLASSIFIER)
    result = run(trained, "text_classifier", "text_evaluation", "text_champion", text_config=POOR)
    assert not result.success
    value = trained.value("text_evaluation")
    assert (value["champion_version"], value["same"]) == (champion.label, False)
    assert value["compared"]["seen_by_champion"] == 0, "parts are kept, so what is held out was never trained on"
    assert value["paired"]["top1"]["lines"] == value["about"]["lines"] > 70
    told = metadata_of(result, "text_evaluation")
    assert told["champion_top1"] == champion.metrics["top1"]
    assert "data:image/png;base64," in told["paired_picture"]
    check = checks_of(result)["better_than_text_champion"]
    assert (check.passed, check.blocking) == (False, True)
    assert "listings" in check.description
    assert trained.registry.champion(TEXT_CLASSIFIER) == champion


def test_a_champion_that_cannot_be_read_any_more_is_said_to_be_and_can_be_replaced(trained: World) -> None:
    registry = trained.registry
    broken = registry.register(TEXT_CLASSIFIER, str(trained.lake / "gone"), "gone0000", {"top1": 0.9}, {})
    registry.promote(broken)
    result = run(trained, "text_evaluation", "text_champion")
    assert result.success
    assert "no artifact" in metadata_of(result, "text_evaluation")["champion_unusable"]
    assert registry.champion(TEXT_CLASSIFIER).version == 1
    assert registry.alias(TEXT_CLASSIFIER, PREVIOUS) == broken


def test_wrong_labels_are_listed_and_none_is_dropped(tmp_path: Path) -> None:
    world = World(tmp_path / "data", tmp_path / "lake")
    world.data.mkdir()
    frame = listings(400)
    wrong = frame.index[frame["category"] == "Pets"][:12]
    frame.loc[wrong, "category"] = "Drinks > Wine"
    frame.loc[wrong, "categories"] = pd.Series([["Drinks > Wine"]] * len(wrong), index=wrong)
    world.label(frame)
    result = run(world, "listing_pictures", "listing_parts", "suspicious_listings", "text_classifier")
    check = checks_of(result)["plausible_categories"]
    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.WARN)
    found = pd.read_parquet(world.lake / "tables/classification/suspicious_labels.parquet")
    planted = set(frame.loc[wrong, "listing_id"])
    assert len(planted & set(found["listing_id"])) >= 6
    assert set(found[found["listing_id"].isin(planted)]["suggested"]) == {"Pets"}
    assert metadata_of(result, "text_classifier")["listings"] == 400, "they are trained on until somebody decides"


def test_sellers_are_judged_by_what_they_chose_and_not_by_what_was_corrected_since(tmp_path: Path) -> None:
    world = World(tmp_path / "data", tmp_path / "lake")
    frame = listings(400)
    frame["group_id"] = group_ids(frame["title"], frame["description"], frame["listing_id"])
    own = frame.index[frame["category"] == "Pets"][:12]
    chosen = frame.copy()
    chosen.loc[own, "seller_id"] = "fraud"
    chosen.loc[own, "categories"] = pd.Series([["Drinks > Wine"]] * len(own), index=own)
    world.label(frame, chosen)
    result = run(world, "suspicious_listings")
    checks = checks_of(result)
    assert checks["plausible_categories"].passed, "all were corrected"
    check = checks["plausible_sellers"]
    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert check.asset_key == dg.AssetKey(["classification", "suspicious_sellers"])
    found = pd.read_parquet(world.lake / "tables/classification/suspicious_sellers.parquet")
    assert found["seller_id"].tolist() == ["fraud"]
    told = metadata_of(result, "suspicious_sellers")
    assert (told["sellers"], told["unlikely_sellers"], told["dagster/row_count"]) == (5, 1, 1)


# --- Uploads ------------------------------------------------------------------------------------------------------


LINES = pd.DataFrame(
    {
        "line_id": ["a", "b", "c"],
        "row": [2, 3, 4],
        "vendor_id": "acme",
        "file": "lines.csv",
        "title": ["premium merlot 500ml", "classic lamp new", "zzz"],
        "description": ["a very good riesling", None, None],
    }
)


def lines_of(*named: tuple[str, str | None]) -> pd.DataFrame:
    """Lines with these titles and pictures."""
    lines = pd.DataFrame(named, columns=["title", "image"]).astype("str")
    lines = lines.assign(row=range(2, len(lines) + 2), vendor_id="acme", file="lines.csv", description=None)
    return lines.assign(line_id=lines["row"].astype("str"))


def upload(
    world: World, matches: pd.DataFrame | None = None, lines: pd.DataFrame = LINES
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Classify an upload; `LINES` are as they were read before uploads could name pictures."""
    for name, frame in (("upload_lines", lines), ("upload_matches", matches)):
        if frame is not None:
            world.write(f"uploads/{name}/{UPLOAD}", frame)
    outside = [
        dg.AssetSpec(["uploads", name], partitions_def=upload_files) for name in ("upload_lines", "upload_matches")
    ]
    root = str(world.lake)
    resources = {
        "io_manager": TableIO(root=root), "lake": Lake(root=root), "registry": ModelRegistry(root=root),
        "monitoring": MonitoringConfig(audit_share=1.0), "source": DataDirectory(url=str(world.data)),
        "classification": ClassificationConfig(**SMALL),
    }  # fmt: skip
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions("upload_files", [UPLOAD])
        result = dg.materialize(
            [*outside, categories.upload_categories], selection=[categories.upload_categories], partition_key=UPLOAD,
            instance=instance, resources=resources,
        )  # fmt: skip
    found = pd.read_parquet(world.lake / f"tables/uploads/upload_categories/{UPLOAD}.parquet")
    return found, metadata_of(result, "upload_categories")


def matches_of(products: dict[str, str | None], decision: str = "approved") -> pd.DataFrame:
    titles = {"a": "premium merlot 500ml", "b": "classic lamp new", "c": "zzz"}
    rows = [(line, titles[line], 1, product, decision if product else "no_match") for line, product in products.items()]
    return pd.DataFrame(rows, columns=["line_id", "title", "rank", "product_id", "decision"])


@pytest.fixture
def shelved(trained: World) -> World:
    """With a catalog: one product under the category of wines as the vendor of the catalog calls them, one of pets."""
    trained.write("staging/stg_products", pd.DataFrame({"product_id": ["w", "p"], "category": ["Vino", "Pets"]}))
    merged = pd.DataFrame({"category": ["Vino", "Pets"], "counts_as": ["Drinks > Wine", "Pets"]})
    trained.write("staging/stg_categories", merged)
    return trained


def test_an_upload_gets_five_categories_a_decision_and_the_words_that_spoke_for_it(shelved: World) -> None:
    found, told = upload(shelved)
    champion = shelved.registry.champion(CATEGORY_ENSEMBLE)
    assert set(found["champion_version"]) == {champion.label} == {told["champion_version"]}
    assert found.groupby("line_id")["rank"].apply(list).to_dict() == {line: [1, 2, 3, 4, 5] for line in "abc"}
    assert (found.groupby("line_id")["probability"].apply(lambda p: p.is_monotonic_decreasing)).all()
    best = found[found["rank"] == 1].set_index("line_id")
    assert best["category"].loc[["a", "b"]].tolist() == ["Drinks > Wine", "Home > Lamps"]
    assert best["decision"].loc[["a", "b"]].tolist() == ["assign", "assign"]
    assert best["decision"]["c"] == "ask", "nothing is known of it"
    assert "'merlot' +" in best["explanation"]["a"]
    assert found[found["rank"] > 1]["explanation"].isna().all()
    assert told["compared_with_matches"] == "none were made"
    assert told["lines"] == 3
    assert best["audited"].to_dict() == {"a": True, "b": True, "c": False}, "of what is assigned, as the share says"
    assert not found["contradiction"].any()
    assert found.groupby("line_id")["prediction_id"].nunique().eq(1).all()


@pytest.fixture
def pictured(trained: World, tmp_path: Path) -> World:
    """With pictures that a vendor sent."""
    images = tmp_path / "data" / "images" / "acme"
    images.mkdir(parents=True)
    (images / "wine.jpg").write_bytes(draw("Drinks > Wine", 1))
    (images / "broken.jpg").write_bytes(b"not a picture at all")
    return replace(trained, data=tmp_path / "data")


def test_an_upload_is_classified_by_the_pictures_it_names_and_one_that_cannot_be_read_costs_nothing(
    pictured: World,
) -> None:
    named = ["acme/wine.jpg", "images/acme/wine.jpg", "acme/broken.jpg", "gone.jpg", "https://shop.example/1.jpg", None]
    titles = ["classic large 7", "???", *["premium merlot 500ml"] * 4]
    found, told = upload(pictured, lines=lines_of(*zip(titles, named, strict=True)))
    best = found[found["rank"] == 1].reset_index(drop=True)
    assert best["evidence"].tolist() == ["both", "image", "text", "text", "text", "text"]
    assert best["category"][1] == "Drinks > Wine", "its title says nothing"
    assert best["explanation"][1] == PICTURE_ALONE
    assert best["probability"][2:].nunique() == 1, "as without any picture"
    assert "'merlot' +" in best["explanation"][2]
    assert (told["lines_with_picture"], told["unreadable_pictures"]) == (2, 3)
    rows = [line.split(" | ") for line in told["picture_problems"].splitlines()[2:]]
    assert [row[0] for row in rows] == ["| 4", "| 5", "| 6"], "as a spreadsheet counts the vendor's file"
    for reason, row in zip(("not a picture", "there is no file images/gone.jpg", "a URL"), rows, strict=True):
        assert reason in row[-1]


def test_a_store_of_pictures_that_fails_fails_the_upload_and_one_that_nobody_looks_at_is_not_asked(
    pictured: World, tmp_path: Path
) -> None:
    shutil.rmtree(pictured.data / "images")
    (pictured.data / "images").write_text("no folder")
    lines = lines_of(("premium merlot 500ml", "acme/wine.jpg"))
    with pytest.raises(ListingError, match="cannot list"):
        upload(pictured, lines=lines)
    registry = pictured.registry
    champion = registry.champion(CATEGORY_ENSEMBLE)
    reads = tmp_path / "reads"
    shutil.copytree(champion.artifact, reads, ignore=shutil.ignore_patterns("image"))
    registry.promote(registry.register(CATEGORY_ENSEMBLE, str(reads), "reads000", champion.metrics, {}))
    found, told = upload(pictured, lines=lines)
    assert set(found["evidence"]) == {"text"}
    assert (told["lines_with_picture"], told["unreadable_pictures"]) == (0, 0)


def test_a_match_under_another_category_is_flagged_where_both_are_sure(shelved: World) -> None:
    found, told = upload(shelved, matches_of({"a": "p", "b": None, "c": "p"}))
    best = found[found["rank"] == 1].set_index("line_id")
    assert best["contradiction"].to_dict() == {"a": True, "b": False, "c": False}, "of c the category is not sure"
    assert best["match_category"]["a"] == "Pets"
    assert best["match_probability"]["a"] < 0.05
    assert (told["contradictions"], told["compared_with_matches"]) == (1, 2)
    assert "premium merlot" in told["contradicting"]
    agreeing, _ = upload(shelved, matches_of({"a": "w"}))
    assert not agreeing["contradiction"].any(), "the catalog's name for wine is merged into ours"
    assert agreeing[agreeing["line_id"] == "a"]["match_probability"].iloc[0] > 0.5
    doubted, _ = upload(shelved, matches_of({"a": "p"}, decision="review"))
    assert not doubted["contradiction"].any()


def test_without_a_category_champion_an_upload_has_no_categories_and_does_not_fail(tmp_path: Path) -> None:
    found, told = upload(World(tmp_path / "data", tmp_path / "lake"))
    assert found.empty
    assert "there is no category champion yet" in told["skipped"]


def test_lines_that_a_person_has_to_decide_are_collected_and_exported_until_they_are_answered(
    shelved: World,
) -> None:
    def collected() -> tuple[pd.DataFrame, dict[str, Any]]:
        resources = {"io_manager": TableIO(root=str(shelved.lake)), "lake": Lake(root=str(shelved.lake))}
        outside = [
            dg.AssetSpec(["uploads", "upload_categories"], partitions_def=upload_files),
            dg.AssetSpec(["raw", "category_feedback"]),
        ]
        with dg.DagsterInstance.ephemeral() as instance:
            instance.add_dynamic_partitions("upload_files", [UPLOAD, "acme/bad.csv"])
            graph = [*outside, categories.category_queue]
            result = dg.materialize(
                graph, selection=[categories.category_queue], instance=instance, resources=resources
            )
        queue = pd.read_parquet(shelved.lake / "tables/uploads/category_queue.parquet")
        exported = pd.read_csv(shelved.lake / "exports" / "category_queue.csv")
        assert exported["line_id"].tolist() == queue["line_id"].tolist()
        return queue, metadata_of(result, "category_queue")

    upload(shelved, matches_of({"a": "p", "b": None, "c": "p"}))
    queue, told = collected()
    reasons = {"a": "contradiction", "b": "audit", "c": "ask"}
    assert queue.set_index("line_id")["reason"].to_dict() == reasons
    assert {name: told[f"to_{name}"] for name in ("ask", "suggest", "contradiction", "audit")} == {
        "ask": 1, "suggest": 0, "contradiction": 1, "audit": 1,
    }  # fmt: skip
    shelved.write("raw/category_feedback", pd.DataFrame({"vendor_id": ["acme"], "title": ["zzz"]}))
    assert sorted(collected()[0]["line_id"]) == ["a", "b"]


# --- What the champion makes of uploads, beside what it makes of listings it was not trained on --------------------


@pytest.fixture
def watched(trained: World) -> World:
    """With no reference yet."""
    shared = (trained.lake / "artifacts").resolve()
    (trained.lake / "artifacts").unlink()
    (trained.lake / "artifacts").mkdir()
    for kind in shared.iterdir():
        if kind.name != category_monitoring.REFERENCE:
            (trained.lake / "artifacts" / kind.name).symlink_to(kind)
    return trained


def drift_of(
    world: World, titles: list[str], evidence: str = "text"
) -> tuple[dg.AssetCheckEvaluation, dict[str, Any], dict[str, Any]]:
    """Classify an upload with these titles, and compare it with the reference. Returns the check, and what was told of
    the upload and of the reference.
    """
    from shelfwise.classification.bulk import classify_lines
    from shelfwise.classification.model import CategoryModel

    champion = world.registry.champion(CATEGORY_ENSEMBLE)
    lines = pd.DataFrame({"title": titles, "row": range(2, len(titles) + 2)})
    lines = lines.assign(line_id=lines["row"].astype(str), vendor_id="acme", file="lines.csv", description=None)
    found = classify_lines(CategoryModel.load(champion.artifact), lines, None, None, champion.label)
    world.write(f"uploads/upload_categories/{UPLOAD}", found.assign(evidence=evidence))
    root = str(world.lake)
    resources = {
        "io_manager": TableIO(root=root), "reference_io": ReferenceIO(root=root), "lake": Lake(root=root),
        "registry": ModelRegistry(root=root), "monitoring": MonitoringConfig(),
    }  # fmt: skip
    graph = [
        *OUTSIDE,
        dg.AssetSpec(["uploads", "upload_categories"], partitions_def=upload_files),
        *(dg.AssetSpec(["classification", name]) for name in ("listing_parts", "category_champion")),
        category_monitoring.category_reference,
        category_monitoring.category_drift,
    ]
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions("upload_files", [UPLOAD])
        made = dg.materialize(
            graph, selection=[category_monitoring.category_reference], instance=instance, resources=resources
        )
        result = dg.materialize(
            graph, selection=[category_monitoring.category_drift], partition_key=UPLOAD, instance=instance,
            resources=resources,
        )  # fmt: skip
    (check,) = result.get_asset_check_evaluations()
    return check, metadata_of(result, "category_drift"), metadata_of(made, "category_reference")


def of_sellers(world: World, sellers: int) -> None:
    """Say of the labelled listings that so many sellers have them; 0: that nobody knows who."""
    frame = listings()
    world.label(frame.assign(seller_id=[f"s{n % sellers}" if sellers else None for n in range(len(frame))]))


STRANGE = [f"zork{number} blip{number} frob{number}" for number in range(120)]


def test_an_upload_like_the_listings_is_steady_and_one_of_unknown_things_warns(watched: World) -> None:
    of_sellers(watched, 3)
    check, told, made = drift_of(watched, listings(120, seed=9)["title"].tolist())
    assert made["vendors"] == 3
    assert check.passed, check.description
    assert (told["level"], told["compared_by_seller"], told["described_share"]) == ("ok", True, 0.0)
    assert "how sellers differ" not in check.description
    check, told, _ = drift_of(watched, STRANGE)
    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert "probability" in check.description, "in the words of categories"
    assert "data:image/png;base64," in told["change"]
    assert not (watched.lake / "category_signals").exists(), "labels teach categories, another training does not"


@pytest.mark.parametrize("sellers", [0, 2])
def test_where_nobody_knows_how_sellers_differ_only_large_changes_are_told_and_it_is_said(
    watched: World, sellers: int
) -> None:
    of_sellers(watched, sellers)
    check, told, made = drift_of(watched, listings(120, seed=9)["title"].tolist())
    assert (made["vendors"], told["compared_by_seller"]) == (3, False)
    assert check.passed, check.description
    assert check.description.endswith("how sellers differ is not known, so only large changes are told")
    check, _, _ = drift_of(watched, STRANGE)
    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.WARN)


def test_lines_with_more_than_text_are_not_compared_with_a_reference_of_text(watched: World) -> None:
    check, told, _ = drift_of(watched, STRANGE, evidence="both")
    assert check.passed
    assert check.description == "not watched: no line has text alone, as all that it is compared with has"
    assert told["lines_left_out"] == 120


def test_without_held_out_listings_enough_it_is_said_that_nothing_is_watched(watched: World) -> None:
    parts = pd.read_parquet(watched.lake / "tables/classification/listing_parts.parquet")
    few = parts.drop(parts.index[parts["split"] == "test"][59:])
    watched.write("classification/listing_parts", few)
    check, told, made = drift_of(watched, STRANGE)
    assert made["skipped"] == "59 texts are held out, and 60 are needed"
    assert check.passed
    assert check.description.startswith("not watched: champion ")
    assert check.description.endswith("has no reference: 59 texts are held out, and 60 are needed")
    assert told["lines_left_out"] == 0
