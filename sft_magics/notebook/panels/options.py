"""The options that something was made with, folded up, and in words the edits made meanwhile."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from sft_magics.core.codec import plain
from sft_magics.notebook.panels.formats import count, value
from sft_magics.notebook.panels.markup import Child, Safe, el, shorten
from sft_magics.notebook.panels.tables import table

_EDITS = "edits"
_ABOUT = ("step", "who", "changes")  # of an edit, beside what it set


def options(given: Mapping[str, Any], title: str = "Options") -> Safe | None:
    """Return the options as a table to unfold; None where there is none. An option without a value is left out."""
    rows: list[list[Child]] = [
        [name, shorten(worded(set_to))] for name, set_to in given.items() if name != _EDITS and set_to is not None
    ]
    rows += [[f"edited from step {count(one.get('step') or 0)} on", _edit(one)] for one in _edits(given)]
    return el("details", el("summary", title), table(title, ("name", "value"), rows)) if rows else None


def worded(set_to: Any) -> str:
    """Return the value of an option as one would type it."""
    if isinstance(set_to, str | bool | int | float):
        return set_to if isinstance(set_to, str) else value(set_to) if not isinstance(set_to, bool) else str(set_to)
    return json.dumps(plain(set_to), ensure_ascii=False)


def _edits(given: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    found = given.get(_EDITS) or ()
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list | tuple) else []


def _edit(one: Mapping[str, Any]) -> str:
    """Return one edit in words: what each option was and is."""
    changes = one.get("changes") or {name: to for name, to in one.items() if name not in _ABOUT}
    moved = [
        f"{name.replace('_', ' ')} {worded(was[0])} → {worded(was[1])}"
        if isinstance(was, list | tuple) and len(was) == len(("was", "is"))
        else f"{name.replace('_', ' ')} {worded(was)}"
        for name, was in changes.items()
    ]
    who = f" by {one['who']}" if one.get("who") else ""
    return shorten(", ".join(moved) + who)
