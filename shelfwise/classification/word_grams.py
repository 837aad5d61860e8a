"""Words and their n-grams by number: what the word network reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_SHORTEST, _LONGEST = 3, 5
_WORDS, _PARTS = 2, 4  # times that a word, or a part of one, has to occur to have a vector
_MOST = 256  # words of a field that are cut at all


@dataclass(frozen=True)
class WordIds:
    """Texts as words, and words as numbers of their grams.

    Grams of word w: grams[gram_starts[w]:gram_starts[w + 1]], int64. Words of text i: from starts[i] to starts[i + 1].
    By word: `fields` (0 title, 1 description) and its places in its field from either end, `front` and `back`, from 0.
    """

    grams: np.ndarray
    gram_starts: np.ndarray
    starts: np.ndarray
    fields: np.ndarray
    front: np.ndarray
    back: np.ndarray

    def __len__(self) -> int:
        return len(self.starts) - 1


class WordGrams:
    """The vocabulary of a word network: words that occur at least twice, parts of words four times."""

    def __init__(self, keys: np.ndarray):
        """`keys` uint64, ascending."""
        from shelfwise.classification import ngram_kernels

        self.keys = keys
        self._slots, self._numbers = ngram_kernels.table(keys)

    def __len__(self) -> int:
        return len(self.keys)

    @classmethod
    def fit(cls, texts: Sequence[str]) -> WordGrams:
        """Choose the vocabulary by texts in normal form."""
        hashes, is_part, _, _ = _pieces(texts)
        keys, first, counts = np.unique(hashes, return_index=True, return_counts=True)
        return cls(keys[counts >= np.where(is_part[first], _PARTS, _WORDS)])

    def read(self, titles: Sequence[str], descriptions: Sequence[str], most_words: int) -> WordIds:
        """Return texts in normal form as numbers, of each field the first `most_words` words."""
        fields = [self._field(texts, most_words) for texts in (titles, descriptions)]
        counts = [np.diff(starts) for _, _, starts in fields]
        starts = np.concatenate([[0], np.cumsum(counts[0] + counts[1])])
        places = [
            spans(begin, count) for begin, count in zip((starts[:-1], starts[:-1] + counts[0]), counts, strict=True)
        ]
        words = int(starts[-1])
        columns = [np.zeros(words, np.int64) for _ in range(4)]
        gram_counts, field, front, back = columns
        for number, (place, count, (_, gram_starts, _)) in enumerate(zip(places, counts, fields, strict=True)):
            gram_counts[place] = np.diff(gram_starts)
            field[place] = number
            front[place] = spans(np.zeros(len(count), np.int64), count)
            back[place] = np.repeat(count, count) - 1 - front[place]
        gram_starts = np.concatenate([[0], np.cumsum(gram_counts)])
        grams = np.zeros(int(gram_starts[-1]), np.int64)
        for place, (ids, _, _) in zip(places, fields, strict=True):
            grams[spans(gram_starts[place], gram_counts[place])] = ids
        return WordIds(grams, gram_starts, starts, field, front, back)

    def _field(self, texts: Sequence[str], most_words: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return (grams, gram_starts, starts) of one field."""
        from shelfwise.classification import ngram_kernels

        hashes, _, word, words = _pieces(texts, most_words)
        everything = np.array([0, len(hashes)])
        ids, origins, _ = ngram_kernels.found(hashes, everything, self._slots, self._numbers)
        counts = np.bincount(word[origins], minlength=int(words.sum()))
        starts = np.concatenate([[0], np.cumsum(words)])
        return ids.astype(np.int64), np.concatenate([[0], np.cumsum(counts)]), starts


def spans(starts: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return the ranges start, start + 1, ... of so many numbers each, one after another, int64."""
    ends = np.cumsum(counts)
    return np.arange(ends[-1] if len(ends) else 0) + np.repeat(starts - (ends - counts), counts)


def _pieces(texts: Sequence[str], most_words: int = _MOST) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return hashes of words and their parts, which are parts, the word each belongs to (counted through all texts),
    and the words of each text, all in the order of the texts.
    """
    from shelfwise.classification import ngram_kernels as kernels
    from shelfwise.classification.ngrams import codes_of

    hashes, kinds, first, _, starts = kernels.grams(*codes_of(texts), _SHORTEST, _LONGEST, 0, most_words, True)
    keep = kinds <= kernels.PART
    text = np.repeat(np.arange(len(texts)), np.diff(starts))[keep]
    words = np.bincount(text[kinds[keep] == kernels.WORD], minlength=len(texts))
    begin = np.cumsum(words) - words
    return hashes[keep], kinds[keep] == kernels.PART, begin[text] + first[keep], words
