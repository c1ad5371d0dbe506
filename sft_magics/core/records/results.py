"""What verbs return that is not kept: evaluations, predictions, reports, comparisons, tables, the board."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sft_magics.core.records import listings
from sft_magics.core.records.finding import Finding
from sft_magics.core.records.overlap import NOTHING_SEEN, Overlap
from sft_magics.core.records.stored import Alert, Dataset, Endpoint, Metric, Model, Run, Version
from sft_magics.core.records.tabular import Tabular, by_class
from sft_magics.core.tasks import headlines, per_class
from sft_magics.core.unread import truncated


@dataclass(frozen=True)
class GateResult(Tabular):
    """One gate of a promotion or an evaluation, whether it holds, and what was seen."""

    gate: str
    passed: bool
    seen: str

    def __str__(self) -> str:
        return f"{'passed' if self.passed else 'failed'} {self.gate}: {self.seen}"


@dataclass(frozen=True)
class Evaluation(Tabular):
    """Metrics of one version on one dataset split: per class with 95 % Wilson intervals, and the confusion matrix.

    `confusion[i][j]` counts rows whose label is `labels[i]` and whose prediction is `labels[j]`; of masks pixels, and
    nothing of other tasks. `gates` are those that were asked for, `overlap` counts the rows that the version was
    trained on, and `findings` are those on a file.
    """

    version: str
    data: str
    split: str
    n: int
    labels: tuple[str, ...]
    metrics: dict[str, Metric]
    confusion: list[list[int]]
    worst: tuple["Prediction", ...] = ()
    seconds: float = 0.0
    task: str = "text-classification"
    gates: tuple[GateResult, ...] = ()
    overlap: Overlap = NOTHING_SEEN
    findings: tuple[Finding, ...] = ()

    def _rows(self) -> Sequence[Any]:
        return by_class(self.labels, self.metrics)

    def __str__(self) -> str:
        first = ", ".join(f"{m} {self.metrics[m]}" for m in headlines(self.task)[:1] if m in self.metrics)
        lines = [f"{self.version} on {self.data} ({self.split}, n = {self.n:,}): {first}", *self.overlap.lines]
        lines += [f"  {f.level}: {f.message}" for f in self.findings]
        for label in self.labels:
            known = [(m, self.metrics.get(f"{m}[{label}]")) for m in per_class(self.task)]
            lines.append(f"  {label}: " + ", ".join(f"{m} {metric}" for m, metric in known if metric is not None))
        return "\n".join([*lines, *(f"  {gate}" for gate in self.gates)])


@dataclass(frozen=True)
class Prediction(Tabular):
    """One answer: the text, the label predicted, its confidence, all scores, and the truth where it is known.

    Of an image `text` is the path and `picture` a small copy, as a data: address. A detector's `boxes` have label,
    confidence, left, top, right, bottom in pixels, and its `label` is their count. A `mask` is a PNG with the number of
    a class at each pixel, as a data: address; `scores` are then the shares of the classes. A language model's answer is
    the `label`. An answer of an endpoint has an `id`, and names the `version` that gave it. `truncated_tokens` counts
    the tokens at the end of a text that the version did not read; 0 where it read all.
    """

    text: str
    label: str
    confidence: float
    scores: dict[str, float]
    id: str = ""
    truth: str | None = None
    picture: str = ""
    boxes: tuple[dict[str, Any], ...] = ()
    mask: str = ""
    version: str = ""
    truncated_tokens: int = 0


@dataclass(frozen=True)
class Predictions(Tabular):
    """The answers of one call, in the order asked; `to_pandas()` is their table.

    `file` is where they were written too, if they were.
    """

    version: str
    rows: tuple[Prediction, ...]
    endpoint: str | None = None
    seconds: float = 0.0
    file: str = ""

    def __len__(self) -> int:
        return len(self.rows)

    def _rows(self) -> Sequence[Any]:
        return self.rows

    def _row_type(self) -> type | None:
        return Prediction

    def columns(self) -> dict[str, list[Any]]:
        """Return the columns id, text, label, confidence and, where there are such, truth and boxes."""
        table: dict[str, list[Any]] = {
            "id": [r.id for r in self.rows],
            "text": [r.text for r in self.rows],
            "label": [r.label for r in self.rows],
            "confidence": [r.confidence for r in self.rows],
        }
        if any(r.truth is not None for r in self.rows):
            table["truth"] = [r.truth for r in self.rows]
        if any(r.truncated_tokens for r in self.rows):
            table["truncated_tokens"] = [r.truncated_tokens for r in self.rows]
        if any(r.boxes for r in self.rows):
            table["boxes"] = [list(r.boxes) for r in self.rows]
        return table

    def __str__(self) -> str:
        lines = [f"{r.label} {r.confidence:.3f}  {r.text[:100]}" for r in self.rows[:20]]
        more = [f"... and {len(self.rows) - 20:,} more"] if len(self.rows) > 20 else []
        written = [f"All of them are in {self.file}."] if self.file else []
        return "\n".join([f"{len(self.rows):,} predictions by {self.version}", *lines, *more, *self._cut(), *written])

    def _cut(self) -> list[str]:
        return [f"warning: {truncated(self.unread)}"] if self.unread else []

    @property
    def unread(self) -> dict[int, int]:
        """How many tokens were not read, by the place of each text that is longer than the version reads."""
        return {place: row.truncated_tokens for place, row in enumerate(self.rows) if row.truncated_tokens}


@dataclass(frozen=True)
class Mistake(Tabular):
    """How many rows of the class `truth` were taken for `predicted`."""

    truth: str
    predicted: str
    n: int

    def __str__(self) -> str:
        return f"{self.truth} taken for {self.predicted}: {self.n:,}"


@dataclass(frozen=True)
class ErrorGallery(Tabular):
    """What a version got wrong: `wrong` of `n` rows, `chosen` of them of the classes asked for, the surest `rows`.

    `mistakes` are the most frequent confusions of all that is wrong. Of other tasks than classification `rows` are
    those that are answered worst.
    """

    version: str
    data: str
    split: str
    n: int
    wrong: int
    chosen: int
    rows: tuple[Prediction, ...]
    mistakes: tuple[Mistake, ...]
    task: str = "text-classification"
    labels: tuple[str, ...] = ()
    overlap: Overlap = NOTHING_SEEN
    findings: tuple[Finding, ...] = ()

    def _rows(self) -> Sequence[Any]:
        return self.rows

    def _row_type(self) -> type | None:
        return Prediction

    def __str__(self) -> str:
        head = f"{self.version} on {self.data} ({self.split}): {self.wrong:,} of {self.n:,} rows wrong"
        lines = [*self.overlap.lines, *(f"  {f.level}: {f.message}" for f in self.findings)]
        lines += [f"  {m}" for m in self.mistakes]
        lines += [f"  {r.truth} taken for {r.label} {r.confidence:.3f}  {r.text[:100]}" for r in self.rows]
        return "\n".join([head, *lines])


@dataclass(frozen=True)
class Comparison(Tabular):
    """A candidate beside the live version on the same rows, one Evaluation pair a dataset.

    `fixed` and `broke` count rows the candidate gets right and the live one wrong, and the reverse; `p_value` is
    McNemar's exact test on those two counts (McNemar 1947). `overlaps` has for each dataset how many of its held-out
    rows one of the two was trained on, which are left out.
    """

    candidate: str
    live: str
    plan: str
    pairs: tuple["EvaluationPair", ...]
    verdict: str
    next_step: str
    overlaps: dict[str, Overlap] = field(default_factory=dict)

    def _rows(self) -> Sequence[Any]:
        return self.pairs

    def _row_type(self) -> type | None:
        return EvaluationPair

    def __str__(self) -> str:
        lines = [self.plan]
        lines += [f"{line} ({data})" for data, overlap in self.overlaps.items() for line in overlap.lines]
        lines += [
            f"  {p.data} (n = {p.n:,}): live {p.live}, candidate {p.candidate}; "
            f"fixed {p.fixed}, broke {p.broke}, p = {p.p_value:.3g}"
            for p in self.pairs
        ]
        return "\n".join([*lines, self.verdict, f"Next: {self.next_step}"])


@dataclass(frozen=True)
class EvaluationPair(Tabular):
    """Accuracy of live and candidate on the same `n` rows of one dataset split."""

    data: str
    n: int
    live: Metric
    candidate: Metric
    fixed: int
    broke: int
    p_value: float


@dataclass(frozen=True)
class Retirement(Tabular):
    """What retiring a version moved and freed."""

    version: str
    successor: str | None
    reason: str
    aliases: tuple[str, ...]
    endpoints: tuple[str, ...]
    freed_bytes: int

    def __str__(self) -> str:
        moved = ", ".join([*(f"@{a}" for a in self.aliases), *(f"endpoint {e}" for e in self.endpoints)]) or "nothing"
        to = f" to {self.successor}" if self.successor else ""
        return f"{self.version} retired ({self.reason}); moved {moved}{to}; freed {self.freed_bytes / 1e6:.1f} MB"


@dataclass(frozen=True)
class Table(Tabular):
    """Rows of one kind of record, as a verb that lists returns them; `kind` names them in the plural, `note` is a
    sentence about all of them.

    Of runs and versions `differing` names the settings in which the rows differ, and `marks` has a footnote mark for
    each row whose metrics are of other data than the rest (see `listings`).
    """

    kind: str
    rows: tuple[Any, ...]
    next_step: str = ""
    note: str = ""
    differing: tuple[str, ...] = ()
    marks: tuple[str, ...] = ()

    @classmethod
    def compared(cls, kind: str, rows: Sequence[Run | Version], next_step: str) -> "Table":
        """Return runs or versions as a table that says what tells them apart, and which metrics do not compare."""
        return cls(kind, tuple(rows), next_step, *listings.compared(rows))

    def _rows(self) -> Sequence[Any]:
        return self.rows

    def _row_type(self) -> type | None:
        return _ROWS.get(self.kind)

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Any:
        return iter(self.rows)

    def __getitem__(self, index: int) -> Any:
        return self.rows[index]

    def __str__(self) -> str:
        told = self.kind in ("runs", "versions") and len(self.rows) > 1
        rows = [listings.text(r, self, i) if told else str(r) for i, r in enumerate(self.rows)]
        body = [*rows, *[self.note] * bool(self.note)] or [f"no {self.kind} yet"]
        return "\n".join([*body, *([f"Next: {self.next_step}"] * bool(self.next_step))])


@dataclass(frozen=True)
class Check(Tabular):
    """One line of the doctor: `state` is "ok", "warning" or "problem"."""

    name: str
    value: str
    state: str = "ok"
    next_step: str = ""

    def __str__(self) -> str:
        tail = f" -> {self.next_step}" if self.next_step else ""
        return f"{self.state:8} {self.name}: {self.value}{tail}"


# What a table without rows would hold, by its kind.
_ROWS: dict[str, type] = {
    "runs": Run,
    "versions": Version,
    "endpoints": Endpoint,
    "alerts": Alert,
    "datasets": Dataset,
    "models": Model,
    "checks": Check,
    "registry checks": Check,
    "fetched": Check,
}
