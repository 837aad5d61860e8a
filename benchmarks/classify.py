"""Which category is it: `python -m benchmarks.classify DIR [--level N] [--only text|image|both]`; one JSON object last.

DIR is any data directory with `listings.*` (listing_id, title, description?, category, image?) and perhaps `images/`;
how it is read and split is said in `benchmarks.classify_rows`. What is trained are the project's own text classifier,
image classifier and their ensemble, on the training part; they are calibrated, and the ensemble is fitted, on the
validation part, from which the text classifier learns too after that. The labels of the test part are only counted
with.

The object holds `text`, `image` and `combined` (each: listings, top1, top5, macro_f1, hierarchical_f1, level_<k>_top1,
ece, coverage_at_95 and more, most with 95 % bounds as `_low` and `_high`, and `baselines` on the same listings); the
best informed of them again at the top; `together`, all three on the test listings that have text and picture;
`missing`, the ensemble without title or picture; speed, seconds of training, counts of what was left out.

Exit status 2 where the directory cannot be used, with what is wrong.
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import json
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import pandas as pd

from benchmarks import classify_baselines, classify_rows
from benchmarks.common import about, emit, peak_mb, plain, say, use_two_cores
from shelfwise.artifacts import atomic_write_bytes
from shelfwise.classification import picture_files
from shelfwise.classification.ensemble import align
from shelfwise.classification.evaluate import evaluate
from shelfwise.classification.model import image_probabilities, text_probabilities
from shelfwise.classification.pictures import Pictures
from shelfwise.classification.taxonomy import Taxonomy
from shelfwise.errors import InputError

MODALITIES = ("text", "image")
SIMPLE = {"text": "linear_svm", "image": "pixels_5nn"}
LEAST_TIMED = 6000  # listings in the timed batch; fewer are repeated
MOST_PICTURES_TIMED = 2000
MOST_EXPLAINED_TIMED = 2000
TIMES = 3
ONE_BY_ONE = 500
LEAST_LEARNED, LEAST_TESTED = 20, 5
RESAMPLES = 1000
MINUTES = 25.0


class Text(Protocol):
    """A trained text classifier, as `shelfwise.classification.text.TextClassifier`."""

    classes: tuple[str, ...]

    def probabilities(self, titles: Sequence[str | None], descriptions: Sequence[str | None] | None) -> np.ndarray:
        """Return float32 [n, classes]."""
        ...

    def unseen_probabilities(
        self, titles: Sequence[str | None], descriptions: Sequence[str | None] | None
    ) -> np.ndarray:
        """Return the same; of validation listings, what was said before it was fitted on them."""
        ...


class Image(Protocol):
    """A trained image classifier, as `shelfwise.classification.image.ImageClassifier`."""

    classes: tuple[str, ...]

    def probabilities(self, pixels: np.ndarray) -> np.ndarray:
        """Return float32 [n, classes] for uint8 [n, side, side, 3]."""
        ...


class Both(Protocol):
    """A fitted ensemble, as `shelfwise.classification.ensemble.Ensemble`; rows of NaN lack the modality."""

    def probabilities(self, text_p: np.ndarray | None, image_p: np.ndarray | None) -> np.ndarray:
        """Return float32 [n, classes]."""
        ...


@dataclass(frozen=True)
class System:
    """What is measured. The project's own parts unless a test puts others in their place; see `own_system`."""

    read_picture: Callable[[bytes], np.ndarray]
    pack: Callable[[Path, pd.DataFrame, Path], Pictures]
    train_text: Callable[[pd.DataFrame, Path, int], tuple[Text, dict[str, Any]]]
    train_image: Callable[[Pictures, pd.DataFrame, Path, int, float], tuple[Image, dict[str, Any]]]
    combine: Callable[..., Both]


