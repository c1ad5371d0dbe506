"""The board: the whole workspace at a glance."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sft_magics.core.records.stored import Alert, Dataset, Endpoint, Model, Run, Version
from sft_magics.core.records.tabular import Tabular
from sft_magics.core.records.times import clock_time

_FRESH, _DAY = 60.0, 86400.0  # seconds


@dataclass(frozen=True)
class Board(Tabular):
    """The whole workspace at a glance, and what to type next.

    `disk_bytes` were counted at `disk_at`, in seconds since the epoch: when work last ended here, not now.
    """

    workspace: str
    models: tuple[Model, ...]
    versions: tuple[Version, ...]
    runs: tuple[Run, ...]
    endpoints: tuple[Endpoint, ...]
    alerts: tuple[Alert, ...]
    datasets: tuple[Dataset, ...]
    disk_bytes: int
    free_bytes: int
    next_step: str
    disk_at: float = 0.0

    @property
    def disk_age(self) -> str:
        """When the disk was counted, where that is more than a minute ago: "as of 14:05"."""
        if time.time() - self.disk_at < _FRESH or not self.disk_at:
            return ""
        day = "" if time.time() - self.disk_at < _DAY else "%Y-%m-%d "
        return f"as of {clock_time(self.disk_at, f'{day}%H:%M')}"

    def _rows(self) -> Sequence[Any]:
        return self.versions

    def _row_type(self) -> type | None:
        return Version

    def __str__(self) -> str:
        paused = sum(r.state == "paused" for r in self.runs)
        resting = f"{paused} paused, " if paused else ""
        counts = (
            f"{len(self.datasets)} datasets, {len(self.models)} models, {len(self.versions)} versions, "
            f"{len(self.runs) - paused} running, {resting}{len(self.endpoints)} endpoints, "
            f"{sum(a.state == 'firing' for a in self.alerts)} alerts firing"
        )
        age = f" ({self.disk_age})" if self.disk_age else ""
        disk = f"{self.disk_bytes / 1e6:,.0f} MB used{age}, {self.free_bytes / 1e9:,.1f} GB free"
        lines = [f"workspace {self.workspace}: {counts}; {disk}"]
        for group in (self.versions, self.runs, self.endpoints, self.alerts):
            lines += [f"  {row}" for row in group]
        return "\n".join([*lines, f"Next: {self.next_step}"])
