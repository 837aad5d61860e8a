"""What the readers mended in an input without refusing it: said, counted, with examples."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from itertools import islice

EXAMPLES_SHOWN = 5


@dataclass(frozen=True)
class Repair:
    """One kind of repair made to one file: what was done, to how many values or rows, and some of them."""

    what: str
    count: int
    examples: tuple[str, ...] = ()

    def __str__(self) -> str:
        shown = f" (for example {'; '.join(self.examples)})" if self.examples else ""
        return f"{self.what}: {self.count:,}{shown}"

    def as_dict(self) -> dict[str, object]:
        return {**asdict(self), "examples": "; ".join(self.examples)}


def repair(what: str, count: int, examples: Iterable[str] = ()) -> list[Repair]:
    """A list with one repair, or none where nothing was repaired. Long examples are cut."""
    shown = tuple(shorten(example) for example in islice(examples, EXAMPLES_SHOWN))
    return [Repair(what, int(count), shown)] if count else []


def shorten(value: object, limit: int = 60) -> str:
    """A value as it is shown to a person: one line, no control characters, no more than `limit` characters."""
    text = value if isinstance(value, str) else repr(value)
    text = "".join(char if char.isprintable() else " " if char.isspace() else "·" for char in text[: limit + 1])
    return text if len(text) <= limit else text[: limit - 1] + "…"
