"""Panels: pure functions from a record or view to HTML, and to the text that says the same.

Everything a user owns is escaped; every drawing is SVG made here; nothing needs JavaScript. This room knows core only.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any

from sft_magics.core import records
from sft_magics.core.views import JobView, LossView
from sft_magics.notebook.panels import (
    alerts,
    badges,
    bench,
    board,
    cards,
    comparison,
    data,
    data_diff,
    diff,
    doctor,
    endpoint,
    evaluation,
    gallery,
    history,
    loss,
    model,
    monitor,
    overlap,
    predictions,
    preview,
    progress,
    rehearsal,
    retirement,
    runs,
    settings,
    traffic,
    versions,
)
from sft_magics.notebook.panels.formats import when
from sft_magics.notebook.panels.marks import measured
from sft_magics.notebook.panels.markup import Child, Safe, el, muted, next_line
from sft_magics.notebook.panels.style import output
from sft_magics.notebook.panels.tables import listing

Draw = Callable[[Any], Sequence[Child]]

_TABLES: dict[str, tuple[str, Sequence[str], Callable[[Any], list[list[Child]]]]] = {
    "versions": ("Versions", versions.HEADS, versions.rows),
    "aliases": ("What the aliases named then", history.ALIASES, history.aliases),
    "runs": ("Runs", runs.HEADS, runs.rows),
    "endpoints": ("Endpoints", endpoint.HEADS, endpoint.rows),
    "alerts": ("Alerts", alerts.HEADS, alerts.rows),
    "dataset history": ("What became of a dataset", data_diff.EVENTS, data_diff.events),
    "datasets": ("Datasets", data.HEADS, data.rows),
    "models": ("Models", model.HEADS, model.rows),
    "bases": ("Bases", model.BASES, model.candidates),
    "checks": ("Doctor", doctor.HEADS, doctor.rows),
    "registry checks": ("Registry", doctor.HEADS, doctor.rows),
    "fetched": ("Fetched", doctor.HEADS, doctor.rows),
}


def _table(found: records.Table) -> list[Child]:
    if found.kind in _TABLES:
        caption, heads, rows = _TABLES[found.kind]
        drawn = listing(caption, *settings.told_apart(found, heads, rows(found.rows)), "none yet")
    else:
        drawn = history.history(found) if found.kind == "history" else history.generic(found)
    return [drawn, badges.notes(badges.note("info", found.note)) if found.note else None, next_line(found.next_step)]


def _metric(found: records.Metric) -> list[Child]:
    return [el("p", el("strong", found.key), " ", measured(found) or "–")]


_DRAWS: dict[type, tuple[str, Draw]] = {
    records.Alert: ("Alert", alerts.card),
    records.AliasAt: ("Alias", history.alias),
    records.Change: ("Change", diff.change),
    records.Bench: ("Measurement", bench.card),
    records.BenchRow: ("Measurement", bench.row),
    records.BenchSubject: ("Endpoint", bench.subject),
    records.BenchRatio: ("Comparison", bench.ratio),
    records.Collection: ("Collection", cards.collection),
    records.Exported: ("Export", cards.exported),
    records.CollectableItem: ("Garbage", cards.garbage),
    records.ModelCard: ("Model card", cards.card),
    records.HistoryEntry: ("History", cards.moment),
    records.Reproduction: ("Reproduction", cards.reproduction),
    records.Traffic: ("Traffic", traffic.card),
    records.ServedVersion: ("Version", traffic.side),
    records.AgreementCell: ("Answers", traffic.pair),
    records.Diff: ("Difference", diff.card),
    records.ChangedPrediction: ("Flipped answer", diff.flip),
    records.GateResult: ("Gate", diff.gate),
    records.LayerChange: ("Layer", diff.layer),
    records.MetricChange: ("Metric", diff.metric),
    records.Promotion: ("Promotion", diff.promotion),
    records.Board: ("Board", board.card),
    records.Check: ("Check", doctor.card),
    records.Comparison: ("Comparison", comparison.card),
    records.Dataset: ("Dataset", data.card),
    records.DatasetDiff: ("Difference of data", data_diff.card),
    records.DatasetEvent: ("Dataset", data_diff.event),
    records.RowChange: ("Row", data_diff.row),
    records.Endpoint: ("Endpoint", endpoint.card),
    records.ErrorGallery: ("Errors", gallery.card),
    records.Mistake: ("Mistake", gallery.mistake),
    records.Evaluation: ("Evaluation", evaluation.card),
    records.EvaluationPair: ("Evaluation pair", comparison.pair),
    records.Example: ("Example", data.example),
    records.Feedback: ("Feedback", monitor.feedback),
    records.Finding: ("Finding", lambda found: [badges.notes(data.finding(found))]),
    records.Metric: ("Metric", _metric),
    records.Overlap: ("Rows trained on", overlap.card),
    records.Model: ("Model", model.card),
    records.Prediction: ("Prediction", predictions.one),
    records.Predictions: ("Predictions", predictions.card),
    records.BatchPreview: ("Preview", preview.card),
    records.Seen: ("Row of a batch", preview.row),
    records.Piece: ("Tokens", preview.piece),
    records.RunPlan: ("Plan", rehearsal.plan),
    records.Candidate: ("Base", model.candidate),
    records.Choice: ("Choice", rehearsal.choice),
    records.LrRangeTest: ("Rates", rehearsal.rates),
    records.Report: ("Monitor", monitor.card),
    records.Retirement: ("Retirement", retirement.card),
    records.Run: ("Run", runs.card),
    records.Table: ("Table", _table),
    records.Version: ("Version", versions.card),
    LossView: ("Fine-tuning run", loss.panel),
    JobView: ("Job", progress.panel),
}
RECORDS = tuple(kind for kind in _DRAWS if not issubclass(kind, JobView))


def html(
    thing: object,
    *,
    blocking: bool = False,
    hint: str = "",
    now: float | None = None,
    dated: bool = False,
    brief: bool = False,
) -> Safe | None:
    """Return the panel of a record or view as HTML, or None for a thing that has none.

    `blocking`, `hint` and `now` (seconds since the epoch) concern a run's panel only: see `loss.panel`. `dated` adds,
    to a job that can still go on, of what time the picture is and how to see it again. `brief` makes a run
    one line, for a cell that shows its panel.
    """
    if brief and isinstance(thing, records.Run):
        return output(*runs.brief(thing), label="Run", frame=False)
    stamp = _stamp(thing) if dated else ""
    said = el("p", muted(stamp)) if stamp else None
    if isinstance(thing, LossView):
        parts = loss.panel(thing, blocking=blocking, hint=hint, now=now)
        return output(*parts, said, label=f"Fine-tuning run {thing.job}")
    found = _DRAWS.get(type(thing))
    if found is None:
        return None
    label, draw = found
    return output(*draw(thing), said, label=label, frame=not isinstance(thing, JobView))


def text(thing: object, *, dated: bool = False) -> str:
    """Return the plain text that says the same as the panel."""
    if not isinstance(thing, JobView):
        return str(thing)
    said = loss.text(thing) if isinstance(thing, LossView) else progress.text(thing)
    said = said.replace("\u00a0", " ")  # which keeps a number and its unit together, and a search from finding them
    stamp = _stamp(thing) if dated else ""
    return f"{said}\n{stamp}" if stamp else said


def _stamp(thing: object) -> str:
    """Return of what time the picture of a job is that can still go on; "" for everything else."""
    if not isinstance(thing, JobView) or not (thing.active or thing.state == "paused"):
        return ""
    again = f"; %sft_watch {thing.job} shows it again" if isinstance(thing, LossView) else ""
    return f"As of {when(time.time())}{again}."
