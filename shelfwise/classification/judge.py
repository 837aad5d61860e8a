"""Any classifier on the held-out listings: one that reads, one that looks, or both combined, candidate or champion.

All are measured on the same listings, over the same classes: those that either knows and those that the listings have.
A class that a classifier does not know has no probability there, and a listing of that class counts as wrong.

A combination is measured by case too: a listing with text and picture stands there three times, as it is, with its
picture hidden and with its text hidden. Uploads bring text alone where the labelled listings have pictures, and what
they are compared with later has to be of their kind.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from shelfwise.classification.ensemble import BOTH, Ensemble, align
from shelfwise.classification.listings import class_counts, evaluation_lines, labels_of, with_text
from shelfwise.classification.model import CategoryModel, image_probabilities, text_probabilities
from shelfwise.classification.taxonomy import Taxonomy

if TYPE_CHECKING:
    from shelfwise.classification.evaluate import Evaluation
    from shelfwise.classification.pictures import Pictures

TEXT, IMAGE, ENSEMBLE = "text", "image", "ensemble"
NEIGHBOURS, THUMBNAIL, MOST_NEIGHBOURS = 5, 16, 5_000
CASE_MEASURES = ("top1", "top5", "assigned_precision")
LEAST_OF_CASE = 30  # held-out listings of a case (assigned ones, for their precision) before its number is kept
Says = Callable[[pd.DataFrame, "Pictures | None", Taxonomy], np.ndarray]


@dataclass(frozen=True)
class Judged:
    """A classifier ready to be asked: its classes, what it says of listings [n, classes of a taxonomy], the model."""

    classes: tuple[str, ...]
    says: Says
    model: Any


def load(kind: str, directory: Path) -> Judged:
    """Load a classifier of a kind. Raises FileNotFoundError or ValueError where this code cannot read it."""
    if kind == TEXT:
        from shelfwise.classification.text import TextClassifier

        text = TextClassifier.load(directory)
        return Judged(tuple(text.classes), lambda rows, _, tree: text_probabilities(text, rows, tree), text)
    if kind == IMAGE:
        from shelfwise.classification.image import ImageClassifier

        image = ImageClassifier.load(directory)

        def look(rows: pd.DataFrame, pictures: Pictures | None, tree: Taxonomy) -> np.ndarray:
            assert pictures is not None
            return image_probabilities(image, rows["listing_id"], pictures, tree)

        return Judged(tuple(image.classes), look, image)
    both = CategoryModel.load(directory)

    def combine(rows: pd.DataFrame, pictures: Pictures | None, tree: Taxonomy) -> np.ndarray:
        return align(both.probabilities(rows, pictures), both.classes, tree.classes)

    return Judged(both.classes, combine, both)


def held_out(kind: str, listings: pd.DataFrame, pictures: Pictures | None) -> pd.DataFrame:
    """Return the listings (with `split`) on which a kind of classifier is measured: those of test, and of them for one
    that reads those that have a text, for one that looks those that have a picture.
    """
    return _readable(kind, listings[listings["split"] == "test"], pictures)


def _readable(kind: str, listings: pd.DataFrame, pictures: Pictures | None) -> pd.DataFrame:
    if kind == IMAGE:
        return with_picture(listings, pictures)
    return with_text(listings) if kind == TEXT else listings.reset_index(drop=True)


def with_picture(listings: pd.DataFrame, pictures: Pictures | None) -> pd.DataFrame:
    """Return the listings that have a readable picture."""
    return listings[_pictured(listings, pictures)].reset_index(drop=True)


def _pictured(listings: pd.DataFrame, pictures: Pictures | None) -> np.ndarray:
    if pictures is None:
        return np.zeros(len(listings), bool)
    return pictures.rows_of(listings["listing_id"]) >= 0


def classes_of(test: pd.DataFrame, *judged: Judged) -> Taxonomy:
    """Return the taxonomy of all classes that the listings have or one of the classifiers knows."""
    return Taxonomy.of([*labels_of(test), *[list(one.classes) for one in judged]])


def judge(
    kind: str,
    one: Judged,
    listings: pd.DataFrame,
    pictures: Pictures | None,
    taxonomy: Taxonomy,
    seed: int,
    beside: bool = True,
) -> Evaluation:
    """Evaluate a classifier on the held-out ones of `listings` (with `split`); `beside`: simple baselines too, and of a
    combination what it is worth by case (`by_case`).
    """
    from shelfwise.classification.decide import decisions
    from shelfwise.classification.evaluate import evaluate

    test = held_out(kind, listings, pictures)
    lines = evaluation_lines(test, _pictured(test, pictures))
    train = _readable(kind, listings[listings["split"] == "train"], pictures)
    counts = class_counts(train, taxonomy)
    truth = taxonomy.truths(labels_of(test))
    if kind != ENSEMBLE:
        baselines = _baselines(kind, one, train, test, pictures, taxonomy) if beside else {}
        return evaluate(one.says(test, pictures, taxonomy), truth, taxonomy, lines, baselines, seed, counts)
    said = one.model.parts(test, pictures)
    own, cases = one.model.combined(*said)
    lines["decision"] = decisions(own, one.model.taxonomy, one.model.thresholds, cases)
    parts = {name: p for name, p in zip((TEXT, IMAGE), said, strict=True) if p is not None} if beside else {}
    baselines = {name: align(p, one.classes, taxonomy.classes) for name, p in parts.items()}
    found = evaluate(align(own, one.classes, taxonomy.classes), truth, taxonomy, lines, baselines, seed, counts)
    found.metrics |= by_case(one.model, parts, truth, taxonomy)
    return found


def case_metric(case: str, measure: str) -> str:
    """Return the name of a metric (one of `CASE_MEASURES`) of listings of which a case is known."""
    return f"case_{case}_{measure}"


def by_case(
    model: CategoryModel, parts: Mapping[str, np.ndarray], truth: Sequence[Sequence[int]], taxonomy: Taxonomy
) -> dict[str, float]:
    """Return `CASE_MEASURES` of listings with both, with their text alone and with their picture alone, by
    `case_metric`; those of fewer than `LEAST_OF_CASE` listings are left out.

    `parts`: what 'text' and 'image' classifier say of the listings, where there is one. `truth`: their right classes of
    `taxonomy`.
    """
    from shelfwise.classification.calibration import right_answers
    from shelfwise.classification.decide import ASSIGN, decisions
    from shelfwise.classification.evaluate import Outcome

    made: dict[str, float] = {}
    right = right_answers(truth)
    for case, names in {BOTH: {TEXT, IMAGE}, TEXT: {TEXT}, IMAGE: {IMAGE}}.items():
        if not names <= set(parts):
            continue
        text, image = (parts[name] if name in names else None for name in (TEXT, IMAGE))
        rows = np.flatnonzero(Ensemble.cases(text, image) == case)
        if len(rows) < LEAST_OF_CASE:
            continue
        own = model.combiner.probabilities(text, image)[rows]
        came = Outcome.of(align(own, model.classes, taxonomy.classes), right[rows])
        assigned = decisions(own, model.taxonomy, model.thresholds, np.full(len(rows), case)) == ASSIGN
        shares = {"top1": came.first, "top5": came.five, "assigned_precision": came.first[assigned]}
        enough = {name: hits for name, hits in shares.items() if len(hits) >= LEAST_OF_CASE}
        made |= {case_metric(case, name): float(hits.mean()) for name, hits in enough.items()}
    return made


def _baselines(
    kind: str, one: Judged, train: pd.DataFrame, test: pd.DataFrame, pictures: Pictures | None, taxonomy: Taxonomy
) -> dict[str, np.ndarray]:
    """What is simpler than a classifier of one modality, by name: the linear model on n-grams, neighbours by pixels."""
    if kind == IMAGE and pictures is not None:
        return {"neighbours": neighbours(train, test, pictures, taxonomy)}
    if kind == TEXT:
        texts = test["title"].tolist(), test["description"].tolist()
        return {"ngrams": align(one.model.linear_probabilities(*texts), one.classes, taxonomy.classes)}
    return {}


def neighbours(train: pd.DataFrame, test: pd.DataFrame, pictures: Pictures, taxonomy: Taxonomy) -> np.ndarray:
    """Return the categories of the five nearest training pictures by their pixels (16 by 16), float32 [n, classes].

    At most five thousand training pictures are searched, spread evenly over them.
    """
    from sklearn.neighbors import NearestNeighbors

    step = max(1, -(-len(train) // MOST_NEIGHBOURS))
    train = train.iloc[::step]
    index = NearestNeighbors(n_neighbors=min(NEIGHBOURS, len(train))).fit(_thumbnails(train, pictures))
    nearest = index.kneighbors(_thumbnails(test, pictures), return_distance=False)
    classes = taxonomy.index([many[0] if len(many) else None for many in labels_of(train)])
    out = np.zeros((len(test), len(taxonomy)), np.float32)
    for column in range(nearest.shape[1]):
        # The nearest counts a little more, so that one vote each is no tie.
        out[np.arange(len(test)), classes[nearest[:, column]]] += 1 + 0.01 * (NEIGHBOURS - column)
    return out / out.sum(axis=1, keepdims=True)


def _thumbnails(listings: pd.DataFrame, pictures: Pictures) -> np.ndarray:
    rows, side = pictures.rows_of(listings["listing_id"]), pictures.side
    at = (np.arange(THUMBNAIL) * side // THUMBNAIL) if side >= THUMBNAIL else np.arange(side)
    small = np.asarray(pictures.pixels[rows])[:, at][:, :, at]
    return small.reshape(len(rows), -1).astype(np.float32) / 255
