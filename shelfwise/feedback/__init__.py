"""Feedback: what people answered to the matcher's proposals, from the inbox to labels.

`answers` says what an answer is; `inbox` keeps them, one immutable JSON file per correction or batch; `resolve` says
which of several answers to a line counts; `batches` which files are new; `lake` finds the prediction an answer is to;
`categories` are answers to category predictions.
The command line is `python -m shelfwise.feedback`.
"""

from shelfwise.feedback.answers import answer_from_matches, answers_from_matches, prediction_id, prediction_ids
from shelfwise.feedback.categories import category_answers, category_prediction_id, category_prediction_ids
from shelfwise.feedback.inbox import (
    COLUMNS,
    FOLDER,
    Inbox,
    read_feedback,
    read_inbox,
    record_answers,
    record_feedback,
)
from shelfwise.feedback.lake import answer_row, answers_from_export, category_of_row, examine
from shelfwise.feedback.resolve import contradictions, resolve, review

__all__ = [
    "COLUMNS",
    "FOLDER",
    "Inbox",
    "answer_from_matches",
    "answer_row",
    "answers_from_export",
    "answers_from_matches",
    "category_answers",
    "category_of_row",
    "category_prediction_id",
    "category_prediction_ids",
    "contradictions",
    "examine",
    "prediction_id",
    "prediction_ids",
    "read_feedback",
    "read_inbox",
    "record_answers",
    "record_feedback",
    "resolve",
    "review",
]
