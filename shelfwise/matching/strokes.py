"""How many keystrokes lead from a catalog title to a line, whatever the order of the words.

Somebody who writes a line from a title writes its words in any order, leaves some out, shortens others to their first
letters or their consonants, and now and then slips on the keyboard: a letter more, less or wrong, two swapped, a space
lost or gained. `Strokes.compare` finds the cheapest such story of a line and a title; a word that both hold costs
nothing. It is dear, so retrieval asks it about the best candidates only, chosen by cheaper scores, among them the
cosine of character pairs (`Strokes.cosines`): after two or three slips in a short line few trigrams are left, but most
pairs.

Characters are told apart as letters, digits, point and apostrophe; all others share 23 classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from shelfwise.matching.index import CatalogIndex

ALL, SLIPS, SPARE, SHORTENED, LOST, FOUND = range(6)  # columns of `Strokes.compare`
_APART = "abcdefghijklmnopqrstuvwxyz0123456789.'"
_VOWELS = str.maketrans("", "", "aeiou")
LEAST_LETTERS = 5  # of a word that is shortened to its consonants
_BREAKS = "/+&-"  # as `lexical.split_words` has it


def _classes() -> np.ndarray:
    """Return the class, 0 to 63, of each character below 65536: 0 for what parts words."""
    classes = (len(_APART) + 1 + np.arange(1 << 16) % (63 - len(_APART))).astype(np.uint8)
    for i, char in enumerate(_APART):
        classes[ord(char)] = i + 1
    classes[[ord(char) for char in " " + _BREAKS]] = 0
    return classes


_CLASSES = _classes()
BLOCK = 4096  # texts whose characters are read together


def coded(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return (ptr, classes): the characters of all texts one after another, text i from `ptr[i]` to `ptr[i + 1]`."""
    ptr = np.zeros(len(texts) + 1, np.int64)
    np.cumsum(np.fromiter(map(len, texts), np.int64, len(texts)), out=ptr[1:])
    classes = np.empty(ptr[-1], np.uint8)
    for start in range(0, len(texts), BLOCK):
        text = "".join(texts[start : start + BLOCK])
        if text.isascii():  # as most normal forms are: a quarter of the memory
            points = np.frombuffer(text.encode("ascii"), np.uint8)
        else:
            points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32) & 0xFFFF
        classes[ptr[start] : ptr[start] + len(points)] = _CLASSES[points]
    return ptr, classes


def consonants(word: str) -> str:
    """Return the first letter and the consonants after it, '' where that is no shorter way to write the word."""
    if len(word) < LEAST_LETTERS or not word.isalpha():
        return ""
    short = word[0] + word[1:].translate(_VOWELS)
    return short if 2 <= len(short) <= len(word) - 2 else ""


class Strokes:
    """What comparing with the titles of one index needs. Positions of products are those of the index."""

    def __init__(self, index: CatalogIndex):
        from shelfwise.matching.stroke_kernels import hashed, pair_lengths, pair_rarity

        n = len(index.products)
        vocabulary = sorted(index.words.vocabulary, key=index.words.vocabulary.__getitem__)
        self.words = index.title_words.starts, index.title_words.terms
        self.chars = coded(vocabulary)
        self.bones = coded([consonants(word) for word in vocabulary])
        self.names = hashed(*self.chars)
        self.rarity = index.words.idf
        self.titles = coded(index.title_forms)
        self.pair_rarity = pair_rarity(*self.titles, n)
        self.pair_lengths = pair_lengths(*self.titles, self.pair_rarity)

    @classmethod
    def of(cls, index: CatalogIndex) -> Strokes:
        """Return that of this index, made at first use."""
        if index.strokes is None:
            index.strokes = cls(index)
        return index.strokes

    def cosines(self, lines: tuple[np.ndarray, np.ndarray], line: np.ndarray, product: np.ndarray) -> np.ndarray:
        """Return, per (line, product), the cosine of pairs of neighbouring characters weighted by rarity, float32.

        `lines`: what `coded` gives for the normal forms. `line` ascends.
        """
        from shelfwise.matching.stroke_kernels import pair_cosines

        return pair_cosines(*lines, *self.titles, self.pair_lengths, self.pair_rarity, line, product)

    def compare(self, lines: tuple[np.ndarray, np.ndarray], line: np.ndarray, product: np.ndarray) -> np.ndarray:
        """Return, per (line, product), float32 [n, 6]: the columns `ALL` (keystrokes that lead from title to line:
        slips, spare letters and lost words count one each, a shortened word 0.4), `SLIPS`, `SPARE` (letters of the line
        that no word of the title explains), `SHORTENED` and `LOST` (words), `FOUND` (share of the title's words,
        weighted by rarity, that are not lost).

        `lines`: what `coded` gives for the normal forms. `line` ascends.
        """
        from shelfwise.matching.stroke_kernels import strokes

        parts = (*self.words, *self.chars, *self.bones, self.names, self.rarity)
        return strokes(*lines, line, product, *parts)
