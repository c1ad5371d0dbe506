"""What tasks on marked pictures share: a backbone's preprocessing, its size, what is written into a folder."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from sft_magics.core import augments, errors
from sft_magics.engine import checkpoints, images
from sft_magics.engine.backbones import Backbone
from sft_magics.engine.images import Chance
from sft_magics.engine.scenes import Scenes
from sft_magics.engine.tasks.base import Task

LARGEST = 512
COST = 128  # what a picture counts for in a batch that is only read: 32 at a time


class Dense(Task):
    """A picture in which places are told apart; `shown` says how pictures are prepared."""

    kind: str
    shown: Backbone

    def prepare(self, options: dict[str, Any]) -> None:
        """Take over the options that concern pictures."""
        self._augment = str(options.get("augment", "none"))
        self._seed = int(options.get("seed", 0))
        self.size = int(options.get("image_size") or 0)
        self._threads = int(options.get("workers") or 1)
        self._mean = torch.tensor(self.shown.mean).view(3, 1, 1)
        self._std = torch.tensor(self.shown.std).view(3, 1, 1)

    @staticmethod
    def check_labels(folder: Path, config: dict[str, Any], labels: list[str]) -> None:
        """Refuse a folder whose head tells other classes apart; raises ModelProblem."""
        stored = list(config["pretrained_cfg"]["label_names"])
        if stored != labels:
            raise errors.ModelProblem(
                f"The weights of {folder} tell {', '.join(stored[:5])} apart, not {', '.join(labels[:5])}.",
                "write --base lite0, which begins with a fresh head.",
            )

    def seen_at(self, paths: list[str]) -> int:
        """Return the side of a square as it is seen; small pictures decide theirs, unless it is fixed already."""
        if not self.size:
            self.size = images.auto_size(paths, LARGEST)
        return self.size

    def read(self, scenes: Scenes) -> Scenes:
        """Read every file once; raises DataProblem for broken ones."""
        scenes.keep(self._threads)
        return scenes

    def chance(self, epoch: int | None) -> Chance | None:
        """Return what chance does to the pictures of an epoch, None where it does nothing."""
        if epoch is None or self._augment == "none":
            return None
        return Chance(self._augment, self._seed, epoch)

    def normalized(self, pictures: torch.Tensor) -> torch.Tensor:
        """Return uint8 pictures as the backbone was pretrained to see them."""
        mean, std = self._mean.to(pictures.device), self._std.to(pictures.device)
        return (pictures.float().div_(255) - mean).div_(std)

    @classmethod
    def recipe(cls, start: dict[str, Any]) -> dict[str, Any]:  # noqa: ARG003
        """Return AdamW at 0.001, batches of 8, crops that may be mirrored."""
        return {"optimizer": "adamw", "lr": 0.001, "batch": 8, "augment": "flip", "workers": 2}

    def save(self, folder: Path) -> None:
        """Write config, weights (fp32 safetensors) and our own `sft.json`."""
        folder.mkdir(parents=True, exist_ok=True)
        config = replace(self.shown, size=self.size or LARGEST, resize=self.size or LARGEST).config(self.labels)
        (folder / "config.json").write_text(json.dumps({**config, "kind": self.kind}, indent=1))
        checkpoints.save_tensors(checkpoints.weights_of(self.model), folder / "model.safetensors")
        card = {"task": self.name, "labels": self.labels, "preprocessing": self.preprocessing()}
        (folder / "sft.json").write_text(json.dumps(card, indent=1))

    def preprocessing(self) -> dict[str, Any]:
        """Return the side in pixels, and the mean and standard deviation of each channel."""
        return {
            "library": self.shown.library, "architecture": self.shown.architecture, "kind": self.kind,
            "image_size": self.size, "mean": list(self.shown.mean), "std": list(self.shown.std),
        }  # fmt: skip

    def facts(self) -> dict[str, Any]:
        """Return the size of the weights, where they come from and what starts fresh."""
        return {
            "parameters": sum(p.numel() for p in self.model.parameters()),
            "architecture": f"{self.shown.architecture} + {self.kind}",
            "fresh": [f"{len(self.fresh)} tensors of its {self.kind}"] if self.fresh else [],
            "source": self.shown.source,
        }

    def seen_remarks(self) -> list[str]:
        """Say at what size the pictures are seen, and how they are changed."""
        return [f"Pictures are seen at {self.size} pixels, {augments.read(self._augment)}."]
