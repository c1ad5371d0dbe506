"""Where the tensors of a checked-out folder are: in packs, each to be verified by whoever loads it.

    .weights/index.json                 {"packs": [name, ...], "files": {file: {tensor: [n, ...]}}}, see `Stored`
    .weights/<pack>.safetensors         the packs it names

A folder without an index is a plain one, with its tensors in its own files.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from sft_magics.core import errors

FOLDER = ".weights"
INDEX = f"{FOLDER}/index.json"


class Stored(NamedTuple):
    """One tensor: the pack's place in the list, the first byte and the bytes, how to read them, and their CRC-32."""

    pack: int
    start: int
    size: int
    dtype: str  # as safetensors names it
    shape: tuple[int, ...]
    crc32: int


class Index(NamedTuple):
    """The names of the packs, and file name -> tensor name -> where it is."""

    packs: tuple[str, ...]
    files: dict[str, dict[str, Stored]]


def pack(name: str) -> str:
    """Return where a pack is within a checked-out folder."""
    return f"{FOLDER}/{name}.safetensors"


def written(index: Index) -> bytes:
    """Return an index as its file has it."""
    return json.dumps({"packs": index.packs, "files": index.files}, separators=(",", ":")).encode()


def read(folder: Path) -> Index | None:
    """Return the index of a checked-out folder, None for a plain one; raises ModelProblem for a damaged index."""
    try:
        data = (folder / INDEX).read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        found = json.loads(data)
        files = {file: {name: _stored(*fields) for name, fields in t.items()} for file, t in found["files"].items()}
        return Index(tuple(found["packs"]), files)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise errors.ModelProblem(
            f"The index of the weights in {folder} is damaged.", "type the same line again: it is made anew."
        ) from error


def shares(sizes: Sequence[int], count: int) -> list[list[int]]:
    """Divide things among `count` threads, about the same bytes for each; return their numbers, each share in order."""
    found: list[list[int]] = [[] for _ in range(count)]
    loads = [0] * count
    for number in sorted(range(len(sizes)), key=lambda number: -sizes[number]):
        least = loads.index(min(loads))
        found[least].append(number)
        loads[least] += sizes[number]
    return [sorted(share) for share in found]


def _stored(pack: int, start: int, size: int, dtype: str, shape: list[int], crc32: int) -> Stored:
    return Stored(pack, start, size, dtype, tuple(shape), crc32)
