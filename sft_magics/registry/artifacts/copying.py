"""Copies stretches of files, within the kernel where it can."""

import errno
import os
from pathlib import Path

from sft_magics.registry.artifacts import files, hashing

_NO_KERNEL_COPY = (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM, errno.ETXTBSY)


def append(source: Path, start: int, size: int, target: int) -> None:
    """Append a stretch of a file to an open one; raises ModelProblem when the file has become shorter."""
    fd = os.open(source, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        end = start + size
        while start < end:
            done = _kernel_copy(fd, start, end - start, target) or _plain_copy(fd, start, end - start, target)
            if not done:
                raise files.changed(source)
            start += done
    finally:
        os.close(fd)


def _kernel_copy(fd: int, start: int, size: int, target: int) -> int:
    if not hasattr(os, "copy_file_range"):
        return 0
    try:
        return os.copy_file_range(fd, target, size, offset_src=start)
    except OSError as error:
        if error.errno in _NO_KERNEL_COPY:
            return 0
        raise


def _plain_copy(fd: int, start: int, size: int, target: int) -> int:
    return os.write(target, os.pread(fd, min(hashing.CHUNK, size), start))
