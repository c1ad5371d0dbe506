"""Where the time of requests went: waiting for their turn, being prepared, in the model.

Requests of one input and those of several (`bulk`) are kept apart: a file that is read through an endpoint waits behind
its own rows, which says nothing of how quickly the model answers whoever asks one thing.
"""

import statistics
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

PARTS = ("queue", "preprocess", "model", "postprocess")
_RECENT = 1024


@dataclass
class Spent:
    """The milliseconds of requests of one kind: of the newest by part, of all as sums."""

    requests: int = 0
    sums: Counter[str] = field(default_factory=Counter)
    recent: deque[Mapping[str, float]] = field(default_factory=lambda: deque(maxlen=_RECENT))

    def percentiles(self) -> dict[str, float]:
        """Return the nearest-rank p50, p95 and p99 of the newest requests' totals; empty before the first."""
        ordered = sorted(parts["total"] for parts in tuple(self.recent))
        return {f"p{p}": ordered[min(len(ordered) - 1, len(ordered) * p // 100)] for p in (50, 95, 99) if ordered}

    def medians(self) -> dict[str, float]:
        """Return the median of each part of the newest requests."""
        known: Sequence[Mapping[str, float]] = tuple(self.recent)
        names = {name for parts in known for name in parts}
        return {name: statistics.median(parts.get(name, 0.0) for parts in known) for name in sorted(names)}


class Times:
    """What was spent on requests of one input, and in bulk; added to in the compute thread, read from any."""

    def __init__(self) -> None:
        self.single, self.bulk = Spent(), Spent()

    def add(self, parts: Mapping[str, float], inputs: int) -> None:
        """Add a request of so many inputs: milliseconds by part, and the "total"."""
        spent = self.bulk if inputs > 1 else self.single
        spent.requests += 1
        spent.sums.update(parts)
        spent.recent.append(parts)

    def samples(self) -> Iterator[tuple[str, str, float, int]]:
        """Yield kind, part, the seconds spent on it, and the requests."""
        for kind, spent in (("single", self.single), ("bulk", self.bulk)):
            for part in PARTS:
                yield kind, part, spent.sums[part] / 1e3, spent.requests
