import dataclasses

import numpy as np
import pandas as pd
import pytest

from shelfwise.matching import explain as module
from shelfwise.matching.evidence import AGREES, CONFLICTS, MISSING, NOTE, READ, Catalog, Finding, compare
from shelfwise.matching.explain import Explanation, Part, contributions
from shelfwise.matching.features import FEATURES, GROUP_NAMES, GROUP_OF_FEATURE, GROUPS, PACKS, SIZES, FeatureMaker
from shelfwise.matching.index import CatalogIndex, IndexConfig, product_names
from shelfwise.matching.lexical import Lexical, comparable, split_words
from shelfwise.matching.matcher import Matcher
from shelfwise.matching.scorer import FORMULA, FORMULA_INTERCEPT, Scorer, ScorerConfig
from shelfwise.matching.shapley import GroupTrees
from shelfwise.matching.spelling import Spelling, neighbour_codes
from shelfwise.matching.trees import Forest
from tests.unit.matching_samples import LetterEncoder

CONFIG = ScorerConfig(rounds=60, leaves=7, least_in_leaf=20)


@pytest.fixture(scope="module")
def matcher(index, lines) -> Matcher:
    return Matcher.fit(lines, index, config=CONFIG)


def upload(titles: list[str], vendor: str = "new") -> pd.DataFrame:
    return pd.DataFrame({"title": titles, "vendor_id": vendor, "line_id": [f"L{i}" for i in range(len(titles))]})


def found_in(explanation: Explanation, group: str) -> str:
    return next(part.found for part in explanation.parts if part.group == group)


