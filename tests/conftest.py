"""What all tests share: an environment without the developer's settings, and a small lake that has a champion."""

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import pandas as pd
import pytest

# `make test` exports what stands in `.env`: no test may read the developer's data or write to the developer's lake.
for _name in [name for name in os.environ if name.startswith("SHELFWISE_")]:
    del os.environ[_name]
os.environ |= {"DO_NOT_TRACK": "1", "DAGSTER_DISABLE_TELEMETRY": "1", "HF_HUB_OFFLINE": "1"}
# Two workers share two cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")


PRODUCT_COLUMNS = [
    "product_id", "title", "normalised_title", "brand", "category", "category_root", "category_leaf", "description",
    "price", "size", "image", "same_title_as",
]  # fmt: skip


@dataclass(frozen=True)
class Shop:
    """A data directory and a lake with a champion: everything that matching an upload needs, made without Dagster."""

    data: Path
    lake: Path
    products: pd.DataFrame
    version: str

    def upload(self, key: str, content: bytes) -> None:
        """Put a file into the uploads folder."""
        path = self.data / "uploads" / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    def table(self, *key: str) -> Path:
        """Path of a table, or of a partition's, below the lake."""
        return self.lake.joinpath("tables", *key[:-1], f"{key[-1]}.parquet")


@pytest.fixture(scope="session")
def _shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """A lexical champion over 300 products, fitted with the domain functions alone (about two seconds)."""
    from shelfwise.artifacts import atomic_write_json, content_id, frame_id, publish
    from shelfwise.feedback import read_feedback
    from shelfwise.matching.index import CatalogIndex, product_names
    from shelfwise.matching.lexical import Lexical
    from shelfwise.matching.matcher import Matcher
    from shelfwise.registry import Registry
    from shelfwise.synthetic import SyntheticConfig, generate
    from shelfwise.text import normalise

    base = tmp_path_factory.mktemp("shop")
    lake = base / "lake"
    catalog = generate(SyntheticConfig(n_products=300, n_mappings=700, n_vendors=10, n_uploads=0, n_listings=0, seed=5))
    products = catalog.products.assign(normalised_title=catalog.products["title"].map(normalise))
    products = products.reindex(columns=PRODUCT_COLUMNS)
    lines = catalog.mappings.merge(products[["product_id", "title", "category"]], on="product_id")
    positives = lines.rename(columns={"title": "product_title"}).assign(
        normalised_title=lines["vendor_title"].map(normalise), source="mapping"
    )
    positives = positives.drop_duplicates(["vendor_id", "normalised_title"]).reset_index(drop=True)
    positives["line_id"] = [
        content_id(*key) for key in positives[["vendor_id", "normalised_title"]].to_numpy().tolist()
    ]
    names = product_names(products, positives)
    index = CatalogIndex.build(products, names, Lexical.fit(names["name"].tolist()))
    Matcher.fit(positives[["vendor_id", "vendor_title", "product_id"]], index).save(base / "matcher")
    index.save(base / "index")
    matcher_id, catalog_id = content_id("matcher"), content_id(frame_id(products), frame_id(names))
    location = publish(base / "matcher", lake / "artifacts" / "title_matcher" / matcher_id)
    index_location = publish(base / "index", lake / "artifacts" / "product_index" / catalog_id)
    registry = Registry(lake / "registry")
    version = registry.register(
        "title_matcher", location, matcher_id, {}, {"catalog": catalog_id, "index": index_location}
    )
    registry.promote(version)
    tables = {
        "staging/stg_products": products, "marts/labelled_positives": positives, "matching/product_names": names,
        "raw/feedback": read_feedback(base / "nobody answered"),
    }  # fmt: skip
    for name, frame in tables.items():
        path = lake / "tables" / f"{name}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        frame.to_parquet(path, index=False)
    reference = {"id": catalog_id, "location": index_location, "champion_id": matcher_id}
    atomic_write_json(lake / "tables" / "matching" / "catalog_index.json", reference)
    (base / "data").mkdir()
    return Shop(base / "data", lake, products, version.label)


@pytest.fixture
def shop(_shop: Shop, tmp_path: Path) -> Shop:
    """A copy of the small shop that a test may change; its artifacts are shared and never change."""
    lake, data = tmp_path / "lake", tmp_path / "data"
    shutil.copytree(_shop.lake, lake, ignore=shutil.ignore_patterns("artifacts"))
    data.mkdir()
    assert json.loads((lake / "tables" / "matching" / "catalog_index.json").read_text())["location"]
    return Shop(data, lake, _shop.products, _shop.version)


@pytest.fixture(scope="session")
def s3_url() -> Iterator[str]:
    """An S3 server on the loopback interface, for a process of the tests; see `tests.s3` for what points at it."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    """A Dagster instance that is gone after the test."""
    with dg.DagsterInstance.ephemeral() as made:
        yield made
