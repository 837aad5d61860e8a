"""Pictures of classifiers: each is drawn for what there is, however little, and shows what was told."""

import io

import numpy as np
import pytest

from shelfwise.classification.evaluate import evaluate
from shelfwise.classification.plots import (
    MOST_CLASSES,
    confusion_picture,
    examples_picture,
    pictures_of,
    reliability_picture,
)
from shelfwise.classification.taxonomy import Taxonomy
from shelfwise.plots import BAD, GOOD

PNG = b"\x89PNG\r\n\x1a\n"


def colours(picture: bytes) -> set[tuple[int, int, int]]:
    from matplotlib.image import imread

    pixels = np.round(imread(io.BytesIO(picture))[:, :, :3] * 255).astype(int).reshape(-1, 3)
    return set(map(tuple, np.unique(pixels, axis=0).tolist()))


def rgb(colour: str) -> tuple[int, ...]:
    return tuple(bytes.fromhex(colour[1:]))


@pytest.mark.parametrize("classes", [1, 3, MOST_CLASSES + 25])
def test_every_picture_of_an_evaluation_is_drawn(classes: int) -> None:
    tree = Taxonomy.of(f"Root {i % 3} > cost $ of {'x' * 50} {i} $" for i in range(classes))
    rng = np.random.default_rng(0)
    found = evaluate(rng.dirichlet(np.ones(classes), 80), rng.integers(0, classes, 80), tree, resamples=20)
    made = pictures_of(found, {"current $ champion $": {"top1": 0.5, "top5": 0.6}})
    assert set(made) == {"accuracy", "levels", "confusion", "calibration", "precision_coverage"}
    assert all(one.startswith(PNG) for one in made.values())


def test_little_is_drawn_too() -> None:
    assert confusion_picture(np.zeros((2, 2), int), ["a", "b"]).startswith(PNG)
    assert reliability_picture({}).startswith(PNG)
    assert examples_picture(np.empty((0, 8, 8, 3), np.uint8), [], []).startswith(PNG)


def test_right_ones_are_framed_green_and_wrong_ones_red() -> None:
    pixels = np.full((2, 16, 16, 3), 200, np.uint8)
    right = colours(examples_picture(pixels, ["A > b", "C"], ["A > b", "D | C"], [0.9, 0.2]))
    assert rgb(GOOD) in right
    assert rgb(BAD) not in right
    wrong = colours(examples_picture(pixels[:1], ["A > b"], ["A > c"], titles=[None]))
    assert rgb(BAD) in wrong
    assert rgb(GOOD) not in wrong
    assert (200, 200, 200) in wrong, "the picture itself"
