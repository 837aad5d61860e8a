"""The text classifier: grams, the linear model, the encoder, what is kept, calibration, explanations."""

from __future__ import annotations

import dataclasses
import json
import random
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from shelfwise.classification import encoding, text, train_text
from shelfwise.classification import ngram_kernels as kernels
from shelfwise.classification.confidence import Confidence
from shelfwise.classification.held_out import HeldOut
from shelfwise.classification.neighbours import Neighbours
from shelfwise.classification.ngrams import NgramClassifier, NgramConfig, codes_of
from shelfwise.classification.text import TextClassifier, TextConfig
from shelfwise.classification.word_grams import WordGrams
from shelfwise.training import process

THINGS = {
    "Drinks > Spirits": ["vodka", "rum", "whisky", "gin"],
    "Drinks > Wine": ["merlot", "riesling", "chardonnay", "rioja"],
    "Food > Sauces": ["ketchup", "mustard", "pesto", "salsa"],
    "Home": ["candle", "sponge", "detergent", "bucket"],
}
LINEAR_ONLY = TextConfig(architecture="none")
TINY = TextConfig(
    hidden_size=16,
    heads=2,
    intermediate_size=16,
    batch_size=16,
    epochs=6,
    evaluations=2,
    patience=0,
    num_threads=1,
    networks=2,
    learning_rate=1e-2,
)


