from datetime import UTC, datetime, timedelta

import pytest

from shelfwise import clock


def test_without_a_file_it_is_now():
    assert abs(clock.now() - datetime.now(UTC)) < timedelta(minutes=1)


@pytest.mark.parametrize("text", ["2027-03-01T06:00:00", "2027-03-01T06:00:00+00:00\n", "2027-03-01T08:00:00+02:00"])
def test_a_file_says_what_time_it_is(tmp_path, monkeypatch, text):
    (tmp_path / "clock").write_text(text)
    monkeypatch.setenv(clock.VARIABLE, str(tmp_path / "clock"))
    assert clock.now() == datetime(2027, 3, 1, 6, tzinfo=UTC)
    (tmp_path / "clock").write_text("2027-03-02T06:00:00")
    assert clock.now() == datetime(2027, 3, 2, 6, tzinfo=UTC)


def test_a_file_that_holds_no_time_is_named(tmp_path, monkeypatch):
    (tmp_path / "clock").write_text("noon")
    monkeypatch.setenv(clock.VARIABLE, str(tmp_path / "clock"))
    with pytest.raises(ValueError, match="clock should hold a time in ISO 8601, not 'noon'"):
        clock.now()
