import dataclasses

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from shelfwise.matching.features import FEATURE_NAMES, FEATURES, FeatureMaker, gap_to_rival
from shelfwise.matching.index import CatalogIndex, IndexConfig, build_vectors, embed_names, product_names
from shelfwise.matching.kernels import best_of_groups, propose
from shelfwise.matching.lexical import (
    Lexical,
    LexicalConfig,
    NgramVectorizer,
    UnitRows,
    WordMatrix,
    comparable,
    csr,
    distinct,
    pair_dots,
    split_words,
    top_products,
)
from shelfwise.matching.quantities import neighbours, quantities
from shelfwise.matching.spelling import Spelling, Tables, neighbour_codes, skeleton
from shelfwise.matching.vectors import Vectors
from shelfwise.text import normalise
from tests.unit.matching_samples import LetterEncoder, catalog, positives

CONFIG = IndexConfig(threads=1)


@pytest.fixture(scope="module")
def lines(products) -> pd.DataFrame:
    return positives(products, n=600)


@pytest.fixture(scope="module")
def index(products, lines) -> CatalogIndex:
    names = product_names(products, lines)
    lexical = Lexical.fit(names["name"].tolist())
    return CatalogIndex.build(products, names, lexical, embed_names(names, LetterEncoder()), CONFIG)


def small_index(titles: list[str], **columns) -> CatalogIndex:
    frame = pd.DataFrame({"product_id": [f"P{i}" for i in range(len(titles))], "title": titles, **columns})
    names = product_names(frame)
    return CatalogIndex.build(frame, names, Lexical.fit(names["name"].tolist()), config=CONFIG)


def test_ngrams_agree_with_scikit_learn():
    from sklearn.feature_extraction.text import TfidfVectorizer

    texts = ["norvik heron whisky 12yr", "norvik falcon gin", "dry gin lemon 700ml", "a"]
    ours = NgramVectorizer(LexicalConfig(sizes=(3,))).fit(texts)
    theirs = TfidfVectorizer(
        ngram_range=(3, 3), lowercase=False, binary=True, preprocessor=lambda t: f" {t} ", analyzer="char"
    )
    cosine = (ours.transform(texts) @ ours.transform(texts).T).toarray()
    rows = theirs.fit_transform(texts)
    np.testing.assert_allclose(cosine, (rows @ rows.T).toarray(), atol=1e-5)


def test_a_term_never_seen_lowers_the_cosine():
    ngrams = NgramVectorizer().fit(["norvik gin", "castella rum"])
    title = ngrams.transform(["norvik gin"])
    plain, longer = ngrams.transform(["norvik gin"]), ngrams.transform(["norvik gin zzzqqq"])
    assert float((title @ plain.T).sum()) == pytest.approx(1, abs=1e-5)
    assert 0.3 < float((title @ longer.T).sum()) < 0.9


def test_lexical_survives_saving(tmp_path):
    lexical = Lexical.fit(["Norvik Gin 70cl", "Cafe Zürich 1kg", "数字 ひらがな"])
    lexical.save(tmp_path)
    again = Lexical.load(tmp_path)
    forms = comparable(["norvik gin", "zurich", "数字"])
    assert (lexical.ngrams.transform(forms) != again.ngrams.transform(forms)).nnz == 0
    assert again.words.vocabulary == lexical.words.vocabulary
    assert {path.suffix for path in tmp_path.iterdir()} <= {".json", ".npz"}


def test_a_million_characters_are_cut():
    assert len(comparable(["x " * 500_000])[0]) <= 400
    assert comparable(["", "\x00"]) == ["", ""]


def test_rows_do_not_depend_on_how_many_are_made_at_a_time(monkeypatch):
    forms = comparable([*catalog()["title"].head(50), "", "zzz unknown"])
    vectorizer = NgramVectorizer().fit(forms[:40])
    whole = vectorizer.rows(forms)
    monkeypatch.setattr("shelfwise.matching.lexical.BLOCK", 7)
    parts = vectorizer.rows(forms)
    for one, other in zip(vars(parts).values(), vars(whole).values(), strict=True):
        np.testing.assert_array_equal(one, other)
        assert one.dtype == other.dtype
    assert len(vectorizer.rows([])) == 0


