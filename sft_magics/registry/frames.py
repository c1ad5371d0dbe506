"""How a transaction lies in the journal, and how to tell a write that was cut short from damage.

    frame = magic "SFTJ" | length u32 | sequence u64 | previous u32 | payload CRC-32 u32 | header CRC-32 u32 | payload

Big-endian. `previous` is the header CRC of the frame before: a reader that has seen a frame which was then taken back
notices it. The first frame of a file carries its schema; its sequence is that of the snapshot the file continues.

The payload of a transaction is lines: `"table"` begins one, `12 {...}` puts a row, `12 null` takes it away, and
`-"table"` drops a table. Rows hold no line feed, but lengths and checksums say where a frame ends, not line feeds: one
flipped bit could join two lines.
"""

import json
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from sft_magics.registry.rows import Row
from sft_magics.registry.state import Changes

_MAGIC = b"SFTJ"
_HEAD = struct.Struct(">4sIQII")
_CRC = struct.Struct(">I")
_MARK = struct.Struct(">QQI")
HEADER = _HEAD.size + _CRC.size
LARGEST = 1 << 30


@dataclass(frozen=True)
class Frame:
    """One whole frame: it begins at `start` of its file and ends before `end`; `check` is its header's CRC."""

    sequence: int
    previous: int
    payload: bytes
    start: int
    end: int
    check: int

    @property
    def mark(self) -> bytes:
        """The few bytes that tell this frame from every other."""
        return _MARK.pack(self.sequence, self.end, self.check)


def pack(sequence: int, previous: int, payload: bytes) -> bytes:
    """Return the bytes of a frame."""
    head = _HEAD.pack(_MAGIC, len(payload), sequence, previous, zlib.crc32(payload))
    return head + _CRC.pack(zlib.crc32(head)) + payload


def read(data: bytes, start: int, base: int = 0) -> Frame | None:
    """Return the frame at `start` of `data`, which lies at `base` of its file; None unless it is whole."""
    head = data[start : start + HEADER]
    if len(head) < HEADER or _CRC.unpack_from(head, _HEAD.size)[0] != zlib.crc32(head[: _HEAD.size]):
        return None
    magic, length, sequence, previous, crc = _HEAD.unpack_from(head)
    payload = data[start + HEADER : start + HEADER + length]
    if magic != _MAGIC or len(payload) < length or zlib.crc32(payload) != crc:
        return None
    check = _CRC.unpack_from(head, _HEAD.size)[0]
    return Frame(sequence, previous, payload, base + start, base + start + HEADER + length, check)


def walk(data: bytes, base: int = 0) -> Iterator[Frame]:
    """Yield the whole frames of `data`, which lies at `base` of its file, up to its end or the first that is not."""
    start = 0
    while start < len(data) and (frame := read(data, start, base)) is not None:
        yield frame
        start = frame.end - base


def search(data: bytes, start: int) -> Frame | None:
    """Return the first whole frame that begins after `start`."""
    at = data.find(_MAGIC, start + 1)
    while at >= 0:
        frame = read(data, at)
        if frame is not None:
            return frame
        at = data.find(_MAGIC, at + 1)
    return None


def mend(data: bytes, start: int) -> bytes | None:
    """Return the bytes of the frame at `start` with one flipped bit put right; None where that does not make it whole.

    A write that was cut short is many bits away from whole, so this tells damage to what was acknowledged from a
    transaction that never was. CRC-32 is linear: a flipped bit changes it by what its place alone decides.
    """
    for bit in range(HEADER * 8):
        head = bytearray(data[start : start + HEADER])
        if len(head) < HEADER:
            return None
        head[bit // 8] ^= 1 << bit % 8
        whole = bytes(head) + data[start + HEADER :]
        if (frame := read(whole, 0)) is not None:
            return whole[: frame.end]
    return _mended_payload(data, start)


def _mended_payload(data: bytes, start: int) -> bytes | None:
    head = data[start : start + HEADER]
    if _CRC.unpack_from(head, _HEAD.size)[0] != zlib.crc32(head[: _HEAD.size]):
        return None
    _, length, _, _, crc = _HEAD.unpack_from(head)
    payload = bytearray(data[start + HEADER : start + HEADER + length])
    if len(payload) < length:
        return None
    bit_at = _flipped(zlib.crc32(payload) ^ crc, length)
    if bit_at is None:
        return None
    payload[bit_at // 8] ^= 1 << bit_at % 8
    return head + bytes(payload)


def _flipped(difference: int, length: int) -> int | None:
    """Return which bit of `length` bytes changes their CRC-32 by `difference`."""
    deltas = [zlib.crc32(bytes([1 << bit])) ^ zlib.crc32(b"\0") for bit in range(8)]
    table = [zlib.crc32(bytes([n])) ^ zlib.crc32(b"\0") for n in range(256)]
    for place in range(length - 1, -1, -1):
        for bit in range(8):
            if deltas[bit] == difference:
                return place * 8 + bit
            deltas[bit] = table[deltas[bit] & 255] ^ (deltas[bit] >> 8)  # as if one more byte followed
    return None


def payload_of(changes: Changes) -> bytes:
    """Return the lines of a transaction."""
    lines: list[bytes] = []
    for table, rows in changes.items():
        name = json.dumps(table).encode()
        if rows is None:
            lines.append(b"-" + name)
            continue
        lines.append(name)
        lines += [b"%d %s" % (number, row.raw if row else b"null") for number, row in rows.items()]
    return b"\n".join(lines)


def changes_of(payload: bytes) -> Changes:
    """Return the transaction of some lines."""
    changes: Changes = {}
    rows: dict[int, Row | None] = {}
    for line in payload.split(b"\n"):
        if line.startswith(b"-"):
            changes[json.loads(line[1:])] = None
        elif line.startswith(b'"'):
            changes[json.loads(line)] = rows = {}
        else:
            number, raw = line.split(b" ", 1)
            rows[int(number)] = None if raw == b"null" else Row(raw)
    return changes
