"""One row of the registry: its JSON on the disk, and the data it stands for.

What JSON cannot say is tagged, so that it comes back as it was put in:

    {"$float": "nan"}   NaN and the infinities        {"$tuple": [...]}         a tuple
    {"$path": "..."}    a pathlib.Path                {"$dict": [[k, v], ...]}  keys that are no text or begin with $

numpy and torch scalars become the Python numbers they hold. Anything else is refused by name, and nothing is changed.
"""

import contextlib
import gc
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sft_magics.core import codec, errors

_DEEPEST = 60
_AS_THEY_ARE = frozenset({str, bool, type(None)})
_LEADING = re.compile(rb'\{(?:"\w+":(?:"[^"\\]*"|-?\d{1,15}|true|false|null),){1,3}')
_LARGEST = 10**4000  # Python reads no longer number from text (sys.int_info.default_max_str_digits)


class Row:
    """A row that never changes: to change one is to put another in its place.

    `raw` is its canonical JSON in one line; `data` is parsed from it at the first look and is never to be changed.
    `record` is room for whoever builds an object from the row and wants to keep it.
    """

    __slots__ = ("_data", "raw", "record")

    def __init__(self, raw: bytes, data: dict[str, Any] | None = None) -> None:
        self.raw = raw
        self._data = data
        self.record: Any = None

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> "Row":
        """Return the row of `data`, which stays the caller's; raises UsageProblem for what cannot be kept."""
        return cls(encode(data))

    @property
    def data(self) -> dict[str, Any]:
        """The data, shared by all who look."""
        if self._data is None:
            self._data = decode(self.raw)
        return self._data

    def leading(self) -> dict[str, Any] | None:
        """Return the first few fields, without parsing the rest; None where they are not plain."""
        if self._data is not None:
            return self._data
        found = _LEADING.match(self.raw)
        return json.loads(found[0][:-1] + b"}") if found else None

    def copy(self) -> dict[str, Any]:
        """Return the data for the caller alone."""
        copied: dict[str, Any] = codec.copied(self.data)
        return copied


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Keep the garbage collector from looking through hundreds of new rows, none of them garbage: it doubles the time.

    Nothing may be waited for within the block.
    """
    running = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if running:
            gc.enable()


def parse(rows: Iterable[Row]) -> None:
    """Parse rows all at once, which takes less than one after the other; those with tags wait for their own turn."""
    waiting = [row for row in rows if row._data is None and b'{"$' not in row.raw]
    with uncollected():
        for row, data in zip(waiting, json.loads(b"[" + b",".join(row.raw for row in waiting) + b"]"), strict=True):
            row._data = data


def leading(rows: Sequence[Row]) -> list[dict[str, Any] | None]:
    """Return what `Row.leading` does of each row, all at once."""
    parsed = [row._data for row in rows]
    found = [(i, match[0]) for i, row in enumerate(rows) if parsed[i] is None and (match := _LEADING.match(row.raw))]
    heads = json.loads(b"[" + b",".join(head[:-1] + b"}" for _, head in found) + b"]")
    for (i, _), head in zip(found, heads, strict=True):
        parsed[i] = head
    return parsed


def encode(data: Mapping[str, Any]) -> bytes:
    """Return `data` as one line of JSON; raises UsageProblem that names what cannot be kept."""
    plain = {_key(k): _tagged(v, str(k), 1) for k, v in data.items()}
    try:
        return json.dumps(plain, separators=(",", ":"), ensure_ascii=False).encode()
    except UnicodeEncodeError:  # half a surrogate pair has no UTF-8, but it has an escape
        return json.dumps(plain, separators=(",", ":")).encode()


def decode(raw: bytes) -> dict[str, Any]:
    """Return the data of one line."""
    data: dict[str, Any] = json.loads(raw)
    return {k: _untagged(v) for k, v in data.items()} if b'{"$' in raw else data


def _key(key: Any) -> str:
    if isinstance(key, str):
        return str(key)
    raise _refused(key, "as the name of a field", "give it a name in text.")


def _tagged(value: Any, where: str, depth: int) -> Any:
    if type(value) in _AS_THEY_ARE:
        return value
    if depth > _DEEPEST:
        raise _refused(value, f"nested {_DEEPEST} deep in {where[:60]}", "flatten it.")
    if isinstance(value, Mapping):
        return _mapping(value, where, depth + 1)
    if isinstance(value, list | tuple):
        items = [_tagged(v, where, depth + 1) for v in value]
        return {"$tuple": items} if isinstance(value, tuple) else items
    return _scalar(value, where)


def _mapping(value: Mapping[Any, Any], where: str, depth: int) -> Any:
    if all(isinstance(k, str) and not k.startswith("$") for k in value):
        return {str(k): _tagged(v, f"{where}.{k}", depth) for k, v in value.items()}
    return {"$dict": [[_tagged(k, where, depth), _tagged(v, f"{where}.{k}", depth)] for k, v in value.items()]}


def _scalar(value: Any, where: str) -> Any:
    if value is None or isinstance(value, bool):
        return value
    for kind, write in _WRITERS:
        if isinstance(value, kind):
            return write(value, where)
    if hasattr(value, "item") and getattr(value, "shape", None) == ():
        return _scalar(value.item(), where)
    raise _refused(value, f"in {where[:60]}", "give text, numbers, lists or dictionaries of them.")


def _whole(value: int, where: str) -> int:
    if abs(value) < _LARGEST:
        return int(value)
    raise _refused(value, f"of more than 4,000 digits in {where[:60]}", "write it as text.")


def _real(value: float, _: str) -> Any:
    return float(value) if math.isfinite(value) else {"$float": repr(float(value))}


_WRITERS: tuple[tuple[type, Callable[[Any, str], Any]], ...] = (
    (str, lambda value, _: str(value)),
    (int, _whole),
    (float, _real),
    (Path, lambda value, _: {"$path": str(value)}),
)

_READERS: dict[str, Callable[[Any], Any]] = {
    "$float": float,
    "$path": Path,
    "$tuple": lambda items: tuple(_untagged(v) for v in items),
    "$dict": lambda pairs: {_untagged(k): _untagged(v) for k, v in pairs},
}


def _untagged(value: Any) -> Any:
    if isinstance(value, list):
        return [_untagged(v) for v in value]
    if not isinstance(value, dict):
        return value
    if len(value) == 1:
        tag, inside = next(iter(value.items()))
        if tag in _READERS:
            return _READERS[tag](inside)
    return {k: _untagged(v) for k, v in value.items()}


def _refused(value: Any, where: str, step: str) -> errors.UsageProblem:
    return errors.UsageProblem(f"The registry cannot keep a {type(value).__name__} {where}.", step)
