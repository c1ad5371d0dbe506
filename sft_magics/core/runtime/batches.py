"""Which rows are read together: rows of like size, so that little is spent on padding, in batches of few sizes."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence

SIZES = (64, 32, 16, 8, 4, 2, 1)
MOST = 4096  # units of size that are read at once: of texts tokens
_CUTS = (64, 48, 32, 24, 16, 12, 8, 6, 4, 3, 2, 1)  # rows of a batch without padding
_PLACES = 0.002  # tokens' worth of time that it costs when one token takes from another; measured with OpenVINO
START = 110  # what a batch costs an exported network besides its rows, in units; measured of texts, in tokens


def plan(sizes: Sequence[int], start: int = START) -> list[list[int]]:
    """Return the rows of each batch; `sizes` are tokens a row, or what else its cost is measured in, `start` a batch's.

    The rows are sorted by size and cut where it costs least, by dynamic programming; a batch has a number of rows that
    is in `SIZES`, but for one that takes fewer because no more are left.
    """
    order = sorted(range(len(sizes)), key=lambda i: sizes[i])

    def ways(end: int) -> Iterator[tuple[int, float]]:
        widest = sizes[order[end - 1]]
        return ((n, start + n * widest) for n in SIZES if n == 1 or n * widest <= MOST)

    return _cut(order, ways)


def unpadded(lengths: Sequence[int], start: int = START) -> list[list[int]]:
    """Return the rows of each batch where nothing is padded but what tokens take from others of their row.

    Many rows are then read at once; a long one is kept from many short ones, whose places would grow with its own.
    """
    order = sorted(range(len(lengths)), key=lambda i: lengths[i])
    until = list(itertools.accumulate((lengths[i] for i in order), initial=0))

    def ways(end: int) -> Iterator[tuple[int, float]]:
        places = _PLACES * lengths[order[end - 1]] ** 2
        for n in _CUTS:
            tokens = until[end] - until[max(0, end - n)]
            if n == 1 or (n <= end and tokens <= MOST):
                yield n, start + tokens + n * places

    return _cut(order, ways)


def _cut(order: Sequence[int], ways: Callable[[int], Iterable[tuple[int, float]]]) -> list[list[int]]:
    """Cut rows where it costs least; `ways(end)` says how many rows may be cut before `end`, and at what cost."""
    least: list[float] = [0.0]
    taken = [0]
    for end in range(1, len(order) + 1):
        cost, size = min((least[max(0, end - n)] + cost, -n) for n, cost in ways(end))
        least.append(cost)
        taken.append(min(end, -size))
    batches, end = [], len(order)
    while end:
        batches.append(list(order[end - taken[end] : end]))
        end -= taken[end]
    return batches


def stepped(count: int, finest: int = 1) -> int:
    """Return a count rounded up to one of few, at most a sixteenth more but for small ones: to multiples of `finest`.

    Engines prepare their kernels anew for each shape.
    """
    step = max(finest, 1 << max(0, count.bit_length() - 5))
    return -(-count // step) * step


def filled(rows: int) -> int:
    """Return the number of rows, from `SIZES`, that a batch is filled up to."""
    return min((size for size in SIZES if size >= rows), default=rows)


def dealt(
    sizes: Sequence[int], lanes: int, start: int = START, *, cut: Callable[[Sequence[int], int], list[list[int]]] = plan
) -> list[list[int]]:
    """Return the rows of each batch, the costliest first, so that `lanes` that each take the next one end soonest.

    Three ways to cut are compared: as `cut` does, as it does where a batch costs little, and a part of every size for
    each lane.
    """
    order = sorted(range(len(sizes)), key=lambda i: sizes[i])
    ways = [cut(sizes, start), cut(sizes, start // 4), []]
    for lane in range(lanes):
        part = order[lane::lanes]
        ways[-1] += [[part[i] for i in rows] for rows in cut([sizes[i] for i in part], start)]

    def cost(rows: Sequence[int]) -> float:
        longest = max(sizes[i] for i in rows)
        if cut is plan:
            return start + len(rows) * longest
        return start + sum(sizes[i] for i in rows) + _PLACES * len(rows) * longest**2

    sorted_ways = [sorted(way, key=cost, reverse=True) for way in ways]
    return min(sorted_ways, key=lambda way: ends([cost(rows) for rows in way], lanes))


def ends(costs: Sequence[float], lanes: int) -> float:
    """Return the cost at which the last of some lanes ends that each take the next batch when they are free."""
    taken = [0.0] * lanes
    for cost in costs:
        taken[taken.index(min(taken))] += cost
    return max(taken)
