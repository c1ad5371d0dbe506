"""Runs: the table, and the card of one."""

from collections.abc import Sequence

from sft_magics.core.records import Run
from sft_magics.core.views import ACTIVE
from sft_magics.notebook.panels import badges
from sft_magics.notebook.panels.formats import count, duration, number, when
from sft_magics.notebook.panels.marks import bar
from sft_magics.notebook.panels.markup import Child, Safe, code, el, facts, head, join, muted, next_line, shorten
from sft_magics.notebook.panels.options import options
from sft_magics.notebook.panels.tables import stamp

HEADS = ("run", "model", "state", "progress", "metric#", "made", "?data", "started", "took")


def rows(runs: Sequence[Run]) -> list[list[Child]]:
    """Return the rows of the table of runs."""
    return [
        [
            code(r.id), r.model, _state(r), _progress(r), _metric(r), r.version,
            r.data, stamp(r.created_at), el("span", _took(r), class_="sft-k"),
        ]
        for r in runs
    ]  # fmt: skip


def _metric(run: Run) -> Safe | None:
    """Return the metric with its name: a table may hold runs of other tasks."""
    if run.metric is None:
        return None
    return el("span", muted(f"{run.metric_name} ") if run.metric_name else None, number(run.metric), class_="sft-k")


def card(run: Run) -> list[Child]:
    """Return the parts of one run's card."""
    return [
        head(run.model, before=_badge(run), detail=code(run.id), right=muted(when(run.created_at))),
        facts(
            ("progress", _progress(run)),
            ("metric", number(run.metric) if run.metric is not None else None),
            ("made", el("strong", run.version) if run.version else None),
            ("data", run.data),
            ("from", run.parent),
            ("took", _took(run) if run.ended_at else None),
        ),
        el("p", shorten(run.why, 2000), class_="sft-u") if run.why else None,
        badges.notes(badges.note("warning", shorten(run.concern, 600))) if run.concern else None,
        next_line(run.next_step),
        options(run.options),
    ]


def brief(run: Run) -> list[Child]:
    """Return a run in one line, for a cell that shows its panel already."""
    made = join(muted(", made "), el("strong", run.version)) if run.version else None
    state = None if run.state in ACTIVE else muted(f" {run.state}")  # which the panel says, and it does not grow old
    return [el("p", code(run.id), state, made)]


def _state(run: Run) -> Safe:
    return el("span", _badge(run), title=" ".join(part for part in (run.why, run.concern) if part) or None)


def _badge(run: Run) -> Safe:
    return badges.badge("nothing learned", tone="warning") if run.concern else badges.badge(run.state)


def _progress(run: Run) -> Safe | None:
    if not run.steps:
        return None
    words = f"step {count(run.step)} of {count(run.steps)}"
    drawn = bar(run.step / run.steps, words, color=badges.color(run.state), width=60)
    return el("span", drawn, " ", el("span", words, class_="sft-a"), class_="sft-k")


def _took(run: Run) -> str:
    return duration(run.ended_at - run.created_at) if run.ended_at else "–"
