"""Frozen dataclasses to plain JSON and back, by their type hints.

Legal JSON only: a float that is not finite is written as the string "NaN", "Infinity" or "-Infinity" and read back
as a float where the type says float. Fields a reader does not know are ignored, fields a writer did not know take
their default, so a newer release can add a field without a migration.
"""

import dataclasses
import functools
import json
import math
import types
import typing
from collections.abc import Callable, Hashable, Mapping
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
_OPEN = (Any, dict[str, Any])
_AS_THEY_ARE = (str, int, bool, type(None))
_SCALARS = frozenset({str, int, float, bool, type(None)})
_NOT_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def plain(value: Any) -> Any:
    """Return `value` as JSON-ready data: dataclasses as objects, tuples as lists, paths as strings."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {_text(str(k)): plain(v) for k, v in value.items()}
    if isinstance(value, set | frozenset):
        return [plain(v) for v in sorted(value, key=repr)]
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    return _scalar(value)


def _scalar(value: Any) -> Any:
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else ("NaN" if math.isnan(value) else f"{'-' * (value < 0)}Infinity")
    if hasattr(value, "item"):  # numpy and torch scalars, without importing either
        return _scalar(value.item())
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")


def _text(value: str) -> str:
    return value.encode("utf-8", "replace").decode()  # a lone surrogate cannot be written as UTF-8


def fields(record: Any) -> dict[str, Any]:
    """Return a dataclass as a row: what its type hints say as `plain` data, what they leave open as it is.

    Text is left as it is, half a surrogate pair included: a row can hold it.
    """
    writers = _writers(typing.cast(Hashable, type(record)))
    found = record.__dict__
    return {name: write(found[name]) for name, write in writers}


@functools.cache
def open_fields(cls: Hashable) -> tuple[str, ...]:
    """Return the fields of a dataclass that hold something which can be changed in place."""
    return tuple(name for name, hint in _hints(cls).items() if hint in _OPEN or typing.get_origin(hint) in (dict, list))


def copied(value: Any) -> Any:
    """Return a copy of plain data, down to the last dictionary."""
    if isinstance(value, dict):
        return {k: v if type(v) in _SCALARS else copied(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(v if type(v) in _SCALARS else copied(v) for v in value)
    return value


def dumps(value: Any) -> str:
    """Return `value` as one line of canonical JSON: sorted keys, no spaces, no NaN."""
    return json.dumps(plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


@functools.cache
def _hints(cls: Hashable) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def build(cls: type[T], data: Mapping[str, Any]) -> T:
    """Build the dataclass `cls` from plain JSON `data`; raises TypeError when a field without a default is missing."""
    readers, defaults, factories = _shape(typing.cast(Hashable, cls))
    found = dict(defaults)
    for name, value in data.items():
        reader = readers.get(name, _no_field)
        if reader is None or value is None:
            found[name] = value
        elif reader is not _no_field:
            found[name] = reader(value)
    for name, make in factories:
        if name not in found:
            found[name] = make()
    if len(found) != len(readers):
        return cls(**found)  # says which field is missing
    made = object.__new__(cls)  # the same as cls(**found) in a third of the time; lists have hundreds of records
    made.__dict__.update(found)
    return made


def _no_field(value: Any) -> Any:
    """Stand for the reader of a field that the dataclass does not have."""
    return value


@functools.cache
def _shape(cls: Hashable) -> tuple[dict[str, Any], dict[str, Any], tuple[tuple[str, Callable[[], Any]], ...]]:
    """Return the readers of a dataclass, its defaults, and what makes the others."""
    known = dataclasses.fields(typing.cast(Any, cls))
    defaults = {f.name: f.default for f in known if f.default is not dataclasses.MISSING}
    factories = tuple((f.name, f.default_factory) for f in known if f.default_factory is not dataclasses.MISSING)
    return _readers(cls), defaults, factories


@functools.cache
def _readers(cls: Hashable) -> dict[str, Any]:
    """Return for each field what makes its value from JSON; None where the value is what JSON has."""
    hints = _hints(cls)
    return {f.name: _reader(hints[f.name]) for f in dataclasses.fields(typing.cast(Any, cls))}


@functools.cache
def _writers(cls: Hashable) -> tuple[tuple[str, Callable[[Any], Any]], ...]:
    """Return each field with what makes its value ready for a row."""
    hints = _hints(cls)
    return tuple((f.name, _writer(hints[f.name])) for f in dataclasses.fields(typing.cast(Any, cls)))


def _writer(hint: Any) -> Callable[[Any], Any]:
    if hint in _OPEN:
        return copied
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        inside = _writer(next(a for a in args if a is not type(None)))
        return lambda value: None if value is None else inside(value)
    if origin in (tuple, list):
        each = _writer(args[0])
        return lambda values: [each(v) for v in values]
    if origin is dict:
        each = _writer(args[1])
        return lambda found: {k: each(v) for k, v in found.items()}
    if dataclasses.is_dataclass(hint):
        return lambda value: fields(value) if type(value) is hint else plain(value)
    return _row_scalar


def _row_scalar(value: Any) -> Any:
    return value if type(value) in _AS_THEY_ARE else plain(value)


def _reader(hint: Any) -> Callable[[Any], Any] | None:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return _reader(next(a for a in args if a is not type(None)))
    if origin in (tuple, list):
        return _many(origin, _reader(args[0]))
    if origin is dict:
        return _mapping(_reader(args[1]))
    return _single(hint)


def _many(kind: Any, inside: Callable[[Any], Any] | None) -> Callable[[Any], Any]:
    return kind if inside is None else lambda values: kind(None if v is None else inside(v) for v in values)


def _mapping(inside: Callable[[Any], Any] | None) -> Callable[[Any], Any]:
    return dict if inside is None else lambda found: {k: None if v is None else inside(v) for k, v in found.items()}


def _single(hint: Any) -> Callable[[Any], Any] | None:
    if dataclasses.is_dataclass(hint):
        return functools.partial(build, typing.cast(type, hint))
    return _float if hint is float else None


def _float(value: Any) -> float:
    return _NOT_FINITE[value] if isinstance(value, str) else float(value)
