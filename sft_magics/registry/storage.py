"""What lies under TinyDB: the seam, and a storage that replaces one whole file under an OS lock.

    registry.json       the newest state, a legal TinyDB file; its `_meta` table holds schema, sequence and checksum
    registry.json.bak   the state before the newest change
    registry.json.new   what a writer that was killed left behind; the next writer overwrites it
    registry.lock       held by the writer; the OS frees it however the process dies

A write goes aside, to the disk, and then over the old file, so a reader sees the old state or the new one and needs no
lock. The checksum covers every byte of the file except its own digits.
"""

import contextlib
import hashlib
import json
import os
import re
import shlex
import shutil
import threading
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinydb.storages import Storage

from sft_magics.core import codec, errors
from sft_magics.core.records import SCHEMA
from sft_magics.core.workspace import locked, sync_folder

META = "_meta"
State = dict[str, dict[str, Any]]
_HEAD = re.compile(rb'\{"_meta":\{"1":\{"schema":(\d+),"sequence":(\d+),"sha256":"([0-9a-f]{64})"\}\}[,}]')


class RegistryStorage(Storage):
    """The seam under the registry: a tinydb Storage that knows transactions and snapshots.

    What `read` returns belongs to the caller alone (inside a transaction or snapshot: to that block alone). A `write`
    outside a transaction is a transaction of its own.
    """

    @abstractmethod
    def transaction(self) -> AbstractContextManager[None]:
        """Make one read-modify-write of the block: alone among all writers, and nothing is written if it raises.

        Re-entrant in one thread: an inner block that raises takes back its own changes and leaves the outer one whole.
        """

    @abstractmethod
    def snapshot(self) -> AbstractContextManager[None]:
        """Let every read in the block see one state, without a lock; inside a transaction, the transaction's."""


@dataclass
class _Block:
    """The private state of an open transaction (`writable`) or snapshot."""

    state: State
    sequence: int
    writable: bool
    dirty: bool = False


class _OpenBlocks(threading.local):
    """The open blocks of this thread by file, so that two handles on one file do not wait for each other forever."""

    def __init__(self) -> None:
        self.by_path: dict[Path, _Block] = {}


_open = _OpenBlocks()


class DamagedStateError(ValueError):
    """Bytes that are not a state this storage wrote."""


