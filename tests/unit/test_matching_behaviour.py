"""How a trained matcher must behave, whatever its scores: what may not change the product and what must, and input
that is not what one hopes for.
"""

import json
import random

import numpy as np
import pandas as pd
import pytest

from shelfwise.matching.decisions import Thresholds
from shelfwise.matching.index import CatalogIndex, IndexConfig, product_names
from shelfwise.matching.lexical import Lexical
from shelfwise.matching.matcher import Matcher
from shelfwise.matching.scorer import ScorerConfig
from tests.unit.matching_samples import BRANDS, catalog, positives

CONFIG = ScorerConfig(rounds=80, leaves=15, least_in_leaf=20)
ONE_THREAD = IndexConfig(threads=1)


def with_packs(products: pd.DataFrame) -> pd.DataFrame:
    """The sample catalog and, of each brand, a cola in cans and bottles, single and in packs."""
    rows = [
        {"title": f"{brand} {line} Cola {size}{pack}", "category": "Shop > Cola", "brand": brand, "size": size}
        for brand in BRANDS
        for line in ("Heron", "Falcon")
        for size in ("330ml", "500ml")
        for pack in ("", " 6 pack", " 12 pack")
    ]
    added = pd.DataFrame(rows).assign(product_id=[f"C{i:03d}" for i in range(len(rows))], price=9.0)
    return pd.concat([products, added], ignore_index=True)


@pytest.fixture(scope="module")
def products() -> pd.DataFrame:
    return with_packs(catalog())


@pytest.fixture(scope="module")
def index(products) -> CatalogIndex:
    names = product_names(products, positives(products, 1800))
    return CatalogIndex.build(products, names, Lexical.fit(names["name"].tolist()), config=ONE_THREAD)


@pytest.fixture(scope="module")
def matcher(index, products) -> Matcher:
    return Matcher.fit(positives(products, 1800), index, config=CONFIG, thresholds=Thresholds())


@pytest.fixture(scope="module")
def fresh(matcher, products) -> CatalogIndex:
    """The catalog without any past line: what is found is found by the titles."""
    return matcher.build_index(products, product_names(products), config=ONE_THREAD)


def best(matcher: Matcher, index: CatalogIndex, titles: list[str]) -> pd.DataFrame:
    """The first candidate of each title."""
    return matcher.match(pd.DataFrame({"title": titles, "vendor_id": "new"}), index, k=1)


def small(matcher: Matcher, titles: list[str], **columns) -> CatalogIndex:
    products = pd.DataFrame({"product_id": [f"S{i}" for i in range(len(titles))], "title": titles, **columns})
    return matcher.build_index(products, product_names(products), config=ONE_THREAD)


class TestInvariance:
    """What must not change the product."""

    @pytest.fixture(scope="class")
    def sample(self, products) -> pd.DataFrame:
        return products.sample(80, random_state=4)

    def test_a_typo(self, matcher, fresh, sample):
        chance = random.Random(1)
        written = []
        for title in sample["title"]:
            words = title.split()
            i = chance.choice([j for j, word in enumerate(words) if word.isalpha() and len(word) >= 5])
            at = chance.randrange(1, len(words[i]) - 1)
            changed = (words[i][:at] + words[i][at + 1 :], words[i][:at] + chance.choice("qxz") + words[i][at + 1 :])
            words[i] = chance.choice(changed)
            written.append(" ".join(words))
        found = best(matcher, fresh, written)["product_id"].to_numpy()
        assert (found == sample["product_id"].to_numpy()).all()

    def test_shuffled_words(self, matcher, fresh, sample):
        chance = random.Random(2)
        written = [" ".join(chance.sample(words := title.split(), len(words))) for title in sample["title"]]
        # "6 pack" is one thing in two words: a shuffled one is another line, not another order.
        whole = [("6 pack" in w) or ("12 pack" in w) or ("pack" not in w) for w in written]
        assert sum(whole) > 60
        found = best(matcher, fresh, written)["product_id"].to_numpy()
        assert (found == sample["product_id"].to_numpy())[whole].all()

    def test_case_white_space_and_units(self, matcher, fresh, sample):
        written = [
            title.upper().replace(" ", "  ").replace("700ML", "70 CL").replace("1KG", "1000 g").replace("1L", "1 litre")
            for title in sample["title"]
        ]
        found = best(matcher, fresh, written)
        assert found["product_id"].tolist() == sample["product_id"].tolist()
        plain = best(matcher, fresh, sample["title"].tolist())
        np.testing.assert_allclose(found["score"], plain["score"], atol=0.02)


