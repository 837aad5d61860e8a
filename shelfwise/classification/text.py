"""The text classifier: which categories a title and a description speak for, and which of their words did.

    model = TextClassifier.load(directory)
    p = model.probabilities(["Spiced rum 70cl"], None)      # float32 [1, len(model.classes)]
    model.explain(["Spiced rum 70cl"], None, p.argmax(1))   # ["'rum' +5.1, 'spiced' +2.0"]

Three parts read a listing: a linear model on n-grams (`ngrams`), the most similar training listings (`neighbours`) and
networks made for it (`encoding`); a fourth, where a `base` is named, is a pretrained encoder that is fine-tuned.
Training keeps the one that is best on the validation listings, or their blend where that is as good or better, and
says so in `metrics.json`. What is kept is then fitted again on training and validation listings together: more to learn
from is worth more than most settings. Its answers to the validation listings from before, when it had not seen them,
stay with it (`held_out`), because whoever combines classifiers needs answers to listings they were not fitted on. Each
part works without a title or without a description; a listing without any text gets the shares of the categories.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np
import pandas as pd

from shelfwise.artifacts import atomic_write_json
from shelfwise.classification import calibration, encoding
from shelfwise.classification.confidence import Confidence
from shelfwise.classification.held_out import HeldOut
from shelfwise.classification.measures import measures
from shelfwise.classification.neighbours import Neighbours
from shelfwise.classification.ngrams import NgramClassifier, NgramConfig
from shelfwise.classification.taxonomy import Taxonomy
from shelfwise.text import normalise
from shelfwise.training.curves import write_curve
from shelfwise.training.process import Progress, Run, identity_of, prepare_environment, world_size
from shelfwise.training.settings import Settings

if TYPE_CHECKING:
    from shelfwise.training.loop import Fit

CODE_VERSION = "6"
LIBRARIES = ("torch", "transformers", "sentence-transformers", "tokenizers")
ABOUT, CONFIG, METRICS = "text.json", "text_config.json", "metrics.json"
LINEAR, NEIGHBOURS, ENCODER, PRETRAINED, BLEND = "linear", "neighbours", "encoder", "pretrained", "blend"

_LEAST_WEIGHT = 0.02  # of a part in a blend; with less it is left out
_WORDS_TOLD = 4
_EXPLAINED_AT_ONCE = 1024  # listings, so that memory does not grow with them
_TOLD_FROM = 0.05  # what adds less to the logarithm of a probability is not told


class Part(Protocol):
    """What reads listings: scores are logarithms of probabilities but for a constant by row."""

    def scores(self, titles: Sequence[str], descriptions: Sequence[str]) -> np.ndarray:
        """Return float32 [n, classes] for texts in normal form, "" where there is none."""
        ...

    def shares(
        self, titles: Sequence[str], descriptions: Sequence[str], chosen: np.ndarray
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return what each word of the title and of the description added to the score of the class `chosen`."""
        ...

    def save(self, directory: Path) -> None:
        """Write the part's files to a directory."""
        ...


_OWN: Any = None  # stands for the architecture's own default

# What an architecture is trained with where nothing else is said, chosen by measurement on validation parts.
DEFAULTS: dict[str, dict[str, Any]] = {
    "none": {},
    "words": {
        "vocab_size": 0,
        "hidden_size": 192,
        "intermediate_size": 384,
        "max_length": 48,
        "batch_size": 128,
        "learning_rate": 2e-3,
        "weight_decay": 0.05,
        "epochs": 12,
        "dropout": 0.3,
        "networks": 3,
    },
    "static": {
        "vocab_size": 8000,
        "hidden_size": 256,
        "intermediate_size": 0,
        "max_length": 128,
        "batch_size": 256,
        "learning_rate": 1e-2,
        "weight_decay": 0.0,
        "epochs": 12,
        "dropout": 0.3,
        "networks": 1,
    },
    "bert": {
        "vocab_size": 8000,
        "hidden_size": 128,
        "intermediate_size": 256,
        "max_length": 64,
        "batch_size": 128,
        "learning_rate": 1e-3,
        "weight_decay": 0.01,
        "epochs": 12,
        "dropout": 0.1,
        "networks": 1,
    },
}
BASE_RATE, BASE_EPOCHS, BASE_BATCH = 1e-4, 5, 32  # for an encoder that was trained before


