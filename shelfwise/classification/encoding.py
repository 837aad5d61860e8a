"""The encoder of the text classifier: what it reads, how it is trained, and how it is used.

Two kinds: a word network made from scratch (`networks.WordNetwork`), the default, and any sentence encoder with a
classification head: the matching's own architectures, a Hugging Face id or a local path.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from shelfwise.classification import calibration
from shelfwise.classification.leaving_out import by_scores, falls
from shelfwise.classification.measures import measures
from shelfwise.classification.word_grams import WordGrams, WordIds, spans
from shelfwise.training.process import Progress, prepare_environment

if TYPE_CHECKING:
    import torch

    from shelfwise.classification.networks import Batch
    from shelfwise.classification.text import TextConfig
    from shelfwise.training.loop import Fit

WEIGHTS, KEYS, SHAPE, BASE = "encoder.safetensors", "encoder_keys.npy", "encoder.json", "encoder"
METRIC = "top1"
NAMES = ("top1", "top5", "likelihood")
LABELS = {"top1": "top-1", "top5": "top-5"}
HEAD_RATE = 1e-3  # of a head that is new, on an encoder that is not
_AT_ONCE = 512  # texts in one batch of use
_SOME = 32  # texts of one length that are worth a batch


class Reader(Protocol):
    """Turns texts in normal form into what a network reads."""

    def read(self, titles: Sequence[str], descriptions: Sequence[str]) -> Any:
        """Return the texts as numbers."""
        ...

    def batch(self, read: Any, rows: np.ndarray, chance: np.random.Generator | None) -> Batch:
        """Return a batch of some of them; with `chance`, as training wants them, some words and fields left out."""
        ...


class WordReader:
    """Reads words as sums of n-grams."""

    def __init__(
        self, vocabulary: WordGrams, most_words: int, lost: float = 0.0, lost_grams: float = 0.0, blind: float = 0.0
    ):
        """`lost`, `lost_grams`, `blind`: shares of words, of grams and of either field left out in training."""
        self.vocabulary, self.most_words = vocabulary, most_words
        self._lost, self._lost_grams, self._blind = lost, lost_grams, blind

    def read(self, titles: Sequence[str], descriptions: Sequence[str]) -> WordIds:
        return self.vocabulary.read(titles, descriptions, self.most_words)

    def batch(self, read: WordIds, rows: np.ndarray, chance: np.random.Generator | None) -> Batch:
        import torch

        counts = read.starts[rows + 1] - read.starts[rows]
        words = spans(read.starts[rows], counts)
        if chance is not None:
            text = np.repeat(np.arange(len(rows)), counts)
            keep = self._kept(read.fields[words], text, len(rows), chance)
            words, counts = words[keep], np.bincount(text[keep], minlength=len(rows))
        sizes = read.gram_starts[words + 1] - read.gram_starts[words]
        grams = read.grams[spans(read.gram_starts[words], sizes)]
        which = None
        if chance is None:
            places = _capped(read.front[words]), _capped(read.back[words]), read.fields[words]
            first, which = _distinct(grams, sizes, *places)
            words, sizes = words[first], sizes[first]
            grams = read.grams[spans(read.gram_starts[words], sizes)]
        elif self._lost_grams:
            keep = chance.random(len(grams)) >= self._lost_grams
            word = np.repeat(np.arange(len(words)), sizes)[keep]
            grams, sizes = grams[keep], np.bincount(word, minlength=len(words))
        columns = {
            "grams": grams,
            "gram_starts": np.cumsum(sizes) - sizes,
            "weights": np.repeat(1 / np.sqrt(np.maximum(sizes, 1)), sizes).astype(np.float32),
            "lengths": counts,
            "front": _capped(read.front[words]),
            "back": _capped(read.back[words]),
            "fields": read.fields[words],
        }
        if which is not None:
            columns["which"] = which
        return {name: torch.from_numpy(np.ascontiguousarray(column)) for name, column in columns.items()}

    def _kept(self, fields: np.ndarray, text: np.ndarray, n: int, chance: np.random.Generator) -> np.ndarray:
        """Return which words stay; a text keeps at least what it had where all its words would go."""
        keep = chance.random(len(text)) >= self._lost
        both = (np.bincount(text[fields == 0], minlength=n) > 0) & (np.bincount(text[fields == 1], minlength=n) > 0)
        draw = np.where(both, chance.random(n), 1.0)
        hidden = np.where(draw < self._blind, 0, np.where(draw < 2 * self._blind, 1, -1))
        keep &= fields != hidden[text]
        return keep | ~(np.bincount(text[keep], minlength=n) > 0)[text]


class EncoderReader:
    """Reads titles and descriptions, one after the other, as a sentence encoder's tokens."""

    def __init__(self, encoder: Any):
        self._encoder = encoder

    def read(self, titles: Sequence[str], descriptions: Sequence[str]) -> list[list[int]]:
        from shelfwise.matching.training_loop import token_ids

        return token_ids(
            self._encoder, [" ".join(filter(None, both)) for both in zip(titles, descriptions, strict=True)]
        )

    def batch(self, read: list[list[int]], rows: np.ndarray, chance: np.random.Generator | None) -> Batch:
        from shelfwise.matching.training_loop import feature_maker

        return feature_maker(self._encoder)([read[row] for row in rows])


