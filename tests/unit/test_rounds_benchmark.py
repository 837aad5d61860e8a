"""The benchmark of corrections released round by round: what is released when, what is counted, and the loop itself."""

import json

import numpy as np
import pandas as pd
import pytest

from benchmarks import pictures, report, rounds
from benchmarks.rounds import NEVER, Plan, deal, difference, lowered, make_plan
from resources.trainer import InProcessTrainer
from shelfwise.text import normalise


@pytest.fixture(scope="module")
def offers():
    """A catalog in the columns of PriceRunner's offers: 24 vendors, each with a fair share of 300 products."""
    from shelfwise.synthetic import SyntheticConfig, generate

    config = SyntheticConfig(
        n_products=300, n_mappings=2400, n_vendors=24, n_uploads=0, n_listings=0, n_sessions=0, seed=5
    )
    made = generate(config)
    joined = made.mappings.merge(made.products, on="product_id")
    return pd.DataFrame(
        {
            "product_title": joined["vendor_title"],
            "vendor_id": joined["vendor_id"],
            "cluster_id": joined["product_id"],
            "cluster_label": joined["title"],
            "category_label": joined["category"].str.split(" > ").str[0],
        }
    )


# ---- what is released when -------------------------------------------------------------------------------------------


def test_a_few_large_vendors_begin_and_the_others_follow_in_rounds_of_about_equal_size():
    sizes = pd.Series({f"v{i}": 5 + i for i in range(60)})
    number = deal(sizes, 4, 3, 50, seed=1)
    openers = [vendor for vendor, at in number.items() if at == 0]
    assert len(openers) == 3
    assert all(sizes[vendor] >= 50 for vendor in openers)
    of_round = sizes.groupby(pd.Series(number)).sum()
    assert sorted(of_round.index) == [0, 1, 2, 3, 4]
    assert of_round[1:].max() < 1.5 * of_round[1:].min()
    assert deal(sizes, 4, 3, 50, seed=1) == number
    assert deal(sizes, 4, 3, 50, seed=2) != number


def test_where_no_vendor_is_large_enough_the_largest_begin():
    number = deal(pd.Series({"a": 1, "b": 9, "c": 5, "d": 2}), 2, 2, 100, seed=0)
    assert {vendor for vendor, at in number.items() if at == 0} == {"b", "c"}
    assert {number["a"], number["d"]} <= {1, 2}


def test_lines_that_are_measured_are_never_released_and_do_not_depend_on_the_order(offers):
    plan, other = (make_plan(offers, seed, rounds=3, openers=2, least=20) for seed in (0, 1))
    pd.testing.assert_frame_equal(plan.test[["vendor_id", "vendor_title"]], other.test[["vendor_id", "vendor_title"]])
    assert plan.lines["round"].tolist() != other.lines["round"].tolist()
    released = plan.released(*range(4))
    assert len(released) + len(plan.test) == len(plan.lines)
    assert not set(released["vendor_id"]) & set(plan.test.loc[plan.test["round"] == NEVER, "vendor_id"])

    def forms(lines):
        return {(v, normalise(t)) for v, t in zip(lines["vendor_id"], lines["vendor_title"], strict=True)}

    assert not forms(released) & forms(plan.test)
    assert plan.released(NEVER).empty


def test_withheld_products_are_in_no_catalog_and_their_lines_match_nothing(offers):
    plan = make_plan(offers, withheld=0.3)
    gone = set(offers["cluster_id"]) - set(plan.products["product_id"])
    assert 0.1 < len(gone) / offers["cluster_id"].nunique() < 0.5
    assert set(plan.lines["product_id"]) - {""} == set(plan.products["product_id"])
    assert (plan.lines["product_id"] == "").sum() == offers["cluster_id"].isin(gone).sum()


def test_groups_follow_what_has_come_in():
    lines = pd.DataFrame({"round": [0, 1, 2, NEVER, 1], "test": [True, True, True, True, False]})
    groups = Plan(pd.DataFrame(), lines, 2).groups(1)
    found = {name: mask.tolist() for name, mask in groups.items()}
    assert found == {
        "all": [True] * 4,
        "now": [False, True, False, False],
        "earlier": [True, False, False, False],
        "others": [False, False, True, True],
        "ever": [True, True, True, False],
        "never": [False, False, False, True],
    }


# ---- what is counted -------------------------------------------------------------------------------------------------


def frame(ranks, in_catalog=None):
    ranks = np.array(ranks)
    inside = np.ones(len(ranks), bool) if in_catalog is None else np.array(in_catalog)
    decision = np.where(ranks == 1, "approved", "review")
    return pd.DataFrame(
        {"rank": ranks, "in_catalog": inside, "has_match": inside, "right": ranks == 1, "decision": decision}
    )


def test_a_difference_is_paired_and_counts_lines_with_a_product():
    old, new = frame([1, 2, 7, 0, 0], [True] * 4 + [False]), frame([1, 1, 3, 0, 1], [True] * 4 + [False])
    found = difference(new, old, np.ones(5, bool))
    assert found["top1"] == pytest.approx(1 / 4)
    assert found["top5"] == pytest.approx(1 / 4)
    assert found["top1_low"] <= found["top1"] <= found["top1_high"]
    assert difference(new, new, np.ones(5, bool))["top1_high"] == 0


