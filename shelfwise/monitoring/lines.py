"""What can be measured of a vendor's line, as numbers whose mean over a file says something about the file.

Measures of the title need nothing but the title and the words the champion knows; those of the model need what the
champion made of the line. Each is one column; a measure that a line does not have (a price nobody gave) is missing.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from shelfwise.matching.decisions import APPROVED, NO_MATCH
from shelfwise.matching.lexical import comparable, split_words

if TYPE_CHECKING:
    from shelfwise.matching.index import CatalogIndex, Encoder

EITHER, RISE, FALL = 0, 1, -1


@dataclass(frozen=True)
class Measure:
    """A column: what it says, from which change of a file's mean on it is worth a word, and in which direction.

    A `habit` is a matter of either or: vendors write capitals or do not. A handful of vendors need not show both, and
    the next is no drift for being the first of its kind; so a habit is compared with the vendor's own past only.
    Of what the champion made of lines only a turn for the worse counts: products it has learnt since, names of a
    vendor it did not know at training, lines with a brand beside the title make it surer, which is no drift to act on.
    """

    name: str
    about: str
    least: float
    direction: int = EITHER
    of_model: bool = False
    habit: bool = False


MEASURES = (
    Measure("title_length", "characters in the title", 4.0),
    Measure("tokens", "words in the title", 0.7),
    Measure("token_length", "characters in a word, on average", 0.5),
    Measure("digits", "share of characters that are digits", 0.03),
    Measure("upper", "share of letters in upper case", 0.1, habit=True),
    Measure("non_ascii", "share of characters outside ASCII", 0.02),
    Measure("unit", "the title states a size, weight, pack or other quantity", 0.1),
    # Labels hold no prices, so the catalog's stand in for the vendors': less than a factor of two may be a margin.
    Measure("price", "price, as a power of ten", 0.3),
    Measure("unknown_words", "share of words that nobody else's names hold", 0.08, RISE, True),
    Measure("category", "how rare the best candidate's root category is (-ln of its share)", 0.3, RISE, True),
    Measure("similarity", "cosine of line and best candidate, by the encoder", 0.05, FALL, True),
    Measure("surroundings", "cosine to the nearest lines of other vendors in the reference", 0.05, FALL, True),
    Measure("score", "score of the best candidate", 0.05, FALL, True),
    Measure("margin", "by how much the best candidate's score exceeds the second's", 0.05, FALL, True),
    Measure("approved", "the line was approved without a person", 0.1, FALL, True),
    Measure("no_match", "the line was decided to match nothing", 0.1, RISE, True),
)
NAMES = tuple(measure.name for measure in MEASURES)
BY_NAME = {measure.name: measure for measure in MEASURES}
OF_TITLE = tuple(measure.name for measure in MEASURES if not measure.of_model)
NEIGHBOURS = 5  # of a line among the reference, whose mean similarity is `surroundings`
BLOCK = 512  # lines whose similarities are held at a time

_UNIT = re.compile(r"(?<![\w.])\d+(?:\.\d+)?(?:ml|l|oz|g|kg|lb|mm|cm|m|in|gb|mb|mp|mah|w|v|ghz|mhz|hz|pk|yr|rpm)(?!\w)")


@dataclass(frozen=True)
class Vocabulary:
    """The words of the names a champion searches. `owner`: the only vendor who uses a word, "" where the catalog or
    several vendors do: a vendor's own words say nothing about whether the others knew them.
    """

    owner: dict[str, str]

    @classmethod
    def of(cls, index: CatalogIndex) -> Vocabulary:
        """Return the words of an index's names."""
        code, vendors = pd.factorize(index.names["vendor_id"].astype(object))  # -1: a name of the catalog
        whose = np.repeat(code, np.diff(index.words.starts))
        n = len(index.words.vocabulary)
        first, last = np.full(n, np.iinfo(np.int64).max), np.full(n, -1, np.int64)
        np.minimum.at(first, index.words.tokens, whose)
        np.maximum.at(last, index.words.tokens, whose)
        alone = (first == last) & (first >= 0)
        owners = [str(vendors[k]) if one else "" for k, one in zip(last.tolist(), alone.tolist(), strict=True)]
        return cls({word: owners[at] for word, at in index.words.vocabulary.items()})

    def unknown(self, words: Sequence[str], vendor_id: str, gone: Collection[str] = ()) -> float:
        """Return the share of words that neither the catalog nor another vendor uses; NaN without any word. `gone`:
        words that are taken for unknown.
        """
        told = [word for word in words if word.isalpha()]
        if not told:
            return float("nan")
        known = [None if word in gone else self.owner.get(word) for word in told]
        return sum(owner is None or (owner != "" and owner == vendor_id) for owner in known) / len(told)


