"""The image classifier: network, augmentation, training, kills and resumption, fine-tuning, the classifier in use."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from shelfwise.classification import train_image
from shelfwise.classification.image import ImageClassifier, ImageConfig
from shelfwise.classification.pictures import Pictures
from shelfwise.classification.train_image import fingerprint, task_of, train_images
from tests.unit.killed_training import kill_while_saving

CLASSES = ("Food > Round > Big", "Food > Round > Small", "Tools > Bar")
TINY = ImageConfig(
    side=16,
    widths=(8, 16),
    depths=(1, 1),
    growing=((0.5, 0.4),),
    epochs=16,
    batch_size=16,
    learning_rate=5e-3,
    averaging=0.9,
    mixing=0.3,
    evaluations=4,
    num_threads=1,
)


def drawn(kind: int, rng: np.random.Generator, side: int = 20) -> np.ndarray:
    """A disc, a small disc or a bar, somewhere on white, in any colour."""
    y, x = np.mgrid[:side, :side] - side / 2 + rng.uniform(-2, 2, (2, 1, 1))
    shape = np.abs(y) < 2 if kind == 2 else x**2 + y**2 < (49 if kind == 0 else 9)
    pixels = np.full((side, side, 3), 255, np.uint8)
    pixels[shape] = rng.integers(0, 160, 3)
    return pixels


def world(n: int = 150, seed: int = 0) -> tuple[Pictures, pd.DataFrame]:
    rng = np.random.default_rng(seed)
    kinds = rng.integers(0, 3, n)
    pixels = np.stack([drawn(kind, rng) for kind in kinds])
    ids = [f"L{i:03d}" for i in range(n)]
    labels = pd.DataFrame({"listing_id": ids, "category": [CLASSES[kind] for kind in kinds]})
    labels["split"] = np.where(np.arange(n) % 5 == 0, "valid", np.where(np.arange(n) % 5 == 1, "test", "train"))
    return Pictures(pixels, ids, pd.DataFrame(columns=["listing_id", "problem"])), labels


def files_of(directory: Path) -> dict[str, bytes]:
    return {p.relative_to(directory).as_posix(): p.read_bytes() for p in sorted(directory.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def pictures() -> Pictures:
    return world()[0]


@pytest.fixture(scope="module")
def labels() -> pd.DataFrame:
    return world()[1]


@pytest.fixture(scope="module")
def undisturbed(pictures: Pictures, labels: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    directory = tmp_path_factory.mktemp("undisturbed")
    events: list[dict[str, Any]] = []
    result = train_images(pictures, labels, TINY, directory / "out", directory / "work", events.append)
    return {"out": directory / "out", "work": directory / "work", "events": events, **result}


# --- settings


def test_settings_survive_json() -> None:
    config = dataclasses.replace(TINY, base="org/name")
    assert ImageConfig.from_json(config.to_json()) == config
    assert ImageConfig.from_settings({}, ["epochs=3", "widths=[8]", "depths=[1]"]).widths == (8,)


def test_a_pretrained_model_has_defaults_of_its_own() -> None:
    assert ImageConfig(base="org/name").learning_rate < ImageConfig().learning_rate
    assert ImageConfig(base="org/name", epochs=9).epochs == 9


@pytest.mark.parametrize(
    "settings",
    [{"epoch": 3}, {"widths": [8, 16], "depths": [1]}, {"precision": "int8"}, {"side": 4}, {"growing": [[0.5, 1.2]]}],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        ImageConfig.from_dict(settings)


# --- what is learnt


def test_the_task_knows_the_categories_of_the_training_part_only(pictures: Pictures, labels: pd.DataFrame) -> None:
    others = labels.assign(category=labels["category"].where(labels["split"] != "valid", "Never seen"))
    others = pd.concat([others, labels.head(3).assign(listing_id=["no", "picture", "here"])], ignore_index=True)
    task = task_of(pictures, others)
    assert task.taxonomy.classes == CLASSES
    assert len(task.valid.rows) == 0
    assert len(task.train.rows) == (labels["split"] == "train").sum()
    assert task.left_out == (labels["split"] == "valid").sum() + 2, "the third one is of the test part"
    right = [CLASSES[row[0]] for row in task.train.truth]
    assert right == labels.loc[labels["split"] == "train", "category"].tolist()


def test_several_categories_of_a_listing_share_its_label(pictures: Pictures, labels: pd.DataFrame) -> None:
    from shelfwise.classification.image_augment import targets

    several = labels.assign(categories=[[category] for category in labels["category"]])
    first = several.index[several["split"] == "train"][0]
    several.at[first, "categories"] = list(CLASSES[:2])
    shares = targets(task_of(pictures, several).train.truth, 3)
    assert shares[0].tolist() == [0.5, 0.5, 0.0]
    assert (shares.sum(1) == 1).all()
    assert (shares.max(1).values[1:] == 1).all()


def test_what_cannot_be_learnt_is_refused(pictures: Pictures, labels: pd.DataFrame, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="lack the columns"):
        train_images(pictures, labels.drop(columns="split"), TINY, tmp_path / "out", tmp_path / "work")
    with pytest.raises(ValueError, match="at least two categories"):
        train_images(pictures, labels.assign(category="One"), TINY, tmp_path / "out", tmp_path / "work")
    with pytest.raises(ValueError, match="at least two categories"):
        train_images(pictures, labels.assign(split="test"), TINY, tmp_path / "out", tmp_path / "work")
    assert not (tmp_path / "out").exists()


def test_fingerprint_follows_pictures_labels_and_settings(pictures: Pictures, labels: pd.DataFrame) -> None:
    first = fingerprint(pictures, labels, TINY)
    assert fingerprint(pictures, labels.iloc[::-1], TINY) == first
    unused = pictures.pixels.copy()
    unused[1] = 0  # of the test part
    assert fingerprint(dataclasses.replace(pictures, pixels=unused), labels, TINY) == first
    used = pictures.pixels.copy()
    used[2, 0, 0, 0] ^= 1
    assert fingerprint(dataclasses.replace(pictures, pixels=used), labels, TINY) != first
    renamed = labels.assign(category=labels["category"].str.replace("Bar", "Rod"))
    assert fingerprint(pictures, renamed, TINY) != first
    assert fingerprint(pictures, labels, dataclasses.replace(TINY, seed=8)) != first
    assert fingerprint(pictures, labels, TINY, world_size=2) != first


# --- network and augmentation


def test_parents_are_the_sum_of_their_classes_in_the_loss() -> None:
    import torch

    from shelfwise.classification.image_net import level_losses

    p = torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]])
    target = torch.tensor([[1.0, 0.0, 0.0], [0.5, 0.0, 0.5]])
    (found,) = level_losses(p.log(), target, [torch.tensor([0, 0, 1])])
    expected = -(np.log(0.8) + 0.5 * np.log(0.2) + 0.5 * np.log(0.8)) / 2
    assert float(found) == pytest.approx(expected, abs=1e-6)


def test_the_average_follows_the_learner_and_is_what_checkpoints_hold() -> None:
    import torch

    from shelfwise.classification.image_net import Averaged, compact

    model = Averaged(compact(TINY, 3))
    with torch.no_grad():
        model.learner.head.bias.fill_(1.0)
        model.average.head.bias.fill_(0.0)
    model.update(0.75)
    assert model.average.head.bias.tolist() == pytest.approx([0.25] * 3)
    model.train()
    assert model.learner.training
    assert not model.average.training
    assert not any(parameter.requires_grad for parameter in model.average.parameters())
    assert {name.split(".")[0] for name in model.state_dict()} == {"learner", "average"}


def test_moving_keeps_the_picture_recognisable_and_the_ground_white() -> None:
    import torch

    from shelfwise.classification.image_augment import moved

    one = torch.from_numpy(drawn(0, np.random.default_rng(0))).permute(2, 0, 1)[None].float()
    many = moved(one.repeat(200, 1, 1, 1), 1.0, torch.Generator().manual_seed(1))
    assert many.shape == (200, 3, 20, 20)
    assert (many[:, :, 0, 0] > 250).all()
    inside = (many[:, 0] < 200).float().mean((1, 2))
    assert 0.2 < float(inside.min() / inside.median()) < 1
    assert float(inside.std()) > 0
    assert torch.equal(many, moved(one.repeat(200, 1, 1, 1), 1.0, torch.Generator().manual_seed(1)))
    still = moved(one.repeat(8, 1, 1, 1), 0.0, torch.Generator().manual_seed(1))
    same = [torch.allclose(s, one[0], atol=1e-2) or torch.allclose(s, one[0].flip(2), atol=1e-2) for s in still]
    assert all(same), "without strength a picture is mirrored at most"


def test_recolouring_stays_within_colours() -> None:
    import torch

    from shelfwise.classification.image_augment import recoloured

    pixels = torch.randint(0, 256, (32, 3, 8, 8)).float()
    found = recoloured(pixels, 1.0, torch.Generator().manual_seed(0))
    assert float(found.min()) >= 0
    assert float(found.max()) <= 255
    assert not torch.equal(found[0], pixels[0])
    assert torch.allclose(recoloured(pixels, 0.0, torch.Generator().manual_seed(0)), pixels, atol=1e-3)


def test_mixed_labels_tell_how_much_of_each_picture_there_is() -> None:
    import torch

    from shelfwise.classification.image_augment import mixed

    pixels = torch.zeros(16, 3, 40, 40)
    pixels[8:] = 1
    target = torch.nn.functional.one_hot(torch.arange(16) // 8, 2).float()
    pasted = laid_over = 0
    for seed in range(40):
        found, shares = mixed(pixels, target, 1.0, torch.Generator().manual_seed(seed))
        assert torch.allclose(shares.sum(1), torch.ones(16))
        assert torch.allclose(found.mean((1, 2, 3)), shares[:, 1], atol=0.02)
        assert (shares.argmax(1) == target.argmax(1)).all(), "the picture itself leads"
        values = found.unique()
        pasted += len(values) == 2
        laid_over += len(values) > 2
    assert pasted > 5
    assert laid_over > 5
    assert mixed(pixels, target, 0.0, torch.Generator())[0] is pixels


def test_batches_depend_on_seed_and_index_and_grow(pictures: Pictures, labels: pd.DataFrame) -> None:
    import torch

    from shelfwise.classification.image_augment import Batches

    part = task_of(pictures, labels).train
    n = len(part.rows)

    def made(seed: int = 7) -> Batches:
        config = dataclasses.replace(TINY, seed=seed)
        return Batches(config, pictures.pixels, part.rows, part.truth, 3, 8 * n)

    first, again, other = (made(seed)([3, 4, 5]) for seed in (7, 7, 8))
    assert torch.equal(first["pixels"], again["pixels"])
    assert not torch.equal(first["pixels"], other["pixels"])
    assert not torch.equal(first["pixels"], made()([n + 3, n + 4, n + 5])["pixels"]), "every pass is another"
    sides = [made()([turn * n])["pixels"].shape[-1] for turn in range(8)]
    assert sides == [8] * 4 + [16] * 4, "0.4 of eight passes are begun small"


# --- a training run


def test_training_learns_shapes(undisturbed: dict[str, Any], pictures: Pictures, labels: pd.DataFrame) -> None:
    model = ImageClassifier.load(undisturbed["out"])
    test = (labels["split"] == "test").to_numpy()
    p = model.probabilities(pictures.pixels[test])
    said = np.array(model.classes)[p.argmax(axis=1)]
    assert (said == labels.loc[test, "category"]).mean() > 0.8
    losses = [point["loss"] for point in undisturbed["curve"] if "loss" in point]
    assert losses[-1] < losses[0] * 0.9


def test_training_writes_model_settings_metrics_and_curve(undisturbed: dict[str, Any]) -> None:
    out: Path = undisturbed["out"]
    files = files_of(out)
    assert {"model.safetensors", "classifier.json", "image_config.json", "curve.csv", "curve.png"} <= set(files)
    assert ImageConfig.from_json(files["image_config.json"].decode()) == TINY
    metrics = json.loads(files["metrics.json"])
    assert metrics == undisturbed["metrics"]
    assert metrics["classes"] == 3
    assert metrics["valid_level_1_top1"] >= metrics["valid_top1"] > 0.5
    assert metrics["valid_level_2_top1"] >= metrics["valid_top1"]
    assert 0 <= metrics["valid_ece"] < 0.5
    assert metrics["temperature"] > 0
    assert undisturbed["timing"]["rows_per_second"] > 0
    assert list(undisturbed["work"].iterdir()) == [], "checkpoints are gone after success"
    assert [event["event"] for event in undisturbed["events"]].count("validation") == 4


def test_the_classifier_is_the_one_that_was_validated(
    undisturbed: dict[str, Any], pictures: Pictures, labels: pd.DataFrame
) -> None:
    valid = (labels["split"] == "valid").to_numpy()
    model = ImageClassifier.load(undisturbed["out"])
    p = model.probabilities(pictures.pixels[valid])
    assert p.dtype == np.float32
    assert np.allclose(p.sum(axis=1), 1, atol=1e-5)
    right = np.array(model.classes)[p.argmax(axis=1)] == labels.loc[valid, "category"]
    assert right.mean() == pytest.approx(undisturbed["metrics"]["valid_top1"])
    assert np.allclose(p[:1], model.probabilities(pictures.pixels[valid][:1]), atol=1e-5), "alone as among others"


def test_a_picture_and_its_mirror_image_are_the_same(undisturbed: dict[str, Any], pictures: Pictures) -> None:
    model = ImageClassifier.load(undisturbed["out"])
    some = np.asarray(pictures.pixels[:8])
    assert np.allclose(model.probabilities(some), model.probabilities(some[:, :, ::-1]), atol=1e-4)


def test_pictures_of_another_side_are_scaled_and_others_refused(undisturbed: dict[str, Any]) -> None:
    model = ImageClassifier.load(undisturbed["out"])
    large = np.stack([drawn(2, np.random.default_rng(seed)).repeat(3, 0).repeat(3, 1) for seed in range(8)])
    assert (model.probabilities(large).argmax(axis=1) == 2).mean() >= 0.75
    assert model.probabilities(large[:0]).shape == (0, 3)
    for shape in ((8, 20, 24, 3), (20, 20, 3), (8, 20, 20, 4)):
        with pytest.raises(ValueError, match="side, side, 3"):
            model.probabilities(np.zeros(shape, np.uint8))


def test_equal_trainings_write_equal_files_and_seeds_matter(
    undisturbed: dict[str, Any], pictures: Pictures, labels: pd.DataFrame, tmp_path: Path
) -> None:
    pictures.save(tmp_path / "pictures")
    shuffled = labels.sample(frac=1, random_state=1)
    train_images(tmp_path / "pictures", shuffled, TINY, tmp_path / "same", tmp_path / "work")
    assert files_of(tmp_path / "same") == files_of(undisturbed["out"])
    train_images(pictures, labels, dataclasses.replace(TINY, seed=8), tmp_path / "other", tmp_path / "work")
    assert files_of(tmp_path / "other")["model.safetensors"] != files_of(undisturbed["out"])["model.safetensors"]


def test_without_validation_it_is_trained_to_the_end(pictures: Pictures, labels: pd.DataFrame, tmp_path: Path) -> None:
    config = dataclasses.replace(TINY, max_steps=6)
    result = train_images(pictures, labels[labels["split"] == "train"], config, tmp_path / "out", tmp_path / "work")
    assert result["metrics"]["best_step"] == result["metrics"]["steps"] == 6
    assert "valid_top1" not in result["metrics"]
    assert result["metrics"]["temperature"] == 1.0
    assert ImageClassifier.load(tmp_path / "out").probabilities(pictures.pixels[:2]).shape == (2, 3)


def test_minutes_allow_fewer_epochs(pictures: Pictures, labels: pd.DataFrame, tmp_path: Path) -> None:
    config = dataclasses.replace(TINY, minutes=1e-6)
    assert train_images(pictures, labels, config, tmp_path / "out", tmp_path / "work")["metrics"]["epochs"] == 1
    config = dataclasses.replace(TINY, minutes=1e6, epochs=2)
    assert train_images(pictures, labels, config, tmp_path / "out", tmp_path / "work")["metrics"]["epochs"] == 2


def test_half_precision_trains_on_a_processor_too(pictures: Pictures, labels: pd.DataFrame, tmp_path: Path) -> None:
    config = dataclasses.replace(TINY, precision="bf16", epochs=2)
    result = train_images(pictures, labels, config, tmp_path / "out", tmp_path / "work")
    exact = train_images(
        pictures, labels, dataclasses.replace(config, precision="fp32"), tmp_path / "exact", tmp_path / "work"
    )
    losses, exactly = ([p["loss"] for p in found["curve"] if "loss" in p] for found in (result, exact))
    assert losses != exactly
    assert losses == pytest.approx(exactly, rel=0.1)


# --- kills and resumption

TRAINING = """
from shelfwise.classification.image import ImageConfig
from shelfwise.classification.train_image import train_images
pictures, labels, config, out, work = sys.argv[1:]
train_images(pictures, pd.read_parquet(labels), ImageConfig.from_json(open(config).read()), out, work)
"""


def test_training_killed_while_saving_ends_with_the_same_files(
    undisturbed: dict[str, Any], pictures: Pictures, labels: pd.DataFrame, tmp_path: Path
) -> None:
    pictures.save(tmp_path / "pictures")
    labels.to_parquet(tmp_path / "labels.parquet")
    (tmp_path / "config.json").write_text(TINY.to_json())
    kill_while_saving(
        TRAINING, *(tmp_path / name for name in ("pictures", "labels.parquet", "config.json", "out", "work"))
    )
    assert not (tmp_path / "out").exists()
    events: list[dict[str, Any]] = []
    train_images(pictures, labels, TINY, tmp_path / "out", tmp_path / "work", events.append)
    resumed = [event["step"] for event in events if event["event"] == "resume"]
    assert len(resumed) == 1
    assert resumed[0] > 0
    assert files_of(tmp_path / "out") == files_of(undisturbed["out"])


# --- fine-tuning


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small untrained ResNet as transformers saves one, with notes on the pictures it wants."""
    from transformers import ResNetConfig, ResNetForImageClassification

    directory = tmp_path_factory.mktemp("base") / "resnet"
    settings = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", num_labels=10)
    ResNetForImageClassification(settings).save_pretrained(directory)
    notes = {"image_processor_type": "ConvNextImageProcessor", "image_mean": [0.4, 0.5, 0.6]}
    notes |= {"image_std": [0.2, 0.2, 0.3], "size": {"shortest_edge": 24}}
    (directory / "preprocessor_config.json").write_text(json.dumps(notes))
    return directory


