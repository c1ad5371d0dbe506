"""Versions: the table of a model's line, and the card of one."""

import math
from collections.abc import Sequence

from sft_magics.core.records import Metric, Version
from sft_magics.core.tasks import headlines
from sft_magics.notebook.panels import badges, overlap
from sft_magics.notebook.panels.evaluation import classes
from sft_magics.notebook.panels.formats import count, number, size, when
from sft_magics.notebook.panels.marks import interval, measured
from sft_magics.notebook.panels.markup import Child, Safe, code, el, facts, head, join, muted, section, shorten
from sft_magics.notebook.panels.options import options
from sft_magics.notebook.panels.tables import stamp

HEADS = ("version", "quality", "?2nd metric#", "data", "?from", "made", "size, added#", "state", "note")


def rows(versions: Sequence[Version]) -> list[list[Child]]:
    """Return the rows of the table of versions."""
    return [
        [
            join(el("strong", v.ref, class_="sft-k"), " ", aliases(v)),
            _quality(v, headlines(v.task)[0]), _beside(v, headlines(v.task)[1]), _data(v),
            v.parent or muted("base"), stamp(v.created_at),
            join(el("span", size(v.size), class_="sft-k"), " ", _added(v)), _state(v),
            _words(v),
        ]
        for v in versions
    ]  # fmt: skip


def _words(version: Version) -> Safe | None:
    """Return what is to be known of a version in words: that it learned nothing, and its note."""
    useless = el("span", badges.badge("nothing learned", tone="warning"), title=version.concern)
    note = el("span", shorten(version.note, 60), class_="sft-u") if version.note else None
    return join(useless, " ", note) if version.concern else note


def _quality(version: Version, name: str) -> Safe | None:
    """Return one of the numbers that speak for a version, with its name: a table may hold versions of other tasks."""
    found = measured(version.metrics.get(name), wide=False)
    return el("span", muted(f"{name} "), found, class_="sft-k") if found else None


def _beside(version: Version, name: str) -> Safe | None:
    """Return the second of the numbers, without its interval: a table has no room for two."""
    found = version.metrics.get(name)
    if found is None or math.isnan(found.value):
        return None
    return el("span", muted(f"{name} "), number(found.value), class_="sft-k", title=interval(found))


def _added(version: Version) -> Safe:
    return el("span", muted(f"+{size(version.added)}"), class_="sft-k")


def _data(version: Version) -> Safe:
    """Return the data's name, and the beginning of its fingerprint: the same name may hold other rows one day."""
    return join(shorten(version.data, 40), " ", el("code", version.data_fingerprint[:7], class_="sft-m"))


def aliases(version: Version) -> Safe | None:
    """Return a version's aliases as tags."""
    tags = [badges.tag(f"@{a}") for a in version.aliases]
    return join(*(join(t, " ") for t in tags)) if tags else None


def _state(version: Version) -> Safe:
    after = muted(f" → {version.successor}") if version.successor else None
    return join(badges.badge(version.status), after)


def card(version: Version) -> list[Child]:
    """Return the parts of one version's card: quality, where it comes from, how it was made."""
    return [*top(version), *details(version)]


def top(version: Version) -> list[Child]:
    """Return the parts that are read first: the version, its quality, where it comes from, its note."""
    overall = [m for key in (*headlines(version.task), "loss") if (m := version.metrics.get(key))]
    return [
        head(
            version.ref,
            before=badges.badge(version.status),
            detail=aliases(version),
            right=muted(when(version.created_at)),
        ),
        facts(
            *((m.name, measured(m, wide=False)) for m in overall),
            ("data", version.data),
            ("fine-tuned from", version.parent or "the base weights"),
            ("run", code(version.run)),
            ("size", join(size(version.size), muted(f", {size(version.added)} added"))),
            ("successor", version.successor),
        ),
        overlap.notes(version.overlap) if version.overlap else None,
        badges.notes(badges.note("warning", shorten(version.concern, 600))) if version.concern else None,
        el("p", shorten(version.note, 1000), class_="sft-u") if version.note else None,
    ]


def details(version: Version) -> list[Child]:
    """Return the parts that are looked up: each class, tags, options, environment, cells."""
    return [
        classes(version.metrics, version.labels, task=version.task) if _has_classes(version.metrics) else None,
        options(dict(version.tags), "Tags"),
        options(version.options),
        options(version.environment, "Environment"),
        _cells(version.cells),
    ]


def _has_classes(metrics: dict[str, Metric]) -> bool:
    return any(m.label is not None and m.name == "recall" for m in metrics.values())


def _cells(cells: Sequence[str]) -> Safe | None:
    if not cells:
        return None
    shown = [el("pre", c[:1000]) for c in cells[-12:]]
    title = (
        f"The {count(len(cells))} notebook cells that led here" if len(cells) > 1 else "The notebook cell that led here"
    )
    return el("details", el("summary", title), section(f"The last {len(shown)}", *shown))
