"""Matches and categories check each other; and the picture files of a data directory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from shelfwise.classification import picture_files
from shelfwise.classification.crosscheck import cross_check, related_classes
from shelfwise.classification.taxonomy import Taxonomy

TREE = Taxonomy.of(["Drinks > Beer", "Drinks > Wine", "Drinks > Wine > Red", "Pets"])


@pytest.mark.parametrize(
    ("path", "related"),
    [
        ("Drinks", ["Drinks > Beer", "Drinks > Wine", "Drinks > Wine > Red"]),
        ("Drinks > Wine", ["Drinks > Wine", "Drinks > Wine > Red"]),
        ("Drinks > Wine > Red > Merlot", ["Drinks > Wine", "Drinks > Wine > Red"]),
        ("Drinks > Wine > White", ["Drinks > Wine"]),
        ("Drinks > Win", []),
        ("Toys", []),
        ("Toys | Pets", ["Pets"]),
    ],
)
def test_which_classes_agree_with_a_path(path: str, related: list[str]) -> None:
    assert [name for name, one in zip(TREE.classes, related_classes(path, TREE), strict=True) if one] == related


def check(category: str, p: list[float], decision: str = "assign", match: str = "approved", title: str = "t") -> dict:
    lines = pd.DataFrame({"line_id": ["l"], "title": ["t"], "decision": [decision]})
    matches = pd.DataFrame({"line_id": ["l"], "title": [title], "rank": [1], "product_id": ["x"], "decision": [match]})
    products = pd.DataFrame({"product_id": ["x"], "category": [category]})
    return cross_check(lines, np.array([p]), TREE, matches, products).iloc[0].to_dict()


def test_a_contradiction_takes_two_that_are_sure() -> None:
    wine = [0.0, 0.5, 0.48, 0.02]
    assert check("Pets", wine)["contradiction"]
    assert check("Pets", wine)["match_probability"] == pytest.approx(0.02)
    assert not check("Pets", wine, decision="suggest")["contradiction"]
    assert not check("Pets", wine, match="review")["contradiction"]
    assert not check("Drinks > Wine > Red", wine)["contradiction"]
    assert not check("Pets", [0.0, 0.5, 0.43, 0.07])["contradiction"], "not ruled out"


def test_what_cannot_be_compared_is_not_flagged() -> None:
    sure = [0.0, 1.0, 0.0, 0.0]
    for category in ("Toys > Cars", None):
        found = check(category, sure)
        assert not found["contradiction"]
        assert np.isnan(found["match_probability"])
    older = check("Pets", sure, title="what stood in an older file")
    assert (older["contradiction"], pd.isna(older["match_product_id"])) == (False, True)


def test_without_matches_or_products_there_is_nothing_to_compare() -> None:
    lines = pd.DataFrame({"line_id": ["l"], "title": ["t"], "decision": ["assign"]})
    for matches, products in ((None, pd.DataFrame()), (pd.DataFrame(), None)):
        found = cross_check(lines, np.full((1, 4), 0.25), TREE, matches, products)
        assert found["contradiction"].tolist() == [False]
        assert list(found.columns) == ["match_product_id", "match_category", "match_probability", "contradiction"]


# --- Picture files ------------------------------------------------------------------------------------------------


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "secret.txt").write_text("nobody's business")
    images = tmp_path / "data" / "images"
    (images / "more").mkdir(parents=True)
    for name in ("a.jpg", "more/b.png", "c.webp"):
        (images / name).write_bytes(name.encode())
    (images / "link.jpg").symlink_to(tmp_path / "secret.txt")
    return tmp_path / "data"


def test_a_picture_is_what_is_named_or_what_bears_the_listings_id(data: Path) -> None:
    listings = pd.DataFrame(
        {"listing_id": ["a", "x", "y", "c", "z"], "image": [None, "images/more/b.png", "more/b.png", "", None]}
    )
    found = picture_files.find(data, listings)
    assert dict(zip(found["listing_id"], found["path"], strict=True)) == {
        "a": "images/a.jpg", "x": "images/more/b.png", "y": "images/more/b.png", "c": "images/c.webp",
    }  # fmt: skip
    assert dict(picture_files.read(data, found)) == {
        "a": b"a.jpg",
        "x": b"more/b.png",
        "y": b"more/b.png",
        "c": b"c.webp",
    }


@pytest.mark.parametrize(
    ("image", "why"),
    [
        ("../../secret.txt", "leaves the data directory"),
        ("images/../../secret.txt", "leaves the data directory"),
        ("/etc/passwd", "leaves the data directory"),
        ("https://example.org/a.jpg", "a URL"),
        ("gone.jpg", "there is no file images/gone.jpg"),
        ("link.jpg", "there is no file images/link.jpg"),
        ("..\\..\\secret.txt", "leaves the data directory"),
    ],
)
def test_nothing_outside_the_folder_is_read(data: Path, image: str, why: str) -> None:
    found = picture_files.find(data, pd.DataFrame({"listing_id": ["q"], "image": [image]}))
    ((listing_id, reason),) = picture_files.read(data, found)
    assert listing_id == "q"
    assert isinstance(reason, str)
    assert why in reason


def test_a_picture_that_is_not_there_hides_no_other(data: Path) -> None:
    listings = pd.DataFrame({"listing_id": ["a", "x", "c"], "image": [None, "gone.jpg", None]})
    told = dict(picture_files.read(data, picture_files.find(data, listings)))
    assert told == {"a": b"a.jpg", "x": "there is no file images/gone.jpg", "c": b"c.webp"}


def test_a_changed_file_has_another_stamp_and_a_folder_that_is_not_there_holds_none(data: Path) -> None:
    listings = pd.DataFrame({"listing_id": ["a"], "image": [None]})
    before = picture_files.find(data, listings)
    (data / "images" / "a.jpg").write_bytes(b"another one")
    assert (picture_files.find(data, listings)["stamp"] != before["stamp"]).all()
    assert picture_files.find(data / "elsewhere", listings).empty
