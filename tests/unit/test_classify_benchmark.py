"""The classification benchmark: reading, split, baselines, measures and the object, with stand-ins for the models."""

import io
import json
import zipfile

import numpy as np
import pandas as pd
import pytest

from benchmarks import classify, classify_baselines, classify_data, classify_rows, common, report, run
from shelfwise.classification import picture_files
from shelfwise.classification.ensemble import Ensemble
from shelfwise.classification.pictures import Pictures, read_picture
from shelfwise.errors import InputError

COLOURS = {"red": (200, 30, 30), "green": (30, 200, 30), "blue": (30, 30, 200)}
NOUNS = {"Drinks > Wine": "wine", "Drinks > Beer": "beer", "Pet": "kibble"}


def png(colour, noise, side=16, seed=0):
    from PIL import Image

    rng = np.random.default_rng(seed)
    pixels = np.clip(np.array(colour) + rng.integers(-noise, noise + 1, (side, side, 3)), 0, 255).astype(np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def listings(each=20):
    rows = []
    for kind, (category, noun) in enumerate(NOUNS.items()):
        rows += [
            {"listing_id": f"{kind}-{i}", "title": f"{noun} number {i}", "description": "", "category": category}
            for i in range(each)
        ]
    return pd.DataFrame(rows)


def write(folder, frame, pictures=True):
    folder.mkdir(exist_ok=True)
    frame.to_csv(folder / "listings.csv", index=False)
    if pictures:
        (folder / "images").mkdir(exist_ok=True)
        for number, row in enumerate(frame.itertuples()):
            colour = list(COLOURS.values())[list(NOUNS).index(row.category.split(" | ")[0])]
            (folder / "images" / f"{row.listing_id}.png").write_bytes(png(colour, 40, seed=number))
    return folder


# ---- stand-ins -------------------------------------------------------------------------------------------------------


class Words:
    """Knows the categories by a word of the title; gives the frequencies where there is none."""

    def __init__(self, frame):
        self.classes = tuple(sorted(set(frame["category"])))
        self.frame = frame

    def probabilities(self, titles, descriptions):
        p = np.full((len(titles), len(self.classes)), 0.1, np.float32)
        for row, (title, more) in enumerate(zip(titles, descriptions, strict=True)):
            for column, category in enumerate(self.classes):
                nouns = [noun for path, noun in NOUNS.items() if path.startswith(category)]
                p[row, column] += any(noun in f"{title} {more}" for noun in nouns)
        return p / p.sum(axis=1, keepdims=True)

    unseen_probabilities = probabilities


class Colours:
    def __init__(self, frame):
        self.classes = tuple(sorted(set(frame["category"])))
        self.frame = frame

    def probabilities(self, pixels):
        near = [list(COLOURS.values())[list(NOUNS).index(category)] for category in self.classes]
        mean = pixels.reshape(len(pixels), -1, 3).mean(axis=1)
        distance = ((mean[:, None] - np.array(near)[None]) ** 2).sum(axis=2)
        return classify_baselines.softmax(-distance / 1000).astype(np.float32)


@pytest.fixture
def seen():
    return {}


@pytest.fixture
def system(seen):
    def text(frame, work, seed):
        seen["text"] = frame
        return Words(frame), {"metrics": {}}

    def image(packed, frame, work, seed, minutes):
        seen["image"], seen["minutes"] = frame, minutes
        return Colours(frame), {}

    def pack(folder, found, work):
        return Pictures.pack(picture_files.read(folder, found), 16, work / "pictures")

    return classify.System(lambda data: read_picture(data, 16), pack, text, image, Ensemble.fit)


# ---- reading ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["csv", "jsonl", "json", "parquet"])
def test_every_form_of_the_table_says_the_same(tmp_path, form):
    frame = pd.DataFrame(
        {"Listing_ID": [1, 2], "title": ["a", None], "category": ["A>B", ""], "image": [None, "x.jpg"], "more": [1, 2]}
    )
    path = tmp_path / f"listings.{form}"
    if form == "csv":
        frame.to_csv(path, index=False)
    elif form == "parquet":
        frame.to_parquet(path)
    else:
        frame.to_json(path, orient="records", lines=form == "jsonl")
    found = classify_rows.read_listings(tmp_path)
    assert found.to_dict("records") == [
        {"listing_id": "1", "title": "a", "description": "", "category": "A>B", "image": ""},
        {"listing_id": "2", "title": "", "description": "", "category": "", "image": "x.jpg"},
    ]


def test_a_list_of_categories_is_several(tmp_path):
    pd.DataFrame({"category": [["A > B", "C"], ["D"]]}).to_parquet(tmp_path / "listings.parquet")
    found = classify_rows.read_listings(tmp_path)
    assert [classify_rows.paths_of(cell) for cell in found["category"]] == [["A > B", "C"], ["D"]]
    assert found["listing_id"].tolist() == ["1", "2"]


def test_paths_are_tidied_and_cut():
    assert classify_rows.paths_of(" A>B  >C | D ") == ["A > B > C", "D"]
    assert classify_rows.paths_of("A > B > C | A > B > D", 2) == ["A > B"]
    assert classify_rows.paths_of("A > > B") == ["A > B"]
    assert classify_rows.paths_of(" > ") == []


def test_a_directory_that_cannot_be_used_says_why(tmp_path):
    with pytest.raises(InputError, match="listings"):
        classify_rows.read_listings(tmp_path)
    (tmp_path / "listings.csv").write_text("listing_id,title\n1,a\n")
    with pytest.raises(InputError, match="category"):
        classify_rows.read_listings(tmp_path)
    (tmp_path / "listings.csv").write_text("listing_id,title,category\n1,a,A\n2,b,B\n")
    with pytest.raises(InputError, match="at least two categories"):
        classify_rows.prepare(tmp_path)
    (tmp_path / "listings.json").write_text("[]")
    with pytest.raises(InputError, match=r"listings\.csv, listings\.json"):
        classify_rows.read_listings(tmp_path)


def test_pictures_are_found_by_column_by_name_and_by_id(tmp_path):
    (tmp_path / "images").mkdir()
    for name in ("a.jpg", "2.png", "3.jpg"):
        (tmp_path / "images" / name).write_bytes(b"x")
    frame = pd.DataFrame(
        {
            "listing_id": ["1", "2", "3", "4", "5"],
            "image": ["images/a.jpg", "", "/elsewhere/gone.jpg", "https://shop.example/a.jpg", "none.jpg"],
        }
    )
    found = classify_rows.find_pictures(tmp_path, frame).set_index("listing_id")
    assert found["path"][["1", "2", "3", "4"]].tolist() == [
        "images/a.jpg", "images/2.png", "images/3.jpg", "images/a.jpg",
    ]  # fmt: skip
    assert found["problem"].notna().to_dict() == {"1": False, "2": False, "3": False, "4": False, "5": True}


# ---- the split -------------------------------------------------------------------------------------------------------


def test_the_split_is_the_stated_one(tmp_path):
    from sklearn.model_selection import train_test_split

    frame = pd.concat([listings(25), pd.DataFrame([{"listing_id": "x", "title": "rare", "category": "Rare"}])])
    frame.loc[3, "category"] = ""
    rows = classify_rows.prepare(write(tmp_path / "d", frame.fillna(""), pictures=False))
    kept = frame[~frame["category"].isin(["", "Rare"])].reset_index(drop=True)
    assert rows.frame["listing_id"].tolist() == kept["listing_id"].tolist()
    _, test = train_test_split(range(len(kept)), test_size=0.2, stratify=kept["category"], random_state=0)
    assert sorted(rows.of("test")) == sorted(test)
    assert rows.counts["without_category"] == 1
    assert (rows.counts["classes"], rows.counts["classes_too_small"], rows.counts["in_classes_too_small"]) == (3, 1, 1)
    again = classify_rows.prepare(tmp_path / "d", seed=1)
    assert again.frame["split"].tolist() != rows.frame["split"].tolist()


def test_nothing_that_repeats_a_test_row_is_learnt_from():
    part = ["train"] * 90 + ["test"] * 10
    frame = pd.DataFrame({"listing_id": [str(i) for i in range(100)], "category": ["A", "B"] * 50, "split": part})
    rows = classify_rows.Rows(frame, pd.DataFrame(), ("A", "B"))
    text = np.array([f"t{i // 3}" for i in range(100)], dtype=object)  # three of each; t30 and on are in test too
    text[:6] = "t32"
    text[6:9] = ""
    picture = np.array([f"p{i}" for i in range(100)], dtype=object)
    picture[10] = picture[80]  # ties the groups of 9 and 78
    usable = classify_rows.settle(rows, {"text": text, "image": picture})
    assert usable["text"].tolist() == [False] * 9 + [True] * 81 + [False] * 10
    assert usable["image"].tolist() == [True] * 90 + [False] * 10
    assert rows.counts["duplicates_of_test_dropped"] == {"text": 6, "image": 0}
    assert frame["split"].iloc[90:].eq("test").all()
    assert (frame["split"] == "valid").sum() == pytest.approx(90 / 8, abs=6)
    for key in (text, picture):
        known = frame["split"].iloc[:90][key[:90] != ""].groupby(key[:90][key[:90] != ""]).nunique()
        assert (known == 1).all()
    train = (frame["split"] == "train").to_numpy()
    assert rows.counts["learned_from"] == {
        "text": int((usable["text"] & train).sum()), "image": int((usable["image"] & train).sum()),
    }  # fmt: skip


def test_titles_that_are_equal_once_normalised_share_a_key():
    assert classify_rows.text_key("Red WINE 750 ml", "") == classify_rows.text_key("red wine 750ml", "")
    assert classify_rows.text_key("red wine", "") != classify_rows.text_key("", "red wine")
    assert classify_rows.text_key("", "") == ""


# ---- baselines -------------------------------------------------------------------------------------------------------


def test_the_linear_svm_learns_words_and_leaves_unknown_classes_out():
    texts = ["red wine"] * 5 + ["pale beer"] * 5 + ["dog kibble"] * 5
    labels = np.repeat([0, 1, 3], 5)
    p = classify_baselines.linear_svm(texts, labels, ["white wine", "dark beer", "cat kibble"], 4)
    assert p.argmax(axis=1).tolist() == [0, 1, 3]
    assert (p[:, 2] == 0).all()
    two = classify_baselines.linear_svm(texts[:10], labels[:10], ["white wine", "dark beer"], 4)
    assert two.argmax(axis=1).tolist() == [0, 1]


def test_the_linear_svm_is_left_out_where_it_would_take_too_long(monkeypatch):
    monkeypatch.setattr(classify_baselines, "MOST", 5)
    assert classify_baselines.linear_svm(["a", "b", "c"], np.array([0, 1, 1]), ["a"], 2) is None


def test_the_nearest_pixels_vote():
    rng = np.random.default_rng(0)
    dark, light = rng.integers(0, 90, (12, 40, 40, 3)), rng.integers(150, 255, (12, 40, 40, 3))
    pixels = np.concatenate([dark, light]).astype(np.uint8)
    labels = np.repeat([2, 0], 12)
    p = classify_baselines.nearest_pixels(pixels[2:-2], labels[2:-2], pixels[[0, 1, -1]], 3)
    assert p.argmax(axis=1).tolist() == [2, 2, 0]
    assert p.sum(axis=1) == pytest.approx(1)
    # Two votes for the nearest class win against two for another and one for a third.
    grey = np.full((5, 8, 8, 3), [[[[10]]], [[[11]]], [[[20]]], [[[21]]], [[[40]]]], np.uint8)
    votes = classify_baselines.nearest_pixels(grey, np.array([1, 1, 0, 0, 2]), np.full((1, 8, 8, 3), 9, np.uint8), 3)
    assert votes.argmax() == 1


# ---- the whole -------------------------------------------------------------------------------------------------------


def test_the_object_of_a_whole_run(tmp_path, system, seen):
    frame = listings(40)
    frame.loc[::9, "title"] = ""
    folder = write(tmp_path / "d", frame)
    (folder / "images" / "1-5.png").write_bytes(b"not a picture")
    (folder / "images" / "2-6.png").unlink()
    found = common.plain(classify.run(folder, system=system, image_minutes=3))
    json.dumps(found, allow_nan=False)
    assert found["benchmark"] == "classify"
    assert found["modalities"] == ["text", "image", "combined"]
    assert found["text"]["top1"] == found["combined"]["top1"] == found["top1"] == 1
    assert found["text"]["top1_low"] == 1
    assert found["text"]["listings"] < found["combined"]["listings"] == 24
    assert found["combined"]["level_1_top1"] == 1
    assert {"macro_f1", "hierarchical_f1", "ece", "coverage_at_95", "top5"} <= set(found["image"])
    assert set(found["baselines"]) == {"majority", "linear_svm", "pixels_5nn"}
    assert found["baselines"]["majority"]["top1"] == pytest.approx(1 / 3, abs=0.05)
    assert found["baselines"]["linear_svm"]["top1"] > 0.9
    assert not any(name.startswith(("majority", "linear_svm", "pixels")) for name in found["text"])
    assert found["listings"]["pictures"] == 118
    assert found["listings"]["pictures_unreadable"] == 1
    assert found["together"]["gain"] == pytest.approx(0)
    assert found["missing"]["picture"]["alone"] == "text"
    assert found["missing"]["title"]["alone"] == "image"
    assert found["one_listing_p99_ms"] >= found["one_listing_p50_ms"] > 0
    assert all(found[name]["listings_per_second"] > 0 for name in found["modalities"])
    assert set(found["combined"]["baselines"]) == set(found["baselines"])
    assert found["baselines"]["linear_svm"] == found["text"]["baselines"]["linear_svm"]
    # Without a title the SVM says nothing, which is wrong where all listings count.
    assert found["combined"]["baselines"]["linear_svm"]["top1"] < found["baselines"]["linear_svm"]["top1"]
    assert found["training"]["combined"]["why"]
    assert seen["minutes"] == 3
    assert set(seen["text"]["split"]) == set(seen["image"]["split"]) == {"train", "valid"}
    assert (seen["text"]["title"] != "").all()


def test_explaining_is_timed_where_a_model_does_it_and_shown(tmp_path, system, monkeypatch):
    folder = write(tmp_path / "d", listings(20))
    without = common.plain(classify.run(folder, system=system))
    assert not any("explained_per_second" in without[name] for name in without["modalities"])
    asked = []

    def explain(self, titles, descriptions, chosen):
        assert chosen.tolist() == self.probabilities(titles, descriptions).argmax(1).tolist()
        asked.append(titles)
        return [""] * len(titles)

    monkeypatch.setattr(Words, "explain", explain, raising=False)
    found = common.plain(classify.run(folder, system=system))
    rate = found["text"]["explained_per_second"]
    assert rate > 0
    assert [name for name in found["modalities"] if "explained_per_second" in found[name]] == ["text"]
    # After a first go the same listings each time, none of them twice.
    assert len(asked) == 1 + classify.TIMES
    assert len(asked[1]) == len(set(asked[1])) == found["text"]["listings"]
    assert f"({rate:,.0f} with the words that decided)" in report.render({"classify_d": found})
    assert "with the words that decided" not in report.render({"classify_d": without})


def test_test_rows_never_reach_a_training(tmp_path, system, seen):
    folder = write(tmp_path / "d", listings(30))
    rows = classify_rows.prepare(folder)
    classify.run(folder, system=system)
    test = set(rows.frame["listing_id"].iloc[rows.of("test")])
    assert len(test) == 18
    for modality in ("text", "image"):
        assert not test & set(seen[modality]["listing_id"])


@pytest.mark.parametrize(("only", "pictures"), [("text", True), ("image", True), ("both", False)])
def test_one_modality_alone(tmp_path, system, only, pictures):
    folder = write(tmp_path / "d", listings(20), pictures)
    found = classify.run(folder, only=only, system=system)
    assert found["modalities"] == ["image" if only == "image" else "text"]
    assert found["top1"] > 0.9
    assert "together" not in found


def test_a_level_above_the_leaf_and_several_categories(tmp_path, system):
    frame = listings(20)
    frame.loc[:4, "category"] = "Drinks > Wine | Pet"
    folder = write(tmp_path / "d", frame)
    whole = classify_rows.prepare(folder)
    assert whole.frame["categories"].iloc[0] == ["Drinks > Wine", "Pet"]
    assert whole.counts["several_categories"] == 5
    cut = classify_rows.prepare(folder, level=1)
    assert cut.classes == ("Drinks", "Pet")
    assert classify.run(folder, system=system)["top1"] == 1


def test_neither_titles_nor_pictures_is_refused(tmp_path, system):
    folder = write(tmp_path / "d", listings(20).assign(title=""), pictures=False)
    with pytest.raises(InputError, match="to learn from"):
        classify.run(folder, system=system)


def test_the_ensemble_is_compared_where_something_is_withheld(tmp_path, system):
    class Silly:
        why = "a test"

        def probabilities(self, text_p, image_p):
            return np.tile(np.array([1, 0, 0], np.float32), (len(text_p if text_p is not None else image_p), 1))

    silly = classify.System(system.read_picture, system.pack, system.train_text, system.train_image, lambda *_: Silly())
    frame = listings(30)
    frame["description"] = [f"{title} described" for title in frame["title"]]
    found = classify.run(write(tmp_path / "d", frame), system=silly)
    assert set(found["missing"]) == {"picture", "text", "title"}
    for one in found["missing"].values():
        assert one["below"] == pytest.approx(2 / 3)
    assert found["together"]["gain"] == pytest.approx(-2 / 3)
    assert found["together"]["gain_high"] < 0


def test_the_command_prints_one_object_last(tmp_path, system, monkeypatch, capsys):
    folder = write(tmp_path / "d", listings(20), pictures=False)
    bases = []
    monkeypatch.setattr(classify, "own_system", lambda base: bases.append(base) or system)
    monkeypatch.setattr(classify, "use_two_cores", lambda: 2)
    kept = tmp_path / "out" / "r.json"
    assert classify.main([str(folder), "--level", "1", "--seed", "3", "--json", str(kept)]) == 0
    found = common.last_object(capsys.readouterr().out)
    assert (found["level"], found["seed"], found["depth"]) == (1, 3, 1)
    assert json.loads(kept.read_text()) == found
    assert classify.main([str(tmp_path / "nothing")]) == 2
    assert bases == [None, None]


def test_the_encoder_that_is_compared_with_is_fine_tuned_where_it_is_installed(tmp_path, system, monkeypatch, capsys):
    monkeypatch.setenv("SHELFWISE_BENCH_ENCODER", str(tmp_path))
    monkeypatch.setattr(classify, "use_two_cores", lambda: 2)
    bases = []
    monkeypatch.setattr(classify, "own_system", lambda base: bases.append(base) or system)
    nothing = str(tmp_path / "nothing")
    assert classify.main([nothing, "--text-base", "minilm"]) == classify.main([nothing, "--text-base", "org/name"]) == 2
    assert bases == [str(tmp_path), "org/name"]
    monkeypatch.delenv("SHELFWISE_BENCH_ENCODER")
    monkeypatch.setattr("benchmarks.rivals.find_spec", lambda name: None)
    with pytest.raises(SystemExit):
        classify.main([nothing, "--text-base", "minilm"])
    assert "not installed" in capsys.readouterr().err


# ---- the sets --------------------------------------------------------------------------------------------------------


@pytest.fixture
def words():
    return classify_data.CategoryWords(
        ["Tshirts", "Flip Flops", "Track Pants", "Sports Shoes", "Watches", "Sunglasses", "Scarves", "Ties", "Handbags",
         "Formal Shoes", "Dresses", "Tops", "Accessories", "Gloves"]
    )  # fmt: skip


@pytest.mark.parametrize(
    ("title", "left"),
    [
        ("Puma Men Red T-shirt", "Puma Men Red"),
        ("Puma Men Red T Shirt", "Puma Men Red"),
        ("Puma tshirts & TSHIRT.", "Puma &"),
        ("Fila Flip-Flops blue flipflop", "Fila blue"),
        ("Nike trackpants", "Nike"),
        ("Fastrack Men's Wristwatch", "Fastrack Men's"),
        ("Fossil Women's Watch (steel)", "Fossil Women's (steel)"),
        ("Ray-Ban Sun Glasses", "Ray-Ban"),
        ("silk scarf, Scarves and gloves", "silk and"),
        ("Louis necktie and Neckties", "Louis and"),
        ("Laptop that hat", "Laptop that hat"),
        ("Semi-Formal Shoe", "Semi"),
        ("Dress dresses accessory", ""),
        ("A.T.U.N. glossy", "A.T.U.N. glossy"),
    ],
)
def test_category_words_leave_the_titles(words, title, left):
    assert words.remove(title) == left


def test_instacart_becomes_listings(tmp_path):
    source = tmp_path / "src"
    source.mkdir()
    (source / "aisles.csv").write_text("aisle_id,aisle\n1,red wines\n2,missing\n")
    (source / "departments.csv").write_text("department_id,department\n5,alcohol\n6,missing\n")
    (source / "products.csv").write_text("product_id,product_name,aisle_id,department_id\n7,NA,1,5\n8,X,2,6\n")
    assert classify_data.main(["instacart", str(source), str(tmp_path / "out")]) == 0
    assert pd.read_csv(tmp_path / "out" / "listings.csv", dtype=str, keep_default_na=False).to_dict("records") == [
        {"listing_id": "7", "title": "NA", "category": "alcohol > red wines"}
    ]
    (source / "products.csv").write_text("product_id,product_name,aisle_id,department_id\n7,A,1,5\n8,B,1,6\n")
    with pytest.raises(ValueError, match="two departments"):
        classify_data.instacart(source, tmp_path / "out")


def test_fashion_becomes_listings_with_pictures(tmp_path):
    source = tmp_path / "src"
    source.mkdir()
    (source / "styles.csv").write_text(
        "id,masterCategory,subCategory,articleType,title\n"
        "1,Apparel,Topwear,Shirts,Red Shirt\n2,Apparel,Topwear,Tops,Top\n"
    )
    with zipfile.ZipFile(source / "images.zip", "w") as archive:
        archive.writestr("images/1.jpg", b"x")
        archive.writestr("images/../evil.jpg", b"x")
    made = classify_data.fashion(source, tmp_path / "out", without_category_words=True)
    assert (made["titles_changed"], made["titles_empty"], made["pictures"]) == (2, 1, 1)
    found = pd.read_csv(tmp_path / "out" / "listings.csv", dtype=str, keep_default_na=False)
    assert found["category"].tolist() == ["Apparel > Topwear > Shirts", "Apparel > Topwear > Tops"]
    assert found["title"].tolist() == ["Red", ""]
    assert [p.name for p in (tmp_path / "out" / "images").iterdir()] == ["1.jpg"]


def test_no_data_is_written_into_the_checkout(capsys):
    with pytest.raises(SystemExit):
        classify_data.main(["instacart", "nowhere", str(common.ROOT / "data" / "x")])
    assert "repository" in capsys.readouterr().err


# ---- named runs and the report ---------------------------------------------------------------------------------------


def test_the_named_runs_are_there_and_fill_their_places():
    named = [one for one in run.BENCHMARKS if one.name.startswith("classify_")]
    names = {f"classify_{name}" for name in ("instacart", "fashion_subcategory", "fashion_both")}
    assert {one.name for one in named} >= names
    for one in named:
        made, measured = one.filled("DATA", "DIR", 1)
        assert made.startswith("benchmarks.classify_data ")
        assert measured.split()[1] == made.split()[3]
        assert one.needs


def test_the_report_shows_measures_targets_and_references(tmp_path, system):
    folder = write(tmp_path / "d", listings(30))
    both = common.plain(classify.run(folder, system=system))
    text = common.plain(classify.run(folder, only="text", system=system))
    shown = report.render({"classify_fashion_both": both, "classify_instacart": text})
    assert "classify" in shown
    assert "linear SVM" in shown
    assert "| Instacart, aisle by name: top-1 | ≥ 0.8100 | 1.0000 | met |" in shown
    assert "5 nearest neighbours on pixels" in shown
    assert "With the picture withheld" in shown
