"""Folders in YOLO's layout: `images/1.jpg` with `labels/1.txt`, a box a line: class, middle, width, height.

Numbers are shares of the upright picture. A line of a class and three points or more is an outline, read as the box
around it; with `kpt_shape` in the .yaml file what follows a box are key points, which are passed over. Splits are what
`train`, `val` and `test` of the .yaml file name, else folders above or below the two. Classes are named by `names`
there, or by `classes.txt` in the folder or among the labels, else they are the numbers.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from sft_magics.core.picture_formats import is_picture
from sft_magics.core.records import Finding
from sft_magics.datasets import naming
from sft_magics.datasets.annotations import yolo_files
from sft_magics.datasets.annotations.boxes import Box
from sft_magics.datasets.naming import counted
from sft_magics.datasets.pictures import image_files
from sft_magics.datasets.pictures.image_files import ImageProbe
from sft_magics.datasets.pictures.orientation import Scene

if TYPE_CHECKING:
    from sft_magics.datasets.loaded import Loaded, Progress

_NUMBERS = 5  # of a box: the class and four shares
_OUTLINE = 7  # of the shortest outline: the class and three points


@dataclass
class _Told:
    """What is counted as files are read."""

    outlines: int = 0
    bare: int = 0
    strays: int = 0
    findings: list[Finding] = field(default_factory=list)

    def all(self) -> tuple[Finding, ...]:
        """Return what a person should know of it."""
        found = list(self.findings)
        if self.strays:
            message = f"{counted(self.strays, 'text file', 'text files')} of boxes have no picture, and were left out."
            found.append(Finding("warning", "stray_labels", message))
        if self.bare:
            message = f"{counted(self.bare, 'picture', 'pictures')} without a text file were taken as having no box."
            found.append(Finding("info", "no_boxes", message))
        if self.outlines:
            message = f"{counted(self.outlines, 'outline was', 'outlines were')} read as the box around it."
            found.append(Finding("info", "outlines", message))
        return tuple(found)


def fits(root: Path) -> bool:
    """Report whether a folder holds pictures and text files of boxes side by side."""
    return yolo_files.fits(root)


def load(source: str, broken: str, progress: "Progress") -> "Loaded":
    """Load such a folder; a picture without a text file has no boxes. Raises DataProblem."""
    from sft_magics.datasets.annotations import scene_sources

    root = Path(source).expanduser().resolve()
    layout = yolo_files.layout(root)
    told = _Told(findings=list(layout.findings))
    rows = list(_rows(layout.parts, told))
    looks = image_files.look_at([str(path) for path, _, _ in rows], progress)
    scenes = [
        replace(_scene(path, notes, look, layout, told), split=split)
        for (path, notes, split), look in zip(rows, looks, strict=True)
    ]
    names = naming.ordered(layout.names[number] for number in sorted(layout.names))
    found = scene_sources.loaded(source, scenes, names, broken, progress, looks, taken="a YOLO folder")
    return replace(found, findings=(*told.all(), *found.findings))


def _rows(parts: Sequence[yolo_files.Part], told: _Told) -> Iterator[yolo_files.Part]:
    """Yield each picture once with its text file and its split."""
    seen: set[Path] = set()
    for images, labels, split in parts:
        found = [p for p in sorted(images.iterdir()) if is_picture(p.name) and not image_files.is_hidden(p.name)]
        for path in found:
            if path.is_file() and path not in seen:
                seen.add(path)
                told.bare += not (labels / f"{path.stem}.txt").is_file()
                yield path, labels / f"{path.stem}.txt", split
        stems = {path.stem for path in found}
        notes = [
            f for f in labels.glob("*.txt") if not image_files.is_hidden(f.name) and f.name not in yolo_files.NAMES
        ]
        told.strays += sum(file.stem not in stems for file in notes)


def _scene(path: Path, notes: Path, look: ImageProbe, layout: yolo_files.Layout, told: _Told) -> Scene:
    """Return a picture with its boxes; one whose text file cannot be read has a `wrong`."""
    try:
        lines = notes.read_text(encoding="utf-8-sig").splitlines() if notes.is_file() else []
    except (UnicodeDecodeError, OSError) as error:
        return Scene(path, wrong=f"{notes.name} cannot be read: {error}")
    found, faults = [], []
    for number, line in enumerate(lines, 1):
        words = line.split()
        try:
            if words:
                found.append(_box(words, look, layout, told))
        except ValueError as error:
            faults.append(f"{notes.name}: line {number} {error}")
    return Scene(path, found, faults=tuple(faults))


def _box(words: Sequence[str], look: ImageProbe, layout: yolo_files.Layout, told: _Told) -> Box:
    try:
        kind, numbers = float(words[0]), [float(word) for word in words[1:]]
    except ValueError as error:
        raise ValueError(f"is no line of numbers: {error}") from error
    label = _label(kind, layout.names)
    if len(words) == _NUMBERS or (layout.key_points and len(words) > _NUMBERS):
        x, y, wide, high = numbers[:4]
        corners = (x - wide / 2, y - high / 2, x + wide / 2, y + high / 2)
    elif len(words) >= _OUTLINE and len(words) % 2:
        told.outlines += 1
        across, down = numbers[0::2], numbers[1::2]
        corners = (min(across), min(down), max(across), max(down))
    else:
        also = "; six are an answer with its confidence, not a label" if len(words) == _NUMBERS + 1 else ""
        raise ValueError(f"has {len(words)} numbers; a box has {_NUMBERS}, an outline {_OUTLINE} or more{also}")
    left, top, right, bottom = corners
    return Box(label, left * look.width, top * look.height, right * look.width, bottom * look.height)


def _label(kind: float, names: Mapping[int, str]) -> str:
    if kind != int(kind) or kind < 0:
        raise ValueError(f"is of class {kind:g}, which is no whole number from 0 on")
    if names and int(kind) not in names:
        raise ValueError(f"is of class {int(kind)}, and there are {len(names)}, {yolo_files.numbered(names)}")
    return names[int(kind)] if names else str(int(kind))
