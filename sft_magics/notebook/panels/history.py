"""Tables of rows this room has no record for: the audit log, and whatever a table may hold one day."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from sft_magics.core.records import AliasAt, Table
from sft_magics.notebook.panels.markup import Child, Safe, el, join, muted, shorten
from sft_magics.notebook.panels.tables import listing, stamp

_HEADS = ("when", "who", "what", "of", "before → after", "reason", "cell")
ALIASES = ("alias", "version", "since", "by", "reason")


def history(found: Table) -> Safe:
    """Return the audit log, in the order given."""
    return listing("History", _HEADS, [_change(row) for row in found.rows], "nothing was changed yet")


def _change(row: Any) -> list[Child]:
    return [
        stamp(row.at),
        f"{row.who}@{row.host}",
        row.action,
        el("strong", row.subject),
        _moved(row),
        shorten(row.reason, 120) or None,
        el("span", muted(shorten(row.cell, 60)), class_="sft-u") if row.cell else None,
    ]


def _moved(row: Any) -> Child:
    """Return what an entry changed; a look at test rows changes nothing, and its `after` says what was looked at."""
    if row.action == "test":
        return shorten(row.after, 120)
    return join(_short(row.before), " → ", _short(row.after))


def aliases(rows: Sequence[AliasAt]) -> list[list[Child]]:
    """Return the rows of the table of what aliases named at some moment."""
    return [
        [
            el("strong", f"{row.model}@{row.alias}"), row.version, stamp(row.since), row.who,
            shorten(row.reason, 120) or None,
        ]
        for row in rows
    ]  # fmt: skip


def _short(value: str | None) -> Child:
    return muted("nothing") if value is None else shorten(value, 60)


def generic(found: Table) -> Safe:
    """Return a table of any rows: dataclasses and mappings by their fields, everything else as text."""
    dicts = [_fields(row) for row in found.rows]
    heads = list(dict.fromkeys(key for row in dicts for key in row))
    rows: Sequence[Sequence[Child]] = [[shorten(str(row.get(h, "")), 120) for h in heads] for row in dicts]
    return listing(found.kind.capitalize(), [f"{h} " if h.endswith("#") else h for h in heads], rows, "none yet")


def _fields(row: Any) -> dict[str, Any]:
    if dataclasses.is_dataclass(row) and not isinstance(row, type):
        return {f.name: getattr(row, f.name) for f in dataclasses.fields(row)}
    return {str(k): v for k, v in row.items()} if isinstance(row, dict) else {"": row}


def alias(found: AliasAt) -> list[Child]:
    """Return what one alias named at some moment."""
    return [listing("What the alias named then", ALIASES, aliases([found]), "nothing")]