@dataclass(frozen=True)
class TextConfig(Settings):
    """What a text classifier is made of and how it is trained.

    Settings left out take the default of the encoder's architecture, see `DEFAULTS`.
    """

    WHAT: ClassVar[str] = "text classifier"

    architecture: str = "auto"
    """The encoder: 'words' (n-gram vectors of words, read by a transformer), 'static' or 'bert' as the matching has
    them, 'none' for the linear model and the neighbours alone. 'auto': 'words', or what the `base` is."""
    base: str | None = None
    """Hugging Face id or local path of a sentence encoder to fine-tune."""
    beside: bool = True
    """With a `base`: also train word networks from scratch, with their defaults, to be blended with it. What either
    gets wrong the other often knows."""
    linear_epochs: int = 8
    linear_rate: float = 0.5
    linear_lost: float = 0.3
    """Share of the n-grams left out at random while the linear model learns."""
    vocab_size: int = _OWN
    """WordPieces at most ('static' and 'bert' from scratch)."""
    hidden_size: int = _OWN
    layers: int = 1
    heads: int = 4
    intermediate_size: int = _OWN
    dropout: float = _OWN
    max_length: int = _OWN
    """Words of title and of description, or word pieces of both, that are read."""
    lost_words: float = 0.1
    """Share of the words left out at random in training ('words')."""
    lost_grams: float = 0.2
    """Share of the n-grams left out at random in training ('words')."""
    blind: float = 0.1
    """Share of the listings with title and description that are learnt from without the title; as many without the
    description."""
    networks: int = _OWN
    """Networks that start differently and are asked together ('words')."""
    smooth: float = 0.1
    """Share of the encoder's target spread over all classes."""
    refit: bool = True
    """Fit what was kept again on training and validation listings together; twice the time."""
    batch_size: int = _OWN
    learning_rate: float = _OWN
    weight_decay: float = _OWN
    warmup_share: float = 0.1
    schedule: str = "cosine"
    epochs: int = _OWN
    max_steps: int = 0
    evaluations: int = 6
    patience: int = 3
    precision: str = "auto"
    seed: int = 7
    num_threads: int = 0

    def __post_init__(self) -> None:
        from shelfwise.matching.train import _architecture_of

        architecture = self.architecture
        if self.base and architecture != "none":
            architecture = _architecture_of(self.base)
        if architecture == "auto":
            architecture = "words"
        if architecture not in DEFAULTS:
            raise ValueError(f"architecture must be auto, {', '.join(DEFAULTS)}, not {architecture!r}")
        object.__setattr__(self, "architecture", architecture)
        fallback = dict.fromkeys(DEFAULTS["words"], 1) if architecture == "none" else DEFAULTS[architecture]
        if self.base and architecture == "bert":
            tuned = {"learning_rate": BASE_RATE, "epochs": BASE_EPOCHS, "batch_size": BASE_BATCH}
            fallback = {**fallback, **tuned}
        for name, value in fallback.items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)
        if architecture in ("words", "bert") and not self.base and self.hidden_size % self.heads:
            raise ValueError(f"hidden_size {self.hidden_size} is not a multiple of heads {self.heads}")
        if self.networks > 1 and architecture != "words":
            raise ValueError(f"networks: only the architecture 'words' takes more than one, not {architecture!r}")
        least = {
            "networks": 1,
            "batch_size": 2,
            "epochs": 1,
            "evaluations": 1,
            "layers": 1,
            "max_length": 1,
            "linear_epochs": 1,
        }
        for name, value in least.items():
            if architecture != "none" and getattr(self, name) < value:
                raise ValueError(f"{name} must be at least {value}, not {getattr(self, name)}")

    def encoders(self) -> dict[str, TextConfig]:
        """Return the networks that are trained, by the name of their part, each with its settings."""
        if self.architecture == "none":
            return {}
        if not self.base:
            return {ENCODER: self}
        scratch = dataclasses.replace(self, base=None, architecture="words", **DEFAULTS["words"])
        return {PRETRAINED: self, **({ENCODER: scratch} if self.beside else {})}

    def linear(self) -> NgramConfig:
        """Return the settings of the linear model."""
        return NgramConfig(
            epochs=self.linear_epochs,
            learning_rate=self.linear_rate,
            lost=self.linear_lost,
            blind=self.blind,
            seed=self.seed,
        )


