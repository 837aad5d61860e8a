"""Linking two catalogs, and the benchmark that measures it, on two small shops made here."""

import json
import random

import numpy as np
import pandas as pd
import pytest

from benchmarks import pairs as benchmark
from benchmarks import report
from shelfwise.errors import InputError
from shelfwise.matching.lexical import comparable
from shelfwise.matching.link_features import Pairs, PairSpace, View, retrieve, rivals
from shelfwise.matching.linking import (
    MANY,
    ONE_TO_ONE,
    RIGHT_ONCE,
    CatalogLinker,
    LinkerConfig,
    best_cut,
    best_threshold,
    best_way,
    choose,
    linked,
    name_column,
    read_records,
    stratified_folds,
)

QUICK = LinkerConfig(rounds=40, folds=3, threads=1)
BRANDS = ("sony", "apple", "bose", "canon", "delonghi")
KINDS = ("camera", "speaker", "laptop", "headphones", "monitor")


def two_shops(n=70, seed=1):
    """Products that both shops have, in the words of each; three in ten have a twin that differs in one digit."""
    rng = random.Random(seed)
    left, right, truth = [], [], []
    for i in range(n):
        brand, kind, price = rng.choice(BRANDS), rng.choice(KINDS), rng.uniform(10, 900)
        letters, number = rng.choice("abcdef") + rng.choice("xyz"), rng.randint(100, 998)
        for twin in range(2 if rng.random() < 0.3 else 1):
            code = f"{letters}{number + twin}"
            key = f"{i}-{twin}"
            left.append((f"a{key}", f"{brand} {kind} {code} in black", brand, f"${price:,.2f}"))
            right.append((f"b{key}", f"{code.upper()} {kind} {brand}", "", f"{price * rng.uniform(0.9, 1.1):.2f} USD"))
            truth.append((f"a{key}", f"b{key}"))
    a = pd.DataFrame(left, columns=["id", "name", "manufacturer", "price"])
    b = pd.DataFrame(right, columns=["id", "title", "manufacturer", "price"])
    matches = [(x, y, 1) for x, y in truth]
    twins = [(x, z, 0) for x, y in truth for z in b["id"] if z != y and z.split("-")[0] == y.split("-")[0]]
    others = [(x, rng.choice(b["id"].tolist()), 0) for x, _ in truth for _ in range(3)]
    rows = list(dict.fromkeys(matches + twins + [row for row in others if (row[0], row[1]) not in set(truth)]))
    rng.shuffle(rows)
    return a, b, pd.DataFrame(rows, columns=["left_id", "right_id", "label"])


@pytest.fixture(scope="module")
def shops():
    return two_shops()


@pytest.fixture(scope="module")
def linker(shops):
    left, right, labelled = shops
    return CatalogLinker(QUICK).fit(left, right, labelled.iloc[::2])


def f1(called, label):
    return 2 * (called & (label == 1)).sum() / (called.sum() + (label == 1).sum())


# ---- the linker ------------------------------------------------------------------------------------------------------


def test_pairs_that_were_not_shown_are_told_apart(linker, shops):
    unseen = shops[2].iloc[1::2]
    assert f1(linker.predict(unseen) >= linker.threshold, unseen["label"].to_numpy()) > 0.9


def test_links_over_whole_tables_use_each_record_once(linker, shops):
    truth = set(map(tuple, shops[2].loc[shops[2]["label"] == 1, ["left_id", "right_id"]].to_numpy()))
    links = linker.link(one_to_one=True)
    found = set(map(tuple, links[["left_id", "right_id"]].to_numpy()))
    assert not links["left_id"].duplicated().any()
    assert not links["right_id"].duplicated().any()
    assert len(found & truth) > 0.9 * len(truth)
    assert links["probability"].is_monotonic_decreasing
    everything = linker.link(one_to_one=False, threshold=0.0)
    assert len(everything) == len(linker.scored())


def test_a_pair_has_one_probability_whatever_else_is_asked(linker, shops):
    some = shops[2].iloc[:9]
    together = linker.predict(shops[2])[:9]
    np.testing.assert_allclose(linker.predict(some), together, atol=1e-12)
    np.testing.assert_allclose(linker.predict(some.iloc[::-1])[::-1], together, atol=1e-12)
    assert linker.predict(some.iloc[:0]).shape == (0,)


