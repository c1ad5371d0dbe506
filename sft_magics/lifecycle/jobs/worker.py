"""What runs in a job's own process: `python -m sft_magics.lifecycle.jobs.worker FOLDER`.

It calls the engine, writes down what the engine says, commits the version, and writes how it ended. It needs no
notebook and no terminal, and it never prints: its stdout is a log file.
"""

import contextlib
import importlib
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from sft_magics.core import errors
from sft_magics.core.codec import plain
from sft_magics.core.events import (
    Edited,
    Ended,
    Event,
    EventReader,
    Progress,
    Queued,
    Remark,
    RunPlanned,
    StepDone,
)
from sft_magics.core.jobs import JobFolder
from sft_magics.core.observer import catch_up
from sft_magics.core.runtime import usage
from sft_magics.core.workspace import Workspace, try_lock, write_durably
from sft_magics.lifecycle.jobs import client, commit, run_folders
from sft_magics.lifecycle.jobs.event_sink import JobEventSink

_NICE = 5  # a kernel on the same two cores still answers at once


def carry_out(job: JobFolder, listen: Callable[[], None] | None = None) -> None:
    """Do the job of this folder and write how it ended; raises nothing."""
    sink = JobEventSink(job, listen)
    with _interrupts_stop(sink):
        try:
            ended = _WORK[job.spec()["kind"]](job, sink)
        except BaseException as error:  # noqa: BLE001 - whatever ends the job, its last line says so
            traceback.print_exc(file=sys.stderr)
            ended = _sentence(job, error)
            # The traceback holds the model; in a kernel it must not outlive the job.
            error.__traceback__ = None
        if ended.state == "done":
            _say_what_came_too_late(job, sink)
        _settle(job, sink, ended)
    sink.close()


def _settle(job: JobFolder, sink: JobEventSink, ended: Ended) -> None:
    sink.finish(ended)
    if job.id.startswith("run-"):
        with contextlib.suppress(OSError):
            view = run_folders.view_of(job)
            catch_up(view, EventReader(job.events))
            from sft_magics.core import codec

            write_durably(job.path / "summary.json", codec.dumps(run_folders.summary(view)).encode())
            usage.measure(Workspace(job.root))


def _sentence(job: JobFolder, error: BaseException) -> Ended:
    resume = f"%sft_finetune --resume {job.id} goes on from its newest checkpoint."
    if isinstance(error, errors.WorkspaceProblem) and job.id.startswith("run-"):
        return Ended("failed", error.what, f"{error.next_step} {resume}", type(error).__name__)
    if isinstance(error, errors.SftError):
        return Ended("failed", error.what, error.next_step, type(error).__name__)
    if isinstance(error, OSError):
        found = errors.from_os_error(error, f"{job.id} was at work")
        return Ended("failed", found.what, f"{found.next_step} {resume}", type(found).__name__)
    if isinstance(error, MemoryError):
        return Ended("failed", "There is not enough memory for this job.", "use a smaller --batch.", "RunProblem")
    if isinstance(error, KeyboardInterrupt):
        return Ended("interrupted", f"{job.id} was ended at once.", resume, "RunProblem")
    what = f"{job.id} failed by a defect of ours ({type(error).__name__}: {error})."
    return Ended("failed", what, f"report it with {job.log}. {resume}", "Defect")


