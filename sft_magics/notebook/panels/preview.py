"""A batch as the model will see it: pictures with what is marked in them, or tokens and which of them are learned."""

from sft_magics.core.records import BatchPreview, Piece, Seen
from sft_magics.notebook.panels import badges
from sft_magics.notebook.panels.formats import count
from sft_magics.notebook.panels.markup import Child, Safe, el, facts, head, join, muted, next_line, section, shorten
from sft_magics.notebook.panels.subjects import framed, grid, legend

_LONGEST = 4000
_NOTES = 6


def card(found: BatchPreview) -> list[Child]:
    """Return the parts of a preview."""
    where = muted(f"epoch {count(found.epoch)} of {found.data}, {found.task}")
    notes = [badges.note("info", shorten(note, 600)) for note in found.notes[:_NOTES]]
    shown = f"{count(len(found.rows))} of {count(found.batch)}"
    return [
        head(found.model, detail=where),
        facts(("rows of the batch", shown), ("pictures are", found.augment), ("tensors", _tensors(found))),
        badges.notes(*notes) if notes else None,
        _rows(found),
        next_line(found.next_step),
    ]


def row(found: Seen) -> list[Child]:
    """Return the parts of a single row."""
    return [_pictured(found) if found.picture else _worded(found)]


def piece(found: Piece) -> list[Child]:
    """Return the parts of a single run of tokens."""
    return [el("p", _run(found))]


def _tensors(found: BatchPreview) -> Child:
    return join(*(el("div", shorten(said, 120)) for said in found.tensors[:8])) if found.tensors else None


def _rows(found: BatchPreview) -> Safe | None:
    if any(one.picture for one in found.rows):
        marks = legend(found.labels) if found.labels else None
        return section("As the model sees them", grid(_pictured(row) for row in found.rows), marks)
    if not found.rows:
        return None
    learned = any(p.kind == "learned" for one in found.rows for p in one.pieces)
    words = [el("strong", "bold has loss", style=_LOOK["learned"]), ", "] if learned else []
    key = el("p", muted("Dots part the tokens: ", *words, el("s", "struck out"), " is not read."))
    return section("As the model reads them", *map(_worded, found.rows), key)


def _pictured(found: Seen) -> Safe:
    note = muted(" ", shorten(found.note, 80)) if found.note else None
    return el("div", framed(found.text, found.picture, shorten(found.label, 80), note))


def _worded(found: Seen) -> Safe:
    title = [el("strong", shorten(found.label, 80)), " "] if found.label else []
    top = el("div", *title, muted(shorten(found.note, 160)))
    return el("div", top, el("div", *map(_run, found.pieces), class_="sft-u", dir="auto"))


_LOOK = {"learned": "font-weight:600;border-bottom:2px solid #009E73"}


def _run(found: Piece) -> Safe:
    text = found.text if len(found.text) <= _LONGEST else found.text[:_LONGEST] + "…"
    if found.kind == "cut":
        return el("s", text, style="opacity:.6", title=f"{count(found.tokens)} tokens are not read")
    what = "has loss" if found.kind == "learned" else "is read"
    name = "strong" if found.kind == "learned" else "span"
    return el(name, text, style=_LOOK.get(found.kind), title=f"{count(found.tokens)} tokens: {what}")