def own_system(text_base: str | None = None) -> System:
    """Return the project's own classifiers; `text_base`: see `TextConfig.base`."""

    from shelfwise.classification.ensemble import Ensemble
    from shelfwise.classification.image import ImageClassifier, ImageConfig
    from shelfwise.classification.pictures import read_picture
    from shelfwise.classification.text import TextClassifier, TextConfig, train_text
    from shelfwise.classification.train_image import train_images

    side = ImageConfig().side

    def pack(folder: Path, pictures: pd.DataFrame, work: Path) -> Pictures:
        return Pictures.pack(picture_files.read(folder, pictures), side, work / "pictures")

    def text(listings: pd.DataFrame, work: Path, seed: int) -> tuple[Text, dict[str, Any]]:
        config = TextConfig(seed=seed, base=text_base)
        report = train_text(listings, config, work / "model", work / "work", progress)
        return TextClassifier.load(work / "model"), report

    def image(
        packed: Pictures, listings: pd.DataFrame, work: Path, seed: int, minutes: float
    ) -> tuple[Image, dict[str, Any]]:
        config = ImageConfig(seed=seed, minutes=minutes)
        report = train_images(packed, listings, config, work / "model", work / "work", progress)
        return ImageClassifier.load(work / "model"), report

    return System(lambda data: read_picture(data, side), pack, text, image, Ensemble.fit)


def progress(event: Mapping[str, Any]) -> None:
    """Show what a training reports."""
    say(str(event.get("message", event)))


# ---- the parts of one run --------------------------------------------------------------------------------------------


@dataclass
class Task:
    """Listings, split and pictures of one directory; the classes are those of `taxonomy`, in its order."""

    rows: classify_rows.Rows
    taxonomy: Taxonomy
    usable: dict[str, np.ndarray]
    packed: Pictures | None
    at: np.ndarray
    """Place of each listing's picture among the packed ones, -1 where there is none that can be read."""
    truth: list[list[int]]

    @property
    def frame(self) -> pd.DataFrame:
        return self.rows.frame

    def has(self, modality: str) -> np.ndarray:
        """Return which listings have a text, or a picture that can be read."""
        return (self.frame["text_key"] != "").to_numpy() if modality == "text" else self.at >= 0

    def to_learn(self, modality: str) -> pd.DataFrame:
        """Return the listings that a modality is trained and calibrated on; test is not among them."""
        return self.frame[self.usable[modality]].reset_index(drop=True)

    def text_p(self, model: Text, where: np.ndarray, titles: bool = True, unseen: bool = False) -> np.ndarray:
        """Return probabilities from text, rows of NaN where there is none; `titles`: whether the title is known;
        `unseen`: as `text_probabilities` has it.
        """
        some = self.frame.iloc[where][["title", "description"]]
        some = some if titles else some.drop(columns="title")
        return text_probabilities(cast(Any, model), some, self.taxonomy, unseen)

    def image_p(self, model: Image, where: np.ndarray) -> np.ndarray:
        """Return probabilities from pictures, rows of NaN where there is none."""
        ids = self.frame["listing_id"].iloc[where]
        return image_probabilities(cast(Any, model), ids, cast(Any, self.packed), self.taxonomy)

    def lines(self, where: np.ndarray) -> pd.DataFrame:
        """Return what the evaluation is told of listings."""
        some = self.frame.iloc[where]
        key = some["text_key"].where(some["text_key"] != "", some["listing_id"])
        return pd.DataFrame(
            {
                "listing_id": some["listing_id"].to_numpy(),
                "group_id": key.to_numpy(),
                "title": some["title"].to_numpy(),
                "has_description": (some["description"] != "").to_numpy(),
                "has_image": self.at[where] >= 0,
            }
        )

    def counts(self) -> np.ndarray:
        """Return the training listings of each class."""
        part = self.frame.loc[self.frame["split"] == "train", "category"]
        return np.bincount(self.taxonomy.index(part), minlength=len(self.taxonomy))


def prepare(folder: Path, system: System, level: int | None, seed: int, only: str, work: Path) -> Task:
    """Read, pack and split a directory."""
    rows = classify_rows.prepare(folder, level, seed)
    frame = rows.frame
    packed, at = None, np.full(len(frame), -1)
    if only != "text" and len(rows.pictures):
        began = time.perf_counter()
        packed = system.pack(folder, rows.pictures, work)
        at = packed.rows_of(frame["listing_id"])
        rows.counts |= {
            "pictures": int((at >= 0).sum()),
            "pictures_unreadable": len(packed.problems),
            "picture_problems": packed.problems.iloc[:, -1].value_counts().head(10).to_dict(),
            "pack_seconds": time.perf_counter() - began,
        }
    keys = {}
    if only != "image":
        keys["text"] = frame["text_key"].to_numpy()
    if packed is not None:
        digests = [hashlib.sha256(one.tobytes()).hexdigest()[:24] for one in packed.pixels]
        keys["image"] = np.array([digests[place] if place >= 0 else "" for place in at], dtype=object)
    usable = classify_rows.settle(rows, keys, seed)
    taxonomy = Taxonomy(rows.classes)
    return Task(rows, taxonomy, usable, packed, at, taxonomy.truths(frame["categories"]))


