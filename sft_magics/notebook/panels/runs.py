"""Runs: the table, and the card of one."""

from collections.abc import Sequence

from sft_magics.core.records import Run
from sft_magics.notebook.panels import badges
from sft_magics.notebook.panels.formats import count, duration, number, when
from sft_magics.notebook.panels.marks import bar
from sft_magics.notebook.panels.markup import Child, Safe, code, el, facts, head, muted, next_line, shorten

HEADS = ("run", "model", "state", "progress", "metric#", "made", "data", "started", "took")


def rows(runs: Sequence[Run]) -> list[list[Child]]:
    """Return the rows of the table of runs."""
    return [
        [
            code(r.id), r.model, _state(r), _progress(r), _metric(r), r.version,
            r.data, el("span", when(r.created_at), class_="sft-k"), el("span", _took(r), class_="sft-k"),
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
    given = ", ".join(f"{name} {value}" for name, value in run.options.items() if value is not None)
    return [
        head(run.model, before=badges.badge(run.state), detail=code(run.id), right=muted(when(run.created_at))),
        facts(
            ("progress", _progress(run)),
            ("metric", number(run.metric) if run.metric is not None else None),
            ("made", el("strong", run.version) if run.version else None),
            ("data", run.data),
            ("from", run.parent),
            ("took", _took(run) if run.ended_at else None),
        ),
        el("p", muted(shorten(given, 1000)), class_="sft-u") if given else None,
        el("p", shorten(run.why, 2000), class_="sft-u") if run.why else None,
        next_line(run.next_step),
    ]


def _state(run: Run) -> Safe:
    return el("span", badges.badge(run.state), title=run.why or None)


def _progress(run: Run) -> Safe | None:
    if not run.steps:
        return None
    words = f"step {count(run.step)} of {count(run.steps)}"
    drawn = bar(run.step / run.steps, words, color=badges.color(run.state), width=60)
    return el("span", drawn, " ", words, class_="sft-k")


def _took(run: Run) -> str:
    return duration(run.ended_at - run.created_at) if run.ended_at else "–"
