"""Datasets over time: what differs between two versions, and what became of each."""

from collections.abc import Sequence

from sft_magics.core.records import DatasetDiff, DatasetEvent, RowChange
from sft_magics.notebook.panels.formats import count, when
from sft_magics.notebook.panels.markup import Child, code, el, facts, head, join, muted, shorten
from sft_magics.notebook.panels.subjects import subject
from sft_magics.notebook.panels.tables import table

EVENTS = ("when", "version", "what", "detail", "fingerprint", "who")
_ROWS = ("change", "row", "label", "split")


def card(found: DatasetDiff) -> list[Child]:
    """Return the parts of a difference: the counts, and a few rows of each kind of change."""
    moves = ", ".join(f"{n:,} from {way}" for way, n in found.moves.items())
    return [
        head(found.after, detail=muted(f"against {found.before}")),
        el("p", el("strong", found.verdict)),
        facts(
            ("rows", f"{found.rows_before:,} → {found.rows_after:,}"),
            ("added", count(found.added)),
            ("removed", count(found.removed)),
            ("relabeled", count(found.relabeled)),
            ("moved", join(count(found.moved), muted(f" ({moves})") if moves else None)),
            ("the same", count(found.same)),
            ("new labels", shorten(", ".join(found.labels_added), 200)),
            ("labels that are gone", shorten(", ".join(found.labels_removed), 200)),
        ),
        table("Some of the rows", _ROWS, [_row(r) for r in found.examples]) if found.examples else None,
    ]


def row(found: RowChange) -> list[Child]:
    """Return one row that differs."""
    return [table("A row", _ROWS, [_row(found)])]


def _row(found: RowChange) -> list[Child]:
    return [
        el("span", found.change, class_="sft-k"), subject(found.text, found.picture),
        _both(found.label_before, found.label_after), _both(found.split_before, found.split_after),
    ]  # fmt: skip


def _both(before: str, after: str) -> Child:
    if before and after and before != after:
        return join(shorten(before, 60), " → ", shorten(after, 60))
    return shorten(after or before, 60)


def events(rows: Sequence[DatasetEvent]) -> list[list[Child]]:
    """Return the rows of a dataset's history."""
    return [
        [
            el("span", when(r.at), class_="sft-k"), el("strong", r.dataset, class_="sft-k"),
            el("span", r.what, class_="sft-k"), shorten(r.detail, 120),
            code(r.fingerprint[:12]) if r.fingerprint else None, r.who,
        ]
        for r in rows
    ]  # fmt: skip


def event(found: DatasetEvent) -> list[Child]:
    """Return one thing that became of a dataset."""
    return [table("Dataset", EVENTS, events([found]))]
