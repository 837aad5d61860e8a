"""What a vendor's line and a product agree on, conflict in and lack, read from the two texts themselves.

Explanations take their words from here and only the sizes of the effects from the scorer: a model may give weight to
a pair for reasons of its own, but it is said that a size agrees only where both texts hold that size.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from rapidfuzz import fuzz
from rapidfuzz.distance import OSA

from shelfwise.matching.features import CODES, PACKS, PAST_LINES, SIZES, SPELLING, WORDS, is_code
from shelfwise.matching.lexical import split_words
from shelfwise.matching.quantities import BARE, DIMENSIONS, PACK, neighbours, quantities
from shelfwise.matching.spelling import Spelling

AGREES, CONFLICTS, MISSING, READ, NOTE = "agrees", "conflicts", "missing", "read", "note"
ALIKE = 80  # rapidfuzz ratio from which two words that nothing else joins are said to resemble each other
SHOWN = 3  # words named one by one

_LABELS = {
    "volume": "size", "weight": "size", "length": "length", "storage": "storage", "memory_mb": "memory",
    "pixels": "resolution", "charge": "battery", "power": "power", "voltage": "voltage", "frequency": "frequency",
    "age": "age", "speed": "speed", "year": "year",
}  # fmt: skip
_UNIT_WORDS = {"yr": "years", "in": "inch", "mah": "mAh", "gb": "GB", "tb": "TB", "mb": "MB", "mp": "MP", "w": "W",
               "kw": "kW", "v": "V", "hz": "Hz", "mhz": "MHz", "ghz": "GHz"}  # fmt: skip
_LARGER = {"ml": "l", "g": "kg", "gb": "tb"}
_AMOUNT = re.compile(r"(\d+(?:\.\d+)?)([a-z]*)$")
_TIMES = re.compile(r"(\d{1,3})x(\d+(?:\.\d+)?(?:ml|g|oz|lb))$")  # "6x330ml"; "20x30cm" is no pack
_SOLD_BY = re.compile(r"\d+(?:\.\d+)?(?:ml|g|oz|lb)$")
_CONTAINERS = {"pack", "case", "box", "set"}


@dataclass(frozen=True)
class Finding:
    """One thing found in a pair: its group (see `features.GROUPS`), its kind, and the words for it.

    `words`: of a finding about words, which they are; `where`: what is said of them, if they are named one by one.
    """

    group: str
    kind: str
    text: str
    words: tuple[str, ...] = ()
    where: str = ""

    @classmethod
    def of_words(cls, group: str, kind: str, words: Sequence[str], where: str) -> Finding:
        """Return a finding about words, the first few of which are named."""
        return cls(group, kind, f"{_some(words)} {where}" if words else "", tuple(words), where)

    def without(self, words: Collection[str]) -> Finding:
        """Return the finding without some words; its text is empty where none is left."""
        if not self.where:
            return self
        return self.of_words(self.group, self.kind, [word for word in self.words if word not in words], self.where)


@dataclass(frozen=True)
class Amount:
    """A quantity or plain number of a title: how it is shown, and its keys by dimension (see `quantities`)."""

    shown: str
    keys: frozenset[tuple[int, int]]
    number: float

    @property
    def dimensions(self) -> set[int]:
        return {dimension for dimension, _ in self.keys}

    @property
    def bare(self) -> bool:
        return all(dimension in BARE for dimension in self.dimensions)

    @property
    def label(self) -> str:
        return _LABELS.get(DIMENSIONS[min(self.dimensions)], "number")

    def meets(self, other: Amount) -> bool:
        """Whether the two mean the same."""
        return any(near in other.keys for key in self.keys for near in neighbours(key))


@dataclass(frozen=True)
class Side:
    """A normal form taken apart, everything in its order and once."""

    words: tuple[str, ...]
    amounts: tuple[Amount, ...]
    codes: tuple[str, ...]
    packs: tuple[int, ...]


@lru_cache(maxsize=50_000)
def take_apart(words: tuple[str, ...]) -> Side:
    """Sort the words of a normal form (`split_words`) into plain words, amounts, model codes and pack sizes."""
    plain: dict[str, None] = {}
    amounts: dict[str, Amount] = {}
    codes: dict[str, None] = {}
    packs: dict[int, None] = {}
    skip = 0
    for i, raw in enumerate(words):
        if skip:
            skip -= 1
            continue
        word = raw
        times = _TIMES.match(word)
        if times:
            packs[int(times.group(1))] = None
            word = times.group(2)
        elif _is_count(words, i):
            packs[int(word)] = None
            skip = 1
            continue
        elif word in _CONTAINERS and i + 2 < len(words) and words[i + 1] == "of" and words[i + 2].isdigit():
            packs[int(words[i + 2])] = None
            skip = 2
            continue
        keys = frozenset(quantities(word))
        if is_code(word):
            codes[word] = None
        elif any(dimension == PACK for dimension, _ in keys):
            packs[int(float(word.strip("xpk")))] = None
        elif keys:
            amount = _amount(word, keys)
            amounts[amount.shown] = amount
        else:
            plain[word] = None
    return Side(tuple(plain), tuple(amounts.values()), tuple(codes), tuple(pack for pack in packs if pack != 1))


def _is_count(words: tuple[str, ...], i: int) -> bool:
    """Whether the word at i is the 12 of "12 x 750ml"."""
    if not (words[i].isdigit() and len(words[i]) <= 3 and i + 2 < len(words) and words[i + 1] == "x"):
        return False
    return bool(_SOLD_BY.match(words[i + 2]))


def _amount(word: str, keys: frozenset[tuple[int, int]]) -> Amount:
    found = _AMOUNT.match(word)
    if found is None:  # no quantity has another form today
        return Amount(word, keys, float("nan"))
    number, unit = float(found.group(1)), found.group(2)
    shown, name = number, unit
    if unit in _LARGER and number >= 1000 and round(number) % 100 == 0:
        shown, name = number / 1000, _LARGER[unit]
    digits = f"{shown:.5f}".rstrip("0").rstrip(".")
    return Amount(f"{digits} {_UNIT_WORDS.get(name, name)}".strip(), keys, number)


@dataclass(frozen=True)
class Reading:
    """How a line's words were read against one product: what stands for what, and the words that are left."""

    words: tuple[str, ...]  # the line's, misread ones replaced by what they stand for
    replaced: frozenset[str]  # the product's words that came in by reading
    findings: tuple[Finding, ...]


