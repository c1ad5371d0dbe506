"""Columns that tell the rows of a table of runs or versions apart, and marks at metrics that do not compare."""

from collections.abc import Sequence

from sft_magics.core.records import Table, compared
from sft_magics.notebook.panels.markup import Child, el, join, shorten

_MOST = 5
_METRICS = ("metric#", "quality")
_BEFORE = ("made", "data")


def told_apart(
    found: Table, heads: Sequence[str], rows: Sequence[Sequence[Child]]
) -> tuple[Sequence[str], Sequence[Sequence[Child]]]:
    """Return the heads and rows with a column for each of the first settings that differ, the others in one more."""
    if not found.differing and not found.marks:
        return heads, rows
    place = next((i for i, head in enumerate(heads) if head in _BEFORE), len(heads))
    first, more = found.differing[:_MOST], found.differing[_MOST:]
    wider = [*heads[:place], *(name.replace("_", " ") for name in first), *["other settings"] * bool(more)]
    drawn = []
    for number, (row, cells) in enumerate(zip(found.rows, rows, strict=True)):
        own = compared.settings(row)
        added: list[Child] = [el("span", shorten(compared.shown(own.get(n)), 40), class_="sft-k") for n in first]
        if more:
            added.append(", ".join(f"{n} {shorten(compared.shown(own.get(n)), 40)}" for n in more))
        marked = _marked(heads, cells, found.marks[number] if found.marks else "")
        drawn.append([*marked[:place], *added, *marked[place:]])
    return [*wider, *heads[place:]], drawn


def _marked(heads: Sequence[str], cells: Sequence[Child], mark: str) -> list[Child]:
    """Return the cells of a row with its footnote mark at its metric."""
    sign = el("sup", mark) if mark else None
    return [join(c, sign) if sign and h in _METRICS and c else c for h, c in zip(heads, cells, strict=True)]
