"""The drift benchmark: what it plants, what it counts, and how it is told."""

from __future__ import annotations

import argparse
from typing import Any

import pandas as pd
import pytest

from benchmarks import common, drift, report
from shelfwise.monitoring.drift import Judgement


def test_every_change_changes_what_it_says() -> None:
    file = pd.DataFrame({"title": ["Norvik Dry Gin 70cl 6 pack", "Abermuir Malt (1.5 L)"], "price": [2.0, 30.0]})
    changed = {name: change(file) for name, change in drift.CHANGES.items()}
    assert changed["upper_case"]["title"].tolist() == ["NORVIK DRY GIN 70CL 6 PACK", "ABERMUIR MALT (1.5 L)"]
    assert changed["no_sizes"]["title"].tolist() == ["Norvik Dry Gin", "Abermuir Malt"]
    assert changed["price_x100"]["price"].tolist() == [200, 3000]
    assert changed["unknown_brand"]["title"].str.startswith("Zorgonix ").all()
    assert changed["article_numbers"]["title"].str.match(r"\d{8} ").all()
    assert not set(changed["other_language"]["title"][0].split()) & {"norvik", "dry", "gin"}
    assert "70cl" in changed["other_language"]["title"][0]
    assert file["price"].tolist() == [2.0, 30.0], "the undisturbed file stays as it is"


def test_rates_count_files() -> None:
    nothing = pd.DataFrame()
    found = [
        Judgement("ok", nothing, ""),
        Judgement("warn", nothing, "", "inputs", 0.25, ("tokens", "price")),
        Judgement("fail", nothing, "", "inputs", 0.5, ("tokens", "price", "unit", "digits")),
        Judgement("ok", nothing, ""),
    ]
    wanted = {"files": 4, "called": 0.5, "failed": 0.25, "measures": 1.5}
    assert drift.rates(found) == wanted
    assert drift.rates([]) == {"files": 0}


@pytest.mark.slow
def test_a_small_run_is_rendered(monkeypatch: pytest.MonkeyPatch) -> None:
    given = argparse.Namespace(products=600, files=3, lines=60, steps=20, seeds=1, data=None)
    monkeypatch.setattr(drift, "SMALL", 25)
    monkeypatch.setattr(drift, "LARGE", 500)
    found: dict[str, Any] = common.plain(drift.run(given))
    (one,) = found["synthetic"]
    assert one["new_vendors"]["whole"]["files"] == 3
    assert one["known_vendors"]["whole"]["files"] >= 1
    assert one["new_vendors"]["price_x100"]["called"] == 1
    assert one["large"]["lines"] >= 500
    text = report.render({"drift": found})
    assert "## Drift: false alarms, and changes seen" in text
    assert "| synthetic, seed 0 | vendors never seen | prices a hundredfold | 100.0% |" in text