@contextlib.contextmanager
def _interrupts_stop(sink: JobEventSink) -> Any:
    """Let SIGINT and SIGTERM ask for a stop; a second one ends the work at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def ask(_number: int, _frame: FrameType | None) -> None:
        if sink.stopping:
            raise KeyboardInterrupt
        sink.stopping = True

    kept = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)


def _finetune(job: JobFolder, sink: JobEventSink) -> Ended:
    spec = job.spec()
    if job.told() == "keep":
        job.forget_orders()
        return commit.keep(job, sink)
    with _the_device(job, sink) as granted:
        if not granted:
            return _ended_early(job, sink, "while it waited")
        sink(client.started("loading the model"))
        for level, texts in (("info", spec.get("remarks", ())), ("warning", spec.get("warnings", ()))):
            for text in texts:
                sink(Remark(level, text))
        from sft_magics.engine.jobs import worker

        if spec.get("clone") and not (job.path / run_folders.START).exists():
            worker.assemble(spec["clone"], sink, job.path, run_folders.WEIGHTS, run_folders.START)
        trained = worker.train({**spec, "data": spec["data_file"], "resume": True}, sink, job.path, sink.told)
        if trained.stopped:
            return _ended_early(job, sink, f"after step {trained.step} of {trained.steps}, with a checkpoint")
        return commit.commit(job, sink, trained)


def _ended_early(job: JobFolder, sink: JobEventSink, when: str) -> Ended:
    """Return the end of a run that was told to pause or to stop."""
    keep = f"%sft_keep {job.id} commits its best."
    if sink.told().do == "pause":
        step = f"%sft_resume {job.id} goes on from there, %sft_edit {job.id} changes its options; {keep}"
        return Ended("paused", f"{job.id} was paused {when}; it holds no memory and no device.", step, "RunProblem")
    step = f"%sft_finetune --resume {job.id} goes on from there; {keep}"
    return Ended("interrupted", f"{job.id} stopped {when}.", step, "RunProblem")


def _say_what_came_too_late(job: JobFolder, sink: JobEventSink) -> None:
    newest = max((edit.number for edit in job.taken()), default=-1)
    for edit in (e for e in sink.told().edits if e.number > newest and e.changes):
        what = ", ".join(f"{name} {value:g}" for name, value in edit.changes.items())
        with contextlib.suppress(OSError):
            sink(Remark("warning", f"The edit of {what} came when training had ended: it changed nothing."))


@contextlib.contextmanager
def _the_device(job: JobFolder, sink: JobEventSink) -> Any:
    """Wait until no other run works on this workspace's device, oldest first; False if told to stop meanwhile."""
    ws = Workspace(Path(job.spec()["workspace"]))
    lock, said = None, ""
    while lock is None:
        ahead = _ahead(ws, job)
        lock = try_lock(ws.runs / "device.lock") if not ahead else None
        behind = ahead or "another run"
        if lock is None and behind != said:
            said = behind
            sink(Queued(behind))
        if lock is None:
            if sink.told().ending:
                yield False
                return
            time.sleep(0.1)
    try:
        yield True
    finally:
        os.close(lock)


def _ahead(ws: Workspace, job: JobFolder) -> str:
    mine = float(job.spec()["created_at"])
    older = [
        j for j in run_folders.all_jobs(ws) if j.id != job.id and float(j.spec()["created_at"]) < mine and j.alive()
    ]  # fmt: skip
    return older[0].id if older else ""


def _predict(job: JobFolder, sink: JobEventSink) -> Ended:
    from sft_magics.engine.jobs import worker

    spec = job.spec()
    sink(client.started("loading the model"))
    said = [worker.predict({**spec, "folder": f}, sink) for f in spec["folders"]]
    job.finish({"scores": [scores for scores, _ in said], "unread": [list(unread.items()) for _, unread in said]})
    return Ended("done")


def _evaluate(job: JobFolder, sink: JobEventSink) -> Ended:
    from sft_magics.engine.jobs import worker

    sink(client.started("loading the model"))
    job.finish(worker.evaluate(job.spec(), sink))
    return Ended("done")


def _rehearse(job: JobFolder, sink: JobEventSink) -> Ended:
    from sft_magics.engine.jobs import dry_run

    spec = job.spec()
    with _the_device(job, sink) as granted:
        if not granted:
            return Ended("interrupted", "It was stopped while it waited.", "type the same line again.", "RunProblem")
        sink(client.started("loading the model"))
        order = {**spec, "data": spec["data_file"]}
        if spec["what"] == "plan":
            job.finish(dry_run.plan(order, sink, job.path))
        else:
            job.finish(dry_run.find_rate(order, sink, job.path, int(spec["steps"])))
    return Ended("done")


