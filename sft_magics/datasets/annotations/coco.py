"""COCO's JSON: images, annotations with a `bbox` (left, top, width, height in pixels), categories.

Read are single files, Roboflow's folders (`train/_annotations.coco.json`), and `annotations/instances_train2017.json`.
Ids may be numbers or texts. Annotations with `iscrowd` are left out; one with an outline and no bbox gets the box
around the outline. An image that is listed twice is one picture with the boxes of both.
"""

import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sft_magics.core import errors
from sft_magics.core.records import Finding
from sft_magics.datasets import columns, naming
from sft_magics.datasets.annotations.boxes import Box
from sft_magics.datasets.naming import counted
from sft_magics.datasets.pictures.image_files import is_hidden
from sft_magics.datasets.pictures.orientation import Scene

if TYPE_CHECKING:
    from sft_magics.datasets.loaded import Loaded, Progress

_LISTS = ("images", "annotations", "categories")
_ALONE = ("_annotations.coco.json", "annotations.json", "labels.json", "result.json")
_OUTLINE = 6  # numbers: three points
Part = tuple[Path, str | None]  # a file, and the split that its place or name says


@dataclass
class _Picture:
    """An image as the file lists it, once or more often."""

    path: Path
    split: str | None
    size: tuple[int, int] | None
    boxes: list[Box] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    crowd: int = 0
    listed: int = 1

    def scene(self) -> Scene:
        """Return the picture as all readers of boxes do."""
        return Scene(self.path, self.boxes, self.split, "", tuple(self.faults), self.size, self.crowd)


@dataclass
class _Told:
    """What is counted as files are read."""

    names: list[str] = field(default_factory=list)
    joined: tuple[Finding, ...] = ()
    outlines: int = 0
    orphans: list[str] = field(default_factory=list)


def files_of(root: Path) -> list[Part]:
    """Return the COCO files of a folder with their splits; none for a folder of another kind."""
    found: list[Part] = []
    for folder in sorted(f for f in root.iterdir() if f.is_dir() and not is_hidden(f.name)):
        split = columns.SPLITS.get(folder.name.lower())
        found += [(folder / name, split) for name in _ALONE[:1] if split and (folder / name).is_file()]
    for file in sorted((root / "annotations").glob("instances_*.json")):
        found.append((file, columns.SPLITS.get(_part_of(file).lower().rstrip("0123456789_"))))
    alone: list[Part] = [(root / name, None) for name in _ALONE if _has_lists(root / name)]
    return found or alone[:1]


def _has_lists(file: Path) -> bool:
    """Report whether a file of a common name is one of COCO's."""
    try:
        found = json.loads(file.read_text(encoding="utf-8-sig"))
    except (ValueError, OSError, RecursionError):
        return False
    return isinstance(found, dict) and all(isinstance(found.get(name), list) for name in _LISTS)


def _part_of(file: Path) -> str:
    return file.stem.removeprefix("instances_")


def load(source: str, broken: str, progress: "Progress") -> "Loaded":
    """Load a COCO file, or a folder of them; raises DataProblem."""
    from sft_magics.datasets.annotations import scene_sources

    root = Path(source).expanduser().resolve()
    found: dict[Path, _Picture] = {}
    told = _Told()
    for file, split in files_of(root) if root.is_dir() else [(root, None)]:
        _add(file, split, found, told)
    if told.orphans and broken != "skip":
        raise errors.DataProblem(
            f"{source} has {counted(len(told.orphans), 'annotation', 'annotations')} of images that it does not list: "
            f"{'; '.join(told.orphans[:5])}.",
            "list the images, remove the annotations, or add --broken skip to leave them out.",
        )
    scenes = [one.scene() for one in found.values()]
    result = scene_sources.loaded(source, scenes, naming.ordered(told.names), broken, progress, taken="COCO")
    return replace(result, findings=(*told.joined, *_findings(found, told), *result.findings))


def _by_number(key: str) -> tuple[bool, float, str]:
    return (False, float(key), key) if key.lstrip("-").isdecimal() else (True, 0.0, key)


def _findings(found: Mapping[Path, _Picture], told: _Told) -> list[Finding]:
    twice = sum(one.listed > 1 for one in found.values())
    made = []
    if twice:
        message = f"{counted(twice, 'picture is', 'pictures are')} listed more than once: their boxes were joined."
        made.append(Finding("warning", "joined_pictures", message))
    if told.orphans:
        message = (
            f"{counted(len(told.orphans), 'annotation', 'annotations')} of images that are not listed were left out."
        )
        made.append(Finding("warning", "orphans", message))
    if told.outlines:
        message = (
            f"{counted(told.outlines, 'outline was', 'outlines were')} read as the box around it: bbox is missing."
        )
        made.append(Finding("info", "outlines", message))
    return made


def _add(file: Path, split: str | None, found: dict[Path, _Picture], told: _Told) -> None:
    content = _content(file)
    kinds = _kinds(file, content["categories"], told)
    pictures = _pictures(file, content["images"], split, found)
    for number, note in enumerate(content["annotations"], 1):
        if not isinstance(note, Mapping):
            raise _unfit(file, f"annotation {number:,} is no object")
        named = f"annotation {note.get('id', number)}"
        picture = pictures.get(str(note.get("image_id")))
        if picture is None:
            told.orphans.append(f"{named} is of image {note.get('image_id')}")
        elif note.get("iscrowd") in (1, True):
            picture.crowd += 1
        else:
            _mark(picture, note, kinds, named, told)


