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
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
_OPEN = (Any, dict[str, Any])
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
    """Return a dataclass as a row: what its type hints say as `plain` data, what they leave open as it is."""
    hints = _hints(typing.cast(Hashable, type(record)))
    found = ((f.name, getattr(record, f.name)) for f in dataclasses.fields(record))
    return {name: copied(value) if hints[name] in _OPEN else plain(value) for name, value in found}


@functools.cache
def open_fields(cls: Hashable) -> tuple[str, ...]:
    """Return the fields of a dataclass that hold something which can be changed in place."""
    return tuple(name for name, hint in _hints(cls).items() if hint in _OPEN or typing.get_origin(hint) in (dict, list))


def copied(value: Any) -> Any:
    """Return a copy of plain data, down to the last dictionary."""
    if isinstance(value, dict):
        return {k: copied(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(copied(v) for v in value)
    return value


def dumps(value: Any) -> str:
    """Return `value` as one line of canonical JSON: sorted keys, no spaces, no NaN."""
    return json.dumps(plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


@functools.cache
def _hints(cls: Hashable) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def build(cls: type[T], data: Mapping[str, Any]) -> T:
    """Build the dataclass `cls` from plain JSON `data`."""
    hints = _hints(typing.cast(Hashable, cls))
    names = {f.name for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    return cls(**{k: _typed(hints[k], v) for k, v in data.items() if k in names})


def _typed(hint: Any, value: Any) -> Any:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if value is None:
        return None
    if origin in (typing.Union, types.UnionType):
        return _typed(next(a for a in args if a is not type(None)), value)
    if origin in (tuple, list):
        return origin(_typed(args[0], v) for v in value)
    if origin is dict:
        return {k: _typed(args[1], v) for k, v in value.items()}
    return _single(hint, value)


def _single(hint: Any, value: Any) -> Any:
    if dataclasses.is_dataclass(hint):
        return build(typing.cast(type, hint), value)
    if hint is float:
        return _NOT_FINITE[value] if isinstance(value, str) else float(value)
    return value
