"""Where the weights of a base come from: a packaged model, a folder, a library's name, a hub id."""

from pathlib import Path
from typing import Any

from sft_magics.core import errors
from sft_magics.core.tasks import CAUSAL_LM, IMAGE_TASKS, TEXT_CLASSIFICATION
from sft_magics.lifecycle.jobs import client

DEFAULTS = {TEXT_CLASSIFICATION: "minilm", CAUSAL_LM: "smollm2", **dict.fromkeys(IMAGE_TASKS, "lite0")}


_PACKAGED = {"minilm": (TEXT_CLASSIFICATION,), "smollm2": (CAUSAL_LM,), "lite0": IMAGE_TASKS}


def packaged_for(task: str) -> tuple[str, ...]:
    """Return the packaged bases for a task."""
    return tuple(base for base, of in _PACKAGED.items() if task in of)


def resolve(base: str, task: str = "text-classification", weights: str = "pretrained") -> dict[str, Any]:
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
            f"write --base {DEFAULTS[task]}, or leave --base out.",
        )
    if weights == "none" and (task not in IMAGE_TASKS or base in _PACKAGED or Path(base).expanduser().is_dir()):
        raise errors.UsageProblem(
            "--weights none is for an image model that torchvision or timm knows by name.",
            "leave --weights out, or write for example --base resnet18 --weights none.",
        )
