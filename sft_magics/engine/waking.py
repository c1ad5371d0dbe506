"""Whether to wake the other cores for little work: what was quicker lately, tried anew now and then.

One sentence took 12 ms on two cores and 9 on one, on one machine, and 10.7 and 13.5 on another; neighbors change it.
"""

_FIRST = 8  # calls that take turns
_AGAIN = 48  # every so many calls the slower way is tried again
_SHARE = 0.15  # of a new measurement in what is known
_BASE = 64  # tokens' worth of time that a call takes besides its tokens


class Waking:
    """What calls of one size took, with one thread and with all."""

    def __init__(self) -> None:
        self._calls = 0
        self._known: dict[bool, float] = {}  # seconds a token and what comes with it

    def wake(self) -> bool:
        """Say whether the next call is to use all threads."""
        self._calls += 1
        if self._calls <= _FIRST or len(self._known) < 2:
            return self._calls % 2 == 0
        better = self._known[True] < self._known[False]
        return better != (self._calls % _AGAIN == 0)

    def took(self, woken: bool, tokens: int, seconds: float) -> None:
        """Learn what a call took."""
        cost = seconds / (_BASE + tokens)
        if woken not in self._known or self._calls <= _FIRST // 2:  # the first calls prepare kernels
            self._known[woken] = cost
            return
        before = self._known[woken]
        self._known[woken] = before + _SHARE * (min(cost, 2 * before) - before)
