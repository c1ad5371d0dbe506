"""What a model of each task is asked with and answers, as named columns: for protocols that speak of tensors."""

import json
from dataclasses import dataclass
from typing import Any

from sft_magics.core.tasks import CAUSAL_LM, CLASSIFIERS, IMAGE_TASKS, OBJECT_DETECTION
from sft_magics.serving.scheduling.loading import LoadedVersion
from sft_magics.serving.scheduling.requests import Answer


@dataclass(frozen=True)
class Column:
    """One value an input: BYTES (a text) or FP32; `width` is 0 for one value, else how many there are."""

    name: str
    datatype: str
    values: list[Any]
    width: int = 0


def input_name(task: str) -> str:
    """Return what the one input of a model is called."""
    return "image" if task in IMAGE_TASKS else "prompt" if task == CAUSAL_LM else "text"


def outputs(task: str, answer: Answer) -> list[Column]:
    """Return an answer as columns: `id` is for feedback; scores follow the labels; boxes and shares are JSON."""
    rows = answer.rows
    sure = Column("confidence", "FP32", [row.confidence for row in rows])
    if task == CAUSAL_LM:
        found = [Column("text", "BYTES", [row.label for row in rows]), sure]
    elif task in CLASSIFIERS:
        scores = [[row.scores[label] for label in answer.labels] for row in rows]
        found = [_labels(answer), sure, Column("scores", "FP32", scores, len(answer.labels))]
    elif task == OBJECT_DETECTION:
        found = [_labels(answer), sure, Column("boxes", "BYTES", [_json(list(row.boxes)) for row in rows])]
    else:
        shares = Column("shares", "BYTES", [_json(dict(row.scores)) for row in rows])
        found = [_labels(answer), sure, shares, Column("mask", "BYTES", [row.mask for row in rows])]
    return [*found, Column("id", "BYTES", [row.id for row in rows])]


def described(live: LoadedVersion) -> list[Column]:
    """Return the columns of an answer without a row."""
    return outputs(live.task, Answer(live.version, [], live.labels))


def _labels(answer: Answer) -> Column:
    return Column("label", "BYTES", [row.label for row in answer.rows])


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
