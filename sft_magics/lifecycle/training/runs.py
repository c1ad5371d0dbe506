"""Runs as a user meets them: list, watch, stop, keep. A run is read from its folder; nobody has to have watched it."""

import contextlib
import json
from pathlib import Path
from typing import Annotated, Any

from sft_magics.core import codec, errors, observer, references
from sft_magics.core import workspace as places
from sft_magics.core.commands import written
from sft_magics.core.events import EventReader
from sft_magics.core.jobs import JobFolder
from sft_magics.core.observer import Companion
from sft_magics.core.records import Endpoint, Run, Table, Version
from sft_magics.core.records.stored import EpochRow
from sft_magics.core.signatures import Names
from sft_magics.core.views import LossView
from sft_magics.core.workspace import Workspace
from sft_magics.lifecycle.jobs import client
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
    job = find(ws, run)
    observer.current().stay(job, view_of(job), companion(job), wait=True)
    return describe(job)


def runs(
    *, model: Annotated[str | None, "only this model's", Names("model")] = None, workspace: WorkspaceOption = None
) -> Table:
    """List the runs, newest first: state, the settings in which they differ, the metric and what it was measured on."""
    found = [describe(job) for job in all_jobs(places.find(workspace))]
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
            ids = [job.id for job in all_jobs(ws) if job.alive()]
            raise errors.not_found("run or endpoint", what, [*known, *ids], "%sft_runs and %sft_endpoints list them.")
        return serving.stop(ws, what)
    job = find(ws, what)
    if not job.alive():
        raise errors.RunProblem(f"{job.id} does not run: it is {describe(job).state}.", "%sft_runs lists what runs.")
    request_stop(job)
    try:
        observer.follow(job, view_of(job), lambda v: client.lose(job, v))
    except KeyboardInterrupt:
        raise unwaited(job, "stop") from None
    return describe(job)


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
    job = find(ws, run)
    seen = describe(job)
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
    view = observer.follow(job, view_of(job), lambda v: client.lose(job, v))
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
    seen = describe(job)
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


def all_jobs(ws: Workspace) -> list[JobFolder]:
    """Return the folders of all runs, newest first."""
    found = [JobFolder(p.parent) for p in ws.runs.glob("run-*/spec.json")]
    return sorted(found, key=lambda j: float(j.spec().get("created_at", 0.0)), reverse=True)


def find(ws: Workspace, run: str | None) -> JobFolder:
    """Return the folder of `run`, or of the newest; raises NotFound."""
    jobs = all_jobs(ws)
    if run is None:
        if not jobs:
            raise errors.NotFound("No run was started in this workspace yet.", "%sft_finetune MODEL starts one.")
        return jobs[0]
    for job in jobs:
        if job.id == run:
            return job
    raise errors.not_found("run", run, [j.id for j in jobs], "%sft_runs lists them.")


def view_of(job: JobFolder) -> LossView:
    """Return an empty view that knows which run it is of."""
    return LossView(job.id, title=f"{job.spec().get('model', '')}", model=str(job.spec().get("model", "")))


def describe(job: JobFolder) -> Run:
    """Return the run as it is now: its order, and the fold of everything it said."""
    alive = job.alive()
    settled = job.path / "summary.json"
    if not alive and settled.exists():
        with contextlib.suppress(ValueError, KeyError, TypeError):
            return _run(job, json.loads(settled.read_text()))
    view = view_of(job)
    observer.catch_up(view, EventReader(job.events))
    if view.active and not alive:
        client.lose(job, view)
    return _run(job, summary(view))


def summary(view: LossView) -> dict[str, Any]:
    """Return what a list of runs needs to know of one."""
    return {
        "state": "queued" if view.state == "waiting" else view.state,
        "ended_at": view.ended_at,
        "version": view.version,
        "why": view.why or (f"behind {view.behind}" if view.behind else ""),
        "next_step": view.next_step,
        "concern": view.concern,
        "evaluations": view.evaluated(),
        "step": view.step,
        "steps": view.steps,
        "metric": view.best_quality(),
        "metric_name": view.headline,
        "measured_rows": view.validation_rows,
    }


def _run(job: JobFolder, state: dict[str, Any]) -> Run:
    spec = job.spec()
    shown = [e if isinstance(e, EpochRow) else codec.build(EpochRow, e) for e in state.get("evaluations", ())]
    return Run(
        id=job.id,
        model=spec["model"],
        data=spec["data"],
        options={**spec["options"], **({"edits": written(edits)} if (edits := job.taken()) else {})},
        created_at=spec["created_at"],
        folder=str(job.path),
        parent=spec.get("parent"),
        data_fingerprint=spec.get("data_fingerprint", ""),
        start=str((spec.get("start") or {}).get("source", "")),
        **{**state, "evaluations": tuple(shown)},
    )
