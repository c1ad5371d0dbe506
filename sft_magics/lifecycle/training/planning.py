"""Before a run: what it will take (`plan`), and which rate it bears (`lr`), from a few real steps."""

import shutil
from typing import Annotated, Any, Literal

from sft_magics.core import errors
from sft_magics.core import workspace as places
from sft_magics.core.records import Choice, LrRangeTest, RunPlan
from sft_magics.core.signatures import Names
from sft_magics.core.tasks import CAUSAL_LM, IMAGE_TASKS
from sft_magics.core.workspace import Workspace
from sft_magics.engine.runtime import free_memory
from sft_magics.lifecycle.jobs import client
from sft_magics.lifecycle.options import WorkspaceOption
from sft_magics.lifecycle.training import run_request
from sft_magics.lifecycle.training.recipe import Recipe

_ROOM = 0.9  # of the free memory that a run may take
_TRANSFORMER = "of a pretrained transformer a range test reads too high: start at its own advice, 1e-5 to 1e-4."


def plan(
    model: Annotated[str, "the model that would be fine-tuned", Names("model")],
    *,
    data: Annotated[str | None, "another dataset than the model's own", Names("dataset")] = None,
    epochs: Annotated[float | None, "passes over the training rows; without it as many as suit the data"] = None,
    batch: Annotated[int | Literal["auto"] | None, "rows a step; auto: in parts that fit into memory"] = None,
    method: Annotated[Literal["full", "head", "lora", "qlora"] | None, "which weights learn, as in fine-tuning"] = None,
    recompute: Annotated[bool, "compute activations again in the backward pass"] = False,
    image_size: Annotated[int | None, "pixels at which pictures are seen"] = None,
    max_length: Annotated[int | None, "tokens of a text that are read"] = None,
    precision: Annotated[Literal["auto", "bf16", "fp32"], "number format"] = "auto",
    device: Annotated[Literal["auto", "cpu", "cuda"], "where to compute"] = "auto",
    threads: Annotated[int | Literal["auto"], "CPU threads"] = "auto",
    workspace: WorkspaceOption = None,
) -> RunPlan:
    """Take three steps of a run and say what the whole would take: time with a range, memory, disk, cheaper choices.

    Nothing is kept of the steps. Raises what `finetune` raises before its first step, and RunProblem where not even a
    step fits into the memory.
    """
    ws = places.find(workspace)
    recipe = Recipe(
        epochs=epochs, batch=batch, method=method, image_size=image_size, max_length=max_length, precision=precision,
        device=device, threads=threads, recompute=recompute,
    )  # fmt: skip
    order, found = _tried(ws, model, data, recipe, "plan", f"taking three steps of {model}")
    options = order["options"]
    times = sorted(found["seconds"])
    evaluations = found["evaluations"]
    low, middle, high = (found["steps"] * t + evaluations * found["evaluation"] for t in
                         (times[0], times[len(times) // 2], times[-1]))  # fmt: skip
    free_memory, free_disk = _free_memory_mb(), shutil.disk_usage(ws.root).free
    disk = _disk(int(found["checkpoint_bytes"]), int(found["version_bytes"]))
    return RunPlan(
        model=model, task=order["task"], rows=found["rows"], steps=found["steps"], epochs=options["epochs"],
        patience=options["patience"], eval_steps=options["eval_steps"], why=" ".join(order["remarks"]),
        batch=options["batch"], micro_batch=found["micro_batch"],
        method=options["method"], seconds=middle, seconds_low=low, seconds_high=high,
        step_seconds=times[len(times) // 2], flops=found["flops"], peak_flops=found["peak"],
        weights=found["weights"], learning=found["learning"], memory_mb=found["memory_mb"], free_memory_mb=free_memory,
        disk_bytes=disk, version_bytes=int(found["version_bytes"]), free_disk_bytes=free_disk, machine=found["machine"],
        fits=found["memory_mb"] < _ROOM * free_memory and disk < free_disk,
        choices=_choices(order, middle) + _savings(options, short=2 * found["memory_mb"] > free_memory),
        next_step=f"%sft_finetune {model}{_as_typed(recipe)}",
    )  # fmt: skip


def lr(
    model: Annotated[str, "the model that would be fine-tuned", Names("model")],
    *,
    data: Annotated[str | None, "another dataset than the model's own", Names("dataset")] = None,
    steps: Annotated[int, "rates that are tried, one a step"] = 60,
    batch: Annotated[int | None, "rows a step"] = None,
    method: Annotated[Literal["full", "head", "lora", "qlora"] | None, "which weights learn, as in fine-tuning"] = None,
    seed: Annotated[int, "order of rows, dropout and the fresh head"] = 0,
    device: Annotated[Literal["auto", "cpu", "cuda"], "where to compute"] = "auto",
    threads: Annotated[int | Literal["auto"], "CPU threads"] = "auto",
    workspace: WorkspaceOption = None,
) -> LrRangeTest:
    """Let the learning rate rise step by step until the loss goes away, and show where it fell fastest (Smith 2017).

    Nothing is kept of the steps. Raises what `finetune` raises before its first step.
    """
    ws = places.find(workspace)
    if not 10 <= steps <= 1000:
        raise errors.UsageProblem(f"--steps cannot be {steps}: 10 to 1000 make a curve.", "write --steps 60.")
    recipe = Recipe(epochs=1000.0, batch=batch, method=method, seed=seed, device=device, threads=threads)
    order, found = _tried(ws, model, data, recipe, "lr", f"trying rates on {model}", steps=steps)
    own = float(order["options"]["lr"])
    text_like = order["task"] not in IMAGE_TASKS
    note = _TRANSFORMER if text_like and order["options"]["method"] == "full" else ""
    if order["task"] == CAUSAL_LM and not note:
        note = "LoRA bears ten times the rate of full fine-tuning, and the loss of few rows is noisy."
    advised = min(found["steepest"], found["tenth"])
    usual = own if note or not found["fell"] else advised
    return LrRangeTest(
        model=model, task=order["task"], rates=tuple(found["rates"]), losses=tuple(map(float, found["losses"])),
        smoothed=tuple(map(float, found["smoothed"])), steepest=found["steepest"],
        tenth=found["tenth"], diverged=found["diverged"],
        recipe=own, advised=usual, note=note if found["fell"] else "The loss fell nowhere: the rates say little.",
        next_step=f"%sft_finetune {model} --lr {usual:.1g}",
    )  # fmt: skip


def _tried(
    ws: Workspace, model: str, data: str | None, recipe: Recipe, what: str, title: str, **more: Any
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the order of the run that is meant, and what its few steps showed."""
    order = run_request.request(ws, model, data, None, recipe).spec()
    return order, client.ask(ws, title, {**order, "kind": "rehearse", "what": what, **more})


def _choices(order: dict[str, Any], seconds: float) -> tuple[Choice, ...]:
    """Return what would cost less; what the time is worth is for the user to say."""
    options, found = order["options"], []
    if order["task"] != CAUSAL_LM and options["method"] == "full":
        found.append(Choice("--method head", "the body is computed once and stays as it is; often some points less"))
    if order["task"] == CAUSAL_LM and options["method"] == "full":
        found.append(Choice("--method lora", "a fraction of the weights learn, and a checkpoint is small"))
    side = int(options.get("image_size") or 0)
    if order["task"] in IMAGE_TASKS and side > 96:
        found.append(Choice(f"--image-size {side // 64 * 32}", "a quarter of the pixels"))
    if order["task"] not in IMAGE_TASKS and options["max_length"] > 64:
        found.append(Choice(f"--max-length {options['max_length'] // 2}", "long texts lose their end"))
    if options["epochs"] > 1 and seconds > 600 and not options["patience"]:
        found.append(Choice("--patience 1", "ends when an evaluation is no better"))
    return tuple(found)


def _savings(options: dict[str, Any], *, short: bool) -> tuple[Choice, ...]:
    """Return what takes less memory, where it is `short`."""
    found = []
    if short and not options.get("micro_batch"):
        found.append(Choice("--batch auto", "parts of a batch that fit into memory; the steps stay the same"))
    if short and not options.get("recompute") and options["method"] != "head":
        found.append(Choice("--recompute", "much less memory for activations, about a third more time"))
    return tuple(found)


def _disk(checkpoint: int, version: int) -> int:
    """Return the most bytes that a run holds at once: two checkpoints and the best weights, beside one of either kind
    that is being written.
    """
    return 2 * checkpoint + version + max(checkpoint, version)


def _as_typed(recipe: Recipe) -> str:
    given = {"epochs": recipe.epochs, "batch": recipe.batch, "method": recipe.method, "image-size": recipe.image_size,
             "max-length": recipe.max_length}  # fmt: skip
    typed = "".join(f" --{name} {value:g}" if isinstance(value, int | float) else f" --{name} {value}"
                    for name, value in given.items() if value is not None)  # fmt: skip
    return typed + " --recompute" * recipe.recompute


def _free_memory_mb() -> float:
    return free_memory.free_memory() / 1e6
