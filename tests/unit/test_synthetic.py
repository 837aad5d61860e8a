"""The synthetic catalog: the same every time, whole or absent, and what it plants is really there."""

from __future__ import annotations

import hashlib
import importlib
import io
import json
import os
import signal
import subprocess
import sys
from collections import Counter, defaultdict
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from shelfwise.classification.merging import check_mapping
from shelfwise.classification.taxonomy import split_categories
from shelfwise.contract import check_mappings, parse_upload, read_table
from shelfwise.synthetic import MANIFEST, SyntheticConfig, generate, holds, write
from shelfwise.synthetic.categories import LEAVES
from shelfwise.synthetic.lines import Identifier, Popularity
from shelfwise.synthetic.listings import ODD_PICTURES
from shelfwise.synthetic.pictures import draw, draw_listing
from shelfwise.synthetic.products import Assortment
from shelfwise.synthetic.words import stated
from shelfwise.text import normalise

CONFIG = SyntheticConfig(
    n_products=1_500, n_mappings=2_500, n_uploads=6, lines_per_upload=150, n_sessions=6_000, n_images=12, seed=11
)
LISTED = SyntheticConfig(
    n_products=1_500, n_mappings=50, n_uploads=1, n_listings=6_000, n_listing_images=1_000, seed=11
)
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def catalog():
    return generate(CONFIG)


@pytest.fixture(scope="module")
def listed():
    """Listings beside what is known about them, and the whole catalog."""
    made = generate(LISTED)
    truth = made.truth["listings"].rename(columns={"category": "right"})
    return made.listings.merge(truth, on="listing_id", validate="one_to_one"), made


@pytest.fixture(scope="module")
def lines(catalog):
    """Every upload line with its truth."""
    frames = []
    for (vendor_id, file), frame in catalog.uploads.items():
        truth = catalog.upload_truth[vendor_id, file]
        frames.append(pd.concat([frame, truth], axis=1).assign(vendor_id=vendor_id, file=file))
    return pd.concat(frames, ignore_index=True)


