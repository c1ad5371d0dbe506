"""Every record as a table: which rows it has, and each row's fields as flat, typed columns.

A result that lists things (predictions, an evaluation's classes, flipped answers, runs, ...) has a row each; any other
record is one row of itself. Fields inside a field are named by a dot: `options.lr`, `scores.positive`. A metric becomes
its value and the ends of its interval: `accuracy`, `accuracy.low`, `accuracy.high`. Small pictures are left out.

Core makes no frames: `frames` is set by the room that knows pandas (see `verbs`).
"""

import dataclasses
import functools
import types
import typing
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

TEXT, WHOLE, NUMBER, SWITCH, TIME, OTHER = "text", "whole", "number", "switch", "time", "other"
_KINDS: dict[Any, str] = {str: TEXT, int: WHOLE, float: NUMBER, bool: SWITCH}
_TIMES = frozenset({"at", "since"})
_PICTURES = frozenset({"picture"})


@dataclass(frozen=True)
class Column:
    """One column: its values, None where a row lacks it, and their kind: text, whole, number, switch, time or other.

    Times are seconds since the epoch.
    """

    values: list[Any]
    kind: str


class Tabular:
    """Gives a record `to_pandas()`."""

    __slots__ = ()

    def _rows(self) -> Sequence[Any]:
        """Return the rows: records, dictionaries, or plain values."""
        return (self,)

    def _row_type(self) -> type | None:
        """Return the record that every row is, so that a table without rows has its columns too."""
        return None

    def to_pandas(self) -> Any:
        """Return the rows as a `pandas.DataFrame` with typed columns; times are UTC."""
        return frames[-1](columns(self))


def _missing(_: dict[str, Column]) -> Any:
    raise ImportError("import sft_magics.verbs makes frames known to the records")


frames: list[Callable[[dict[str, Column]], Any]] = [_missing]


def columns(record: Tabular) -> dict[str, Column]:
    """Return the table of a record: each column has as many values as there are rows."""
    rows = [_flat(row) for row in record._rows()]
    kind = record._row_type()
    found: dict[str, Column] = {}
    for name, what in _fields(typing.cast(Hashable, kind)).items() if kind is not None else ():
        found[name] = Column([None] * len(rows), what)
    for number, row in enumerate(rows):
        for name, (value, what) in row.items():
            column = found.get(name)
            if column is None:
                column = found[name] = Column([None] * len(rows), what)
            elif value is not None and what != column.kind:
                column = found[name] = Column(column.values, _both(column.kind, what))
            column.values[number] = value
    return found


Cell = tuple[Any, str]


def _flat(row: Any) -> dict[str, Cell]:
    if isinstance(row, Mapping):
        return dict(_of_mapping("", row))
    if dataclasses.is_dataclass(row) and not isinstance(row, type):
        return dict(_of_record("", row))
    return {"value": (row, _kind(row))}


def _of_record(prefix: str, record: Any) -> Iterable[tuple[str, Cell]]:
    kinds = _fields(typing.cast(Hashable, type(record)))
    ref = getattr(record, "ref", None)
    if ref is not None and "ref" not in kinds:
        yield f"{prefix}ref", (ref, TEXT)
    for field in dataclasses.fields(record):
        if field.name not in _PICTURES:
            yield from _of_value(f"{prefix}{field.name}", getattr(record, field.name), kinds.get(field.name, ""))


def _of_value(name: str, value: Any, kind: str) -> Iterable[tuple[str, Cell]]:
    if _is_metric(value):
        yield from _of_metric(name, value)
    elif isinstance(value, Mapping):
        metrics = any(_is_metric(v) for v in value.values())
        yield from _of_mapping("" if metrics else f"{name}.", value)
    elif dataclasses.is_dataclass(value):
        yield from _of_record(f"{name}.", value)
    elif kind or value is not None:
        yield name, (list(value) if isinstance(value, tuple) else value, kind or _kind(value))


def _of_mapping(prefix: str, found: Mapping[Any, Any]) -> Iterable[tuple[str, Cell]]:
    for key, value in found.items():
        yield from _of_value(f"{prefix}{key}", value, "" if value is not None else OTHER)


def _is_metric(value: Any) -> bool:
    return type(value).__name__ == "Metric" and hasattr(value, "low")


def _of_metric(name: str, metric: Any) -> Iterable[tuple[str, Cell]]:
    yield name, (metric.value, NUMBER)
    yield f"{name}.low", (metric.low, NUMBER)
    yield f"{name}.high", (metric.high, NUMBER)


@functools.cache
def _fields(record: Hashable) -> dict[str, str]:
    """Return the kind of each field that is one value; what is open or nested is known from its values alone."""
    found: dict[str, str] = {}
    for name, hint in typing.get_type_hints(record).items():
        kind = _declared(hint)
        if kind and not name.startswith("_") and name not in _PICTURES:
            found[name] = TIME if kind == NUMBER and (name in _TIMES or name.endswith("_at")) else kind
    return found


def _declared(hint: Any) -> str:
    """Return the kind of a type hint: OTHER for lists, nothing for what has columns of its own."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        inside = [h for h in typing.get_args(hint) if h is not type(None)]
        return _declared(inside[0]) if len(inside) == 1 else OTHER
    if typing.get_origin(hint) in (tuple, list):
        return OTHER
    return _KINDS.get(hint, "")


def _kind(value: Any) -> str:
    return _KINDS.get(type(value), OTHER)


def _both(one: str, other: str) -> str:
    return NUMBER if {one, other} == {WHOLE, NUMBER} else OTHER


def by_class(labels: Sequence[str], metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return a row a class with its metrics; where nothing is measured by class, one row of all metrics."""
    rows = [{"label": label, **{m.name: m for m in metrics.values() if m.label == label}} for label in labels]
    rows = [row for row in rows if len(row) > 1]
    return rows or [{name: m for name, m in metrics.items() if m.label is None}]


def side_by_side(series: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Return lists of the same length as rows."""
    return [dict(zip(series, values, strict=True)) for values in zip(*series.values(), strict=True)]
