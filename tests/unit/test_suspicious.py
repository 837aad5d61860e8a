"""Wrong labels are found among listings whose truth is known, and sellers who keep choosing them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from shelfwise.classification.splits import group_ids
from shelfwise.classification.suspicious import (
    COLUMNS,
    LEAST_GROUPS,
    SELLER_COLUMNS,
    Judged,
    choices,
    out_of_fold,
    review,
    suspicious,
    unlikely_sellers,
)
from shelfwise.classification.taxonomy import Taxonomy

WORDS = {
    "Drinks > Wine": ["merlot", "riesling", "chardonnay", "rioja"],
    "Drinks > Beer": ["lager", "stout", "pilsner", "porter"],
    "Pet > Dogs": ["kibble", "chew", "collar", "leash"],
}


def listings(each: int = 60) -> pd.DataFrame:
    rng = np.random.default_rng(1)
    rows = [
        (f"{rng.choice(words)} {rng.choice(['old', 'new', 'big', 'fine'])} {number} {place}", category)
        for category, words in WORDS.items()
        for place, number in enumerate(rng.integers(100, 1000, each))
    ]
    frame = pd.DataFrame(rows, columns=["title", "category"])
    frame["listing_id"] = [f"l{place:03d}" for place in range(len(frame))]
    frame["group_id"] = group_ids(frame["title"], None, frame["listing_id"])
    return frame.assign(description=None, seller_id="honest")


def staged(frame: pd.DataFrame) -> pd.DataFrame:
    """What sellers chose, where that is what the labels say."""
    columns = ["listing_id", "title", "description", "seller_id"]
    return frame[columns].assign(categories=[[one] for one in frame["category"]]).reset_index(drop=True)


def naive(titles, descriptions, labels, classes):
    """A model small enough to be seen through: how often words stood under a class."""
    counts: dict[str, np.ndarray] = {}
    for title, right in zip(titles, labels, strict=True):
        for word in title.split():
            counts.setdefault(word, np.full(classes, 0.1))[right[0]] += 1
    flat = np.full(classes, 1 / classes)

    def scores(titles, descriptions):
        found = [[counts.get(word, flat) for word in title.split()] for title in titles]
        return np.array([sum(np.log(one / one.sum()) for one in words) for words in found], np.float32)

    return scores


@pytest.fixture(scope="module")
def spoilt():
    frame = listings()
    wrong = frame.index[::20]
    names = list(WORDS)
    frame.loc[wrong, "category"] = [names[(names.index(one) + 1) % 3] for one in frame.loc[wrong, "category"]]
    frame.loc[wrong[:6], "seller_id"] = "careless"
    frame.loc[[1, 2], "seller_id"] = "careless"
    frame.loc[5, "seller_id"] = None
    return frame, set(frame.loc[wrong, "listing_id"])


@pytest.mark.parametrize("model", [naive, None], ids=["naive", "ngrams"])
def test_wrong_labels_are_found_and_right_ones_left_alone(spoilt, model):
    frame, wrong = spoilt
    labels, sellers, numbers = review(frame, staged(frame), **({} if model is None else {"model": model}))
    assert list(labels) == COLUMNS
    first = labels["listing_id"].head(len(wrong))
    assert len(set(first) & wrong) >= 0.8 * len(wrong)
    assert len(labels) <= (2 if model is None else 3) * len(wrong), "the weaker the model, the longer the list"
    assert (labels["suggested"] != labels["category"]).all()
    assert (labels["suggested_probability"] > labels["category_probability"]).all()
    certain = labels["suggested_probability"] - labels["category_probability"]
    assert certain.is_monotonic_decreasing
    assert labels["reason"].str.startswith("a model that had not seen it gives '").all()
    assert sellers["seller_id"].tolist() == ["careless"]
    assert numbers["suspicious"] == len(labels)
    assert (numbers["judged"], numbers["left_out"], numbers["unlikely_sellers"]) == (180, 0, 1)


def test_a_listing_and_its_twins_are_judged_by_models_that_saw_neither(spoilt):
    frame, _ = spoilt
    twins = pd.concat([frame, frame.assign(listing_id="twin-" + frame["listing_id"])], ignore_index=True)
    seen: list[tuple[set, set]] = []

    def watching(titles, descriptions, labels, classes):
        def scores(held, _):
            seen.append((set(titles), set(held)))
            return np.zeros((len(held), classes), np.float32)

        return scores

    judged = out_of_fold(twins, watching, folds=3, seed=5)
    assert len(seen) == 3
    assert all(not trained & held for trained, held in seen)
    assert sorted(title for _, held in seen for title in held) == sorted(set(frame["title"]))
    assert len(judged.p) == 360
    again = out_of_fold(twins.sample(frac=1, random_state=1), watching, folds=3, seed=5)
    assert {frozenset(held) for _, held in seen[:3]} == {frozenset(held) for _, held in seen[3:]}
    assert len(again.p) == 360


def test_small_categories_are_not_judged():
    frame = listings(20)
    few = frame.head(LEAST_GROUPS - 1).assign(category="Rare", listing_id=lambda one: "r" + one["listing_id"])
    few["group_id"] = group_ids(few["title"] + " x", None, few["listing_id"])
    judged = out_of_fold(pd.concat([frame, few], ignore_index=True), naive)
    assert judged.left_out == len(few)
    assert "Rare" not in judged.taxonomy.classes


def test_several_right_categories_are_suspicious_only_if_none_fits():
    taxonomy = Taxonomy.of(WORDS)
    n = 60
    truths = [[place % 3] for place in range(n)]
    p = np.full((n, 3), 0.02, np.float32)
    p[np.arange(n), np.arange(n) % 3] = 0.96
    truths[0], p[0] = [0, 1], [0.02, 0.96, 0.02]  # one of two fits
    truths[3], p[3] = [0, 1], [0.01, 0.01, 0.98]  # neither does
    truths[6], p[6] = [0], [0.01, 0.01, 0.98]
    ids = pd.Series([str(place) for place in range(n)])
    about = pd.DataFrame({"listing_id": ids, "title": "t" + ids, "category": "c", "description": None})
    about["group_id"] = group_ids(about["title"], None, ids)
    about = about.assign(seller_id=None, categories=[[taxonomy.classes[one] for one in right] for right in truths])
    judged = Judged(about, taxonomy, truths, p, 0)
    assert set(suspicious(judged)["listing_id"]) == {"3", "6"}
    assert np.flatnonzero(choices(judged, about)["unlikely"]).tolist() == [3, 6]


def test_the_same_text_under_another_category_is_told():
    frame = listings()
    wines = frame[frame["category"] == "Drinks > Wine"].iloc[::10]
    twins = wines.assign(listing_id="twin-" + wines["listing_id"], category="Pet > Dogs")
    frame = pd.concat([frame, twins], ignore_index=True)
    labels = review(frame, staged(frame), naive)[0].set_index("listing_id")
    told = labels.loc[labels.index.isin(twins["listing_id"]), "reason"]
    assert len(told) >= 3
    assert told.str.endswith("; the same text stands under 'Drinks > Wine' too").all()


def test_nothing_to_judge_is_no_error():
    frame = listings(2)
    labels, sellers, numbers = review(frame, staged(frame))
    assert (list(labels), list(sellers)) == (COLUMNS, SELLER_COLUMNS)
    assert labels.empty
    assert sellers.empty
    assert numbers["judged"] == 0
    alone = listings(20).query("category == 'Pet > Dogs'")
    labels, sellers, _ = review(alone, staged(alone), naive)
    assert labels.empty
    assert sellers.empty
    assert review(listings(), staged(listings(0)), naive)[2]["choices"] == 0, "products may stand in for listings"


def test_listings_without_any_text_are_not_judged_and_missing_titles_are_not_told():
    frame = listings(40)
    frame["description"] = None
    frame.loc[frame.index % 4 == 1, "title"] = None
    frame.loc[frame.index % 8 == 1, "description"] = "something"
    frame["group_id"] = group_ids(frame["title"], frame["description"], frame["listing_id"])
    numbers = review(frame, staged(frame))[2]
    assert numbers["judged"] == (frame["title"].notna() | frame["description"].notna()).sum() < len(frame)
    assert numbers["choices"] == numbers["judged"]
    sellers = sellers_of({"bad": (30, 100), "good": (2, 100)})
    found = unlikely_sellers(sellers.assign(title=sellers["title"].where(sellers.index % 2 == 0, None)))
    assert found.iloc[0]["examples"] == ["a title"] * 5


def fraud(frame: pd.DataFrame, rows: list[int]) -> pd.DataFrame:
    """What sellers chose, where one of them puts these listings of wine among dogs."""
    chosen = staged(frame)
    chosen.loc[rows, "seller_id"] = "fraud"
    chosen.loc[rows, "categories"] = pd.Series([["Pet > Dogs"]] * len(rows), index=rows)
    return chosen


def test_a_seller_is_judged_by_what_it_chose_though_a_person_corrected_it():
    frame = listings()
    chosen = fraud(frame, list(range(10)))
    labels, sellers, numbers = review(frame, chosen, naive)
    assert not set(labels["listing_id"]) & set(chosen["listing_id"].head(10)), "what labels say is right by now"
    row = sellers.set_index("seller_id").loc["fraud"]
    assert (row["listings"], row["texts"]) == (10, row["unlikely"])
    assert row["unlikely"] >= 8
    assert (numbers["choices"], numbers["sellers"], numbers["unlikely_sellers"]) == (180, 2, 1)


def test_reposts_of_a_text_are_choices_of_whoever_reposts_it():
    """The labels hold a text once, as somebody else's."""
    frame = listings()
    wrong = [1, 2]
    reposted = fraud(frame, wrong).loc[wrong * 6].reset_index(drop=True)
    reposted["listing_id"] = "repost-" + pd.Series(range(len(reposted))).astype(str)
    _, sellers, numbers = review(frame, pd.concat([staged(frame), reposted], ignore_index=True), naive)
    row = sellers.set_index("seller_id").loc["fraud"]
    assert (row["listings"], row["unlikely"], row["texts"], len(row["examples"])) == (12, 12, 2, 2)
    assert numbers["choices"] == 192


