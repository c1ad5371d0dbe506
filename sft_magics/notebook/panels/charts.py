"""Line charts as SVG: one function from curves to a picture, thinned to the width it is drawn at.

`thin` keeps the smallest and largest value of each pixel column, so no spike is lost and a curve of any length costs
the same bytes. Colors are joined by dashes and direct labels. What is not finite is marked at the top edge.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from sft_magics.core.views import Point
from sft_magics.notebook.panels import hover
from sft_magics.notebook.panels.formats import count, general
from sft_magics.notebook.panels.markup import Child, Safe, el
from sft_magics.notebook.panels.style import PURPLE, VERMILLION

_LEFT, _BOTTOM = 40, 20
_PLAIN_TOP, _MARKED_TOP = 22, 34  # a row of its own for the names of marks, below the title
_LETTER = 5.6  # about the width of a letter of size 10
_LABEL_GAP = 13.0
_MARKS = 20


@dataclass(frozen=True)
class Curve:
    """One line: `ghost` is drawn faintly below it (the raw values of a smoothed curve)."""

    name: str
    points: Sequence[Point]
    color: str
    dash: str | None = None
    dots: bool = False
    ghost: Sequence[Point] = ()
    ring: float | None = None


@dataclass(frozen=True)
class Chart:
    """A picture to be: curves over x from 0 to `x_end`, with vertical lines at `marks` (x, name).

    `flags` are lines of their own color that something was done at: (x, what to write beside it, all of it). `hover`
    shows the values under the pointer.
    """

    title: str
    curves: Sequence[Curve]
    x_end: float
    width: int = 534
    height: int = 216
    right: int = 112
    marks: Sequence[tuple[float, str]] = ()
    flags: Sequence[tuple[float, str, str]] = ()
    y_limits: tuple[float, float] = (-math.inf, math.inf)
    span: float = 0.0
    empty: str = ""
    x_name: str = "step"
    hover: bool = True


@dataclass(frozen=True)
class _Frame:
    """Where values land on the picture."""

    chart: Chart
    low: float
    high: float
    ticks: Sequence[float] = field(default=())

    def x(self, value: float) -> float:
        chart = self.chart
        return _LEFT + (chart.width - _LEFT - chart.right) * min(1.0, max(0.0, value / (chart.x_end or 1.0)))

    def y(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return self.bottom - (self.bottom - self.top) * min(1.0, max(0.0, share))

    @property
    def top(self) -> float:
        return _MARKED_TOP if any(name for _, name in self.chart.marks) else _PLAIN_TOP

    @property
    def bottom(self) -> float:
        return self.chart.height - _BOTTOM

    @property
    def end(self) -> float:
        return self.chart.width - self.chart.right


def draw(chart: Chart) -> Safe:
    """Return the chart as an SVG element with a title, a role and a label that says where each curve stands."""
    frame = _framed(chart)
    parts: list[Child] = [el("title", _spoken(chart)), *_grid(frame)]
    parts += [_line(frame, c.ghost, c, ghost=True) for c in chart.curves if c.ghost]
    for curve in chart.curves:
        parts += [_line(frame, curve.points, curve), *_dots(frame, curve), *_broken(frame, curve)]
    parts += [*_flags(frame), *_labels(frame), *_values(frame)]
    if chart.empty and not any(c.points for c in chart.curves):
        middle = (frame.end + _LEFT) / 2
        parts.append(_text(middle, (frame.top + frame.bottom) / 2 + 4, chart.empty, anchor="middle", opacity="0.6"))
    return el(
        "svg", *parts, xmlns="http://www.w3.org/2000/svg", role="img", aria_label=_spoken(chart), width="100%",
        viewBox=f"0 0 {chart.width} {chart.height}", font_size="11", fill="none",
        style=f"max-width:{chart.width}px;display:block",
    )  # fmt: skip


def thin(points: Sequence[Point], x_end: float, columns: int) -> list[list[Point]]:
    """Return runs of finite points, at most the smallest and the largest of each of `columns` columns over 0..x_end."""
    runs: list[list[Point]] = [[]]
    scale = columns / (x_end or 1.0)
    column, low, high = -1, (0.0, 0.0), (0.0, 0.0)
    for point in points:
        if not math.isfinite(point[1]):
            _flush(runs[-1], column, low, high)
            column = -1
            runs.append([])
            continue
        here = int(point[0] * scale)
        if here != column:
            _flush(runs[-1], column, low, high)
            column, low, high = here, point, point
        elif point[1] < low[1]:
            low = point
        elif point[1] > high[1]:
            high = point
    _flush(runs[-1], column, low, high)
    return [run for run in runs if run]


def _flush(run: list[Point], column: int, low: Point, high: Point) -> None:
    if column >= 0:
        run.extend([low] if low == high else sorted((low, high)))


def smooth(points: Sequence[Point], window: int = 24) -> list[Point]:
    """Return an exponential moving average over about a `window`-th of the points, unbiased at its start."""
    decay = 1 - 2 / (max(2.0, len(points) / window) + 1)
    total, weight = 0.0, 0.0
    smoothed = []
    for x, y in points:
        if math.isfinite(y):
            total, weight = decay * total + (1 - decay) * y, decay * weight + (1 - decay)
            smoothed.append((x, total / weight))
    return smoothed


def ticks(low: float, high: float, wanted: int = 4) -> list[float]:
    """Return round numbers that span low..high in about `wanted` steps of 1, 2, 2.5 or 5 times a power of 10."""
    span = (high - low) or 1.0
    power = 10.0 ** math.floor(math.log10(span / wanted))
    step = min((m * power for m in (1, 2, 2.5, 5, 10)), key=lambda s: abs(span / s - wanted))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [k * step for k in range(first, last + 1)]


def _framed(chart: Chart) -> _Frame:
    values = [y for c in chart.curves for _, y in c.points if math.isfinite(y)]
    for curve in chart.curves:
        # A few wild first steps shall not flatten the rest: the faint values count up to their 98th percentile.
        stride = max(1, len(curve.ghost) // 2000)
        ghost = sorted(y for _, y in curve.ghost[::stride] if math.isfinite(y))
        values += ghost[int(0.02 * len(ghost)) : math.ceil(0.98 * len(ghost))]
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    least = max(chart.span, 1e-6 * abs(high), 1e-9)
    if high - low < least:
        low, high = (low + high - least) / 2, (low + high + least) / 2
    if 0 < low < 0.4 * high:
        low = 0.0
    low, high = max(low, chart.y_limits[0]), min(high, chart.y_limits[1])
    marks = ticks(low, high)
    return _Frame(chart, marks[0], marks[-1], marks)


def _grid(frame: _Frame) -> list[Safe]:
    chart = frame.chart
    parts = [_text(0, 11, chart.title, weight="600")]
    for value in frame.ticks:
        y = frame.y(value)
        strong = "0.45" if value == frame.ticks[0] else "0.13"
        parts.append(_rule(_LEFT, y, frame.end, y, strong))
        parts.append(_text(_LEFT - 6, y + 4, f"{value:.4g}", anchor="end", opacity="0.7"))
    across = [t for t in ticks(0, chart.x_end, max(2, round((frame.end - _LEFT) / 90))) if t <= chart.x_end]
    foot = chart.height - 5
    parts += [_text(frame.x(value), foot, count(value), anchor="middle", opacity="0.7") for value in across]
    parts.append(_text(frame.end + 28, foot, chart.x_name, opacity="0.7"))
    return [*parts, *_marks(frame)]


def _marks(frame: _Frame) -> list[Safe]:
    """Draw the vertical lines; a name that would cover the one before it is left out."""
    parts, free = [], -math.inf
    for x, name in sorted(frame.chart.marks):
        at, half = frame.x(x), _LETTER * len(name) / 2
        parts.append(_rule(at, frame.top, at, frame.bottom, "0.3", dash="1 3"))
        if name and at - half > free:
            parts.append(_text(at, frame.top - 5, name, anchor="middle", opacity="0.7", size="10"))
            free = at + half + _LETTER
    return parts


def _values(frame: _Frame) -> list[Safe]:
    """Return what the pointer finds."""
    if not frame.chart.hover:
        return []
    curves = [(c.name, [p for p in c.points if math.isfinite(p[1])]) for c in frame.chart.curves]
    plot = hover.Plot(_LEFT, frame.end, frame.top, frame.bottom, frame.chart.x_end, frame.chart.x_name)
    return hover.bands(curves, plot)


def _flags(frame: _Frame) -> list[Safe]:
    """Mark what was done to the run: a thin line with words beside it, one under the other where they are many."""
    parts = []
    for number, (at, short, whole) in enumerate(frame.chart.flags[-_MARKS:]):
        x, beyond = frame.x(at), frame.x(at) > (frame.end + _LEFT) / 2
        line = f"M{x:.1f} {frame.top:.1f}L{x:.1f} {frame.bottom:.1f}"
        title = el("title", f"{frame.chart.x_name} {count(at)}: {whole}")
        parts.append(el("path", title, d=line, stroke=PURPLE, stroke_width="1.2", stroke_opacity="0.9"))
        if short:
            y = frame.top + 10 + 11 * (number % 4)
            anchor = "end" if beyond else None
            parts.append(_text(x + (-4 if beyond else 4), y, short, anchor=anchor, size="10"))
    return parts


def _line(frame: _Frame, points: Sequence[Point], curve: Curve, *, ghost: bool = False) -> Safe:
    columns = int(frame.end - _LEFT)
    moves = []
    for run in thin(points, frame.chart.x_end, columns if ghost else columns // 2):
        pairs = [f"{frame.x(x):.1f} {frame.y(y):.1f}" for x, y in run]
        moves.append("M" + "L".join(pairs))
    return el(
        "path", d="".join(moves) or "M0 0", stroke=curve.color, stroke_width="1" if ghost else "1.8",
        stroke_opacity="0.4" if ghost else None, stroke_dasharray=None if ghost else curve.dash,
        stroke_linejoin="round", stroke_linecap="round",
    )  # fmt: skip


def _dots(frame: _Frame, curve: Curve) -> list[Safe]:
    parts = []
    last = [p for p in curve.points[-1:] if math.isfinite(p[1])]
    for x, y in (p for run in thin(curve.points, frame.chart.x_end, 48) for p in run) if curve.dots else last:
        parts.append(el("circle", cx=f"{frame.x(x):.1f}", cy=f"{frame.y(y):.1f}", r="2.6", fill=curve.color))
    for x, y in curve.points:
        if x == curve.ring and math.isfinite(y):
            spot = {"cx": f"{frame.x(x):.1f}", "cy": f"{frame.y(y):.1f}"}
            parts.append(el("circle", el("title", "best"), r="5.2", stroke=curve.color, stroke_width="1.4", **spot))
    return parts


def _broken(frame: _Frame, curve: Curve) -> list[Safe]:
    """Mark where a curve was not finite: nothing is hidden."""
    points = curve.ghost or curve.points
    wild = [x for x, y in points if not math.isfinite(y)][:_MARKS]
    return [
        el(
            "path", el("title", f"{curve.name} was not a finite number at {frame.chart.x_name} {count(x)}"),
            d=f"M{frame.x(x) - 3:.1f} {frame.top - 3}l6 6m0 -6l-6 6", stroke=VERMILLION, stroke_width="1.6",
        )
        for x in wild
    ]  # fmt: skip


def _labels(frame: _Frame) -> list[Safe]:
    """Name each curve at its end, moved apart where ends are close."""
    ended = [(c, *_last(c)) for c in frame.chart.curves if any(math.isfinite(y) for _, y in c.points)]
    if not ended:
        return []
    x = max(frame.x(at) for _, at, _ in ended) + 8
    placed: list[tuple[float, Curve, float]] = []
    for curve, _, value in sorted(ended, key=lambda e: frame.y(e[2])):
        y = frame.y(value) + 4
        placed.append((max(y, placed[-1][0] + _LABEL_GAP) if placed else y, curve, value))
    over = max(0.0, placed[-1][0] - frame.bottom)
    parts = []
    for y, curve, value in placed:
        key = f"M{x:.1f} {y - over - 4:.1f}h14"
        parts.append(el("path", d=key, stroke=curve.color, stroke_width="2", stroke_dasharray=curve.dash))
        parts.append(_text(x + 18, y - over, curve.name, el("tspan", f" {general(value)}", font_weight="600")))
    return parts


def _last(curve: Curve) -> Point:
    return next(p for p in reversed(curve.points) if math.isfinite(p[1]))


def _spoken(chart: Chart) -> str:
    ends = [f"{c.name} {general(_last(c)[1])}" for c in chart.curves if any(math.isfinite(y) for _, y in c.points)]
    done = "".join(f"; at {chart.x_name} {count(at)} {whole}" for at, _, whole in chart.flags if whole)
    return f"{chart.title} over {chart.x_name}s: " + (", ".join(ends) or "nothing yet") + done


def _rule(x1: float, y1: float, x2: float, y2: float, opacity: str, dash: str | None = None) -> Safe:
    path = f"M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}"
    return el("path", d=path, stroke="currentColor", stroke_opacity=opacity, stroke_dasharray=dash)


def _text(
    x: float,
    y: float,
    *words: Child,
    anchor: str | None = None,
    opacity: str | None = None,
    weight: str | None = None,
    fill: str = "currentColor",
    size: str | None = None,
) -> Safe:
    place = {"x": f"{x:.1f}", "y": f"{y:.1f}", "text_anchor": anchor, "font_weight": weight, "font_size": size}
    return el("text", *words, fill=fill, fill_opacity=opacity, **place)
