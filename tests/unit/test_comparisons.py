"""Shelfwise beside other systems: what is counted, what is chosen by what, and what is said of who did not finish."""

import importlib.util
import json
import os
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks import comparisons, pictures, report, rivals
from benchmarks.certified import Case
from benchmarks.common import plain
from benchmarks.pairs import Source

NOUNS = ("kettle", "toaster", "blender", "radio", "camera", "printer", "monitor", "speaker")


def shop(n=40):
    """Products that differ by noun and code."""
    return [f"{NOUNS[i % len(NOUNS)]} acme model x{100 + i} stainless" for i in range(n)]


@pytest.fixture
def source():
    """Two shops with the same goods in other words; a pair of each split in three."""
    left = shop()
    right = [f"{' '.join(reversed(name.split()[:-1]))}, new" for name in left]
    ids = [str(i) for i in range(len(left))]
    tables = [
        pd.DataFrame({"id": ids, "name": names, "price": [f"${10 + i}.00" for i in range(len(ids))]})
        for names in (left, right)
    ]
    rows = []
    for i in range(len(left)):
        split = ("train", "valid", "test")[i % 3]
        rows += [(ids[i], ids[i], 1, split), (ids[i], ids[(i + 8) % len(ids)], 0, split)]
    return Source(*tables, pd.DataFrame(rows, columns=["left_id", "right_id", "label", "split"]))


@pytest.fixture
def case():
    """A catalog, past lines of five vendors, lines of another; the last line's product is not in the catalog."""
    titles = shop()
    products = pd.DataFrame({"product_id": [f"p{i}" for i in range(len(titles))], "title": titles})
    past = [(f"v{i % 5}", f"{title.upper()} v{i % 5}", f"p{i}") for i, title in enumerate(titles)]
    lines = [("new", " ".join(title.split()[::-1]), f"p{i}") for i, title in enumerate(titles[:12])]
    columns = ["vendor_id", "vendor_title", "product_id"]
    return Case(
        products,
        pd.DataFrame(past, columns=columns),
        pd.DataFrame([*lines, ("new", "kettle of another make", "gone")], columns=columns),
    )


# ---- what is counted -------------------------------------------------------------------------------------------------


def test_a_product_is_listed_once_by_its_best_name_and_ties_come_in_catalog_order():
    line = np.array([0, 0, 0, 0, 2, 2])
    product = np.array([3, 1, 1, 0, 2, 1])
    score = np.array([0.5, 0.9, 0.4, 0.5, 0.7, 0.7])
    ids, best = rivals.fold_names(line, product, score, 3, np.array(["a", "b", "c", "d"]), depth=2)
    assert ids.tolist() == [["b", "a"], ["", ""], ["b", "c"]]
    assert best.tolist() == [0.9, -np.inf, 0.7]


def test_lines_are_counted_among_those_with_a_product(case):
    ids = np.full((13, rivals.DEPTH), "", dtype=object)
    ids[:6, 0] = [f"p{i}" for i in range(6)]
    ids[6, :2] = ["p0", "p6"]
    ids[12, 0] = "gone"  # nobody can name it, it is not in the catalog
    score = np.where(np.arange(13) < 7, 0.9, -np.inf)
    found = comparisons.measure_lines(case, rivals.Listed(ids, score, "so", 1.0, 2.0))
    assert (found["lines"], found["lines_with_product"]) == (13, 12)
    assert (found["top1"], found["top5"]) == (pytest.approx(6 / 12), pytest.approx(7 / 12))
    assert found["lines_per_second"] == pytest.approx(6.5)
    assert found["curve"]["precision"][0] == pytest.approx(6 / 7)
    json.dumps(plain(found), allow_nan=False)