def test_the_same_seed_gives_the_same_linker_and_another_seed_another(linker, shops):
    left, right, labelled = shops
    again = CatalogLinker(QUICK).fit(left, right, labelled.iloc[::2].sample(frac=1, random_state=3))
    np.testing.assert_array_equal(again.predict(labelled), linker.predict(labelled))
    other = CatalogLinker(LinkerConfig(rounds=40, folds=3, threads=2, seed=1)).fit(left, right, labelled.iloc[::2])
    assert not np.array_equal(other.predict(labelled), linker.predict(labelled))


def test_threads_change_nothing(linker, shops):
    left, right, labelled = shops
    threaded = CatalogLinker(LinkerConfig(rounds=40, folds=3, threads=2)).fit(left, right, labelled.iloc[::2])
    np.testing.assert_array_equal(threaded.predict(labelled), linker.predict(labelled))


def test_either_catalog_may_be_the_left_one(linker, shops):
    left, right, labelled = shops
    turned = labelled.rename(columns={"left_id": "right_id", "right_id": "left_id"})
    back = CatalogLinker(QUICK).fit(right, left, turned.iloc[::2])
    links = linker.link()[["left_id", "right_id"]]
    mirrored = back.link()[["right_id", "left_id"]]
    found, other = (set(map(tuple, frame.to_numpy())) for frame in (links, mirrored))
    assert len(found & other) > 0.95 * max(len(found), len(other))


def test_a_saved_linker_says_the_same_and_holds_no_pickle(linker, shops, tmp_path):
    linker.save(tmp_path)
    loaded = CatalogLinker.load(tmp_path)
    np.testing.assert_allclose(loaded.predict(shops[2]), linker.predict(shops[2]), atol=1e-9)
    pd.testing.assert_frame_equal(loaded.link(), linker.link())
    assert {path.suffix for path in tmp_path.iterdir()} == {".parquet", ".json", ".txt", ".npz"}
    described = json.loads((tmp_path / "linker.json").read_text())
    (tmp_path / "linker.json").write_text(json.dumps(described | {"format": 0}))
    with pytest.raises(ValueError, match="format 0"):
        CatalogLinker.load(tmp_path)


def test_scores_for_evaluation_do_not_know_the_labels_they_are_compared_with(linker, shops):
    """A labelled pair's out-of-fold probability is not what the whole linker says of it."""
    known = linker.scored(out_of_fold=True)["probability"].to_numpy()
    assert (known != linker.scored()["probability"].to_numpy()).any()
    order = linker.out_of_fold.sort_values(["left", "right"])
    assert f1((order["probability"] >= linker.threshold).to_numpy(), order["label"].to_numpy()) > 0.9


def test_contradictory_labels_are_left_out_and_counted(linker, shops):
    left, right, labelled = shops
    given = labelled.iloc[::2]
    known = set(map(tuple, given[["left_id", "right_id"]].to_numpy()))
    unseen = labelled[[tuple(pair) not in known for pair in labelled[["left_id", "right_id"]].to_numpy()]].iloc[:2]
    twice = pd.concat([given, given.iloc[:3], unseen, unseen.assign(label=1 - unseen["label"])])
    made = CatalogLinker(QUICK).fit(left, right, twice)
    assert made.report == {"labelled": len(given), "contradictory": 2}
    np.testing.assert_array_equal(made.predict(given), linker.predict(given))


def test_too_few_labels_unknown_records_and_wrong_labels_are_refused(shops):
    left, right, labelled = shops
    matches = labelled[labelled["label"] == 1]
    with pytest.raises(InputError, match="10 pairs that do not match"):
        CatalogLinker(QUICK).fit(left, right, matches)
    with pytest.raises(InputError, match=r"row 2, column .right_id.*nowhere"):
        CatalogLinker(QUICK).fit(left, right, labelled.assign(right_id=["nowhere", *labelled["right_id"][1:]]))
    with pytest.raises(InputError, match="row 3, column 'label': expected 1 or 0; found 'maybe'"):
        CatalogLinker(QUICK).fit(left, right, labelled.assign(label=[0, "maybe", *labelled["label"][2:]]))


