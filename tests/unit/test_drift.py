"""Drift: undisturbed files are left in peace, whatever their vendors' habits, and real changes are seen."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ks_2samp

from shelfwise.artifacts import fetch
from shelfwise.matching.index import CatalogIndex
from shelfwise.matching.lexical import split_words
from shelfwise.matching.matcher import Matcher
from shelfwise.monitoring import seen
from shelfwise.monitoring.drift import (
    FAIL,
    OK,
    OTHERS,
    OWN_PAST,
    WARN,
    Judgement,
    Profile,
    Reference,
    Spread,
    judge,
    judge_pool,
    profile,
    spreads_of,
)
from shelfwise.monitoring.lines import (
    MEASURES,
    NAMES,
    OF_TITLE,
    Vocabulary,
    describe_titles,
    rarity,
    surroundings,
    words_of_one_product,
)
from shelfwise.monitoring.reference import describe_lines, make_reference, reference_id, sample_lines
from shelfwise.registry import Registry
from tests.conftest import Shop

STATED = 0.01
SHARES = ("digits", "upper", "non_ascii", "unit", "unknown_words", "score", "margin", "approved", "no_match")


class World:
    """Vendors with habits: each measure has a vendor's own level; capitals are a habit that some have and others not.

    `between`: how much vendors differ, in standard deviations of lines.
    """

    def __init__(self, seed: int, between: float = 0.5):
        self.chance, self.between = np.random.default_rng(seed), between

    def habits(self) -> dict[str, float]:
        """A new vendor's levels."""
        own = {name: self.chance.normal(0, self.between) for name in NAMES}
        return own | {"upper": 3.0 if self.chance.random() < 0.25 else 0.0}

    def lines(self, habits: dict[str, float], count: int, **moved: float) -> pd.DataFrame:
        """Lines of a vendor, described; `moved`: measures that changed, by standard deviations of lines."""
        drawn = {name: self.chance.normal(habits[name] + moved.get(name, 0.0), 1.0, count) for name in NAMES}
        return pd.DataFrame(drawn)

    def reference(self, vendors: int = 24, count: int = 150) -> tuple[Reference, dict[str, dict[str, float]]]:
        """A reference, and its vendors' habits."""
        habits = {f"v{i}": self.habits() for i in range(vendors)}
        return reference_of({name: self.lines(own, count) for name, own in habits.items()}), habits


def reference_of(files: dict[str, pd.DataFrame]) -> Reference:
    lines = pd.concat([part.assign(vendor_id=name) for name, part in files.items()], ignore_index=True)
    vendors = {name: profile(part) for name, part in files.items()}
    return Reference(lines, np.empty((len(lines), 0), np.float32), spreads_of(vendors), vendors, {}, Vocabulary({}))


def called(judgements: list[Judgement]) -> float:
    return float(np.mean([one.level != OK for one in judgements]))


# ---- no false alarms -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("vendors", [5, 24, 80])
def test_fifty_lines_of_the_same_distribution_a_hundred_times(vendors: int) -> None:
    reference, _ = World(1).reference(vendors)
    drawn = [reference.lines.sample(50, random_state=seed) for seed in range(100)]
    assert called([judge(lines, reference, "nobody", false_alarms=STATED) for lines in drawn]) <= STATED


@pytest.mark.parametrize("count", [25, 50, 400, 2000])
def test_files_of_vendors_never_seen_are_left_in_peace(count: int) -> None:
    world = World(2)
    reference, _ = world.reference()
    files = [world.lines(world.habits(), count) for _ in range(200)]
    assert called([judge(lines, reference, "new", false_alarms=STATED) for lines in files]) <= STATED
    if count >= 400:  # what a test of lines against lines makes of the same files
        naive = [
            any(ks_2samp(f[n], reference.lines[n]).pvalue < STATED / len(NAMES) for n in NAMES) for f in files[:50]
        ]
        assert np.mean(naive) > 0.9, "else the vendors here differ too little to try anybody"


