"""What a run is asked to do, all of it checked that can be without the engine."""

import shutil
import time
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from sft_magics.core import augments, errors, provenance
from sft_magics.core.jobs import JobFolder
from sft_magics.core.records import Dataset, Model, Version
from sft_magics.core.workspace import Workspace, new_id
from sft_magics.lifecycle.inputs import data_versions
from sft_magics.lifecycle.training import length, warm_start
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
class RunRequest:
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


def request(
    ws: Workspace, model: str | None, data: str | None, from_: str | None, recipe: Recipe, named: Collection[str] = ()
) -> RunRequest:
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
    return RunRequest(ws, record, dataset, recipe, parent)


def _clone(
    ws: Workspace, registry: "Registry", record: Model, data: str | None, from_: str, recipe: Recipe,
    named: Collection[str],
) -> RunRequest:  # fmt: skip
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
    return RunRequest(ws, record, dataset, recipe, source.version, given=options, source=source)


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
