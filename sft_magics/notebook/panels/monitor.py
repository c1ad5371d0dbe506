"""The monitor: traffic, latency, how the mix of answers has moved, quality from feedback, and alerts."""

from sft_magics.core.records import Alert, Feedback, Report
from sft_magics.notebook.panels import alerts, badges, overlap
from sft_magics.notebook.panels.evaluation import classes
from sft_magics.notebook.panels.formats import count, general, milliseconds, number, percent, when
from sft_magics.notebook.panels.marks import measured, share_cell, sparkline
from sft_magics.notebook.panels.markup import (
    Child,
    Safe,
    code,
    columns,
    el,
    facts,
    head,
    muted,
    named,
    next_line,
    section,
    shorten,
)
from sft_magics.notebook.panels.style import BLUE, GREEN, PURPLE, VERMILLION
from sft_magics.notebook.panels.tables import listing, table

_SERIES = {"requests": BLUE, "confidence": PURPLE, "p95": VERMILLION, "accuracy": GREEN}
_UNKNOWN = 10


def card(report: Report) -> list[Child]:
    """Return the parts of a report."""
    return [
        head(
            report.endpoint,
            before=_badge(report),
            detail=muted(f"answers with {report.version}"),
            right=_period(report),
        ),
        facts(
            ("requests", count(report.requests)),
            ("refused", count(report.errors)),
            ("labeled", count(report.labeled)),
            *((name, milliseconds(value)) for name, value in report.latency_ms.items()),
            ("of the median", _parts(report.parts_ms)),
            ("asked in bulk", _bulk(report.bulk)),
            ("mean confidence", _against(report.confidence, report.reference_confidence)),
            ("drift", None if report.drift is None else number(report.drift)),
            ("accuracy", measured(report.metrics.get("accuracy"), wide=False)),
        ),
        overlap.notes(report.overlap),
        columns(_mix(report), _series(report)),
        _quality(report),
        listing(
            "Alerts", alerts.HEADS, alerts.rows(report.alerts), f'none; %sft_alert {report.endpoint} "accuracy < 0.8"'
        ),
        next_line(report.next_step),
    ]


def feedback(taken: Feedback) -> list[Child]:
    """Return the parts of what feedback took in."""
    shown = ", ".join(taken.unknown[:_UNKNOWN])
    left = f"{count(len(taken.unknown))} ids are not known to this endpoint and were left out: {shown}" + (
        ", …" if len(taken.unknown) > _UNKNOWN else ""
    )
    mended = f", {count(taken.mended)} of them spelled otherwise" if taken.mended else ""
    overall = [
        (name, measured(taken.metrics[name], wide=False)) for name in ("accuracy", "f1") if name in taken.metrics
    ]
    return [
        head(
            taken.endpoint,
            before=badges.badge(_worst(taken.alerts)),
            detail=muted(f"{count(taken.added)} labels taken{mended}"),
        ),
        facts(*overall) if overall else None,
        overlap.notes(taken.overlap),
        badges.notes(badges.note("warning", left)) if taken.unknown else None,
        badges.notes(badges.note("warning", taken.refused)) if taken.refused else None,
        listing("Alerts", alerts.HEADS, alerts.rows(taken.alerts), "none"),
        next_line(taken.next_step),
    ]


def _parts(parts: dict[str, float]) -> str | None:
    """Return where the time of a lone request goes."""
    return ", ".join(f"{name} {milliseconds(ms)}" for name, ms in parts.items()) or None


def _bulk(bulk: dict[str, float]) -> str | None:
    """Return how long answers take that are asked many in a request."""
    if not bulk:
        return None
    each, waited = milliseconds(bulk["ms_an_input"]), milliseconds(bulk["queue_ms"])
    return f"{count(int(bulk['answers']))} answers, {each} each after {waited} in the queue"


def _worst(found: tuple[Alert, ...]) -> str:
    states = {a.state for a in found}
    return "firing" if "firing" in states else "ok"


def _badge(report: Report) -> Safe:
    return badges.badge("no data" if report.requests == 0 else _worst(report.alerts))


def _period(report: Report) -> Safe | None:
    if report.first_at is None:
        return None
    return muted(f"{when(report.first_at)} to {when(report.last_at)}")


def _against(value: float | None, reference: float | None) -> Safe | None:
    if value is None:
        return None
    return el("span", number(value), muted(f" was {number(reference)}") if reference is not None else None)


def _mix(report: Report) -> Safe | None:
    """Return the share of each answer now, with a line where it stood on the version's validation rows."""
    labels = list(dict.fromkeys([*report.class_mix, *report.reference_mix]))
    if not labels or not report.class_mix:
        return None
    rows: list[list[Child]] = []
    for label in labels:
        reference = report.reference_mix.get(label)
        was = None if reference is None else percent(reference)
        rows.append(
            [named(label, 60), share_cell(report.class_mix.get(label, 0.0), shorten(label, 60), mark=reference), was]
        )
    found = table("Mix of answers", ("class", "now", "in validation#"), rows)
    drift = (
        None
        if report.drift is None
        else el("p", muted(f"Drift {number(report.drift)}: the share of answers that moved (total variation)."))
    )
    return el("div", found, drift)


def _series(report: Report) -> Safe | None:
    rows: list[list[Child]] = []
    for name, ink in _SERIES.items():
        values = report.series.get(name) or []
        known = [v for v in values if v is not None]
        if known:
            rows.append(["p95, ms" if name == "p95" else name, sparkline(values, name, color=ink), general(known[-1])])
    return (
        table("From the first request to the newest", ("number", "slices of equally many requests", "now#"), rows)
        if rows
        else None
    )


def _quality(report: Report) -> Safe | None:
    labels = [m.label for m in report.metrics.values() if m.name == "recall" and m.label is not None]
    if not labels:
        hint = code(f"%sft_feedback {report.endpoint} LABELS")
        return section("Quality", el("p", muted("No feedback yet: "), hint, muted(" tells it the right labels.")))
    return classes(report.metrics, labels)
