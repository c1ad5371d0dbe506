"""Decode a picture as a person sees it: upright, RGB, over white; for training, previews, predictions, endpoints.

Gray of 16 bits is scaled by its full range, 65,535 to 255. Decimal numbers (32-bit float TIFF) run from 0 to 1, and are
scaled to 255. Pixels beyond these ranges have no agreed brightness, so such pictures are refused. Whatever is
transparent shows white. An orientation that a camera noted (EXIF, XMP) is applied.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL.Image import Image

DEEP = ("I;16", "I;16L", "I;16B", "I;16N", "I")
DEEPEST = 65_535
_ORIENTATION = 0x0112
_SIDEWAYS = (5, 6, 7, 8)


def rgb(image: "Image") -> "Image":
    """Return an opened picture upright, in RGB, over white.

    Raises ValueError for pixels that have no agreed brightness, and whatever Pillow raises for a damaged file.
    """
    image.load()
    return turned(colored(image), orientation(image))


def colored(image: "Image") -> "Image":
    """Return a picture in RGB over white, as it lies in its file. Raises as `rgb` does."""
    from PIL import Image

    if image.mode in DEEP:
        return Image.fromarray(_from_16_bits(image)).convert("RGB")
    if image.mode == "F":
        return Image.fromarray(_from_decimals(image)).convert("RGB")
    if not image.has_transparency_data:
        return image.convert("RGB")
    clear = image.convert("RGBA")
    paper = Image.new("RGB", clear.size, "white")
    paper.paste(clear, mask=clear.getchannel("A"))
    return paper


def orientation(image: "Image") -> int:
    """Return the EXIF orientation (1 to 8) of a loaded picture; 1, upright, where none is noted or it is damaged.

    A TIFF is turned by Pillow as it is loaded, so the picture has to be loaded first.
    """
    try:
        found = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # noqa: BLE001 - damaged EXIF data can fail in any way its parser has
        return 1
    return int(found) if found in range(1, 9) else 1


def turned(image: "Image", turn: int) -> "Image":
    """Return a picture turned upright by its EXIF orientation."""
    from PIL.Image import Transpose

    methods = {
        2: Transpose.FLIP_LEFT_RIGHT, 3: Transpose.ROTATE_180, 4: Transpose.FLIP_TOP_BOTTOM, 5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270, 7: Transpose.TRANSVERSE, 8: Transpose.ROTATE_90,
    }  # fmt: skip
    return image.transpose(methods[turn]) if turn in methods else image


def is_sideways(turn: int) -> bool:
    """Report whether an EXIF orientation swaps width and height."""
    return turn in _SIDEWAYS


def _from_16_bits(image: "Image") -> Any:
    import numpy as np

    values = np.asarray(image).astype(np.int64)
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > DEEPEST:
        raise ValueError(f"its pixels run from {low:,} to {high:,}; gray of 16 bits runs from 0 to {DEEPEST:,}")
    seen = ((values * 255 + DEEPEST // 2) // DEEPEST).astype(np.uint8)
    clear = image.info.get("transparency")
    if isinstance(clear, int):
        seen[values == clear] = 255
    return seen


def _from_decimals(image: "Image") -> Any:
    import numpy as np

    values = np.asarray(image)
    if not np.isfinite(values).all():
        raise ValueError("some of its pixels are no numbers (NaN or infinite)")
    low, high = float(values.min()), float(values.max())
    if low < 0 or high > 1:
        raise ValueError(f"its pixels are decimal numbers from {low:.4g} to {high:.4g}; they have to run from 0 to 1")
    return np.rint(values * 255).astype(np.uint8)