def test_distinct_and_pair_dots():
    keys = np.array([5, 1, 5, 3, 1])
    assert distinct(keys).tolist() == [1, 3, 5]
    assert distinct(np.empty(0, np.int64)).tolist() == []
    rng = np.random.default_rng(0)
    left = sparse.csr_matrix(rng.random((5, 7)) * (rng.random((5, 7)) > 0.5))
    right = sparse.csr_matrix(rng.random((6, 7)) * (rng.random((6, 7)) > 0.5))
    a, b = np.array([0, 4, 2, 2]), np.array([5, 0, 1, 1])
    expected = [float(left[i].toarray().ravel() @ right[j].toarray().ravel()) for i, j in zip(a, b, strict=True)]
    np.testing.assert_allclose(pair_dots(left, a, right, b), expected, atol=1e-6)


def random_rows(rng: np.random.Generator, n: int, width: int = 40, share: float = 0.2) -> sparse.csr_matrix:
    return sparse.csr_matrix((rng.random((n, width)) * (rng.random((n, width)) < share)).astype(np.float32))


def unit_rows(rng: np.random.Generator, n: int, width: int = 40, share: float = 0.2) -> UnitRows:
    held = sparse.csr_matrix((rng.random((n, width)) < share).astype(np.float32))
    return UnitRows.of(held, (1 + rng.random(width)).astype(np.float32))


def test_unit_rows_are_weighted_and_of_unit_length():
    rng = np.random.default_rng(0)
    rows = unit_rows(rng, 50)
    dense = rows.matrix().toarray()
    np.testing.assert_allclose(np.linalg.norm(dense, axis=1), 1, rtol=1e-5)
    held = dense > 0
    ratio = np.where(held, dense / rows.weight, np.nan)
    np.testing.assert_allclose(np.nanmax(ratio, axis=1), np.nanmin(ratio, axis=1), rtol=1e-5)
    starts, texts = rows.inverted()
    for term in range(40):
        assert texts[starts[term] : starts[term + 1]].tolist() == np.flatnonzero(held[:, term]).tolist()
    queries = random_rows(rng, 20)
    line, row = np.sort(rng.integers(0, 20, 100)), rng.integers(0, 50, 100)
    np.testing.assert_allclose(rows.dots(queries, line, row), (queries @ dense.T)[line, row], atol=1e-5)
    source = np.array([3, -1, 3, 49, -1, 0])
    more = UnitRows.of(sparse.csr_matrix(np.eye(2, 40, dtype=np.float32)), rows.weight)
    expected = np.stack([dense[3], np.eye(40)[0], dense[3], dense[49], np.eye(40)[1], dense[0]])
    np.testing.assert_allclose(rows.updated(source, more).matrix().toarray(), expected, atol=1e-6)


def test_proposals_are_the_best_of_a_plain_product():
    rng = np.random.default_rng(1)
    queries, names, n_first = random_rows(rng, 30), unit_rows(rng, 200), 150
    line, name = propose(*csr(queries), *names.inverted(), names.weight, names.scale, n_first, 7, 4, 10**9)
    dots = (queries @ names.matrix().T).toarray()
    assert (np.diff(line) >= 0).all()
    for i in range(30):
        found = name[line == i]
        for part, depth in ((range(n_first), 7), (range(n_first, 200), 4)):
            best = sorted(part, key=lambda j: (-dots[i, j], j))[:depth]
            assert sorted(set(found) & set(part)) == sorted(j for j in best if dots[i, j] > 0)


def test_proposals_look_at_the_rarest_terms_first_and_at_four_at_least():
    queries = sparse.csr_matrix(np.ones((1, 6), np.float32))
    names = sparse.csr_matrix(np.array([[1] * n + [0] * (10 - n) for n in (10, 9, 1, 2, 3, 4)], np.float32)).T.tocsr()
    rows = UnitRows.of(names, np.ones(6, np.float32))
    inverted = (*rows.inverted(), rows.weight, rows.scale)

    def held(postings: int) -> set[int]:
        return set(propose(*csr(queries), *inverted, 10, 10, 0, postings)[1].tolist())

    assert held(0) == held(10) == {0, 1, 2, 3}  # the four rarest terms stand in the first four names
    assert held(19) == set(range(9))
    assert held(29) == set(range(10))
    nothing = sparse.csr_matrix((3, 6), dtype=np.float32)
    assert len(propose(*csr(nothing), *inverted, 10, 10, 0, 10)[0]) == 0


