"""What each word of a listing did, told by leaving it out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

MOST = 48  # words of a listing that are left out one by one
_AT_ONCE = 4096  # texts whose scores are looked at together, so that memory does not grow with the listings

Field = list[str]
Scores = Callable[[Sequence[str], Sequence[str]], np.ndarray]


@dataclass(frozen=True)
class Variants:
    """Texts of listings, and what is left of them without each of their words: those of listing i from starts[i] to
    starts[i + 1], the whole text first, then without each of its first `MOST` words.
    """

    titles: list[str]
    descriptions: list[str]
    starts: np.ndarray

    def __len__(self) -> int:
        return len(self.starts) - 1

    def of_texts(self, of_listings: np.ndarray) -> np.ndarray:
        """Return for each text what belongs to its listing."""
        return np.repeat(of_listings, np.diff(self.starts))


LogP = Callable[[Variants, np.ndarray], np.ndarray]


def falls(
    log_p: LogP, titles: Sequence[str], descriptions: Sequence[str], chosen: np.ndarray
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return by how much the logarithm of the probability of `chosen` (int64 [n]) falls without each word of the title
    and of the description; zeros for words beyond the first `MOST` of a listing.

    `log_p` gives that logarithm for each text of variants, whose listings' classes it is told.
    """
    split = [(title.split(), text.split()) for title, text in zip(titles, descriptions, strict=True)]
    out = []
    for rows in _blocks([min(len(title) + len(text), MOST) + 1 for title, text in split]):
        variants = _variants(split[rows])
        found = log_p(variants, chosen[rows])
        for begin, end, (title, text) in zip(variants.starts[:-1], variants.starts[1:], split[rows], strict=True):
            fall = np.zeros(len(title) + len(text))
            fall[: end - begin - 1] = found[begin] - found[begin + 1 : end]
            out.append((fall[: len(title)], fall[len(title) :]))
    return out


def by_scores(scores: Scores) -> LogP:
    """Return what `falls` asks for, of scores of all classes: logarithms of probabilities but for a constant by row."""
    return partial(_by_scores, scores)


def _by_scores(scores: Scores, variants: Variants, chosen: np.ndarray) -> np.ndarray:
    # Listings that differ in one word leave the same text without it.
    places: dict[tuple[str, str], int] = {}
    texts = zip(variants.titles, variants.descriptions, strict=True)
    place = np.array([places.setdefault(text, len(places)) for text in texts], np.int64)
    found = scores([title for title, _ in places], [text for _, text in places])
    found -= found.max(1, keepdims=True)
    log_p = found[place, variants.of_texts(chosen)]
    return log_p - np.log(np.exp(found, out=found).sum(1))[place]


def _blocks(sizes: Sequence[int]) -> Iterator[slice]:
    """Yield which listings are looked at together, of so many texts each."""
    begin, texts = 0, 0
    for at, size in enumerate(sizes):
        if texts and texts + size > _AT_ONCE:
            yield slice(begin, at)
            begin, texts = at, 0
        texts += size
    if texts:
        yield slice(begin, len(sizes))


def _variants(split: Sequence[tuple[Field, Field]]) -> Variants:
    titles: list[str] = []
    descriptions: list[str] = []
    starts = [0]
    for title, text in split:
        whole = " ".join(title), " ".join(text)
        asked = [whole]
        asked += [(" ".join(title[:at] + title[at + 1 :]), whole[1]) for at in range(min(len(title), MOST))]
        left = min(len(text), MOST - min(len(title), MOST))
        asked += [(whole[0], " ".join(text[:at] + text[at + 1 :])) for at in range(left)]
        titles += [one for one, _ in asked]
        descriptions += [one for _, one in asked]
        starts.append(len(titles))
    return Variants(titles, descriptions, np.array(starts))