def read_words(line: tuple[str, ...], product: tuple[str, ...], spelling: Spelling) -> Reading:
    """Find which words of the line are misspelt, shortened, glued or split words of the product.

    A word that occurs in a title of the catalog is taken as it is written, as everywhere in matching.
    """
    wanted = [word for word in dict.fromkeys(product) if word not in line]
    if not wanted or all(word in product for word in line):
        return Reading(line, frozenset(), ())
    columns = {spelling.words[word]: word for word in wanted if word in spelling.words}
    stands_for: dict[str, list[str]] = {}
    findings: list[Finding] = []
    gone: set[str] = set()

    def found(written: str, meant: Iterable[str], how: str) -> None:
        meant = [word for word in meant if word in wanted]
        if meant:
            findings.append(Finding(SPELLING, READ, f"{how} {_quoted([' '.join(meant)])}"))
            stands_for[written] = meant
            wanted[:] = [word for word in wanted if word not in meant]

    for size in (3, 2):
        for at in range(len(line) - size + 1):
            pieces = line[at : at + size]
            glued = "".join(pieces)
            if glued in wanted and not glued.isdigit() and gone.isdisjoint(pieces):
                found(pieces[0], [glued], f'"{" ".join(pieces)}" read as')
                gone.update(pieces[1:])
    for word in dict.fromkeys(line):
        if word in product or word in spelling.words or word in stands_for or word in gone:
            continue
        meant = [columns[column] for column in spelling.meanings(word) if column in columns]
        if meant:
            found(word, meant, f'{_manner(word, meant)} "{word}" read as')
    for word in dict.fromkeys(line):
        if not word.isalpha() or len(word) < 3 or word in product or word in spelling.words:
            continue
        if word in stands_for or word in gone:
            continue
        longer = [other for other in wanted if other.startswith(word) and other.isalpha()]
        alike = [other for other in wanted if other.isalpha() and len(other) >= 4 and _alike(word, other)]
        if longer:
            found(word, longer[:1], f'shortened "{word}" may be')
        elif alike and len(word) >= 4:
            found(word, alike[:1], f'"{word}" resembles')
    words: list[str] = []
    for word in line:
        if word not in gone:
            words.extend(stands_for.get(word, [word]))
    replaced = frozenset(word for meant in stands_for.values() for word in meant)
    return Reading(tuple(words), replaced, tuple(findings))


