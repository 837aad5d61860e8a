"""Signals: one file per cause, read back whole; a file that is none stops nothing."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest

from shelfwise.monitoring.signals import KINDS, Signal, SignalError, raise_signal, read_signals

AT = datetime(2026, 3, 1, 8, tzinfo=UTC)


def test_a_cause_is_raised_once_and_the_first_report_stands(tmp_path: Path) -> None:
    first = Signal.of("accuracy", "top-1", "five points", "v1-abc", AT)
    again = Signal.of("accuracy", "top-1", "now eight points", "v1-abc", AT.replace(day=9))
    assert raise_signal(tmp_path, first)
    assert not raise_signal(tmp_path, again)
    assert read_signals(tmp_path) == [first]
    others = [
        Signal.of("drift", "top-1", "", "v1-abc", AT),
        Signal.of("accuracy", "top-5", "", "v1-abc", AT),
        Signal.of("accuracy", "top-1", "", "v2-abc", AT.replace(day=2)),
    ]
    assert all(raise_signal(tmp_path, signal) for signal in others)
    assert len(read_signals(tmp_path)) == 4
    assert read_signals(tmp_path)[-1] == others[-1], "in order of time"


def test_of_many_at_once_one_raises_it(tmp_path: Path) -> None:
    def raised(number: int) -> bool:
        return raise_signal(tmp_path, Signal.of("drift", "file", f"{number}", "v1", AT))

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(raised, range(40))) == 1
    assert len(read_signals(tmp_path)) == 1
    assert len(list((tmp_path / "signals").iterdir())) == 1


def test_the_time_is_the_projects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "clock").write_text("2027-05-01T00:00:00+02:00")
    monkeypatch.setenv("SHELFWISE_CLOCK", str(tmp_path / "clock"))
    signal = Signal.of("freshness", "champion", "no training", "v1")
    assert signal.at == datetime(2027, 4, 30, 22, tzinfo=UTC)
    raise_signal(tmp_path, signal)
    assert read_signals(tmp_path) == [signal]


def test_kinds_are_known() -> None:
    assert KINDS == ("accuracy", "drift", "freshness")
    with pytest.raises(ValueError, match="weather"):
        Signal.of("weather", "", "", "v1")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"at": "2026-01-01"}', b'{"at": 3}', b"\xff\xfe", b"null"])
def test_a_file_that_is_no_signal_is_named_and_the_others_are_read(tmp_path: Path, content: bytes) -> None:
    good = Signal.of("accuracy", "a", "b", "v1", AT)
    raise_signal(tmp_path, good)
    (tmp_path / "signals" / "0000.json").write_bytes(content)
    problems: list[str] = []
    assert read_signals(tmp_path, problems) == [good]
    (problem,) = problems
    assert "0000.json is not a signal" in problem
    assert "delete the file" in problem
    with pytest.raises(SignalError, match=r"0000\.json"):
        read_signals(tmp_path)


def test_there_may_be_none_yet(tmp_path: Path) -> None:
    assert read_signals(tmp_path) == []
