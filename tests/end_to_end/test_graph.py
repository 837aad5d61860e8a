"""The whole graph, once, through real Dagster runs in processes of their own, and what it left behind.

`finished` runs `build_everything`, the uploads sensor until it asks for nothing more, the review queue, what follows
by itself, `take_feedback`, `evaluate_champion`, and `build_everything` again with nothing changed. Everything in this
file looks at that, or goes on from a copy of it.
"""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
import pytest

from assets.uploads import upload_files
from orchestration.definitions import build_definitions
from orchestration.settings import Settings
from resources.build import build_resources
from shelfwise.artifacts import MANIFEST, exists, file_digest
from shelfwise.contract import list_rejected
from shelfwise.registry import Registry
from tests.end_to_end.world import ENCODER, LINES, World, build

pytestmark = pytest.mark.slow

BAD = "acme/not really.csv"
MATCHES = dg.AssetKey(["uploads", "upload_matches"])
TABLES = {
    dg.AssetKey([group, name])
    for group, names in {
        "raw": ("products", "mappings", "feedback", "listings", "category_feedback", "category_mapping"),
        "staging": (
            "stg_products", "stg_mappings", "stg_feedback", "stg_categories", "stg_listings", "stg_category_feedback",
        ),
        "marts": ("labelled_positives", "vendor_statistics", "labelled_listings"),
        "matching": ("split_parts", "training_pairs", "product_names"),
        "classification": ("listing_parts", "suspicious_labels", "suspicious_sellers"),
        "uploads": ("upload_lines", "upload_matches", "upload_categories", "review_queue", "category_queue"),
        "monitoring": ("live_quality", "upload_drift", "weekly_drift", "category_quality", "category_drift"),
    }.items()
    for name in names
}  # fmt: skip


@dataclass
class Finished:
    """The world after everything ran, and what each run left."""

    world: World
    outcomes: list[dict[str, Any]]
    good: list[str]
    metadata: dict[dg.AssetKey, dict[str, Any]] = field(default_factory=dict)

    def runs(self, job: str) -> list[dict[str, Any]]:
        return [outcome for outcome in self.outcomes if outcome["job"] == job]

    def table(self, *key: str) -> pd.DataFrame:
        return pd.read_parquet(self.world.lake.joinpath("tables", *key[:-1], f"{key[-1]}.parquet"))

    def matches(self, key: str) -> pd.DataFrame:
        return self.table("uploads", "upload_matches", key)

    @property
    def registry(self) -> Registry:
        return Registry(self.world.lake / "registry")


def drop_uploads(world: World) -> list[str]:
    """Copy the catalog's vendor files into the uploads folder; return their keys."""
    source = world.data / "vendor_files"
    shutil.copytree(source, world.data / "uploads")
    return sorted(path.relative_to(source).as_posix() for path in source.glob("*/*.csv"))


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    world = build(tmp_path_factory.mktemp("world"))
    good = drop_uploads(world)
    bad = world.data / "uploads" / BAD
    bad.parent.mkdir()
    bad.write_bytes(b"PK\x03\x04" + b"\0" * 60)
    made = Finished(
        world, world.drive("build", "follow", "uploads", "queue", "follow", "feedback", "evaluate", "build"), good
    )
    with dg.DagsterInstance.from_config(str(world.home)) as instance:
        for key in instance.all_asset_keys():
            event = instance.get_latest_materialization_event(key)
            if event is not None and event.asset_materialization is not None:
                made.metadata[key] = dict(event.asset_materialization.metadata)
    return made


def test_every_run_did_what_it_should(finished: Finished) -> None:
    assert [run["success"] for run in finished.runs("build")] == [True, True], finished.outcomes
    assert [run["failed_checks"] for run in finished.runs("build")] == [[], []]
    uploads = {str(run["metadata"]): run["success"] for run in finished.runs("uploads")}
    assert sorted(uploads.values()) == [False, True, True, True]
    assert [run["success"] for run in finished.runs("queue")] == [True]
    for job in ("feedback", "evaluate"):
        assert [run["success"] for run in finished.runs(job)] == [True], finished.runs(job)
    assert all(run["success"] for run in finished.runs("follow")), finished.runs("follow")