def _alike(word: str, other: str) -> bool:
    """Whether two words resemble each other: letters alike, or two neighbours swapped."""
    return fuzz.ratio(word, other) >= ALIKE or OSA.distance(word, other, score_cutoff=1) <= 1


def _manner(word: str, meant: Sequence[str]) -> str:
    if len(meant) > 1 or (meant and len(word) >= len(meant[0]) + 3):
        return "joined"
    if meant and len(word) <= len(meant[0]) - 2:
        return "shortened"
    return "misspelt"


@dataclass(frozen=True)
class Catalog:
    """What of the catalog words are read against: spellings, how rare each word is, the brands of one word."""

    spelling: Spelling
    rarity: Callable[[str], float]
    brands: Collection[str] = frozenset()


def compare(
    line: str, product: str, brand: str, catalog: Catalog, in_past: Callable[[str], bool] = lambda word: False
) -> list[Finding]:
    """Return what two normal forms agree on, conflict in and lack.

    `brand`: the product's, in normal form, '' where unknown. `in_past`: whether a past line of the product holds a
    word.
    """
    line_words, product_words = tuple(split_words(line)), tuple(split_words(product))
    reading = read_words(line_words, product_words, catalog.spelling)
    ours, theirs = take_apart(reading.words), take_apart(product_words)
    findings = list(reading.findings)
    findings += _brand(tuple(split_words(brand)), set(reading.words), set(product_words), catalog)
    findings += _words(ours, theirs, set(split_words(brand)) | reading.replaced, catalog, in_past)
    findings += _amounts(ours.amounts, theirs.amounts)
    findings += _packs(ours.packs, theirs.packs)
    findings += _codes(ours.codes, theirs.codes, line.replace(" ", ""), product.replace(" ", ""), in_past)
    return findings


def _brand(brand: tuple[str, ...], line: set[str], product: set[str], catalog: Catalog) -> list[Finding]:
    """Whether the line holds the product's brand; if not, whether it holds another one."""
    if not brand:
        return []
    name = _quoted([" ".join(brand)])
    if all(word in line for word in brand):
        return [Finding(WORDS, AGREES, f"brand {name} agrees", brand)]
    if any(word in line for word in brand):
        return [Finding(WORDS, MISSING, f"brand {name} only partly in line")]
    rivals = sorted(word for word in line if word in catalog.brands and word not in product)
    if rivals:
        also = f"which has {_quoted(rivals[:1])}, another brand"
        return [Finding(WORDS, CONFLICTS, f"brand {name} missing in line, {also}")]
    return [Finding(WORDS, MISSING, f"brand {name} missing in line")]


def _words(
    line: Side, product: Side, told: set[str], catalog: Catalog, in_past: Callable[[str], bool]
) -> list[Finding]:
    """Plain words, less those that were told already."""
    ours, theirs = set(line.words), set(product.words)
    shared = _telling([word for word in product.words if word in ours and word not in told], catalog)
    lacking = _telling([word for word in product.words if word not in ours and word not in told], catalog)
    extra = _telling([word for word in line.words if word not in theirs and word not in told], catalog)
    past = [word for word in extra if in_past(word)]
    extra = [word for word in extra if word not in past]
    findings: list[Finding] = []
    if shared:
        verb = "agrees" if len(shared) == 1 else "agree"
        every = len(shared) > SHOWN and ours == theirs
        named = Finding.of_words(WORDS, AGREES, shared, verb)
        findings.append(Finding(WORDS, AGREES, "all words agree", tuple(shared)) if every else named)
    if lacking:
        findings.append(Finding.of_words(WORDS, MISSING, lacking, "missing in line"))
    if extra:
        findings.append(Finding.of_words(WORDS, MISSING, extra, "not in product"))
    if past:
        findings.append(Finding.of_words(PAST_LINES, AGREES, past, "known from its past lines"))
    return findings


def _telling(words: list[str], catalog: Catalog) -> list[str]:
    """Words worth naming, the rarest first."""
    return sorted((word for word in words if len(word) > 1), key=lambda word: -catalog.rarity(word))


