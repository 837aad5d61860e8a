"""Labels laid before the champion: good ones pass, a bad delivery does not, and people's answers are not judged."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from shelfwise.matching import plausible
from shelfwise.matching.index import CatalogIndex
from shelfwise.matching.matcher import Matcher
from shelfwise.matching.plausible import examine, new_labels
from shelfwise.registry import Registry
from tests.conftest import Shop


@pytest.fixture
def champion(shop: Shop) -> tuple[Matcher, CatalogIndex]:
    reference = json.loads((shop.lake / "tables" / "matching" / "catalog_index.json").read_text())
    version = Registry(shop.lake / "registry").champion("title_matcher")
    return Matcher.load(Path(version.artifact)), CatalogIndex.load(Path(reference["location"]))


def delivery(shop: Shop, wrong: float = 0.0) -> pd.DataFrame:
    """A vendor nobody knows that writes titles in capitals; a share of its labels is another product's."""
    products = shop.products.head(200)
    n = int(len(products) * wrong)
    ids = products["product_id"].tolist()
    return pd.DataFrame(
        {
            "line_id": [f"l{i}" for i in range(len(products))], "vendor_id": "new-vendor", "source": "mapping",
            "vendor_title": products["title"].str.upper(), "product_id": ids[1:n] + ids[: min(n, 1)] + ids[n:],
        }
    )  # fmt: skip


@pytest.mark.parametrize(("wrong", "believable"), [(0.0, True), (0.03, True), (0.4, False)])
def test_a_delivery_is_believed_unless_too_much_of_it_contradicts(shop: Shop, champion, wrong, believable):
    found = examine(delivery(shop, wrong), *champion)
    assert found.new == 200
    assert found.sure > plausible.LEAST
    assert found.believable == believable, found.sentence
    assert (found.contradicted > 0) == (wrong > 0)
    assert len(found.examples) == min(found.contradicted, plausible.SHOWN)
    assert ("Nothing learns from this delivery" in found.sentence) != believable


def test_a_few_lines_condemn_nothing(shop: Shop, champion):
    found = examine(delivery(shop, 1.0).head(10), *champion)
    assert found.contradicted > 0
    assert found.believable


def test_no_labels_are_no_reason(shop: Shop, champion):
    found = examine(delivery(shop).head(0), *champion)
    assert (found.new, found.sure, found.believable) == (0, 0, True)
    assert "sure of none" in found.sentence


def test_only_mapped_lines_that_the_index_does_not_hold_are_new(shop: Shop):
    names = pd.read_parquet(shop.table("matching", "product_names"))
    positives = pd.read_parquet(shop.table("marts", "labelled_positives"))
    assert new_labels(positives, names).empty
    changed = positives.assign(product_id=positives["product_id"].shift(-1).fillna("p1"))
    assert len(new_labels(changed, names)) > 0.9 * len(positives)
    answered = changed.assign(source="feedback")
    assert new_labels(answered, names).empty


def test_the_same_labels_are_looked_at_each_time(shop: Shop, champion, monkeypatch):
    monkeypatch.setattr(plausible, "LOOKED_AT", 50)
    one, other = (examine(delivery(shop, 0.4), *champion) for _ in range(2))
    assert (one.new, one.sure, one.contradicted) == (200, other.sure, other.contradicted)
    assert one.sure <= 50
