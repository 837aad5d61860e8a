"""Which catalog words a misspelt, shortened or glued word of a line may stand for.

Looked up in tables of the catalog's own words, no dictionary needed:
* the same consonants ("crft" for "craft"): vowels dropped, as point-of-sale systems abbreviate;
* one edit away (a letter lost, added, changed, or two swapped), through the deletions of both words (Garbe's SymSpell);
* the beginning of a word ("choc" for "chocolate"), for names cut by a field length;
* two neighbouring words written as one, and the other way round.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import pairwise

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


class Spelling:
    """Tables over the words of the catalog's titles. `meanings(word)` gives columns of the title vocabulary."""

    def __init__(self, words: dict[str, int], title_words: Iterable[Sequence[str]]):
        """`words`: word to column. `title_words`: the words of each title in order."""
        self.words = words
        self._skeletons: dict[str, list[int]] = defaultdict(list)
        self._deleted: dict[str, list[int]] = defaultdict(list)
        self._prefixes: dict[str, list[int]] = defaultdict(list)
        for word, column in words.items():
            if not word.isalpha():
                continue
            if len(word) >= 4:
                self._skeletons[skeleton(word)].append(column)
                for shorter in _deletions(word):
                    self._deleted[shorter].append(column)
            for size in range(3, min(len(word), 8)):
                self._prefixes[word[:size]].append(column)
        self._glued: dict[str, set[int]] = defaultdict(set)
        for title in title_words:
            for left, right in pairwise(title):
                if left in words and right in words:
                    self._glued[left + right].update((words[left], words[right]))
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
        glued = self._glued.get(word)
        if glued:
            return tuple(sorted(glued)) if len(glued) <= MOST else ()
        if not word.isalpha() or len(word) < 2:
            return ()
        found: set[int] = set()
        if len(word) >= 3:
            found.update(self._skeletons.get(skeleton(word), ()) if len(skeleton(word)) >= 3 else ())
            if len(word) >= 4:
                found.update(self._deleted.get(word, ()))
                for shorter in _deletions(word):
                    column = self.words.get(shorter)
                    if column is not None and len(shorter) >= 4:
                        found.add(column)
                    if len(shorter) >= 4:
                        found.update(self._deleted.get(shorter, ()))
            if not found:
                found.update(self._prefixes.get(word, ()))
        return tuple(sorted(found)) if len(found) <= MOST else ()
