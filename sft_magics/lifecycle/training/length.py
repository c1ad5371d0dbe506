"""How long a run takes where nobody says so: epochs, patience and evaluations that suit the task and its rows.

A pretrained model needs some hundred optimizer steps for a new task, however many rows there are. Few rows are
therefore read many times and many rows once; early stopping on the validation rows ends what needs less. The bounds on
the epochs keep a run short where rows are few (more passes only learn them by heart) and complete where they are many.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from sft_magics.core.tasks import (
    CAUSAL_LM,
    IMAGE_CLASSIFICATION,
    OBJECT_DETECTION,
    SEMANTIC_SEGMENTATION,
    TEXT_CLASSIFICATION,
)


@dataclass(frozen=True)
class Size:
    """What a run's length depends on: its task, its rows, and whether it continues a version that knows the task."""

    task: str
    rows: int
    validation_rows: int = 0
    continued: bool = False


@dataclass(frozen=True)
class Length:
    """Epochs; evaluations without a better one that end the run (0: none do); steps between evaluations (0: an epoch).

    `why` is a sentence on what was chosen, empty where nothing was.
    """

    epochs: float
    patience: int = 0
    eval_steps: int = 0
    why: str = ""


# Optimizer steps that are enough, the fewest epochs and the most.
_STEPS: Mapping[str, tuple[int, int, int]] = {
    TEXT_CLASSIFICATION: (240, 1, 20),
    IMAGE_CLASSIFICATION: (200, 1, 20),
    OBJECT_DETECTION: (350, 2, 20),
    SEMANTIC_SEGMENTATION: (200, 2, 20),
    CAUSAL_LM: (150, 1, 5),
}
_HEAD = (1000, 5, 50)  # features are computed once, and a step of the head costs next to nothing
_FEW_STEPS = 12  # of an epoch
_LEAST_BATCH = 8
_TWICE = 2  # passes that each row gets where one does not have this many steps
_ENOUGH_ONCE = 400
_CONTINUED = 0.3  # share of the steps for weights that know the task
_PATIENT = 0.5  # share of a run's evaluations that may be no better: few rows take a while to show anything
_LEAST_PATIENCE = 3
_POINTS = 4  # evaluations that a curve needs, and early stopping
_LONG_EPOCH = 100  # steps from which on an epoch is long to wait for
_EVALUATING = 0.2  # of the time, at most; a row that is evaluated costs a third of one that is trained with
_FORWARD = 3


def choose(
    size: Size, method: str, batch: int, epochs: float | None, patience: int | None, eval_steps: int | None
) -> Length:
    """Return the length of a run: what is given (not None), and for the rest what suits the data.

    Epochs are as many as make the steps that the task needs, patience comes with epochs that nobody asked for, and a
    long epoch is evaluated within where a run has fewer than four evaluations otherwise.
    """
    batches = math.ceil(max(1, size.rows) / batch)
    found = _epochs(size, method, batches) if epochs is None else epochs
    every = _eval_steps(size, batches, found, batch) if eval_steps is None else eval_steps
    inside = math.ceil(batches / every) if 0 < every < batches else 1
    evaluations = math.ceil(found) * inside
    if epochs is not None:
        return Length(found, patience or 0, every)
    waits = _patience(evaluations) if patience is None and size.validation_rows else patience or 0
    return Length(found, waits, every, _why(size.rows, found, batches, batch, waits))


def batch_for(rows: int, batch: int) -> int:
    """Return how many rows a step takes of so few `rows` that an epoch of the usual `batch` would have few steps.

    More steps of fewer rows learn more from the same passes, and take little longer.
    """
    while batch >= 2 * _LEAST_BATCH and math.ceil(rows / batch) < _FEW_STEPS:
        batch //= 2
    return batch


def _epochs(size: Size, method: str, batches: int) -> float:
    steps, least, most = _HEAD if method == "head" else _STEPS.get(size.task, _STEPS[TEXT_CLASSIFICATION])
    wanted = steps * _CONTINUED if size.continued else steps
    once = size.continued or batches >= _ENOUGH_ONCE
    return float(min(most, max(least, 1 if once else _TWICE, math.ceil(wanted / batches))))


def _patience(evaluations: int) -> int:
    """Return after how many evaluations without a better one to end; 0 where a run has hardly more."""
    patience = max(_LEAST_PATIENCE, math.ceil(_PATIENT * evaluations))
    return patience if patience < evaluations else 0


def _eval_steps(size: Size, batches: int, epochs: float, batch: int) -> int:
    if batches < _LONG_EPOCH or epochs >= _POINTS:
        return 0
    wanted = math.ceil(_POINTS / max(1.0, math.ceil(epochs)))  # evaluations in an epoch
    bearable = int(_EVALUATING * _FORWARD * batches * batch / max(1, size.validation_rows))
    inside = min(wanted, bearable)
    return math.ceil(batches / inside) if inside > 1 else 0


def _why(rows: int, epochs: float, batches: int, batch: int, patience: int) -> str:
    many = f"{epochs:g} epochs" if epochs != 1 else "1 epoch"
    steps = f"{batches:,} step{'' if batches == 1 else 's'}"
    early = f"; it ends early after {patience} evaluations without a better one" if patience else ""
    total = f", {int(epochs) * batches:,} in all," if epochs != 1 else ""
    return f"{many} of {steps} of {batch} rows{total} for {rows:,} rows{early}. --epochs sets another number."
