"""What the benchmarks of the loop print, and how it is reported; the runs themselves take a quarter of an hour."""

from __future__ import annotations

from benchmarks import common, report, run, simulation

STORY = {
    "weeks": [
        {"week": 0, "files": 2, "lines": 100, "top1": 0.9},
        {"week": 1, "files": 0, "lines": 0, "top1": None},
        {"week": 2, "files": 1, "lines": 300, "top1": 0.5},
    ],
    "happenings": [{"week": 0, "kind": "promoted", "what": "1"}, {"week": 2, "kind": "refused", "what": "2"}],
    "verdicts": [
        {"event": "outage", "holds": True, "seen": "nothing lost"},
        {"event": "bad training set", "holds": False, "seen": "promoted"},
    ],
}


def test_a_year_comes_to_its_lines_its_happenings_and_its_verdicts() -> None:
    found = simulation.told(STORY)
    assert (found["weeks"], found["files"], found["lines"]) == (3, 3, 400)
    assert found["top1"] == 0.6, "by lines"
    assert found["happenings"] == {"promoted": 1, "refused": 1}
    assert (found["held"], found["not_held"]) == (1, 1)


def test_years_and_kills_are_reported_beside_what_they_must_reach() -> None:
    year = common.about("simulation") | simulation.told(STORY) | {"seconds": 901.0, "peak_mb": 2000.0, "status": 1}
    kills = common.about("kills") | {
        "rounds": 100, "kills": 96, "seed": 0, "pieces": {"uploads": 40}, "in_a_run": 60, "in_a_tick_or_before": 36,
        "steps": {"matching__champion": 3}, "violations": 0, "uploads": 90, "answers": 400, "seconds": 600.0,
    }  # fmt: skip
    text = report.render({"simulation": common.plain(year), "kills": common.plain(kills)})
    assert "| bad training set | **not** | promoted |" in text
    assert "| matching__champion | 3 |" in text
    for name, value in (("The simulated year, on two cores", "missed"), ("Kills at random points", "missed")):
        (line,) = [line for line in text.splitlines() if line.startswith(f"| {name}")]
        assert value in line


def test_they_are_among_the_benchmarks() -> None:
    assert [one.name for one in run.selected(["simulation", "kills"])] == ["simulation", "kills"]
