"""The panel of a fine-tuning run: where it stands, its curves, what it says, and what to do if it did not end well."""

import math
import time
from collections.abc import Sequence

from sft_magics.core.records.stored import EpochRow
from sft_magics.core.views import LossView, Mark
from sft_magics.notebook.panels import badges, charts
from sft_magics.notebook.panels.charts import Chart, Curve
from sft_magics.notebook.panels.formats import count, duration, megabytes, number, rate, value
from sft_magics.notebook.panels.markup import Child, Safe, code, el, facts, head, join, muted, next_line, shorten
from sft_magics.notebook.panels.style import BLUE, GREEN, PURPLE, VERMILLION
from sft_magics.notebook.panels.tables import table

BLOCKING_HINT = "Interrupt the kernel to stop; it checkpoints first."
_QUIET_SECONDS = 10.0
_REMARKS = 8
_EPOCH_MARKS = 8
_OPEN = 10  # evaluations that are shown without a click
_INK = (GREEN, PURPLE)


def panel(view: LossView, *, blocking: bool = False, hint: str = "", now: float | None = None) -> list[Child]:
    """Return the parts of a run's panel; `now` is in seconds since the epoch.

    `blocking` says that the cell waits for the run; `hint` is another sentence on how to go on while it is active.
    """
    return [
        head(
            view.model or view.title or view.job,
            before=badges.badge("nothing learned", tone="warning") if view.concern else badges.badge(view.state),
            detail=_names(view),
            right=_where(view),
        ),
        _bar(view),
        _facts(view),
        _charts(view) if view.steps else None,
        _numbers(view),
        _edits(view),
        _remarks(view),
        _ending(view),
        _hint(view, BLOCKING_HINT if blocking else hint, now),
    ]


def text(view: LossView) -> str:
    """Return what the panel says as plain text: one line on where it stands, and a line for each thing to know."""
    loss = _finite(view.train)
    parts = [
        f"epoch {view.epoch:.2f} of {view.epochs:g}, step {view.step:,} of {view.steps:,}" if view.steps else "",
        f"loss {loss:.3f}" if loss is not None else "",
        f"validation {view.validation[-1][1]:.3f}" if view.validation else "",
        *(f"{name} {points[-1][1]:.3f}" for name, points in _metrics(view)),
        f"{view.rows_per_second:,.0f} rows/s" if view.active and view.rows_per_second else "",
        f"{duration(view.seconds_left)} left" if view.active and view.seconds_left else "",
        "" if view.active or not view.seconds else f"took {duration(view.seconds)}",
        f"behind {view.behind}" if view.behind else "",
        f"made {view.version}" if view.version else "",
    ]
    said = ", ".join(p for p in parts if p)
    state = f"{view.state}, nothing learned" if view.concern else view.state
    lines = [f"{view.job} {view.model} {state}".replace("  ", " ") + (f": {said}" if said else "")]
    lines += _rows_of_text(view)
    lines += [f"  edited from step {e.step:,} on{_by(e)}: {_whole(e)}" for e in view.edits[-_REMARKS:]]
    lines += [f"  {level}: {words}" for level, words in view.remarks[-_REMARKS:]]
    lines += [view.why] if view.why else []
    lines += [f"Next: {view.next_step}"] if view.next_step else []
    return "\n".join(lines)


def _names(view: LossView) -> Safe:
    made = join(" → ", el("strong", view.version)) if view.version else None
    return el("span", code(view.job), made)


def _where(view: LossView) -> Safe | None:
    if view.state == "queued":
        return el("span", "queued behind ", code(view.behind)) if view.behind else None
    if not view.steps:
        return muted(view.what or "waiting for its process") if view.active else None
    epochs = join("epoch ", el("strong", f"{view.epoch:.2f}"), f" of {view.epochs:g}")
    steps = join(" · step ", el("strong", count(view.step)), f" of {count(view.steps)}")
    return el("span", epochs, steps)


def _bar(view: LossView) -> Safe:
    ink = badges.color("warning" if view.concern else view.state)
    share = 100.0 * min(1.0, view.step / view.steps) if view.steps else 0.0
    filled = el("div", style=f"width:{share:.1f}%;background-color:{ink}")
    return el(
        "div", filled, class_="sft-p", role="progressbar", aria_label="training progress", aria_valuemin="0",
        aria_valuemax="100", aria_valuenow=f"{share:.0f}",
    )  # fmt: skip


