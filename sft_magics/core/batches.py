"""Which rows are read together: rows of like size, so that little is spent on padding, in batches of few sizes."""

from collections.abc import Sequence

SIZES = (64, 32, 16, 8, 4, 2, 1)
MOST = 4096  # units of size that are read at once: of texts tokens
START = 110  # what a batch costs an exported network besides its rows, in units; measured of texts, in tokens


def plan(sizes: Sequence[int], start: int = START) -> list[list[int]]:
    """Return the rows of each batch; `sizes` are tokens a row, or what else its cost is measured in, `start` a batch's.

    The rows are sorted by size and cut where it costs least, by dynamic programming; a batch has a number of rows that
    is in `SIZES`, but for one that takes fewer because no more are left.
    """
    order = sorted(range(len(sizes)), key=lambda i: sizes[i])
    least: list[float] = [0.0]
    taken = [0]
    for end in range(1, len(order) + 1):
        widest = sizes[order[end - 1]]
        ways = [n for n in SIZES if n == 1 or n * widest <= MOST]
        costs = [(least[max(0, end - n)] + start + n * widest, -n) for n in ways]
        cost, size = min(costs)
        least.append(cost)
        taken.append(min(end, -size))
    batches, end = [], len(order)
    while end:
        batches.append(order[end - taken[end] : end])
        end -= taken[end]
    return batches


def filled(rows: int) -> int:
    """Return the number of rows, from `SIZES`, that a batch is filled up to."""
    return min((size for size in SIZES if size >= rows), default=rows)
