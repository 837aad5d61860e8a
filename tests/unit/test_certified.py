"""The benchmark of decisions with a guarantee: what it makes of folds and of disagreements."""

import json

import numpy as np
import pandas as pd
import pytest

from benchmarks import certified, report
from benchmarks.certified import NOWHERE, about_disagreements, holds_codes, over_folds


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
