"""What linking looks at for pairs of records of two catalogs, and which pairs it looks at.

A record is seen in two views: its name alone, and its whole text (name, description and every other text column).
Both catalogs are treated alike: each similarity is there in both directions, and the rivals of a pair are the other
candidates of either record. Nothing here sees a label.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from shelfwise.matching.lexical import (
    LexicalConfig,
    NgramVectorizer,
    WordVectorizer,
    comparable,
    distinct,
    pair_dots,
    split_words,
    top_products,
)
from shelfwise.matching.quantities import DIMENSIONS, neighbours, quantities, values
from shelfwise.matching.spelling import skeleton

ALIKE = 0.55  # cosine of n-grams from which two words may be one word spelt in two ways
ALIKE_DEPTH = 8
SHORTEST_CODE = 4
LENGTH_POWER = 0.6  # by which power of its length a text's n-grams are divided: 1 is the cosine
HELD_WEIGHT = 0.25
NUMERIC = 0.7  # share of a column's values that are numbers, from which on they are compared as such
MOST_PROPOSALS = 60_000  # candidate pairs that one catalog proposes by one view
_NUMBER = re.compile(r"(\d{1,12}(?:\.\d{1,6})?) ?(?:%|abv|percent)?")
_DURATION = re.compile(r"(\d{1,3}) ([0-5]\d)")
# Similarities whose place among the rivals is a feature, by view.
RANKED = (
    "ngrams",
    "overlap",
    "words",
    "left_held",
    "right_held",
    "soft_left",
    "soft_right",
    "token_sort",
    "token_set",
    "partial",
    "code",
    "missing",
    "numbers_share",
    "mean",
)


@dataclass(frozen=True)
class Records:
    """One catalog as linking reads it: per record its name, its whole text, other text columns, its price (NaN: none).

    All texts are normal forms (`shelfwise.matching.lexical.comparable`).
    """

    names: list[str]
    texts: list[str]
    attributes: dict[str, list[str]]
    prices: np.ndarray

    @classmethod
    def read(cls, names: Sequence[str], attributes: Mapping[str, Sequence[str]], prices: np.ndarray) -> Records:
        """Bring raw columns into normal form; the whole text is the name followed by the other columns in order."""
        texts = [" ".join(part for part in parts if part) for parts in zip(names, *attributes.values(), strict=True)]
        return cls(
            comparable(names),
            comparable(texts),
            {name: comparable(column) for name, column in attributes.items()},
            np.asarray(prices, np.float64),
        )

    def __len__(self) -> int:
        return len(self.names)


@dataclass(frozen=True)
class Pairs:
    """Pairs of positions (left record, right record), ascending, without repetition.

    `rival`: the pair is a retrieved candidate, and so a rival of the other pairs of its records. Pairs that are only
    asked about compete with the candidates but change nothing for them.
    """

    left: np.ndarray
    right: np.ndarray
    rival: np.ndarray

    def __len__(self) -> int:
        return len(self.left)


class View:
    """One text of every record of both catalogs, prepared for comparing pairs."""

    def __init__(self, left: Sequence[str], right: Sequence[str]):
        """`left`, `right`: normal forms, one per record."""
        self.forms = (list(left), list(right))
        both = [*left, *right]
        n = len(left)
        vectors = NgramVectorizer().fit(both)
        rows = vectors.transform(both)
        self.ngrams = (rows[:n], rows[n:])
        rows = _lengthened(rows, vectors.idf)
        self.overlap = (rows[:n], rows[n:])
        rows = NgramVectorizer(LexicalConfig(across_words=True)).fit(both).transform(both)
        self.unspaced = (rows[:n], rows[n:])
        weights = WordVectorizer().fit(both)
        self.idf = weights.idf
        self.vocabulary = list(weights.vocabulary)
        held = _indicator([[weights.vocabulary[w] for w in split_words(form)] for form in both], len(self.vocabulary))
        self.words = (held[:n], held[n:])
        weighted = _scaled(held, self.idf)
        self.weighted = (weighted[:n], weighted[n:])
        unit = _unit(weighted)
        self.units = (unit[:n], unit[n:])
        self.rarity = tuple(np.asarray(rows.sum(axis=1)).ravel() for rows in self.weighted)
        soft = held @ _alike(self.vocabulary)
        soft.data = np.minimum(soft.data, 1.0)
        self.soft = (soft[:n], soft[n:])
        self.twins = tuple(_twins(forms) for forms in self.forms)
        self._read_numbers(both, n)

    def _read_numbers(self, both: list[str], n: int) -> None:
        """Numbers, quantities by dimension, model codes."""
        numbers: dict[float, int] = {}
        keys: dict[tuple[int, int], int] = {}
        number_rows, exact_rows, near_rows, codes = [], [], [], []
        dimensions = np.zeros((len(both), len(DIMENSIONS)), bool)
        for i, form in enumerate(both):
            found, exact, near, code = [], [], [], []
            for word in split_words(form):
                if not any(char.isdigit() for char in word):
                    continue
                found += [numbers.setdefault(value, len(numbers)) for value in values(word)]
                amounts = quantities(word)
                for key in amounts:
                    dimensions[i, key[0]] = True
                    exact.append(keys.setdefault(key, len(keys)))
                    near += [keys.setdefault(other, len(keys)) for other in neighbours(key)]
                if len(word) >= SHORTEST_CODE and (not amounts or (len(word) > SHORTEST_CODE and word.isdigit())):
                    code.append(word.replace(".", ""))
            number_rows.append(found)
            exact_rows.append(exact)
            near_rows.append(near)
            codes.append(code)
        rows = _indicator(number_rows, max(len(numbers), 1))
        self.numbers = (rows[:n], rows[n:])
        self.n_numbers = tuple(np.diff(part.indptr).astype(np.float32) for part in self.numbers)
        self.exact = _indicator(exact_rows[:n], max(len(keys), 1))
        self.near = _indicator(near_rows[n:], max(len(keys), 1))
        self.dimensions = (dimensions[:n], dimensions[n:])
        owner = np.zeros((max(len(keys), 1), len(DIMENSIONS)), np.float32)
        for key, i in keys.items():
            owner[i, key[0]] = 1
        self.dimension_of = sparse.csr_matrix(owner)
        self.codes = (codes[:n], codes[n:])
        self.squashed = tuple([_squash(form) for form in forms] for forms in self.forms)

    def similarities(self, pairs: Pairs) -> dict[str, np.ndarray]:
        """Return the columns of this view, each of length `len(pairs)`."""
        out: dict[str, np.ndarray] = {}
        self._lexical(pairs, out)
        self._numbers(pairs, out)
        self._strings(pairs, out)
        main = ("ngrams", "words", "left_held", "right_held", "token_sort", "token_set", "partial", "code")
        out["mean"] = np.mean([np.nan_to_num(out[name]) for name in main], axis=0)
        return out

    def _lexical(self, pairs: Pairs, out: dict[str, np.ndarray]) -> None:
        left, right = pairs.left, pairs.right
        out["ngrams"] = pair_dots(self.ngrams[0], left, self.ngrams[1], right)
        out["overlap"] = pair_dots(self.overlap[0], left, self.overlap[1], right)
        out["unspaced"] = pair_dots(self.unspaced[0], left, self.unspaced[1], right)
        out["words"] = pair_dots(self.units[0], left, self.units[1], right)
        shared = pair_dots(self.weighted[0], left, self.words[1], right)
        out["left_held"] = shared / np.maximum(self.rarity[0][left], 1e-6)
        out["right_held"] = shared / np.maximum(self.rarity[1][right], 1e-6)
        out["left_missing"] = self.rarity[0][left] - shared
        out["right_missing"] = self.rarity[1][right] - shared
        soft_left = pair_dots(self.weighted[0], left, self.soft[1], right)
        soft_right = pair_dots(self.soft[0], left, self.weighted[1], right)
        out["soft_left"] = soft_left / np.maximum(self.rarity[0][left], 1e-6)
        out["soft_right"] = soft_right / np.maximum(self.rarity[1][right], 1e-6)
        out["soft_left_missing"] = self.rarity[0][left] - soft_left
        out["soft_right_missing"] = self.rarity[1][right] - soft_right
        out |= self._rarest(pairs)
        first = tuple(_first_words(forms, self.vocabulary) for forms in self.forms)
        out["first_word"] = (first[0][left] == first[1][right]).astype(np.float32)
        n_words = tuple(np.diff(rows.indptr).astype(np.float32) for rows in self.words)
        out["left_words"], out["right_words"] = n_words[0][left], n_words[1][right]
        out["left_rarity"], out["right_rarity"] = self.rarity[0][left], self.rarity[1][right]
        out["missing"] = -(out["soft_left_missing"] + out["soft_right_missing"])
        out["left_twins"], out["right_twins"] = self.twins[0][left], self.twins[1][right]

    def _rarest(self, pairs: Pairs) -> dict[str, np.ndarray]:
        """The rarest word that both hold, and the rarest (and the second) that only one of them holds."""
        ours, theirs = self.words[0][pairs.left], self.words[1][pairs.right]
        shared = ours.multiply(theirs).tocsr()
        only_left, only_right = (ours - shared).tocsr(), (theirs - shared).tocsr()
        out = {"rarest_shared": _row_max(shared, self.idf)}
        out["rarest_left"], out["rarest_right"] = _row_max(only_left, self.idf), _row_max(only_right, self.idf)
        return out

    def _numbers(self, pairs: Pairs, out: dict[str, np.ndarray]) -> None:
        left, right = pairs.left, pairs.right
        shared = pair_dots(self.numbers[0], left, self.numbers[1], right)
        ours, theirs = self.n_numbers[0][left], self.n_numbers[1][right]
        out["numbers_shared"] = shared
        out["left_numbers_only"], out["right_numbers_only"] = ours - shared, theirs - shared
        out["numbers_share"] = _ratio(shared, np.minimum(ours, theirs))
        meeting = self.exact[left].multiply(self.near[right]).tocsr()
        agree = (meeting @ self.dimension_of).toarray() > 0
        held = self.dimensions[0][left], self.dimensions[1][right]
        out["quantities_shared"] = agree.sum(axis=1)
        out["quantities_conflict"] = (held[0] & held[1] & ~agree).sum(axis=1)
        out["quantities_left"] = (held[0] & ~held[1]).sum(axis=1)
        out["quantities_right"] = (held[1] & ~held[0]).sum(axis=1)

    def _strings(self, pairs: Pairs, out: dict[str, np.ndarray]) -> None:
        from rapidfuzz import fuzz, process
        from rapidfuzz.distance import JaroWinkler

        def compare(columns: tuple[list[str], ...], scorer, scale: float = 0.01) -> np.ndarray:
            if not len(pairs):
                return np.empty(0, np.float32)
            ours = [columns[0][i] for i in pairs.left.tolist()]
            theirs = [columns[1][j] for j in pairs.right.tolist()]
            return process.cpdist(ours, theirs, scorer=scorer, dtype=np.float32) * np.float32(scale)

        ordered = tuple([" ".join(sorted(form.split())) for form in forms] for forms in self.forms)
        out["token_sort"] = compare(ordered, fuzz.ratio)
        out["token_set"] = compare(self.forms, fuzz.token_set_ratio)
        out["partial"] = compare(self.squashed, fuzz.partial_ratio)
        out["jaro_winkler"] = compare(self.forms, JaroWinkler.similarity, 1.0)
        out["ratio"] = compare(self.forms, fuzz.ratio)
        lengths = tuple(np.array([len(form) for form in forms], np.float32) for forms in self.forms)
        ours, theirs = lengths[0][pairs.left], lengths[1][pairs.right]
        out["length_ratio"] = _ratio(np.minimum(ours, theirs), np.maximum(ours, theirs))
        out |= self.code_columns(pairs, self)

    def code_columns(self, pairs: Pairs, other: View) -> dict[str, np.ndarray]:
        """Model codes of the left records in this view beside those of the right records in `other`."""
        from rapidfuzz import fuzz

        out = {
            name: np.full(len(pairs), np.nan, np.float32)
            for name in ("code", "left_codes_held", "right_codes_held", "code_prefix")
        }
        for i, (a, b) in enumerate(zip(pairs.left.tolist(), pairs.right.tolist(), strict=True)):
            ours, theirs = self.codes[0][a], other.codes[1][b]
            if not ours and not theirs:
                continue
            left_text, right_text = self.squashed[0][a], other.squashed[1][b]
            left_hits = [_squash(code) in right_text for code in ours]
            right_hits = [_squash(code) in left_text for code in theirs]
            if ours:
                out["left_codes_held"][i] = sum(left_hits) / len(ours)
            if theirs:
                out["right_codes_held"][i] = sum(right_hits) / len(theirs)
            if any(left_hits) or any(right_hits):
                out["code"][i] = 1.0
            elif ours and theirs:
                out["code"][i] = max(fuzz.ratio(x, y) for x in ours for y in theirs) / 100
            else:
                out["code"][i] = 0.5
            if ours and theirs:
                out["code_prefix"][i] = max(_common_prefix(x, y) for x in ours for y in theirs)
        return out


@dataclass
class PairSpace:
    """Two catalogs, their candidate pairs and the features of any pairs. Make it with `PairSpace.of`."""

    left: Records
    right: Records
    views: dict[str, View]
    candidates: np.ndarray  # keys left * len(right) + right, ascending

    @classmethod
    def of(cls, left: Records, right: Records, depth: int) -> PairSpace:
        """Prepare both catalogs and retrieve each record's `depth` best of the other catalog, by both views.

        A catalog of more than `MOST_PROPOSALS / depth` records proposes fewer for each of them, two at least.
        """
        views = {"name": View(left.names, right.names)}
        if left.texts != left.names or right.texts != right.names:
            views["text"] = View(left.texts, right.texts)
        keys = []
        for view in views.values():
            for back, records in ((False, left), (True, right)):
                a, b, _ = retrieve(view, max(min(depth, MOST_PROPOSALS // max(len(records), 1)), 2), back)
                keys.append(a * np.int64(len(right)) + b)
        return cls(left, right, views, distinct(np.concatenate(keys)))

    def pairs(self, left: np.ndarray, right: np.ndarray) -> tuple[Pairs, np.ndarray]:
        """Return the candidates together with the pairs asked about, and where each asked pair stands among them."""
        asked = np.asarray(left, np.int64) * np.int64(max(len(self.right), 1)) + np.asarray(right, np.int64)
        keys = distinct(np.concatenate([self.candidates, asked]))
        at = np.searchsorted(self.candidates, keys)
        rival = np.zeros(len(keys), bool)
        inside = at < len(self.candidates)
        rival[inside] = self.candidates[at[inside]] == keys[inside]
        width = max(len(self.right), 1)
        return Pairs(keys // width, keys % width, rival), np.searchsorted(keys, asked)

    def words(self, pairs: Pairs) -> sparse.csr_matrix:
        """Return 0/1 rows of the words that both names hold, that the left, that the right, that one of them holds."""
        view = self.views["name"]
        ours, theirs = view.words[0][pairs.left], view.words[1][pairs.right]
        shared = ours.multiply(theirs).tocsr()
        only_left, only_right = ours - shared, theirs - shared
        return sparse.hstack([shared, only_left, only_right, only_left + only_right]).tocsr()

    def features(self, pairs: Pairs) -> tuple[np.ndarray, tuple[str, ...]]:
        """Return float32 [len(pairs), number of features] and the features' names."""
        columns: dict[str, np.ndarray] = {}
        for name, view in self.views.items():
            found = view.similarities(pairs)
            columns |= {f"{name}_{column}": value for column, value in found.items()}
            for column in RANKED:
                for rival, value in rivals(pairs, np.nan_to_num(found[column])).items():
                    columns[f"{name}_{column}_{rival}"] = value
        if "text" in self.views:
            self._across(pairs, columns)
        self._attributes(pairs, columns)
        self._prices(pairs, columns)
        self._crowd(pairs, columns)
        matrix = np.stack([np.asarray(column, np.float32) for column in columns.values()], axis=1)
        return matrix, tuple(columns)

    def _across(self, pairs: Pairs, out: dict[str, np.ndarray]) -> None:
        """The name of one record in the whole text of the other."""
        name, text = self.views["name"], self.views["text"]
        codes = name.code_columns(pairs, text)
        out["name_in_text_codes"] = codes["left_codes_held"]
        codes = text.code_columns(pairs, name)
        out["text_in_name_codes"] = codes["right_codes_held"]
        column = {word: i for i, word in enumerate(text.vocabulary)}
        place = np.array([column.get(word, -1) for word in name.vocabulary])
        known = np.flatnonzero(place >= 0)
        shape = (len(name.vocabulary), len(text.vocabulary))
        move = sparse.csr_matrix((np.ones(len(known), np.float32), (known, place[known])), shape=shape)
        for side, (ours, theirs) in enumerate(((pairs.left, pairs.right), (pairs.right, pairs.left))):
            moved = (name.weighted[side] @ move).tocsr()
            held = pair_dots(moved, ours, text.words[1 - side], theirs)
            out[f"{('left', 'right')[side]}_name_in_text"] = held / np.maximum(name.rarity[side][ours], 1e-6)

    def _attributes(self, pairs: Pairs, out: dict[str, np.ndarray]) -> None:
        """Columns that both catalogs have, compared; and whether a value stands in the other's whole text."""
        from rapidfuzz import fuzz, process

        for name, ours in self.left.attributes.items():
            theirs = self.right.attributes.get(name)
            if theirs is None:
                continue
            a, b = [ours[i] for i in pairs.left.tolist()], [theirs[j] for j in pairs.right.tolist()]
            known = np.array([bool(x) and bool(y) for x, y in zip(a, b, strict=True)], bool)
            alike = process.cpdist(a, b, scorer=fuzz.token_set_ratio, dtype=np.float32) / 100 if a else np.empty(0)
            out[f"{name}_alike"] = np.where(known, alike, np.nan)
            amounts = _amounts(ours), _amounts(theirs)
            if amounts[0] is not None and amounts[1] is not None:
                x, y = amounts[0][pairs.left], amounts[1][pairs.right]
                out[f"{name}_apart"] = np.abs(x - y)
                out[f"{name}_ratio"] = np.minimum(x, y) / np.maximum(np.maximum(x, y), 1e-9)
        for side, (records, other) in enumerate(((self.left, self.right), (self.right, self.left))):
            at, there = (pairs.left, pairs.right) if side == 0 else (pairs.right, pairs.left)
            for name, column in records.attributes.items():
                if not _is_short(column):
                    continue
                a, b = [column[i] for i in at.tolist()], [other.texts[j] for j in there.tolist()]
                held = process.cpdist(a, b, scorer=fuzz.partial_ratio, dtype=np.float32) if a else np.empty(0)
                known = np.array([bool(value) for value in a], bool)
                out[f"{('left', 'right')[side]}_{name}_in_text"] = np.where(known, held / 100, np.nan)

    def _prices(self, pairs: Pairs, out: dict[str, np.ndarray]) -> None:
        """Price agreement; NaN where a price is missing."""
        a, b = self.left.prices[pairs.left], self.right.prices[pairs.right]
        known = (a > 0) & (b > 0)
        ratio = np.full(len(pairs), np.nan)
        ratio[known] = np.minimum(a[known], b[known]) / np.maximum(a[known], b[known])
        out["price_ratio"] = ratio
        steps = np.full(len(pairs), np.nan)
        steps[known] = np.log(a[known] / b[known])
        out["price_steps"] = steps
        for rival, value in rivals(pairs, np.nan_to_num(ratio)).items():
            out[f"price_{rival}"] = value

    def _crowd(self, pairs: Pairs, out: dict[str, np.ndarray]) -> None:
        """How many candidates either record has that are about as similar."""
        mean = np.mean([out[f"{name}_mean"] for name in self.views], axis=0)
        for rival, value in rivals(pairs, mean.astype(np.float32)).items():
            out[f"overall_{rival}"] = value