def digests(directory: Path) -> dict[str, str]:
    return {
        path.relative_to(directory).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


def run_cli(out: Path, *extra: str, hash_seed: str = "0") -> subprocess.CompletedProcess[str]:
    sizes = {"products": 400, "mappings": 300, "uploads": 2, "lines": 40, "images": 3, "sessions": 50}
    sizes["listing-images"] = 5
    options = [text for name, size in sizes.items() for text in (f"--{name}", str(size))]
    command = [sys.executable, "-m", "shelfwise.synthetic", str(out), *options, *extra]
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def test_two_runs_with_one_seed_write_identical_files(tmp_path):
    for number in (1, 2):
        done = run_cli(tmp_path / f"run{number}", hash_seed=str(number))
        assert done.returncode == 0, done.stderr
    first, second = digests(tmp_path / "run1"), digests(tmp_path / "run2")
    assert first == second
    expected = {"products.csv", "mappings.csv", "listings.csv", "interactions.csv", MANIFEST, "truth/vendors.csv"}
    assert expected <= set(first)
    assert sum(name.startswith("images/P") for name in first) == 3
    assert sum(name.startswith("images/L") for name in first) > 1


def test_another_seed_gives_another_catalog():
    small = [generate(SyntheticConfig(n_products=300, n_mappings=100, n_uploads=1, seed=seed)) for seed in (1, 2)]
    assert not set(small[0].products["title"]) & set(small[1].products["title"])


def test_the_command_prints_progress_and_what_it_cost(tmp_path):
    done = run_cli(tmp_path / "out", "--with-truth-column")
    assert "400 products" in done.stdout
    assert "peak memory" in done.stdout.splitlines()[-1]
    upload = next((tmp_path / "out" / "uploads").rglob("*.csv"))
    assert "product_id" in upload.read_text(encoding="utf-8").splitlines()[0].split(",")


@pytest.mark.parametrize(
    "wrong",
    [
        {"n_products": 5},
        {"n_products": 2_000_000},
        {"no_match_share": 1.2},
        {"n_uploads": -1},
        {"n_vendors": 0},
        {"near_miss_share": 0.8, "not_a_product_share": 0.3},
    ],
)
def test_impossible_sizes_are_refused(wrong):
    with pytest.raises(ValueError, match="|".join(wrong)):
        SyntheticConfig(**wrong)


def test_sizes_are_as_asked(catalog):
    assert catalog.counts() == {
        "products": 1_500,
        "mappings": 2_500,
        "listings": 750,
        "interactions": len(catalog.interactions),
        "uploads": 6,
        "upload_lines": 900,
        "images": 12,
    }
    assert catalog.mappings["vendor_id"].nunique() == 24


def test_defaults_are_those_of_the_demo():
    config = SyntheticConfig()
    assert (config.n_products, config.mappings, config.vendors) == (10_000, 14_000, 24)
    assert (config.n_uploads, config.lines_per_upload, config.upload_vendors) == (4, 400, 4)
    assert SyntheticConfig(n_products=1_000_000).mappings == 200_000


# What the products are


def test_variants_differ_from_the_one_they_grew_from_in_one_attribute(catalog):
    truth = catalog.truth["products"].set_index("product_id")
    attributes = truth["attributes"].map(json.loads)
    variants = truth.dropna(subset=["variant_of"])
    assert len(variants) > 0.6 * len(truth)
    for product_id, row in variants.iterrows():
        own, parents = attributes[product_id], attributes[row["variant_of"]]
        differing = [name for name in own if own[name] != parents[name]]
        assert differing == [row["variant_attribute"]]
        assert row["family_id"] == truth.loc[row["variant_of"], "family_id"]
    assert variants["variant_attribute"].nunique() >= 12


def test_titles_are_unique_but_for_planted_duplicates(catalog):
    truth = catalog.truth["products"].set_index("product_id")
    doubles = truth.dropna(subset=["duplicate_of"])
    assert len(doubles) == int(CONFIG.duplicate_share * CONFIG.n_products)
    titles = catalog.products.set_index("product_id")["title"]
    assert titles.duplicated().sum() == len(doubles)
    for product_id, original in doubles["duplicate_of"].items():
        assert titles[product_id] == titles[original]


def test_the_category_tree_has_a_long_tail(catalog):
    counts = catalog.products["category"].value_counts()
    assert len(counts) == len(LEAVES)
    assert counts.index.map(lambda path: len(path.split(" > "))).unique().tolist() == [3]
    assert len({path.split(" > ")[0] for path in counts.index}) >= 10
    assert counts.iloc[: len(counts) // 5].sum() > 0.4 * counts.sum()


def test_few_values_are_missing_and_prices_are_plausible(catalog):
    products = catalog.products
    assert products["title"].notna().all()
    assert 0 < products["brand"].isna().mean() < 0.06
    assert 0.08 < products["description"].isna().mean() < 0.22
    assert products["price"].dropna().between(0.1, 20_000).all()


def test_axes_of_a_leaf_have_names_of_their_own():
    for leaf in LEAVES:
        names = [axis.name for axis in leaf.attribute_axes]
        assert len(set(names)) == len(names), leaf.path


# What vendors send


def test_a_fifth_or_more_of_the_lines_match_nothing(catalog, lines):
    none = lines["product_id"] == ""
    assert none.mean() == pytest.approx(CONFIG.no_match_share, abs=0.01)
    assert none.mean() >= 0.2
    known = set(catalog.products["product_id"])
    assert set(lines.loc[~none, "product_id"]) <= known
    meant = set(lines.loc[none, "withheld_id"]) - {""}
    assert len(meant) > 60
    assert not meant & known
    kinds = lines.loc[none, "line_kind"].value_counts()
    assert set(kinds.index) == {"near_miss", "foreign", "not_a_product"}
    assert kinds["near_miss"] / none.sum() == pytest.approx(CONFIG.near_miss_share, abs=0.03)


def test_what_is_withheld_is_not_in_the_catalog_under_its_title(catalog, lines):
    titles = set(catalog.products["title"].map(normalise))
    withheld = lines[lines["product_id"] == ""]
    assert not set(withheld["catalog_style_title"].map(normalise)) & titles


def test_near_misses_are_one_attribute_away_from_a_catalog_product():
    assortment = Assortment(CONFIG)
    assert len(assortment.near_misses) > 100
    for product in assortment.near_misses:
        own, others = product.attributes(), [member.attributes() for member in product.family.members]
        assert min(sum(own[name] != other[name] for name in own) for other in others) == 1


def test_foreign_families_are_not_in_the_catalog():
    assortment = Assortment(CONFIG)
    known = {(family.brand.name, family.line, family.noun) for family in assortment.families}
    for product in assortment.foreign:
        family = product.family
        assert (family.brand.name, family.line, family.noun) not in known


def test_uploads_come_from_vendors_that_the_mappings_lack(catalog):
    uploaders = {vendor_id for vendor_id, _ in catalog.uploads}
    assert len(uploaders) == 5
    assert not uploaders & set(catalog.mappings["vendor_id"])


def test_a_file_lists_a_product_once(lines):
    matched = lines[lines["line_kind"] == "match"]
    assert not matched.duplicated(["vendor_id", "file", "product_id"]).any()


def test_mappings_point_to_the_catalog_and_leave_cold_products_out(catalog):
    truth = catalog.truth["products"].set_index("product_id")
    mapped = set(catalog.mappings["product_id"])
    assert mapped <= set(catalog.products["product_id"])
    assert set(truth.index[truth["segment"] == "cold"]) == set(truth.index) - mapped
    assert (truth["segment"] == "cold").mean() > CONFIG.cold_share
    head = truth.index[truth["segment"] == "head"]
    assert catalog.mappings["product_id"].isin(head).mean() == pytest.approx(0.5, abs=0.03)
    assert len(head) < 0.2 * len(truth)


def test_uploads_reach_head_tail_and_cold_products(lines):
    shares = lines.loc[lines["line_kind"] == "match", "segment"].value_counts(normalize=True)
    assert set(shares.index) == {"head", "tail", "cold"}
    assert shares.min() > 0.1


def test_few_lines_are_exact_and_most_can_be_told_apart(catalog, lines):
    matched = lines[lines["line_kind"] == "match"]
    same = matched["title"].map(normalise) == matched["catalog_style_title"].map(normalise)
    assert 0.01 < same.mean() < 0.15
    assert 0.85 < matched["identifiable"].mean() < 0.99
    assert catalog.truth["mappings"]["identifiable"].mean() > 0.88


def test_whether_a_line_can_be_told_apart_agrees_with_trying_every_product():
    config = SyntheticConfig(n_products=400, n_mappings=0, n_uploads=0)
    assortment = Assortment(config)
    identifier = Identifier(assortment.families)
    everything = [(product, stated(product.words()), product.attributes()) for product in assortment.products]
    rng = np.random.default_rng(3)
    answers = Counter()
    for _ in range(400):
        product, facts, attributes = everything[rng.integers(len(everything))]
        kept = frozenset(fact for fact in sorted(facts) if rng.random() < 0.7)
        silent = [name for name, text in attributes.items() if not text]
        rivals = [
            other
            for other, theirs, own in everything
            if other is not product and kept <= theirs and not any(own.get(name) for name in silent)
        ]
        named = any(fact in ("brand", "line") for fact, _ in kept)
        answers[identifier.identifies(product, kept)] += 1
        assert identifier.identifies(product, kept) == (named and not rivals)
    assert min(answers[True], answers[False]) > 50


def test_tables_hold_the_columns_of_the_data_contract_only(catalog):
    names = ["product_id", "title", "brand", "category", "description", "price", "size", "image"]
    assert list(catalog.products) == names
    assert list(catalog.mappings) == ["vendor_id", "vendor_title", "product_id"]
    assert list(catalog.listings) == ["listing_id", "title", "description", "category", "image", "seller_id"]
    assert list(catalog.interactions) == ["session_id", "product_id", "event", "timestamp", "user_id"]
    for frame in catalog.uploads.values():
        assert set(frame) <= {"sku", "title", "brand", "description", "price"}
        assert {"sku", "title", "price"} <= set(frame)


def test_the_contract_reads_what_was_written(catalog, tmp_path):
    root = write(catalog, tmp_path / "data", with_truth_column=True)
    products = read_table(root, "products")
    mappings = read_table(root, "mappings")
    assert len(products.frame) == 1_500
    assert not products.repairs
    assert len(check_mappings(mappings.frame, products.frame)[0]) == 2_500
    for name in ("listings", "interactions"):
        assert len(read_table(root, name).frame) == len(getattr(catalog, name))
    for (vendor_id, file), truth in catalog.upload_truth.items():
        data = (root / "uploads" / vendor_id / file).read_bytes()
        upload = parse_upload(data, file, vendor_id).frame
        assert upload["truth_product_id"].tolist() == truth["product_id"].tolist()
        assert upload["row"].tolist() == truth["row"].tolist()


# Sessions, pictures


def test_planted_substitutes_come_back_from_what_was_viewed_together(catalog):
    planted = defaultdict(set)
    for one, other in catalog.truth["substitutes"].itertuples(index=False):
        planted[one].add(other)
    together: dict[str, Counter] = defaultdict(Counter)
    views = catalog.interactions[catalog.interactions["event"] == "view"]
    for _, seen in views.groupby("session_id")["product_id"]:
        for one, other in combinations(sorted(set(seen)), 2):
            together[one][other] += 1
            together[other][one] += 1
    well_known = {one: counts for one, counts in together.items() if sum(counts.values()) >= 10}
    assert len(well_known) > 200
    right = sum(counts.most_common(1)[0][0] in planted[one] for one, counts in well_known.items())
    assert right / len(well_known) > 0.9


def test_planted_complements_are_bought_together(catalog):
    category = dict(catalog.products[["product_id", "category"]].itertuples(index=False))
    planted = set(catalog.truth["complements"].itertuples(index=False, name=None))
    assert planted
    assert all(category[one] != category[other] for one, other in planted if category[one] and category[other])
    bought = catalog.interactions[catalog.interactions["event"] == "purchase"].groupby("session_id")["product_id"]
    pairs = [tuple(products) for _, products in bought if len(products) == 2]
    assert len(pairs) > 100
    assert set(pairs) <= planted


def test_cold_products_occur_in_no_session_and_time_rises_within_one(catalog):
    products = Assortment(CONFIG).products
    is_cold = Popularity(len(products), CONFIG.cold_share, CONFIG.seed).is_cold
    cold = {product.product_id for product, alone in zip(products, is_cold, strict=True) if alone}
    assert len(cold) > 0.9 * CONFIG.cold_share * len(products)
    assert not cold & set(catalog.interactions["product_id"])
    assert not cold & set(catalog.mappings["product_id"])
    assert set(catalog.interactions["event"]) == {"view", "cart", "purchase"}
    times = pd.to_datetime(catalog.interactions["timestamp"], utc=True)
    assert (times.groupby(catalog.interactions["session_id"]).diff().dropna() > pd.Timedelta(0)).all()


def test_mapped_and_visited_products_are_the_same_warm_ones(catalog):
    truth = catalog.truth["products"].set_index("product_id")
    warm = set(truth.index[truth["n_mappings"] > 0])
    visits = catalog.interactions["product_id"].value_counts()
    assert visits.reindex(sorted(warm)).notna().mean() > 0.9


def test_no_sessions_and_no_pictures_unless_asked_for():
    plain = generate(SyntheticConfig(n_products=300, n_mappings=50, n_uploads=0))
    assert plain.interactions.empty
    assert plain.pictures.empty
    assert plain.uploads == {}
    assert plain.products["image"].isna().all()


def test_pictures_follow_the_category():
    from PIL import Image

    chosen = [leaf.path for leaf in LEAVES[::9]]
    samples = {path: [_pixels(Image, f"P{number}", path) for number in range(8)] for path in chosen}
    centres = {path: np.mean(pictures[:4], axis=0) for path, pictures in samples.items()}
    right = sum(
        min(chosen, key=lambda path: np.abs(centres[path] - picture).mean()) == own
        for own in chosen
        for picture in samples[own][4:]
    )
    assert right / (4 * len(chosen)) > 0.7


def _pixels(image_module, product_id: str, category: str) -> np.ndarray:
    import io

    picture = image_module.open(io.BytesIO(draw(product_id, category, "", seed=1)))
    assert picture.size == (96, 96)
    return np.asarray(picture, dtype=float)


def test_pictures_are_named_in_the_tables_and_on_disk(catalog, tmp_path):
    root = write(catalog, tmp_path / "data")
    named = catalog.products["image"].dropna()
    assert len(named) == CONFIG.n_images
    assert {path.relative_to(root).as_posix() for path in (root / "images").iterdir()} == set(named)


# Listings


def test_listings_and_their_pictures_change_nothing_else():
    sizes = {"n_products": 300, "n_mappings": 200, "n_uploads": 2, "lines_per_upload": 30, "n_sessions": 100}
    plain, more = (generate(SyntheticConfig(**sizes, n_listings=count, n_listing_images=count)) for count in (0, 250))
    for name in ("products", "mappings", "interactions"):
        pd.testing.assert_frame_equal(getattr(plain, name), getattr(more, name))
    assert plain.uploads.keys() == more.uploads.keys()
    for key, frame in plain.uploads.items():
        pd.testing.assert_frame_equal(frame, more.uploads[key])


def test_products_mappings_and_uploads_are_those_of_the_version_before(tmp_path):
    """Made by version 2 of the generator, so that a new kind of listing is no new catalog for the matcher."""
    config = SyntheticConfig(n_products=300, n_mappings=200, n_uploads=2, lines_per_upload=30, seed=5)
    root = write(generate(config), tmp_path / "data")
    made = {name: digest[:12] for name, digest in digests(root).items()}
    expected = {
        "products.csv": "caaa54ffb5ed",
        "mappings.csv": "ea5143f8d0c6",
    }
    assert {name: made[name] for name in expected} == expected
    uploads = "".join(digest for name, digest in made.items() if name.startswith("uploads/"))
    assert uploads == "94fd3398aad9f0b77236458c"


def test_listings_follow_their_product_unless_somebody_erred(listed):
    frame, _ = listed
    path_of = {product.product_id: product.family.leaf.path for product in Assortment(LISTED).products}
    of_product = frame["product_id"].map(path_of)
    right = frame["right"].str.split(" | ", regex=False)
    plain = (frame["kind"] == "product").to_numpy()
    assert [paths[0] for paths in right[plain]] == of_product[plain].tolist()
    assert {paths[0] for paths in right[~plain]} <= {leaf.path for leaf in LEAVES}
    assert not set(map(tuple, right[~plain])) & {(path,) for path in of_product[~plain]}
    honest = frame[~frame["is_mislabelled"] & ~frame["is_older_name"]]
    assert (honest["category"] == honest["right"]).all()


def test_two_categories_are_right_where_it_is_natural(listed):
    frame, _ = listed
    both = frame[frame["right"].str.contains(" | ", regex=False)]
    assert 0.003 < len(both) / len(frame) < 0.05
    assert both["right"].nunique() >= 3
    kept = both[~both["is_mislabelled"]]
    assert (kept["category"].map(lambda cell: len(split_categories(cell))) == 2).all()


def counts_as(path: str, mapping: dict[str, str]) -> str:
    """The path that a category counts as: the longest merged one that it lies in moves it."""
    found = max((one for one in mapping if f"{path} > ".startswith(f"{one} > ")), key=len, default="")
    return mapping[found] + path[len(found) :] if found else path


def test_few_labels_are_wrong_mostly_a_neighbour_and_one_seller_errs_all_the_time(listed):
    frame, made = listed
    sellers = made.truth["sellers"].set_index("seller_id")["is_careless"]
    assert sellers.sum() == 1
    careless = frame["seller_id"].map(sellers)
    assert frame.loc[careless, "is_mislabelled"].mean() == pytest.approx(0.35, abs=0.08)
    assert frame.loc[~careless, "is_mislabelled"].mean() == pytest.approx(0.025, abs=0.01)
    wrong = frame[frame["is_mislabelled"] & ~careless]
    mapping = check_mapping(ROOT / "dbt_project" / "seeds" / "category_mapping.csv")
    given = wrong["category"].map(lambda path: counts_as(path, mapping))
    assert not any(path in right for path, right in zip(given, wrong["right"].map(split_categories), strict=True))
    same_department = given.str.split(" > ").str[0] == wrong["right"].str.split(" > ").str[0]
    assert same_department.mean() > 0.8


def test_older_names_are_those_that_the_projects_mapping_merges(listed):
    frame, _ = listed
    mapping = check_mapping(ROOT / "dbt_project" / "seeds" / "category_mapping.csv")
    older = frame[frame["is_older_name"] & ~frame["is_mislabelled"]]
    assert older["category"].str.split(" > ").str[0].nunique() >= 3
    assert (older["category"] != older["right"]).all()
    back = older["category"].map(lambda cell: " | ".join(counts_as(path, mapping) for path in split_categories(cell)))
    assert (back == older["right"]).all()


def test_accessories_read_like_what_they_are_for(listed):
    frame, made = listed
    accessories = frame[frame["kind"] == "accessory"]
    assert 0.01 < len(accessories) / len(frame) < 0.06
    assert accessories["right"].nunique() >= 4
    brands = accessories["product_id"].map(made.products.set_index("product_id")["brand"]).fillna("")
    named = [brand.lower() in title.lower() for brand, title in zip(brands, accessories["title"], strict=True)]
    assert np.mean(named) > 0.4
    assert accessories["title"].str.contains(r"\bfor\b|\bwith\b", case=False).all()


def test_descriptions_are_missing_or_of_no_use(listed):
    frame, _ = listed
    assert frame["description"].isna().mean() == pytest.approx(0.3, abs=0.03)
    assert 0.05 < frame["description"].str.contains("delivery|photos|Ships|terms|original").mean() < 0.2


def test_pictures_of_listings_are_as_odd_as_sellers_make_them(listed, tmp_path):
    from PIL import Image

    frame, made = listed
    pictured = frame[frame["picture"] != ""]
    assert frame["picture"].iloc[1_000:].eq("").all()
    assert 0.85 < len(pictured) / 1_000 < 0.95
    assert set(pictured["picture"]) == {"plain", *ODD_PICTURES}
    few = pictured.groupby("picture").head(3)
    small = replace(made, listings=few[list(made.listings)], listing_pictures=_of(made.listing_pictures, few))
    root = write(small, tmp_path / "data")
    sizes, modes = set(), set()
    for image, kind in zip(few["image"], few["picture"], strict=True):
        path = root / image
        if kind == "broken":
            with pytest.raises(OSError, match=r"(?i)truncated|identify"), Image.open(path) as picture:
                picture.load()
            continue
        with Image.open(path) as picture:
            picture.load()
            sizes.add((kind, picture.size))
            modes.add((kind, picture.mode))
            assert (picture.getexif().get(0x0112) == 6) == (kind == "turned")
            assert (getattr(picture, "n_frames", 1) > 1) == (kind == "animated")
    assert ("tiny", (8, 8)) in sizes
    assert {("cmyk", "CMYK"), ("transparent", "RGBA")} <= modes
    assert few.loc[few["picture"] == "placeholder", "image"].nunique() == 1


def _of(pictures: pd.DataFrame, chosen: pd.DataFrame) -> pd.DataFrame:
    return pictures[pictures["listing_id"].isin(chosen["listing_id"])]


def test_pictures_of_listings_follow_the_category():
    from PIL import Image

    chosen = [leaf.path for leaf in LEAVES[::12]]

    def pixels(number: int, path: str) -> np.ndarray:
        data = draw_listing(f"L{number}", path, "", "plain", seed=1)
        return np.asarray(Image.open(io.BytesIO(data)).resize((12, 12)), dtype=float)

    centres = {path: np.mean([pixels(number, path) for number in range(20)], axis=0) for path in chosen}
    right = sum(
        min(chosen, key=lambda path: np.abs(centres[path] - pixels(number, own)).mean()) == own
        for own in chosen
        for number in range(20, 26)
    )
    assert 0.5 < right / (6 * len(chosen)) < 1, "harder than the catalog's pictures, and not without a hint"


# Writing


@pytest.fixture(scope="module")
def tiny():
    return generate(SyntheticConfig(n_products=200, n_mappings=50, n_uploads=1, lines_per_upload=20, n_images=2))


def test_truth_stays_out_of_the_upload_files_and_beside_them(tiny, tmp_path):
    root = write(tiny, tmp_path / "data", uploads_folder="vendor_files")
    assert not (root / "uploads").exists()
    ((vendor_id, file),) = tiny.uploads
    assert "product_id" not in pd.read_csv(root / "vendor_files" / vendor_id / file)
    truth = pd.read_csv(root / "truth" / "uploads" / vendor_id / file, keep_default_na=False)
    assert truth["product_id"].tolist() == tiny.upload_truth[vendor_id, file]["product_id"].tolist()
    rates = json.loads((root / MANIFEST).read_text())["noise_rates"]
    assert set(truth["noise"].str.split("|").explode()) - {""} <= set(rates)


def test_the_manifest_says_what_was_made(tiny, tmp_path):
    root = write(tiny, tmp_path / "data")
    manifest = json.loads((root / MANIFEST).read_text())
    assert manifest["counts"] == tiny.counts()
    assert manifest["config"]["n_products"] == 200
    on_disk = {path.relative_to(root).as_posix(): path.stat().st_size for path in root.rglob("*") if path.is_file()}
    on_disk.pop(MANIFEST)
    assert manifest["files"] == on_disk
    assert holds(root, tiny.config)
    assert not holds(root, SyntheticConfig(n_products=201))
    assert not holds(tmp_path / "nowhere", tiny.config)


def test_a_failed_write_leaves_the_old_catalog_and_nothing_else(tiny, tmp_path, monkeypatch):
    root = write(tiny, tmp_path / "data")
    before = digests(root)

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(importlib.import_module("shelfwise.synthetic.write"), "_write_manifest", fail)
    with pytest.raises(OSError, match="disk full"):
        write(tiny, root)
    assert digests(root) == before
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_a_killed_write_leaves_nothing_and_the_next_one_clears_up(tiny, tmp_path):
    code = (
        "import importlib, os, signal\n"
        "from shelfwise.synthetic import SyntheticConfig, generate\n"
        "w = importlib.import_module('shelfwise.synthetic.write')\n"
        "w.draw = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "catalog = generate(SyntheticConfig(n_products=200, n_mappings=50, n_uploads=1, n_images=2))\n"
        f"w.write(catalog, {str(tmp_path / 'data')!r})\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False)
    assert done.returncode == -signal.SIGKILL
    assert not (tmp_path / "data").exists()
    assert [path.name for path in tmp_path.iterdir() if not path.name.startswith(".")] == []
    write(tiny, tmp_path / "data")
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_a_kill_between_the_two_renames_is_mended_by_the_next_write(tiny, tmp_path):
    root = write(tiny, tmp_path / "data")
    (root / "uploads" / "mine.csv").write_text("title\nmine\n")
    dead = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    os.rename(root, tmp_path / f".data.{int(dead.stdout)}.old")
    write(generate(SyntheticConfig(n_products=210, n_mappings=0, n_uploads=0)), root)
    assert (root / "uploads" / "mine.csv").read_text() == "title\nmine\n"
    assert [path.name for path in (root / "uploads").iterdir()] == ["mine.csv"], "old files are not taken for others'"
    assert not (root / "mappings.csv").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_writing_again_keeps_what_others_put_there_and_drops_what_is_old(tiny, tmp_path):
    root = write(tiny, tmp_path / "data", uploads_folder="vendor_files")
    dropped = root / "uploads" / "acme" / "list.csv"
    dropped.parent.mkdir(parents=True)
    dropped.write_text("title\nmine\n")
    other = generate(SyntheticConfig(n_products=210, n_mappings=0, n_uploads=0))
    write(other, root, uploads_folder="vendor_files")
    assert dropped.read_text() == "title\nmine\n"
    assert not (root / "vendor_files").exists()
    assert not (root / "mappings.csv").exists()
    assert len(pd.read_csv(root / "products.csv")) == 210


def test_a_directory_that_is_no_synthetic_catalog_is_left_alone(tiny, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "products.csv").write_text("product_id,title\n1,mine\n")
    with pytest.raises(FileExistsError, match="no synthetic catalog"):
        write(tiny, tmp_path / "data")
    assert (tmp_path / "data" / "products.csv").read_text() == "product_id,title\n1,mine\n"
    (tmp_path / "file").write_text("x")
    with pytest.raises(FileExistsError, match="is a file"):
        write(tiny, tmp_path / "file")
