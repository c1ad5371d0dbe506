"""What monitoring returns: the report on an endpoint, and what became of labels that were sent."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sft_magics.core.records.overlap import NOTHING_SEEN, Overlap
from sft_magics.core.records.stored import Alert, Metric
from sft_magics.core.records.tabular import Tabular, side_by_side


@dataclass(frozen=True)
class Report(Tabular):
    """What monitoring saw on one endpoint: traffic, latency, class mix, drift, quality from feedback, alerts.

    `class_mix` and `reference_mix` are fractions of predicted labels now and on the version's validation rows;
    `drift` is their total variation distance. `latency_ms` has the keys p50, p95, p99, of requests with one input, and
    `parts_ms` the medians of its parts: queue, preprocess, model. `bulk` tells of requests with several inputs:
    answers, and medians of their request_ms, queue_ms and ms_an_input (without the queue). `series` holds one bucket a
    slice of time: requests, mean confidence, p95, accuracy. `overlap` counts the labeled requests that the version was
    trained on, which are left out of its quality.
    """

    endpoint: str
    version: str
    requests: int
    labeled: int
    first_at: float | None
    last_at: float | None
    latency_ms: dict[str, float]
    class_mix: dict[str, float]
    reference_mix: dict[str, float]
    drift: float | None
    confidence: float | None
    metrics: dict[str, Metric]
    alerts: tuple[Alert, ...]
    series: dict[str, list[float | None]]
    next_step: str = ""
    errors: int = 0
    reference_confidence: float | None = None
    parts_ms: dict[str, float] = field(default_factory=dict)
    bulk: dict[str, float] = field(default_factory=dict)
    overlap: Overlap = NOTHING_SEEN

    def _rows(self) -> Sequence[Any]:
        return side_by_side(self.series)

    def __str__(self) -> str:
        nothing = "nothing to measure" if self.labeled else "no feedback yet"
        quality = f"accuracy {self.metrics['accuracy']}" if "accuracy" in self.metrics else nothing
        head = f"{self.endpoint} ({self.version}): {self.requests:,} requests, {self.labeled:,} labeled, {quality}"
        return "\n".join(
            [
                head,
                *self.overlap.lines,
                *(f"  {a}" for a in self.alerts),
                *([f"Next: {self.next_step}"] * bool(self.next_step)),
            ]
        )


@dataclass(frozen=True)
class Feedback(Tabular):
    """What `feedback` took in: labels `added`, request ids it does not know, and the alerts as they stand now.

    `mended` counts the added ones that were spelled otherwise; `refused` says what is no label, and what would be.
    """

    endpoint: str
    added: int
    unknown: tuple[str, ...]
    metrics: dict[str, Metric]
    alerts: tuple[Alert, ...]
    next_step: str = ""
    mended: int = 0
    refused: str = ""
    overlap: Overlap = NOTHING_SEEN

    def __str__(self) -> str:
        strange = f", {len(self.unknown):,} unknown ids left out" if self.unknown else ""
        mended = f", {self.mended:,} of them spelled otherwise" if self.mended else ""
        refused = f"; {self.refused}" if self.refused else ""
        head = f"{self.endpoint}: {self.added:,} labels taken{mended}{strange}{refused}"
        tail = [f"Next: {self.next_step}"] * bool(self.next_step)
        return "\n".join([head, *self.overlap.lines, *(f"  {a}" for a in self.alerts), *tail])
