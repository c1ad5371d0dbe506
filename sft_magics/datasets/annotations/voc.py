"""Folders in the layout of Pascal VOC: an XML file of boxes for each picture, and lists of names that are the split.

Pictures lie in `JPEGImages` and XML files in `Annotations`, or in `images` and `annotations`, or side by side in one
folder as labelImg and Roboflow write them; `train`, `val` and `test` may lie above them.
"""

import xml.etree.ElementTree as ET
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from sft_magics.core import errors
from sft_magics.core.records import Finding
from sft_magics.datasets import columns, naming
from sft_magics.datasets.annotations.boxes import Box
from sft_magics.datasets.naming import counted
from sft_magics.datasets.pictures import image_files
from sft_magics.datasets.pictures.orientation import Scene

if TYPE_CHECKING:
    from sft_magics.datasets.loaded import Loaded, Progress

_LISTS = ("train", "val", "test")
_PAIRS = (
    ("JPEGImages", "Annotations"),
    ("images", "annotations"),
    ("images", "Annotations"),
    ("Images", "Annotations"),
)
_CORNERS = ("xmin", "ymin", "xmax", "ymax")
Part = tuple[Path, Path, str | None]  # the folder of pictures, that of XML files, the split


@dataclass
class _Told:
    """What is counted as a folder is read."""

    missing: int = 0
    bare: int = 0
    difficult: int = 0

    def findings(self) -> list[Finding]:
        """Return what a person should know of it."""
        found = []
        if self.missing:
            message = f"{counted(self.missing, 'name', 'names')} in the lists of ImageSets have no annotation."
            found.append(Finding("warning", "unlisted", message))
        if self.bare:
            message = f"{counted(self.bare, 'picture', 'pictures')} without an XML file were left out."
            found.append(Finding("warning", "missing_labels", message))
        if self.difficult:
            message = f"{counted(self.difficult, 'box is', 'boxes are')} marked as difficult, and read like the others."
            found.append(Finding("info", "difficult", message))
        return found


def fits(root: Path) -> bool:
    """Report whether a folder holds XML annotations, in one of the usual places."""
    return any(True for _ in _parts(root))


def _parts(root: Path) -> Iterator[Part]:
    below = [f for f in sorted(root.iterdir()) if f.is_dir() and columns.SPLITS.get(f.name.lower())]
    for folder, split in [(root, None), *((f, columns.SPLITS[f.name.lower()]) for f in below)]:
        pairs = [(folder / one, folder / two) for one, two in _PAIRS]
        pair = next(((a, b) for a, b in pairs if a.is_dir() and b.is_dir() and _has_notes(b)), None)
        if pair is None and _has_notes(folder):
            pair = (folder, folder)
        if pair is not None:
            yield *pair, split


def _has_notes(folder: Path) -> bool:
    """Report whether the first XML file of a folder is an annotation."""
    first = next((f for f in sorted(folder.glob("*.xml")) if not image_files.is_hidden(f.name)), None)
    return first is not None and b"<annotation" in first.read_bytes()[:4096]


def load(source: str, broken: str, progress: "Progress") -> "Loaded":
    """Load such a folder; raises DataProblem."""
    from sft_magics.datasets.annotations import scene_sources

    scenes: list[Scene] = []
    told = _Told()
    for images, notes, split in _parts(Path(source).expanduser().resolve()):
        scenes += _of_part(images, notes, split, told)
    found = scene_sources.loaded(source, scenes, (), broken, progress, taken="a VOC folder")
    return replace(found, findings=(*told.findings(), *found.findings))


def _of_part(images: Path, notes: Path, split: str | None, told: _Told) -> list[Scene]:
    files = [f for f in sorted(notes.glob("*.xml")) if not image_files.is_hidden(f.name)]
    splits, missing = split_lists(images.parent / "ImageSets" / "Main", {f.stem for f in files})
    near: dict[str, list[Path]] = defaultdict(list)
    for path in image_files.below(images):
        near[path.stem].append(path)
    scenes = [replace(_scene(f, images, near, told), split=split or splits.get(f.stem)) for f in files]
    told.missing += missing
    told.bare += len({path for paths in near.values() for path in paths} - {scene.path for scene in scenes})
    return scenes


def split_lists(folder: Path, known: Collection[str]) -> tuple[dict[str, str], int]:
    """Return the split of each name in `train.txt`, `val.txt` and `test.txt`, and how many names are not among `known`.

    A line is a name, or a name and a flag. Raises DataProblem for a name that stands in two lists.
    """
    found: dict[str, str] = {}
    missing = 0
    for part in _LISTS:
        file = folder / f"{part}.txt"
        lines = file.read_text(encoding="utf-8-sig").splitlines() if file.is_file() else []
        for line in filter(None, map(str.strip, lines)):
            name = line if line in known else line.split()[0]
            if found.setdefault(name, columns.SPLITS[part]) != columns.SPLITS[part]:
                raise errors.DataProblem(
                    f"'{name}' stands in {file} and in the list of {found[name]}.", "leave it in one of the two."
                )
            missing += name not in known
    return found, missing


def _scene(file: Path, images: Path, near: Mapping[str, Sequence[Path]], told: _Told) -> Scene:
    """Return the picture of an XML file with its boxes; one that cannot be read has a `wrong`."""
    found = near.get(file.stem, ())
    path = found[0] if found else images / f"{file.stem}.jpg"
    try:
        root = ET.parse(file).getroot()
    except (ET.ParseError, ValueError, OSError) as error:
        return Scene(path, wrong=f"{file.name} cannot be read as a VOC annotation: {error}")
    named = Path((root.findtext("filename") or "").strip().replace("\\", "/")).name
    path = next((p for p in found if p.name == named), path)
    marks, faults = [], []
    for number, thing in enumerate(root.iter("object"), 1):
        told.difficult += (thing.findtext("difficult") or "").strip() == "1"
        try:
            marks.append(_box(thing))
        except ValueError as error:
            faults.append(f"object {number} of {file.name}: {error}")
    return Scene(path, marks, faults=tuple(faults), size=_size(root))


def _box(thing: ET.Element) -> Box:
    corners = [thing.findtext(f"bndbox/{name}") for name in _CORNERS]
    if None in corners:
        raise ValueError("it has no bndbox with xmin, ymin, xmax and ymax")
    left, top, right, bottom = (float(str(corner)) for corner in corners)
    return Box(naming.cleaned(thing.findtext("name")), left, top, right, bottom)


def _size(root: ET.Element) -> tuple[int, int] | None:
    """Return the declared width and height; None where they are missing, zero, or no numbers."""
    try:
        found = int(float(root.findtext("size/width") or 0)), int(float(root.findtext("size/height") or 0))
    except ValueError:
        return None
    return found if min(found) > 0 else None
