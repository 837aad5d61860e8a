"""The encoder in use: the plain forward pass against sentence-transformers, shapes, duplicates, fall-back."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from shelfwise.matching.encoder import TitleEncoder, pad, why_not_plain, why_not_static
from shelfwise.matching.train import EncoderConfig
from shelfwise.matching.training_data import TrainingRows
from shelfwise.matching.training_models import build_model
from shelfwise.text import normalise

TITLES = [
    "Glen Moray 12 Year Old Single Malt 750ml",
    "GLEN MORAY 12YO 75cl",
    "Café Crème filter coffee, 250 g",
    "x",
    "",
    "Samsung QE55Q7F 55in 4K QLED television with a very long name " * 4,
    "Bosch WAT28371GB washing machine 9kg 1400rpm white",
]


@pytest.fixture(scope="module")
def encoder_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained encoder with random weights, large enough that a wrong forward pass cannot look right."""
    directory = tmp_path_factory.mktemp("encoder")
    lines = [normalise(title) for title in TITLES] * 3
    rows = TrainingRows(lines, lines[:2], np.zeros(len(lines), np.int64), np.ones((len(lines), 1), np.int64))
    config = EncoderConfig(architecture="bert", hidden_size=24, heads=3, intermediate_size=40, layers=2, vocab_size=300)
    model = build_model(config, rows, directory)
    import torch

    with torch.no_grad():  # biases and norms start at 0 and 1, where leaving them out would go unseen
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    target = directory / "model"
    model.save_pretrained(str(target), create_model_card=False)
    return target


def test_plain_forward_equals_sentence_transformers(encoder_dir: Path) -> None:
    from sentence_transformers import SentenceTransformer

    encoder = TitleEncoder.load(encoder_dir)
    assert type(encoder._backend).__name__ == "_PlainBertBackend"
    texts = [normalise(title) for title in TITLES]
    expected = SentenceTransformer(str(encoder_dir)).encode(texts, normalize_embeddings=True)
    found = encoder.encode(TITLES, batch_size=3)
    assert np.abs(found - expected).max() < 1e-5
    assert np.ptp(expected, axis=0).max() > 0.1  # the titles do have different vectors


def test_fallback_gives_the_same_vectors(encoder_dir: Path) -> None:
    plain = TitleEncoder.load(encoder_dir).encode(TITLES)
    fallback = TitleEncoder.load(encoder_dir, plain=False)
    assert fallback.dim == 24
    assert np.abs(fallback.encode(TITLES) - plain).max() < 1e-5


def test_vectors_are_unit_float32_in_the_order_of_the_titles(encoder_dir: Path) -> None:
    encoder = TitleEncoder.load(encoder_dir)
    vectors = encoder.encode(TITLES)
    assert vectors.dtype == np.float32
    assert vectors.shape == (len(TITLES), encoder.dim)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    for i, title in enumerate(TITLES):
        assert np.allclose(encoder.encode([title])[0], vectors[i], atol=1e-5)