def test_every_asset_was_materialized(finished: Finished) -> None:
    graph = build_definitions(Settings()).resolve_asset_graph()
    assert set(finished.metadata) == set(graph.executable_asset_keys)


def test_every_check_was_executed_and_passed(finished: Finished) -> None:
    graph = build_definitions(Settings()).resolve_asset_graph()
    with dg.DagsterInstance.from_config(str(finished.world.home)) as instance:
        records = instance.event_log_storage.get_latest_asset_check_execution_by_key(list(graph.asset_check_keys))
    missing = {key.name for key in graph.asset_check_keys} - {key.name for key in records}
    assert not missing
    evaluations = {key.name: record.event.dagster_event.asset_check_evaluation_data for key, record in records.items()}
    errors = {name for name, e in evaluations.items() if not e.passed and e.severity == dg.AssetCheckSeverity.ERROR}
    assert errors <= {"readable"}, "the bad upload is the only thing that failed"


@pytest.mark.parametrize("key", sorted(TABLES), ids=lambda key: key.to_user_string())
def test_tables_report_rows_and_columns(finished: Finished, key: dg.AssetKey) -> None:
    metadata = finished.metadata[key]
    path = finished.world.lake.joinpath("tables", *key.path)
    frame = pd.read_parquet(path.with_suffix(".parquet") if not path.is_dir() else Path(metadata["path"].value))
    assert metadata["dagster/row_count"].value == len(frame)
    columns = [column.name for column in metadata["dagster/column_schema"].value.columns]
    assert columns == list(frame.columns)
    assert columns


def test_everything_that_is_no_table_is_known_to_be_none(finished: Finished) -> None:
    others = {key.to_user_string() for key in set(finished.metadata) - TABLES}
    assert others == {
        "raw/data_directory", "catalog/product_profile", "matching/title_encoder", "matching/product_embeddings",
        "matching/product_index", "matching/matcher", "matching/matcher_evaluation", "matching/champion",
        "matching/catalog_index", "monitoring/champion_evaluation", "monitoring/drift_reference",
        "classification/listing_pictures", "classification/text_classifier", "classification/image_classifier",
        "classification/text_evaluation", "classification/image_evaluation", "classification/ensemble_evaluation",
        "classification/text_champion", "classification/image_champion", "classification/category_champion",
        "classification/category_ensemble", "monitoring/category_reference",
    }  # fmt: skip


def test_columns_know_where_they_come_from(finished: Finished) -> None:
    for key in [key for key in TABLES if key.path[0] in ("staging", "marts")]:
        lineage = finished.metadata[key]["dagster/column_lineage"].value.deps_by_column
        assert lineage, key
    lineage = finished.metadata[dg.AssetKey(["marts", "labelled_positives"])]["dagster/column_lineage"].value
    sources = {dep.asset_key.to_user_string() for dep in lineage.deps_by_column["product_title"]}
    assert "staging/stg_products" in sources
    lineage = finished.metadata[dg.AssetKey(["staging", "stg_products"])]["dagster/column_lineage"].value
    (source,) = lineage.deps_by_column["normalised_title"]
    assert (source.asset_key.to_user_string(), source.column_name) == ("raw/products", "title")


