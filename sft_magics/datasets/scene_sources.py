"""Sources of pictures in which something is marked: COCO JSON, folders in the VOC layout, folders of masks."""

import json
import xml.etree.ElementTree as ET
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sft_magics.core import errors
from sft_magics.core.tasks import OBJECT_DETECTION
from sft_magics.datasets import boxes, columns, image_sources, masks, pictures, yolo
from sft_magics.datasets.boxes import Box
from sft_magics.datasets.pictures import NONE_KEPT, Kept, Looked

if TYPE_CHECKING:
    from sft_magics.datasets.sources import Loaded, Progress

_PARTS = ("trainval", "train", "val", "test")


@dataclass(frozen=True)
class Scene:
    """A picture and what is marked in it, as a source says it, or what is `wrong` with what it says."""

    path: Path
    boxes: list[Box] = field(default_factory=list)
    split: str | None = None
    wrong: str = ""


def reader(source: Any, task: str | None = None) -> "Callable[[str, str, Progress], Loaded] | None":
    """Return what loads a folder or file of marked pictures, or None for a source of another kind.

    A folder in the VOC layout may have both masks and boxes: `task` says which are meant, masks without it.
    """
    if not isinstance(source, str | Path):
        return None
    root = Path(source).expanduser()
    if root.suffix.lower() == ".json" and root.is_file():
        return _coco
    if not root.is_dir():
        return None
    voc = (root / "Annotations").is_dir() and (root / "JPEGImages").is_dir()
    if masks.fits(root) and not (voc and task == OBJECT_DETECTION):
        return masks.load
    if voc:
        return _voc
    return yolo.load if yolo.fits(root) else None


def _coco(source: str, broken: str, progress: "Progress") -> "Loaded":
    """Load a COCO file: images, annotations with `bbox` (left, top, width, height), categories."""
    file = Path(source).expanduser().resolve()
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        names = {int(c["id"]): str(c["name"]) for c in found["categories"]}
        places = {int(i["id"]): str(i["file_name"]) for i in found["images"]}
        marks: dict[int, list[Box]] = {number: [] for number in places}
        for note in found["annotations"]:
            x, y, width, height = map(float, note["bbox"])
            marks[int(note["image_id"])].append(Box(names[int(note["category_id"])], x, y, x + width, y + height))
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise errors.DataProblem(
            f"{source} is no COCO file of boxes: {type(error).__name__} {error}.",
            "it needs images, categories, and annotations with a bbox; or give a .jsonl, .csv or .parquet file.",
        ) from error
    folder = next((f for f in (file.parent, file.parent / "images", file.parent.parent / "images", *_aside(file))
                   if places and (f / next(iter(places.values()))).is_file()), file.parent)  # fmt: skip
    scenes = [Scene(folder / name, marks[number]) for number, name in places.items()]
    return loaded(source, scenes, tuple(names[i] for i in sorted(names)), broken, progress)


def _aside(file: Path) -> list[Path]:
    """Return where pictures lie beside `annotations/instances_train2017.json`."""
    part = file.stem.removeprefix("instances_")
    return [file.parent / part, file.parent.parent / part]


def _voc(source: str, broken: str, progress: "Progress") -> "Loaded":
    """Load a folder in the layout of Pascal VOC: JPEGImages, Annotations, and ImageSets/Main if it is there."""
    root = Path(source).expanduser().resolve()
    split: dict[str, str] = {}
    for part in _PARTS:
        file = root / "ImageSets" / "Main" / f"{part}.txt"
        if file.is_file() and part in columns.SPLITS:
            split.update({line.split()[0]: columns.SPLITS[part] for line in file.read_text().splitlines() if line})
    by_stem = {path.stem: path for path in pictures.below(root / "JPEGImages")}
    scenes = []
    for file in sorted((root / "Annotations").glob("*.xml")):
        path = by_stem.get(file.stem, root / "JPEGImages" / f"{file.stem}.jpg")
        scenes.append(Scene(path, _marks(file), split.get(file.stem)))
    if not scenes:
        raise errors.DataProblem(f"There are no .xml files in {source}/Annotations.", "put one there for each picture.")
    return loaded(source, scenes, (), broken, progress)


def _marks(file: Path) -> list[Box]:
    try:
        return [
            Box(str(thing.findtext("name")), *(float(thing.findtext(f"bndbox/{k}") or "nan") for k in
                                              ("xmin", "ymin", "xmax", "ymax")))
            for thing in ET.parse(file).getroot().iter("object")
        ]  # fmt: skip
    except (ET.ParseError, ValueError) as error:
        raise errors.DataProblem(
            f"{file} cannot be read as a VOC annotation: {error}.", "mend or remove it."
        ) from error


def loaded(
    source: str,
    scenes: Sequence[Scene],
    names: tuple[str, ...],
    broken: str,
    progress: "Progress",
    looks: Sequence[Looked] | None = None,
    kept: Kept = NONE_KEPT,
) -> "Loaded":
    """Look at the pictures, unless `looks` did, and hold the boxes against them; wrong ones are refused by file, or
    left out.
    """
    from sft_magics.datasets.sources import Loaded

    looks = looks or pictures.look_at([str(scene.path) for scene in scenes], progress, kept)
    judged = [_judged(scene, look) for scene, look in zip(scenes, looks, strict=True)]
    wrong = [look for look in judged if look.wrong]
    if wrong and broken != "skip":
        raise image_sources.broken_images(source, wrong, kept)
    good = [(s, look) for s, look in zip(scenes, judged, strict=True) if not look.wrong]
    marks = [[b.cut(look.width, look.height) for b in scene.boxes] for scene, look in good]
    if not any(marks):
        raise errors.DataProblem(f"{source} has no boxes in pictures that can be read.", "look at the files.")
    met = sorted({b.label for row in marks for b in row})
    return Loaded(
        source=source,
        texts=[str(scene.path) for scene, _ in good],
        labels=[boxes.dumps(row) for row in marks],
        splits=[scene.split for scene, _ in good],
        columns={},
        findings=image_sources.left_out(wrong, kept),
        hashes=[look.sha256 for _, look in good],
        sides=[min(look.width, look.height) for _, look in good],
        task=OBJECT_DETECTION,
        classes=[[b.label for b in row] for row in marks],
        names=tuple(n for n in names if n in met) or tuple(met),
        empty_classes=tuple(n for n in names if n not in met),
    )


def _judged(scene: Scene, look: Looked) -> Looked:
    if look.wrong or scene.wrong:
        return look if look.wrong else Looked(look.path, wrong=scene.wrong)
    faults = [said for said in (b.wrong(look.width, look.height) for b in scene.boxes) if said]
    return Looked(look.path, wrong=faults[0]) if faults else look
