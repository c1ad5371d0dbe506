"""One line for a job that is no training: evaluating, predicting, fetching, starting an endpoint."""

from sft_magics.core.views import JobView
from sft_magics.notebook.panels import badges
from sft_magics.notebook.panels.formats import count, duration
from sft_magics.notebook.panels.markup import Child, Safe, el, muted, next_line, shorten, spaced
from sft_magics.notebook.panels.style import BLUE


def panel(view: JobView) -> list[Child]:
    """Return the parts of the line: state, title, bar, amounts; and why it failed, where it did."""
    tail = _tail(view)
    done = view.state == "done"  # nothing to act on: what was made stands below
    name = view.title or view.job
    line = el(
        "div",
        *spaced(
            badges.icon(view.state) if done else badges.badge(view.state),
            muted(f"{name}: done") if done else el("span", name),
            _bar(view) if view.active else None,
            muted(tail) if tail else None,
        ),
        class_="sft-hl",
    )
    problems = [badges.note(level, words) for level, words in view.remarks if level != "info"]
    why = el("p", shorten(view.why, 2000), class_="sft-u") if view.why else None
    return [line, badges.notes(*problems) if problems else None, why, next_line(view.next_step)]


def text(view: JobView) -> str:
    """Return the line as plain text."""
    tail = _tail(view)
    lines = [f"{view.title or view.job}: {view.state}" + (f", {tail}" if tail else "")]
    lines += [f"  {level}: {words}" for level, words in view.remarks if level != "info"]
    lines += [view.why] if view.why else []
    lines += [f"Next: {view.next_step}"] if view.next_step else []
    return "\n".join(lines)


def _tail(view: JobView) -> str:
    amount = f"{count(view.done)} of {count(view.total)}" if view.total else (count(view.done) if view.done else "")
    what = view.what if view.active and view.what != view.title else ""
    took = "" if view.active or view.seconds < 1 else duration(view.seconds)
    behind = f"behind {view.behind}" if view.behind else ""
    return " · ".join(p for p in (what, amount, took, behind) if p)


def _bar(view: JobView) -> Safe:
    share = 100.0 * min(1.0, view.done / view.total) if view.total else 0.0
    known = {"aria_valuenow": f"{share:.0f}"} if view.total else {}
    filled = el("div", style=f"width:{share:.1f}%;background-color:{BLUE}")
    return el(
        "div", filled, class_="sft-p", style="width:160px", role="progressbar", aria_valuemin="0", aria_valuemax="100",
        aria_label=view.title or view.job, **known,
    )  # fmt: skip