def test_metrics_are_floats_and_pictures_are_there(finished: Finished) -> None:
    matching = {key.path[1]: finished.metadata[key] for key in finished.metadata if key.path[0] == "matching"}
    wanted = {
        "title_encoder": ("final_loss", "valid_mrr", "parameters"),
        "product_index": ("names", "recall_fused_at_10", "recall_title_at_50"),
        "product_embeddings": ("names", "dimensions"),
        "matcher_evaluation": (
            "top1", "top1_low", "top1_high", "top5", "mrr", "approved_precision", "approved_coverage",
            "no_match_recall", "exact_top1", "token_jaccard_top1", "char_tfidf_top1", "char_tfidf_top5",
        ),
        "champion": ("number", "top1"),
    }  # fmt: skip
    standing = finished.metadata[dg.AssetKey(["monitoring", "champion_evaluation"])]
    assert all(isinstance(standing[name], dg.FloatMetadataValue) for name in ("top1", "top5", "lines", "accepted_top1"))
    assert standing["lines"].value > 50
    for asset, names in wanted.items():
        for name in names:
            assert isinstance(matching[asset][name], dg.FloatMetadataValue), (asset, name)
    profile = finished.metadata[dg.AssetKey(["catalog", "product_profile"])]
    pictures = [
        profile["picture"], matching["title_encoder"]["curve"], matching["matcher_evaluation"]["accuracy"],
        matching["matcher_evaluation"]["precision_against_coverage"], finished.metadata[MATCHES]["decisions"],
    ]  # fmt: skip
    assert all("data:image/png;base64,iVBORw0KGgo" in picture.value for picture in pictures)
    evaluation = matching["matcher_evaluation"]
    assert len(evaluation["examples"].value.splitlines()) > 5
    assert len(evaluation["slices"].value.splitlines()) > 5
    assert evaluation["top1"].value > evaluation["char_tfidf_top1"].value


def test_training_pairs_are_three_to_one_and_apart(finished: Finished) -> None:
    pairs = finished.table("matching", "training_pairs")
    labels = pairs.groupby("line_id")["label"].agg(["sum", "size"])
    assert (labels["sum"] * 3 == labels["size"] - labels["sum"]).all()
    for column in ("vendor_id", "product_id"):
        parts = {split: set(part[column]) for split, part in pairs.groupby("split")}
        assert set(parts) == {"train", "valid", "test"}
        assert not parts["train"] & (parts["valid"] | parts["test"])


def test_the_champion_is_a_registered_version_that_beat_the_baselines(finished: Finished) -> None:
    (version,) = finished.registry.versions("title_matcher")
    champion = finished.registry.champion("title_matcher")
    assert champion == version
    assert exists(champion.artifact)
    assert champion.metrics["top1"] > max(
        value for name, value in champion.metrics.items() if name.endswith("_top1") and not name.startswith("top1")
    )
    assert finished.metadata[dg.AssetKey(["matching", "champion"])]["version"].value == champion.label
    encoder = json.loads((finished.world.lake / "tables/matching/title_encoder.json").read_text())
    assert champion.lineage["encoder"] == encoder["id"]
    settings = json.loads((Path(encoder["location"]) / "encoder_config.json").read_text())
    assert {name: settings[name] for name in ENCODER} == ENCODER


def test_artifacts_are_whole_and_none_is_pickled(finished: Finished) -> None:
    manifests = list((finished.world.lake / "artifacts").glob(f"*/*/{MANIFEST}"))
    assert {path.parent.parent.name for path in manifests} == {
        "title_encoder", "product_embeddings", "product_index", "title_matcher", "drift_reference",
        "text_classifier", "category_ensemble", "category_drift_reference",
    }  # fmt: skip
    for manifest in manifests:
        for name, entry in json.loads(manifest.read_text())["files"].items():
            path = manifest.parent / name
            assert file_digest(path) == entry["sha256"]
            assert path.suffix not in (".pkl", ".pickle", ".pt", ".bin", ".joblib")
            assert not path.read_bytes().startswith(b"\x80\x04"), f"{name} is a pickle"


