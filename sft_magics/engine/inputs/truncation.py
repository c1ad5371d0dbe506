"""Rows with more tokens than a model reads: named before the first step, then cut, left out, or refused."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sft_magics.core import errors
from sft_magics.core.events import Remark, Sink

if TYPE_CHECKING:
    from pandas import DataFrame

    from sft_magics.engine.tasks import Encoded, Task

LISTING = "long_rows.csv"
_NAMED = 5
_SHOWN = 40
_HEADS = ("id", "split", "tokens", "text")


@dataclass(frozen=True)
class _Long:
    id: str
    split: str
    tokens: int
    text: str


def settle(
    task: "Task",
    parts: "Sequence[DataFrame]",
    encoded: "Sequence[Encoded]",
    options: dict[str, Any],
    folder: Path | None,
    sink: Sink,
) -> "tuple[list[DataFrame], list[Encoded]]":
    """Say which rows are longer than the limit, all of them in a file of `folder` if that lasts, and do as `long` says.

    Returns the rows that stay and what they are encoded as. Raises DataProblem for `refuse`, and where `skip` would
    leave a part empty.
    """
    found = [_listed(task, part, rows) for part, rows in zip(parts, encoded, strict=True)]
    every = list({row.id: row for rows in found for row in rows}.values())
    how = str(options.get("long", "cut"))
    if not every:
        return list(parts), list(encoded)
    limit = int(task.preprocessing()["max_length"])
    if folder is not None:
        _write(folder / LISTING, every)
    share = sum(map(len, found)) / sum(map(len, parts))
    noun, verb = ("row", "is") if len(every) == 1 else ("rows", "are")
    what = f"{len(every):,} {noun} ({share:.0%}) {verb} longer than {limit:,} tokens"
    named = _named(every, folder)
    if how == "refuse":
        raise errors.DataProblem(
            f"{what}: {named}.", f"write --max-length {2 * limit}, --long cut or --long skip, or shorten them."
        )
    if how == "cut":
        sink(Remark("info", f"{what}, and what is beyond is not read (--max-length, --long): {named}."))
        return list(parts), list(encoded)
    sink(Remark("warning", f"{what}, and left out (--long skip): {named}."))
    kept = [
        part.drop(index=[part.index[i] for i in task.over(rows)]) for part, rows in zip(parts, encoded, strict=True)
    ]
    if any(part.empty for part in kept):
        raise errors.DataProblem(
            f"{what}, and without them no rows are left to train or to measure with.",
            f"write --max-length {2 * limit}, or --long cut.",
        )
    return kept, [task.encode(list(part["text"]), list(part[task.column])) for part in kept]


def _listed(task: "Task", part: "DataFrame", rows: "Encoded") -> list[_Long]:
    ids, splits, texts = (part[name].tolist() for name in ("id", "split", "text"))
    return [_Long(ids[i], splits[i], n, " ".join(texts[i].split())) for i, n in sorted(task.over(rows).items())]


def _named(rows: Sequence[_Long], folder: Path | None) -> str:
    longest = sorted(rows, key=lambda row: -row.tokens)[:_NAMED]
    said = "; ".join(f"{row.id} ({row.tokens:,} tokens, “{row.text[:_SHOWN].rstrip()}…”)" for row in longest)
    more = len(rows) - len(longest)
    where = f", all in {folder / LISTING}" if folder is not None else ""
    return said + (f"; and {more:,} more{where}" if more else "")


def _write(path: Path, rows: Sequence[_Long]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(_HEADS)
        writer.writerows((row.id, row.split, row.tokens, row.text) for row in rows)
