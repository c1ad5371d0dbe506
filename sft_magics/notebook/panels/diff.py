"""What changed between two versions: metrics on the same rows, flipped answers, the making, the layers."""

from collections.abc import Sequence

from sft_magics.core.records import Change, ChangedPrediction, Diff, GateResult, LayerChange, MetricChange, Promotion
from sft_magics.notebook.panels import badges, overlap
from sft_magics.notebook.panels.formats import count, number, percent
from sft_magics.notebook.panels.marks import bar, measured
from sft_magics.notebook.panels.markup import Child, Safe, code, el, head, join, muted, next_line, shorten
from sft_magics.notebook.panels.style import BLUE, PURPLE
from sft_magics.notebook.panels.subjects import subject
from sft_magics.notebook.panels.tables import table

_METRICS = ("metric", "before", "after", "difference#", "95 % interval", "p-value#", "test")
_LAYERS = ("block", "moved by", "norm of the change#", "parameters#")


def card(found: Diff) -> list[Child]:
    """Return the parts of a difference."""
    return [
        head(f"{found.before} → {found.after}", detail=muted(_where(found))),
        el("p", el("strong", shorten(found.verdict, 1000)), class_="sft-u"),
        overlap.notes(found.overlap),
        *parts(found),
        next_line(found.next_step),
    ]


def parts(found: Diff) -> list[Child]:
    """Return the tables of a difference, without its head and verdict."""
    return [
        table("Metrics on the same rows", _METRICS, [metric_row(m) for m in found.metrics]) if found.metrics else None,
        _flips(f"Broke {count(found.broke)}", found.broken, found.broke, opened=True),
        _flips(f"Fixed {count(found.fixed)}", found.mended, found.fixed, opened=False),
        _changes(found),
        _layers(found.layers),
    ]


def _where(found: Diff) -> str:
    return f"on {count(found.n)} rows of {shorten(found.rows, 80)}" if found.n else "without predictions"


def metric_row(found: MetricChange) -> list[Child]:
    """Return one metric as a row."""
    return [
        found.name, measured(found.before, color=BLUE, width=52), measured(found.after, color=PURPLE, width=52),
        f"{found.difference:+.3f}", el("span", f"{found.low:+.3f} to {found.high:+.3f}", class_="sft-k"),
        code(f"{found.p_value:.2g}"), found.test,
    ]  # fmt: skip


def metric(found: MetricChange) -> list[Child]:
    """Return a single metric's table."""
    return [table("A metric on the same rows", _METRICS, [metric_row(found)])]


def _flips(title: str, flips: Sequence[ChangedPrediction], total: int, *, opened: bool) -> Safe | None:
    if not flips:
        return None
    rows: list[list[Child]] = [_flip(f) for f in flips]
    what = "image" if any(f.before.picture for f in flips) else "text"
    drawn = table(title, (what, "truth", "before", "after"), rows, limit=len(rows), total=total)
    return drawn if opened else el("details", el("summary", title), drawn)


def _flip(found: ChangedPrediction) -> list[Child]:
    return [
        subject(found.text, found.before.picture), shorten(found.truth, 60),
        join(shorten(found.before.label, 60), muted(f" {percent(found.before.confidence)}")),
        join(shorten(found.after.label, 60), muted(f" {percent(found.after.confidence)}")),
    ]  # fmt: skip


def flip(found: ChangedPrediction) -> list[Child]:
    """Return a single flipped answer."""
    return [table("A flipped answer", ("text", "truth", "before", "after"), [_flip(found)])]


def _changes(found: Diff) -> Safe | None:
    groups = (("option", found.options), ("data", found.data), ("environment", found.environment))
    rows: list[list[Child]] = [[kind, *change_row(c)] for kind, changes in groups for c in changes]
    if not rows:
        return el("p", muted("Options, data and environment are the same."))
    return table("How they were made", ("of", "name", "before", "after"), rows)


def change_row(found: Change) -> list[Child]:
    """Return one change as name, before, after."""
    return [shorten(found.name, 80), shorten(found.before, 120) or None, shorten(found.after, 120) or None]


def change(found: Change) -> list[Child]:
    """Return a single change."""
    return [table("A change", ("name", "before", "after"), [change_row(found)])]


def _layers(layers: Sequence[LayerChange]) -> Safe | None:
    if not layers:
        return None
    most = max(layer.relative for layer in layers) or 1.0
    drawn = table("How far the weights moved", _LAYERS, [_layer(layer, most) for layer in layers])
    return el("details", el("summary", "How far the weights moved, block by block"), drawn)


def _layer(found: LayerChange, most: float) -> list[Child]:
    words = f"{found.block} moved by {percent(found.relative)} of its norm"
    return [
        code(shorten(found.block, 80)), join(bar(found.relative / most, words), " ", percent(found.relative)),
        number(found.norm), count(found.parameters),
    ]  # fmt: skip


def layer(found: LayerChange) -> list[Child]:
    """Return a single block's change."""
    return [table("How far a block moved", _LAYERS, [_layer(found, found.relative or 1.0)])]


def promotion(found: Promotion) -> list[Child]:
    """Return the parts of a promotion or a rollback."""
    done = "rolled back" if found.action == "rollback" else "promoted"
    went = f"endpoint {', '.join(found.endpoints)} answers with it" if found.endpoints else ""
    gates = table("Gates", ("gate", "result", "seen"), [_gate(g) for g in found.gates]) if found.gates else None
    shown = (
        [el("p", el("strong", shorten(found.diff.verdict, 1000)), class_="sft-u"), overlap.notes(found.diff.overlap)]
        if found.diff
        else []
    )
    more = [el("details", el("summary", "What changes with it"), *parts(found.diff))] if found.diff else []
    return [
        head(
            f"{found.model}@{found.alias}: {found.before or 'nothing'} → {found.after}",
            before=badges.tag(done),
            detail=muted(went) if went else None,
        ),
        el("p", shorten(found.reason, 1000), class_="sft-u") if found.reason else None,
        gates,
        *shown,
        *more,
        next_line(found.next_step),
    ]


def _gate(found: GateResult) -> list[Child]:
    return [code(shorten(found.gate, 80)), "passed" if found.passed else el("strong", "failed"), shorten(found.seen)]


def gate(found: GateResult) -> list[Child]:
    """Return a single gate's result."""
    return [table("A gate", ("gate", "result", "seen"), [_gate(found)])]
