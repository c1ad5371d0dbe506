"""An exported version that answers: prepares as torch's would, asks the network, and makes answers of its logits."""

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sft_magics.core import batches, errors, exports
from sft_magics.core.exports import Card
from sft_magics.core.tasks import IMAGE_CLASSIFICATION, SEMANTIC_SEGMENTATION, TEXT_CLASSIFICATION
from sft_magics.serving.engines.networks import Logits, Network
from sft_magics.serving.engines.pictures import Masks, Squares
from sft_magics.serving.engines.texts import Texts


class Prepared(Protocol):
    """How the inputs of a task become batches, and logits answers; a row is what it makes of an input."""

    def prepare(self, inputs: Sequence[Any]) -> list[Any]:
        """Return a row for each input."""

    def groups(self, rows: Sequence[Any]) -> list[list[int]]:
        """Return which rows may share a batch."""

    def size(self, row: Any) -> int:
        """Return what a row counts for in `batches.plan`."""

    def batch(self, rows: Sequence[Any]) -> dict[str, NDArray[Any]]:
        """Return rows as the network's inputs by name."""

    def answers(self, logits: Logits, rows: Sequence[Any]) -> list[Any]:
        """Return the answer to each row."""


_PREPARED: dict[str, Callable[[Path, Card], Prepared]] = {
    TEXT_CLASSIFICATION: Texts,
    IMAGE_CLASSIFICATION: Squares,
    SEMANTIC_SEGMENTATION: Masks,
}


class Exported:
    """Answers with the network of the export in `folder`; use it from one thread."""

    def __init__(self, folder: Path, network: Network) -> None:
        card = exports.read_card(folder)
        if card.task not in _PREPARED:
            raise errors.ModelProblem(f"{folder} holds an export for {card.task}.", "write --engine torch.")
        self.task = card.task
        self.labels = card.labels
        self._task = _PREPARED[card.task](folder, card)
        self._network = network
        self.spent: dict[str, float] = {}  # milliseconds of the parts of the last answer, but for the network's

    def scores(self, inputs: Sequence[Any]) -> list[Any]:
        """Return the answer to each text, or to each picture (the path or the bytes of a file), in the order given.

        A classifier's are probabilities, as floats that follow `labels`; a mask's are as torch's would say them.
        """
        began = time.perf_counter()
        rows = self._task.prepare(inputs)
        prepared, after = time.perf_counter() - began, 0.0
        found: list[Any] = [None] * len(rows)
        for group in self._task.groups(rows):
            for places in batches.plan([self._task.size(rows[i]) for i in group]):
                indices = [group[p] for p in places]
                chosen = [rows[i] for i in indices]
                logits = self._network.run(_filled(self._task.batch(chosen), padded=self._network.padded))
                began = time.perf_counter()
                for i, answer in zip(indices, self._task.answers(logits[: len(chosen)], chosen), strict=True):
                    found[i] = answer
                after += time.perf_counter() - began
        self.spent = {"preprocess": prepared * 1e3, "postprocess": after * 1e3}
        return found

    def stream(self, text: str, how: object) -> Iterator[Any]:  # noqa: ARG002
        """Refuse: what writes text stays with torch."""
        raise errors.ModelProblem(f"A model for {self.task} writes no text.", "%sft_predict asks it.")


def _filled(batch: dict[str, NDArray[Any]], *, padded: bool) -> dict[str, NDArray[Any]]:
    """Return a batch with its last row again and again, up to a number of rows that engines have seen before."""
    rows = len(next(iter(batch.values())))
    more = batches.filled(rows) - rows if padded else 0
    if not more:
        return batch
    return {name: np.concatenate([part, np.repeat(part[-1:], more, axis=0)]) for name, part in batch.items()}