def test_pair_kernels_agree_with_plain_products():
    rng = np.random.default_rng(2)
    queries, rows = random_rows(rng, 20), unit_rows(rng, 60)
    dots = (queries @ rows.matrix().T).toarray()
    line = np.sort(rng.integers(0, 20, 100))
    group = rng.integers(0, 10, 100)
    starts = np.array([0, 5, 5, 12, 20, 20, 31, 40, 48, 55, 60])
    members = rng.permutation(60)
    best, score = best_of_groups(*csr(queries), *rows.parts, line, group, starts, members)
    for i in range(100):
        own = members[starts[group[i]] : starts[group[i] + 1]]
        assert (best[i] == -1) == (len(own) == 0)
        if len(own):
            assert best[i] in own
            assert score[i] == pytest.approx(dots[line[i], own].max(), abs=1e-5)
            assert dots[line[i], best[i]] == pytest.approx(score[i], abs=1e-5)


def test_vectors_keep_their_directions_in_eight_bits():
    rng = np.random.default_rng(3)
    exact = rng.normal(size=(200, 64)).astype(np.float32)
    exact /= np.linalg.norm(exact, axis=1, keepdims=True)
    exact[7] = 0
    vectors, queries = Vectors.of(exact), exact[:20]
    assert vectors.shape == (200, 64)
    np.testing.assert_allclose(np.asarray(vectors), exact, atol=0.002)
    np.testing.assert_array_equal(vectors[np.array([5, 7])], np.asarray(vectors)[[5, 7]])
    line, row = rng.integers(0, 20, 300), rng.integers(0, 200, 300)
    scores = vectors.scores(queries, line, row)
    np.testing.assert_allclose(scores, (queries[line] * np.asarray(vectors)[row]).sum(axis=1), atol=1e-6)
    np.testing.assert_allclose(scores, (queries[line] * exact[row]).sum(axis=1), atol=0.005)
    taken = vectors.taken(np.array([3, -1, 0, -1]), exact[[10, 11]])
    np.testing.assert_array_equal(np.asarray(taken), np.asarray(vectors)[[3, 10, 0, 11]])
    assert vectors.taken(np.array([], int), exact[:0]).shape == (0, 64)


def test_top_products_of_nothing():
    empty = sparse.csr_matrix((0, 4), dtype=np.float32)
    assert len(top_products(empty, sparse.csr_matrix((4, 3), dtype=np.float32), 2, 1)[0]) == 0


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("750ml", "25.4oz"),
        ("75cl", "750 ml"),
        ("1kg", "1000g"),
        ("1TB", "1024GB"),
        ("55 inch", "139.7cm"),
        ("x24", "24 pack"),
    ],
)
def test_equal_quantities_meet(left, right):
    ours, theirs = quantities(normalise(left)), quantities(normalise(right))
    assert set(theirs) & {near for key in ours for near in neighbours(key)}


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("750ml", "700ml"),
        ("64gb", "128gb"),
        ("43 inch", "42 inch"),
        ("2010", "2011"),
        ("12yr", "15yr"),
        ("4 pack", "6 pack"),
    ],
)
def test_other_quantities_do_not(left, right):
    ours, theirs = quantities(normalise(left)), quantities(normalise(right))
    assert ours
    assert theirs
    assert not set(theirs) & {near for key in ours for near in neighbours(key)}


def test_words_that_are_no_quantities():
    assert quantities("whisky") == quantities("wdxoa485") == quantities("") == ()


@pytest.mark.parametrize("written", ["crft", "carft", "crafft", "crat", "cra", "whiskycraft"])
def test_spelling_finds_what_was_meant(written):
    words = {"craft": 0, "whisky": 1, "lemon": 2}
    spelling = Spelling(words, neighbour_codes(words, [["whisky", "craft"], ["lemon"]]))
    meant = spelling.meanings(written)
    assert 0 in meant
    assert 2 not in meant


def test_spelling_leaves_codes_and_strangers_alone():
    words = {"craft": 0, "qx200": 1}
    spelling = Spelling(words, neighbour_codes(words, [["craft", "qx200"]]))
    assert spelling.meanings("qx300") == ()
    assert spelling.meanings("elephant") == ()
    assert spelling.glued("qx", "200") == 1
    assert spelling.glued("q", "200") == -1
    assert skeleton("coffee") == "cf"


