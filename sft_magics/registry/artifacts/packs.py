"""Packs: files of tensors under the tensors' hashes.

A pack's name is the hash of its header, and its header names each tensor by its hash: the name vouches for all.
"""

import hashlib
import os
import secrets
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from sft_magics.registry.artifacts import copying, files, hashing, layout

_UNKNOWN = f"%064x#{0:08x}"  # as long as a name can be
_headers: dict[tuple[str, int, int], dict[str, "Slot"]] = {}  # path, inode, mtime -> slots; packs never change


@dataclass(frozen=True)
class Slot:
    """Where a tensor's bytes are: `start` counts from the beginning of the pack."""

    pack: str
    start: int
    size: int
    crc32: int


@dataclass(frozen=True)
class Source:
    """A tensor that is to go into a pack: its sums, and where its bytes are now."""

    sha256: str
    crc32: int
    dtype: str
    shape: tuple[int, ...]
    path: Path
    start: int
    size: int


class Packs:
    """The packs in `folder`; whoever adds or removes holds the store's lock."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, name: str) -> Path:
        """Return where a pack is, or would be."""
        return self.folder / f"{name}.safetensors"

    def names(self) -> list[str]:
        """Return the names of all packs."""
        return sorted(path.stem for path in self.folder.glob("*.safetensors"))

    def slots(self, name: str) -> dict[str, Slot]:
        """Return the tensors of a pack by hash; none when the pack is not there or its header is damaged."""
        path = self.path(name)
        try:
            found = path.stat()
        except FileNotFoundError:
            return {}
        key = (str(path), found.st_ino, found.st_mtime_ns)
        if key not in _headers:
            slots = _read(path, name)
            if not slots:
                return {}
            _headers[key] = slots
        return _headers[key]

    def stands(self, name: str) -> bool:
        """Say whether the header of a pack on the disk is as its name says, whatever was read of it before."""
        return bool(_read(self.path(name), name))

    def find(self, wanted: Collection[str], near: Iterable[str] = ()) -> dict[str, Slot]:
        """Return where each of these tensors is, as far as it is anywhere; the packs `near` are asked first."""
        found: dict[str, Slot] = {}
        missing = set(wanted)
        tried: set[str] = set()
        for names in (near, self.names):
            for name in names() if callable(names) else names:
                if missing and name not in tried:
                    tried.add(name)
                    slots = self.slots(name)
                    here = missing & slots.keys()
                    found.update((sha256, slots[sha256]) for sha256 in here)
                    missing -= here
        return found

    def heal(self, slot: Slot, source: Source) -> bool:
        """Compare a stored tensor with the same one at hand, byte for byte, and put the stored one right."""
        theirs = os.open(source.path, os.O_RDONLY | os.O_NOFOLLOW)
        ours = os.open(self.path(slot.pack), os.O_RDONLY | os.O_NOFOLLOW)
        try:
            pairs = zip(
                hashing.chunks(theirs, source.start, source.size),
                hashing.chunks(ours, slot.start, slot.size),
                strict=False,
            )
            if all(one == other for one, other in pairs) and os.fstat(ours).st_size >= slot.start + slot.size:
                return False
            self._overwrite(slot, theirs, source)
        finally:
            os.close(theirs)
            os.close(ours)
        return True

    def _overwrite(self, slot: Slot, theirs: int, source: Source) -> None:
        """Write the right bytes in place: cut short it is no worse than before, and every link of the pack has them."""
        path = self.path(slot.pack)
        path.chmod(0o600)
        fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
        try:
            at = slot.start
            for data in hashing.chunks(theirs, source.start, source.size):
                at += os.pwrite(fd, data, at)
            os.fsync(fd)
        finally:
            os.close(fd)
            path.chmod(0o400)

    def write(self, tensors: list[Source], staging: Path, added: list[Path]) -> str:
        """Write a pack of these tensors durably, and return its name."""
        header = _header(tensors)
        staged = staging / secrets.token_hex(8)
        with staged.open("wb", buffering=0) as file:
            file.write(header)
            for path, start, size in _runs(tensors):
                copying.append(path, start, size, file.fileno())
        return self._keep(staged, header, added)

    def copy_ahead(self, path: Path, read: layout.Layout, staged: Path) -> int:
        """Begin a pack of all tensors of a file whose sums are not known yet; return the bytes left for its header."""
        room = len(
            _header(
                [Source(_UNKNOWN % n, 0, t.dtype, t.shape, path, t.start, t.size) for n, t in enumerate(read.tensors)]
            )
        )
        with staged.open("wb", buffering=0) as file:
            file.seek(room)
            begin = len(read.header)
            copying.append(path, begin, path.stat().st_size - begin, file.fileno())
            os.fsync(file.fileno())
        return room

    def write_ahead(self, tensors: list[Source], staged: Path, room: int, added: list[Path]) -> str:
        """Finish what `copy_ahead` began, and return the pack's name; a tensor may occur more than once."""
        header = _header(tensors, room)
        with staged.open("r+b", buffering=0) as file:
            file.write(header)
        return self._keep(staged, header, added)

    def _keep(self, staged: Path, header: bytes, added: list[Path]) -> str:
        with staged.open("rb") as file:
            os.fchmod(file.fileno(), 0o400)
            os.fsync(file.fileno())
        name = hashlib.sha256(header).hexdigest()
        path = self.path(name)
        if not path.exists():
            added.append(path)
        staged.replace(path)
        return name


def size_of(tensors: list[Source]) -> int:
    """Return the bytes of a pack of these tensors."""
    return len(_header(tensors)) + sum(tensor.size for tensor in tensors)


def _header(tensors: list[Source], room: int = 0) -> bytes:
    """Return a pack's header: tensors under their hashes, those that were there before with a number behind."""
    seen: set[str] = set()
    names = []
    for number, tensor in enumerate(tensors):
        names.append(f"{tensor.sha256}#{number:08x}" if tensor.sha256 in seen else tensor.sha256)
        seen.add(tensor.sha256)
    found = ((n, t.dtype, t.shape, t.size) for n, t in zip(names, tensors, strict=True))
    return layout.header_for(found, {t.sha256: f"{t.crc32:08x}" for t in tensors}, room)


def _read(path: Path, name: str) -> dict[str, Slot]:
    """Read the header of a pack, if it is as its name says."""
    with files.open_regular(path) as file:
        length = int.from_bytes(file.read(8), "little")
        if length > path.stat().st_size:
            return {}
        file.seek(0)
        header = file.read(8 + length)
    if hashlib.sha256(header).hexdigest() != name:
        return {}
    found = layout.parse(header)
    if found is None:
        return {}
    once = [t for t in found.tensors if t.name in found.metadata]
    return {t.name: Slot(name, t.start, t.size, int(found.metadata[t.name], 16)) for t in once}


def _runs(tensors: list[Source]) -> Iterator[tuple[Path, int, int]]:
    """Yield the stretches of files that hold these tensors one after the other."""
    path, start, size = tensors[0].path, tensors[0].start, 0
    for tensor in tensors:
        if tensor.path == path and tensor.start == start + size:
            size += tensor.size
            continue
        yield path, start, size
        path, start, size = tensor.path, tensor.start, tensor.size
    yield path, start, size
