"""States as an icon and a word in a tinted frame: the color says nothing that the icon and the word do not."""

from sft_magics.notebook.panels.markup import Safe, el
from sft_magics.notebook.panels.style import BLUE, GREEN, PURPLE, VERMILLION

_GRAY = "#808080"
_PATHS = {
    "play": "M3 1.5 10.5 6 3 10.5z",
    "check": "M1.2 6.4 4.6 9.8 10.8 2.6",
    "cross": "M2 2 10 10M10 2 2 10",
    "pause": "M3.5 2v8M8.5 2v8",
    "clock": "M6 .9a5.1 5.1 0 1 0 .01 0zM6 3.2V6l2 1.6",
    "question": "M3.4 4.2A2.6 2.6 0 1 1 6 6.8V8M6 10.2v.6",
    "square": "M2.5 2.5h7v7h-7z",
    "warning": "M6 1.2 11.4 10.8H.6zM6 4.8v2.6M6 9v.6",
    "info": "M6 .9a5.1 5.1 0 1 0 .01 0zM6 5.4v3.2M6 3.2v.6",
    "dash": "M2 6h8",
    "drain": "M6 1v7M2.8 5.2 6 8.4 9.2 5.2M1.5 11h9",
    "box": "M1.2 1.8h9.6v2.6H1.2zM2.2 4.4v6h7.6v-6M4.8 6.8h2.4",
}
_STATES = {
    "waiting": ("clock", _GRAY),
    "queued": ("clock", _GRAY),
    "starting": ("clock", BLUE),
    "running": ("play", BLUE),
    "paused": ("pause", PURPLE),
    "interrupted": ("pause", PURPLE),
    "done": ("check", GREEN),
    "ready": ("check", GREEN),
    "ok": ("check", GREEN),
    "live": ("check", GREEN),
    "failed": ("cross", VERMILLION),
    "lost": ("question", VERMILLION),
    "firing": ("warning", VERMILLION),
    "warning": ("warning", VERMILLION),
    "problem": ("cross", VERMILLION),
    "error": ("cross", VERMILLION),
    "info": ("info", BLUE),
    "no data": ("dash", _GRAY),
    "draining": ("drain", PURPLE),
    "stopped": ("square", _GRAY),
    "retired": ("box", _GRAY),
}


def color(state: str) -> str:
    """Return the color of a state; gray for one that is not known."""
    return _STATES.get(state, ("dash", _GRAY))[1]


def icon(state: str, size: int = 11) -> Safe:
    """Return the small drawing of a state; it is silent to a screen reader, the word beside it speaks."""
    shape, ink = _STATES.get(state, ("dash", _GRAY))
    path = el(
        "path", d=_PATHS[shape], fill=ink if shape == "play" else "none", stroke=ink, stroke_width="1.7",
        stroke_linecap="round", stroke_linejoin="round",
    )  # fmt: skip
    return el("svg", path, width=size, height=size, viewBox="0 0 12 12", aria_hidden="true", focusable="false")


def badge(state: str, *, tone: str = "") -> Safe:
    """Return a state as a badge, with the icon and the color of another where `tone` names it."""
    ink = color(tone or state)
    return el(
        "span",
        icon(tone or state),
        el("b", state),
        class_="sft-b",
        style=f"border-color:{ink};background-color:{ink}1f",
    )


def tag(text: str) -> Safe:
    """Return a short name (an alias, a split) in a thin frame."""
    return el("span", text, class_="sft-t")


def note(level: str, *children: str) -> Safe:
    """Return one line of a list of remarks."""
    spoken = {"warning": "warning: ", "problem": "problem: ", "error": "error: "}.get(level)
    word = el("strong", spoken) if spoken else None
    return el("li", icon(level), el("span", word, *children, class_="sft-u"))


def notes(*items: Safe) -> Safe:
    """Return remarks as a list, or nothing when there is none."""
    return el("ul", *items, class_="sft-l") if items else Safe("")