class EncoderPart:
    """Networks that read listings alike and are asked together, as a part of the text classifier.

    The mean of a few networks that started differently is right more often than any of them, and surer where it may be
    (Lakshminarayanan et al. 2017).
    """

    def __init__(self, networks: Sequence[Any], reader: Reader, shape: dict[str, Any]):
        """`shape`: what `load` needs to know to make the networks again."""
        self.networks, self.reader, self.shape = list(networks), reader, shape

    def scores(self, titles: Sequence[str], descriptions: Sequence[str]) -> np.ndarray:
        """Return float32 [n, classes], logarithms of probabilities but for a constant by row."""
        read = self.reader.read(titles, descriptions)
        out = np.empty((len(titles), self.shape["classes"]), np.float32)
        for rows, found in self._asked(self.networks, read):
            out[rows] = sum(map(calibration.log_softmax, found)) / np.float32(len(found))
        return out

    def scores_of(self, network: Any, read: Any) -> np.ndarray:
        """Return the scores of one network for what the reader has read already."""
        out = np.empty((len(read), self.shape["classes"]), np.float32)
        for rows, (found,) in self._asked([network], read):
            out[rows] = found
        return out

    def _asked(self, networks: Sequence[Any], read: Any) -> Iterator[tuple[np.ndarray, list[np.ndarray]]]:
        """Yield rows of what was read, and the scores of each network for them."""
        import torch

        device = next(networks[0].parameters()).device
        for rows in _batches(_lengths(read)):
            batch = {name: column.to(device) for name, column in self.reader.batch(read, rows, None).items()}
            with torch.inference_mode():
                found = [network(batch).float().cpu().numpy() for network in networks]
            yield rows, found

    def shares(
        self, titles: Sequence[str], descriptions: Sequence[str], chosen: np.ndarray
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return by how much the logarithm of the probability of `chosen` falls without each word."""
        return falls(by_scores(self.scores), titles, descriptions, chosen)

    def save(self, directory: Path) -> None:
        """Write the networks to a directory."""
        from safetensors.torch import save_file

        directory.mkdir(parents=True, exist_ok=True)

        state = {
            f"{number}.{name}": tensor.contiguous().cpu()
            for number, network in enumerate(self.networks)
            for name, tensor in network.state_dict().items()
        }
        if isinstance(self.reader, WordReader):
            np.save(directory / KEYS, self.reader.vocabulary.keys)
        else:
            state = {name: tensor for name, tensor in state.items() if not name.startswith("0.encoder.")}
            self.networks[0].encoder.save_pretrained(str(directory / BASE), create_model_card=False)
        save_file(state, directory / WEIGHTS)
        shape = {**self.shape, "networks": len(self.networks)}
        (directory / SHAPE).write_text(json.dumps(shape, indent=2, sort_keys=True) + "\n")

    @classmethod
    def load(cls, directory: Path) -> EncoderPart:
        """Read what `save` wrote."""
        prepare_environment()
        from safetensors.torch import load_file

        from shelfwise.classification.networks import HeadedEncoder, WordNetwork

        shape = json.loads((directory / SHAPE).read_text())
        state = load_file(directory / WEIGHTS)
        reader: Reader
        if shape["kind"] == "words":
            vocabulary = WordGrams(np.load(directory / KEYS))
            made = [
                WordNetwork(len(vocabulary), shape["classes"], **shape["network"]) for _ in range(shape["networks"])
            ]
            networks: list[Any] = made
            reader = WordReader(vocabulary, shape["most_words"])
        else:
            from sentence_transformers import SentenceTransformer

            encoder = SentenceTransformer(str(directory / BASE), local_files_only=True, device="cpu")
            networks, reader = [HeadedEncoder(encoder, shape["classes"], 0.0)], EncoderReader(encoder)
            state |= {f"0.encoder.{name}": tensor for name, tensor in encoder.state_dict().items()}
        for number, network in enumerate(networks):
            own = f"{number}."
            network.load_state_dict({k.removeprefix(own): v for k, v in state.items() if k.startswith(own)})
            network.eval()
        return cls(networks, reader, shape)


def fit_encoder(
    titles: Sequence[str],
    descriptions: Sequence[str],
    labels: Sequence[Sequence[int]],
    valid: tuple[Sequence[str], Sequence[str], Any],
    classes: int,
    config: TextConfig,
    run_dir: Path,
    report: Progress,
    steps: Sequence[int] = (),
) -> tuple[EncoderPart, list[Fit]]:
    """Train an encoder on texts in normal form with their right classes, equally right each.

    `valid`: titles, descriptions and right classes (int64 [n, most], -1: none) that decide which step is kept; the last
    one without any. `steps`: how many each network takes, by default those of the configuration. Returns the part and
    how each of its networks was trained.
    """
    import torch

    from shelfwise.classification.networks import soft_loss
    from shelfwise.training.loop import fit_batches, halves_are_native

    torch.manual_seed(config.seed)
    if config.base and config.architecture == "bert" and config.precision == "auto" and halves_are_native():
        config = dataclasses.replace(config, precision="bf16")
    part = _untrained(titles, descriptions, classes, config, run_dir)
    read, valid_read = part.reader.read(titles, descriptions), part.reader.read(*valid[:2])
    fits = []
    for number, network in enumerate(part.networks):
        own = dataclasses.replace(
            config, seed=config.seed + number, max_steps=steps[number] if steps else config.max_steps
        )
        directory = run_dir / f"network-{number}"
        directory.mkdir(parents=True, exist_ok=True)

        def collate(indices: list[int], seed: int = own.seed) -> Batch:
            rows = np.asarray(indices) % len(labels)
            chance = np.random.default_rng((seed, indices[0], indices[-1]))
            targets = _targets([labels[row] for row in rows], classes)
            return {**part.reader.batch(read, rows, chance), "targets": targets}

        def loss(model: Any, batch: Batch) -> torch.Tensor:
            targets = batch.pop("targets")
            return soft_loss(model(batch), targets, config.smooth)

        def validate(model: Any = network) -> dict[str, float]:
            return measures(part.scores_of(model, valid_read), valid[2])

        if len(part.networks) > 1:
            report({"event": "network", "message": f"network {number + 1} of {len(part.networks)}"})
        fits.append(
            fit_batches(
                network,
                own,
                len(labels),
                directory,
                report,
                collate=collate,
                loss=loss,
                validate=validate if len(valid[0]) else None,
                names=NAMES,
                metric=METRIC,
                groups=_groups(network, config) if config.base else None,
                lengths=_lengths(read) if config.architecture == "bert" else None,  # the others do not pad
            )
        )
        network.to("cpu").eval()
    return part, fits


def _groups(network: Any, config: TextConfig) -> list[dict[str, Any]]:
    """Return the optimizer's groups: a head that starts at random learns faster than the encoder below it."""
    inner = {id(parameter) for parameter in network.encoder.parameters()}
    head = [parameter for parameter in network.parameters() if id(parameter) not in inner]
    rate = max(HEAD_RATE, config.learning_rate)
    return [{"params": list(network.encoder.parameters())}, {"params": head, "lr": rate}]


def _untrained(
    titles: Sequence[str], descriptions: Sequence[str], classes: int, config: TextConfig, run_dir: Path
) -> EncoderPart:
    from shelfwise.classification.networks import HeadedEncoder, WordNetwork

    if config.architecture == "words":
        vocabulary = WordGrams.fit([*titles, *filter(None, descriptions)])
        network: dict[str, Any] = {"size": config.hidden_size, "layers": config.layers, "heads": config.heads}
        network |= {"width": config.intermediate_size, "dropout": config.dropout}
        reader = WordReader(vocabulary, config.max_length, config.lost_words, config.lost_grams, config.blind)
        shape = {"kind": "words", "classes": classes, "network": network, "most_words": config.max_length}
        made = [WordNetwork(len(vocabulary), classes, **network) for _ in range(config.networks)]
        return EncoderPart(made, reader, shape)
    from shelfwise.matching.train import EncoderConfig
    from shelfwise.matching.training_data import TrainingRows
    from shelfwise.matching.training_models import build_model

    names = {field.name for field in dataclasses.fields(EncoderConfig)}
    shared = {name: value for name, value in config.to_dict().items() if name in names}
    none = np.zeros(0, np.int64)
    rows = TrainingRows(_one_text(titles, descriptions), [], none, none)
    encoder = build_model(EncoderConfig(**shared), rows, run_dir)
    headed = HeadedEncoder(encoder, classes, config.dropout)
    return EncoderPart([headed], EncoderReader(encoder), {"kind": "encoder", "classes": classes})


def _one_text(titles: Sequence[str], descriptions: Sequence[str]) -> list[str]:
    return [" ".join(filter(None, both)) for both in zip(titles, descriptions, strict=True)]


def _targets(labels: Sequence[Sequence[int]], classes: int) -> torch.Tensor:
    import torch

    targets = torch.zeros(len(labels), classes)
    for row, right in enumerate(labels):
        targets[row, list(right)] = 1 / len(right)
    return targets


def _lengths(read: Any) -> np.ndarray:
    return np.diff(read.starts) if isinstance(read, WordIds) else np.fromiter(map(len, read), np.int64, len(read))


def _batches(lengths: np.ndarray) -> list[np.ndarray]:
    """Return the rows of batches: texts of one length want no padding, so where there are some they are by themselves;
    the others stand by length.
    """
    alone = np.where(np.bincount(lengths)[lengths] >= _SOME, lengths, -1) if len(lengths) else lengths
    order = np.lexsort((lengths, alone))
    groups = np.split(order, np.flatnonzero(np.diff(alone[order])) + 1)
    return [rows[start : start + _AT_ONCE] for rows in groups for start in range(0, len(rows), _AT_ONCE)]


def _distinct(grams: np.ndarray, sizes: np.ndarray, *places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return which words are the first of their kind, and for each word which of these it is like: of the same grams,
    `sizes` of them by word one after another, and in the same places.
    """
    # A hash that does not depend on the order of the grams, as their sum does not.
    sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(_mixed(grams))])
    keys = np.diff(sums[np.concatenate([[0], np.cumsum(sizes)])])
    for column in places:
        keys = _mixed(keys ^ column.astype(np.uint64))
    _, first, which = np.unique(keys, return_index=True, return_inverse=True)
    return first, which


def _mixed(values: np.ndarray) -> np.ndarray:
    """Return hashes of integers, uint64, as splitmix64 ends (Steele et al. 2014)."""
    values = values.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _capped(places: np.ndarray) -> np.ndarray:
    from shelfwise.classification.networks import PLACES

    return np.minimum(places, PLACES - 1)
