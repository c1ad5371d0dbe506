"""Panels as a reader sees them: their HTML, their words, their tables."""

import re
from html.parser import HTMLParser
from xml.etree import ElementTree

from sft_magics.notebook import panels

LIMIT = 200_000


class Reader(HTMLParser):
    """Collects what a browser would make of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.handlers: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.handlers += [name for name, _ in attrs if name.startswith("on")]

    def handle_data(self, data: str) -> None:
        self.text += data


def drawn(thing: object, **options: object) -> str:
    page = panels.html(thing, **options)  # type: ignore[arg-type]
    assert page is not None
    return page


def words(thing: object, **options: object) -> str:
    """What a person reads: without the style sheet, spaces made one."""
    parted = re.sub(r"(</(?:td|th|dt|dd|div|p|li|caption)>)", r"\1 ", drawn(thing, **options))
    root = ElementTree.fromstring(f"<page>{parted}</page>")
    return " ".join("".join(root[1].itertext()).split())


def tables(thing: object) -> list[ElementTree.Element]:
    return list(ElementTree.fromstring(f"<page>{drawn(thing)}</page>").iter("table"))
