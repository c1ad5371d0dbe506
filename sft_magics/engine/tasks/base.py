"""The task seam: what the loop needs of a task, and nothing more.

A third party registers one with `@register(NAME)` and names its module in the entry point group `sft_magics.tasks`;
ours are named in `_OURS`. A module is imported when its task is first asked for: torchvision takes a second.
"""

import abc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from sft_magics.core import errors
from sft_magics.core.records import Metric
from sft_magics.core.sampling import Piece, Sampling
from sft_magics.engine.models import tensor_files
from sft_magics.engine.runtime.hardware import Hardware

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
    column = "label"  # of the data set's file, which holds what is to be learned
    methods: tuple[str, ...] = ("full",)
    mixings: tuple[str, ...] = ()
    classes_known = False  # whether each row is of one class, as `classes` says
    changes = False  # whether chance changes what it learns from (`--augment`)
    in_lanes = False  # whether batches may be read beside each other, each in a thread of its own
    pretrained_answers = False  # whether the base answers before it is trained, so that a run is compared with it
    untrained: float | None = None  # the validation loss of such a base before training, where a run measured it
    thaws = True  # whether it has a head that can learn before the body does

    @classmethod
    @abc.abstractmethod
    def load(cls, start: dict[str, Any], labels: list[str], options: dict[str, Any]) -> "Task":
        """Load pretrained weights for these labels; raises ModelProblem."""

    @classmethod
    def recipe(cls, start: dict[str, Any]) -> dict[str, Any]:  # noqa: ARG003
        """Return the options that suit this base, in the place of the general defaults."""
        return {}

    @classmethod
    def check_options(cls, options: dict[str, Any]) -> None:
        """Refuse what this task has not: a method of fine-tuning, a way to mix or draw rows; raises ModelProblem."""
        method = str(options.get("method", "full"))
        cls._check_method_options(method, options)
        if options.get("sampling") == "balanced" and not cls.classes_known:
            raise errors.ModelProblem(f"--sampling balanced is not there for {cls.name}.", "leave --sampling out.")
        for name in ("mixup", "cutmix"):
            if options.get(name) and (name not in cls.mixings or method == "head"):
                where = f"--method {method}" if name in cls.mixings else cls.name
                raise errors.ModelProblem(f"--{name} is not there for {where}.", f"leave --{name} out.")
        if method not in cls.methods:
            known = " or ".join(f"--method {m}" for m in cls.methods)
            raise errors.ModelProblem(f"--method {method} is not there for {cls.name}.", f"write {known}.")

    @classmethod
    def _check_method_options(cls, method: str, options: dict[str, Any]) -> None:
        """Refuse options of one method for another."""
        if options.get("unfreeze") and not (cls.thaws and method == "full"):
            where = f"--method {method}" if cls.thaws else cls.name
            raise errors.ModelProblem(f"--unfreeze is not there for {where}.", "leave --unfreeze out.")
        if not options.get("views"):
            return
        if not cls.changes or method != "head":
            where = f"--method {method}" if cls.changes else cls.name
            raise errors.ModelProblem(
                f"--views is not there for {where}.", "leave --views out, or write --method head."
            )
        if options.get("augment", "none") == "none":
            raise errors.ModelProblem("--views are changed pictures, and --augment is none.", "write --augment light.")

    def probe(self) -> None:  # noqa: B027 - pictures come to a model in a form that is its own
        """Run an invented row through the model; raises ModelProblem for a base that fails on it."""

    def fits(self, inputs: Sequence[str], tokens: int = 1) -> list[bool]:  # noqa: ARG002
        """Say of each input whether the model can answer it: a language model's prompt may leave less than `tokens`."""
        return [True] * len(inputs)

    def unread(self, inputs: Sequence[Any], rows: "Encoded") -> dict[int, int]:  # noqa: ARG002
        """Return how many tokens of an input are beyond what the model reads, by the place of each such input."""
        return {}

    def suit(self, *, bf16: bool) -> None:  # noqa: B027 - most tasks have nothing to change
        """Learn whether forward and backward will run in bfloat16, before the model is placed."""

    def economize(self, rows: "Encoded", options: dict[str, Any]) -> None:  # noqa: B027 - most tasks have nothing to spare
        """Leave out of the model what learning from these training rows does not need, to the same end."""

    def freeze(self, rows: "Encoded", chosen: Hardware, *, learned: bool) -> "Encoded":
        """Return rows whose features are computed once, and let only the head learn: for tasks with the method head.

        Rows that are `learned` from may be changed by chance.
        """
        raise NotImplementedError

    def balance(self, rows: "Encoded") -> None:  # noqa: ARG002
        """Let every class weigh alike in the loss; raises ModelProblem."""
        raise errors.ModelProblem(f"--class-weights is not there for {self.name}.", "leave --class-weights out.")

    def classes(self, rows: "Encoded") -> list[int]:
        """Return the class of each row, for tasks with `classes_known`; they are drawn alike from then on."""
        raise NotImplementedError

    @abc.abstractmethod
    def encode(self, inputs: Sequence[str], targets: Sequence[str] | None) -> "Encoded":
        """Turn all rows into what batches are cut from, once; `targets` are the cells of `column`."""

    @abc.abstractmethod
    def collate(self, rows: "Encoded", indices: Sequence[int], epoch: int | None = None) -> Batch:
        """Return the tensors of one batch, on the CPU; those of an `epoch` may be changed by chance, others never.

        Several threads may call it at once.
        """

    @abc.abstractmethod
    def loss(self, batch: Batch) -> torch.Tensor:
        """Return the mean loss of a batch, a scalar."""

    def weight(self, batch: Batch) -> float:
        """Return what a part of a batch counts for in the mean that the loss of the whole is: its rows."""
        return float(len(next(iter(batch.values()))))

    @abc.abstractmethod
    def scores(self, batch: Batch) -> list[Any]:
        """Return for each row, as plain JSON, its answer; of labeled rows what measuring needs, if that is less."""

    def stream(self, text: str, how: Sampling, chosen: Hardware) -> Iterator[Piece]:  # noqa: ARG002
        """Answer a prompt piece by piece, for language models; raises ModelProblem."""
        raise errors.ModelProblem(f"A model for {self.name} writes no text.", "%sft_predict asks it.")

    @abc.abstractmethod
    def save(self, folder: Path) -> None:
        """Write everything a predictor needs into `folder`."""

    @abc.abstractmethod
    def preprocessing(self) -> dict[str, Any]:
        """Return the settings that turn an input into tensors, for the version's record."""

    @abc.abstractmethod
    def facts(self) -> dict[str, Any]:
        """Return what a model card says of the weights: parameters, license, limits."""

    def over(self, rows: "Encoded") -> dict[int, int]:  # noqa: ARG002
        """Return how many tokens each row has that has more than `preprocessing()["max_length"]`."""
        return {}

    def turned_back(self, rows: "Encoded", batch: Batch, indices: Sequence[int]) -> list[dict[str, Any]]:  # noqa: ARG002
        """Return the first rows of a batch as a person sees them (see `core.records.Seen`), turned back from its
        tensors; `indices` are their places in `rows`, in the batch's order.
        """
        raise errors.ModelProblem(f"There is no preview for {self.name}.", "%sft_finetune MODEL trains without one.")

    def warnings(self, rows: "Encoded") -> list[str]:  # noqa: ARG002
        """Return sentences about encoded training rows of which some cannot be learned from."""
        return []

    def restore(self, folder: Path) -> None:
        """Put the weights of a folder that `save` wrote back into the model."""
        tensor_files.load_weights(self.model, folder)

    @abc.abstractmethod
    def measure(self, rows: "Encoded", scores: list[Any]) -> "Measured":
        """Compare the scores of labeled rows with their targets, as at the end of every epoch."""

    @abc.abstractmethod
    def report(self, rows: "Encoded", scores: list[Any]) -> "Report":
        """Compare them in full, as a version's record and an evaluation show it."""

    @abc.abstractmethod
    def doubts(self, rows: "Encoded", loss: float) -> list[str]:
        """Return sentences about an epoch that ended with this mean training loss, if something looks wrong."""

    def concern(self, rows: "Encoded", scores: list[Any]) -> str:  # noqa: ARG002
        """Return a sentence where the answers to some rows are no better than a constant one; else nothing."""
        return ""

    @abc.abstractmethod
    def remarks(self, rows: "Encoded") -> list[str]:
        """Return sentences about the encoded rows that the user should know."""