def _facts(view: LossView) -> Safe | None:
    if view.started_at is None:
        return None
    elapsed = duration(view.seconds)
    machine = " · ".join(
        p for p in (view.device, view.precision, f"{view.threads} threads" if view.threads else "") if p
    )
    return facts(
        ("time left", duration(view.seconds_left) if view.steps and view.step else "–")
        if view.active
        else ("took", elapsed),
        ("elapsed", elapsed if view.active else None),
        ("learning rate", rate(view.rate) if view.rate else None),
        ("rows/s", count(view.rows_per_second) if view.rows_per_second else None),
        ("memory", megabytes(view.memory_mb) if view.memory_mb else None),
        ("rows", _rows(view)),
        ("batch", str(view.batch) if view.batch else None),
        ("padding", None if view.active or not view.padding_waste else f"{100 * view.padding_waste:.1f} %"),
        ("device", machine),
    )


def _rows(view: LossView) -> str | None:
    if not view.rows:
        return None
    return count(view.rows) + (f" + {count(view.validation_rows)}" if view.validation_rows else "")


def _charts(view: LossView) -> Safe:
    boundaries = _epoch_marks(view)
    resumed = [(float(step), "resumed", "went on from its checkpoint") for step in view.resumed_at]
    edited = [(float(e.step), _short(e), _whole(e)) for e in view.edits]
    loss = Chart(
        "Loss",
        [
            Curve("train", charts.smooth(view.train), BLUE, ghost=view.train),
            Curve("validation", view.validation, VERMILLION, dash="6 3", dots=True, ring=view.best_step),
        ],
        view.steps,
        marks=boundaries,
        flags=sorted([*resumed, *edited]),
        empty="the curve begins with the first step",
        y_limits=(0.0, math.inf),
    )  # fmt: skip
    shown = [(name, points) for name, points in _metrics(view) if name != "perplexity"]  # which no bound holds
    curves = [
        Curve(name, points, ink, dash=dash, dots=True, ring=view.best_step)
        for (name, points), ink, dash in zip(shown, _INK, (None, "4 3"), strict=False)
    ]
    title = ", ".join(c.name for c in curves) or "accuracy"
    quality = Chart(
        f"Validation {title}",
        curves,
        view.steps,
        width=296,
        right=max([114, *(52 + 7 * len(c.name) for c in curves)]),
        span=0.04,
        y_limits=(0.0, 1.0),
        empty="after the first epoch",
        marks=[(x, "") for x, _ in boundaries],
        flags=[(float(e.step), "", "") for e in view.edits],
    )  # fmt: skip
    # A sanitizer that drops SVG keeps its words: at no size they do not litter the page.
    hush = "font-size:0;line-height:0;flex:"
    cells = [
        el("div", charts.draw(loss), style=f"{hush}534 1 360px;max-width:534px"),
        el("div", charts.draw(quality), style=f"{hush}296 1 230px;max-width:296px"),
    ]
    return el("div", *cells, class_="sft-g")


def _epoch_marks(view: LossView) -> list[tuple[float, str]]:
    whole = math.floor(view.epochs)
    if view.epochs <= 1 or not view.steps:
        return []
    stride = max(1, math.ceil(whole / _EPOCH_MARKS))
    ends = range(stride, whole + 1, stride)
    return [(view.steps * k / view.epochs, f"epoch {k}" if k == stride else str(k)) for k in ends]


def _metrics(view: LossView) -> list[tuple[str, list[tuple[float, float]]]]:
    """Return at most two curves of quality: accuracy and f1 where there are such."""
    ranked = sorted(view.metrics.items(), key=lambda item: ("accuracy", "f1", item[0]).index(item[0]))
    return [(name, points) for name, points in ranked if points][:2]


def _edits(view: LossView) -> Safe | None:
    items = [
        badges.note("info", f"Edited from step {count(e.step)} on{_by(e)}: ", shorten(_whole(e), 300), ".")
        for e in view.edits[-_REMARKS:]
    ]
    return badges.notes(*items) if items else None


