"""The error gallery: pictures or texts that were answered wrongly, and which classes were taken for which."""

from sft_magics.core.records import ErrorGallery, Mistake, Prediction
from sft_magics.notebook.panels.formats import count, percent
from sft_magics.notebook.panels.markup import Child, Safe, el, facts, head, join, muted, next_line, section, shorten
from sft_magics.notebook.panels.predictions import confidence
from sft_magics.notebook.panels.subjects import subject
from sft_magics.notebook.panels.tables import table


def card(found: ErrorGallery) -> list[Child]:
    """Return the parts of an error gallery."""
    where = muted(f"on {found.data}, {found.split} rows")
    share = percent(found.wrong / found.n) if found.n else "-"
    if not found.wrong:
        return [head(found.version, detail=where), el("p", f"None of the {count(found.n)} rows is answered wrongly.")]
    asked = ("of the classes asked for", count(found.chosen)) if found.chosen != found.wrong else ("", None)
    return [
        head(found.version, detail=where),
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
        return section(title, el("div", *map(_picture, found.rows), class_="sft-g"))
    rows: list[list[Child]] = [
        [subject(r.text), shorten(r.truth or "", 60), shorten(r.label, 60), confidence(r)] for r in found.rows
    ]
    return table(title, ("text", "truth", "taken for", "confidence"), rows)


def _picture(row: Prediction) -> Safe:
    said = join(el("strong", shorten(row.truth or "", 24)), " → ", shorten(row.label, 24))
    return el("div", subject(row.text, row.picture), el("div", said, muted(f" {percent(row.confidence)}")),
              style="min-width:120px")  # fmt: skip
