"""A dataset's profile: rows, classes in each split, text lengths, what the checks found, and examples."""

from collections.abc import Sequence

from sft_magics.core.records import Dataset, Example, Finding
from sft_magics.core.tasks import CAUSAL_LM, OBJECT_DETECTION, SEMANTIC_SEGMENTATION
from sft_magics.notebook.panels import badges
from sft_magics.notebook.panels.formats import count, percent, when
from sft_magics.notebook.panels.marks import bar, histogram
from sft_magics.notebook.panels.markup import (
    Child,
    Safe,
    code,
    columns,
    el,
    facts,
    head,
    join,
    muted,
    named,
    section,
    shorten,
)
from sft_magics.notebook.panels.style import BLUE, GREEN, PURPLE
from sft_magics.notebook.panels.subjects import framed, grid, legend, subject
from sft_magics.notebook.panels.tables import stamp, table

HEADS = ("dataset", "train#", "validation#", "classes", "source", "fingerprint", "findings", "made")
_INKS = (BLUE, GREEN, PURPLE)


def rows(datasets: Sequence[Dataset]) -> list[list[Child]]:
    """Return the rows of the table of datasets."""
    return [
        [
            el("strong", d.ref, class_="sft-k"), count(d.counts.get("train", 0)), count(d.counts.get("validation", 0)),
            shorten(", ".join(d.labels) or d.task, 60), shorten(d.source, 60), code(d.fingerprint[:12]),
            _worst(d.findings),
            stamp(d.created_at),
        ]
        for d in datasets
    ]  # fmt: skip


def _worst(findings: Sequence[Finding]) -> Safe | None:
    for level in ("error", "warning"):
        if n := sum(f.level == level for f in findings):
            return el("span", badges.icon(level), f" {n} {level}{'s' if n > 1 else ''}", class_="sft-k")
    return None


def card(dataset: Dataset) -> list[Child]:
    """Return the parts of a dataset's profile card."""
    splits = [(name, count(n)) for name, n in dataset.counts.items()]
    return [
        head(dataset.ref, detail=muted(dataset.task), right=muted(when(dataset.created_at))),
        facts(
            *splits,
            ("classes", count(len(dataset.labels)) if dataset.labels else None),
            ("fingerprint", code(dataset.fingerprint[:12])),
            ("source", shorten(dataset.source, 120)),
            *((f"{role} column", column) for role, column in dataset.columns.items()),
            ("made from", ", ".join(dataset.parents)),
            ("license", dataset.license),
        ),
        _findings(dataset.findings),
        columns(_classes(dataset) if dataset.labels else None, _lengths(dataset)),
        _examples(dataset.examples, dataset.task),
        legend(dataset.labels) if dataset.task == SEMANTIC_SEGMENTATION else None,
    ]


def finding(found: Finding) -> Safe:
    """Return a finding as one line."""
    return badges.note(found.level, found.message)


def _findings(findings: Sequence[Finding]) -> Safe | None:
    if not findings:
        return el("p", badges.icon("ok"), " The checks found nothing to worry about.")
    ranked = sorted(findings, key=lambda f: ("error", "warning", f.level).index(f.level))
    return badges.notes(*map(finding, ranked))


def _classes(dataset: Dataset) -> Safe:
    """Return, for each class, its share of each split."""
    splits = list(dataset.class_counts)
    rows: list[list[Child]] = []
    for label in dataset.labels:
        row: list[Child] = [named(label, 60)]
        for ink, split in zip(_INKS, splits, strict=False):
            n, total = dataset.class_counts[split].get(label, 0), sum(dataset.class_counts[split].values())
            share = n / total if total else 0.0
            words = f"{shorten(label, 60)}: {count(n)} of {split}, {percent(share)}"
            row.append(
                join(
                    bar(share, words, color=ink, width=70),
                    " ",
                    el("span", count(n), muted(f" {percent(share)}"), class_="sft-k"),
                )
            )
        rows.append(row)
    return table("Classes", ["class", *splits[: len(_INKS)]], rows)


def _lengths(dataset: Dataset) -> Safe | None:
    alike = dataset.of_images and dataset.lengths[-1:] == (sum(dataset.lengths),)
    if not dataset.lengths or not dataset.length_edges or alike:
        return None
    title, unit = ("Pixels of the shorter side", "pixels") if dataset.of_images else ("Words a text", "words")
    return section(title, histogram(dataset.lengths, dataset.length_edges, unit))


def _examples(examples: Sequence[Example], task: str) -> Safe | None:
    if not examples:
        return None
    if task in (OBJECT_DETECTION, SEMANTIC_SEGMENTATION):
        return section("Examples", grid(_marked(e) for e in examples))
    most = 200 if task == CAUSAL_LM else 60
    rows: list[list[Child]] = [
        [subject(e.text, e.picture), shorten(e.label, most), badges.tag(e.split) if e.split else None] for e in examples
    ]
    what = "image" if any(e.picture for e in examples) else "text"
    heads = ("prompt", "answer", "split") if task == CAUSAL_LM else (what, "label", "split")
    return table("Examples", heads, rows)


def _marked(found: Example) -> Safe:
    """Return a picture with what is marked in it, and in words."""
    split = badges.tag(found.split) if found.split else None
    said = el("div", shorten(found.label, 60), " ", split)
    return framed(found.text, found.picture, said)


def example(found: Example) -> list[Child]:
    """Return the parts of a single example."""
    split = badges.tag(found.split) if found.split else None
    return [head(shorten(found.label, 80), detail=split), el("p", subject(found.text, found.picture, 600))]