def made_view(left, right):
    return View(comparable(left), comparable(right))


# ---- its parts -------------------------------------------------------------------------------------------------------


def test_tables_of_other_columns_are_read():
    table = pd.DataFrame({"id": [1, 2], "Song_Name": ["one", None], "artist": ["a", "b"]})
    ids, records = read_records(table)
    assert ids.tolist() == ["1", "2"]
    assert records.texts == ["one a", "b"]
    assert np.isnan(records.prices).all()
    assert name_column(["id", "brand", "title"]) == "title"
    with pytest.raises(InputError, match="name or title"):
        name_column(["id", "price"])


def test_the_column_of_names_is_found_by_its_header_or_by_what_it_holds():
    assert name_column(["id", "brewery", "beer_name"]) == "beer_name"
    assert name_column(["id", "Brand", "Product Label"]) == "Product Label"
    assert name_column(["id", "text", "what"]) == "text"
    texts = {
        "text": ["a long story of lamp one", "a long story of lamp two", ""],
        "kind": ["lamp", "lamp", "lamp"],
        "what": ["lamp 1", "lamp 2", "lamp 3"],
    }
    assert name_column(["id", "text", "kind", "what"], texts=texts) == "what"


def test_columns_of_numbers_are_compared_as_numbers():
    columns = {"year": ["2004", "1999", ""], "abv": ["5.4%", "5.0 %", "-"], "time": ["4:03", "3:20", "3:20"]}
    left = pd.DataFrame({"id": range(3), "title": ["a b", "c d", "e f"], **columns, "genre": ["x 1", "y", "z"]})
    right = left.assign(year=["2003", "1999", "2000"], abv=["5.0", "5.0", "5.0"], time=["4:05", "3:20", ""])
    space = PairSpace.of(read_records(left)[1], read_records(right)[1], 3)
    pairs, at = space.pairs(np.arange(3), np.arange(3))
    features, names = space.features(pairs)

    def of(name):
        return features[at, names.index(name)]

    np.testing.assert_allclose(of("year_apart"), [1, 0, np.nan])
    np.testing.assert_allclose(of("abv_ratio"), [5 / 5.4, 1, np.nan], rtol=1e-5)
    np.testing.assert_allclose(of("time_apart"), [2, 0, np.nan])
    assert "genre_apart" not in names
    assert "genre_alike" in names


@pytest.mark.parametrize(
    ("text", "price"),
    [("$1,299.99", 1299.99), ("12.5 usd", 12.5), ("1.299,00 €", 1299.0), ("call us", None), ("", None)],
)
def test_prices_with_currency_signs(text, price):
    _, records = read_records(pd.DataFrame({"id": ["x"], "name": ["y"], "price": [text]}))
    assert np.isnan(records.prices[0]) if price is None else records.prices[0] == price


def test_ids_must_be_there_once():
    with pytest.raises(InputError, match=r"tableA.csv, row 4, column .id.*7. again"):
        read_records(pd.DataFrame({"id": ["7", "8", "7"], "name": ["a", "b", "c"]}), "tableA.csv")
    with pytest.raises(InputError, match="at least one record"):
        read_records(pd.DataFrame({"id": [], "name": []}), "tableA.csv")


def test_empty_identical_and_foreign_names_have_features():
    names = ["", "same thing", "same thing", "北京 烤鸭", "12345"]
    table = pd.DataFrame({"id": range(5), "name": names})
    _, records = read_records(table)
    space = PairSpace.of(records, records, 3)
    pairs, at = space.pairs(np.array([0, 1, 3, 4]), np.array([0, 2, 3, 4]))
    features, columns = space.features(pairs)
    assert features.shape == (len(pairs), len(columns))
    ngrams = features[at, columns.index("name_ngrams")]
    np.testing.assert_allclose(ngrams, [0, 1, 1, 1], atol=1e-6)
    assert features[at[1], columns.index("name_left_twins")] == 1
    assert not np.isinf(features).any()


def test_words_in_other_spellings_are_held_softly():
    view = made_view(["chocolate cake", "wireless chair"], ["choc cake", "chair wirelss"])
    pairs = Pairs(np.array([0, 1]), np.array([0, 1]), np.ones(2, bool))
    found = view.similarities(pairs)
    assert (found["soft_left"] > found["left_held"] + 0.1).all()


