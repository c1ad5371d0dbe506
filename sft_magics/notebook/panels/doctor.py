"""What the doctor says: each check with its state, what it saw and what to do."""

from collections.abc import Sequence

from sft_magics.core.records import Check
from sft_magics.notebook.panels import badges
from sft_magics.notebook.panels.markup import Child, code, el, head, next_line

HEADS = ("check", "state", "seen", "what to do")


def rows(checks: Sequence[Check]) -> list[list[Child]]:
    """Return the rows of the table of checks."""
    return [[c.name, badges.badge(c.state), el("span", c.value, class_="sft-u"), _step(c.next_step)] for c in checks]


def card(found: Check) -> list[Child]:
    """Return the parts of a single check."""
    return [
        head(found.name, before=badges.badge(found.state)),
        el("p", found.value, class_="sft-u"),
        next_line(found.next_step),
    ]


def _step(text: str) -> Child:
    return code(text) if text.startswith("%") and not text.endswith(".") else (text or None)
