import dataclasses
import json
import math
import types
import typing
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sft_magics.core import codec, records
from tests.core.test_codec import alike

KINDS = [getattr(records, name) for name in records.__all__ if name != "SCHEMA"]
PLAIN = st.none() | st.booleans() | st.integers(-5, 5) | st.text(st.characters(exclude_categories=["Cs"]), max_size=5)


def strategy(hint: Any, depth: int = 0) -> st.SearchStrategy[Any]:
    """Values of a field's type, short ones."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return st.one_of(*(strategy(a, depth) for a in args))
    if origin is tuple:
        return st.lists(strategy(args[0], depth), max_size=2).map(tuple)
    if origin is list:
        return st.lists(strategy(args[0], depth), max_size=2)
    if origin is dict:
        return st.dictionaries(st.text(max_size=3).filter(str.isprintable), strategy(args[1], depth), max_size=2)
    if dataclasses.is_dataclass(hint):
        return record(typing.cast(type, hint))
    simple = {float: st.floats(), int: st.integers(), bool: st.booleans(), type(None): st.none(), Any: PLAIN}
    return simple.get(hint, st.text(st.characters(exclude_categories=["Cs"]), max_size=6))


def record(kind: type) -> st.SearchStrategy[Any]:
    hints = typing.get_type_hints(kind)
    return st.builds(kind, **{f.name: strategy(hints[f.name]) for f in dataclasses.fields(kind)})


@pytest.mark.parametrize("kind", [k for k in KINDS if k is not records.Table], ids=lambda k: k.__name__)
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_every_record_goes_to_json_and_back(kind: type, data: st.DataObject) -> None:
    value = data.draw(record(kind))
    assert alike(codec.build(kind, json.loads(codec.dumps(value))), value)


@pytest.mark.parametrize("kind", KINDS, ids=lambda k: k.__name__)
def test_records_cannot_be_changed_and_say_what_they_are(kind: type) -> None:
    assert kind.__dataclass_params__.frozen  # type: ignore[attr-defined]
    assert kind.__doc__
    assert not kind.__doc__.startswith(f"{kind.__name__}(")


@pytest.mark.parametrize(
    "kind",
    [k for k in KINDS if k not in (records.Evaluation, records.Finding, records.Example, records.EvaluationPair)],
    ids=lambda k: k.__name__,
)
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_every_record_has_a_text_twin(kind: type, data: st.DataObject) -> None:
    assert isinstance(str(data.draw(record(kind))), str)


def metric(name: str, value: float, label: str | None = None) -> records.Metric:
    return records.Metric(name, value, 0.1, 0.9, 10, label)


def test_a_metric_shows_its_interval_and_has_the_key_rules_use() -> None:
    assert str(metric("recall", 0.5, "negative")) == "0.500 [0.100, 0.900]"
    assert metric("recall", 0.5, "negative").key == "recall[negative]"
    assert metric("accuracy", 0.5).key == "accuracy"
    assert str(records.Metric("f1", math.nan)) == "-"
    assert str(records.Metric("f1", 0.25)) == "0.250"


def test_an_evaluation_speaks_of_every_class() -> None:
    metrics = [metric("accuracy", 0.5)]
    metrics += [metric(m, 0.25, c) for m in ("precision", "recall", "f1") for c in ("bad", "good")]
    shown = str(
        records.Evaluation("films:1", "films", "validation", 1234, ("bad", "good"), {m.key: m for m in metrics}, [])
    )
    assert shown.splitlines()[0] == "films:1 on films (validation, n = 1,234): accuracy 0.500 [0.100, 0.900]"
    assert [line.split(":")[0].strip() for line in shown.splitlines()[1:]] == ["bad", "good"]


def test_predictions_are_a_table() -> None:
    rows = (
        records.Prediction("a", "good", 0.9, {"good": 0.9, "bad": 0.1}, "id-1"),
        records.Prediction("b", "bad", 0.6, {"good": 0.4, "bad": 0.6}, "id-2", "good"),
    )
    found = records.Predictions("films:1", rows)
    assert len(found) == 2
    assert found.columns() == {
        "id": ["id-1", "id-2"],
        "text": ["a", "b"],
        "label": ["good", "bad"],
        "confidence": [0.9, 0.6],
        "truth": [None, "good"],
    }
    assert "truth" not in records.Predictions("films:1", rows[:1]).columns()
    assert "... and 30 more" in str(records.Predictions("films:1", rows * 25))


def test_an_empty_table_says_what_to_type() -> None:
    empty = records.Table("runs", (), "%sft_finetune MODEL")
    assert str(empty) == "no runs yet\nNext: %sft_finetune MODEL"
    assert len(empty) == 0
    full = records.Table("numbers", (1, 2))
    assert list(full) == [1, 2]
    assert full[1] == 2
