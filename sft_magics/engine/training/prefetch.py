"""Batches made ahead of the step that needs them, by threads; with none, each is made when it is asked for.

Which rows a batch has and how they are changed follows from (seed, epoch, index), so the number of threads changes
nothing but the time.
"""

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from sft_magics.engine.tasks import Batch

Make = Callable[[int], Batch]


class Loader:
    """Gives the batch of each step; `make(step)` builds it, in up to `threads` threads, `2 * threads` steps ahead.

    `steps` is how many there will be; it may change.
    """

    def __init__(self, make: Make, threads: int, steps: int) -> None:
        self._make = make
        self._threads = threads
        self.steps = steps
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="loader") if threads else None
        self._ahead: dict[int, Future[Batch]] = {}
        self.waited = 0.0  # seconds that steps have waited for their batches

    def take(self, step: int) -> Batch:
        """Return the batch of `step`, and let those after it be made."""
        began = time.monotonic()
        try:
            return self._taken(step)
        finally:
            self.waited += time.monotonic() - began

    def _taken(self, step: int) -> Batch:
        if self._pool is None:
            return self._make(step)
        found = self._ahead.pop(step, None)
        if found is None:  # the first one, or a run that went back
            self.forget()
        for later in range(step + 1, min(step + 1 + 2 * self._threads, self.steps)):
            if later not in self._ahead:
                self._ahead[later] = self._pool.submit(self._make, later)
        return found.result() if found is not None else self._make(step)

    def forget(self) -> None:
        """Drop what was made ahead."""
        for future in self._ahead.values():
            future.cancel()
        self._ahead.clear()

    def close(self) -> None:
        """Let the threads end."""
        self.forget()
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