@pytest.mark.parametrize("vendors", [4, 8, 16])
def test_over_many_references_the_stated_rate_holds_on_average(vendors: int) -> None:
    rates = []
    for seed in range(10):
        world = World(100 + seed)
        reference, _ = world.reference(vendors=vendors, count=80)
        files = [world.lines(world.habits(), 100) for _ in range(40)]
        rates.append(called([judge(lines, reference, "new", false_alarms=STATED) for lines in files]))
    assert np.mean(rates) <= STATED


def test_the_same_vendors_next_file_is_left_in_peace() -> None:
    world = World(3)
    reference, habits = world.reference()
    found = [judge(world.lines(own, 60), reference, name) for name, own in habits.items() for _ in range(10)]
    assert called(found) <= STATED
    compared = pd.concat([one.columns for one in found]).groupby("compared_with")["measure"].unique()
    assert set(compared[OWN_PAST]) == set(OF_TITLE)
    assert set(compared[OTHERS]) == set(NAMES) - set(OF_TITLE)


def test_a_week_of_new_vendors_is_left_in_peace() -> None:
    world = World(4)
    reference, _ = world.reference()
    weeks = [{f"n{i}": world.lines(world.habits(), 80) for i in range(6)} for _ in range(100)]
    assert called([judge_pool(week, reference, STATED) for week in weeks]) <= STATED


@pytest.mark.parametrize("count", [0, 1, 19])
def test_a_handful_of_lines_says_nothing(count: int) -> None:
    world = World(5)
    reference, habits = world.reference()
    found = judge(world.lines(habits["v0"], count, score=-9, title_length=90), reference, "v0")
    assert (found.level, len(found.columns)) == (OK, 0)
    assert "too little to compare" in found.sentence


def test_two_vendors_do_not_tell_how_vendors_differ() -> None:
    world = World(6)
    reference, _ = world.reference(vendors=2)
    assert judge(world.lines(world.habits(), 500, tokens=3), reference, "new").level == OK


def test_a_measure_that_never_varied_takes_more_than_a_grain_to_drift() -> None:
    world = World(7)
    files = {f"v{i}": world.lines(world.habits(), 100).assign(non_ascii=0.0) for i in range(10)}
    reference = reference_of(files)
    lines = world.lines(world.habits(), 400)
    assert "non_ascii" not in judge(lines.assign(non_ascii=0.001), reference, "new").drifted
    assert "non_ascii" in judge(lines.assign(non_ascii=0.2), reference, "new").drifted


# ---- changes are seen ------------------------------------------------------------------------------------------------


def test_a_vendor_that_turns_to_capitals_is_noticed_and_a_new_one_in_capitals_is_not() -> None:
    world = World(8)
    reference, habits = world.reference()
    small = next(name for name, own in habits.items() if own["upper"] == 0)
    found = judge(world.lines(habits[small] | {"upper": 3.0}, 200), reference, small)
    assert (found.level, found.drifted, found.cause) == (WARN, ("upper",), "inputs")
    assert "upper" in found.sentence
    assert OWN_PAST in found.sentence
    assert judge(world.lines(world.habits() | {"upper": 3.0}, 200), reference, "new").level == OK


def test_what_no_vendor_does_is_noticed_at_a_new_one() -> None:
    world = World(9)
    reference, _ = world.reference()
    found = [judge(world.lines(world.habits(), 200, price=8.0), reference, "new") for _ in range(20)]
    assert all("price" in one.drifted for one in found)
    (row,) = found[0].columns.query("measure == 'price'").to_dict("records")
    assert row["compared_with"] == OTHERS
    assert row["change"] > row["limit"] > 0
    assert row["p_value"] < STATED / len(found[0].columns)


def test_one_change_warns_and_many_fail() -> None:
    world = World(10)
    reference, habits = world.reference()
    moved = {"title_length": 9.0, "tokens": 9.0, "digits": 9.0, "unit": 9.0, "price": 9.0}
    few = judge(world.lines(habits["v1"], 200, **dict(list(moved.items())[:4])), reference, "v1", fail_share=5 / 16)
    many = judge(world.lines(habits["v1"], 200, **moved), reference, "v1", fail_share=5 / 16)
    assert (few.level, len(few.drifted)) == (WARN, 4)
    assert (many.level, set(many.drifted), many.share) == (FAIL, set(moved), 5 / 16)
    assert f"5 of {len(NAMES)} measures drifted" in many.sentence


