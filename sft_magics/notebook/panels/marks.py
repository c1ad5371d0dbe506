"""Word-sized drawings that stand beside a number: a bar, an interval, a sparkline, a histogram."""

import math
from collections.abc import Sequence

from sft_magics.core.records import Metric
from sft_magics.notebook.panels.formats import count, general, number, percent
from sft_magics.notebook.panels.markup import Child, Safe, el, join, muted, shorten
from sft_magics.notebook.panels.style import BLUE

_LINE = 40


def _svg(width: int, height: int, label: str, *parts: Child) -> Safe:
    size = {"width": width, "height": height, "viewBox": f"0 0 {width} {height}"}
    sunk = f"vertical-align:{4 - height // 2}px" if height < _LINE else None
    drawn = el("svg", el("title", label), *parts, role="img", aria_label=label, fill="none", style=sunk, **size)
    # A sanitizer that drops SVG keeps its words: at no size they do not litter the page.
    return el("span", drawn, style="font-size:0")


def _rect(x: float, y: float, width: float, height: float, fill: str, opacity: str | None = None) -> Safe:
    place = {"x": f"{x:.1f}", "y": f"{y:.1f}", "width": f"{max(0.0, width):.1f}", "height": f"{height:.1f}"}
    return el("rect", rx="1.5", fill=fill, fill_opacity=opacity, **place)


def bar(share: float, label: str, *, color: str = BLUE, width: int = 110, mark: float | None = None) -> Safe:
    """Return a bar that is `share` (0..1) full; `mark` draws a line at a reference share."""
    full = width * min(1.0, max(0.0, share if math.isfinite(share) else 0.0))
    at = None
    if mark is not None and math.isfinite(mark):
        x = 1 + (width - 2) * min(1.0, max(0.0, mark))
        at = el("path", d=f"M{x:.1f} 0v12", stroke="currentColor", stroke_width="2")
    return _svg(
        width, 12, label, _rect(0, 2, width, 8, "currentColor", "0.12"), _rect(0, 2, full, 8, color), at
    )  # fmt: skip


def whisker(metric: Metric, *, color: str = BLUE, width: int = 84) -> Safe:
    """Return a point with its 95 % interval on a line from 0 to 1, or nothing where there is no value."""
    if not math.isfinite(metric.value):
        return Safe("")
    x = 3 + (width - 6) * min(1.0, max(0.0, metric.value))
    parts = [el("path", d=f"M3 6H{width - 3}", stroke="currentColor", stroke_opacity="0.2")]
    if metric.low is not None and metric.high is not None:
        ends = [3 + (width - 6) * v for v in (metric.low, metric.high)]
        shape = f"M{ends[0]:.1f} 6H{ends[1]:.1f}M{ends[0]:.1f} 3v6M{ends[1]:.1f} 3v6"
        parts.append(el("path", d=shape, stroke=color, stroke_width="1.6"))
    parts.append(el("circle", cx=f"{x:.1f}", cy="6", r="3", fill=color))
    return _svg(width, 12, interval(metric), *parts)


def interval(metric: Metric) -> str:
    """Return a metric in words: value, 95 % interval, rows."""
    rows, name = f", n = {metric.n:,}" if metric.n else "", shorten(metric.key, 80)
    if metric.low is None or metric.high is None:
        return f"{name} {number(metric.value)}{rows}"
    return f"{name} {number(metric.value)}, 95 % interval {metric.low:.3f} to {metric.high:.3f}{rows}"


def measured(metric: Metric | None, *, color: str = BLUE, wide: bool = True, width: int = 84) -> Safe | None:
    """Return a metric as a table shows it: the value, its interval drawn and in figures; None where there is none."""
    if metric is None or math.isnan(metric.value):
        return None
    figures = None
    if metric.low is not None and metric.high is not None:
        figures = join(" ", el("span", f"{metric.low:.3f}–{metric.high:.3f}", class_="sft-m sft-a"))
    value = el("span", number(metric.value), figures, class_="sft-k", title=interval(metric))
    if not wide:
        return value
    return el("span", value, " ", whisker(metric, color=color, width=width), class_="sft-k")


def sparkline(values: Sequence[float | None], label: str, *, color: str = BLUE, width: int = 150) -> Safe:
    """Return a small line over equal slices; a gap where a slice has no value, a dot at the newest."""
    known = [v for v in values if v is not None and math.isfinite(v)]
    if not known:
        return muted("no data")
    low, high = min(known), max(known)
    span = (high - low) or 1.0
    step = (width - 8) / max(1, len(values) - 1)
    moves, pen, spot = [], "M", (0.0, 0.0)
    for i, value in enumerate(values):
        if value is None or not math.isfinite(value):
            pen = "M"
            continue
        spot = (4 + i * step, 23 - 18 * ((value - low) / span if high > low else 0.5))
        moves.append(f"{pen}{spot[0]:.1f} {spot[1]:.1f}")
        pen = "L"
    line = el("path", d="".join(moves), stroke=color, stroke_width="1.6", stroke_linejoin="round")
    words = f"{label}: now {general(known[-1])}, between {general(low)} and {general(high)}"
    return _svg(width, 28, words, line, el("circle", cx=f"{spot[0]:.1f}", cy=f"{spot[1]:.1f}", r="2.6", fill=color))


def histogram(counts: Sequence[int], edges: Sequence[int], unit: str, *, width: int = 360, height: int = 84) -> Safe:
    """Return bars of `counts`; bar i stands for edges[i] to edges[i + 1]."""
    most, n = max(counts, default=0), len(counts)
    if not most:
        return muted("no data")
    each, base = width / n, height - 16
    bars = []
    for i, value in enumerate(counts):
        tall = (base - 4) * value / most
        until = f" to {edges[i + 1] - 1}" if i + 1 < len(edges) and edges[i + 1] - 1 > edges[i] else ""
        words = f"{edges[i]}{until} {unit}: {count(value)} rows" if i < len(edges) else f"{count(value)} rows"
        place = {"x": f"{i * each:.1f}", "y": f"{base - tall:.1f}", "height": f"{tall:.1f}"}
        bars.append(el("rect", el("title", words), width=f"{max(1.0, each - 1):.1f}", fill=BLUE, **place))
    axis = el("path", d=f"M0 {base + 0.5}H{width}", stroke="currentColor", stroke_opacity="0.4")
    ink = {"fill": "currentColor", "fill_opacity": "0.7", "font_size": "10.5"}
    below = ((0, "start", f"{edges[0]}"), (width, "end", f"{edges[n - 1]} and more"))
    ends = [el("text", word, x=x, y=height - 3, text_anchor=anchor, **ink) for x, anchor, word in below]
    return _svg(width, height, f"rows by number of {unit}", *bars, axis, *ends)


def share_cell(share: float | None, label: str, *, color: str = BLUE, mark: float | None = None) -> Safe | None:
    """Return a fraction as a bar and a percentage; None where it is not known."""
    if share is None:
        return None
    return join(bar(share, f"{label}: {percent(share)}", color=color, mark=mark), " ", el("span", percent(share)))