def test_numbers_and_units_conflict_or_agree():
    view = made_view(["red wine 75cl", "disk 64gb"], ["red wine 750 ml", "disk 128gb"])
    found = view.similarities(Pairs(np.array([0, 1]), np.array([0, 1]), np.ones(2, bool)))
    assert found["quantities_shared"].tolist() == [1, 0]
    assert found["quantities_conflict"].tolist() == [0, 1]


def test_codes_are_found_whatever_is_around_them():
    view = made_view(["sony PS-LX350H", "lamp xy100"], ["turntable pslx350h", "lamp zz999"])
    found = view.similarities(Pairs(np.array([0, 1]), np.array([0, 1]), np.ones(2, bool)))
    assert found["code"][0] == 1
    assert found["code"][1] < 0.7


def test_rivals_are_counted_on_both_sides_and_only_candidates_count():
    left, right = np.array([0, 0, 0, 1]), np.array([0, 1, 2, 0])
    scores = np.array([0.9, 0.5, 0.7, 0.8])
    all_in = rivals(Pairs(left, right, np.ones(4, bool)), scores)
    np.testing.assert_allclose(all_in["left_gap"], [0.2, -0.4, -0.2, 0.8], atol=1e-6)
    np.testing.assert_allclose(all_in["right_gap"], [0.1, 0.5, 0.7, -0.1], atol=1e-6)
    assert all_in["left_rank"].tolist() == [0, 2, 1, 0]
    asked = rivals(Pairs(left, right, np.array([True, True, False, True])), scores)
    np.testing.assert_allclose(asked["left_gap"], [0.4, -0.4, -0.2, 0.8], atol=1e-6)
    assert asked["left_rank"].tolist() == [0, 1, 1, 0]


def test_retrieval_in_either_direction_finds_the_same_best_pair():
    view = made_view(["red apple", "green pear"], ["a pear, green", "an apple, red", "a plum"])
    forward = set(zip(*(part.tolist() for part in retrieve(view, 1)[:2]), strict=True))
    backward = set(zip(*(part.tolist() for part in retrieve(view, 1, back=True)[:2]), strict=True))
    assert forward == {(0, 1), (1, 0)}
    assert forward <= backward


def test_the_assignment_is_the_best_over_all_and_not_the_greediest():
    left, right = np.array([0, 0, 1]), np.array([0, 1, 0])
    probability = np.array([0.9, 0.8, 0.85])
    assert choose(left, right, probability, 0.5, one_to_one=True).tolist() == [1, 2]
    assert choose(left, right, probability, 0.5, one_to_one=False).tolist() == [0, 1, 2]
    assert choose(left, right, probability, 0.95, one_to_one=True).tolist() == []


def test_labelled_pairs_say_how_often_a_record_may_be_linked():
    """x is listed twice on the right, and y is claimed by two on the left."""
    scored = pd.DataFrame(
        [("x", "x1", 0.9), ("x", "x2", 0.8), ("y", "y1", 0.9), ("z", "y1", 0.7), ("w", "w1", 0.1)],
        columns=["left_id", "right_id", "probability"],
    )
    keys = scored[["left_id", "right_id"]]
    assert linked(scored, 0.5, ONE_TO_ONE).tolist() == [0, 2]
    assert linked(scored, 0.5, RIGHT_ONCE).tolist() == [0, 1, 2]
    assert linked(scored, 0.5, MANY).tolist() == [0, 1, 2, 3]
    assert best_way(scored, keys.assign(label=[1, 1, 1, 0, 0]), 0.5) == (RIGHT_ONCE, 0.5)
    assert best_way(scored, keys.assign(label=[1, 1, 1, 1, 0]), 0.5) == (MANY, 0.5)
    assert best_way(scored, keys.assign(label=[1, 0, 1, 0, 0]), 0.5) == (ONE_TO_ONE, 0.5)
    # Not labelled, but x and y1 have a match each, which is another.
    assert best_way(scored, keys.iloc[[0, 2]].assign(label=1), 0.5) == (ONE_TO_ONE, 0.5), "of equal ones the strictest"
    way, cut = best_way(scored, keys.assign(label=[1, 0, 1, 0, 1]), 0.05)
    assert (way, cut) == (ONE_TO_ONE, 0.05)
    surer = best_way(scored.assign(probability=[0.9, 0.2, 0.3, 0.2, 0.2]), keys.assign(label=[1, 0, 0, 0, 0]), 0.1)
    assert surer[0] == ONE_TO_ONE
    assert 0.3 < surer[1] <= 0.9


