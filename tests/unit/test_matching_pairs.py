import numpy as np
import pandas as pd
import pytest

from shelfwise.matching.pairs import check_pairs, contradictions, make_pairs
from shelfwise.matching.splits import SplitConfig, split_positives, vendors_separable
from shelfwise.text import normalise
from tests.unit.matching_samples import positives


@pytest.fixture(scope="module")
def pairs(products, lines) -> pd.DataFrame:
    return make_pairs(lines, products, threads=1)


def test_three_negatives_to_each_positive_and_the_check_agrees(pairs, lines):
    assert check_pairs(pairs, lines) == []
    counts = pairs.groupby("line_id")["label"].agg(["sum", "size"])
    assert set(counts["sum"]) == {1}
    assert set(counts["size"]) == {4}
    assert {"train", "valid", "test"} == set(pairs["split"])


def test_hard_negatives_share_the_category_and_come_in_the_configured_share(pairs, products, lines):
    category = products.set_index("product_id")["category"]
    right = pairs[pairs["label"] == 1].set_index("line_id")["product_id"].map(category)
    hard = pairs[pairs["kind"] == "hard"]
    assert (hard["product_id"].map(category).to_numpy() == hard["line_id"].map(right).to_numpy()).all()
    assert len(hard) == 2 * (pairs["kind"] == "random").sum()
    none = make_pairs(lines, products, hard_share=0.0, threads=1)
    assert set(none["kind"]) == {"positive", "random"}
    with pytest.raises(ValueError, match="hard_share"):
        make_pairs(lines, products, hard_share=1.5)


def test_hard_negatives_are_nearer_to_the_line_than_random_ones(pairs):
    def shared(kind: str) -> float:
        part = pairs[pairs["kind"] == kind]
        sets = [
            (set(normalise(a).split()), set(normalise(b).split()))
            for a, b in zip(part["line"], part["product_title"], strict=True)
        ]
        return float(np.mean([len(a & b) / len(b) for a, b in sets]))

    assert shared("hard") > shared("random") + 0.2


def test_what_a_person_passed_over_comes_first_and_three_negatives_stay_three(pairs, lines, products):
    """Also where the rejected ones are too many, of another part, unknown, or right for an equal line."""
    rivals = pairs[pairs["label"] == 0].groupby("line_id")["product_id"].agg(list)
    other = {p: set(part["product_id"]) for p, part in pairs.groupby("split")}
    rejected: dict[str, list[str]] = {}
    for number, (line, product, split) in enumerate(
        pairs.loc[pairs["label"] == 1, ["line_id", "product_id", "split"]].itertuples(index=False, name=None)
    ):
        outside = sorted(other["test" if split == "train" else "train"])[:1]
        rejected[line] = {
            0: rivals[line],
            1: rivals[line][1:2],
            2: [product, "unknown", *outside],
            3: [*rivals[line], *sorted(other[split])[:6]],
        }.get(number % 5, [])
    answered = lines.assign(rejected_product_ids=lines["line_id"].map(rejected).map(lambda ids: np.array(ids or [])))
    made = make_pairs(answered, products, threads=1)
    assert check_pairs(made, answered) == []
    found = made[made["kind"] == "rejected"].groupby("line_id")["product_id"].agg(list)
    for number, line in enumerate(rejected):
        wanted = {0: rejected[line], 1: rejected[line], 3: rejected[line][:3]}.get(number % 5, [])
        assert found.get(line, []) == wanted
    kinds = made[made["label"] == 0].groupby("line_id")["kind"].agg(list)
    assert all(sorted(own, key=["rejected", "hard", "random"].index) == own for own in kinds)
    assert kinds[list(rejected)[1]] == ["rejected", "hard", "random"], "it counts as one of the two hard ones"
    pd.testing.assert_frame_equal(make_pairs(answered.drop(columns="rejected_product_ids"), products, threads=1), pairs)


def test_nothing_of_valid_and_test_occurs_in_train(pairs):
    for column in ("vendor_id", "product_id"):
        parts = {split: set(part[column]) for split, part in pairs.groupby("split")}
        assert not parts["train"] & (parts["valid"] | parts["test"])
        assert not parts["valid"] & parts["test"]


def test_the_order_of_rows_does_not_matter_and_a_seed_does(lines, products, pairs):
    shuffled = make_pairs(lines.sample(frac=1, random_state=1), products.sample(frac=1, random_state=2), threads=1)
    pd.testing.assert_frame_equal(shuffled, pairs)
    other = make_pairs(lines, products, seed=1, threads=1)
    assert set(other[other["split"] == "test"]["vendor_id"]) != set(pairs[pairs["split"] == "test"]["vendor_id"])


@pytest.mark.parametrize("vendors", [1, 2])
def test_few_vendors_fall_back_to_products(products, vendors):
    few = positives(products, n=400, vendors=vendors)
    assert not vendors_separable(few["vendor_id"])
    splits = split_positives(few, products)
    assert not splits.by_vendor
    assert set(splits.line.dropna()) == {"train", "valid", "test"}
    assert check_pairs(make_pairs(few, products, threads=1), few) == []


