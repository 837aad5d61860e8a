"""The benchmark of the sensors, at a size that takes no time."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import common, report, run, sensors


@pytest.mark.parametrize("name", ["uploads", "feedback"])
def test_ticks_are_measured_and_reported(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    place = sensors.Disk(tmp_path)
    monkeypatch.setattr(place, "settle", lambda: None)
    found = sensors.measure(sensors.Sensor(name, place, tmp_path / "home"), seen=30, new=5, times=2)
    assert found["files"] == 30 + 5 * 2 * 2
    assert 0 < found["cursor_bytes"] <= 4000
    assert found["slowest_seconds"] >= max(found[f"{kind}_seconds"] for kind in ("new", "restarted", "quiet")) > 0
    kept = common.about("sensors") | {"seen": 30, "new": 5, "times": 2, "ticks": {f"{name}_local": found}}
    text = report.render({"sensors": common.plain(kept)})
    assert f"| {report.SENSORS[f'{name}_local']} |" in text
    assert "## Sensors: 30 files seen" in text


def test_it_is_one_of_the_benchmarks() -> None:
    assert [benchmark.name for benchmark in run.selected(["sensors"])] == ["sensors"]
