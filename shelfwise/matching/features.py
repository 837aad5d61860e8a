"""What the scorer looks at, for every (line, candidate) pair, computed for a whole batch at once.

`FEATURES` is the one description of them: the matrix's columns follow its order, the documentation and explanations
read it. Listwise features compare a candidate with its rivals for the same line.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from rapidfuzz import fuzz, process
from rapidfuzz.distance import JaroWinkler
from scipy import sparse

from shelfwise.matching.index import Candidates, CatalogIndex
from shelfwise.matching.lexical import WordMatrix, comparable, csr, pair_dots
from shelfwise.matching.quantities import BARE, DIMENSIONS, PACK, quantities
from shelfwise.matching.reading import Read
from shelfwise.matching.strokes import ALL, FOUND, LOST, SHORTENED, SLIPS, SPARE


@dataclass(frozen=True)
class Feature:
    """A column of the feature matrix: what it is, what a higher value says of the pair (+ match, - no match), and the
    group under which explanations count it.
    """

    name: str
    what: str
    higher: str
    group: str


# The groups in which explanations sum what features contribute, as a buyer reads them. A gap to the rivals in one
# respect counts under that respect.
WORDS, SIZES, PACKS = "brand and words", "size and quantity", "pack"
CODES, SPELLING, PAST_LINES = "model code", "spelling", "past lines of vendors"
MEANING, PRICES, RIVALS = "meaning (encoder)", "price", "rivals"
GROUPS: dict[str, str] = {
    WORDS: "which words line and title share, and which are missing on either side, weighted by rarity",
    SIZES: "quantities with their units, and plain numbers",
    PACKS: "how many pieces are sold together",
    CODES: "model and part codes",
    SPELLING: "how alike the two are letter by letter, misspelt and shortened words included",
    PAST_LINES: "how vendors have written the product before",
    MEANING: "how close the trained encoder finds the two",
    PRICES: "how close the two prices are",
    RIVALS: "how this product stands among the other candidates for the line",
}

FEATURES: tuple[Feature, ...] = (
    Feature("title_cosine", "cosine of character n-grams, line and catalog title", "+", SPELLING),
    Feature(
        "alias_cosine",
        "the same with the product's most similar past line of another vendor, 0 without one",
        "+",
        PAST_LINES,
    ),
    Feature(
        "encoder", "cosine of encoder embeddings, best name of the product (missing without an encoder)", "+", MEANING
    ),
    Feature("word_cosine", "cosine of words weighted by rarity, misspelt and glued words counted as held", "+", WORDS),
    Feature("fused", "the score by which candidates were cut", "+", SPELLING),
    Feature("line_in_title", "share of the line's words (weighted by rarity) that the catalog title holds", "+", WORDS),
    Feature("title_in_line", "share of the catalog title's words (weighted by rarity) that the line holds", "+", WORDS),
    Feature(
        "line_in_names", "share of the line's words (weighted by rarity) that any name of the product holds", "+", WORDS
    ),
    Feature(
        "line_in_alias",
        "share of the line's words (weighted by rarity) that the most similar alias holds",
        "+",
        PAST_LINES,
    ),
    Feature("alias_in_line", "share of the most similar alias's words that the line holds", "+", PAST_LINES),
    Feature("missing_in_line", "summed rarity of the title's words that the line lacks", "-", WORDS),
    Feature("missing_in_title", "summed rarity of the line's words that no name of the product holds", "-", WORDS),
    Feature("rarest_shared", "rarity of the rarest word that line and title share", "+", WORDS),
    Feature("numbers_in_title", "share of the line's words with digits that a name of the product holds", "+", SIZES),
    Feature("numbers_in_line", "share of the title's words with digits that the line holds", "+", SIZES),
    Feature("numbers_missing", "number of the title's words with digits that the line lacks", "-", SIZES),
    Feature("numbers_extra", "number of the line's words with digits that no name of the product holds", "-", SIZES),
    Feature("codes_shared", "number of model codes (letters and digits, no unit) that both hold", "+", CODES),
    Feature("codes_conflict", "both hold model codes and share none", "-", CODES),
    Feature(
        "title_explained",
        "as title_in_line, counting misspelt, shortened, glued and split words as held",
        "+",
        WORDS,
    ),
    Feature(
        "missing_surprise", "how unusual it is for vendors to leave out the title's words that are missing", "-", WORDS
    ),
    Feature(
        "extra_surprise", "how unusual it is for vendors to add those catalog words that the product lacks", "-", WORDS
    ),
    Feature("quantities_shared", "number of quantities (750ml = 75cl = 25.4oz) that both hold", "+", SIZES),
    Feature(
        "quantities_conflict", "number of dimensions (volume, storage ...) in which the two hold others", "-", SIZES
    ),
    Feature("quantities_missing", "number of dimensions in which only the title holds a quantity", "-", SIZES),
    Feature("pack_conflict", "the pack sizes differ; no pack size means one", "-", PACKS),
    Feature(
        "numbers_conflict", "kinds of plain number (year, one or two digits ...) in which the two differ", "-", SIZES
    ),
    Feature("values_in_line", "share of the title's numbers, whatever is around them, that the line holds", "+", SIZES),
    Feature(
        "values_in_title", "share of the line's numbers, whatever is around them, that the title holds", "+", SIZES
    ),
    Feature("first_word", "the first word of the title is in the line", "+", WORDS),
    Feature("line_first_word", "the first word of the line is in the title", "+", WORDS),
    Feature("brand_in_line", "share of the brand's words that the line holds (missing without a brand)", "+", WORDS),
    Feature(
        "code_partial", "best partial match (0..1) of the title's rarest code in the line without spaces", "+", CODES
    ),
    Feature("token_sort", "rapidfuzz token sort ratio with the catalog title (0..1)", "+", SPELLING),
    Feature("token_set", "rapidfuzz token set ratio with the catalog title (0..1)", "+", SPELLING),
    Feature("partial", "rapidfuzz partial ratio with the catalog title, both without spaces (0..1)", "+", SPELLING),
    Feature("jaro_winkler", "Jaro-Winkler similarity with the catalog title", "+", SPELLING),
    Feature(
        "keystrokes",
        "fewest keystrokes from the catalog title to the line, its words in any order: 1 for each word lost, letter "
        "mistyped and spare letter, 0.4 for each word shortened",
        "-",
        SPELLING,
    ),
    Feature("slips", "of these keystrokes, letters mistyped in words that both hold", "-", SPELLING),
    Feature("spare_letters", "of these, letters of the line that no word of the title explains", "-", WORDS),
    Feature("words_shortened", "words of the title that the line holds shortened", "-", SPELLING),
    Feature("words_lost", "words of the title that the line does not hold in any form", "-", WORDS),
    Feature(
        "words_found", "share of the title's words (weighted by rarity) that the line holds in any form", "+", WORDS
    ),
    Feature(
        "alias_sort", "rapidfuzz token sort ratio with the most similar alias (0..1), 0 without one", "+", PAST_LINES
    ),
    Feature("exact_title", "the normal forms of line and catalog title are equal", "+", SPELLING),
    Feature("exact_alias", "the normal form of a past line equals that of this line", "+", PAST_LINES),
    Feature("aliases", "how many past lines the product has, log(1 + n)", "+", PAST_LINES),
    Feature("twins", "how many other products have the same normal title", "-", RIVALS),
    Feature("length_ratio", "characters of the shorter over the longer of line and title", "+", SPELLING),
    Feature("line_words", "how many words the line has", "+", WORDS),
    Feature("title_words", "how many words the title has", "+", WORDS),
    Feature("line_rarity", "summed rarity of the line's words", "+", WORDS),
    Feature("line_unknown", "how many of the line's words no name in the catalog holds", "-", WORDS),
    Feature("price_ratio", "lower over higher of the two prices (missing where either is)", "+", PRICES),
    Feature("rank", "rank of the candidate by the fused score, 0 first", "-", RIVALS),
    Feature("title_rank", "rank by title_cosine", "-", SPELLING),
    Feature("alias_rank", "rank by alias_cosine", "-", PAST_LINES),
    Feature("encoder_rank", "rank by encoder", "-", MEANING),
    Feature("fused_gap", "fused score less that of the best rival", "+", RIVALS),
    Feature("title_gap", "title_cosine less that of the best rival", "+", SPELLING),
    Feature("encoder_gap", "encoder less that of the best rival", "+", MEANING),
    Feature("names_gap", "line_in_names less that of the best rival", "+", WORDS),
    Feature("sort_gap", "token_sort less that of the best rival", "+", SPELLING),
    Feature("keystrokes_gap", "keystrokes less those of the rival with the fewest", "-", SPELLING),
    Feature("keystrokes_rank", "rank by keystrokes, the fewest first", "-", SPELLING),
    Feature("set_gap", "token_set less that of the best rival", "+", SPELLING),
    Feature("missing_gap", "missing_in_line less that of the best (smallest) rival", "-", WORDS),
    Feature("word_gap", "word_cosine less that of the best rival", "+", WORDS),
    Feature("explained_gap", "title_explained less that of the best rival", "+", WORDS),
    Feature("surprise_gap", "the two surprises together less those of the least surprising rival", "-", WORDS),
    Feature("surprise_rank", "rank by the two surprises together, the least surprising first", "-", WORDS),
    Feature("values_gap", "values_in_line less that of the best rival", "+", SIZES),
    Feature("code_gap", "code_partial less that of the best rival", "+", CODES),
    Feature("overall_gap", "mean of seven similarities less that of the best rival", "+", RIVALS),
    Feature("overall_rank", "rank by that mean", "-", RIVALS),
    Feature("close_rivals", "how many rivals lie within 0.05 of that mean or above it", "-", RIVALS),
    Feature("runner_up_same_words", "share of the candidates that hold as much of the line as this one", "-", WORDS),
)
FEATURE_NAMES = tuple(feature.name for feature in FEATURES)
GROUP_NAMES = tuple(GROUPS)
GROUP_OF_FEATURE = np.array([GROUP_NAMES.index(feature.group) for feature in FEATURES])

STROKES = {
    "keystrokes": ALL,
    "slips": SLIPS,
    "spare_letters": SPARE,
    "words_shortened": SHORTENED,
    "words_lost": LOST,
    "words_found": FOUND,
}
_UNIT = re.compile(r"\d+(?:\.\d+)?[a-z]{1,3}$")
USUAL_DROP, USUAL_EXTRA = 0.3, 0.2  # shares of words left out and added, where no past line tells
PRIOR = 4.0  # past lines that these shares weigh as much as


def is_code(word: str) -> bool:
    """Return whether a word of a normal form is a model code: letters and digits or many digits, and no quantity."""
    if not any(char.isdigit() for char in word) or (_UNIT.fullmatch(word) and quantities(word)):
        return False
    return (len(word) >= 4 and any(char.isalpha() for char in word)) or len(word) >= 5


@dataclass
class WordKinds:
    """Of each word in a vocabulary: does it hold digits, is it a model code (letters and digits, no quantity)."""

    digits: np.ndarray
    code: np.ndarray

    @classmethod
    def of(cls, words: WordMatrix) -> WordKinds:
        """Classify every word of the vocabulary."""
        n = len(words.vocabulary)
        digits, code = np.zeros(n, bool), np.zeros(n, bool)
        for word, i in words.vocabulary.items():
            if any(char.isdigit() for char in word):
                digits[i] = True
                code[i] = is_code(word)
        return cls(digits, code)


class FeatureMaker:
    """Computes features against one index; what depends on the index alone is computed once, here."""

    def __init__(self, index: CatalogIndex):
        self.index = index
        words = index.words
        n = len(index.products)
        self.kinds = WordKinds.of(words)
        self.titles = words.matrix[:n]
        self.title_rarity = self.titles @ words.idf
        self.alias_rarity = words.matrix @ words.idf
        digits = self.kinds.digits.astype(np.float32)
        self.title_digits = self.titles @ digits
        self.title_codes = self.titles @ self.kinds.code.astype(np.float32)
        self.reader = index.reader
        self.title_quantities, self.title_values, self.title_dimensions, self.title_n_values = (
            self.reader.title_amounts(self.titles)
        )
        self._learn_surprises()
        code = self.kinds.code.astype(np.float32)
        self.weights = np.stack([words.idf, digits, code, self.extra_surprise]).astype(np.float32)
        self.explained_weights = np.stack([words.idf, self.drop_surprise]).astype(np.float32)
        self.first = np.array([words.vocabulary.get(_first_word(form), -1) for form in index.title_forms])
        self.title_forms = _objects(index.title_forms)
        self.main_code = _main_codes(self.titles, words, self.kinds.digits)
        self._names_sorted: dict[int, str] = {}
        self.title_words = np.diff(self.titles.indptr).astype(np.float32)
        self.lengths = np.array([len(form) for form in index.title_forms], np.float32)
        self.alias_count = np.diff(index.alias_start).astype(np.float32)
        self.twins = (np.bincount(index.twin_group)[index.twin_group] - 1).astype(np.float32)
        self.price = index.products["price"].astype(float).to_numpy()
        codes, brands = pd.factorize(index.products["brand"])  # missing ones are -1: the last row, which is empty
        self.brand_rows = words.rows([*comparable([str(brand) for brand in brands]), ""])[0][codes]
        self.brand_words = np.diff(self.brand_rows.indptr).astype(np.float32)

    def _learn_surprises(self) -> None:
        """Learn from past lines how often vendors leave out each title word, and add each word; as -log shares.

        Smoothed by the usual shares with the weight of `PRIOR` past lines.
        """
        index = self.index
        n = len(index.products)
        owner = index.name_product[n:]
        words, explained = index.words.matrix[n:], self.reader.explained(index.words, n)
        titles = self.titles[owner]
        present = np.asarray(titles.sum(axis=0)).ravel()
        kept = np.asarray(titles.multiply(explained).sum(axis=0)).ravel()
        used = np.asarray(words.sum(axis=0)).ravel()
        extra = used - np.asarray(words.multiply(titles).sum(axis=0)).ravel()
        self.drop_surprise = -np.log((present - kept + PRIOR * USUAL_DROP) / (present + PRIOR)).astype(np.float32)
        self.extra_surprise = -np.log((extra + PRIOR * USUAL_EXTRA) / (used + PRIOR)).astype(np.float32)
        in_titles = np.zeros(len(used), bool)
        in_titles[self.titles.indices] = True
        self.extra_surprise[~in_titles] = 0.0
        self.title_surprise = self.titles @ self.drop_surprise

    @classmethod
    def of(cls, index: CatalogIndex) -> FeatureMaker:
        """Return the maker of this index, made at first use."""
        if index.feature_maker is None:
            index.feature_maker = cls(index)
        return index.feature_maker

    def features(self, found: Candidates, prices: np.ndarray | None = None) -> np.ndarray:
        """Return float32 [number of candidates, number of features], columns as in `FEATURES`.

        `prices`: of the lines, NaN where unknown.
        """
        columns: dict[str, np.ndarray] = {}
        read = found.read
        self._arms(found, columns)
        self._words(found, read, columns)
        self._quantities(found, read, columns)
        self._strings(found, columns)
        self._counts(found, prices, columns)
        self._rivals(found, columns)
        out = np.empty((len(found.line), len(FEATURES)), np.float32)
        for i, name in enumerate(FEATURE_NAMES):
            out[:, i] = columns[name]
        return out

    def _arms(self, found: Candidates, out: dict[str, np.ndarray]) -> None:
        out["title_cosine"], out["alias_cosine"] = found.title, found.alias_score
        out["word_cosine"], out["encoder"], out["fused"] = found.word, found.encoder, found.fused

    def _words(self, found: Candidates, read: Read, out: dict[str, np.ndarray]) -> None:
        """Shared and missing words by rarity, model codes, first words, brand."""
        index, words = self.index, self.index.words
        lines, unknown = read.words, read.unknown
        line_rarity = lines @ words.idf + unknown * words.unknown_idf
        line, product = found.line, found.product
        total = np.maximum(line_rarity[line], 1e-6)
        in_title = _shared(lines, line, self.titles, product, self.weights[:3])
        in_names = _shared(lines, line, index.bags, product, self.weights)
        alias_rows = np.maximum(found.alias, 0)
        in_alias = _shared(lines, line, words.matrix, alias_rows, self.weights[:1])[:, 0] * (found.alias >= 0)
        out["line_in_title"] = in_title[:, 0] / total
        out["title_in_line"] = in_title[:, 0] / np.maximum(self.title_rarity[product], 1e-6)
        out["line_in_names"] = in_names[:, 0] / total
        out["line_in_alias"] = in_alias / total
        out["alias_in_line"] = in_alias / np.maximum(self.alias_rarity[alias_rows], 1e-6)
        out["missing_in_line"] = self.title_rarity[product] - in_title[:, 0]
        out["missing_in_title"] = line_rarity[line] - in_names[:, 0]
        out["rarest_shared"] = in_title[:, -1]
        out["extra_surprise"] = (lines @ self.extra_surprise)[line] - in_names[:, 3]
        self._codes(read, found, in_title, in_names, out)
        out["first_word"] = _holds(lines, line, self.first[product])
        line_first = np.array([words.vocabulary.get(_first_word(form), -1) for form in found.forms], np.int64)
        out["line_first_word"] = _holds(self.titles, product, line_first[line])
        brand = pair_dots(lines, line, self.brand_rows, product)
        out["brand_in_line"] = _share(brand, self.brand_words[product])
        out["line_words"] = (np.diff(lines.indptr) + unknown)[line]
        out["line_rarity"] = line_rarity[line]
        out["line_unknown"] = unknown[line]
        explained = _shared(read.explained, line, self.titles, product, self.explained_weights)
        out["title_explained"] = explained[:, 0] / np.maximum(self.title_rarity[product], 1e-6)
        out["missing_surprise"] = self.title_surprise[product] - explained[:, 1]

    def _codes(
        self, read: Read, found: Candidates, in_title: np.ndarray, in_names: np.ndarray, out: dict[str, np.ndarray]
    ) -> None:
        """Words with digits, and among them model codes."""
        line, product = found.line, found.product
        digits, code = self.weights[1], self.weights[2]
        line_digits = (read.words @ digits + read.unknown_digits)[line]
        title_digits = self.title_digits[product]
        out["numbers_in_title"] = _share(in_names[:, 1], line_digits)
        out["numbers_in_line"] = _share(in_title[:, 1], title_digits)
        out["numbers_missing"] = title_digits - in_title[:, 1]
        out["numbers_extra"] = line_digits - in_names[:, 1]
        out["codes_shared"] = in_title[:, 2]
        both = ((read.words @ code)[line] > 0) & (self.title_codes[product] > 0)
        out["codes_conflict"] = both & (in_names[:, 2] == 0)

    def _quantities(self, found: Candidates, read: Read, out: dict[str, np.ndarray]) -> None:
        """Quantities by dimension, and bare numbers."""
        from shelfwise.matching.kernels import shared_kinds

        line, product = found.line, found.product
        kinds = self.reader.quantity_dimension
        titles, lines = csr(self.title_quantities), csr(read.quantities)
        shared = shared_kinds(*lines[:2], *titles[:2], line, product, kinds, len(DIMENSIONS))
        ours, theirs = read.dimensions[line], self.title_dimensions[product]
        bare = np.zeros(len(DIMENSIONS), bool)
        bare[list(BARE)] = True
        conflict = ours & theirs & ~shared
        out["quantities_shared"] = (shared & ~bare).sum(axis=1)
        out["quantities_conflict"] = (conflict & ~bare).sum(axis=1)
        out["quantities_missing"] = (theirs & ~ours & ~bare).sum(axis=1)
        out["pack_conflict"] = (ours | theirs)[:, PACK] & ~shared[:, PACK]
        out["numbers_conflict"] = (conflict & bare).sum(axis=1)
        meeting_values = pair_dots(read.values, line, self.title_values, product)
        out["values_in_line"] = _share(meeting_values, self.title_n_values[product])
        out["values_in_title"] = _share(meeting_values, read.n_values[line])

    def _strings(self, found: Candidates, out: dict[str, np.ndarray]) -> None:
        """Edit-distance similarities, computed pairwise by rapidfuzz."""
        line, product = found.line, found.product
        by_line = _objects(found.forms)
        forms, titles = by_line[line].tolist(), self.title_forms[product].tolist()
        squashed = _objects([form.replace(" ", "") for form in found.forms])[line].tolist()
        squashed_titles = [title.replace(" ", "") for title in titles]
        line_sorted = _objects([_sorted_words(form) for form in found.forms])[line].tolist()

        def pairwise(left: list[str], right: list[str], scorer, scale: float = 0.01) -> np.ndarray:
            if not left:
                return np.empty(0, np.float32)
            return process.cpdist(left, right, scorer=scorer, dtype=np.float32) * np.float32(scale)

        out["token_sort"] = pairwise(line_sorted, self._sorted_names(product), fuzz.ratio)
        out["token_set"] = pairwise(forms, titles, fuzz.token_set_ratio)
        out["partial"] = pairwise(squashed, squashed_titles, fuzz.partial_ratio)
        out["jaro_winkler"] = pairwise(forms, titles, JaroWinkler.similarity, 1.0)
        out["code_partial"] = pairwise(self.main_code[product].tolist(), squashed, fuzz.partial_ratio)
        out["exact_title"] = by_line[line] == self.title_forms[product]
        has = np.flatnonzero(found.alias >= 0)
        alias = found.alias[has]
        out["alias_sort"], out["exact_alias"] = np.zeros((2, len(line)), np.float32)
        out["alias_sort"][has] = pairwise([line_sorted[i] for i in has.tolist()], self._sorted_names(alias), fuzz.ratio)
        out["exact_alias"][has] = by_line[line[has]] == _objects([self.index.forms[a] for a in alias.tolist()])
        lengths = np.array([len(form) for form in found.forms], np.float32)[found.line]
        title_lengths = self.lengths[found.product]
        for name, column in STROKES.items():
            out[name] = found.strokes[:, column]
        longer = np.maximum(np.maximum(lengths, title_lengths), 1)
        out["length_ratio"] = np.minimum(lengths, title_lengths) / longer

    def _counts(self, found: Candidates, prices: np.ndarray | None, out: dict[str, np.ndarray]) -> None:
        out["aliases"] = np.log1p(self.alias_count[found.product])
        out["twins"] = self.twins[found.product]
        out["title_words"] = self.title_words[found.product]
        ratio = np.full(len(found.line), np.nan, np.float32)
        if prices is not None:
            left, right = prices[found.line], self.price[found.product]
            with np.errstate(divide="ignore", invalid="ignore"):
                ratio = np.where((left > 0) & (right > 0), np.minimum(left, right) / np.maximum(left, right), np.nan)
        out["price_ratio"] = ratio

    def _rivals(self, found: Candidates, out: dict[str, np.ndarray]) -> None:
        """Listwise features: the candidate among the others for its line."""
        line = found.line
        similar = np.stack(
            [
                np.maximum(found.title, found.alias_score),
                out["line_in_names"],
                out["title_in_line"],
                out["token_sort"],
                out["token_set"],
                out["partial"],
                out["code_partial"],
            ]
        )
        overall = similar.mean(axis=0)
        out["rank"] = _ranks(line, found.fused)
        out["title_rank"] = _ranks(line, found.title)
        out["alias_rank"] = _ranks(line, found.alias_score)
        has_encoder = bool(len(line)) and not np.isnan(found.encoder).all()
        nothing = np.full(len(line), np.nan, np.float32)
        out["encoder_rank"] = _ranks(line, found.encoder) if has_encoder else nothing
        out["encoder_gap"] = gap_to_rival(line, found.encoder) if has_encoder else nothing
        out["fused_gap"] = gap_to_rival(line, found.fused)
        out["title_gap"] = gap_to_rival(line, found.title)
        out["names_gap"] = gap_to_rival(line, out["line_in_names"])
        out["sort_gap"] = gap_to_rival(line, out["token_sort"])
        out["keystrokes_gap"] = -gap_to_rival(line, -out["keystrokes"])
        out["keystrokes_rank"] = _ranks(line, -out["keystrokes"])
        out["set_gap"] = gap_to_rival(line, out["token_set"])
        out["missing_gap"] = -gap_to_rival(line, -out["missing_in_line"])
        out["word_gap"] = gap_to_rival(line, found.word)
        out["explained_gap"] = gap_to_rival(line, out["title_explained"])
        surprise = out["missing_surprise"] + out["extra_surprise"]
        out["surprise_gap"] = -gap_to_rival(line, -surprise)
        out["surprise_rank"] = _ranks(line, -surprise)
        out["values_gap"] = gap_to_rival(line, np.nan_to_num(out["values_in_line"]))
        out["code_gap"] = gap_to_rival(line, out["code_partial"])
        out["overall_gap"] = gap_to_rival(line, overall)
        out["overall_rank"] = _ranks(line, overall)
        out["close_rivals"] = _close_rivals(line, overall, 0.05)
        out["runner_up_same_words"] = _close_rivals(line, out["line_in_names"], 1e-4) / np.maximum(
            np.bincount(line, minlength=found.n_lines)[line] - 1, 1
        )

    def _sorted_names(self, names: np.ndarray) -> list[str]:
        """Names (positions in the index; catalog names come first) with their words in alphabetical order."""
        known, forms = self._names_sorted, self.index.forms
        out = []
        for name in names.tolist():
            found = known.get(name)
            if found is None:
                found = known[name] = _sorted_words(forms[name])
            out.append(found)
        return out


def gap_to_rival(line: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return each value less the largest other value of its line; a candidate without a rival gets its own value.

    `line` must be sorted. Source: the margin used in record linkage between the best and second best candidate.
    """
    from shelfwise.matching.kernels import list_gaps

    return list_gaps(line, values.astype(np.float32, copy=False))


