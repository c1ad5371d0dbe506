"""From what the engine says of a row to an answer a person reads: a class, boxes, a mask, a text."""

import base64
import io
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sft_magics.core.records import Prediction, Version
from sft_magics.core.tasks import CAUSAL_LM, IMAGE_TASKS, OBJECT_DETECTION, SEMANTIC_SEGMENTATION, SURE_BOX

PICTURES = 50  # that a page of answers shows
_NAMES = ("left", "top", "right", "bottom")


def prediction(text: str, labels: Sequence[str], scores: Sequence[float], truth: str | None = None) -> Prediction:
    """Return a classifier's answer from a row of probabilities."""
    best = max(range(len(scores)), key=scores.__getitem__)
    return Prediction(text, labels[best], scores[best], dict(zip(labels, scores, strict=True)), truth=truth)


def answer(version: Version, text: str, said: Any, truth: str | None = None) -> Prediction:
    """Return the answer of a version of any task; `truth` is the cell of the data set's column that has it."""
    if version.task == OBJECT_DETECTION:
        return _boxes(version, text, said, truth)
    if version.task == SEMANTIC_SEGMENTATION:
        label = ", ".join(f"{name} {share:.0%}" for name, share in _largest(said["shares"]) if share >= 0.005)
        return Prediction(text, label, said["confidence"], said["shares"], mask=_PNG + said["mask"])
    if version.task == CAUSAL_LM:
        from sft_magics.datasets import dialogues

        return Prediction(dialogues.shown(text), said["text"], said["confidence"], {}, truth=truth)
    return prediction(text, version.labels, said, truth)


_PNG = "data:image/png;base64,"


def _is_boxes(truth: str | None) -> bool:
    """Say whether a truth is boxes; a table that is asked about may have any words in its label column."""
    return truth is not None and truth.startswith("[")


def _largest(shares: dict[str, float]) -> list[tuple[str, float]]:
    return sorted(shares.items(), key=lambda item: -item[1])


def _boxes(version: Version, text: str, said: Any, truth: str | None) -> Prediction:
    from sft_magics.datasets import boxes

    found = [
        {"label": version.labels[int(number)], "confidence": sure, **dict(zip(_NAMES, corners, strict=True))}
        for number, sure, *corners in said["boxes"]
        if sure >= SURE_BOX
    ]
    known = None if not _is_boxes(truth) else boxes.summary(box.label for box in boxes.loads(str(truth)))
    surest = max((box["confidence"] for box in found), default=0.0)
    return Prediction(text, boxes.summary(b["label"] for b in found), surest, {}, truth=known, boxes=tuple(found))


def pictured(
    answers: Sequence[Prediction], version: Version, truths: Sequence[str | None] = ()
) -> tuple[Prediction, ...]:
    """Return the answers with a small copy of their images, the first few of them, and in it what was found."""
    if version.task not in IMAGE_TASKS:
        return tuple(answers)
    known = [*truths, *([None] * (len(answers) - len(truths)))]
    return tuple(
        replace(a, picture=_picture(a, version, truth)) if i < PICTURES else a
        for i, (a, truth) in enumerate(zip(answers, known, strict=True))
    )


def _picture(found: Prediction, version: Version, truth: str | None) -> str:
    from sft_magics.datasets import boxes, overlays, thumbnail

    if version.task == OBJECT_DETECTION:
        said = [boxes.Box(b["label"], *(b[name] for name in _NAMES)) for b in found.boxes]
        return overlays.boxed(found.text, said, boxes.loads(str(truth)) if _is_boxes(truth) else ())
    if version.task == SEMANTIC_SEGMENTATION:
        return overlays.tinted(found.text, mask_of(found), truth or "")
    return thumbnail(found.text)


def mask_of(found: Prediction) -> Any:
    """Return the mask of an answer as an array of class numbers, height x width."""
    import numpy as np
    from PIL import Image

    with Image.open(io.BytesIO(base64.b64decode(found.mask.removeprefix(_PNG)))) as image:
        return np.asarray(image)
