"""Regular files: found, opened and hashed without ever following a link."""

import contextlib
import errno
import hashlib
import io
import os
import shutil
import stat
import time
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from sft_magics.core import errors
from sft_magics.core.runtime import weights

_TICK_NS = 12_000_000  # file systems stamp with the clock of the last tick, 10 ms at most
_NO_SUCH_CONTENT = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EIO)


def regular_files(folder: Path) -> dict[str, Path]:
    """Return name -> path of every file, sorted; raises ModelProblem for anything else, and for nothing."""
    found = {}
    for path in walk(folder):
        name = path.relative_to(folder).as_posix()
        check_regular(path, path.lstat().st_mode)
        _check_name(name)
        found[name] = path
    if not found:
        raise errors.ModelProblem(f"There are no files in {folder} to save.", "give the folder that holds the weights.")
    return dict(sorted(found.items()))


def _check_name(name: str) -> None:
    if name != name.encode("utf-8", "replace").decode():
        raise errors.ModelProblem(f"The file name {name!r} is not UTF-8.", "rename the file.")
    if PurePosixPath(name).parts[0] == weights.FOLDER:
        raise errors.ModelProblem(
            f"The folder has a {weights.FOLDER} in it, which only folders of the store have.",
            "save the folder it was made from, or write %sft_export REF DIR and take that.",
        )


def walk(folder: Path) -> Iterator[Path]:
    """Yield everything under `folder` that is not a folder itself; links are yielded, never followed."""

    def refuse(error: OSError) -> None:
        raise errors.from_os_error(error, f"reading {folder}") from error

    for parent, folders, names in os.walk(folder, onerror=refuse):
        yield from (Path(parent) / name for name in names)
        yield from (Path(parent) / name for name in folders if (Path(parent) / name).is_symlink())


def check_regular(path: Path, mode: int) -> None:
    """Refuse what is no regular file."""
    if not stat.S_ISREG(mode):
        kind = "a link" if stat.S_ISLNK(mode) else "no regular file"
        raise errors.ModelProblem(
            f"{path} is {kind}, and only regular files are stored.", "copy the file itself there."
        )


@contextlib.contextmanager
def open_regular(path: Path) -> Iterator[io.BufferedReader]:
    """Open a regular file; raises ModelProblem for anything else."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(fd, "rb") as file:
        check_regular(path, os.fstat(fd).st_mode)
        yield file


def hash_of(path: Path) -> str | None:
    """Return the SHA-256 of a regular file, None when there is none or it cannot be read to its end."""
    try:
        with open_regular(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except errors.ModelProblem:
        return None
    except OSError as error:
        if error.errno in _NO_SUCH_CONTENT:
            return None
        raise


def changed(path: Path) -> errors.ModelProblem:
    """Return the refusal for a file that was written to while it was saved."""
    return errors.ModelProblem(
        f"{path} changed while it was being saved.", "type the same line again when nothing writes there."
    )


def stamp(path: Path) -> tuple[int, int, int, int]:
    """Return what changes when a file is written to: inode, size, times of the last change."""
    found = path.lstat()
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def settle(path: Path) -> tuple[int, int, int, int]:
    """Return the stamp of a file, once it is old enough that a later write must give it another one."""
    while (young := path.lstat().st_ctime_ns + _TICK_NS - time.time_ns()) > 0:
        time.sleep(min(young, _TICK_NS) / 1e9)
    return stamp(path)


def link_or_copy(stored: Path, target: Path) -> None:
    """Give a stored file a second name; a copy where there are no hard links, or too many of this file."""
    try:
        target.hardlink_to(stored)
    except FileNotFoundError:
        raise
    except OSError:
        shutil.copyfile(stored, target)
        target.chmod(0o400)


def same(one: Path, other: Path) -> bool:
    """Say whether a file of a view still is the stored one: the same file, or a copy that has its size."""
    try:
        a, b = one.lstat(), other.lstat()
    except FileNotFoundError:
        return False
    return (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino) or (
        stat.S_ISREG(a.st_mode) and a.st_nlink == 1 and a.st_size == b.st_size
    )


def safe(name: str, other: str) -> str:
    """Return a manifest's file name; raises ModelProblem where it leads out of its folder."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts or "\0" in name:
        raise errors.ModelProblem(f"The artifact names a file {name!r}, which lies outside of it.", f"use {other}.")
    return name


def remove_tree(folder: Path) -> None:
    """Remove a folder where there is one."""
    if folder.is_symlink() or folder.exists():
        shutil.rmtree(folder)
