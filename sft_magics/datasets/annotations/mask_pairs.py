"""Which mask belongs to which picture of a folder, and in which split: by folder, by name, and by VOC's lists."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sft_magics.core import errors
from sft_magics.core.records import Finding
from sft_magics.datasets import columns
from sft_magics.datasets.annotations import voc
from sft_magics.datasets.naming import counted
from sft_magics.datasets.pictures import image_files

_FOLDERS = (("images", "masks"), ("JPEGImages", "SegmentationClass"), ("image", "mask"), ("imgs", "masks"))
_ENDINGS = ("_mask", "-mask", "_masks", "_seg", "_segmentation", "_label", "_labels", "_gt", "_L", "_matte", "_lab")
Row = tuple[Path, Path, str | None]  # the picture, its mask, the split
Part = tuple[Path, Path, str | None]  # the folder of pictures, that of masks, the split


@dataclass(frozen=True)
class Paired:
    """The pairs of a folder, and what was left out of it."""

    rows: list[Row]
    findings: tuple[Finding, ...]


def fits(root: Path) -> bool:
    """Report whether a folder, or a train folder in it, holds pictures and masks side by side."""
    return any(_pair(folder) for folder in (root, *(f for f in _folders(root) if _split_of(f.name))))


def pairs(root: Path, source: str) -> Paired:
    """Return all pairs of a folder; raises DataProblem for one in which a folder beside the splits is none."""
    parts = list(_parts(root))
    odd = [images.parent.name for images, _, split in parts if split is None]
    known = [images.parent.name for images, _, split in parts if split]
    if odd and known:
        raise errors.DataProblem(
            f"{source} holds {', '.join(known)} beside {', '.join(odd)}: splits, and pictures of no split.",
            f"move {', '.join(odd)} away, or into one of the splits.",
        )
    rows: list[Row] = []
    without = strays = missing = 0
    for images, masks, split in parts:
        found, no_mask, no_picture, unknown = _of_part(images, masks, split)
        rows += found
        without, strays, missing = without + no_mask, strays + no_picture, missing + unknown
    said = [
        (without, f"{counted(without, 'picture has', 'pictures have')} no mask of the same name, and were left out."),
        (strays, f"{counted(strays, 'mask has', 'masks have')} no picture of the same name, and were left out."),
        (missing, f"{counted(missing, 'name', 'names')} in the lists of ImageSets have no picture with a mask."),
    ]
    return Paired(rows, tuple(Finding("warning", "unpaired", message) for number, message in said if number))


def _folders(root: Path) -> list[Path]:
    return [f for f in sorted(root.iterdir()) if f.is_dir() and not image_files.is_hidden(f.name)]


def _split_of(name: str) -> str | None:
    return columns.SPLITS.get(name.lower())


def _pair(folder: Path) -> tuple[Path, Path] | None:
    for one, two in _FOLDERS:
        if (folder / one).is_dir() and (folder / two).is_dir():
            return folder / one, folder / two
    return None


def _parts(root: Path) -> Iterator[Part]:
    for folder, split in [(root, None), *((f, _split_of(f.name)) for f in _folders(root))]:
        pair = _pair(folder)
        if pair is not None:
            yield *pair, split


def _of_part(images: Path, masks: Path, split: str | None) -> tuple[list[Row], int, int, int]:
    """Return the pairs of two folders, and how many pictures, masks and listed names are left over."""
    free = {path.relative_to(masks).with_suffix(""): path for path in image_files.below(masks)}
    number, rows, bare = len(free), [], 0
    used: set[Path] = set()
    for path in image_files.below(images):
        place = path.relative_to(images).with_suffix("")
        mask = free.get(place) or _suffixed(place, free)
        bare += mask is None
        if mask is not None:
            used.add(mask)
            below = _split_of(place.parts[0]) if len(place.parts) > 1 else None
            rows.append((path, mask, split or below))
    lists, unknown = voc.split_lists(images.parent / "ImageSets" / "Segmentation", {row[0].stem for row in rows})
    listed: list[Row] = [(path, mask, part or lists.get(path.stem)) for path, mask, part in rows]
    return listed, bare, number - len(used), unknown


def _suffixed(place: Path, free: dict[Path, Path]) -> Path | None:
    """Return the only mask whose name adds a usual ending to a picture's."""
    found = [free[one] for end in _ENDINGS if (one := place.with_name(place.name + end)) in free]
    return found[0] if len(found) == 1 else None
