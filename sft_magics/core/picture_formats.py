"""The formats of image files: one list for training data, for predictions, and for endpoints."""

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM")
"""Pillow's names of the formats that are decoded; no other decoder of Pillow is ever tried."""

SUFFIXES = (
    ".jpg", ".jpeg", ".jfif", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm",
)  # fmt: skip
"""How the names of such files end, in lower case."""

UNREAD = (".heic", ".heif", ".avif", ".jp2", ".jxl", ".svg", ".psd", ".dng", ".cr2", ".nef", ".arw", ".dcm", ".npy")
"""How the names of pictures in other formats end: they are counted where they are passed over."""


def is_picture(name: str) -> bool:
    """Report whether a file's name ends like that of an image which can be decoded."""
    return name.lower().endswith(SUFFIXES)