def test_tables_that_were_shared_tell_each_catalog_its_own_words():
    tables = Tables()
    first = Spelling({"craft": 0, "lemon": 1}, neighbour_codes({}, []), tables)
    second = Spelling({"draft": 0, "lemon": 1}, neighbour_codes({}, []), tables)
    assert (first.meanings("raft"), second.meanings("raft")) == ((0,), (0,))
    assert (first.meanings("crft"), second.meanings("crft")) == ((0,), ())
    assert (first.meanings("cra"), second.meanings("cra")) == ((0,), ())


def test_names_are_read_alike_one_by_one_and_all_at_once(products, lines):
    titles = [*products["title"].tolist(), "12 x 75cl f30 qx-200/b", "", "qx 200", "heron beacon", "norvik 12x75cl 12"]
    frame = pd.DataFrame({"product_id": [f"Q{i}" for i in range(len(titles))], "title": titles})
    past = ["heronbeacon qx200", "norvk herno whisk 6 x 330ml", "", "qx-200 lemo", "rhubarb rhubarb heron falcon"]
    past += lines["vendor_title"].head(200).tolist()
    names = pd.concat([product_names(frame), pd.DataFrame({"product_id": "Q3", "name": past, "source": "mapping"})])
    names["vendor_id"] = "v"
    index = CatalogIndex.build(frame, names, Lexical.fit(names["name"].tolist()), config=CONFIG)
    n = len(frame)
    one_by_one = index.reader.read(index.title_forms, near=False)
    quantities_held, values_held, dimensions, n_values = index.reader.title_amounts(index.words.matrix[:n])
    assert_same_rows(quantities_held, one_by_one.quantities)
    assert_same_rows(values_held, one_by_one.values)
    np.testing.assert_array_equal(dimensions, one_by_one.dimensions)
    np.testing.assert_array_equal(n_values, one_by_one.n_values)
    one_by_one = index.reader.read(index.forms[n:])
    assert one_by_one.explained.nnz > one_by_one.words.nnz * 0.8
    assert_same_rows(index.reader.explained(index.words, n), one_by_one.explained)
    assert_same_rows(index.words.matrix[n:], one_by_one.words)
    assert_same_rows(index.words.matrix, index.words.rows(index.forms)[0])


def assert_same_rows(left: sparse.csr_matrix, right: sparse.csr_matrix) -> None:
    assert left.shape == right.shape
    for part in ("indptr", "indices", "data"):
        np.testing.assert_array_equal(getattr(left, part), getattr(right, part))


def test_names_complete_titles_with_brand_and_size():
    frame = pd.DataFrame(
        {
            "product_id": ["a", "b"],
            "title": ["Dry Gin", "Norvik Gin 70cl"],
            "brand": ["Norvik", "Norvik"],
            "size": ["70cl", None],
        }
    )
    assert product_names(frame)["name"].tolist() == ["Norvik Dry Gin 70cl", "Norvik Gin 70cl"]


def test_names_of_unknown_products_are_left_out(products, lines):
    strangers = lines.head(3).assign(product_id="nowhere")
    names = product_names(products, pd.concat([lines, strangers]))
    assert len(names) == len(products) + len(lines)
    assert names["vendor_id"].isna().sum() == len(products)


def test_retrieval_finds_the_product_in_every_arm(index, products):
    titles = products["title"].tolist()[::17]
    vectors = LetterEncoder().encode(titles)
    found = index.retrieve(titles, k=3, embeddings=vectors)
    first = found.product[np.searchsorted(found.line, np.arange(len(titles)))]
    assert set(np.bincount(found.line)) == {3}
    exact = [products["product_id"].tolist().index(p) for p in products["product_id"].tolist()[::17]]
    right = found.product == np.array(exact)[found.line]
    assert right.sum() == len(titles)
    assert (found.title[right] > 0.999).all()
    assert (found.word[right] > 0.999).all()
    assert (found.encoder[right] > 0.99).all()
    assert len(first) == len(titles)


