"""What retiring a version moved and freed."""

from sft_magics.core.records import Retirement
from sft_magics.notebook.panels import badges
from sft_magics.notebook.panels.formats import size
from sft_magics.notebook.panels.markup import Child, el, facts, head, shorten


def card(found: Retirement) -> list[Child]:
    """Return the parts of a retirement."""
    return [
        head(found.version, before=badges.badge("retired")),
        facts(
            ("successor", el("strong", found.successor) if found.successor else "none"),
            ("aliases moved", ", ".join(f"@{a}" for a in found.aliases) or "none"),
            ("endpoints moved", ", ".join(found.endpoints) or "none"),
            ("freed", size(found.freed_bytes)),
        ),
        el("p", f"Reason: {shorten(found.reason, 1000)}", class_="sft-u") if found.reason else None,
    ]
