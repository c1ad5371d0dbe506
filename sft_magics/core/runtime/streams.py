"""Standard streams that a parent closed (`sft runs <&- >&-`, some daemons): held open on the null device.

A closed stream is None in Python, and its descriptor goes to the next file that is opened: what is printed would land
in that file, and a child would take it for its own input.
"""

import os
import sys
from typing import Any

_NAMES = ("stdin", "stdout", "stderr")


def hold() -> None:
    """Open the null device in the place of each standard stream that is closed; harmless where none is."""
    for number, name in enumerate(_NAMES):
        if not _is_open(number):
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
            os.set_inheritable(number, True)
        if getattr(sys, name) is None:
            stream: Any = os.fdopen(number, "w" if number else "r", closefd=False)
            setattr(sys, name, stream)


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True