def test_links_are_measured_on_test_by_a_threshold_of_the_other_parts(source):
    label, split = source.pairs["label"].to_numpy(), source.pairs["split"].to_numpy()
    score = np.where(label == 1, 0.8, 0.2)
    score[(split == "valid") & (label == 0)] = 0.7
    candidates = source.pairs[["left_id", "right_id"]].assign(score=score)
    linked = rivals.Linked(score, candidates, "so")
    found = comparisons.measure_links(source, linked)
    assert found["threshold"] == pytest.approx(0.75)
    assert found["pair_f1"] == found["end_to_end_f1"] == found["recall_at_10"] == 1
    # Labels of test that say the opposite change what is counted, never the threshold.
    flipped = source.pairs.assign(label=np.where(split == "test", 1 - label, label))
    again = comparisons.measure_links(Source(source.left, source.right, flipped), linked)
    assert again["threshold"] == found["threshold"]
    assert again["pair_f1"] == 0
    # A system trained on train takes its threshold from valid alone.
    score[(split == "train") & (label == 1)] = 0.1
    assert comparisons.measure_links(source, rivals.Linked(score, candidates, "so", ("valid",)))["pair_f1"] == 1


def test_coverage_is_the_largest_that_keeps_the_precision():
    found = {"precision": [1.0, 0.9, 0.96, 0.5], "coverage": [0.1, 0.2, 0.3, 0.6]}
    assert comparisons.coverage_at(found, 0.95) == 0.3
    assert comparisons.coverage_at(found, 1.01) == 0


# ---- choosing --------------------------------------------------------------------------------------------------------


def test_a_similarity_is_chosen_by_train_and_valid_never_by_test(source):
    label, test = source.pairs["label"].to_numpy(), (source.pairs["split"] == "test").to_numpy()

    def choice(score):
        return (lambda a, b: score), lambda: (np.array([0]), np.array([1]), np.array([0.5]))

    known = np.where(test, 1 - label, label).astype(float)  # right where it may be looked at
    cheat = np.where(test, label, 1 - label).astype(float)
    linked = rivals.best_linking(source, {"cheat": choice(cheat), "known": choice(known)})
    assert linked.chosen == "known"
    assert linked.candidates.to_dict("list") == {"left_id": ["0"], "right_id": ["1"], "score": [0.5]}


def test_a_ranking_is_chosen_by_past_lines_of_vendors_whose_names_it_lacks(case):
    seen = []

    def prepare(good):
        def make(names):
            seen.append(list(names))

            def rank(lines, near):
                words = [set(name.lower().split()) for name in names]
                score = np.array([[len(set(line.lower().split()) & other) for other in words] for line in lines], float)
                score = score if good else -score
                return (
                    np.repeat(np.arange(len(lines)), len(names)),
                    np.tile(np.arange(len(names)), len(lines)),
                    score.ravel(),
                )

            return rank

        return make

    found = rivals.best_ranking(case, {"bad": prepare(False), "good": prepare(True)}, past=["good"])
    assert found.chosen.startswith("good")
    assert found.ids[:12, 0].tolist() == [f"p{i}" for i in range(12)]
    asked, others = rivals.choosing(case)
    assert not set(asked["vendor_id"]) & set(others["vendor_id"])
    lengths = [len(names) for names in seen]
    assert lengths[:3] == [40, 40, 40 + len(others)]  # past lines of the asked vendors are no names then


def test_both_directions_propose_pairs():
    scores = np.zeros((30, 60), np.float32)
    scores[:, 0] = 1.0  # everybody's best on the right
    scores[7, 50] = 0.5
    ours, theirs, value = rivals.near_both_ways(30, 60, lambda a, b: scores[a:b], chunk=7)
    pairs = set(zip(ours.tolist(), theirs.tolist(), strict=True))
    assert {(i, 0) for i in range(30)} <= pairs
    assert (7, 50) in pairs
    assert len(pairs) == len(ours) < 30 * 60
    assert value[(ours == 7) & (theirs == 50)].tolist() == [0.5]


def test_prices_and_words():
    assert rivals.price_of("$1,299.50") == 1299.5
    assert all(np.isnan(rivals.price_of(text)) for text in ("", "0", "1.2.3", "free"))
    assert rivals.words_of("Acme X-100, x-100 Café") == ["100", "acme", "café", "x"]


# ---- the systems -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    """A sentence-transformers model that needs no download."""
    from shelfwise.matching.train import EncoderConfig
    from shelfwise.matching.training_data import TrainingRows
    from shelfwise.matching.training_models import build_model

    folder, lines = tmp_path_factory.mktemp("encoder"), shop() * 2
    rows = TrainingRows(lines, lines[:2], np.zeros(len(lines), np.int64), np.ones((len(lines), 1), np.int64))
    build_model(EncoderConfig(architecture="static", hidden_size=64, vocab_size=400), rows, folder).save_pretrained(
        str(folder / "model"), create_model_card=False
    )
    return folder / "model"