def test_choices_of_texts_and_categories_that_were_not_judged_are_left_out():
    frame = listings()
    odd = frame.head(2).assign(listing_id=["x", "y"], title=["never labelled", frame["title"][0]])
    odd["category"] = ["Pet > Dogs", "Unknown"]
    chosen = choices(out_of_fold(frame, naive), staged(pd.concat([odd, frame], ignore_index=True)))
    assert chosen["title"].tolist() == frame["title"].tolist()


def sellers_of(counts: dict[str, tuple[int, int]]) -> pd.DataFrame:
    """`counts`: seller -> (unlikely, listings)."""
    rows = [(name, place < wrong) for name, (wrong, n) in counts.items() for place in range(n)]
    frame = pd.DataFrame(rows, columns=["seller_id", "unlikely"])
    return frame.assign(title="a title", group_id=frame.index.astype(str))


def test_a_seller_is_listed_by_an_exact_test_against_the_others():
    frame = sellers_of({"bad": (30, 100), "good": (2, 100), "fair": (3, 100), "new": (1, 2)})
    found = unlikely_sellers(frame)
    assert found["seller_id"].tolist() == ["bad"]
    row = found.iloc[0]
    assert (row["listings"], row["unlikely"], row["share"]) == (100, 30, 0.3)
    assert row["expected_share"] == pytest.approx((6 + 1) / (202 + 2))
    assert 0 < row["p_value"] < 1e-10
    assert row["examples"] == ["a title"] * 5


def test_one_large_seller_does_not_excuse_itself_and_luck_is_no_fraud():
    frame = sellers_of({"large": (300, 1000), "small": (1, 50)})
    found = unlikely_sellers(frame)
    assert found["seller_id"].tolist() == ["large"]
    nobody = frame.assign(seller_id=None)
    assert unlikely_sellers(nobody).empty


def test_honest_sellers_are_hardly_ever_listed():
    rng = np.random.default_rng(0)
    listed = 0
    for _ in range(60):
        frame = sellers_of({f"s{seller}": (rng.binomial(30, 0.05), 30) for seller in range(20)})
        listed += len(unlikely_sellers(frame))
    assert listed <= 2, "one in a hundred lists at most, by Bonferroni"
