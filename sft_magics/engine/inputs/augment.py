"""What `--augment` does to a picture after its crop: the transforms of torchvision's v2, drawn by (seed, epoch, index).

Those draw from torch's global generator, which belongs to the whole process: threads would draw in the order they
happen to run, and dropout from what they leave. A function mode, which is a thread's own, gives each random call a
generator made for the one picture instead; no lock is held, and the global one is never touched.
"""

import functools
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch.overrides import TorchFunctionMode
from torchvision import tv_tensors
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.v2 import functional as F

from sft_magics.core import augments
from sft_magics.datasets.annotations import masks

_GRAY = 128
_LEFT = 0.1  # share of a box's area below which it is no longer one
_RANDOM = frozenset({
    "bernoulli", "bernoulli_", "exponential_", "multinomial", "normal", "normal_", "rand", "rand_like", "randint",
    "randint_like", "randn", "randn_like", "random_", "randperm", "uniform_", "_sample_dirichlet",
})  # fmt: skip


class _Drawn(TorchFunctionMode):
    """Within it, and in this thread, torch's random functions draw from one generator."""

    def __init__(self, generator: torch.Generator) -> None:
        super().__init__()
        self._generator = generator

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call `func`, with the generator if it takes one."""
        given = kwargs or {}
        if getattr(func, "__name__", "") in _RANDOM:
            given = {"generator": self._generator, **given}
        return func(*args, **given)


@dataclass(frozen=True)
class Step:
    """A transform, and whether it moves what is in a picture: then masks and boxes move too."""

    transform: v2.Transform
    moves: bool = False


@dataclass(frozen=True)
class Changed:
    """A picture after its changes, with its mask and its boxes (n x 4, corners), and which boxes are still in it."""

    picture: Image.Image
    mask: torch.Tensor | None = None
    boxes: torch.Tensor | None = None
    there: list[bool] | None = None


def apply(
    names: tuple[str, ...],
    place: tuple[int, int, int],
    picture: Image.Image,
    mask: Any = None,
    boxes: torch.Tensor | None = None,
) -> Changed:
    """Change a picture as (seed, epoch, index) say; `mask` is height x width, `boxes` n x 4 in pixels of the picture.

    A place that a turn leaves empty is gray, and of no class in the mask.
    """
    marked = mask is not None or boxes is not None
    digest = hashlib.blake2b(":".join(map(str, (*place, *names))).encode(), digest_size=8).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest, "big") >> 1)
    marks: list[Any] = [] if mask is None else [tv_tensors.Mask(torch.tensor(mask))]
    if boxes is not None:
        sides = (picture.height, picture.width)
        marks.append(tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=sides))
    with _Drawn(generator):
        for step in _steps(names, marked):
            if step.moves and marks:
                picture, *marks = step.transform(picture, *marks)
            else:
                picture = step.transform(picture)
    if boxes is None:
        return Changed(picture, None if mask is None else marks[0].as_subclass(torch.Tensor))
    found = F.clamp_bounding_boxes(marks[-1]).as_subclass(torch.Tensor)
    return Changed(picture, None, found, [bool(v) for v in _area(found) > _LEFT * _area(boxes)])


def _area(boxes: torch.Tensor) -> torch.Tensor:
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


@functools.cache
def _steps(names: tuple[str, ...], marked: bool) -> tuple[Step, ...]:
    wanted = [_AUTO[marked] if name == augments.AUTO else (name,) for name in names]
    return tuple(CHANGES[name]() for some in wanted for name in some)


# `auto`: one change of many, as TrivialAugment draws it; with marks one of those they can follow.
_AUTO: Mapping[bool, tuple[str, ...]] = {False: ("trivial",), True: ("any", "affine")}


def _moving(transform: Callable[..., v2.Transform], *words: Any, **options: Any) -> Callable[[], Step]:
    fill = {tv_tensors.Mask: masks.NOTHING, "others": _GRAY}
    return lambda: Step(transform(*words, **options, interpolation=InterpolationMode.BILINEAR, fill=fill), moves=True)


def _some(transform: v2.Transform, share: float = 1 / 3) -> Step:
    return Step(v2.RandomApply([transform], share))


def _any() -> Step:
    return Step(
        v2.RandomChoice([
            v2.Identity(), v2.ColorJitter(0.5, 0.5), v2.ColorJitter(saturation=0.8), v2.RandomAutocontrast(1.0),
            v2.RandomEqualize(1.0), v2.RandomPosterize(4, 1.0), v2.RandomSolarize(160, 1.0),
            v2.RandomAdjustSharpness(2.0, 1.0), v2.GaussianBlur(5, (0.1, 1.5)), v2.JPEG((30, 90)),
        ])
    )  # fmt: skip


CHANGES: Mapping[str, Callable[[], Step]] = {
    "color": lambda: Step(v2.ColorJitter(0.3, 0.3, 0.3, 0.03)),
    "gray": lambda: Step(v2.RandomGrayscale(0.2)),
    "blur": lambda: _some(v2.GaussianBlur(5, (0.1, 2.0))),
    "jpeg": lambda: _some(v2.JPEG((20, 80))),
    "equalize": lambda: Step(v2.RandomEqualize(1 / 3)),
    "posterize": lambda: Step(v2.RandomPosterize(3, 1 / 3)),
    "solarize": lambda: Step(v2.RandomSolarize(128, 1 / 3)),
    "erase": lambda: Step(v2.RandomErasing(0.5, (0.02, 0.25), value=[float(_GRAY)] * 3)),
    "rotate": _moving(v2.RandomRotation, 15),
    "affine": _moving(v2.RandomAffine, 10, (0.1, 0.1), (0.9, 1.1), 5),
    "perspective": _moving(v2.RandomPerspective, 0.3),
    "mirror": lambda: Step(v2.RandomHorizontalFlip(), moves=True),
    "upside-down": lambda: Step(v2.RandomVerticalFlip(), moves=True),
    "trivial": lambda: Step(v2.TrivialAugmentWide(interpolation=InterpolationMode.BILINEAR, fill=_GRAY)),
    "rand": lambda: Step(v2.RandAugment(interpolation=InterpolationMode.BILINEAR, fill=_GRAY)),
    "augmix": lambda: Step(v2.AugMix(interpolation=InterpolationMode.BILINEAR, fill=_GRAY)),
    "any": _any,
}
