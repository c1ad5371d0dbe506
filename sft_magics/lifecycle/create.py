"""Stage 1, create: choose the task, the base with its pretrained weights, and the data a model is for."""

import time
from pathlib import Path
from typing import Annotated, Any, Literal

from sft_magics.core import errors, references
from sft_magics.core import workspace as places
from sft_magics.core.records import Model
from sft_magics.core.signatures import Names
from sft_magics.lifecycle import work
from sft_magics.lifecycle.data import WorkspaceOption


def create(
    model: Annotated[str, "the new model's name", Names("new")],
    *,
    data: Annotated[str, "the dataset it is for", Names("dataset")],
    task: Annotated[Literal["text-classification"], "what it shall learn to do"] = "text-classification",
    base: Annotated[str, "minilm, a hub id, or a folder", Names("base")] = "minilm",
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
    start = resolve_base(base)
    found = work.ask(
        ws,
        f"checking the weights of {base}",
        {"kind": "inspect", "task": task, "start": start, "labels": list(dataset.labels)},
    )
    record = Model(model, task, base, data, dataset.labels, {**found, "start": start}, time.time())
    return registry.add_model(record)


def resolve_base(base: str) -> dict[str, Any]:
    """Return where the weights of `base` lie: a packaged model, a folder here, or a hub id.

    Raises ModelProblem when it is neither.
    """
    from sft_magics.core import fetching

    if base in fetching.CATALOG and fetching.CATALOG[base].kind == "model":
        with work.telling(f"fetching {base}") as say:
            return {"kind": "folder", "path": str(fetching.fetch(base, progress=say)), "source": f"package {base}"}
    folder = Path(base).expanduser()
    if folder.is_dir():
        return {"kind": "folder", "path": str(folder.resolve()), "source": f"folder {folder.resolve()}"}
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
