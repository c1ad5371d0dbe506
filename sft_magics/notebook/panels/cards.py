"""The model card, and what the other verbs of version control return: exports, collections, reproductions."""

from sft_magics.core.records import Change, CollectableItem, Collection, Exported, HistoryEntry, ModelCard, Reproduction
from sft_magics.notebook.panels import badges, diff, endpoint, versions
from sft_magics.notebook.panels.formats import duration, size
from sft_magics.notebook.panels.markup import Child, Safe, code, el, facts, head, join, muted, next_line, shorten
from sft_magics.notebook.panels.tables import listing, stamp, table

_MOMENTS = ("when", "who", "what", "of", "reason")
_GARBAGE = ("what", "size#", "why")


def card(found: ModelCard) -> list[Child]:
    """Return the parts of a model card: quality, lineage and use first, then how it was made, and its history."""
    arrows = join(*(join(muted(" → ") if i else None, shorten(step, 120)) for i, step in enumerate(found.lineage)))
    return [
        *versions.top(found.version),
        facts(
            ("lineage", arrows),
            (
                "intended use",
                shorten(found.intended_use, 1000) or muted("not stated: %sft_tag writes intended-use=..."),
            ),
            ("versions made from it", ", ".join(found.children[:20])),
            ("written to", found.written_to),
        ),
        *versions.details(found.version),
        table("Endpoints", endpoint.HEADS, endpoint.rows(found.endpoints)) if found.endpoints else None,
        _history(found.moments),
    ]


def _history(moments: tuple[HistoryEntry, ...]) -> Safe | None:
    if not moments:
        return None
    rows = [_moment(m) for m in moments]
    return el("details", el("summary", "History"), table("History", _MOMENTS, rows))


def _moment(found: HistoryEntry) -> list[Child]:
    return [
        stamp(found.at), found.who, found.action, shorten(found.what, 120),
        shorten(found.reason, 120) or None,
    ]  # fmt: skip


def moment(found: HistoryEntry) -> list[Child]:
    """Return one moment of a version's history."""
    return [table("A moment", _MOMENTS, [_moment(found)])]


def exported(found: Exported) -> list[Child]:
    """Return where a version was written."""
    return [
        head(found.version, before=badges.tag("exported"), right=muted(size(found.bytes))),
        facts(("to", code(shorten(found.path, 300))), ("as", found.kind)),
        next_line(found.next_step),
    ]


def collection(found: Collection) -> list[Child]:
    """Return what was removed, or would be, and what was kept although it is old."""
    title = f"{'Freed' if found.done else 'Would free'} {size(found.bytes)}"
    return [
        el("p", el("strong", title, class_="sft-h")),
        listing("Nobody needs", _GARBAGE, [_garbage(g) for g in found.garbage], "everything is needed"),
        table("Kept", _GARBAGE, [_garbage(g) for g in found.kept]) if found.kept else None,
        next_line(found.next_step),
    ]


def _garbage(found: CollectableItem) -> list[Child]:
    return [shorten(found.what, 120), size(found.bytes), shorten(found.why)]


def garbage(found: CollectableItem) -> list[Child]:
    """Return one thing that nobody needs."""
    return [table("Garbage", _GARBAGE, [_garbage(found)])]


def reproduction(found: Reproduction) -> list[Child]:
    """Return how a recipe that was run again agrees with what it made first."""
    changed: list[Change] = [*found.metrics, *found.environment]
    state = badges.badge("ok" if found.same_weights or found.same_metrics else "warning")
    rows = [diff.change_row(c) for c in changed]
    return [
        head(found.version, before=state, detail=muted("made again"), right=muted(duration(found.seconds))),
        el("p", el("strong", shorten(found.verdict, 1000)), class_="sft-u"),
        table("What differs", ("name", "first", "again"), rows) if rows else None,
    ]
