"""Detectors that say where things are: FCOS on a feature pyramid, or one of torchvision's by name, with our classes.

Either is called as torchvision's are: with pictures of values 0 to 1, and for learning with their boxes. Class 0 is the
background, so a label's number in the model is one more than its place among the labels.
"""

from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import nn
from torchvision.models import detection
from torchvision.models.detection.anchor_utils import AnchorGenerator, DefaultBoxGenerator
from torchvision.models.detection.fcos import FCOS, FCOSHead

from sft_magics.core import errors
from sft_magics.engine.models.backbones import OFFERS, Backbone
from sft_magics.engine.models.fpn import Body, Pyramid

WIDTH = 96
FINEST = 8
_CONVOLUTIONS = 2
_LEAST_SCORE = 0.05
_OVERLAP = 0.5
_SAYING = ("head", "rpn.head", "roi_heads.box_predictor")  # the modules whose outputs become boxes
_HEADS = ("roi_heads.box_predictor", "roi_heads.mask_predictor", "head.classification_head", "head.regression_head")


def fcos(body: Body, classes: int, size: int) -> FCOS:
    """Return FCOS (Tian et al. 2019) on a body's maps from stride 8 on, for pictures whose shorter side is `size`."""
    anchors = AnchorGenerator(tuple((s,) for s in body.strides), ((1.0,),) * len(body.strides))
    model = FCOS(
        Pyramid(body, WIDTH), classes + 1, min_size=size, max_size=2 * size,
        image_mean=list(body.shown.mean), image_std=list(body.shown.std), anchor_generator=anchors,
        head=FCOSHead(WIDTH, 1, classes + 1, _CONVOLUTIONS), score_thresh=_LEAST_SCORE, nms_thresh=_OVERLAP,
    )  # fmt: skip
    _exact(model)
    return model


def names() -> list[str]:
    """Return the detectors torchvision knows by name."""
    return [n for n in torchvision.models.list_models(detection) if "keypoint" not in n and "mask" not in n]


def named(name: str, classes: int, wanted: str) -> tuple[nn.Module, Backbone, tuple[str, ...]]:
    """Return a detector of torchvision's with heads for our classes, how it sees, and the tensors that start fresh.

    Its weights come from torch's own cache or from the internet; with `wanted` "none" it begins from scratch. Raises
    ModelProblem when they cannot be had, or fit only in part.
    """
    known = torchvision.models.get_model_weights(name)
    model = torchvision.models.get_model(name, weights=None, weights_backbone=None, num_classes=classes + 1)
    shown = Backbone(model, "torchvision", name, 512, 512, (0.0,) * 3, (1.0,) * 3, (), f"torchvision {name}")
    _exact(model)
    if wanted == "none":
        return model, shown, tuple(model.state_dict())
    best = known.DEFAULT
    file = Path(torch.hub.get_dir()) / "checkpoints" / Path(best.url).name
    try:
        stored = torch.load(file, weights_only=True, map_location="cpu") if file.is_file() else best.get_state_dict(
            progress=False, check_hash=True
        )  # fmt: skip
    except OSError as error:
        raise errors.ModelProblem(
            f"The weights of {name} are not on this machine, and cannot be downloaded from here ({error}).",
            f"connect to the internet, or copy {file.name} to {file.parent}; or {OFFERS}",
        ) from error
    return model, shown, _fit(model, stored, name)


def _fit(model: nn.Module, stored: dict[str, torch.Tensor], name: str) -> tuple[str, ...]:
    """Copy all tensors but those of heads that speak of other classes; return the names of these."""
    places = model.state_dict()
    other = [n for n, t in places.items() if n not in stored or stored[n].shape != t.shape]
    strange = [n for n in (*other, *(n for n in stored if n not in places)) if not n.startswith(_HEADS)]
    if strange:
        raise errors.ModelProblem(f"The weights of {name} fit only in part: {', '.join(strange[:4])}.", OFFERS)
    model.load_state_dict({n: t for n, t in stored.items() if n in places and n not in other}, strict=False)
    return tuple(other)


def empty(config: dict[str, Any], classes: int) -> nn.Module:
    """Return the detector of torchvision's that a folder's `config.json` names, its weights still to be filled."""
    found: nn.Module = torchvision.models.get_model(
        str(config["architecture"]), weights=None, weights_backbone=None, num_classes=classes + 1
    )
    _exact(found)
    return found


def _exact(model: nn.Module) -> None:
    """Let what a detector's layers say in bfloat16 become boxes, confidences and losses in fp32.

    A corner at pixel 200 in bfloat16 is off by up to half a pixel, and confidences that differ in the third digit are
    one; torchvision takes for its boxes the number format that the layers computed in.
    """
    for name, module in model.named_modules():
        if name in _SAYING:
            module.register_forward_hook(lambda _module, _inputs, said: _full(said))
        if isinstance(module, AnchorGenerator | DefaultBoxGenerator):
            module.register_forward_pre_hook(lambda _module, inputs: (inputs[0], [_like(m) for m in inputs[1]]))


def _full(said: Any) -> Any:
    """Return what a head says (a tensor, or some in a row or by name) in fp32."""
    if isinstance(said, dict):
        return {name: _full(part) for name, part in said.items()}
    if isinstance(said, list | tuple):
        return type(said)(_full(part) for part in said)
    return said.float()


def _like(maps: torch.Tensor) -> torch.Tensor:
    """Return a tensor of a map's shape in fp32, of which only that is read."""
    return maps.new_empty((), dtype=torch.float32).expand(maps.shape)


def learning(model: nn.Module) -> None:
    """Let a detector say its losses without learning: only what keeps count of what it sees stays still."""
    for module in model.modules():
        module.training = not isinstance(module, nn.modules.batchnorm._BatchNorm | nn.Dropout)
