"""Stage 2, train: theta* = argmin L(D_task, f_theta), in a process of its own, ending in a committed version."""

import contextlib
import shutil
import time
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

from sft_magics.core import augments, errors, explicit_args, observer, provenance
from sft_magics.core import workspace as places
from sft_magics.core.jobs import JobFolder
from sft_magics.core.records import Dataset, Model, Run, Version
from sft_magics.core.signatures import Names
from sft_magics.core.views import JobView
from sft_magics.core.workspace import Workspace, new_id
from sft_magics.lifecycle.inputs import data_versions
from sft_magics.lifecycle.jobs import client, inline
from sft_magics.lifecycle.options import WorkspaceOption
from sft_magics.lifecycle.training import length, warm_start
from sft_magics.lifecycle.training import runs as run_folders
from sft_magics.lifecycle.training.recipe import Recipe

if TYPE_CHECKING:
    from sft_magics.registry import Registry


_TOLD = (
    "leak",
    "near_leak",
    "conflicting_labels",
    "unlearned_class",
    "empty_class",
)  # findings that a run's panel says again


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
    source: warm_start.Source | None = None

    def place(self) -> JobFolder:
        """Write the run's folder with its order in it, and what it begins with where that is another run's."""
        job = JobFolder(self.ws.runs / new_id("run", self.ws.runs))
        if self.source is None:
            return job.create(self.spec())
        own = {} if self.parent else {"start": self.source.start(job.path), "parent": self.source.parent}
        job.create({**self.spec(), "cloned": self.source.told(), "clone": self.source.to_assemble(), **own})
        try:
            self.source.bring(job.path)
        except BaseException:
            shutil.rmtree(job.path, ignore_errors=True)
            raise
        return job

    def spec(self) -> dict[str, Any]:
        """Return the order as the run's process reads it."""
        usual = replace(self.recipe, epochs=None, lr=None).options(self._recommended(), self._size())
        return {
            "kind": "finetune",
            "workspace": str(self.ws.root),
            "model": self.model.name,
            "task": self.model.task,
            "data": self.dataset.ref,
            "data_fingerprint": self.dataset.fingerprint,
            "data_file": str(self.ws.root / self.dataset.file),
            "labels": list(self.model.labels),
            "parent": self.parent.ref if self.parent else None,
            "start": self._start(),
            "options": self.options,
            "usual": {**{name: usual[name] for name in ("epochs", "lr")}, "line": self._line()},
            "remarks": [why] if (why := self.why()) else [],
            "given": self.given,
            "aliases": list(self.aliases),
            "note": self.note,
            "cells": list(provenance.cells()),
            "warnings": [f.message for f in self.dataset.findings if f.code in _TOLD],
            "created_at": time.time(),
        }

    @property
    def options(self) -> dict[str, Any]:
        """The options of the run, all of them settled."""
        if self.source is not None:
            return self.recipe.over(self.source.options, self.given)
        return self.recipe.options(self._recommended(), self._size())

    def why(self) -> str:
        """Return a sentence on the run's length, where that was left to us."""
        return "" if self.source is not None else self.recipe.length(self.options, self._size()).why

    def _line(self) -> str:
        """Return the line that orders such a run, without its length and rate."""
        words = [f"%sft_finetune {self.model.name}"]
        words += [f"--data {self.dataset.ref}"] if self.dataset.ref != self.model.data else []
        words += [f"--from {self.parent.ref}"] if self.parent is not None else []
        words += [f"--method {self.recipe.method}"] if self.recipe.method else []
        return " ".join(words)

    def _recommended(self) -> dict[str, Any] | None:
        return self.model.weights.get("recipe")

    def _size(self) -> length.Size:
        counts = self.dataset.counts
        continued = self.parent is not None
        return length.Size(self.model.task, counts.get("train", 0), counts.get("validation", 0), continued)

    def _start(self) -> dict[str, Any]:
        if self.parent is None:
            return dict(self.model.weights["start"])
        from sft_magics.registry import ArtifactStore

        folder = ArtifactStore(self.ws.artifacts).checkout(self.parent.artifact)
        return {"kind": "folder", "path": str(folder), "source": f"version {self.parent.ref}"}