class TestEvidence:
    """What is said of two texts, with words planted."""

    @staticmethod
    def compare(line: str, product: str, brand: str = "", *others: str) -> dict[str, list[str]]:
        forms = comparable([product, *others])
        vocabulary = {word: i for i, word in enumerate(sorted({w for form in forms for w in split_words(form)}))}
        spelling = Spelling(vocabulary, neighbour_codes(vocabulary, [split_words(form) for form in forms]))
        words = Catalog(spelling, lambda word: float(len(word)), frozenset({"absolut", "smirnoff"}))
        said: dict[str, list[str]] = {}
        for finding in compare(*comparable([line, product, brand]), words):
            said.setdefault(finding.kind, []).append(finding.text)
        return said

    def test_another_size_conflicts_and_the_same_size_agrees_whatever_its_unit(self):
        other = self.compare("absolut citron 750ml", "Absolut Citron 1L")
        assert other[CONFLICTS] == ["size conflicts: line says 750 ml, product 1 l"]
        assert not any("size" in text for text in other[AGREES])
        assert "size 750 ml agrees" in self.compare("absolut citron 75 cl", "Absolut Citron 0.75L")[AGREES]
        ounces = self.compare("baileys 25.4oz", "Baileys 750ml")
        assert "size 750 ml agrees (line says 25.4 oz)" in ounces[AGREES]
        assert CONFLICTS not in ounces

    @pytest.mark.parametrize(
        "line", ["beer 12-pack 33cl", "beer 12 x 330ml", "beer 12x330ml", "beer case of 12 330 ml"]
    )
    @pytest.mark.parametrize("product", ["Beer 6-pack 330ml", "Beer 6x330ml"])
    def test_another_pack_conflicts_however_it_is_written(self, line, product):
        said = self.compare(line, product)
        assert said[CONFLICTS] == ["pack conflicts: line says 12, product 6"]
        assert said[AGREES] == ['word "beer" agrees', "size 330 ml agrees"]
        same = self.compare(line, product.replace("6", "12"))
        assert "pack of 12 agrees" in same[AGREES]
        assert CONFLICTS not in same

    def test_a_pack_on_one_side_is_said_and_a_picture_frame_is_no_pack(self):
        assert self.compare("beer 330ml", "Beer 6x330ml")[MISSING] == ["pack: line says none, product 6"]
        assert not any("pack" in text for texts in self.compare("frame 20x30cm", "Frame A").values() for text in texts)

    def test_misspelt_words_say_how_they_were_read(self):
        said = self.compare("Henessey VS 70cl", "Hennessy VS 700 ml", "Hennessy")
        assert said[READ] == ['misspelt "henessey" read as "hennessy"']
        assert 'brand "hennessy" agrees' in said[AGREES]
        assert MISSING not in said
        said = self.compare("blackforest choc ckae", "Black Forest Chocolate Cake")
        assert said[READ] == [
            'joined "blackforest" read as "black forest"',
            'shortened "choc" read as "chocolate"',
            '"ckae" resembles "cake"',
        ]
        assert MISSING not in said

    def test_a_word_of_the_catalog_is_taken_as_it_is_written(self):
        said = self.compare("tolosa falcor gin", "Tolosa Falcon Gin", "", "Tolosa Falcor Gin")
        assert READ not in said
        assert said[MISSING] == ['word "falcon" missing in line', 'word "falcor" not in product']

    def test_codes(self):
        assert self.compare("mixer 5ksm150", "Mixer 5KSM175")[CONFLICTS] == [
            'model code conflicts: line says "5ksm150", product "5ksm175"'
        ]
        assert 'model code "5ksm175" agrees' in self.compare("mixer 5ksm175", "Mixer 5KSM175")[AGREES]
        assert self.compare("drill nrk 6202 mx", "Drill NRK6202MX")[READ] == ['"nrk 6202 mx" read as "nrk6202mx"']

    def test_brands(self):
        said = self.compare("smirnoff citron", "Absolut Citron", "Absolut", "Smirnoff Red")
        assert said[CONFLICTS] == ['brand "absolut" missing in line, which has "smirnoff", another brand']
        said = self.compare("citron", "Absolut Citron", "Absolut")
        assert said[MISSING] == ['brand "absolut" missing in line']
        assert CONFLICTS not in said

    def test_numbers_are_not_more_than_they_say(self):
        said = self.compare("glenlivet 12", "Glenlivet 12yr 700ml")
        assert said[NOTE] == ["12 in line may be age 12 years"]
        assert said[MISSING] == ["size 700 ml missing in line"]
        assert self.compare("12345", "999")[MISSING] == [
            "number 999 missing in line",
            'model code "12345" only in line',
        ]
        assert self.compare("chateau 2015", "Chateau 2016")[CONFLICTS] == [
            "year conflicts: line says 2015, product 2016"
        ]

    @pytest.mark.parametrize("line", ["", "   ", "жжж", "🍷", "0", "x", "1" * 500, "a" * 500, "- / & +"])
    @pytest.mark.parametrize("product", ["", "Absolut Citron 1L", "12", "x"])
    def test_nothing_agrees_that_is_not_in_both(self, line, product):
        said = self.compare(line, product, "Absolut")
        if not set(split_words(comparable([line])[0])) & set(split_words(comparable([product])[0])):
            assert AGREES not in said
            assert READ not in said


def forest_of(model):
    return Forest.of(model.model_to_string(), model.num_feature())


