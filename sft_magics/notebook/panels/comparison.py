"""A candidate beside the live version: the plan, both on the same rows, what it fixed and broke, and the verdict."""

from sft_magics.core.records import Comparison, EvaluationPair
from sft_magics.notebook.panels import overlap
from sft_magics.notebook.panels.formats import count
from sft_magics.notebook.panels.marks import measured
from sft_magics.notebook.panels.markup import Child, code, el, head, muted, next_line, shorten
from sft_magics.notebook.panels.style import BLUE, PURPLE
from sft_magics.notebook.panels.tables import table

_HEADS = ("data", "rows#", "live", "candidate", "difference#", "fixed#", "broke#", "p-value#")


def card(found: Comparison) -> list[Child]:
    """Return the parts of a comparison."""
    rows = [row(pair) for pair in found.pairs]
    return [
        head(found.candidate, detail=muted(f"beside the live {found.live}")),
        el("p", shorten(found.plan, 1000), class_="sft-u"),
        overlap.by_data(found.overlaps),
        table("Accuracy on the same rows, with 95 % intervals", _HEADS, rows),
        el("p", el("strong", shorten(found.verdict, 1000)), class_="sft-u"),
        next_line(found.next_step),
    ]


def pair(found: EvaluationPair) -> list[Child]:
    """Return the parts of a single pair."""
    return [table("Live and candidate on the same rows", _HEADS, [row(found)])]


def row(found: EvaluationPair) -> list[Child]:
    """Return a pair as a row."""
    return [
        found.data, count(found.n), measured(found.live, color=BLUE), measured(found.candidate, color=PURPLE),
        f"{found.candidate.value - found.live.value:+.3f}", count(found.fixed), count(found.broke),
        code(f"{found.p_value:.2g}"),
    ]  # fmt: skip