def test_a_promotion_counts_as_lowering_where_either_measure_fell_and_a_refusal_never():
    gains = [(True, 0.01, 0.0), (True, 0.01, -0.002), (False, -0.5, -0.5), (True, -0.001, -0.003)]
    given = [
        {"round": i, "promoted": promoted, "promotion": {"top1": top1, "top5": top5}}
        for i, (promoted, top1, top5) in enumerate(gains, 1)
    ]
    found = lowered([{"round": 0, "promoted": True}, *given])
    assert [words.split(":")[0] for words in found] == ["round 2", "round 4"]
    assert "top5 by 0.0020" in found[0]
    assert "top1" not in found[0]


class FakeGraph:
    """Stands for the graph: champions are columns of ranks, and a script says what the gate lets pass."""

    script = (True, True, False)

    def __init__(self, folder, plan, released, seed):
        self.plan, self.learnt, self.names, self.now = plan, 0, 0, 0
        self.once = len(released) > 1

    def answer(self, lines, everything=True):
        assert not lines["test"].any()
        return {"lines": len(lines), "vendors": 1, "answers": len(lines)}

    def follow(self):
        self.names += 1

    def learn(self, followed):
        promoted = self.script[self.learnt]
        self.made, self.learnt = self.learnt + 1, self.learnt + 1
        if promoted:
            self.now, self.names = self.made, 0
        return rounds.Outcome(promoted, f"v{self.now}", "so the gate said")

    def champion(self):
        return self, 10 * self.now + self.names

    def candidate(self):
        return self, 90 if self.once else 10 * self.made

    def table(self, *key):
        return pd.DataFrame({"label": [1], "split": ["train"]})


def test_after_a_refusal_stands_the_former_champion_with_the_names_it_has_learnt(monkeypatch, tmp_path):
    """`right`: of a hundred lines so many are found by version `state // 10` with names learnt `state % 10` times."""
    plan = Plan(
        pd.DataFrame(),
        pd.DataFrame({"vendor_id": "v", "round": [0, 1, 2, NEVER] * 25, "test": [True] * 100}),
        rounds=2,
    )
    right = {10: 50, 11: 55, 20: 70, 21: 72, 30: 40, 90: 75}
    monkeypatch.setattr(rounds, "Graph", FakeGraph)
    monkeypatch.setattr(
        rounds, "outcomes", lambda _, state, test: frame([1] * right[state] + [0] * (100 - right[state]))
    )
    found = rounds.play(plan, tmp_path, 0, True, tmp_path / "clock")
    stages = [
        [round(100 * one[stage]["all"]["top1"]) for stage in ("before", "names", "candidate", "after") if stage in one]
        for one in found["rounds"]
    ]
    assert stages == [[50], [50, 55, 70, 70], [70, 72, 40, 72]]
    assert [one["promoted"] for one in found["rounds"]] == [True, True, False]
    assert found["behind"]["all"]["top1"] == pytest.approx(0.03)
    assert found["lowered"] == []
    assert rounds.worst([found])["behind_top1"] == pytest.approx(0.03)
    assert (tmp_path / "clock").read_text().startswith("2026-03-02")


# ---- the loop itself -------------------------------------------------------------------------------------------------


def test_it_runs_and_its_section_can_be_rendered(offers, tmp_path, capsys, monkeypatch):
    """One round through the graph: answers become labelled lines and names, and nothing measured is among them."""
    from orchestration.settings import load_settings

    small = {"architecture": "static", "hidden_size": 32, "vocab_size": 800, "max_steps": 20, "num_threads": 1}
    monkeypatch.setenv("SHELFWISE_ENCODER_CONFIG", json.dumps(small))
    # A process for each of three trainings would take longer than all the rest.
    monkeypatch.setattr("resources.build.SubprocessTrainer", InProcessTrainer)
    monkeypatch.setenv("SHELFWISE_GATE_FLOOR_TOP1", "0.1")
    load_settings.cache_clear()
    offers.to_csv(tmp_path / "offers.csv", index=False)
    flags = ["--rounds", "1", "--openers", "6", "--least", "50", "--work", str(tmp_path / "work")]
    try:
        assert rounds.main([str(tmp_path), *flags]) == 0
    finally:
        load_settings.cache_clear()
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    (part,) = found["seeds"]
    first, second = part["rounds"]
    assert first["labelled"] < second["labelled"] == part["once"]["labelled"]
    assert second["answers"] == second["lines"] > 0
    plan = make_plan(rounds.pricerunner.read_offers(tmp_path), rounds=1, openers=6, least=50)
    positives = pd.read_parquet(tmp_path / "work/seed-0/rounds/lake/tables/marts/labelled_positives.parquet")
    seen = set(zip(positives["vendor_id"], positives["vendor_title"], strict=True))
    assert seen
    assert not seen & set(zip(plan.test["vendor_id"], plan.test["vendor_title"], strict=True))
    assert set(positives["source"]) == {"mapping", "feedback"}
    for name in ("before", "names", "candidate", "after"):
        assert 0.3 < second[name]["all"]["top1"] <= second[name]["all"]["top5"] <= 1
    text = report.render({"rounds": found | {"how": []}})
    assert "## Corrections round by round" in text
    assert "all at once" in text
    assert pictures.rounds_accuracy(found).startswith(b"\x89PNG")
