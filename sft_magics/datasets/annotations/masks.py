"""Masks: pictures whose pixels are the numbers of classes, as wide and high as the picture that they belong to.

Names stand in `FOLDER/classes.txt`, a line each from 0 on, or with a color each in CVAT's `labelmap.txt` or in
`class_dict.csv`; without them they are the numbers. 255 is no class: such pixels count neither in the loss nor in a
metric. A mask in color, and one made on a picture as it is stored where a camera noted that it is turned (EXIF), is
written once more, as numbers and upright. Pascal VOC's `JPEGImages` and `SegmentationClass` are read too.
"""

import hashlib
import io
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sft_magics.core import errors, workspace
from sft_magics.core.picture_formats import FORMATS
from sft_magics.core.records import Finding
from sft_magics.core.tasks import SEMANTIC_SEGMENTATION
from sft_magics.datasets.annotations import mask_names, mask_pairs
from sft_magics.datasets.annotations.mask_names import Color, Meaning
from sft_magics.datasets.annotations.mask_pairs import Row, fits
from sft_magics.datasets.pictures import decoding, image_files, image_sources, orientation
from sft_magics.datasets.pictures.image_files import NONE_KEPT, ImageProbe, Kept
from sft_magics.datasets.pictures.orientation import Frame

if TYPE_CHECKING:
    from sft_magics.datasets.loaded import Loaded, Progress

__all__ = ["NOTHING", "Mask", "Row", "fits", "load", "loaded", "read"]

NOTHING = 255
_THREADS = 4
_NO_COLORS: Mapping[Color, int] = {}
_NUMBERS = ("L", "P", "1", "I;16", "I;16B", "I")
_FEW = 3  # numbers that may well be classes with gaps between them


@dataclass(frozen=True)
class Mask:
    """What a look at a mask found: the SHA-256 of its numbers and which there are, or what is wrong with it.

    `path` is the file with the numbers, upright. `own` is the way up its size shows, if any.
    """

    path: Path
    numbers: frozenset[int] = frozenset()
    sha256: str = ""
    wrong: str = ""
    own: Frame | None = None
    colored: bool = False


def read(path: str | Path, colors: Mapping[Color, int] = _NO_COLORS) -> Any:
    """Return a mask as an array of numbers, height x width, uint8.

    `colors` are the numbers of the classes by color. Raises ValueError for a mask without such numbers: a JPEG, and one
    in colors that are not known.
    """
    import numpy as np
    from PIL import Image

    with Image.open(path, formats=FORMATS) as image:
        if image.format == "JPEG":
            raise ValueError("it is a JPEG, whose compression blurs the numbers of the classes; a PNG keeps them")
        image.load()
        found = _numbers(decoding.turned(image, decoding.orientation(image)), colors)
    if found.max(initial=0) > NOTHING or found.min(initial=0) < 0:
        raise ValueError(f"it has the number {found.max()}; 0 to 254 are classes, 255 is none")
    return found.astype(np.uint8)


def _numbers(image: Any, colors: Mapping[Color, int]) -> Any:
    import numpy as np

    if image.mode == "P" and colors:
        return _by_color(np.asarray(image.convert("RGB")), colors, nothing=np.asarray(image) == NOTHING)
    if image.mode in _NUMBERS:
        return np.asarray(image)
    if image.mode not in ("RGB", "RGBA"):
        raise ValueError(f"it is in color ({image.mode}); a mask has one channel with the number of the class")
    block = np.asarray(image)[..., :3]
    if colors:
        return _by_color(block, colors, nothing=np.zeros(block.shape[:2], dtype=bool))
    if not (block == block[..., :1]).all():
        raise ValueError(
            f"it is in color ({image.mode}); a mask has one channel with the number of the class, or a labelmap.txt "
            "says the color of each class"
        )
    return block[..., 0]


