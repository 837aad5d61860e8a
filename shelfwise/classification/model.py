"""A category model: a text classifier, an image classifier and what combines them, in one directory.

    model = CategoryModel.load(directory)
    p = model.probabilities(titles, descriptions, pixels)

The directory is whole in itself: `text/` and `image/` are copies of the champions it was fitted with, `combiner/`
weighs them, and `decisions.json` says what is certain enough. So a version that comes back by a rollback finds the very
classifiers it was measured with, whatever became of them in between. Either of the two may be missing, and so may the
title or the picture of a listing.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from shelfwise.artifacts import atomic_write_json
from shelfwise.classification import held_out
from shelfwise.classification.decide import Thresholds
from shelfwise.classification.ensemble import IMAGE, TEXT, Ensemble, align
from shelfwise.classification.listings import is_blank
from shelfwise.classification.taxonomy import Taxonomy

if TYPE_CHECKING:
    from shelfwise.classification.image import ImageClassifier
    from shelfwise.classification.pictures import Pictures
    from shelfwise.classification.text import TextClassifier

COMBINER, ABOUT, TREE, DECISIONS = "combiner", "model.json", "taxonomy.json", "decisions.json"
AT_ONCE = 4096  # pictures whose pixels are in memory together


def text_probabilities(
    model: TextClassifier, listings: pd.DataFrame, taxonomy: Taxonomy, unseen: bool = False
) -> np.ndarray:
    """Return what a text classifier says of listings (title, description), float32 [n, classes of the taxonomy]; rows
    of NaN where a listing has neither, or nothing but signs. `unseen`: see `TextClassifier.unseen_probabilities`.
    """
    titles, descriptions = _texts(listings, "title"), _texts(listings, "description")
    blank = np.array([not (title or text) for title, text in zip(titles, descriptions, strict=True)], bool)
    out = np.full((len(listings), len(taxonomy)), np.nan, np.float32)
    rows = np.flatnonzero(~blank)
    if len(rows):
        ask = model.unseen_probabilities if unseen else model.probabilities
        p = ask([titles[i] for i in rows], [descriptions[i] for i in rows])
        out[rows] = align(p, model.classes, taxonomy.classes)
    return out


def image_probabilities(
    model: ImageClassifier, listing_ids: pd.Series, pictures: Pictures, taxonomy: Taxonomy
) -> np.ndarray:
    """Return what an image classifier says of listings, float32 [n, classes of the taxonomy]; rows of NaN where a
    listing has no picture.
    """
    place = pictures.rows_of(listing_ids)
    out = np.full((len(listing_ids), len(taxonomy)), np.nan, np.float32)
    rows = np.flatnonzero(place >= 0)
    for start in range(0, len(rows), AT_ONCE):
        some = rows[start : start + AT_ONCE]
        pixels = np.asarray(pictures.pixels[place[some]])
        out[some] = align(model.probabilities(pixels), model.classes, taxonomy.classes)
    return out


def _texts(listings: pd.DataFrame, column: str) -> list[str | None]:
    if column not in listings:
        return [None] * len(listings)
    return [None if is_blank(one) else one for one in listings[column].tolist()]


@dataclass
class CategoryModel:
    """What says the category of a listing in production."""

    taxonomy: Taxonomy
    combiner: Ensemble
    thresholds: Thresholds
    text: TextClassifier | None
    image: ImageClassifier | None
    about: dict[str, Any]

    @property
    def classes(self) -> tuple[str, ...]:
        return self.taxonomy.classes

    @staticmethod
    def assemble(
        directory: Path,
        taxonomy: Taxonomy,
        combiner: Ensemble,
        thresholds: Thresholds,
        parts: Mapping[str, Path],
        about: dict[str, Any],
    ) -> None:
        """Write a model's directory. `parts`: directories of the classifiers ('text', 'image'), which are copied."""
        not_needed = shutil.ignore_patterns("manifest.json", held_out.FILE)
        for name, source in parts.items():
            shutil.copytree(source, directory / name, ignore=not_needed)
        combiner.save(directory / COMBINER)
        (directory / TREE).write_text(taxonomy.to_json())
        atomic_write_json(directory / DECISIONS, thresholds.to_json())
        atomic_write_json(directory / ABOUT, about)

    @classmethod
    def load(cls, directory: Path | str) -> CategoryModel:
        """Read a model. Raises FileNotFoundError where the directory holds none."""
        directory = Path(directory)
        text = image = None
        if (directory / TEXT).is_dir():
            from shelfwise.classification.text import TextClassifier

            text = TextClassifier.load(directory / TEXT)
        if (directory / IMAGE).is_dir():
            from shelfwise.classification.image import ImageClassifier

            image = ImageClassifier.load(directory / IMAGE)
        return cls(
            taxonomy=Taxonomy.from_json((directory / TREE).read_text()),
            combiner=Ensemble.load(directory / COMBINER),
            thresholds=Thresholds.from_json(json.loads((directory / DECISIONS).read_text())),
            text=text,
            image=image,
            about=json.loads((directory / ABOUT).read_text()),
        )

    def probabilities(self, listings: pd.DataFrame, pictures: Pictures | None = None) -> np.ndarray:
        """Return calibrated probabilities, float32 [n, classes], of listings (title, description; listing_id where
        there are pictures). Of one that has neither text nor picture nothing is known: its row is how often each class
        occurs.
        """
        return self.answer(listings, pictures)[0]

    def parts(
        self, listings: pd.DataFrame, pictures: Pictures | None = None
    ) -> tuple[np.ndarray | None, np.ndarray | None]:
        """Return what text and image classifier say apart, either None where there is no such classifier; the image
        classifier's is None, too, where no pictures are given and a text classifier is there.
        """
        text = image = None
        if self.text is not None:
            text = text_probabilities(self.text, listings, self.taxonomy)
        if self.image is not None and pictures is not None:
            image = image_probabilities(self.image, listings["listing_id"], pictures, self.taxonomy)
        if text is None and image is None:
            image = np.full((len(listings), len(self.taxonomy)), np.nan, np.float32)
        return text, image

    def answer(self, listings: pd.DataFrame, pictures: Pictures | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Return `probabilities`, and for each listing what they come from (see `Ensemble.cases`)."""
        return self.combined(*self.parts(listings, pictures))

    def combined(self, text: np.ndarray | None, image: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """Return `answer` of listings of which it is known what text and image classifier say (see `parts`)."""
        return self.combiner.probabilities(text, image), Ensemble.cases(text, image)

    def explain(self, listings: pd.DataFrame, categories: Sequence[str]) -> list[str]:
        """Return which words of each listing spoke for a category; "" where there is no text to read."""
        if self.text is None:
            return [""] * len(listings)
        place = {name: number for number, name in enumerate(self.text.classes)}
        rows = [row for row, name in enumerate(categories) if name in place]
        titles, descriptions = _texts(listings, "title"), _texts(listings, "description")
        said = self.text.explain(
            [titles[i] for i in rows],
            [descriptions[i] for i in rows],
            np.array([place[categories[i]] for i in rows], np.int64),
        )
        out = [""] * len(listings)
        for row, words in zip(rows, said, strict=True):
            out[row] = words
        return out
