"""What the text classifier says its words did: equal to the definition, with no work done twice, in bounded memory."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest

from shelfwise.classification import calibration, encoding, leaving_out, text
from shelfwise.classification.confidence import Confidence
from shelfwise.classification.leaving_out import MOST, by_scores, falls
from shelfwise.classification.neighbours import Neighbours
from shelfwise.classification.ngrams import NgramClassifier, NgramConfig
from shelfwise.classification.text import TextClassifier
from shelfwise.classification.word_grams import WordGrams

WORDS = [f"{one}{other}" for one in ("rum", "gin", "ale", "tea", "oat") for other in ("", "ko", "ba", "lin", "dor")]
CLASSES = 5


def make_texts(n: int, most: int = 7, seed: int = 1) -> tuple[list[str], list[str]]:
    """Titles and descriptions of a few words, some of them twice; now and then there is none."""
    chance = np.random.default_rng(seed)
    titles, descriptions = ([" ".join(chance.choice(WORDS, chance.integers(0, most))) for _ in range(n)] for _ in "ab")
    return titles, descriptions


def labels_of(titles: list[str]) -> list[list[int]]:
    """By a word's beginning; some have two categories."""
    kinds = [sorted({word[:3] for word in (title or "rum").split()})[:2] for title in titles]
    return [[("rum", "gin", "ale", "tea", "oat").index(kind) for kind in some] for some in kinds]


@pytest.fixture(scope="module")
def linear() -> NgramClassifier:
    titles, descriptions = make_texts(300)
    return NgramClassifier.fit(titles, descriptions, labels_of(titles), CLASSES, NgramConfig(epochs=2))


@pytest.fixture(scope="module")
def neighbours(linear) -> Neighbours:
    titles, descriptions = make_texts(300)
    prior = np.array([0.1, 0.3, 0.2, 0.2, 0.2], np.float32)
    return Neighbours.fit(linear, titles, descriptions, labels_of(titles), prior)


@pytest.fixture(scope="module")
def networks() -> encoding.EncoderPart:
    """Two networks that learned nothing, which is enough to be asked."""
    import torch

    from shelfwise.classification.networks import WordNetwork

    torch.manual_seed(0)
    vocabulary = WordGrams.fit(WORDS * 4)
    shape = {"size": 16, "layers": 2, "heads": 2, "width": 16, "dropout": 0.1}
    made = [WordNetwork(len(vocabulary), CLASSES, **shape).eval() for _ in range(2)]
    for network in made:
        for table in (network.grams, network.front, network.back, network.out):
            torch.nn.init.normal_(table.weight)
    return encoding.EncoderPart(made, encoding.WordReader(vocabulary, 48), {"kind": "words", "classes": CLASSES})


def left_out(part: Any, title: str, description: str, chosen: int) -> tuple[list[float], list[float]]:
    """By the definition: how far the logarithm of the probability falls without each word, one question each."""

    def log_p(title: list[str], description: list[str]) -> float:
        scores = part.scores([" ".join(title)], [" ".join(description)]).astype(np.float64)
        return float(calibration.log_softmax(scores)[0, chosen])

    words, more = title.split(), description.split()
    whole = log_p(words, more)
    return (
        [whole - log_p(words[:at] + words[at + 1 :], more) for at in range(len(words))],
        [whole - log_p(words, more[:at] + more[at + 1 :]) for at in range(len(more))],
    )


@pytest.mark.parametrize("name", ["neighbours", "networks"])
def test_a_word_did_what_is_missing_without_it(name, request):
    part = request.getfixturevalue(name)
    titles, descriptions = make_texts(25, seed=2)
    titles, descriptions = [*titles, "", "rum rum", "zzz rumko"], [*descriptions, "", "", "rum zzz rum"]
    chosen = np.arange(len(titles)) % CLASSES
    found = part.shares(titles, descriptions, chosen)
    assert max(np.abs(title).max(initial=0) for title, _ in found) > 0.5
    for one, title, description, label in zip(found, titles, descriptions, chosen, strict=True):
        for field, expected in zip(one, left_out(part, title, description, label), strict=True):
            np.testing.assert_allclose(field, expected, atol=1e-4)


def test_a_long_text_without_a_word_is_read_further(networks):
    # The reader reads 48 words of a field: without one of them, the next comes in.
    title = " ".join(WORDS[i * 7 % len(WORDS)] for i in range(60))
    found, _ = networks.shares([title], ["rum"], np.array([2]))[0]
    expected, _ = left_out(networks, title, "rum", 2)
    np.testing.assert_allclose(found[:MOST], expected[:MOST], atol=1e-4)
    assert not found[MOST:].any()


def test_the_linear_share_of_a_word_is_what_its_grams_add_above_the_mean(linear):
    titles, descriptions = make_texts(40, seed=3)
    chosen = np.arange(40) % CLASSES
    grams = linear.grams(titles, descriptions)
    expected = [(np.zeros(len(t.split())), np.zeros(len(d.split()))) for t, d in zip(titles, descriptions, strict=True)]
    for row in range(40):
        for at in range(grams.starts[row], grams.starts[row + 1]):
            weights = linear.weights[grams.features[at]]
            added = (weights[chosen[row]] - weights.mean()) * grams.values[at] / 2
            field = expected[row][int(at >= grams.cuts[row])]
            field[grams.first[at]] += added
            field[grams.second[at]] += added
    for found, wanted in zip(linear.shares(titles, descriptions, chosen), expected, strict=True):
        for field, right in zip(found, wanted, strict=True):
            np.testing.assert_allclose(field, right, atol=1e-5)
    assert linear.shares([], [], np.zeros(0, np.int64)) == []


