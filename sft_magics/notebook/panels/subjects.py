"""What a model was asked about, in a cell of a table: a text, or a small picture with its file's name."""

from collections.abc import Iterable, Sequence

from sft_magics.core.colors import class_colors
from sft_magics.notebook.panels.markup import Child, Safe, el, join, muted, shorten, spaced

_STYLE = "min-height:28px;max-width:300px;max-height:144px;vertical-align:middle"


def subject(text: str, picture: str = "", limit: int = 280) -> Safe:
    """Return a text as it is, or an image; `picture` is its data: address, the only kind of address that is shown."""
    if not picture.startswith("data:image/"):
        return el("span", shorten(text, limit), class_="sft-u")
    name = text.replace("\\", "/").rsplit("/", 1)[-1]
    image = el("img", src=picture, alt=shorten(name, 60), title=shorten(text), style=_STYLE)
    return el("span", *spaced(image, muted(shorten(name, 32))), class_="sft-u")


def framed(text: str, picture: str, *below: Child) -> Safe:
    """Return a picture in a gallery: what is said of it below, and its file's name where one points at it."""
    if not picture.startswith("data:image/"):
        return el("div", subject(text), el("div", *below, class_="sft-u"))
    name = shorten(text.replace("\\", "/").rsplit("/", 1)[-1], 60)
    image = el("img", src=picture, alt=name, title=shorten(text), style=_STYLE)
    return el("div", el("div", image), el("div", *below, class_="sft-u"))


def grid(cells: Iterable[Child], *, wide: bool = False) -> Safe:
    """Return pictures with what is said of them in columns of one width; `wide` for two pictures in one."""
    return el("div", *cells, class_="sft-i sft-iw" if wide else "sft-i")


def legend(labels: Sequence[str]) -> Safe:
    """Return which color of a mask stands for which class."""
    pairs = zip(labels[:40], class_colors(labels), strict=False)
    return el("p", *(join(_chip(label, color), " ") for label, color in pairs))


def _chip(label: str, color: str) -> Safe:
    square = el("rect", width="10", height="10", rx="2", fill=color)
    drawn = el("svg", square, width="10", height="10", viewBox="0 0 10 10", aria_hidden="true")
    return el("span", drawn, f" {shorten(label, 40)}", class_="sft-a", style="margin-right:1em")