@explicit_args.noted
def finetune(
    model: Annotated[str | None, "the model to fine-tune", Names("model")] = None,
    *,
    data: Annotated[
        str | None,
        "a dataset or a version of one; without it the newest of the model's own that fits",
        Names("dataset"),
    ] = None,
    epochs: Annotated[float | None, "passes over the training rows; without it as many as suit the data"] = None,
    lr: Annotated[float | None, "peak learning rate; without it what suits the base, as all that follow"] = None,
    batch: Annotated[
        int | Literal["auto"] | None, "rows a step; auto: as the base's recipe has it, in parts that fit into memory"
    ] = None,
    micro_batch: Annotated[
        int | Literal["auto"], "rows that are computed at once; 0: all, auto: as many as fit into memory"
    ] = 0,
    recompute: Annotated[
        bool, "compute activations again in the backward pass: less memory, a third more time"
    ] = False,
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
    patience: Annotated[
        int | None, "end early after so many evaluations without a better one; 0: never, as with --epochs"
    ] = None,
    eval_steps: Annotated[
        int | None, "evaluate after every so many steps of an epoch, besides its end; 0: at its end alone"
    ] = None,
    max_length: Annotated[int | None, "tokens of a text that are read"] = None,
    long: Annotated[Literal["cut", "skip", "refuse"], "what becomes of rows with more tokens than that"] = "cut",
    image_size: Annotated[int | None, "pixels at which pictures are seen"] = None,
    augment: Annotated[
        Literal["none", "light", "flip", "strong", "auto"] | str | None,
        "chance changes of pictures; or a list such as flip,color,erase",
    ] = None,
    workers: Annotated[int | None, "threads that prepare pictures ahead"] = None,
    seed: Annotated[int, "order of rows, dropout and the fresh head"] = 0,
    precision: Annotated[Literal["auto", "bf16", "fp32"], "number format; auto takes what gains here"] = "auto",
    compile_: Annotated[Literal["auto", "on", "off"], "torch.compile; auto: where measured steps say it pays"] = "off",
    deterministic: Annotated[bool, "the same bits every time on a GPU too; CPUs do so anyway"] = False,
    device: Annotated[Literal["auto", "cpu", "cuda"], "where to compute"] = "auto",
    threads: Annotated[int | Literal["auto"], "CPU threads"] = "auto",
    dropout: Annotated[bool, "the base's own dropout"] = True,
    checkpoint_seconds: Annotated[float, "at least one checkpoint in so many seconds"] = 60.0,
    from_: Annotated[
        str | None, "a version to start from instead of the base, or a run: run-7f3a, run-7f3a/120", Names("origin")
    ] = None,
    resume: Annotated[str | None, "go on with a run that was paused, interrupted or lost", Names("run")] = None,
    background: Annotated[bool, "return at once and leave the run working"] = False,
    in_process: Annotated[bool, "train in this very process, for small machines"] = False,
    die_with_kernel: Annotated[bool, "end the run when this kernel ends"] = False,
    workspace: WorkspaceOption = None,
) -> Version | Run:
    """Fine-tune a model on its data; the run is a process of its own and goes on if the notebook dies.

    Returns the committed Version, or with --background the Run at once. Interrupting the kernel finishes the step and
    checkpoints; a second interrupt ends at once. `--from` a run begins with its best weights, or those of a step, and
    takes its options and data over where none are given. Raises RunProblem when the run fails, is interrupted or lost.
    """
    ws = places.find(workspace)
    if background and in_process:
        raise errors.UsageProblem("--background and --in-process exclude each other.", "leave one of the two out.")
    named = explicit_args.names()
    if resume is not None:
        job = run_folders.find(ws, resume)
        _refuse_options(resume, str(job.spec()["model"]), model, named)
        run_folders.make_ready(job)
    else:
        recipe = Recipe(
            epochs, lr, batch, weight_decay, warmup, max_length, long, seed, precision, device, threads, dropout,
            checkpoint_seconds, optimizer, momentum, schedule, clip, method, augment, image_size, workers,
            label_smoothing, class_weights, sampling, patience, eval_steps, lora_rank, views, micro_batch, layer_decay,
            unfreeze, mixup, cutmix, ema, recompute, compile_, deterministic,
        )  # fmt: skip
        job = order(ws, model, data, from_, recipe, named).place()
    if in_process:
        return _in_process(ws, job)
    if background:
        client.launch(job, die_with_kernel=die_with_kernel)
        return in_background(job)
    return attend(ws, job, die_with_kernel=die_with_kernel)


def order(
    ws: Workspace, model: str | None, data: str | None, from_: str | None, recipe: Recipe, named: Collection[str] = ()
) -> Order:
    """Return the order of a run, all of it checked that can be without the engine."""
    from sft_magics.registry import Registry

    if model is None:
        raise errors.UsageProblem("%sft_finetune needs the model to fine-tune.", "write %sft_finetune MODEL --epochs 1")
    registry = Registry(ws)
    record = registry.model(model)
    augments.check(recipe.options(record.weights.get("recipe"))["augment"], record.task)
    if from_ is not None and from_.startswith("run-"):
        return _clone(ws, registry, record, data, from_, recipe, named)
    parent = registry.version(from_ if "@" in from_ or ":" in from_ else f"{model}@{from_}") if from_ else None
    if parent is not None:
        check_parent(record, parent)
    dataset = registry.dataset(data) if data else data_versions.own_data(ws, registry, record)
    check_fits(record, dataset)
    return Order(ws, record, dataset, recipe, parent)