def rivals(pairs: Pairs, scores: np.ndarray) -> dict[str, np.ndarray]:
    """Return how each pair stands among the candidates of its left record and among those of its right record.

    For each side: `gap`, the score less that of the best rival (its own score without one); `rank`, how many rivals
    score higher; and `both`, the smaller of the two gaps. Source: the margin between the best and the second best
    candidate of record linkage, on both sides.
    """
    left = _standing(pairs.left, scores, pairs.rival)
    order = np.lexsort((pairs.left, pairs.right))
    found = _standing(pairs.right[order], scores[order], pairs.rival[order])
    right = tuple(np.empty_like(column) for column in found)
    for column, value in zip(right, found, strict=True):
        column[order] = value
    return {
        "left_gap": left[0],
        "left_rank": left[1],
        "right_gap": right[0],
        "right_rank": right[1],
        "both": np.minimum(left[0], right[0]),
    }


def _standing(group: np.ndarray, scores: np.ndarray, rival: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return gap to the best rival and number of better rivals, by group; `group` is ascending."""
    n = len(group)
    if not n:
        return np.empty(0, np.float32), np.empty(0, np.float32)
    scores = np.asarray(scores, np.float64)
    starts = np.flatnonzero(np.concatenate([[True], group[1:] != group[:-1]]))
    of = np.repeat(np.arange(len(starts)), np.diff(np.append(starts, n)))
    order = np.lexsort((~rival, -scores, of))
    rival_sorted, scores_sorted = rival[order], scores[order]
    before = np.cumsum(rival_sorted) - rival_sorted
    before -= before[starts][of]
    new = np.concatenate([[True], (scores_sorted[1:] != scores_sorted[:-1]) | (of[1:] != of[:-1])])
    first = np.maximum.accumulate(np.where(new, np.arange(n), 0))
    rank = np.empty(n, np.float32)
    rank[order] = before[first]
    best, second = np.full(len(starts), -np.inf), np.full(len(starts), -np.inf)
    top, runner_up = rival_sorted & (before == 0), rival_sorted & (before == 1)
    best[of[top]], second[of[runner_up]] = scores_sorted[top], scores_sorted[runner_up]
    is_best = np.zeros(n, bool)
    is_best[order[top]] = True
    other = np.where(is_best, second[of], best[of])
    gap = np.where(np.isfinite(other), scores - np.where(np.isfinite(other), other, 0), scores)
    return gap.astype(np.float32), rank


def retrieve(view: View, depth: int, back: bool = False) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (left, right, score) of each left record's `depth` best right records; `back`: of each right record.

    Proposed by character n-grams and by words, each twice as deep as asked; cut by the n-grams in common, longer texts
    held less against each other than by the cosine, and the share of the asking record's words, rarity for weight,
    that the other holds in any spelling. Chosen by recall at 10 on the training and validation pairs of Abt-Buy and
    Amazon-Google.
    """
    ours, theirs = (1, 0) if back else (0, 1)
    keys = []
    width = np.int64(max(view.ngrams[theirs].shape[0], 1))
    for rows in (view.overlap, view.units):
        a, b, _ = top_products(rows[ours], rows[theirs].T.tocsr(), 2 * depth, 1)
        keys.append(a * width + b)
    union = distinct(np.concatenate(keys))
    a, b = union // width, union % width
    held = pair_dots(view.weighted[ours], a, view.soft[theirs], b) / np.maximum(view.rarity[ours][a], 1e-6)
    score = pair_dots(view.overlap[ours], a, view.overlap[theirs], b) + HELD_WEIGHT * held
    order = np.lexsort((b, -score, a))
    starts = np.searchsorted(a, np.arange(view.ngrams[ours].shape[0]))
    keep = order[np.arange(len(order)) - starts[a[order]] < depth]
    return (b[keep], a[keep], score[keep]) if back else (a[keep], b[keep], score[keep])


def _alike(vocabulary: Sequence[str]) -> sparse.csr_matrix:
    """Return [words, words]: 1 on the diagonal, a share where two words may be one spelt in two ways.

    Alike in their n-grams, equal in their consonants, or one the beginning of the other. Words with digits mean
    themselves alone.
    """
    n = len(vocabulary)
    plain = [word if word.isalpha() and len(word) > 2 else "" for word in vocabulary]
    rows = NgramVectorizer(LexicalConfig(sizes=(2, 3))).fit([w for w in plain if w]).transform(plain)
    at, other, cosine = top_products(rows, rows.T.tocsr(), ALIKE_DEPTH, 1)
    keep = (cosine >= ALIKE) & (at != other)
    triples = [(at[keep], other[keep], cosine[keep])]
    groups: dict[str, list[int]] = {}
    for i, word in enumerate(plain):
        if len(word) > 3 and len(skeleton(word)) > 2:
            groups.setdefault(skeleton(word), []).append(i)
    column = {word: i for i, word in enumerate(plain) if word}
    short: list[tuple[int, int]] = []
    for members in groups.values():
        near = members[: ALIKE_DEPTH + 1]
        short += [(a, b) for a in near for b in near if a != b]
    for i, word in enumerate(plain):
        for size in range(3, len(word)):
            start = column.get(word[:size])
            if start is not None:
                short += [(i, start), (start, i)]
    if short:
        pairs = np.array(short)
        triples.append((pairs[:, 0], pairs[:, 1], np.full(len(pairs), 0.8, np.float32)))
    triples.append((np.arange(n), np.arange(n), np.ones(n, np.float32)))
    at, other, share = (np.concatenate(parts) for parts in zip(*triples, strict=True))
    order = np.lexsort((-share, other, at))
    at, other, share = at[order], other[order], share[order]
    first = np.concatenate([[True], (at[1:] != at[:-1]) | (other[1:] != other[:-1])]) if n else np.zeros(0, bool)
    return sparse.csr_matrix((share[first].astype(np.float32), (at[first], other[first])), shape=(n, n))


def _indicator(rows: Sequence[Iterable[int]], width: int) -> sparse.csr_matrix:
    """Return 0/1 float32 rows that hold these columns."""
    sets = [sorted(set(row)) for row in rows]
    ends = np.concatenate([[0], np.cumsum([len(row) for row in sets])]).astype(np.int32)
    columns = np.array([column for row in sets for column in row], np.int32)
    return sparse.csr_matrix((np.ones(len(columns), np.float32), columns, ends), shape=(len(sets), width))


def _scaled(rows: sparse.csr_matrix, weights: np.ndarray) -> sparse.csr_matrix:
    return sparse.csr_matrix((rows.data * weights[rows.indices], rows.indices, rows.indptr), shape=rows.shape)


def _unit(rows: sparse.csr_matrix) -> sparse.csr_matrix:
    length = np.sqrt(np.asarray(rows.multiply(rows).sum(axis=1)).ravel())
    owner = np.repeat(np.arange(rows.shape[0]), np.diff(rows.indptr))
    data = (rows.data / np.maximum(length, 1e-9)[owner]).astype(np.float32)
    return sparse.csr_matrix((data, rows.indices, rows.indptr), shape=rows.shape)


def _lengthened(rows: sparse.csr_matrix, weights: np.ndarray) -> sparse.csr_matrix:
    """Return unit rows times length ** (1 - LENGTH_POWER), the median length being 1. `weights`: of the terms."""
    filled = np.flatnonzero(np.diff(rows.indptr))
    first = rows.indptr[filled]
    length = np.ones(rows.shape[0])
    length[filled] = weights[rows.indices[first]] / rows.data[first]
    factor = (length / np.median(length[filled]) if len(filled) else length) ** (1 - LENGTH_POWER)
    owner = np.repeat(np.arange(rows.shape[0]), np.diff(rows.indptr))
    data = (rows.data * factor[owner]).astype(np.float32)
    return sparse.csr_matrix((data, rows.indices, rows.indptr), shape=rows.shape)


def _row_max(rows: sparse.csr_matrix, weights: np.ndarray) -> np.ndarray:
    """Return the largest weight among the columns that each row holds, 0 for an empty row."""
    out = np.zeros(rows.shape[0], np.float32)
    filled = np.flatnonzero(np.diff(rows.indptr))
    if len(filled):
        out[filled] = np.maximum.reduceat(weights[rows.indices] * (rows.data > 0), rows.indptr[filled])
    return out


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.where(whole > 0, part / np.maximum(whole, 1e-6), np.nan)


def _first_words(forms: Sequence[str], vocabulary: Sequence[str]) -> np.ndarray:
    column = {word: i for i, word in enumerate(vocabulary)}
    return np.array([column.get(words[0], -1) if (words := split_words(form)) else -1 for form in forms], np.int64)


def _twins(forms: Sequence[str]) -> np.ndarray:
    """Return how many other records have the same text."""
    counts = Counter(forms)
    return np.array([counts[form] - 1 for form in forms], np.float32)


def _squash(form: str) -> str:
    return "".join(char for char in form if char.isalnum())


def _common_prefix(a: str, b: str) -> float:
    size = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    return size / max(min(len(a), len(b)), 1)


def _amounts(column: Sequence[str]) -> np.ndarray | None:
    """Return the numbers of a column that holds nearly nothing else, NaN where there is none; None for other columns.

    Numbers are as in "5.4", "5.4%" and "2004", or minutes and seconds ("4:03", in normal form "4 03").
    """
    found = np.full(len(column), np.nan)
    for i, value in enumerate(column):
        if match := _NUMBER.fullmatch(value):
            found[i] = float(match[1])
        elif match := _DURATION.fullmatch(value):
            found[i] = 60 * int(match[1]) + int(match[2])
    filled = sum(bool(value) for value in column)
    return found if filled and np.isfinite(found).sum() >= NUMERIC * filled else None


def _is_short(column: Sequence[str]) -> bool:
    """Whether the values are names or labels rather than sentences."""
    filled = [len(value) for value in column if value]
    return bool(filled) and float(np.median(filled)) <= 40
