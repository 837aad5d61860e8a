import pandas as pd
import pytest

from shelfwise import plots
from shelfwise.profile import profile_products
from shelfwise.timing import DomainClock, covered_seconds


@pytest.fixture
def products():
    return pd.DataFrame(
        {
            "product_id": ["1", "2", "3", "4"],
            "title": ["Red Wine 750 ml", "RED WINE 75cl", "Beer 330ml", "Cider"],
            "brand": ["a", None, None, None],
            "category": ["Drinks > Wine", "Drinks > Wine", "Drinks > Beer", None],
            "price": [1.0, 2.0, None, 4.0],
        }
    )


def test_profile_counts_what_it_says(products):
    mappings = pd.DataFrame({"vendor_id": ["v", "w"], "vendor_title": ["x", "y"], "product_id": ["1", "1"]})
    profile = profile_products(products, mappings)
    assert profile.numbers["products"] == 4
    assert profile.numbers["vendors"] == 2
    assert profile.numbers["products_with_mapping_share"] == 0.25
    assert profile.numbers["missing_brand_share"] == 0.75
    # The two wines are one title in the normal form: units and case do not tell them apart.
    assert profile.numbers["same_title_groups"] == 1
    assert profile.duplicates["product_ids"].tolist() == ["1, 2"]


def test_a_tie_between_tokens_or_duplicates_keeps_the_order_of_the_catalog():
    titles = [f"{a} word{n} next{n} last{n}" for n in range(10, 40) for a in ("zebra", "ZEBRA")]
    ids = [str(n) for n in range(60)]
    profile = profile_products(
        pd.DataFrame({"product_id": ids, "title": titles}), pd.DataFrame({"vendor_id": ["v"], "product_id": ["1"]})
    )
    tokens = [token for n in range(10, 18) for token in (f"word{n}", f"next{n}", f"last{n}")]
    assert profile.frequent_tokens["token"].tolist() == ["zebra", *tokens]
    assert profile.duplicates["title"].tolist() == [f"zebra word{n} next{n} last{n}" for n in range(10, 40)]


def test_names_with_dollar_signs_are_drawn_not_read_as_formulas(products):
    products["category"] = r"$5 \deals$ {"
    profile = profile_products(products, pd.DataFrame({"vendor_id": ["v"], "product_id": ["1"]}))
    assert plots.profile_picture(profile.series).startswith(b"\x89PNG")
    assert plots.decisions_picture([0.5], ["review"], r"a$\b$.csv").startswith(b"\x89PNG")


def test_every_picture_is_a_png(products):
    profile = profile_products(products, pd.DataFrame({"vendor_id": ["v"], "product_id": ["1"]}))
    pictures = [
        plots.profile_picture(profile.series),
        plots.precision_coverage_picture({"a": ([0.1, 1], [1, 0.5]), "b": ([0.2, 1], [1, 0.4])}, (0.5, 0.9)),
        plots.accuracy_picture(
            {"a": {"top1": 0.8, "top5": 0.9, "top1_low": 0.7, "top1_high": 0.9}, "b": {"top1": 0.1}}
        ),
        plots.decisions_picture([0.1, 0.7, 0.9, 1.0], ["no_match", "review", "approved", "approved"], "t"),
    ]
    for png in pictures:
        assert png.startswith(b"\x89PNG")
        assert len(png) > 3000


def test_parallel_steps_count_once():
    assert covered_seconds([]) == 0
    assert covered_seconds([(0, 10), (2, 3), (9, 12), (20, 21)]) == 13


def test_the_clock_adds_up_its_intervals():
    clock = DomainClock()
    with clock:
        pass
    with clock:
        pass
    assert len(clock.intervals) == 2
    assert clock.seconds >= 0
