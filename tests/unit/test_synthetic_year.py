"""The simulated year: what arrives when, and that what is planted is really there."""

from itertools import pairwise

import pytest

from shelfwise.synthetic.year import Year, YearConfig

SMALL = {"products": 300, "past_mappings": 400, "past_vendors": 4, "lines": 10, "seed": 3}


@pytest.fixture(scope="module")
def year() -> Year:
    return Year(YearConfig(**SMALL))


def test_the_same_year_every_time(year):
    again = Year(YearConfig(**SMALL))
    for week in (0, 20, 40):
        assert [(a.key, a.truth) for a in year.arrivals(week)] == [(a.key, a.truth) for a in again.arrivals(week)]
        assert year.mappings(week).equals(again.mappings(week))


def test_every_vendor_sends_its_lines_once_from_the_week_it_joins(year):
    arrivals = [one for week in range(year.config.weeks) for one in year.arrivals(week)]
    assert {one.vendor_id for one in arrivals} == set(year.vendors)
    for vendor in year.vendors:
        own = [one for one in arrivals if one.vendor_id == vendor]
        assert own[0].week == year.joins(vendor)
        assert {later.week - one.week for one, later in pairwise(own)} == {year.config.every}
        skus = [sku for one in own for sku in one.lines["sku"]]
        assert len(set(skus)) == len(skus)
        assert all(len(one.truth) == len(one.lines) for one in own)
    assert sum(year.joins(vendor) > 3 for vendor in year.vendors) >= 3, "vendors that join later"


def test_truth_names_products_of_the_catalog_or_nothing(year):
    known = set(year.products(0)["product_id"])
    truth = [product for week in range(10) for one in year.arrivals(week) for product in one.truth]
    assert set(truth) - {""} <= known
    assert 0.1 < truth.count("") / len(truth) < 0.4


def test_a_renamed_brand_is_another_name_of_the_same_products(year):
    before, after = year.products(year.config.renamed - 1), year.products(year.config.renamed)
    old, new = year.brand
    changed = before["title"] != after["title"]
    assert changed.any()
    assert (before["brand"][changed] == old).all()
    assert (after["brand"][changed] == new).all()
    assert not after["title"].str.contains(old).any()
    assert before["product_id"].equals(after["product_id"])


def test_a_vendor_changes_its_naming_and_no_other_does(year):
    first, last = year.config.naming, year.config.weeks
    later = [one for week in range(first, last) for one in year.arrivals(week)]
    for one in later:
        written = one.lines["title"].str.fullmatch(r"\d{8}/[A-F] [^a-z]*").all()
        assert written == (one.vendor_id == year.changing)
    earlier = [one for week in range(first) for one in year.arrivals(week) if one.vendor_id == year.changing]
    assert not any(one.lines["title"].str.fullmatch(r"\d{8}/[A-F] .*").any() for one in earlier)


def test_the_bad_training_set_is_bad_for_its_weeks_only(year):
    good = year.mappings(0)
    for week, spoilt in ((year.config.bad - 1, False), (year.config.bad, True), (year.config.repaired, False)):
        wrong = (year.mappings(week)["product_id"] != good["product_id"]).mean()
        assert (0.3 < wrong < 0.5) if spoilt else wrong == 0


def test_events_out_of_order_are_refused():
    with pytest.raises(ValueError, match="in their order"):
        YearConfig(renamed=30, naming=20)
