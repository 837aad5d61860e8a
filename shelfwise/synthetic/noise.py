"""Vendor noise of named kinds: each a pure function of a line and a random generator, listed in `KINDS`.

| kind | what it does |
|---|---|
| unit_rewriting | writes measures in another unit or spelling: 750ml as 75cl, .75L or 25.4oz; "12 Year" as 12yo |
| abbreviation | shortens one to three words by a dictionary ("Chocolate": "choc"), by dropping vowels, or with a dot |
| dropped_tokens | leaves out one or two words: mostly styles and nouns, seldom the brand, rarely an attribute |
| reordered_tokens | brand last, attributes first, or two neighbours swapped |
| pos_truncation | what a till prints: 18 to 30 characters, upper case, words squeezed, now and then simply cut off |
| case | a line in another case than the vendor's usual one |
| marketing | "NEW!", "Best Price", "Special Offer" before or after the title |
| typo | one or two letters swapped, dropped, doubled or mistyped |
| look_alike | one to three letters replaced by Cyrillic or Greek ones that look the same |
| mojibake | UTF-8 read as Latin-1 (Windows-1252, as browsers do): "Café" becomes "CafÃ©" |

The kinds are tried in the order of the table. Each kind has a stated rate: the mean share of lines that get it among
those to which it applies when its turn comes (a title without a measure has no unit to rewrite; one of 30 characters
needs no truncation). A vendor's own rates differ from the stated ones but average to them over the vendors.
A later kind may undo the trace of an earlier one: a truncated title may lose the word that was mistyped.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from shelfwise.synthetic.units import respell
from shelfwise.synthetic.vocabulary import ABBREVIATIONS, MARKETING
from shelfwise.synthetic.words import ADDED, BRAND, DESCRIPTIVE, LINE, NOUN, STYLE, Word, joined

SHORTEST_TILL_LINE, LONGEST_TILL_LINE = 18, 30
_VOWELS = re.compile(r"(?<=\w)[aeiouAEIOUéàöüî](?=\w)")
_KEYBOARD = {
    char: neighbours
    for row in ("qwertyuiop", "asdfghjkl", "zxcvbnm")
    for char, neighbours in zip(row, [row[max(0, i - 1) : i + 2] for i in range(len(row))], strict=True)
}
_LOOK_ALIKES = str.maketrans("AaBEeHKMOoPpCcTXxy", "АаВЕеНКМОоРрСсТХху")
_GREEK = str.maketrans("ABEHIKMNOPTXZo", "ΑΒΕΗΙΚΜΝΟΡΤΧΖο")
# How readily each kind of word is left out; attributes that set variants apart go rarely.
_DROP_WEIGHTS = {STYLE: 5.0, NOUN: 3.0, LINE: 0.7, BRAND: 1.2, ADDED: 0.0}
_ATTRIBUTE_DROP_WEIGHT = 0.35


class Line(NamedTuple):
    """A vendor's title while noise is put on it; `till` is set once a till has squeezed it."""

    words: tuple[Word, ...]
    till: bool = False


@dataclass(frozen=True)
class UnitHabit:
    """The unit spellings that a vendor likes best, one for volumes and one for weights."""

    volume: str
    weight: str


@dataclass(frozen=True)
class Kind:
    """One kind of noise: its stated rate, the lines it applies to, and what it does to them.

    `dressed` kinds come after the vendor's habits of case and accents, the others before.
    """

    name: str
    rate: float
    applies: Callable[[Line], bool]
    apply: Callable[[Line, random.Random, UnitHabit], Line]
    dressed: bool = False


def has_measure(line: Line) -> bool:
    """Whether a word states a measure that can be written in another way."""
    return any(word.is_attribute and respell(word.text) for word in line.words)


def unit_rewriting(line: Line, rng: random.Random, habit: UnitHabit) -> Line:
    """Write each measure in another way, in the vendor's favourite unit where it has one."""
    words = []
    for word in line.words:
        choices = respell(word.text, habit.volume, habit.weight) if word.is_attribute else ()
        words.append(word._replace(text=rng.choice(choices)) if choices else word)
    return line._replace(words=tuple(words))


