import json

import pytest

from sft_magics.core import codec, errors, records
from sft_magics.core.records.documents import document, failure
from tests.core.test_records import metric

RUN = records.Run("run-1", "films", "failed", "films", {}, 0.0, "f", why="%sft_doctor", next_step="%sft_resume run-1")


@pytest.mark.parametrize(
    ("record", "ref"),
    [
        (RUN, "run-1"),
        (records.Evaluation("films:1", "films", "all", 1, (), {}, []), "films:1"),
        (records.Predictions("films:1", ()), "films:1"),
        (records.Alert("alert-1", "films", "f1 < 1"), "alert-1"),
        (records.Promotion("promote", "films", "live", None, "films:2", ""), "films:2"),
        (records.Diff("films:1", "films:2", (), (), (), ()), "films:2"),
    ],
)
def test_what_has_a_reference_says_it(record: object, ref: str) -> None:
    assert document(record)["ref"] == ref
    assert document(record)["kind"] == type(record).__name__


def test_rows_have_theirs_and_next_steps_are_in_the_shells_words() -> None:
    found = document(records.Table("runs", (RUN,), "%sft_finetune MODEL"))
    assert (found["kind"], found["next_step"]) == ("runs", "sft finetune MODEL")
    assert (found["rows"][0]["ref"], found["rows"][0]["why"]) == ("run-1", "sft doctor")
    assert found["rows"][0]["next_step"] == "sft resume run-1"
    assert json.loads(codec.dumps(found)) == json.loads(codec.dumps(found))


def test_what_a_user_wrote_stays_as_it_is() -> None:
    row = records.Prediction("type %sft_runs", "good", 0.5, {})
    assert document(records.Predictions("films:1", (row,)))["rows"][0]["text"] == "type %sft_runs"
    made = records.Version(
        "films", 2, "run-1", None, "d", "f", {}, (), {}, {"f1": metric("f1", 1.0)}, {}, "a", 1, 0.0, note="%sft_x"
    )
    assert (document(made)["note"], document(made)["ref"]) == ("%sft_x", "films:2")


def test_an_error_is_an_object_of_the_same_kind() -> None:
    found = failure(errors.CheckFailed("%sft_x failed.", "%sft_runs", RUN))
    assert (found["kind"], found["code"], found["what"], found["next"]) == ("Error", 3, "sft x failed.", "sft runs")
    assert found["result"]["ref"] == "run-1"
    assert "result" not in failure(errors.Interrupted("a", "b"))
