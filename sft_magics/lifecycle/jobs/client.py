"""How a stage gets work done outside this process: submit a job, show it, fetch its result, say why it failed."""

import contextlib
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from sft_magics.core import errors, observer
from sft_magics.core.events import Ended, Event, EventWriter, Started, TakenUp
from sft_magics.core.jobs import JobFolder
from sft_magics.core.views import JobView
from sft_magics.core.workspace import Workspace, new_id

PROCESS = "sft_magics.lifecycle.jobs.worker"
LEFTOVERS = ("checkpoints", "best")  # a run's folders that nobody needs once its version is committed
_AGAIN = "type the same line again."
_LONGEST_DEATH = 20.0
_LONGEST_FORGETTING = 2.0


def launch(job: JobFolder, *, die_with_kernel: bool = False) -> None:
    """Start the job's own process, detached from this one; it lives on when this one ends, unless told otherwise."""
    from sft_magics.engine.runtime import launchers

    if job.events.exists():
        # An earlier process has said its last word but may still be on its way out, and whoever follows the file must
        # not take its end for the end of this one.
        await_death(job)
        write_down(job, TakenUp())
    launchers.start(job, PROCESS, keep=not die_with_kernel, forked=True)


def ask(ws: Workspace, title: str, spec: dict[str, Any]) -> dict[str, Any]:
    """Do a short job (an evaluation, a prediction, an inspection) in its own process and return its result.

    Raises what the job failed with, by its own sentence, and Interrupted when the user interrupts it: the job's process
    has ended then, and nothing of it is left.
    """
    job = JobFolder(ws.jobs / new_id("job", ws.jobs)).create(spec)
    view = JobView(job.id, title=title)
    try:
        launch(job, die_with_kernel=True)
        observer.follow(job, view, lambda v: lose(job, v))
    except KeyboardInterrupt:
        job.kill()
        await_death(job)
        forget(job)
        view.state, view.ended_at = "interrupted", time.time()
        observer.quietly(observer.current().show, view)
        raise interrupted(title) from None
    if view.state != "done":
        raise problem(view)
    result = job.result()
    forget(job)
    if result is None:
        raise errors.RunProblem(f"{title} ended without a result.", "type %sft_doctor.")
    return result


def interrupted(title: str) -> errors.Interrupted:
    """Return what to raise where the user stopped work that changes nothing before its end."""
    return errors.Interrupted(f"{title[:1].upper()}{title[1:]} was interrupted; nothing was changed.", _AGAIN)


def problem(view: JobView) -> errors.SftError:
    """Return the error that a job ended with."""
    kinds: dict[str, type[errors.SftError]] = {c.__name__: c for c in errors.SftError.__subclasses__()}
    return kinds.get(view.problem, errors.RunProblem)(view.why, view.next_step)


def lose(job: JobFolder, view: JobView) -> None:
    """Mark a job whose process is gone without a word, with what is known of its end."""
    words = job.last_words()
    memory = "The system may have ended it for want of memory"
    tail = f"; it last printed: {words}" if words else f"; {memory[0].lower()}{memory[1:]}, or someone killed it"
    if job.id.startswith("run-"):
        step = (
            f"%sft_finetune --resume {job.id} goes on from its newest checkpoint; %sft_keep {job.id} commits its best."
        )
    else:
        step = "type the same line again; %sft_doctor shows the memory that is free."
    view.lose(f"The process of {job.id} is gone without a word{tail}.", step)


def end_for(job: JobFolder, state: str, why: str, next_step: str) -> None:
    """Write the last line for a process that cannot do so itself because it was ended."""
    await_death(job)
    write_down(job, Ended(state, why, next_step))


def forget(job: JobFolder) -> None:
    """Remove the folder of a job that has ended; its process may be on its way out and write once more."""
    deadline = time.monotonic() + _LONGEST_FORGETTING
    while True:
        shutil.rmtree(job.path, ignore_errors=True)
        if not job.path.exists() or time.monotonic() > deadline:
            return
        time.sleep(0.05)


def await_death(job: JobFolder) -> None:
    """Wait for the job's process to be gone, but not for ever."""
    deadline = time.monotonic() + _LONGEST_DEATH
    while job.alive() and time.monotonic() < deadline:
        time.sleep(0.05)


def write_down(job: JobFolder, event: Event) -> None:
    """Append one event for a process that does not speak yet, or no more."""
    writer = EventWriter(job.events)
    try:
        writer.write(event)
    finally:
        writer.close()


@contextlib.contextmanager
def telling(title: str) -> Iterator[Callable[[str, int, int], None]]:
    """Show a progress line for work done right here; yields `say(what, done, total)`."""
    view = JobView(f"here-{time.monotonic_ns()}", title=title, state="running", started_at=time.time())
    watcher = observer.current()
    said, shown = "", 0.0

    def say(what: str, done: int, total: int = 0) -> None:
        nonlocal said, shown
        new, said = what != said, what
        view.what, view.done, view.total, view.heard_at = what, done, total, time.time()
        if new or time.monotonic() - shown >= observer.REDRAW_SECONDS:
            shown = time.monotonic()
            observer.quietly(watcher.show, view)

    try:
        yield say
    except BaseException as error:
        view.state = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
        view.ended_at = time.time()
        if said:
            observer.quietly(watcher.show, view)
        raise
    view.state, view.ended_at = "done", time.time()
    if said:
        observer.quietly(watcher.show, view)


def started(what: str) -> Started:
    """Return the `Started` event of this process."""
    import os
    import platform

    return Started(what, os.getpid(), platform.node())


def size_of(folder: Path) -> int:
    """Return the bytes of the files below `folder`."""
    return sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())