def shortened(text: str, rng: random.Random) -> str:
    """Return a shorter way to write one word: by the dictionary, without its inner vowels, or cut with a dot."""
    known = ABBREVIATIONS.get(text.lower())
    if known:
        return known.upper() if text.isupper() else known.capitalize() if text[:1].isupper() else known
    if len(text) < 5 or not text.isalpha():
        return text
    if len(text) > 6 and rng.random() < 0.2:
        return text[: rng.choice((4, 5))] + "."
    return without_vowels(text)


def without_vowels(text: str) -> str:
    """Return a word without its inner vowels: "Harvest" as "Hrvst"; words of up to four letters stay as they are."""
    return _VOWELS.sub("", text) if len(text) > 4 else text


def _shortenable(word: Word) -> list[int]:
    """Return which pieces of a word can be shortened; attribute values only by the dictionary."""
    pieces = word.text.split(" ")
    by_rule = word.fact in DESCRIPTIVE or word.fact == BRAND
    return [
        index
        for index, piece in enumerate(pieces)
        if piece.lower() in ABBREVIATIONS
        or (by_rule and len(piece) > 4 and piece.isalpha() and _VOWELS.search(piece) is not None)
    ]


def can_be_shortened(line: Line) -> bool:
    """Whether any word is long enough to be abbreviated."""
    return any(_shortenable(word) for word in line.words)


def abbreviation(line: Line, rng: random.Random, habit: UnitHabit) -> Line:
    """Shorten one to three words."""
    words = list(line.words)
    places = [index for index, word in enumerate(words) if _shortenable(word)]
    for place in rng.sample(places, k=min(len(places), rng.choice((1, 2, 2, 3)))):
        pieces = words[place].text.split(" ")
        for index in _shortenable(words[place]):
            pieces[index] = shortened(pieces[index], rng)
        words[place] = words[place]._replace(text=" ".join(pieces))
    return line._replace(words=tuple(words))


def has_words_to_spare(line: Line) -> bool:
    """Whether a title is long enough to lose a word."""
    return len(line.words) >= 4


def dropped_tokens(line: Line, rng: random.Random, habit: UnitHabit) -> Line:
    """Leave out one word, or two of a longer title."""
    words = list(line.words)
    for _ in range(2 if len(words) >= 6 and rng.random() < 0.4 else 1):
        weights = [_DROP_WEIGHTS.get(word.fact, _ATTRIBUTE_DROP_WEIGHT) for word in words]
        del words[rng.choices(range(len(words)), weights)[0]]
    return line._replace(words=tuple(words))


def can_be_reordered(line: Line) -> bool:
    """Whether there are enough words for an order to be noticed."""
    return len(line.words) >= 3


def reordered_tokens(line: Line, rng: random.Random, habit: UnitHabit) -> Line:
    """Put the brand last, the attributes first, the noun first, or swap two neighbours."""
    words = line.words
    orders = [
        tuple(sorted(words, key=lambda word: word.fact == BRAND)),
        tuple(sorted(words, key=lambda word: not word.is_attribute)),
        tuple(sorted(words, key=lambda word: word.fact != NOUN)),
        tuple(sorted(words, key=lambda word: word.fact == LINE)),
    ]
    place = rng.randrange(len(words) - 1)
    swapped = (*words[:place], words[place + 1], words[place], *words[place + 2 :])
    changed = [order for order in orders if order != words]
    if not changed or rng.random() < 0.25:
        return line._replace(words=swapped)
    return line._replace(words=rng.choice(changed))


def too_long_for_a_till(line: Line) -> bool:
    """Whether a till would have to cut the title."""
    return len(joined(line.words)) > LONGEST_TILL_LINE


