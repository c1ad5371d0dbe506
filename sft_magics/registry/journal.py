"""The registry on the disk: a snapshot, and a journal of every transaction since.

    registry.json           a legal TinyDB file: the state at its last compaction
    registry.journal        one frame a transaction; on the disk means acknowledged
    registry.json.bak       the snapshot before, and
    registry.journal.bak    the journal that led from it to the present one: together they are the state again
    registry.journal.torn   what was cut off a journal's end: a write that was never acknowledged
    registry.lock           held by the writer; the OS frees it however the process dies. In it: which frame is surely
                            on the disk, so that the next writer need not sync what the last one has synced

Readers take no lock: they look whether the journal has grown and read on from where they were. A compaction renames the
new snapshot first and the new journal second, so that a reader between the two finds frames that it knows already.
"""

import contextlib
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from sft_magics.core import errors
from sft_magics.core.records import SCHEMA
from sft_magics.core.workspace import locked, sync_folder
from sft_magics.registry import disk, frames, snapshots
from sft_magics.registry.frames import Frame
from sft_magics.registry.known import Known
from sft_magics.registry.known import cache as _cache
from sft_magics.registry.snapshots import DamagedError, Snapshot
from sft_magics.registry.state import State
from sft_magics.registry.storage import RegistryStorage

Migration = Callable[[dict[str, dict[str, dict[str, object]]]], dict[str, dict[str, dict[str, object]]]]
MIGRATIONS: Mapping[int, Migration] = {}  # schema -> what makes its tables those of the next schema
_SMALLEST, _SHARE, _TRIES = 64 << 10, 4, 20
_log = logging.getLogger(__name__)


class _TailError(Exception):
    """The journal does not end with a whole frame; whoever holds the lock can tell why."""


