"""Dialogues as tokens: which of them have loss, and which rows lost their end."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from sft_magics.engine.inputs import packing, preview
from sft_magics.engine.tasks.base import Batch, Encoded


@dataclass
class Dialogues(Encoded):
    """Token ids of each row; `starts` says where its last answer begins, None where there are none.

    `earlier` has the (start, end) of each answer before it that has loss, `rewritten` counts earlier answers that have
    none because the chat template writes them otherwise once more turns follow. `over` has all ids of rows that lost
    their end.
    """

    lengths: list[int]
    ids: list[list[int]]
    starts: list[int] | None
    over: dict[int, list[int]] = field(default_factory=dict)
    earlier: list[list[tuple[int, int]]] = field(default_factory=list)
    rewritten: int = 0

    def learned(self, row: int) -> int:
        """Return how many tokens of a row have loss."""
        assert self.starts is not None
        return len(self.ids[row]) - self.starts[row] + sum(end - start for start, end in self.earlier[row])


def shown(tokenizer: Any, rows: Dialogues, batch: Batch, indices: Sequence[int]) -> list[dict[str, Any]]:
    """Return the tokens of a batch's rows, as they lie in its packs: what is read, what has loss, what is cut."""
    found = []
    for place, i in enumerate(indices):
        mine = batch["rows"] == place
        ids, learned = batch["input_ids"][mine], batch["labels"][mine] != packing.IGNORED
        cut = rows.over.get(i, [])[len(ids) :]
        marked = zip(ids.tolist(), learned.tolist(), strict=True)
        runs = [([t for t, _ in run], "learned" if on else "read") for on, run in groupby(marked, lambda m: m[1])]
        pieces = [preview.piece(tokenizer, run, kind) for run, kind in (*runs, (cut, "cut")) if run]
        note = f"{len(ids):,} tokens, {int(learned.sum()):,} with loss, in pack {int(mine.any(1).nonzero()[0]) + 1}"
        found.append({"label": "", "pieces": pieces, "note": note})
    return found