def _ranks(line: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return the rank of each value in its line, the largest 0; equal values share the better rank."""
    from shelfwise.matching.kernels import list_ranks

    return list_ranks(line, values.astype(np.float32, copy=False))


def _close_rivals(line: np.ndarray, values: np.ndarray, within: float) -> np.ndarray:
    """Return how many other candidates of the line have a value above this one less `within`."""
    from shelfwise.matching.kernels import list_close

    return list_close(line, values.astype(np.float32, copy=False), within)


def _objects(values: Sequence[str]) -> np.ndarray:
    """Return strings as an array of objects, from which many are taken at once."""
    out = np.empty(len(values), dtype=object)
    out[:] = values
    return out


def _sorted_words(form: str) -> str:
    return " ".join(sorted(form.split()))


def _shared(
    lines: sparse.csr_matrix, line: np.ndarray, rows: sparse.csr_matrix, row: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """Return, per pair, the summed weights of the words both hold, and last the largest of the first weights."""
    from shelfwise.matching.kernels import shared_sums

    return shared_sums(*csr(lines)[:2], lines.shape[1], *csr(rows)[:2], line, row, weights)


def _holds(matrix: sparse.csr_matrix, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Return 1 where `matrix[rows[i], columns[i]]` is set; column -1 is held by nothing."""
    from shelfwise.matching.kernels import holds

    return holds(*csr(matrix)[:2], rows, columns)


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Return part over whole, NaN where there is nothing to share in."""
    return np.where(whole > 0, part / np.maximum(whole, 1e-6), np.nan)


def _first_word(form: str) -> str:
    return form.split(" ", 1)[0]


def _main_codes(titles: sparse.csr_matrix, words: WordMatrix, digits: np.ndarray) -> np.ndarray:
    """Return of each title the word by which it is told from others: the rarest with a digit, else the rarest.

    Of equally rare words the longest; words of one or two characters count as words without a digit.
    """
    vocabulary = list(words.vocabulary)
    lengths = np.array([len(word) for word in vocabulary], np.int64)
    place = np.empty(len(vocabulary), np.int64)
    place[np.lexsort((lengths, words.idf, digits & (lengths > 2)))] = np.arange(len(vocabulary))
    out = _objects([""] * titles.shape[0])
    filled = np.flatnonzero(np.diff(titles.indptr))
    if len(filled):
        best = np.maximum.reduceat(place[titles.indices], titles.indptr[filled])
        out[filled] = _objects(vocabulary)[np.argsort(place)][best]
    return out