def test_of_what_the_model_makes_only_a_turn_for_the_worse_counts() -> None:
    world = World(11)
    reference, habits = world.reference()
    worse = judge(world.lines(habits["v2"], 200, score=-6, no_match=6, approved=-6), reference, "v2")
    assert set(worse.drifted) == {"score", "no_match", "approved"}
    assert worse.cause == "scores"
    assert judge(world.lines(habits["v2"], 200, score=6, no_match=-6, approved=6), reference, "v2").level == OK


def test_a_vendors_file_like_one_the_champion_could_learn_from_is_no_drift() -> None:
    world = World(12)
    reference, habits = world.reference()
    now = world.lines(habits["v3"], 200, title_length=9, tokens=9)
    assert set(judge(now, reference, "v3").drifted) == {"title_length", "tokens"}
    former = profile(world.lines(habits["v3"], 150, title_length=9, tokens=9))
    assert judge(now, reference, "v3", [former]).level == OK
    other = profile(world.lines(habits["v3"], 150, title_length=-9, tokens=-9))
    assert set(judge(now, reference, "v3", [other]).drifted) == {"title_length", "tokens"}


def test_a_shift_of_everybody_shows_in_the_week_where_no_file_shows_it() -> None:
    world = World(13)
    reference, _ = world.reference(vendors=60)
    week = {f"n{i}": world.lines(world.habits(), 150, price=0.8) for i in range(30)}
    files = [judge(lines, reference, name) for name, lines in week.items()]
    assert called(files) < 0.2
    assert judge_pool(week, reference).drifted == ("price",)


# ---- the statistics --------------------------------------------------------------------------------------------------


def test_the_spread_of_vendors_is_found_again() -> None:
    chance = np.random.default_rng(14)
    means = chance.normal(5, 2, 400)
    files = [chance.normal(mean, 3, 60) for mean in means]
    spread = Spread.of([Profile(len(f), float(f.mean()), float(f.var(ddof=1))) for f in files])
    assert spread.mean == pytest.approx(5, abs=0.3)
    assert spread.between == pytest.approx(4, rel=0.15)
    assert spread.within == pytest.approx(9, rel=0.05)
    assert 2.5 < spread.largest < 4.5


def test_the_level_is_that_of_vendors_the_model_was_not_fitted_on() -> None:
    seen_, held = (
        [Profile(100, 0.9 + i / 100, 0.01) for i in range(10)],
        [Profile(100, 0.6 + i / 100, 0.01) for i in range(5)],
    )
    spread = Spread.of([*seen_, *held], held_out=[False] * 10 + [True] * 5)
    assert spread.mean == pytest.approx(0.62)
    assert spread.vendors == 15
    assert spread.between < 0.002, "the gap between seen and unseen is no difference between vendors"


def test_everything_comes_back_from_disk(tmp_path: Path) -> None:
    world = World(15)
    reference, habits = world.reference(vendors=6)
    reference.vocabulary = Vocabulary({"gin": "", "zorg": "v1"})
    reference.categories, reference.thresholds = {"p": "Drinks"}, {"tokens": 0.3}
    reference.save(tmp_path)
    again = Reference.load(tmp_path)
    lines = world.lines(habits["v1"], 100, tokens=7)
    pd.testing.assert_frame_equal(judge(lines, again, "v1").columns, judge(lines, reference, "v1").columns)
    assert again.vocabulary == reference.vocabulary
    assert (again.categories, again.thresholds) == (reference.categories, reference.thresholds)
    raw = json.loads((tmp_path / "reference.json").read_text()) | {"format": 0}
    (tmp_path / "reference.json").write_text(json.dumps(raw))
    with pytest.raises(ValueError, match="make it again"):
        Reference.load(tmp_path)


# ---- measures --------------------------------------------------------------------------------------------------------


