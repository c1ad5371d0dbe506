"""Stage 2, train: theta* = argmin L(D_task, f_theta), in a process of its own, ending in a committed version."""

import contextlib
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from sft_magics.core import audience, errors, provenance
from sft_magics.core import workspace as places
from sft_magics.core.audience import Companion
from sft_magics.core.jobs import JobFolder
from sft_magics.core.records import Dataset, Model, Run, Version
from sft_magics.core.signatures import Names
from sft_magics.core.tasks import SEMANTIC_SEGMENTATION
from sft_magics.core.views import JobView
from sft_magics.core.workspace import Workspace, new_id
from sft_magics.lifecycle import runs as run_folders
from sft_magics.lifecycle import work
from sft_magics.lifecycle.data import WorkspaceOption


@dataclass(frozen=True)
class Recipe:
    """How a model is fine-tuned: the options of `finetune` that reach the engine.

    What is None is as the model's base recommends, else as in `GENERAL`.
    """

    epochs: float = 1.0
    lr: float | None = None
    batch: int | None = None
    weight_decay: float | None = None
    warmup: float | None = None
    max_length: int | None = None
    seed: int = 0
    precision: str = "auto"
    device: str = "auto"
    threads: int | str = "auto"
    dropout: bool = True
    checkpoint_seconds: float = 60.0
    optimizer: str | None = None
    momentum: float | None = None
    schedule: str | None = None
    clip: float | None = None
    method: str | None = None
    augment: str | None = None
    image_size: int | None = None
    workers: int | None = None
    label_smoothing: float = 0.0
    class_weights: str = "none"
    sampling: str = "natural"
    patience: int = 0
    lora_rank: int = 16
    views: int = 0
    micro_batch: int = 0
    layer_decay: float = 1.0
    unfreeze: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    ema: float = 0.0

    def options(self, recommended: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Return the options as the run's order records them; raises UsageProblem for values that cannot work."""
        given = {name: value for name, value in self.__dict__.items() if value is not None}
        method = self.method or (recommended or {}).get("method", "full")
        found: dict[str, Any] = {**GENERAL, **_OF_METHOD.get(method, {}), **(recommended or {}), **given}
        for name, (low, high, example) in _RANGES.items():
            value = found[name]
            if value not in (None, "auto") and not low <= value <= high:
                flag = name.replace("_", "-")
                raise errors.UsageProblem(f"--{flag} cannot be {value}.", f"write for example --{flag} {example}.")
        if self.sampling == "balanced" and self.class_weights == "auto":
            raise errors.UsageProblem(
                "--sampling balanced and --class-weights auto would count rare classes twice.",
                "leave one of the two out.",
            )
        return found


GENERAL: Mapping[str, Any] = {
    "lr": 5e-5, "batch": 32, "weight_decay": 0.01, "warmup": 0.1, "optimizer": "adamw", "momentum": 0.9,
    "schedule": "linear", "clip": 1.0, "augment": "none", "image_size": None, "workers": 0,
    "max_length": 256, "method": "full",
}  # fmt: skip
# What fewer weights bear, where a base says nothing of its own.
_OF_METHOD: Mapping[str, Mapping[str, Any]] = {"head": {"lr": 1e-3}, "lora": {"lr": 5e-4}, "qlora": {"lr": 5e-4}}
_TINY = 1e-12
_TOLD = ("leak", "conflicting_labels", "unlearned_class", "empty_class")  # findings that a run's panel says again
# option -> the least and the most that can work, and an example
_RANGES: Mapping[str, tuple[float, float, str]] = {
    "epochs": (_TINY, 10_000, "3"),
    "lr": (_TINY, 10 - _TINY, "5e-5"),
    "batch": (1, 65_536, "32"),
    "warmup": (0, 1 - _TINY, "0.1"),
    "max_length": (8, 100_000, "256"),
    "weight_decay": (0, 1 - _TINY, "0.01"),
    "threads": (1, 1024, "2"),
    "checkpoint_seconds": (_TINY, float("inf"), "60"),
    "momentum": (0, 1 - _TINY, "0.9"),
    "clip": (0, float("inf"), "1.0"),
    "image_size": (32, 2048, "224"),
    "workers": (0, 64, "2"),
    "label_smoothing": (0, 1 - _TINY, "0.1"),
    "patience": (0, 10_000, "3"),
    "lora_rank": (1, 1024, "16"),
    "views": (0, 64, "4"),
    "micro_batch": (0, 65_536, "8"),
    "layer_decay": (0.01, 1, "0.9"),
    "unfreeze": (0, 10_000, "1"),
    "mixup": (0, 100, "0.2"),
    "cutmix": (0, 100, "1.0"),
    "ema": (0, 1 - _TINY, "0.999"),
}


@dataclass(frozen=True)
class Order:
    """All that a run needs to know, before it has a folder."""

    ws: Workspace
    model: Model
    dataset: Dataset
    recipe: Recipe
    parent: Version | None = None
    aliases: tuple[str, ...] = ()
    note: str = ""
    given: dict[str, Any] = field(default_factory=dict)

    def place(self) -> JobFolder:
        """Write the run's folder with its order in it."""
        return JobFolder(self.ws.runs / new_id("run", self.ws.runs)).create(self.spec())

    def spec(self) -> dict[str, Any]:
        """Return the order as the run's process reads it."""
        return {
            "kind": "finetune",
            "workspace": str(self.ws.root),
            "model": self.model.name,
            "task": self.model.task,
            "data": self.dataset.name,
            "data_fingerprint": self.dataset.fingerprint,
            "data_file": str(self.ws.root / self.dataset.file),
            "labels": list(self.model.labels),
            "parent": self.parent.ref if self.parent else None,
            "start": self._start(),
            "options": self.recipe.options(self.model.weights.get("recipe")),
            "given": self.given,
            "aliases": list(self.aliases),
            "note": self.note,
            "cells": list(provenance.cells()),
            "warnings": [f.message for f in self.dataset.findings if f.code in _TOLD],
            "created_at": time.time(),
        }

    def _start(self) -> dict[str, Any]:
        if self.parent is None:
            return dict(self.model.weights["start"])
        from sft_magics.registry import ArtifactStore

        folder = ArtifactStore(self.ws.artifacts).checkout(self.parent.artifact)
        return {"kind": "folder", "path": str(folder), "source": f"version {self.parent.ref}"}


def finetune(
    model: Annotated[str | None, "the model to fine-tune", Names("model")] = None,
    *,
    data: Annotated[str | None, "another dataset than the model's own", Names("dataset")] = None,
    epochs: Annotated[float, "passes over the training rows"] = 1.0,
    lr: Annotated[float | None, "peak learning rate; without it what suits the base, as all that follow"] = None,
    batch: Annotated[int | None, "rows a step"] = None,
    micro_batch: Annotated[int, "rows that are computed at once, where a batch needs too much memory; 0: all"] = 0,
    optimizer: Annotated[Literal["adamw", "sgd"] | None, "how the weights are moved"] = None,
    momentum: Annotated[float | None, "SGD's momentum"] = None,
    weight_decay: Annotated[float | None, "pull of the weights toward zero"] = None,
    schedule: Annotated[Literal["linear", "cosine", "constant", "one-cycle"] | None, "how the rate falls"] = None,
    warmup: Annotated[float | None, "fraction of the steps over which the rate rises"] = None,
    layer_decay: Annotated[float, "share of the rate that a block has of the one above it"] = 1.0,
    unfreeze: Annotated[
        float, "let the head learn first, and one block more below it every so many epochs; 0: all"
    ] = 0.0,
    clip: Annotated[float | None, "the longest gradient that is followed; 0: any"] = None,
    method: Annotated[
        Literal["full", "head", "lora", "qlora"] | None,
        "all weights, the head alone, or low-rank changes; qlora: those on a base of 4 bits a weight",
    ] = None,
    lora_rank: Annotated[int, "rank of the changes that --method lora learns"] = 16,
    views: Annotated[int, "changed views of each picture that --method head computes features of; 0: as it is"] = 0,
    label_smoothing: Annotated[float, "share of every label that is spread over all classes"] = 0.0,
    class_weights: Annotated[Literal["none", "auto"], "auto: rare classes weigh as much as common ones"] = "none",
    sampling: Annotated[
        Literal["natural", "balanced"], "balanced: each epoch draws as many rows of every class"
    ] = "natural",
    mixup: Annotated[float, "alpha by which pictures are laid over one another; 0: never"] = 0.0,
    cutmix: Annotated[float, "alpha by which pictures get a rectangle of another; 0: never"] = 0.0,
    ema: Annotated[float, "decay of an average of the weights, which is measured and kept; 0: none"] = 0.0,
    patience: Annotated[int, "end early after so many epochs that are no better; 0: never"] = 0,
    max_length: Annotated[int | None, "tokens of a text that are read"] = None,
    image_size: Annotated[int | None, "pixels at which pictures are seen"] = None,
    augment: Annotated[Literal["none", "light", "flip", "strong"] | None, "chance changes of pictures"] = None,
    workers: Annotated[int | None, "threads that prepare pictures ahead"] = None,
    seed: Annotated[int, "order of rows, dropout and the fresh head"] = 0,
    precision: Annotated[Literal["auto", "bf16", "fp32"], "number format; auto takes what gains here"] = "auto",
    device: Annotated[Literal["auto", "cpu", "cuda"], "where to compute"] = "auto",
    threads: Annotated[int | Literal["auto"], "CPU threads"] = "auto",
    dropout: Annotated[bool, "the base's own dropout"] = True,
    checkpoint_seconds: Annotated[float, "at least one checkpoint in so many seconds"] = 60.0,
    from_: Annotated[str | None, "a version to start from, instead of the base weights", Names("version")] = None,
    resume: Annotated[str | None, "go on with a run that was interrupted or lost", Names("run")] = None,
    background: Annotated[bool, "return at once and leave the run working"] = False,
    in_process: Annotated[bool, "train in this very process, for small machines"] = False,
    die_with_kernel: Annotated[bool, "end the run when this kernel ends"] = False,
    workspace: WorkspaceOption = None,
) -> Version | Run:
    """Fine-tune a model on its data; the run is a process of its own and goes on if the notebook dies.

    Returns the committed Version, or with --background the Run at once. Interrupting the kernel finishes the step and
    checkpoints; a second interrupt ends at once. Raises RunProblem when the run fails, is interrupted or lost.
    """
    ws = places.find(workspace)
    if background and in_process:
        raise errors.UsageProblem("--background and --in-process exclude each other.", "leave one of the two out.")
    if resume is not None:
        job = _resumable(ws, resume)
    else:
        recipe = Recipe(
            epochs, lr, batch, weight_decay, warmup, max_length, seed, precision, device, threads, dropout,
            checkpoint_seconds, optimizer, momentum, schedule, clip, method, augment, image_size, workers,
            label_smoothing, class_weights, sampling, patience, lora_rank, views, micro_batch, layer_decay, unfreeze,
            mixup, cutmix, ema,
        )  # fmt: skip
        job = order(ws, model, data, from_, recipe).place()
    if in_process:
        return _in_process(ws, job)
    if background:
        work.launch(job, die_with_kernel=die_with_kernel)
        return in_background(job)
    return attend(ws, job, die_with_kernel=die_with_kernel)


def order(ws: Workspace, model: str | None, data: str | None, from_: str | None, recipe: Recipe) -> Order:
    """Return the order of a run, all of it checked that can be without the engine."""
    from sft_magics.registry import Registry

    if model is None:
        raise errors.UsageProblem("%sft_finetune needs the model to fine-tune.", "write %sft_finetune MODEL --epochs 1")
    registry = Registry(ws)
    record = registry.model(model)
    recipe.options(record.weights.get("recipe"))
    parent = registry.version(from_ if "@" in from_ or ":" in from_ else f"{model}@{from_}") if from_ else None
    if parent is not None:
        check_parent(record, parent)
    dataset = registry.dataset(data or str(record.data))
    check_fits(record, dataset)
    return Order(ws, record, dataset, recipe, parent)


def check_fits(model: Model, dataset: Dataset) -> None:
    """Refuse data of another task, or whose labels the model's head does not know."""
    if dataset.task != model.task:
        raise errors.DataProblem(
            f"Dataset {dataset.name} is for {dataset.task}, and model {model.name} for {model.task}.",
            f"%sft_create {model.name}-2 --data {dataset.name} makes a model for it.",
        )
    if model.task == SEMANTIC_SEGMENTATION and dataset.labels != model.labels[: len(dataset.labels)]:
        raise errors.DataProblem(
            f"The masks of {dataset.name} number their classes {', '.join(dataset.labels[:8])}, and model {model.name} "
            f"{', '.join(model.labels[:8])}.",
            "write classes.txt and the masks in the model's order.",
        )
    unknown = [label for label in dataset.labels if label not in model.labels]
    if unknown:
        raise errors.DataProblem(
            f"Dataset {dataset.name} has labels that model {model.name} does not know: {', '.join(unknown[:5])}.",
            f"%sft_create {model.name}-2 --base {model.base} --data {dataset.name} makes a model for them.",
        )


def check_parent(model: Model, parent: Version) -> None:
    """Refuse a parent whose head means other classes: its weights would fit and answer wrongly."""
    if parent.labels != model.labels:
        raise errors.ModelProblem(
            f"{parent.ref} answers {', '.join(parent.labels[:5])}, and model {model.name} is for "
            f"{', '.join(model.labels[:5])}: its head does not fit.",
            f"leave --from out, or name a version of {model.name} (%sft_versions {model.name}).",
        )


def _resumable(ws: Workspace, run: str) -> JobFolder:
    job = run_folders.find(ws, run)
    seen = run_folders.describe(job)
    if seen.state in ("running", "queued"):
        raise errors.Refused(f"{run} is {seen.state} already.", f"%sft_watch {run} shows it.")
    if seen.version:
        raise errors.Refused(f"{run} is done: it made {seen.version}.", f"%sft_finetune {seen.model} starts a new run.")
    if not Path(job.spec()["data_file"]).exists():
        raise errors.DataProblem(f"The data of {run} is no longer there.", f"%sft_data {seen.data} SOURCE loads it.")
    job.forget_orders()
    (job.path / "summary.json").unlink(missing_ok=True)
    return job


def in_background(job: JobFolder) -> Run:
    """Leave the run to itself, with a live panel where the face has one."""
    companion = Companion(lambda: run_folders.request_stop(job), lambda view: work.lose(job, view))
    audience.current().stay(job, run_folders.view_of(job), companion, wait=False)
    return run_folders.describe(job)


def attend(ws: Workspace, job: JobFolder, *, die_with_kernel: bool = False) -> Version:
    """Start the run, show it until it ends, return its version; an interrupt stops the run, a second one at once."""
    view: JobView = run_folders.view_of(job)
    try:
        work.launch(job, die_with_kernel=die_with_kernel)
        audience.follow(job, view, lambda v: work.lose(job, v))
    except KeyboardInterrupt:
        run_folders.request_stop(job)
        view = _await_stop(job)
    return outcome(ws, job, view)


def _await_stop(job: JobFolder) -> JobView:
    view: JobView = run_folders.view_of(job)
    try:
        return audience.follow(job, view, lambda v: work.lose(job, v))
    except KeyboardInterrupt:
        job.kill()
        work.end_for(
            job,
            "interrupted",
            f"{job.id} was ended at once by a second interrupt; its newest checkpoint is kept.",
            f"%sft_finetune --resume {job.id} goes on from there; %sft_keep {job.id} commits its best.",
        )
        view = run_folders.view_of(job)
        return audience.follow(job, view, lambda v: work.lose(job, v))


def outcome(ws: Workspace, job: JobFolder, view: JobView) -> Version:
    """Return the version that the run made; raises what it ended with if it made none."""
    from sft_magics.registry import Registry

    run = run_folders.describe(job)
    if run.version is None:
        raise work.problem(view)
    return Registry(ws).version(run.version)


def _in_process(ws: Workspace, job: JobFolder) -> Version:
    view = run_folders.view_of(job)
    with contextlib.suppress(KeyboardInterrupt):
        work.launch_inline(job, view)
    return outcome(ws, job, view)
