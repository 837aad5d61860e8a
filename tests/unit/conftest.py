"""The small catalog of `matching_samples`, as tests of matching share it; a module that needs another has its own."""

import pandas as pd
import pytest

from tests.unit.matching_samples import catalog, positives


@pytest.fixture(scope="module")
def products() -> pd.DataFrame:
    return catalog()


@pytest.fixture(scope="module")
def lines(products):
    return positives(products)


@pytest.fixture(scope="module")
def index(products, lines):
    from shelfwise.matching.index import CatalogIndex, IndexConfig, product_names
    from shelfwise.matching.lexical import Lexical

    names = product_names(products, lines)
    return CatalogIndex.build(products, names, Lexical.fit(names["name"].tolist()), config=IndexConfig(threads=1))
