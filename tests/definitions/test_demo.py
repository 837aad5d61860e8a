"""The demo's summary in the cases that its own catalog does not show."""

from orchestration.demo import _thresholds
from orchestration.settings import Settings


def test_thresholds_say_what_approval_is_worth():
    line = _thresholds(Settings(approve=0.9, review=0.5), {"approved_precision": 0.993, "approved_coverage": 0.82})
    assert line == "approve ≥ 0.9 (right 99.3% of the time, settles 82.0% of lines with a match), review ≥ 0.5"


def test_a_matcher_that_approves_nothing_has_a_summary_too():
    line = _thresholds(Settings(approve=0.9, review=0.5), {"approved_coverage": 0.0})
    assert "nothing was approved" in line
