from datetime import UTC, datetime

from shelfwise.feedback import COLUMNS, read_feedback, read_inbox, record_feedback


def test_an_inbox_that_does_not_exist_is_an_empty_table_with_its_columns(tmp_path):
    frame = read_feedback(tmp_path / "nothing")
    assert list(frame.columns) == list(COLUMNS)
    assert len(frame) == 0
    assert str(frame["answered_at"].dtype) == "datetime64[us, UTC]"


def test_answers_come_back_in_order_of_time(tmp_path):
    late = record_feedback(
        tmp_path, vendor_id="v", vendor_title="b", product_id=None, answered_at=datetime(2026, 2, 1, tzinfo=UTC)
    )
    early = record_feedback(
        tmp_path,
        vendor_id="v",
        vendor_title="a",
        product_id="p1",
        rejected_product_ids=["p2", "p3"],
        answered_by="ana",
        answered_at=datetime(2026, 1, 1, tzinfo=UTC),
    )
    frame = read_feedback(tmp_path)
    assert frame["feedback_id"].tolist() == [early, late]
    assert list(frame["rejected_product_ids"][0]) == ["p2", "p3"]
    assert frame["product_id"].isna().tolist() == [False, True]


def test_a_file_that_is_no_answer_is_named_and_stops_no_other(tmp_path):
    record_feedback(tmp_path, vendor_id="v", vendor_title="a", product_id="p1")
    (tmp_path / "broken.json").write_text('{"vendor_id": ')
    (tmp_path / "partial.json").write_text('{"vendor_id": "v"}')
    inbox = read_inbox(tmp_path)
    assert inbox.frame["product_id"].tolist() == ["p1"]
    assert {problem.file for problem in inbox.bad_files} == {"broken.json", "partial.json"}
