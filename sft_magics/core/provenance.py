"""Who works here, and which cells led to the call that runs now; a face sets those, a run's order records them."""

import contextlib
import contextvars
import functools
import os
import pwd
from collections.abc import Iterator, Sequence

_cells: contextvars.ContextVar[tuple[str, ...]] = contextvars.ContextVar("cells", default=())
_MOST_CELLS = 50
_MOST_CHARACTERS = 4000


@contextlib.contextmanager
def led_by(cells: Sequence[str]) -> Iterator[None]:
    """Let calls inside know the cells that were run before them, oldest first; long ones are cut."""
    token = _cells.set(tuple(c[:_MOST_CHARACTERS] for c in cells if c.strip())[-_MOST_CELLS:])
    try:
        yield
    finally:
        _cells.reset(token)


@functools.cache
def user() -> str:
    """Return who works here, as the system knows them."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container may run under a number without a name
        return f"uid {os.getuid()}"


def cells() -> tuple[str, ...]:
    """Return the cells that led here, or nothing outside a notebook."""
    return _cells.get()


def cell() -> str:
    """Return the cell that is being run, or nothing outside a notebook."""
    found = _cells.get()
    return found[-1] if found else ""
