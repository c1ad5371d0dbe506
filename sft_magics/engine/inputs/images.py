"""Images on their way to tensors: read once, kept small in memory where they fit, changed by chance where asked.

What chance does to an image is a function of (seed, epoch, index) alone, so a run that resumes sees what it would have
seen. How a file is read and resized is in `pixels`.
"""

import functools
import random
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image, ImageOps

from sft_magics.core import augments, errors
from sft_magics.engine.inputs import pixels

if TYPE_CHECKING:
    from sft_magics.engine.inputs.augment import Changed

Batch = dict[str, torch.Tensor]

_KEPT_BYTES = 1 << 30
_NAMED = 5
# name -> (smallest share of the picture that is kept, how far from square, whether it may be mirrored)
_CROPS = {"light": (0.7, 1.15, False), "flip": (0.7, 1.15, True), "strong": (0.2, 4 / 3, True)}


@dataclass
class Pictures:
    """Image files, by path or as their bytes, and how they are prepared.

    Those that fit in memory are kept there, resized and not yet cropped.
    """

    paths: Sequence[pixels.Source]
    size: int
    resize: int
    kept: dict[int, Image.Image] = field(default_factory=dict)

    def get(self, index: int) -> Image.Image:
        """Return one picture in RGB, its shorter side resized."""
        found = self.kept.get(index)
        return found if found is not None else pixels.opened(self.paths[index], self.resize)

    def keep(self, threads: int) -> None:
        """Read every file, and keep what was read if all of it fits; raises DataProblem that names broken files."""
        fits = len(self.paths) * self.resize * self.resize * 4 * 1.4 <= _KEPT_BYTES
        wrong: list[str] = []
        with ThreadPoolExecutor(max(1, threads)) as pool:
            for index, found in enumerate(pool.map(self._tried, range(len(self.paths)))):
                if isinstance(found, str):
                    wrong.append(found)
                elif fits:
                    self.kept[index] = found
        if wrong:
            more = f" and {len(wrong) - _NAMED:,} more" if len(wrong) > _NAMED else ""
            raise errors.DataProblem(
                f"{len(wrong):,} images cannot be read: {', '.join(wrong[:_NAMED])}{more}.",
                "put them back, or load the data again with %sft_data NAME SOURCE --broken skip.",
            )

    def _tried(self, index: int) -> Image.Image | str:
        try:
            return pixels.opened(self.paths[index], self.resize)
        except Exception as error:  # noqa: BLE001 - a damaged file can fail in any way its decoder has
            return pixels.wrong(self.paths[index], error)

    def batch(self, indices: Sequence[int], chance: "AugmentRng | None" = None) -> torch.Tensor:
        """Return pictures as uint8, rows x 3 x size x size; with `chance` as they are changed, else their centers."""
        made = [np.asarray(self._square(i, chance)) for i in indices]
        return torch.from_numpy(np.stack(made)).permute(0, 3, 1, 2).contiguous()

    def _square(self, index: int, chance: "AugmentRng | None") -> Image.Image:
        image = self.get(index)
        change = None if chance is None else chance.of(index)
        if change is None:
            square = pixels.center(image, self.size)
        else:
            square = image.resize((self.size, self.size), Image.Resampling.BILINEAR, box=change.box(image.size))
            square = ImageOps.mirror(square) if change.mirrored else square
        return square if chance is None or not chance.changes else chance.changed(index, square).picture


@dataclass(frozen=True)
class Change:
    """How one picture is cropped: the share of it that is kept, its ratio of sides, where it lies, and a mirroring."""

    share: float
    ratio: float
    x: float
    y: float
    mirrored: bool

    def box(self, size: tuple[int, int]) -> tuple[float, float, float, float]:
        """Return left, top, right, bottom within a picture of that size."""
        side = float((min(size) ** 2 * self.share) ** 0.5)
        width, height = min(side * self.ratio, float(size[0])), min(side / self.ratio, float(size[1]))
        left, top = self.x * (size[0] - width), self.y * (size[1] - height)
        return left, top, left + width, top + height


@dataclass(frozen=True)
class AugmentRng:
    """What is drawn for each picture of an epoch; `augment` is as `core.augments` reads it."""

    augment: str
    seed: int
    epoch: int

    @functools.cached_property
    def changes(self) -> tuple[str, ...]:
        """What is done to a picture after its crop."""
        return augments.read(self.augment).changes

    @functools.cached_property
    def _crop(self) -> tuple[float, float, bool] | None:
        return _CROPS.get(augments.read(self.augment).crop)

    def changed(self, index: int, picture: Image.Image, mask: Any = None, boxes: Any = None) -> "Changed":
        """Return a picture after its crop with all other changes, its mask and boxes with it."""
        from sft_magics.engine.inputs import augment

        return augment.apply(self.changes, (self.seed, self.epoch, index), picture, mask, boxes)

    def of(self, index: int) -> Change | None:
        """Return the crop of one picture, always the same one; None where it is not cropped by chance."""
        if self._crop is None:
            return None
        smallest, squareness, mirror = self._crop
        draw = random.Random(f"{self.seed}/{self.epoch}/{index}")
        ratio = squareness ** draw.uniform(-0.5, 0.5)
        share, x, y = draw.uniform(smallest, 1.0), draw.random(), draw.random()
        return Change(share, ratio, x, y, mirror and draw.random() < 0.5)


def view_of(seed: int, epoch: int | None, index: int, views: int) -> int:
    """Return which of its `views` a picture has in an epoch; the first where no epoch is meant."""
    return 0 if epoch is None else random.Random(f"{seed}/{epoch}/{index}/view").randrange(views)


def auto_size(paths: Sequence[pixels.Source], largest: int) -> int:
    """Return how many pixels suit these files: the base's own size, or less for small pictures, a multiple of 32."""
    sides = []
    for path in list(paths)[:200]:
        try:
            with pixels.file(path) as image:
                sides.append(min(image.size))
        except OSError:
            continue  # `keep` names it
    middle = sorted(sides)[len(sides) // 2] if sides else largest
    return min(largest, max(64, -(-middle // 32) * 32))


def mixed(batch: Batch, draw: random.Random, mixup: float, cutmix: float) -> Batch:
    """Return a batch whose pictures have a part of another one's: laid over them (mixup, Zhang et al. 2018), or as a
    rectangle (cutmix, Yun et al. 2019); by lot where both are asked for.

    `mixup` and `cutmix` are the alpha of the Beta distribution of the share that stays, 0 for never. `others` are the
    labels of the other pictures, `share` (rows) is what stays.
    """
    rows, _, high, wide = batch["pictures"].shape
    order = draw.sample(range(rows), rows)
    over = mixup > 0 and (cutmix <= 0 or draw.random() < 0.5)
    share = draw.betavariate(*((mixup,) * 2 if over else (cutmix,) * 2))
    pictures, others = batch["pictures"], batch["pictures"][order]
    if over:
        blend = share * pictures.float() + (1 - share) * others.float()
        made = blend.round().clamp(0, 255).to(torch.uint8)
    else:
        across, down = (round(side * (1 - share) ** 0.5) for side in (wide, high))
        left, top = draw.randint(0, wide - across), draw.randint(0, high - down)
        made = pictures.clone()
        made[:, :, top : top + down, left : left + across] = others[:, :, top : top + down, left : left + across]
        share = 1.0 - across * down / (wide * high)
    return {**batch, "pictures": made, "others": batch["labels"][order], "share": torch.full((rows,), share)}