def _preview(job: JobFolder, sink: JobEventSink) -> Ended:
    from sft_magics.engine.jobs import dry_run

    spec = job.spec()
    sink(client.started("loading the model"))  # it computes nothing, so it waits for no run
    job.finish(dry_run.look({**spec, "data": spec["data_file"]}, sink, job.path))
    return Ended("done")


def _candidates(job: JobFolder, sink: JobEventSink) -> Ended:
    from sft_magics.engine.jobs import linear_probe

    sink(client.started("looking at bases"))
    spec = job.spec()
    # Beside a run a step would take longer than it does, and to wait for the run's end would be worse.
    lock = try_lock(Workspace(Path(spec["workspace"])).prepare().runs / "device.lock") if spec["timed"] else None
    try:
        job.finish(linear_probe.compare({**spec, "timed": spec["timed"] if lock is not None else {}}, sink))
    finally:
        if lock is not None:
            os.close(lock)
    return Ended("done")


def _compare(job: JobFolder, sink: JobEventSink) -> Ended:
    from sft_magics.engine.jobs import worker
    from sft_magics.engine.models import layer_diff

    spec = job.spec()
    sink(client.started("loading the models"))
    before, after = spec["folders"]
    scores = [worker.predict({**spec, "folder": f}, sink)[0] for f in spec["folders"]] if spec["texts"] else []
    sink(Progress("comparing the weights", 0))
    job.finish({"scores": scores, "layers": layer_diff.changes(Path(before), Path(after))})
    return Ended("done")


def _reproduce(job: JobFolder, sink: JobEventSink) -> Ended:
    from sft_magics.engine.jobs import worker
    from sft_magics.engine.models import layer_diff

    spec = job.spec()

    steps = 0

    def hear(event: Event) -> str:
        nonlocal steps
        if isinstance(event, RunPlanned | Edited):
            steps = event.steps
        return sink(Progress("training again, steps", event.step, steps) if isinstance(event, StepDone) else event)

    with _the_device(job, sink) as granted:
        if not granted:
            return Ended("interrupted", "It was stopped while it waited.", "type the same line again.", "RunProblem")
        sink(client.started("loading the model"))
        trained = worker.train({**spec, "data": spec["data_file"], "resume": False}, hear, job.path)
    if trained.stopped:
        return Ended("interrupted", "It was stopped; nothing was changed.", "type the same line again.", "RunProblem")
    same, largest = layer_diff.largest_difference(Path(spec["stored"]), trained.folder)
    metrics = plain(trained.metrics)
    job.finish({"same": same, "largest": largest, "metrics": metrics, "environment": trained.environment})
    return Ended("done")


def _inspect(job: JobFolder, sink: JobEventSink) -> Ended:
    from sft_magics.engine.jobs import worker

    sink(client.started("loading the weights"))
    job.finish(worker.inspect(job.spec(), sink))
    return Ended("done")


def _export(job: JobFolder, sink: JobEventSink) -> Ended:
    # By name: rooms above this one say what their jobs do.
    above = importlib.import_module("sft_magics.lifecycle.endpoints.engine_choice")
    ended: Ended = above.carry_out(job, sink)
    return ended


_WORK: dict[str, Callable[[JobFolder, JobEventSink], Ended]] = {
    "finetune": _finetune,
    "predict": _predict,
    "evaluate": _evaluate,
    "rehearse": _rehearse,
    "preview": _preview,
    "candidates": _candidates,
    "compare": _compare,
    "reproduce": _reproduce,
    "inspect": _inspect,
    "export": _export,
}


def main() -> None:
    """Carry out the job of the folder named on the command line."""
    from sft_magics.engine.runtime import launchers

    launchers.watch_parent()
    job = JobFolder(Path(sys.argv[1]))
    if job.spec().get("kind") == "finetune":  # someone waits for a short job
        with contextlib.suppress(OSError):
            os.nice(_NICE)
    carry_out(job)


if __name__ == "__main__":
    main()
