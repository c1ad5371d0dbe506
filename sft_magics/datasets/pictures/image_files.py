"""Image files: found, opened whole, hashed and measured; and shown small, as text that a page can hold."""

import base64
import hashlib
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from sft_magics.core.picture_formats import FORMATS, is_picture
from sft_magics.datasets.pictures import decoding

if TYPE_CHECKING:
    from PIL.Image import Image

_THUMBNAIL = 56
_THREADS = 4
_EXACT = 512 * 512  # pixels up to which a JPEG is decoded whole, so that the same picture in another format is found
_DRAFT = (64, 64)


@dataclass(frozen=True)
class ImageProbe:
    """What a look at an image file found: the SHA-256 of the file and its sides in pixels, or what is wrong with it.

    `width` and `height` are those of the upright picture, `turn` is its EXIF orientation. `pixels` is a hash of what it
    shows, alike for the same picture in another lossless format. `deep` is the brightest value of gray of 16 bits, 0
    for others. `pages` says that the file holds more than one picture.
    """

    path: str
    sha256: str = ""
    width: int = 0
    height: int = 0
    wrong: str = ""
    turn: int = 1
    pixels: str = ""
    deep: int = 0
    pages: bool = False

    @property
    def stored(self) -> tuple[int, int]:
        """Width and height as they lie in the file, before the picture is turned upright."""
        return (self.height, self.width) if decoding.is_sideways(self.turn) else (self.width, self.height)


@dataclass(frozen=True)
class Kept:
    """What is known of pictures that came without files: why a cell holds none, and which row a path was written for.

    Both are keyed by what stands in the place of the picture.
    """

    wrong: Mapping[str, str] = field(default_factory=dict)
    rows: Mapping[str, str] = field(default_factory=dict)

    def named(self, path: str) -> str:
        """Return what a user knows a picture by: its row, or the name of its file."""
        return self.rows.get(path) or Path(path).name


NONE_KEPT = Kept()


def is_hidden(name: str) -> bool:
    """Report whether a file or folder is one that systems leave behind, such as `._a.jpg` and `__MACOSX`."""
    return name.startswith(".") or name == "__MACOSX"


def below(folder: Path) -> Iterator[Path]:
    """Yield the image files below a folder by name; hidden files and folders are passed over."""
    for entry in sorted(folder.iterdir()):
        if is_hidden(entry.name):
            continue
        if entry.is_dir():
            yield from below(entry)
        elif is_picture(entry.name):
            yield entry


def pictures_below(folder: str) -> list[str]:
    """Return the paths of the image files below a folder."""
    return [str(path) for path in below(Path(folder).expanduser())]


def look(path: str) -> ImageProbe:
    """Read and decode one file whole, a large JPEG at a fraction of its size; whatever it holds, nothing is raised."""
    from PIL import Image

    try:
        data = Path(path).read_bytes()
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            pages = image.format in ("GIF", "TIFF", "WEBP") and bool(getattr(image, "is_animated", False))
            wide, high = image.size
            if wide * high > _EXACT:
                image.draft("RGB", _DRAFT)
            image.load()
            wide, high = image.size if image.format == "TIFF" else (wide, high)  # Pillow turns a TIFF as it loads it
            turn = decoding.orientation(image)
            deep = _brightest(image)
            seen = decoding.rgb(image)
    except Exception as error:  # noqa: BLE001 - a damaged file can fail in any way its decoder has
        return ImageProbe(path, wrong=reason(error))
    wide, high = (high, wide) if decoding.is_sideways(turn) else (wide, high)
    shown = hashlib.sha256(f"{wide} {high} {seen.size}".encode())
    shown.update(seen.tobytes())
    return ImageProbe(
        path, hashlib.sha256(data).hexdigest(), wide, high, turn=turn, pixels=shown.hexdigest(), deep=deep, pages=pages
    )


def _brightest(image: "Image") -> int:
    return int(image.getextrema()[1]) if image.mode in decoding.DEEP else 0  # type: ignore[arg-type]


def shorter_side(path: str) -> int:
    """Return the shorter side of a picture in pixels, by its head; 0 where that cannot be read."""
    from PIL import Image

    try:
        with Image.open(path, formats=FORMATS) as image:
            return int(min(image.size))
    except Exception:  # noqa: BLE001 - a damaged file can fail in any way its decoder has
        return 0


def reason(error: Exception) -> str:
    """Return what a picture's decoder has to say, in a few words."""
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    return "it is no image that can be read" if "cannot identify" in text else text[:120]


def look_at(
    paths: Sequence[str], progress: Callable[[str, int, int], None], kept: Kept = NONE_KEPT
) -> list[ImageProbe]:
    """Look at many files, a few at once; `progress` hears how many are done."""
    found: list[ImageProbe] = []

    def seen(path: str) -> ImageProbe:
        return ImageProbe(path, wrong=kept.wrong[path]) if path in kept.wrong else look(path)

    with ThreadPoolExecutor(_THREADS) as pool:
        for one in pool.map(seen, paths, chunksize=16):
            found.append(one)
            if len(found) % 100 == 0 or len(found) == len(paths):
                progress("looking at images", len(found), len(paths))
    return found


def thumbnail(path: str) -> str:
    """Return a small copy of an image as a `data:` address, or an empty string where the file cannot be read."""
    from PIL import Image

    try:
        with Image.open(path, formats=FORMATS) as image:
            image.draft("RGB", (2 * _THUMBNAIL, 2 * _THUMBNAIL))
            small = decoding.rgb(image)
    except Exception:  # noqa: BLE001 - a picture that has gone is shown by its name alone
        return ""
    small.thumbnail((_THUMBNAIL, _THUMBNAIL))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
