"""What a text classifier said of its validation listings before it was fitted on them too.

Whoever combines classifiers, or proves a threshold, needs answers to listings they were not fitted on. A classifier
that was fitted again on everything has no such answers to give to these listings any more, so it keeps the old ones.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

FILE = "held_out.safetensors"


class HeldOut:
    """Logarithms of probabilities by text; listings that say the same have the same answer."""

    def __init__(self, keys: np.ndarray, log_p: np.ndarray):
        """`keys` uint64 [n], ascending, of texts; `log_p` float16 [n, classes], but for a constant by row."""
        self._keys, self._log_p = keys, log_p

    @classmethod
    def keep(cls, titles: Sequence[str], descriptions: Sequence[str], log_p: np.ndarray) -> HeldOut:
        """Keep the answers `log_p` [n, classes] to texts in normal form."""
        keys, first = np.unique(_keys(titles, descriptions), return_index=True)
        highest = log_p[first] - log_p[first].max(axis=1, keepdims=True)  # half precision is finest near 0
        return cls(keys, highest.astype(np.float16))

    def of(self, titles: Sequence[str], descriptions: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Return which of the texts are known, int64 [k], and the answers to them, float32 [k, classes]."""
        asked = _keys(titles, descriptions)
        place = np.minimum(np.searchsorted(self._keys, asked), len(self._keys) - 1)
        rows = np.flatnonzero(self._keys[place] == asked)
        return rows, self._log_p[place[rows]].astype(np.float32)

    def save(self, directory: Path) -> None:
        """Write the answers to a directory."""
        from safetensors.numpy import save_file

        save_file({"keys": self._keys, "log_p": self._log_p}, directory / FILE)

    @classmethod
    def load(cls, directory: Path) -> HeldOut | None:
        """Read what `save` wrote; None where nothing was kept."""
        from safetensors.numpy import load_file

        if not (directory / FILE).exists():
            return None
        arrays = load_file(directory / FILE)
        return cls(arrays["keys"], arrays["log_p"])


def _keys(titles: Sequence[str], descriptions: Sequence[str]) -> np.ndarray:
    texts = (
        f"{title}\n{text}".encode("utf-8", "surrogatepass") for title, text in zip(titles, descriptions, strict=True)
    )
    digests = b"".join(hashlib.blake2b(text, digest_size=8).digest() for text in texts)
    return np.frombuffer(digests, np.uint64)
