"""Character n-grams and words, weighted by rarity: the lexical half of matching.

Both vectorizers are fitted once, in training, and saved as arrays and JSON. Everything is vectorised over the code
points of many titles at once: 100,000 titles take a few seconds.

A term that was not seen in fitting has no column, but it still counts in the length of its vector, with the weight of
the rarest term: a line full of unknown words is less similar to everything, which is what it should be.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from scipy import sparse

from shelfwise.text import normalise

MAX_CHARS = 400  # of a title, as far as comparing goes: a title of a million characters costs no more than this
BLOCK = 16_384  # texts whose n-grams are worked on at a time, which bounds the memory
_SEPARATOR = 0x1F  # cannot occur in a normal form: control characters are removed there


def comparable(titles: Sequence[str]) -> list[str]:
    """Return normal forms, cut at `MAX_CHARS` so that one absurd title cannot stall a batch."""
    return [normalise(title[: 4 * MAX_CHARS] if title else "")[:MAX_CHARS] for title in titles]


@dataclass(frozen=True)
class LexicalConfig:
    """What counts as a term.

    `sizes`: lengths of character n-grams (at most 4). `across_words`: n-grams also span the space between words, and
    the title without any space contributes too, so that "nrk 6202 mx" and "nrk6202mx" meet.
    """

    sizes: tuple[int, ...] = (3,)
    across_words: bool = False


@dataclass(frozen=True)
class UnitRows:
    """Which terms each text holds, weighted by rarity, at unit length.

    Text i holds `terms[starts[i]:starts[i + 1]]`, ascending; its weight of a term is `weight[term] * scale[i]`, which
    takes half the memory of a weight for each entry, and half the reading. `weight` is float32 [number of terms].
    """

    starts: np.ndarray
    terms: np.ndarray
    scale: np.ndarray
    weight: np.ndarray

    @classmethod
    def of(cls, matrix: sparse.csr_matrix, weight: np.ndarray) -> UnitRows:
        """Weight 0/1 rows and scale them to unit length."""
        starts, terms = matrix.indptr, matrix.indices.astype(np.int32, copy=False).view(np.uint32)
        owner = np.repeat(np.arange(matrix.shape[0]), np.diff(starts))
        length = np.sqrt(np.bincount(owner, weight[terms].astype(np.float64) ** 2, minlength=matrix.shape[0]))
        return cls(starts, terms, (1 / np.maximum(length, 1e-9)).astype(np.float32), weight)

    @classmethod
    def joined(cls, parts: Sequence[UnitRows]) -> UnitRows:
        """Return rows of equal terms below each other; at least one part."""
        if len(parts) == 1:
            return parts[0]
        ends = np.cumsum([0, *(len(part.terms) for part in parts)])
        starts = [part.starts[:-1] + end for part, end in zip(parts, ends[:-1], strict=True)]
        return cls(
            np.concatenate([*starts, ends[-1:]]).astype(parts[0].starts.dtype),
            np.concatenate([part.terms for part in parts]),
            np.concatenate([part.scale for part in parts]),
            parts[0].weight,
        )

    def __len__(self) -> int:
        return len(self.scale)

    def matrix(self) -> sparse.csr_matrix:
        """Return the rows with their weights."""
        data = self.weight[self.terms] * np.repeat(self.scale, np.diff(self.starts))
        return sparse.csr_matrix((data, self.terms.view(np.int32), self.starts), shape=(len(self), len(self.weight)))

    def updated(self, source: np.ndarray, new: UnitRows) -> UnitRows:
        """Return the rows at `source`, and those of `new` (of equal terms) in their order where `source` is -1."""
        from shelfwise.matching.kernels import spliced

        starts, terms = spliced(self.starts, self.terms, new.starts, new.terms, source)
        scale = np.concatenate([self.scale, new.scale])[joined_rows(source, len(self))]
        return UnitRows(starts, terms, scale, self.weight)

    def inverted(self) -> tuple[np.ndarray, np.ndarray]:
        """Return (starts, texts): for each term the texts that hold it, ascending."""
        from shelfwise.matching.kernels import invert

        return invert(self.starts, self.terms, len(self.weight))

    def dots(self, queries: sparse.csr_matrix, line: np.ndarray, row: np.ndarray) -> np.ndarray:
        """Return the dot product of `queries[line[i]]` and text `row[i]` for every i, float32. `line` ascends."""
        from shelfwise.matching.kernels import unit_scores

        return unit_scores(*csr(queries), *self.parts, line, row)

    def propose(
        self,
        queries: sparse.csr_matrix,
        inverted: tuple[np.ndarray, np.ndarray],
        n_first: int,
        depths: tuple[int, int],
        postings: int,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return (line, text), the texts most like each query, as far as `postings` entries of `inverted` tell.

        `inverted`: what `inverted` returns. `depths`: how many of the texts below `n_first`, and of the rest. Lines
        ascending, texts unordered.
        """
        from shelfwise.matching.kernels import propose

        return propose(*csr(queries), *inverted, self.weight, self.scale, n_first, *depths, postings)

    @property
    def parts(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """As the kernels take it."""
        return self.starts, self.terms, self.weight, self.scale


class NgramVectorizer:
    """TF-IDF over character n-grams: binary term counts, smooth inverse document frequency, unit length."""

    def __init__(self, config: LexicalConfig | None = None):
        self.config = config or LexicalConfig()
        self.terms = np.empty(0, np.uint64)  # sorted
        self.idf = np.empty(0, np.float32)
        self.unknown_idf = np.float32(1.0)

    def fit(self, normal_forms: Sequence[str]) -> NgramVectorizer:
        """Learn the terms and their rarity from normal forms (see `comparable`)."""
        documents, codes = self._occurrences(normal_forms)
        self.terms = distinct(codes)
        columns = np.searchsorted(self.terms, codes)
        pairs = distinct(documents.astype(np.int64) * max(len(self.terms), 1) + columns)
        frequency = np.bincount(pairs % max(len(self.terms), 1), minlength=len(self.terms))
        n = max(len(normal_forms), 1)
        self.idf = (np.log((1 + n) / (1 + frequency)) + 1).astype(np.float32)
        self.unknown_idf = np.float32(np.log(1 + n) + 1)
        return self

    def transform(self, normal_forms: Sequence[str]) -> sparse.csr_matrix:
        """Return float32 rows of unit length, one per normal form; shape [n, number of terms]."""
        return self.rows(normal_forms).matrix()

    def rows(self, normal_forms: Sequence[str]) -> UnitRows:
        """Return the same rows without a weight per entry."""
        parts = []
        for start in range(0, max(len(normal_forms), 1), BLOCK):
            part = normal_forms[start : start + BLOCK]
            documents, codes = self._occurrences(part)
            parts.append(_unit_rows(len(part), documents, codes, self.terms, self.idf, self.unknown_idf))
        return UnitRows.joined(parts)

    def _occurrences(self, normal_forms: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Return (document, n-gram code) of every n-gram occurrence."""
        documents: list[np.ndarray] = []
        codes: list[np.ndarray] = []
        padded = [f" {form} " for form in normal_forms]
        views = [padded]
        if self.config.across_words:
            views.append([form.replace(" ", "") for form in normal_forms])
        for view in views:
            chars, owner = _code_points(view)
            for size in self.config.sizes:
                code, position = _ngram_codes(chars, size)
                documents.append(owner[position])
                codes.append(code)
        return np.concatenate(documents), np.concatenate(codes)

    def save(self, directory: Path) -> None:
        """Write config and arrays."""
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "ngrams.json").write_text(json.dumps(asdict(self.config)))
        np.savez(directory / "ngrams.npz", terms=self.terms, idf=self.idf, unknown_idf=np.array(self.unknown_idf))

    @classmethod
    def load(cls, directory: Path) -> NgramVectorizer:
        """Read what `save` wrote."""
        raw = json.loads((directory / "ngrams.json").read_text())
        made = cls(LexicalConfig(sizes=tuple(raw["sizes"]), across_words=raw["across_words"]))
        with np.load(directory / "ngrams.npz", allow_pickle=False) as arrays:
            made.terms, made.idf = arrays["terms"], arrays["idf"]
            made.unknown_idf = np.float32(arrays["unknown_idf"])
        return made


_WORD_BREAKS = str.maketrans("/+&-", "    ")


def split_words(form: str) -> list[str]:
    """Words of a normal form; codes joined by a slash or hyphen count as separate words."""
    return form.translate(_WORD_BREAKS).split()


class WordVectorizer:
    """How rare each word is. A word is a run of the normal form without spaces, slashes, hyphens, plus and &."""

    def __init__(self) -> None:
        self.vocabulary: dict[str, int] = {}
        self.idf = np.empty(0, np.float32)
        self.unknown_idf = np.float32(1.0)

    def fit(self, normal_forms: Sequence[str]) -> WordVectorizer:
        """Learn words and their rarity."""
        counts: dict[str, int] = {}
        for form in normal_forms:
            for word in set(split_words(form)):
                counts[word] = counts.get(word, 0) + 1
        words = sorted(counts)
        self.vocabulary = {word: position for position, word in enumerate(words)}
        n = max(len(normal_forms), 1)
        frequency = np.array([counts[word] for word in words], dtype=np.float64)
        self.idf = (np.log((1 + n) / (1 + frequency)) + 1).astype(np.float32)
        self.unknown_idf = np.float32(np.log(1 + n) + 1)
        return self

    def save(self, directory: Path) -> None:
        """Write words and weights."""
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "words.json").write_text(json.dumps(list(self.vocabulary), ensure_ascii=False))
        np.savez(directory / "words.npz", idf=self.idf, unknown_idf=np.array(self.unknown_idf))

    @classmethod
    def load(cls, directory: Path) -> WordVectorizer:
        """Read what `save` wrote."""
        made = cls()
        words = json.loads((directory / "words.json").read_text())
        made.vocabulary = {word: position for position, word in enumerate(words)}
        with np.load(directory / "words.npz", allow_pickle=False) as arrays:
            made.idf = arrays["idf"]
            made.unknown_idf = np.float32(arrays["unknown_idf"])
        return made


class WordMatrix:
    """Which words each text holds: 0/1 float32 rows over a vocabulary, with each word's weight.

    The index owns the vocabulary (all words of its names), so a product added after training brings its words along;
    the weights come from the fitted `WordVectorizer`, unknown words weigh as the rarest. `tokens` are the columns of
    each text's words in their order, those of text i at `starts[i]` to `starts[i + 1]`.
    """

    def __init__(self, vocabulary: dict[str, int], idf: np.ndarray, unknown_idf: np.float32):
        self.vocabulary = vocabulary
        self.idf = idf
        self.unknown_idf = unknown_idf
        self.matrix = sparse.csr_matrix((0, len(vocabulary)), dtype=np.float32)
        self.starts, self.tokens = np.zeros(1, np.int32), np.empty(0, np.int32)

    @classmethod
    def build(cls, forms: Sequence[str], weights: WordVectorizer) -> WordMatrix:
        """Build over the words of `forms`, whose rows become `matrix`."""
        ids: dict[str, int] = {}
        starts, tokens = _tokens(forms, ids)
        return cls._of(list(ids), starts, tokens, weights)

    def updated(self, source: np.ndarray, forms: Sequence[str], weights: WordVectorizer) -> WordMatrix:
        """Return what `build` gives for other texts, most of which are among the texts of this one.

        `source`: for each text its row here, -1 for those that `forms` hold, in their order.
        """
        ids = dict(self.vocabulary)
        fresh_starts, fresh_tokens = _tokens(forms, ids)
        starts = np.concatenate([self.starts, self.starts[-1] + fresh_starts[1:]])
        tokens = np.concatenate([self.tokens, fresh_tokens])
        return WordMatrix._of(
            list(ids), *take_ragged(starts, tokens, joined_rows(source, len(self.starts) - 1)), weights
        )

    @classmethod
    def _of(cls, words: list[str], starts: np.ndarray, tokens: np.ndarray, weights: WordVectorizer) -> WordMatrix:
        """Build from tokens that are positions in `words`, which may hold words that no text has."""
        used = np.flatnonzero(np.bincount(tokens, minlength=len(words))).tolist()
        order = sorted(used, key=words.__getitem__)
        place = np.full(len(words), -1, np.int32)
        place[order] = np.arange(len(order), dtype=np.int32)
        kept, known, unknown = [words[i] for i in order], weights.vocabulary.get, len(weights.idf)
        idf = np.append(weights.idf, weights.unknown_idf)[[known(word, unknown) for word in kept]]
        made = cls({word: i for i, word in enumerate(kept)}, idf.astype(np.float32), weights.unknown_idf)
        made.starts, made.tokens = starts, place[tokens]
        data, shape = np.ones(len(tokens), np.float32), (len(starts) - 1, len(kept))
        made.matrix = sparse.csr_matrix((data, made.tokens.copy(), starts.copy()), shape=shape)
        made.matrix.sum_duplicates()
        made.matrix.data[:] = 1.0
        return made

    def neighbours(self, start: int, end: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return (text, left, right) of any two words beside each other in the texts from `start` to `end`; the text
        counts from `start`, the words are columns.
        """
        first, last = self.starts[start], self.starts[end]
        owner = np.repeat(np.arange(end - start), np.diff(self.starts[start : end + 1]))
        tokens = self.tokens[first:last].astype(np.int64)
        same = np.flatnonzero(owner[1:] == owner[:-1])
        return owner[same], tokens[same], tokens[same + 1]

    def rows(self, forms: Sequence[str]) -> tuple[sparse.csr_matrix, np.ndarray]:
        """Return 0/1 rows of the forms, and per form the number of words the vocabulary lacks."""
        lookup = self.vocabulary.get
        columns: list[int] = []
        lengths = np.zeros(len(forms) + 1, np.int64)
        unknown = np.zeros(len(forms), np.float32)
        for i, form in enumerate(forms):
            found = {lookup(word, -1) for word in split_words(form)}
            if -1 in found:
                found.discard(-1)
                unknown[i] = sum(word not in self.vocabulary for word in set(split_words(form)))
            columns.extend(sorted(found))
            lengths[i + 1] = len(columns)
        data = np.ones(len(columns), np.float32)
        shape = (len(forms), len(self.vocabulary))
        return sparse.csr_matrix((data, np.array(columns, np.int32), lengths.astype(np.int32)), shape=shape), unknown


def _tokens(texts: Sequence[str], ids: dict[str, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return (starts, tokens) of normal forms; words that `ids` lacks are added to it."""
    starts, tokens = np.zeros(len(texts) + 1, np.int32), array("i")
    for i, text in enumerate(texts):
        tokens.extend([ids.setdefault(word, len(ids)) for word in split_words(text)])
        starts[i + 1] = len(tokens)
    return starts, np.array(tokens, np.int32)


def joined_rows(source: np.ndarray, n: int) -> np.ndarray:
    """Return rows to take where what is new stands below `n` earlier rows. `source`: the earlier row, -1 for new."""
    rows = source.copy()
    new = np.flatnonzero(source < 0)
    rows[new] = n + np.arange(len(new))
    return rows


def take_ragged(starts: np.ndarray, values: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (starts, values) of these rows; row i holds `values[starts[i]:starts[i + 1]]`."""
    lengths = np.diff(starts)[rows]
    ends = np.concatenate([[0], np.cumsum(lengths)]).astype(starts.dtype)
    taken = np.repeat(starts[rows] - ends[:-1], lengths) + np.arange(ends[-1])
    return ends, values[taken]


class Lexical:
    """Both vectorizers, fitted on the same names."""

    def __init__(self, ngrams: NgramVectorizer, words: WordVectorizer):
        self.ngrams = ngrams
        self.words = words

    @classmethod
    def fit(cls, names: Sequence[str], config: LexicalConfig | None = None) -> Lexical:
        """Fit on names as written; they are normalised here."""
        forms = comparable(names)
        return cls(NgramVectorizer(config).fit(forms), WordVectorizer().fit(forms))

    def save(self, directory: Path) -> None:
        """Write both."""
        self.ngrams.save(directory)
        self.words.save(directory)

    @classmethod
    def load(cls, directory: Path) -> Lexical:
        """Read both."""
        return cls(NgramVectorizer.load(directory), WordVectorizer.load(directory))


def top_products(
    queries: sparse.csr_matrix, names_transposed: sparse.csr_matrix, n: int, threads: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (row, column, value) of the n largest products of each query row, in descending order per row.

    sparse_dot_topn computes row by row and keeps n values only, so memory does not grow with the catalog.
    """
    from sparse_dot_topn import sp_matmul_topn

    if queries.shape[0] == 0 or names_transposed.shape[1] == 0:
        empty = np.empty(0, np.int64)
        return empty, empty, np.empty(0, np.float32)
    top = sp_matmul_topn(queries, names_transposed, top_n=n, sort=True, n_threads=max(threads, 1))
    rows = np.repeat(np.arange(top.shape[0]), np.diff(top.indptr))
    return rows, top.indices.astype(np.int64), top.data.astype(np.float32)


def pair_dots(
    left: sparse.csr_matrix, left_rows: np.ndarray, right: sparse.csr_matrix, right_rows: np.ndarray
) -> np.ndarray:
    """Return the dot product of `left[left_rows[i]]` and `right[right_rows[i]]` for every i, float32.

    Fastest where equal `left_rows` are adjacent: a row is spread out once and met by all its partners.
    """
    from shelfwise.matching.kernels import pair_scores

    left_rows, right_rows = left_rows.astype(np.int64, copy=False), right_rows.astype(np.int64, copy=False)
    return pair_scores(*csr(left), left.shape[1], *csr(right), left_rows, right_rows)


def csr(matrix: sparse.csr_matrix) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (indptr, indices, data) as the kernels take them, without copying what is of the usual types."""
    return (
        matrix.indptr,
        matrix.indices.astype(np.int32, copy=False).view(np.uint32),
        matrix.data.astype(np.float32, copy=False),
    )


def distinct(keys: np.ndarray) -> np.ndarray:
    """Return the distinct keys in ascending order.

    By sorting: `np.unique` counts on a hash table, whose collisions on keys as regular as these took minutes.
    """
    ordered = np.sort(keys)
    if len(ordered) < 2:
        return ordered
    return ordered[np.concatenate([[True], ordered[1:] != ordered[:-1]])]


def _code_points(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return the code points of all texts in one array, separated, and the text each belongs to."""
    joined = chr(_SEPARATOR).join(texts)
    chars = np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    owner = np.cumsum(chars == _SEPARATOR, dtype=np.int32)
    return chars, owner


def _ngram_codes(chars: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a code per n-gram that lies within one text, and its position. 15 bits for each character, the size."""
    n = len(chars) - size + 1
    if n <= 0:
        return np.empty(0, np.uint64), np.empty(0, np.int64)
    is_break = np.concatenate([[0], np.cumsum(chars == _SEPARATOR)])
    position = np.flatnonzero(is_break[size:] == is_break[:n])
    code = np.full(len(position), size, dtype=np.uint64)
    for offset in range(size):
        code = (code << np.uint64(15)) | (chars[position + offset].astype(np.uint64) & np.uint64(0x7FFF))
    return code, position


def _unit_rows(
    n: int, documents: np.ndarray, codes: np.ndarray, terms: np.ndarray, idf: np.ndarray, unknown_idf: np.float32
) -> UnitRows:
    """Binary occurrences to unit rows; unknown terms count in the length only."""
    width = len(terms)
    if width == 0 or len(codes) == 0:
        return UnitRows(np.zeros(n + 1, np.int32), np.empty(0, np.uint32), np.zeros(n, np.float32), idf)
    columns = np.searchsorted(terms, codes)
    columns[columns == width] = 0
    known = terms[columns] == codes
    key = distinct(documents[known].astype(np.int64) * width + columns[known])
    rows, columns = key // width, key % width
    unknown = np.bincount(documents[~known], minlength=n)
    squares = np.bincount(rows, idf[columns].astype(np.float64) ** 2, minlength=n)
    length = np.sqrt(squares + unknown * float(unknown_idf) ** 2)
    starts = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=n))])
    scale = (1 / np.maximum(length, 1e-9)).astype(np.float32)
    return UnitRows(starts.astype(np.int32), columns.astype(np.uint32), scale, idf)
