"""How many inputs may wait: many for a moment, and no more than the next batch where more come than can be answered.

A queue that takes all of a burst helps everybody; one that stays full helps nobody, for all that it adds to the rate is
the time that each waits. So where it stands (Nichols and Jacobson, "Controlling Queue Delay", 2012) it is kept short
until fewer come, and who is let in waits for the batch that is read now and for their own.
"""

MAX_BATCH = 64
MAX_WAITING = 4096
_MANY = 2 * MAX_BATCH  # inputs that are left when a batch was taken; a request of a file's rows may be as large
_PATIENCE = 1.0  # seconds


class Crowd:
    """Whether more inputs come than can be answered."""

    def __init__(self) -> None:
        self._since: float | None = None  # when a batch was taken and many were left, and so ever since
        self.crowded = False

    @property
    def most(self) -> int:
        """How many inputs may wait."""
        return MAX_BATCH if self.crowded else MAX_WAITING

    def taken(self, count: int, left: int, now: float) -> None:
        """Learn that a batch of so many inputs was taken and how many were left; `now` in seconds of any clock."""
        if self.crowded:
            self.crowded = left > 0 or count > MAX_BATCH // 2
            self._since = None
        elif left <= _MANY:
            self._since = None
        else:
            self._since = now if self._since is None else self._since
            self.crowded = now - self._since >= _PATIENCE