def _mark(picture: _Picture, note: Mapping[str, Any], kinds: Mapping[str, str], named: str, told: _Told) -> None:
    """Add an annotation's box to its picture, or what is wrong with it."""
    kind = kinds.get(str(note.get("category_id")))
    if kind is None:
        picture.faults.append(f"{named} is of category {note.get('category_id')}, which is not listed")
        return
    try:
        picture.boxes.append(Box(kind, *_corners(note, told)))
    except (ValueError, TypeError) as error:
        picture.faults.append(f"{named}: {error}")


def _corners(note: Mapping[str, Any], told: _Told) -> tuple[float, float, float, float]:
    box = note.get("bbox")
    if box is None and (outline := _outline(note.get("segmentation"))):
        told.outlines += 1
        across, down = outline[0::2], outline[1::2]
        return min(across), min(down), max(across), max(down)
    if not isinstance(box, list) or len(box) != 4:
        raise ValueError("it has no bbox" if not box else f"its bbox has {len(box)} numbers, not 4")
    x, y, width, height = map(float, box)
    return x, y, x + width, y + height


def _outline(found: Any) -> list[float]:
    """Return the numbers of all polygons of a segmentation, x and y in turn; nothing for one of runs."""
    if not isinstance(found, list):
        return []
    flat = bool(found) and all(isinstance(n, int | float) for n in found)  # one polygon without the list around it
    parts = [
        part
        for part in ([found] if flat else found)
        if isinstance(part, list) and len(part) >= _OUTLINE and len(part) % 2 == 0
    ]
    return [float(n) for part in parts for n in part]


def _content(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8-sig"))
    except (ValueError, OSError, RecursionError) as error:
        raise _unfit(file, f"it cannot be read: {error}") from error
    if not isinstance(found, dict):
        raise _unfit(file, "it is no object with such lists")
    for name in _LISTS:
        if not isinstance(found.get(name), list):
            raise _unfit(file, f"it has no list called {name}")
    return found


def _unfit(file: Path, said: str) -> errors.DataProblem:
    return errors.DataProblem(
        f"{file} was taken for a COCO file of boxes, and is no such file: {said}.",
        "it needs images, categories, and annotations with a bbox; or give a .jsonl, .csv or .parquet file.",
    )


def _kinds(file: Path, listed: Sequence[Any], told: _Told) -> dict[str, str]:
    """Return the class of each category's id, and remember its name and its place among the others."""
    kinds: dict[str, str] = {}
    for one in listed:
        try:
            kinds[str(one["id"])] = naming.cleaned(one["name"])
        except (KeyError, TypeError, ValueError) as error:
            raise _unfit(file, "a category has no id or no name") from error
    told.names += [kinds[key] for key in sorted(kinds, key=_by_number)]
    told.joined = told.joined or naming.joined(kinds)
    return kinds


def _pictures(file: Path, listed: Sequence[Any], split: str | None, found: dict[Path, _Picture]) -> dict[str, _Picture]:
    """Return the picture of each image's id; one that is there already is joined."""
    try:
        places = {str(one["id"]): str(one["file_name"]).replace("\\", "/") for one in listed}
        sizes = {str(one["id"]): _size(one) for one in listed}
    except (KeyError, TypeError) as error:
        raise _unfit(file, "an image has no id or no file_name") from error
    if len(places) != len(listed):
        raise _unfit(file, "two images have the same id")
    by_id = {}
    for key, path in _located(file, places).items():
        known = found.get(path)
        if known is None:
            known = found[path] = _Picture(path, split, sizes[key])
        else:
            _check_split(known, split)
            known.listed += 1
        by_id[key] = known
    return by_id


def _check_split(known: _Picture, split: str | None) -> None:
    if known.split != split:
        raise errors.DataProblem(
            f"{known.path} is listed for {known.split} and for {split}.", "leave it in one of the two files."
        )


def _size(one: Mapping[str, Any]) -> tuple[int, int] | None:
    """Return the declared width and height; None where they are missing, zero, or no numbers."""
    try:
        found = int(float(one["width"])), int(float(one["height"]))
    except (KeyError, TypeError, ValueError):
        return None
    return found if min(found) > 0 else None


def _located(file: Path, places: Mapping[str, str]) -> dict[str, Path]:
    """Return where each image lies: by its whole name in one of the usual folders, else by its last part alone."""
    near, part = file.parent, _part_of(file)
    folders = [
        near, near / "images", near / "data", near.parent / "images", near / part, near.parent / part,
        near.parent / "images" / part, near.parent,
    ]  # fmt: skip
    last = Counter(place.rpartition("/")[2] for place in places.values())
    found = {}
    for key, place in places.items():
        bare = place.rpartition("/")[2]
        tried = [f / place for f in folders] + ([f / bare for f in folders] if last[bare] == 1 else [])
        path = next((path for path in tried if path.is_file()), near / place)
        found[key] = Path(os.path.normpath(path))
    return found
