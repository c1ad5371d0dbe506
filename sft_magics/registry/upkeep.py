"""Backup, restore and repair of the registry's files; every one of them leaves what it found beside what it made.

registry.before-<time>.json   what a restore replaced, when that could be read
damaged-<time>/               the files that a repair, or a restore over damage, replaced
"""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sft_magics.core import errors
from sft_magics.core.workspace import sync_folder
from sft_magics.registry import disk, frames, snapshots
from sft_magics.registry.frames import Frame
from sft_magics.registry.journal import JournalStorage
from sft_magics.registry.snapshots import DamagedError, Snapshot
from sft_magics.registry.state import State


@dataclass(frozen=True)
class Repair:
    """What a repair did: which file it began from, how many transactions it added, and those it could not find.

    `lost` holds transaction numbers; `mended` says how many had one flipped bit put right; `kept` is the folder of the
    damaged files, None when there was nothing to repair.
    """

    began: str
    added: int
    mended: int
    lost: tuple[int, ...]
    kept: Path | None


@dataclass(frozen=True)
class _Found:
    """The whole frames of a file by transaction, and the highest number seen."""

    whole: dict[int, Frame]
    mended: set[int]


def check(storage: JournalStorage) -> list[tuple[str, str | None]]:
    """Return each file of the registry with what is wrong with it, None where it is whole."""
    return [(path.name, _wrong(path)) for path in _files(storage) if path.exists()]


def backup(storage: JournalStorage, target: Path) -> int:
    """Write the newest state to `target`, a file of its own that plain TinyDB opens; return its bytes.

    Raises Refused where the file exists, and WorkspaceProblem when it cannot be written.
    """
    target = target.expanduser().absolute()
    if target.exists():
        raise errors.Refused(f"{target} exists already.", "give the backup a name of its own.")
    data = snapshots.encode(storage.newest(), storage.schema)
    with _in_words("writing the backup"):
        disk.write(target, data)
    return len(data)


def restore(storage: JournalStorage, source: Path) -> Path | None:
    """Let the registry be what `source` holds; return where it can be found as it was before (None: there was none).

    Raises WorkspaceProblem when the file cannot be read, is damaged or newer than this program; nothing has changed.
    """
    source = source.expanduser().absolute()
    with _in_words(f"reading {source.name}"):
        raw = source.read_bytes()
    try:
        found = snapshots.decode(raw)
    except DamagedError as error:
        raise errors.WorkspaceProblem(f"{source} cannot be restored: {error}.", "choose another backup.") from None
    state = storage.migrated(found)
    with storage.held(), _in_words("restoring the registry"):
        before = _put_aside(storage)
        storage.install(state.numbered(_highest(storage) + 1))
    return before


def repair(storage: JournalStorage) -> Repair:
    """Put the registry together again from what is whole; raises WorkspaceProblem where no snapshot is.

    A registry in order is left alone.
    """
    with storage.held(), _in_words("repairing the registry"):
        with contextlib.suppress(errors.WorkspaceProblem):
            storage.settled()
            return Repair("", 0, 0, (), None)
        highest = _highest(storage)
        state, done = _rebuilt(storage, highest)
        kept = _keep_damaged(storage)
        storage.install(state.numbered(highest + 1))
    return Repair(done.began, done.added, done.mended, done.lost, kept)


def _rebuilt(storage: JournalStorage, highest: int) -> tuple[State, Repair]:
    """Return the newest state that whole files lead to."""
    found = _all_frames(storage)
    best: tuple[State, Repair] | None = None
    for name, snapshot in _snapshots(storage):
        state, mended = storage.migrated(snapshot) if snapshot.schema == storage.schema else snapshot.state, 0
        begun = state.sequence
        while (frame := found.whole.get(state.sequence + 1)) is not None:
            state = state.apply(frames.changes_of(frame.payload), frame.sequence)
            mended += frame.sequence in found.mended
        lost = tuple(range(state.sequence + 1, highest + 1))
        if best is None or state.sequence > best[0].sequence:
            best = state, Repair(name, state.sequence - begun, mended, lost, None)
    if best is None:
        raise errors.WorkspaceProblem(
            f"Nothing in {storage.path.parent} is whole enough to begin from; it was left as it is.",
            "%sft_registry --restore FILE, with a backup of yours.",
        )
    return best


