"""Columns that tell the rows of a table of runs or versions apart, and marks at metrics that do not compare."""

from collections.abc import Sequence

from sft_magics.core.records import Table, listings
from sft_magics.notebook.panels.formats import count
from sft_magics.notebook.panels.markup import Child, el, join, muted, shorten

_MOST = 5
_METRICS = ("metric#", "quality")
_BEFORE = ("made", "data")


def told_apart(
    found: Table, heads: Sequence[str], rows: Sequence[Sequence[Child]]
) -> tuple[Sequence[str], Sequence[Sequence[Child]]]:
    """Return the heads and rows with a column for each of the first settings that differ, the others in one more.

    Each metric is followed by the number of rows that it is of, and by its mark.
    """
    if found.kind not in ("runs", "versions"):
        return heads, rows
    place = next((i for i, head in enumerate(heads) if head in _BEFORE), len(heads))
    first, more = found.differing[:_MOST], found.differing[_MOST:]
    wider = [*heads[:place], *(name.replace("_", " ") for name in first), *["other settings"] * bool(more)]
    drawn = []
    for number, (row, cells) in enumerate(zip(found.rows, rows, strict=True)):
        own = listings.settings(row)
        added: list[Child] = [el("span", shorten(listings.shown(own.get(n)), 40), class_="sft-k") for n in first]
        if more:
            added.append(", ".join(f"{n} {shorten(listings.shown(own.get(n)), 40)}" for n in more))
        marked = _marked(heads, cells, listings.measured_rows(row), found.marks[number] if found.marks else "")
        drawn.append([*marked[:place], *added, *marked[place:]])
    return [*wider, *heads[place:]], drawn


def _marked(heads: Sequence[str], cells: Sequence[Child], rows: int, mark: str) -> list[Child]:
    """Return the cells of a row with the rows and the mark of its metric."""
    of = el("span", muted(f" of {count(rows)}"), class_="sft-k") if rows else None
    sign = el("sup", mark) if mark else None
    return [join(c, of, sign) if h in _METRICS and c else c for h, c in zip(heads, cells, strict=True)]