def test_titles_are_measured_as_they_say() -> None:
    words = Vocabulary({"gin": "", "dry": "", "zorg": "acme", "solo": "other"})
    titles = ["DRY Gin 70cl", "zorg solo vexa", "Café 12", "", "12 34"]
    made = describe_titles(titles, ["acme"] * 5, words, np.array([10.0, 0.0, np.nan, -1.0, 1000.0]))
    assert made["title_length"].tolist() == [12, 14, 7, 0, 5]
    assert made["tokens"].tolist() == [3, 3, 2, 0, 2]
    assert made["digits"].tolist() == pytest.approx([2 / 12, 0, 2 / 7, 0, 0.8])
    assert made["upper"].tolist()[:2] == pytest.approx([4 / 8, 0])
    assert made["upper"].isna().tolist() == [False, False, False, True, True]
    assert made["non_ascii"].tolist() == pytest.approx([0, 0, 1 / 7, 0, 0])
    assert made["unit"].tolist() == [1, 0, 0, 0, 0]
    # Of the vendor's own word nobody else knows anything; numbers are no words.
    assert made["unknown_words"].tolist()[:3] == pytest.approx([0, 2 / 3, 1])
    assert made["unknown_words"].isna().tolist()[3:] == [True, True]
    assert made["price"].tolist()[0] == pytest.approx(1)
    assert made["price"].isna().tolist() == [False, True, True, True, False]


def test_words_of_a_hidden_product_are_unknown(shop: Shop) -> None:
    words = Vocabulary({"gin": "", "zorg": ""})
    told = describe_titles(["zorg gin"] * 2, ["acme"] * 2, words, gone=[{"zorg"}, ()])
    assert told["unknown_words"].tolist() == [0.5, 0]
    _, index, _ = champion_of(shop)
    only = words_of_one_product(index)
    holders: dict[str, set[int]] = {}
    for form, product in zip(index.forms, index.name_product.tolist(), strict=True):
        for word in split_words(form):
            holders.setdefault(word, set()).add(product)
    assert only == {word: min(of) for word, of in holders.items() if len(of) == 1}


def test_a_vendor_without_a_name_owns_no_words() -> None:
    assert Vocabulary({"gin": ""}).unknown(["gin"], "") == 0


def test_surroundings_leave_out_the_same_vendor_and_the_same_product() -> None:
    vectors = np.eye(8, dtype=np.float32)[[0] * 7]
    groups = np.array([[0, 0], [0, 1], [1, 0], [2, 2], [3, 3], [4, 4], [5, 5]])
    found = surroundings(vectors, groups, vectors, groups)
    assert np.isnan(found[0]), "four others are left"
    assert found[4] == pytest.approx(1)
    assert np.isnan(surroundings(np.empty((3, 0)), groups[:3], np.empty((7, 0)), groups)).all()


def test_rare_categories_are_rarer() -> None:
    counts = {"Drinks": 90, "Toys": 9}
    drinks, toys, new = rarity(np.array(["Drinks", "Toys", "Cars"], object), counts)
    assert drinks < toys < new
    assert rarity(np.array(["Toys"], object), counts, {"Toys": 9})[0] == pytest.approx(np.log(93))


def test_every_measure_says_what_it_is() -> None:
    assert len({measure.name for measure in MEASURES}) == len(MEASURES)
    assert all(measure.least > 0 and measure.about for measure in MEASURES)


# ---- the reference of a champion -------------------------------------------------------------------------------------


def champion_of(shop: Shop) -> tuple[Matcher, CatalogIndex, pd.DataFrame]:
    version = Registry(shop.lake / "registry").champion("title_matcher")
    index = CatalogIndex.load(fetch(version.lineage["index"]))
    return Matcher.load(fetch(version.artifact)), index, pd.read_parquet(shop.table("marts", "labelled_positives"))


def test_the_reference_is_even_over_vendors_and_bounded() -> None:
    lines = pd.DataFrame({"vendor_id": ["a"] * 900 + ["b"] * 60 + ["c"] * 40 + ["d"] * 5})
    lines["vendor_title"] = [f"t{i}" for i in range(len(lines))]
    counts = sample_lines(lines, 200)["vendor_id"].value_counts().to_dict()
    assert counts == {"a": 100, "b": 60, "c": 40}
    pd.testing.assert_frame_equal(sample_lines(lines, 200), sample_lines(lines.sample(frac=1, random_state=1), 200))
    many = pd.DataFrame({"vendor_id": [f"v{i % 100}" for i in range(3000)]}).assign(
        vendor_title=lambda f: f.index.astype(str)
    )
    assert sample_lines(many, 500)["vendor_id"].value_counts().tolist() == [30] * 10
    assert {"v7", "v8"} <= set(sample_lines(many, 500, prefer={"v7", "v8"})["vendor_id"])
    assert len(sample_lines(lines.tail(5), 200)) == 5, "too few lines of any vendor: better those than none"


