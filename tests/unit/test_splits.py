"""Parts that last: what a model was trained on is never held out later."""

from __future__ import annotations

import pandas as pd
import pytest

from shelfwise.matching.pairs import check_pairs, make_pairs
from shelfwise.matching.splits import PARTS, SplitConfig, parts_table, split_positives
from tests.unit.matching_samples import positives

SEED = SplitConfig().seed


@pytest.fixture(scope="module")
def first(products: pd.DataFrame) -> pd.DataFrame:
    return positives(products, n=700, vendors=8, seed=3)


@pytest.fixture(scope="module")
def grown(products: pd.DataFrame, first: pd.DataFrame) -> pd.DataFrame:
    """The first lines, more of the same vendors, and those of nine vendors who joined; one of them is large."""
    more = positives(products, n=300, vendors=8, seed=4).assign(line_id=lambda frame: "m" + frame["line_id"])
    joined = positives(products, n=900, vendors=9, seed=5).assign(
        line_id=lambda frame: "j" + frame["line_id"], vendor_id=lambda frame: "n" + frame["vendor_id"]
    )
    return pd.concat([first, more, joined], ignore_index=True)


def dealt(lines: pd.DataFrame, products: pd.DataFrame, former: pd.DataFrame | None = None):
    splits = split_positives(lines, products, former=former)
    return splits, parts_table(splits, SEED, former)


def moved(before: pd.DataFrame, after: pd.DataFrame) -> int:
    both = before.merge(after, on=["kind", "id"], suffixes=("", "_after"))
    return int((both["split"] != both["split_after"]).sum())


def test_whoever_has_a_part_keeps_it_when_data_grows(products, first, grown):
    _, before = dealt(first, products)
    splits, after = dealt(grown, products, before)
    assert splits.anew == ""
    assert moved(before, after) == 0
    assert len(after) > len(before)
    assert check_pairs(make_pairs(grown, products, threads=1, former=before), grown) == []
    _, anew = dealt(grown, products)
    assert moved(before, anew) > 20, "without the table they would have moved"


def test_new_vendors_bring_the_parts_back_to_their_shares(products, first, grown):
    _, before = dealt(first, products)
    splits, _ = dealt(grown, products, before)
    lines = grown["vendor_id"].map(splits.vendor).value_counts(normalize=True)
    assert lines["train"] == pytest.approx(0.55, abs=0.12)
    assert lines["valid"] == pytest.approx(0.25, abs=0.12)
    assert lines["test"] == pytest.approx(0.2, abs=0.12)


def test_nothing_trained_on_is_held_out_later(products, first, grown):
    _, before = dealt(first, products)
    old = make_pairs(first, products, threads=1, former=before)
    new = make_pairs(grown, products, threads=1, former=before)
    fitted, held_out = (old[(old["split"] != "test") & (old["label"] == 1)], new[new["split"] == "test"])
    held_out = held_out[held_out["label"] == 1]
    assert len(held_out) > 50
    for column in ("vendor_id", "product_id"):
        assert not set(fitted[column]) & set(held_out[column])


def test_the_same_data_with_the_table_it_made_gives_the_same_table_and_pairs(products, first, grown):
    _, before = dealt(first, products)
    _, after = dealt(grown, products, before)
    splits, again = dealt(grown.sample(frac=1, random_state=1), products, after)
    pd.testing.assert_frame_equal(again, after)
    assert splits.anew == ""
    pairs = make_pairs(grown, products, threads=1, former=before)
    pd.testing.assert_frame_equal(make_pairs(grown, products, threads=1, former=after), pairs)
    _, fresh = dealt(first, products)
    pd.testing.assert_frame_equal(
        make_pairs(first, products, threads=1), make_pairs(first, products, threads=1, former=fresh)
    )


def test_a_vendor_without_a_usable_line_keeps_the_part_too(products, first):
    """All lines of a small vendor are left out where the products belong elsewhere: that must not be dealt again."""
    single = (
        first.drop_duplicates("product_id")
        .head(60)
        .assign(vendor_id=[f"one{i}" for i in range(60)], line_id=[f"one{i}" for i in range(60)])
    )
    single["vendor_title"] += " single"
    lines = pd.concat([first, single], ignore_index=True)
    splits, table = dealt(lines, products)
    unused = set(single["vendor_id"]) - set(lines["vendor_id"][splits.line.notna()])
    assert len(unused) > 5
    assert unused <= set(table["id"])
    _, again = dealt(lines, products, table)
    pd.testing.assert_frame_equal(again, table)


def test_a_product_goes_where_its_first_line_is_and_stays(products, first):
    untouched = products[~products["product_id"].isin(first["product_id"])]
    assert len(untouched) > 20
    _, table = dealt(first, products)
    assert not set(untouched["product_id"]) & set(table["id"])
    vendor = str(table[(table["kind"] == "vendor") & (table["split"] == "test")]["id"].iloc[0])
    line = first.head(1).assign(
        line_id="new", vendor_id=vendor, vendor_title="brand new", product_id=untouched["product_id"].iloc[0]
    )
    lines = pd.concat([first, line], ignore_index=True)
    splits, after = dealt(lines, products, table)
    assert splits.line.iloc[-1] == "test"
    assert after.set_index("id").loc[line["product_id"].iloc[0], "split"] == "test"


def test_who_is_gone_keeps_the_part_for_the_day_of_return(products, first, grown):
    _, before = dealt(grown, products)
    _, between = dealt(first, products, before)
    pd.testing.assert_frame_equal(between, before)


def test_products_that_bear_one_title_now_take_the_earlier_part(products, first):
    _, table = dealt(first, products)
    parts = table[table["kind"] == "product"].set_index("id")["split"]
    train, test = (parts.index[parts == part][0] for part in ("train", "test"))
    same = products.copy()
    same.loc[same["product_id"] == test, "title"] = same.loc[same["product_id"] == train, "title"].to_numpy()
    splits, _ = dealt(first, same, table)
    assert splits.product[test] == splits.product[train] == "train"


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda t: pd.DataFrame(), "columns"),
        (lambda t: t.assign(split="elsewhere"), "unknown part"),
        (lambda t: t.assign(kind="planet"), "unknown part or kind"),
        (lambda t: pd.concat([t, t.head(1).assign(split="test")]), "two parts"),
        (lambda t: t.assign(seed=99), "seed"),
        (lambda t: t.assign(id="x" + t["id"]), "knows none"),
        (lambda t: t[t["kind"] == "product"], "kept apart before"),
        (lambda t: t.assign(split="train"), "no line would be left for valid"),
    ],
)
def test_a_table_of_no_use_is_dealt_anew_and_says_why(products, first, damage, reason):
    _, table = dealt(first, products)
    splits, made = dealt(first, products, damage(table))
    assert reason in splits.anew
    pd.testing.assert_frame_equal(made, table)
    assert set(made["split"]) == set(PARTS)


def test_without_vendors_apart_products_keep_their_part(products):
    few = positives(products, n=400, vendors=2)
    _, before = dealt(few.head(200), products)
    assert set(before["kind"]) == {"product"}
    splits, after = dealt(few, products, before)
    assert splits.anew == ""
    assert moved(before, after) == 0
