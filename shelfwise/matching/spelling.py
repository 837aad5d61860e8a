"""Which catalog words a misspelt, shortened or glued word of a line may stand for.

Looked up in tables of the catalog's own words, no dictionary needed:
* the same consonants ("crft" for "craft"): vowels dropped, as point-of-sale systems abbreviate;
* one edit away (a letter lost, added, changed, or two swapped), through the deletions of both words (Garbe's SymSpell);
* the beginning of a word ("choc" for "chocolate"), for names cut by a field length;
* two neighbouring words written as one, and the other way round.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np

_VOWELS = str.maketrans("", "", "aeiouy")
MOST = 8  # a word that may stand for more words than this says nothing


def skeleton(word: str) -> str:
    """Return the first letter and the consonants after it, doubled letters once."""
    rest = word[1:].translate(_VOWELS)
    kept = word[:1]
    for char in rest:
        if char != kept[-1:]:
            kept += char
    return kept


def _deletions(word: str) -> set[str]:
    return {word[:i] + word[i + 1 :] for i in range(len(word))}


class Tables:
    """Words by their consonants, by what is left of them without a letter, and by their beginnings.

    Words are only ever added: an index and those that are updated from it share one object, and each passes over the
    words that its own titles do not hold.
    """

    def __init__(self) -> None:
        self.skeletons: dict[str, list[str]] = defaultdict(list)
        self.deleted: dict[str, list[str]] = defaultdict(list)
        self.prefixes: dict[str, list[str]] = defaultdict(list)
        self._words: set[str] = set()
        self._adding = threading.Lock()

    def add(self, words: Iterable[str]) -> None:
        """Enter the words that are not in the tables yet."""
        with self._adding:
            for word in words:
                if word in self._words:
                    continue
                self._words.add(word)
                if not word.isalpha():
                    continue
                if len(word) >= 4:
                    self.skeletons[skeleton(word)].append(word)
                    for shorter in _deletions(word):
                        self.deleted[shorter].append(word)
                for size in range(3, min(len(word), 8)):
                    self.prefixes[word[:size]].append(word)


def neighbour_codes(words: dict[str, int], titles: Iterable[Sequence[str]]) -> np.ndarray:
    """Return the sorted codes of the words that stand beside each other in a title, as `Spelling` takes them."""
    codes = {(words[a] << 32) | words[b] for title in titles for a, b in pairwise(title) if a in words and b in words}
    return np.array(sorted(codes), np.int64)


class Spelling:
    """Tables over the words of the catalog's titles. `meanings(word)` gives columns of the title vocabulary."""

    def __init__(self, words: dict[str, int], beside: np.ndarray, tables: Tables | None = None):
        """`words`: word to column. `beside`: int64, sorted: the left word's column times 2^32 plus the right one's, for
        words that are neighbours in a title (`neighbour_codes`). `tables`: those of an earlier catalog, to be shared.
        """
        self.words = words
        self.tables = tables or Tables()
        self.tables.add(words)
        self._beside = beside
        self._known: dict[str, tuple[int, ...]] = {}

    def meanings(self, word: str) -> tuple[int, ...]:
        """Return columns of title words this word may stand for; empty where none or too many."""
        found = self._known.get(word)
        if found is None:
            if len(self._known) > 500_000:
                self._known.clear()
            found = self._known[word] = self._look_up(word)
        return found

    def glued(self, left: str, right: str) -> int:
        """Return the column of the title word that these two make together, -1 where there is none."""
        return self.words.get(left + right, -1)

    def _look_up(self, word: str) -> tuple[int, ...]:
        found = self._pieces(word)
        if not found and word.isalpha() and len(word) >= 3:
            tables, bones = self.tables, skeleton(word)
            alike = [*tables.skeletons.get(bones, ())] if len(bones) >= 3 else []
            if len(word) >= 4:
                alike += tables.deleted.get(word, ())
            if len(word) >= 5:
                for shorter in _deletions(word):
                    alike.append(shorter)
                    alike += tables.deleted.get(shorter, ())
            found = self._columns(alike) or self._columns(tables.prefixes.get(word, ()))
        return tuple(sorted(found)) if len(found) <= MOST else ()

    def _columns(self, words: Iterable[str]) -> set[int]:
        return {self.words[word] for word in words if word in self.words}

    def _pieces(self, word: str) -> set[int]:
        """Return the columns of neighbours in a title that are written as one in this word."""
        found: set[int] = set()
        for cut in range(1, len(word)):
            left, right = self.words.get(word[:cut]), self.words.get(word[cut:])
            if left is not None and right is not None:
                code = (left << 32) | right
                at = int(np.searchsorted(self._beside, code))
                if at < len(self._beside) and self._beside[at] == code:
                    found |= {left, right}
        return found
