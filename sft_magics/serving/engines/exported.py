"""An exported version that answers: prepares as torch's would, asks the network, and makes answers of its logits."""

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from sft_magics.core import errors
from sft_magics.core.runtime import exports
from sft_magics.core.runtime.exports import Card
from sft_magics.core.tasks import IMAGE_CLASSIFICATION, SEMANTIC_SEGMENTATION, TEXT_CLASSIFICATION
from sft_magics.serving.engines import texts
from sft_magics.serving.engines.networks import Arrays, Logits, Network
from sft_magics.serving.engines.pictures import ImagePreprocessor, Masks


class Prepared(Protocol):
    """How the inputs of a task become batches, and logits answers; a row is what it makes of an input."""

    unread: dict[int, int]  # of what was prepared last: tokens beyond what the version reads, by the input's place

    def prepare(self, inputs: Sequence[Any]) -> list[Any]:
        """Return a row for each input."""

    def parts(self, rows: Sequence[Any]) -> list[list[int]]:
        """Return the rows of each batch."""

    def batch(self, rows: Sequence[Any], *, few_shapes: bool) -> Arrays:
        """Return rows as the network's inputs by name; with `few_shapes` filled up to sizes that are seen again."""

    def answers(self, logits: Logits, rows: Sequence[Any]) -> list[Any]:
        """Return the answer to each row."""


_PREPARED: dict[str, Callable[[Path, Card], Prepared]] = {
    TEXT_CLASSIFICATION: texts.of,
    IMAGE_CLASSIFICATION: ImagePreprocessor,
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
        self.unread: dict[int, int] = {}

    def scores(self, inputs: Sequence[Any]) -> list[Any]:
        """Return the answer to each text, or to each picture (the path or the bytes of a file), in the order given.

        A classifier's are probabilities, as floats that follow `labels`; a mask's are as torch's would say them.
        """
        began = time.perf_counter()
        rows = self._task.prepare(inputs)
        self.unread = self._task.unread
        prepared, after = time.perf_counter() - began, 0.0
        found: list[Any] = [None] * len(rows)
        for places in self._task.parts(rows):
            chosen = [rows[i] for i in places]
            logits = self._network.run(self._task.batch(chosen, few_shapes=self._network.few_shapes))
            began = time.perf_counter()
            for i, answer in zip(places, self._task.answers(logits[: len(chosen)], chosen), strict=True):
                found[i] = answer
            after += time.perf_counter() - began
        self.spent = {"preprocess": prepared * 1e3, "postprocess": after * 1e3}
        return found

    def stream(self, text: str, how: object) -> Iterator[Any]:  # noqa: ARG002
        """Refuse: what writes text stays with torch."""
        raise errors.ModelProblem(f"A model for {self.task} writes no text.", "%sft_predict asks it.")
