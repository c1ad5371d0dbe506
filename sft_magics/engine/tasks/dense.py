"""What tasks on marked pictures share: a backbone's preprocessing, its size, what is written into a folder."""

import abc
import contextlib
import json
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sft_magics.core import augments, errors
from sft_magics.engine.inputs import images
from sft_magics.engine.inputs.annotated_images import Scenes
from sft_magics.engine.inputs.images import AugmentRng
from sft_magics.engine.kernels import conv_bn_folding
from sft_magics.engine.models import frozen_body, layer_groups, tensor_files
from sft_magics.engine.models.backbones import Backbone
from sft_magics.engine.runtime.hardware import Hardware
from sft_magics.engine.tasks.base import Batch, Encoded, Task

LARGEST = 512
_READ = 16
COST = 128  # what a picture counts for in a batch that is only read: 32 at a time


@dataclass
class Marked(Encoded):
    """Pictures with what is marked in them; `kept` once a frozen body's maps of them are."""

    lengths: list[int]
    scenes: Scenes
    kept: "Kept | None" = None


@dataclass
class Kept:
    """What a frozen body says of squares: for each view its maps (rows x width x height x width), and the marks."""

    maps: list[list[torch.Tensor]]
    marks: list[Any]
    form: Callable[[list[torch.Tensor]], Any]  # puts maps into the form that the body answers in


class Dense(Task):
    """A picture in which places are told apart; `shown` says how pictures are prepared."""

    methods = ("full", "head")
    changes = True
    kind: str
    shown: Backbone

    def prepare(self, options: dict[str, Any]) -> None:
        """Take over the options that concern pictures."""
        self._augment = str(options.get("augment", "none"))
        self._seed = int(options.get("seed", 0))
        self.size = int(options.get("image_size") or 0)
        self._views = int(options.get("views") or 0)
        self._frozen = ""
        self._form: Callable[[list[torch.Tensor]], Any] = list
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

    def chance(self, epoch: int | None) -> AugmentRng | None:
        """Return what chance does to the pictures of an epoch, None where it does nothing."""
        if epoch is None or self._augment == "none":
            return None
        return AugmentRng(self._augment, self._seed, epoch)

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
        tensor_files.save_tensors(tensor_files.weights_of(self.model), folder / "model.safetensors")
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

    # With a body that is frozen

    @abc.abstractmethod
    def marks_of(self, rows: Any, chance: AugmentRng | None) -> Any:
        """Return the marks of all squares, one row each."""

    @abc.abstractmethod
    def body_sees(self, pictures: torch.Tensor) -> torch.Tensor:
        """Return uint8 squares as the body is given them."""

    def freeze(self, rows: Encoded, chosen: Hardware, *, learned: bool) -> Encoded:
        """Let all learn that is no part of the body; keep the body's maps of what is learned from, if they fit."""
        assert isinstance(rows, Marked)
        frozen_body.only(self.model, set(layer_groups.of(self.model)[-1]))
        if not learned:
            return rows  # whole pictures of many sizes: the body reads them anew
        drawn = [AugmentRng(self._augment, self._seed, view) for view in range(self._views)] or (None,)
        first = self._maps(rows, chosen, range(1), None)[0]
        if sum(m.numel() * m.element_size() for m in first) * len(rows.lengths) * len(drawn) > frozen_body.ROOM:
            self._frozen = "The backbone is frozen; its maps are more than memory should keep, so it reads each batch."
            return rows
        views, parts = [], range(0, len(rows.lengths), _READ)
        with conv_bn_folding.folded(self.model, chosen, lambda: self._maps(rows, chosen, range(1), None)):
            for chance in drawn:
                found = [self._maps(rows, chosen, range(a, min(a + _READ, len(rows.lengths))), chance) for a in parts]
                views.append([torch.cat(scale) for scale in zip(*(maps for maps, _ in found), strict=True)])
                form = found[0][1]
        seen = f"{self._views} changed views" if self._views else "the pictures as they are"
        self._frozen = f"The backbone is frozen: its maps of {seen} were computed once; pyramid and head learn on them."
        return replace(rows, kept=Kept(views, [self.marks_of(rows, chance) for chance in drawn], form))

    @torch.no_grad()
    def _maps(
        self, rows: Marked, chosen: Hardware, indices: range, chance: AugmentRng | None
    ) -> tuple[list[torch.Tensor], Callable[[list[torch.Tensor]], Any]]:
        self.model.eval()
        pictures, _ = rows.scenes.learned(indices, chance)
        with chosen.autocast():
            said = self._body()(self.body_sees(pictures.to(chosen.device)))
        if isinstance(said, dict):
            names = tuple(said)
            return [m.cpu() for m in said.values()], lambda maps: OrderedDict(zip(names, maps, strict=True))
        return [m.cpu() for m in said], list

    def _body(self) -> nn.Module:
        named = {name.rpartition(".")[2]: module for name, module in self.model.named_modules()}
        found: nn.Module = named["body"] if "body" in named else named["backbone"]
        return found

    def kept_batch(self, rows: Marked, indices: Sequence[int], epoch: int) -> tuple[Batch, list[Any]]:
        """Return the maps of an epoch's views (`map0`, ... finest first), and their marks."""
        assert rows.kept is not None
        places = [(images.view_of(self._seed, epoch, i, len(rows.kept.maps)), i) for i in indices]
        scales = range(len(rows.kept.maps[0]))
        maps = {f"map{s}": torch.stack([rows.kept.maps[view][s][i] for view, i in places]) for s in scales}
        self._form = rows.kept.form
        return maps, [rows.kept.marks[view][i] for view, i in places]

    @contextlib.contextmanager
    def body_of(self, batch: Batch) -> Iterator[torch.Tensor]:
        """Let the body answer the maps of a batch; yields uint8 squares of nothing in the pictures' place."""
        maps = [batch[name] for name in batch if name.startswith("map")]
        blank = torch.zeros(1, dtype=torch.uint8, device=maps[0].device).expand(len(maps[0]), 3, self.size, self.size)
        with frozen_body.playing(self._body(), self._form(maps)):
            yield blank

    def seen_remarks(self) -> list[str]:
        """Say at what size the pictures are seen, how they are changed, and what is frozen."""
        if self._frozen:
            return [f"Pictures are seen at {self.size} pixels.", self._frozen]
        return [f"Pictures are seen at {self.size} pixels, {augments.read(self._augment)}."]
