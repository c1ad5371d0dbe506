"""Before a run: what the model will really see of its first batch, pictures, boxes, masks and tokens."""

from typing import Annotated, Literal

from sft_magics.core import augments, codec, errors
from sft_magics.core import workspace as places
from sft_magics.core.records import BatchPreview, Seen
from sft_magics.core.signatures import Names
from sft_magics.core.tasks import IMAGE_TASKS, OBJECT_DETECTION, SEMANTIC_SEGMENTATION
from sft_magics.core.workspace import Workspace
from sft_magics.lifecycle.jobs import client
from sft_magics.lifecycle.options import WorkspaceOption
from sft_magics.lifecycle.training import run_request
from sft_magics.lifecycle.training.recipe import Recipe

_MOST = 10
_LATEST = 10_000


def preview(
    model: Annotated[str, "the model that would be fine-tuned", Names("model")],
    *,
    data: Annotated[str | None, "another dataset than the model's own", Names("dataset")] = None,
    augment: Annotated[
        Literal["none", "light", "flip", "strong", "auto"] | str | None,
        "chance changes of pictures; or a list such as flip,color,erase",
    ] = None,
    mixup: Annotated[float, "alpha by which pictures are laid over one another; 0: never"] = 0.0,
    cutmix: Annotated[float, "alpha by which pictures get a rectangle of another; 0: never"] = 0.0,
    image_size: Annotated[int | None, "pixels at which pictures are seen"] = None,
    max_length: Annotated[int | None, "tokens of a text that are read"] = None,
    long: Annotated[Literal["cut", "skip", "refuse"], "what becomes of rows with more tokens than that"] = "cut",
    batch: Annotated[int | None, "rows a step"] = None,
    epoch: Annotated[int, "the epoch whose first batch is shown, from 0 on"] = 0,
    rows: Annotated[int, "how many of its rows are shown"] = 8,
    seed: Annotated[int, "order of rows, and of chance"] = 0,
    workspace: WorkspaceOption = None,
) -> BatchPreview:
    """Show the first batch of an epoch as the model will see it, made as fine-tuning makes it, with the same options.

    Pictures are shown after their crops and changes, with boxes and masks moved along; texts as tokens, with what is
    cut; dialogues with the tokens that have loss. Raises what `finetune` raises before its first step.
    """
    if not 1 <= rows <= _MOST:
        raise errors.UsageProblem(f"--rows cannot be {rows}: 1 to {_MOST} fit a page.", "write --rows 8.")
    if not 0 <= epoch < _LATEST:
        raise errors.UsageProblem(f"--epoch cannot be {epoch}: the first one is 0.", "write --epoch 0.")
    ws: Workspace = places.find(workspace)
    recipe = Recipe(
        epochs=epoch + 1.0, batch=batch, max_length=max_length, long=long, seed=seed, augment=augment,
        image_size=image_size, mixup=mixup, cutmix=cutmix, device="cpu", precision="fp32",
    )  # fmt: skip
    planned = run_request.request(ws, model, data, None, recipe)
    spec = planned.spec()
    found = client.ask(ws, f"looking at a batch of {model}", {**spec, "kind": "preview", "epoch": epoch, "rows": rows})
    task, options = spec["task"], spec["options"]
    given = f" --augment {augment}" if augment and task in IMAGE_TASKS else ""
    return BatchPreview(
        model=model, task=task, data=planned.dataset.ref, epoch=epoch,
        augment=str(augments.read(options["augment"])) if task in IMAGE_TASKS else "", batch=found["batch"],
        rows=tuple(codec.build(Seen, row) for row in found["rows"]), tensors=tuple(found["tensors"]),
        labels=tuple(spec["labels"]) if task in (OBJECT_DETECTION, SEMANTIC_SEGMENTATION) else (),
        notes=tuple(found["notes"]), next_step=f"%sft_finetune {model}{given}",
    )  # fmt: skip
