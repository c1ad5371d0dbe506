"""Whether to wake the other cores for little work: what was quicker lately, tried anew now and then.

One sentence took 12 ms on two cores and 9 on one, on one machine, and 10.7 and 13.5 on another; neighbors change it.
The first call of a way says nothing: it finds threads asleep that the next one finds awake.
"""

_FIRST = 8  # calls, of which the second half uses all
_AGAIN = 96  # every so many calls the slower way is tried again,
_TRIES = 4  # so many times in a row
_SHARE = 0.15  # of a new measurement in what is known
_BASE = 64  # tokens' worth of time that a call takes besides its tokens


class ThreadPolicy:
    """What calls of one size took, with one thread and with all."""

    def __init__(self) -> None:
        self._calls = 0
        self._before: bool | None = None  # how the last call was done
        self._known: dict[bool, float] = {}  # seconds a token and what comes with it

    def wake(self) -> bool:
        """Say whether the next call is to use all threads."""
        self._calls += 1
        if len(self._known) < 2 or self._calls <= _FIRST:
            return (self._calls - 1) % _FIRST >= _FIRST // 2
        better = self._known[True] < self._known[False]
        return better != (self._calls % _AGAIN < _TRIES)

    def took(self, woken: bool, tokens: int, seconds: float) -> None:
        """Learn what a call took."""
        cost = seconds / (_BASE + tokens)
        first, self._before = woken != self._before, woken
        if first:
            return
        if woken not in self._known or self._calls <= _FIRST:  # the first calls prepare kernels
            self._known[woken] = cost
            return
        before = self._known[woken]
        self._known[woken] = before + _SHARE * (min(cost, 2 * before) - before)
