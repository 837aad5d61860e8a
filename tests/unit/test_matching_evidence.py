"""What a matcher is fitted on: no line sees its own vendor's past lines, and most of the other names stay in sight."""

import numpy as np
import pandas as pd
import pytest

from shelfwise.matching.index import CatalogIndex, IndexConfig, product_names
from shelfwise.matching.lexical import Lexical
from shelfwise.matching.matcher import MOST_HIDDEN, _looks, _vendor_parts
from tests.unit.matching_samples import catalog, positives


@pytest.fixture(scope="module")
def lines() -> pd.DataFrame:
    return positives(catalog(), 800, vendors=20).sort_values("vendor_id", kind="stable").reset_index(drop=True)


@pytest.fixture(scope="module")
def index(lines) -> CatalogIndex:
    products = catalog()
    names = product_names(products, lines)
    return CatalogIndex.build(products, names, Lexical.fit(names["name"].tolist()), config=IndexConfig(threads=1))


def test_each_line_is_in_one_part_and_no_vendor_in_two(lines, index):
    parts = _vendor_parts(lines["vendor_id"], index)
    assert len(parts) == 5
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(lines)))
    vendors = [set(lines["vendor_id"].iloc[part]) for part in parts]
    assert sum(map(len, vendors)) == lines["vendor_id"].nunique()


def test_few_names_are_hidden_at_once(lines, index):
    some = lines[lines["vendor_id"].isin(["v6", "v7", "v8", "v9"])].reset_index(drop=True)
    share = len(some) / len(lines)
    assert len(_vendor_parts(some["vendor_id"], index)) == np.ceil(share / MOST_HIDDEN)
    assert len(_vendor_parts(some["vendor_id"].head(0), index)) == 1


def test_a_line_sees_neither_its_vendor_nor_as_new_its_product(lines, index):
    seen_names, times = 0, np.zeros((2, len(lines)), int)
    for look in _looks(lines, index, 0.25):
        names, theirs = look.view.names, lines.iloc[look.rows]
        aliases = names[names["vendor_id"].notna()]
        assert not set(aliases["vendor_id"]) & set(theirs["vendor_id"])
        if look.known:
            seen_names += len(aliases)
        else:
            assert not set(aliases["product_id"]) & set(theirs["product_id"])
        truth = index.positions(theirs["product_id"].tolist())
        np.testing.assert_array_equal(look.wanted, np.where(look.hide >= 0, -1, truth))
        np.testing.assert_array_equal(look.hide[look.hide >= 0], truth[look.hide >= 0])
        assert pd.Series(look.rows[look.typical]).is_unique, "a line counts once in each view"
        np.add.at(times[int(look.known)], look.rows[look.typical], 1)
    assert (times == 1).all()
    assert seen_names == 4 * len(lines), "in each of five parts four fifths of the names stay"
