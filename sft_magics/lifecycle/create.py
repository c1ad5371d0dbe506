"""Stage 1, create: choose the task, the base with its pretrained weights, and the data a model is for."""

import time
from typing import Annotated, Literal

from sft_magics.core import errors, references
from sft_magics.core import workspace as places
from sft_magics.core.records import Dataset, Model
from sft_magics.core.signatures import Names
from sft_magics.lifecycle.inputs import base_sources
from sft_magics.lifecycle.jobs import client
from sft_magics.lifecycle.options import TaskName, WorkspaceOption


def create(
    model: Annotated[str, "the new model's name", Names("new")],
    *,
    data: Annotated[str, "the dataset it is for, or a version of one", Names("dataset")],
    task: Annotated[TaskName | None, "what it shall learn; without it by the data"] = None,
    base: Annotated[
        str | None,
        "minilm, lite0, smollm2, resnet50 or another name of torchvision's or timm's, a hub id, a folder",
        Names("base"),
    ] = None,
    weights: Annotated[Literal["pretrained", "none"], "none: from scratch, of an image model"] = "pretrained",
    workspace: WorkspaceOption = None,
) -> Model:
    """Make a new model: a task, pretrained weights that are checked now, and the labels of a dataset.

    The weights are loaded once to see that every tensor but the new head's fits; a partial match is refused by name.
    Typing the same line again is harmless. Raises ModelProblem, NotFound, Refused.
    """
    from sft_magics.registry import Registry

    ws = places.find(workspace)
    references.check_name(model, "model")
    registry = Registry(ws)
    dataset = registry.dataset(data)
    kind = _task_of(dataset, task)
    base = base or base_sources.DEFAULTS[kind]
    start = base_sources.resolve(base, kind, weights)
    found = client.ask(
        ws,
        f"checking the weights of {base}",
        {"kind": "inspect", "task": kind, "start": start, "labels": list(dataset.labels)},
    )
    record = Model(model, kind, base, dataset.ref, dataset.labels, {**found, "start": start}, time.time())
    return registry.add_model(record)


def _task_of(dataset: Dataset, task: str | None) -> str:
    if task is not None and task != dataset.task:
        raise errors.DataProblem(
            f"Dataset {dataset.name} is for {dataset.task}, not for {task}.",
            "leave --task out, or name a dataset for it (%sft_data lists them).",
        )
    return dataset.task