def test_a_pretrained_model_is_fine_tuned_from_a_local_directory(
    base: Path, pictures: Pictures, labels: pd.DataFrame, tmp_path: Path
) -> None:
    config = dataclasses.replace(TINY, base=str(base), epochs=4, growing=())
    result = train_images(pictures, labels, config, tmp_path / "out", tmp_path / "work")
    about = json.loads((tmp_path / "out" / "classifier.json").read_text())
    assert about["backbone_side"] == 24
    assert about["mean"] == pytest.approx([0.4, 0.5, 0.6])
    model = ImageClassifier.load(tmp_path / "out")
    p = model.probabilities(pictures.pixels[(labels["split"] == "valid").to_numpy()])
    right = np.array(model.classes)[p.argmax(axis=1)] == labels.loc[labels["split"] == "valid", "category"]
    assert right.mean() == pytest.approx(result["metrics"]["valid_top1"])
    assert str(base) not in (tmp_path / "out" / "backbone" / "config.json").read_text()


def test_a_base_that_is_not_there_is_an_error(pictures: Pictures, labels: pd.DataFrame, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    config = dataclasses.replace(TINY, base=str(tmp_path / "empty"))
    with pytest.raises((OSError, ValueError)):
        train_images(pictures, labels, config, tmp_path / "out", tmp_path / "work")
    assert not (tmp_path / "out").exists()


# --- processes


def test_it_is_a_training_module_as_any_other(
    pictures: Pictures, labels: pd.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from resources import pipes_entry
    from shelfwise.training.process import file_arguments

    pictures.save(tmp_path / "pictures")
    labels.to_parquet(tmp_path / "labels.parquet")
    (tmp_path / "config.json").write_text(TINY.to_json())
    names = {"pictures": "pictures", "labels": "labels.parquet", "config": "config.json", "out": "out", "work": "work"}
    files = file_arguments({name: tmp_path / file for name, file in names.items()})
    assert pipes_entry.main([train_image.__name__, *files, "--set", "max_steps=4", "--set", "evaluations=2"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["steps"] == 4
    assert (tmp_path / "out" / "metrics.json").exists()


@pytest.mark.slow
def test_two_processes_train_one_model(pictures: Pictures, labels: pd.DataFrame, tmp_path: Path) -> None:
    from shelfwise.training.process import file_arguments, launch_command

    pictures.save(tmp_path / "pictures")
    labels.to_parquet(tmp_path / "labels.parquet")
    names = {"pictures": "pictures", "labels": "labels.parquet", "out": "out", "work": "work"}
    (tmp_path / "config.json").write_text(TINY.to_json())
    files = file_arguments({name: tmp_path / file for name, file in (names | {"config": "config.json"}).items()})
    command = launch_command(train_image.__name__, [*files, "--set", "batch_size=8"], 2)
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    metrics = json.loads(done.stdout.splitlines()[-1])
    assert metrics["steps"] == 16 * (90 // 16)
    assert metrics["valid_top1"] > 0.5
