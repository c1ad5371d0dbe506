"""Measuring a classifier on validation rows: loss, accuracy, F1, and what looks wrong."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from sft_magics.core import measures
from sft_magics.engine.hardware import Hardware
from sft_magics.engine.scoring import score
from sft_magics.engine.tasks import Encoded, Task

_TINY = 1e-12


@dataclass(frozen=True)
class Measured:
    """Scores of every row, and what they amount to."""

    scores: list[list[float]]
    loss: float
    accuracy: float
    f1: float
    remarks: list[str]


def measure(task: Task, rows: Encoded, hardware: Hardware, progress: Callable[[int, int], None]) -> Measured:
    """Score all rows and compare with their targets."""
    scores = score(task, rows, hardware, progress)
    targets = rows.targets or []
    guesses = [max(range(len(s)), key=s.__getitem__) for s in scores]
    loss = sum(-math.log(max(s[t], _TINY)) for s, t in zip(scores, targets, strict=True)) / max(1, len(targets))
    names = [str(i) for i in range(len(task.labels))]
    counts = measures.confusion([str(t) for t in targets], [str(g) for g in guesses], names)
    metrics = measures.classification(counts, names)
    never = [task.labels[i] for i in sorted(set(targets) - set(guesses))]
    remarks = [f"No validation row is answered with {', '.join(never)}."] if never else []
    return Measured(scores, loss, metrics["accuracy"].value, metrics["f1"].value, remarks)