def test_equal_normal_forms_are_encoded_once(encoder_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = TitleEncoder.load(encoder_dir)
    seen: list[list[str]] = []
    original = encoder._backend.encode
    monkeypatch.setattr(encoder._backend, "encode", lambda texts, size: (seen.append(texts), original(texts, size))[1])
    vectors = encoder.encode(["Rum 70cl", "RUM 700 ml", "Gin 70cl", "Rum 70cl"])
    assert seen == [["rum 700ml", "gin 700ml"]]
    assert (vectors[0] == vectors[1]).all()
    assert (vectors[0] == vectors[3]).all()
    assert np.abs(vectors[0] - vectors[2]).max() > 1e-3


def test_normalise_can_be_left_out(encoder_dir: Path) -> None:
    encoder = TitleEncoder.load(encoder_dir)
    assert (encoder.encode(["RUM 70cl"]) == encoder.encode(["rum 700ml"], normalise=False)).all()


def test_no_titles_give_no_vectors(encoder_dir: Path) -> None:
    assert TitleEncoder.load(encoder_dir).encode([]).shape == (0, 24)


def test_loading_a_directory_without_a_model_fails(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no encoder in"):
        TitleEncoder.load(tmp_path)


@pytest.mark.parametrize(
    ("file", "change", "reason"),
    [
        ("config.json", {"model_type": "roberta"}, "model type"),
        ("config.json", {"hidden_act": "relu"}, "activation"),
        ("1_Pooling/config.json", {"pooling_mode": "cls"}, "pooling"),
        ("config_sentence_transformers.json", {"default_prompt_name": "query"}, "prompt"),
        ("tokenizer.json", None, "tokenizer.json"),
    ],
)
def test_unusual_models_do_not_take_the_plain_path(
    encoder_dir: Path, tmp_path: Path, file: str, change: dict[str, str] | None, reason: str
) -> None:
    assert why_not_plain(encoder_dir) is None
    copy = tmp_path / "copy"
    shutil.copytree(encoder_dir, copy)
    if change is None:
        (copy / file).unlink()
    else:
        (copy / file).write_text(json.dumps(json.loads((copy / file).read_text()) | change))
    assert reason in str(why_not_plain(copy))


def test_pad_fills_to_the_longest() -> None:
    padded, lengths = pad([[5, 6], [7], [8, 9, 10]], pad_id=1)
    assert padded.tolist() == [[5, 6, 1], [7, 1, 1], [8, 9, 10]]
    assert lengths.tolist() == [2, 1, 3]


# --- static embeddings

STATIC_TITLES = [
    *TITLES,
    "two\tparts\u00a0here",
    "a\u0000b c\u200bd",
    "咖啡 250g豆",
    "(gin/rum)",
    "[UNK] gin",
    "gin",
    "   ",
    "w" * 150,
]


@pytest.fixture(scope="module")
def static_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained static embedding that reads twelve word pieces of a title."""
    directory = tmp_path_factory.mktemp("static")
    lines = [normalise(title) for title in TITLES] * 3
    rows = TrainingRows(lines, lines[:2], np.zeros(len(lines), np.int64), np.ones((len(lines), 1), np.int64))
    config = EncoderConfig(architecture="static", hidden_size=24, vocab_size=300, max_length=12)
    target = directory / "model"
    build_model(config, rows, directory).save_pretrained(str(target), create_model_card=False)
    return target


@pytest.mark.parametrize("titles", [STATIC_TITLES, STATIC_TITLES[::-1], [""], ["gin"]])
def test_static_embedding_equals_sentence_transformers(static_dir: Path, titles: list[str]) -> None:
    from sentence_transformers import SentenceTransformer

    encoder = TitleEncoder.load(static_dir)
    assert type(encoder._backend).__name__ == "_StaticBackend"
    expected = SentenceTransformer(str(static_dir), device="cpu").encode(titles)
    found = encoder.encode(titles, normalise=False)
    assert found.dtype == np.float32
    assert np.abs(found - expected).max() < 1e-5
    filled = np.linalg.norm(expected, axis=1) > 0
    assert np.allclose(np.linalg.norm(found[filled], axis=1), 1, atol=1e-5)
    assert filled.tolist() == [bool(title.strip()) for title in titles]


def test_static_embedding_reads_as_many_pieces_as_it_was_trained_on(static_dir: Path) -> None:
    encoder = TitleEncoder.load(static_dir)
    first = " ".join(["x"] * 12)
    same, other, shorter = encoder.encode([f"{first} y", f"y {first}", "x y"], normalise=False)
    assert (same == encoder.encode([first], normalise=False)[0]).all()
    assert np.abs(same - other).max() > 1e-3
    assert np.abs(same - shorter).max() > 1e-3


def test_static_embedding_falls_back_to_the_same_vectors(static_dir: Path) -> None:
    plain = TitleEncoder.load(static_dir).encode(TITLES)
    fallback = TitleEncoder.load(static_dir, plain=False)
    assert fallback.dim == 24
    assert np.abs(fallback.encode(TITLES) - plain).max() < 1e-5


def test_static_embedding_needs_no_torch(static_dir: Path) -> None:
    code = f"""
import sys
from shelfwise.matching.encoder import TitleEncoder
assert TitleEncoder.load({str(static_dir)!r}).encode(["gin 70cl", "rum"]).shape == (2, 24)
print(sorted(set(sys.modules) & {{"torch", "transformers", "sentence_transformers"}}))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr


@pytest.mark.parametrize(
    ("file", "change", "reason"),
    [
        ("config_sentence_transformers.json", {"default_prompt_name": "query"}, "prompt"),
        ("tokenizer.json", {"pre_tokenizer": {"type": "Whitespace"}}, "tokenizer"),
        ("tokenizer.json", {"truncation": {"direction": "Left"}}, "front"),
        ("model.safetensors", None, "model.safetensors"),
    ],
)
def test_unusual_static_embeddings_take_the_long_way(
    static_dir: Path, encoder_dir: Path, tmp_path: Path, file: str, change: dict[str, object] | None, reason: str
) -> None:
    assert why_not_static(static_dir) is None
    assert "modules" in str(why_not_static(encoder_dir))
    copy = tmp_path / "copy"
    shutil.copytree(static_dir, copy)
    (found,) = copy.rglob(file)
    if change is None:
        found.unlink()
    else:
        found.write_text(json.dumps(json.loads(found.read_text()) | change))
    assert reason in str(why_not_static(copy))
