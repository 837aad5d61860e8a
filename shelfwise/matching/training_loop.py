"""The torch side of training an encoder: what `shelfwise.matching.train` plugs into sentence-transformers' trainer.

This module is imported by the training process only, and only after the settings that the libraries read at import
time are in place, so it may import them at its head.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from itertools import accumulate, chain
from typing import Any

import numpy as np
import torch  # noqa: TID253
from sentence_transformers import (  # noqa: TID253
    SentenceTransformer,
    SentenceTransformerTrainer,
)
from sentence_transformers.base.evaluation import BaseEvaluator  # noqa: TID253
from sentence_transformers.base.sampler import DefaultBatchSampler  # noqa: TID253
from sentence_transformers.sentence_transformer.losses import (  # noqa: TID253
    MatryoshkaLoss,
    MultipleNegativesRankingLoss,
    OnlineContrastiveLoss,
)

from shelfwise.matching.encoder import encode_ids, pad
from shelfwise.matching.training_data import RetrievalTask, TrainingRows, augment
from shelfwise.matching.training_models import is_static
from shelfwise.training.loop import WholeCheckpoints


class DistinctProductSampler(DefaultBatchSampler):
    """Batches in which no title is both the right answer of one row and a wrong answer of another.

    The loss takes every other row's products as negatives. Vendors sell the same popular products, so random batches
    would hold many rows whose right answer stands among another row's negatives. A row that clashes waits for a later
    batch. Where waiting rows pile up, as in a catalog of fewer products than a batch has rows, the clash is accepted.

    Indices count through `passes` orders of the rows: index = pass * n_rows + row, each pass shuffled by its own seed.
    """

    def __init__(self, rows: TrainingRows, batch_size: int, passes: int, seed: int):
        indices: Any = range(len(rows) * passes)
        super().__init__(indices, batch_size=batch_size, drop_last=True, seed=seed)
        self._positives = rows.positives.tolist()
        self._negatives = rows.negatives.tolist()
        self._passes = passes
        self._rows = len(rows)

    def __len__(self) -> int:
        return self._rows * self._passes // self.batch_size

    def __iter__(self) -> Iterator[list[int]]:
        stream = self._stream()
        waiting: list[int] = []
        for _ in range(len(self)):
            batch, waiting = self._fill(waiting, stream)
            yield batch

    def _stream(self) -> Iterator[int]:
        for turn in range(self._passes):
            order = np.random.default_rng((self.seed, turn)).permutation(self._rows)
            yield from (turn * self._rows + order).tolist()

    def _fill(self, waiting: list[int], stream: Iterator[int]) -> tuple[list[int], list[int]]:
        batch: list[int] = []
        right: set[int] = set()
        wrong: set[int] = set()
        clashing: list[int] = []

        def take(index: int, whatever: bool = False) -> None:
            positive, negatives = self._positives[index % self._rows], self._negatives[index % self._rows]
            if whatever or not (positive in right or positive in wrong or not right.isdisjoint(negatives)):
                batch.append(index)
                right.add(positive)
                wrong.update(negatives)
            else:
                clashing.append(index)

        left = iter(waiting)
        for index in left:
            take(index)
            if len(batch) == self.batch_size:
                return batch, clashing + list(left)
        while len(batch) < self.batch_size:
            index = next(stream, None)
            if index is not None and len(clashing) < 4 * self.batch_size:
                take(index)
                continue
            if index is not None:
                clashing.append(index)
            take(clashing.pop(0), whatever=True)
        return batch, clashing


class Collator:
    """Turns row indices into the token ids of anchor, positive and negatives, as the model takes them.

    With `labelled` a batch is labelled pairs instead: anchor and product, 1 for its own and 0 for its negatives.
    Titles are tokenised once, before training; only anchors that augmentation has changed are tokenised on the way.
    What happens to an anchor depends on the seed and the index alone, so a resumed run sees the same text.
    """

    valid_label_columns = ("label",)

    def __init__(self, model: SentenceTransformer, rows: TrainingRows, share: float, seed: int, labelled: bool = False):
        self._rows, self._share, self._seed, self._labelled = rows, share, seed, labelled
        self._tokenise = lambda texts: token_ids(model, texts)
        self._features = feature_maker(model)
        self._titles = self._tokenise(rows.titles)
        self._lines = self._tokenise(rows.lines)

    def __call__(self, features: list[dict[str, int]]) -> dict[str, torch.Tensor]:
        indices = [feature["row"] for feature in features]
        rows = [index % len(self._rows) for index in indices]
        anchors = self._anchors(indices, rows)
        products = [self._rows.positives[rows], *self._rows.negatives[rows].T]
        columns = [[self._titles[i] for i in column] for column in products]
        batch: dict[str, torch.Tensor] = {}
        if self._labelled:
            batch["label"] = (torch.arange(len(columns)) == 0).long().repeat_interleave(len(rows))
            anchors, columns = anchors * len(columns), [list(chain.from_iterable(columns))]
        for name, ids in zip(
            ["anchor", "positive", *map("negative_{}".format, range(1, len(columns)))], [anchors, *columns], strict=True
        ):
            batch |= {f"{name}_{key}": value for key, value in self._features(ids).items()}
        return batch

    def _anchors(self, indices: list[int], rows: list[int]) -> list[list[int]]:
        anchors = [self._lines[row] for row in rows]
        if self._share <= 0:
            return anchors
        changed: dict[int, str] = {}
        for place, (index, row) in enumerate(zip(indices, rows, strict=True)):
            chance = random.Random(self._seed * 1_000_003 + index)
            if chance.random() < self._share:
                changed[place] = augment(self._rows.lines[row], chance)
        for place, ids in zip(changed, self._tokenise(list(changed.values())), strict=True):
            anchors[place] = ids
        return anchors


class RetrievalEvaluator(BaseEvaluator):
    """How often the right product of a validation line is found among all products of the validation split."""

    def __init__(self, task: RetrievalTask, batch_size: int = 256):
        super().__init__()
        self.primary_metric = "mrr"
        self._task, self._batch_size = task, batch_size
        self._ids: tuple[list[list[int]], list[list[int]]] | None = None

    def __call__(
        self, model: Any, output_path: str | None = None, epoch: int = -1, steps: int = -1
    ) -> dict[str, float]:
        """Return top1, top5 and mrr; a title that ties with the right one counts as ranked before it."""
        if self._ids is None:
            self._ids = (token_ids(model, self._task.lines), token_ids(model, self._task.titles))
        was_training = model.training
        model.eval()
        lines, titles = (self._encode(model, ids) for ids in self._ids)
        model.train(was_training)
        return retrieval_metrics(lines, titles, self._task.answers)

    def _encode(self, model: SentenceTransformer, ids: list[list[int]]) -> np.ndarray:
        dim, features = int(model.get_embedding_dimension() or 0), feature_maker(model)

        def forward(part: list[list[int]]) -> torch.Tensor:
            on_device = {name: tensor.to(model.device) for name, tensor in features(part).items()}
            return model(on_device)["sentence_embedding"].cpu()

        return encode_ids(forward, ids, dim, self._batch_size)


def retrieval_metrics(lines: np.ndarray, titles: np.ndarray, answers: np.ndarray) -> dict[str, float]:
    """Return top1, top5 and mrr of unit vectors of lines [n, d] against titles [m, d] with right answers [n]."""
    ranks = []
    for start in range(0, len(lines), 1024):
        scores = lines[start : start + 1024] @ titles.T
        right = scores[np.arange(len(scores)), answers[start : start + 1024]]
        ranks.append((scores >= right[:, None]).sum(1))
    rank = np.concatenate(ranks)
    return {
        "top1": float((rank <= 1).mean()),
        "top5": float((rank <= 5).mean()),
        "mrr": float((1.0 / rank).mean()),
    }


class Trainer(WholeCheckpoints, SentenceTransformerTrainer):  # ty: ignore[lost-keyword-for-regular-parameter]
    """The trainer without model cards, which name the machine and the time and would make equal trainings differ."""

    def add_model_card_callback(self, default_args_dict: dict[str, Any]) -> None:
        """Add none."""


def loss_of(model: SentenceTransformer, config: Any, gather: bool) -> torch.nn.Module:
    """Return the loss that a configuration names; `gather` takes the other devices' products as negatives too."""
    if config.loss == "contrastive":
        return OnlineContrastiveLoss(model)
    directions: Any = ("query_to_doc",) if config.loss == "ranking" else ("query_to_doc", "doc_to_query")
    ranking = MultipleNegativesRankingLoss(
        model,
        scale=config.scale,
        gather_across_devices=gather,
        directions=directions,
        partition_mode="per_direction",
    )
    if config.loss != "matryoshka":
        return ranking
    dim = int(model.get_embedding_dimension() or 0)
    return MatryoshkaLoss(model, ranking, [dim, dim // 2, dim // 4])


def token_ids(model: SentenceTransformer, texts: list[str]) -> list[list[int]]:
    """Return the token ids of texts as the model reads them, cut at the model's length, not padded."""
    if not texts:
        return []
    tokenizer: Any = model.tokenizer
    if is_static(model):
        return [encoding.ids for encoding in tokenizer.encode_batch_fast(texts, add_special_tokens=False)]
    return tokenizer(texts, truncation=True, max_length=model.max_seq_length)["input_ids"]


def feature_maker(model: SentenceTransformer) -> Callable[[list[list[int]]], dict[str, torch.Tensor]]:
    """Return what turns token ids into the model's input: one after another with offsets, or padded with a mask."""
    if is_static(model):
        return _flat
    pad_id: int = getattr(model.tokenizer, "pad_token_id", None) or 0

    def padded(ids: list[list[int]]) -> dict[str, torch.Tensor]:
        filled, lengths = pad(ids, pad_id)
        mask = (np.arange(filled.shape[1]) < lengths[:, None]).astype(np.int64)
        return {"input_ids": torch.from_numpy(filled), "attention_mask": torch.from_numpy(mask)}

    return padded


def _flat(ids: list[list[int]]) -> dict[str, torch.Tensor]:
    offsets = list(accumulate(map(len, ids[:-1]), initial=0))
    flat = np.fromiter(chain.from_iterable(ids), np.int64)
    return {"input_ids": torch.from_numpy(flat), "offsets": torch.tensor(offsets)}
