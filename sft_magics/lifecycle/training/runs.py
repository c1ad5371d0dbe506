"""Runs as a user meets them: list, watch, stop, keep. A run is read from its folder; nobody has to have watched it."""

from pathlib import Path
from typing import Annotated

from sft_magics.core import errors, observer, references
from sft_magics.core import workspace as places
from sft_magics.core.jobs import JobFolder
from sft_magics.core.observer import Companion
from sft_magics.core.records import Endpoint, Run, Table, Version
from sft_magics.core.signatures import Names
from sft_magics.core.views import LossView
from sft_magics.lifecycle.jobs import client, run_folders
from sft_magics.lifecycle.options import WorkspaceOption


def watch(
    run: Annotated[str | None, "the run; without it the newest", Names("run")] = None,
    *,
    workspace: WorkspaceOption = None,
) -> Run:
    """Show a run's panel: curves, rate, time left, remarks. From any notebook, kernel or shell, during and after it.

    In a notebook the panel stays live and the kernel stays free; headless it follows to the end.
    """
    ws = places.find(workspace)
    job = run_folders.find(ws, run)
    observer.current().stay(job, run_folders.view_of(job), companion(job), wait=True)
    return run_folders.describe(job)


def runs(
    *, model: Annotated[str | None, "only this model's", Names("model")] = None, workspace: WorkspaceOption = None
) -> Table:
    """List the runs, newest first: state, the settings in which they differ, the metric and what it was measured on."""
    found = [run_folders.describe(job) for job in run_folders.all_jobs(places.find(workspace))]
    rows = tuple(r for r in found if model is None or r.model == model)
    return Table.compared("runs", rows, "" if rows else "%sft_finetune MODEL")


def stop(
    what: Annotated[str, "a run (run-7f3a) or an endpoint's name", Names("stoppable")],
    *,
    workspace: WorkspaceOption = None,
) -> Run | Endpoint:
    """Stop a run after its step (it checkpoints first and can be resumed), or an endpoint after what it answers."""
    from sft_magics.serving.client import lifecycle as serving

    ws = places.find(workspace)
    if references.parse(what).run is None:
        known = {e.name: e for e in serving.endpoints(ws)}
        if what not in known:
            ids = [job.id for job in run_folders.all_jobs(ws) if job.alive()]
            raise errors.not_found("run or endpoint", what, [*known, *ids], "%sft_runs and %sft_endpoints list them.")
        return serving.stop(ws, what)
    job = run_folders.find(ws, what)
    if not job.alive():
        raise errors.RunProblem(
            f"{job.id} does not run: it is {run_folders.describe(job).state}.", "%sft_runs lists what runs."
        )
    request_stop(job)
    try:
        observer.follow(job, run_folders.view_of(job), lambda v: client.lose(job, v))
    except KeyboardInterrupt:
        raise unwaited(job, "stop") from None
    return run_folders.describe(job)


def keep(
    run: Annotated[str, "the run that was paused or interrupted, failed or lost", Names("run")],
    *,
    workspace: WorkspaceOption = None,
) -> Version:
    """Commit the best state of a run that did not end as a version, as it stands.

    Raises Refused when the run still lives, made its version already, or never reached a checkpoint.
    """
    from sft_magics.registry import Registry

    ws = places.find(workspace)
    job = run_folders.find(ws, run)
    seen = run_folders.describe(job)
    if seen.state in ("running", "queued"):
        raise errors.Refused(
            f"{job.id} is {seen.state}: it will commit its version itself.", f"%sft_stop {job.id} first."
        )
    if seen.version:
        raise errors.Refused(f"{job.id} made {seen.version} already.", f"%sft_evaluate {seen.version}")
    if not any((job.path / "best").glob("*.safetensors")) and not any((job.path / "checkpoints").glob("step-*")):
        raise errors.Refused(
            f"{job.id} has no checkpoint yet to commit.", f"%sft_finetune --resume {job.id} starts it again."
        )
    job.forget_orders()  # the stop or pause that ended it
    job.tell({"do": "keep"})
    client.launch(job)
    view = observer.follow(job, run_folders.view_of(job), lambda v: client.lose(job, v))
    if not isinstance(view, LossView) or view.version is None:
        raise client.problem(view)
    return Registry(ws).version(view.version)


def request_stop(job: JobFolder) -> None:
    """Ask the run to checkpoint and end after the step it is in; on a full disk by a signal, which says the same."""
    try:
        job.tell({"do": "stop"})
    except errors.WorkspaceProblem:
        if not job.terminate():
            raise


def unwaited(job: JobFolder, what: str) -> errors.Interrupted:
    """Return what to raise where the user does not wait for a run to stop or pause, which it was asked to do."""
    return errors.Interrupted(
        f"{job.id} was asked to {what} and will after its step; waiting for that was interrupted.",
        f"%sft_watch {job.id} shows it.",
    )


def request_pause(job: JobFolder) -> None:
    """Ask the run to checkpoint and rest after the step it is in."""
    job.tell({"do": "pause"})


def companion(job: JobFolder) -> Companion:
    """Return what a live panel may do with a run."""

    def resume() -> None:
        make_ready(job)
        client.launch(job)

    return Companion(lambda: request_stop(job), lambda view: client.lose(job, view), lambda: request_pause(job), resume)


def make_ready(job: JobFolder) -> None:
    """Let a run be taken up again: what ended it is past. Raises Refused where it is at work or done, DataProblem."""
    seen = run_folders.describe(job)
    if seen.state in ("running", "queued"):
        raise errors.Refused(f"{job.id} is {seen.state} already.", f"%sft_watch {job.id} shows it.")
    if seen.version:
        raise errors.Refused(
            f"{job.id} is done: it made {seen.version}.", f"%sft_finetune {seen.model} starts a new run."
        )
    if not Path(job.spec()["data_file"]).exists():
        raise errors.DataProblem(
            f"The data of {job.id} is no longer there.", f"%sft_data {seen.data.partition(':')[0]} SOURCE loads it."
        )
    job.forget_orders()
    (job.path / "summary.json").unlink(missing_ok=True)
