"""What files are compared with where nobody knows how sellers differ, and which listings and lines that takes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from shelfwise.classification.decide import Thresholds
from shelfwise.classification.taxonomy import Taxonomy
from shelfwise.monitoring import category_drift, drift

TREE = Taxonomy.of(["Drinks", "Home", "Pets"])


class Sure:
    """Answers by the first letter, as sure as the number after it says; remembers what it was asked."""

    taxonomy, thresholds = TREE, Thresholds()

    def __init__(self) -> None:
        self.asked: set[str] = set()

    def answer(self, listings: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        self.asked |= set(listings["title"])
        p = np.full((len(listings), 3), np.nan)
        for row, title in enumerate(listings["title"]):
            best = float(title.split()[1]) / 100
            p[row] = (1 - best) / 2
            p[row, "dhp".index(title[0])] = best
        return p.astype(np.float32), np.full(len(listings), "text")


def listings(count: int = 1000, sellers: int = 0, seed: int = 0) -> pd.DataFrame:
    """Listings about which a model is sure by 85 to 99 %; a third of them in test, a third in valid."""
    rng = np.random.default_rng(seed)
    titles = [f"{rng.choice(list('dhp'))} {rng.integers(85, 100)} thing {number}" for number in range(count)]
    frame = pd.DataFrame({"title": titles, "split": [("train", "valid", "test")[n % 3] for n in range(count)]})
    seller = [f"s{n // 3 % sellers}" if sellers else None for n in range(count)]
    return frame.assign(group_id=[f"g{seed}-{n}" for n in range(count)], seller_id=seller)


def reference(frame: pd.DataFrame) -> drift.Reference:
    model: Any = Sure()
    return category_drift.make_reference(model, frame, {})


def upload(surely: tuple[int, int], seed: int = 5, count: int = 300) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    titles = pd.Series([f"{rng.choice(list('dhp'))} {rng.integers(*surely)} thing {n}" for n in range(count)])
    p, _ = Sure().answer(pd.DataFrame({"title": titles}))
    best = {"line_id": range(count), "title": titles, "vendor_id": "new", "decision": "suggest", "evidence": "text"}
    first = pd.DataFrame(best | {"rank": 1, "category": np.array(TREE.classes)[p.argmax(1)], "probability": p.max(1)})
    return pd.concat([first, first.assign(rank=2, category="", probability=(1 - p.max(1)) / 2)])


def judged(rows: pd.DataFrame, against: drift.Reference) -> drift.Judgement:
    return category_drift.judge(category_drift.describe(rows, against), against, 0.01, 0.2)


def test_only_listings_that_no_classifier_was_fitted_on_are_described():
    model: Any = Sure()
    frame = listings(sellers=4)
    category_drift.make_reference(model, frame, {})
    assert model.asked == set(frame.loc[frame["split"] == "test", "title"])


@pytest.mark.parametrize(
    ("sellers", "by_seller", "vendors"), [(4, True, 4), (3, True, 3), (2, False, 10), (100, False, 10), (0, False, 10)]
)
def test_random_parts_stand_in_for_sellers_where_these_are_too_few_or_too_small(
    sellers: int, by_seller: bool, vendors: int
):
    made = reference(listings(sellers=sellers))
    assert (made.about["by_seller"], made.about["vendors"]) == (by_seller, vendors)
    assert made.about["lines"] == 333
    sizes = made.lines["vendor_id"].value_counts()
    assert sizes.min() >= drift.LEAST_LINES
    for name, one in made.spreads.items():
        assert (one.between >= one.within) or by_seller, name


def test_parts_are_the_same_whenever_they_are_drawn_and_keep_a_group_together():
    frame = listings().assign(group_id=lambda rows: [f"g{n // 3}" for n in range(len(rows))])
    frame["split"] = [("train", "valid", "test")[n // 3 % 3] for n in range(len(frame))]
    one, other = reference(frame), reference(frame.sample(frac=1, random_state=1))
    columns = ["title", "vendor_id"]
    pd.testing.assert_frame_equal(
        *(made.lines[columns].sort_values("title", ignore_index=True) for made in (one, other))
    )
    part = one.lines.merge(frame[["title", "group_id"]], on="title").groupby("group_id")["vendor_id"].nunique()
    assert (part == 1).all()


def test_a_vendor_that_differs_as_vendors_do_is_no_drift_where_nobody_knows_how_they_differ():
    """Twelve points of probability are far more than the noise of 300 lines, and less than sellers may differ by."""
    pooled = reference(listings())
    like, other, far = upload((85, 100)), upload((73, 88)), upload((40, 60))
    assert judged(like, pooled).level == drift.OK
    found = judged(other, pooled)
    assert found.level == drift.OK
    assert found.sentence.endswith("; how sellers differ is not known, so only large changes are told")
    assert judged(far, pooled).level != drift.OK
    assert "probability" in judged(far, pooled).drifted
    known = judged(other, reference(listings(sellers=4)))
    assert known.level != drift.OK, "four sellers who are all alike"
    assert "how sellers differ" not in known.sentence


def test_what_is_too_little_is_said():
    assert category_drift.why_not(listings(179)) == "59 texts are held out, and 60 are needed"
    assert category_drift.why_not(listings(180)) == ""
    few = reference(listings(180))
    assert few.about["vendors"] == 3
    assert judged(upload((40, 60)), few).level != drift.OK, "what is assumed of sellers is as certain with three parts"


def test_lines_with_more_or_less_than_text_are_not_described():
    rows, pooled = upload((85, 100)), reference(listings())
    rows["evidence"] = ["both" if line < 100 else "none" if line < 150 else "text" for line in rows["line_id"]]
    assert len(category_drift.describe(rows, pooled)) == 150
    before = rows.drop(columns="evidence")
    assert len(category_drift.describe(before, pooled)) == 300, "as stored before the evidence was"
