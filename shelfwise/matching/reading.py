"""Reading a title: which words, quantities and numbers it holds, and which catalog words it may mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from shelfwise.matching.lexical import split_words
from shelfwise.matching.quantities import DIMENSIONS, neighbours, quantities, values
from shelfwise.matching.spelling import Spelling


class _Rows:
    """Rows of a 0/1 matrix, collected text by text."""

    def __init__(self) -> None:
        self.columns: list[int] = []
        self.ends: list[int] = [0]

    def add(self, columns: set[int]) -> None:
        self.columns.extend(sorted(columns))
        self.ends.append(len(self.columns))

    def matrix(self, width: int) -> sparse.csr_matrix:
        data = np.ones(len(self.columns), np.float32)
        columns, ends = np.array(self.columns, np.int32), np.array(self.ends, np.int32)
        return sparse.csr_matrix((data, columns, ends), shape=(len(self.ends) - 1, width))


@dataclass
class Read:
    """Texts as word features see them, one row each."""

    words: sparse.csr_matrix  # words of the index's vocabulary
    explained: sparse.csr_matrix  # title words held, or stood for by a misspelt, shortened, glued or split word
    quantities: sparse.csr_matrix  # quantity keys of titles
    values: sparse.csr_matrix  # numbers of titles
    dimensions: np.ndarray  # which dimensions hold a quantity
    unknown: np.ndarray  # words outside the vocabulary
    unknown_digits: np.ndarray  # those with digits
    n_values: np.ndarray  # numbers held


class Reader:
    """Reads texts into rows. What a word means is looked up once per word."""

    def __init__(self, vocabulary: dict[str, int], title_forms: Sequence[str]):
        """`vocabulary`: word to column, of all names. `title_forms`: normal forms of the catalog titles."""
        self.vocabulary = vocabulary
        title_words = [split_words(form) for form in title_forms]
        in_titles = {word for words in title_words for word in words}
        self.spelling = Spelling({word: i for word, i in vocabulary.items() if word in in_titles}, title_words)
        title_vocabulary = list(self.spelling.words)
        keys = sorted({key for word in title_vocabulary for key in quantities(word)})
        self.quantity_column = {key: i for i, key in enumerate(keys)}
        self.quantity_dimension = np.array([dimension for dimension, _ in keys], dtype=np.int64)
        numbers = sorted({value for word in title_vocabulary for value in values(word)})
        self.value_column = {value: i for i, value in enumerate(numbers)}
        self._known: dict[str, tuple] = {}

    def read(self, forms: Sequence[str], near: bool = True) -> Read:
        """Read normal forms. `near`: quantities also take the neighbouring buckets (lines do, titles do not)."""
        words, explained, amounts, numbers = _Rows(), _Rows(), _Rows(), _Rows()
        dimensions = np.zeros((len(forms), len(DIMENSIONS)), bool)
        unknown, unknown_digits, n_values = (np.zeros(len(forms), np.float32) for _ in range(3))
        for i, form in enumerate(forms):
            held, stood, amount, number = set(), set(), set(), set()
            distinct: set[float] = set()
            previous = ""
            for word in split_words(form):
                column, meanings, keys, dims, found, has_digit = self._word(word)
                if column >= 0:
                    held.add(column)
                else:
                    unknown[i] += 1
                    unknown_digits[i] += has_digit
                stood.update(meanings)
                amount.update(keys[near])
                if dims:
                    dimensions[i, list(dims)] = True
                if has_digit:
                    distinct.update(values(word))
                    number.update(found)
                if previous:
                    glued = self.spelling.glued(previous, word)
                    if glued >= 0:
                        stood.add(glued)
                previous = word
            n_values[i] = len(distinct)
            words.add(held)
            explained.add(stood)
            amounts.add(amount)
            numbers.add(number)
        width = len(self.vocabulary)
        return Read(
            words.matrix(width),
            explained.matrix(width),
            amounts.matrix(len(self.quantity_column)),
            numbers.matrix(len(self.value_column)),
            dimensions,
            unknown,
            unknown_digits,
            n_values,
        )

    def _word(self, word: str) -> tuple:
        info = self._known.get(word)
        if info is None:
            if len(self._known) > 500_000:
                self._known.clear()
            info = self._known[word] = self._look_up(word)
        return info

    def _look_up(self, word: str) -> tuple:
        column = self.vocabulary.get(word, -1)
        in_title = word in self.spelling.words
        meanings = (column,) if in_title else self.spelling.meanings(word)
        keys = quantities(word)
        place = self.quantity_column
        exact = tuple(place[key] for key in keys if key in place)
        columns = (exact, tuple(place[k] for key in keys for k in neighbours(key) if k in place))
        numbers = tuple(self.value_column[v] for v in values(word) if v in self.value_column)
        dims = tuple({dimension for dimension, _ in keys})
        return column, meanings, columns, dims, numbers, any(char.isdigit() for char in word)
