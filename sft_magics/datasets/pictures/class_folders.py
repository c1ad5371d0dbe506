"""A folder of classes: which folders are classes, which are splits, and which are neither.

`FOLDER/cat/1.jpg`; `FOLDER/train/cat/1.jpg` with `val` and `test` beside it; `FOLDER/cat/train/1.jpg`. A folder that
holds nothing but one folder is looked into. Folders without pictures are empty classes where the others hold pictures
themselves. The name of a split is never taken for a class, and a layout that could mean either is refused by name.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sft_magics.core import errors
from sft_magics.core.picture_formats import UNREAD, is_picture
from sft_magics.core.records import Finding
from sft_magics.datasets import columns, naming
from sft_magics.datasets.naming import counted
from sft_magics.datasets.pictures import image_files

Row = tuple[str, str, str | None]  # the path, the class, the split


@dataclass(frozen=True)
class Found:
    """The pictures of a folder with their classes and splits, and the classes that have none."""

    rows: list[Row]
    empty: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True)
class _Class:
    """A folder whose pictures, its own and those below it, are of one class."""

    folder: Path
    split: str | None
    name: str

    def rows(self) -> list[Row]:
        """Return its pictures."""
        return [(str(path), self.name, self.split) for path in image_files.below(self.folder)]


def read(root: Path, source: str) -> Found:
    """Return what a folder holds; raises DataProblem that names the folder which could mean two things."""
    top = _inside(root)
    known = _classes(top, source)
    rows = [row for one in known for row in one.rows()]
    if not rows:
        raise errors.DataProblem(
            f"{source} is a folder, and holds no images in folders of classes; nor are they laid out as masks, COCO, "
            "VOC or YOLO.",
            f"lay them out as {source}/cat/1.jpg and {source}/dog/2.jpg, or name a file: .csv, .tsv, .jsonl, .parquet.",
        )
    met = {label for _, label, _ in rows}
    empty = naming.ordered(one.name for one in known if one.name not in met)
    return Found(rows, empty, _findings(root, top, len(rows)))


def _findings(root: Path, top: Path, read_rows: int) -> tuple[Finding, ...]:
    found = []
    if top != root:
        found.append(Finding("info", "inside", f"The classes were looked for in {top.relative_to(root.parent)}."))
    every = [path for path in root.rglob("*") if not any(map(image_files.is_hidden, path.relative_to(root).parts))]
    loose = sum(is_picture(path.name) and path.is_file() for path in every) - read_rows
    if loose > 0:
        message = f"{counted(loose, 'picture lies', 'pictures lie')} in no folder of a class, and were left out."
        found.append(Finding("warning", "unlabeled", message))
    unread = sorted({path.suffix.lower() for path in every if path.suffix.lower() in UNREAD and path.is_file()})
    if unread:
        number = sum(path.suffix.lower() in unread for path in every)
        message = f"{counted(number, 'file was', 'files were')} left out, of formats not read: {', '.join(unread)}."
        found.append(Finding("warning", "unread_formats", message))
    return tuple(found)


def _folders(folder: Path) -> list[Path]:
    return [f for f in sorted(folder.iterdir()) if f.is_dir() and not image_files.is_hidden(f.name)]


def _split_of(folder: Path) -> str | None:
    return columns.SPLITS.get(folder.name.lower())


def _has_own(folder: Path) -> bool:
    """Report whether pictures lie in a folder itself."""
    return any(is_picture(f.name) and not image_files.is_hidden(f.name) and f.is_file() for f in folder.iterdir())


def _has_any(folder: Path) -> bool:
    return next(image_files.below(folder), None) is not None


def _inside(folder: Path, *, in_split: bool = False) -> Path:
    """Return the folder whose folders are classes or splits: the first that holds more than one other with pictures.

    A split alone in a folder is such a split; within a split one more folder of such a name says nothing new.
    """
    while not _has_own(folder):
        held = [f for f in _folders(folder) if _has_any(f)]
        if len(held) != 1 or _has_own(held[0]) or (_split_of(held[0]) and not in_split):
            break
        folder = held[0]
    return folder


def _classes(top: Path, source: str) -> list[_Class]:
    folders = _folders(top)
    splits = [f for f in folders if _split_of(f) and _has_any(f)]
    others = [f for f in folders if not _split_of(f) and _has_any(f)]
    if not splits:
        return _of_classes(folders, None, source)
    if others:
        raise errors.DataProblem(
            f"{source} holds {_named(splits)} beside {_named(others)}: these are splits and classes side by side.",
            f"move {_named(others)} away, or if {_named(splits)} should be a class, call it otherwise.",
        )
    return [one for folder in splits for one in _of_split(folder, source)]


def _of_split(folder: Path, source: str) -> list[_Class]:
    """Return the classes in the folder of a split, which may lie in another one in it."""
    return _of_classes(_folders(_inside(folder, in_split=True)), _split_of(folder), source)


def _of_classes(folders: Sequence[Path], split: str | None, source: str) -> list[_Class]:
    """Return folders as classes; splits in each of them are read where a folder holds nothing else."""
    wrong = [f for f in folders if _split_of(f) and _has_any(f)]
    if wrong:
        raise errors.DataProblem(
            f"{source} has a folder {_named(wrong)} where classes are, in {wrong[0].parent}: it names a split.",
            "move it away, or call it otherwise if it is a class.",
        )
    found: list[_Class] = []
    for folder in folders:
        if _split_of(folder):
            continue
        below = [] if split or _has_own(folder) else [f for f in _folders(folder) if _has_any(f)]
        name = naming.cleaned(folder.name)
        if below and all(map(_split_of, below)):
            _check_flat(below, source)
            found += [_Class(one, _split_of(one), name) for one in below]
        else:
            _check_no_split(folder, source)
            found.append(_Class(folder, split, name))
    return found


def _check_flat(splits: Sequence[Path], source: str) -> None:
    """Refuse splits with folders in them below what would be a class: several sets lie side by side."""
    nested = [f for one in splits for f in _folders(one) if _has_any(f)]
    if nested:
        raise errors.DataProblem(
            f"{source} holds several sets: {splits[0].parent.name} has {_named(splits)}, with classes in them.",
            f"load one of them: {splits[0].parent}.",
        )


def _check_no_split(folder: Path, source: str) -> None:
    """Refuse a split with pictures in it somewhere below a class."""
    for one in _folders(folder):
        if _split_of(one) and _has_any(one):
            raise errors.DataProblem(
                f"{source} has a split in a class beside other pictures of it: {folder.name}/{one.name}.",
                "lay them out as train/cat/1.jpg or cat/train/1.jpg, or call that folder otherwise.",
            )
        _check_no_split(one, source)


def _named(folders: Sequence[Path]) -> str:
    return ", ".join(f.name for f in folders[:5]) + (", ..." if len(folders) > 5 else "")
