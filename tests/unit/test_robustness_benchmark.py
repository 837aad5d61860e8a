"""The benchmark on disfigured names: which names count, what can be told at all, and that it runs."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from benchmarks import report, robustness
from benchmarks.robustness import NONE, Ceiling, draw_catalog, read_names
from shelfwise.matching.noise import Noise


@pytest.fixture
def data(tmp_path):
    kinds, flavours = (
        ("Sparkling Water", "Granola Bar", "Dry Gin", "Pasta Sauce"),
        ("Lemon", "Cherry", "Garlic", "Honey"),
    )
    grocery = [
        f"{brand} {flavour} {kind}"
        for brand in ("Norvik", "Tolosa", "Okarito")
        for flavour in flavours
        for kind in kinds
    ]
    for folder in ("iowa-liquor", "instacart"):
        (tmp_path / folder).mkdir()
    pd.DataFrame({"item_description": ["DRY GIN  12", "12 Dry Gin", None, " - ", "DRY-GIN 13"]}).to_csv(
        tmp_path / "iowa-liquor" / "items.csv"
    )
    pd.DataFrame({"product_name": [*grocery, "Gin, Dry 12"]}).to_csv(tmp_path / "instacart" / "products.csv")
    return tmp_path


def test_names_are_distinct_as_bags_of_words(data):
    names = read_names(data)
    assert names[:2] == ["DRY GIN 12", "DRY-GIN 13"]
    assert len(names) == 2 + 48
    assert len(read_names(data, as_bags=False)) == 4 + 48
    drawn = draw_catalog(names, 20, seed=1)
    assert drawn["title"].is_unique
    assert drawn.equals(draw_catalog(names, 20, seed=1))
    assert len(draw_catalog(names, 10_000, seed=1)) == 50


class TestCeiling:
    dropping = Noise(dropped=0.5, shortened=0, shuffled=True, typos=0)

    def test_without_noise_everything_is_told(self):
        titles = ["red wine", "wine white", "Red wine dry"]
        assert Ceiling(titles, NONE).share(titles, [0, 1, 2]) == 1.0

    def test_equally_good_explanations_are_drawn_from(self):
        made = Ceiling(["red wine", "white wine"], self.dropping)
        assert made.share(["wine"], [0]) == 0.5
        assert made.share(["red"], [0]) == 1.0
        assert made.share(["wine", "red"], [0, 0]) == 0.75

    def test_the_likelier_explanation_is_named(self):
        """'wine' is left of 'wine' for sure, of 'red wine' every other time."""
        made = Ceiling(["wine", "red wine"], self.dropping)
        assert made.share(["wine"], [0]) == 1.0
        assert made.share(["wine"], [1]) == 0.0

    def test_short_forms_count_by_their_chance(self):
        made = Ceiling(["caramel", "carrots", "crml"], Noise(dropped=0, shortened=0.2, typos=0))
        assert made.share(["car"], [0]) == 0.5
        assert made.share(["crml"], [0]) == 0.0
        assert made.share(["crrts", "Cara"], [1, 0]) == 1.0

    def test_words_dropped_one_by_one(self):
        made = Ceiling(["a b", "a b c", "a"], Noise(dropped=0.2, shortened=0, typos=0, each=True))
        assert made.share(["b a"], [0]) == 1.0
        assert made.share(["b a"], [1]) == 0.0
        assert made.share(["a"], [2]) == 1.0


def test_it_runs_and_its_section_can_be_rendered(data, capsys, monkeypatch):
    monkeypatch.setattr(robustness, "use_two_cores", lambda: 1)
    flags = ["--lines", "30", "--trained-lines", "40", "--rapidfuzz", "10", "--seeds", "2", "--threads", "1"]
    assert robustness.main([str(data), *flags]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["products"] == found["names"] == 50
    assert 0.3 < found["top1"] <= found["top5"] <= found["recall"] <= 1
    assert found["top1_low"] <= found["top1"] <= found["top1_high"]
    assert sum(row["lines"] for row in found["by_words"].values()) == found["lines"]
    assert set(found["alone"]) == {"shuffled", "typos", "dropped", "shortened"}
    assert found["alone"]["shuffled"]["ceiling"] == 1.0
    assert 0 < found["readings"]["names_distinct_as_texts_only"]["top1"] <= 1
    text = report.render({"robustness": found | {"how": []}})
    assert "## Real names, disfigured" in text
    assert "RapidFuzz token_set (20 lines)" in text
