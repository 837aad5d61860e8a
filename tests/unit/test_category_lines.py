"""What a category model answers where words or pictures are missing, and the categories of an upload's lines."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from shelfwise.classification.bulk import COLUMNS, PICTURE_ALONE, classify_lines, line_pictures, unreadable
from shelfwise.classification.decide import Thresholds
from shelfwise.classification.ensemble import Ensemble
from shelfwise.classification.listings import with_text
from shelfwise.classification.model import CategoryModel, _texts
from shelfwise.classification.pictures import Pictures
from shelfwise.classification.taxonomy import Taxonomy
from shelfwise.contract import ListingError
from shelfwise.text import normalise
from tests.s3 import point_at, remove

TREE = Taxonomy.of(["Beer", "Juice", "Wine"])
RED, GREEN = (200, 0, 0), (0, 200, 0)


class Reads:
    """Stands for a text classifier: it knows the word wine, and takes what it cannot read for beer."""

    classes = TREE.classes

    def probabilities(self, titles: list[str | None], descriptions: list[str | None]) -> np.ndarray:
        words = [f"{title or ''} {text or ''}" for title, text in zip(titles, descriptions, strict=True)]
        return np.array([[0.1, 0.1, 0.8] if "wine" in one else [0.8, 0.1, 0.1] for one in words], np.float32)

    def explain(self, titles: list[str | None], descriptions: list[str | None], chosen: np.ndarray) -> list[str]:
        return ["'wine' +1.0" if title and "wine" in title else "" for title in titles]


class Looks:
    """Stands for an image classifier: what is green is juice, what is red is wine."""

    classes = TREE.classes
    side = 8

    def probabilities(self, pixels: np.ndarray) -> np.ndarray:
        green = pixels[:, 4, 4, 1] > pixels[:, 4, 4, 0]
        return np.where(green[:, None], [0.05, 0.9, 0.05], [0.05, 0.05, 0.9]).astype(np.float32)


def model(*, reads: bool = True, looks: bool = True) -> CategoryModel:
    """A category model of the two, whose combination has seen 300 listings; most are beer."""
    truth = np.array([0] * 240 + [1] * 30 + [2] * 30)
    p = np.full((300, 3), 0.1, np.float32)
    p[np.arange(300), truth] = 0.8
    weights = {"text": 0.8, "image": 0.8}
    combiner = Ensemble.fit(p if reads else None, p if looks else None, truth, weights, TREE.classes)
    parts = Reads() if reads else None, Looks() if looks else None
    return CategoryModel(TREE, combiner, Thresholds(), *parts, about={})  # type: ignore[arg-type]


def picture(colour: tuple[int, int, int] = RED) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (16, 16), colour).save(stream, "PNG")
    return stream.getvalue()


def lines_of(rows: dict[str, tuple[str, str | None]]) -> pd.DataFrame:
    """Lines of an upload: title and image by line_id."""
    told = [(line, number, "acme", "f.csv", *row, None) for number, (line, row) in enumerate(rows.items(), 2)]
    columns = ["line_id", "row", "vendor_id", "file", "title", "image", "description"]
    return pd.DataFrame(told, columns=columns).astype({"title": "str", "image": "str"})


def best_of(found: pd.DataFrame) -> pd.DataFrame:
    return found[found["rank"] == 1].set_index("line_id")


# --- The model where something is missing -------------------------------------------------------------------------


def test_a_model_that_only_looks_answers_without_pictures_too() -> None:
    listings = pd.DataFrame({"listing_id": ["a", "b"], "title": ["wine", "beer"]})
    alone = model(reads=False)
    p, cases = alone.answer(listings)
    np.testing.assert_allclose(p, np.tile(alone.combiner.frequency, (2, 1)), rtol=1e-5)
    assert cases.tolist() == ["none", "none"]
    assert alone.probabilities(listings.head(0)).shape == (0, 3)
    found = best_of(classify_lines(alone, lines_of({"a": ("wine", None)}), None, None, "c:1"))
    assert found.loc["a", ["evidence", "decision", "explanation"]].tolist() == ["none", "ask", ""]


def test_signs_are_no_text() -> None:
    pictures = Pictures.pack([("a", picture()), ("b", picture())], 8)
    listings = pd.DataFrame({"listing_id": ["a", "b", "c"], "title": ["???", "wine", "- / -"], "description": " … "})
    both = model()
    p, cases = both.answer(listings, pictures)
    assert cases.tolist() == ["image", "both", "none"]
    np.testing.assert_array_equal(p[0], both.answer(listings.assign(title=None), pictures)[0][0])
    assert both.answer(listings.assign(description="wine"))[1].tolist() == ["text"] * 3


@given(st.text(max_size=8))
@example("â€™")
@example("\uff9e")
@example("Ⅷ")
@example("красное вино")
@example("0\u0338")
def test_a_text_is_blank_where_its_normal_form_is_empty(text: str) -> None:
    listings = pd.DataFrame({"title": [text]})
    (read,) = _texts(listings, "title")
    assert (read is None) == (normalise(text) == "")
    assert with_text(listings).empty == (read is None), "what is learned from is what is read"


# --- Lines and the pictures they name -----------------------------------------------------------------------------


def test_lines_are_answered_by_what_can_be_read_of_them() -> None:
    named = {"a": ("wine", None), "b": ("beer", "b.png"), "c": ("???", "c.png"), "d": ("???", None)}
    pictures = Pictures.pack([("b", picture(GREEN)), ("c", picture(GREEN)), ("x", picture())], 8)
    found = classify_lines(model(), lines_of(named), None, None, "c:1", pictures=pictures)
    assert list(found.columns) == list(COLUMNS)
    assert list(COLUMNS).index("evidence") == list(COLUMNS).index("certain") + 1
    assert found.groupby("line_id")["evidence"].nunique().eq(1).all(), "of the line, repeated"
    best = best_of(found)
    assert best["evidence"].to_dict() == {"a": "text", "b": "both", "c": "image", "d": "none"}
    assert best["category"].loc[["a", "c"]].tolist() == ["Wine", "Juice"]
    assert best["explanation"].to_dict() == {"a": "'wine' +1.0", "b": "", "c": PICTURE_ALONE, "d": ""}
    assert best["decision"]["d"] == "ask", "that most things are beer says nothing of this one"
    without = best_of(classify_lines(model(), lines_of(named), None, None, "c:1"))
    assert without["evidence"].tolist() == ["text", "text", "none", "none"]
    assert without["probability"]["a"] == best["probability"]["a"]
    assert classify_lines(model(), lines_of(named).head(0), None, None, "c:1")["evidence"].dtype == "str"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    images = tmp_path / "data" / "images" / "acme"
    images.mkdir(parents=True)
    (images / "red.png").write_bytes(picture())
    (images / "broken.jpg").write_bytes(b"not a picture at all")
    (images.parent / "bare.png").write_bytes(picture())
    return tmp_path / "data"


NAMED: dict[str, tuple[str, str | None]] = {
    "red": ("a", "images/acme/red.png"),
    "again": ("b", "acme/red.png"),
    "broken": ("c", "acme/broken.jpg"),
    "gone": ("d", "acme/gone.jpg"),
    "url": ("e", "https://example.org/red.png"),
    "outside": ("f", "../../etc/passwd"),
    "bare": ("g", None),
    "blank": ("h", " "),
}


def test_pictures_are_those_that_lines_name_and_what_cannot_be_read_is_told_by_row(data: Path, tmp_path: Path) -> None:
    lines = lines_of(NAMED)
    pictures = line_pictures(data, lines, 8, tmp_path / "packed")
    assert pictures is not None
    assert isinstance(pictures.pixels, np.memmap), "pixels wait on disk"
    assert pictures.listing_ids == ["red", "again"], "not images/bare.png: a line's picture is the one that it names"
    told = unreadable(lines, pictures)
    assert told["row"].tolist() == [4, 5, 6, 7]
    reasons = ["not a picture", "there is no file images/acme/gone.jpg", "a URL", "leaves the data directory"]
    for reason, problem in zip(reasons, told["problem"], strict=True):
        assert reason in problem
    assert told["image"].tolist() == [NAMED[name][1] for name in ("broken", "gone", "url", "outside")]


def test_where_no_line_names_a_picture_no_folder_is_listed(tmp_path: Path) -> None:
    (tmp_path / "images").write_text("no folder")
    lines = lines_of({"a": ("wine", None)})
    for one in (lines, lines.drop(columns="image")):
        assert line_pictures(tmp_path, one, 8, tmp_path / "packed") is None
        assert unreadable(one, None).empty
    with pytest.raises(ListingError, match="cannot list"):
        line_pictures(tmp_path, lines.assign(image="a.png"), 8, tmp_path / "packed")


def test_pictures_come_from_a_bucket_as_from_a_folder(
    data: Path, tmp_path: Path, s3_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = point_at(s3_url, monkeypatch, "pictured")
    try:
        for path in data.rglob("*.*"):
            client.upload_file(str(path), "pictured", f"shop/{path.relative_to(data)}")
        lines = lines_of(NAMED)
        here, there = (
            line_pictures(root, lines, 8, tmp_path / name)
            for name, root in (("here", data), ("there", "s3://pictured/shop"))
        )
    finally:
        remove(client, "pictured")
    assert here is not None
    assert there is not None
    assert there.listing_ids == here.listing_ids == ["red", "again"]
    np.testing.assert_array_equal(there.pixels, here.pixels)
    assert there.problems.to_dict() == here.problems.to_dict()
