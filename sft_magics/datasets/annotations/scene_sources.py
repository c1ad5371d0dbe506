"""Sources of pictures in which something is marked: which reader a file or folder needs, and what all readers share."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from sft_magics.core import errors
from sft_magics.core.records import Finding
from sft_magics.core.tasks import OBJECT_DETECTION
from sft_magics.datasets.annotations import boxes
from sft_magics.datasets.annotations.boxes import Box
from sft_magics.datasets.naming import counted
from sft_magics.datasets.pictures import image_files, image_sources, orientation
from sft_magics.datasets.pictures.image_files import NONE_KEPT, ImageProbe, Kept
from sft_magics.datasets.pictures.orientation import Scene

if TYPE_CHECKING:
    from sft_magics.datasets.loaded import Loaded, Progress

_NAMED = 5


@dataclass(frozen=True)
class _Judged:
    """A scene with the boxes that can be used, and what is wrong with the picture or with other boxes of it."""

    scene: Scene
    look: ImageProbe
    faults: tuple[str, ...]
    clipped: int = 0  # boxes that reached at most one pixel beyond the picture

    @property
    def is_kept(self) -> bool:
        """Whether the picture can be used; one that lost all of its boxes would be taken for an empty one."""
        return not self.look.wrong and bool(self.scene.boxes or not (self.faults or self.scene.crowd))


def loaded(
    source: str,
    scenes: Sequence[Scene],
    names: tuple[str, ...],
    broken: str,
    progress: "Progress",
    looks: Sequence[ImageProbe] | None = None,
    kept: Kept = NONE_KEPT,
    taken: str = "",
) -> "Loaded":
    """Look at the pictures, unless `looks` did, and hold the boxes against them.

    Pictures and boxes that cannot be used are refused by file, or left out with `broken="skip"`: a box alone where
    others of its picture are good, else the picture with it. `taken` is the format that the source was taken for, which
    errors name. Raises DataProblem.
    """
    from sft_magics.datasets.loaded import Loaded

    looks = looks or image_files.look_at([str(scene.path) for scene in scenes], progress, kept)
    upright, decided = orientation.settled(scenes, looks)
    judged = [_judged(scene, look) for scene, look in zip(upright, looks, strict=True)]
    wrong = [ImageProbe(j.look.path, wrong=j.look.wrong or _all(j.faults)) for j in judged if j.look.wrong or j.faults]
    where = f"{source}, taken for {taken}," if taken else source
    if wrong and broken != "skip":
        raise image_sources.broken_images(where, wrong, kept)
    good = [j for j in judged if j.is_kept]
    marks = [list(dict.fromkeys(j.scene.boxes)) for j in good]
    if not any(marks):
        raise errors.DataProblem(f"{where} has no boxes in pictures that can be read.", "look at the files.")
    met = sorted({b.label for row in marks for b in row})
    return Loaded(
        source=source,
        texts=[str(j.scene.path) for j in good],
        labels=[boxes.dumps(row) for row in marks],
        splits=[j.scene.split for j in good],
        columns={},
        findings=(*_left_out(judged, kept), *_crowds(judged), *_repeated(good, marks), *_clipped(good), *decided,
                  *image_sources.notes([j.look for j in good])),
        hashes=[j.look.sha256 for j in good],
        sides=[min(j.look.width, j.look.height) for j in good],
        pixels=[j.look.pixels for j in good],
        task=OBJECT_DETECTION,
        classes=[[b.label for b in row] for row in marks],
        names=tuple(n for n in names if n in met) or tuple(met),
        empty_classes=tuple(n for n in names if n not in met),
    )  # fmt: skip


def _judged(scene: Scene, look: ImageProbe) -> _Judged:
    if look.wrong or scene.wrong:
        return _Judged(scene, look if look.wrong else replace(look, wrong=scene.wrong), ())
    faults = [b.wrong(look.width, look.height) for b in scene.boxes]
    sound = [b for b, fault in zip(scene.boxes, faults, strict=True) if not fault]
    good = [b.cut(look.width, look.height) for b in sound]
    clipped = sum(b.overhangs(look.width, look.height) for b in sound)
    return _Judged(replace(scene, boxes=good), look, (*scene.faults, *(fault for fault in faults if fault)), clipped)


def _all(faults: Sequence[str]) -> str:
    return faults[0] + (f", and {len(faults) - 1:,} more" if len(faults) > 1 else "") if faults else ""


def _left_out(judged: Sequence[_Judged], kept: Kept) -> tuple[Finding, ...]:
    """Return findings on pictures and on single boxes that were left out."""
    lost = [ImageProbe(j.look.path, wrong=j.look.wrong or _all(j.faults)) for j in judged if not j.is_kept]
    dropped = [j for j in judged if j.is_kept and j.faults]
    found = image_sources.left_out([look for look in lost if look.wrong], kept)
    if dropped:
        shown = "; ".join(f"{kept.named(j.look.path)} ({_all(j.faults)})" for j in dropped[:_NAMED])
        more = f"; and {len(dropped) - _NAMED:,} more pictures" if len(dropped) > _NAMED else ""
        number = sum(len(j.faults) for j in dropped)
        message = f"{counted(number, 'broken box was', 'broken boxes were')} left out: {shown}{more}."
        found = (*found, Finding("warning", "broken_boxes", message))
    return found


def _crowds(judged: Sequence[_Judged]) -> tuple[Finding, ...]:
    number = sum(j.scene.crowd for j in judged)
    if not number:
        return ()
    alone = sum(not j.look.wrong and not j.scene.boxes and bool(j.scene.crowd) for j in judged)
    message = f"{counted(number, 'box around a crowd was', 'boxes around crowds were')} left out (iscrowd)"
    also = f", with {counted(alone, 'picture', 'pictures')} in which nothing else is marked" if alone else ""
    return (Finding("info", "crowds", f"{message}{also}."),)


def _clipped(good: Sequence[_Judged]) -> tuple[Finding, ...]:
    number = sum(j.clipped for j in good)
    if not number:
        return ()
    message = f"{counted(number, 'box', 'boxes')} reached at most one pixel beyond {'its' if number == 1 else 'their'}"
    return (Finding("info", "clipped_boxes", f"{message} picture and {'was' if number == 1 else 'were'} clipped."),)


def _repeated(good: Sequence[_Judged], marks: Sequence[Sequence[Box]]) -> tuple[Finding, ...]:
    """Return a finding on boxes that stand twice in a picture."""
    again = sum(len(j.scene.boxes) for j in good) - sum(map(len, marks))
    if not again:
        return ()
    message = f"{counted(again, 'box repeats', 'boxes repeat')} one of the same picture and class: each counts once."
    return (Finding("info", "repeated_boxes", message),)