def _snapshots(storage: JournalStorage) -> Iterator[tuple[str, Snapshot]]:
    for path in (storage.path, storage.backup_of(storage.path)):
        with contextlib.suppress(OSError, DamagedError):
            found = snapshots.decode(path.read_bytes())
            if found.schema == storage.schema:
                yield path.name, found
    first = next(iter(frames.walk(_bytes(storage.journal))), None)
    if first is not None and first.sequence == 0:
        yield "an empty registry", Snapshot(State(), storage.schema)


def _all_frames(storage: JournalStorage) -> _Found:
    found = _Found({}, set())
    for path in (storage.backup_of(storage.journal), storage.journal):
        data, at, first = _bytes(path), 0, True
        while at < len(data):
            frame = frames.read(data, at)
            if frame is None and (whole := frames.mend(data, at)) is not None:
                frame = frames.read(whole, 0, at)
                assert frame is not None
                found.mended.add(frame.sequence)
            if frame is None:
                frame = frames.search(data, at)
                first = False
                if frame is None:
                    break
            if not first:
                found.whole[frame.sequence] = frame
            at, first = frame.end, False
    return found


def _highest(storage: JournalStorage) -> int:
    """Return the highest transaction number that any file speaks of."""
    numbers = [snapshot.state.sequence for _, snapshot in _snapshots(storage)]
    for path in (storage.journal, storage.backup_of(storage.journal)):
        numbers += [frame.sequence for frame in frames.walk(_bytes(path))]
    return max([*numbers, *_all_frames(storage).whole], default=0)


def _put_aside(storage: JournalStorage) -> Path | None:
    if not storage.path.exists() and not storage.journal.exists():
        return None
    try:
        state = storage.settled()
    except errors.WorkspaceProblem:
        return _keep_damaged(storage)
    path = _fresh(storage.path.with_suffix(f".before-{_now()}.json"))
    disk.write(path, snapshots.encode(state, storage.schema))
    return path


def _keep_damaged(storage: JournalStorage) -> Path:
    folder = _fresh(storage.path.parent / f"damaged-{_now()}")
    folder.mkdir(mode=0o700)
    for path in _files(storage):
        disk.keep(path, folder / path.name)
    sync_folder(folder)
    sync_folder(folder.parent)
    return folder


def _fresh(path: Path) -> Path:
    """Return `path`, or one like it that does not exist."""
    names = (path.with_name(f"{path.stem}-{n}{path.suffix}") for n in range(2, 1000))
    return path if not path.exists() else next(p for p in names if not p.exists())


def _files(storage: JournalStorage) -> tuple[Path, ...]:
    both = (storage.path, storage.journal)
    return (*both, *(storage.backup_of(path) for path in both))


def _wrong(path: Path) -> str | None:
    data = _bytes(path)
    if ".json" in path.name:
        try:
            snapshots.decode(data)
        except DamagedError as error:
            return str(error)
        return None
    end = max((frame.end for frame in frames.walk(data)), default=0)
    return None if end == len(data) else f"{len(data) - end:,} bytes from byte {end:,} on are not whole"


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""


def _now() -> str:
    return time.strftime("%Y%m%d-%H%M%S")


@contextlib.contextmanager
def _in_words(doing: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise errors.WorkspaceProblem(f"There is no {error.filename}.", "check the name of the file.") from error
    except IsADirectoryError as error:
        raise errors.WorkspaceProblem(f"{error.filename} is a folder.", "give the name of a file.") from error
    except OSError as error:
        raise errors.from_os_error(error, doing) from error
