"""Folders in YOLO's layout: `images/1.jpg` with `labels/1.txt`, a box a line: class, middle, width, height.

Numbers are shares of the picture. `train` and `val` lie above or below the two folders; classes are named by the
`names` of a .yaml file in the folder, or by classes.txt, else they are the numbers.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sft_magics.core import errors
from sft_magics.datasets import columns, pictures
from sft_magics.datasets.boxes import Box
from sft_magics.datasets.pictures import Looked

if TYPE_CHECKING:
    from sft_magics.datasets.sources import Loaded, Progress

_NUMBERS = 5  # of a line: the class and four shares
Pair = tuple[Path, Path, str | None]  # a folder of pictures, that of their boxes, the split


def fits(root: Path) -> bool:
    """Say whether a folder holds pictures and text files of boxes side by side."""
    return any(next(labels.glob("*.txt"), None) is not None for _, labels, _ in _pairs(root))


def _pairs(root: Path) -> Iterator[Pair]:
    parts: list[tuple[str, str | None]] = [("", None), *columns.SPLITS.items()]
    for name, split in parts:
        for images, labels in (
            (root / name / "images", root / name / "labels"),
            (root / "images" / name, root / "labels" / name),
        ):
            if images.is_dir() and labels.is_dir() and (name or images.parent == root):
                yield images, labels, split


def load(source: str, broken: str, progress: "Progress") -> "Loaded":
    """Load such a folder; a picture without a text file has no boxes. Raises DataProblem."""
    from sft_magics.datasets import scene_sources

    root = Path(source).expanduser().resolve()
    rows = list(dict.fromkeys(_rows(root)))
    looks = pictures.look_at([str(path) for path, _, _ in rows], progress)
    names = _names(root)
    scenes = []
    for (path, notes, split), look in zip(rows, looks, strict=True):
        try:
            found, wrong = _boxes(notes, look, names), ""
        except (ValueError, IndexError, OSError) as error:
            found, wrong = [], f"{notes.name}: {error}"
        scenes.append(scene_sources.Scene(path, found, split, wrong))
    return scene_sources.loaded(source, scenes, names, broken, progress, looks)


def _rows(root: Path) -> Iterator[Pair]:
    """Yield each picture with its text file and its split."""
    for images, labels, split in _pairs(root):
        for path in sorted(images.iterdir()):
            if path.is_file() and pictures.is_picture(path.name):
                yield path, labels / f"{path.stem}.txt", split


def _boxes(notes: Path, look: Looked, names: tuple[str, ...]) -> list[Box]:
    if not notes.is_file():
        return []
    found = []
    for number, line in enumerate(notes.read_text(encoding="utf-8").splitlines(), 1):
        words = line.split()
        if not words:
            continue
        if len(words) != _NUMBERS:
            raise ValueError(f"line {number} has {len(words)} numbers; a box has {_NUMBERS}")
        kind, (x, y, wide, high) = int(words[0]), map(float, words[1:])
        if names and not 0 <= kind < len(names):
            raise ValueError(f"line {number} is of class {kind}, and there are {len(names)}, from 0 on")
        sides = (look.width, look.height)
        corners = ((x - wide / 2) * sides[0], (y - high / 2) * sides[1], (x + wide / 2) * sides[0],
                   (y + high / 2) * sides[1])  # fmt: skip
        found.append(Box(names[kind] if names else str(kind), *corners))
    return found


def _names(root: Path) -> tuple[str, ...]:
    """Return the names of the classes, nothing where no file says them; raises DataProblem for a damaged one."""
    import yaml

    for file in sorted([*root.glob("*.yaml"), *root.glob("*.yml")]):
        try:
            named: Any = (yaml.safe_load(file.read_text(encoding="utf-8")) or {}).get("names")
        except (yaml.YAMLError, AttributeError, UnicodeDecodeError) as error:
            said = str(error).splitlines()[0]
            raise errors.DataProblem(f"{file} cannot be read: {said}.", "mend it: names: [cat, dog].") from error
        if isinstance(named, dict) and sorted(named) == list(range(len(named))):
            return tuple(str(named[i]) for i in range(len(named)))
        if isinstance(named, list):
            return tuple(map(str, named))
    file = root / "classes.txt"
    if not file.is_file():
        return ()
    return tuple(line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip())