def test_the_cut_has_the_best_f1_and_never_splits_equal_scores():
    assert best_cut(np.array([0.9, 0.8, 0.3, 0.1]), np.array([1, 1, 0, 0])) == pytest.approx((0.55, 1.0))
    assert best_cut(np.array([0.9, 0.9, 0.1]), np.array([1, 0, 0])) == pytest.approx((0.5, 2 / 3))


def test_the_threshold_of_calibrated_probabilities_is_near_the_best_cut():
    rng = np.random.default_rng(0)
    probability = rng.beta(0.3, 0.9, 20_000)
    label = (rng.random(20_000) < probability).astype(int)
    threshold, (_, best) = best_threshold(probability, label), best_cut(probability, label)
    assert f1(probability >= threshold, label) > best - 0.005
    assert threshold < 0.45


def test_folds_have_matches_each_however_few_there_are():
    label = np.array([1] * 4 + [0] * 60)
    fold = stratified_folds(label, 10, seed=0)
    assert sorted(set(fold.tolist())) == [0, 1, 2, 3]
    assert np.bincount(fold[label == 1]).tolist() == [1, 1, 1, 1]


# ---- the benchmark ---------------------------------------------------------------------------------------------------


def write_source(folder, test_labels=None):
    left, right, labelled = two_shops()
    left.to_csv(folder / "tableA.csv", index=False)
    right.to_csv(folder / "tableB.csv", index=False)
    rows = labelled.rename(columns={"left_id": "ltable_id", "right_id": "rtable_id"})
    for number, split in enumerate(("train", "valid", "test")):
        part = rows.iloc[[i for i in range(len(rows)) if (i % 5 > 2) + (i % 5 > 3) == number]]
        if split == "test" and test_labels is not None:
            part = part.assign(label=test_labels(part["label"].to_numpy()))
        part.to_csv(folder / f"{split}.csv", index=False)
    return folder


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(benchmark, "LinkerConfig", lambda seed: LinkerConfig(rounds=40, folds=3, threads=1, seed=seed))