def _by_color(block: Any, colors: Mapping[Color, int], nothing: Any) -> Any:
    """Return the number of each pixel's color (height x width); `nothing` marks pixels whose color may be unknown."""
    import numpy as np

    codes = (block.astype(np.int64) * (65_536, 256, 1)).sum(-1)
    known = {red * 65_536 + green * 256 + blue: number for (red, green, blue), number in colors.items()}
    met, places = np.unique(codes, return_inverse=True)
    table = np.array([known.get(int(code), -1) for code in met])
    found = table[places].reshape(codes.shape)
    found[(found < 0) & nothing] = NOTHING
    if (found < 0).any():
        code = int(codes[found < 0][0])
        raise ValueError(f"it has the color {code >> 16},{code >> 8 & 255},{code & 255}, which is that of no class")
    return found


def load(source: str, broken: str, progress: "Progress", keep: Path | None = None) -> "Loaded":
    """Load a folder of pictures and masks; what does not fit is refused by file, or left out with `broken="skip"`."""
    root = Path(source).expanduser().resolve()
    paired = mask_pairs.pairs(root, source)
    if not paired.rows:
        raise errors.DataProblem(
            f"No picture of {source} has a mask of the same name.", "masks/1.png belongs to images/1.jpg."
        )
    found = loaded(source, paired.rows, root, broken, progress, keep=keep)
    return replace(found, findings=(*paired.findings, *found.findings))


def loaded(
    source: str,
    rows: Sequence[Row],
    root: Path,
    broken: str,
    progress: "Progress",
    kept: Kept = NONE_KEPT,
    keep: Path | None = None,
) -> "Loaded":
    """Look at pictures and their masks and hold them against each other; `root` may hold the names of the classes.

    Masks that have to be written once more go below `keep`, by default below the cache.
    """
    from sft_magics.datasets.loaded import Loaded

    looks = image_files.look_at([str(path) for path, _, _ in rows], progress, kept)
    meaning = mask_names.read(root)
    found, decided = _all(rows, looks, kept, meaning, keep or workspace.cache() / "pictures")
    names = meaning.names or _numbered(source, found)
    found = [_known(mask, names) for mask in found]
    wrong = [
        ImageProbe(str(row[1 if mask.wrong else 0]), wrong=mask.wrong or look.wrong)
        for row, look, mask in zip(rows, looks, found, strict=True)
        if mask.wrong or look.wrong
    ]
    if wrong and broken != "skip":
        raise image_sources.broken_images(source, wrong, kept)
    good = [t for t in zip(rows, looks, found, strict=True) if not (t[1].wrong or t[2].wrong)]
    if not good:
        raise errors.DataProblem(f"None of the {len(rows):,} masks of {source} can be used.", "look at the files.")
    classes = [[names[n] for n in sorted(mask.numbers)] for _, _, mask in good]
    met = {name for row in classes for name in row}
    _check_several(source, met)
    return Loaded(
        source=source,
        texts=[str(path) for (path, _, _), _, _ in good],
        labels=[", ".join(row) for row in classes],
        splits=[part for (_, _, part), _, _ in good],
        columns={},
        findings=(*image_sources.left_out(wrong, kept), *decided, *image_sources.notes([look for _, look, _ in good])),
        hashes=[hashlib.sha256(f"{look.sha256} {mask.sha256}".encode()).hexdigest() for _, look, mask in good],
        sides=[min(look.width, look.height) for _, look, _ in good],
        pixels=[look.pixels for _, look, _ in good],
        task=SEMANTIC_SEGMENTATION,
        masks=[str(mask.path) for _, _, mask in good],
        classes=classes,
        names=names,
        empty_classes=tuple(name for name in names if name not in met),
    )


def _check_several(source: str, met: set[str]) -> None:
    if len(met) < 2:
        raise errors.DataProblem(
            f"All pixels of the masks of {source} are of one class ({', '.join(met) or 'none'}); 255 is no class.",
            "write the numbers of the classes into the masks, 0, 1, 2: for a thing 1, not 255.",
        )