def test_linear_shares_gather_one_column_and_not_all_classes():
    titles = [f"{word} {other}" for word in WORDS for other in WORDS]
    labels = [[i % 500] for i in range(len(titles))]
    part = NgramClassifier.fit(titles, [""] * len(titles), labels, 500, NgramConfig(epochs=0))
    chosen = np.zeros(len(titles), np.int64)
    part.shares(titles[:1], [""], chosen[:1])
    tracemalloc.start()
    part.shares(titles, [""] * len(titles), chosen)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < len(part.grams(titles, [""] * len(titles)).features) * 500 * 4 / 4


def test_texts_are_asked_for_in_blocks_and_equal_ones_once(monkeypatch):
    asked: list[int] = []

    def scores(titles: list[str], descriptions: list[str]) -> np.ndarray:
        assert len(set(zip(titles, descriptions, strict=True))) == len(titles)
        asked.append(len(titles))
        return np.array([[len(t) + 2 * len(d), 3.0] for t, d in zip(titles, descriptions, strict=True)], np.float32)

    titles, descriptions = make_texts(60, seed=4)
    # Three of the same text, and what is left of two others is the same.
    titles, descriptions = ["old rum"] * 3 + ["new rum", *titles], [""] * 4 + descriptions
    chosen = np.arange(len(titles)) % 2
    whole = falls(by_scores(scores), titles, descriptions, chosen)
    assert len(asked) == 1
    monkeypatch.setattr(leaving_out, "_AT_ONCE", 16)
    asked.clear()
    for one, other in zip(falls(by_scores(scores), titles, descriptions, chosen), whole, strict=True):
        for field, same in zip(one, other, strict=True):
            np.testing.assert_allclose(field, same, atol=1e-5)
    assert len(asked) > 20
    assert max(asked) <= 16


def test_many_listings_are_explained_as_each_alone_and_a_few_at_a_time(linear, neighbours, networks, monkeypatch):
    parts = {"linear": linear, "neighbours": neighbours, "encoder": networks}
    weights = {"linear": 0.5, "neighbours": 0.3, "encoder": 0.2}
    model = TextClassifier([*"abcde"], parts, weights, Confidence(), np.full(CLASSES, 1 / CLASSES))
    titles, descriptions = make_texts(30, seed=5)
    chosen = np.arange(30) % CLASSES
    at_once = []
    for part in parts.values():

        def counted(titles: list[str], *others: Any, of: Any = part.shares) -> Any:
            at_once.append(len(titles))
            return of(titles, *others)

        monkeypatch.setattr(part, "shares", counted)
    monkeypatch.setattr(text, "_EXPLAINED_AT_ONCE", 8)
    told = model.explain(titles, descriptions, chosen)
    assert sorted(set(at_once)) == [6, 8]
    assert told == [model.explain([titles[i]], [descriptions[i]], chosen[i : i + 1])[0] for i in range(30)]
    assert len(set(told)) > 20


def test_a_batch_of_use_tells_the_same_word_in_the_same_place_once(networks):
    import torch

    titles = ["rum gin", "rum ale", "gin rum", "rum gin"]
    read = networks.reader.read(titles, [""] * 4)
    batch = networks.reader.batch(read, np.arange(4), None)
    # rum, gin and ale as first of two or last of two.
    assert len(batch["front"]) == 5
    which = batch["which"].tolist()
    assert which[0] == which[2] == which[6]
    assert which[0] != which[5]
    assert len(set(which)) == 5
    # Told one by one they mean the same.
    words = np.arange(8)
    sizes = np.diff(read.gram_starts)
    every = {
        "grams": read.grams,
        "gram_starts": read.gram_starts[:-1],
        "weights": np.repeat(1 / np.sqrt(sizes), sizes).astype(np.float32),
        "lengths": np.full(4, 2),
        "front": read.front[words],
        "back": read.back[words],
        "fields": read.fields[words],
    }
    for network in networks.networks:
        with torch.inference_mode():
            expected = network({name: torch.from_numpy(column) for name, column in every.items()})
            np.testing.assert_allclose(network(batch).numpy(), expected.numpy(), atol=1e-4)


def test_texts_of_one_length_are_asked_by_themselves_where_they_are_many(networks, monkeypatch):
    lengths = np.array([3, 1, 2] * 40 + [7, 9, 0])
    rows = encoding._batches(lengths)
    assert sorted(np.concatenate(rows).tolist()) == list(range(len(lengths)))
    assert sorted(sorted(set(lengths[some].tolist())) for some in rows) == [[0, 7, 9], [1], [2], [3]]
    assert encoding._batches(np.zeros(0, np.int64)) == []
    titles = [" ".join(WORDS[(i + at) % len(WORDS)] for at in range(n)) for i, n in enumerate(lengths)]
    apart = networks.scores(titles, [""] * len(titles))
    monkeypatch.setattr(encoding, "_SOME", 1000)
    assert len(encoding._batches(lengths)) == 1
    np.testing.assert_allclose(networks.scores(titles, [""] * len(titles)), apart, atol=1e-4)
