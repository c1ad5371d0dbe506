"""Image files: found, opened whole, hashed and measured; and shown small, as text that a page can hold."""

import base64
import hashlib
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
_THUMBNAIL = 56
_THREADS = 4


@dataclass(frozen=True)
class Looked:
    """What a look at an image file found: the SHA-256 of the file and its sides in pixels, or what is wrong with it."""

    path: str
    sha256: str = ""
    width: int = 0
    height: int = 0
    wrong: str = ""


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


def is_picture(name: str) -> bool:
    """Say whether a file's name ends like an image's."""
    return name.lower().endswith(SUFFIXES)


def below(folder: Path) -> Iterator[Path]:
    """Yield the image files below a folder by name; hidden files and folders are passed over."""
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            yield from below(entry)
        elif is_picture(entry.name):
            yield entry


def pictures_below(folder: str) -> list[str]:
    """Return the paths of the image files below a folder."""
    return [str(path) for path in below(Path(folder).expanduser())]


def look(path: str) -> Looked:
    """Read and decode one file whole, a JPEG at a fraction of its size; whatever it holds, this raises nothing."""
    from PIL import Image

    try:
        data = Path(path).read_bytes()
        with Image.open(io.BytesIO(data)) as image:
            width, height = image.size
            image.draft("RGB", (64, 64))
            image.load()
    except FileNotFoundError:
        return Looked(path, wrong="there is no such file")
    except Exception as error:  # noqa: BLE001 - a damaged file can fail in any way its decoder has
        return Looked(path, wrong=reason(error))
    return Looked(path, hashlib.sha256(data).hexdigest(), width, height)


def shorter_side(path: str) -> int:
    """Return the shorter side of a picture in pixels, by its head; 0 where that cannot be read."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            return int(min(image.size))
    except Exception:  # noqa: BLE001 - a damaged file can fail in any way its decoder has
        return 0


def reason(error: Exception) -> str:
    """Return what a picture's decoder has to say, in a few words."""
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    return "it is no image that can be read" if "cannot identify" in text else text[:120]


def look_at(paths: Sequence[str], progress: Callable[[str, int, int], None], kept: Kept = NONE_KEPT) -> list[Looked]:
    """Look at many files, a few at once; `progress` hears how many are done."""
    found: list[Looked] = []

    def seen(path: str) -> Looked:
        return Looked(path, wrong=kept.wrong[path]) if path in kept.wrong else look(path)

    with ThreadPoolExecutor(_THREADS) as pool:
        for one in pool.map(seen, paths, chunksize=16):
            found.append(one)
            if len(found) % 100 == 0 or len(found) == len(paths):
                progress("looking at images", len(found), len(paths))
    return found


def thumbnail(path: str) -> str:
    """Return a small copy of an image as a `data:` address, or an empty string where the file cannot be read."""
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as image:
            image.draft("RGB", (2 * _THUMBNAIL, 2 * _THUMBNAIL))
            small = ImageOps.exif_transpose(image).convert("RGBA")
    except Exception:  # noqa: BLE001 - a picture that has gone is shown by its name alone
        return ""
    small.thumbnail((_THUMBNAIL, _THUMBNAIL))
    paper = Image.new("RGB", small.size, "white")
    paper.paste(small, mask=small.getchannel("A"))
    buffer = io.BytesIO()
    paper.save(buffer, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
