"""Texts for an exported network: token ids by the library `tokenizers` alone."""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sft_magics.core import errors
from sft_magics.core.runtime import batches, exports
from sft_magics.core.runtime.exports import Card
from sft_magics.serving.engines.networks import Arrays, Logits

_SHORT = 64  # tokens of a row
_LONE_ROUND = 4  # a lone sentence is read 1.1 times as fast as rounded up to 8
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
        self._side = str(shown["truncation"])
        self._tokenizer.enable_truncation(self._limit, direction=self._side)
        self.unread: dict[int, int] = {}

    def prepare(self, inputs: Sequence[str]) -> list[list[int]]:
        """Return the token ids of each text, at least one; `unread` has then what lies beyond the limit."""
        rows = [found.ids or [self._pad] for found in self._tokenizer.encode_batch_fast(list(inputs))]
        full = [i for i, row in enumerate(rows) if len(row) >= self._limit]
        self.unread = self._beyond([inputs[i] for i in full], full) if full else {}
        return rows

    def _beyond(self, inputs: list[str], places: list[int]) -> dict[int, int]:
        """Tokenize texts that reach the limit again, whole: some have just as many tokens."""
        self._tokenizer.no_truncation()
        try:
            lengths = [len(found.ids) for found in self._tokenizer.encode_batch_fast(inputs)]
        finally:
            self._tokenizer.enable_truncation(self._limit, direction=self._side)
        return {i: n - self._limit for i, n in zip(places, lengths, strict=True) if n > self._limit}

    def parts(self, rows: Sequence[list[int]]) -> list[list[int]]:
        """Return the rows of each batch, of like lengths."""
        return batches.plan([self._places(row) for row in rows])

    def batch(self, rows: Sequence[list[int]], *, few_shapes: bool) -> Arrays:
        """Return ids and mask, padded to the longest row, rounded up."""
        width = max(1, *(self._places(row) for row in rows))
        ids = np.full((len(rows), width), self._pad, dtype=np.int64)
        mask = np.zeros((len(rows), width), dtype=np.int64)
        for place, row in enumerate(rows):
            ids[place, : len(row)] = row
            mask[place, : len(row)] = 1
        return filled({"input_ids": ids, "attention_mask": mask}, few_shapes=few_shapes)

    def _places(self, row: list[int]) -> int:
        return max(len(row), min(-(-len(row) // _ROUND) * _ROUND, self._limit))

    @staticmethod
    def answers(logits: Logits, rows: Sequence[list[int]]) -> list[list[float]]:  # noqa: ARG004
        """Return the probabilities of each row."""
        found: list[list[float]] = softmax(logits, 1).tolist()
        return found


class UnpaddedTexts(Texts):
    """Token ids of texts for a network that reads them one behind the other (see `core.runtime.exports`)."""

    def __init__(self, folder: Path, card: Card) -> None:
        super().__init__(folder, card)
        self._uncounted: int | None = card.preprocessing[exports.UNCOUNTED]

    def parts(self, rows: Sequence[list[int]]) -> list[list[int]]:
        """Return the rows of each batch."""
        return batches.unpadded([len(row) for row in rows])

    def batch(self, rows: Sequence[list[int]], *, few_shapes: bool) -> Arrays:
        """Return the tokens and where they are; what fills them up is in nobody's row.

        With `few_shapes` there are a third of the shapes that there were; a new one takes an engine some milliseconds.
        """
        lengths = np.array([len(row) for row in rows])
        count, tokens, length = len(rows), int(lengths.sum()), int(lengths.max())
        if few_shapes:
            finest = _ROUND if count > 1 else _LONE_ROUND
            count, tokens, length = batches.stepped(count), batches.stepped(tokens, finest), self._step(length, finest)
        there = np.arange(length) < lengths[:, None]
        ids, place_of = np.full(tokens, self._pad, dtype=np.int64), np.zeros(tokens, dtype=np.int64)
        places = there.ravel().nonzero()[0]
        ids[: len(places)] = np.fromiter(itertools.chain.from_iterable(rows), np.int64, len(places))
        place_of[: len(places)] = places
        token_at = np.full((count, length), -1, dtype=np.int64)
        token_at.ravel()[places] = np.arange(len(places))
        return {
            "input_ids": ids, "positions": self._positions(ids, token_at)[place_of], "token_at": token_at,
            "place_of": place_of,
        }  # fmt: skip

    def _positions(self, ids: NDArray[np.int64], token_at: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the position of the token at each place."""
        if self._uncounted is None:
            return np.tile(np.arange(token_at.shape[1]), len(token_at))
        counts = (token_at >= 0) & (ids[token_at] != self._uncounted)
        found: NDArray[np.int64] = (counts.cumsum(1) * counts + self._uncounted).ravel()
        return found

    def _step(self, length: int, finest: int) -> int:
        return max(length, min(batches.stepped(length, finest if length <= _SHORT else 2 * _ROUND), self._limit))


def of(folder: Path, card: Card) -> Texts:
    """Return what prepares texts for the network of an export."""
    return (UnpaddedTexts if card.preprocessing.get(exports.UNPADDED) else Texts)(folder, card)


def filled(batch: dict[str, NDArray[Any]], *, few_shapes: bool) -> dict[str, NDArray[Any]]:
    """Return a batch with its last row again and again, up to a number of rows that engines have seen before."""
    rows = len(next(iter(batch.values())))
    more = batches.filled(rows) - rows if few_shapes else 0
    if not more:
        return batch
    return {name: np.concatenate([part, np.repeat(part[-1:], more, axis=0)]) for name, part in batch.items()}


def softmax(logits: Logits, axis: int) -> Logits:
    """Return probabilities along an axis."""
    raised = np.exp(logits - logits.max(axis, keepdims=True))
    found: Logits = raised / raised.sum(axis, keepdims=True)
    return found
