"""Feature pyramids: a backbone of timm's that gives maps at several strides, and what makes them alike in width.

The weights of the whole backbone are checked first, then those that its maps need are taken; nothing is loaded in part.
"""

import json
import re
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
import torch
from torch import nn
from torchvision.ops import FeaturePyramidNetwork

from sft_magics.core import errors
from sft_magics.engine.models import backbones, pretrained, weight_loading
from sft_magics.engine.models.backbones import Backbone

_STRIDES = (4, 8, 16, 32)
_KNOWN = (
    "write --base lite0, or the name of a convolutional model of timm's, such as resnet18 or mobilenetv3_large_100."
)


@dataclass(frozen=True)
class Body:
    """A backbone that returns its maps, finest first, with their widths and strides; `shown` says what it is of."""

    model: nn.Module
    widths: tuple[int, ...]
    strides: tuple[int, ...]
    shown: Backbone


class Pyramid(nn.Module):
    """Maps of a body made alike: `width` channels at every stride (Lin et al. 2017).

    While a pretrained body learns, its normalization keeps the statistics that it came with: those of a few pictures
    are worse.
    """

    def __init__(self, body: Body, width: int) -> None:
        super().__init__()
        self.still = not body.shown.fresh
        self.body = body.model
        self.pyramid = FeaturePyramidNetwork(list(body.widths), width)
        self.out_channels = width

    def forward(self, pictures: torch.Tensor) -> "OrderedDict[str, torch.Tensor]":
        """Return the maps by number, finest first."""
        found: OrderedDict[str, torch.Tensor] = self.pyramid(
            OrderedDict((str(i), found) for i, found in enumerate(self.body(pictures)))
        )
        return found

    def train(self, mode: bool = True) -> "Pyramid":
        """Set training or evaluation, but for what stays still."""
        super().train(mode)
        for module in self.body.modules() if self.still else ():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self


def body_of(start: dict[str, Any], finest: int) -> Body:
    """Load a pretrained body whose first map has the stride `finest` or the next it has; raises ModelProblem."""
    whole = backbones.whole(start)
    model, widths, strides = _bare(whole.architecture, finest)
    _take(model, whole)
    return Body(model, widths, strides, whole)


def empty_body(config: dict[str, Any], finest: int) -> Body:
    """Return the body that a folder's `config.json` names, its weights still to be filled."""
    shown = config["pretrained_cfg"]
    size = int(shown["input_size"][-1])
    model, widths, strides = _bare(str(config["architecture"]), finest)
    whole = Backbone(
        nn.Identity(), str(config["library"]), str(config["architecture"]), size, size, tuple(shown["mean"]),
        tuple(shown["std"]), (), str(config.get("source", "")),
    )  # fmt: skip
    return Body(model, widths, strides, whole)


def own(folder: Path, kind: str) -> dict[str, Any] | None:
    """Return the `config.json` of a folder that a task of this `kind` saved, None for another folder."""
    try:
        found: dict[str, Any] = json.loads((folder / "config.json").read_text())
    except (OSError, ValueError):
        return None
    return found if found.get("kind") == kind else None


def tensors_of(folder: Path) -> dict[str, torch.Tensor]:
    """Return the weights that a task saved in a folder, checked out or plain."""
    with pretrained.said_plainly(str(folder), "an image model", _KNOWN):
        return weight_loading.load(folder)


def _bare(architecture: str, finest: int) -> tuple[nn.Module, tuple[int, ...], tuple[int, ...]]:
    try:
        probe = timm.create_model(architecture, pretrained=False, features_only=True)
        reductions = [int(r) for r in probe.feature_info.reduction()]  # type: ignore[union-attr, operator]
        chosen = tuple(i for i, r in enumerate(reductions) if finest <= r <= _STRIDES[-1])
        model = timm.create_model(architecture, pretrained=False, features_only=True, out_indices=chosen)
        widths = tuple(int(c) for c in model.feature_info.channels())  # type: ignore[union-attr, operator]
    except (RuntimeError, AttributeError, AssertionError, ValueError) as error:
        raise errors.ModelProblem(
            f"timm gives no maps of {architecture} for masks and boxes ({error}).", _KNOWN
        ) from error
    if len(chosen) < 2:
        raise errors.ModelProblem(f"{architecture} has maps at strides {reductions} only.", _KNOWN)
    return model, widths, tuple(reductions[i] for i in chosen)


def _take(model: nn.Module, whole: Backbone) -> None:
    """Copy the tensors of the whole backbone that the maps need."""
    stored = whole.model.state_dict()
    places = model.state_dict()
    names = {name: re.sub(r"^([a-z]+)_(\d+)\.", r"\1.\2.", name) for name in places}  # timm flattens lists of stages
    found = {place: stored[name] for place, name in names.items() if name in stored}
    lacking = [n for n in places if n not in found or found[n].shape != places[n].shape]
    if lacking:
        shown = ", ".join(lacking[:4]) + (f" and {len(lacking) - 4} more" if len(lacking) > 4 else "")
        raise errors.ModelProblem(f"The maps of {whole.source} cannot be filled from its weights: {shown}.", _KNOWN)
    model.load_state_dict(found)
