"""Folders of masks: `FOLDER/images/1.jpg` with `FOLDER/masks/1.png`, whose pixels are the numbers of classes.

Their names stand in `FOLDER/classes.txt`, a line each from 0 on; without it they are the numbers. 255 is no class: such
pixels count neither in the loss nor in a metric. Pascal VOC's `JPEGImages` and `SegmentationClass` are read too.
"""

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sft_magics.core import errors
from sft_magics.core.tasks import SEMANTIC_SEGMENTATION
from sft_magics.datasets import columns, image_sources, pictures
from sft_magics.datasets.pictures import NONE_KEPT, Kept, Looked

if TYPE_CHECKING:
    from sft_magics.datasets.sources import Loaded, Progress

NOTHING = 255
_PAIRS = (("images", "masks"), ("JPEGImages", "SegmentationClass"))
_THREADS = 4
Row = tuple[Path, Path, str | None]  # the picture, its mask, the split


@dataclass(frozen=True)
class Mask:
    """What a look at a mask found: the SHA-256 of the file and the numbers in it, or what is wrong with it."""

    numbers: frozenset[int] = frozenset()
    sha256: str = ""
    wrong: str = ""


def fits(root: Path) -> bool:
    """Say whether a folder, or a train folder in it, holds pictures and masks side by side."""
    return any(_pair(folder) for folder in (root, *(root / part for part in columns.SPLITS)))


def _pair(folder: Path) -> tuple[Path, Path] | None:
    for one, two in _PAIRS:
        if (folder / one).is_dir() and (folder / two).is_dir():
            return folder / one, folder / two
    return None


def read(path: str | Path) -> Any:
    """Return a mask as an array of numbers, height x width, uint8; raises ValueError for a picture in color."""
    import numpy as np
    from PIL import Image

    with Image.open(path) as image:
        if image.mode not in ("L", "P", "1", "I;16", "I"):
            raise ValueError(f"it is in color ({image.mode}); a mask has one channel with the number of the class")
        found = np.asarray(image)
    if found.max(initial=0) > NOTHING:
        raise ValueError(f"it has the number {found.max()}; 0 to 254 are classes, 255 is none")
    return found.astype(np.uint8)


def load(source: str, broken: str, progress: "Progress") -> "Loaded":
    """Load a folder of pictures and masks; what does not fit is refused by file, or left out with `broken="skip"`."""
    root = Path(source).expanduser().resolve()
    rows = list(_rows(root))
    if not rows:
        raise errors.DataProblem(
            f"No picture of {source} has a mask of the same name.", "masks/1.png belongs to images/1.jpg."
        )
    return loaded(source, rows, root, broken, progress)


def loaded(
    source: str, rows: Sequence[Row], root: Path, broken: str, progress: "Progress", kept: Kept = NONE_KEPT
) -> "Loaded":
    """Look at pictures and their masks and hold them against each other; `root` may hold classes.txt."""
    from sft_magics.datasets.sources import Loaded

    looks = pictures.look_at([str(path) for path, _, _ in rows], progress, kept)
    with ThreadPoolExecutor(_THREADS) as pool:
        found = list(pool.map(lambda path, look: _look(path, look, kept), [mask for _, mask, _ in rows], looks))
    names = _names(root, max((n for mask in found for n in mask.numbers), default=0))
    found = [_known(mask, names) for mask in found]
    wrong = [
        Looked(str(row[1 if mask.wrong else 0]), wrong=mask.wrong or look.wrong)
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
    if len(met) < 2:
        raise errors.DataProblem(
            f"All pixels of the masks of {source} are of one class ({', '.join(met) or 'none'}); 255 is no class.",
            "write the numbers of the classes into the masks, 0, 1, 2: for a thing 1, not 255.",
        )
    return Loaded(
        source=source,
        texts=[str(path) for (path, _, _), _, _ in good],
        labels=[", ".join(row) for row in classes],
        splits=[part for (_, _, part), _, _ in good],
        columns={},
        findings=image_sources.left_out(wrong, kept),
        hashes=[hashlib.sha256(f"{look.sha256} {mask.sha256}".encode()).hexdigest() for _, look, mask in good],
        sides=[min(look.width, look.height) for _, look, _ in good],
        task=SEMANTIC_SEGMENTATION,
        masks=[str(mask) for (_, mask, _), _, _ in good],
        classes=classes,
        names=names,
        empty_classes=tuple(name for name in names if name not in met),
    )


def _rows(root: Path) -> Iterator[Row]:
    """Yield the picture, the mask and the split of each pair."""
    folders: list[tuple[Path, str | None]] = [(root, None)]
    folders += [(f, columns.SPLITS.get(f.name.lower())) for f in sorted(root.iterdir()) if f.is_dir()]
    for folder, part in folders:
        pair = _pair(folder)
        if pair is None:
            continue
        by_place = {path.relative_to(pair[1]).with_suffix(""): path for path in pictures.below(pair[1])}
        for path in pictures.below(pair[0]):
            mask = by_place.get(path.relative_to(pair[0]).with_suffix(""))
            if mask is not None:
                yield path, mask, part


def _look(path: Path, look: Looked, kept: Kept) -> Mask:
    import numpy as np

    if str(path) in kept.wrong:
        return Mask(wrong=kept.wrong[str(path)])
    try:
        found = read(path)
    except Exception as error:  # noqa: BLE001 - a damaged file can fail in any way its decoder has
        return Mask(wrong=(str(error).splitlines() or ["it cannot be read"])[0][:120])
    if not look.wrong and found.shape != (look.height, look.width):
        sizes = f"{found.shape[1]} x {found.shape[0]}", f"{look.width} x {look.height}"
        return Mask(wrong=f"it is {sizes[0]} pixels, and its picture {sizes[1]}")
    numbers = frozenset(int(n) for n in np.flatnonzero(np.bincount(found.ravel(), minlength=256)) if n != NOTHING)
    return Mask(numbers, hashlib.sha256(found.tobytes()).hexdigest())


def _names(root: Path, highest: int) -> tuple[str, ...]:
    file = root / "classes.txt"
    if not file.is_file():
        return tuple(str(n) for n in range(highest + 1))
    names = tuple(line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip())
    if len(set(names)) != len(names) or len(names) < 2:
        raise errors.DataProblem(f"{file} has to name two classes or more, each once.", "mend it: a line a class.")
    return names


def _known(mask: Mask, names: tuple[str, ...]) -> Mask:
    strange = [n for n in sorted(mask.numbers) if n >= len(names)]
    if strange and not mask.wrong:
        return Mask(wrong=f"it has the number {strange[0]}, and there are {len(names)} classes, from 0 on")
    return mask
