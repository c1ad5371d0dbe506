"""What is said beside a figure of the rows that were trained on: left out, let in, or not known."""

from collections.abc import Mapping, Sequence

from sft_magics.core.records import Finding, Overlap
from sft_magics.notebook.panels import badges
from sft_magics.notebook.panels.markup import Child, Safe, el, shorten
from sft_magics.notebook.panels.style import VERMILLION


def notes(found: Overlap, findings: Sequence[Finding] = ()) -> Safe | None:
    """Return the remarks on seen rows, and findings on a file, as a list; None where there is nothing to say."""
    return _listed([("", finding) for finding in (*found.remarks, *findings)])


def by_data(found: Mapping[str, Overlap]) -> Safe | None:
    """Return the remarks on several datasets, each with its name."""
    return _listed([(f"{name}: ", finding) for name, overlap in found.items() for finding in overlap.remarks])


def card(found: Overlap) -> list[Child]:
    """Return the parts of a single overlap."""
    return [notes(found) or el("p", "No row was trained on.")]


def _listed(found: Sequence[tuple[str, Finding]]) -> Safe | None:
    if not found:
        return None
    items = [badges.note(finding.level, f"{name}{shorten(finding.message, 400)}") for name, finding in found]
    red = any(finding.level == "error" for _, finding in found)
    return el("div", badges.notes(*items), style=f"color:{VERMILLION}") if red else badges.notes(*items)