def test_every_line_of_an_upload_appears_with_a_decision(finished: Finished) -> None:
    champion = finished.registry.champion("title_matcher").label
    for key in finished.good:
        source = pd.read_csv(finished.world.data / "uploads" / key)
        lines, matches = finished.table("uploads", "upload_lines", key), finished.matches(key)
        assert len(source) == len(lines) == LINES
        assert list(matches) == [
            "line_id", "row", "vendor_id", "file", "title", "rank", "product_id", "product_title", "score", "decision",
            "why", "champion_version", "audited", "prediction_id",
        ]  # fmt: skip
        best = matches[matches["rank"] == 1]
        assert best["line_id"].tolist() == lines["line_id"].tolist()
        assert best["row"].tolist() == list(range(2, LINES + 2))
        assert {f"{vendor}/{file}" for vendor, file in matches[["vendor_id", "file"]].to_numpy().tolist()} == {key}
        assert set(matches["champion_version"]) == {champion}
        assert matches["score"].between(0, 1).all()
        assert (matches.groupby("line_id")["rank"].agg(lambda r: r.tolist() == list(range(1, len(r) + 1)))).all()
        wanted = ["approved" if s >= 0.85 else "review" if s >= 0.65 else "no_match" for s in best["score"]]
        assert best["decision"].tolist() == wanted
        assert set(matches["product_id"].dropna()) <= set(finished.table("staging", "stg_products")["product_id"])


def test_matches_are_mostly_right(finished: Finished) -> None:
    right = total = 0
    for key in finished.good:
        truth = pd.read_csv(finished.world.data / "truth" / "uploads" / key, dtype=str)
        best = finished.matches(key).query("rank == 1")
        known = truth["product_id"].notna().to_numpy() & (truth["product_id"].fillna("") != "").to_numpy()
        right += int((best["product_id"].to_numpy() == truth["product_id"].to_numpy())[known].sum())
        total += int(known.sum())
    assert total > 60
    assert right / total > 0.6


def test_the_queue_holds_the_review_lines_and_its_export_is_the_same(finished: Finished) -> None:
    queue = finished.table("uploads", "review_queue")
    best = pd.concat([finished.matches(key) for key in finished.good]).query("rank == 1")
    review, audit = queue[queue["reason"] == "review"], queue[queue["reason"] == "audit"]
    assert len(review) > 0
    assert sorted(review["line_id"]) == sorted(best.query("decision == 'review'")["line_id"])
    assert sorted(audit["line_id"]) == sorted(best.query("decision != 'review' and audited")["line_id"])
    assert review["score"].is_monotonic_increasing
    assert review["score"].between(0.65, 0.85, inclusive="left").all()
    text = (finished.world.lake / "exports" / "review_queue.csv").read_text(encoding="utf-8")
    header, *rows = csv.reader(io.StringIO(text, newline=""))
    assert header == list(queue.columns)
    assert [row[header.index("line_id")] for row in rows] == queue["line_id"].tolist()
    assert not [cell for row in rows for cell in row if cell.startswith(("=", "+", "-", "@", "\t", "\r"))]


def test_a_bad_upload_failed_alone_and_was_set_aside(finished: Finished) -> None:
    (failed,) = [run for run in finished.runs("uploads") if not run["success"]]
    assert [check.partition(": ")[0] for check in failed["failed_checks"]] == ["uploads/upload_lines"]
    assert "readable" in failed["failed_checks"][0]
    assert BAD in failed["failures"][0]
    (entry,) = list_rejected(finished.world.lake)
    assert entry["key"] == BAD
    tables = finished.world.lake / "tables" / "uploads"
    assert not list(tables.glob("upload_*/acme/*"))
    with dg.DagsterInstance.from_config(str(finished.world.home)) as instance:
        assert set(instance.get_dynamic_partitions(upload_files.name or "")) == {*finished.good, BAD}
        assert instance.get_materialized_partitions(MATCHES) == set(finished.good)


def test_again_with_nothing_changed_makes_nothing_and_keeps_the_champion(finished: Finished) -> None:
    first, second = (run["metadata"] for run in finished.runs("build"))
    assert (first["matching/title_encoder"]["trained_now"], second["matching/title_encoder"]["trained_now"]) == (
        True,
        False,
    )
    for asset in ("product_embeddings", "product_index", "matcher"):
        assert first[f"matching/{asset}"]["made_now"] is True
        assert second[f"matching/{asset}"]["made_now"] is False
        assert first[f"matching/{asset}"]["location"] == second[f"matching/{asset}"]["location"]
    assert first["matching/champion"]["version"] == second["matching/champion"]["version"]
    assert first["matching/matcher_evaluation"]["top1"] == second["matching/matcher_evaluation"]["top1"]
    assert len(finished.registry.versions("title_matcher")) == 1
    assert not list((finished.world.lake / ".work" / "title_encoder").iterdir()), "scratch space was given back"


