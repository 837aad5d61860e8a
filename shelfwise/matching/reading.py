"""Reading a title: which words, quantities and numbers it holds, and which catalog words it may mean.

Lines are read word by word. The catalog's own names, whose words all have a column, are read as products of matrices:
what a word holds is looked up once for each word of the vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from shelfwise.matching.lexical import WordMatrix, distinct, split_words
from shelfwise.matching.quantities import DIMENSIONS, neighbours, quantities, values
from shelfwise.matching.spelling import Spelling, Tables


class _Rows:
    """Rows of a 0/1 matrix, collected text by text."""

    def __init__(self) -> None:
        self.columns: list[int] = []
        self.ends: list[int] = [0]

    def add(self, columns: Iterable[int]) -> None:
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

    def __init__(self, words: WordMatrix, n_titles: int, tables: Tables | None = None):
        """`words`: of all names, the `n_titles` catalog names first. `tables`: see `Spelling`."""
        self.vocabulary = words.vocabulary
        in_titles = np.zeros(len(words.vocabulary), bool)
        in_titles[words.tokens[: words.starts[n_titles]]] = True
        held = zip(words.vocabulary.items(), in_titles.tolist(), strict=True)
        title_vocabulary = {word: column for (word, column), inside in held if inside}
        _, left, right = words.neighbours(0, n_titles)
        self.spelling = Spelling(title_vocabulary, distinct((left << 32) | right), tables)
        with_digits = [word for word in title_vocabulary if _has_digit(word)]
        keys = sorted({key for word in with_digits for key in quantities(word)})
        self.quantity_column = {key: i for i, key in enumerate(keys)}
        self.quantity_dimension = np.array([dimension for dimension, _ in keys], dtype=np.int64)
        numbers = sorted({value for word in with_digits for value in values(word)})
        self.value_column = {value: i for i, value in enumerate(numbers)}
        self._known: dict[str, tuple] = {}

    def title_amounts(
        self, titles: sparse.csr_matrix
    ) -> tuple[sparse.csr_matrix, sparse.csr_matrix, np.ndarray, np.ndarray]:
        """Return (quantities, values, dimensions, n_values) of the catalog names as `read` gives them, without the
        neighbouring buckets. `titles`: their rows of words.
        """
        keys, numbers = _Rows(), _Rows()
        dimensions = np.zeros((len(self.vocabulary), len(DIMENSIONS)), np.float32)
        for word, column in self.vocabulary.items():
            if word not in self.spelling.words or not _has_digit(word):
                keys.add(())
                numbers.add(())
                continue
            held = quantities(word)
            keys.add({self.quantity_column[key] for key in held})
            numbers.add({self.value_column[value] for value in values(word)})
            dimensions[column, [dimension for dimension, _ in held]] = 1.0
        number_rows = _union(titles @ numbers.matrix(len(self.value_column)))
        return (
            _union(titles @ keys.matrix(len(self.quantity_column))),
            number_rows,
            (titles @ dimensions) > 0,
            np.diff(number_rows.indptr).astype(np.float32),
        )

    def explained(self, words: WordMatrix, start: int) -> sparse.csr_matrix:
        """Return `read(...).explained` of the names of `words` from position `start` on."""
        end, width = len(words.starts) - 1, len(self.vocabulary)
        rows = words.matrix[start:]
        used = np.zeros(width, bool)
        used[rows.indices] = True
        meant = _Rows()
        for (word, column), asked in zip(self.vocabulary.items(), used.tolist(), strict=True):
            in_title = word in self.spelling.words
            meant.add(() if not asked else (column,) if in_title else self.spelling.meanings(word))
        owner, left, right = words.neighbours(start, end)
        pairs, pair = np.unique((left << 32) | right, return_inverse=True)
        names = list(self.vocabulary)
        halves = zip((pairs >> 32).tolist(), (pairs & 0xFFFFFFFF).tolist(), strict=True)
        glued = np.array([self.spelling.glued(names[a], names[b]) for a, b in halves], np.int64)[pair]
        found = glued >= 0
        glues = sparse.csr_matrix(
            (np.ones(int(found.sum()), np.float32), (owner[found], glued[found])), shape=(end - start, width)
        )
        return _union(rows @ meant.matrix(width) + glues)

    def read(self, forms: Sequence[str], near: bool = True) -> Read:
        """Read normal forms. `near`: quantities also take the neighbouring buckets (lines do, titles do not)."""
        words, explained, amounts, numbers = _Rows(), _Rows(), _Rows(), _Rows()
        dimensions = np.zeros((len(forms), len(DIMENSIONS)), bool)
        unknown, unknown_digits, n_values = (np.zeros(len(forms), np.float32) for _ in range(3))
        for i, form in enumerate(forms):
            held, stood, amount, number = set(), set(), set(), set()
            different: set[float] = set()
            previous = ""
            for word in split_words(form):
                column, meanings, keys, dims, found, with_digit = self._word(word)
                if column >= 0:
                    held.add(column)
                else:
                    unknown[i] += 1
                    unknown_digits[i] += with_digit
                stood.update(meanings)
                amount.update(keys[near])
                if dims:
                    dimensions[i, list(dims)] = True
                if with_digit:
                    different.update(values(word))
                    number.update(found)
                if previous:
                    glued = self.spelling.glued(previous, word)
                    if glued >= 0:
                        stood.add(glued)
                previous = word
            n_values[i] = len(different)
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
        return column, meanings, columns, dims, numbers, _has_digit(word)


def _has_digit(word: str) -> bool:
    return any(char.isdigit() for char in word)


def _union(rows: sparse.csr_matrix) -> sparse.csr_matrix:
    """Return 0/1 rows of what sums of 0/1 rows hold."""
    rows = rows.tocsr()
    rows.data = np.ones_like(rows.data)
    rows.sort_indices()
    return rows
