"""How many inputs may wait: many for a moment, and no more than the next batch where more come than can be answered.

A queue that takes all of a burst helps everybody; one that stays full helps nobody, for all that it adds to the rate is
the time that each waits. So where it stands (Nichols and Jacobson, "Controlling Queue Delay", 2012) it is kept short
until fewer come, and who is let in waits for the batch that is read now and for their own.
"""

MAX_BATCH = 64
MAX_WAITING = 4096
_MANY = 2 * MAX_BATCH  # inputs that are left when a batch was taken
_FEW = 8  # requests that are no crowd, whatever they bring: files that are read through an endpoint wait for each other
_PATIENCE = 1.0  # seconds


class Crowd:
    """Whether more requests come than can be answered; times are in seconds of any one clock."""

    def __init__(self) -> None:
        self._since: float | None = None  # when a batch was taken and many were left, and so ever since
        self._refused = 0.0
        self.crowded = False

    def admits(self, count: int, requests: int, inputs: int, now: float) -> bool:
        """Say whether a request of `count` inputs may wait behind so many requests with so many inputs.

        One may always wait, however large: a bound must not make it unanswerable.
        """
        if not inputs:
            return True
        if inputs + count <= MAX_WAITING and not (self.crowded and requests >= _FEW and inputs + count > MAX_BATCH):
            return True
        self._refused = now
        return False

    def taken(self, requests: int, inputs: int, now: float) -> None:
        """Learn how many requests and inputs were left when a batch was taken."""
        if self.crowded:
            self.crowded = now - self._refused < _PATIENCE
            self._since = None
        elif inputs <= _MANY or requests < _FEW:
            self._since = None
        else:
            self._since = now if self._since is None else self._since
            self.crowded = now - self._since >= _PATIENCE
            self._refused = now
