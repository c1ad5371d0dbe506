"""Small pictures with one thing in each, and the ways in which cameras turn them."""

from pathlib import Path

from PIL import Image

from sft_magics.core.records import Finding
from sft_magics.datasets.annotations.boxes import Box
from sft_magics.datasets.loaded import Loaded
from sft_magics.datasets.pictures import decoding

SIDES = (60, 40)
BACK = {5: 5, 6: 8, 7: 7, 8: 6}  # what undoes an orientation; the others undo themselves


def thing(number: int, sides: tuple[int, int] = SIDES) -> tuple[Image.Image, Box]:
    """A picture with a red or a blue rectangle, and its box."""
    left, top = 4 + number % 7, 3 + number % 5
    image = Image.new("RGB", sides, (90, 90, 90 + number))
    label = ("red", "blue")[number % 2]
    image.paste(label, (left, top, left + 20, top + 10))
    return image, Box(label, left, top, left + 20, top + 10)


def save(image: Image.Image, path: Path, turn: int = 1) -> Path:
    """Write a picture that is upright again by its EXIF orientation."""
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    exif[0x0112] = turn
    decoding.turned(image, BACK.get(turn, turn)).save(path, exif=exif)
    return path


def codes(found: Loaded) -> dict[str, Finding]:
    """The findings of a source by their codes."""
    return {finding.code: finding for finding in found.findings}
