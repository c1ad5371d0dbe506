"""What the journal asks of the disk: a write is on it when the call returns, or it is taken back."""

import contextlib
import os
import shutil
from pathlib import Path

from sft_magics.core.workspace import sync_folder


class Unconfirmed(Exception):
    """A write that the disk did not confirm and that could not be taken back."""


def stamp(status: os.stat_result) -> tuple[int, ...]:
    """Return what changes when a file is replaced, grows, shrinks or is written to."""
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


def tail(path: Path, start: int) -> tuple[tuple[int, ...], bytes]:
    """Return a file's stamp and what lies in it from `start` on; the stamp is of before the reading."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        status = os.fstat(fd)
        parts, at = [], start
        while at < status.st_size and (part := os.pread(fd, status.st_size - at, at)):
            parts.append(part)
            at += len(part)
        return stamp(status), b"".join(parts)
    finally:
        os.close(fd)


def append(path: Path, end: int, data: bytes) -> tuple[int, ...]:
    """Write `data` at the end of a file, which is at `end`, and return its stamp.

    Raises OSError when it was taken back, and Unconfirmed when that failed as well.
    """
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        try:
            _write(fd, data, end)
            getattr(os, "fdatasync", os.fsync)(fd)  # macOS has only the other
        except BaseException as error:
            try:
                os.ftruncate(fd, end)
                os.fsync(fd)
            except OSError:
                raise Unconfirmed(str(getattr(error, "strerror", None) or error)) from error
            raise
        return stamp(os.fstat(fd))
    finally:
        os.close(fd)


def mark(fd: int, said: bytes) -> None:
    """Say in an open file what was synced in another one; where that cannot be said, the next writer syncs again."""
    with contextlib.suppress(OSError):
        os.pwrite(fd, said, 0)


def marked(fd: int) -> bytes:
    """Return what `mark` said last; it cannot be ahead of what it speaks of, which was on the disk before."""
    with contextlib.suppress(OSError):
        return os.pread(fd, 64, 0)
    return b""


def _write(fd: int, data: bytes, at: int) -> None:
    rest = memoryview(data)
    while rest:
        written = os.pwrite(fd, rest, at)
        at += written
        rest = rest[written:]


def write(path: Path, data: bytes, *, rename: bool = True) -> tuple[int, ...]:
    """Replace a file (with `rename`: whole or not at all, and surely), and return its stamp."""
    aside = path.with_name(f"{path.name}.new") if rename else path
    try:
        fd = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            _write(fd, data, 0)
            os.fsync(fd)
            found = stamp(os.fstat(fd))
        finally:
            os.close(fd)
        if rename:
            aside.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            aside.unlink()
        raise
    if rename:
        sync_folder(path.parent)
    return found


def keep(path: Path, backup: Path) -> None:
    """Let `backup` be what `path` is now."""
    aside = backup.with_name(f"{backup.name}.new")
    aside.unlink(missing_ok=True)
    try:
        aside.hardlink_to(path)
    except FileNotFoundError:
        return
    except OSError:  # some file systems have no hard links
        shutil.copyfile(path, aside)
    aside.replace(backup)


def truncate(path: Path, end: int) -> None:
    """Cut a file at `end`."""
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        os.ftruncate(fd, end)
        os.fsync(fd)
    finally:
        os.close(fd)


def sync(path: Path) -> None:
    """Put on the disk what others have written to a file."""
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
