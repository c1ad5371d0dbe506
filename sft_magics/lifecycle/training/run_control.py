"""A run that was started is changed, paused and taken up again: orders in its folder, which its process obeys."""

import time
from dataclasses import replace
from typing import Annotated, Any

from sft_magics.core import errors, observer, provenance
from sft_magics.core import workspace as places
from sft_magics.core.commands import MORE_EPOCHS, Edit
from sft_magics.core.jobs import JobFolder
from sft_magics.core.records import Run
from sft_magics.core.signatures import Names
from sft_magics.lifecycle.jobs import client, run_folders
from sft_magics.lifecycle.options import WorkspaceOption
from sft_magics.lifecycle.training import recipe, runs
from sft_magics.lifecycle.training.warm_start import in_force

_PATIENCE = 3.0  # seconds to wait for a run that is at work to take an edit up


def edit(
    run: Annotated[str, "the run to change", Names("run")],
    *,
    lr: Annotated[float | None, "the rate of the next step; from there it falls over what is left"] = None,
    epochs: Annotated[str | float | None, "passes over the training rows in all, or +2 for two more"] = None,
    patience: Annotated[int | None, "end early after so many evaluations without a better one; 0: never"] = None,
    clip: Annotated[float | None, "the longest gradient that is followed; 0: any"] = None,
    checkpoint_seconds: Annotated[float | None, "at least one checkpoint in so many seconds"] = None,
    workspace: WorkspaceOption = None,
) -> Run:
    """Change options of a run that trains, waits, is paused or ended before its time; the curve shows where.

    A run that trains takes them up with its next step, any other when it goes on. Each edit is kept with its step, in
    the version too, and is made again by `resume` and `reproduce`. Raises UsageProblem for values that cannot work, and
    Refused for a run that is done.
    """
    job = run_folders.find(places.find(workspace), run)
    seen = run_folders.describe(job)
    _refuse_done(job, seen)
    given = {"lr": lr, "patience": patience, "clip": clip, "checkpoint_seconds": checkpoint_seconds}
    changes: dict[str, Any] = {**{k: v for k, v in given.items() if v is not None}, **_epochs(epochs)}
    if not changes:
        raise errors.UsageProblem("There is nothing to change.", f"write for example %sft_edit {job.id} --lr 1e-5")
    _check(job, seen, changes)
    job.tell({"do": "edit", "changes": changes, "who": provenance.user()})
    return _answer(job, job.orders.told().edits[-1], changes)


def pause(
    run: Annotated[str, "the run to pause", Names("run")],
    *,
    workspace: WorkspaceOption = None,
) -> Run:
    """Let a run checkpoint and rest: its process ends, its memory and the device are free, and `resume` goes on.

    Raises RunProblem for a run that is not at work and does not wait.
    """
    job = run_folders.find(places.find(workspace), run)
    if not job.alive():
        state = run_folders.describe(job).state
        raise errors.RunProblem(f"{job.id} does not run: it is {state}.", "%sft_runs lists what runs.")
    runs.request_pause(job)
    try:
        observer.follow(job, run_folders.view_of(job), lambda v: client.lose(job, v))
        client.await_death(job)  # its memory is free then
    except KeyboardInterrupt:
        raise runs.unwaited(job, "pause") from None
    return run_folders.describe(job)


def _refuse_done(job: JobFolder, seen: Run) -> None:
    if seen.version:
        raise errors.Refused(
            f"{job.id} is done: it made {seen.version}, which stays as it is.",
            f"%sft_finetune {seen.model} --from {seen.version} trains on from it, with options of your choice.",
        )


def _epochs(given: str | float | None) -> dict[str, float]:
    if given is None:
        return {}
    text = str(given).strip()
    try:
        value = float(text)
    except ValueError:
        raise errors.UsageProblem(
            f"--epochs cannot be '{text[:60]}': it takes a number, or +2 for two more.", "write --epochs +2, or 5."
        ) from None
    return {MORE_EPOCHS if text.startswith("+") else "epochs": value}


def _check(job: JobFolder, seen: Run, changes: dict[str, Any]) -> None:
    """Refuse what `finetune` refuses, and an end that lies behind the run."""
    meant = _planned(job)
    now = meant["epochs"]
    if (more := changes.get(MORE_EPOCHS)) is not None:
        if not more > 0:
            raise errors.UsageProblem(f"--epochs +{more:g} adds nothing.", "write for example --epochs +2.")
        now += more
    now = changes.get("epochs", now)
    recipe.check({**{k: v for k, v in changes.items() if k != MORE_EPOCHS}, "epochs": now})
    done = (
        seen.step / seen.steps * in_force(job.spec()["options"], job.taken(), float("inf"))["epochs"]
        if seen.steps
        else 0.0
    )
    if now <= done:
        raise errors.Refused(
            f"{job.id} has done {done:.2f} epochs: --epochs {now:g} lies behind it.",
            f"%sft_stop {job.id} ends it now, and %sft_keep {job.id} commits its best.",
        )


def _planned(job: JobFolder) -> dict[str, Any]:
    """Return the options with all edits, those too that the run has not taken up yet."""
    taken = job.taken()
    found = in_force(job.spec()["options"], taken, float("inf"))
    newest = max((one.number for one in taken), default=-1)
    for waiting in (one for one in job.orders.told().edits if one.number > newest):
        more = waiting.changes.get(MORE_EPOCHS, 0.0)
        found |= {name: value for name, value in waiting.changes.items() if name != MORE_EPOCHS}
        found["epochs"] += more
    return found


def _answer(job: JobFolder, order: Edit, changes: dict[str, Any]) -> Run:
    """Return the run, with what became of the edit: the step from which it holds, or when it will be taken up."""
    deadline = time.monotonic() + _PATIENCE
    step = _step_of(job, order)
    while step is None and job.alive() and run_folders.describe(job).step and time.monotonic() < deadline:
        time.sleep(0.05)
        step = _step_of(job, order)
    said = ", ".join(f"+{v:g} epochs" if k == MORE_EPOCHS else f"{k} {v:g}" for k, v in changes.items())
    seen = run_folders.describe(job)
    if step is not None:
        return replace(seen, why=f"{said} from step {step} on", next_step=f"%sft_watch {job.id}")
    if job.alive():
        return replace(seen, why=f"{said} with its next step", next_step=f"%sft_watch {job.id}")
    return replace(seen, why=f"{said} when it goes on", next_step=f"%sft_resume {job.id}")


def _step_of(job: JobFolder, order: Edit) -> int | None:
    return next((one.step for one in job.taken() if one.number == order.number), None)
