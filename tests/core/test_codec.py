import dataclasses
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sft_magics.core import codec


@dataclass(frozen=True)
class Leaf:
    value: float
    label: str | None = None


@dataclass(frozen=True)
class Tree:
    name: str
    leaves: tuple[Leaf, ...] = ()
    by_name: dict[str, Leaf] = field(default_factory=dict)
    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    series: dict[str, list[float | None]] = field(default_factory=dict)
    grid: list[list[int]] = field(default_factory=list)
    best: Leaf | None = None
    low: float | None = None
    free: dict[str, Any] = field(default_factory=dict)


def again(value: Any) -> Any:
    return codec.build(type(value), json.loads(codec.dumps(value)))


def alike(a: Any, b: Any) -> bool:
    """Equal, where one NaN equals another."""
    if isinstance(a, float) and isinstance(b, float) and math.isnan(a):
        return math.isnan(b)
    if dataclasses.is_dataclass(a):
        return type(a) is type(b) and all(alike(getattr(a, f.name), getattr(b, f.name)) for f in dataclasses.fields(a))
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(alike, a, b))
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(alike(v, b[k]) for k, v in a.items())
    return bool(a == b) and type(a) is type(b)


def test_a_nested_record_comes_back_with_its_types() -> None:
    tree = Tree(
        "größe\n\u2028'\"",
        (Leaf(1.0, "a"), Leaf(math.nan)),
        {"x": Leaf(-math.inf, "b")},
        {"train": {"negative": 3}},
        {"p95": [1.0, None, math.inf]},
        [[1, 2], []],
        Leaf(0.1),
        math.nan,
        {"lr": 3e-5, "on": True, "none": None, "list": [1, "2"]},
    )
    assert alike(again(tree), tree)


WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
LEAVES = st.builds(Leaf, st.floats(), st.none() | WORDS)


@settings(deadline=None)
@given(
    st.builds(
        Tree,
        WORDS,
        st.lists(LEAVES, max_size=3).map(tuple),
        st.dictionaries(WORDS, LEAVES, max_size=3),
        st.dictionaries(WORDS, st.dictionaries(WORDS, st.integers(), max_size=2), max_size=2),
        st.dictionaries(WORDS, st.lists(st.none() | st.floats(), max_size=3), max_size=2),
        st.lists(st.lists(st.integers(), max_size=2), max_size=2),
        st.none() | LEAVES,
        st.none() | st.floats(),
        st.dictionaries(WORDS, st.none() | st.booleans() | st.integers() | WORDS, max_size=3),
    )
)
def test_every_record_comes_back(tree: Tree) -> None:
    assert alike(again(tree), tree)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists))
def test_what_is_written_is_always_legal_json_that_utf8_can_carry(value: Any) -> None:
    def refuse(name: str) -> None:
        raise AssertionError(name)

    line = codec.dumps(value)
    assert "\n" not in line
    json.loads(line.encode("utf-8"), parse_constant=refuse)


def test_not_finite_numbers_are_spelled_out() -> None:
    assert codec.dumps([math.nan, math.inf, -math.inf]) == '["NaN","Infinity","-Infinity"]'


def test_unknown_fields_are_passed_over_and_missing_ones_take_their_default() -> None:
    assert codec.build(Leaf, {"value": 1, "added_later": 5}) == Leaf(1.0, None)
    assert codec.build(Tree, {"name": "x"}) == Tree("x")
    assert codec.build(Tree, {"name": "x", "best": {"value": 2, "odd": 1}}).best == Leaf(2.0)


def test_a_whole_number_is_read_as_a_float_where_the_type_says_so() -> None:
    assert type(codec.build(Leaf, {"value": 1}).value) is float


def test_a_missing_field_without_a_default_is_an_error() -> None:
    with pytest.raises(TypeError):
        codec.build(Leaf, {})


def test_the_same_value_is_always_the_same_line() -> None:
    assert codec.dumps({"b": 1, "a": (1, 2)}) == '{"a":[1,2],"b":1}'
    assert codec.dumps({"x": {"cherry", "apple", "banana"}}) == '{"x":["apple","banana","cherry"]}'


def test_numpy_numbers_and_paths_are_written_plainly() -> None:
    assert codec.dumps([np.float32(0.5), np.int64(3), np.bool_(True), np.float64("nan"), Path("a/b")]) == (
        '[0.5,3,true,"NaN","a/b"]'
    )


def test_half_a_character_becomes_a_question_mark_in_keys_and_values() -> None:
    assert codec.dumps({"\ud800": "\udcff"}).encode() == b'{"?":"?"}'


@pytest.mark.parametrize("value", [object(), {1: object()}, b"bytes", lambda: 0])
def test_what_is_not_data_is_refused(value: Any) -> None:
    with pytest.raises(TypeError, match="cannot be written as JSON"):
        codec.dumps(value)
