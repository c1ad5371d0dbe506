import dataclasses
import math
from typing import Any

import pandas as pd
import pytest

import sft_magics.verbs  # noqa: F401 - it makes frames known to the records
from sft_magics.core import records
from sft_magics.core.records import tabular
from tests.core.test_records import KINDS, metric
from tests.notebook import panel_samples as samples

AT = 1_800_000_000.0


@pytest.mark.parametrize("value", samples.everything(), ids=lambda value: type(value).__name__)
def test_every_record_is_a_rectangular_frame(value: Any) -> None:
    frame = value.to_pandas()
    assert len(frame) == len(value._rows())
    assert len(set(frame.columns)) == len(frame.columns)
    assert len(frame) == 0 or len(frame.columns) > 0


def test_every_kind_of_record_has_a_frame() -> None:
    assert [kind.__name__ for kind in KINDS if not issubclass(kind, tabular.Tabular)] == []


@pytest.mark.parametrize("at", [math.nan, math.inf, 9.2e18, -1e300])
def test_a_time_that_is_none_is_missing(at: float) -> None:
    frame = records.Table("alerts", (records.Alert("a", "films", "f1 < 1", since=at, checked_at=AT),)).to_pandas()
    assert frame["since"].isna().all()
    assert frame["checked_at"].notna().all()


def kinds(frame: pd.DataFrame) -> dict[str, str]:
    return {name: str(kind).split("[")[0] for name, kind in frame.dtypes.items()}


def run(number: int, **more: Any) -> records.Run:
    options = {"lr": 1e-5 * number, "epochs": number, "method": "head" if number == 1 else None}
    return records.Run(f"run-{number}", "films", "done", "films", options, AT, "f", **more)


def test_runs_have_a_column_for_every_option_and_times_are_times() -> None:
    frame = records.Table("runs", (run(1), run(2, ended_at=AT + 60, metric=0.9))).to_pandas()
    assert list(frame["options.epochs"]) == [1, 2]
    assert list(frame["options.lr"]) == [1e-5, 2e-5]
    found = kinds(frame)
    assert (found["id"], found["step"], found["metric"], found["created_at"]) == (
        "string",
        "int64",
        "float64",
        "datetime64",
    )
    assert frame["created_at"][0] == pd.Timestamp(AT, unit="s", tz="UTC")
    assert frame["ended_at"].isna().tolist() == [True, False]
    assert frame["metric"].isna().tolist() == [True, False]


def test_a_table_without_rows_has_its_columns() -> None:
    for kind, name in (("runs", "id"), ("versions", "model"), ("alerts", "rule"), ("datasets", "fingerprint")):
        frame = records.Table(kind, ()).to_pandas()
        assert len(frame) == 0
        assert str(frame[name].dtype) == "string"
    assert "label" in records.Predictions("films:1", ()).to_pandas()


def test_predictions_have_a_column_for_every_score() -> None:
    rows = (
        records.Prediction("a", "good", 0.9, {"good": 0.9, "bad": 0.1}, "id-1"),
        records.Prediction("b", "bad", 0.6, {"good": 0.4, "bad": 0.6}, "id-2", "good"),
    )
    frame = records.Predictions("films:1", rows).to_pandas()
    assert list(frame["scores.good"]) == [0.9, 0.4]
    assert frame["truth"].isna().tolist() == [True, False]
    assert "picture" not in frame


def test_an_evaluation_has_a_row_for_every_class() -> None:
    metrics = [metric("accuracy", 0.5), *(metric(m, 0.25, c) for m in ("precision", "recall") for c in ("bad", "good"))]
    found = records.Evaluation("films:1", "films", "validation", 9, ("bad", "good"), {m.key: m for m in metrics}, [])
    frame = found.to_pandas()
    assert list(frame["label"]) == ["bad", "good"]
    assert list(frame["recall.low"]) == [0.1, 0.1]
    whole = dataclasses.replace(found, labels=(), metrics={"perplexity": metric("perplexity", 9.0)})
    assert list(whole.to_pandas()["perplexity"]) == [9.0]


def test_versions_have_their_reference_and_metrics() -> None:
    made = records.Version(
        "films",
        2,
        "run-1",
        None,
        "films",
        "f" * 8,
        {"lr": 1.0},
        ("bad",),
        {},
        {"f1": metric("f1", 0.25)},
        {},
        "a",
        1,
        AT,
    )
    frame = records.Table("versions", (made,)).to_pandas()
    assert (frame["ref"][0], frame["f1"][0], frame["f1.high"][0]) == ("films:2", 0.25, 0.9)
    assert list(made.to_pandas()["ref"]) == ["films:2"]


def test_flips_and_windows_and_rates_are_rows() -> None:
    good, bad = (records.Prediction("t", label, 0.5, {}) for label in ("good", "bad"))
    flip = records.ChangedPrediction("t", "good", good, bad)
    diff = records.Diff("a:1", "a:2", (), (), (), (), broken=(flip,), mended=(flip,)).to_pandas()
    assert list(diff["change"]) == ["broke", "fixed"]
    assert list(diff["after.label"]) == ["bad", "bad"]
    rates = records.LrRangeTest("m", "t", (0.1, 0.2), (3.0, 2.0), (3.0, 2.0), 0.1, 0.1, None, 0.1, 0.1).to_pandas()
    assert list(rates["rate"]) == [0.1, 0.2]


def test_whole_numbers_beside_fractions_are_fractions() -> None:
    assert tabular.columns(records.Table("x", ({"a": 1}, {"a": 0.5})))["a"].kind == tabular.NUMBER
    assert kinds(records.Table("x", ({"a": 1}, {"b": 2})).to_pandas()) == {"a": "Int64", "b": "Int64"}
    assert list(records.Table("numbers", (1, 2)).to_pandas()["value"]) == [1, 2]
    assert records.Table("x", ({"a": 2**70},)).to_pandas()["a"][0] == 2**70