# --- The gate, in this process, on the finished lake -------------------------------------------------------------


def execute(
    finished: Finished, selection: dg.AssetSelection, partition: str | None = None, **settings: Any
) -> dg.ExecuteInProcessResult:
    """Materialize a selection in this process with other settings; the finished world's instance is not told."""
    world = finished.world
    chosen = Settings(data=str(world.data), lake=str(world.lake), split_seed=5, policy="fixed", **settings)
    definitions = build_definitions(chosen)
    graph = [*(definitions.assets or []), *(definitions.asset_checks or [])]
    with dg.DagsterInstance.ephemeral() as instance:
        if partition:
            instance.add_dynamic_partitions("upload_files", [partition])
        return dg.materialize(
            graph,
            selection=selection,
            partition_key=partition,
            instance=instance,
            resources=build_resources(chosen),
            raise_on_error=False,
        )


@pytest.fixture
def rival(finished: Finished) -> Iterator[str]:
    """The last evaluation, as if it were of another candidate than the champion: one below the floor, in these tests.

    The champion itself stays whatever the floor.
    """
    path = finished.world.lake / "tables/matching/matcher_evaluation.json"
    content = path.read_bytes()
    value = json.loads(content)
    value |= {"same": False, "matcher": {**value["matcher"], "id": "another00"}}
    path.write_text(json.dumps(value))
    yield "v2-another0"
    path.write_bytes(content)


def test_a_candidate_below_the_floor_fails_the_check(finished: Finished, rival: str) -> None:
    key = dg.AssetCheckKey(dg.AssetKey(["matching", "matcher_evaluation"]), "better_than_champion")
    result = execute(finished, dg.AssetSelection.checks(key), gate_floor_top1=1.0)
    (check,) = result.get_asset_check_evaluations()
    assert (check.passed, check.blocking, check.severity) == (False, True, dg.AssetCheckSeverity.ERROR)
    assert "below the floor of 1.0000" in (check.description or "")
    assert execute(finished, dg.AssetSelection.checks(key)).get_asset_check_evaluations()[0].passed


def test_the_champion_asset_on_its_own_asks_the_gate_too(finished: Finished, rival: str) -> None:
    before = finished.registry.champion("title_matcher")
    result = execute(finished, dg.AssetSelection.assets(["matching", "champion"]), gate_floor_top1=1.0)
    assert not result.success
    failure = result.failure_data_for_node("matching__champion")
    assert failure is not None
    assert "the candidate is refused: top-1 is" in str(failure.user_failure_data)
    assert finished.registry.champion("title_matcher") == before
    event = finished.registry.history("title_matcher")[-1]
    assert (event["action"], event["label"]) == ("refused", rival)
    assert "below the floor of 1.0000" in event["reason"]
    # Uploads go on with the champion there is, whatever the floor.
    key = finished.good[0]
    expected = finished.matches(key)
    selection = dg.AssetSelection.assets(["uploads", "upload_matches"])
    assert execute(finished, selection, key, gate_floor_top1=1.0).success
    pd.testing.assert_frame_equal(finished.matches(key), expected)


# --- SIGKILL: what was killed and run again is what was never disturbed -------------------------------------------


@dataclass
class Disturbed:
    """A world whose runs were killed while dbt built, while the encoder trained, and while an upload was matched."""

    world: World
    outcomes: list[dict[str, Any]]
    published_by_the_killed_build: dict[str, bytes]
    statuses: list[str]


