"""Pictures for an exported network, prepared as the engine does it, and masks of its logits."""

import base64
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from PIL import Image

from sft_magics.core import errors
from sft_magics.core.runtime import batches
from sft_magics.core.runtime.exports import Card
from sft_magics.engine.inputs import pixels
from sft_magics.engine.inputs.pixels import Source
from sft_magics.serving.engines.networks import Arrays, Logits
from sft_magics.serving.engines.texts import Texts, filled, softmax

_NAMED = 5
_SQUARE, _SCENE = 64, 128  # what a picture counts for, so that 64 and 32 are read at a time
T = TypeVar("T")


class ImagePreprocessor:
    """The middle of each picture, uint8."""

    def __init__(self, folder: Path, card: Card) -> None:  # noqa: ARG002 - all is in the card
        self.unread: dict[int, int] = {}
        self._size, self._resize = int(card.preprocessing["image_size"]), int(card.preprocessing["resize"])

    def prepare(self, inputs: Sequence[Source]) -> list[pixels.Pixels]:
        """Return each picture, size x size x 3; raises DataProblem that names those that cannot be read."""
        return _each(inputs, lambda source: np.asarray(pixels.center(pixels.opened(source, self._resize), self._size)))

    @staticmethod
    def parts(rows: Sequence[pixels.Pixels]) -> list[list[int]]:
        """Return the rows of each batch."""
        return batches.plan([_SQUARE] * len(rows))

    @staticmethod
    def batch(rows: Sequence[pixels.Pixels], *, few_shapes: bool) -> Arrays:
        """Return pictures as one array."""
        return filled({"pictures": np.stack(rows)}, few_shapes=few_shapes)

    answers = staticmethod(Texts.answers)


@dataclass(frozen=True)
class Scene:
    """A picture as it is seen on its canvas (height x width x 3), the sides it takes of it, and those of its file."""

    canvas: pixels.Pixels
    inner: tuple[int, int]
    outer: tuple[int, int]


class Masks:
    """Whole pictures, and a class for each pixel."""

    def __init__(self, folder: Path, card: Card) -> None:  # noqa: ARG002
        self.unread: dict[int, int] = {}
        self._size, self._labels = int(card.preprocessing["image_size"]), card.labels

    def prepare(self, inputs: Sequence[Source]) -> list[Scene]:
        """Return each picture on a canvas of its own; raises DataProblem that names those that cannot be read."""
        return _each(inputs, self._scene)

    def _scene(self, source: Source) -> Scene:
        picture = pixels.scene(source, self._size)
        seen = pixels.fitted(picture, self._size)
        return Scene(pixels.canvas([seen])[0], seen.size, picture.info["size"])

    @staticmethod
    def parts(rows: Sequence[Scene]) -> list[list[int]]:
        """Return the rows of each batch: those whose canvas is as large, so that no answer depends on others."""
        alike: dict[tuple[int, ...], list[int]] = {}
        for i, row in enumerate(rows):
            alike.setdefault(row.canvas.shape, []).append(i)
        return [
            [group[p] for p in places] for group in alike.values() for places in batches.plan([_SCENE] * len(group))
        ]

    @staticmethod
    def batch(rows: Sequence[Scene], *, few_shapes: bool) -> Arrays:
        """Return pictures as one array."""
        return filled({"pictures": np.stack([row.canvas for row in rows])}, few_shapes=few_shapes)

    def answers(self, logits: Logits, rows: Sequence[Scene]) -> list[dict[str, Any]]:
        """Return for each row its mask (a PNG in base 64), shares and confidence."""
        return [self._answer(part, row) for part, row in zip(logits, rows, strict=True)]

    def _answer(self, logits: Logits, row: Scene) -> dict[str, Any]:
        wide, high = pixels.measured_size(row.outer)
        full = resized(logits[:, : row.inner[1], : row.inner[0]], high, wide)
        sure = softmax(full, 0).max(0)
        numbers = full.argmax(0)
        shares = np.bincount(numbers.ravel(), minlength=len(self._labels)) / numbers.size
        buffer = io.BytesIO()
        mask = Image.fromarray(numbers.astype(np.uint8))
        mask.resize(row.outer, Image.Resampling.NEAREST).save(buffer, "PNG")
        return {
            "mask": base64.b64encode(buffer.getvalue()).decode(),
            "shares": dict(zip(self._labels, shares.tolist(), strict=True)),
            "confidence": float(sure.mean()),
        }


def resized(maps: Logits, high: int, wide: int) -> Logits:
    """Return maps (n x height x width) at another size: bilinear between the centers of pixels, as torch does it."""
    return _along(_along(maps, 1, high), 2, wide)


def _along(maps: Logits, axis: int, size: int) -> Logits:
    there = maps.shape[axis]
    if there == size:
        return maps
    at = np.maximum((np.arange(size, dtype=np.float32) + 0.5) * np.float32(there / size) - 0.5, 0)
    low = np.minimum(at.astype(np.int64), there - 1)
    share = (at - low).astype(np.float32).reshape([-1 if a == axis else 1 for a in range(maps.ndim)])
    before, after = maps.take(low, axis), maps.take(np.minimum(low + 1, there - 1), axis)
    found: Logits = before * (1 - share) + after * share
    return found


def _each(inputs: Sequence[Source], read: Callable[[Source], T]) -> list[T]:
    found: list[T] = []
    wrong: list[str] = []
    for source in inputs:
        try:
            found.append(read(source))
        except Exception as error:  # noqa: BLE001 - a damaged file can fail in any way its decoder has
            wrong.append(pixels.wrong(source, error))
    if wrong:
        more = f" and {len(wrong) - _NAMED:,} more" if len(wrong) > _NAMED else ""
        raise errors.DataProblem(
            f"{len(wrong):,} images cannot be read: {', '.join(wrong[:_NAMED])}{more}.", "send pictures as files."
        )
    return found
