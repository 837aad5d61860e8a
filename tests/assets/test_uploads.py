"""Uploads as assets: a bad file fails its own check and is set aside, and nothing else notices."""

from __future__ import annotations

import csv
import io
import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import dagster as dg
import openpyxl
import pandas as pd
import pytest

from assets.uploads import review_queue, upload_lines, upload_matches
from orchestration.jobs import match_upload
from resources.lake import Lake, TableIO
from resources.matching import MatchingConfig
from resources.monitoring import MonitoringConfig
from resources.registry import ModelRegistry
from resources.source import Uploads
from shelfwise.contract import list_rejected
from shelfwise.feedback import read_feedback, record_feedback
from shelfwise.registry import Registry
from tests.conftest import Shop

GOOD = "acme/good.csv"
BAD = "acme/bad.csv"
FEEDBACK = dg.AssetSpec(["raw", "feedback"])
CATALOG_INDEX = dg.AssetSpec(["matching", "catalog_index"], metadata={"dagster/io_manager_key": "reference_io"})


def resources(shop: Shop, **matching: Any) -> dict[str, object]:
    from resources.lake import ReferenceIO

    root = str(shop.lake)
    return {
        "io_manager": TableIO(root=root),
        "reference_io": ReferenceIO(root=root),
        "lake": Lake(root=root),
        "registry": ModelRegistry(root=root),
        "uploads": Uploads(url=str(shop.data), max_mb=1),
        "matching": MatchingConfig(**matching),
        "monitoring": MonitoringConfig(audit_share=0.5),
    }


def match(shop: Shop, instance: dg.DagsterInstance, key: str, **matching: Any) -> dg.ExecuteInProcessResult:
    """Run `match_upload` for one file, as the sensor's run request does."""
    if not instance.has_dynamic_partition("upload_files", key):
        instance.add_dynamic_partitions("upload_files", [key])
    return dg.materialize(
        [upload_lines, upload_matches, CATALOG_INDEX],
        partition_key=key,
        instance=instance,
        resources=resources(shop, **matching),
        raise_on_error=False,
    )


def collect(shop: Shop, instance: dg.DagsterInstance) -> pd.DataFrame:
    """Materialize the review queue and return it."""
    graph = [upload_lines, upload_matches, review_queue, CATALOG_INDEX, FEEDBACK]
    result = dg.materialize(graph, instance=instance, selection=[review_queue], resources=resources(shop))
    assert result.success
    return pd.read_parquet(shop.table("uploads", "review_queue"))


def lines_of(shop: Shop, key: str) -> Path:
    return shop.table("uploads", "upload_lines", key)


def matches_of(shop: Shop, key: str) -> Path:
    return shop.table("uploads", "upload_matches", key)


def good_file(shop: Shop, count: int = 12) -> bytes:
    titles = shop.products["title"].iloc[:count].str.upper().tolist()
    return pd.DataFrame({"title": [*titles, "zzz qqq xxx"]}).to_csv(index=False).encode()


def excel() -> bytes:
    out, book = io.BytesIO(), openpyxl.Workbook()
    book.active.append(["title", "price"])
    book.active.append(["Soap", 2.5])
    book.save(out)
    return out.getvalue()


def zip_bomb() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("lines.csv", b"title\n" + b"0" * 50_000_000)
    return out.getvalue()


