"""The check that lays new past mappings before the champion, as Dagster runs it."""

from __future__ import annotations

import dagster as dg
import pandas as pd
import pytest

from assets.checks import plausible_labels
from resources.lake import Lake, TableIO
from resources.matching import MatchingConfig
from resources.registry import ModelRegistry
from shelfwise.artifacts import atomic_write_json
from tests.conftest import Shop

POSITIVES = ["marts", "labelled_positives"]


def deliver(shop: Shop, wrong: float) -> None:
    """Replace the labels by those of a new vendor, a share of which is shifted by one product."""
    products = shop.products.head(200)
    ids = products["product_id"].tolist()
    n = int(wrong * len(ids))
    labels = pd.DataFrame(
        {
            "line_id": [f"l{i}" for i in range(len(ids))], "vendor_id": "new", "source": "mapping",
            "vendor_title": products["title"].str.lower(), "product_id": ids[1 : n + 1] + ids[n:],
        }
    )  # fmt: skip
    labels.to_parquet(shop.table(*POSITIVES), index=False)


def check(shop: Shop, **matching: bool) -> dg.AssetCheckEvaluation:
    root = str(shop.lake)

    @dg.asset(key=POSITIVES)
    def labels() -> pd.DataFrame:
        return pd.read_parquet(shop.table(*POSITIVES))

    result = dg.materialize(
        [labels, plausible_labels],
        raise_on_error=False,
        resources={
            "io_manager": TableIO(root=root), "lake": Lake(root=root), "registry": ModelRegistry(root=root),
            "matching": MatchingConfig(**matching),
        },
    )  # fmt: skip
    (evaluation,) = result.get_asset_check_evaluations()
    return evaluation


@pytest.mark.parametrize(("wrong", "passed"), [(0.0, True), (0.5, False)])
def test_a_bad_delivery_stops_here(shop: Shop, wrong: float, passed: bool) -> None:
    deliver(shop, wrong)
    evaluation = check(shop)
    assert evaluation.passed == passed
    assert evaluation.blocking
    assert evaluation.metadata["new_labels"].value == 200
    if not passed:
        assert "deliver it again" in (evaluation.description or "")
        assert len(str(evaluation.metadata["examples"].value).splitlines()) > 5


def test_somebody_who_knows_better_can_say_so(shop: Shop) -> None:
    deliver(shop, 0.5)
    assert check(shop, believe_labels=True).passed


def test_an_index_of_another_champion_is_no_judge(shop: Shop) -> None:
    deliver(shop, 0.5)
    atomic_write_json(shop.table("matching", "catalog_index").with_suffix(".json"), {"champion_id": "other"})
    evaluation = check(shop)
    assert evaluation.passed
    assert "not that of champion" in (evaluation.description or "")