def test_hidden_products_and_their_twins_do_not_come(products):
    doubled = pd.concat([products, products.head(5).assign(product_id=[f"T{i}" for i in range(5)])], ignore_index=True)
    names = product_names(doubled)
    index = CatalogIndex.build(doubled, names, Lexical.fit(names["name"].tolist()), config=CONFIG)
    titles = products["title"].head(5).tolist()
    seen = index.retrieve(titles)
    assert {0, 384} <= set(seen.product[seen.line == 0])
    hidden = index.retrieve(titles, hide=np.array([0, 1, -1, 3, 4]))
    assert not {0, 384} & set(hidden.product[hidden.line == 0])
    assert {2, 386} <= set(hidden.product[hidden.line == 2])


def test_an_unseen_vendor_has_no_aliases(index, lines):
    vendor = lines["vendor_id"].value_counts().index[0]
    without = index.without_vendors({vendor})
    assert vendor not in set(without.names["vendor_id"].dropna())
    assert len(index.names) - len(without.names) == (lines["vendor_id"] == vendor).sum()
    own = lines[lines["vendor_id"] == vendor]
    with_own = index.retrieve(own["vendor_title"].tolist())
    assert with_own.alias_score.max() > 0.999
    np.testing.assert_array_equal(without.embeddings, index.embeddings[~index.names["vendor_id"].eq(vendor).to_numpy()])


def test_index_survives_saving(index, lines, tmp_path):
    index.save(tmp_path)
    again = CatalogIndex.load(tmp_path)
    titles = lines["vendor_title"].tolist()[:40]
    vectors = LetterEncoder().encode(titles)
    left, right = index.retrieve(titles, embeddings=vectors), again.retrieve(titles, embeddings=vectors)
    for name in ("line", "product", "alias", "title", "word", "encoder", "fused"):
        np.testing.assert_array_equal(getattr(left, name), getattr(right, name))
    assert not [path for path in tmp_path.rglob("*") if path.suffix in (".pkl", ".pickle", ".joblib")]


def test_parts_that_do_not_belong_together_are_refused(products, index):
    names = product_names(products)
    with pytest.raises(ValueError, match="names must begin"):
        CatalogIndex.build(products.iloc[::-1], names, index.lexical)
    with pytest.raises(ValueError, match="embeddings"):
        CatalogIndex.build(products, names, index.lexical, np.zeros((3, 4), np.float32))


def test_lines_without_anything_in_common_have_no_candidates(index):
    found = index.retrieve(["", "@@@", "ж"])
    assert len(found.line) == 0
    assert FeatureMaker.of(index).features(found).shape == (0, len(FEATURES))


@pytest.mark.parametrize("titles", [["One Product 5L"], ["same"] * 6, [""] * 3, ["12", "123", "1234"]])
def test_strange_catalogs_work(titles):
    index = small_index(titles)
    found = index.retrieve([titles[0], "one 5l", "", "12"])
    features = FeatureMaker.of(index).features(found)
    assert features.shape == (len(found.line), len(FEATURES))
    if titles[0]:
        assert 0 in found.line


def test_the_graphs_search_width_is_chosen_by_measured_recall_and_the_graph_is_the_same_each_time():
    rng = np.random.default_rng(1)
    centres = rng.normal(size=(40, 16))
    vectors = (centres[rng.integers(0, 40, 4000)] + 0.3 * rng.normal(size=(4000, 16))).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    config = dataclasses.replace(CONFIG, exact_below=1000, recall_sample=100)
    index, stats = build_vectors(vectors, config)
    assert stats["vectors"].startswith("HNSW")
    assert stats["recall_at_10"] >= 0.98
    again, _ = build_vectors(vectors, config)
    assert (again.search(vectors[:200], 10)[1] == index.search(vectors[:200], 10)[1]).all()
    _, exact = build_vectors(vectors, CONFIG)
    assert exact["vectors"] == "exact"
    assert index.search(vectors[:5], 1)[1].ravel().tolist() == [0, 1, 2, 3, 4]


def feature(index: CatalogIndex, line: str, product: str, prices=None) -> dict[str, float]:
    found = index.retrieve([line])
    position = index.positions([product])[0]
    row = FeatureMaker.of(index).features(found, prices)[found.product == position]
    assert len(row) == 1, f"{product} is not among the candidates of {line!r}"
    return dict(zip(FEATURE_NAMES, row[0].tolist(), strict=True))


