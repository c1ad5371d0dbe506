"""What version control returns: differences, promotions, cards, what was live when, collections, reproductions."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sft_magics.core.records.overlap import NOTHING_SEEN, Overlap
from sft_magics.core.records.results import GateResult, Prediction
from sft_magics.core.records.stored import Dataset, Endpoint, Metric, Model, Version
from sft_magics.core.records.tabular import Tabular
from sft_magics.core.records.times import clock_time


def _day(at: float) -> str:
    return clock_time(at, "%Y-%m-%d %H:%M")


@dataclass(frozen=True)
class Change(Tabular):
    """One thing that differs between two versions, as text; an empty string where one of them lacks it."""

    name: str
    before: str
    after: str

    def __str__(self) -> str:
        return f"{self.name}: {self.before or 'nothing'} -> {self.after or 'nothing'}"


@dataclass(frozen=True)
class MetricChange(Tabular):
    """One metric of two versions on the same rows: the difference, its 95 % interval and p-value by `test`."""

    name: str
    before: Metric
    after: Metric
    low: float
    high: float
    p_value: float
    test: str

    @property
    def difference(self) -> float:
        """The second value less the first."""
        return self.after.value - self.before.value

    def __str__(self) -> str:
        return (
            f"{self.name} {self.before.value:.3f} -> {self.after.value:.3f} ({self.difference:+.3f}, 95 % interval "
            f"{self.low:+.3f} to {self.high:+.3f}, p = {self.p_value:.2g}, {self.test})"
        )


@dataclass(frozen=True)
class LayerChange(Tabular):
    """How far the weights of one block moved: the norm of the change, and that over the norm before."""

    block: str
    parameters: int
    norm: float
    relative: float


@dataclass(frozen=True)
class ChangedPrediction(Tabular):
    """A row that one of two versions gets right and the other wrong."""

    text: str
    truth: str
    before: Prediction
    after: Prediction


@dataclass(frozen=True)
class Diff(Tabular):
    """What changed between two versions, and how they answer the same `n` rows of `data`.

    `fixed` and `broke` count rows that only the second, or only the first, gets right; `p_value` is McNemar's.
    `overlap` counts the rows that one of the two was trained on.
    """

    before: str
    after: str
    options: tuple[Change, ...]
    data: tuple[Change, ...]
    environment: tuple[Change, ...]
    layers: tuple[LayerChange, ...]
    rows: str = ""
    n: int = 0
    metrics: tuple[MetricChange, ...] = ()
    fixed: int = 0
    broke: int = 0
    p_value: float = 1.0
    broken: tuple[ChangedPrediction, ...] = ()
    mended: tuple[ChangedPrediction, ...] = ()
    verdict: str = ""
    next_step: str = ""
    overlap: Overlap = NOTHING_SEEN

    def _rows(self) -> Sequence[Any]:
        pairs = [("broke", flip) for flip in self.broken] + [("fixed", flip) for flip in self.mended]
        return [{"change": change, **vars(flip)} for change, flip in pairs]

    def __str__(self) -> str:
        lines = [f"{self.before} -> {self.after}: {self.verdict}", *self.overlap.lines]
        for title, changes in (("options", self.options), ("data", self.data), ("environment", self.environment)):
            lines += [f"  {title}: {change}" for change in changes]
        lines += [f"  {change}" for change in self.metrics]
        moved = sorted(self.layers, key=lambda layer: -layer.relative)[:3]
        lines += [f"  {layer.block} moved by {layer.relative:.2%}" for layer in moved]
        lines += [f"  broke: {f.truth} -> {f.after.label}: {f.text[:100]}" for f in self.broken]
        return "\n".join([*lines, *([f"Next: {self.next_step}"] * bool(self.next_step))])


@dataclass(frozen=True)
class Promotion(Tabular):
    """An alias that was moved by `action` ("promote", "rollback"): from, to, why, and which endpoints went along."""

    action: str
    model: str
    alias: str
    before: str | None
    after: str
    reason: str
    gates: tuple[GateResult, ...] = ()
    endpoints: tuple[str, ...] = ()
    diff: Diff | None = None
    next_step: str = ""

    def _rows(self) -> Sequence[Any]:
        return self.gates or (self,)

    def __str__(self) -> str:
        went = f"; endpoint {', '.join(self.endpoints)} answers with it" if self.endpoints else ""
        lines = [f"{self.model}@{self.alias}: {self.before or 'nothing'} -> {self.after}{went}"]
        lines += [f"  {gate}" for gate in self.gates]
        if self.diff is not None:
            lines += [f"  {str(self.diff).splitlines()[0]}", *(f"  {line}" for line in self.diff.overlap.lines)]
        return "\n".join([*lines, *([f"Next: {self.next_step}"] * bool(self.next_step))])


@dataclass(frozen=True)
class AliasAt(Tabular):
    """What an alias pointed to at some moment, since when, and by whom."""

    model: str
    alias: str
    version: str
    since: float
    who: str
    reason: str

    def __str__(self) -> str:
        since = f"since {_day(self.since)} by {self.who}"
        return f"{self.model}@{self.alias} was {self.version}, {since} {self.reason}".rstrip()


@dataclass(frozen=True)
class HistoryEntry(Tabular):
    """One line of a version's history: what was done to it, when, by whom, and why."""

    at: float
    who: str
    action: str
    what: str
    reason: str = ""