class TestDirection:
    """What must change the product, or at least the decision."""

    def test_another_size_or_pack_is_another_product(self, matcher, fresh, products):
        """All variants of a product exist; each line must find its own, with the words in another order."""
        variants = products[products["category"].isin(["Shop > Whisky", "Shop > Cola", "Shop > Phone"])]
        written = [" ".join([*(words := title.lower().split())[1:], words[0]]) for title in variants["title"]]
        found = best(matcher, fresh, written)
        assert found["product_id"].tolist() == variants["product_id"].tolist()

    @pytest.mark.parametrize(
        ("line", "other", "conflict"),
        [
            ("Norvik Heron Single Malt Whisky 12yr 700ml", "Norvik Heron Single Malt Whisky 12yr 1L", "size conflicts"),
            ("Norvik Heron Cola 330ml 12 pack", "Norvik Heron Cola 330ml 6 pack", "pack conflicts"),
            ("Tolosa Falcon Smartphone Black 64GB", "Tolosa Falcon Smartphone Black 128GB", "storage conflicts"),
            ("Tolosa Heron Single Malt Whisky 12yr 1L", "Tolosa Heron Single Malt Whisky 18yr 1L", "age conflicts"),
        ],
    )
    def test_the_other_variant_scores_far_less_and_the_explanation_says_what_conflicts(
        self, matcher, fresh, products, line, other, conflict
    ):
        of = products.set_index("title")["product_id"]
        right, wrong = (matcher.explain(line, of[title], fresh) for title in (line, other))
        assert right.rank == 1
        assert wrong.score < 0.1 < 0.5 < right.score
        assert conflict in wrong.text
        assert "conflicts" not in right.text.replace("its " + conflict, "")

    def test_more_agreement_never_scores_less(self, matcher, fresh, products):
        """A line that names more of the product's words, up to all of them, does not lose it."""
        title = products["title"].iloc[10]
        words = title.split()
        scores = [matcher.explain(" ".join(words[:n]), products["product_id"].iloc[10], fresh).score for n in (2, 4, 9)]
        assert scores[0] < scores[1] < scores[2] + 1e-9
        assert scores[2] > 0.5

    def test_clear_lines_are_approved(self, matcher, fresh, products):
        """Else what follows about lines that are not approved would say nothing."""
        found = best(matcher, fresh, products["title"].str.lower().tolist())
        assert (found["decision"] == "approved").mean() > 0.9

    def test_strangers_are_not_approved(self, matcher, index):
        strangers = ["garden hose 15m green", "hdmi cable 2m", "Vexoria Lawn Mower 40V", "paper A4 80g 500 sheets"]
        assert "approved" not in set(best(matcher, index, strangers)["decision"])


