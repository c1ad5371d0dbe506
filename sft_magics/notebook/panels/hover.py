"""The values under the pointer: a chart's plot is cut into bands, and each band shows what the curves say there.

A style sheet shows the words of the band that the pointer is in; no script is needed. Where the style sheet is taken
out the words stay hidden, and the browser's own tooltip says the same.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from sft_magics.core.views import Point
from sft_magics.notebook.panels.formats import count, general
from sft_magics.notebook.panels.markup import Safe, el

BANDS = 40


@dataclass(frozen=True)
class Plot:
    """Where a plot lies on its picture, in the picture's units, and what lies along its foot."""

    left: float
    right: float
    top: float
    bottom: float
    x_end: float
    x_name: str


def bands(curves: Sequence[tuple[str, Sequence[Point]]], plot: Plot) -> list[Safe]:
    """Return the bands in which a curve has a point; a band says the last value of each curve up to its end.

    `curves` are names and points in the order of x.
    """
    columns = [(name, [x for x, _ in points], [y for _, y in points]) for name, points in curves if points]
    if not columns or plot.x_end <= 0:
        return []
    wide = (plot.right - plot.left) / BANDS
    drawn, before = [], 0.0
    for band in range(BANDS):
        until = plot.x_end * (band + 1) / BANDS
        ends = [(name, xs, ys, bisect_right(xs, until + 1e-9)) for name, xs, ys in columns]
        newest = max((xs[n - 1] for _, xs, _, n in ends if n), default=before)
        if newest <= before and not (band == 0 and any(n for *_, n in ends)):
            continue
        before = newest
        said = [f"{plot.x_name} {count(newest)}", *(f"{name} {general(ys[n - 1])}" for name, _, ys, n in ends if n)]
        drawn.append(_band(plot, plot.left + band * wide, wide, ", ".join(said)))
    return drawn


def _band(plot: Plot, x: float, wide: float, words: str) -> Safe:
    place = {"x": f"{x:.1f}", "y": f"{plot.top:.0f}", "width": f"{wide:.1f}", "height": f"{plot.bottom - plot.top:.0f}"}
    area = el("rect", fill="currentColor", fill_opacity="0", **place)
    at = {"x": f"{plot.right:.0f}", "y": f"{plot.bottom - 5:.0f}", "text_anchor": "end", "font_size": "10.5"}
    said = el("text", words, fill="currentColor", visibility="hidden", **at)
    return el("g", el("title", words), area, said, class_="sft-v")
