"""A clock that stands still while the process does: it was stopped, its container paused, the lid closed.

Nobody could have asked, or been answered, in that time; so it counts neither as idle nor against a request's deadline.
"""

import threading
import time
from collections.abc import Callable

LONGEST_STEP = 1.0  # seconds between two looks at the clock: more is a jump, for the endpoint looks four times a second


class AwakeClock:
    """Seconds that the process was awake; any thread may look. `clock` is the monotonic one that it follows.

    Whoever looks first after a jump notices it, so nobody decides by time that went by in a jump.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last = clock()
        self._awake = 0.0
        self._lock = threading.Lock()

    def now(self) -> float:
        """Return the seconds since this clock was made, without those of jumps."""
        with self._lock:
            last, self._last = self._last, self._clock()
            self._awake += min(self._last - last, LONGEST_STEP)
            return self._awake
