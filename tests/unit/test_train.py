"""Training of the title encoder: data, tokenizer, batches, the run itself, kills and resumption."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from shelfwise.matching import train
from shelfwise.matching.encoder import TitleEncoder, why_not_static
from shelfwise.matching.train import EncoderConfig, fingerprint, going_on_from, train_encoder
from shelfwise.matching.training_data import TrainingRows, augment, training_rows, validation_task
from shelfwise.matching.training_models import train_vocabulary
from shelfwise.text import normalise
from shelfwise.training import process
from shelfwise.training.checkpoints import last_whole_checkpoint, mark_complete
from tests.unit.killed_training import kill_while_saving

TINY = EncoderConfig(
    architecture="bert",
    vocab_size=200,
    hidden_size=16,
    layers=1,
    heads=2,
    intermediate_size=32,
    dropout=0.1,
    augmentation=0.3,
    batch_size=16,
    epochs=4,
    evaluations=4,
    learning_rate=5e-3,
    patience=0,
    num_threads=1,
)
TINY_STATIC = EncoderConfig(
    architecture="static",
    vocab_size=200,
    hidden_size=16,
    augmentation=0.3,
    batch_size=8,  # an odd number of steps between checkpoints, which is no whole number of logged losses
    epochs=4,
    evaluations=4,
    patience=0,
    num_threads=1,
)

WRITTEN = {"glenmore": "gm", "karvina": "kvn", "solvane": "solv", "tiberio": "tb"}
WRITTEN |= {"whisky": "uisge", "vodka": "wodka", "gin": "genever", "rum": "rhum", "liqueur": "likoer"}


def make_pairs(n_products: int = 90, seed: int = 1) -> pd.DataFrame:
    """Pairs as `matching/training_pairs` holds them: products split 6:2:2, two lines each, two hard negatives.

    Vendors write brands and kinds in a way of their own, so that a match has to be learned.
    """
    chance = random.Random(seed)
    brands, kinds = list(WRITTEN)[:4], list(WRITTEN)[4:]
    titles = list({f"{b} {k} {y} year {s}cl" for b in brands for k in kinds for y in (3, 8, 12) for s in (35, 70)})
    titles = chance.sample(sorted(titles), n_products)
    split_of = ["train"] * (n_products * 6 // 10) + ["valid"] * (n_products * 2 // 10)
    split_of += ["test"] * (n_products - len(split_of))
    rows = []
    for i, title in enumerate(titles):
        split = split_of[i]
        others = [j for j in range(n_products) if split_of[j] == split and j != i]
        for copy in range(2):
            line_id = f"line{i:03d}{copy}"
            words = [WRITTEN.get(word, word) for word in title.split()]
            line = " ".join([words[1], words[0], *words[2:]] if copy else words).upper()
            common = {"line_id": line_id, "vendor_id": f"{split}{copy}", "split": split, "line": line}
            chosen = [(i, 1, "positive")]
            chosen += [(j, 0, "random" if n == 0 else "hard") for n, j in enumerate(chance.sample(others, 3))]
            for n, (j, label, kind) in enumerate(chosen):
                product = {"product_id": f"P{j}", "product_title": titles[j], "label": label, "kind": kind}
                rows.append({"pair_id": f"{line_id}-{n}", **common, **product})
    return pd.DataFrame(rows)


def files_of(directory: Path) -> dict[str, bytes]:
    return {p.relative_to(directory).as_posix(): p.read_bytes() for p in sorted(directory.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def pairs() -> pd.DataFrame:
    return make_pairs()


@pytest.fixture(scope="module", params=[TINY, TINY_STATIC], ids=["bert", "static"])
def undisturbed(
    request: pytest.FixtureRequest, pairs: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """One training without incident: its settings, directory, result and events."""
    directory = tmp_path_factory.mktemp("undisturbed")
    events: list[dict[str, Any]] = []
    result = train_encoder(pairs, request.param, directory / "out", directory / "work", events.append)
    return {"config": request.param, "out": directory / "out", "work": directory / "work", "events": events, **result}


# --- configuration


def test_config_survives_json() -> None:
    config = EncoderConfig(base="some/model", learning_rate=3e-4, patience=0)
    assert EncoderConfig.from_json(config.to_json()) == config


def test_config_takes_settings_from_the_command_line() -> None:
    config = EncoderConfig.from_settings({"epochs": 3, "seed": 8}, ["epochs=2", "base=org/name", "learning_rate=1e-4"])
    assert (config.epochs, config.seed, config.base, config.learning_rate) == (2, 8, "org/name", 1e-4)
    assert EncoderConfig.from_settings({"base": "org/name"}, ["base=null"]).base is None
    with pytest.raises(ValueError, match="name=value"):
        EncoderConfig.from_settings({}, ["epochs"])


def test_architecture_follows_the_machine_unless_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    on_cpu = EncoderConfig()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    on_gpu = EncoderConfig()
    assert (on_cpu.architecture, on_gpu.architecture) == ("static", "bert")
    assert on_cpu.batch_size > on_gpu.batch_size, "each has defaults of its own"
    assert EncoderConfig(architecture="static") == on_cpu
    assert EncoderConfig.from_json(on_cpu.to_json()) == on_cpu, "what was decided stays decided on another machine"
    assert EncoderConfig(architecture="static", base="org/name").architecture == "bert"
    assert EncoderConfig(architecture="static", batch_size=64).batch_size == 64


@pytest.mark.parametrize(
    "text",
    [
        '{"epoch": 3}',
        '{"architecture": "bert", "heads": 3}',
        '{"architecture": "lstm"}',
        '{"loss": "hinge"}',
        '{"precision": "int8"}',
        '{"batch_size": 1}',
    ],
)
def test_config_refuses_what_it_does_not_know(text: str) -> None:
    with pytest.raises(ValueError):
        EncoderConfig.from_json(text)


# --- data


def test_training_rows_hold_the_training_split_only(pairs: pd.DataFrame) -> None:
    rows = training_rows(pairs, 3)
    train_pairs = pairs[pairs["split"] == "train"]
    assert set(rows.titles) == {normalise(title) for title in train_pairs["product_title"]}
    assert set(rows.lines) == {normalise(line) for line in train_pairs["line"]}


def test_training_rows_pair_each_line_with_its_own_products(pairs: pd.DataFrame) -> None:
    rows = training_rows(pairs.sample(frac=1, random_state=0), 2)
    for i, (line_id, group) in enumerate(pairs[pairs["split"] == "train"].groupby("line_id")):
        titles = {kind: {normalise(t) for t in part["product_title"]} for kind, part in group.groupby("kind")}
        assert rows.lines[i] == normalise(group["line"].iloc[0]), line_id
        assert {rows.titles[rows.positives[i]]} == titles["positive"]
        assert {rows.titles[j] for j in rows.negatives[i]} == titles["hard"]


def test_rows_that_cannot_be_trained_on_are_refused(pairs: pd.DataFrame, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="fewer than 4 negatives"):
        training_rows(pairs, 4)
    with pytest.raises(ValueError, match="lack the columns"):
        train_encoder(pairs.drop(columns="kind"), TINY, tmp_path / "out", tmp_path / "work")
    with pytest.raises(ValueError, match="no positive"):
        train_encoder(pairs[pairs["split"] != "train"], TINY, tmp_path / "out", tmp_path / "work")
    leaking = pairs.assign(split=pairs["split"].where(pairs["label"] == 1, "valid"))
    with pytest.raises(ValueError, match="more than one split"):
        train_encoder(leaking, TINY, tmp_path / "out", tmp_path / "work")
    assert not (tmp_path / "out").exists()


def test_validation_looks_among_all_titles_of_its_split(pairs: pd.DataFrame) -> None:
    task = validation_task(pairs, n_lines=10, seed=3)
    assert task is not None
    assert len(task.lines) == 10
    assert set(task.titles) == {normalise(t) for t in pairs.loc[pairs["split"] == "valid", "product_title"]}
    truth = pairs[pairs["label"] == 1].set_index(pairs.loc[pairs["label"] == 1, "line"].map(normalise))
    for line, answer in zip(task.lines, task.answers, strict=True):
        assert task.titles[answer] == normalise(truth.loc[line, "product_title"])
    assert validation_task(pairs[pairs["split"] == "train"], 10, 3) is None


def test_augmentation_depends_on_the_seed_alone() -> None:
    line = "samsung galaxy s8 64gb orchid grey sim free smartphone"
    variants = [augment(line, random.Random(seed)) for seed in range(200)]
    assert variants == [augment(line, random.Random(seed)) for seed in range(200)]
    assert len(set(variants)) > 100
    assert all(variants)
    assert augment("", random.Random(1)) == ""


# --- tokenizer


def test_vocabulary_is_the_same_every_time() -> None:
    chance = random.Random(0)
    texts = [" ".join("".join(chance.choices("abcdefgh", k=6)) for _ in range(4)) for _ in range(300)]
    first, second = (train_vocabulary(texts, 150) for _ in range(2))
    assert first == second
    assert sorted(first.values()) == list(range(150))


def test_tokenizer_covers_words_it_has_not_seen() -> None:
    from transformers import BertTokenizer

    vocabulary = train_vocabulary(["gin 700ml", "rum 350ml", "gin 350ml"] * 3, 60)
    tokenizer = BertTokenizer(vocab=vocabulary, do_lower_case=False)
    tokens = tokenizer.convert_ids_to_tokens(tokenizer("gin 350ml ginrum")["input_ids"])
    assert tokens[:3] == ["[CLS]", "gin", "350ml"]
    assert tokens[-1] == "[SEP]"
    assert "[UNK]" not in tokens
    assert "[UNK]" in tokenizer.tokenize("zebra")


# --- batches


def sampler(rows: TrainingRows, batch_size: int, passes: int) -> Any:
    from shelfwise.matching.training_loop import DistinctProductSampler

    return DistinctProductSampler(rows, batch_size, passes, seed=5)


def random_rows(n: int, n_titles: int) -> TrainingRows:
    chance = np.random.default_rng(0)
    chosen = np.array([chance.choice(n_titles, 4, replace=False) for _ in range(n)])
    return TrainingRows(
        [f"line {i}" for i in range(n)], [f"t{i}" for i in range(n_titles)], chosen[:, 0], chosen[:, 1:]
    )


def test_no_right_answer_stands_among_the_wrong_ones_of_a_batch() -> None:
    rows = random_rows(600, 400)
    batches = list(sampler(rows, 16, 3))
    assert len(batches) == len(sampler(rows, 16, 3)) == 600 * 3 // 16
    clashes = 0
    for batch in batches:
        assert len(batch) == 16
        places = [index % 600 for index in batch]
        right = rows.positives[places]
        clashes += len(right) - len(set(right)) + np.isin(right, rows.negatives[places]).sum()
    assert clashes == 0
    used = [index for batch in batches for index in batch]
    assert len(used) == len(set(used))
    assert batches == list(sampler(rows, 16, 3))


def test_batches_are_full_even_where_products_are_few() -> None:
    batches = list(sampler(random_rows(100, 5), 32, 4))
    assert [len(batch) for batch in batches] == [32] * 12
    used = [index for batch in batches for index in batch]
    assert len(used) == len(set(used))


# --- a training run


def test_training_learns_to_find_products(undisturbed: dict[str, Any], pairs: pd.DataFrame, tmp_path: Path) -> None:
    untrained = train_encoder(
        pairs,
        dataclasses.replace(undisturbed["config"], learning_rate=1e-12, max_steps=1),
        tmp_path / "out",
        tmp_path / "work",
    )
    assert undisturbed["metrics"]["valid_mrr"] > untrained["metrics"]["valid_mrr"] + 0.1
    losses = [point["loss"] for point in undisturbed["curve"] if "loss" in point]
    assert losses[-1] < losses[0] * 0.7


def test_training_writes_model_settings_metrics_and_curve(undisturbed: dict[str, Any]) -> None:
    out: Path = undisturbed["out"]
    names = set(files_of(out))
    assert {"model.safetensors", "tokenizer.json", "modules.json", "curve.csv", "curve.png"} <= names
    assert "README.md" not in names
    assert EncoderConfig.from_json((out / "encoder_config.json").read_text()) == undisturbed["config"]
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics == undisturbed["metrics"]
    curve = pd.read_csv(out / "curve.csv")
    assert list(curve.columns) == ["step", "loss", "top1", "top5", "mrr"]
    assert curve["mrr"].max() == pytest.approx(metrics["valid_mrr"])
    assert curve.loc[curve["mrr"].idxmax(), "step"] == metrics["best_step"]
    assert (out / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_the_best_weights_are_the_ones_written(undisturbed: dict[str, Any], pairs: pd.DataFrame) -> None:
    from shelfwise.matching.training_loop import retrieval_metrics

    encoder = TitleEncoder.load(undisturbed["out"])
    task = validation_task(pairs, undisturbed["config"].valid_lines, undisturbed["config"].seed)
    assert task is not None
    found = retrieval_metrics(encoder.encode(task.lines), encoder.encode(task.titles), task.answers)
    assert found["mrr"] == pytest.approx(undisturbed["metrics"]["valid_mrr"], abs=1e-6)


def test_progress_says_step_loss_speed_and_time_left(undisturbed: dict[str, Any]) -> None:
    steps = [event for event in undisturbed["events"] if event["event"] == "step"]
    assert len(steps) >= 4
    assert {"step", "steps", "loss", "samples_per_second", "eta_seconds", "message"} <= set(steps[0])
    assert [event["event"] for event in undisturbed["events"]].count("validation") == 4
    assert undisturbed["events"][0]["event"] == "start"
    assert undisturbed["events"][-1]["event"] == "done"


def test_checkpoints_are_gone_after_success(undisturbed: dict[str, Any]) -> None:
    assert list(undisturbed["work"].iterdir()) == []


def test_equal_trainings_write_equal_files(undisturbed: dict[str, Any], pairs: pd.DataFrame, tmp_path: Path) -> None:
    train_encoder(
        pairs.sample(frac=1, random_state=4), undisturbed["config"], tmp_path / "elsewhere", tmp_path / "work"
    )
    assert files_of(tmp_path / "elsewhere") == files_of(undisturbed["out"])


def test_another_seed_gives_another_model(undisturbed: dict[str, Any], pairs: pd.DataFrame, tmp_path: Path) -> None:
    other = dataclasses.replace(undisturbed["config"], seed=8)
    train_encoder(pairs, other, tmp_path / "out", tmp_path / "work")
    assert files_of(tmp_path / "out")["model.safetensors"] != files_of(undisturbed["out"])["model.safetensors"]


def test_a_catalog_without_validation_lines_is_trained_to_the_end(pairs: pd.DataFrame, tmp_path: Path) -> None:
    only_train = pairs[pairs["split"] == "train"]
    result = train_encoder(only_train, TINY, tmp_path / "out", tmp_path / "work")
    assert result["metrics"]["best_step"] == result["metrics"]["steps"] > 0
    assert "valid_mrr" not in result["metrics"]


def test_patience() -> None:
    from shelfwise.training.loop import patience_exhausted

    history = [{"eval_mrr": value} for value in (0.1, 0.5, 0.4, 0.5)] + [{"loss": 1.0}]
    assert patience_exhausted(history, "eval_mrr", 2)
    assert not patience_exhausted(history, "eval_mrr", 3)
    assert not patience_exhausted(history, "eval_mrr", 0)


def test_training_stops_when_validation_no_longer_improves(pairs: pd.DataFrame, tmp_path: Path) -> None:
    hopeless = dataclasses.replace(TINY, learning_rate=1e-12, evaluations=10, epochs=10, patience=2)
    result = train_encoder(pairs, hopeless, tmp_path / "out", tmp_path / "work")
    validated = [point for point in result["curve"] if "mrr" in point]
    assert len(validated) == 3
    assert result["metrics"]["best_step"] == validated[0]["step"]


@pytest.mark.parametrize("loss", ["ranking", "symmetric", "matryoshka", "contrastive"])
def test_every_loss_trains(loss: str, pairs: pd.DataFrame, tmp_path: Path) -> None:
    config = dataclasses.replace(TINY_STATIC, loss=loss, batch_size=32, max_steps=20, learning_rate=1e-2)
    result = train_encoder(pairs, config, tmp_path / "out", tmp_path / "work")
    losses = [point["loss"] for point in result["curve"] if "loss" in point]
    assert losses[-1] < losses[0]


def test_labelled_batches_pair_each_anchor_with_its_own_products(undisturbed: dict[str, Any]) -> None:
    from sentence_transformers import SentenceTransformer

    from shelfwise.matching.training_loop import Collator, token_ids

    model = SentenceTransformer(str(undisturbed["out"]), device="cpu")
    rows = random_rows(6, 12)
    batch = Collator(model, rows, 0.0, 1, labelled=True)([{"row": 4}, {"row": 7}])
    assert batch["label"].tolist() == [1, 1] + [0] * 6
    found = [batch[f"{column}_input_ids"].flatten().tolist() for column in ("anchor", "positive")]
    places = [4, 1] * 4, [j for column in ([0], [1], [2], [3]) for i in (4, 1) for j in column_of(rows, i, column)]
    texts = [[rows.lines[i] for i in places[0]], [rows.titles[j] for j in places[1]]]
    for ids, expected in zip(found, texts, strict=True):
        assert [i for i in ids if i] == [i for part in token_ids(model, expected) for i in part if i]


def column_of(rows: TrainingRows, row: int, column: list[int]) -> list[int]:
    return [int(np.concatenate([[rows.positives[row]], rows.negatives[row]])[c]) for c in column]


# --- kills and resumption

TRAINING = """
from shelfwise.matching import train
pairs, config, out, work = sys.argv[1:]
train.train_encoder(pd.read_parquet(pairs), train.EncoderConfig.from_json(open(config).read()), out, work)
"""


def test_training_killed_while_saving_ends_with_the_same_files(
    undisturbed: dict[str, Any], pairs: pd.DataFrame, tmp_path: Path
) -> None:
    pairs.to_parquet(tmp_path / "pairs.parquet")
    (tmp_path / "config.json").write_text(undisturbed["config"].to_json())
    kill_while_saving(TRAINING, *(tmp_path / name for name in ("pairs.parquet", "config.json", "out", "work")))
    assert not (tmp_path / "out").exists()
    (run_dir,) = (tmp_path / "work").iterdir()
    halves = [p for p in run_dir.glob("checkpoint-*") if not (p / "complete.json").exists()]
    assert len(halves) == 1
    events: list[dict[str, Any]] = []
    train_encoder(pairs, undisturbed["config"], tmp_path / "out", tmp_path / "work", events.append)
    resumed = [event["step"] for event in events if event["event"] == "resume"]
    assert len(resumed) == 1
    assert 0 < resumed[0] < int(halves[0].name.rsplit("-")[-1])
    assert files_of(tmp_path / "out") == files_of(undisturbed["out"])


class Stop(Exception):
    """Stands for a kill between two steps; the one above is a real one."""


def stop_at(kind: str, step: int) -> Any:
    def progress(event: dict[str, Any]) -> None:
        if event["event"] == kind and event["step"] >= step:
            raise Stop

    return progress


def test_training_stopped_after_its_last_step_is_only_written(
    undisturbed: dict[str, Any], pairs: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*arguments: Any) -> None:
        raise Stop

    with monkeypatch.context() as patched:
        patched.setattr(train, "_write", stop)
        with pytest.raises(Stop):
            train_encoder(pairs, undisturbed["config"], tmp_path / "out", tmp_path / "work")
    events: list[dict[str, Any]] = []
    train_encoder(pairs, undisturbed["config"], tmp_path / "out", tmp_path / "work", events.append)
    assert [event["event"] for event in events] == ["start", "resume", "done"]
    assert files_of(tmp_path / "out") == files_of(undisturbed["out"])


def test_checkpoints_of_other_inputs_are_not_resumed(
    undisturbed: dict[str, Any], pairs: pd.DataFrame, tmp_path: Path
) -> None:
    other = dataclasses.replace(undisturbed["config"], seed=8)
    with pytest.raises(Stop):
        train_encoder(pairs, other, tmp_path / "out", tmp_path / "work", stop_at("step", 15))
    events: list[dict[str, Any]] = []
    train_encoder(pairs, undisturbed["config"], tmp_path / "out", tmp_path / "work", events.append)
    assert "resume" not in [event["event"] for event in events]
    assert files_of(tmp_path / "out") == files_of(undisturbed["out"])
    (left,) = (tmp_path / "work").iterdir()
    assert list(left.glob("checkpoint-*"))


def test_fingerprint_follows_pairs_settings_and_base(pairs: pd.DataFrame, tmp_path: Path) -> None:
    (tmp_path / "weights").write_text("one")
    base = dataclasses.replace(TINY, base=str(tmp_path))
    first = train.fingerprint(pairs, base)
    assert train.fingerprint(pairs.iloc[::-1], base) == first
    assert train.fingerprint(pairs.assign(line=pairs["line"].str.lower()), base) != first
    assert train.fingerprint(pairs, dataclasses.replace(base, scale=30.0)) != first
    assert train.fingerprint(pairs, base, world_size=2) != first
    (tmp_path / "weights").write_text("two")
    assert train.fingerprint(pairs, base) != first


def test_fingerprint_says_which_architecture_was_trained(pairs: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for gpus in ("", "0"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", gpus)
        found += [train.fingerprint(pairs, EncoderConfig()), train.fingerprint(pairs, TINY_STATIC)]
    assert found[0] != found[2]
    assert found[1] == found[3]


def test_checkpoints_cut_short_are_removed(tmp_path: Path) -> None:
    for step, size in ((5, 10), (10, 10), (15, 10)):
        path = tmp_path / f"checkpoint-{step}"
        path.mkdir()
        (path / "model.safetensors").write_bytes(b"x" * size)
        if step < 15:
            mark_complete(path)
    (tmp_path / "checkpoint-10" / "model.safetensors").write_bytes(b"x")
    assert last_whole_checkpoint(tmp_path) == tmp_path / "checkpoint-5"
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-5"]


# --- fine-tuning


def test_an_encoder_is_fine_tuned_from_a_local_directory(
    undisturbed: dict[str, Any], pairs: pd.DataFrame, tmp_path: Path
) -> None:
    config = dataclasses.replace(undisturbed["config"], base=str(undisturbed["out"]), epochs=1, learning_rate=1e-3)
    result = train_encoder(pairs, config, tmp_path / "out", tmp_path / "work")
    before, after = files_of(undisturbed["out"]), files_of(tmp_path / "out")
    assert before["model.safetensors"] != after["model.safetensors"]
    assert json.loads(before["tokenizer.json"])["model"] == json.loads(after["tokenizer.json"])["model"]
    assert result["metrics"]["valid_mrr"] > undisturbed["metrics"]["valid_mrr"] - 0.1
    assert TitleEncoder.load(tmp_path / "out").encode(["gin 70cl"]).shape == (1, 16)


def test_a_trained_encoder_learns_on_as_what_it_is(
    undisturbed: dict[str, Any], pairs: pd.DataFrame, tmp_path: Path
) -> None:
    known = undisturbed["config"]
    config = going_on_from(undisturbed["out"], {"num_threads": 1, "batch_size": 8, "max_length": known.max_length})
    assert config.architecture == known.architecture
    assert EncoderConfig.from_json(config.to_json()) == config, "the training process reads what was written"
    scratch = EncoderConfig(architecture=known.architecture)
    assert config.learning_rate < scratch.learning_rate
    assert config.epochs < scratch.epochs
    assert fingerprint(pairs, config) not in (fingerprint(pairs, known), fingerprint(pairs, scratch))
    result = train_encoder(pairs, config, tmp_path / "out", tmp_path / "work")
    assert result["metrics"]["valid_mrr"] > undisturbed["metrics"]["valid_mrr"] - 0.1
    assert (why_not_static(tmp_path / "out") is None) == (known.architecture == "static")
    again = going_on_from(tmp_path / "out", {})
    assert (again.learning_rate, again.epochs) == (config.learning_rate, config.epochs), "steps do not shrink each time"


def test_a_setting_that_is_none_is_refused_for_learning_on_too(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="unknown encoder settings"):
        going_on_from(tmp_path, {"epoch": 3})


def test_a_bare_transformer_of_another_kind_is_fine_tuned(pairs: pd.DataFrame, tmp_path: Path) -> None:
    """A Hugging Face directory without sentence-transformers' files, and not a BERT: pooled by the mean."""
    from transformers import BertTokenizer, DistilBertConfig, DistilBertModel

    base = tmp_path / "base"
    rows = training_rows(pairs, 1)
    tokenizer = BertTokenizer(vocab=train_vocabulary([*rows.lines, *rows.titles], 200), do_lower_case=False)
    tokenizer.save_pretrained(base)
    settings = DistilBertConfig(
        vocab_size=len(tokenizer), dim=16, hidden_dim=32, n_layers=1, n_heads=2, max_position_embeddings=64
    )
    DistilBertModel(settings).save_pretrained(base)
    config = dataclasses.replace(TINY, base=str(base), epochs=1, max_length=20)
    result = train_encoder(pairs, config, tmp_path / "out", tmp_path / "work")
    assert result["metrics"]["dim"] == 16
    encoder = TitleEncoder.load(tmp_path / "out")
    assert type(encoder._backend).__name__ == "_SentenceTransformerBackend"
    assert np.allclose(np.linalg.norm(encoder.encode(["gin 70cl", "rum"]), axis=1), 1, atol=1e-5)