class TestShapley:
    @pytest.fixture(scope="class")
    def trees(self):
        import lightgbm

        rng = np.random.default_rng(0)
        x = rng.normal(size=(3000, 8)).astype(np.float32)
        x[:, 0] = np.round(x[:, 0])
        x[:, 4:][rng.random((3000, 4)) < 0.1] = np.nan
        y = ((x[:, 0] * x[:, 1] + x[:, 2] > 0.3) ^ np.isnan(x[:, 5]) ^ (x[:, 6] > 1)).astype(int)
        parameters = {"objective": "binary", "num_leaves": 15, "verbose": -1, "num_threads": 1, "seed": 1}
        model = lightgbm.train(parameters, lightgbm.Dataset(x, y), 30)
        asked = rng.normal(size=(300, 8)).astype(np.float32)
        asked[rng.random(asked.shape) < 0.2] = np.nan
        asked[:20, 0] = 0.0
        return model, asked

    def test_single_features_are_those_of_lightgbm(self, trees):
        model, asked = trees
        made = GroupTrees.of(forest_of(model), np.arange(8), 8)
        theirs = model.predict(asked, pred_contrib=True)
        np.testing.assert_allclose(made.values(asked), theirs[:, :-1], atol=1e-10)
        assert made.base == pytest.approx(theirs[0, -1])

    def test_groups_add_up_and_are_the_shapley_values_of_groups(self, trees):
        """By the definition, for three groups: each order of joining, with the tree's own averages."""
        model, asked = trees
        group = np.array([0, 0, 1, 1, 1, 2, 2, 2])
        made = GroupTrees.of(forest_of(model), group, 3)
        values = made.values(asked)
        np.testing.assert_allclose(values.sum(axis=1) + made.base, model.predict(asked, raw_score=True), atol=1e-10)
        merged = GroupTrees.of(forest_of(model), np.minimum(group, 1), 2).values(asked)
        assert np.abs(merged[:, 0] - values[:, 0]).max() > 1e-6, "groups that play together are worth more or less"
        alone = GroupTrees.of(forest_of(model), np.zeros(8, int), 1)
        np.testing.assert_allclose(alone.values(asked)[:, 0], model.predict(asked, raw_score=True) - alone.base)


class TestContributions:
    def test_every_feature_has_a_group_that_is_described(self):
        assert {feature.group for feature in FEATURES} == set(GROUPS) == set(GROUP_NAMES)
        assert [GROUP_NAMES[i] for i in GROUP_OF_FEATURE] == [feature.group for feature in FEATURES]

    def test_trees_and_formula_add_up_to_the_raw_score(self, matcher, index, lines):
        features = FeatureMaker.of(index).features(index.retrieve(lines["vendor_title"].tolist()[:50]))
        assert matcher.scorer.model is not None
        for scorer in (matcher.scorer, Scorer()):
            sums, base = contributions(scorer, features)
            assert sums.shape == (len(features), len(GROUP_NAMES))
            np.testing.assert_allclose(sums.sum(axis=1) + base, scorer.raw(features), atol=1e-6)
        assert base == FORMULA_INTERCEPT
        silent = [
            i for i, name in enumerate(GROUP_NAMES) if not any(f.group == name and f.name in FORMULA for f in FEATURES)
        ]
        assert silent
        assert (sums[:, silent] == 0).all()
        assert contributions(matcher.scorer, features[:0])[0].shape == (0, len(GROUP_NAMES))


