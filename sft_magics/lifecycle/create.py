"""Stage 1, create: choose the task, the base with its pretrained weights, and the data a model is for."""

import time
from pathlib import Path
from typing import Annotated, Any, Literal

from sft_magics.core import errors, references
from sft_magics.core import workspace as places
from sft_magics.core.records import Dataset, Model
from sft_magics.core.signatures import Names
from sft_magics.core.tasks import CAUSAL_LM, IMAGE_TASKS, TEXT_CLASSIFICATION
from sft_magics.lifecycle.jobs import client
from sft_magics.lifecycle.options import TaskName, WorkspaceOption

_BASES = {TEXT_CLASSIFICATION: "minilm", CAUSAL_LM: "smollm2", **dict.fromkeys(IMAGE_TASKS, "lite0")}
_PACKAGED = {"minilm": (TEXT_CLASSIFICATION,), "smollm2": (CAUSAL_LM,), "lite0": IMAGE_TASKS}


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
    base = base or _BASES[kind]
    start = resolve_base(base, kind, weights)
    found = client.ask(
        ws,
        f"checking the weights of {base}",
        {"kind": "inspect", "task": kind, "start": start, "labels": list(dataset.labels)},
    )
    record = Model(model, kind, base, dataset.ref, dataset.labels, {**found, "start": start}, time.time())
    return registry.add_model(record)


def packaged_for(task: str) -> tuple[str, ...]:
    """Return the packaged bases for a task."""
    return tuple(base for base, of in _PACKAGED.items() if task in of)


def _task_of(dataset: Dataset, task: str | None) -> str:
    if task is not None and task != dataset.task:
        raise errors.DataProblem(
            f"Dataset {dataset.name} is for {dataset.task}, not for {task}.",
            "leave --task out, or name a dataset for it (%sft_data lists them).",
        )
    return dataset.task


def resolve_base(base: str, task: str = "text-classification", weights: str = "pretrained") -> dict[str, Any]:
    """Return where the weights of `base` lie: a packaged model, a folder here, a library's name, or a hub id.

    Raises ModelProblem when it is neither.
    """
    from sft_magics.core.runtime import fetching

    _check_suits(base, task, weights)
    if base in fetching.CATALOG and fetching.CATALOG[base].kind == "model":
        with client.telling(f"fetching {base}") as say:
            return {"kind": "folder", "path": str(fetching.fetch(base, progress=say)), "source": f"package {base}"}
    folder = Path(base).expanduser()
    if folder.is_dir():
        return {"kind": "folder", "path": str(folder.resolve()), "source": f"folder {folder.resolve()}"}
    if task in IMAGE_TASKS and not base.startswith((".", "/", "~")):
        return {"kind": "name", "path": base, "weights": weights, "source": base}
    if base.count("/") == 1 and not base.startswith((".", "/", "~")):
        return {"kind": "hub", "path": base, "source": f"hub {base}"}
    if base.startswith((".", "/", "~")):
        raise errors.ModelProblem(f"There is no folder {base}.", "give a folder that holds config.json and weights.")
    models = [k for k, p in fetching.CATALOG.items() if p.kind == "model"]
    hint = errors.did_you_mean(base, models)
    raise errors.ModelProblem(
        f"'{base}' is neither a packaged model ({', '.join(models)}), nor a folder here, nor a hub id.{hint}",
        "write --base minilm, --base ./folder, or --base organization/name.",
    )


def _check_suits(base: str, task: str, weights: str) -> None:
    if base in _PACKAGED and task not in _PACKAGED[base]:
        raise errors.ModelProblem(
            f"{base} is a base for {_PACKAGED[base][0]}, and the data is for {task}.",
            f"write --base {_BASES[task]}, or leave --base out.",
        )
    if weights == "none" and (task not in IMAGE_TASKS or base in _PACKAGED or Path(base).expanduser().is_dir()):
        raise errors.UsageProblem(
            "--weights none is for an image model that torchvision or timm knows by name.",
            "leave --weights out, or write for example --base resnet18 --weights none.",
        )
