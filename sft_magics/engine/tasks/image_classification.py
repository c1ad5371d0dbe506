"""Image classification on any torchvision or timm backbone."""

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sft_magics.core import augments
from sft_magics.datasets.annotations import annotation_render
from sft_magics.engine.inputs import images, pixels, preview
from sft_magics.engine.inputs.images import AugmentRng, Pictures
from sft_magics.engine.kernels import conv_bn_folding
from sft_magics.engine.models import backbones, frozen_body, lora_adapters, tensor_files
from sft_magics.engine.runtime.hardware import Hardware
from sft_magics.engine.tasks import classification
from sft_magics.engine.tasks.base import Batch, Encoded, register
from sft_magics.engine.tasks.classification import Classifier, Labeled

_COST = 64  # what a picture counts for in a batch that is only read: 64 at a time


@dataclass
class Images(Labeled):
    """The pictures of each row, or with a frozen backbone its features (views x rows x width, float32)."""

    pictures: Pictures
    features: torch.Tensor | None = None

    @property
    def read(self) -> bool:
        """Whether their features are there."""
        return self.features is not None


@register("image-classification")
class ImageClassification(Classifier):
    """One picture, one label: cross-entropy on a fresh linear head over the backbone."""

    methods = ("full", "head", "lora")
    changes = True
    mixings = ("mixup", "cutmix")

    def __init__(self, loaded: backbones.Backbone, labels: list[str], options: dict[str, Any]) -> None:
        self.loaded = loaded
        self.model = loaded.model
        self.labels = labels
        self.fresh = loaded.fresh
        self.smoothing = float(options.get("label_smoothing", 0.0))
        self._augment = str(options.get("augment", "none"))
        self._seed = int(options.get("seed", 0))
        self._mixup, self._cutmix = (float(options.get(name) or 0.0) for name in ("mixup", "cutmix"))
        self.mixes = bool(self._mixup or self._cutmix)
        self._size = options.get("image_size")
        self._threads = int(options.get("workers") or 1)
        self._views = int(options.get("views") or 0)
        self._learning: nn.Module | None = None  # the head, where only that learns
        if self._size:
            self.loaded = loaded.sized(int(self._size))
        self._mean = torch.tensor(loaded.mean).view(3, 1, 1)
        self._std = torch.tensor(loaded.std).view(3, 1, 1)
        if not options.get("dropout", True):
            for module in self.model.modules():
                if isinstance(module, nn.Dropout):
                    module.p = 0.0

    @classmethod
    def load(cls, start: dict[str, Any], labels: list[str], options: dict[str, Any]) -> "ImageClassification":
        """Load the base with a head for `labels`; `options` may hold seed, image_size, augment, workers, dropout."""
        made = cls(backbones.load(start, labels, int(options.get("seed", 0))), labels, options)
        made.adapt(options)
        return made

    @classmethod
    def recipe(cls, start: dict[str, Any]) -> dict[str, Any]:
        """Return the classic recipe for a ResNet (SGD 0.001, momentum 0.9, nothing else), AdamW for other backbones."""
        if start["kind"] == "name" and "resnet" in str(start["path"]):
            classic = {"weight_decay": 0.0, "warmup": 0.0, "schedule": "constant", "clip": 0.0}
            return {"optimizer": "sgd", "lr": 0.001, "momentum": 0.9, "augment": "light", "workers": 2, **classic}
        return {"optimizer": "adamw", "lr": 0.001, "augment": "light", "workers": 2}

    def encode(self, inputs: Sequence[str], targets: Sequence[str] | None) -> Images:
        """Read every file once; the size of small pictures decides theirs, unless it was given or is fixed already."""
        if not self._size:
            self._size = images.auto_size(inputs, self.loaded.size)
            self.loaded = self.loaded.sized(self._size)
        pictures = Pictures(list(inputs), self.loaded.size, self.loaded.resize)
        pictures.keep(self._threads)
        known = None if targets is None else classification.targets(targets, self.labels)
        return Images([_COST] * len(inputs), known, pictures)

    def freeze(self, rows: Encoded, chosen: Hardware, *, learned: bool) -> Images:
        """Return rows whose features are computed once; from then on only the head learns.

        With `--views` those that are learned from are computed of so many changed pictures each, of which an epoch
        draws one.
        """
        assert isinstance(rows, Images)
        name, self._learning = backbones.head_of(self.model)
        frozen_body.only(self.model, {key for key, _ in self.model.named_parameters() if key.startswith(f"{name}.")})
        drawn = [AugmentRng(self._augment, self._seed, view) for view in range(self._views if learned else 0)]
        views = [self._features(rows, chosen, chance) for chance in drawn or (None,)]
        return Images(rows.lengths, rows.targets, rows.pictures, torch.stack(views))

    @torch.no_grad()
    def _features(self, rows: Images, chosen: Hardware, chance: AugmentRng | None) -> torch.Tensor:
        _, head = backbones.head_of(self.model)
        caught: list[torch.Tensor] = []

        def read(indices: range) -> None:
            self.model(self._prepared(rows.pictures.batch(indices, chance).to(chosen.device)))

        self.model.eval()
        with conv_bn_folding.folded(self.model, chosen, lambda: read(range(1))):
            hook = head.register_forward_pre_hook(lambda _, inputs: caught.append(inputs[0].float()))
            try:
                with chosen.autocast():
                    for start in range(0, len(rows.lengths), _COST):
                        read(range(start, min(start + _COST, len(rows.lengths))))
            finally:
                hook.remove()
        return torch.cat(caught).cpu()

    def collate(self, rows: Encoded, indices: Sequence[int], epoch: int | None = None) -> Batch:
        """Return pictures as uint8 (rows x 3 x size x size), or features; those of an epoch are changed by chance."""
        assert isinstance(rows, Images)
        if rows.features is not None:
            views = [images.view_of(self._seed, epoch, i, len(rows.features)) for i in indices]
            batch = {"features": rows.features[views, list(indices)]}
        else:
            changed = epoch is not None and self._augment != "none"
            chance = AugmentRng(self._augment, self._seed, epoch or 0) if changed else None
            batch = {"pictures": rows.pictures.batch(indices, chance)}
        if rows.targets is not None:
            batch["labels"] = torch.tensor([rows.targets[i] for i in indices], dtype=torch.long)
        if self.mixes and epoch is not None and "pictures" in batch:
            draw = random.Random(f"{self._seed}/{epoch}/{indices[0]}/mix")
            return images.mixed(batch, draw, self._mixup, self._cutmix)
        return batch

    def turned_back(self, rows: Encoded, batch: Batch, indices: Sequence[int]) -> list[dict[str, Any]]:
        """Return the pictures of a batch with their labels; of two in one both labels and their shares."""
        assert isinstance(rows, Images)
        seen = batch["pictures"] if "pictures" in batch else rows.pictures.batch(indices)
        found = []
        for place, i in enumerate(indices):
            label = self.labels[int(batch["labels"][place])]
            if "others" in batch:
                share, other = float(batch["share"][place]), self.labels[int(batch["others"][place])]
                label = f"{share:.0%} {label}, {1 - share:.0%} {other}"
            picture = annotation_render.shown(preview.picture_of(seen[place]))
            found.append({"label": label, "text": pixels.named(rows.pictures.paths[i]), "picture": picture})
        return found

    def logits(self, batch: Batch) -> torch.Tensor:
        """Return what the head says, rows x labels, float32."""
        if "features" in batch:
            assert self._learning is not None
            logits: torch.Tensor = self._learning(batch["features"])
        else:
            logits = self.model(self._prepared(batch["pictures"]))
        return logits.float()

    def _prepared(self, pictures: torch.Tensor) -> torch.Tensor:
        mean, std = self._mean.to(pictures.device), self._std.to(pictures.device)
        return (pictures.float().div_(255) - mean).div_(std)

    def save(self, folder: Path) -> None:
        """Write config, weights (fp32 safetensors) and our own `sft.json`; timm and torchvision load the weights."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(json.dumps(self.loaded.config(self.labels), indent=1))
        tensor_files.save_tensors(lora_adapters.merged(self.model), folder / "model.safetensors")
        card = {"task": self.name, "labels": self.labels, "preprocessing": self.preprocessing()}
        (folder / "sft.json").write_text(json.dumps(card, indent=1))

    def preprocessing(self) -> dict[str, Any]:
        """Return the sides in pixels, and the mean and standard deviation of each channel."""
        shown = self.loaded
        return {
            "library": shown.library, "architecture": shown.architecture,
            "image_size": shown.size, "resize": shown.resize, "mean": list(shown.mean), "std": list(shown.std),
        }  # fmt: skip

    def facts(self) -> dict[str, Any]:
        """Return the size of the weights, where they come from and what they see."""
        return {
            "parameters": sum(p.numel() for p in self.model.parameters()),
            "architecture": self.loaded.architecture,
            "image_size": self.loaded.size,
            "fresh": list(self.fresh) if len(self.fresh) < 10 else ["all of it"],
            "source": self.loaded.source,
        }

    def remarks(self, rows: Encoded) -> list[str]:
        """Say at what size the pictures are seen, and how they are changed."""
        assert isinstance(rows, Images)
        if rows.features is not None:
            seen = f"of {len(rows.features)} changed views" if self._views else "of the pictures as they are"
            return [f"The backbone is frozen: its features {seen} were computed once, and only the head learns."]
        size, how = rows.pictures.size, augments.read(self._augment)
        return [*lora_adapters.said(self.model), f"Pictures are seen at {size} x {size} pixels, {how}."]
