"""What a run would take, and the loss at rates that rise."""

import math
from collections.abc import Sequence

from sft_magics.core.records import Choice, LrRangeTest, RunPlan
from sft_magics.notebook.panels import badges, charts
from sft_magics.notebook.panels.charts import Chart, Curve
from sft_magics.notebook.panels.formats import count, duration, megabytes, rate, size
from sft_magics.notebook.panels.markup import Child, code, el, facts, head, join, muted, next_line, shorten
from sft_magics.notebook.panels.style import BLUE, VERMILLION
from sft_magics.notebook.panels.tables import table


def plan(found: RunPlan) -> list[Child]:
    """Return the parts of a plan."""
    machine = " · ".join(str(found.machine[k]) for k in ("device", "precision") if k in found.machine)
    fits = badges.note("info", "Memory and disk are enough.") if found.fits else badges.note(
        "warning", "Memory or disk are not enough: take a smaller --batch, or one of the choices below."
    )  # fmt: skip
    between = muted(f" {duration(found.seconds_low)} to {duration(found.seconds_high)}")
    rows: list[list[Child]] = [[code(c.option), shorten(c.price, 200)] for c in found.choices]
    return [
        head(found.model, detail=muted(f"{found.task}, {found.method}"), right=muted(machine)),
        facts(
            ("time", join(el("strong", f"about {duration(found.seconds)}"), between)),
            ("epochs", f"{found.epochs:g}" if found.epochs else None),
            ("steps", f"{count(found.steps)} of {count(found.batch)} rows{_parts(found)}"),
            ("a step", f"{found.step_seconds:.2f} s"),
            ("weights that learn", f"{found.learning / 1e6:.1f} M of {found.weights / 1e6:.1f} M"),
            ("memory", join(megabytes(found.memory_mb), muted(f", {megabytes(found.free_memory_mb)} free"))),
            ("disk while it runs", join(size(found.disk_bytes), muted(f", {size(found.free_disk_bytes)} free"))),
            ("disk afterwards", size(found.version_bytes)),
        ),
        badges.notes(*([badges.note("info", found.why)] if found.why else []), fits),
        table("Cheaper choices", ("option", "its price"), rows) if rows else None,
        next_line(found.next_step),
    ]


def _parts(found: RunPlan) -> str:
    return f", {count(found.micro_batch)} at once" if found.micro_batch else ""


def choice(found: Choice) -> list[Child]:
    """Return a single cheaper choice."""
    return [el("p", code(found.option), " ", shorten(found.price, 300))]


def _points(rates: Sequence[float], losses: Sequence[float], first: int) -> list[tuple[float, float]]:
    pairs = zip(rates, losses, strict=True)
    return [(math.log10(r) - first, loss) for r, loss in pairs if math.isfinite(loss)]


def rates(found: LrRangeTest) -> list[Child]:
    """Return the parts of a range test: the loss over the rate, drawn by powers of ten."""
    ends = [math.log10(r) for r in found.rates] or [0.0]
    first, last = math.floor(ends[0]), max(ends[-1], math.floor(ends[0]) + 1)

    def at(value: float) -> float:
        return math.log10(value) - first

    tens = [(float(n - first), f"1e{n}") for n in range(first + 1, math.floor(last) + 1)]
    lowest = min((s for s in found.smoothed if math.isfinite(s)), default=1.0)
    chart = Chart(
        "Loss while the rate rises",
        [
            Curve("smoothed", _points(found.rates, found.smoothed, first), BLUE,
                  ghost=_points(found.rates, found.losses, first)),
            Curve("advised", [(at(found.advised), lowest)], VERMILLION, dots=True),
        ],
        last - first, marks=tens, x_name="power of ten", hover=False,
    )  # fmt: skip
    return [
        head(found.model, detail=muted(found.task)),
        facts(
            ("start with", el("strong", rate(found.advised))),
            ("fell fastest at", rate(found.steepest)),
            ("a tenth of the lowest's", rate(found.tenth)),
            ("went away at", rate(found.diverged) if found.diverged else "nowhere"),
            ("its recipe", rate(found.recipe)),
        ),
        el("div", charts.draw(chart), style="font-size:0;line-height:0;max-width:534px"),
        badges.notes(badges.note("info", found.note)) if found.note else None,
        next_line(found.next_step),
    ]