def make_listings(n: int = 160, seed: int = 3) -> pd.DataFrame:
    """Listings whose category follows from one word, which stands in the title, the description or both."""
    chance = random.Random(seed)
    rows = []
    for i in range(n):
        category = sorted(THINGS)[i % len(THINGS)]
        thing = chance.choice(THINGS[category])
        filler = chance.sample(["golden", "classic", "vodka sauce" if "Sauces" in category else "fresh", "old"], 2)
        title = f"{filler[0]} {thing} {chance.choice(['70cl', '1l', '3pk'])}"
        text_of = f"A {filler[1]} {thing}, made with care"
        rows.append(
            {
                "listing_id": f"l{i:03d}",
                "title": None if i % 7 == 1 else title,
                "description": None if i % 5 == 2 else text_of,
                "category": category,
                "split": ("train", "train", "train", "valid")[i // len(THINGS) % 4],
            }
        )
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def linear(tmp_path_factory) -> TextClassifier:
    root = tmp_path_factory.mktemp("linear")
    text.train_text(make_listings(), LINEAR_ONLY, root / "out", root / "work")
    return TextClassifier.load(root / "out")


@pytest.fixture(scope="module")
def both(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("both")
    text.train_text(make_listings(), TINY, root / "out", root / "work")
    return root / "out"


@pytest.fixture(scope="module")
def encoder(tmp_path_factory) -> encoding.EncoderPart:
    """Word networks trained on the listings, categories in their order in THINGS."""
    listings = make_listings()
    titles, descriptions = (listings[name].fillna("").str.lower().tolist() for name in ("title", "description"))
    labels = [[sorted(THINGS).index(name)] for name in listings["category"]]
    valid = (titles[:20], descriptions[:20], np.array(labels[:20]))
    work = tmp_path_factory.mktemp("encoder")
    part, _ = encoding.fit_encoder(titles, descriptions, labels, valid, len(THINGS), TINY, work, lambda event: None)
    return part


def cut(title: str, window: int = 1) -> list[tuple[int, int, int]]:
    _, kinds, first, second, _ = kernels.grams(*codes_of([title]), 2, 3, window, 8, True)
    return list(zip(kinds.tolist(), first.tolist(), second.tolist(), strict=True))


def test_grams_are_words_parts_pairs_and_ends():
    found = cut("ab c", window=1)
    # " a", "ab", "b ", " ab", "ab " and " c", "c ", " c ": sizes two and three with the spaces around.
    assert [gram for gram in found if gram[0] == kernels.PART] == [(kernels.PART, 0, 0)] * 5 + [
        (kernels.PART, 1, 1)
    ] * 3
    assert [gram[0] for gram in found if gram[0] != kernels.PART] == [
        kernels.WORD,
        kernels.WORD,
        kernels.NEXT,
        kernels.LAST,
        kernels.FIRST,
        kernels.TAIL,
        kernels.FRAME,
    ]
    assert (kernels.NEAR, 0, 2) in cut("ab c d", window=2)
    assert (kernels.NEAR, 0, 2) not in cut("ab c d", window=1)


def test_equal_grams_have_equal_hashes_and_others_do_not():
    def hashes(title: str, kind: int) -> set[int]:
        found, kinds, *_ = kernels.grams(*codes_of([title]), 2, 3, 1, 8, True)
        return set(found[kinds == kind].tolist())

    assert hashes("rum old", kernels.WORD) == hashes("old rum", kernels.WORD)
    assert hashes("rum old", kernels.NEXT) != hashes("old rum", kernels.NEXT)
    assert not hashes("rum", kernels.WORD) & hashes("rum", kernels.LAST)
    assert not hashes("rum", kernels.WORD) & hashes("run", kernels.WORD)


def test_words_beyond_the_most_do_not_count():
    few = kernels.grams(*codes_of(["a b c d"]), 2, 3, 1, 2, False)
    assert few[0].tolist() == kernels.grams(*codes_of(["a b"]), 2, 3, 1, 2, False)[0].tolist()


def test_lookup_finds_what_is_there_and_nothing_else():
    keys = np.array([3, 2**63 + 5, 7 << 20, 7 << 21], np.uint64)
    slots, numbers = kernels.table(keys)
    asked = np.array([7 << 21, 4, 3, 2**63 + 5, 2**63], np.uint64)
    features, origins, starts = kernels.found(asked, np.array([0, 2, 5]), slots, numbers)
    assert features.tolist() == [3, 0, 1]
    assert origins.tolist() == [0, 2, 3]
    assert starts.tolist() == [0, 1, 3]


def test_linear_model_knows_a_word_in_the_title_and_in_the_description(linear):
    p = linear.probabilities(["golden riesling 1l", None, "x"], [None, "a fresh ketchup", "gin gin"])
    assert [linear.classes[i] for i in p.argmax(1)] == ["Drinks > Wine", "Food > Sauces", "Drinks > Spirits"]
    np.testing.assert_allclose(p.sum(1), 1, atol=1e-5)
    assert p.dtype == np.float32


def test_linear_model_reads_misspelt_words_by_their_parts(linear):
    p = linear.probabilities(["chardonay"], None)
    assert linear.classes[int(p[0].argmax())] == "Drinks > Wine"


def test_without_any_text_the_shares_of_the_training_listings_answer(linear):
    listings = make_listings()
    train = listings[listings["split"] == "train"]
    shares = [float((train["category"] == name).mean()) for name in linear.classes]
    p = linear.probabilities([None, "", float("nan")], [None, " ", None])
    np.testing.assert_allclose(p, np.tile(shares, (3, 1)), atol=1e-6)
    assert linear.explain([None], None, np.array([0])) == ["no known words"]


def test_no_listings_give_no_rows(linear):
    assert linear.probabilities([], None).shape == (0, len(linear.classes))


def test_a_title_and_a_description_are_as_many(linear):
    with pytest.raises(ValueError, match="2 titles and 1 descriptions"):
        linear.probabilities(["a", "b"], ["c"])


def test_shares_of_words_sum_to_the_score():
    kinds = sorted(THINGS)
    known = [f"old {thing}" for kind in kinds for thing in THINGS[kind]]
    labels = [[kinds.index(kind)] for kind in kinds for _ in THINGS[kind]]
    part = NgramClassifier.fit(known, ["a classic"] * len(known), labels, len(kinds), NgramConfig())
    titles, descriptions = ["golden rum 70cl", "candle"], ["a classic vodka", ""]
    chosen = np.array([1, 3])
    scores = part.scores(titles, descriptions)
    for i, (title, description) in enumerate(part.shares(titles, descriptions, chosen)):
        assert (len(title), len(description)) == (len(titles[i].split()), len(descriptions[i].split()))
        bias = part.bias[chosen[i]] - part.bias.mean()
        expected = scores[i, chosen[i]] - scores[i].mean()
        assert title.sum() + description.sum() + bias == pytest.approx(expected, abs=1e-4)


def test_explanation_names_the_word_that_decided(linear):
    wine = linear.classes.index("Drinks > Wine")
    told = linear.explain(["Classic MERLOT 70cl"], None, np.array([wine]))[0]
    assert told.startswith("'merlot' +")
    home = linear.classes.index("Home")
    assert "'merlot' -" in linear.explain(["Classic merlot"], None, np.array([home]))[0]


def test_several_right_categories_share_the_probability():
    titles = ["rum cake"] * 20 + ["bucket"] * 20
    model = NgramClassifier.fit(titles, [""] * 40, [[0, 1]] * 20 + [[2]] * 20, 3, NgramConfig(epochs=20))
    p = np.exp(model.scores(["rum cake"], [""]))[0]
    p /= p.sum()
    np.testing.assert_allclose(p[:2], 0.5, atol=0.05)


def test_many_classes_leave_out_the_rarest_grams(monkeypatch):
    titles, labels = ["rum old", "rum new", "gin rare"], [[0], [0], [1]]
    full = NgramClassifier.fit(titles, [""] * 3, labels, 2, NgramConfig(epochs=1))
    monkeypatch.setattr("shelfwise.classification.ngrams.MOST_WEIGHTS", 12)
    few = NgramClassifier.fit(titles, [""] * 3, labels, 2, NgramConfig(epochs=1))
    assert few.weights.shape == (6, 2)
    assert len(full.weights) > 6
    assert len(few.grams(["rum"], [""]).features) > len(few.grams(["rare"], [""]).features)


def test_a_listing_with_several_categories_counts_as_right_for_each(tmp_path):
    listings = make_listings()
    listings["categories"] = [[name, "Gifts"] if name == "Home" else [name] for name in listings.pop("category")]
    metrics = text.train_text(listings, LINEAR_ONLY, tmp_path / "out", tmp_path / "work")["metrics"]
    model = TextClassifier.load(tmp_path / "out")
    assert "Gifts" in model.classes
    p = dict(zip(model.classes, model.probabilities(["golden candle"])[0], strict=True))
    assert min(p["Home"], p["Gifts"]) > 0.2 > p["Drinks > Wine"]
    assert metrics["valid_top1"] > 0.9


def test_equal_trainings_are_equal(tmp_path):
    for name in ("one", "two"):
        text.train_text(make_listings(), LINEAR_ONLY, tmp_path / name, tmp_path / "work")
    files = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert "metrics.json" in files
    for name in files:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name


def test_nothing_to_train_on_is_said(tmp_path):
    listings = make_listings().assign(split="test")
    with pytest.raises(ValueError, match="no listing of the split 'train' has a category"):
        text.train_text(listings, LINEAR_ONLY, tmp_path / "out", tmp_path / "work")


def test_without_validation_the_linear_model_is_kept_as_it_is(tmp_path):
    listings = make_listings()
    listings = listings[listings["split"] == "train"]
    metrics = text.train_text(listings, LINEAR_ONLY, tmp_path / "out", tmp_path / "work")["metrics"]
    assert metrics["kept"] == "linear"
    assert "no validation listings" in metrics["why"]
    assert TextClassifier.load(tmp_path / "out").confidence == Confidence()


def test_both_parts_are_measured_and_the_best_choice_is_kept(both):
    metrics = json.loads((both / "metrics.json").read_text())
    found = {name: metrics[f"valid_{name}_top1"] for name in ("linear", "neighbours", "encoder", "blend")}
    assert metrics["valid_top1"] == found[metrics["kept"]] == max(found.values())
    assert sum(value for name, value in metrics.items() if name.startswith("weight_")) == pytest.approx(1, abs=1e-3)
    assert metrics["kept"] in metrics["why"]
    assert found["encoder"] > 0.6, "the word network learned next to nothing"
    assert (both / "curve.csv").exists()


def test_neighbours_remember_a_line_that_has_one_word_in_common():
    titles = ["zyx blue", "zyx green", "zyx red"] * 3 + ["abc blue", "abc green", "def red"] * 3
    labels = [[0]] * 9 + [[1]] * 9
    prior = np.array([0.5, 0.5], np.float32)
    linear = NgramClassifier.fit(titles, [""] * 18, labels, 2, NgramConfig(epochs=1))
    part = Neighbours.fit(linear, titles, [""] * 18, labels, prior)
    p = np.exp(part.scores(["zyx yellow", "qqqq", ""], ["", "", "abc"]))
    np.testing.assert_allclose(p.sum(1), 1, atol=1e-5)
    assert p[0, 0] > 0.95
    np.testing.assert_allclose(p[1], prior, atol=1e-6)
    assert p[2, 1] > 0.85
    title, _ = part.shares(["zyx yellow"], [""], np.array([0]))[0]
    assert title[0] > 0.5 > abs(title[1])


def test_neighbours_count_each_of_several_right_categories(tmp_path):
    linear = NgramClassifier.fit(["rum cake", "bucket"], ["", ""], [[0, 1], [2]], 3, NgramConfig(epochs=1))
    part = Neighbours.fit(linear, ["rum cake", "bucket"], ["", ""], [[0, 1], [2]], np.full(3, 1 / 3, np.float32))
    p = np.exp(part.scores(["rum cake"], [""]))[0]
    np.testing.assert_allclose(p[:2], 0.5, atol=0.02)
    part.save(tmp_path)
    np.testing.assert_array_equal(np.exp(Neighbours.load(tmp_path).scores(["rum cake"], [""]))[0], p)


def test_a_blend_weighs_parts_by_what_they_know():
    chance = np.random.default_rng(2)
    truth = chance.integers(0, 4, 800)
    good = chance.normal(0, 1, (800, 4))
    good[np.arange(800), truth] += 3
    weights = text._best_blend({"linear": good, "encoder": chance.normal(0, 1, (800, 4))}, truth[:, None])
    assert weights["linear"] > 0.9
    assert sum(weights.values()) == pytest.approx(1)
    halves = text._best_blend({"linear": good, "encoder": good}, truth[:, None])
    assert halves["linear"] == pytest.approx(0.5, abs=0.05)


def test_a_loaded_encoder_gives_the_same_scores(encoder, tmp_path):
    assert len(encoder.networks) == 2
    encoder.save(tmp_path)
    titles, descriptions = ["old rum", "", "pesto"], ["", "a bucket", "fresh pesto, made with care"]
    expected = encoder.scores(titles, descriptions)
    np.testing.assert_array_equal(encoding.EncoderPart.load(tmp_path).scores(titles, descriptions), expected)
    # What a text is read as does not depend on its neighbours in the batch.
    alone = np.concatenate([encoder.scores([t], [d]) for t, d in zip(titles, descriptions, strict=True)])
    np.testing.assert_allclose(alone, expected, atol=1e-5)


def test_encoder_explains_by_leaving_words_out(encoder):
    wine = sorted(THINGS).index("Drinks > Wine")
    title, description = encoder.shares(["golden rioja 1l"], ["made with care"], np.array([wine]))[0]
    assert (len(title), len(description)) == (3, 3)
    assert title.argmax() == 1
    assert title[1] > np.abs(description).max()


def test_word_grams_keep_the_places_of_both_fields():
    vocabulary = WordGrams.fit(["old rum", "old gin", "gin tonic"])
    read = vocabulary.read(["old gin", "", "gin"], ["", "tonic old gin", "old"], most_words=2)
    assert read.starts.tolist() == [0, 2, 4, 6]
    assert read.fields.tolist() == [0, 0, 1, 1, 0, 1]
    assert read.front.tolist() == [0, 1, 0, 1, 0, 0]
    assert read.back.tolist() == [1, 0, 1, 0, 0, 0]
    word = [read.grams[a:b].tolist() for a, b in zip(read.gram_starts[:-1], read.gram_starts[1:], strict=True)]
    assert word[0] == word[3] == word[5]
    assert word[1] == word[4]
    assert word[0] != word[1]


def test_confidence_repairs_what_a_temperature_cannot():
    from shelfwise.classification.calibration import apply, expected_calibration_error, fit_temperature

    chance = np.random.default_rng(1)
    n, classes = 6000, 20
    # Half of the listings look certain and are right in 85 of 100, the others look like guesses and are right in 60.
    sure = np.arange(n) % 2 == 0
    hit = chance.random(n) < np.where(sure, 0.85, 0.6)
    scores = chance.normal(0, 0.3, (n, classes))
    scores[:, 0] += np.where(sure, 9.0, 2.0)
    truth = np.where(hit, 0, chance.integers(1, classes, n))
    fitted, held = slice(0, n, 3), slice(1, n, 3)
    confidence = Confidence.fit(scores[fitted], truth[fitted][:, None])
    p = confidence.apply(scores[held])
    plain = apply(scores[held], fit_temperature(scores[fitted], truth[fitted]))
    errors = [expected_calibration_error(q.max(1), q.argmax(1) == truth[held]) for q in (p, plain)]
    assert errors[0] < 0.05 < errors[1]
    np.testing.assert_allclose(p.sum(1), 1, atol=1e-5)
    np.testing.assert_array_equal(p.argmax(1), plain.argmax(1))


def test_confidence_of_one_class_and_of_no_rows():
    assert Confidence.fit(np.zeros((0, 3), np.float32), np.zeros((0, 1), np.int64)).temperature == 1.0
    assert Confidence().apply(np.zeros((2, 1), np.float32)).tolist() == [[1.0], [1.0]]
    assert Confidence().apply(np.zeros((0, 3), np.float32)).shape == (0, 3)


def test_configuration_round_trip_and_defaults():
    config = TextConfig(hidden_size=32, epochs=3)
    assert config.architecture == "words"
    assert TextConfig.from_json(config.to_json()) == config
    with pytest.raises(ValueError, match="architecture must be"):
        TextConfig(architecture="lstm")
    with pytest.raises(ValueError, match="only the architecture 'words'"):
        TextConfig(architecture="static", networks=2)
    with pytest.raises(ValueError, match="unknown text classifier settings"):
        TextConfig.from_dict({"epoch": 3})


def test_a_local_sentence_encoder_is_fine_tuned_as_base(tmp_path):
    from shelfwise.matching.train import EncoderConfig
    from shelfwise.matching.training_data import TrainingRows
    from shelfwise.matching.training_models import build_model

    listings = make_listings(80)
    none = np.zeros(0, np.int64)
    rows = TrainingRows([str(title).lower() for title in listings["title"]], [], none, none)
    settings = EncoderConfig(architecture="bert", vocab_size=120, hidden_size=16, heads=2, intermediate_size=16)
    build_model(settings, rows, tmp_path).save_pretrained(str(tmp_path / "base"))
    config = TextConfig(base=str(tmp_path / "base"), epochs=1, evaluations=1, batch_size=16, num_threads=1)
    assert (config.architecture, config.learning_rate) == ("bert", text.BASE_RATE)
    assert config.encoders()["encoder"] == TextConfig(evaluations=1, num_threads=1)
    alone = dataclasses.replace(config, beside=False)
    assert list(alone.encoders()) == ["pretrained"]
    result = text.train_text(listings, alone, tmp_path / "out", tmp_path / "work")
    assert 0 <= result["metrics"]["valid_pretrained_top1"] <= 1
    assert "valid_encoder_top1" not in result["metrics"]
    model = TextClassifier.load(tmp_path / "out")
    np.testing.assert_allclose(model.probabilities(["rum"]).sum(), 1, atol=1e-5)


def test_a_pretrained_encoder_and_word_networks_are_kept_side_by_side(encoder, tmp_path):
    listings = make_listings(80)
    titles, descriptions = (listings[name].fillna("").str.lower().tolist() for name in ("title", "description"))
    linear = NgramClassifier.fit(
        titles,
        descriptions,
        [[sorted(THINGS).index(name)] for name in listings["category"]],
        len(THINGS),
        NgramConfig(),
    )
    # Their files have the same names: each needs a place of its own.
    parts = {"linear": linear, "encoder": encoder, "pretrained": encoder}
    weights = {"encoder": 0.25, "pretrained": 0.75}
    model = TextClassifier(sorted(THINGS), parts, weights, Confidence(), np.full(len(THINGS), 1 / len(THINGS)))
    model.save(tmp_path)
    again = TextClassifier.load(tmp_path)
    assert set(again.parts) == {"linear", "encoder", "pretrained"}
    np.testing.assert_allclose(again.probabilities(titles[:5]), model.probabilities(titles[:5]), atol=1e-5)
    # The linear model has no weight here, and is the baseline all the same.
    assert again.linear_probabilities(titles[:5]).shape == (5, len(THINGS))


def test_what_is_kept_learns_from_validation_listings_and_its_older_answers_to_them_stay(tmp_path):
    listings = make_listings()
    # A word that only validation listings have, on a category that they would not be given without it.
    strange = listings["split"] == "valid"
    listings.loc[strange, "title"] = [f"zyx{'abcdefgh'[i % 8]} thing" for i in range(strange.sum())]
    listings.loc[strange, "description"] = None
    listings.loc[strange, "category"] = sorted(THINGS)[0]
    asked = listings.loc[strange, "title"].tolist()
    models = {}
    for refit in (True, False):
        config = dataclasses.replace(LINEAR_ONLY, refit=refit)
        result = text.train_text(listings, config, tmp_path / f"out-{refit}", tmp_path / f"work-{refit}")
        assert result["metrics"]["refit"] is refit
        models[refit] = TextClassifier.load(tmp_path / f"out-{refit}")
    assert models[False].held_out is None
    right = {refit: model.probabilities(asked)[:, 0].mean() for refit, model in models.items()}
    assert right[True] > right[False] + 0.2
    before = models[False].probabilities(asked)
    np.testing.assert_allclose(models[True].unseen_probabilities(asked), before, atol=2e-3)
    np.testing.assert_allclose(models[False].unseen_probabilities(asked), before)
    # Of other listings, and of those that the parts learnt from at once, it says what it says.
    others = listings.loc[~strange, "title"].tolist()[:20]
    np.testing.assert_array_equal(models[True].unseen_probabilities(others), models[True].probabilities(others))


def test_older_answers_are_found_by_text_whatever_its_characters():
    titles, descriptions = ["rum", "rum", "half \ud83d"], ["", "old", ""]
    log_p = np.log(np.array([[0.7, 0.3], [0.2, 0.8], [0.5, 0.5]], np.float32))
    kept = HeldOut.keep(titles, descriptions, log_p)
    rows, said = kept.of([*titles, "gin"], [*descriptions, ""])
    assert rows.tolist() == [0, 1, 2]
    np.testing.assert_allclose(said - said.max(1, keepdims=True), log_p - log_p.max(1, keepdims=True), atol=1e-3)


def test_networks_take_as_many_steps_as_they_are_told_where_nothing_validates(tmp_path):
    titles = [str(title).lower() for title in make_listings()["title"]]
    labels = [[i % len(THINGS)] for i in range(len(titles))]
    nothing, told = ([], [], np.empty((0, 1), np.int64)), []
    _, fits = encoding.fit_encoder(
        titles, [""] * len(titles), labels, nothing, len(THINGS), TINY, tmp_path, told.append, steps=[7, 4]
    )
    assert [fit.best_step for fit in fits] == [7, 4]
    assert not [event for event in told if event["event"] == "validation"]


def test_command_line_trains_and_prints_metrics_last(tmp_path, capsys):
    make_listings().to_parquet(tmp_path / "listings.parquet")
    arguments = ["--listings", str(tmp_path / "listings.parquet"), "--set", "architecture=none"]
    arguments += ["--out", str(tmp_path / "out"), "--work", str(tmp_path / "work")]
    assert train_text.main(arguments) == 0
    printed = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert printed["kept"] in ("linear", "neighbours", "blend")
    assert {"prepare_seconds", "train_seconds"} <= set(printed)
    assert process.training_module("shelfwise.classification.train_text") is not None
