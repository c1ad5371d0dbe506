"""Texts for an exported network: token ids by the library `tokenizers` alone."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sft_magics.core import errors, exports
from sft_magics.core.exports import Card
from sft_magics.serving.engines.networks import Logits

_ROUND = 8  # as in training: few shapes, and kernels that like them


class Texts:
    """Token ids of texts, cut to the length limit."""

    def __init__(self, folder: Path, card: Card) -> None:
        from tokenizers import Tokenizer

        try:
            self._tokenizer = Tokenizer.from_file(str(folder / exports.TOKENIZER))
        except Exception as error:  # the library raises Exception itself
            raise errors.ModelProblem(
                f"{folder / exports.TOKENIZER} cannot be read ({error}).", "%sft_deploy REF makes it anew."
            ) from error
        shown = card.preprocessing
        self._limit, self._pad = int(shown["max_length"]), int(shown["pad_id"])
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(self._limit, direction=str(shown["truncation"]))

    def prepare(self, inputs: Sequence[str]) -> list[list[int]]:
        """Return the token ids of each text."""
        return [found.ids for found in self._tokenizer.encode_batch_fast(list(inputs))]

    @staticmethod
    def groups(rows: Sequence[list[int]]) -> list[list[int]]:
        """Return which rows may share a batch: all."""
        return [list(range(len(rows)))]

    def size(self, row: list[int]) -> int:
        """Return what a row counts for: its tokens, as they are padded at least."""
        return max(len(row), min(-(-len(row) // _ROUND) * _ROUND, self._limit))

    def batch(self, rows: Sequence[list[int]]) -> dict[str, NDArray[Any]]:
        """Return ids and mask, padded to the longest row, rounded up."""
        width = max(1, *(self.size(row) for row in rows))
        ids = np.full((len(rows), width), self._pad, dtype=np.int64)
        mask = np.zeros((len(rows), width), dtype=np.int64)
        for place, row in enumerate(rows):
            ids[place, : len(row)] = row
            mask[place, : len(row)] = 1
        return {"input_ids": ids, "attention_mask": mask}

    @staticmethod
    def answers(logits: Logits, rows: Sequence[list[int]]) -> list[list[float]]:  # noqa: ARG004
        """Return the probabilities of each row."""
        found: list[list[float]] = softmax(logits, 1).tolist()
        return found


def softmax(logits: Logits, axis: int) -> Logits:
    """Return probabilities along an axis."""
    raised = np.exp(logits - logits.max(axis, keepdims=True))
    found: Logits = raised / raised.sum(axis, keepdims=True)
    return found