class TestExplanation:
    def test_score_rank_and_decision_are_those_of_the_match(self, matcher, index, lines):
        titles = lines["vendor_title"].tolist()[:12]
        matches = matcher.match(upload(titles), index, k=4)
        for row in matches.to_dict("records"):
            made = matcher.explain(row["title"], row["product_id"], index, vendor_id="new")
            assert made.score == pytest.approx(row["score"], abs=1e-9)
            assert (made.rank, made.decision) == (row["rank"], row["decision"])
            assert made.product_title == row["product_title"]
            points = sum(part.points for part in made.parts)
            assert 100 * made.base_score + points == pytest.approx(100 * made.score, abs=1e-6)
            assert made.base_raw + sum(part.log_odds for part in made.parts) == pytest.approx(made.raw, abs=1e-6)

    def test_any_product_can_be_asked_for(self, matcher, index, products):
        line = products["title"].iloc[2]
        far = products["product_id"].iloc[380]
        assert far not in set(matcher.match(upload([line]), index, k=99)["product_id"])
        made = matcher.explain(line, far, index)
        assert made.rank is None
        assert made.score < 0.05
        assert line in found_in(made, "rivals"), "its rivals are the line's candidates"
        assert matcher.explain(line, None, index).product_id == products["product_id"].iloc[2]
        with pytest.raises(ValueError, match="P9999"):
            matcher.explain(line, "P9999", index)

    def test_an_unexplainable_line_says_so(self, matcher, index):
        made = matcher.explain("", None, index)
        assert (made.product_id, made.score, made.decision) == (None, 0, "no_match")
        assert "nothing" in made.text
        assert len(made.table()) == 1
        assert matcher.explain("", "P0003", index).rank is None

    def test_words_of_planted_pairs(self, matcher, index, products):
        title = products["title"].iloc[3]
        assert title.endswith("12yr 1L")
        made = matcher.explain(title.replace("1L", "70cl"), "P0003", index)
        assert "size conflicts: line says 700 ml, product 1 l" in made.text
        assert "size 1 l agrees" not in made.text
        made = matcher.explain(title.replace("Norvik", "Norvk"), "P0003", index)
        assert 'misspelt "norvk" read as "norvik"' in made.text
        assert "size 1 l agrees" in found_in(made, SIZES)
        made = matcher.explain(f"{title} 12-pack", "P0003", index)
        assert "pack: line says 12, product none" in made.text

    def test_a_past_line_is_told_with_whose_it_was(self, matcher, index, lines, products):
        counts = lines["product_id"].value_counts()
        line = lines[lines["product_id"].isin(counts.index)].iloc[7]
        told = {
            vendor: found_in(
                matcher.explain(line["vendor_title"], line["product_id"], index, vendor_id=vendor),
                "past lines of vendors",
            )
            for vendor in ("someone", line["vendor_id"])
        }
        assert "another vendor wrote it the same way" in told["someone"]
        assert "this vendor wrote it the same way before" in told[line["vendor_id"]]
        assert "the same way" not in matcher.explain("Norvik", line["product_id"], index).text

    def test_prices_and_encoder_are_told_where_there_are_any(self, index, lines, products):
        names = product_names(products, lines)
        encoder = LetterEncoder()
        made = Matcher(Lexical.fit(names["name"].tolist()), encoder=encoder)
        with_encoder = made.build_index(products, names, config=IndexConfig(threads=1))
        title = products["title"].iloc[0]
        explained = made.explain(title, "P0000", with_encoder, price=float(products["price"].iloc[0]) * 3)
        assert "meaning 100 % alike" in found_in(explained, "meaning (encoder)")
        assert found_in(explained, "price") == "price differs: line says 15.00, product 5.00"
        assert "price agrees" in found_in(made.explain(title, "P0000", with_encoder, price=5.0), "price")
        assert found_in(made.explain(title, "P0000", with_encoder), "price") == ""

    def test_text_is_one_line_the_strongest_first(self):
        def part(group, odds, *findings):
            return Part(group, tuple(Finding(group, *finding) for finding in findings), odds, 10 * odds)

        parts = (
            part("a", 0.5, (AGREES, "a agrees"), (MISSING, "a lacks")),
            part("b", -3.0, (AGREES, "b agrees"), (MISSING, "b lacks")),
            part("c", 2.0, (NOTE, "c is so")),
            part("d", 1.0, (MISSING, "d lacks")),
            part("e", 0.001, (CONFLICTS, "e conflicts"), (AGREES, "e agrees")),
            part(PACKS, 0.0, (AGREES, "pack agrees")),
        )
        made = Explanation("l", "p", "t", 0.5, None, 1, 0, 0, 0, parts)
        assert made.text == "b lacks (-30); c is so (+20); d lacks; a agrees (+5); e conflicts; pack agrees"
        assert made.table()["group"].tolist() == ["(start)", "b", "c", "d", "a", "e", PACKS]
        assert "\n" not in made.text

    def test_the_nearest_rival_is_told_with_what_it_does_worse(self, matcher, index, products):
        made = matcher.explain(products["title"].iloc[2], "P0002", index)
        said = found_in(made, "rivals")
        rival = matcher.match(upload([products["title"].iloc[2]]), index, k=2).iloc[1]
        assert f'"{rival["product_title"]}" {made.score - rival["score"]:.2f} behind: its ' in said
        other = matcher.explain(products["title"].iloc[2], rival["product_id"], index)
        assert f'"{products["title"].iloc[2]}" {made.score - rival["score"]:.2f} ahead' in found_in(other, "rivals")


