import dataclasses
import json

import numpy as np
import pandas as pd
import pytest

from shelfwise.matching.baselines import CharTfidf, ExactMatch, TokenJaccard
from shelfwise.matching.decisions import Policy, Thresholds, review_lines
from shelfwise.matching.evaluate import evaluate, intervals
from shelfwise.matching.features import FEATURE_NAMES
from shelfwise.matching.guarantee import Goal
from shelfwise.matching.index import CatalogIndex, IndexConfig, product_names
from shelfwise.matching.lexical import Lexical
from shelfwise.matching.matcher import MATCH_COLUMNS, Matcher, in_order, searched_titles
from shelfwise.matching.scorer import Calibration, Scorer, ScorerConfig, best_rows
from tests.unit.matching_samples import LetterEncoder

CONFIG = ScorerConfig(rounds=60, leaves=7, least_in_leaf=20, shrinkage=0, feature_share=0.5)


def split(lines: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    test = lines["vendor_id"].isin(["v1", "v4", "v6"])
    return lines[~test], lines[test]


@pytest.fixture(scope="module")
def matcher(index, lines) -> Matcher:
    return Matcher.fit(split(lines)[0], index, config=CONFIG, policy=Policy(goal=Goal(0.9, 0.9)))


def upload(titles: list[str], **columns) -> pd.DataFrame:
    frame = pd.DataFrame({"title": titles, **columns})
    return frame.assign(
        line_id=[f"L{i}" for i in range(len(frame))], row=range(2, len(frame) + 2), vendor_id="new", file="f.csv"
    )


def test_every_line_has_its_rows(matcher, index, lines):
    titles = ["", *lines["vendor_title"].head(8), "жжж"]
    matches = matcher.match(upload(titles), index, k=3)
    assert tuple(matches.columns) == MATCH_COLUMNS
    assert matches["line_id"].drop_duplicates().tolist() == [f"L{i}" for i in range(10)]
    for _, rows in matches.groupby("line_id"):
        assert rows["rank"].tolist() == list(range(1, len(rows) + 1))
        assert rows["score"].is_monotonic_decreasing
        assert rows["score"].sum() <= 1 + 1e-9
        assert rows["decision"].nunique() == 1
    empty = matches[matches["line_id"] == "L0"].iloc[0]
    assert pd.isna(empty["product_id"])
    assert pd.isna(empty["product_title"])
    assert (empty["score"], empty["decision"]) == (0, "no_match")
    assert (matches[matches["line_id"] == "L3"]["product_id"].notna()).all()


def test_no_lines_and_missing_columns(matcher, index):
    assert matcher.match(upload([]), index).empty
    bare = matcher.match(pd.DataFrame({"title": ["Norvik Heron Dry Gin Lemon 700ml", None]}), index)
    assert bare["rank"].tolist()[-1] == 1
    assert bare["vendor_id"].isna().all()


def test_clear_lines_are_right_and_strangers_refused(matcher, index, products):
    clear = [title.upper().replace("700ML", "70 cl") for title in products["title"].head(60)]
    found = matcher.match(upload(clear), index, k=1)
    assert (found["product_id"].to_numpy() == products["product_id"].head(60).to_numpy()).mean() > 0.95
    strangers = ["garden hose 15m green", "hdmi cable", "Vexoria Ultra Lawn Mower 40V"] * 5
    refused = matcher.match(upload(strangers), index, k=1)
    assert (refused["decision"] == "no_match").all()


def test_the_same_input_gives_the_same_output_whatever_the_threads(matcher, index, lines, monkeypatch):
    frame = upload(lines["vendor_title"].tolist()[:300])
    once = matcher.match(frame, index)
    monkeypatch.setattr("shelfwise.matching.matcher.CHUNK", 37)
    index.config = dataclasses.replace(index.config, threads=3)
    try:
        twice = matcher.match(frame, index)
    finally:
        index.config = dataclasses.replace(index.config, threads=1)
    pd.testing.assert_frame_equal(once, twice, rtol=1e-4)


def test_fitting_twice_and_saving_change_nothing(matcher, index, lines, tmp_path):
    shuffled = split(lines)[0].sample(frac=1, random_state=5)
    again = Matcher.fit(shuffled, index, config=CONFIG, policy=matcher.policy)
    matcher.save(tmp_path / "a")
    again.save(tmp_path / "b")
    for name in ("scorer.txt", "calibration.json", "scorer.json", "decisions.json"):
        assert (tmp_path / "a" / name).read_text() == (tmp_path / "b" / name).read_text(), name
    frame = upload(lines["vendor_title"].tolist()[:50])
    pd.testing.assert_frame_equal(Matcher.load(tmp_path / "a").match(frame, index), matcher.match(frame, index))
    assert {path.suffix for path in tmp_path.rglob("*") if path.is_file()} == {".txt", ".json", ".npz"}


def test_a_scorer_of_other_features_is_refused(matcher, tmp_path):
    matcher.save(tmp_path)
    raw = json.loads((tmp_path / "scorer.json").read_text())
    (tmp_path / "scorer.json").write_text(json.dumps({**raw, "features": raw["features"][:-1]}))
    with pytest.raises(ValueError, match="train it again"):
        Matcher.load(tmp_path)
    with pytest.raises(FileNotFoundError):
        Matcher.load(tmp_path / "nowhere")


def test_thresholds_can_be_replaced_at_loading(matcher, index, tmp_path, lines):
    matcher.save(tmp_path)
    strict = Matcher.load(tmp_path, Thresholds(approve=1.0, review=0.0))
    decisions = strict.match(upload(lines["vendor_title"].tolist()[:40]), index)["decision"]
    assert set(decisions) == {"review"}


def test_with_an_encoder_and_with_another_ones_index(products, lines, index):
    names = product_names(products, lines)
    encoder = LetterEncoder()
    lexical = Lexical.fit(names["name"].tolist())
    made = Matcher(lexical, encoder=encoder).build_index(products, names, config=IndexConfig(threads=1))
    assert made.embeddings.shape == (len(names), encoder.dim)
    fitted = Matcher.fit(split(lines)[0], made, encoder=encoder, config=CONFIG)
    assert not fitted.match(upload(lines["vendor_title"].tolist()[:20]), made).empty
    with pytest.raises(ValueError, match="both have an encoder"):
        fitted.match(upload(["gin"]), index)
    other = CatalogIndex.build(products, names, lexical, np.roll(made.embeddings, 5, axis=1))
    with pytest.raises(ValueError, match="another encoder"):
        fitted.match(upload(["gin"]), other)


def test_too_little_data_falls_back_on_the_formula(index, lines, products):
    few = Matcher.fit(lines.head(60), index)
    assert few.scorer.report["method"] == "formula"
    assert few.scorer.model is None
    found = few.match(upload(products["title"].tolist()[:60]), index, k=1)
    assert (found["product_id"].to_numpy() == products["product_id"].to_numpy()[:60]).mean() > 0.9
    assert Matcher.fit(lines.head(0), index).match(upload(["gin"]), index)["score"].between(0, 1).all()


def test_brand_of_a_line_helps_where_the_title_lacks_it(matcher, index):
    frame = upload(["Heron Whisky Single Malt 12yr 700ml", "norvik gin"], brand=["Tolosa", "Norvik"])
    assert searched_titles(frame) == ["Tolosa Heron Whisky Single Malt 12yr 700ml", "norvik gin"]
    assert matcher.match(frame, index, k=1)["product_title"].iloc[0] == "Tolosa Heron Single Malt Whisky 12yr 700ml"


def test_chunks_come_in_order_and_errors_come_through():
    assert list(in_order(lambda x: x * x, range(20), 3)) == [x * x for x in range(20)]
    assert list(in_order(lambda x: x, [], 3)) == []
    with pytest.raises(ZeroDivisionError):
        list(in_order(lambda x: 1 // x, [1, 0, 1], 2))


def test_progress_is_told(matcher, index, monkeypatch):
    monkeypatch.setattr("shelfwise.matching.matcher.CHUNK", 4)
    seen = []
    matcher.match(upload(["gin"] * 10), index, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(4, 10), (8, 10), (10, 10)]


class TestScorer:
    def test_scores_of_a_line_are_probabilities_of_one_choice(self):
        scorer = Scorer()
        scorer.calibration = Calibration(np.array([-1.0, 1.0]), np.array([0.1, 0.9]), "x")
        line = np.array([0, 0, 0, 2])
        scores = scorer.probabilities(np.array([1.0, 0.9, -3.0, 0.0]), line)
        assert scores[0] == pytest.approx(0.9)
        assert scores[:3].sum() == pytest.approx(1.0)
        assert scores[3] == pytest.approx(0.5)

    def test_best_rows_take_the_first_of_equals(self):
        assert best_rows(np.array([0, 0, 1, 3]), np.array([2.0, 2.0, 1.0, 5.0])).tolist() == [0, 2, 3]

    @pytest.mark.parametrize("n", [300, 5000])
    def test_calibration_gives_the_share_that_is_right(self, n):
        rng = np.random.default_rng(0)
        raw = rng.normal(0, 3, n)
        right = (rng.random(n) < 1 / (1 + np.exp(-(0.5 * raw - 1)))).astype(int)
        fitted = Calibration.fit(raw, right)
        assert (np.diff(fitted(np.linspace(-12, 12, 200))) >= -1e-12).all()
        wanted = 1 / (1 + np.exp(-(0.5 * np.array([-2.0, 2.0, 4.0]) - 1)))
        assert np.abs(fitted(np.array([-2.0, 2.0, 4.0])) - wanted).max() < (0.2 if n < 500 else 0.06)
        again = Calibration.from_json(json.loads(json.dumps(fitted.to_json())))
        np.testing.assert_array_equal(again(raw), fitted(raw))
        assert fitted(np.array([-99.0]))[0] > 0
        assert fitted(np.array([99.0]))[0] < 1

    def test_a_surer_line_scores_higher_at_the_very_top_too(self):
        rng = np.random.default_rng(0)
        raw = rng.normal(0, 3, 5000)
        fitted = Calibration.fit(raw, (rng.random(5000) < 1 / (1 + np.exp(-3 * raw))).astype(int))
        assert (np.diff(fitted(np.sort(np.unique(raw)))) > 0).all()
        assert fitted(np.array([9.0]))[0] > 0.99

    def test_calibration_without_evidence_changes_nothing(self):
        fitted = Calibration.fit(np.array([1.0, 2.0]), np.array([1, 1]))
        assert fitted(np.array([0.0]))[0] == pytest.approx(0.5)

    def test_importance_names_features(self, matcher):
        importance = matcher.scorer.importance()
        assert set(importance) == set(FEATURE_NAMES)
        assert sum(importance.values()) == pytest.approx(1)


class TestDecisions:
    def test_bounds_belong_to_the_better_decision(self):
        decided = Thresholds().decide(np.array([0.85, 0.8499, 0.65, 0.6499, 0.0, 1.0]))
        assert decided.tolist() == ["approved", "review", "review", "no_match", "no_match", "approved"]

    @pytest.mark.parametrize(("approve", "review"), [(0.5, 0.6), (1.2, 0.5), (0.5, -0.1)])
    def test_impossible_thresholds(self, approve, review):
        with pytest.raises(ValueError, match="review <= approve"):
            Thresholds(approve, review)

    def test_review_lines_are_the_doubtful_ones_of_all_files(self, matcher, index, lines):
        strict = Matcher(matcher.lexical, matcher.scorer, thresholds=Thresholds(approve=0.9, review=0.2))
        first = strict.match(upload(lines["vendor_title"].tolist()[:80]), index)
        second = strict.match(upload(lines["vendor_title"].tolist()[80:160]).assign(file="g.csv"), index)
        queue = review_lines({"a": first, "b": second, "c": None})
        expected = {
            (row["file"], row["line_id"])
            for frame in (first, second)
            for row in frame[(frame["rank"] == 1) & (frame["decision"] == "review")].to_dict("records")
        }
        assert expected
        assert set(zip(queue["file"], queue["line_id"], strict=True)) == expected
        assert queue["score"].is_monotonic_increasing
        assert queue["alternatives"].str.contains(": ").any()
        assert review_lines({}).empty
        assert review_lines(None).empty


class TestBaselines:
    def test_each_finds_what_it_should(self, index, products):
        title = products["title"].iloc[5]
        shuffled = " ".join(reversed(title.split()))
        typo = title.replace("Heron", "Hreon")
        for baseline, finds in (
            (ExactMatch(index), [True, False, False]),
            (TokenJaccard(index), [True, True, True]),
            (CharTfidf(index), [True, True, True]),
        ):
            top = baseline.rank([title.upper(), shuffled, typo], 3).top(3)
            assert [5 in row for row in top.tolist()] == finds, type(baseline).__name__

    def test_jaccard_is_the_ratio(self, index, products):
        ranked = TokenJaccard(index).rank([products["title"].iloc[0] + " unknownword"], 1)
        n = len(products["title"].iloc[0].split())
        assert ranked.score[0] == pytest.approx(n / (n + 1))

    def test_hidden_products_do_not_come(self, index, products):
        ranked = CharTfidf(index).rank([products["title"].iloc[0]], 5, hide=np.array([0]))
        assert 0 not in ranked.product

    def test_aliases_count_only_where_asked(self, index, lines):
        line = lines["vendor_title"].iloc[3]
        assert (
            len(ExactMatch(index).rank([line], 5).product) <= len(ExactMatch(index, True).rank([line], 5).product) > 0
        )


@pytest.fixture(scope="module")
def evaluation(matcher, index, lines):
    test = split(lines)[1].assign(noise=lambda f: np.where(f["vendor_title"].str.isupper(), "upper", "other"))
    strangers = test.head(20).assign(product_id=[""] * 10 + [None] * 10, vendor_title="patio heater 2kw")
    return evaluate(matcher, index, pd.concat([test, strangers], ignore_index=True), withheld=0.3)


class TestEvaluation:
    def test_metrics_are_floats_with_intervals_around_them(self, evaluation):
        for name in ("top1", "top5", "mrr", "approved_precision", "approved_coverage", "review_share"):
            value, low, high = (evaluation.metrics[name + end] for end in ("", "_low", "_high"))
            assert low <= value <= high
            assert 0 <= low <= high <= 1
        assert evaluation.metrics["top1_low"] < evaluation.metrics["top1_high"]
        assert all(isinstance(value, float) for value in evaluation.metrics.values())
        assert evaluation.metrics["top1"] <= evaluation.metrics["mrr"] <= evaluation.metrics["candidate_recall"]

    def test_numbers_agree_with_the_lines(self, evaluation):
        frame = evaluation.lines
        inside = frame["in_catalog"]
        assert evaluation.metrics["top1"] == pytest.approx((frame["rank"] == 1)[inside].mean())
        assert evaluation.about["in_catalog"] == inside.sum() == len(frame) - 20
        refused = frame["decision"] == "no_match"
        assert evaluation.metrics["no_match_recall"] == pytest.approx(refused[~frame["has_match"]].mean())
        approved = frame["decision"] == "approved"
        assert evaluation.metrics["approved_precision"] == pytest.approx(frame["right"][approved].mean())
        assert 0.2 < 1 - frame["has_match"][inside].mean() < 0.4

    def test_it_is_not_worse_than_any_baseline_here(self, evaluation):
        """A line that lost the word by which two products differ is anybody's guess: n-grams over all names are at
        what can be reached here, so a line more or less decides between the two.
        """
        best = evaluation.baselines.set_index("baseline")["top1"]
        assert {"exact", "token_jaccard", "char_tfidf", "char_tfidf_names"} <= set(best.index)
        assert evaluation.primary_metric == "top1"
        assert evaluation.metrics["top1"] >= best["char_tfidf"]
        assert evaluation.metrics["top1"] > best.drop("char_tfidf").max() + 0.1

    def test_slices_cover_the_lines(self, evaluation):
        slices = evaluation.slices
        assert {"vendor", "category", "alias", "length", "popularity", "noise"} == set(slices["slice"])
        by_vendor = slices[slices["slice"] == "vendor"]
        assert by_vendor["lines"].sum() == evaluation.about["in_catalog"]
        weighted = np.average(by_vendor["top1"], weights=by_vendor["lines"])
        assert weighted == pytest.approx(evaluation.metrics["top1"])

    def test_curve_ends_at_everything(self, evaluation):
        curve = evaluation.curve
        assert curve["threshold"].is_monotonic_decreasing
        assert curve["coverage"].is_monotonic_increasing
        assert curve["precision"].iloc[-1] == pytest.approx(evaluation.lines["right"].mean())

    def test_examples_are_of_their_kind(self, evaluation):
        right = evaluation.examples[evaluation.examples["kind"] == "approved, right"]
        assert (right["predicted_title"] == right["right_title"]).all()
        assert len(right)
        assert right["why"].str.contains("agree|the same as the catalog title").all()
        assert evaluation.examples["why"].str.len().min() > 10

    def test_own_aliases_do_not_help(self, matcher, index, lines):
        """A line whose own vendor sent it before must not find itself."""
        own = split(lines)[1].head(30)
        seen = evaluate(matcher, index, own, withheld=0, baselines=False)
        cold = evaluate(matcher, index.without_vendors(set(own["vendor_id"])), own, withheld=0, baselines=False)
        assert seen.metrics["top1"] == cold.metrics["top1"]

    def test_nothing_to_evaluate_is_an_error(self, matcher, index, lines):
        with pytest.raises(ValueError, match="nothing to evaluate"):
            evaluate(matcher, index, lines.head(3).assign(product_id=""))

    def test_intervals_of_a_known_share(self):
        counted = np.arange(4000) % 4 == 0
        found = intervals({"a": (counted, np.ones(4000, bool)), "none": (counted, np.zeros(4000, bool))}, seed=1)
        assert found["a"] == pytest.approx(0.25)
        spread = 1.96 * np.sqrt(0.25 * 0.75 / 4000)
        assert found["a_low"] == pytest.approx(0.25 - spread, abs=0.004)
        assert found["a_high"] == pytest.approx(0.25 + spread, abs=0.004)
        assert np.isnan(found["none"])