def enough(task: Task, modality: str) -> bool:
    """Return whether there is anything to learn from and to test on."""
    learn = task.usable.get(modality)
    if learn is None:
        return False
    parts = task.frame["split"].to_numpy()
    classes = task.frame.loc[learn & (parts == "train"), "category"].nunique()
    tested = (task.has(modality) & (parts == "test")).sum()
    return bool(learn.sum() >= LEAST_LEARNED and classes >= 2 and tested >= LEAST_TESTED)


# ---- measuring -------------------------------------------------------------------------------------------------------


def measure(
    task: Task, p: np.ndarray, where: np.ndarray, baselines: Mapping[str, np.ndarray], seed: int
) -> dict[str, Any]:
    """Return the measures of probabilities on listings, with the baselines' apart."""
    truth = [task.truth[i] for i in where]
    found = evaluate(p, truth, task.taxonomy, task.lines(where), baselines, seed, task.counts(), RESAMPLES)
    names = ("majority", *baselines)
    apart = {
        name: {
            key.removeprefix(f"{name}_"): value for key, value in found.metrics.items() if key.startswith(f"{name}_")
        }
        for name in names
    }
    own = {k: v for k, v in found.metrics.items() if not k.startswith(tuple(f"{name}_" for name in names))}
    top = np.where(answered(p), p.argmax(axis=1), -1)
    leaf = np.array([path.rpartition(">")[2].strip() for path in task.taxonomy.classes] + [""], dtype=object)
    same = [leaf[one] in {leaf[i] for i in right} for one, right in zip(top, truth, strict=True)]
    slices = found.slices[["slice", "value", "lines", "top1", "top5"]].to_dict("records")
    return {"listings": len(where), **own, "leaf_top1": float(np.mean(same)), "baselines": apart, "slices": slices}


def answered(p: np.ndarray) -> np.ndarray:
    """Return which rows are probabilities, and not NaN."""
    return np.asarray(np.isfinite(p).all(axis=1))


def first_right(p: np.ndarray, truth: Sequence[Sequence[int]]) -> np.ndarray:
    """Return whether the most probable class is right; a row of NaN is wrong."""
    said = answered(p)
    return np.array([ok and top in right for ok, top, right in zip(said, p.argmax(axis=1), truth, strict=True)], bool)


def together(p: Mapping[str, np.ndarray], task: Task, where: np.ndarray, seed: int) -> dict[str, Any]:
    """Return all three on the same listings, those with text and picture, and what the ensemble gains on the better."""
    both = answered(p["text"]) & answered(p["image"])
    if not both.any():
        return {"listings": 0}
    truth = [task.truth[i] for i in where[both]]
    right = {name: first_right(each[both], truth) for name, each in p.items()}
    better = "text" if right["text"].mean() >= right["image"].mean() else "image"
    gain = right["combined"].astype(float) - right[better]
    return {
        "listings": int(both.sum()),
        **{f"{name}_top1": float(each.mean()) for name, each in right.items()},
        "better": better,
        "gain": float(gain.mean()),
        **dict(zip(("gain_low", "gain_high"), interval(gain, seed), strict=True)),
    }


def interval(values: np.ndarray, seed: int) -> list[float]:
    """Return the 95 % bootstrap interval of a mean."""
    rng = np.random.default_rng(seed)
    means = [values[rng.integers(len(values), size=len(values))].mean() for _ in range(RESAMPLES)]
    return np.quantile(means, [0.025, 0.975]).tolist()


