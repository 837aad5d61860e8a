"""What each word of a listing did, told by leaving it out."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

MOST = 48  # words of a listing that are left out one by one

Scores = Callable[[Sequence[str], Sequence[str]], np.ndarray]


def falls(
    scores: Scores, titles: Sequence[str], descriptions: Sequence[str], chosen: np.ndarray
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return by how much the logarithm of the probability of `chosen` (int64 [n]) falls without each word of the title
    and of the description; zeros for words beyond the first `MOST` of a listing.

    `scores` gives logarithms of probabilities but for a constant by row.
    """
    split = [(title.split(), text.split()) for title, text in zip(titles, descriptions, strict=True)]
    asked: list[tuple[str, str]] = [(" ".join(title), " ".join(text)) for title, text in split]
    places: list[tuple[int, int, int]] = []
    for i, words in enumerate(split):
        left = [(field, number) for field in (0, 1) for number in range(len(words[field]))][:MOST]
        for field, number in left:
            kept = [" ".join(words[0]), " ".join(words[1])]
            kept[field] = " ".join(words[field][:number] + words[field][number + 1 :])
            asked.append((kept[0], kept[1]))
            places.append((i, field, number))
    found = scores([title for title, _ in asked], [text for _, text in asked])
    log_p = found - np.logaddexp.reduce(found, axis=1, keepdims=True)
    out = [(np.zeros(len(title)), np.zeros(len(text))) for title, text in split]
    for at, (i, field, number) in enumerate(places, len(split)):
        out[i][field][number] = log_p[i, chosen[i]] - log_p[at, chosen[i]]
    return out