def copy_of_raw(finished: Finished, base: Path) -> World:
    """A new world on the same data directory with the raw tables there, and nothing after them."""
    world = World(base)
    shutil.copytree(finished.world.data, world.data)
    shutil.copytree(finished.world.lake / "tables" / "raw", world.lake / "tables" / "raw")
    shutil.rmtree(world.data / "uploads" / BAD.partition("/")[0])
    for key in finished.good[1:]:
        (world.data / "uploads" / key).unlink()
    return world


@pytest.fixture(scope="session")
def disturbed(finished: Finished, tmp_path_factory: pytest.TempPathFactory) -> Disturbed:
    world = copy_of_raw(finished, tmp_path_factory.mktemp("disturbed"))
    work, key = world.lake / ".work", finished.good[0]
    world.drive_until(lambda: any(work.glob("dbt/*/output/*.parquet")), "after_raw")
    published = {
        path.relative_to(world.lake).as_posix(): path.read_bytes()
        for path in (world.lake / "tables").glob("[sm]*/*.parquet")
    }
    world.drive_until(lambda: any(work.glob("title_encoder/*/checkpoints/*/*/complete.json")), "after_raw")
    assert not list((world.lake / "artifacts").glob("title_encoder/*")), "it was killed before it was done"
    lines = world.lake / "tables" / "uploads" / "upload_lines" / f"{key}.parquet"
    world.drive_until(lines.exists, "after_raw", "uploads")
    outcomes = world.drive("uploads", "queue")
    with dg.DagsterInstance.from_config(str(world.home)) as instance:
        statuses = [run.status.value for run in reversed(instance.get_runs())]
    return Disturbed(world, outcomes, published, statuses)


def test_killed_runs_are_reported_and_do_not_stand_in_the_way(disturbed: Disturbed) -> None:
    assert disturbed.statuses == ["FAILURE", "FAILURE", "SUCCESS", "FAILURE", "SUCCESS", "SUCCESS"]
    assert [(run["job"], run["success"]) for run in disturbed.outcomes] == [("uploads", True), ("queue", True)]


def test_a_killed_build_published_whole_tables_or_none(finished: Finished, disturbed: Disturbed) -> None:
    for name, data in disturbed.published_by_the_killed_build.items():
        pd.testing.assert_frame_equal(pd.read_parquet(io.BytesIO(data)), pd.read_parquet(finished.world.lake / name))


def test_tables_made_after_a_kill_are_the_same(finished: Finished, disturbed: Disturbed) -> None:
    names = [
        path.relative_to(finished.world.lake)
        for pattern in ("staging/*", "marts/*", "matching/*.parquet")
        for path in (finished.world.lake / "tables").glob(pattern)
    ]
    assert len(names) == 12
    for name in names:
        pd.testing.assert_frame_equal(
            pd.read_parquet(disturbed.world.lake / name), pd.read_parquet(finished.world.lake / name)
        )


def test_artifacts_made_after_a_kill_are_the_same_to_the_byte(finished: Finished, disturbed: Disturbed) -> None:
    def manifests(world: World) -> dict[str, Any]:
        root = world.lake / "artifacts"
        return {
            path.parent.relative_to(root).as_posix(): json.loads(path.read_text())["files"]
            for path in sorted(root.glob(f"*/*/{MANIFEST}"))
        }

    ours, theirs = manifests(disturbed.world), manifests(finished.world)
    assert list(ours) == list(theirs)
    (encoder,) = [name for name in ours if name.startswith("title_encoder/")]
    assert ours[encoder]["model.safetensors"] == theirs[encoder]["model.safetensors"]
    assert ours == theirs


def test_matches_made_after_a_kill_are_the_same(finished: Finished, disturbed: Disturbed) -> None:
    key = finished.good[0]
    path = Path("tables") / "uploads" / "upload_matches" / f"{key}.parquet"
    pd.testing.assert_frame_equal(pd.read_parquet(disturbed.world.lake / path), finished.matches(key))


def test_a_kill_leaves_no_scratch_space_behind_the_next_run(disturbed: Disturbed) -> None:
    assert not list((disturbed.world.lake / ".work" / "title_encoder").iterdir())
