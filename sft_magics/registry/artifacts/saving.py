"""Puts the tensors of a safetensors file into packs: those that the store has not, and the rest compared with it.

Copying waits for the disk and hashing for the processor. Where one of some size is new, most are, so all are copied
while they are hashed; should enough of them turn out to be known, the copy is dropped and only the new ones are packed.
"""

import secrets
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from sft_magics.registry.artifacts import hashing
from sft_magics.registry.artifacts.layout import Layout
from sft_magics.registry.artifacts.packs import Packs, Source

_PROBE = 1 << 20
_TWICE = 0.01  # share of a pack that may be in the store already


@dataclass(frozen=True)
class Saved:
    """The hashes of a file's tensors, in the order of their bytes, and the packs that hold them."""

    sha256s: tuple[str, ...]
    packs: frozenset[str]


def tensors(packs: Packs, path: Path, read: Layout, staging: Path, added: list[Path]) -> Saved:
    """Store the tensors of a file; a stored copy that is damaged is put right."""
    staged = staging / secrets.token_hex(8)
    with ThreadPoolExecutor(1) as beside:
        ahead = None if _probably_known(packs, path, read) else beside.submit(packs.copy_ahead, path, read, staged)
        sums = hashing.sums(path, [(t.start, t.size) for t in read.tensors])
    found = [
        Source(s.sha256, s.crc32, t.dtype, t.shape, path, t.start, t.size)
        for t, s in zip(read.tensors, sums, strict=True)
    ]
    once = {source.sha256: source for source in found}
    slots = packs.find(once)
    fresh = [source for sha256, source in once.items() if sha256 not in slots]
    for sha256, slot in slots.items():
        packs.heal(slot, once[sha256])
    used = {slot.pack for slot in slots.values()}
    if fresh and ahead is not None and _nearly_all(fresh, found):
        used.add(packs.write_ahead(found, staged, ahead.result(), added))
    elif fresh:
        used.add(packs.write(fresh, staging, added))
    return Saved(tuple(source.sha256 for source in found), frozenset(used))


def _probably_known(packs: Packs, path: Path, read: Layout) -> bool:
    """Say whether a tensor of some size is in the store: where one is, most are."""
    probe = max((t for t in read.tensors if t.size <= _PROBE), key=lambda t: t.size, default=read.tensors[0])
    (sums,) = hashing.sums(path, [(probe.start, probe.size)], crc=False)
    return bool(packs.find([sums.sha256]))


def _nearly_all(fresh: list[Source], found: list[Source]) -> bool:
    whole = sum(source.size for source in found)
    return whole - sum(source.size for source in fresh) <= _TWICE * whole
