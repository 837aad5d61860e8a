"""Lines made up from catalog titles: words in another order, typing errors, lost and shortened words.

What a matcher learns from where there is a catalog and no past line of any vendor (`made_up_lines`), and what
`benchmarks.robustness` asks it. Every function is pure: the same title and generator state give the same line.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import pandas as pd

_ROWS = ("1234567890", "qwertyuiop", "asdfghjkl", "zxcvbnm")
_NEXT = {
    char: row[max(0, i - 1) : i] + row[i + 1 : i + 2]
    for row in _ROWS
    for i, char in enumerate(row)
}  # fmt: skip
_VOWELS = frozenset("aeiou")
LEAST_LETTERS = 5  # of a word that is shortened
SLIPS = ("insert", "delete", "replace", "swap")
MADE_UP = "made up"  # the vendor of such lines


@dataclass(frozen=True)
class Noise:
    """How a line differs from its title, in this order.

    `dropped`: share of the words left out, rounded down to whole words (a title of four words keeps all of them at a
    fifth), or, with `each`, the chance of every word by itself; one word always stays. `shortened`: the chance of
    each word of `LEAST_LETTERS` letters or more, and nothing but letters, to be shortened (see `shorten`). `shuffled`:
    all orders of the words are equally likely. `typos`: slips of the keyboard anywhere in the line (see `mistype`).
    """

    dropped: float = 0.2
    shortened: float = 0.2
    shuffled: bool = True
    typos: int = 3
    each: bool = False

    def apply(self, title: str, chance: random.Random) -> str:
        """Return the noisy line of a title; a title of a word or none loses no word."""
        words = drop_words(title.split(), self.dropped, chance, self.each)
        words = [
            shorten(word, chance) if can_shorten(word) and chance.random() < self.shortened else word for word in words
        ]
        if self.shuffled:
            chance.shuffle(words)
        line = " ".join(words)
        for _ in range(self.typos):
            line = mistype(line, chance)
        return line


def drop_words(words: list[str], share: float, chance: random.Random, each: bool = False) -> list[str]:
    """Return the words without a share of them, in their order; see `Noise.dropped`."""
    if each:
        kept = [word for word in words if chance.random() >= share]
        return kept or ([chance.choice(words)] if words else [])
    gone = set(chance.sample(range(len(words)), min(int(len(words) * share + 1e-9), max(len(words) - 1, 0))))
    return [word for place, word in enumerate(words) if place not in gone]


def can_shorten(word: str) -> bool:
    """Whether a word is long enough to be shortened, and no number or code."""
    return len(word) >= LEAST_LETTERS and word.isalpha()


def short_forms(word: str) -> list[tuple[str, float]]:
    """Return the ways to shorten a word with their shares: three letters, four letters, no vowels after the first."""
    consonants = word[0] + "".join(char for char in word[1:] if char.lower() not in _VOWELS)
    return [(word[:3], 0.25), (word[:4], 0.25), (consonants, 0.5)]


def shorten(word: str, chance: random.Random) -> str:
    """Return one of the `short_forms` of a word, by their shares."""
    forms, shares = zip(*short_forms(word), strict=True)
    return chance.choices(forms, shares)[0]


def mistype(line: str, chance: random.Random) -> str:
    """Return the line after one slip, each of `SLIPS` equally likely, at a place where it changes the line.

    Places are uniform over the line, digits and blanks included. A letter or digit that is added or put in place of
    another is a neighbour on its row of the keyboard of the one that was meant; next to or instead of any other
    character it is any letter.
    """
    slips = list(SLIPS)
    chance.shuffle(slips)
    for slip in slips:
        changed = _slip(line, slip, chance)
        if changed is not None:
            return changed
    return line


def _slip(line: str, slip: str, chance: random.Random) -> str | None:
    """Return the changed line, None where this slip cannot change it."""
    if slip == "swap":
        places = [i for i in range(len(line) - 1) if line[i] != line[i + 1]]
        if not places:
            return None
        i = chance.choice(places)
        return line[:i] + line[i + 1] + line[i] + line[i + 2 :]
    if not line or (slip == "delete" and len(line) < 2):
        return None
    i = chance.randrange(len(line))
    if slip == "delete":
        return line[:i] + line[i + 1 :]
    near = _NEXT.get(line[i].lower()) or "".join(_ROWS[1:])
    new = chance.choice(near)
    if line[i].isupper():
        new = new.upper()
    return line[:i] + new + line[i + (slip == "replace") :]


def made_up_lines(
    products: pd.DataFrame, noise: Noise | None = None, seed: int = 0, most: int = 20_000
) -> pd.DataFrame:
    """Return a noisy line for each of at most `most` products drawn by the seed: vendor_id, vendor_title, product_id.

    `products`: product_id, title. For `Matcher.fit` where nobody has ever mapped a line.
    """
    noise, chance = noise or Noise(), random.Random(seed)
    some = products.sample(min(most, len(products)), random_state=seed)
    titles = [noise.apply(str(title), chance) for title in some["title"]]
    ids = some["product_id"].astype(str).to_numpy()
    return pd.DataFrame({"vendor_id": MADE_UP, "vendor_title": titles, "product_id": ids})
