"""A title as words that remember which fact about the product they state."""

from __future__ import annotations

from typing import NamedTuple

BRAND, LINE, STYLE, NOUN, ADDED = "brand", "line", "style", "noun", ""
DESCRIPTIVE = frozenset({LINE, STYLE, NOUN})


class Word(NamedTuple):
    """One piece of a title.

    `fact` is "brand", "line", "style", "noun", the name of an attribute ("volume", "colour"), or "" for what a vendor
    added. `origin` is the text in the master catalog; it becomes "" once too little is left to recognise it.
    """

    text: str
    fact: str
    origin: str

    @property
    def is_attribute(self) -> bool:
        """Whether the word states an attribute in which variants may differ."""
        return self.fact not in (BRAND, LINE, STYLE, NOUN, ADDED)


def plain(text: str, fact: str) -> Word:
    """Return a word as the catalog writes it."""
    return Word(text, fact, text)


def joined(words: tuple[Word, ...]) -> str:
    """Return the words with single spaces between them."""
    return " ".join(word.text for word in words)


def stated(words: tuple[Word, ...]) -> frozenset[tuple[str, str]]:
    """Return the facts that can still be read off the words, as (fact, catalog text)."""
    return frozenset((word.fact, word.origin) for word in words if word.fact and word.origin)