def pos_truncation(line: Line, rng: random.Random, habit: UnitHabit) -> Line:
    """Squeeze a title into 18 to 30 characters of upper case.

    Most tills have an item name that somebody squeezed by hand: attributes kept short, words without vowels. One in
    six cuts whatever comes after the last character that fits.
    """
    room = max(rng.randint(SHORTEST_TILL_LINE, LONGEST_TILL_LINE) for _ in range(2))
    words = [word._replace(text=word.text.upper()) for word in line.words]
    if rng.random() < 1 / 6:
        return Line(_cut(words, room), till=True)
    words = [word._replace(text=_compact(word.text)) if word.is_attribute else word for word in words]
    for index in sorted(range(len(words)), key=lambda index: -len(words[index].text)):
        if len(joined(tuple(words))) <= room:
            break
        if not words[index].is_attribute:
            pieces = words[index].text.split(" ")
            short = " ".join(ABBREVIATIONS.get(piece.lower(), without_vowels(piece)).upper() for piece in pieces)
            words[index] = words[index]._replace(text=short)
    for fact in (STYLE, NOUN):
        while len(joined(tuple(words))) > room and any(word.fact == fact for word in words):
            last = max(index for index, word in enumerate(words) if word.fact == fact)
            del words[last]
    while len(joined(tuple(words))) > room and any(len(word.text) > 3 for word in words if not word.is_attribute):
        longest = max(
            (index for index, word in enumerate(words) if not word.is_attribute),
            key=lambda index: len(words[index].text),
        )
        words[longest] = words[longest]._replace(text=words[longest].text[:-1].rstrip())
    return Line(_cut(words, room), till=True)


def _compact(text: str) -> str:
    """Return an attribute value as short as a till writes it: "12 YEAR" as 12YR, "6 PACK" as 6PK, "BLACK" as BLK."""
    text = re.sub(r"(?<=\d) (?=[A-Z])", "", text)
    text = re.sub(r"(?<=\d)YEAR\b", "YR", re.sub(r"(?<=\d)PACK\b", "PK", re.sub(r"(?<=\d)COUNT\b", "CT", text)))
    return " ".join(ABBREVIATIONS.get(piece.lower(), piece).upper() for piece in text.split(" "))


def _cut(words: list[Word], room: int) -> tuple[Word, ...]:
    """Return the words that fit into `room` characters; the last one may be cut, beyond recognition or not."""
    kept: list[Word] = []
    for word in words:
        if room <= 0:
            break
        text = word.text[:room].rstrip()
        readable = text == word.text or (not word.is_attribute and len(text) >= 3)
        if text:
            kept.append(word._replace(text=text, origin=word.origin if readable else ""))
        room -= len(text) + 1
    return tuple(kept)


def is_not_from_a_till(line: Line) -> bool:
    """Whether there is room for marketing: a till has none."""
    return not line.till


def has_other_cases(line: Line) -> bool:
    """Whether the line can be written in another case: a till prints capitals only."""
    text = joined(line.words)
    return not line.till and text.upper() != text.lower()


_CASES: tuple[Callable[[str], str], ...] = (str.upper, str.lower, str.title, str.swapcase)


def case(line: Line, rng: random.Random, habit: UnitHabit) -> Line:
    """Write the line in another case."""
    now = joined(line.words)
    other = rng.choice([change for change in _CASES if change(now) != now])
    return line._replace(words=tuple(word._replace(text=other(word.text)) for word in line.words))


def marketing(line: Line, rng: random.Random, habit: UnitHabit) -> Line:
    """Put a marketing phrase before or after the title, or one at each end."""
    first, second = rng.sample(MARKETING, 2)
    words = line.words
    place = rng.random()
    if place < 0.6:
        words = (Word(first, ADDED, ""), *words)
    if place >= 0.5:
        words = (*words, Word(second, ADDED, ""))
    return line._replace(words=words)


def _mistypable(word: Word) -> bool:
    return bool(word.fact) and sum(char.isalpha() and char.isascii() for char in word.text) >= 4


def has_letters_to_mistype(line: Line) -> bool:
    """Whether any word has four letters: shorter ones and numbers are typed with care."""
    return any(_mistypable(word) for word in line.words)


