"""The audit: a share of the lines that no person would see is drawn, always the same, and stands out in nothing."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from shelfwise.matching.decisions import audited, review_lines


def matches(decisions: list[str], file: str = "f.csv", champion: str = "v1") -> pd.DataFrame:
    """Two candidates per line; scores in (0, 1) that follow the decision."""
    rows = []
    for number, decision in enumerate(decisions):
        base = {"no_match": 0.0, "review": 0.5, "approved": 0.9}[decision]
        for rank in (1, 2):
            line = {
                "line_id": f"l{number}",
                "row": number + 2,
                "vendor_id": "acme",
                "file": file,
                "title": f"t{number}",
            }
            found = {"rank": rank, "product_id": f"p{rank}", "product_title": "x"}
            score = (base + 0.09 * number / len(decisions)) / rank
            rows.append({**line, **found, "score": score, "decision": decision, "champion_version": champion})
    return pd.DataFrame(rows)


MIXED = ["approved"] * 3000 + ["review"] * 1000 + ["no_match"] * 1000


def test_about_the_share_is_drawn_of_what_needs_no_person() -> None:
    frame = matches(MIXED)
    drawn = audited(frame, 0.1)
    best = frame[drawn & (frame["rank"] == 1)]["decision"].value_counts()
    # Four standard deviations of the binomial: 3000 and 1000 lines at one in ten.
    assert abs(best["approved"] - 300) < 66
    assert abs(best["no_match"] - 100) < 38
    assert "review" not in best
    assert (drawn[::2] == drawn[1::2]).all(), "all ranks of a line say the same"
    assert not audited(frame, 0.0).any()
    assert (audited(frame, 1.0) == (frame["decision"] != "review")).all()


def test_the_draw_is_stable_and_grows_with_the_share() -> None:
    frame = matches(MIXED)
    drawn = audited(frame, 0.1)
    order = np.random.default_rng(0).permutation(len(frame))
    assert (audited(frame.iloc[order], 0.1) == drawn[order]).all()
    assert (audited(frame.assign(champion_version="v2", score=0.99), 0.1) == drawn).all()
    assert (audited(frame, 0.2) >= drawn).all()
    other = audited(frame.assign(file="g.csv"), 0.1)
    assert 0 < (other & drawn).sum() < drawn.sum() / 2, "another file, another draw"
    moved = frame.assign(decision="approved")
    assert (audited(moved, 0.1) >= drawn).all(), "a line that is decided otherwise is drawn all the same"


@pytest.mark.parametrize("decisions", [[], ["review"], ["approved"], ["no_match", "review"]])
def test_small_uploads(decisions: list[str]) -> None:
    frame = matches(decisions) if decisions else matches(["review"]).iloc[:0]
    drawn = audited(frame, 1.0)
    assert drawn.dtype == bool
    assert drawn.sum() == 2 * sum(decision != "review" for decision in decisions)
    queue = review_lines({"f": frame.assign(audited=drawn)})
    assert len(queue) == len(decisions)


def test_audited_lines_are_marked_and_mixed_in_and_their_decision_stands() -> None:
    frame = matches(MIXED)
    frame["audited"] = audited(frame, 0.1)
    before = frame.copy()
    queue = review_lines({"f": frame})
    pd.testing.assert_frame_equal(frame, before)
    assert queue["reason"].value_counts().to_dict() == {
        "review": 1000,
        "audit": int(frame.loc[frame["rank"] == 1, "audited"].sum()),
    }
    review = queue[queue["reason"] == "review"]
    assert review["score"].is_monotonic_increasing
    assert len(set(queue["line_id"])) == len(queue)
    # Spread evenly: each quarter of the queue holds about a quarter of the audit, of approved lines too.
    for audit in (queue["reason"] == "audit", (queue["reason"] == "audit") & (queue["score"] >= 0.9)):
        quarters = [part.sum() for part in np.array_split(audit.to_numpy(), 4)]
        assert min(quarters) > 0.15 * audit.sum()
    pd.testing.assert_frame_equal(review_lines({"f": frame.iloc[::-1]}), queue)
    assert set(queue.loc[queue["reason"] == "audit", "alternatives"]) == {"p2: x"}, "as complete as any other row"


def test_matches_from_before_the_audit_have_none() -> None:
    frame = matches(["approved", "review"])
    assert review_lines({"f": frame})["reason"].tolist() == ["review"]
    later = matches(["approved", "review"], "g.csv").assign(audited=[True, True, False, False])
    queue = review_lines({"f": frame, "g": later})
    assert sorted(zip(queue["file"], queue["reason"], strict=True)) == [
        ("f.csv", "review"), ("g.csv", "audit"), ("g.csv", "review"),
    ]  # fmt: skip
