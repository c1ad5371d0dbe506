"""The task seam: what the loop needs of a task, and nothing more.

A third party registers one with `@register(NAME)` and names its module in the entry point group `sft_magics.tasks`;
ours are named in `_OURS`. A module is imported when its task is first asked for: torchvision takes a second.
"""

import abc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from sft_magics.core import errors

Batch = dict[str, torch.Tensor]


class Task(abc.ABC):
    """One kind of learning: how rows become tensors, what the loss is, what is saved.

    A task is made by `load`; from then on it holds the model (fp32, on the CPU until the loop moves it) and whatever
    turns rows into tensors.
    """

    name: str
    model: nn.Module
    labels: list[str]
    fresh: tuple[str, ...]

    @classmethod
    @abc.abstractmethod
    def load(cls, start: dict[str, Any], labels: list[str], options: dict[str, Any]) -> "Task":
        """Load pretrained weights for these labels; raises ModelProblem."""

    @classmethod
    def recipe(cls, start: dict[str, Any]) -> dict[str, Any]:  # noqa: ARG003
        """Return the options that suit this base, in the place of the general defaults."""
        return {}

    def freeze(self, rows: "Encoded", reading: torch.autocast, device: torch.device) -> "Encoded":  # noqa: ARG002
        """Return rows whose features are computed once, and let only the head learn; raises ModelProblem."""
        raise errors.ModelProblem(f"--method head is not there for {self.name} yet.", "leave --method out.")

    def balance(self, rows: "Encoded") -> None:  # noqa: ARG002
        """Let every class weigh alike in the loss; raises ModelProblem."""
        raise errors.ModelProblem(f"--class-weights is not there for {self.name}.", "leave --class-weights out.")

    @abc.abstractmethod
    def encode(self, inputs: Sequence[str], labels: Sequence[str] | None) -> "Encoded":
        """Turn all rows into what batches are cut from, once."""

    @abc.abstractmethod
    def collate(self, rows: "Encoded", indices: Sequence[int], epoch: int | None = None) -> Batch:
        """Return the tensors of one batch, on the CPU; those of an `epoch` may be changed by chance, others never.

        Several threads may call it at once.
        """

    @abc.abstractmethod
    def loss(self, batch: Batch) -> torch.Tensor:
        """Return the mean loss of a batch, a scalar."""

    @abc.abstractmethod
    def scores(self, batch: Batch) -> torch.Tensor:
        """Return class probabilities, rows x labels, float32."""

    @abc.abstractmethod
    def save(self, folder: Path) -> None:
        """Write everything a predictor needs into `folder`."""

    @abc.abstractmethod
    def preprocessing(self) -> dict[str, Any]:
        """Return the settings that turn an input into tensors, for the version's record."""

    @abc.abstractmethod
    def facts(self) -> dict[str, Any]:
        """Return what a model card says of the weights: parameters, license, limits."""

    @abc.abstractmethod
    def measure(self, rows: "Encoded", scores: list[list[float]]) -> "Measured":
        """Compare the scores of labeled rows with their targets."""

    @abc.abstractmethod
    def doubts(self, rows: "Encoded", loss: float) -> list[str]:
        """Return sentences about an epoch that ended with this mean training loss, if something looks wrong."""

    @abc.abstractmethod
    def remarks(self, rows: "Encoded") -> list[str]:
        """Return sentences about the encoded rows that the user should know."""


class Encoded(abc.ABC):
    """Encoded rows: `lengths` in units of cost (tokens), and `targets` as label indices, if known."""

    lengths: list[int]
    targets: list[int] | None


@dataclass(frozen=True)
class Measured:
    """What an evaluation found: each row's scores, mean loss, metrics by name; the highest `quality` is the best."""

    scores: list[list[float]]
    loss: float
    quality: float
    metrics: dict[str, float]
    remarks: list[str]


_OURS = {
    "text-classification": "sft_magics.engine.tasks.text_classification",
    "image-classification": "sft_magics.engine.tasks.image_classification",
}
_TASKS: dict[str, type[Task]] = {}
T = TypeVar("T", bound=type[Task])


def register(name: str) -> Callable[[T], T]:
    """Register a task class under `name`."""

    def keep(cls: T) -> T:
        cls.name = name
        _TASKS[name] = cls
        return cls

    return keep


def find(name: str) -> type[Task]:
    """Return the task class called `name`; raises ModelProblem."""
    if name not in _TASKS:
        modules = {point.name: point.value for point in entry_points(group="sft_magics.tasks")} | _OURS
        if name not in modules:
            raise errors.ModelProblem(f"There is no task '{name}'.", f"choose one of {', '.join(sorted(modules))}.")
        import_module(modules[name])
    return _TASKS[name]
