"""Boxes of a picture: a class and its corners in pixels, as they are written into a data set's label column."""

import json
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Box:
    """One thing in a picture: its class, and left, top, right, bottom in pixels of the file."""

    label: str
    left: float
    top: float
    right: float
    bottom: float

    @property
    def corners(self) -> tuple[float, float, float, float]:
        """Left, top, right, bottom."""
        return self.left, self.top, self.right, self.bottom

    def wrong(self, width: int, height: int) -> str:
        """Return what is wrong with the box in a picture of that size, or an empty string."""
        if not (self.right > self.left and self.bottom > self.top):
            return "a box has no area"
        if self.left < -1 or self.top < -1 or self.right > width + 1 or self.bottom > height + 1:
            return f"a box leaves the picture of {width} x {height}"
        return ""

    def cut(self, width: int, height: int) -> "Box":
        """Return the box with its corners inside the picture."""
        left, right = (min(max(0.0, x), float(width)) for x in (self.left, self.right))
        top, bottom = (min(max(0.0, y), float(height)) for y in (self.top, self.bottom))
        return Box(self.label, left, top, right, bottom)

    def overhangs(self, width: int, height: int) -> bool:
        """Whether a corner lies outside a picture of that size by what is written down, a tenth of a pixel."""
        cut = self.cut(width, height).corners
        return any(round(abs(a - b), 1) > 0 for a, b in zip(self.corners, cut, strict=True))


def dumps(boxes: Iterable[Box]) -> str:
    """Return boxes as one line of JSON, in an order that does not depend on the source's."""
    rows = sorted([b.label, *(round(x, 1) for x in b.corners)] for b in boxes)
    return json.dumps(rows, ensure_ascii=False, separators=(",", ":"))


def loads(text: str) -> list[Box]:
    """Return the boxes that `dumps` wrote."""
    return [Box(str(label), *map(float, corners)) for label, *corners in json.loads(text)]
