"""Loads the tensors of a checked-out folder straight from the store's packs, each verified on its way in."""

import contextlib
import mmap
import os
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from sft_magics.core import errors, weights
from sft_magics.core.weights import Stored

_THREADS = 4
_POPULATE_READ = 22  # Linux 5.14: map all pages that are there at once, instead of at each first touch
_TYPES = {
    "BOOL": torch.bool,
    "U8": torch.uint8,
    "I8": torch.int8,
    "I16": torch.int16,
    "I32": torch.int32,
    "I64": torch.int64,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F32": torch.float32,
    "F64": torch.float64,
    "C64": torch.complex64,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
}
_OTHER = "use another version (%sft_versions lists them); %sft_registry --verify checks all."


def load(folder: Path) -> dict[str, torch.Tensor] | None:
    """Return the tensors of a checked-out folder by name, None when it is a plain one.

    Raises ModelProblem, naming the tensor, when bytes are not those that were saved, or are missing.
    """
    for last in (False, True):
        index = weights.read(folder)
        if index is None:
            return None
        try:
            return _load(folder, index)
        except FileNotFoundError as error:  # a collection moved tensors to another pack, and renewed the index first
            if last:
                raise errors.ModelProblem(f"The weights in {folder} are no longer there.", _OTHER) from error
    raise AssertionError("unreachable")


def _load(folder: Path, index: weights.Index) -> dict[str, torch.Tensor]:
    packs = [_mapped(folder / weights.pack(name)) for name in index.packs]
    tensors = [(name, stored) for found in index.files.values() for name, stored in found.items()]
    shares = weights.shares([stored.size for _, stored in tensors], min(_THREADS, os.cpu_count() or 1))

    def read(share: list[int]) -> list[tuple[str, torch.Tensor]]:
        return [(name, _read(name, stored, packs[stored.pack])) for name, stored in (tensors[i] for i in share)]

    with ThreadPoolExecutor(len(shares)) as pool:
        return dict(pair for pairs in pool.map(read, shares) for pair in pairs)


def _mapped(path: Path) -> mmap.mmap:
    """Map a pack: its pages come from the system's cache without a copy, and what is written to them stays here."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        found = mmap.mmap(fd, 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE)
    finally:
        os.close(fd)
    with contextlib.suppress(OSError, ValueError):  # an older kernel; the pages come one by one
        found.madvise(_POPULATE_READ)
    return found


def _read(name: str, stored: Stored, pack: mmap.mmap) -> torch.Tensor:
    if stored.dtype not in _TYPES:
        raise errors.ModelProblem(f"The tensor {name} has the type {stored.dtype}, which torch lacks here.", _OTHER)
    dtype = _TYPES[stored.dtype]
    with memoryview(pack) as whole, whole[stored.start : stored.start + stored.size] as part:
        if len(part) != stored.size or zlib.crc32(part) != stored.crc32:
            raise errors.ModelProblem(f"The tensor {name} is damaged: its bytes are not those that were saved.", _OTHER)
        if not stored.size:
            return torch.empty(stored.shape, dtype=dtype)
        if stored.start % dtype.itemsize:
            return torch.frombuffer(bytearray(part), dtype=dtype).reshape(stored.shape)
    count = stored.size // dtype.itemsize
    return torch.frombuffer(pack, dtype=dtype, count=count, offset=stored.start).reshape(stored.shape)
