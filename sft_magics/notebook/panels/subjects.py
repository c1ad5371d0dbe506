"""What a model was asked about, in a cell of a table: a text, or a small picture with its file's name."""

from sft_magics.notebook.panels.markup import Safe, el, muted, shorten, spaced

_STYLE = "min-height:28px;max-width:144px;max-height:144px;vertical-align:middle"


def subject(text: str, picture: str = "", limit: int = 280) -> Safe:
    """Return a text as it is, or an image; `picture` is its data: address, the only kind of address that is shown."""
    if not picture.startswith("data:image/"):
        return el("span", shorten(text, limit), class_="sft-u")
    name = text.replace("\\", "/").rsplit("/", 1)[-1]
    image = el("img", src=picture, alt=shorten(name, 60), title=shorten(text), style=_STYLE)
    return el("span", *spaced(image, muted(shorten(name, 32))), class_="sft-u")
