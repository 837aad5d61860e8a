"""Errors a vendor or an operator can act on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

MAX_PROBLEMS_SHOWN = 20


@dataclass(frozen=True)
class Problem:
    """One thing wrong with an input: where it is, what was expected and what was found.

    `row` counts as a person sees it in a spreadsheet: the header is row 1. It is None where the problem
    concerns the whole file, and `column` is None where it concerns the whole row.
    """

    file: str
    expected: str
    found: str | None = None
    row: int | None = None
    column: str | None = None

    def __str__(self) -> str:
        place = self.file
        if self.row is not None:
            place += f", row {self.row}"
        if self.column is not None:
            place += f", column '{self.column}'"
        found = f"; found {self.found}" if self.found is not None else ""
        return f"{place}: expected {self.expected}{found}"

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


class InputError(ValueError):
    """Input that breaks the data contract. Nothing of it has been loaded when this is raised."""

    def __init__(self, problems: Sequence[Problem] | Problem):
        self.problems: list[Problem] = [problems] if isinstance(problems, Problem) else list(problems)
        shown = [str(problem) for problem in self.problems[:MAX_PROBLEMS_SHOWN]]
        hidden = len(self.problems) - len(shown)
        if hidden > 0:
            shown.append(f"... and {hidden} more")
        super().__init__("\n".join(shown))

    def __reduce__(self) -> tuple[type[InputError], tuple[list[Problem]]]:
        # Exceptions are pickled with their message as the argument; a worker process would lose the problems.
        return type(self), (self.problems,)
