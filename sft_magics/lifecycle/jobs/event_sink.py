"""The sink of a job's events: its file, which others follow, and what they told the job meanwhile."""

import _thread
import contextlib
import errno
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace

from sft_magics.core.commands import PendingCommands
from sft_magics.core.events import Event, EventWriter, Heartbeat, Remark
from sft_magics.core.jobs import JobFolder

_HEARTBEAT_SECONDS = 5.0
_FULL = (errno.ENOSPC, errno.EDQUOT)
_MOST_WAITING = 20_000  # events; a day of a full disk would not fit into the memory
_TRIES = 3


class JobEventSink:
    """The sink of the engine's events: appends each to the job's file, and returns "stop" when that was asked for.

    What a full disk does not take waits in memory and is written, in its order, as soon as there is room.
    """

    def __init__(self, job: JobFolder, listen: Callable[[], None] | None = None) -> None:
        self._orders = job.orders
        self._writer = EventWriter(job.events)
        self._waiting: deque[Event] = deque(maxlen=_MOST_WAITING)
        self._full_since: float | None = None
        self._lock = threading.Lock()
        self._listen = listen
        self._silent = threading.Event()
        self._last = time.monotonic()
        self.stopping = False
        # Not a threading.Thread: that waits for its beginning, for ever where there is no memory for it (CPython 3.11).
        _thread.start_new_thread(self._beat, ())

    def __call__(self, event: Event) -> str:
        """Write the event down; the answer is "stop" or an empty string."""
        self._write(event)
        if self._listen is not None:
            self._listen()
        return "stop" if self.told().ending else ""

    def told(self) -> PendingCommands:
        """Return what was told so far, by orders and by signals, which mean a stop."""
        found = self._orders.told()
        return replace(found, do="stop") if self.stopping else found

    def _write(self, event: Event) -> None:
        with self._lock:
            self._waiting.append(event)
            self._last = time.monotonic()
            self._flush()

    def _flush(self) -> None:
        """Write what waits; what does not fit stays."""
        try:
            if self._full_since is not None and self._waiting:
                self._writer.write(self._waiting[0])
                seconds = time.monotonic() - self._full_since
                self._full_since = None
                self._waiting.popleft()
                what = f"For {seconds:.0f} s the disk was full and this file could not be written; it can now."
                self._waiting.appendleft(Remark("warning", what))
            while self._waiting:
                self._writer.write(self._waiting[0])
                self._waiting.popleft()
        except OSError as error:
            if error.errno not in _FULL:
                raise
            if self._full_since is None:
                self._full_since = time.monotonic()

    def finish(self, event: Event) -> None:
        """Write the last event, with all that waits; gives up, without a word, after a second."""
        with contextlib.suppress(OSError):
            self(event)
        for _ in range(_TRIES):
            if not self._waiting:
                return
            time.sleep(0.5)
            with contextlib.suppress(OSError), self._lock:
                self._flush()

    def _beat(self) -> None:
        while not self._silent.wait(1.0):
            if time.monotonic() - self._last >= _HEARTBEAT_SECONDS:
                with contextlib.suppress(OSError):
                    self._write(Heartbeat())

    def close(self) -> None:
        """Stop the heartbeat and close the file."""
        self._silent.set()
        with self._lock:
            self._writer.close()
