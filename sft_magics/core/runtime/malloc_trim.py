"""What a process's allocator holds of memory that nobody uses."""

import contextlib
import ctypes


def give_back() -> None:
    """Give the system what malloc keeps of freed memory; only glibc can.

    Jobs and hosts let it keep all of it (see `engine.runtime.launchers`), so that pages need not be had anew at every
    step. What they must have from elsewhere than malloc, as kernels for other sizes, cannot be had from it.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
