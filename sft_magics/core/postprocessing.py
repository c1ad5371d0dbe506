"""From what a model says of a row to an answer that a person reads: a class, boxes, a mask, a text."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from sft_magics.core.records import Prediction
from sft_magics.core.tasks import CAUSAL_LM, OBJECT_DETECTION, SEMANTIC_SEGMENTATION, SURE_BOX

CORNERS = ("left", "top", "right", "bottom")
PNG = "data:image/png;base64,"


def classified(text: str, labels: Sequence[str], scores: Sequence[float], truth: str | None = None) -> Prediction:
    """Return a classifier's answer from a row of probabilities."""
    best = max(range(len(scores)), key=scores.__getitem__)
    return Prediction(text, labels[best], scores[best], dict(zip(labels, scores, strict=True)), truth=truth)


def answer(task: str, labels: Sequence[str], text: str, said: Any) -> Prediction:
    """Return the answer of a model of any task; raises ValueError where it holds what is no number."""
    if task == OBJECT_DETECTION:
        found = _boxes(labels, text, said)
    elif task == SEMANTIC_SEGMENTATION:
        shares = sorted(said["shares"].items(), key=lambda item: -item[1])
        label = ", ".join(f"{name} {share:.0%}" for name, share in shares if share >= 0.005)
        found = Prediction(text, label, said["confidence"], said["shares"], mask=PNG + said["mask"])
    elif task == CAUSAL_LM:
        found = Prediction(text, said["text"], said["confidence"], {})
    else:
        found = classified(text, labels, said)
    if not math.isfinite(found.confidence + sum(found.scores.values())):
        raise ValueError("an answer that is not a number")
    return found


def counted(labels: Iterable[str]) -> str:
    """Return how many of each class there are, such as "3 island, 1 lake"."""
    counts = Counter(labels)
    return ", ".join(f"{n} {label}" for label, n in sorted(counts.items())) or "nothing"


def _boxes(labels: Sequence[str], text: str, said: Any) -> Prediction:
    found = tuple(
        {"label": labels[int(number)], "confidence": sure, **dict(zip(CORNERS, corners, strict=True))}
        for number, sure, *corners in said["boxes"]
        if sure >= SURE_BOX
    )
    surest = max((box["confidence"] for box in found), default=0.0)
    return Prediction(text, counted(box["label"] for box in found), surest, {}, boxes=found)
