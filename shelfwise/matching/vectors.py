"""Embeddings as an index keeps them: eight bits a number, and a scale for each vector."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

BLOCK = 65_536  # vectors made smaller at a time, which bounds the memory


@dataclass(frozen=True)
class Vectors:
    """Vectors in a quarter of their memory: row i is `codes[i] * scale[i]`. Read as an array it is float32.

    A scale for each vector, not one for all: what a vector turns into does not depend on the others, so a catalog that
    changed need not be looked at again. Rounding moves a cosine of 256 numbers by less than 0.005.
    """

    codes: np.ndarray
    scale: np.ndarray

    @classmethod
    def of(cls, vectors: np.ndarray | Vectors) -> Vectors:
        """Round float vectors [n, dim]; the largest number of each becomes 127 or -127."""
        if isinstance(vectors, Vectors):
            return vectors
        codes, scale = np.empty(vectors.shape, np.int8), np.empty(len(vectors), np.float32)
        for start in range(0, len(vectors), BLOCK):
            part = np.asarray(vectors[start : start + BLOCK], np.float32)
            largest = np.abs(part).max(axis=1, initial=0.0) / 127
            scale[start : start + BLOCK] = largest
            codes[start : start + BLOCK] = np.rint(part / np.maximum(largest, 1e-12)[:, None])
        return cls(codes, scale)

    def taken(self, source: np.ndarray, new: np.ndarray) -> Vectors:
        """Return the vectors at `source`, and those of `new` in their order where `source` is -1."""
        added = Vectors.of(np.asarray(new, np.float32).reshape(-1, self.shape[1]))
        if not len(self):
            return added
        codes = np.empty((len(source), self.shape[1]), np.int8)
        np.take(self.codes, source, axis=0, out=codes, mode="clip")  # the first one for -1, and then what is new
        scale = np.take(self.scale, source, mode="clip")
        codes[source < 0], scale[source < 0] = added.codes, added.scale
        return Vectors(codes, scale)

    def scores(self, queries: np.ndarray, line: np.ndarray, row: np.ndarray) -> np.ndarray:
        """Return the dot product of query `line[i]` and vector `row[i]` for every i, float32."""
        from shelfwise.matching.kernels import dense_pair_scores

        return dense_pair_scores(queries, line, self.codes, self.scale, row)

    @property
    def shape(self) -> tuple[int, int]:
        return self.codes.shape[0], self.codes.shape[1]

    def __len__(self) -> int:
        return len(self.codes)

    def __getitem__(self, rows: Any) -> np.ndarray:
        return self.codes[rows].astype(np.float32) * self.scale[rows][..., None]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self[:] if dtype is None else self[:].astype(dtype, copy=False)