class Encoded(abc.ABC):
    """Encoded rows: `lengths` in units of cost (tokens)."""

    lengths: list[int]

    @property
    def read(self) -> bool:
        """Whether a frozen body has read them, so that only the head is left to run."""
        return False


@dataclass(frozen=True)
class Measured:
    """What an evaluation found: each row's scores, mean loss, metrics by name; the highest `quality` is the best."""

    scores: list[Any]
    loss: float
    quality: float
    metrics: dict[str, float]
    remarks: list[str]


@dataclass(frozen=True)
class Report:
    """An evaluation in full: metrics keyed as `Metric.key`, with 95 % intervals where there are such.

    `confusion[i][j]` counts what is of class i and was answered with class j, in rows or pixels; none where classes are
    not told apart so. `badness` has a number for each row, the higher the worse its answer.
    """

    metrics: dict[str, Metric]
    badness: list[float]
    confusion: list[list[int]] = field(default_factory=list)


_OURS = {
    "text-classification": "sft_magics.engine.tasks.text_classification",
    "image-classification": "sft_magics.engine.tasks.image_classification",
    "object-detection": "sft_magics.engine.tasks.object_detection",
    "semantic-segmentation": "sft_magics.engine.tasks.semantic_segmentation",
    "causal-lm": "sft_magics.engine.tasks.causal_lm",
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
