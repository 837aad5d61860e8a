"""The benchmark of decisions with a guarantee: what it makes of folds and of disagreements."""

import json

import numpy as np
import pandas as pd
import pytest

from benchmarks import certified, report, thresholds
from benchmarks.certified import NOWHERE, about_disagreements, holds_codes, over_folds
from shelfwise.matching.guarantee import Goal


def fold(approved: int, right: int, with_product: int, bound: float | None) -> dict:
    certificate = {"bound": bound or 0.5, "threshold": None if bound is None else 0.9}
    told = {
        "certificate": certificate,
        "approved": approved,
        "approved_precision": right / approved if approved else float("nan"),
        "approved_coverage": right / with_product,
    }
    return {"with_product": with_product, "targets": {"p95": told}}


def test_folds_are_added_up_by_lines_and_one_without_a_certificate_counts_in_the_coverage():
    found = over_folds([fold(100, 97, 200, 0.96), fold(0, 0, 300, None), fold(50, 50, 100, 0.955)])["p95"]
    assert found["certified_folds"] == 2
    assert found["lowest_bound"] == 0.955
    assert found["precision"] == pytest.approx(147 / 150)
    assert found["coverage"] == pytest.approx(147 / 600)


def test_a_line_speaks_for_the_product_whose_codes_it_holds():
    assert holds_codes("neff k1514x7gb integrated larder fridge", "Neff K1514X7GB Integrated")
    assert holds_codes("smeg dc122w 1 white dishwasher", "Smeg DC122W-1 White")
    assert not holds_codes("neff k1514x7gb integrated larder fridge", "Hotpoint WMEF742G")
    assert not holds_codes("a red lamp", "Red Lamp")


def test_disagreements_are_told_without_their_lines():
    wrong = [
        {"score": 0.99, "line": "neff k1514x7gb fridge", "found": "Neff K1514X7GB", "label": "Hotpoint WMEF742G"},
        {"score": 0.97, "line": "lg g2", "found": "LG G2 Mini", "label": NOWHERE},
    ]
    told = about_disagreements(wrong)
    assert told == {"shown": 2, "not_in_catalog": 1, "codes_of_found_only": 1, "lowest_score": 0.97}
    assert about_disagreements([])["lowest_score"] is None
    result = {"pricerunner": {"over_folds": {}, "disagreements": told}}
    assert "Of the 2 surest disagreements" in report._certified(result)


def test_linking_is_certified_on_two_tables(tmp_path, capsys, monkeypatch):
    """Pairs of a directory in the form of Abt-Buy: thresholds come from train and valid, lines to decide from test."""
    from shelfwise.matching import linking
    from tests.unit.test_linking import write_source

    write_source(tmp_path)
    quick = linking.LinkerConfig(rounds=40, folds=3, threads=1)
    monkeypatch.setattr(linking.CatalogLinker, "__init__", _with(quick, linking.CatalogLinker.__init__))
    table = pd.read_csv(tmp_path / "tableB.csv").rename(columns={"title": "name"})
    table.to_csv(tmp_path / "tableB.csv", index=False)
    out, shown = certified.on_abt_buy(tmp_path)
    assert out["lines"] > 5
    assert set(out["targets"]) == {"p95", "p99"}
    assert all(np.isfinite(one["score"]) for one in shown)
    json.dumps(about_disagreements(shown))


def _with(config, init):
    return lambda self, given=None: init(self, given or config)


@pytest.mark.parametrize("curve", [thresholds.power, thresholds.logistic])
@pytest.mark.parametrize("together", [1, 5])
def test_simulated_lines_are_certified_more_often_than_by_three_starts(curve, together):
    found = thresholds.compare(curve, 0.95, 1000, 40, together)
    assert found["boundary"]["coverage"] > found["three_starts"]["coverage"] > 0
    assert found["boundary"]["missed"] <= 0.05
    at = np.linspace(0.001, 0.999, 200)
    wrong = curve(np.random.default_rng(3), at, 0.05)
    assert (np.diff(wrong) >= 0).all()
    assert 0 <= wrong[0] < wrong[-1] <= 1


def test_three_starts_share_the_risk():
    product, right = np.arange(2000), np.ones(2000, bool)
    goal = Goal(0.95)
    assert thresholds.three_starts(right, goal, None) == 2000
    assert thresholds.three_starts(~right, goal, None) == 0
    right[:20] = False  # an eighth and a quarter fail, half does not
    assert thresholds.three_starts(right, goal, product) == 2000
    assert thresholds.three_starts(right[:1000], goal, product[:1000]) == 0
