"""Tables of marked pictures: a column of masks' paths, a column of objects, or a row for each box.

Boxes of a column `objects` are left, top, width, height as the hub has them, or corners where most of them fit only so
(see `box_layout`); those of `xmin`, `ymin`, `xmax`, `ymax` are corners. Columns `width` and `height` that hold the
sizes of the pictures say which way up boxes are meant.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sft_magics.core import errors
from sft_magics.core.records import Finding
from sft_magics.core.tasks import OBJECT_DETECTION, SEMANTIC_SEGMENTATION
from sft_magics.datasets import columns, naming
from sft_magics.datasets.annotations import box_layout, masks, scene_sources
from sft_magics.datasets.annotations.box_layout import Four
from sft_magics.datasets.annotations.boxes import Box
from sft_magics.datasets.pictures import image_files, image_sources
from sft_magics.datasets.pictures.image_files import ImageProbe
from sft_magics.datasets.pictures.orientation import Scene
from sft_magics.datasets.tables.table import Columns

if TYPE_CHECKING:
    from sft_magics.datasets.loaded import Loaded, Progress

MASKS = ("mask", "masks", "annotation", "segmentation", "segmentation_mask")
OBJECTS = ("objects", "annotations", "boxes", "bboxes")
CORNERS = (
    ("xmin", "x_min", "left", "x1"), ("ymin", "y_min", "top", "y1"),
    ("xmax", "x_max", "right", "x2"), ("ymax", "y_max", "bottom", "y2"),
)  # fmt: skip
_PLACES = ("bbox", "bboxes", "box", "boxes")
_KINDS = ("category", "categories", "label", "labels", "class", "classes", "name", "category_id")
_CLASS = ("label", "class", "category", "name", "class_name")


@dataclass(frozen=True)
class LoadRequest:
    """What the user said of a table, and how it is to be read."""

    source: Any
    text: str | None
    label: str | None
    split: str | None
    broken: str
    progress: "Progress"
    boxes: str = "auto"
    keep: Path | None = None


@dataclass
class _Marked:
    """A picture with the numbers of its boxes as the table has them."""

    cell: str
    boxes: list[tuple[str, Four]]
    split: str | None = None
    faults: list[str] = field(default_factory=list)
    size: tuple[int, int] | None = None


def reader(table: Columns, task: str | None, label: str | None) -> "Callable[[Columns, LoadRequest], Loaded] | None":
    """Return what reads a table as pictures with masks or boxes, or None for a table of another kind."""
    if not _picture_columns(table):
        return None
    if task in (None, SEMANTIC_SEGMENTATION) and _mask_column(table, label) is not None:
        return _masks
    if task not in (None, OBJECT_DETECTION):
        return None
    if _objects_column(table) is not None:
        return _objects
    return _corners if _corner_columns(table) is not None else None


def _picture_columns(table: Columns) -> list[str]:
    return [name for name in table.values if image_sources.paths_in(table, name)]


def _first(table: Columns, names: Sequence[str]) -> str | None:
    known = {name.lower(): name for name in table.values}
    return next((known[name] for name in names if name in known), None)


def _mask_column(table: Columns, label: str | None) -> str | None:
    name = label if label in table.values else _first(table, MASKS)
    return name if name is not None and image_sources.paths_in(table, name) else None


def _objects_column(table: Columns) -> str | None:
    name = _first(table, OBJECTS)
    cell = next((c for c in table.values[name] if c), None) if name is not None else None
    one = cell[0] if isinstance(cell, list) and cell else cell
    return name if isinstance(one, Mapping) and _key(one, _PLACES) and _key(one, _KINDS) else None


def _corner_columns(table: Columns) -> tuple[str, ...] | None:
    found = [_first(table, names) for names in CORNERS]
    return tuple(name for name in found if name is not None) if None not in found else None


def _key(cell: Mapping[str, Any], names: Sequence[str]) -> str | None:
    return next((name for name in names if name in cell), None)


def _picture_column(table: Columns, chosen: LoadRequest, besides: str | None) -> str:
    """Return the column of pictures; raises DataProblem where it could be more than one."""
    columns.check_exists(table, "text", chosen.text)
    found = [chosen.text] if chosen.text else [name for name in _picture_columns(table) if name != besides]
    if len(found) != 1:
        several = f"several columns of pictures: {', '.join(found)}" if found else "masks, and no pictures to them"
        raise errors.DataProblem(f"{table.where} has {several}.", "name the one that is meant with --text COLUMN.")
    return found[0]


def _splits(table: Columns, split: str | None) -> tuple[list[str | None], dict[str, str]]:
    name = columns.split_column(table, split)
    if name is None:
        return [None] * len(table), {}
    return [columns.SPLITS.get(str(v).strip().lower()) for v in table.values[name]], {"split": name}


def _masks(table: Columns, chosen: LoadRequest) -> "Loaded":
    columns.check_exists(table, "label", chosen.label)
    mask = _mask_column(table, chosen.label)
    assert mask is not None
    picture = _picture_column(table, chosen, mask)
    splits, named = _splits(table, chosen.split)
    base = image_sources.base_of(chosen.source)
    rows: list[masks.Row] = [
        (Path(image_sources.placed(a, base, table.kept)), Path(image_sources.placed(b, base, table.kept)), part)
        for a, b, part in zip(table.values[picture], table.values[mask], splits, strict=True)
        if a and b
    ]
    found = masks.loaded(table.where, rows, base, chosen.broken, chosen.progress, table.kept, chosen.keep)
    left = len(table) - len(rows)
    said = (Finding("warning", "missing_labels", f"{left:,} rows without a picture or a mask were left out."),)
    return replace(
        found, columns={"text": picture, "label": mask, **named}, findings=(*found.findings, *(said if left else ()))
    )


def _objects(table: Columns, chosen: LoadRequest) -> "Loaded":
    objects, picture = _objects_column(table), _picture_column(table, chosen, _mask_column(table, None))
    assert objects is not None
    splits, named = _splits(table, chosen.split)
    cells = zip(table.values[picture], table.values[objects], splits, _sizes(table), strict=True)
    rows = [_of_objects(cell, found, part, size) for cell, found, part, size in cells if cell]
    return _boxed(table, chosen, rows, {"text": picture, "label": objects, **named}, corners=False)


def _of_objects(cell: str, found: Any, split: str | None, size: tuple[int, int] | None) -> _Marked:
    """Return the boxes of a cell: a dict of lists, or a list of dicts."""
    marked = _Marked(cell, [], split, size=size)
    try:
        if isinstance(found, Mapping):
            pairs = list(zip(found[_key(found, _KINDS) or ""], found[_key(found, _PLACES) or ""], strict=True))
        else:
            pairs = [(one[_key(one, _KINDS) or ""], one[_key(one, _PLACES) or ""]) for one in found or ()]
    except (ValueError, TypeError, KeyError) as error:
        marked.faults.append(f"its boxes cannot be read: {error}")
        return marked
    for number, (kind, place) in enumerate(pairs, 1):
        try:
            marked.boxes.append((naming.cleaned(kind), _four(place)))
        except (ValueError, TypeError) as error:
            marked.faults.append(f"box {number}: {error}")
    return marked


def _four(values: Any) -> Four:
    left, top, right, bottom = (float(v) for v in values)
    return left, top, right, bottom


def _sizes(table: Columns) -> list[tuple[int, int] | None]:
    """Return what the columns `width` and `height` hold in each row, if there are such columns and both are numbers."""
    wide, high = (_first(table, (name,)) for name in ("width", "height"))
    if wide is None or high is None:
        return [None] * len(table)
    return [_size(a, b) for a, b in zip(table.values[wide], table.values[high], strict=True)]


def _size(wide: Any, high: Any) -> tuple[int, int] | None:
    try:
        found = int(float(wide)), int(float(high))
    except (TypeError, ValueError, OverflowError):
        return None
    return found if min(found) > 0 else None


def _corners(table: Columns, chosen: LoadRequest) -> "Loaded":
    sides, picture = _corner_columns(table), _picture_column(table, chosen, _mask_column(table, None))
    assert sides is not None
    columns.check_exists(table, "label", chosen.label)
    label = chosen.label or _first(table, _CLASS)
    if label is None:
        raise errors.DataProblem(
            f"{table.where} has boxes, and no column of their classes.", "name it: --label COLUMN."
        )
    splits, named = _splits(table, chosen.split)
    rows: dict[str, _Marked] = {}
    sizes = _sizes(table)
    for i, (cell, kind) in enumerate(zip(table.values[picture], table.values[label], strict=True)):
        if cell:
            marked = rows.setdefault(cell, _Marked(cell, [], size=sizes[i]))
            marked.split = marked.split or splits[i]
            _add(marked, kind, [table.values[name][i] for name in sides], i)
    used = {"text": picture, "label": label, "box": " + ".join(sides), **named}
    return _boxed(table, chosen, list(rows.values()), used, corners=True)


def _add(marked: _Marked, kind: Any, corners: Sequence[Any], row: int) -> None:
    """Add the box of a row; one with no corners says that its picture has no box."""
    if all(v is None for v in corners):
        return
    try:
        marked.boxes.append((naming.cleaned(kind), _four(corners)))
    except (ValueError, TypeError) as error:
        marked.faults.append(f"row {row + 1:,}: {error}")


def _boxed(
    table: Columns, chosen: LoadRequest, rows: Sequence[_Marked], used: dict[str, str], *, corners: bool
) -> "Loaded":
    """Look at the pictures, find out what the numbers mean, and hold the boxes against the pictures."""
    base = image_sources.base_of(chosen.source)
    paths = [image_sources.placed(row.cell, base, table.kept) for row in rows]
    looks = image_files.look_at(paths, chosen.progress, table.kept)
    marks = [(look, four) for row, look in zip(rows, looks, strict=True) if not look.wrong for _, four in row.boxes]
    how, said = box_layout.settled(table.where, marks, "xyxy" if corners else chosen.boxes)
    sizes = _picture_sizes(rows, looks)
    scenes = [
        Scene(Path(path), [Box(kind, *how.corners(four, look)) for kind, four in row.boxes], row.split,
              faults=tuple(row.faults), size=size)
        for path, row, look, size in zip(paths, rows, looks, sizes, strict=True)
    ]  # fmt: skip
    found = scene_sources.loaded(table.where, scenes, (), chosen.broken, chosen.progress, looks, table.kept)
    return replace(found, columns=used, findings=(*found.findings, said))


def _picture_sizes(rows: Sequence[_Marked], looks: Sequence[ImageProbe]) -> list[tuple[int, int] | None]:
    """Return the declared sizes where most of them are those of the pictures; columns of that name may mean others."""
    pairs = [(row.size, look) for row, look in zip(rows, looks, strict=True) if row.size and not look.wrong]
    right = sum(size in ((look.width, look.height), look.stored) for size, look in pairs)
    return [row.size for row in rows] if 2 * right > len(pairs) else [None] * len(rows)
