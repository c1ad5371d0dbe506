"""What an endpoint of a version delivers on this machine, measured."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sft_magics.core.records.tabular import Tabular


@dataclass(frozen=True)
class BenchRow(Tabular):
    """One subject with so many clients: answers a second (median of the rounds), latency, where the time went.

    `low` and `high` are the slowest and the fastest round. Latencies are milliseconds of all rounds together, `parts`
    medians of queue, preprocess, model, postprocess as the endpoint tells them. `refused` counts what got no answer.
    """

    subject: str
    clients: int
    rate: float
    low: float
    high: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    n: int
    parts: dict[str, float]
    refused: int = 0

    def __str__(self) -> str:
        refused = f", {self.refused:,} refused" if self.refused else ""
        times = f", p50 {self.p50_ms:.4g} ms, p95 {self.p95_ms:.4g}, p99 {self.p99_ms:.4g}" if self.n else ""
        rates = f"{self.rate:.4g} a second ({self.low:.4g} to {self.high:.4g})"
        return f"{self.subject}, {self.clients} at once: {rates}{times}{refused}"


@dataclass(frozen=True)
class BenchSubject(Tabular):
    """A version behind an engine: seconds until it was ready, and resident megabytes of its processes afterwards."""

    subject: str
    version: str
    engine: str
    ready_seconds: float
    memory_mb: float
    why: str = ""

    def __str__(self) -> str:
        return f"{self.subject}: ready in {self.ready_seconds:.1f} s, {self.memory_mb:.0f} MB"


@dataclass(frozen=True)
class BenchRatio(Tabular):
    """How many times as many answers `subject` gives in a second as `other`: the median and the range of the rounds."""

    subject: str
    other: str
    clients: int
    ratio: float
    low: float
    high: float

    def __str__(self) -> str:
        times = f"{self.ratio:.2f} times as many a second ({self.low:.2f} to {self.high:.2f})"
        return f"{self.subject} against {self.other}, {self.clients} at once: {times}"


@dataclass(frozen=True)
class Bench(Tabular):
    """What endpoints of one or two subjects did here, one row a request, `seconds` a round; `data` was asked."""

    model: str
    data: str
    subjects: tuple[BenchSubject, ...]
    rows: tuple[BenchRow, ...]
    ratios: tuple[BenchRatio, ...]
    rounds: int
    seconds: float
    machine: dict[str, Any]
    next_step: str = ""

    def _rows(self) -> Sequence[Any]:
        return self.rows

    def _row_type(self) -> type | None:
        return BenchRow

    @property
    def note(self) -> str:
        """How it was measured, in a sentence."""
        kind = "rounds" if self.rounds > 1 else "round"
        turns = ", in turn" if len(self.subjects) > 1 else ""
        return (
            f"One row a request, {self.rounds} {kind} of {self.seconds:g} s{turns}; those who ask share the "
            f"{self.machine.get('cores', 'same')} cores with the endpoint."
        )

    def __str__(self) -> str:
        lines = [f"{self.model} asked for rows of {self.data}", *(f"  {s}" for s in self.subjects)]
        lines += [f"  {line}" for line in (*self.rows, *self.ratios)]
        return "\n".join([*lines, self.note])