def _by(edit: Mark) -> str:
    return f" by {shorten(edit.who, 60)}" if edit.who else ""


def _short(edit: Mark) -> str:
    """Return what fits beside a line: the new values."""
    return shorten(", ".join(f"{name.replace('_', ' ')} {value(new)}" for name, (_, new) in edit.changes.items()), 34)


def _whole(edit: Mark) -> str:
    """Return what each option was and is."""
    moved = (f"{name.replace('_', ' ')} {value(old)} → {value(new)}" for name, (old, new) in edit.changes.items())
    return ", ".join(moved)


def _remarks(view: LossView) -> Safe | None:
    items = [badges.note(level, shorten(words, 600)) for level, words in view.remarks[-_REMARKS:]]
    if len(view.remarks) > _REMARKS:
        items.insert(0, badges.note("info", f"and {len(view.remarks) - _REMARKS} remarks before these"))
    return badges.notes(*items) if items else None


def _ending(view: LossView) -> Safe | None:
    lines: list[Safe] = []
    if view.version:
        best = f", the best weights, of step {count(view.best_step)}" if view.best_step is not None else ""
        lines.append(el("p", "Made ", el("strong", view.version), best, "."))
    elif view.checkpoint_step is not None:
        lines.append(el("p", muted(f"Newest checkpoint: step {count(view.checkpoint_step)}.")))
    if view.why:
        lines.append(el("p", shorten(view.why, 2000), class_="sft-u"))
    lines += [line] if (line := next_line(view.next_step)) else []
    return el("div", *lines) if lines else None


def _hint(view: LossView, hint: str, now: float | None) -> Safe | None:
    if not view.active:
        return None
    words = [hint] if hint else []
    silent = (time.time() if now is None else now) - view.heard_at if view.heard_at is not None else 0.0
    if silent > _QUIET_SECONDS and view.state == "running":
        words.insert(0, f"Last heard {duration(silent)} ago.")
    return el("p", muted(" ".join(words))) if words else None


def _numbers(view: LossView) -> Safe | None:
    """Return the evaluations as a table, a row each: open where they are few."""
    found = view.evaluated()
    if not found:
        return None
    names = _names_of_metrics(found)
    rows: list[Sequence[Child]] = [
        [
            join(f"{e.epoch:.4g}", " ", badges.tag("best")) if e.best else f"{e.epoch:.4g}",
            count(e.step), _loss(e.train_loss), _loss(e.validation_loss),
            *(_loss(e.metrics.get(name)) for name in names), duration(e.seconds),
        ]
        for e in found
    ]  # fmt: skip
    heads = ["epoch#", "step#", "train loss#", "validation loss#", *(f"{n.replace('_', ' ')}#" for n in names), "time#"]
    words = el("summary", f"Evaluations: {len(found)}")
    return el(
        "details",
        words,
        table("Measured on the validation rows", heads, rows),
        open="open" if len(found) <= _OPEN else None,
    )


def _names_of_metrics(found: Sequence[EpochRow]) -> list[str]:
    return list(dict.fromkeys(name for e in found for name in e.metrics))


def _loss(value: float | None) -> str | None:
    return None if value is None or not math.isfinite(value) else number(value)


def _rows_of_text(view: LossView) -> list[str]:
    """Return the table of evaluations as text: the newest, and the best."""
    found = view.evaluated()
    if len(found) < 2:
        return []
    names = _names_of_metrics(found)
    heads = ["epoch", "train", "validation", *names, "time"]
    rows = [
        [
            f"{e.epoch:.4g}", *(_loss(v) or "–" for v in (e.train_loss, e.validation_loss)),
            *(_loss(e.metrics.get(n)) or "–" for n in names), duration(e.seconds) + " best" * e.best,
        ]
        for e in found if e.best or e in found[-_OPEN:]
    ]  # fmt: skip
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    return ["  " + "  ".join(map(str.ljust, row, widths)).rstrip() for row in (heads, *rows)]


def _finite(points: Sequence[tuple[float, float]]) -> float | None:
    """Return the newest finite value of the smoothed curve's last points."""
    tail = charts.smooth(points[-200:])
    return tail[-1][1] if tail else None