class JournalStorage(RegistryStorage):
    """Keeps the rows in a snapshot and a journal at `path`. Raises WorkspaceProblem when the disk refuses or lies.

    `schema` is the one this program writes; `migrations[n]` turns the tables of schema n into those of n + 1, after a
    copy of the registry was put aside as `registry.schema-n.json`.
    """

    def __init__(self, path: Path, schema: int = SCHEMA, migrations: Mapping[int, Migration] = MIGRATIONS) -> None:
        super().__init__()
        self.path = Path(path).absolute()
        self.journal = self.path.with_suffix(".journal")
        self.torn = self.path.with_suffix(".journal.torn")
        self.schema = schema
        self._migrations = migrations
        self._lock_file = self.path.with_suffix(".lock")
        self._quiet_until = 0
        self._held = -1  # the descriptor of the lock's file, of use to its holder only

    def key(self) -> Path:
        """See `RegistryStorage.key`."""
        return self.path

    def backup_of(self, path: Path) -> Path:
        """Return where the file before `path` is kept."""
        return path.with_name(f"{path.name}.bak")

    def newest(self) -> State:
        """See `RegistryStorage.newest`; it takes no lock but to judge a journal that ends in the middle of a frame."""
        known = _cache.get(self.path)
        try:
            if known is not None and known.stamp == disk.stamp(self.journal.stat()):
                return known.state
        except OSError:
            pass  # the longer way finds words for it
        try:
            return self._follow(known).state
        except _TailError:
            with self.held():
                return self._settled().state

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[State]:
        """See `RegistryStorage.exclusive`."""
        with self.held():
            yield self._settled().state

    def publish(self, old: State, new: State) -> None:
        """See `RegistryStorage.publish`: one frame, and on return it is on the disk."""
        changes = new.changes(old)
        if not changes:
            return
        known = _cache.get(self.path)
        assert known is not None
        data = frames.pack(new.sequence, known.last.check, frames.payload_of(changes))
        frame = frames.read(data, 0, known.last.end)
        if frame is None or len(data) > frames.LARGEST:
            raise errors.UsageProblem("One change of the registry is larger than 1 GB.", "make it in smaller steps.")
        try:
            stamp = disk.append(self.journal, known.last.end, data)
        except BaseException as error:
            _cache.put(self.path, None)
            if isinstance(error, disk.Unconfirmed):
                raise errors.WorkspaceProblem(
                    f"The registry was changed, but the disk did not confirm it: {error}.",
                    "%sft_doctor, then look with %sft_versions before you type the line again.",
                ) from error
            if isinstance(error, OSError):
                raise errors.from_os_error(error, "writing the registry") from error
            raise
        disk.mark(self._held, frame.mark)
        _cache.put(self.path, Known(stamp, frame, new, known.base, known.snapshot, known.size))
        self._compact_if_long(frame.end, known.size)

    def compact(self) -> None:
        """Write the newest state to `registry.json` and begin a new journal; the old pair is kept."""
        with self.held():
            known = self._settled()
            if known.snapshot != known.state.sequence:
                with _in_words("compacting the registry"):
                    self._replace(known.state)

    # reading

    def _follow(self, known: Known | None) -> Known:
        """Read on from what is known, or all of it; raises _TailError where a frame is not whole."""
        found = self._continued(known) if known else None
        if found is None:
            found = self._loaded()
        _cache.put(self.path, found)
        return found

    def _continued(self, known: Known) -> Known | None:
        """Return what is new in the same journal; None where it is another one, or not what was read before."""
        try:
            stamp, data = disk.tail(self.journal, known.last.start)
        except OSError:
            return None
        seen = frames.read(data, 0, known.last.start)
        if stamp[:2] != known.stamp[:2] or seen is None or seen.check != known.last.check:
            return None
        state, last = self._replayed(data[seen.end - seen.start :], seen, known.state)
        if last.end < known.last.start + len(data):
            return None
        return Known(stamp, last, state, known.base, known.snapshot, known.size)

    def _loaded(self) -> Known:
        for _ in range(_TRIES):
            snapshot = self._snapshot()
            stamp, data = self._journal(snapshot)
            first = frames.read(data, 0) if data else None
            if stamp and first is None:
                raise self._damaged(self.journal, "its beginning is damaged")
            if first is None:
                return Known(stamp, _NOTHING, snapshot.state, 0, snapshot.state.sequence, snapshot.size)
            self._check_not_newer(int(json.loads(first.payload)["schema"]))
            if first.sequence > snapshot.state.sequence:
                continue  # a compaction came between the two reads
            state, last = self._replayed(data[first.end :], first, snapshot.state)
            if last.end < len(data):
                raise _TailError
            return Known(stamp, last, state, first.sequence, snapshot.state.sequence, snapshot.size)
        raise self._damaged(self.path, "is older than its journal")

    def _replayed(self, data: bytes, after: Frame, state: State) -> tuple[State, Frame]:
        """Apply the whole frames of `data`, which follow the frame `after`; return the state and the last frame."""
        last = after
        for frame in frames.walk(data, after.end):
            if frame.sequence != last.sequence + 1 or frame.previous != last.check:
                break
            if frame.sequence == state.sequence + 1:
                state = state.apply(frames.changes_of(frame.payload), frame.sequence)
            last = frame
        return state, last

    def _snapshot(self) -> Snapshot:
        try:
            raw = self.path.read_bytes()
        except FileNotFoundError:
            if (self._has_frames() or self.backup_of(self.path).exists()) and not self.path.exists():
                raise self._damaged(self.path, "is gone") from None
            return self._snapshot() if self.path.exists() else Snapshot(State(), self.schema)
        except OSError as error:
            raise errors.from_os_error(error, "reading the registry") from error
        try:
            found = snapshots.decode(raw)
        except DamagedError as error:
            raise self._damaged(self.path, f"is damaged: {error}") from None
        self._check_schema(found.schema)
        if found.schema < self.schema:
            raise _TailError  # only the holder of the lock may migrate
        return found

    def _journal(self, snapshot: Snapshot) -> tuple[tuple[int, ...], bytes]:
        try:
            return disk.tail(self.journal, 0)
        except FileNotFoundError:
            if snapshot.size:
                raise self._damaged(self.journal, "is gone") from None
            return (), b""
        except OSError as error:
            raise errors.from_os_error(error, "reading the registry") from error

    def _has_frames(self) -> bool:
        """Say whether the journal holds more than its first frame, which is written before there is a snapshot."""
        with contextlib.suppress(OSError):
            data = disk.tail(self.journal, 0)[1]
            first = frames.read(data, 0)
            return first is None or first.end < len(data)
        return False

    def _check_schema(self, schema: int) -> None:
        self._check_not_newer(schema)
        if any(step not in self._migrations for step in range(schema, self.schema)):
            raise errors.WorkspaceProblem(
                f"The registry was written by an older sft_magics (schema {schema}; this one reads {self.schema}) and "
                "was left as it is.",
                "begin a new workspace (--workspace DIR), or open this one with the sft_magics that wrote it.",
            )

    def _check_not_newer(self, schema: int) -> None:
        """Refuse a journal of a newer release. An older one is left by a migration that was killed: its rows are in
        the snapshot.
        """
        if schema > self.schema:
            raise errors.WorkspaceProblem(
                f"The registry was written by a newer sft_magics (schema {schema}; this one knows {self.schema}).",
                "pip install --upgrade sft_magics",
            )

    def _damaged(self, path: Path, how: str) -> errors.WorkspaceProblem:
        _cache.put(self.path, None)
        backup = self.backup_of(path)
        there = f" from {backup.name} and what else is whole" if backup.exists() else " from what is whole"
        return errors.WorkspaceProblem(
            f"The registry's {path} {how}; it was left as it is.",
            f"%sft_registry --repair puts it together again{there}; the damaged files are kept.",
        )

    # the holder of the lock

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Keep every other writer out during the block."""
        with contextlib.ExitStack() as stack:
            with _in_words("opening the registry for a change"):
                self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                self._held = stack.enter_context(locked(self._lock_file))
            yield

    def settled(self) -> State:
        """Return the newest state with everything in order for the next write; called within `held`."""
        return self._settled().state

    def install(self, state: State) -> None:
        """Let the registry be `state`, whatever its files are; called within `held`. The backups stay what they are."""
        _cache.put(self.path, None)
        disk.write(self.path, snapshots.encode(state, self.schema))
        disk.write(self.journal, self._first_frame(state))

    def migrated(self, found: Snapshot) -> State:
        """Return the state of a snapshot in this program's schema; raises WorkspaceProblem for a newer one."""
        self._check_schema(found.schema)
        if found.schema == self.schema:
            return found.state
        tables = found.state.plain()
        for step in range(found.schema, self.schema):
            tables = self._migrations[step](tables)
        return snapshots.of_plain(tables, found.state.sequence)

    def _settled(self) -> Known:
        """Return the newest state with everything in order for the next frame, every frame before it on the disk."""
        known = _cache.get(self.path)
        try:
            known = (self._continued(known) if known else None) or self._loaded()
        except _TailError:
            with _in_words("putting the registry in order"):
                self._judge_tail()
            known = self._loaded()
        with _in_words("opening the registry for a change"):
            if known.last is _NOTHING or known.base != known.snapshot or not self.path.exists():
                known = self._begun(known)
            elif disk.marked(self._held) != known.last.mark:
                disk.sync(self.journal)  # who wrote the last frame may have been killed before it was on the disk
                disk.mark(self._held, known.last.mark)
        _cache.put(self.path, known)
        return known

    def _begun(self, known: Known) -> Known:
        """Give a snapshot its own journal: at the very first write, and after a compaction that was killed half-way."""
        if known.state.sequence != known.snapshot:
            return self._replace(known.state)
        begun = self._new_journal(known.state, known.size)  # first, so that a snapshot without a journal is damage
        if not self.path.exists():
            disk.write(self.path, snapshots.encode(known.state, self.schema))
            sync_folder(self.path.parent.parent)
        return begun

    def _judge_tail(self) -> None:
        """Migrate an older schema; cut a write that was cut short; refuse damage to what was acknowledged."""
        snapshot = snapshots.decode(self.path.read_bytes())
        if snapshot.schema < self.schema:
            self._migrate(snapshot)
            return
        data = self.journal.read_bytes()
        first = frames.read(data, 0)
        assert first is not None
        _, last = self._replayed(data[first.end :], first, snapshot.state)
        rest = data[last.end :]
        if frames.search(data, last.end) is not None or frames.read(rest, 0) is not None:
            raise self._damaged(self.journal, f"is damaged after transaction {last.sequence:,}, in its middle")
        if frames.mend(rest, 0) is not None:
            raise self._damaged(self.journal, f"is damaged: one bit of transaction {last.sequence + 1:,} has flipped")
        if rest:
            with self.torn.open("ab") as file:
                file.write(rest)
            disk.truncate(self.journal, last.end)
            _log.warning(
                "cut %d bytes off %s: a change that was never acknowledged; kept in %s",
                len(rest),
                self.journal,
                self.torn,
            )

    def _migrate(self, snapshot: Snapshot) -> None:
        """Bring an older schema up to this one, after a copy was put aside."""
        state, schema = snapshot.state, snapshot.schema
        data = self.journal.read_bytes() if self.journal.exists() else b""
        first = frames.read(data, 0)
        if first is not None:
            state, last = self._replayed(data[first.end :], first, state)
            if frames.search(data, last.end) is not None or frames.mend(data[last.end :], 0) is not None:
                raise self._damaged(self.journal, f"is damaged after transaction {last.sequence:,}")
        disk.write(self.path.with_suffix(f".schema-{schema}.json"), snapshots.encode(state, schema))
        self._replace(self.migrated(Snapshot(state, schema)))

    # compaction

    def _compact_if_long(self, length: int, snapshot: int) -> None:
        if length < max(_SMALLEST, snapshot // _SHARE, self._quiet_until):
            return
        known = _cache.get(self.path)
        assert known is not None
        try:
            self._replace(known.state)
        except OSError as error:  # what was asked for is on the disk; only the tidying has to wait
            self._quiet_until = length * 2
            _cache.put(self.path, None)
            _log.warning("the registry could not be compacted, which is tried again later: %s", error)

    def _replace(self, state: State) -> Known:
        """Publish `state` as a new snapshot with a new journal; the old pair is kept."""
        data = snapshots.encode(state, self.schema)
        aside = self.path.with_name(f"{self.path.name}.new")
        disk.write(aside, data, rename=False)
        disk.keep(self.path, self.backup_of(self.path))
        aside.replace(self.path)
        sync_folder(self.path.parent)
        self._quiet_until = 0
        self._held = -1  # the descriptor of the lock's file, of use to its holder only
        return self._new_journal(state, len(data))

    def _first_frame(self, state: State) -> bytes:
        return frames.pack(state.sequence, 0, json.dumps({"schema": self.schema}).encode())

    def _new_journal(self, state: State, size: int = 0) -> Known:
        data = self._first_frame(state)
        disk.keep(self.journal, self.backup_of(self.journal))
        stamp = disk.write(self.journal, data)
        first = frames.read(data, 0)
        assert first is not None
        known = Known(stamp, first, state, state.sequence, state.sequence, size)
        _cache.put(self.path, known)
        return known


_NOTHING = Frame(0, 0, b"", 0, 0, 0)


@contextlib.contextmanager
def _in_words(doing: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise errors.from_os_error(error, doing) from error
