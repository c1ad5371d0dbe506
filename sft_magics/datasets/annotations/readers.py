"""Which reader loads a file or folder of pictures in which something is marked."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from sft_magics.core.tasks import OBJECT_DETECTION
from sft_magics.datasets.annotations import coco, masks, voc, yolo
from sft_magics.datasets.loaded import Loaded, Progress


def reader(
    source: Any, task: str | None = None, keep: Path | None = None
) -> Callable[[str, str, Progress], Loaded] | None:
    """Return what loads a folder or file of marked pictures, or None for a source of another kind.

    A folder in the VOC layout may have both masks and boxes: `task` says which are meant, masks without it. Masks that
    have to be written once more go below `keep`.
    """
    if not isinstance(source, str | Path):
        return None
    root = Path(source).expanduser()
    if root.suffix.lower() == ".json" and root.is_file():
        return coco.load
    if not root.is_dir():
        return None
    if masks.fits(root) and not (task == OBJECT_DETECTION and voc.fits(root)):
        return partial(masks.load, keep=keep)
    kinds = ((voc.fits, voc.load), (yolo.fits, yolo.load), (coco.files_of, coco.load))
    return next((load for fits, load in kinds if fits(root)), None)