def _some(words: Sequence[str]) -> str:
    noun = "word" if len(words) == 1 else "words"
    more = f" and {len(words) - SHOWN} more" if len(words) > SHOWN else ""
    return f"{noun} {_quoted(words[:SHOWN])}{more}"


def _quoted(words: Sequence[str]) -> str:
    return ", ".join(f'"{word}"' for word in words)


def _amounts(line: tuple[Amount, ...], product: tuple[Amount, ...]) -> list[Finding]:
    """Quantities by dimension, and plain numbers."""
    findings: list[Finding] = []
    left, right = list(line), list(product)
    agreed: set[int] = set()
    for theirs in product:
        ours = next((amount for amount in left if amount.meets(theirs)), None)
        if ours is None:
            continue
        other = "" if ours.shown == theirs.shown else f" (line says {ours.shown})"
        findings.append(Finding(SIZES, AGREES, f"{theirs.label} {theirs.shown} agrees{other}"))
        left.remove(ours)
        right.remove(theirs)
        agreed |= ours.dimensions & theirs.dimensions
    for theirs in list(right):
        ours = next((a for a in left if a.number == theirs.number and a.bare != theirs.bare), None)
        if ours is not None:
            findings.append(Finding(SIZES, NOTE, f"{ours.shown} in line may be {theirs.label} {theirs.shown}"))
            left.remove(ours)
            right.remove(theirs)
    for dimension in sorted({d for amount in left for d in amount.dimensions} - agreed):
        ours = [amount for amount in left if dimension in amount.dimensions]
        theirs = [amount for amount in right if dimension in amount.dimensions]
        if ours and theirs:
            said = " and ".join(amount.shown for amount in ours)
            wanted = " and ".join(amount.shown for amount in theirs)
            label = _LABELS.get(DIMENSIONS[dimension], "number")
            findings.append(Finding(SIZES, CONFLICTS, f"{label} conflicts: line says {said}, product {wanted}"))
            left = [amount for amount in left if amount not in ours]
            right = [amount for amount in right if amount not in theirs]
    findings += [Finding(SIZES, MISSING, f"{amount.label} {amount.shown} missing in line") for amount in right]
    findings += [Finding(SIZES, MISSING, f"{amount.label} {amount.shown} only in line") for amount in left]
    return findings


def _packs(line: tuple[int, ...], product: tuple[int, ...]) -> list[Finding]:
    """Pack sizes; none means one piece."""
    if not line and not product:
        return []
    if set(line) & set(product):
        return [Finding(PACKS, AGREES, f"pack of {(set(line) & set(product)).pop()} agrees")]
    said, wanted = (" and ".join(map(str, sorted(packs))) or "none" for packs in (line, product))
    if line and product:
        return [Finding(PACKS, CONFLICTS, f"pack conflicts: line says {said}, product {wanted}")]
    return [Finding(PACKS, MISSING, f"pack: line says {said}, product {wanted}")]


def _codes(
    line: tuple[str, ...],
    product: tuple[str, ...],
    squashed: str,
    squashed_product: str,
    in_past: Callable[[str], bool],
) -> list[Finding]:
    """Model codes; one that is written in pieces on the other side agrees too."""
    findings: list[Finding] = []
    shared = [code for code in product if code in line]
    apart = [code for code in product if code not in line and code in squashed]
    apart += [code for code in line if code not in product and code in squashed_product]
    findings += [Finding(CODES, AGREES, f'model code "{code}" agrees') for code in shared]
    findings += [Finding(CODES, AGREES, f'model code "{code}" agrees, written in pieces') for code in apart]
    ours = [code for code in line if code not in shared and code not in apart]
    theirs = [code for code in product if code not in shared and code not in apart]
    past = [code for code in ours if in_past(code)]
    ours = [code for code in ours if code not in past]
    findings += [Finding(PAST_LINES, AGREES, f'model code "{code}" known from its past lines') for code in past]
    if ours and theirs and not findings:
        said, wanted = _quoted(ours[:2]), _quoted(theirs[:2])
        return [Finding(CODES, CONFLICTS, f"model code conflicts: line says {said}, product {wanted}")]
    findings += [Finding(CODES, MISSING, f'model code "{code}" missing in line') for code in theirs[:2]]
    findings += [Finding(CODES, MISSING, f'model code "{code}" only in line') for code in ours[:2]]
    return findings
