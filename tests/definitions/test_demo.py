"""What the demo prints at its end."""

from orchestration.demo import _categories, _decisions, _only_refused
from orchestration.execution import RunOutcome

SAID = {"policy": "guaranteed", "thresholds": "approve at 0.9 or above", "promised": "at least 99.1% right"}


def test_decisions_say_what_is_promised_and_what_was_measured():
    text = _decisions({**SAID, "approved_precision": 0.993, "approved_coverage": 0.82})
    assert "guaranteed: approve at 0.9 or above" in text
    assert "promised  at least 99.1% right" in text
    assert "right 99.3% of the time, settles 82.0% of lines with a match" in text


def test_a_matcher_that_approves_nothing_has_a_summary_too():
    assert "nothing was approved" in _decisions({**SAID, "approved_coverage": 0.0})


def test_categories_say_what_either_classifier_reaches_and_why_they_are_combined_so():
    measured = {f"{name}{one}": 0.8 for name in ("", "text_") for one in ("top1", "top5", "top1_low", "top1_high")}
    lines = _categories(
        measured, {}, {"why": "only text is there: nothing is combined", "assigns": "nothing is assigned"}
    )
    assert [line.split()[0] for line in lines] == ["Categories", "together", "title", "combined", "sure"]
    assert "picture" not in "".join(lines), "what was not measured is not told"
    image = dict.fromkeys(("top1", "top5", "top1_low", "top1_high"), 0.55)
    lines = _categories(measured | {"image_top1": 0.1}, image, {"why": "", "assigns": ""})
    assert "picture, if there is one top-1 0.550" in " ".join("".join(lines).split())


def test_without_categories_the_demo_says_why():
    assert _categories({"skipped": "there are no labelled listings"}, {}, {}) == [
        "Categories   none: there are no labelled listings"
    ]


def test_a_candidate_that_a_gate_refused_is_no_failure_of_the_demo():
    gate, step = "classification/image_evaluation: better_than_image_champion: worse", "image_evaluation: blocked"
    assert _only_refused(RunOutcome(False, "1", failed_checks=[gate], failures=[step]))
    assert not _only_refused(RunOutcome(False, "1", failed_checks=[gate], failures=[step, "raw__products: bad file"]))
    assert not _only_refused(RunOutcome(False, "1", failed_checks=[gate, "raw/products: rows: none"], failures=[step]))
    assert not _only_refused(RunOutcome(False, "1", failures=["raw__products: bad file"]))
    assert not _only_refused(RunOutcome(True, "1"))
