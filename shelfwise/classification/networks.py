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
        1 description.
        """
        lengths = batch["lengths"]
        n, longest = len(lengths), max(1, int(lengths.max()))
        text = torch.repeat_interleave(torch.arange(n, device=lengths.device), lengths)
        first = torch.cumsum(lengths, 0) - lengths
        cell = text * longest + torch.arange(len(text), device=lengths.device) - first[text]
        x = self.grams(batch["grams"], batch["gram_starts"], per_sample_weights=batch["weights"].to(self._type()))
        x = x + self.front(batch["front"]) + self.back(batch["back"]) + self.field(batch["fields"])
        x = self.dropout(self.norm(x))
        real = torch.arange(longest, device=lengths.device) < lengths.clamp(min=1)[:, None]
        for layer in self.layers:
            x = layer(x, cell, real)
        spread = x.new_zeros(n * longest, x.shape[1]).index_copy(0, cell, x).view(n, longest, -1)
        attention = self.attention(spread).squeeze(-1).masked_fill(~real, -1e4).softmax(1)
        mean = (spread * attention[:, :, None]).sum(1)
        highest = spread.masked_fill(~real[:, :, None], -1e4).amax(1)
        pooled = self.dropout(self.pooled_norm(torch.cat([mean, highest], 1)))
        return self.out(self.dropout(F.gelu(self.hidden(pooled))))

    def _type(self) -> torch.dtype:
        return self.grams.weight.dtype


class _Layer(nn.Module):
    """A layer of a transformer, normalised before each half (Xiong et al. 2020)."""

    def __init__(self, size: int, heads: int, width: int, dropout: float):
        super().__init__()
        self.heads = heads
        self.projections, self.mixed = nn.Linear(size, 3 * size), nn.Linear(size, size)
        self.norms = nn.ModuleList([nn.LayerNorm(size), nn.LayerNorm(size)])
        self.wide, self.narrow = nn.Linear(size, width), nn.Linear(width, size)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: torch.Tensor, cell: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
        """Return the words [words, size] after they saw the others of their text; `cell` is a word's place in the
        padded table, of which `real` [n, longest] says what is no padding.
        """
        size, (n, longest) = x.shape[1], real.shape
        projected = self.projections(self.norms[0](x))
        table = projected.new_zeros(n * longest, 3 * size).index_copy(0, cell, projected)
        query, key, value = table.view(n, longest, 3, self.heads, size // self.heads).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=real[:, None, None, :])
        mixed = mixed.transpose(1, 2).reshape(n * longest, size)[cell]
        x = x + self.dropout(self.mixed(mixed))
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
