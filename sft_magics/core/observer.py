"""Who watches while a verb works: a notebook panel, a terminal, or nobody.

A face sets its audience around a call (or for the whole session); `follow` folds a job's events into a view and shows
it at most four times a second. An audience that raises cannot hurt the job.
"""

import contextlib
import contextvars
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from sft_magics.core.events import Event, EventReader
from sft_magics.core.jobs import JobFolder
from sft_magics.core.views import JobView

REDRAW_SECONDS = 0.25
_LOOK_SECONDS = 0.05
_log = logging.getLogger(__name__)


class JobObserver(Protocol):
    """What a face offers to whoever works for it; `face` names it for the doctor."""

    face: str

    def hear(self, job: str, event: Event) -> None:
        """Take one event as it comes."""

    def show(self, view: JobView) -> None:
        """Show the newest state of a job; called at most four times a second, and once at the end."""

    def stay(self, job: JobFolder, view: JobView, companion: "Companion", wait: bool) -> None:
        """Show a job that goes on by itself; return at once where the face can redraw later.

        A face that cannot redraw later follows the job to its end if `wait` is true, else does nothing.
        """


@dataclass(frozen=True)
class Companion:
    """What a face may do with a job that goes on by itself: stop, pause and resume it, and say that it is lost."""

    stop: Callable[[], None]
    lost: Callable[[JobView], None]
    pause: Callable[[], None] | None = None
    resume: Callable[[], None] | None = None


class NullObserver:
    """The audience of plain Python: silent."""

    face = "plain Python"

    def hear(self, job: str, event: Event) -> None:
        """Do nothing."""

    def show(self, view: JobView) -> None:
        """Do nothing."""

    def stay(self, job: JobFolder, view: JobView, companion: Companion, wait: bool) -> None:
        """Do nothing."""


_current: contextvars.ContextVar[JobObserver | None] = contextvars.ContextVar("audience", default=None)
_session: list[JobObserver] = [NullObserver()]


def current() -> JobObserver:
    """Return the audience of this call, else the session's."""
    found = _current.get()
    return _session[-1] if found is None else found


def set_session(audience: JobObserver) -> None:
    """Make `audience` the one of every call in this process that sets no other; the notebook does this once."""
    _session[:] = [audience]


@contextlib.contextmanager
def watched_by(audience: JobObserver) -> Iterator[None]:
    """Let `audience` watch what is called inside."""
    token = _current.set(audience)
    try:
        yield
    finally:
        _current.reset(token)


def catch_up(view: JobView, reader: EventReader, hear: Callable[[str, Event], None] | None = None) -> bool:
    """Fold what is new into `view`; say whether anything was."""
    changed = False
    for event in reader.read():
        view.apply(event)
        changed = True
        if hear is not None:
            hear(view.job, event)
    return changed


def follow(job: JobFolder, view: JobView, lost: Callable[[JobView], None]) -> JobView:
    """Show `view` until the job ends; `lost` marks the view when its process is gone without a word."""
    audience = current()
    reader = EventReader(job.events)
    shown = 0.0

    def hear(name: str, event: Event) -> None:
        quietly(audience.hear, name, event)

    while True:
        alive = job.alive()  # asked before the read: whatever a dead process wrote is in the read that follows
        catch_up(view, reader, hear)
        if view.active and not alive:
            lost(view)
        if not view.active:
            quietly(audience.show, view)
            return view
        if time.monotonic() - shown >= REDRAW_SECONDS:
            shown = time.monotonic()
            quietly(audience.show, view)
        time.sleep(_LOOK_SECONDS)


def quietly(function: Callable[..., None], *args: object) -> None:
    """Call an audience; what it raises is logged and goes no further, except the user's interrupt."""
    try:
        function(*args)
    except Exception:  # noqa: BLE001 - whoever listens cannot hurt the job, whatever goes wrong there
        _log.exception("an audience failed; the job goes on")
