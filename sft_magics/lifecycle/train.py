"""Stage 2, train: theta* = argmin L(D_task, f_theta), in a process of its own, ending in a committed version."""

import contextlib
from collections.abc import Collection
from typing import TYPE_CHECKING, Annotated, Literal

from sft_magics.core import errors, explicit_args, observer
from sft_magics.core import workspace as places
from sft_magics.core.jobs import JobFolder
from sft_magics.core.records import Run, Version
from sft_magics.core.signatures import Names
from sft_magics.core.views import JobView
from sft_magics.core.workspace import Workspace
from sft_magics.lifecycle.jobs import client, inline, run_folders
from sft_magics.lifecycle.options import WorkspaceOption
from sft_magics.lifecycle.training import run_request, runs
from sft_magics.lifecycle.training.recipe import Recipe

if TYPE_CHECKING:
    pass


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
        runs.make_ready(job)
    else:
        recipe = Recipe(
            epochs=epochs, lr=lr, batch=batch, weight_decay=weight_decay, warmup=warmup, max_length=max_length,
            long=long, seed=seed, precision=precision, device=device, threads=threads, dropout=dropout,
            checkpoint_seconds=checkpoint_seconds, optimizer=optimizer, momentum=momentum, schedule=schedule,
            clip=clip, method=method, augment=augment, image_size=image_size, workers=workers,
            label_smoothing=label_smoothing, class_weights=class_weights, sampling=sampling, patience=patience,
            eval_steps=eval_steps, lora_rank=lora_rank, views=views, micro_batch=micro_batch, layer_decay=layer_decay,
            unfreeze=unfreeze, mixup=mixup, cutmix=cutmix, ema=ema, recompute=recompute, compile=compile_,
            deterministic=deterministic,
        )  # fmt: skip
        job = run_request.request(ws, model, data, from_, recipe, named).place()
    if in_process:
        return _in_process(ws, job)
    if background:
        client.launch(job, die_with_kernel=die_with_kernel)
        return in_background(job)
    return attend(ws, job, die_with_kernel=die_with_kernel)


def resume(
    run: Annotated[str, "the run that was paused, interrupted, lost, or failed", Names("run")],
    *,
    background: Annotated[bool, "return at once and leave the run working"] = False,
    in_process: Annotated[bool, "train in this very process, for small machines"] = False,
    die_with_kernel: Annotated[bool, "end the run when this kernel ends"] = False,
    workspace: WorkspaceOption = None,
) -> Version | Run:
    """Go on with a run from its newest whole checkpoint, with the options it has; the same as `finetune --resume`."""
    return finetune(
        resume=run, background=background, in_process=in_process, die_with_kernel=die_with_kernel, workspace=workspace
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
    observer.current().stay(job, run_folders.view_of(job), runs.companion(job), wait=False)
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
        runs.request_stop(job)
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
