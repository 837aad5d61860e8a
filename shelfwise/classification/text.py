"""The text classifier: which categories a title and a description speak for, and which of their words did.

    model = TextClassifier.load(directory)
    p = model.probabilities(["Spiced rum 70cl"], None)      # float32 [1, len(model.classes)]
    model.explain(["Spiced rum 70cl"], None, p.argmax(1))   # ["'rum' +5.1, 'spiced' +2.0"]

Two parts read a listing: a linear model on n-grams (`ngrams`) and an encoder with a classification head (`encoding`).
Training keeps the one that is better on the validation listings, or their blend where that is better than both, and
says so in `metrics.json`. Either works without a title or without a description; a listing without a known word gets
the shares of the categories among the training listings.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
import pandas as pd

from shelfwise.artifacts import atomic_write_json
from shelfwise.classification import calibration
from shelfwise.classification.ngrams import NgramClassifier, NgramConfig
from shelfwise.classification.taxonomy import Taxonomy
from shelfwise.text import normalise
from shelfwise.training.process import Progress, Run, gpu_count, identity_of, leads
from shelfwise.training.settings import Settings

CODE_VERSION = "1"
ABOUT, CONFIG, METRICS = "text.json", "text_config.json", "metrics.json"
LINEAR, ENCODER, BLEND = "linear", "encoder", "blend"

_SHARES = tuple(round(0.1 * tenth, 1) for tenth in range(1, 10))
_WORDS_TOLD = 4
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


@dataclass(frozen=True)
class TextConfig(Settings):
    """What a text classifier is made of and how it is trained."""

    WHAT: ClassVar[str] = "text classifier"

    architecture: str = "auto"
    """The encoder: 'none' leaves it at the linear model."""
    base: str | None = None
    linear_epochs: int = 8
    linear_rate: float = 0.5
    linear_lost: float = 0.3
    seed: int = 7

    def linear(self) -> NgramConfig:
        """Return the settings of the linear model."""
        return NgramConfig(
            epochs=self.linear_epochs, learning_rate=self.linear_rate, lost=self.linear_lost, seed=self.seed
        )


class TextClassifier:
    """Calibrated probabilities of categories, from title and description."""

    def __init__(
        self,
        classes: Sequence[str],
        parts: Mapping[str, Part],
        weights: Mapping[str, float],
        temperature: float,
        prior: np.ndarray,
    ):
        """`weights`: the share of each part that takes part; `prior` [classes]: shares among the training listings."""
        self.classes = tuple(classes)
        self.parts, self.weights = dict(parts), dict(weights)
        self.temperature, self.prior = temperature, np.asarray(prior, np.float32)

    def probabilities(
        self, titles: Sequence[str | None], descriptions: Sequence[str | None] | None = None
    ) -> np.ndarray:
        """Return float32 [n, classes], rows sum to 1. None and "" are missing; `descriptions` None: all are."""
        titles, descriptions = _normal(titles, descriptions)
        return self._of_normal(titles, descriptions)

    def _of_normal(self, titles: list[str], descriptions: list[str]) -> np.ndarray:
        p = np.tile(self.prior, (len(titles), 1))
        rows = [i for i in range(len(titles)) if titles[i] or descriptions[i]]
        if rows:
            some = [titles[i] for i in rows], [descriptions[i] for i in rows]
            log_p = _blended({name: self.parts[name].scores(*some) for name in self.weights}, self.weights)
            p[rows] = calibration.apply(log_p, self.temperature)
        return p

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
        chosen = np.asarray(chosen, np.int64)
        told: list[dict[str, float]] = [{} for _ in titles]
        for name, weight in self.weights.items():
            shares = self.parts[name].shares(titles, descriptions, chosen)
            for words, title, description, fields in zip(told, titles, descriptions, shares, strict=True):
                for text, field in zip((title, description), fields, strict=True):
                    for word, share in zip(text.split(), field, strict=False):
                        words[word] = words.get(word, 0.0) + weight * float(share) / self.temperature
        return [_told(words) for words in told]

    def save(self, directory: Path) -> None:
        """Write the classifier to a directory that is there."""
        for name in self.weights:
            self.parts[name].save(directory)
        about = {"classes": self.classes, "weights": self.weights, "temperature": self.temperature}
        atomic_write_json(directory / ABOUT, {**about, "prior": [float(share) for share in self.prior]})

    @classmethod
    def load(cls, directory: Path | str) -> TextClassifier:
        """Read what `save` wrote. Raises FileNotFoundError where the directory holds no text classifier."""
        path = Path(directory)
        about = json.loads((path / ABOUT).read_text(encoding="utf-8"))
        parts: dict[str, Part] = {name: _load_part(name, path) for name in about["weights"]}
        return cls(about["classes"], parts, about["weights"], about["temperature"], about["prior"])


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
    run.stage("start")
    identity = fingerprint(listings, config)
    run.open(work_dir, identity)
    counts = f"{len(train.titles)} listings of {len(taxonomy)} categories, {len(valid.titles)} to validate"
    run.report({"event": "start", "message": f"text classifier: {counts}"})
    run.stage("prepare")

    parts: dict[str, Part] = {}
    truths = train.truths(taxonomy)
    linear = NgramClassifier.fit(train.titles, train.descriptions, truths, len(taxonomy), config.linear())
    parts[LINEAR] = linear
    model, metrics = _kept(parts, taxonomy, valid, _prior(truths, len(taxonomy)))
    metrics |= {"train_listings": len(train.titles), "valid_listings": len(valid.titles), "classes": len(taxonomy)}
    metrics["fingerprint"] = identity
    run.report({"event": "validation", "message": metrics["why"]})
    run.stage("train")

    def write(directory: Path) -> None:
        model.save(directory)
        (directory / CONFIG).write_text(config.to_json() + "\n")
        atomic_write_json(directory / METRICS, metrics)

    return run.finish(out_dir, write, metrics, [], {})


@dataclass(frozen=True)
class _Listings:
    titles: list[str]
    descriptions: list[str]
    cells: list[Any]

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
    """Return the classifier of the parts that validate best, and what was measured."""
    truths = valid.truths(taxonomy)
    right = calibration.right_answers(truths)
    choices: dict[str, dict[str, float]] = {name: {name: 1.0} for name in parts}
    if not truths:
        name = LINEAR
        why = f"kept: {name}. There are no validation listings to choose by"
        return TextClassifier(taxonomy.classes, parts, choices[name], 1.0, prior), {"kept": name, "why": why}
    scores = {name: part.scores(valid.titles, valid.descriptions) for name, part in parts.items()}
    metrics: dict[str, Any] = {}
    measured = {}
    for name, weights in choices.items():
        measured[name] = _measures(_blended(scores, weights), right)
        metrics |= {f"valid_{name}_{measure}": value for measure, value in measured[name].items()}
    kept = max(measured, key=lambda name: measured[name]["top1"])
    log_p = _blended(scores, choices[kept])
    temperature = calibration.fit_temperature(log_p, truths)
    p = calibration.apply(log_p, temperature)
    hit = (right == p.argmax(1)[:, None]).any(1)
    metrics |= {f"valid_{measure}": value for measure, value in measured[kept].items()}
    metrics |= {"valid_ece": calibration.expected_calibration_error(p.max(1), hit), "temperature": temperature}
    told = ", ".join(f"{name} {found['top1']:.4f}" for name, found in measured.items())
    metrics |= {"kept": kept, "why": f"kept: {kept}. Top-1 on {len(truths)} validation listings: {told}"}
    return TextClassifier(taxonomy.classes, parts, choices[kept], temperature, prior), metrics


def _measures(log_p: np.ndarray, right: np.ndarray) -> dict[str, float]:
    """Return top1 and top5 of scores [n, classes] with the right classes [n, most] (-1: none)."""
    depth = min(5, log_p.shape[1])
    first = np.argsort(-log_p, axis=1, kind="stable")[:, :depth]
    hits = (first[:, :, None] == right[:, None, :]).any(2)
    return {"top1": float(hits[:, 0].mean()), "top5": float(hits.any(1).mean())}


def _load_part(name: str, directory: Path) -> Part:
    if name == LINEAR:
        return NgramClassifier.load(directory)
    raise ValueError(f"unknown part {name!r} of a text classifier in {directory}")


def _told(words: Mapping[str, float]) -> str:
    loud = sorted(words.items(), key=lambda item: (-abs(item[1]), item[0]))
    told = [f"'{word}' {share:+.1f}" for word, share in loud[:_WORDS_TOLD] if abs(share) >= _TOLD_FROM]
    return ", ".join(told) or "no known words"
