"""Models: the table, and the card of one: its task, its base and what its weights were found to be."""

from collections.abc import Sequence

from sft_magics.core.records import Candidate, Model
from sft_magics.notebook.panels.badges import tag
from sft_magics.notebook.panels.formats import count, when
from sft_magics.notebook.panels.marks import bar
from sft_magics.notebook.panels.markup import Child, code, el, facts, head, join, muted, shorten
from sft_magics.notebook.panels.tables import stamp

HEADS = ("model", "task", "base", "parameters#", "classes", "data", "made")


def rows(models: Sequence[Model]) -> list[list[Child]]:
    """Return the rows of the table of models."""
    return [
        [
            el("strong", m.name), m.task, m.base, _parameters(m), shorten(", ".join(m.labels), 60), m.data,
            stamp(m.created_at),
        ]
        for m in models
    ]  # fmt: skip


def card(found: Model) -> list[Child]:
    """Return the parts of a model's card."""
    weights = found.weights
    fresh = ", ".join(str(name) for name in weights.get("fresh", ()))
    sha = str(weights.get("sha256") or "")
    return [
        head(found.name, detail=muted(found.task), right=muted(when(found.created_at))),
        facts(
            ("base", found.base),
            ("parameters", _parameters(found)),
            ("architecture", _word(found, "architecture")),
            ("data", found.data),
            ("license", _word(found, "license") or _word(found, "licence")),
            ("weights sha256", code(sha[:12]) if sha else None),
            ("weights from", _word(found, "source")),
        ),
        el("p", muted("Classes "), *(join(tag(shorten(label, 40)), " ") for label in found.labels[:40]))
        if found.labels
        else None,
        el("p", muted("Starts fresh: "), shorten(fresh, 200)) if fresh else None,
    ]


BASES = ("base", "parameters#", "pixels#", "weights", "linear probe", "a row#", "a step#", "license")


def candidates(bases: Sequence[Candidate]) -> list[list[Child]]:
    """Return the rows of the table of bases."""
    return [
        [
            code(b.base), f"{b.parameters / 1e6:.1f} M", count(b.pixels) if b.pixels else None,
            "here" if b.here else muted("to download"), _probe(b),
            f"{1000 * b.seconds:.1f} ms" if b.seconds is not None else None,
            f"{b.step_seconds:.2g} s" if b.step_seconds is not None else None, shorten(b.license, 60),
        ]
        for b in bases
    ]  # fmt: skip


def candidate(found: Candidate) -> list[Child]:
    """Return a single base."""
    return [el("p", code(found.base), " ", _probe(found), " ", muted(shorten(found.license, 60)))]


def _probe(found: Candidate) -> Child:
    if found.score is None:
        return None
    words = f"linear probe {found.score:.3f}"
    drawn = bar(found.score, words, width=64)
    return el("span", drawn, f" {found.score:.3f}", muted(f" ± {found.spread or 0.0:.3f}"), class_="sft-k")


def _parameters(found: Model) -> str | None:
    size = found.weights.get("parameters")
    return f"{size / 1e6:.1f} M" if isinstance(size, int | float) and size else None


def _word(found: Model, key: str) -> str | None:
    value = found.weights.get(key)
    return None if value in (None, "") else shorten(str(value), 120)
