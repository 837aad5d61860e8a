"""What differs between systems that ask the gate: their measures and baselines, and what things are called."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

MARGIN = 0.01


@dataclass(frozen=True)
class Rules:
    """How candidate and champion of one system are compared, and what a candidate has to reach.

    `floor`: what the primary metric has to reach. `margin`: what a slice may lose. `beat`: baselines (`<name>_top1`
    among the metrics) that it has to beat; `keep`: those that it may equal, or be below by `slack`.

    Of the rows of an evaluation, one per line: `same`: columns by which a line is known; `unit`: what is won and lost
    together, and so is one witness; `among`: whether a line counts in top-1 and top-5, `answerable`: in what is decided
    rightly (None: every line does); `decided`: the value of the column `decision` that settles a line without a person.
    `slices`: by name, the column.

    Words for people: `model`, `lines`, `evaluation` (the asset that compares), `more` (how to get more lines), `seen`
    (why a line is left out), `does`, `done` and `deeds`: what the model does with lines on its own; `rest`: what
    becomes of them otherwise. The measures of decisions are called `<done>_precision` and `<done>_coverage`.
    """

    floor: float
    evaluation: str
    model: str
    more: str
    seen: str
    same: Sequence[str]
    unit: str
    slices: Mapping[str, str]
    decided: str
    does: str
    done: str
    deeds: str
    rest: str
    beat: Sequence[str] = ()
    keep: Sequence[str] = ()
    slack: float = 0.0
    margin: float = MARGIN
    primary: str = "top1"
    lines: str = "lines"
    among: str | None = None
    answerable: str | None = None
    called: Mapping[str, str] = field(default_factory=dict)

    @property
    def precision(self) -> str:
        """The measure of how often a decision without a person is right."""
        return f"{self.done}_precision"

    @property
    def coverage(self) -> str:
        """The measure of how many lines are settled rightly without a person."""
        return f"{self.done}_coverage"

    @property
    def measures(self) -> tuple[str, ...]:
        """What candidate and champion are compared in."""
        return ("top1", "top5", self.precision, self.coverage)

    @property
    def names(self) -> dict[str, str]:
        """What the measures are called."""
        return {
            "top1": "top-1",
            "top5": "top-5",
            self.coverage: f"share {self.done} rightly",
            self.precision: f"precision of {self.done} {self.lines}",
        }

    def baseline(self, name: str) -> str:
        """What a baseline is called."""
        return self.called.get(name, name.replace("_", " "))
