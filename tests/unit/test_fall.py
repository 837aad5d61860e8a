"""Whether accuracy fell: few false requests in a year of weekly looks, and a fall of eight points is found."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from shelfwise.monitoring import live
from shelfwise.monitoring.fall import ERROR, decide_fall, half_width
from shelfwise.monitoring.live import Estimate, Look, Value

START = datetime(2026, 1, 5, tzinfo=UTC)
ACCEPTED = {"top1": 0.90, "top1_low": 0.89, "top1_high": 0.91, "top5": 0.96, "top5_low": 0.953, "top5_high": 0.967}
DROP = 0.05


def look(top1: float, error: float, top5: float = 0.96, index: int = 0, lacking: tuple[str, ...] = ()) -> Look:
    values = [Value(v, v - 1.96 * error, v + 1.96 * error, error) for v in (top1, top5)]
    answers = {"approved": 50, "review": 400, "no_match": 30}
    return Look(index, START + index * live.CYCLE, Estimate(*values, answers, 1.0, lacking))


@pytest.mark.parametrize(
    ("looks", "state", "said"),
    [
        ([], "unknown", "no answer"),
        ([look(0.5, 0.001, lacking=("approved",))], "unknown", "50 of 10 on approved lines"),
        ([look(0.93, 0.01)], "steady", "less than 5 points"),
        ([look(0.86, 0.001)], "steady", "less than 5 points"),
        ([look(0.84, 0.04)], "watch", "nothing is requested"),
        ([look(0.84, 0.01)], "fell", "6.0 points below the 90.0% that were accepted"),
        ([look(0.90, 0.01, top5=0.90)], "fell", "top-5"),
        ([look(0.89, 0.01), look(0.82, 0.012, index=2)], "fell", "since 2026-03-02"),
        ([look(float("nan"), float("nan"), float("nan"))], "unknown", "no line had a product"),
    ],
)
def test_states_and_what_people_read(looks, state: str, said: str) -> None:
    decision = decide_fall(looks, ACCEPTED, DROP)
    assert decision.state == state, decision.reason
    assert decision.fell == (state == "fell")
    assert said in decision.reason
    assert len(decision.table()) == len(decision.comparisons)


def test_without_an_accepted_evaluation_nothing_is_compared() -> None:
    assert decide_fall([look(0.1, 0.001)], {}, DROP).state == "unknown"
    assert decide_fall([look(0.1, 0.001)], {"top1": 0.9}, DROP).state == "fell"
    assert decide_fall([look(0.1, 0.001)], {"top1": float("nan")}, DROP).state == "unknown"


def test_a_later_cycle_needs_more_than_the_first() -> None:
    assert decide_fall([look(0.84, 0.0155)], ACCEPTED, DROP).fell
    assert not decide_fall([look(0.90, 0.01), look(0.84, 0.0155, index=6)], ACCEPTED, DROP).fell


def test_the_sequence_holds_at_all_times_at_once() -> None:
    """Ten thousand random walks, looked at after each of 400 steps: it misses no more often than said. An interval for
    one look misses several times as often.
    """
    rng = np.random.default_rng(0)
    walks, steps, risk = 10_000, 400, 0.05
    means = rng.normal(0, 0.35, (walks, steps)).cumsum(axis=1) / np.arange(1, steps + 1)
    variance = 0.35**2 / np.arange(1, steps + 1)
    width = np.array([half_width(v, risk, DROP) for v in variance])
    missed = (means + width < 0).any(axis=1).mean()
    assert missed <= risk
    assert missed > risk / 10, "it is not needlessly wide either"
    assert (means + 1.645 * np.sqrt(variance) < 0)[:, 20:].any(axis=1).mean() > 4 * risk


# --- Simulated years: answers from the audit and from review, a look each week -------------------------------------

MIX = np.array([0.6, 0.25, 0.15])  # approved, review, no match
# Of lines by decision: right product first, among five, not found, not in the catalog. Top-1 over all is 86.8 %.
TRUE = np.array([[0.985, 0.006, 0.004, 0.005], [0.60, 0.20, 0.10, 0.10], [0.12, 0.08, 0.15, 0.65]])
WEEKLY = (12, 60, 8)  # answers by decision


def top(outcomes: np.ndarray, best: int) -> float:
    return float(MIX @ outcomes[:, :best].sum(axis=1) / (MIX @ outcomes[:, :3].sum(axis=1)))


def fallen(points: float) -> np.ndarray:
    """The same with a top-1 that is lower by so much: the right product is missed instead."""
    moved = TRUE.copy()
    moved[:, 0] *= 1 - points / top(TRUE, 1)
    moved[:, 2] += TRUE[:, 0] - moved[:, 0]
    return moved


def answers_until_request(rng: np.random.Generator, weeks: int, true, seen: int = 3000) -> int | None:
    """Return how many answers had come in when a retrain was requested, None where none was."""
    accepted = {}
    for name, best in (("top1", 1), ("top5", 2)):
        share = rng.binomial(seen, top(TRUE, best)) / seen
        half = 1.96 * np.sqrt(share * (1 - share) / seen)
        accepted |= {name: share, f"{name}_low": share - half, f"{name}_high": share + half}
    came: list[np.ndarray] = []
    for week in range(weeks):
        came.append(np.array([rng.multinomial(n, p / p.sum()) for n, p in zip(WEEKLY, true(week), strict=True)]))
        looks = []
        for index in range(week // 4 + 1):
            counts = sum(came[4 * index :], np.zeros((3, 4)))
            top1, top5 = live._ratios(MIX, counts, 0)
            number = dict(zip(live.DECISIONS, counts.sum(axis=1).astype(int).tolist(), strict=True))
            lacking = tuple(name for name, n in number.items() if n < live.LEAST)
            looks.append(Look(index, START + timedelta(weeks=4 * index), Estimate(top1, top5, number, 1.0, lacking)))
        if decide_fall(looks, accepted, DROP).fell:
            return (week + 1) * sum(WEEKLY)
    return None


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "DRAWS", 200)


@pytest.mark.usefixtures("quick")
def test_a_year_without_a_fall_requests_nothing() -> None:
    """At most `ERROR` of the years may have a request. When this was measured, 1 of 600 had one: a fall of five points
    is asked for besides.
    """
    rng = np.random.default_rng(0)
    years = 20
    requested = sum(answers_until_request(rng, 52, lambda week: TRUE) is not None for _ in range(years))
    assert requested <= years * ERROR


@pytest.mark.usefixtures("quick")
def test_a_fall_of_eight_points_is_found() -> None:
    """In half of the cases within 600 answers, in nine of ten within 1,000 (80 a week, 12 of them audited)."""
    rng = np.random.default_rng(1)
    low = fallen(0.08)
    assert top(TRUE, 1) - top(low, 1) == pytest.approx(0.08)
    needed = [answers_until_request(rng, 20, lambda week: low) or 10**6 for _ in range(60)]
    assert np.median(needed) <= 640
    assert np.quantile(needed, 0.9) <= 1040


@pytest.mark.usefixtures("quick")
def test_a_fall_after_three_good_months_is_found_too() -> None:
    rng = np.random.default_rng(2)
    low, good = fallen(0.12), 13
    found = [answers_until_request(rng, 30, lambda week: low if week >= good else TRUE) for _ in range(12)]
    after = [n // sum(WEEKLY) - good if n else 99 for n in found]
    assert min(after) > 0
    assert np.median(after) <= 8
