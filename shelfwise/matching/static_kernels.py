"""The inner loop of a static embedding, compiled by numba: sums of word piece vectors, made unit vectors.

numpy would first copy one vector per piece of every title. Lets go of the interpreter lock. Compiled once per machine
(numba keeps the result beside this file). Importing this module imports numba (half a second): import it inside
functions.
"""

from __future__ import annotations

import numpy as np
from numba import njit  # noqa: TID253 - this module is itself imported inside functions


@njit(nogil=True, cache=True)
def unit_sums(words, word_ends, pieces, piece_ends, vectors, limit):  # pragma: no cover - compiled
    """Return float32 [n, dim]: for each title the sum of its pieces' vectors divided by its length.

    `words`: the titles' words one after another, `word_ends` [n] where each title ends; `pieces` and `piece_ends`: the
    same for the pieces of each word. Of a title the first `limit` pieces count. A title without pieces is all zeros.
    """
    n, dim = len(word_ends), vectors.shape[1]
    sums = np.zeros((n, dim), np.float32)
    begin = 0
    for row in range(n):
        total = sums[row]
        left = limit
        for at in range(begin, word_ends[row]):
            word = words[at]
            first = piece_ends[word - 1] if word else 0
            last = min(piece_ends[word], first + left)
            left -= last - first
            for place in range(first, last):
                vector = vectors[pieces[place]]
                for column in range(dim):
                    total[column] += vector[column]
        begin = word_ends[row]
        square = 0.0
        for column in range(dim):
            square += total[column] * total[column]
        if square > 0.0:
            scale = np.float32(1.0 / np.sqrt(square))
            for column in range(dim):
                total[column] *= scale
    return sums
