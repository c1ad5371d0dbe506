"""Which way up labels mean a picture that a camera noted as turned (EXIF): as a person sees it, or as it is stored.

A declared width and height decide where they differ from one another, else boxes that fit only one way. What one
picture of a source shows holds for those of which nothing is known; where nothing is known of any, labels are taken as
made on the upright picture, as labeling tools show it, and a finding says so.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from sft_magics.core.records import Finding
from sft_magics.datasets.annotations.boxes import Box
from sft_magics.datasets.naming import counted
from sft_magics.datasets.pictures.image_files import ImageProbe

Frame = Literal["upright", "stored"]
Size = tuple[int, int]


@dataclass(frozen=True)
class Scene:
    """A picture and what is marked in it, as a source says it.

    `wrong` says what makes the whole picture unusable, `faults` what is wrong with boxes that could not be read. `size`
    are the width and height the source declares, and `crowd` counts boxes around crowds, which are left out.
    """

    path: Path
    boxes: list[Box] = field(default_factory=list)
    split: str | None = None
    wrong: str = ""
    faults: tuple[str, ...] = ()
    size: Size | None = None
    crowd: int = 0


def settled(scenes: Sequence[Scene], looks: Sequence[ImageProbe]) -> tuple[list[Scene], tuple[Finding, ...]]:
    """Return scenes whose boxes are in pixels of the upright picture, and what was decided.

    A picture whose declared size is not its own, and one that could be meant either way, get a `wrong`.
    """
    said = [evidence(scene, look) for scene, look in zip(scenes, looks, strict=True)]
    frame = agreed([frame for frame, _ in said])
    found = []
    for scene, look, (own, wrong) in zip(scenes, looks, said, strict=True):
        meant = own or frame
        is_open = look.turn != 1 and meant is None and bool(scene.boxes)
        doubt = "a camera noted it as turned, and its boxes fit both ways" if is_open else ""
        moved = [_upright(box, look) for box in scene.boxes] if look.turn != 1 and meant == "stored" else scene.boxes
        found.append(replace(scene, boxes=moved, wrong=scene.wrong or wrong or doubt))
    return found, told([own for own, _ in said], looks, frame, "boxes")


def evidence(scene: Scene, look: ImageProbe) -> tuple[Frame | None, str]:
    """Return what a picture's labels say of the way up, if anything, and what is wrong with its declared size."""
    if look.wrong:
        return None, ""
    upright, stored = (look.width, look.height), look.stored
    if scene.size is not None and scene.size not in (upright, stored):
        return None, f"its labels are for {_sides(scene.size)} pixels, and it is {_sides(upright)}"
    if upright == stored:
        return None, ""
    if scene.size is not None:
        return ("upright" if scene.size == upright else "stored"), ""
    fits = {frame: _all_fit(scene.boxes, size) for frame, size in (("upright", upright), ("stored", stored))}
    if fits["upright"] == fits["stored"]:
        return None, ""
    return ("upright" if fits["upright"] else "stored"), ""


def agreed(known: Sequence[Frame | None]) -> Frame | None:
    """Return the way up that holds where nothing is known: None where a source shows both."""
    met = {frame for frame in known if frame is not None}
    return met.pop() if len(met) == 1 else None if met else "upright"


def told(
    known: Sequence[Frame | None], looks: Sequence[ImageProbe], frame: Frame | None, what: str
) -> tuple[Finding, ...]:
    """Return what was decided for the pictures that are turned."""
    turned = [own for own, look in zip(known, looks, strict=True) if look.turn != 1 and not look.wrong]
    if not turned:
        return ()
    guessed = sum(own is None for own in turned)
    pictures = counted(len(turned), "picture was noted", "pictures were noted")
    way = {"upright": "the upright picture", "stored": "the picture as it is stored", None: "what their sizes say"}[
        frame
    ]
    message = f"{pictures} as turned by a camera (EXIF); their {what} were read as made on {way}."
    if guessed:
        message += f" The size of {counted(guessed, 'picture', 'pictures')} does not show it: look at the examples."
    return (Finding("warning" if guessed else "info", "orientation", message),)


def _sides(size: Size) -> str:
    return f"{size[0]} x {size[1]}"


def _all_fit(boxes: Sequence[Box], size: Size) -> bool:
    return not any(box.wrong(*size) for box in boxes)


def _upright(box: Box, look: ImageProbe) -> Box:
    """Return a box of the stored picture where it lies in the upright one."""
    wide, high = look.stored
    a, b, c, d = box.corners
    across, down = (wide - c, wide - a), (high - d, high - b)
    left, top, right, bottom = {
        2: (across[0], b, across[1], d),
        3: (across[0], down[0], across[1], down[1]),
        4: (a, down[0], c, down[1]),
        5: (b, a, d, c),
        6: (down[0], a, down[1], c),
        7: (down[0], across[0], down[1], across[1]),
        8: (b, across[0], d, across[1]),
    }[look.turn]
    return Box(box.label, left, top, right, bottom)


def mask_evidence(look: ImageProbe, size: Size) -> tuple[Frame | None, str]:
    """Return which way up a mask of that width and height is, if its size shows it, or that it fits neither way."""
    return evidence(Scene(Path(look.path), size=size), look)
