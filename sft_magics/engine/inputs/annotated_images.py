"""Pictures with marks in them on their way to tensors: masks and boxes are cropped and mirrored as their pictures are.

For training a picture is a square, for measuring and answering it keeps its sides' ratio: its shorter side has `size`
pixels, and pictures of a batch share a canvas. As everywhere, chance is a function of (seed, epoch, index).
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps

from sft_magics.core import errors
from sft_magics.datasets.annotations import masks
from sft_magics.datasets.annotations.boxes import Box
from sft_magics.engine.inputs import pixels
from sft_magics.engine.inputs.images import AugmentRng, Change

_KEPT_BYTES = 1 << 30
_NAMED = 5
_WHOLE = Change(1.0, 1.0, 0.5, 0.5, False)


@dataclass
class Scenes:
    """Image files, and the masks' files or the boxes that belong to them; those that fit in memory are kept there."""

    paths: Sequence[pixels.Source]
    size: int
    masks: list[str] | None = None
    boxes: list[list[Box]] | None = None
    kept: dict[int, Image.Image] = field(default_factory=dict)
    kept_masks: dict[int, Image.Image] = field(default_factory=dict)

    def keep(self, threads: int) -> None:
        """Read every file, and keep as many as fit into a gigabyte; raises DataProblem that names broken files."""
        room = _KEPT_BYTES
        wrong: list[str] = []
        with ThreadPoolExecutor(max(1, threads)) as pool:
            for index, found in enumerate(pool.map(self._tried, range(len(self.paths)))):
                if isinstance(found, str):
                    wrong.append(found)
                    continue
                picture, mask = found
                room -= picture.width * picture.height * 3 + (mask.width * mask.height if mask else 0)
                if room > 0:
                    self.kept[index] = picture
                    if mask is not None:
                        self.kept_masks[index] = mask
        if wrong:
            more = f" and {len(wrong) - _NAMED:,} more" if len(wrong) > _NAMED else ""
            raise errors.DataProblem(
                f"{len(wrong):,} images cannot be read: {', '.join(wrong[:_NAMED])}{more}.",
                "put them back, or load the data again with %sft_data NAME SOURCE --broken skip.",
            )

    def _tried(self, index: int) -> "tuple[Image.Image, Image.Image | None] | str":
        try:
            picture = self._read(index)
            return picture, None if self.masks is None else self._read_mask(index)
        except Exception as error:  # noqa: BLE001 - a damaged file can fail in any way its decoder has
            return pixels.wrong(self.paths[index], error)

    def _read(self, index: int) -> Image.Image:
        """Return a picture upright, in RGB."""
        return pixels.scene(self.paths[index], self.size)

    def _read_mask(self, index: int) -> Image.Image:
        assert self.masks is not None
        return Image.fromarray(masks.read(self.masks[index]))

    def picture(self, index: int) -> Image.Image:
        """Return one picture, at up to twice the size that is seen; `info["size"]` are the sides of the whole."""
        found = self.kept.get(index)
        return found if found is not None else self._read(index)

    def mask(self, index: int) -> Image.Image:
        """Return one mask, as large as its file."""
        found = self.kept_masks.get(index)
        return found if found is not None else self._read_mask(index)

    # What batches are made of

    def learned(self, indices: Sequence[int], chance: AugmentRng | None) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return squares as uint8 (rows x 3 x size x size), and their masks (rows x size x size) if there are any."""
        pictures, marks = [], []
        for i in indices:
            change = _change(i, chance)
            square = self._square(self.picture(i), change, Image.Resampling.BILINEAR)
            mask = None
            if self.masks is not None:
                mask = np.asarray(self._square(self.mask(i), change, Image.Resampling.NEAREST))
            if chance is not None and chance.changes:
                changed = chance.changed(i, square, mask)
                square, mask = changed.picture, None if changed.mask is None else changed.mask.numpy()
            pictures.append(np.asarray(square))
            if mask is not None:
                marks.append(mask)
        return _stacked(pictures), torch.from_numpy(np.stack(marks)) if marks else None

    def boxed(self, indices: Sequence[int], chance: AugmentRng | None) -> tuple[torch.Tensor, list[list[Box]]]:
        """Return squares as uint8 (rows x 3 x size x size), and the boxes that are in each."""
        pictures, marks = [], []
        for i in indices:
            square = self._square(self.picture(i), _change(i, chance), Image.Resampling.BILINEAR)
            found = self.placed(i, chance)
            if chance is not None and chance.changes:
                corners = torch.tensor([box.corners for box in found], dtype=torch.float32).reshape(-1, 4)
                changed = chance.changed(i, square, boxes=corners)
                assert changed.boxes is not None
                assert changed.there is not None
                rows = zip(found, changed.boxes.tolist(), changed.there, strict=True)
                square, found = changed.picture, [Box(box.label, *four) for box, four, there in rows if there]
            pictures.append(np.asarray(square))
            marks.append(found)
        return _stacked(pictures), marks

    def _square(self, image: Image.Image, change: Change, how: Image.Resampling) -> Image.Image:
        box = (0.0, 0.0, float(image.width), float(image.height)) if change is _WHOLE else change.box(image.size)
        square = image.resize((self.size, self.size), how, box=box)
        return ImageOps.mirror(square) if change.mirrored else square

    def placed(self, index: int, chance: AugmentRng | None) -> list[Box]:
        """Return a picture's boxes where they lie in its crop; those whose middle was cropped away are left out."""
        assert self.boxes is not None
        wide, high = self.picture(index).info["size"]
        change = _change(index, chance)
        left, top, right, bottom = (0.0, 0.0, wide, high) if change is _WHOLE else change.box((wide, high))
        found = []
        for box in self.boxes[index]:
            x, y = (box.left + box.right) / 2, (box.top + box.bottom) / 2
            if not (left <= x <= right and top <= y <= bottom):
                continue
            across, down = self.size / (right - left), self.size / (bottom - top)
            moved = Box(
                box.label, (box.left - left) * across, (box.top - top) * down, (box.right - left) * across,
                (box.bottom - top) * down,
            ).cut(self.size, self.size)  # fmt: skip
            if change.mirrored:
                moved = Box(box.label, self.size - moved.right, moved.top, self.size - moved.left, moved.bottom)
            found.append(moved)
        return found

    def whole(self, indices: Sequence[int]) -> dict[str, torch.Tensor]:
        """Return pictures on one canvas (rows x 3 x height x width), and for each row the width and height it takes of
        it (`inner`) and those of its file (`outer`).
        """
        images = [pixels.fitted(self.picture(i), self.size) for i in indices]
        return {
            "pictures": torch.from_numpy(pixels.canvas(images)).permute(0, 3, 1, 2).contiguous(),
            "inner": torch.tensor([image.size for image in images]),
            "outer": torch.tensor([self.picture(i).info["size"] for i in indices]),
        }

    def truths(self, indices: Sequence[int]) -> torch.Tensor:
        """Return masks as large as their files, or smaller (see `pixels.measured_size`), filled up with 255."""
        found = [self.mask(i) for i in indices]
        found = [m.resize(pixels.measured_size(m.size), Image.Resampling.NEAREST) for m in found]
        wide, high = (max(side) for side in zip(*(m.size for m in found), strict=True))
        block = np.full((len(found), high, wide), masks.NOTHING, dtype=np.uint8)
        for row, mask in enumerate(found):
            block[row, : mask.height, : mask.width] = np.asarray(mask)
        return torch.from_numpy(block)


def _change(index: int, chance: AugmentRng | None) -> Change:
    return (None if chance is None else chance.of(index)) or _WHOLE


def _stacked(pictures: Sequence[Any]) -> torch.Tensor:
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).contiguous()
