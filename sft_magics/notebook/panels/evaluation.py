"""An evaluation: per class with 95 % intervals, the confusion matrix, and what it was most wrongly sure of."""

from collections.abc import Mapping, Sequence

from sft_magics.core.records import Evaluation, Metric
from sft_magics.core.tasks import CLASSIFIERS, SEMANTIC_SEGMENTATION, TEXT_CLASSIFICATION, headlines, per_class
from sft_magics.notebook.panels import badges, gallery, overlap
from sft_magics.notebook.panels.formats import count, duration, percent
from sft_magics.notebook.panels.marks import measured
from sft_magics.notebook.panels.markup import Child, Safe, columns, el, facts, head, muted, named, section, shorten
from sft_magics.notebook.panels.predictions import confidence
from sft_magics.notebook.panels.style import BLUE, GREEN, PURPLE
from sft_magics.notebook.panels.subjects import subject
from sft_magics.notebook.panels.tables import table

_MATRIX = 16
_INKS = {"precision": PURPLE, "recall": BLUE}
_RIGHT, _WRONG = "0,114,178", "213,94,0"


def card(found: Evaluation) -> list[Child]:
    """Return the parts of an evaluation."""
    support = [sum(row) for row in found.confusion]
    unit = "pixels" if found.task == SEMANTIC_SEGMENTATION else "rows"
    names = dict.fromkeys((*headlines(found.task)[:1], "precision", "recall", *headlines(found.task)))
    overall = [(name, measured(found.metrics[name], wide=False)) for name in names if name in found.metrics]
    where = muted(f"on {found.data}, {found.split} rows, n = {count(found.n)}")
    return [
        head(found.version, detail=where, right=muted(f"took {duration(found.seconds)}") if found.seconds else None),
        overlap.notes(found.overlap, found.findings),
        facts(*overall),
        badges.notes(*(badges.note("ok" if gate.passed else "problem", str(gate)) for gate in found.gates)),
        classes(found.metrics, found.labels, support, found.task) if found.labels else None,
        columns(matrix(found.labels, found.confusion, unit)) if found.confusion else None,
        _worst(found),
    ]


def classes(
    metrics: Mapping[str, Metric], labels: Sequence[str], support: Sequence[int] = (), task: str = TEXT_CLASSIFICATION
) -> Safe:
    """Return the table of classes: the task's metrics of each, with their 95 % intervals where there are such."""
    inks = {name: _INKS.get(name, GREEN) for name in per_class(task)}
    rows = [
        [
            named(label),
            *([count(support[i])] if support else []),
            *(measured(metrics.get(f"{name}[{label}]"), color=ink) for name, ink in inks.items()),
        ]
        for i, label in enumerate(labels)
    ]
    heads = ["class", *(["pixels#" if task == SEMANTIC_SEGMENTATION else "rows#"] if support else []), *inks]
    return table("Per class, with 95 % intervals", heads, rows)


def matrix(labels: Sequence[str], counts: Sequence[Sequence[int]], unit: str = "rows") -> Safe:
    """Return the confusion matrix as a shaded table, or its largest mistakes where there are many classes."""
    if len(labels) > _MATRIX:
        return _mistakes(labels, counts)
    short = [shorten(label, 24) for label in labels]
    corner = el("td", muted("truth ↓ predicted →"))
    top = el("tr", corner, *(el("th", name, scope="col", class_="sft-u") for name in short))
    body = []
    for i, name in enumerate(short):
        total = sum(counts[i])
        cells = [_shaded(n, total, i == j, short[j]) for j, n in enumerate(counts[i])]
        body.append(el("tr", el("th", name, scope="row", class_="sft-u"), *cells))
    inner = [el("caption", f"Confusion matrix, in {unit}"), el("thead", top), el("tbody", *body)]
    return el("div", el("table", *inner, class_="sft-q"), class_="sft-x")


def _shaded(n: int, total: int, right: bool, predicted: str) -> Safe:
    share = n / total if total else 0.0
    alpha = 0.0 if n == 0 else 0.08 + 0.42 * share
    words = f"{percent(share)} of the row predicted as {predicted}"
    style = f"background-color:rgba({_RIGHT if right else _WRONG},{alpha:.2f});text-align:right"
    return el("td", el("strong", count(n)) if right else count(n), style=style, title=words)


def _mistakes(labels: Sequence[str], counts: Sequence[Sequence[int]]) -> Safe:
    pairs = [
        (n, labels[i], labels[j], n / (sum(row) or 1))
        for i, row in enumerate(counts)
        for j, n in enumerate(row)
        if i != j and n
    ]
    pairs.sort(key=lambda p: -p[0])
    rows: list[list[Child]] = [
        [shorten(t, 80), shorten(p, 80), count(n), percent(share)] for n, t, p, share in pairs[:20]
    ]
    return table("The most frequent mistakes", ("truth", "predicted as", "rows#", "share of the class#"), rows)


def _worst(found: Evaluation) -> Safe | None:
    if not found.worst:
        return None
    if found.task not in CLASSIFIERS:
        masked = found.labels if found.task == SEMANTIC_SEGMENTATION else ()
        return gallery.shown(found.worst, "Answered worst", masked)
    rows: list[list[Child]] = [
        [subject(p.text, p.picture), shorten(p.truth or "", 80), shorten(p.label, 80), confidence(p)]
        for p in found.worst
    ]
    what = "image" if any(p.picture for p in found.worst) else "text"
    return section("", table("Most confidently wrong", (what, "truth", "predicted", "confidence"), rows))