SYSTEMS = ["rapidfuzz", "tfidf", "minilm", "splink", "dedupe"]


@pytest.fixture(params=SYSTEMS)
def rival(request, encoder, monkeypatch):
    monkeypatch.setenv(rivals.ENCODER, str(encoder))
    made = rivals.RIVALS[request.param]
    if reason := made.missing():
        pytest.skip(reason)
    return made


def test_every_system_links_two_catalogs(rival, source):
    linked = rival.link(source)
    assert len(linked.labelled) == len(source.pairs)
    assert {"left_id", "right_id", "score"} <= set(linked.candidates)
    label = source.pairs["label"].to_numpy()
    assert linked.labelled[label == 1].mean() > linked.labelled[label == 0].mean()
    found = comparisons.measure_links(source, linked)
    assert found["pair_f1"] > 0.6
    assert found["recall_at_10"] > 0.5
    json.dumps(plain(found), allow_nan=False)


def test_every_system_ranks_a_catalog(rival, case):
    listed = rival.rank(case)
    assert listed.ids.shape == (13, rivals.DEPTH)
    found = comparisons.measure_lines(case, listed)
    assert found["top1"] > 0.8
    assert set(listed.ids.ravel()) <= {"", *case.products["product_id"]}


def test_a_system_that_is_not_installed_is_named(monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(rivals, "find_spec", lambda name: None if name == "splink" else found(name))
    assert rivals.RIVALS["splink"].missing() == "not installed: splink"
    assert rivals.RIVALS["tfidf"].missing() is None
    monkeypatch.setenv(rivals.ENCODER, "/nowhere")
    assert "no encoder" in rivals.RIVALS["minilm"].missing()
    assert comparisons.ask("splink", "abt_buy", None, 1.0)["status"] == comparisons.MISSING


# ---- limits ----------------------------------------------------------------------------------------------------------


def test_what_takes_too_long_is_stopped_with_all_it_started(tmp_path):
    marker = tmp_path / "pid"
    inner = f"import os, time; open({str(marker)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    outer = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {inner!r}])"
    status, output, _ = comparisons.limited([sys.executable, "-c", outer], 3, os.environ)
    assert (status, output) == (None, "")
    pid = int(marker.read_text())
    for _ in range(50):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            break
        stat = Path(f"/proc/{pid}/stat")
        if stat.exists() and stat.read_text().split()[2] == "Z":  # killed, and waiting for a parent to take note
            break
        time.sleep(0.1)
    else:
        pytest.fail("the grandchild lives on")


def test_a_failure_is_told_with_its_last_words(monkeypatch):
    monkeypatch.setattr(comparisons, "limited", lambda *_: (1, "", "Traceback\nValueError: no such thing\n"))
    found = comparisons.ask("tfidf", "abt_buy", None, 1.0)
    assert (found["status"], found["reason"]) == (comparisons.FAILED, "failed: ValueError: no such thing")
    monkeypatch.setattr(comparisons, "limited", lambda *_: (None, "", ""))
    assert comparisons.ask("tfidf", "abt_buy", None, 7.0)["reason"] == "did not finish in 7 s"


def test_a_run_measures_each_system_in_a_process_and_skips_what_is_not_there(tmp_path, source, capsys):
    folder = tmp_path / "abt-buy"
    folder.mkdir()
    for name, table in (("tableA", source.left), ("tableB", source.right)):
        table.to_csv(folder / f"{name}.csv", index=False)
    for split, part in source.pairs.groupby("split"):
        part.rename(columns={"left_id": "ltable_id", "right_id": "rtable_id"}).drop(columns="split").to_csv(
            folder / f"{split}.csv", index=False
        )
    assert comparisons.main(["--data", str(tmp_path), "--system", "tfidf", "--limit", "120"]) == 0
    out = capsys.readouterr()
    result = json.loads(out.out.strip().splitlines()[-1])
    assert list(result["tasks"]) == ["abt_buy"]
    assert result["tasks"]["abt_buy"]["tfidf"]["status"] == "done"
    assert "amazon_google: skipped" in out.err
    text = report.render({"comparisons": result | {"how": []}})
    assert "| TF-IDF, sparse_dot_topn |" in text


# ---- shown -----------------------------------------------------------------------------------------------------------


def test_the_report_and_the_pictures_hold_everybody():
    def one(short, speed, top1):
        return {
            "label": f"**{short}**" if short == "Shelfwise" else short,
            "short": short,
            "status": "done",
            "top1": top1,
            "top1_low": top1 - 0.01,
            "top1_high": top1 + 0.01,
            "top5": top1 + 0.05,
            "lines_per_second": speed,
            "fit_seconds": 3.0,
            "peak_mb": 500.0,
            "chosen": "as it is",
            "curve": {"threshold": [0.9, 0.1], "precision": [1.0, 0.9], "coverage": [0.4, 0.8]},
        }

    late = {"label": "dedupe", "short": "dedupe", "status": "unfinished", "reason": "did not finish in 300 s"}
    lines = {"shelfwise": one("Shelfwise", 3000.0, 0.88), "tfidf": one("TF-IDF", 12000.0, 0.77), "dedupe": late}
    result = {
        "benchmark": "comparisons",
        "tasks": {"pricerunner": lines, "pricerunner_withheld": lines},
        "limit_seconds": 300,
        "withheld": 0.25,
        "packages": {"tfidf": {"scikit-learn": "1.0"}},
        "date": "2026-01-01T00:00:00+00:00",
        "commit": "abc",
        "machine": {"cpu": "x", "cores": 2, "memory_gb": 8, "gpus": 0},
        "load_before": 0.0,
        "versions": {"python": "3.11"},
    }
    text = report.render({"comparisons": result})
    assert "| TF-IDF | 0.770 (0.760–0.780) | 0.820 | 12,000 | 3.00 s | 500 MB | as it is |" in text
    assert "| dedupe: did not finish in 300 s | – |" in text
    assert "| TF-IDF | 40.0% | 40.0% | 40.0% |" in text
    assert "scikit-learn 1.0" in text
    for png in (pictures.compared_speed(lines, "so"), pictures.compared_coverage(lines)):
        assert png.startswith(b"\x89PNG")


def test_words_of_near_points_do_not_cover_each_other():
    points = [(0.2, 0.60), (0.24, 0.57), (0.9, 0.9), (0.3, 0.75)]
    places = pictures._places(points)
    boxes = [pictures._box(x, y, place) for (x, y), place in zip(points, places, strict=True)]
    pairs = [(a, b) for i, a in enumerate(boxes) for b in boxes[i + 1 :]]
    assert not any(pictures._overlap(a, b) for a, b in pairs)
    assert pictures._places([(0.1, 0.1), (0.6, 0.6)]) == ["above", "above"]


def test_a_reranker_is_told_with_what_it_gave_and_cost():
    tried = {
        "from scratch": {
            "kept": False,
            "gain_top1": 0.0012,
            "least_gain": 0.005,
            "lines": 900,
            "asked_share": 0.3,
            "weight": 0.5,
            "pairs_per_second": 700.0,
            "seconds_per_1000_lines": 2.5,
            "training": {"seconds": 90.0},
            "held_out": {"top1": 0.88, "top1_low": 0.87, "top1_high": 0.89},
        },
        "silent": {
            "kept": True,
            "gain_top1": 0.02,
            "least_gain": 0.005,
            "lines": 900,
            "asked_share": 0.3,
            "weight": 0.5,
            "pairs_per_second": 700.0,
            "seconds_per_1000_lines": 2.5,
        },
    }
    result = {
        "benchmark": "rerank",
        "data": "shop",
        "lines": 500,
        "tried": tried,
        "date": "2026-01-01",
        "load_before": 0.0,
        "without": {"top1": 0.879, "top1_low": 0.87, "top1_high": 0.89, "lines_per_second": 2000.0},
        "machine": {"cpu": "x", "cores": 2, "memory_gb": 8},
        "versions": {},
    }
    text = report.render({"rerank_shop": result})
    assert "| from scratch | +0.0012, dropped | 30% | 2.50 s | 0.880 (0.870–0.890) | 90.0 s |" in text
    assert "| silent | +0.0200, kept | 30% | 2.50 s | – | – |" in text
    assert "| without | – | – | 0.50 s | 0.879 (0.870–0.890) | – |" in text
