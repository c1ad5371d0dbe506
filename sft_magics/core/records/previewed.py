"""What a preview shows: the rows of a batch as the model will see them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sft_magics.core.records.tabular import Tabular


@dataclass(frozen=True)
class Piece(Tabular):
    """A run of tokens, parted by dots: `kind` is "read", "learned" (has loss) or "cut"; `tokens` is how many."""

    text: str
    kind: str
    tokens: int

    def __str__(self) -> str:
        return f"{self.kind} ({self.tokens:,}): {self.text}"


@dataclass(frozen=True)
class Seen(Tabular):
    """One row: a picture as a data: address with what is marked in it, or its tokens; `text` is the picture's path."""

    label: str
    text: str = ""
    picture: str = ""
    pieces: tuple[Piece, ...] = ()
    note: str = ""

    def __str__(self) -> str:
        name = self.text.replace("\\", "/").rsplit("/", 1)[-1]
        head = ", ".join(part for part in (self.label, name, self.note) if part)
        return "\n".join([f"  {head}", *(f"    {piece}" for piece in self.pieces)])


@dataclass(frozen=True)
class BatchPreview(Tabular):
    """The first batch of an epoch (from 0 on), as it comes from the task: its first `rows` of `batch`.

    `tensors` are the names, shapes and number formats of what the model gets, `labels` the classes of masks and boxes
    in the order of their colors, `notes` what a run would say of its rows.
    """

    model: str
    task: str
    data: str
    epoch: int
    augment: str
    batch: int
    rows: tuple[Seen, ...]
    tensors: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    next_step: str = ""

    def _rows(self) -> Sequence[Any]:
        return self.rows

    def _row_type(self) -> type | None:
        return Seen

    def __str__(self) -> str:
        head = f"{self.model} on {self.data}: {len(self.rows):,} of the {self.batch:,} rows of the first batch"
        lines = [f"{head}, epoch {self.epoch}", f"  {'; '.join(self.tensors)}", *(f"  {note}" for note in self.notes)]
        return "\n".join([*lines, *map(str, self.rows), *([f"Next: {self.next_step}"] if self.next_step else [])])