class FileStorage(RegistryStorage):
    """Keeps the state in one JSON file. Raises WorkspaceProblem when the disk refuses or the file is damaged."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path.absolute()
        self.backup = self.path.with_name(f"{path.name}.bak")
        self._lock_file = self.path.with_suffix(".lock")
        self._cached: tuple[tuple[int, ...], bytes] | None = None

    def read(self) -> State:
        """Return the state: the open block's, else a fresh copy of the newest one."""
        block = _open.by_path.get(self.path)
        return block.state if block else self._newest().state

    def write(self, data: State) -> None:
        """Replace the state; durable when the transaction ends."""
        block = _open.by_path.get(self.path)
        if block is not None and block.writable:
            block.state, block.dirty = data, True
            return
        with self.transaction():
            self.write(data)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """See `RegistryStorage.transaction`."""
        block = _open.by_path.get(self.path)
        if block is not None and block.writable:
            with _savepoint(block):
                yield
            return
        with self._locked():
            self._cached = None  # a writer never trusts a time stamp
            block = self._newest()
            block.writable = True
            with self._opened(block):
                yield
            if block.dirty:
                self._publish(encode(block.state, block.sequence + 1))

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[None]:
        """See `RegistryStorage.snapshot`."""
        if self.path in _open.by_path:
            yield
            return
        with self._opened(self._newest()):
            yield

    @contextlib.contextmanager
    def _opened(self, block: _Block) -> Iterator[None]:
        outer = _open.by_path.get(self.path)
        _open.by_path[self.path] = block
        try:
            yield
        finally:
            if outer is None:
                del _open.by_path[self.path]
            else:
                _open.by_path[self.path] = outer

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                stack.enter_context(locked(self._lock_file))
            except OSError as error:
                raise errors.from_os_error(error, "opening the registry for a change") from error
            yield

    def _newest(self) -> _Block:
        try:
            raw, known = self._bytes()
        except FileNotFoundError:
            if self.backup.exists():
                raise self._damaged("is gone") from None
            return _Block({}, 0, writable=False)
        except OSError as error:
            raise errors.from_os_error(error, "reading the registry") from error
        try:
            state, sequence = decode(raw, verified=known)
        except DamagedStateError as error:
            self._cached = None
            raise self._damaged(str(error)) from None
        return _Block(state, sequence, writable=False)

    def _bytes(self) -> tuple[bytes, bool]:
        """Return the file's bytes, and whether they were verified by an earlier read of the same file."""
        with self.path.open("rb") as file:
            status = os.fstat(file.fileno())
            stamp = (status.st_dev, status.st_ino, status.st_mtime_ns, status.st_ctime_ns, status.st_size)
            if self._cached is not None and self._cached[0] == stamp:
                return self._cached[1], True
            raw = file.read()
        self._cached = (stamp, raw)
        return raw, False

    def _damaged(self, how: str) -> errors.WorkspaceProblem:
        try:
            decode(self.backup.read_bytes())
        except FileNotFoundError:
            step = f"bring back a copy of {self.path} from a backup of your own; there is no {self.backup.name} yet."
        except (OSError, DamagedStateError):
            step = f"bring back a copy of {self.path} from a backup of your own; {self.backup.name} is damaged too."
        else:
            copy = f"cp {shlex.quote(str(self.backup))} {shlex.quote(str(self.path))}"
            step = f"bring back its backup {self.backup.name}, the state before the newest change: {copy}"
        return errors.WorkspaceProblem(f"The registry {self.path} {how}; it was left as it is.", step)

    def _publish(self, data: bytes) -> None:
        aside = self.path.with_name(f"{self.path.name}.new")
        try:
            _write_synced(aside, data)
            self._keep_backup()
            aside.replace(self.path)
        except BaseException as error:
            with contextlib.suppress(OSError):
                aside.unlink()
            if isinstance(error, OSError):
                raise errors.from_os_error(error, "writing the registry") from error
            raise
        try:
            sync_folder(self.path.parent)
        except OSError as error:  # the new state is in place, but a power cut might still bring back the old one
            raise errors.WorkspaceProblem(
                f"The registry was changed, but the disk did not confirm it: {error.strerror}.",
                "%sft_doctor, then look with %sft_versions before you type the line again.",
            ) from error

    def _keep_backup(self) -> None:
        if not self.path.exists():  # the first write ever: the folder may be new as well
            sync_folder(self.path.parent.parent)
            return
        aside = self.backup.with_name(f"{self.backup.name}.new")
        aside.unlink(missing_ok=True)
        try:
            aside.hardlink_to(self.path)
        except OSError:  # some file systems have no hard links
            shutil.copyfile(self.path, aside)
        aside.replace(self.backup)


@contextlib.contextmanager
def _savepoint(block: _Block) -> Iterator[None]:
    state, dirty = _dumps(block.state), block.dirty
    try:
        yield
    except BaseException:
        block.state, block.dirty = json.loads(state), dirty
        raise


def _write_synced(path: Path, data: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(fd, rest) :]
        os.fsync(fd)
    finally:
        os.close(fd)


def encode(state: State, sequence: int) -> bytes:
    """Return the file's bytes: canonical JSON with the `_meta` table first, and in it the SHA-256 of all the rest."""
    body = _dumps({name: rows for name, rows in state.items() if name != META})
    head = f'{{"_meta":{{"1":{{"schema":{SCHEMA},"sequence":{sequence},"sha256":"'.encode()
    tail = b'"}}' + (b"," + body[1:] if state.keys() - {META} else b"}")
    return head + hashlib.sha256(head + tail).hexdigest().encode() + tail


def decode(raw: bytes, *, verified: bool = False) -> tuple[State, int]:
    """Return state and sequence; raises DamagedStateError, its text completing "the registry ...".

    A file of a newer schema raises WorkspaceProblem: it is whole, and not ours to touch.
    """
    head = _HEAD.match(raw)
    if head is None:
        raise DamagedStateError("is damaged, or another program has written to it")
    blank = raw[: head.start(3)] + raw[head.end(3) :]
    if not verified and hashlib.sha256(blank).hexdigest().encode() != head[3]:
        raise DamagedStateError("is damaged: its checksum does not match")
    if int(head[1]) > SCHEMA:
        raise errors.WorkspaceProblem(
            f"The registry was written by a newer sft_magics (schema {int(head[1])}; this one knows {SCHEMA}).",
            "pip install --upgrade sft_magics",
        )
    state: State = json.loads(raw)
    del state[META]
    return state, int(head[2])


def _dumps(state: State) -> bytes:
    try:  # rows are nearly always plain already, and the C encoder is ten times faster than the codec
        text = json.dumps(state, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        return text.encode()
    except (ValueError, TypeError):  # NaN, a lone surrogate, a path, a numpy number
        return codec.dumps(state).encode()
