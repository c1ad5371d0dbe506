"""What differs between two versions of a dataset, row by row."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sft_magics.core.records.tabular import Tabular
from sft_magics.core.records.times import clock_time


@dataclass(frozen=True)
class RowChange(Tabular):
    """One row that differs; `change` is "added", "removed", "relabeled" or "moved" (to another split).

    `text` is the text, or the path of a picture, of which `picture` is a small copy (a data: URL). What it was and is
    stands in `label_before`, `label_after`, `split_before` and `split_after`, empty where the row was not there.
    """

    change: str
    text: str
    label_before: str = ""
    label_after: str = ""
    split_before: str = ""
    split_after: str = ""
    picture: str = ""

    def __str__(self) -> str:
        labels = _arrow(self.label_before, self.label_after)
        splits = _arrow(self.split_before, self.split_after)
        text = self.text if len(self.text) <= 80 else f"{self.text[:77]}..."
        return f"{self.change}: {text} ({labels[:80]}; {splits})"


@dataclass(frozen=True)
class DatasetDiff(Tabular):
    """How the rows of the dataset `after` differ from those of `before`; both are references such as `complaints:1`.

    Rows are matched by content: a text, or what a picture's file holds. A row that has another label and another split
    counts as `relabeled` and as `moved`. `moves` counts rows by "train to validation" and the like. `examples` has a
    few rows of each kind of change.
    """

    before: str
    after: str
    rows_before: int
    rows_after: int
    same: int
    added: int
    removed: int
    relabeled: int
    moved: int
    moves: dict[str, int] = field(default_factory=dict)
    labels_added: tuple[str, ...] = ()
    labels_removed: tuple[str, ...] = ()
    examples: tuple[RowChange, ...] = ()

    def _rows(self) -> Sequence[Any]:
        return self.examples

    def _row_type(self) -> type | None:
        return RowChange

    @property
    def verdict(self) -> str:
        """The difference in a sentence."""
        if self.same == self.rows_before == self.rows_after:
            return f"{self.after} has the same {self.same:,} rows as {self.before}, with the same labels and splits."
        moved = f", {self.moved:,} moved between splits" if self.moved else ""
        return (
            f"{self.after} has {self.added:,} rows that {self.before} lacks and lacks {self.removed:,}; of the others "
            f"{self.relabeled:,} have another label{moved}, and {self.same:,} are the same."
        )

    def __str__(self) -> str:
        lines = [self.verdict]
        lines += [f"  {n:,} moved from {way}" for way, n in self.moves.items()]
        lines += [f"  new labels: {', '.join(self.labels_added)}"] * bool(self.labels_added)
        lines += [f"  labels that are gone: {', '.join(self.labels_removed)}"] * bool(self.labels_removed)
        return "\n".join([*lines, *(f"  {row}" for row in self.examples)])


@dataclass(frozen=True)
class DatasetEvent(Tabular):
    """One thing that became of a version of a dataset, at seconds since the epoch `at`.

    `what` is "made", "loaded again", "dropped", or "trained" where a run learned from it; `detail` says from which
    source, or which run and version.
    """

    at: float
    dataset: str
    what: str
    detail: str
    fingerprint: str = ""
    who: str = ""

    def __str__(self) -> str:
        when = clock_time(self.at)
        mark = f" [{self.fingerprint[:12]}]" if self.fingerprint else ""
        return f"{when} {self.dataset} {self.what}: {self.detail}{mark}" + (f" ({self.who})" if self.who else "")


def _arrow(before: str, after: str) -> str:
    return before if before == after else f"{before} -> {after}" if before and after else before or after