def test_the_champions_reference_knows_its_vendors_and_what_lines_without_a_product_look_like(shop: Shop) -> None:
    matcher, index, positives = champion_of(shop)
    held_out = set(positives["vendor_id"].unique()[:4])
    reference = make_reference(matcher, index, positives, held_out, 0.25, {"champion_id": "x"})
    about = reference.about
    assert about["champion_id"] == "x"
    assert about["vendors"] == positives["vendor_id"].value_counts().ge(20).sum()
    assert about["lines"] == len(reference.lines)
    assert set(reference.spreads) == set(NAMES) - {"similarity", "surroundings"}, "this champion has no encoder"
    some = reference.lines.groupby("vendor_id")["no_match"].mean()
    assert some.min() < 0.25 < some.max(), "vendors differ in how much of theirs matches nothing"
    assert 0 < reference.spreads["unknown_words"].mean < 0.5
    assert reference.thresholds.keys() >= {"title_length", "score", "decision"}
    again = make_reference(
        matcher, index, positives.sample(frac=1, random_state=3), held_out, 0.25, {"champion_id": "x"}
    )
    pd.testing.assert_frame_equal(again.lines, reference.lines)


def upload(shop: Shop, vendor: str, titles: list[str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    matcher, index, _ = champion_of(shop)
    lines = pd.DataFrame({"title": titles, "vendor_id": vendor, "file": "f.csv"})
    lines["line_id"], lines["row"], lines["price"] = (
        [f"{vendor}{i}" for i in range(len(lines))],
        range(2, len(lines) + 2),
        20.0,
    )
    return lines, matcher.match(lines, index)


def test_an_upload_is_described_as_the_reference_is_and_a_long_one_by_a_sample(shop: Shop) -> None:
    matcher, index, positives = champion_of(shop)
    reference = make_reference(matcher, index, positives)
    titles = positives["vendor_title"].tolist()[:120]
    lines, matches = upload(shop, "new", titles)
    told = describe_lines(matches, lines, reference, None)
    assert len(told) == 120
    assert told["price"].tolist() == pytest.approx([np.log10(20)] * 120)
    shared = [name for name in NAMES if name in reference.lines]
    assert set(shared) <= set(told)
    assert judge(told, reference, "new").level == OK
    best = matches[matches["rank"] == 1]
    assert told["score"].tolist() == best["score"].tolist()
    assert (told["margin"] <= told["score"]).all()
    some = describe_lines(matches.sample(frac=1, random_state=1), lines, reference, None, size=50)
    assert len(some) == 50
    assert set(some["title"]) == set(describe_lines(matches, lines, reference, None, size=50)["title"])


def test_a_products_that_came_later_has_no_category_in_the_reference(shop: Shop) -> None:
    matcher, index, positives = champion_of(shop)
    reference = make_reference(matcher, index, positives)
    lines, matches = upload(shop, "new", positives["vendor_title"].tolist()[:30])
    matches.loc[matches["line_id"] == "new0", "product_id"] = "added later"
    told = describe_lines(matches, lines, reference, None)
    assert told["category"].isna().tolist() == [True] + [False] * 29


def test_the_id_follows_from_the_champion_alone() -> None:
    assert reference_id("a") == reference_id("a") != reference_id("b")


# ---- files that were looked at ---------------------------------------------------------------------------------------

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


def described(titles: list[str]) -> pd.DataFrame:
    return describe_titles(titles, ["v"] * len(titles), Vocabulary({})).assign(title=titles)


def test_the_past_of_a_vendor_is_what_came_before_the_champion(tmp_path: Path) -> None:
    for day, (key, title) in enumerate([("v/a.csv", "one two"), ("v/b.csv", "one two three"), ("w/c.csv", "x")]):
        seen.keep(tmp_path, key, described([title] * 30), "c1", NOON + timedelta(days=day))
    before = NOON + timedelta(days=1)
    assert [p["tokens"].mean for p in seen.past_profiles(tmp_path, "v", "v/new.csv", before)] == [2]
    assert [p["tokens"].mean for p in seen.past_profiles(tmp_path, "v", "v/a.csv", NOON + timedelta(days=9))] == [3]
    assert seen.past_profiles(tmp_path, "nobody", "v/new.csv", before) == []


def test_a_file_matched_again_stays_as_old_as_it_is_and_a_new_content_does_not(tmp_path: Path) -> None:
    later = NOON + timedelta(days=30)
    seen.keep(tmp_path, "v/a.csv", described(["one"] * 30), "c1", NOON)
    seen.keep(tmp_path, "v/a.csv", described(["one"] * 30), "c2", later)
    ((again),) = seen.of_days(tmp_path, later)
    assert (again.first_at, again.at, again.champion_id) == (NOON, later, "c2")
    seen.keep(tmp_path, "v/a.csv", described(["two"] * 30), "c2", later)
    assert [one.first_at for one in seen.of_days(tmp_path, later)] == [later]
    assert len(list(tmp_path.rglob("*.parquet"))) == 1


def test_a_week_holds_its_files_and_no_others(tmp_path: Path) -> None:
    for days, vendor in ((0, "new"), (6, "../odd"), (8, "old"), (-1, "future")):
        seen.keep(
            tmp_path, f"{vendor.replace('/', '_')}/f.csv", described(["a b"] * 3), "c", NOON - timedelta(days=days)
        )
    found = seen.of_days(tmp_path, NOON)
    assert sorted(one.vendor_id for one in found) == [".._odd", "new"]
    assert all(path.is_relative_to(tmp_path / "monitoring" / "described") for path in tmp_path.rglob("*.parquet"))
    assert set(seen.by_vendor(found)) == {".._odd", "new"}
    reference = reference_of({"new": World(1).lines(World(1).habits(), 30)})
    assert seen.mix(seen.by_vendor(found), reference)["new_vendor_line_share"] == 0.5
    assert seen.of_days(tmp_path / "nothing", NOON) == []


# ---- Evidently -------------------------------------------------------------------------------------------------------


def test_evidently_measures_what_the_thresholds_were_made_with(shop: Shop) -> None:
    from evidently import DataDefinition, Dataset, Report
    from evidently.metrics import ValueDrift

    from shelfwise.monitoring.report import NUMERICAL, evidently_report

    matcher, index, positives = champion_of(shop)
    reference = make_reference(matcher, index, positives)
    lines, matches = upload(shop, "new", [t.upper() + " € 99" for t in positives["vendor_title"].tolist()[:60]])
    told = describe_lines(matches, lines, reference, None)
    html, table = evidently_report(told, reference)
    assert html.lstrip().lower().startswith(b"<!doctype html") or b"<html" in html[:500].lower()
    assert b"non_ascii" in html
    by_column = table.set_index("column")
    assert set(by_column.index) >= {"title_length", "non_ascii", "unit", "root", "decision", "score"}
    numerical = [name for name in by_column.index if name in NUMERICAL]
    categorical = [name for name in by_column.index if name not in NUMERICAL]
    definition = DataDefinition(numerical_columns=numerical, categorical_columns=categorical)
    sides = (frame[list(by_column.index)].astype(dict.fromkeys(categorical, str)) for frame in (told, reference.lines))
    metrics = [ValueDrift(column=name, method=row["method"]) for name, row in by_column.iterrows()]
    ran = Report(metrics).run(*(Dataset.from_pandas(side, data_definition=definition) for side in sides))
    evidently = {metric["config"]["column"]: metric["value"] for metric in ran.dict()["metrics"]}
    for name, row in by_column.iterrows():
        assert row["distance"] == pytest.approx(evidently[name], abs=1e-6), name
        assert f"{row['distance']:.6f}".rstrip("0").encode() in html, "the distance that the report shows"
        assert row["threshold"] == reference.thresholds[str(name)]
        assert row["method"] == ("wasserstein" if name in NUMERICAL else "jensenshannon")
    assert by_column.loc["non_ascii", "beyond"]
    assert not by_column.loc["unit", "beyond"]
