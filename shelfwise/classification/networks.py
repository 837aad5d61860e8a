"""The torch side of the text classifier: networks that score categories, from scratch or over any encoder.

Imported only where an encoder is trained or used, after `process.prepare_environment`, so it may import torch at its
head.
"""

from __future__ import annotations

from typing import Any

import torch  # noqa: TID253
from torch import nn  # noqa: TID253
from torch.nn import functional as F  # noqa: TID253

Batch = dict[str, torch.Tensor]

PLACES = 24
"""Places of words that are told apart, from the front and from the back; all further ones count as the last of them."""
SPREAD = 0.05  # of the first vectors


class WordNetwork(nn.Module):
    """Words as sums of the vectors of their n-grams (Bojanowski et al. 2017), read by a transformer.

    A word that was never seen is read by its parts, and a title has few words, so attention costs little. Words stand
    one after another, not padded, but where they attend to each other.
    """

    def __init__(self, grams: int, classes: int, size: int, layers: int, heads: int, width: int, dropout: float):
        super().__init__()
        self.grams = nn.EmbeddingBag(grams, size, mode="sum")
        self.front, self.back = nn.Embedding(PLACES, size), nn.Embedding(PLACES, size)
        self.field = nn.Embedding(2, size)
        for table in (self.grams, self.front, self.back, self.field):
            nn.init.normal_(table.weight, std=SPREAD)
        self.norm = nn.LayerNorm(size)
        self.layers = nn.ModuleList(_Layer(size, heads, width, dropout) for _ in range(layers))
        self.attention = nn.Linear(size, 1)
        self.pooled_norm = nn.LayerNorm(2 * size)
        self.dropout = nn.Dropout(dropout)
        self.hidden, self.out = nn.Linear(2 * size, 2 * size), nn.Linear(2 * size, classes)

    def forward(self, batch: Batch) -> torch.Tensor:
        """Return scores [n, classes].

        `grams`, `weights`: of all words one after another, `gram_starts` [words] where each word's begin; `lengths` [n]
        words of each text, `front` and `back` [words] their places in their field, `fields` [words] 0 title,
        1 description. With `which` the words are told once each, and these are the numbers of those in the texts.
        """
        places = _Places(batch["lengths"])
        x = self.grams(batch["grams"], batch["gram_starts"], per_sample_weights=batch["weights"].to(self._type()))
        x = x + self.front(batch["front"]) + self.back(batch["back"]) + self.field(batch["fields"])
        x = self.dropout(self.norm(x))
        which = batch.get("which")
        for layer in self.layers:
            x, which = layer(x, places, which), None
        spread = places.table(x)
        attention, highest = self.attention(spread).squeeze(-1), spread
        if places.real is not None:
            attention = attention.masked_fill(~places.real, -1e4)
            highest = highest.masked_fill(~places.real[:, :, None], -1e4)
        mean = (spread * attention.softmax(1)[:, :, None]).sum(1)
        pooled = self.dropout(self.pooled_norm(torch.cat([mean, highest.amax(1)], 1)))
        return self.out(self.dropout(F.gelu(self.hidden(pooled))))

    def _type(self) -> torch.dtype:
        return self.grams.weight.dtype


class _Places:
    """Where the words of texts, one after another, stand in a table [n, longest]; `real` [n, longest] says what of it
    is no padding, None where texts are equally long and nothing is.
    """

    def __init__(self, lengths: torch.Tensor):
        n, longest = len(lengths), max(1, int(lengths.max()))
        self.shape, self.real, self._cell = (n, longest), None, None
        places = torch.arange(longest, device=lengths.device)
        if int(lengths.min()) < longest:
            self._cell = torch.nonzero((places < lengths[:, None]).flatten()).squeeze(1)
            self.real = places < lengths.clamp(min=1)[:, None]

    def table(self, words: torch.Tensor) -> torch.Tensor:
        """Return the table [n, longest, size] of words [words, size], zeros where it is padded."""
        if self._cell is not None:
            n, longest = self.shape
            words = words.new_zeros(n * longest, words.shape[1]).index_copy(0, self._cell, words)
        return words.view(*self.shape, -1)

    def words(self, table: torch.Tensor) -> torch.Tensor:
        """Return the words [words, size] of a table."""
        words = table.flatten(0, 1)
        return words if self._cell is None else words[self._cell]


class _Layer(nn.Module):
    """A layer of a transformer, normalised before each half (Xiong et al. 2020)."""

    def __init__(self, size: int, heads: int, width: int, dropout: float):
        super().__init__()
        self.heads = heads
        self.projections, self.mixed = nn.Linear(size, 3 * size), nn.Linear(size, size)
        self.norms = nn.ModuleList([nn.LayerNorm(size), nn.LayerNorm(size)])
        self.wide, self.narrow = nn.Linear(size, width), nn.Linear(width, size)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: torch.Tensor, places: _Places, which: torch.Tensor | None) -> torch.Tensor:
        """Return the words [words, size] after they saw the others of their text; `which` as the network has it."""
        projected = self.projections(self.norms[0](x))
        if which is not None:
            x, projected = x.index_select(0, which), projected.index_select(0, which)
        table = places.table(projected).unflatten(2, (3, self.heads, -1))
        query, key, value = table.permute(2, 0, 3, 1, 4)
        if places.real is None:  # plain products: a third of the time that the fused kernel takes for short texts
            scale = query.shape[-1] ** -0.5
            mixed = ((query * scale) @ key.transpose(2, 3)).softmax(3) @ value
        else:
            mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=places.real[:, None, None, :])
        x = x + self.dropout(self.mixed(places.words(mixed.transpose(1, 2).flatten(2))))
        wide = self.dropout(F.gelu(self.wide(self.norms[1](x))))
        return x + self.dropout(self.narrow(wide))


class HeadedEncoder(nn.Module):
    """A sentence encoder with a classification head of one hidden layer."""

    def __init__(self, encoder: Any, classes: int, dropout: float):
        super().__init__()
        self.encoder = encoder
        size = int(encoder.get_embedding_dimension())
        self.scale = size**0.5  # vectors of length 1 would hardly move a layer
        self.hidden, self.out = nn.Linear(size, 2 * size), nn.Linear(2 * size, classes)
        self.dropout = nn.Dropout(dropout)

    def forward(self, batch: Batch) -> torch.Tensor:
        """Return scores [n, classes] for the encoder's own features."""
        vectors = self.encoder({**batch})["sentence_embedding"] * self.scale
        return self.out(self.dropout(F.gelu(self.hidden(self.dropout(vectors)))))


def soft_loss(scores: torch.Tensor, targets: torch.Tensor, smooth: float) -> torch.Tensor:
    """Return the mean cross entropy of scores [n, classes] against shares of right classes, `smooth` of them spread."""
    return F.cross_entropy(scores.float(), targets, label_smoothing=smooth)