class TextClassifier:
    """Calibrated probabilities of categories, from title and description."""

    def __init__(
        self,
        classes: Sequence[str],
        parts: Mapping[str, Part],
        weights: Mapping[str, float],
        confidence: Confidence,
        prior: np.ndarray,
        held_out: HeldOut | None = None,
    ):
        """`weights`: the share of each part that takes part; `prior` [classes]: shares among the training listings;
        `held_out`: what was said of the validation listings before the parts were fitted on them too.
        """
        self.classes = tuple(classes)
        self.parts, self.weights = dict(parts), dict(weights)
        self.confidence, self.prior = confidence, np.asarray(prior, np.float32)
        self.held_out = held_out

    def probabilities(
        self, titles: Sequence[str | None], descriptions: Sequence[str | None] | None = None
    ) -> np.ndarray:
        """Return float32 [n, classes], rows sum to 1. None and "" are missing; `descriptions` None: all are."""
        titles, descriptions = _normal(titles, descriptions)
        return self._of_normal(titles, descriptions)

    def unseen_probabilities(
        self, titles: Sequence[str | None], descriptions: Sequence[str | None] | None = None
    ) -> np.ndarray:
        """Return `probabilities`, but for texts of validation listings what was said of them before the parts were
        fitted on them too: answers as they will be to new listings.
        """
        titles, descriptions = _normal(titles, descriptions)
        if self.held_out is None:
            return self._of_normal(titles, descriptions)
        known, said = self.held_out.of(titles, descriptions)
        others = np.setdiff1d(np.arange(len(titles)), known)
        p = np.empty((len(titles), len(self.classes)), np.float32)
        p[known] = self.confidence.apply(said)
        p[others] = self._of_normal([titles[i] for i in others], [descriptions[i] for i in others])
        return p

    def _of_normal(self, titles: list[str], descriptions: list[str]) -> np.ndarray:
        p = np.tile(self.prior, (len(titles), 1))
        rows = [i for i in range(len(titles)) if titles[i] or descriptions[i]]
        if rows:
            log_p = self.blended([titles[i] for i in rows], [descriptions[i] for i in rows])
            p[rows] = self.confidence.apply(log_p)
        return p

    def blended(self, titles: Sequence[str], descriptions: Sequence[str]) -> np.ndarray:
        """Return what the parts say of texts in normal form, not calibrated: float32 [n, classes], logarithms of
        probabilities but for a constant by row.
        """
        return _blended({name: self.parts[name].scores(titles, descriptions) for name in self.weights}, self.weights)

    def linear_probabilities(
        self, titles: Sequence[str | None], descriptions: Sequence[str | None] | None = None
    ) -> np.ndarray:
        """Return what the linear model on n-grams says alone, the baseline; float32 [n, classes], not calibrated."""
        return calibration.apply(self.parts[LINEAR].scores(*_normal(titles, descriptions)), 1.0)

    def explain(
        self, titles: Sequence[str | None], descriptions: Sequence[str | None] | None, chosen: np.ndarray
    ) -> list[str]:
        """Return which words spoke for the category `chosen` (index into `classes`) of each listing, the strongest
        first, with what they added to the logarithm of its probability: "'rum' +5.1, 'spiced' +2.0".
        """
        titles, descriptions = _normal(titles, descriptions)
        chosen, said = np.asarray(chosen, np.int64), []
        for start in range(0, len(titles), _EXPLAINED_AT_ONCE):
            rows = slice(start, start + _EXPLAINED_AT_ONCE)
            said += self._explained(titles[rows], descriptions[rows], chosen[rows])
        return said

    def _explained(self, titles: list[str], descriptions: list[str], chosen: np.ndarray) -> list[str]:
        told: list[dict[str, float]] = [{} for _ in titles]
        for name, weight in self.weights.items():
            shares = self.parts[name].shares(titles, descriptions, chosen)
            for words, title, description, fields in zip(told, titles, descriptions, shares, strict=True):
                for text, field in zip((title, description), fields, strict=True):
                    for word, share in zip(text.split(), field, strict=False):
                        words[word] = words.get(word, 0.0) + weight * float(share) / self.confidence.temperature
        return [_told(words) for words in told]

    def save(self, directory: Path) -> None:
        """Write the classifier to a directory that is there."""
        for name in {LINEAR, *self.weights}:
            self.parts[name].save(_place(name, directory))
        if self.held_out is not None:
            self.held_out.save(directory)
        about = {"classes": self.classes, "weights": self.weights, "confidence": dataclasses.asdict(self.confidence)}
        atomic_write_json(directory / ABOUT, {**about, "prior": [float(share) for share in self.prior]})

    @classmethod
    def load(cls, directory: Path | str) -> TextClassifier:
        """Read what `save` wrote. Raises FileNotFoundError where the directory holds no text classifier."""
        path = Path(directory)
        about = json.loads((path / ABOUT).read_text(encoding="utf-8"))
        parts: dict[str, Part] = {}
        # The linear model first: the neighbours read with it, and it is the baseline where it has no weight.
        for name in sorted({LINEAR, *about["weights"]}, key=lambda name: name != LINEAR):
            parts[name] = _load_part(name, path, parts.get(LINEAR))
        confidence = Confidence(**about["confidence"])
        return cls(about["classes"], parts, about["weights"], confidence, about["prior"], HeldOut.load(path))


