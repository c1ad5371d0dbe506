"""What four numbers of a box in a table mean: corners, or a corner and a size; pixels, or shares of the picture.

Boxes vote, and few do not decide for all: left, top, width, height is the usual meaning, and is left only where many
boxes leave their pictures so and next to none do as corners. In between the user is asked.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sft_magics.core import errors
from sft_magics.core.records import Finding
from sft_magics.datasets.annotations.boxes import Box
from sft_magics.datasets.pictures.image_files import ImageProbe

LAYOUTS = ("auto", "xywh", "xyxy")
_FEW = 0.1  # of the boxes may be wrong without being heard
_MANY = 0.25  # of the boxes have to leave their pictures as corner and size, if they are to be read as corners
Four = tuple[float, float, float, float]
_WORDS = {"xywh": "left, top, width, height", "xyxy": "left, top, right, bottom"}


@dataclass(frozen=True)
class Layout:
    """How the numbers of all boxes of a table are read."""

    kind: str  # xywh or xyxy
    shares: bool

    def corners(self, four: Four, look: ImageProbe) -> Four:
        """Return left, top, right, bottom in pixels of an upright picture."""
        a, b, c, d = four
        if self.shares:
            a, b, c, d = a * look.width, b * look.height, c * look.width, d * look.height
        return (a, b, c, d) if self.kind == "xyxy" else (a, b, a + c, b + d)


def settled(where: str, marks: Sequence[tuple[ImageProbe, Four]], wanted: str = "auto") -> tuple[Layout, Finding]:
    """Return how boxes are read, each given with its picture, and what speaks for it and against.

    `wanted` is what the user says: auto, xywh or xyxy. Raises DataProblem where the boxes do not show it.
    """
    shares = bool(marks) and sum(max(four) <= 1.0 for _, four in marks) >= (1 - _FEW) * len(marks)
    wrong = {kind: _leaving(marks, Layout(kind, shares)) for kind in _WORDS}
    kind = _voted(where, wrong, len(marks)) if wanted == "auto" else wanted
    return Layout(kind, shares), _said(kind, wrong, len(marks), shares=shares, told=wanted != "auto")


def _leaving(marks: Sequence[tuple[ImageProbe, Four]], how: Layout) -> int:
    """Return how many boxes have no area or leave their pictures when they are read so, in the stored one too."""
    return sum(not _fits(Box("", *how.corners(four, look)), look) for look, four in marks)


def _fits(box: Box, look: ImageProbe) -> bool:
    return any(not box.wrong(*size) for size in {(look.width, look.height), look.stored})


def _voted(where: str, wrong: dict[str, int], number: int) -> str:
    if wrong["xywh"] <= _FEW * number:
        return "xywh"
    if wrong["xywh"] >= _MANY * number and wrong["xyxy"] <= _FEW * number:
        return "xyxy"
    raise errors.DataProblem(
        f"The boxes of {where} do not show what their numbers mean: of {number:,}, {wrong['xywh']:,} leave their "
        f"picture as {_WORDS['xywh']}, and {wrong['xyxy']:,} as {_WORDS['xyxy']}.",
        "say it: --boxes xywh, or --boxes xyxy.",
    )


def _said(kind: str, wrong: dict[str, int], number: int, *, shares: bool, told: bool) -> Finding:
    other = "xyxy" if kind == "xywh" else "xywh"
    message = f"Boxes were read as {_WORDS[kind]}, in {'shares' if shares else 'pixels'}"
    if told:
        return Finding("info", "boxes", f"{message}.")
    message += f": {number - wrong[kind]:,} of {number:,} fit their pictures so"
    message += f", {number - wrong[other]:,} as {_WORDS[other]} (--boxes {other})."
    return Finding("warning" if wrong[kind] else "info", "boxes", message)