def without(task: Task, models: Mapping[str, Any], ensemble: Both, p: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Return the ensemble's top-1 where title, text or picture are withheld, beside what is left alone.

    Each on the test listings that have what is withheld and what is left.
    """
    test = task.rows.of("test")
    text, image = (answered(p[name]) for name in MODALITIES)
    nothing = np.full_like(p["text"], np.nan)
    tried = {
        "picture": (text & image, p["text"], nothing, "text"),
        "text": (text & image, nothing, p["image"], "image"),
    }
    some = task.frame.iloc[test]
    titled = ((some["title"] != "") & (some["description"] != "")).to_numpy() & image
    if titled.any():  # else without the title there is no text either
        tried["title"] = (titled, task.text_p(models["text"], test, titles=False), p["image"], "image")
    found = {}
    for name, (rows, text_p, image_p, left) in tried.items():
        if not rows.any():
            continue
        truth = [task.truth[i] for i in test[rows]]
        one = first_right(ensemble.probabilities(text_p[rows], image_p[rows]), truth)
        other = first_right(p[left][rows], truth)
        found[name] = {
            "listings": int(rows.sum()),
            "top1": float(one.mean()),
            "alone": left,
            "alone_top1": float(other.mean()),
            "below": float(max(other.mean() - one.mean(), 0.0)),
        }
    if "title" not in found and "text" in found:
        found["title"] = found["text"]
    return found


# ---- speed -----------------------------------------------------------------------------------------------------------


def texts_of(frame: pd.DataFrame, where: np.ndarray) -> tuple[list[str | None], list[str | None]]:
    """Return titles and descriptions of listings, None where missing."""
    titles, descriptions = ([text or None for text in frame[name].iloc[where]] for name in ("title", "description"))
    return titles, descriptions


def batch_speed(task: Task, models: Mapping[str, Any], ensemble: Both | None) -> dict[str, dict[str, float]]:
    """Return listings a second in batches by modality, the middle of several runs; pictures are already read.

    `listings_per_second`: classified; `explained_per_second`: classified, and told why, where a model does that.
    """
    test = task.rows.of("test")
    found = {}
    for name, model in models.items():
        where = test[task.has(name)[test]]
        # Text is quick: a few thousand listings say nothing of it.
        timed = np.resize(where, max(LEAST_TIMED, len(where))) if name == "text" else where[:MOST_PICTURES_TIMED]
        rate = _rate(lambda some, name=name: predictions(task, {name: models[name]}, some), timed)
        found[name] = {"listings_per_second": rate}
        if hasattr(model, "explain"):
            # None of them twice, as what is said twice is explained once.
            rate = _rate(lambda some, model=model: _explained(task, model, some), where[:MOST_EXPLAINED_TIMED])
            found[name]["explained_per_second"] = rate
    if ensemble is not None:

        def both(some: np.ndarray) -> None:
            p = predictions(task, models, some)
            ensemble.probabilities(p["text"], p["image"])

        rate = _rate(both, test[task.has("image")[test]][:MOST_PICTURES_TIMED])
        found["combined"] = {"listings_per_second": rate}
    return found


def _explained(task: Task, model: Any, where: np.ndarray) -> list[str]:
    titles, descriptions = texts_of(task.frame, where)
    return model.explain(titles, descriptions, model.probabilities(titles, descriptions).argmax(1))


def _rate(classify: Callable[[np.ndarray], Any], where: np.ndarray) -> float:
    classify(where[:50])
    seconds = []
    for _ in range(TIMES):
        began = time.perf_counter()
        classify(where)
        seconds.append(time.perf_counter() - began)
    return len(where) / float(np.median(seconds))


def one_by_one(
    folder: Path, task: Task, system: System, models: Mapping[str, Any], ensemble: Both | None
) -> dict[str, float]:
    """Return the time of one listing, from the bytes of its picture and its texts to probabilities, in milliseconds."""
    test = task.rows.of("test")
    where = test[task.at[test] >= 0] if "image" in models else test[task.has("text")[test]]
    where = np.resize(where, min(ONE_BY_ONE, max(len(where), 200)))
    bytes_of = picture_bytes(folder, task, where) if "image" in models else {}
    titles, descriptions = texts_of(task.frame, where)
    times = []
    # As a server would: what is there to stay is not looked at again by the garbage collector.
    gc.collect()
    gc.freeze()
    for number, (place, title, description) in enumerate(zip(where, titles, descriptions, strict=True)):
        data = bytes_of.get(task.frame["listing_id"].iat[place])
        began = time.perf_counter()
        p: dict[str, np.ndarray | None] = {"text": None, "image": None}
        if "text" in models and (title or description):
            said = models["text"].probabilities([title], [description])
            p["text"] = align(said, models["text"].classes, task.taxonomy.classes)
        if data is not None:
            said = models["image"].probabilities(system.read_picture(data)[None])
            p["image"] = align(said, models["image"].classes, task.taxonomy.classes)
        if ensemble is not None and any(part is not None for part in p.values()):
            ensemble.probabilities(p["text"], p["image"])
        if number >= 10:  # the first ones make caches and threads
            times.append(1000 * (time.perf_counter() - began))
    gc.unfreeze()
    return {
        "one_listing_p50_ms": float(np.percentile(times, 50)),
        "one_listing_p99_ms": float(np.percentile(times, 99)),
        "one_listing_timed": len(times),
    }


def picture_bytes(folder: Path, task: Task, where: np.ndarray) -> dict[str, bytes]:
    """Return the files of listings' pictures."""
    ids = set(task.frame["listing_id"].iloc[where])
    found = task.rows.pictures[task.rows.pictures["listing_id"].isin(ids)]
    return {name: data for name, data in picture_files.read(folder, found) if isinstance(data, bytes)}


# ---- the benchmark ---------------------------------------------------------------------------------------------------


def run(
    folder: Path,
    level: int | None = None,
    seed: int = 0,
    image_minutes: float = MINUTES,
    only: str = "both",
    system: System | None = None,
) -> dict[str, Any]:
    """Run the benchmark and return its object. Raises InputError where the directory cannot be used."""
    began = time.perf_counter()
    head = about("classify")
    with tempfile.TemporaryDirectory(prefix="shelfwise-classify-") as scratch:
        work = Path(scratch)
        system = system or own_system()
        task = prepare(folder, system, level, seed, only, work)
        counts = task.rows.counts
        say(f"{folder}: {counts['used']:,} of {counts['read']:,} listings in {counts['classes']:,} classes")
        models, training = train(folder, task, system, work, seed, image_minutes)
        test = task.rows.of("test")
        p = predictions(task, models, test)
        ensemble, told = combined(task, models, system, seed)
        if ensemble is not None:
            p["combined"] = ensemble.probabilities(p["text"], p["image"])
        measured = measure_all(task, p, test, seed)
        for name, rates in batch_speed(task, models, ensemble).items():
            measured[name] |= rates
        main_one = measured[list(measured)[-1]]
        result = head | {
            "data": folder.resolve().name,
            **{name: value for name, value in main_one.items() if name not in ("baselines", "slices", "listings")},
            "modalities": list(measured),
            **measured,
            "baselines": {k: v for name in reversed(measured) for k, v in measured[name]["baselines"].items()},
            "level": level,
            "depth": task.taxonomy.depth,
            "seed": seed,
            "only": only,
            "image_minutes": image_minutes,
            "listings": counts,
            "training": training | told,
        }
        if ensemble is not None:
            result["together"] = together(p, task, test, seed)
            result["missing"] = without(task, models, ensemble, p)
        result |= one_by_one(folder, task, system, models, ensemble)
    return result | {"seconds": time.perf_counter() - began, "peak_mb": peak_mb()}


def train(
    folder: Path, task: Task, system: System, work: Path, seed: int, image_minutes: float
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the trained models by modality, and what their training says. Raises InputError where none can be."""
    models: dict[str, Any] = {}
    training: dict[str, Any] = {}
    for modality in task.usable:
        if not enough(task, modality):
            say(f"{modality}: too few listings have one; left out")
            continue
        listings = task.to_learn(modality)
        say(f"{modality}: training on {(listings['split'] == 'train').sum():,} listings")
        began = time.perf_counter()
        if modality == "text":
            model, report = system.train_text(listings, work / "text", seed)
        else:
            assert task.packed is not None
            model, report = system.train_image(task.packed, listings, work / "image", seed, image_minutes)
        models[modality] = model
        said = {key: report[key] for key in ("metrics", "timing") if key in report}
        training[modality] = {"seconds": time.perf_counter() - began, **said}
        say(f"{modality}: trained in {training[modality]['seconds']:.0f} s")
    if not models:
        raise InputError(classify_rows.nothing_to_learn_from(folder))
    return models, training


def predictions(
    task: Task, models: Mapping[str, Any], where: np.ndarray, unseen: bool = False
) -> dict[str, np.ndarray]:
    """Return probabilities by modality; `unseen`: see `Task.text_p`."""
    of = {"text": partial(task.text_p, where=where, unseen=unseen), "image": partial(task.image_p, where=where)}
    return {name: of[name](model) for name, model in models.items()}


def combined(task: Task, models: Mapping[str, Any], system: System, seed: int) -> tuple[Both | None, dict[str, Any]]:
    """Return the ensemble, fitted on the validation part, and what it says of itself; None for one modality only."""
    if len(models) < 2:
        return None, {}
    began = time.perf_counter()
    # A validation listing that says the same as a test listing was withheld from training, so it is from this too.
    fair = np.all([mask | ~task.has(name) for name, mask in task.usable.items()], axis=0)
    where = task.rows.of("valid")
    where = where[fair[where]]
    # ... and what they said of these listings when they had not been fitted on them.
    p = predictions(task, models, where, unseen=True)
    truth = [task.truth[i] for i in where]
    weights = {}
    for name in MODALITIES:
        said = answered(p[name])
        right = first_right(p[name][said], [one for one, ok in zip(truth, said, strict=True) if ok])
        weights[name] = max(float(right.mean()) if said.any() else 0.0, 1e-6)
    groups = task.lines(where)["group_id"].to_numpy()
    ensemble = system.combine(p["text"], p["image"], truth, weights, task.taxonomy.classes, groups, seed)
    say(f"ensemble of {', '.join(f'{name} {weight:.3f}' for name, weight in weights.items())}")
    told = {
        "fitted_on": len(where),
        "weights": weights,
        "why": getattr(ensemble, "why", None),
        "seconds": time.perf_counter() - began,
    }
    return ensemble, {"combined": told}


def measure_all(task: Task, p: Mapping[str, np.ndarray], test: np.ndarray, seed: int) -> dict[str, dict[str, Any]]:
    """Return the measures of each modality on the test listings that have it, and of the ensemble on all of them."""
    simple = {label: baseline(task, test, name) for name, label in SIMPLE.items() if name in p}
    measured = {}
    for name, each in p.items():
        rows = answered(each)
        kept = {
            label: found[rows]
            for label, found in simple.items()
            if found is not None and (name == "combined" or SIMPLE[name] == label)
        }
        measured[name] = measure(task, each[rows], test[rows], kept, seed)
        say(f"{name}: top-1 {measured[name]['top1']:.4f}, top-5 {measured[name]['top5']:.4f}")
    return measured


def baseline(task: Task, where: np.ndarray, modality: str) -> np.ndarray | None:
    """Return the scores of a modality's simple baseline, trained on the same listings (validation's as well).

    Rows of NaN where a listing has no text, or picture; None where the baseline is left out.
    """
    learn = np.flatnonzero(task.usable[modality])
    labels = task.taxonomy.index(task.frame["category"].iloc[learn])
    there = task.has(modality)[where]
    asked = where[there]
    if modality == "text":
        titles, descriptions = (task.frame[name].str.lower() for name in ("title", "description"))
        texts = (titles + " " + descriptions).tolist()
        found = classify_baselines.linear_svm(
            [texts[i] for i in learn], labels, [texts[i] for i in asked], len(task.taxonomy)
        )
    else:
        assert task.packed is not None
        pixels = task.packed.pixels
        found = classify_baselines.nearest_pixels(
            pixels[task.at[learn]], labels, pixels[task.at[asked]], len(task.taxonomy)
        )
    if found is None:
        return None
    out = np.full((len(where), len(task.taxonomy)), np.nan, np.float32)
    out[there] = found
    return out


def main(argv: Sequence[str] | None = None) -> int:
    """Run from the command line; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.classify", description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument("--level", type=int, help="depth of the category path that is the class; default: all of it")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--image-minutes", type=float, default=MINUTES, help="time to train the image classifier in; 0: all its epochs"
    )
    parser.add_argument("--only", choices=("text", "image", "both"), default="both")
    parser.add_argument(
        "--text-base",
        help="encoder to fine-tune beside the word networks: id, path, or minilm for the one that is compared with",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the object to a file too")
    given = parser.parse_args(argv)
    if given.level is not None and given.level < 1:
        parser.error("--level: at least 1")
    base = given.text_base
    if base == "minilm":
        from benchmarks.rivals import encoder_path  # much comes with it

        if (found := encoder_path()) is None:
            parser.error("--text-base minilm: it is not installed; `make bench` does it")
        base = str(found)
    use_two_cores()
    try:
        result = run(given.folder, given.level, given.seed, given.image_minutes, given.only, own_system(base)) | {
            "text_base": given.text_base
        }
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    if given.json:
        given.json.parent.mkdir(parents=True, exist_ok=True)
        atomic_write_bytes(given.json, (json.dumps(plain(result), indent=2) + "\n").encode())
    emit(result)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
