"""Pictures with what is marked in them, small, as `data:` addresses: boxes with their classes, masks as a tint."""

import base64
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sft_magics.core.colors import CLASS_COLORS, class_colors
from sft_magics.core.picture_formats import FORMATS
from sft_magics.datasets.annotations import masks
from sft_magics.datasets.annotations.boxes import Box
from sft_magics.datasets.pictures import decoding

if TYPE_CHECKING:
    from PIL.Image import Image

SIDE = 144
COLORS = tuple(tuple(bytes.fromhex(color[1:])) for color in CLASS_COLORS)
_NO_CLASS = (128, 128, 128)
TRUTH = COLORS[2]
_GAP = 4


def boxed(path: str, found: Sequence[Box], truth: Sequence[Box] = ()) -> str:
    """Return a picture with the boxes that were found, and those of the truth in green; "" where it cannot be read."""
    from PIL import ImageDraw

    image = _opened(path)
    if image is None:
        return ""
    small, scale = _small(image)
    pen = ImageDraw.Draw(small)
    for box in truth:
        pen.rectangle([x * scale for x in box.corners], outline=TRUTH, width=1)
    for box in found:
        corners = [x * scale for x in box.corners]
        pen.rectangle(corners, outline=COLORS[0], width=2 if truth else 1)
    return _encoded(small)


def tinted(path: str, mask: Any, truth: str = "", *, labels: Sequence[str]) -> str:
    """Return a picture under the colors of its mask (a path, or numbers height x width), and to its right under those
    of its truth, if there is one; "" where it cannot be read. `labels` are the classes, of which each has its color.
    """
    from PIL import Image

    image = _opened(path)
    if image is None:
        return ""
    small, _ = _small(image)
    sides = [_under(small, mask, labels), *([_under(small, truth, labels)] if truth else [])]
    width = sum(side.width for side in sides) + _GAP * (len(sides) - 1)
    sheet = Image.new("RGB", (width, small.height), "white")
    for number, side in enumerate(sides):
        sheet.paste(side, (number * (small.width + _GAP), 0))
    return _encoded(sheet)


def shown(image: "Image") -> str:
    """Return a picture as it is, small."""
    return _encoded(_small(image)[0])


def classed(image: "Image", marks: "Sequence[tuple[int, Sequence[float]]]") -> str:
    """Return a picture with boxes in the colors of their classes, each the class's number and its corners in pixels."""
    from PIL import ImageDraw

    small, scale = _small(image)
    pen = ImageDraw.Draw(small)
    for kind, corners in marks:
        pen.rectangle([x * scale for x in corners], outline=COLORS[kind % len(COLORS)], width=2)
    return _encoded(small)


def masked(image: "Image", mask: Any, labels: Sequence[str]) -> str:
    """Return a picture under the colors of its mask, numbers height x width, of these classes."""
    return _encoded(_under(_small(image)[0], mask, labels))


def _under(small: "Image", mask: Any, labels: Sequence[str]) -> "Image":
    """Return a picture mixed with the colors of its mask; as it is where that has gone."""
    import numpy as np
    from PIL import Image

    try:
        numbers = masks.read(mask) if isinstance(mask, str) else np.asarray(mask, dtype=np.uint8)
    except Exception:  # noqa: BLE001 - a mask that has gone is left out of the picture
        return small
    shrunk = np.asarray(Image.fromarray(numbers).resize(small.size, Image.Resampling.NEAREST))
    palette = np.full((256, 3), _NO_CLASS, dtype=np.float32)
    for i, color in enumerate(class_colors(labels)):
        palette[i] = tuple(bytes.fromhex(color[1:]))
    mixed = 0.5 * np.asarray(small, dtype=np.float32) + 0.5 * palette[shrunk]
    return Image.fromarray(mixed.astype(np.uint8))


def _opened(path: str) -> "Image | None":
    from PIL import Image

    try:
        with Image.open(path, formats=FORMATS) as image:
            return decoding.rgb(image)
    except Exception:  # noqa: BLE001 - a picture that has gone is shown by its name alone
        return None


def _small(image: "Image") -> "tuple[Image, float]":
    scale = min(1.0, SIDE / max(image.size))
    wide, high = (max(1, round(side * scale)) for side in image.size)
    return (image.resize((wide, high)) if scale < 1 else image.copy()), scale


def _encoded(image: "Image") -> str:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
