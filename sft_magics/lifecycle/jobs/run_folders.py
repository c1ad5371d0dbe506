"""Runs by their folders: which there are, and what each has come to."""

import contextlib
import json
from typing import Any

from sft_magics.core import codec, errors, observer
from sft_magics.core.commands import written
from sft_magics.core.events import EventReader
from sft_magics.core.jobs import JobFolder
from sft_magics.core.records import Run
from sft_magics.core.records.stored import EpochRow
from sft_magics.core.views import LossView
from sft_magics.core.workspace import Workspace
from sft_magics.lifecycle.jobs import client

START, WEIGHTS = "start", "from"  # folders of the new run: a whole model, and a checkpoint's weights to make one of


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