def test_the_object_holds_what_it_promises(tmp_path, quick, capsys, monkeypatch):
    monkeypatch.setattr(benchmark, "use_two_cores", lambda: 2)
    assert benchmark.main([str(write_source(tmp_path)), "--seeds", "2"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["pair_f1"] > 0.9
    assert found["end_to_end_f1"] > 0.9
    assert found["seeds"] == [0, 1]
    assert {"precision", "recall", "recall_at_20", "recall_at_50", "top1", "top5", "seconds"} <= set(found)
    assert found["each"][0]["links"] == ONE_TO_ONE
    assert found["recall_at_10"] >= found["recall_at_10_left"] - 0.1 > 0.8
    low, high = found["intervals"]["pair_f1"]
    assert low <= found["pair_f1"] <= high
    assert set(found["baselines"]) == {"char_trigram_tfidf", "rapidfuzz_token_set"}
    assert found["pair_f1"] >= found["baselines"]["rapidfuzz_token_set"]["pair_f1"]
    text = report.render({"pairs_abt_buy": found | {"how": ["python -m benchmarks.pairs DIR"]}})
    assert f"## Linking two catalogs: {tmp_path.name}" in text
    assert f"{found['pair_f1']:.4f} | met" in text


def test_without_validation_pairs_train_does(tmp_path, quick):
    (write_source(tmp_path) / "valid.csv").unlink()
    found = benchmark.run(tmp_path, 1)
    assert found["pairs"]["valid"] == 0
    assert found["pair_f1"] > 0.8
    assert found["baselines"]["char_trigram_tfidf"]["pair_f1"] > 0.1


def test_test_labels_change_no_score(tmp_path, quick):
    """All of test's labels turned round: thresholds, calls and links stay the same."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    source = benchmark.read_source(write_source(tmp_path / "a"))
    turned = benchmark.read_source(write_source(tmp_path / "b", lambda label: 1 - label))
    first, _, calls = benchmark.measure_seed(source, 0)
    second, _, other = benchmark.measure_seed(turned, 0)
    np.testing.assert_array_equal(calls, other)
    assert first.threshold == second.threshold
    pd.testing.assert_frame_equal(first.scored(out_of_fold=True), second.scored(out_of_fold=True))


def test_pairs_of_the_test_split_are_never_learned_from(tmp_path):
    write_source(tmp_path)
    test = pd.read_csv(tmp_path / "test.csv")
    train = pd.concat([pd.read_csv(tmp_path / "train.csv"), test.iloc[:5]])
    train.to_csv(tmp_path / "train.csv", index=False)
    source = benchmark.read_source(tmp_path)
    shared = benchmark.keys(source.of("train", "valid")).isin(benchmark.keys(source.of("test")))
    assert not shared.any()
    assert len(source.of("test")) == len(test)


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("tableA.csv", None, "tableA.csv: expected a file"),
        ("tableB.csv", "", "tableB.csv: expected"),
        ("tableA.csv", "name,price\nx,1\n", "tableA.csv, row 1: expected a column 'id'"),
        ("tableA.csv", "id,price\n1,1\n", "tableA.csv, row 1: expected a column name or title"),
        ("tableB.csv", "id,title\n1,x\n2,y,z\n", "tableB.csv, row 3: expected 2 fields"),
        ("tableB.csv", "id,title\n1,x\n1,y\n", "tableB.csv, row 3, column 'id'"),
        ("valid.csv", "ltable_id,label\na,1\n", "valid.csv, row 1: expected a column 'rtable_id'"),
        ("test.csv", "ltable_id,rtable_id,label\nq,b0-0,1\n", "test.csv, row 2, column 'ltable_id'"),
        (
            "train.csv",
            "ltable_id,rtable_id,label\na0-0,b0-0,yes\n",
            "train.csv, row 2, column 'label': expected 0 or 1",
        ),
        (
            "train.csv",
            "ltable_id,rtable_id,label\na0-0,b0-0,0\n",
            "train.csv, column 'label': expected at least one match",
        ),
    ],
)
def test_a_directory_of_another_form_is_refused_with_the_place(tmp_path, capsys, monkeypatch, file, content, said):
    monkeypatch.setattr(benchmark, "use_two_cores", lambda: 2)
    write_source(tmp_path)
    (tmp_path / file).unlink()
    if content is not None:
        (tmp_path / file).write_text(content)
    assert benchmark.main([str(tmp_path), "--seeds", "1"]) == 2
    printed = capsys.readouterr()
    assert said in printed.err
    assert printed.out == ""


def test_end_to_end_counts_links_at_the_records_of_tests_matches():
    pairs = pd.DataFrame(
        [("a", "x", 1, "test"), ("b", "y", 1, "train"), ("c", "z", 1, "test"), ("c", "y", 0, "test")],
        columns=["left_id", "right_id", "label", "split"],
    )
    source = benchmark.Source(pd.DataFrame(), pd.DataFrame(), pairs)
    links = pd.DataFrame([("a", "x"), ("b", "y"), ("d", "z"), ("e", "w")], columns=["left_id", "right_id"])
    found = benchmark.end_to_end(links, source)
    assert found["end_to_end_precision"] == 0.5  # (a, x) right; (d, z) takes the partner of c; (e, w) is nobody's
    assert found["end_to_end_recall"] == 0.5
    assert found["end_to_end_all_f1"] == pytest.approx(2 * 2 / (4 + 3))


def test_top_is_counted_over_left_records_without_what_was_given():
    pairs = pd.DataFrame(
        [("a", "x", 1, "train"), ("a", "y", 1, "test"), ("b", "z", 1, "test")],
        columns=["left_id", "right_id", "label", "split"],
    )
    source = benchmark.Source(pd.DataFrame(), pd.DataFrame(), pairs)
    scored = pd.DataFrame(
        [("a", "x", 0.9), ("a", "y", 0.8), ("b", "w", 0.7), ("b", "z", 0.6)],
        columns=["left_id", "right_id", "probability"],
    )
    assert benchmark.top(scored, source) == {"top1": 0.5, "top5": 1.0}
