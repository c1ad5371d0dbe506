"""`registry.json`: a whole state as one legal TinyDB file, a row a line.

    {"_meta":{"1":{"schema":1,"sequence":42,"sha256":"..."}},
    "models":{
    "1":{...}
    }}

The checksum covers every byte but its own digits. A row a line lets a reader find the rows without parsing them, and a
person read them.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sft_magics.registry.rows import Row, uncollected
from sft_magics.registry.state import State, TableState

META = "_meta"
_HEAD = re.compile(rb'\{"_meta":\{"1":\{"schema":(\d{1,9}),"sequence":(\d{1,18}),"sha256":"([0-9a-f]{64})"\}\}')


class DamagedError(ValueError):
    """Bytes that are not what this registry wrote; the text completes "... is damaged: "."""


@dataclass(frozen=True)
class Snapshot:
    """A state, the schema it is written in, and how many bytes it takes."""

    state: State
    schema: int
    size: int = 0


def encode(state: State, schema: int) -> bytes:
    """Return the bytes of the file."""
    tables = [_table(name, table) for name, table in state.tables.items() if name != META]
    head = f'{{"_meta":{{"1":{{"schema":{schema},"sequence":{state.sequence},"sha256":"'.encode()
    tail = b'"}}' + b"".join(b",\n" + table for table in tables) + b"}\n"
    return head + hashlib.sha256(head + tail).hexdigest().encode() + tail


def _table(name: str, table: TableState) -> bytes:
    rows = [b'"%d":%s' % (number, row.raw) for number, row in table.in_order()]
    return b"\n".join([json.dumps(name).encode() + b":{", *([b",\n".join(rows)] if rows else []), b"}"])


def decode(raw: bytes) -> Snapshot:
    """Return what the file holds; raises DamagedError."""
    head = _HEAD.match(raw)
    if head is None:
        raise DamagedError("another program has written to it, or its beginning is lost")
    digest = hashlib.sha256(raw[: head.start(3)])
    digest.update(memoryview(raw)[head.end(3) :])
    if digest.hexdigest().encode() != head[3]:
        raise DamagedError("its checksum does not match")
    with uncollected():
        return Snapshot(State(_tables(raw), int(head[2])), int(head[1]), len(raw))


def _tables(raw: bytes) -> dict[str, TableState]:
    tables: dict[str, TableState] = {}
    rows: dict[int, Row] | None = None
    name = ""
    for line in raw.split(b"\n")[1:]:
        if rows is None:
            name, rows = (json.loads(line[:-2]), {}) if line else ("", None)
        elif line.startswith(b"}"):
            tables[name] = TableState.of(rows)
            rows = None
        else:
            colon = line.index(b":")
            rows[int(line[1 : colon - 1])] = Row(line[colon + 1 :].removesuffix(b","))
    return tables


def of_plain(tables: Mapping[str, Mapping[str, Mapping[str, Any]]], sequence: int) -> State:
    """Return the state of tables as plain TinyDB has them."""
    found = {
        name: TableState.of({int(number): Row.of(data) for number, data in rows.items()})
        for name, rows in tables.items()
        if name != META
    }
    return State(found, sequence)
