import dataclasses
from typing import Any

from sft_magics.core.records import Metric, Run, Table, Version
from sft_magics.notebook import panels


def run(number: int, data: str = "films", **options: Any) -> Run:
    return Run(
        f"run-{number}", "films", "done", data, {"epochs": 1.0, "lr": 5e-5, "threads": number, **options}, 0.0, "f",
        metric=0.9, metric_name="accuracy", measured_rows=90, data_fingerprint=data * 2, start="minilm",
    )  # fmt: skip


def version(number: int, data: str = "films", **options: Any) -> Version:
    metrics = {"accuracy": Metric("accuracy", 0.9, 0.8, 0.95, 90)}
    return Version(
        "films", number, "run-1", None, data, data * 2, options, ("a",), {}, metrics,
        {"start": {"source": "minilm"}}, "a", 1,
        0.0,
    )  # fmt: skip


def test_the_settings_that_differ_are_named_the_most_telling_first() -> None:
    found = Table.compared("runs", [run(1, seed=3), run(2, method="head", epochs=3.0)], "")
    assert found.differing == ("method", "epochs", "seed")
    lines = str(found).splitlines()
    assert "method -, epochs 1, seed 3" in lines[0]
    assert "accuracy 0.900" in lines[0]
    assert "measured on films (90 rows)" in lines[1]
    assert Table.compared("runs", [run(1), run(2)], "").differing == ()
    assert Table.compared("runs", [], "%sft_finetune MODEL").differing == ()


def test_what_a_run_began_with_tells_it_apart() -> None:
    rows = [run(1), dataclasses.replace(run(2), parent="films:1")]
    assert Table.compared("runs", rows, "").differing == ("start",)


def test_metrics_of_other_data_are_marked_with_a_line() -> None:
    rows = [version(3, "films+feedback"), version(2), version(1)]
    found = Table.compared("versions", rows, "")
    assert found.marks == ("*", "", "")
    assert "* films+feedback (90 rows), fingerprint films+f" in found.note
    assert "*measured on films+feedback" in str(found).splitlines()[0]
    assert str(found).endswith(found.note)


def test_the_same_name_with_other_rows_is_other_data() -> None:
    rows = [version(2), dataclasses.replace(version(1), data_fingerprint="other")]
    assert Table.compared("versions", rows, "").marks == ("", "*")


def test_models_are_compared_with_themselves_and_a_row_without_a_metric_has_no_mark() -> None:
    rows = [run(1), dataclasses.replace(run(2, "pets"), model="pets"), dataclasses.replace(run(3, "x"), metric=None)]
    found = Table.compared("runs", rows, "")
    assert found.marks == ()
    assert found.note == ""


def test_many_data_sets_have_marks_of_their_own() -> None:
    rows = [run(0), *(run(i, f"d{i}") for i in range(8)), run(9)]
    assert Table.compared("runs", rows, "").marks == ("", "*", "†", "‡", "§", "¶", "[6]", "[7]", "[8]", "")


def test_the_panels_have_the_columns_and_the_marks() -> None:
    many = dict.fromkeys(("a", "b", "c", "d", "e", "f"), 1)
    rows = [version(2, "other", method="head", **many), version(1, method="full")]
    shown = panels.html(Table.compared("versions", rows, "")) or ""
    assert '<th scope="col">method</th>' in shown
    assert '<th scope="col">other settings</th>' in shown
    assert "<sup>*</sup>" in shown
    assert "do not compare" in shown
    shown = panels.html(Table.compared("runs", [run(1, lr=1e-5), run(2)], "")) or ""
    assert '<th scope="col">lr</th>' in shown
    assert "1e-5" in shown
    assert "accuracy" in shown
    assert " of 90" in shown
