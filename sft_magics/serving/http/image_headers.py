"""Pictures that come from outside: what they are is read from their header before a pixel is decoded."""

import hashlib
import io
import re
import warnings
from typing import Any

from sft_magics.core.picture_formats import FORMATS
from sft_magics.serving.http import decompression
from sft_magics.serving.problems import HttpProblem

_ADDRESS = re.compile(r"\s*[a-z][a-z0-9+.-]*://", re.IGNORECASE)
MAX_PIXELS = 64_000_000
MAX_RATIO = 100  # of the sides: a model enlarges the shorter one to its own size, and the longer one with it


def decoded(value: Any, where: str) -> bytes:
    """Return the bytes of a file that is written in base 64, bare or as a data: address; raises HttpProblem 400."""
    if not isinstance(value, str):
        raise HttpProblem(400, f"{where} shall be an image file in base 64.")
    if _ADDRESS.match(value):
        raise HttpProblem(400, f"{where} is an address, and nothing is fetched; send the image file in base 64.")
    try:
        return decompression.from_base64(value)
    except ValueError:
        raise HttpProblem(400, f"{where} is not base 64; send the image file in base 64.") from None


def described(data: bytes, where: str) -> tuple[str, int]:
    """Return what an image's file is with its hash, and its number of pixels; raises HttpProblem (400, 413) for what
    shall not be decoded.
    """
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of large ones Pillow warns; the bound here is ours
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                kind, (wide, high) = str(image.format), image.size
    except Exception:  # noqa: BLE001 - a hostile file can fail in any way its decoder has
        known = ", ".join(FORMATS)
        raise HttpProblem(400, f"{where} is not an image that can be read; {known} can.") from None
    if wide * high > MAX_PIXELS:
        millions = f"{MAX_PIXELS // 1_000_000} million"
        raise HttpProblem(413, f"{where} has {wide:,} x {high:,} pixels; {millions} are allowed.")
    if max(wide, high) > MAX_RATIO * min(wide, high):
        raise HttpProblem(
            400, f"{where} has {wide:,} x {high:,} pixels; one side may be {MAX_RATIO} times as long as the other."
        )
    return f"{kind} of {wide} x {high} pixels, sha256 {hashlib.sha256(data).hexdigest()}", wide * high
