"""HTML that is escaped by construction: `el` escapes every string that is not HTML already.

What the user owns (class names, texts, file names, messages of errors) is a plain `str` and can only become text.
Drawings carry presentation attributes (fill, stroke), which survive where a front end takes styles out of a saved
output.
"""

import re
from typing import Any

# Legal in XML and JSON messages: no control characters, no lone surrogates.
_ILLEGAL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ud800-\udfff\ufffe\uffff]")
_SHORT = 20
_VOID = frozenset({"br", "hr", "img"})


class Safe(str):
    """HTML that was made by this module."""

    __slots__ = ()


Child = str | int | float | None


def escape(value: object) -> Safe:
    """Return `value` as text that means itself in HTML and SVG, in an element or an attribute."""
    if isinstance(value, Safe):
        return value
    text = _ILLEGAL.sub("\ufffd", str(value))
    for sign, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ('"', "&quot;"), ("'", "&#x27;")):
        text = text.replace(sign, entity)
    return Safe(text)


def join(*children: Child) -> Safe:
    """Return the children one after the other; None is left out."""
    return Safe("".join(escape(child) for child in children if child is not None))


def el(name: str, *children: Child, **attributes: Any) -> Safe:
    """Return the element `name`; `stroke_width` becomes stroke-width, `class_` class; what is None is left out."""
    parts = [f"<{name}"]
    for key, value in attributes.items():
        if value is not None:
            # An attribute takes no markup: even what is safe as an element is escaped here.
            parts.append(f' {key.rstrip("_").replace("_", "-")}="{escape(str(value))}"')
    if name in _VOID:
        return Safe("".join([*parts, "/>"]))
    return Safe("".join([*parts, ">", join(*children), f"</{name}>"]))


def muted(*children: Child) -> Safe:
    """Return the children as secondary text."""
    return el("span", *children, class_="sft-m")


def code(text: str) -> Safe:
    """Return `text` as code."""
    return el("code", text)


def next_line(text: str) -> Safe | None:
    """Return the line that says what to type next, or None where there is nothing to say."""
    if not text:
        return None
    bare = text.startswith("%") and not text.endswith(".")
    return el("p", muted("Next: "), code(text) if bare else text, class_="sft-n")


def shorten(text: str, limit: int = 280) -> str:
    """Return `text` on one line with at most `limit` characters."""
    flat = " ".join(text[: 4 * limit].split())
    return flat if len(flat) <= limit else flat[: limit - 1].rstrip() + "…"


def named(text: str, limit: int = 80) -> Safe:
    """Return what a user named; a short name stays on one line, a long one breaks where it must."""
    shown = shorten(text, limit)
    return el("span", shown, class_="sft-a" if len(shown) <= _SHORT else "sft-u")


def head(title: str, *, before: Child = None, detail: Child = None, right: Child = None) -> Safe:
    """Return the first line of a panel: a badge, the title, what it is, and something at the right end."""
    # The spaces part the words where a front end has taken the style away.
    left = el("span", *spaced(before, el("strong", title, class_="sft-h"), detail), class_="sft-hl")
    return el("div", *spaced(left, None if right is None else el("span", right, class_="sft-hr")), class_="sft-hd")


def spaced(*children: Child) -> list[Child]:
    """Return the children that are there with a space after each."""
    return [part for child in children if child is not None for part in (child, " ")]


def facts(*pairs: tuple[str, Child]) -> Safe:
    """Return named values as a compact grid; a pair whose value is None or empty is left out."""
    cells = [
        el("div", el("dt", name), " ", el("dd", value)) for name, value in pairs if value is not None and value != ""
    ]
    return el("dl", *cells, class_="sft-f")


def section(title: str, *children: Child) -> Safe:
    """Return a titled part of a panel."""
    return el("section", el("h4", title), *children)


def columns(*children: Child) -> Safe:
    """Return parts side by side where there is room, else one below the other."""
    cells = [el("div", child) for child in children if child is not None and child != ""]
    return el("div", *cells, class_="sft-c") if cells else Safe("")
