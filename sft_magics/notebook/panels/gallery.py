"""The error gallery: pictures or texts that were answered wrongly, and which classes were taken for which."""

from collections.abc import Sequence

from sft_magics.core.records import ErrorGallery, Mistake, Prediction
from sft_magics.core.tasks import CLASSIFIERS, OBJECT_DETECTION, SEMANTIC_SEGMENTATION
from sft_magics.notebook.panels import overlap
from sft_magics.notebook.panels.formats import count, number, percent
from sft_magics.notebook.panels.markup import Child, Safe, el, facts, head, join, muted, next_line, section, shorten
from sft_magics.notebook.panels.predictions import confidence
from sft_magics.notebook.panels.subjects import framed, grid, legend, subject
from sft_magics.notebook.panels.tables import table


def card(found: ErrorGallery) -> list[Child]:
    """Return the parts of an error gallery."""
    where = muted(f"on {found.data}, {found.split} rows")
    share = percent(found.wrong / found.n) if found.n else "-"
    if found.task not in CLASSIFIERS:
        return _worst(found)
    said = overlap.notes(found.overlap, found.findings)
    if not found.wrong:
        return [
            head(found.version, detail=where), said, el("p", f"None of the {count(found.n)} rows is answered wrongly."),
        ]  # fmt: skip
    asked = ("of the classes asked for", count(found.chosen)) if found.chosen != found.wrong else ("", None)
    return [
        head(found.version, detail=where),
        said,
        facts(("wrong", f"{count(found.wrong)} of {count(found.n)}, {share}"), asked),
        _mistakes(found),
        _shown(found),
        next_line(f"%sft_errors {found.version} --truth {found.mistakes[0].truth}" if found.mistakes else ""),
    ]


def mistake(found: Mistake) -> list[Child]:
    """Return a single confusion of two classes."""
    return [el("p", el("strong", shorten(found.truth, 60)), " taken for ", shorten(found.predicted, 60), ": ",
               count(found.n))]  # fmt: skip


def _mistakes(found: ErrorGallery) -> Safe | None:
    rows: list[list[Child]] = [
        [shorten(m.truth, 60), shorten(m.predicted, 60), count(m.n), percent(m.n / found.wrong)] for m in found.mistakes
    ]
    return table("Most often", ("truth", "taken for", "rows#", "of all mistakes#"), rows) if rows else None


def _shown(found: ErrorGallery) -> Safe | None:
    if not found.rows:
        return el("p", muted("No row of these classes is answered wrongly."))
    title = f"The {count(len(found.rows))} it was surest of"
    if any(r.picture for r in found.rows):
        return pictures(found.rows, title)
    rows: list[list[Child]] = [
        [subject(r.text), shorten(r.truth or "", 60), shorten(r.label, 60), confidence(r)] for r in found.rows
    ]
    return table(title, ("text", "truth", "taken for", "confidence"), rows)


def _worst(found: ErrorGallery) -> list[Child]:
    """Return the parts for a task whose answers are better or worse, not right or wrong."""
    where = muted(f"on {found.data}, {found.split} rows")
    count_ = f"{count(found.wrong)} of {count(found.n)}, {percent(found.wrong / found.n)}" if found.n else "-"
    said = {OBJECT_DETECTION: "with a box too many or too few", SEMANTIC_SEGMENTATION: "less than half overlaps"}
    rows: list[list[Child]] = [[shorten(m.truth, 60), shorten(m.predicted, 60), count(m.n)] for m in found.mistakes]
    return [
        head(found.version, detail=where),
        overlap.notes(found.overlap, found.findings),
        facts((said.get(found.task, ""), count_ if found.task in said else None)),
        table("Most often", ("truth", "taken for", "pixels#"), rows) if rows else None,
        shown(found.rows, "Answered worst", found.labels if found.task == SEMANTIC_SEGMENTATION else ()),
    ]


def shown(rows: Sequence[Prediction], title: str, masked: Sequence[str] = ()) -> Safe | None:
    """Return answers beside their truths: pictures in which both are drawn, or texts; `masked` are a mask's classes."""
    if masked and any(r.picture for r in rows):
        return el("div", pictures(rows, f"{title}; to the right the truth", wide=True), legend(masked))
    if any(r.picture for r in rows):
        return pictures(rows, title)
    cells: list[list[Child]] = [
        [subject(r.text), shorten(r.truth or "", 400), shorten(r.label, 400), number(r.confidence)] for r in rows
    ]
    return table(title, ("prompt", "truth", "answer", "confidence#"), cells) if cells else None


def pictures(rows: Sequence[Prediction], title: str, *, wide: bool = False) -> Safe:
    """Return pictures on a grid, each with what it was taken for; `wide` for two beside one another in each."""
    return section(title, grid((_picture(row) for row in rows), wide=wide))


def _picture(row: Prediction) -> Safe:
    said = (
        join(el("strong", shorten(row.truth, 24)), " → ", shorten(row.label, 40))
        if row.truth
        else shorten(row.label, 60)
    )
    sure = muted(f" {percent(row.confidence)}") if row.confidence else None
    return framed(row.text, row.picture, said, sure)
