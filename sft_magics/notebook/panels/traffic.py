"""Who answers at an endpoint: shares, errors and latency side by side, and where two versions disagree."""

from sft_magics.core.records import AgreementCell, ServedVersion, Traffic
from sft_magics.notebook.panels import badges
from sft_magics.notebook.panels.formats import count
from sft_magics.notebook.panels.markup import Child, el, head, join, muted, next_line, shorten
from sft_magics.notebook.panels.style import BLUE, PURPLE
from sft_magics.notebook.panels.tables import table

_SIDES = ("version", "requests", "answered#", "errors#", "p95 of compute, an input#")
_PAIRS = ("live says", "candidate says", "inputs#", "")
_SHOWN = 12


def card(found: Traffic) -> list[Child]:
    """Return the parts of an endpoint's traffic."""
    if not found.sides:
        return [
            head(found.endpoint, detail=muted(f"{found.live} answers alone")),
            badges.notes(badges.note("warning", found.ended)) if found.ended else None,
            next_line(found.next_step),
        ]
    slowest = max((s.p95_ms for s in found.sides), default=0.0) or 1.0
    rows = [
        _side(s, s.p95_ms / slowest, BLUE if s.version == found.live else PURPLE, _asked(found, s.share))
        for s in found.sides
    ]
    what = "a shadow reads along" if found.shadow else "a candidate on trial"
    return [
        head(found.endpoint, detail=muted(f"{what} beside {found.live}")),
        table("Since the trial began", _SIDES, rows),
        _pairs(found) if found.compared else None,
        next_line(found.next_step),
    ]


def side(found: ServedVersion) -> list[Child]:
    """Return the parts of one version behind an endpoint."""
    return [table("A version behind an endpoint", _SIDES, [_side(found, 1.0, BLUE, f"{found.share:.0%}")])]


def pair(found: AgreementCell) -> list[Child]:
    """Return the parts of one pair of answers."""
    return [table("How two versions answer", _PAIRS, [_pair(found)])]


def _side(found: ServedVersion, share: float, color: str, asked: Child) -> list[Child]:
    took = join(_bar(share, color), f" {found.p95_ms:.1f} ms")
    return [el("strong", found.version), asked, count(found.answered), count(found.errors), took]


def _pair(found: AgreementCell) -> list[Child]:
    same = found.live == found.candidate
    return [shorten(found.live, 40), shorten(found.candidate, 40), count(found.n), "" if same else "differs"]


def _asked(found: Traffic, share: float) -> Child:
    return "reads along" if found.shadow and share <= 0 else f"{share:.0%}"


def _pairs(found: Traffic) -> Child:
    ordered = sorted(found.agreement, key=lambda pair: (pair.live == pair.candidate, -pair.n))
    rows = [_pair(p) for p in ordered[:_SHOWN]]
    skipped = f", {found.skipped:,} batches were not compared because others waited" if found.skipped else ""
    caption = f"They agree in {found.agreed:.1%} of {found.compared:,} answers{skipped}"
    return table(caption, _PAIRS, rows, total=len(ordered))


def _bar(share: float, color: str) -> Child:
    return el("span", style=f"display:inline-block;height:.6em;width:{6 * share:.2f}em;background:{color}")