def words_of_one_product(index: CatalogIndex) -> dict[str, int]:
    """Return the words that names of a single product hold, with the position of that product."""
    whose = np.repeat(index.name_product.astype(np.int64), np.diff(index.words.starts))
    first, last = np.full(len(index.words.vocabulary), len(index.products)), np.full(len(index.words.vocabulary), -1)
    np.minimum.at(first, index.words.tokens, whose)
    np.maximum.at(last, index.words.tokens, whose)
    one = (first == last).tolist()
    return {word: int(first[at]) for word, at in index.words.vocabulary.items() if one[at]}


def describe_titles(
    titles: Sequence[str],
    vendors: Sequence[str],
    vocabulary: Vocabulary,
    prices: np.ndarray | None = None,
    gone: Sequence[Collection[str]] | None = None,
) -> pd.DataFrame:
    """Return the measures of titles, float64, one row per line; `price` is missing where there is none above 0.

    `gone`: for each title words that are taken for unknown.
    """
    rows = []
    missing = gone if gone is not None else [()] * len(titles)
    for title, form, vendor, without in zip(titles, comparable(list(titles)), vendors, missing, strict=True):
        letters = [char for char in title if char.isalpha()]
        words, size = title.split(), max(len(title), 1)
        rows.append(
            (
                len(title),
                len(words),
                sum(map(len, words)) / max(len(words), 1),
                sum(map(str.isdigit, title)) / size,
                sum(map(str.isupper, letters)) / len(letters) if letters else float("nan"),
                0.0 if title.isascii() else sum(char > "\x7f" for char in title) / size,
                float(_UNIT.search(form) is not None),
                vocabulary.unknown(split_words(form), vendor, without),
            )
        )
    columns = ["title_length", "tokens", "token_length", "digits", "upper", "non_ascii", "unit", "unknown_words"]
    made = pd.DataFrame(rows, columns=pd.Index(columns), dtype="float64")
    told = np.full(len(made), np.nan) if prices is None else np.asarray(prices, np.float64)
    made["price"] = np.log10(np.where(told > 0, told, np.nan))
    return made


def describe_matches(score: np.ndarray, second: np.ndarray, decision: np.ndarray) -> pd.DataFrame:
    """Return the measures of what the champion decided: scores of the best two candidates, and the decision."""
    return pd.DataFrame(
        {
            "score": np.asarray(score, np.float64),
            "margin": np.asarray(score, np.float64) - np.asarray(second, np.float64),
            "approved": (decision == APPROVED).astype(np.float64),
            "no_match": (decision == NO_MATCH).astype(np.float64),
        }
    )


def surroundings(vectors: np.ndarray, groups: np.ndarray, others: np.ndarray, their_groups: np.ndarray) -> np.ndarray:
    """Return the mean cosine of each unit vector to its `NEIGHBOURS` nearest among the others, float64; NaN where there
    are fewer. Others that share a group with it do not count: `groups` is [n, kinds of groups].
    """
    out = np.full(len(vectors), np.nan)
    for start in range(0, len(vectors), BLOCK):
        part = slice(start, start + BLOCK)
        alike = vectors[part].astype(np.float32) @ others.T.astype(np.float32)
        for kind in range(groups.shape[1]):
            alike[groups[part, kind][:, None] == their_groups[:, kind][None, :]] = -np.inf
        if vectors.shape[1] and alike.shape[1] >= NEIGHBOURS:
            nearest = -np.partition(-alike, NEIGHBOURS - 1, axis=1)[:, :NEIGHBOURS]
            out[part] = np.where(np.isfinite(nearest).all(axis=1), nearest.mean(axis=1), np.nan)
    return out


def rarity(roots: np.ndarray, counts: dict[str, int], own: dict[str, int] | None = None) -> np.ndarray:
    """Return -ln of each category's share among counted lines, with one line added to each category and to those
    never seen; `own`: lines that are taken out of the counts first.
    """
    own = own or {}
    total = sum(counts.values()) - sum(own.values()) + len(counts) + 1
    return np.array([-np.log((counts.get(r, 0) - own.get(r, 0) + 1) / total) for r in roots.tolist()], np.float64)


def cosines(encoder: Encoder, titles: list[str], candidates: list[str | None]) -> tuple[np.ndarray, np.ndarray]:
    """Return (unit vectors of the titles, their cosines to the candidates' titles; NaN where there is none)."""
    there = [i for i, name in enumerate(candidates) if isinstance(name, str)]
    vectors = np.asarray(encoder.encode(titles), np.float32)
    theirs = encoder.encode([str(candidates[i]) for i in there]) if there else np.empty((0, vectors.shape[1]))
    out = np.full(len(titles), np.nan)
    out[there] = np.einsum("ij,ij->i", vectors[there], theirs)
    return vectors, out


def root_of(category: Any) -> str:
    """Return the root of a category path, '' where there is none."""
    return "" if category is None or category != category else str(category).split(" > ")[0]
