"""What a combination of classifiers is worth on listings with text and picture, and with either alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from shelfwise.classification.decide import Thresholds
from shelfwise.classification.ensemble import ACCURACY, Ensemble
from shelfwise.classification.judge import LEAST_OF_CASE, by_case
from shelfwise.classification.taxonomy import Taxonomy
from shelfwise.matching.guarantee import Certificate

TREE = Taxonomy.of(["A", "B", "C", "D", "E", "F", "G"])
N, CASES = 80, ("text", "image", "both")


class Model:
    """Pictures are always right and sure, texts three times of four; together pictures win."""

    taxonomy, classes = TREE, TREE.classes

    def __init__(self, surely: float | None = None) -> None:
        flat, temperatures = np.full(len(TREE), 1 / len(TREE)), dict.fromkeys(CASES, 1.0)
        self.combiner = Ensemble(ACCURACY, {"text": 0.01, "image": 0.99}, None, temperatures, flat, "")
        certain = Certificate(surely, 0.9, 1.0, N, 0, N, 1.0, N, 1.0, 0.9, 0.95)
        self.thresholds = Thresholds({case: {1: certain} for case in CASES})


def said(right: np.ndarray, rows: np.ndarray, sure: float) -> np.ndarray:
    p = np.full((N, len(TREE)), (1 - sure) / (len(TREE) - 1), np.float32)
    p[np.arange(N), right] = sure
    p[~rows] = np.nan
    return p


@pytest.fixture
def parts() -> tuple[dict[str, np.ndarray], list[list[int]]]:
    """All have a text, half of them a picture."""
    number = np.arange(N)
    truth, everyone = number % len(TREE), np.ones(N, bool)
    wrong = (truth + (number % 4 == 0)) % len(TREE)
    return {"text": said(wrong, everyone, 0.6), "image": said(truth, number < N // 2, 0.9)}, [[one] for one in truth]


def test_each_case_is_measured_on_all_listings_that_can_stand_for_it(parts: Any) -> None:
    model: Any = Model()
    found = by_case(model, *parts, TREE)
    assert found == {
        "case_both_top1": 1.0, "case_both_top5": 1.0, "case_image_top1": 1.0, "case_image_top5": 1.0,
        "case_text_top1": 0.75, "case_text_top5": pytest.approx(0.9, abs=0.1),
    }  # fmt: skip
    alone = by_case(model, {"text": parts[0]["text"]}, parts[1], TREE)
    assert alone == {name: value for name, value in found.items() if "text" in name}


def test_of_what_is_assigned_the_precision_is_measured(parts: Any) -> None:
    model: Any = Model(surely=0.5)
    assert by_case(model, *parts, TREE)["case_text_assigned_precision"] == 0.75


def test_a_case_with_too_few_listings_says_nothing(parts: Any) -> None:
    model: Any = Model()
    said, truth = parts
    said["image"][LEAST_OF_CASE - 1 :] = np.nan
    assert {name.split("_")[1] for name in by_case(model, said, truth, TREE)} == {"text"}


def test_classes_that_the_combination_does_not_know_count_as_wrong(parts: Any) -> None:
    model: Any = Model()
    wider = Taxonomy.of([*TREE.classes, "AA"])
    truth = [[wider.classes.index("AA")] if place % 2 else [wider.classes.index(TREE.classes[one[0]])]
             for place, one in enumerate(parts[1])]  # fmt: skip
    assert by_case(model, *(parts[0], truth), wider)["case_both_top1"] == 0.5