def _all(
    rows: Sequence[Row], looks: Sequence[ImageProbe], kept: Kept, meaning: Meaning, keep: Path
) -> tuple[list[Mask], tuple[Finding, ...]]:
    """Look at every mask, and write those once more that are in color or lie as their picture is stored."""
    with ThreadPoolExecutor(_THREADS) as pool:
        paths = [mask for _, mask, _ in rows]
        seen = list(pool.map(lambda path, look: _look(path, look, kept, meaning), paths, looks))
        frame = orientation.agreed([mask.own for mask in seen])
        found = list(pool.map(lambda mask, look: _settled(mask, look, frame, meaning, keep), seen, looks))
    return found, orientation.told([mask.own for mask in seen], looks, frame, "masks")


def _look(path: Path, look: ImageProbe, kept: Kept, meaning: Meaning) -> Mask:
    import numpy as np

    if str(path) in kept.wrong:
        return Mask(path, wrong=kept.wrong[str(path)])
    try:
        found = read(path, meaning.colors)
        colored = bool(meaning.colors) and not _same(path, found)
    except Exception as error:  # noqa: BLE001 - a damaged file can fail in any way its decoder has
        return Mask(path, wrong=(str(error).splitlines() or ["it cannot be read"])[0][:160])
    own, wrong = orientation.mask_evidence(look, (found.shape[1], found.shape[0]))
    if wrong:
        sizes = f"{found.shape[1]} x {found.shape[0]}", f"{look.width} x {look.height}"
        return Mask(path, wrong=f"it is {sizes[0]} pixels, and its picture {sizes[1]}")
    numbers = frozenset(int(n) for n in np.flatnonzero(np.bincount(found.ravel(), minlength=256)) if n != NOTHING)
    return Mask(path, numbers, hashlib.sha256(found.tobytes()).hexdigest(), own=own, colored=colored)


def _same(path: Path, found: Any) -> bool:
    """Report whether a mask has the same numbers without its colors."""
    try:
        return bool((read(path) == found).all())
    except ValueError:
        return False


def _settled(mask: Mask, look: ImageProbe, frame: Frame | None, meaning: Meaning, keep: Path) -> Mask:
    """Return a mask whose file holds numbers, upright; one that could be meant either way up has a `wrong`."""
    if mask.wrong or look.wrong:
        return mask
    meant = mask.own or frame
    if look.turn != 1 and meant is None:
        return replace(mask, wrong="a camera noted its picture as turned, and it fits both ways")
    stored = look.turn != 1 and meant == "stored"
    return _rewritten(mask, look.turn if stored else 1, meaning, keep) if stored or mask.colored else mask


def _rewritten(mask: Mask, turn: int, meaning: Meaning, keep: Path) -> Mask:
    import numpy as np
    from PIL import Image

    from sft_magics.datasets.pictures import inline_images

    image = decoding.turned(Image.fromarray(read(mask.path, meaning.colors)), turn)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    path, _ = inline_images.keep(buffer.getvalue(), keep)
    return replace(mask, path=Path(path), sha256=hashlib.sha256(np.asarray(image).tobytes()).hexdigest())


def _numbered(source: str, found: Sequence[Mask]) -> tuple[str, ...]:
    """Return the numbers as names; raises DataProblem where most of them are met in no mask."""
    met = {n for mask in found for n in mask.numbers}
    highest = max(met, default=0)
    if highest > _FEW and highest + 1 > 2 * len(met):
        shown = ", ".join(map(str, sorted(met)[:8])) + (", ..." if len(met) > 8 else "")
        raise errors.DataProblem(
            f"The masks of {source} have the numbers {shown}: {highest + 1:,} classes, most of which are in no mask.",
            "write numbers of classes into the masks, 0, 1, 2; or name all of them in classes.txt, a line a class.",
        )
    return tuple(str(n) for n in range(highest + 1))


def _known(mask: Mask, names: tuple[str, ...]) -> Mask:
    strange = [n for n in sorted(mask.numbers) if n >= len(names)]
    if strange and not mask.wrong:
        return replace(mask, wrong=f"it has the number {strange[0]}, and there are {len(names)} classes, from 0 on")
    return mask