class TestBadInput:
    def test_a_catalog_of_one_product(self, matcher):
        one = small(matcher, ["Norvik Heron Dry Gin Lemon 700ml"], brand=["Norvik"])
        found = best(matcher, one, ["norvik heron dry gin lemon 70cl", "garden hose 15m", "", "norvik heron 1l"])
        assert found["product_id"].iloc[0] == "S0"
        assert found["score"].iloc[0] > found["score"].iloc[3] >= found["score"].iloc[2] == 0
        assert found["decision"].iloc[1:].tolist() == ["no_match"] * 3
        assert "no rival came near" in matcher.explain("norvik heron gin", "S0", one).table()["found"].str.cat()

    def test_a_catalog_of_identical_titles(self, matcher):
        same = small(matcher, ["Norvik Heron Dry Gin Lemon 700ml"] * 5)
        titles = ["Norvik Heron Dry Gin Lemon 700ml"]
        found = matcher.match(pd.DataFrame({"title": titles}), same, k=5)
        assert found["product_id"].tolist() == [f"S{i}" for i in range(5)], "equals come in the catalog's order"
        assert found["score"].sum() <= 1 + 1e-9
        assert found["decision"].iloc[0] != "approved", "one of five equals is a guess"
        assert "4 other products have the same title" in matcher.explain(titles[0], "S0", same).text

    def test_empty_titles(self, matcher):
        empty = small(matcher, ["", "   ", "", "Norvik Heron Gin 700ml"])
        found = best(matcher, empty, ["", "norvik heron gin 70cl", " - "])
        assert found["product_id"].iloc[1] == "S3"
        assert found["decision"].iloc[[0, 2]].tolist() == ["no_match"] * 2
        nothing = small(matcher, ["", ""])
        assert best(matcher, nothing, ["norvik", ""])["decision"].tolist() == ["no_match"] * 2
        assert matcher.explain("norvik", "S0", nothing).score < 0.5

    def test_an_empty_catalog(self, matcher):
        nothing = small(matcher, [])
        found = best(matcher, nothing, ["norvik heron gin", ""])
        assert found["decision"].tolist() == ["no_match"] * 2
        assert found["product_id"].isna().all()

    def test_vendors_with_one_line_each(self, products):
        lines = positives(products, 300)
        lonely = lines.assign(vendor_id=[f"v{i}" for i in range(len(lines))])
        names = product_names(products, lonely)
        made = CatalogIndex.build(products, names, Lexical.fit(names["name"].tolist()), config=ONE_THREAD)
        fitted = Matcher.fit(lonely, made, config=CONFIG)
        found = best(fitted, made, products["title"].head(40).tolist())
        assert (found["product_id"].to_numpy() == products["product_id"].head(40).to_numpy()).mean() > 0.95
        one = Matcher.fit(lines.head(1), made)
        assert best(one, made, [products["title"].iloc[0]])["product_id"].tolist() == [products["product_id"].iloc[0]]

    @pytest.mark.parametrize(
        "line", ["виски двенадцать лет", "ウイスキー 700ml", "威士忌", "ويسكي", "🥃🥃", "\u200b\u200b", "Ω≈ç√∫"]
    )
    def test_a_line_in_another_script(self, matcher, index, line):
        found = best(matcher, index, [line, "norvik heron gin lemon 700ml"])
        assert len(found) == 2
        assert found["decision"].iloc[0] == "no_match"
        assert found["title"].iloc[0] == line
        assert matcher.explain(line, "P0000", index).text

    def test_a_catalog_in_another_script(self, matcher):
        there = small(matcher, ["Виски Норвик 12 лет 700 мл", "Виски Толоза 18 лет 700 мл", "Джин Норвик лимон 1 л"])
        found = best(matcher, there, ["виски толоза 18 лет", "ДЖИН НОРВИК ЛИМОН"])
        assert found["product_id"].tolist() == ["S1", "S2"]

    @pytest.mark.parametrize("line", ["12345", "700", "5012345678900", "0", "1" * 400, "12 12 12", "-1", "1e308", "٣٤"])
    def test_numbers_only(self, matcher, index, line):
        found = best(matcher, index, [line])
        assert found["decision"].tolist() == ["no_match"]
        assert matcher.explain(line, "P0000", index).score < 0.5

    def test_a_brand_that_is_a_common_word(self, matcher):
        titles = [f"{brand} {kind} {size}" for brand in ("Classic", "Dry", "Heron") for kind in ("Gin", "Tonic Water")
                  for size in ("700ml", "1L")]  # fmt: skip
        there = small(matcher, titles, brand=[title.split()[0] for title in titles])
        found = best(matcher, there, [title.lower() for title in titles])
        assert found["product_id"].tolist() == [f"S{i}" for i in range(len(titles))]
        explained = matcher.explain("heron dry gin 1l", "S9", there)
        assert 'brand "heron" agrees' in explained.table()["found"].str.cat(sep="; ")
        assert "another brand" not in explained.table()["found"][explained.table()["group"] == "brand and words"].item()

    def test_variants_that_differ_in_one_digit(self, matcher):
        titles = [f"Okarito Bearing 62{i:02d} ZZ" for i in range(100)]
        there = small(matcher, titles)
        asked = [f"bearing okarito 62{i:02d}zz" for i in range(0, 100, 7)] + [
            f"OKARITO 62{i:02d}" for i in range(3, 99, 9)
        ]
        wanted = [f"S{i}" for i in range(0, 100, 7)] + [f"S{i}" for i in range(3, 99, 9)]
        assert best(matcher, there, asked)["product_id"].tolist() == wanted
        wrong = matcher.explain("Okarito Bearing 6217 ZZ", "S18", there)
        assert wrong.score < 0.5
        assert "conflicts" in wrong.text
        assert "6217" in wrong.text
        assert best(matcher, there, ["Okarito Bearing 6317 ZZ"])["decision"].item() != "approved"

    def test_contradictory_labels_do_not_stop_training(self, products, index):
        """The same words of one vendor for two products: neither may be approved."""
        lines = positives(products, 600)
        torn = pd.concat([lines, lines.head(300).assign(product_id=lines["product_id"].iloc[300:].to_numpy())])
        fitted = Matcher.fit(torn, index, config=CONFIG)
        clean = Matcher.fit(lines, index, config=CONFIG)
        asked = products["title"].head(60).tolist()
        sure, unsure = (best(made, index, asked) for made in (clean, fitted))
        assert unsure["score"].mean() < sure["score"].mean(), "contradictions make it less sure of itself"

    @pytest.mark.parametrize("file", ["scorer.json", "decisions.json"])
    def test_a_matcher_of_another_version_is_refused_with_the_reason(self, matcher, tmp_path, file):
        matcher.save(tmp_path)
        raw = json.loads((tmp_path / file).read_text())
        assert "format" in raw
        (tmp_path / file).write_text(json.dumps({**raw, "format": 999}))
        with pytest.raises(ValueError, match="version"):
            Matcher.load(tmp_path)
