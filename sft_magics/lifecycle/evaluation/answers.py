"""Answers beside their pictures and their truths."""

import base64
import io
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sft_magics.core import postprocessing
from sft_magics.core.records import Prediction, Version
from sft_magics.core.tasks import CAUSAL_LM, IMAGE_TASKS, OBJECT_DETECTION, SEMANTIC_SEGMENTATION

PICTURES = 50  # that a page of answers shows


def answer(version: Version, text: str, said: Any, truth: str | None = None) -> Prediction:
    """Return the answer of a version of any task; `truth` is the cell of the data set's column that has it."""
    return beside(version.task, postprocessing.answer(version.task, version.labels, text, said), truth)


def beside(task: str, found: Prediction, truth: str | None) -> Prediction:
    """Return an answer with its truth, in the words of the answer; a dialogue is shown as a person reads it."""
    from sft_magics.datasets.annotations import boxes
    from sft_magics.datasets.chats import chat_tables

    if task == OBJECT_DETECTION:
        known = postprocessing.counted(box.label for box in boxes.loads(str(truth))) if _is_boxes(truth) else None
        return replace(found, truth=known)
    if task == SEMANTIC_SEGMENTATION:
        return found
    return replace(found, text=chat_tables.shown(found.text) if task == CAUSAL_LM else found.text, truth=truth)


def _is_boxes(truth: str | None) -> bool:
    """Say whether a truth is boxes; a table that is asked about may have any words in its label column."""
    return truth is not None and truth.startswith("[")


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
    from sft_magics.datasets import thumbnail
    from sft_magics.datasets.annotations import annotation_render, boxes

    if version.task == OBJECT_DETECTION:
        said = [boxes.Box(b["label"], *(b[name] for name in postprocessing.CORNERS)) for b in found.boxes]
        return annotation_render.boxed(found.text, said, boxes.loads(str(truth)) if _is_boxes(truth) else ())
    if version.task == SEMANTIC_SEGMENTATION:
        return annotation_render.tinted(found.text, mask_of(found), truth or "", labels=version.labels)
    return thumbnail(found.text)


def mask_of(found: Prediction) -> Any:
    """Return the mask of an answer as an array of class numbers, height x width."""
    import numpy as np
    from PIL import Image

    with Image.open(io.BytesIO(base64.b64decode(found.mask.removeprefix(postprocessing.PNG)))) as image:
        return np.asarray(image)
