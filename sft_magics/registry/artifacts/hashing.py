"""Hashes of parts of files, on two threads.

SHA-256 says what a tensor is, and proves it at every save, export and verification. A load checks the CRC-32 beside it,
which finds what disks and memory do to bytes (every flipped bit, every burst up to 32 bits) at four times the speed.
"""

import hashlib
import os
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from sft_magics.core.runtime import weights

CHUNK = 1 << 20
_THREADS = 2


@dataclass(frozen=True)
class Sums:
    """The SHA-256 (hexadecimal) and CRC-32 of some bytes."""

    sha256: str
    crc32: int


def chunks(fd: int, start: int, size: int) -> Iterator[bytes]:
    """Yield the bytes of a part; fewer than `size` where the file is shorter."""
    end = start + size
    while start < end:
        data = os.pread(fd, min(CHUNK, end - start), start)
        if not data:
            return
        start += len(data)
        yield data


def sums(path: Path, parts: Sequence[tuple[int, int]], *, crc: bool = True) -> list[Sums]:
    """Return the sums of each part (start, size) of a file, in order; of fewer bytes where the file is shorter."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:

        def of(numbers: list[int]) -> list[tuple[int, Sums]]:
            return [(number, _sums(fd, *parts[number], crc=crc)) for number in numbers]

        with ThreadPoolExecutor(_THREADS) as pool:
            found = dict(
                pair for pairs in pool.map(of, weights.shares([size for _, size in parts], _THREADS)) for pair in pairs
            )
    finally:
        os.close(fd)
    return [found[number] for number in range(len(parts))]


def _sums(fd: int, start: int, size: int, *, crc: bool) -> Sums:
    found, check = hashlib.sha256(), 0
    for data in chunks(fd, start, size):
        found.update(data)
        check = zlib.crc32(data, check) if crc else 0
    return Sums(found.hexdigest(), check)