def test_features_tell_variants_apart():
    index = small_index(
        ["Norvik Heron Whisky 12yr 700ml", "Norvik Heron Whisky 18yr 700ml", "Norvik Heron Whisky 12yr 50ml 4 Pack"],
        price=[30.0, 60.0, 15.0],
    )
    right = feature(index, "NORVIK HERON WHSKY 12 YO 70CL", "P0", np.array([33.0]))
    older = feature(index, "NORVIK HERON WHSKY 12 YO 70CL", "P1", np.array([33.0]))
    small = feature(index, "NORVIK HERON WHSKY 12 YO 70CL", "P2", np.array([33.0]))
    assert right["quantities_conflict"] == 0 < older["quantities_conflict"]
    assert small["quantities_conflict"] >= 1
    assert right["pack_conflict"] == 0 < small["pack_conflict"]
    assert right["title_explained"] == pytest.approx(1)
    assert right["title_in_line"] < 1  # "whsky" is not the word, only what it stands for
    assert right["overall_rank"] == 0
    assert right["price_ratio"] == pytest.approx(30 / 33)
    assert right["values_in_line"] == pytest.approx(1)


def test_features_know_what_vendors_drop():
    titles = [f"Brand{i} Heron Whisky Integrated" for i in range(30)]
    frame = pd.DataFrame({"product_id": [f"P{i}" for i in range(30)], "title": titles})
    past = pd.DataFrame(
        {
            "product_id": frame["product_id"],
            "vendor_title": [f"Brand{i} heron whisky" for i in range(30)],
            "vendor_id": "v",
        }
    )
    names = product_names(frame, past)
    index = CatalogIndex.build(frame, names, Lexical.fit(names["name"].tolist()), config=CONFIG)
    usual = feature(index, "brand3 heron whisky", "P3")["missing_surprise"]
    odd = feature(index, "brand3 heron integrated", "P3")["missing_surprise"]
    assert usual < 0.3 < odd


def test_equal_aliases_are_seen(index, lines):
    line = lines.iloc[7]
    row = feature(index, line["vendor_title"], line["product_id"])
    assert row["exact_alias"] == 1
    assert row["alias_cosine"] == pytest.approx(1, abs=1e-4)


def test_every_feature_is_described_and_finite_or_missing(index, lines):
    assert len(set(FEATURE_NAMES)) == len(FEATURES)
    assert {feature.higher for feature in FEATURES} == {"+", "-"}
    found = index.retrieve(lines["vendor_title"].tolist()[:100])
    values = FeatureMaker.of(index).features(found)
    assert not np.isinf(values).any()
    may_miss = {"encoder", "encoder_rank", "encoder_gap", "price_ratio", "brand_in_line", "numbers_in_title"}
    may_miss |= {"numbers_in_line", "values_in_line", "values_in_title"}
    missing = {FEATURE_NAMES[i] for i in np.flatnonzero(np.isnan(values).any(axis=0))}
    assert missing <= may_miss


def test_features_do_not_depend_on_the_batch(index, lines):
    titles = lines["vendor_title"].tolist()[:60]
    maker = FeatureMaker.of(index)
    whole = maker.features(index.retrieve(titles))
    parts = [maker.features(index.retrieve(titles[i : i + 7])) for i in range(0, 60, 7)]
    np.testing.assert_allclose(whole, np.concatenate(parts), rtol=1e-4, atol=1e-5)


def test_gap_to_rival():
    line = np.array([0, 0, 0, 2, 3, 3])
    gaps = gap_to_rival(line, np.array([1.0, 3.0, 2.0, 5.0, 4.0, 4.0], np.float32))
    assert gaps.tolist() == [-2.0, 1.0, -1.0, 5.0, 0.0, 0.0]


def test_word_matrix_counts_strangers():
    lexical = Lexical.fit(["norvik gin"])
    words = WordMatrix.build(["norvik gin", "castella/rum"], lexical.words)
    assert split_words("castella/rum-x") == ["castella", "rum", "x"]
    rows, unknown = words.rows(["gin tonic", "rum castella"])
    assert unknown.tolist() == [1, 0]
    assert np.diff(rows.indptr).tolist() == [1, 2]
    assert words.idf[words.vocabulary["castella"]] == lexical.words.unknown_idf
