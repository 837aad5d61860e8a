"""The pure parts of the benchmarks: what is counted as right, how results are kept and rendered."""

import json
import math
import sys

import numpy as np
import pandas as pd
import pytest

from benchmarks import catalog, common, demo, encoders, incremental, pictures, report, run, speed, suite

PRODUCTS = pd.DataFrame(
    {
        "product_id": ["p1", "p2", "p3", "p4"],
        "title": ["Red Wine 750ml", "RED WINE 75cl", "Pale Beer 330ml", "Dry Cider 1l"],
    }
)


def upload_lines(truth):
    return pd.DataFrame(
        {
            "line_id": [f"l{i}" for i in range(len(truth))],
            "vendor_id": ["v1", "v2"] * (len(truth) // 2) + ["v1"] * (len(truth) % 2),
            "title": [f"line number {i}" for i in range(len(truth))],
            "truth_product_id": truth,
        }
    )


def upload_matches(rows):
    columns = ["line_id", "rank", "product_id", "score", "decision"]
    return pd.DataFrame(rows, columns=columns)


@pytest.fixture
def frame():
    """Right at once, second, twin of the right one, refused rightly, approved wrongly, unknown to the catalog."""
    lines = upload_lines(["p1", "p3", "p2", "", "", "gone", "p4", None])
    matches = upload_matches(
        [
            ("l0", 1, "p1", 0.99, "approved"),
            ("l0", 2, "p2", 0.2, "approved"),
            ("l1", 1, "p4", 0.7, "review"),
            ("l1", 2, "p3", 0.3, "review"),
            ("l2", 1, "p1", 0.95, "approved"),
            ("l3", 1, "p1", 0.1, "no_match"),
            ("l4", 1, "p3", 0.9, "approved"),
            ("l5", 1, None, 0.0, "no_match"),
            ("l7", 1, "p1", 0.9, "approved"),
        ]
    )
    return catalog.line_outcomes(lines, matches, PRODUCTS)


def test_lines_are_joined_with_their_truth(frame):
    assert frame["line_id"].tolist() == ["l0", "l1", "l2", "l3", "l4", "l5", "l6"]  # l7's truth was not given
    assert frame["in_catalog"].tolist() == [True, True, True, False, False, False, True]
    assert frame["rank"].tolist() == [1, 2, 0, 0, 0, 0, 0]
    assert frame["right"].tolist() == [True, False, False, False, False, False, False]
    assert frame["same_title"].tolist() == [True, False, True, False, False, False, False]
    assert frame["decision"].iloc[6] == "no_match"  # a line that matching lost is refused


def test_measures_count_misses_as_wrong(frame):
    found = catalog.measure(frame)
    assert found["top1"] == pytest.approx(1 / 4)
    assert found["top5"] == pytest.approx(2 / 4)
    assert found["mrr"] == pytest.approx((1 + 1 / 2) / 4)
    assert found["top1_same_title"] == pytest.approx(2 / 4)
    assert found["approved_precision"] == pytest.approx(1 / 3)
    assert found["approved_coverage"] == pytest.approx(1 / 4)
    assert found["no_match_recall"] == pytest.approx(2 / 3)
    assert found["review_share"] == pytest.approx(1 / 7)
    assert found["top1_low"] <= found["top1"] <= found["top1_high"]


def test_interval_over_vendors_is_wider_where_vendors_differ():
    lines = upload_lines(["p1"] * 200)
    hits = [(f"l{i}", 1, "p1" if i % 2 else "p3", 0.9, "approved") for i in range(200)]  # v1 never, v2 always right
    found = catalog.measure(catalog.line_outcomes(lines, upload_matches(hits), PRODUCTS))
    by_line = found["top1_high"] - found["top1_low"]
    by_vendor = found["top1_vendors_high"] - found["top1_vendors_low"]
    assert found["top1"] == pytest.approx(0.5)
    assert by_vendor > 2 * by_line


def test_curve_is_what_approving_from_each_threshold_would_give():
    score = np.array([0.9, 0.8, 0.8, 0.1])
    right = np.array([True, False, True, True])
    found = catalog.curve(score, right, np.ones(4, bool))
    assert found["threshold"] == [0.9, 0.8, 0.1]
    assert found["precision"] == pytest.approx([1, 2 / 3, 3 / 4])
    assert found["coverage"] == pytest.approx([1 / 4, 2 / 4, 3 / 4])
    many = catalog.curve(np.linspace(0, 1, 1000), np.ones(1000, bool), np.ones(1000, bool), points=20)
    assert len(many["threshold"]) == 20
    assert many["coverage"][-1] == 1


def test_numbers_over_seeds_are_means_and_ignore_what_is_missing():
    found = catalog.over_seeds([{"top1": 0.8, "recall": float("nan")}, {"top1": 0.9, "recall": 0.5}])
    assert found == {"top1": pytest.approx(0.85), "recall": pytest.approx(0.5)}


def test_seeds_follow_the_configured_one():
    assert catalog.seeds_of(3, '{"seed": 40, "epochs": 2}') == [40, 41, 42]
    assert len(set(catalog.seeds_of(2, ""))) == 2


def test_an_object_is_json_without_nan(capsys):
    common.emit({"a": np.float32(0.5), "b": float("nan"), "c": np.int64(3), "d": (1, np.bool_(True))})
    assert json.loads(capsys.readouterr().out) == {"a": 0.5, "b": None, "c": 3, "d": [1, True]}


def test_only_the_last_line_is_the_object():
    assert common.last_object('progress\n{"a": 1}\n\n') == {"a": 1}
    assert common.last_object('{"a": 1}\nTraceback') is None
    assert common.last_object("[1]") is None
    assert common.last_object("") is None


def test_a_measured_child_reports_status_output_and_the_memory_of_its_children():
    inner = "import time; block = bytearray(200 << 20); block[::4096] = b'x' * len(block[::4096]); time.sleep(2)"
    outer = f"import subprocess, sys; print('hi'); subprocess.run([sys.executable, '-c', {inner!r}]); sys.exit(3)"
    ran = common.run_measured([sys.executable, "-c", outer])
    assert (ran.status, ran.output) == (3, "hi\n")
    assert ran.peak_mb > 200


def test_the_copy_for_the_demo_holds_the_project_and_nothing_it_made(tmp_path):
    demo.copy_checkout(tmp_path / "copy")
    assert (tmp_path / "copy" / "orchestration" / "demo.py").exists()
    assert not {"lake", "data", ".dagster_home", ".venv", ".git"} & {p.name for p in (tmp_path / "copy").iterdir()}


def test_counts_of_the_test_summary():
    assert suite.counts("...\n3 failed, 120 passed, 2 skipped in 61.20s (0:01:01)\n") == {
        "failed": 3,
        "passed": 120,
        "skipped": 2,
    }
    assert suite.counts("no tests") == {}


# ---- running ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def script(tmp_path, monkeypatch):
    """A benchmark that prints what it is told to, found as a module of the checkout's `benchmarks`."""

    def make(body, needs=""):
        (tmp_path / "fake_benchmark.py").write_text(body)
        monkeypatch.setattr(run, "child_environment", lambda: {"PYTHONPATH": str(tmp_path)})
        return run.Benchmark("fake", ("fake_benchmark {dir}",), needs)

    return make


def test_a_run_keeps_the_printed_object_and_how_it_was_made(script, tmp_path):
    benchmark = script('print(\'working\'); print(\'{"benchmark": "fake", "x": 1}\')')
    assert run.execute(benchmark, 1, tmp_path / "results") == "done"
    kept = json.loads((tmp_path / "results" / "fake.json").read_text())
    assert kept["x"] == 1
    assert kept["how"] == ["python -m fake_benchmark DIR"]


def test_a_crash_leaves_the_last_good_result(script, tmp_path):
    folder = tmp_path / "results"
    run.execute(script('print(\'{"benchmark": "fake", "x": 1}\')'), 1, folder)
    assert run.execute(script("raise SystemExit(2)"), 1, folder) == "failed"
    assert json.loads((folder / "fake.json").read_text())["x"] == 1


def test_a_refused_champion_is_kept_and_fails(script, tmp_path):
    body = 'print(\'{"benchmark": "catalog", "promoted": false}\'); raise SystemExit(1)'
    assert run.execute(script(body), 1, tmp_path) == "failed"
    assert json.loads((tmp_path / "fake.json").read_text())["promoted"] is False


def test_missing_real_data_is_skipped(script, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SHELFWISE_BENCH_DATA", str(tmp_path / "nowhere"))
    benchmark = script('print(\'{"benchmark": "fake"}\')', needs="pricerunner/offers.csv")
    assert run.execute(benchmark, 1, tmp_path) == "skipped"
    assert "SHELFWISE_BENCH_DATA" in capsys.readouterr().err
    assert not (tmp_path / "fake.json").exists()


def test_benchmarks_are_chosen_by_name():
    assert [one.name for one in run.selected(["speed", "demo"])] == ["speed", "demo"]
    assert all(not one.extra for one in run.selected([]))
    with pytest.raises(ValueError, match="nonsense"):
        run.selected(["nonsense"])


# ---- rendering -------------------------------------------------------------------------------------------------------


ENDS = ("", "_low", "_high")


def bounded(**values):
    """Return number, lower and upper bound under their three names."""
    return {f"{name}{end}": bound for name, value in values.items() for end, bound in zip(ENDS, value, strict=True)}


def head(benchmark):
    machine = {"cpu": "A CPU", "cores": 2, "memory_gb": 8.0, "gpus": 0, "system": "Linux x86_64"}
    return {
        "benchmark": benchmark,
        "date": "2024-05-01T10:00:00+00:00",
        "commit": "abc123",
        "machine": machine,
        "load_before": 0.25,
        "versions": {"python": "3.11.7"},
        "settings": {},
        "how": [f"python -m benchmarks.{benchmark}"],
    }


@pytest.fixture
def results(frame):
    found = catalog.measure(frame)
    yardstick = bounded(top1=(0.2, 0.1, 0.3), top5=(0.4, 0.3, 0.5), mrr=(0.3, 0.2, 0.4)) | {"lines_per_second": 9000.0}
    metrics = {name: found[name] for name in catalog.MEASURES}
    pricerunner = head("catalog") | {
        "promoted": True,
        **metrics,
        "top1": 0.8125,
        "top5": 0.8701,
        "intervals": {
            name: [found[f"{name}_low"], found[f"{name}_high"]] for name in (*catalog.MEASURES, "top1_vendors")
        },
        "n": 7,
        "in_catalog": 4,
        "without_match": 3,
        "vendors": 2,
        "vendors_with_mappings": 0,
        "products": 4,
        "mappings": 11,
        "seeds": [7, 8],
        "per_seed": [{"seed": seed, "champion_version": "v1-x", **metrics} for seed in (7, 8)],
        "baselines": {"exact": yardstick, "char_tfidf": yardstick},
        "curves": {"Shelfwise": catalog.curve(frame["score"].to_numpy(), frame["right"].to_numpy(), np.ones(7, bool))},
        "approved_point": [0.25, 0.33],
        **catalog.slices(frame),
        "lines_per_second": 1500.0,
        "lines_per_second_in_graph": 210.0,
        "same_as_graph": 1.0,
        "counted": catalog.COUNTED,
        "peak_mb": 900.0,
        "seconds": {
            "wall_seconds": 300.0,
            "stage_seconds": {"matching/title_encoder": 60.0},
            "domain_seconds": {"matching/title_encoder": 58.0},
            "upload_runs": 2,
        },
    }
    rival = {
        "label": "RapidFuzz cdist",
        "short": "RapidFuzz",
        "lines": 50,
        "peak_mb": 200.0,
        "shelfwise_on_these_lines": 0.9,
    }
    rival |= bounded(top1=(0.7, 0.6, 0.8)) | {"lines_per_second": 5.0, "shelfwise_times_as_fast": 160.0}
    speed = head("speed") | {
        **bounded(top1=(0.9, 0.88, 0.92)),
        "lines": 100_000,
        "products": 80_000,
        "lines_per_second": 800.0,
        "lines_per_second_loaded": 850.0,
        "peak_mb": 2100.4,
        "stages": {"load": 5.0, "match": 110.0},
        "inside_match": {"encode": 30.0, "features": 70.0},
        "counted": "all",
        "prepared": {"names": 95_000, "encoder_steps": 60},
        "rivals": {"rapidfuzz": rival},
    }
    return {"pricerunner": pricerunner, "speed": speed, "definitions": definitions()}


def definitions():
    sizes = {"assets": 20, "times": 5, "process_seconds": 3.1, "first_seconds": 4.0}
    return head("definitions") | sizes | {"seconds": 2.5, "heavy_modules": []}


def row(text, beginning):
    (line,) = [line for line in text.splitlines() if line.startswith(f"| {beginning}")]
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_targets_stand_beside_what_was_measured(results):
    text = report.render(results)
    assert row(text, "PriceRunner, unseen vendors: top-1")[1:] == ["≥ 0.8000", "0.8125", "met"]
    assert row(text, "PriceRunner, unseen vendors: top-5")[1:] == ["≥ 0.8800", "0.8701", "**missed by 0.0099**"]
    assert row(text, "100,000 lines against")[1:] == ["≥ 1,000", "800", "**missed by 200**"]
    assert row(text, "Definitions load")[1:] == ["< 3.00 s", "2.50 s", "met"]
    assert row(text, "The tests")[2:] == ["–", "not measured"]


def test_baselines_stand_in_the_same_table_with_intervals(results):
    text = report.render(results)
    assert row(text, "character n-gram TF-IDF |")[1] == "0.200 (0.100–0.300)"
    assert row(text, "RapidFuzz cdist")[1:3] == ["5", "160.0"]
    assert "abc123" in text
    assert "python -m benchmarks.catalog" in text


def test_a_refused_champion_is_told_with_its_reasons(results):
    refused = head("catalog") | {"promoted": False, "reasons": ["the candidate is refused: floor"], "seeds": [7]}
    text = report.render(results | {"pricerunner": refused})
    assert "the candidate is refused: floor" in text
    assert row(text, "PriceRunner, unseen vendors: top-1")[2:] == ["–", "not measured"]


def test_rendering_needs_nothing_but_what_was_kept():
    text = report.render({})
    assert text.count("not measured") == len(report.TARGETS)
    assert report.render({"definitions": definitions()}).count("not measured") == len(report.TARGETS) - 1


def test_a_count_that_must_be_nothing_takes_the_length_of_a_list():
    target = next(target for target in report.TARGETS if target.path == "again.trained")
    assert target.measured({"demo": {"again": {"trained": ["matching/title_encoder"]}}}) == 1
    assert target.verdict(1) == "**missed by 1**"
    assert target.verdict(0) == "met"


def test_kept_objects_are_read_back_by_name(tmp_path, results):
    (tmp_path / "speed.json").write_text(json.dumps(common.plain(results["speed"])))
    assert report.render(report.read_results(tmp_path)) == report.render({"speed": common.plain(results["speed"])})


def test_pictures_are_small_png_files(results):
    for png in (pictures.precision_coverage(results["pricerunner"]), pictures.speed_accuracy(results["speed"])):
        assert png.startswith(b"\x89PNG")
        assert len(png) < 100_000


def test_nothing_in_the_result_is_infinite(frame):
    assert all(math.isfinite(value) for value in catalog.slices(frame)["by_length"]["3-4 words"].values())


# ---- the whole object, over a lake made here without Dagster ---------------------------------------------------------


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A data directory with a held-out part, and what the graph would leave in the lake for it (no encoder)."""
    from shelfwise.contract import parse_upload
    from shelfwise.matching.index import CatalogIndex, product_names
    from shelfwise.matching.lexical import Lexical
    from shelfwise.matching.matcher import Matcher
    from shelfwise.registry import Registry
    from shelfwise.synthetic import SyntheticConfig, generate, write

    root = tmp_path_factory.mktemp("world")
    config = SyntheticConfig(n_products=250, n_mappings=900, n_uploads=2, lines_per_upload=40, n_listings=0, seed=5)
    made = generate(config)
    data = write(made, root / "data", with_truth_column=True)
    lake = root / "lake"
    names = product_names(made.products, made.mappings)
    index = CatalogIndex.build(made.products, names, Lexical.fit(names["name"].tolist()))
    Matcher.fit(made.mappings, index).save(lake / "matcher")
    index.save(lake / "index")
    registry = Registry(lake / "registry")
    version = registry.register("title_matcher", str(lake / "matcher"), "0123456789abcdef")
    registry.promote(version)
    tables = {"raw/products": made.products, "raw/mappings": made.mappings, "staging/stg_products": made.products}
    matcher = Matcher.load(lake / "matcher")
    for vendor, file in made.uploads:
        lines = parse_upload((data / "uploads" / vendor / file).read_bytes(), file, vendor).frame
        matches = matcher.match(lines, index, catalog.DEPTH).assign(champion_version=version.label)
        tables |= {f"uploads/upload_lines/{vendor}/{file}": lines, f"uploads/upload_matches/{vendor}/{file}": matches}
    for name, table in tables.items():
        path = lake / "tables" / f"{name}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        table.to_parquet(path, index=False)
    references = {"catalog_index": {"location": str(lake / "index")}, "matcher_evaluation": {"metrics": {"top1": 0.9}}}
    (lake / "tables" / "matching").mkdir()
    for name, value in references.items():
        (lake / "tables" / "matching" / f"{name}.json").write_text(json.dumps(value))
    return data, lake


@pytest.fixture
def graph(world, monkeypatch):
    """Stand in for the Dagster runs: report what is given, and put the lake where the runs would have left it."""
    stages = {"uploads/upload_lines": 0.5, "uploads/upload_matches": 1.5}
    good = {
        "promoted": True,
        "reasons": [],
        "set_aside": [],
        "upload_failures": [],
        "stage_seconds": stages,
        "domain_seconds": stages,
        "wall_seconds": 9.0,
        "peak_mb": 100.0,
        "train_runs": 1,
        "upload_runs": 2,
    }

    def answer(**changes):
        def run_graph(data, place, seed):
            place.folder.mkdir(parents=True)
            place.lake.symlink_to(world[1])
            return good | changes

        monkeypatch.setattr(catalog, "run_graph", run_graph)

    return answer


def test_the_object_holds_what_it_promises(world, graph, tmp_path, capsys):
    graph()
    assert catalog.main([str(world[0]), "--seeds", "2", "--work", str(tmp_path)]) == 0
    found = common.last_object(capsys.readouterr().out)
    assert found["promoted"] is True
    assert found["n"] == 80
    assert found["n"] == found["in_catalog"] + found["without_match"]
    assert 0 < found["without_match"] < 40
    assert found["products"] == 250
    assert len(found["seeds"]) == len(found["per_seed"]) == 2
    assert found["same_as_graph"] == 1
    assert found["lines_per_second_in_graph"] == pytest.approx(80 / 2)
    assert 0.5 < found["top1"] <= found["top5"] <= 1
    assert found["intervals"]["top1"][0] <= found["top1"] <= found["intervals"]["top1"][1]
    assert set(found["baselines"]) == set(report.BASELINE_LABELS)
    assert found["baselines"]["exact"]["top1"] < found["baselines"]["char_tfidf"]["top1"]
    assert found["inner"] == {"top1": 0.9}
    assert "PriceRunner" in report.render({"pricerunner": found | {"how": []}})


def test_a_refused_champion_is_printed_and_fails(world, graph, tmp_path, capsys):
    graph(promoted=False, reasons=["matcher_evaluation: refused"])
    assert catalog.main([str(world[0]), "--work", str(tmp_path)]) == 1
    found = common.last_object(capsys.readouterr().out)
    assert found["promoted"] is False
    assert found["reasons"] == ["matcher_evaluation: refused"]
    assert "top1" not in found


def test_a_run_that_ended_well_is_not_run_again_and_a_refused_one_is(tmp_path, monkeypatch):
    place = catalog.Place(tmp_path)
    started = []

    def measured(command, env):
        started.append(env)
        catalog.atomic_write_json(command[-1], {"promoted": len(started) > 1})
        return common.Measured(0, 1.0, 2.0, "")

    monkeypatch.setattr(catalog, "run_measured", measured)
    monkeypatch.setenv("SHELFWISE_ENCODER_CONFIG", '{"epochs": 2, "seed": 1}')
    assert catalog.run_graph("/data", place, 9)["promoted"] is False
    assert catalog.run_graph("/data", place, 9)["promoted"] is True
    assert catalog.run_graph("/data", place, 9)["wall_seconds"] == 1.0
    assert len(started) == 2
    assert json.loads(started[0]["SHELFWISE_ENCODER_CONFIG"]) == {"epochs": 2, "seed": 9}
    assert started[0]["SHELFWISE_LAKE"] == str(tmp_path / "lake")
    assert (tmp_path / "dagster_home" / "dagster.yaml").exists()


def test_other_settings_get_a_folder_of_their_own(world, monkeypatch):
    before = catalog._run_id(str(world[0]))
    assert catalog._run_id(str(world[0])) == before
    monkeypatch.setenv("SHELFWISE_APPROVE", "0.9")
    assert catalog._run_id(str(world[0])) != before


# ---- speed -----------------------------------------------------------------------------------------------------------


def test_rivals_answer_with_product_ids_and_are_measured_on_their_sample(tmp_path):
    titles = [f"{word} product number {i}" for i, word in enumerate(["alpha", "bravo", "charlie", "delta", "echo"] * 4)]
    ids = [f"p{i}" for i in range(len(titles))]
    pd.DataFrame({"product_id": ids, "title": titles}).to_parquet(tmp_path / "products.parquet")
    lines = pd.DataFrame({"title": [t.upper() for t in titles], "product_id": ids})
    lines.loc[3] = ["zzzzqqqq", ""]  # shares no trigram with any title
    lines.to_csv(tmp_path / "upload.csv", index=False)
    answers = pd.DataFrame(
        {"row": range(20), "predicted": [*ids[:10], *["p0"] * 10], "truth_product_id": lines["product_id"]}
    )
    answers.to_parquet(tmp_path / "answers.parquet")
    for name, rival in speed.RIVALS.items():
        found = rival.measure(tmp_path, 20 if name != "rapidfuzz" else 7)
        assert found["lines"] == (20 if name != "rapidfuzz" else 7)
        assert found["lines_per_second"] > 0
    accuracy = speed.top1(tmp_path)
    assert accuracy["tfidf"]["top1"] == accuracy["tfidf_plain"]["top1"] == accuracy["rapidfuzz"]["top1"] == 1
    assert accuracy["shelfwise"]["top1"] == pytest.approx(9 / 19)
    assert accuracy["tfidf"]["lines_with_product"] == 19
    assert accuracy["rapidfuzz"]["shelfwise_on_these_lines"] < 1


def test_stages_add_up_the_calls_of_a_method():
    class Clockwork:
        def turn(self, times):
            return times + 1

    stages, owner = speed.Stages(), Clockwork()
    stages.around(owner, "turn", "turning")
    assert [owner.turn(1), owner.turn(times=2)] == [2, 3]
    assert set(stages.seconds) == {"turning"}


# ---- incremental -----------------------------------------------------------------------------------------------------


def test_a_changing_catalog_is_measured_beside_a_full_build(tmp_path, monkeypatch):
    from shelfwise.matching.index import CatalogIndex, IndexConfig, product_names
    from shelfwise.matching.lexical import Lexical
    from shelfwise.matching.matcher import Matcher
    from tests.unit.matching_samples import catalog, positives

    monkeypatch.setattr(incremental, "SIZES", (1, 30))
    products = catalog()
    lines = positives(products, n=300)
    names = product_names(products, lines)
    index = CatalogIndex.build(products, names, Lexical.fit(names["name"].tolist()), config=IndexConfig(threads=1))
    Matcher.fit(lines, index).save(tmp_path / "matcher")
    index.save(tmp_path / "index")
    pd.DataFrame({"title": lines["vendor_title"].head(50)}).to_csv(tmp_path / "upload.csv", index=False)
    found = incremental.measure_process(tmp_path, times=3, seed=0)
    assert list(found["changes"]) == ["1", "30"]
    for one in found["changes"].values():
        assert (one["visible"], one["alike"], one["alike_exact"]) == (True, 1.0, 1.0)
        assert 0 < one["seconds"] <= one["slowest_seconds"]
    assert found["changes"]["30"]["last"]["changed"] >= 10
    kept = head("incremental") | found | {"products": 384, "times": 3}
    text = report.render({"incremental": common.plain(kept)})
    assert row(text, "30 |")[-2:] == ["100.0%", "100.0%"]
    assert row(text, "80,000 products, one changed")[-1] == "met"


def test_matches_that_differ_are_counted_by_line():
    ours = pd.DataFrame({"line_id": [1, 1, 2, 3], "product_id": ["a", "b", None, "c"], "score": [0.5, 0.4, 0.0, 0.3]})
    theirs = ours.assign(score=[0.5, 0.4, 0.0, 0.30001])
    assert incremental._alike(ours, ours) == 1
    assert incremental._alike(ours, theirs) == pytest.approx(2 / 3)
    assert incremental._alike(ours, ours.iloc[1:]) == pytest.approx(2 / 3)


# ---- encoders --------------------------------------------------------------------------------------------------------


def test_encoders_are_measured_on_held_out_lines_of_a_data_directory(tmp_path, capsys, monkeypatch):
    from shelfwise.synthetic import SyntheticConfig, generate, write

    monkeypatch.setattr(encoders, "use_two_cores", lambda: 2)
    small = {"architecture": "static", "hidden_size": 32, "epochs": 2, "num_threads": 1}
    choices = {"static_128": small, "static_256_matryoshka": {**small, "loss": "matryoshka", "hidden_size": 128}}
    monkeypatch.setattr(encoders, "CHOICES", choices)
    made = generate(SyntheticConfig(n_products=250, n_mappings=900, n_uploads=1, lines_per_upload=10, n_listings=0))
    data = write(made, tmp_path / "data")
    assert encoders.main([str(data)]) == 0
    found = common.last_object(capsys.readouterr().out)
    assert found["products"] == 250
    assert sum(found["splits"].values()) == found["labelled_pairs"]
    first, second = found["choices"].values()
    assert 1 / found["titles"] < first["top1"] <= first["mrr"] <= first["top5"] * 0.5 + 0.5
    assert min(first[name] for name in ("pairs_per_second", "titles_per_second", "peak_mb", "best_seconds")) > 0
    assert second["first_64"]["mrr"] > 0
    text = report.render({"encoders_here": found})
    assert row(text, "static, 128 |")[1] == f"{first['top1']:.3f}"


def test_a_tie_with_the_right_title_counts_as_lost():
    lines, titles = np.eye(2, dtype=np.float32), np.array([[1, 0], [1, 0], [0, 1]], np.float32)
    assert encoders.ranks(lines, titles, np.array([0, 2])) == {"top1": 0.5, "top5": 1.0, "mrr": 0.75}
