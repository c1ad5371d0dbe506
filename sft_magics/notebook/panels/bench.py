"""What endpoints delivered: answers a second and latency by number of clients, where the time went, how two compare."""

import math
from collections.abc import Sequence

from sft_magics.core.records import Bench, BenchRatio, BenchRow, BenchSubject
from sft_magics.notebook.panels import badges
from sft_magics.notebook.panels.formats import count
from sft_magics.notebook.panels.marks import bar
from sft_magics.notebook.panels.markup import Child, Safe, el, facts, head, join, muted, next_line, shorten
from sft_magics.notebook.panels.style import BLUE, PURPLE
from sft_magics.notebook.panels.tables import table

_HEADS = ("at once", "answers a second", "p50 ms#", "p95#", "p99#")
_PARTS = ("queue", "preprocess", "model", "postprocess")


def card(found: Bench) -> list[Child]:
    """Return the parts of a measurement."""
    names = [subject.subject for subject in found.subjects]
    fastest = max((row.rate for row in found.rows), default=0.0) or 1.0
    return [
        head(found.model, detail=muted(f"asked for rows of {found.data}")),
        facts(*((s.subject, _facts(s)) for s in found.subjects)),
        _rates(found.rows, names, fastest),
        _where(found.rows, names),
        *(el("p", _ratio(ratio)) for ratio in found.ratios),
        el("p", muted(found.note)),
        next_line(found.next_step),
    ]


def subject(found: BenchSubject) -> list[Child]:
    """Return what was seen of one subject's start."""
    return [facts((found.subject, _facts(found)))]


def row(found: BenchRow) -> list[Child]:
    """Return what one number of clients saw."""
    return [_rates([found], [found.subject], found.rate or 1.0), _where([found], [found.subject])]


def ratio(found: BenchRatio) -> list[Child]:
    """Return how two compare at one number of clients."""
    return [el("p", _ratio(found))]


def _facts(found: BenchSubject) -> Child:
    why = muted(f" – {shorten(found.why, 120)}") if found.why else None
    return join(f"ready in {found.ready_seconds:.1f} s, {count(round(found.memory_mb))} MB", why)


def _ink(names: Sequence[str], subject: str) -> str:
    return BLUE if subject == names[0] else PURPLE


def _rates(rows: Sequence[BenchRow], names: Sequence[str], fastest: float) -> Safe:
    drawn: list[list[Child]] = []
    for found in rows:
        words = f"{found.subject}, {found.clients} at once: {found.rate:.4g} a second"
        range_ = muted(f" {found.low:.3g}–{found.high:.3g}") if found.high > found.low else None
        figure = el("span", el("strong", f"{found.rate:.4g}"), range_, class_="sft-k")
        refused = badges.icon("problem") if found.refused else None
        said = f" {count(found.refused)} refused" if found.refused else None
        rate = join(bar(found.rate / fastest, words, color=_ink(names, found.subject)), " ", figure, refused, said)
        times = [f"{ms:.1f}" if math.isfinite(ms) else None for ms in (found.p50_ms, found.p95_ms, found.p99_ms)]
        first = [count(found.clients), shorten(found.subject, 40)] if len(names) > 1 else [count(found.clients)]
        drawn.append([*first, rate, *times])
    heads = (_HEADS[0], "version, engine", *_HEADS[1:]) if len(names) > 1 else _HEADS
    return table("Requests of one row", heads, drawn)


def _where(rows: Sequence[BenchRow], names: Sequence[str]) -> Safe | None:
    parts = [name for name in _PARTS if any(name in found.parts for found in rows)]
    if not parts:
        return None
    drawn: list[list[Child]] = []
    for found in rows:
        first = [count(found.clients), shorten(found.subject, 40)] if len(names) > 1 else [count(found.clients)]
        drawn.append([*first, *(f"{found.parts[p]:.2f}" if p in found.parts else None for p in parts)])
    heads = ("at once", *(("version, engine",) if len(names) > 1 else ()), *(f"{p}#" for p in parts))
    return table(
        "Where the milliseconds go in the endpoint (medians; of the model those of its whole batch)", heads, drawn
    )


def _ratio(found: BenchRatio) -> Child:
    who = join(el("strong", shorten(found.subject, 60)), " against ", shorten(found.other, 60))
    spread = muted(f" ({found.low:.2f} to {found.high:.2f} by round)")
    times = join(el("strong", f"{found.ratio:.2f}"), " times as many answers a second", spread)
    return join(who, f", {count(found.clients)} at once: ", times)