# --- processes


def test_command_line_prints_progress_and_metrics_last(
    pairs: pd.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pairs.to_parquet(tmp_path / "pairs.parquet")
    (tmp_path / "config.json").write_text(TINY.to_json())
    arguments = ["--pairs", "pairs.parquet", "--out", "out", "--work", "work", "--config", "config.json"]
    arguments = [str(tmp_path / a) if not a.startswith("--") else a for a in arguments]
    assert train.main([*arguments, "--set", "max_steps=4", "--set", "evaluations=2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert json.loads(lines[-1])["steps"] == 4
    assert any(line.startswith("step 4/4 loss ") for line in lines)


def test_pipes_shell_works_without_dagster(
    pairs: pd.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from resources import pipes_entry

    pairs.to_parquet(tmp_path / "pairs.parquet")
    (tmp_path / "config.json").write_text(TINY.to_json())
    arguments = ["--pairs", "pairs.parquet", "--out", "out", "--work", "work", "--config", "config.json"]
    arguments = [str(tmp_path / a) if not a.startswith("--") else a for a in arguments]
    assert pipes_entry.main(["shelfwise.matching.train", *arguments, "--set", "max_steps=2"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["steps"] == 2
    assert (tmp_path / "out" / "metrics.json").exists()


def test_launch_command_uses_torchrun_for_more_than_one_gpu() -> None:
    one = process.launch_command("shelfwise.matching.train", ["--out", "x"], 1)
    assert one == [sys.executable, "-m", "shelfwise.matching.train", "--out", "x"]
    assert process.launch_command("m", [], 0) == [sys.executable, "-m", "m"]
    four = process.launch_command("shelfwise.matching.train", ["--out", "x"], 4)
    assert four[1:3] == ["-m", "torch.distributed.run"]
    assert four[four.index("--nproc_per_node") + 1] == "4"
    assert four[-3:] == ["shelfwise.matching.train", "--out", "x"]


def test_gpu_count_reads_what_is_visible(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,2")
    assert process.gpu_count() == 2
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert process.gpu_count() == 0


@pytest.mark.slow
def test_two_processes_train_one_model(pairs: pd.DataFrame, tmp_path: Path) -> None:
    pairs.to_parquet(tmp_path / "pairs.parquet")
    (tmp_path / "config.json").write_text(TINY.to_json())
    paths = {"--pairs": "pairs.parquet", "--out": "out", "--work": "work", "--config": "config.json"}
    arguments = [part for name, path in paths.items() for part in (name, str(tmp_path / path))]
    command = process.launch_command("shelfwise.matching.train", [*arguments, "--set", "batch_size=8"], 2)
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    metrics = json.loads(done.stdout.splitlines()[-1])
    assert sum(line.startswith("encoder written") for line in done.stdout.splitlines()) == 1
    assert metrics["steps"] == 4 * (108 // 16)  # two processes share each pass
    assert metrics["valid_mrr"] > 0.3
    assert TitleEncoder.load(tmp_path / "out").dim == 16


def test_batches_of_a_length_hold_every_row_once_a_pass_and_follow_from_the_seed() -> None:
    from shelfwise.training.loop import Passes

    lengths = np.random.default_rng(1).integers(1, 40, 1003)
    passes = [list(Passes(1003, 10, 3, seed, lengths)) for seed in (5, 5, 6)]
    assert passes[0] == passes[1] != passes[2]
    flat = [index for batch in passes[0] for index in batch]
    assert len(set(flat)) == len(flat) == 3009 // 10 * 10
    first = sorted(index for index in flat if index < 1003)
    assert first == list(range(1003))
    plain = list(Passes(1003, 10, 3, 5))

    def padding(batches: list[list[int]]) -> int:
        found = [lengths[np.array(batch) % 1003] for batch in batches]
        return sum(int((some.max() - some).sum()) for some in found)

    assert padding(passes[0]) < padding(plain) / 5