def typo(line: Line, rng: random.Random, habit: UnitHabit) -> Line:
    """Swap, drop, double or mistype a letter in one word, sometimes in two."""
    words = list(line.words)
    places = [index for index, word in enumerate(words) if _mistypable(word)]
    for place in rng.sample(places, k=min(len(places), rng.choice((1, 1, 1, 2)))):
        words[place] = words[place]._replace(text=_mistyped(words[place].text, rng))
    return line._replace(words=tuple(words))


def _mistyped(text: str, rng: random.Random) -> str:
    letters = [index for index, char in enumerate(text) if char.isalpha() and char.isascii()][1:]
    while True:
        place, slip = rng.choice(letters), rng.randrange(4)
        char = text[place]
        if slip == 0:
            changed = text[: place - 1] + char + text[place - 1] + text[place + 1 :]
        elif slip == 1:
            changed = text[:place] + text[place + 1 :]
        elif slip == 2:
            changed = text[:place] + char + text[place:]
        else:
            other = rng.choice(_KEYBOARD[char.lower()])
            changed = text[:place] + (other.upper() if char.isupper() else other) + text[place + 1 :]
        if changed != text:
            return changed


def has_look_alikes(line: Line) -> bool:
    """Whether any letter has a twin in another alphabet."""
    text = joined(line.words)
    return text.translate(_LOOK_ALIKES) != text


def look_alike(line: Line, rng: random.Random, habit: UnitHabit) -> Line:
    """Replace up to three letters of the line by Cyrillic or Greek twins."""
    words = list(line.words)
    table = _GREEK if rng.random() < 0.2 else _LOOK_ALIKES
    if not any(word.text.translate(table) != word.text for word in words):
        table = _LOOK_ALIKES
    places = [
        (index, at)
        for index, word in enumerate(words)
        for at, char in enumerate(word.text)
        if char.translate(table) != char
    ]
    for index, at in rng.sample(places, k=min(len(places), rng.choice((1, 2, 3)))):
        text = words[index].text
        words[index] = words[index]._replace(text=text[:at] + text[at].translate(table) + text[at + 1 :])
    return line._replace(words=tuple(words))


def misread(text: str) -> str:
    """Return UTF-8 bytes read as Windows-1252, and as Latin-1 where that code page has a hole."""
    return "".join(
        char
        if char.isascii()
        else "".join(
            byte.decode("cp1252", "ignore") or byte.decode("latin-1")
            for byte in (bytes([value]) for value in char.encode())
        )
        for char in text
    )


def can_be_misread(line: Line) -> bool:
    """Whether the line holds a letter outside ASCII."""
    return not joined(line.words).isascii()


def mojibake(line: Line, rng: random.Random, habit: UnitHabit) -> Line:
    """Read the UTF-8 of the line as Latin-1."""
    return line._replace(words=tuple(word._replace(text=misread(word.text)) for word in line.words))


# The one table of noise: order, stated rates, and what each kind applies to.
KINDS: tuple[Kind, ...] = (
    Kind("unit_rewriting", 0.55, has_measure, unit_rewriting),
    Kind("abbreviation", 0.42, can_be_shortened, abbreviation),
    Kind("dropped_tokens", 0.30, has_words_to_spare, dropped_tokens),
    Kind("reordered_tokens", 0.35, can_be_reordered, reordered_tokens),
    Kind("pos_truncation", 0.16, too_long_for_a_till, pos_truncation),
    Kind("case", 0.15, has_other_cases, case, dressed=True),
    Kind("marketing", 0.15, is_not_from_a_till, marketing, dressed=True),
    Kind("typo", 0.25, has_letters_to_mistype, typo, dressed=True),
    Kind("look_alike", 0.06, has_look_alikes, look_alike, dressed=True),
    Kind("mojibake", 0.30, can_be_misread, mojibake, dressed=True),
)
NOISE_RATES: dict[str, float] = {kind.name: kind.rate for kind in KINDS}
