"""Parts of listings: shares in every category, duplicates together, a part once given is kept."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from shelfwise.classification.splits import PARTS, bundles, group_ids, listing_parts


def listings(sizes: dict[str, int], start: int = 0) -> pd.DataFrame:
    rows = [
        (f"L{start + number:05d}", f"{category} item {start + number}", None, category)
        for number, category in enumerate(name for name, size in sizes.items() for _ in range(size))
    ]
    return pd.DataFrame(rows, columns=["listing_id", "title", "description", "category"])


def with_parts(frame: pd.DataFrame, **arguments) -> pd.DataFrame:
    frame = frame.assign(group_id=group_ids(frame["title"], frame["description"], frame["listing_id"]))
    parts = listing_parts(frame, **arguments)
    assert list(parts) == ["group_id", "split", "seed"]
    assert parts["group_id"].is_unique
    return frame.merge(parts, on="group_id", validate="many_to_one")


def test_every_category_gives_its_share():
    found = with_parts(listings({"A": 200, "B": 50, "C > D": 30}))
    shares = found.groupby("category")["split"].value_counts(normalize=True).unstack()[list(PARTS)]
    np.testing.assert_allclose(shares, np.tile([0.7, 0.1, 0.2], (3, 1)), atol=0.035)


def test_small_categories_give_what_they_should_on_average_and_always_keep_one_to_train_on():
    sizes = {f"c{number:03d}": 1 + number % 4 for number in range(800)}
    found = with_parts(listings(sizes))
    assert set(found.loc[found["split"] == "train", "category"]) == set(sizes)
    larger = found[found["category"].map(sizes) > 1]
    shares = larger["split"].value_counts(normalize=True)
    assert shares["valid"] == pytest.approx(0.1, abs=0.02)
    assert shares["test"] == pytest.approx(0.2, abs=0.02)


def test_order_of_rows_does_not_matter_and_the_seed_does():
    frame = listings({"A": 60, "B": 40})
    one, other = with_parts(frame), with_parts(frame.sample(frac=1, random_state=3))
    assert dict(zip(one["listing_id"], one["split"], strict=True)) == dict(
        zip(other["listing_id"], other["split"], strict=True)
    )
    assert (with_parts(frame, seed=1)["split"] != one["split"]).any()


def test_same_title_and_description_stand_together_in_any_spelling():
    frame = listings({"A": 40})
    twins = frame.assign(listing_id="T" + frame["listing_id"], title=frame["title"].str.upper() + " ")
    apart = frame.assign(listing_id="U" + frame["listing_id"], description="another text")
    found = with_parts(pd.concat([frame, twins, apart], ignore_index=True))
    assert found["group_id"].nunique() == 80
    assert (found.groupby("group_id")["split"].nunique() == 1).all()
    assert len(set(found["split"])) == 3


def test_titles_that_say_nothing_are_not_taken_for_each_other():
    found = group_ids(pd.Series(["!!!", "???", None]), pd.Series([None, "", None]), pd.Series(["a", "b", "c"]))
    assert found.nunique() == 3
    separated = group_ids(pd.Series(["a", "a b"]), pd.Series(["b c", "c"]), pd.Series(["1", "2"]))
    assert separated.nunique() == 2


def test_same_picture_stands_together_through_chains_and_no_picture_ties_nothing():
    frame = pd.DataFrame(
        {
            "group_id": ["a", "b", "c", "d", "d", "e"],
            "image": ["1.jpg", "1.jpg", "2.jpg", "2.jpg", "3.jpg", None],
            "category": "X",
        }
    )
    assert bundles(frame).tolist() == [0, 0, 1, 1, 1, 2]
    chained = pd.concat([frame, pd.DataFrame({"group_id": ["e", "b"], "image": ["3.jpg"] * 2, "category": "X"})])
    assert bundles(chained).nunique() == 1
    assert bundles(frame.assign(image=None)).nunique() == 5
    assert bundles(frame.drop(columns="image")).nunique() == 5
    assert bundles(frame.assign(image_key="same")).nunique() == 1, "a digest says more than a name"
    pairs = listings({"A": 60}).assign(image=[f"{number // 2}.jpg" for number in range(60)])
    found = with_parts(pairs)
    assert (found.groupby("image")["split"].nunique() == 1).all()
    assert len(set(found["split"])) == 3


def test_parts_last_when_data_grows_and_the_shares_come_back():
    first = with_parts(listings({"A": 30, "B": 10}))
    table = first[["group_id", "split"]].drop_duplicates()
    grown = pd.concat([listings({"A": 30, "B": 10}), listings({"A": 70, "B": 20, "C": 20}, start=1000)])
    found = with_parts(grown, former=table)
    before, after = (dict(zip(one["listing_id"], one["split"], strict=True)) for one in (first, found))
    assert {key: after[key] for key in before} == before
    shares = found.groupby("category")["split"].value_counts(normalize=True).unstack()
    np.testing.assert_allclose(shares["test"], 0.2, atol=0.06)
    assert with_parts(grown)["split"].tolist() != found["split"].tolist(), "without the table many would move"


def test_one_table_after_another_gives_the_same_and_who_is_gone_keeps_the_row():
    frame = listings({"A": 30, "B": 10})
    frame["group_id"] = group_ids(frame["title"], None, frame["listing_id"])
    table = listing_parts(frame)
    pd.testing.assert_frame_equal(listing_parts(frame, former=table), table)
    pd.testing.assert_frame_equal(listing_parts(frame.iloc[5:], former=table), table)
    fresh = listing_parts(frame, seed=4)
    pd.testing.assert_frame_equal(listing_parts(frame, seed=4, former=table), fresh)


def test_what_was_trained_on_is_never_held_out_when_a_picture_ties_it_to_something_held_out():
    frame = listings({"A": 40})
    frame["group_id"] = group_ids(frame["title"], None, frame["listing_id"])
    table = listing_parts(frame)
    of = dict(zip(table["group_id"], table["split"], strict=True))
    trained = next(group for group, split in of.items() if split == "train")
    tested = next(group for group, split in of.items() if split == "test")
    tied = frame.assign(image=frame["group_id"].where(~frame["group_id"].isin([trained, tested]), "one.jpg"))
    after = listing_parts(tied, former=table).set_index("group_id")["split"]
    assert (after[trained], after[tested]) == ("train", "train")
    others = [group for group in of if group not in (trained, tested)]
    assert after[others].to_dict() == {group: of[group] for group in others}


def test_empty_and_impossible():
    empty = listing_parts(pd.DataFrame({"group_id": [], "category": []}, dtype=object))
    assert list(empty) == ["group_id", "split", "seed"]
    assert empty.empty
    with pytest.raises(ValueError, match="shares"):
        listing_parts(listings({"A": 3}), valid=0.5, test=0.5)
    no_valid = listing_parts(listings({"A": 30}), valid=0)
    assert set(no_valid["split"]) == {"train", "test"}