@dataclass(frozen=True)
class ModelCard(Tabular):
    """All that is known of a version, gathered at this moment: lineage, quality, use, history."""

    version: Version
    model: Model | None
    dataset: Dataset | None
    lineage: tuple[str, ...]
    children: tuple[str, ...]
    endpoints: tuple[Endpoint, ...]
    intended_use: str
    moments: tuple[HistoryEntry, ...]
    written_to: str = ""

    def _rows(self) -> Sequence[Any]:
        return self.moments

    def _row_type(self) -> type | None:
        return HistoryEntry

    def __str__(self) -> str:
        lines = [str(self.version), f"  lineage: {' -> '.join(self.lineage)}"]
        lines += [f"  intended use: {self.intended_use}"] * bool(self.intended_use)
        lines += [f"  note: {self.version.note}"] * bool(self.version.note)
        lines += [f"  written to {self.written_to}"] * bool(self.written_to)
        return "\n".join(lines)


@dataclass(frozen=True)
class Exported(Tabular):
    """Where a version was written, as what, and how many bytes."""

    version: str
    path: str
    kind: str
    bytes: int
    next_step: str

    def __str__(self) -> str:
        return f"{self.version} is in {self.path} ({self.kind}, {self.bytes / 1e6:,.1f} MB)\nNext: {self.next_step}"


@dataclass(frozen=True)
class CollectableItem(Tabular):
    """One thing that nobody needs, or that is kept for a reason."""

    what: str
    bytes: int
    why: str

    def __str__(self) -> str:
        return f"{self.what}: {_bytes(self.bytes)}, {self.why}"


@dataclass(frozen=True)
class Collection(Tabular):
    """What a collection removed (`done`), or would remove, and what it kept although it is old."""

    garbage: tuple[CollectableItem, ...]
    kept: tuple[CollectableItem, ...]
    bytes: int
    done: bool
    next_step: str = ""

    def _rows(self) -> Sequence[Any]:
        return [{"kept": kept, **vars(one)} for kept, of in ((False, self.garbage), (True, self.kept)) for one in of]

    def __str__(self) -> str:
        head = f"{'freed' if self.done else 'would free'} {_bytes(self.bytes)}"
        lines = [head, *(f"  {g}" for g in self.garbage), *(f"  kept {g}" for g in self.kept)]
        return "\n".join([*lines, *([f"Next: {self.next_step}"] * bool(self.next_step))])


@dataclass(frozen=True)
class Reproduction(Tabular):
    """A recipe that was run again: whether the weights are the same to the bit, and how the metrics agree."""

    version: str
    same_weights: bool
    largest: float
    metrics: tuple[Change, ...]
    same_metrics: bool
    environment: tuple[Change, ...]
    seconds: float
    verdict: str

    def _rows(self) -> Sequence[Any]:
        return self.metrics

    def _row_type(self) -> type | None:
        return Change

    def __str__(self) -> str:
        lines = [self.verdict, *(f"  {c}" for c in self.metrics), *(f"  environment: {c}" for c in self.environment)]
        return "\n".join(lines)


def _bytes(count: int) -> str:
    return f"{count / 1e6:,.1f} MB" if count >= 100_000 or not count else f"{count / 1e3:,.1f} kB"