BAD_FILES: dict[str, tuple[bytes, list[str]]] = {
    "excel named .csv": (excel(), ["bad.csv", "CSV", "Excel"]),
    "zip bomb": (zip_bomb(), ["bad.csv", "CSV", "zip"]),
    "empty": (b"", ["bad.csv", "empty"]),
    "header only": (b"title,price\n", ["bad.csv", "header only"]),
    "no title column": (b"name,price\nsoap,1\n", ["bad.csv", "title", "name"]),
    "ragged": (b"title,price\nsoap,1\nmilk,2,3,4\n", ["bad.csv, row 3", "2"]),
    "wrong type": (b"title,price\nsoap,1\nmilk,cheap\n", ["bad.csv, row 3, column 'price'", "cheap"]),
    "blank titles": (b"title,price\nsoap,1\n,2\n,3\n", ["bad.csv, row 3, column 'title'"]),
    "too large": (b"title\n" + b"soap and more soap\n" * 70_000, ["bad.csv", "1,048,576 bytes"]),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_a_bad_file_fails_its_own_check_and_is_set_aside(shop: Shop, instance: dg.DagsterInstance, case: str) -> None:
    content, parts = BAD_FILES[case]
    shop.upload(BAD, content)
    result = match(shop, instance, BAD)
    assert not result.success
    (check,) = result.get_asset_check_evaluations()
    assert (check.check_name, check.passed, check.partition) == ("readable", False, BAD)
    assert check.blocking
    message = check.description or ""
    assert all(part.lower() in message.lower() for part in parts), message
    assert "| file |" in check.metadata["problems"].value
    assert not lines_of(shop, BAD).exists()
    assert not matches_of(shop, BAD).exists()
    (entry,) = list_rejected(shop.lake)
    assert entry["key"] == BAD
    assert entry["problems"][0]["file"].endswith("bad.csv")
    folder = Path(check.metadata["set_aside"].value)
    assert message in (folder / "reason.txt").read_text()
    assert (shop.data / "uploads" / BAD).read_bytes() == content, "the vendor's file is left alone"


def test_what_was_set_aside_is_kept_as_it_came(shop: Shop, instance: dg.DagsterInstance) -> None:
    shop.upload(BAD, b"name\nsoap\n")
    match(shop, instance, BAD)
    shop.upload(BAD, b"name\nmilk\n")
    match(shop, instance, BAD)
    kept = {(Path(entry["folder"]) / "original").read_bytes() for entry in list_rejected(shop.lake)}
    assert kept == {b"name\nsoap\n", b"name\nmilk\n"}


@pytest.mark.parametrize("key", ["../../etc/passwd", "acme/../../secret.csv", "/etc/passwd", "loose.csv", "acme/.."])
def test_a_key_that_leaves_the_folder_fails_its_check_and_touches_nothing(
    shop: Shop, instance: dg.DagsterInstance, key: str
) -> None:
    (shop.data / "secret.csv").write_text("title\nsecret\n")
    before = sorted(shop.data.parent.rglob("*"))
    result = match(shop, instance, key)
    (check,) = result.get_asset_check_evaluations()
    assert not result.success
    assert not check.passed
    assert "inside the uploads folder" in (check.description or "")
    assert sorted(shop.data.parent.rglob("*")) == before


def test_a_link_out_of_the_folder_is_not_followed(shop: Shop, instance: dg.DagsterInstance) -> None:
    (shop.data / "secret.csv").write_text("title\nsecret\n")
    (shop.data / "uploads" / "acme").mkdir(parents=True)
    (shop.data / "uploads" / BAD).symlink_to(shop.data / "secret.csv")
    result = match(shop, instance, BAD)
    (check,) = result.get_asset_check_evaluations()
    assert "a link that leaves it" in (check.description or "")
    assert not list(shop.lake.rglob("original")), "nothing behind the link was copied"


def test_a_file_that_disappeared_fails_its_check(shop: Shop, instance: dg.DagsterInstance) -> None:
    result = match(shop, instance, BAD)
    (check,) = result.get_asset_check_evaluations()
    assert not check.passed
    assert "disappeared between listing and reading" in (check.description or "")
    (entry,) = list_rejected(shop.lake)
    assert (entry["key"], entry["size"]) == (BAD, None)


def test_a_bad_file_is_not_tried_again_whatever_the_policy(shop: Shop, instance: dg.DagsterInstance) -> None:
    shop.upload(BAD, b"name\nsoap\n")
    instance.add_dynamic_partitions("upload_files", [BAD])
    job = dg.define_asset_job("patient", selection=[upload_lines], op_retry_policy=dg.RetryPolicy(max_retries=2))
    definitions = dg.Definitions([upload_lines], jobs=[job], resources=resources(shop))
    result = definitions.resolve_job_def("patient").execute_in_process(
        instance=instance, partition_key=BAD, raise_on_error=False
    )
    types = [event.event_type_value for event in result.all_events]
    assert types.count("STEP_FAILURE") == 1
    assert "STEP_UP_FOR_RETRY" not in types
    failure = result.failure_data_for_node("uploads__upload_lines")
    assert failure is not None
    assert failure.user_failure_data is not None
    assert BAD in (failure.user_failure_data.description or "")


def test_a_bad_file_costs_the_good_one_beside_it_nothing(shop: Shop, instance: dg.DagsterInstance) -> None:
    shop.upload(BAD, excel())
    shop.upload(GOOD, good_file(shop))
    assert not match(shop, instance, BAD).success
    good = match(shop, instance, GOOD)
    assert good.success
    (check,) = good.get_asset_check_evaluations()
    assert (check.passed, check.partition, check.metadata["lines"].value) == (True, GOOD, 13)
    queue = collect(shop, instance)
    assert set(queue["file"]) <= {"good.csv"}


def test_a_bad_version_leaves_the_tables_of_the_good_one(shop: Shop, instance: dg.DagsterInstance) -> None:
    shop.upload(GOOD, good_file(shop))
    assert match(shop, instance, GOOD).success
    before = lines_of(shop, GOOD).read_bytes(), matches_of(shop, GOOD).read_bytes()
    shop.upload(GOOD, b"title,price\nsoap,1\nmilk,2,3\n")
    assert not match(shop, instance, GOOD).success
    assert (lines_of(shop, GOOD).read_bytes(), matches_of(shop, GOOD).read_bytes()) == before
    shop.upload(GOOD, good_file(shop, 3))
    fixed = match(shop, instance, GOOD)
    assert fixed.success
    assert all(check.passed for check in fixed.get_asset_check_evaluations())
    assert len(pd.read_parquet(lines_of(shop, GOOD))) == 4
    assert pd.read_parquet(matches_of(shop, GOOD))["row"].max() == 5


def test_every_line_gets_a_decision_of_the_champion_by_the_thresholds(shop: Shop, instance: dg.DagsterInstance) -> None:
    shop.upload(GOOD, good_file(shop, 40))
    assert match(shop, instance, GOOD).success
    scores = pd.read_parquet(matches_of(shop, GOOD)).query("rank == 1")["score"]
    review, approve = scores.quantile([0.3, 0.6])
    result = match(shop, instance, GOOD, policy="fixed", approve=approve, review=review)
    frame, lines = pd.read_parquet(matches_of(shop, GOOD)), pd.read_parquet(lines_of(shop, GOOD))
    best = frame[frame["rank"] == 1]
    assert best["line_id"].tolist() == lines["line_id"].tolist()
    assert best["row"].tolist() == list(range(2, 43))
    assert set(frame["champion_version"]) == {shop.version}
    assert best["why"].str.len().min() > 10
    assert frame.loc[frame["rank"] > 1, "why"].isna().all()
    wanted = ["approved" if s >= approve else "review" if s >= review else "no_match" for s in best["score"]]
    assert best["decision"].tolist() == wanted
    assert frame.groupby("line_id")["decision"].nunique().max() == 1
    assert set(wanted) == {"approved", "review", "no_match"}, "else nothing was tested"
    known = best[best["row"] < 42]
    assert (known["product_id"].to_numpy() == shop.products["product_id"].iloc[:40].to_numpy()).mean() > 0.8
    (event,) = [e for e in result.get_asset_materialization_events() if e.asset_key.path[-1] == "upload_matches"]
    metadata = event.materialization.metadata
    assert event.materialization.partition == GOOD
    shares = {name: metadata[f"{name}_share"] for name in ("approved", "review", "no_match")}
    assert all(isinstance(share, dg.FloatMetadataValue) for share in shares.values())
    assert sum(share.value for share in shares.values()) == pytest.approx(1)
    assert shares["approved"].value == pytest.approx(wanted.count("approved") / 41)
    assert metadata["champion_version"].value == shop.version
    assert metadata["lines"].value == 41
    assert metadata["dagster/row_count"].value == len(frame)
    assert "data:image/png;base64,iVBOR" in metadata["decisions"].value


def test_repairs_are_reported(shop: Shop, instance: dg.DagsterInstance) -> None:
    shop.upload(GOOD, "title;price\ncrème brûlée;2,50\nsoap;1\n".encode("latin-1"))
    result = match(shop, instance, GOOD)
    assert result.success
    (event,) = [e for e in result.get_asset_materialization_events() if e.asset_key.path[-1] == "upload_lines"]
    assert pd.read_parquet(lines_of(shop, GOOD))["title"].tolist() == ["crème brûlée", "soap"]
    assert len(event.materialization.metadata["repairs"].value.splitlines()) > 2


def test_matching_waits_for_the_index_of_the_champion(shop: Shop, instance: dg.DagsterInstance) -> None:
    shop.upload(GOOD, good_file(shop))
    registry = Registry(shop.lake / "registry")
    first = registry.champion("title_matcher")
    registry.promote(registry.register("title_matcher", first.artifact, "another", {}, first.lineage))
    result = match(shop, instance, GOOD)
    failure = result.failure_data_for_node("uploads__upload_matches")
    assert failure is not None
    assert "the catalog index is not that of champion v2-another" in str(failure.user_failure_data)
    assert not matches_of(shop, GOOD).exists()


def test_a_file_that_arrives_before_the_champions_index_is_matched_when_tried_again(
    shop: Shop, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.upload(GOOD, good_file(shop))
    instance.add_dynamic_partitions("upload_files", [GOOD])
    registry, opened = Registry(shop.lake / "registry"), ModelRegistry.open
    first = registry.champion("title_matcher")
    registry.promote(registry.register("title_matcher", first.artifact, "another", {}, first.lineage))
    asked = []

    def open_and_settle(self: ModelRegistry) -> Registry:
        asked.append(1)
        if len(asked) == 2:
            registry.promote(first)  # champion and index belong together again
        return opened(self)

    monkeypatch.setattr(ModelRegistry, "open", open_and_settle)
    policy = match_upload.op_retry_policy
    assert policy is not None
    assert policy.max_retries * (policy.delay or 0) >= 30, "long enough for the index to be made"
    graph = [upload_lines, upload_matches, CATALOG_INDEX]
    patient = dg.define_asset_job(
        "patient", selection=[upload_lines, upload_matches], op_retry_policy=dg.RetryPolicy(policy.max_retries)
    )
    job = dg.Definitions(graph, jobs=[patient], resources=resources(shop)).resolve_job_def("patient")
    assert job.execute_in_process(instance=instance, partition_key=GOOD).success
    assert len(asked) == 2
    assert matches_of(shop, GOOD).exists()


def test_without_a_champion_the_reason_is_said(shop: Shop, instance: dg.DagsterInstance) -> None:
    shop.upload(GOOD, good_file(shop))
    shutil.rmtree(shop.lake / "registry")
    result = match(shop, instance, GOOD)
    failure = result.failure_data_for_node("uploads__upload_matches")
    assert failure is not None
    assert "no champion of 'title_matcher' yet" in str(failure.error)


def test_a_queue_without_uploads_is_empty(shop: Shop, instance: dg.DagsterInstance) -> None:
    queue = collect(shop, instance)
    assert len(queue) == 0
    assert "decision" not in queue
    assert (shop.lake / "exports" / "review_queue.csv").read_bytes().startswith(b"vendor_id,file,row,")


def test_the_first_upload_of_all_is_in_the_queue(shop: Shop, instance: dg.DagsterInstance) -> None:
    instance.add_dynamic_partitions("upload_files", [GOOD])
    matches_of(shop, GOOD).parent.mkdir(parents=True)
    matches_frame("acme", "good.csv", [("a", "review", 0.7), ("b", "no_match", 0.1)]).to_parquet(matches_of(shop, GOOD))
    assert collect(shop, instance)["title"].tolist() == ["a"]


def test_the_queue_holds_the_review_lines_of_all_uploads_and_nothing_else(
    shop: Shop, instance: dg.DagsterInstance
) -> None:
    made = {
        GOOD: matches_frame("acme", "good.csv", [('=HYPERLINK("http://x")', "review", 0.7), ("b", "approved", 0.9)]),
        "zeta/more.csv": matches_frame("zeta", "more.csv", [("@SUM(A1)", "review", 0.66), ("d", "no_match", 0.1)]),
    }
    for key, frame in made.items():
        instance.add_dynamic_partitions("upload_files", [key])
        matches_of(shop, key).parent.mkdir(parents=True, exist_ok=True)
        frame.to_parquet(matches_of(shop, key), index=False)
    instance.add_dynamic_partitions("upload_files", [BAD])
    queue = collect(shop, instance)
    assert queue[["vendor_id", "title", "score"]].to_numpy().tolist() == [
        ["zeta", "@SUM(A1)", 0.66],
        ["acme", '=HYPERLINK("http://x")', 0.7],
    ]
    assert queue["alternatives"].tolist() == ["p2: =2+2", "p2: =2+2"]
    assert set(queue["champion_version"]) == {"v1-abc"}
    assert set(queue["why"]) == {"=1+1"}
    text = (shop.lake / "exports" / "review_queue.csv").read_text(encoding="utf-8")
    rows = list(csv.reader(io.StringIO(text, newline="")))
    assert len(rows) == 3
    assert queue["reason"].tolist() == ["review", "review"], "these were matched before there was an audit"
    assert rows[0] == list(queue.columns)
    assert not [cell for row in rows for cell in row if cell[:1] in "=+-@\t\r" and cell]
    assert rows[2][rows[0].index("title")] == '\'=HYPERLINK("http://x")'


def test_what_was_answered_is_asked_no_more(shop: Shop, instance: dg.DagsterInstance) -> None:
    instance.add_dynamic_partitions("upload_files", [GOOD])
    matches_of(shop, GOOD).parent.mkdir(parents=True)
    matches_frame("acme", "good.csv", [("a", "review", 0.7), ("b", "review", 0.8)]).to_parquet(matches_of(shop, GOOD))
    record_feedback(shop.lake / "feedback", vendor_id="acme", vendor_title="a", product_id=None)
    record_feedback(shop.lake / "feedback", vendor_id="zeta", vendor_title="b", product_id=None)
    read_feedback(shop.lake / "feedback").to_parquet(shop.table("raw", "feedback"))
    assert collect(shop, instance)["title"].tolist() == ["b"], "another vendor's answer settles nothing"


def test_the_queue_shows_what_is_audited_and_its_decision_stands(shop: Shop, instance: dg.DagsterInstance) -> None:
    shop.upload(GOOD, good_file(shop, 60))
    assert match(shop, instance, GOOD, policy="fixed").success
    matches = pd.read_parquet(matches_of(shop, GOOD))
    assert (matches.groupby("line_id")["audited"].nunique() == 1).all()
    best = matches[matches["rank"] == 1]
    approved, drawn = best["decision"] == "approved", best["audited"]
    assert 0 < (approved & drawn).sum() < approved.sum()
    assert not (drawn & (best["decision"] == "review")).any()
    again = match(shop, instance, GOOD, policy="fixed")
    pd.testing.assert_frame_equal(pd.read_parquet(matches_of(shop, GOOD)), matches)
    (event,) = [e for e in again.get_asset_materialization_events() if e.asset_key.path[-1] == "upload_matches"]
    assert event.materialization.metadata["audited"].value == drawn.sum()
    queue = collect(shop, instance)
    assert set(queue.loc[queue["reason"] == "audit", "line_id"]) == set(best.loc[drawn, "line_id"])
    assert set(queue.loc[queue["reason"] == "review", "line_id"]) == set(
        best.loc[best["decision"] == "review", "line_id"]
    )
    with (shop.lake / "exports" / "review_queue.csv").open(encoding="utf-8", newline="") as file:
        assert [row["reason"] for row in csv.DictReader(file)] == queue["reason"].tolist()


def matches_frame(vendor: str, file: str, lines: list[tuple[str, str, float]]) -> pd.DataFrame:
    rows = []
    for number, (title, decision, score) in enumerate(lines, start=2):
        for rank, (product, name) in enumerate([("p1", "+one"), ("p2", "=2+2")], start=1):
            place = {"line_id": f"{vendor}{number}", "row": number, "vendor_id": vendor, "file": file, "title": title}
            found = {"rank": rank, "product_id": product, "product_title": name, "score": score / rank}
            rows.append({**place, **found, "decision": decision, "why": "=1+1", "champion_version": "v1-abc"})
    return pd.DataFrame(rows)


def test_reasons_are_written_for_people_and_for_machines(shop: Shop, instance: dg.DagsterInstance) -> None:
    shop.upload(BAD, b"title,price\nsoap,1\nmilk,cheap\n")
    match(shop, instance, BAD)
    (folder,) = (shop.lake / "rejected" / "acme" / "bad.csv").iterdir()
    assert "What has to change" in (folder / "reason.txt").read_text()
    assert json.loads((folder / "reason.json").read_text())["problems"][0]["row"] == 3
