"""The category tree as a classifier sees it: classes are labelled paths, and every level is a sum over classes.

    tree = Taxonomy.of(["Drinks > Wine > Red", "Drinks > Beer", "Pet"])
    tree.roll_up(p, 1)  # probabilities of Drinks and Pet

A class is a path as somebody labelled it, whatever its depth: where "Drinks" and "Drinks > Beer" are both labels, both
are classes, and "Drinks" stands for "some drink, no more is known". The probability of a node is the sum over the
classes below it, so that no child is ever more probable than its parent.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

SEPARATOR = " > "
SEVERAL = " | "
_SEPARATORS = re.compile(r"\s*>\s*")
_BARS = re.compile(r"\s+\|\s+")


def clean_path(text: str) -> str:
    """Return a category path with single separators, "A>B > C >" as "A > B > C"; dbt's staging models do the same."""
    return _SEPARATORS.sub(SEPARATOR, text.strip(" >\t\r\n"))


def split_categories(text: str | None) -> list[str]:
    """Return the category paths of a cell, in their order and each once: "A > B | C" holds two right ones."""
    if not isinstance(text, str):
        return []
    paths = (clean_path(part) for part in _BARS.split(text.strip()))
    return list(dict.fromkeys(path for path in paths if path))


def levels_of(path: str) -> tuple[str, ...]:
    """Return the paths from the root to a path itself: "A > B" has the levels "A" and "A > B"."""
    parts = path.split(SEPARATOR)
    return tuple(SEPARATOR.join(parts[: depth + 1]) for depth in range(len(parts)))


@dataclass(frozen=True)
class Taxonomy:
    """The classes of a classifier, sorted: distinct category paths. Build it with `of`."""

    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        """Raise ValueError for classes that are not sorted, not distinct or not clean paths."""
        if list(self.classes) != sorted(set(self.classes)):
            raise ValueError("the classes of a taxonomy are distinct and sorted; use Taxonomy.of")
        for path in self.classes:
            if not path or clean_path(path) != path:
                raise ValueError(f'{path!r} is no category path "A > B > C"')

    @classmethod
    def of(cls, paths: Iterable[object]) -> Taxonomy:
        """Return the taxonomy of labelled cells; a cell is text (several paths joined by " | ") or a list of paths."""
        return cls(tuple(sorted({path for cell in paths for path in _paths(cell)})))

    def __len__(self) -> int:
        return len(self.classes)

    @property
    def depth(self) -> int:
        """Return how many levels the deepest class has; 0 without classes."""
        return len(self._levels)

    def index(self, paths: Iterable[str | None]) -> np.ndarray:
        """Return the class of each path as int64 [n], -1 where there is no such class."""
        place = self._place
        return np.fromiter((place.get(path, -1) if isinstance(path, str) else -1 for path in paths), dtype=np.int64)

    def truths(self, cells: Iterable[object]) -> list[list[int]]:
        """Return the classes that are right for each cell (see `of`), without what is no class; maybe none at all."""
        place = self._place
        return [[place[path] for path in _paths(cell) if path in place] for cell in cells]

    def level(self, k: int) -> tuple[tuple[str, ...], np.ndarray]:
        """Return the nodes of level k (1 is the root) and, as int64 [classes], the node that each class lies under.

        A class that ends above level k is its own node there, so that the nodes of every level cover all classes.
        Below the deepest level nothing changes any more. Raises ValueError for k < 1.
        """
        if k < 1:
            raise ValueError(f"levels count from 1, not {k}")
        if not self._levels:
            return (), np.zeros(0, dtype=np.int64)
        return self._levels[min(k, self.depth) - 1]

    def roll_up(self, p: np.ndarray, k: int) -> np.ndarray:
        """Return probabilities [n, nodes of level k] from those of the classes [n, classes]: sums, in p's own type."""
        names, group = self.level(k)
        p = np.asarray(p)
        if p.shape[1] != len(self):
            raise ValueError(f"{p.shape[1]} columns for {len(self)} classes")
        if not len(p) or not names:
            return np.zeros((len(p), len(names)), dtype=p.dtype)
        order = np.argsort(group, kind="stable")
        starts = np.searchsorted(group[order], np.arange(len(names)))
        return np.add.reduceat(p[:, order], starts, axis=1)

    def to_json(self) -> str:
        return json.dumps({"classes": list(self.classes)}, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Taxonomy:
        """Return the taxonomy that `to_json` wrote. Raises ValueError where it is none."""
        return cls(tuple(json.loads(text)["classes"]))

    @cached_property
    def _place(self) -> dict[str, int]:
        return {path: place for place, path in enumerate(self.classes)}

    @cached_property
    def _levels(self) -> tuple[tuple[tuple[str, ...], np.ndarray], ...]:
        lines = [levels_of(path) for path in self.classes]
        return tuple(_level(lines, k) for k in range(1, max(map(len, lines), default=0) + 1))


def _level(lines: Sequence[tuple[str, ...]], k: int) -> tuple[tuple[str, ...], np.ndarray]:
    nodes = [line[min(k, len(line)) - 1] for line in lines]
    names = sorted(set(nodes))
    place = {name: number for number, name in enumerate(names)}
    group = np.array([place[node] for node in nodes], dtype=np.int64)
    group.flags.writeable = False
    return tuple(names), group


def _paths(cell: object) -> list[str]:
    if isinstance(cell, str):
        return split_categories(cell)
    if not isinstance(cell, Iterable):  # None, or a missing value of pandas
        return []
    return [clean_path(path) for path in cell if isinstance(path, str) and path.strip(" >")]
