"""What the demo prints at its end."""

from orchestration.demo import _decisions

SAID = {"policy": "guaranteed", "thresholds": "approve at 0.9 or above", "promised": "at least 99.1% right"}


def test_decisions_say_what_is_promised_and_what_was_measured():
    text = _decisions({**SAID, "approved_precision": 0.993, "approved_coverage": 0.82})
    assert "guaranteed: approve at 0.9 or above" in text
    assert "promised  at least 99.1% right" in text
    assert "right 99.3% of the time, settles 82.0% of lines with a match" in text


def test_a_matcher_that_approves_nothing_has_a_summary_too():
    assert "nothing was approved" in _decisions({**SAID, "approved_coverage": 0.0})