def fingerprint(listings: pd.DataFrame, config: TextConfig) -> str:
    """Return an id of everything that decides a classifier: listings with their part, settings, libraries."""
    return identity_of(CODE_VERSION, _bytes(listings), config.to_dict(), ("torch", "transformers"), 1)


def train_text(
    listings: pd.DataFrame,
    config: TextConfig,
    out_dir: Path | str,
    work_dir: Path | str,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Train a text classifier on the split 'train' of `listings` and write it to `out_dir`.

    `listings`: listing_id, title, description (may be missing, as a column too), categories (a list of paths) or
    category (a cell, several paths joined by " | "), split. Classes are the categories of the training listings. The
    split 'valid' decides what is kept and calibrates it.
    Returns metrics, curve and timing. Raises ValueError where there is nothing to train on.
    """
    run = Run("text", progress)
    train, valid = (_rows(listings, split) for split in ("train", "valid"))
    taxonomy = Taxonomy.of(train.cells)
    if not len(taxonomy):
        raise ValueError("no listing of the split 'train' has a category: there is nothing to train a classifier on")
    train, valid = (rows.known(taxonomy) for rows in (train, valid))
    if config.architecture != "none":
        prepare_environment(config.num_threads)
    run.stage("start")
    identity = identity_of(CODE_VERSION, _bytes(listings), config.to_dict(), LIBRARIES, world_size())
    run_dir = run.open(work_dir, identity)
    counts = f"{len(train.titles)} listings of {len(taxonomy)} categories, {len(valid.titles)} to validate"
    run.report({"event": "start", "message": f"text classifier: {counts}"})
    run.stage("prepare")
    training = _Training(taxonomy, config, run_dir, run)
    parts, fits = training.fitted((LINEAR, NEIGHBOURS, *config.encoders()), train, valid)
    model, metrics = _kept(parts, taxonomy, valid, _prior(train.truths(taxonomy), len(taxonomy)))
    run.report({"event": "kept", "message": metrics["why"]})
    if config.refit and valid.titles:
        model = training.refitted(model, train, valid, fits)
    shown = next(iter(fits.values()))[0] if fits else None
    curve, best_step, speed = (shown.curve, shown.best_step, shown.speed) if shown else ([], 0, {})
    metrics |= {"train_listings": len(train.titles), "valid_listings": len(valid.titles), "classes": len(taxonomy)}
    metrics |= {"fingerprint": identity, "best_step": best_step, "refit": model.held_out is not None}
    run.stage("train")

    def write(directory: Path) -> None:
        model.save(directory)
        (directory / CONFIG).write_text(config.to_json() + "\n")
        atomic_write_json(directory / METRICS, metrics)
        if curve:
            write_curve(directory, curve, encoding.LABELS, "the right category first, or among five", best_step)

    return run.finish(out_dir, write, metrics, curve, speed)


@dataclass(frozen=True)
class _Training:
    """One training of a classifier; `directory`: of its checkpoints."""

    taxonomy: Taxonomy
    config: TextConfig
    directory: Path
    run: Run

    def fitted(
        self,
        wanted: Sequence[str],
        train: _Listings,
        valid: _Listings,
        steps: Mapping[str, Sequence[int]] | None = None,
    ) -> tuple[dict[str, Part], dict[str, list[Fit]]]:
        """Return the parts that are wanted, the linear model among them in any case, and how the networks were trained.

        `steps`: for how long each network is, where nothing validates; by default as the configuration says.
        """
        truths, classes = train.truths(self.taxonomy), len(self.taxonomy)
        texts = train.titles, train.descriptions, truths
        began = self.run.elapsed()
        linear = NgramClassifier.fit(*texts, classes, self.config.linear())
        parts: dict[str, Part] = {LINEAR: linear}
        if NEIGHBOURS in wanted:
            parts[NEIGHBOURS] = Neighbours.fit(linear, *texts, _prior(truths, classes))
        self.run.report({"event": "linear", "message": f"linear model after {self.run.elapsed() - began:.1f} s"})
        judged = valid.titles, valid.descriptions, calibration.right_answers(valid.truths(self.taxonomy))
        fits: dict[str, list[Fit]] = {}
        for name, own in self.config.encoders().items():
            if name not in wanted:
                continue
            place, own_steps = self.directory / ("refit" if steps else "fit") / name, steps[name] if steps else ()
            report = self.run.report
            parts[name], fits[name] = encoding.fit_encoder(*texts, judged, classes, own, place, report, own_steps)
        return parts, fits

    def refitted(
        self, model: TextClassifier, train: _Listings, valid: _Listings, fits: Mapping[str, Sequence[Fit]]
    ) -> TextClassifier:
        """Return the classifier with its parts fitted on both parts of the listings; weights and calibration stay.

        Each network takes as many steps as were best, and more by as much as there are more listings.
        """
        both = train + valid
        self.run.report({"event": "refit", "message": f"fitting what was kept again, on {len(both.titles)} listings"})
        more = len(both.titles) / len(train.titles)
        steps = {name: [max(1, round(fit.best_step * more)) for fit in some] for name, some in fits.items()}
        # Listings without any text have no answer to be kept: theirs is how often each class occurs.
        rows = [i for i in range(len(valid.titles)) if valid.titles[i] or valid.descriptions[i]]
        texts = [valid.titles[i] for i in rows], [valid.descriptions[i] for i in rows]
        held_out = HeldOut.keep(*texts, model.blended(*texts)) if rows else None
        parts, _ = self.fitted(tuple(model.weights), both, _Listings([], [], []), steps)
        prior = _prior(both.truths(self.taxonomy), len(self.taxonomy))
        return TextClassifier(model.classes, parts, model.weights, model.confidence, prior, held_out)


@dataclass(frozen=True)
class _Listings:
    titles: list[str]
    descriptions: list[str]
    cells: list[Any]

    def __add__(self, other: _Listings) -> _Listings:
        """Return these listings and the others after them."""
        return _Listings(self.titles + other.titles, self.descriptions + other.descriptions, self.cells + other.cells)

    def truths(self, taxonomy: Taxonomy) -> list[list[int]]:
        return taxonomy.truths(self.cells)

    def known(self, taxonomy: Taxonomy) -> _Listings:
        """Return the listings with a category of the taxonomy."""
        keep = [i for i, right in enumerate(self.truths(taxonomy)) if right]
        return _Listings(*([column[i] for i in keep] for column in (self.titles, self.descriptions, self.cells)))


def _rows(listings: pd.DataFrame, split: str) -> _Listings:
    rows = listings[listings["split"] == split].sort_values("listing_id", kind="stable")
    descriptions = rows["description"].tolist() if "description" in rows else None
    titles, texts = _normal(rows["title"].tolist(), descriptions)
    return _Listings(titles, texts, rows["categories" if "categories" in rows else "category"].tolist())


def _bytes(listings: pd.DataFrame) -> bytes:
    columns = [name for name in ("listing_id", "title", "description", "category", "categories") if name in listings]
    ordered = listings[[*columns, "split"]].astype(str).sort_values("listing_id", kind="stable")
    return pd.util.hash_pandas_object(ordered, index=False).to_numpy().tobytes()


def _normal(titles: Sequence[str | None], descriptions: Sequence[str | None] | None) -> tuple[list[str], list[str]]:
    """Return titles and descriptions in normal form, "" for what is missing."""
    texts = [None] * len(titles) if descriptions is None else descriptions
    if len(texts) != len(titles):
        raise ValueError(f"{len(titles)} titles and {len(texts)} descriptions")
    return [_form(title) for title in titles], [_form(text) for text in texts]


def _form(text: Any) -> str:
    return normalise(text) if isinstance(text, str) else ""


def _prior(truths: Sequence[Sequence[int]], classes: int) -> np.ndarray:
    shares = np.zeros(classes)
    for right in truths:
        shares[list(right)] += 1 / len(right)
    return (shares / shares.sum()).astype(np.float32)


def _blended(scores: Mapping[str, np.ndarray], weights: Mapping[str, float]) -> np.ndarray:
    """Return the weighted sum of the parts' logarithms of probabilities."""
    return sum(np.float32(weights[name]) * calibration.log_softmax(scores[name]) for name in weights)  # ty: ignore


def _kept(
    parts: Mapping[str, Part], taxonomy: Taxonomy, valid: _Listings, prior: np.ndarray
) -> tuple[TextClassifier, dict[str, Any]]:
    """Return the classifier of the parts that validate best, and what was measured.

    The blend's weights are those with which the right classes are likeliest; it is kept where it names the right class
    first at least as often as the best part does.
    """
    truths = valid.truths(taxonomy)
    right = calibration.right_answers(truths)
    if not truths:
        why = f"kept: {LINEAR}. There are no validation listings to choose by"
        model = TextClassifier(taxonomy.classes, parts, {LINEAR: 1.0}, Confidence(), prior)
        return model, {"kept": LINEAR, "why": why}
    scores = {name: part.scores(valid.titles, valid.descriptions) for name, part in parts.items()}
    choices = {name: {name: 1.0} for name in parts}
    choices[BLEND] = _best_blend(scores, right)
    measured = {name: measures(_blended(scores, weights), right) for name, weights in choices.items()}
    kept = max(reversed(choices), key=lambda name: measured[name]["top1"])
    log_p = _blended(scores, choices[kept])
    confidence = Confidence.fit(log_p, right)
    p = confidence.apply(log_p)
    hit = (right == p.argmax(1)[:, None]).any(1)
    metrics: dict[str, Any] = {
        f"valid_{name}_{measure}": found[measure] for name, found in measured.items() for measure in ("top1", "top5")
    }
    metrics |= {f"valid_{measure}": measured[kept][measure] for measure in ("top1", "top5")}
    metrics |= {
        "valid_ece": calibration.expected_calibration_error(p.max(1), hit),
        "temperature": confidence.temperature,
    }
    metrics |= {f"weight_{name}": weight for name, weight in choices[kept].items()}
    told = ", ".join(f"{name} {found['top1']:.4f}" for name, found in measured.items())
    metrics |= {"kept": kept, "why": f"kept: {kept}. Top-1 on {len(truths)} validation listings: {told}"}
    return TextClassifier(taxonomy.classes, parts, choices[kept], confidence, prior), metrics


def _best_blend(scores: Mapping[str, np.ndarray], right: np.ndarray) -> dict[str, float]:
    """Return the weights of the parts, which sum to 1, with which the right classes are likeliest (a logarithmic
    opinion pool, Heskes 1998).
    """
    from scipy.optimize import minimize

    names = list(scores)
    log_p = np.stack([calibration.log_softmax(scores[name]) for name in names])
    known = right >= 0
    first = np.maximum(right, 0)

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        mixed = calibration.log_softmax(np.tensordot(weights.astype(np.float32), log_p, 1))
        likely = calibration.log_likelihood(mixed, right)
        among = np.where(known, np.exp(np.take_along_axis(mixed, first, 1) - likely[:, None]), 0.0)
        slopes = []
        for one in log_p:
            taken = (among * np.take_along_axis(one, first, 1)).sum(1)
            slopes.append(((np.exp(mixed) * one).sum(1) - taken).mean())
        return float(-likely.mean()), np.array(slopes, np.float64)

    start = np.full(len(names), 1 / len(names))
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=[(0.0, 3.0)] * len(names)).x
    shares = np.where(found / found.sum() < _LEAST_WEIGHT, 0.0, found) if found.sum() > 0 else start
    return {name: round(float(share), 4) for name, share in zip(names, shares / shares.sum(), strict=True) if share}


def _place(name: str, directory: Path) -> Path:
    """Return where a part's files are: the second network has a folder of its own."""
    return directory / PRETRAINED if name == PRETRAINED else directory


def _load_part(name: str, directory: Path, linear: Any) -> Part:
    if name == LINEAR:
        return NgramClassifier.load(directory)
    if name == NEIGHBOURS:
        return Neighbours.load(directory, linear)
    if name in (ENCODER, PRETRAINED):
        return encoding.EncoderPart.load(_place(name, directory))
    raise ValueError(f"unknown part {name!r} of a text classifier in {directory}")


def _told(words: Mapping[str, float]) -> str:
    loud = sorted(words.items(), key=lambda item: (-abs(item[1]), item[0]))
    told = [f"'{word}' {share:+.1f}" for word, share in loud[:_WORDS_TOLD] if abs(share) >= _TOLD_FROM]
    return ", ".join(told) or "no known words"
