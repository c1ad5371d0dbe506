"""The thread that writes the prediction log, so that no request waits for a disk unless its client asked for that.

Whatever has been answered since the last write goes into one transaction. While the disk refuses, rows are kept and
tried again, up to a bound, and nothing more is answered: what cannot be logged is not said.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from sft_magics.core import errors
from sft_magics.serving.log.prediction_log import LogRow, PredictionLog

_MOST = 100_000  # rows that wait to be written
_MOST_BYTES = 256_000_000  # of the pictures among them; more are not kept: a row is a promise, its picture is not
_RETRY_SECONDS = 1.0
_GATHER_SECONDS = 0.05  # a transaction costs as much as fifty rows
_ENOUGH = 500
_log = logging.getLogger(__name__)
Written = Callable[[set[str] | errors.SftError], None]


@dataclass(frozen=True)
class _Entry:
    rows: Sequence[LogRow]
    written: Written | None


class LogWriter:
    """Writes rows in the order they come; `trouble` says why it cannot, while it cannot."""

    def __init__(self, log: PredictionLog) -> None:
        self.log = log
        self.trouble: errors.SftError | None = None
        self.processor = 0.0  # seconds that this thread took of it
        self._entries: deque[_Entry] = deque()
        self._rows = self._bytes = 0
        self._ending = False
        self._wake = threading.Condition()
        self._thread = threading.Thread(target=self._work, name="scribe", daemon=True)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def end(self) -> None:
        """Write what waits, once more, then end."""
        with self._wake:
            self._ending = True
            self._wake.notify_all()
        self._thread.join()

    @property
    def full(self) -> bool:
        """Whether no more rows are taken."""
        return self._rows >= _MOST

    def add(self, rows: Sequence[LogRow], written: Written | None = None) -> None:
        """Queue rows; `written` hears, in the scribe's thread, the ids that were refused, or why nothing was written.

        Rows that somebody waits for are tried once; others are kept until they are written.
        """
        size = sum(len(row.picture) for row in rows)
        if size and self._bytes + size > _MOST_BYTES:
            rows, size = [replace(row, picture=b"") for row in rows], 0
        with self._wake:
            self._entries.append(_Entry(rows, written))
            self._rows += len(rows)
            self._bytes += size
            if written or len(self._entries) == 1 or self._rows >= _ENOUGH:
                self._wake.notify_all()

    def flush(self, seconds: float = 5.0) -> bool:
        """Wait until everything that was queued is written; False when it took too long."""
        done = threading.Event()
        self.add([], lambda _: done.set())
        return done.wait(seconds)

    def _work(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._entries or self._ending)
                self._wake.wait_for(self._pressing, _GATHER_SECONDS)
                taken = list(self._entries)
                self._entries.clear()
            if not taken:
                return
            kept = self._write(taken)
            self.processor = time.thread_time()
            with self._wake:
                self._entries.extendleft(reversed(kept))
                self._rows = sum(len(e.rows) for e in self._entries)
                self._bytes = sum(len(row.picture) for e in self._entries for row in e.rows)
                if kept and self._ending:
                    return
                if kept:
                    self._wake.wait(_RETRY_SECONDS)

    def _pressing(self) -> bool:
        """Say whether somebody waits, or enough has come together to be written."""
        return self._ending or self._rows >= _ENOUGH or any(entry.written for entry in tuple(self._entries))

    def _write(self, taken: list[_Entry]) -> list[_Entry]:
        """Write entries in one transaction; return those that are to be tried again."""
        try:
            rows = [row for entry in taken for row in entry.rows]
            refused = set(self.log.append(rows))
        except errors.SftError as error:
            _log.exception("the log refused")
            self.trouble = error
            for entry in taken:
                if entry.written:
                    entry.written(error)
            return [entry for entry in taken if not entry.written]
        self.trouble = None
        start = 0
        for entry in taken:
            if entry.written:
                places = refused.intersection(range(start, start + len(entry.rows))) if refused else ()
                entry.written({rows[i].id for i in places})
            start += len(entry.rows)
        return []
