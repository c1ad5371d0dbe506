"""The answers to many rows as a file: the rows' own columns, and beside them what was said of each."""

import base64
import json
import re
import secrets
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sft_magics.core import errors, postprocessing
from sft_magics.core.records import Prediction
from sft_magics.core.tasks import CLASSIFIERS, OBJECT_DETECTION, SEMANTIC_SEGMENTATION

if TYPE_CHECKING:
    from pandas import DataFrame

_MOST_SCORES = 100  # classes; of more only the first is told
_OURS = re.compile(r"\d{6,}\.png")


@dataclass(frozen=True)
class Target:
    """Where answers are to be written; `overwrite` says whether an older file may be replaced."""

    path: Path
    overwrite: bool = False

    @property
    def masks(self) -> Path:
        """The folder of the masks of a segmenter's answers."""
        return self.path.with_name(f"{self.path.stem}_masks")


def target(to: str, *, overwrite: bool, source: Any, task: str) -> Target:
    """Return where answers go; raises UsageProblem and Refused before anything is asked."""
    from sft_magics.datasets.tables.writing import check_target

    found = Target(Path(to).expanduser(), overwrite)
    asked = Path(source).expanduser() if isinstance(source, str) else None
    if asked is not None and found.path.exists() and asked.exists() and found.path.samefile(asked):
        raise errors.Refused(f"{to} is the file that is asked about.", "name another file for the answers.")
    check_target(found.path, overwrite=overwrite)
    if task == SEMANTIC_SEGMENTATION and found.masks.exists():
        ours = found.masks.is_dir() and all(_OURS.fullmatch(p.name) for p in found.masks.iterdir())
        if not (overwrite and ours):
            raise errors.Refused(
                f"{found.masks}, where the masks go, is there already.", "name another file, or remove that folder."
            )
    return found


def write(place: Target, task: str, rows: "DataFrame | None", said: Sequence[Prediction], version: str) -> None:
    """Write the answers beside the rows' own columns, or beside the texts; raises WorkspaceProblem, DataProblem.

    The columns are prediction, confidence, version; of classifiers score_CLASS (up to 100); of boxes boxes, as JSON; of
    masks mask, the path of a PNG with the number of a class at each pixel, and share_CLASS; of an endpoint request_id.
    A name that the rows have already gets a stroke below behind it.
    """
    import pandas as pd

    from sft_magics.datasets.tables.writing import write_frame

    frame = pd.DataFrame({"text": [a.text for a in said]}) if rows is None else rows.reset_index(drop=True)
    for name, cells in _columns(place, task, said, version).items():
        free = name
        while free in frame.columns:
            free += "_"
        frame[free] = cells
    if task == SEMANTIC_SEGMENTATION:
        _write_masks(place, said)
    write_frame(frame, place.path)


def _columns(place: Target, task: str, said: Sequence[Prediction], version: str) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {"prediction": [a.label for a in said], "confidence": [a.confidence for a in said]}
    names = list(dict.fromkeys(name for a in said for name in a.scores))
    if task in CLASSIFIERS and len(names) <= _MOST_SCORES:
        found |= {f"score_{name}": [a.scores.get(name) for a in said] for name in names}
    if task == SEMANTIC_SEGMENTATION:
        found["mask"] = [str(place.masks / _mask_name(i)) for i in range(len(said))]
        found |= {f"share_{name}": [a.scores.get(name, 0.0) for a in said] for name in names}
    if task == OBJECT_DETECTION:
        found["boxes"] = [json.dumps(list(a.boxes), ensure_ascii=False) for a in said]
    found["version"] = [a.version or version for a in said]
    if any(a.id for a in said):
        found["request_id"] = [a.id for a in said]
    return found


def _mask_name(row: int) -> str:
    return f"{row:06}.png"


def _write_masks(place: Target, said: Sequence[Prediction]) -> None:
    staged = place.masks.with_name(f".{place.masks.name}.{secrets.token_hex(4)}")
    try:
        staged.mkdir()
        for i, answer in enumerate(said):
            (staged / _mask_name(i)).write_bytes(base64.b64decode(answer.mask.removeprefix(postprocessing.PNG)))
        shutil.rmtree(place.masks, ignore_errors=True)
        staged.rename(place.masks)
    except OSError as error:
        raise errors.from_os_error(error, f"writing {place.masks}") from error
    finally:
        shutil.rmtree(staged, ignore_errors=True)
