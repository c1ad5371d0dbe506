"""What a safetensors file holds, read from its header without torch, and the header of a new one.

The format: eight bytes with the header's length (little endian), the header as JSON, the tensors without gaps
(https://huggingface.co/docs/safetensors).
"""

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sft_magics.registry.artifacts import files

_LONGEST = 100_000_000  # bytes of a header, as in the format's own readers
_BYTES = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0"), 1),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 2),
    **dict.fromkeys(("U32", "I32", "F32"), 4),
    **dict.fromkeys(("U64", "I64", "F64", "C64"), 8),
}


@dataclass(frozen=True)
class Tensor:
    """One tensor of a file: `start` counts bytes from the file's beginning."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    size: int


@dataclass(frozen=True)
class Layout:
    """The header of a file as it is, and its tensors in the order of their bytes."""

    header: bytes
    tensors: tuple[Tensor, ...]
    metadata: dict[str, str]


def read(path: Path) -> Layout | None:
    """Return the layout of a safetensors file; None when the file is not one that follows the format to the byte."""
    with files.open_regular(path) as file:
        length = int.from_bytes(file.read(8), "little")
        size = path.stat().st_size
        if not 2 <= length <= min(_LONGEST, size - 8):
            return None
        file.seek(0)
        header = file.read(8 + length)
    found = parse(header)
    return found if found and size == _end(found) else None


def parse(header: bytes) -> Layout | None:
    """Return the layout that a header describes; None when it describes none."""
    try:
        entries = json.loads(header[8:])
        metadata = dict(entries.get("__metadata__") or {})
        tensors = sorted(
            (_tensor(name, entry, len(header)) for name, entry in entries.items() if name != "__metadata__"),
            key=lambda tensor: (tensor.start, tensor.size),
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    end = len(header)
    for tensor in tensors:
        if tensor.start != end:
            return None
        end += tensor.size
    return Layout(header, tuple(tensors), metadata)


def _tensor(name: str, entry: dict[str, Any], base: int) -> Tensor:
    start, end = entry["data_offsets"]
    shape = tuple(entry["shape"])
    if not all(type(n) is int and n >= 0 for n in (start, end, *shape)):
        raise ValueError(name)
    if end - start != _BYTES[entry["dtype"]] * math.prod(shape):
        raise ValueError(name)
    return Tensor(name, entry["dtype"], shape, base + start, end - start)


def _end(layout: Layout) -> int:
    return layout.tensors[-1].start + layout.tensors[-1].size if layout.tensors else len(layout.header)


def header_for(
    tensors: Iterable[tuple[str, str, tuple[int, ...], int]], metadata: dict[str, str], length: int = 0
) -> bytes:
    """Return the header of a file of these tensors (name, dtype, shape, bytes), in this order, of at least `length`."""
    entries: dict[str, Any] = {"__metadata__": metadata}
    end = 0
    for name, dtype, shape, size in tensors:
        entries[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(entries, separators=(",", ":")).encode().ljust(length - 8)
    text += b" " * (-len(text) % 8)  # so that the tensors begin at a multiple of eight
    return len(text).to_bytes(8, "little") + text