def _clone(
    ws: Workspace, registry: "Registry", record: Model, data: str | None, from_: str, recipe: Recipe,
    named: Collection[str],
) -> Order:  # fmt: skip
    """Return the order of a run that begins with another's weights, by its options where none are given."""
    source = warm_start.find(ws, registry, from_)
    if (source.spec["task"], tuple(source.spec["labels"])) != (record.task, record.labels):
        raise errors.ModelProblem(
            f"{source.job.id} trains {source.spec['model']}, whose task or labels are not those of {record.name}.",
            f"%sft_finetune {source.spec['model']} --from {from_}",
        )
    options = {name: getattr(recipe, name) for name in recipe.__dict__ if name in named}
    found = recipe.over(source.options, options)
    warm_start.check_adapter(source, found)
    dataset = registry.dataset(data or str(source.spec["data"]))
    check_fits(record, dataset)
    return Order(ws, record, dataset, recipe, source.version, given=options, source=source)


def check_fits(model: Model, dataset: Dataset) -> None:
    """Refuse data of another task, or whose labels the model's head does not know."""
    found = data_versions.misfit(model, dataset)
    if found is not None:
        raise found


def check_parent(model: Model, parent: Version) -> None:
    """Refuse a parent whose head means other classes: its weights would fit and answer wrongly."""
    if parent.labels != model.labels:
        raise errors.ModelProblem(
            f"{parent.ref} answers {', '.join(parent.labels[:5])}, and model {model.name} is for "
            f"{', '.join(model.labels[:5])}: its head does not fit.",
            f"leave --from out, or name a version of {model.name} (%sft_versions {model.name}).",
        )


def _refuse_options(run: str, trained: str, model: str | None, named: Collection[str]) -> None:
    """Refuse what a run that goes on would not go by."""
    if model not in (None, trained):
        raise errors.UsageProblem(f"{run} trains {trained}, not {model}.", f"%sft_resume {run}")
    ignored = sorted(set(named) - {"model", "resume", "background", "in_process", "die_with_kernel", "workspace"})
    if ignored:
        flags = [f"--{name.rstrip('_').replace('_', '-')}" for name in ignored]
        raise errors.UsageProblem(
            f"{run} goes on with the options it has: {', '.join(flags)} beside --resume would change nothing.",
            f"%sft_edit {run} changes a run's rate, epochs or patience, and %sft_resume {run} then goes on.",
        )


def in_background(job: JobFolder) -> Run:
    """Leave the run to itself, with a live panel where the face has one."""
    observer.current().stay(job, run_folders.view_of(job), run_folders.companion(job), wait=False)
    return run_folders.describe(job)


def attend(ws: Workspace, job: JobFolder, *, die_with_kernel: bool = False) -> Version:
    """Start the run, show it until it ends, return its version; an interrupt stops the run, a second one at once.

    Raises Interrupted then, once the run has ended; what it was is kept, and its version, if it made one.
    """
    view: JobView = run_folders.view_of(job)
    try:
        client.launch(job, die_with_kernel=die_with_kernel)
        observer.follow(job, view, lambda v: client.lose(job, v))
    except KeyboardInterrupt:
        run_folders.request_stop(job)
        raise _stopped(job, _await_stop(job)) from None
    return outcome(ws, job, view)


def _stopped(job: JobFolder, view: JobView) -> errors.TwoLines:
    """Return what to raise for a run that the user interrupted: how it ended, which may be otherwise all the same."""
    version = run_folders.describe(job).version
    if version is not None:
        return errors.Interrupted(
            f"{job.id} was done when the interrupt came: it made {version}.", f"%sft_show {version}"
        )
    if view.state == "failed":
        return client.problem(view)
    return errors.Interrupted(view.why or f"{job.id} was interrupted.", view.next_step or f"%sft_resume {job.id}")


def _await_stop(job: JobFolder) -> JobView:
    view: JobView = run_folders.view_of(job)
    try:
        return observer.follow(job, view, lambda v: client.lose(job, v))
    except KeyboardInterrupt:
        job.kill()
        client.end_for(
            job,
            "interrupted",
            f"{job.id} was ended at once by a second interrupt; its newest checkpoint is kept.",
            f"%sft_finetune --resume {job.id} goes on from there; %sft_keep {job.id} commits its best.",
        )
        view = run_folders.view_of(job)
        return observer.follow(job, view, lambda v: client.lose(job, v))


def outcome(ws: Workspace, job: JobFolder, view: JobView) -> Version:
    """Return the version that the run made; raises what it ended with if it made none."""
    from sft_magics.registry import Registry

    run = run_folders.describe(job)
    if run.version is None:
        raise client.problem(view)
    return Registry(ws).version(run.version)


def _in_process(ws: Workspace, job: JobFolder) -> Version:
    view = run_folders.view_of(job)
    with contextlib.suppress(KeyboardInterrupt):
        inline.launch(job, view)
    if view.state == "interrupted":
        raise _stopped(job, view)
    return outcome(ws, job, view)
