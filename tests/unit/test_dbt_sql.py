"""Each rule of the dbt models, on tables small enough to be read here."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pytest

from resources.dbt import DBT, PROJECT_DIR
from shelfwise.classification.splits import group_ids
from shelfwise.classification.taxonomy import split_categories
from shelfwise.contract.tables import empty_frame
from shelfwise.duckdb_functions import register
from shelfwise.feedback import contradictions, resolve
from shelfwise.feedback.categories import category_frame
from shelfwise.text import normalise

PRODUCTS = pd.DataFrame(
    [
        ("p1", "Château Réserve 75cl", "Château", "Drinks > Wine > Red", 12.5, "75cl"),
        ("p2", "CHATEAU  RESERVE 750 ML", "chateau", "Drinks>Wine > White >", 13.0, "750 ml"),
        ("p3", "Chateau Reserve 750ml", "Other", "Drinks", 9.0, "75cl"),
        ("p4", "Plain Soap", None, " ", None, None),
        ("p5", "plain soap", "", None, None, " "),
        ("p6", "!!!", None, None, None, None),
        ("p7", "???", None, None, None, None),
    ],
    columns=["product_id", "title", "brand", "category", "price", "size"],
).assign(description=None, image=None)

MAPPINGS = pd.DataFrame(
    [
        # The most frequent product wins over the latest row, whatever the spelling of the line.
        ("m1", "v1", "CHATEAU RES 75CL", "p1", 2),
        ("m2", "v1", "Château res 750 ml", "p1", 3),
        ("m3", "v1", "chateau res .75l", "p2", 4),
        # One row each: the latest wins.
        ("m4", "v1", "soap bar", "p4", 5),
        ("m5", "v1", "Soap  Bar", "p5", 6),
        # Another vendor's line is another line.
        ("m6", "v2", "SOAP BAR", "p4", 7),
        # Unknown product, twice, against one known: the known one stands.
        ("m7", "v2", "mystery box", "gone", 8),
        ("m8", "v2", "mystery box", "gone", 9),
        ("m9", "v2", "mystery box", "p1", 10),
        ("m10", "v2", "nothing left of me", "gone", 11),
        # No letter or digit in it: it cannot be compared with anything.
        ("m11", "v2", "***", "p1", 12),
        ("m12", "v2", "to be removed", "p1", 13),
        ("m13", "v3", "JUST ONE 5", "p3", 14),
    ],
    columns=["mapping_id", "vendor_id", "vendor_title", "product_id", "source_row"],
)


def _at(hour: int) -> pd.Timestamp:
    return pd.Timestamp("2026-01-05", tz="UTC") + pd.Timedelta(hours=hour)


FEEDBACK = pd.DataFrame(
    [
        # The latest answer stands, and it overrides the mapping to p5.
        ("f1", "v1", "soap bar", "p1", [], "ann", _at(1)),
        ("f2", "v1", "SOAP BAR", "p4", ["p1", "p5"], "ann", _at(3)),
        ("f3", "v1", "soap  bar", "p5", [], "bob", _at(2)),
        # Matches nothing: the mapping goes.
        ("f4", "v2", "To Be Removed", None, ["p1"], "bob", _at(1)),
        # An answer with a product that the catalog no longer has leaves the earlier answer standing.
        ("f5", "v2", "new line", "p2", [], "bob", _at(1)),
        ("f6", "v2", "new line", "gone", [], "bob", _at(2)),
        ("f7", "v4", "never matched", None, [], "bob", _at(2)),
        # At the same moment: what most say, whatever the ids; then the greatest id.
        ("f8", "v5", "torn", "p1", [], "ann", _at(4)),
        ("f9", "v5", "TORN", "p1", ["p3"], "bob", _at(4)),
        ("f91", "v5", "torn", None, [], "cem", _at(4)),
        ("f92", "v5", "torn", "p2", [], "dan", _at(3)),
        ("g1", "v5", "tied", "p1", [], "ann", _at(4)),
        ("g2", "v5", "tied", None, [], "bob", _at(4)),
    ],
    columns=[
        "answer_id", "vendor_id", "vendor_title", "product_id", "rejected_product_ids", "answered_by", "answered_at",
    ],
).assign(feedback_id="batch")  # fmt: skip

# The seed merges "All Electronics" and its branch into "Electronics".
LISTINGS = pd.DataFrame(
    [
        # Same title and description in other spelling: one is kept, with its picture; the other picture is kept too.
        ("l1", "Nova Phone", "black", "All Electronics>Phones", None, "s1"),
        ("l2", "NOVA  phone", "Black ", "Electronics > Phones", "images/1.jpg", "s2"),
        ("l3", "Nova phone", "black", "Electronics > Phones > ", "images/2.jpg", None),
        ("l4", "nova phone", "BLACK", "Electronics > Phones", "images/1.jpg", "s2"),
        # The same text under another category contradicts it: both stay, in one group.
        ("l5", "Nova Phone", "Black", "Toys", None, "s3"),
        # Several right ones, one of them twice after merging.
        ("l6", "Phone case", " ", "Electronics>Phones | All Electronics > Phones | Cases", " ", " "),
        # The branch itself, and a name that only begins like it.
        ("l7", "Something electric", None, "All Electronics", None, None),
        ("l8", "Magazine", None, "All Electronics Weekly > Issues", None, None),
        # No letter or digit: like no other.
        ("l9", "!!!", None, "Drinks > Wine > Red", None, None),
        ("l91", "???", None, "Drinks > Wine > Red", None, None),
        # Without a title: a description alone, a picture alone (twice the same), nothing at all.
        ("n1", None, "a red dress", "Clothes", None, "s4"),
        ("n2", " ", None, "Clothes", "images/5.jpg", None),
        ("n3", None, None, "Clothes", "images/5.jpg", None),
        ("n4", None, " ", "Clothes", None, None),
    ],
    columns=["listing_id", "title", "description", "category", "image", "seller_id"],
)

ANSWERS = pd.DataFrame(
    [
        # The latest answer to a text counts, whoever gave it for which vendor, and stands above its listing.
        ("a1", "v1", "MAGAZINE", None, "Toys", _at(1)),
        ("a2", "v2", "magazine ", " ", "Reading>Magazines | All Electronics > Phones", _at(2)),
        ("a3", "v2", "Magazine", None, None, _at(3)),
        # The same title with a description is another text.
        ("a4", "v2", "Magazine", "about phones", "Reading > Magazines", _at(1)),
        ("a5", "v2", "none of those", None, None, _at(1)),
    ],
    columns=["answer_id", "vendor_id", "title", "description", "category", "answered_at"],
).assign(answered_by="ann")

REJECTED = "rejected_product_ids"
TABLES = [
    "raw.category_mapping",
    "staging.stg_products",
    "staging.stg_mappings",
    "staging.stg_feedback",
    "staging.stg_categories",
    "staging.stg_listings",
    "staging.stg_category_feedback",
    "marts.labelled_positives",
    "marts.vendor_statistics",
    "marts.labelled_listings",
]


def _write_lake(
    root: Path,
    products: pd.DataFrame,
    mappings: pd.DataFrame,
    feedback: pd.DataFrame,
    listings: pd.DataFrame | None = None,
    answers: pd.DataFrame | None = None,
) -> None:
    folder = root / "tables" / "raw"
    folder.mkdir(parents=True)
    listings = empty_frame("listings") if listings is None else listings
    answers = category_frame([]) if answers is None else answers
    raw = {"products": products, "mappings": mappings, "feedback": feedback}
    for name, frame in {**raw, "listings": listings, "category_feedback": answers}.items():
        frame.to_parquet(folder / f"{name}.parquet", index=False)


def _dbt(
    root: Path, *arguments: str, project: Path = PROJECT_DIR
) -> tuple[int, dict[str, pd.DataFrame], dict[str, str]]:
    """Run dbt; return its exit code, the tables it wrote and the status of every node by name."""
    output = root / "output"
    output.mkdir(exist_ok=True)
    variables = {"lake": str(root), "output": str(output), "database": str(output / "warehouse.duckdb")}
    flags = ["--project-dir", project, "--profiles-dir", project, "--no-partial-parse", "--quiet"]
    flags += ["--target-path", root / "target", "--log-path", root / "target", "--vars", json.dumps(variables)]
    done = subprocess.run([DBT, *arguments, *flags], capture_output=True, text=True, env=dict(os.environ))
    tables = {path.stem: pd.read_parquet(path) for path in output.glob("*.parquet")}
    results = json.loads((root / "target" / "run_results.json").read_text())["results"]
    return done.returncode, tables, {result["unique_id"].split(".")[2]: result["status"] for result in results}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    root = tmp_path_factory.mktemp("lake")
    _write_lake(root, PRODUCTS, MAPPINGS, FEEDBACK, LISTINGS, ANSWERS)
    code, tables, statuses = _dbt(root, "build")
    assert code == 0, statuses
    assert sorted(tables) == sorted(TABLES)
    return tables, statuses


def _rows(frame: pd.DataFrame, *columns: str) -> list[tuple]:
    return list(frame[list(columns)].astype(object).where(frame[list(columns)].notna(), None).itertuples(False, None))


def test_products_keep_every_product_and_tie_the_indistinguishable_ones(built):
    products = built[0]["staging.stg_products"]
    assert list(products.columns) == [
        "product_id", "title", "normalised_title", "brand", "category", "category_root", "category_leaf",
        "description", "price", "size", "image", "same_title_as",
    ]  # fmt: skip
    assert _rows(products, "product_id", "same_title_as") == [
        ("p1", None),
        ("p2", "p1"),  # same title, brand and size in other spelling
        ("p3", None),  # same title, other brand
        ("p4", None),
        ("p5", "p4"),  # a missing brand equals an empty one
        ("p6", None),
        ("p7", None),  # empty normal forms say nothing about each other
    ]
    assert products["normalised_title"].tolist() == [normalise(title) for title in PRODUCTS["title"]]


def test_category_path_is_split(built):
    products = built[0]["staging.stg_products"]
    assert _rows(products, "category", "category_root", "category_leaf")[:4] == [
        ("Drinks > Wine > Red", "Drinks", "Red"),
        ("Drinks > Wine > White", "Drinks", "White"),
        ("Drinks", "Drinks", "Drinks"),
        (None, None, None),
    ]


def test_mappings_are_one_per_vendor_line(built):
    mappings = built[0]["staging.stg_mappings"]
    assert _rows(mappings, "vendor_id", "normalised_title", "product_id", "mapping_id", "n_rows") == [
        ("v1", "chateau res 750ml", "p1", "m2", 2),
        ("v1", "soap bar", "p5", "m5", 1),
        ("v2", "mystery box", "p1", "m9", 1),
        ("v2", "soap bar", "p4", "m6", 1),
        ("v2", "to be removed", "p1", "m12", 1),
        ("v3", "just one 5", "p3", "m13", 1),
    ]


def test_feedback_is_the_latest_usable_answer(built):
    feedback = built[0]["staging.stg_feedback"]
    columns = ("vendor_id", "normalised_title", "product_id", "answer_id", "n_answers", "is_contradicted")
    assert _rows(feedback, *columns) == [
        ("v1", "soap bar", "p4", "f2", 3, True),
        ("v2", "new line", "p2", "f5", 1, False),
        ("v2", "to be removed", None, "f4", 1, False),
        ("v4", "never matched", None, "f7", 1, False),
        ("v5", "tied", None, "g2", 2, True),
        ("v5", "torn", "p1", "f9", 4, True),
    ]
    assert [list(ids) for ids in feedback["rejected_product_ids"]] == [["p1", "p5"], [], ["p1"], [], [], ["p3"]]
    assert feedback["answered_at"].tolist() == [_at(3), _at(1), _at(1), _at(2), _at(4), _at(4)]


def test_python_and_sql_agree_about_which_answer_counts(built, tmp_path):
    chance = np.random.default_rng(3)
    n = 400
    random = pd.DataFrame(
        {
            "feedback_id": "batch",
            "answer_id": [f"a{number:03}" for number in chance.permutation(n)],
            "vendor_id": chance.choice(["v1", "v2"], n),
            "vendor_title": chance.choice(["Soap", "soap", "SOAP 75cl", "milk", "***", "tea", "Coffee"], n),
            "product_id": chance.choice(np.array(["p1", "p2", "p3", "gone", None], dtype=object), n),
            "rejected_product_ids": [[] for _ in range(n)],
            "answered_by": chance.choice(["ann", "bob"], n),
            "answered_at": [_at(int(hour)) for hour in chance.integers(0, 12, n)],
        }
    )
    _write_lake(tmp_path, PRODUCTS, MAPPINGS, random)
    code, tables, statuses = _dbt(tmp_path, "build")
    assert code == 0, statuses
    for answers, found in ((FEEDBACK, built[0]["staging.stg_feedback"]), (random, tables["staging.stg_feedback"])):
        known = PRODUCTS["product_id"].tolist()
        resolved = resolve(answers, known)
        assert set(resolved.loc[resolved["counts"], "answer_id"]) == set(found["answer_id"])
        torn = contradictions(answers, known)
        contradicted = found[found["is_contradicted"]]
        assert set(zip(torn["vendor_id"], torn["line"], strict=True)) == set(
            zip(contradicted["vendor_id"], contradicted["normalised_title"], strict=True)
        )
        assert len(torn) > 0


def test_feedback_overrides_and_removes_mappings(built):
    positives = built[0]["marts.labelled_positives"].sort_values(["vendor_id", "normalised_title"])
    assert _rows(positives, "vendor_id", "normalised_title", "product_id", "product_title", "source") == [
        ("v1", "chateau res 750ml", "p1", "Château Réserve 75cl", "mapping"),
        ("v1", "soap bar", "p4", "Plain Soap", "feedback"),
        ("v2", "mystery box", "p1", "Château Réserve 75cl", "mapping"),
        ("v2", "new line", "p2", "CHATEAU  RESERVE 750 ML", "feedback"),
        ("v2", "soap bar", "p4", "Plain Soap", "mapping"),
        ("v3", "just one 5", "p3", "Chateau Reserve 750ml", "mapping"),
        ("v5", "torn", "p1", "Château Réserve 75cl", "feedback"),
    ]
    assert positives["vendor_title"].tolist()[1] == "SOAP BAR"
    passed_over = {tuple(key): list(ids) for *key, ids in _rows(positives, "vendor_id", "normalised_title", REJECTED)}
    assert {key: ids for key, ids in passed_over.items() if ids} == {
        ("v1", "soap bar"): ["p1", "p5"],
        ("v5", "torn"): ["p3"],
    }
    expected = [
        hashlib.md5(f"{vendor}\x1f{title}".encode()).hexdigest()
        for vendor, title in _rows(positives, "vendor_id", "normalised_title")
    ]
    assert positives["line_id"].tolist() == expected


def test_vendor_statistics_describe_the_labelled_lines(built):
    statistics = built[0]["marts.vendor_statistics"].set_index("vendor_id")
    assert statistics.index.tolist() == ["v1", "v2", "v3", "v5"]  # v4's only line matches nothing
    assert statistics["n_lines"].tolist() == [2, 3, 1, 1]
    assert statistics["n_products"].tolist() == [2, 3, 1, 1]
    v1 = [len("Château res 750 ml"), len("SOAP BAR")]
    np.testing.assert_allclose(statistics.loc["v1", "mean_title_length"], sum(v1) / 2)
    assert statistics["share_with_digits"].tolist() == [0.5, 0.0, 1.0, 0.0]
    np.testing.assert_allclose(statistics["share_upper"], [0.5, 1 / 3, 1.0, 1.0])
    assert statistics["last_source"].tolist() == ["feedback", "feedback", "mapping", "feedback"]


def test_categories_are_merged_with_what_lies_below_them(built):
    categories = built[0]["staging.stg_categories"]
    assert _rows(categories, "category", "counts_as", "is_merged", "n_listings", "n_products") == [
        ("All Electronics", "Electronics", True, 1, 0),
        ("All Electronics > Phones", "Electronics > Phones", True, 2, 0),
        ("All Electronics Weekly > Issues", "All Electronics Weekly > Issues", False, 1, 0),
        ("Cases", "Cases", False, 1, 0),
        ("Clothes", "Clothes", False, 4, 0),
        ("Drinks", "Drinks", False, 0, 1),
        ("Drinks > Wine > Red", "Drinks > Wine > Red", False, 2, 1),
        ("Drinks > Wine > White", "Drinks > Wine > White", False, 0, 1),
        ("Electronics > Phones", "Electronics > Phones", False, 4, 0),
        ("Reading > Magazines", "Reading > Magazines", False, 0, 0),
        ("Toys", "Toys", False, 1, 0),
    ]


def test_listings_have_merged_categories_and_one_text(built):
    listings = built[0]["staging.stg_listings"].set_index("listing_id")
    assert list(listings.loc["l6", "categories"]) == ["Electronics > Phones", "Cases"]
    assert listings.loc["l6", ["category", "category_root", "category_leaf"]].tolist() == [
        "Electronics > Phones", "Electronics", "Phones",
    ]  # fmt: skip
    assert listings.loc["l6", ["description", "image", "seller_id"]].isna().all()
    assert (listings.loc["l1", "text"], listings.loc["l6", "text"]) == ("Nova Phone\nblack", "Phone case")
    assert len(listings) == len(LISTINGS)
    given = LISTINGS.set_index("listing_id")["category"]
    counts_as = built[0]["staging.stg_categories"].set_index("category")["counts_as"]
    for listing_id, categories in listings["categories"].items():
        expected = dict.fromkeys(counts_as[path] for path in split_categories(given[listing_id]))
        assert list(categories) == list(expected)


def test_listings_without_a_title_have_what_is_there_for_a_text(built):
    staged = built[0]["staging.stg_listings"].set_index("listing_id").loc[["n1", "n2", "n3", "n4"]]
    assert staged["title"].isna().all()
    assert staged["normalised_title"].tolist() == [""] * 4
    assert staged["text"].tolist() == ["a red dress", "", "", ""]
    listings = built[0]["marts.labelled_listings"].set_index("listing_id")
    assert listings.index[listings["category"] == "Clothes"].tolist() == ["n1", "n2", "n3"], "of n4 nothing is known"
    assert listings.loc[["n1", "n2", "n3"], "n_rows"].tolist() == [1, 1, 1]
    assert listings["group_id"].isin(listings.loc[["n1", "n2", "n3"], "group_id"]).sum() == 3, "each is like no other"


def test_repeated_listings_are_dropped_and_share_a_group(built):
    listings = built[0]["marts.labelled_listings"]
    listed = listings[listings["source"] == "listing"].set_index("listing_id")
    listed = listed[listed["category"] != "Clothes"]
    assert listed.index.tolist() == ["l2", "l3", "l5", "l6", "l7", "l8", "l9", "l91"]
    assert listed["n_rows"].tolist() == [2, 1, 1, 1, 1, 2, 1, 1], "an answer of the same words counts too"
    assert listed.loc[["l2", "l3", "l5"], "group_id"].nunique() == 1
    assert listed["group_id"].nunique() == 6
    python = group_ids(listings["title"], listings["description"], listings["listing_id"])
    assert python.tolist() == listings["group_id"].tolist()


def test_an_answer_is_a_title_of_its_products_category_where_listings_know_that(built):
    listings = built[0]["marts.labelled_listings"]
    answers = listings[listings["listing_id"].str.startswith("feedback-")]
    assert _rows(answers, "title", "category", "seller_id") == [("TORN", "Drinks > Wine > Red", "v5")]


def test_what_a_person_said_of_a_text_stands_above_its_listing(built):
    tables = built[0]
    answers = tables["staging.stg_category_feedback"]
    assert _rows(answers, "answer_id", "n_answers") == [("a2", 2), ("a4", 1)]
    both = ["Reading > Magazines", "Electronics > Phones"]
    assert [list(one) for one in answers["categories"]] == [both, both[:1]]
    listings = tables["marts.labelled_listings"].set_index("listing_id")
    assert list(listings.loc["l8", "categories"]) == both
    assert listings.loc["l8", ["category", "category_root", "source"]].tolist() == [both[0], "Reading", "listing"]
    assert "answer-a2" not in listings.index, "the listing says the same now"
    assert listings.loc["answer-a4", ["description", "category", "source"]].tolist() == [
        "about phones", "Reading > Magazines", "feedback",
    ]  # fmt: skip


def test_without_listings_the_products_stand_in(tmp_path):
    _write_lake(tmp_path, PRODUCTS, MAPPINGS, FEEDBACK)
    code, tables, statuses = _dbt(tmp_path, "build")
    assert code == 0, statuses
    listings = tables["marts.labelled_listings"]
    assert listings["source"].value_counts().to_dict() == {"product": 3, "feedback": 2}
    products = listings[listings["source"] == "product"]
    assert _rows(products, "listing_id", "category") == [
        ("p1", "Drinks > Wine > Red"),
        ("p2", "Drinks > Wine > White"),
        ("p3", "Drinks"),
    ]


def _with_mapping(folder: Path, rows: str) -> Path:
    """A copy of the dbt project with another category mapping."""
    project = folder / "dbt_project"
    shutil.copytree(PROJECT_DIR, project, ignore=shutil.ignore_patterns("target"))
    (project / "seeds" / "category_mapping.csv").write_text(f"category,merged_into,note\n{rows}")
    return project


def test_of_several_rows_that_fit_the_longest_moves_a_category_with_all_below_it(tmp_path):
    project = _with_mapping(tmp_path, "A>B,X > Y,why\n A ,Z,\n")
    paths = ["A", "A > B > C", "A > C", "AB", "C > A"]
    listings = empty_frame("listings").reindex(range(len(paths))).assign(listing_id=paths, category=paths)
    _write_lake(tmp_path, PRODUCTS, MAPPINGS, FEEDBACK, listings)
    code, tables, statuses = _dbt(tmp_path, "build", project=project)
    assert code == 0, statuses
    categories = tables["staging.stg_categories"].set_index("category").loc[paths]
    assert categories["counts_as"].tolist() == ["Z", "X > Y > C", "Z > C", "AB", "C > A"]
    assert categories["is_merged"].tolist() == [True, True, True, False, False]


def test_a_chain_in_the_mapping_fails_its_test(tmp_path):
    project = _with_mapping(tmp_path, "A,B > C,\nB,D,\nE > F,E > G,\n")
    _write_lake(tmp_path, PRODUCTS, MAPPINGS, FEEDBACK)
    code, _, statuses = _dbt(tmp_path, "build", "--select", "category_mapping", project=project)
    assert code != 0
    assert {name for name, status in statuses.items() if status == "fail"} == {"no_chain_in_category_mapping"}


def test_shared_titles_are_a_warning_and_nothing_else_is(built):
    statuses = built[1]
    assert {name for name, status in statuses.items() if status == "warn"} == {"products_with_the_same_title"}
    tested = {name for name, status in statuses.items() if status == "pass"}
    for kind in ("unique_", "not_null_", "relationships_", "accepted_values_", "one_mapping_per_vendor_line"):
        assert any(name.startswith(kind) for name in tested), kind


def test_empty_tables_stay_empty(tmp_path):
    """A lake without history: columns of no type at all, as pandas writes them, and no row of nulls in the results."""
    products = PRODUCTS[["product_id", "title"]].assign(
        brand=None, category=None, description=None, price=None, size=None, image=None
    )
    raw = (MAPPINGS, FEEDBACK, LISTINGS, ANSWERS)
    _write_lake(tmp_path, products, *(pd.DataFrame(columns=frame.columns, dtype=object) for frame in raw))
    code, tables, statuses = _dbt(tmp_path, "build")
    assert code == 0, statuses
    counts = {name: len(table) for name, table in tables.items()}
    assert counts.pop("raw.category_mapping") > 0
    assert counts == dict(zip(TABLES[1:], (7, 0, 0, 0, 0, 0, 0, 0, 0), strict=True))
    assert tables["marts.labelled_positives"]["product_id"].dtype == tables["staging.stg_products"]["title"].dtype


def test_duckdb_normalises_as_python_does():
    titles = ["Café 0,75 L", None, "", "Ð¡oca CÎ¿la 33cl", "x" * 5000, "Rés. 2 PK"]
    with duckdb.connect() as connection:
        register(connection)
        frame = pd.DataFrame({"title": titles})
        connection.register("titles", frame)
        found = connection.execute("select normalise_title(title) from titles").fetchall()
    assert [row[0] for row in found] == [None if title is None else normalise(title) for title in titles]
