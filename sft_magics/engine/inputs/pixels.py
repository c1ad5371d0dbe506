"""From a picture's file to the numbers that a network reads, without torch: endpoints that have none prepare so too.

Resizing is Pillow's, with antialiasing, as torchvision's own presets do it. A picture is the path of a file, or the
bytes of one.
"""

import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sft_magics.core.picture_formats import FORMATS
from sft_magics.datasets.pictures import decoding
from sft_magics.datasets.pictures.image_files import reason

Source = str | bytes
Pixels = NDArray[np.uint8]

_ROUND = 32
_LONGEST = 2  # times the shorter side; what is longer is seen smaller
_GRAY = 128
_MEASURED = 1024  # pixels of a mask's longer side at which it is measured


def file(source: Source) -> Image.Image:
    """Open a picture's file; raises what Pillow raises."""
    return Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=FORMATS)


def named(source: Source) -> str:
    """Return how a picture is called in a sentence."""
    return source if isinstance(source, str) else f"a file of {len(source):,} bytes"


def wrong(source: Source, error: Exception) -> str:
    """Return a picture's name with what its decoder has to say."""
    return f"{named(source)} ({reason(error)})"


# A square of one size


def opened(source: Source, resize: int) -> Image.Image:
    """Return a file's picture in RGB, upright, on white where it is transparent, its shorter side `resize` pixels."""
    with file(source) as image:
        image.draft("RGB", (2 * resize, 2 * resize))
        picture = decoding.rgb(image)
    short = min(picture.size)
    if short == resize:
        return picture
    # The longer side is cut short, not rounded: so does torchvision.
    wide, high = (max(1, int(resize * side / short)) for side in picture.size)
    return picture.resize((wide, high), Image.Resampling.BILINEAR)


def center(image: Image.Image, size: int) -> Image.Image:
    """Return the square in the middle of a picture."""
    left, top = round((image.width - size) / 2), round((image.height - size) / 2)
    return image.crop((left, top, left + size, top + size))


# A picture that keeps the ratio of its sides


def scene(source: Source, size: int) -> Image.Image:
    """Return a picture upright, in RGB over white, at up to twice the `size` of its shorter side that is seen.

    `info["size"]` are the sides of the whole upright picture.
    """
    with file(source) as image:
        picture = decoding.rgb(image)
    picture.info["size"] = picture.size
    scale = 2 * size / min(picture.size)
    if scale < 1:  # a larger one costs memory and shows no more
        small = picture.resize((round(picture.width * scale), round(picture.height * scale)))
        small.info["size"] = picture.size
        return small
    return picture


def fitted(image: Image.Image, size: int) -> Image.Image:
    """Return a scene as it is seen: its shorter side `size` pixels, or less where the longer one would be too long."""
    scale = min(size / min(image.size), _LONGEST * size / max(image.size))
    sides = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image if sides == image.size else image.resize(sides, Image.Resampling.BILINEAR)


def canvas(images: Sequence[Image.Image]) -> Pixels:
    """Return fitted pictures on one canvas, rows x height x width x 3: what they do not cover is gray."""
    wide, high = (-(-max(side) // _ROUND) * _ROUND for side in zip(*(im.size for im in images), strict=True))
    made: Pixels = np.full((len(images), high, wide, 3), _GRAY, dtype=np.uint8)
    for row, image in enumerate(images):
        made[row, : image.height, : image.width] = np.asarray(image)
    return made


def measured_size(outer: tuple[int, int]) -> tuple[int, int]:
    """Return width and height at which a mask of a file of that size is measured: 1,024 pixels at most."""
    scale = min(1.0, _MEASURED / max(outer))
    return max(1, round(outer[0] * scale)), max(1, round(outer[1] * scale))