def test_three_even_vendors_are_kept_apart(products):
    three = positives(products, n=600, vendors=3)
    assert vendors_separable(three["vendor_id"])
    made = make_pairs(three, products, threads=1)
    assert made.groupby("split")["vendor_id"].nunique().to_dict() == {"train": 1, "valid": 1, "test": 1}
    assert check_pairs(made, three) == []


def test_products_of_one_title_stay_in_one_part(products, lines):
    twin = products.head(40).assign(
        product_id=[f"T{i}" for i in range(40)], title=products["title"].head(40).str.upper()
    )
    splits = split_positives(lines, pd.concat([products, twin]))
    first = splits.product.loc[products["product_id"].head(40)].to_numpy()
    assert (splits.product.loc[twin["product_id"]].to_numpy() == first).all()


def test_known_positives_and_twins_are_never_negatives(products, lines):
    # A twin of every product and, for every line, a second vendor who maps the same words to the next product.
    twins = products.assign(product_id="T" + products["product_id"])
    both = pd.concat([products, twins], ignore_index=True)
    following = dict(zip(products["product_id"], np.roll(products["product_id"], -1), strict=True))
    other = lines.assign(
        vendor_id="w" + lines["vendor_id"],
        line_id="w" + lines["line_id"],
        product_id=lines["product_id"].map(following),
    )
    everything = pd.concat([lines, other], ignore_index=True)
    made = make_pairs(everything, both, threads=1)
    assert check_pairs(made, everything) == []


def test_a_catalog_too_small_for_three_negatives_gives_no_pairs(products, lines):
    tiny = products.head(3)
    assert make_pairs(lines[lines["product_id"].isin(tiny["product_id"])], tiny, threads=1).empty


def test_shares_outside_the_possible_are_refused():
    with pytest.raises(ValueError, match="shares"):
        SplitConfig(valid=0.6, test=0.5)


class TestCheckFinds:
    def test_a_missing_negative(self, pairs, lines):
        assert "three negatives" in check_pairs(pairs[pairs.index != pairs.index[1]], lines)[0]

    def test_a_false_negative(self, pairs, lines):
        broken = pairs.copy()
        line = broken["line_id"] == broken["line_id"].iloc[0]
        at = broken.index[line & (broken["label"] == 0)][0]
        extra = lines[lines["line_id"] == broken["line_id"].iloc[0]].assign(
            vendor_id="elsewhere", product_id=broken.loc[at, "product_id"]
        )
        assert any("known positives" in problem for problem in check_pairs(broken, pd.concat([lines, extra])))

    def test_a_negative_with_the_right_title(self, pairs, lines):
        broken = pairs.copy()
        broken.loc[1, "product_title"] = broken.loc[0, "product_title"].upper()
        assert any("same title" in problem for problem in check_pairs(broken, lines))

    def test_a_product_of_test_as_negative_in_train(self, pairs, lines):
        broken = pairs.copy()
        test = broken[broken["split"] == "test"].iloc[0]
        at = broken.index[(broken["split"] == "train") & (broken["kind"] == "random")][0]
        broken.loc[at, ["product_id", "product_title"]] = test[["product_id", "product_title"]].to_numpy()
        assert any("products occur in more than one split" in problem for problem in check_pairs(broken, lines))

    def test_a_vendor_in_two_splits(self, pairs, lines):
        broken = pairs.copy()
        test = broken[broken["split"] == "test"]["vendor_id"].iloc[0]
        broken.loc[broken["split"] == "train", "vendor_id"] = test
        assert any("vendors occur in more than one split" in problem for problem in check_pairs(broken, lines))

    def test_a_wrong_positive_and_missing_columns(self, pairs, lines):
        broken = pairs.copy()
        broken.loc[0, "product_id"] = "P9999"
        assert any("not among the labelled positives" in problem for problem in check_pairs(broken, lines))
        assert "missing" in check_pairs(pairs.drop(columns="kind"), lines)[0]
        assert check_pairs(pairs.head(0), lines) == ["there are no pairs"]


def test_contradictory_labels_are_reported():
    positives = pd.DataFrame(
        [
            ("a", "Norvik Gin 70cl", "P1", "Norvik Gin 700ml"),
            ("b", "NORVIK GIN 700 ml", "P2", "Norvik Gin 1L"),
            ("b", "norvik gin 700ml", "P1", "Norvik Gin 700ml"),
            ("a", "tolosa rum", "P3", "Tolosa Rum"),
            ("b", "tolosa rum", "P3", "Tolosa Rum"),
            ("c", "", "P4", "x"),
            ("c", " ", "P5", "y"),
        ],
        columns=["vendor_id", "vendor_title", "product_id", "product_title"],
    )
    assert contradictions(positives).to_dict("records") == [
        {
            "line": "norvik gin 700ml",
            "products": 2,
            "rows": 3,
            "vendors": 2,
            "product_ids": "P1 | P2",
            "product_titles": "Norvik Gin 700ml | Norvik Gin 1L",
        }
    ]
    assert contradictions(positives.iloc[3:5]).empty
    assert contradictions(positives.head(0).drop(columns="product_title")).empty
