"""The optional cross-encoder: kept only where it pays, asked only about uncertain lines, never about the sure ones."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from shelfwise.matching.decisions import NEVER, Policy, Thresholds
from shelfwise.matching.guarantee import Goal
from shelfwise.matching.index import CatalogIndex, IndexConfig, product_names
from shelfwise.matching.lexical import Lexical
from shelfwise.matching.matcher import Matcher, Ranked
from shelfwise.matching.pairs import make_pairs
from shelfwise.matching.rerank import (
    READ_TOGETHER,
    CrossEncoderModel,
    CrossTraining,
    RerankConfig,
    Reranker,
    lowest_approval,
    train_cross_encoder,
)
from shelfwise.matching.scorer import ScorerConfig
from shelfwise.text import normalise
from tests.unit.matching_samples import positives

CONFIG = ScorerConfig(rounds=20, leaves=7, least_in_leaf=20, shrinkage=0, feature_share=0.5, least_positives=50)
TINY = CrossTraining(
    vocab_size=300, hidden_size=16, layers=1, heads=2, intermediate_size=32, max_length=32, epochs=1, max_pairs=600
)


class Oracle:
    """Knows the answers: what it says is the truth, or its opposite, or nothing."""

    def __init__(self, lines, products, sign=1.0):
        titles = products.set_index("product_id")["title"]
        self.right = {
            (normalise(line), normalise(titles[product]))
            for line, product in lines[["vendor_title", "product_id"]].itertuples(index=False)
        }
        self.sign, self.asked = sign, []

    def predict(self, pairs):
        self.asked += pairs
        return np.array([self.sign * 5.0 if pair in self.right else -self.sign * 5.0 for pair in pairs])


@pytest.fixture(scope="module")
def lines(products):
    """Lines that leave out what tells variants apart, so that the features cannot know."""
    made = positives(products, n=600)
    return made.assign(
        vendor_title=[" ".join(title.split()[:4]) + f" {i}" for i, title in enumerate(made["vendor_title"])]
    )


@pytest.fixture(scope="module")
def index(products, lines):
    names = product_names(products, lines.iloc[:0])
    return CatalogIndex.build(products, names, Lexical.fit(names["name"].tolist()), config=IndexConfig(threads=1))


@pytest.fixture(scope="module")
def matcher(index, lines):
    return Matcher.fit(lines, index, config=CONFIG, policy=Policy(goal=Goal(0.9, 0.9)))


@pytest.fixture
def plain(matcher):
    """The matcher with fixed thresholds, and never with a reranker that another test set."""
    made = Matcher(matcher.lexical, matcher.scorer, thresholds=Thresholds(0.9, 0.1), sample=matcher.sample)
    assert made.reranker is None
    return made


def upload(lines):
    return pd.DataFrame(
        {
            "line_id": [f"L{i}" for i in range(len(lines))],
            "row": range(2, len(lines) + 2),
            "vendor_id": "new",
            "file": "f.csv",
            "title": lines["vendor_title"].to_numpy(),
        }
    )


def always(model, **changes):
    return Reranker(model, replace(RerankConfig(), **changes), 1.0, {})


def top1(matches, lines):
    best = matches[matches["rank"] == 1]["product_id"].to_numpy()
    return float((best == lines["product_id"].to_numpy()).mean())


# ---- whether it pays -------------------------------------------------------------------------------------------------


def test_one_that_knows_more_is_kept_with_its_measured_gain(plain, index, lines, products):
    made = Reranker.fit(lines, index, plain, Oracle(lines, products))
    assert made.report["kept"]
    assert made.weight > 0
    assert made.report["gain_top1"] > 0.05
    assert made.report["lines"] == len(lines)
    assert 0 < made.report["asked_share"] <= 1
    assert "kept" in made.sentence
    before = top1(plain.match(upload(lines), index), lines)
    plain.reranker = made
    assert top1(plain.match(upload(lines), index), lines) > before + 0.05


@pytest.mark.parametrize("sign", [0.0, -1.0])
def test_one_that_knows_nothing_or_the_opposite_is_dropped(plain, index, lines, products, sign):
    made = Reranker.fit(lines, index, plain, Oracle(lines, products, sign))
    assert not made.report["kept"]
    assert (made.weight, made.model) == (0.0, None)
    assert made.report["gain_top1"] < RerankConfig().least_gain
    before = plain.match(upload(lines), index)
    plain.reranker = made
    pd.testing.assert_frame_equal(plain.match(upload(lines), index), before)


def test_the_gain_that_is_wanted_decides(plain, index, lines, products):
    made = Reranker.fit(lines, index, plain, Oracle(lines, products), RerankConfig(least_gain=1.1))
    assert made.report["gain_top1"] > 0.05
    assert made.weight == 0
    assert "dropped" in made.sentence


# ---- which lines -----------------------------------------------------------------------------------------------------


def test_only_uncertain_lines_are_read_and_only_their_first_candidates(plain, index, lines, products):
    before = plain.match(upload(lines), index, k=8)
    best = before[before["rank"] == 1].set_index("line_id")["score"]
    oracle = Oracle(lines, products)
    plain.reranker = always(oracle, depth=3, low=0.2, high=0.7)
    after = plain.match(upload(lines), index, k=8)
    sure = after["line_id"].map((best < 0.2) | (best >= 0.7)).to_numpy()
    assert 0 < sure.sum() < len(after)
    pd.testing.assert_frame_equal(after[sure], before[sure])
    assert len(oracle.asked) <= 3 * int((~((best < 0.2) | (best >= 0.7))).sum())
    assert not after[~sure]["product_id"].equals(before[~sure]["product_id"])
    deep = after["rank"] > 3
    pd.testing.assert_frame_equal(after[deep], before[deep])
    sets = [frame[~sure].groupby("line_id")["product_id"].agg(set).to_dict() for frame in (before, after)]
    assert sets[0] == sets[1]  # candidates change places, none is lost


def test_scores_and_decisions_stay_and_nothing_that_may_be_approved_is_touched(plain, index, lines, products):
    before = plain.match(upload(lines), index)
    plain.reranker = always(Oracle(lines, products, -1.0), low=0.0, high=1.0)
    after = plain.match(upload(lines), index)
    pd.testing.assert_frame_equal(
        after[["line_id", "rank", "score", "decision"]], before[["line_id", "rank", "score", "decision"]]
    )
    approved = (before["decision"] == "approved").to_numpy()
    assert approved.any()
    pd.testing.assert_frame_equal(after[approved], before[approved])
    assert (after["product_id"] != before["product_id"]).any()


def test_the_lowest_score_of_any_approval():
    assert lowest_approval(Thresholds(0.9, 0.1)) == 0.9
    assert lowest_approval(Thresholds(0.9, 0.1, 0.8, {"v": 0.7}, {"c": 0.95})) == 0.7
    assert lowest_approval(Thresholds(NEVER, 0.1)) == NEVER


def test_fewer_products_may_be_asked_for_than_it_reads(plain, index, lines, products):
    plain.reranker = always(Oracle(lines, products), low=0.0)
    one = plain.match(upload(lines), index, k=1)
    five = plain.match(upload(lines), index, k=5)
    assert one["rank"].eq(1).all()
    assert one["product_id"].tolist() == five[five["rank"] == 1]["product_id"].tolist()


def test_the_reason_names_who_was_first_before(plain, index, lines, products):
    before = plain.match(upload(lines), index, explain=True)
    plain.reranker = always(Oracle(lines, products), low=0.0)
    after = plain.match(upload(lines), index, explain=True)
    first = (after["rank"] == 1).to_numpy()
    moved = (after["product_id"] != before["product_id"]).to_numpy() & first
    assert moved.any()
    expected = [f"{READ_TOGETHER} “{title}”" for title in before[moved]["product_title"]]
    assert after[moved]["why"].tolist() == expected
    assert after[first & ~moved]["why"].tolist() == before[first & ~moved]["why"].tolist()


def test_equal_words_change_no_order():
    ranked = Ranked(1, np.zeros(3, np.int64), np.arange(3), np.array([2, 0, 1]), np.array([0.5, 0.5, 0.1]))
    index = type("Index", (), {"products": pd.DataFrame({"title": ["a", "b", "c"]})})()
    silent = type("Silent", (), {"predict": lambda self, pairs: np.zeros(len(pairs))})()
    made = always(silent).rerank(ranked, ["x"], index, Thresholds(0.9, 0.1))  # type: ignore[arg-type]
    assert made.product.tolist() == [2, 0, 1]


# ---- real models -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pairs(products):
    return make_pairs(positives(products, n=400), products, seed=1, threads=1)


@pytest.fixture(scope="module")
def folder(pairs, tmp_path_factory):
    place = tmp_path_factory.mktemp("cross")
    report = train_cross_encoder(pairs, place, TINY)
    assert report["pairs"] == 600
    assert 0 < report["loss"] < 1
    return place


def test_a_trained_one_is_a_cross_encoder_that_can_be_tuned_further(folder, pairs, tmp_path):
    asked = [("norvik heron whisky", "norvik heron single malt whisky 10yr 700ml"), ("x", ""), ("a b", "c d e f")]
    model = CrossEncoderModel(folder)
    said = model.predict(asked)
    assert said.shape == (3,)
    assert np.isfinite(said).all()
    assert np.abs(said - CrossEncoderModel(folder).predict(asked)).max() < 1e-6
    assert np.abs(said[[2, 0]] - model.predict([asked[2], asked[0]])).max() < 1e-4  # whatever else is asked
    assert model.predict([]).shape == (0,)
    train_cross_encoder(pairs, tmp_path, replace(TINY, base=str(folder), max_pairs=64, learning_rate=1e-2))
    assert np.abs(CrossEncoderModel(tmp_path).predict(asked) - said).max() > 1e-4


def test_training_learns_what_a_pair_is(tmp_path):
    words = [f"w{i}" for i in range(12)]
    rows = [(f"{a} item", f"{b} item", int(a == b)) for a in words for b in words for _ in range(11 if a == b else 1)]
    frame = pd.DataFrame(rows, columns=["line", "product_title", "label"])
    frame = frame.assign(split="train", pair_id=[f"{i:04d}" for i in range(len(frame))])
    config = replace(TINY, epochs=60, hidden_size=32, max_pairs=0, learning_rate=1e-3, batch_size=32, spread=0.2)
    report = train_cross_encoder(frame, tmp_path, config)
    assert report["loss"] < 0.3
    model = CrossEncoderModel(tmp_path)
    assert model.predict([("w3 item", "w3 item")])[0] > model.predict([("w3 item", "w7 item")])[0] + 1


def test_pairs_of_one_label_teach_nothing(pairs, tmp_path):
    with pytest.raises(ValueError, match="both labels"):
        train_cross_encoder(pairs[pairs["label"] == 1], tmp_path, TINY)


def test_a_missing_model_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises((OSError, ValueError)):
        CrossEncoderModel(tmp_path / "none")


def test_a_matcher_keeps_its_reranker(plain, index, lines, folder, tmp_path):
    plain.reranker = Reranker(CrossEncoderModel(folder), RerankConfig(low=0.0), 2.0, {"kept": True}, folder)
    expected = plain.match(upload(lines.head(50)), index)
    plain.save(tmp_path / "matcher")
    again = Matcher.load(tmp_path / "matcher")
    assert again.reranker is not None
    assert again.reranker.report == {"kept": True}
    pd.testing.assert_frame_equal(again.match(upload(lines.head(50)), index), expected)
    path = tmp_path / "matcher" / "reranker" / "reranker.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 99}))
    with pytest.raises(ValueError, match="format 99"):
        Matcher.load(tmp_path / "matcher")


def test_a_dropped_one_is_kept_as_a_report_without_weights(plain, index, lines, folder, tmp_path):
    plain.reranker = Reranker.fit(lines.head(250), index, plain, folder, RerankConfig(least_gain=0.9))
    assert plain.reranker.report["pairs_per_second"] > 0
    plain.save(tmp_path / "matcher")
    assert not (tmp_path / "matcher" / "reranker" / "model").exists()
    loaded = Matcher.load(tmp_path / "matcher").reranker
    assert loaded is not None
    assert (loaded.weight, loaded.report["gain_top1"]) == (0.0, plain.reranker.report["gain_top1"])


def test_a_weight_needs_a_model():
    with pytest.raises(ValueError, match="needs its model"):
        Reranker(None, RerankConfig(), 1.0, {})
