from __future__ import annotations

import pickle

from shelfwise.errors import MAX_PROBLEMS_SHOWN, InputError, Problem


def test_a_problem_names_what_it_knows_and_nothing_else() -> None:
    whole = Problem("a.csv", "a number", "'x'", row=3, column="price")
    assert str(whole) == "a.csv, row 3, column 'price': expected a number; found 'x'"
    assert str(Problem("a.csv", "a header")) == "a.csv: expected a header"
    assert str(Problem("a.csv", "2 fields", "3", row=4)) == "a.csv, row 4: expected 2 fields; found 3"


def test_an_error_shows_the_first_problems_and_counts_the_others() -> None:
    problems = [Problem("a.csv", f"thing {number}") for number in range(MAX_PROBLEMS_SHOWN + 3)]
    lines = str(InputError(problems)).splitlines()
    assert len(lines) == MAX_PROBLEMS_SHOWN + 1
    assert lines[0] == "a.csv: expected thing 0"
    assert lines[-1] == "... and 3 more"
    assert InputError(problems).problems == problems
    assert str(InputError(problems[:MAX_PROBLEMS_SHOWN])).count("more") == 0


def test_one_problem_needs_no_list() -> None:
    problem = Problem("a.csv", "a header")
    assert InputError(problem).problems == [problem]


def test_an_error_crosses_a_process_boundary_with_its_problems() -> None:
    error = InputError([Problem("a.csv", "a number", "'x'", 3, "price"), Problem("a.csv", "a title", row=4)])
    back = pickle.loads(pickle.dumps(error))
    assert back.problems == error.problems
    assert str(back) == str(error)