class TestWhy:
    def test_the_best_of_every_line_has_its_words_and_nothing_else_changes(self, matcher, index, lines, monkeypatch):
        titles = ["", *lines["vendor_title"].tolist()[:60], "жжж"]
        plain = matcher.match(upload(titles), index, k=3)
        monkeypatch.setattr("shelfwise.matching.matcher.CHUNK", 17)
        told = matcher.match(upload(titles), index, k=3, explain=True)
        pd.testing.assert_frame_equal(told.drop(columns="why"), plain, rtol=1e-4)
        assert list(told)[-1] == "why"
        best = told[told["rank"] == 1]
        assert told.loc[told["rank"] > 1, "why"].isna().all()
        for row in best.to_dict("records")[1:10]:
            assert row["why"] == matcher.explain(row["title"], row["product_id"], index, vendor_id="new").text
        assert best["why"].iloc[0] == matcher.explain("", None, index).text
        assert matcher.match(upload([]), index, explain=True).empty

    def test_not_asked_for_it_costs_nothing(self, matcher, index, monkeypatch):
        def never(*_):
            raise AssertionError("explained without being asked")

        monkeypatch.setattr(module, "contributions", never)
        monkeypatch.setattr(module.Explainer, "__init__", never)
        assert not matcher.match(upload(["gin"]), index).empty

    def test_a_rival_is_told_with_what_it_does_better(self, matcher):
        titles = ["Norvik Heron Gin Lemon 700ml", "Norvik Heron Gin Orange 700ml"]
        products = pd.DataFrame({"product_id": ["A", "B"], "title": titles, "brand": ["Norvik", None]})
        two = CatalogIndex.build(products, product_names(products), matcher.lexical, config=IndexConfig(threads=1))
        said = found_in(matcher.explain("norvik heron gin ornge 700ml", "A", two), "rivals")
        assert said.endswith('ahead, though misspelt "ornge" read as "orange"')
        said = found_in(matcher.explain("norvik heron gin lemon 700ml", "A", two), "rivals")
        assert said.endswith('behind: its word "orange" missing in line'), "that the rival has the brand too is no news"

    def test_a_product_without_brand_price_and_past_lines(self, matcher, products):
        bare = products[["product_id", "title"]].head(20)
        names = product_names(bare)
        small = CatalogIndex.build(bare, names, matcher.lexical, config=IndexConfig(threads=1))
        told = matcher.match(upload(bare["title"].tolist()), small, explain=True)
        assert told[told["rank"] == 1]["why"].str.contains("the same as the catalog title").all()
        assert "brand" not in " ".join(told["why"].dropna())


def test_the_command_prints_candidates_and_explanation(matcher, index, tmp_path, capsys, products):
    matcher.save(tmp_path / "matcher")
    index.save(tmp_path / "index")
    arguments = [str(tmp_path / "matcher"), str(tmp_path / "index"), products["title"].iloc[3].replace("1L", "70cl")]
    assert module.main([*arguments, "P0003"]) == 0
    out = capsys.readouterr().out
    assert "  1  " in out
    assert products["title"].iloc[2] in out
    assert "size conflicts: line says 700 ml, product 1 l" in out
    assert module.main(arguments) == 0
    assert "rank 1" in capsys.readouterr().out
    assert module.main([*arguments, "nothing"]) == 1
    assert "not in the index" in capsys.readouterr().err


def test_explanations_are_plain_values(matcher, index, products):
    made = dataclasses.asdict(matcher.explain(products["title"].iloc[0], "P0000", index))
    assert {type(made[name]) for name in ("score", "raw", "base_raw", "base_score")} == {float}
    assert {type(part["points"]) for part in made["parts"]} == {float}
