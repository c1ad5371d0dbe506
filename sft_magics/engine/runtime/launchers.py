"""How a job's process begins: detached from the kernel, alive by an OS lock, its words in a log file. No torch here.

The launcher takes the job's life lock and hands its descriptor to the child: the lock is held from before the child's
first instruction until its death, however it dies, and no process id can be mistaken for it.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from sft_magics.core import errors
from sft_magics.core.jobs import JobFolder
from sft_magics.core.runtime import interrupts, streams

_PARENT = "SFT_DIES_WITH"
_LOOK_SECONDS = 1.0
ENVIRONMENT = {
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "PYTHONUNBUFFERED": "1",
    # Threads that wait in a loop for one another keep the core from whoever they wait for: beside another busy process,
    # training on two cores took 3 to 7 times as long. Asleep they cost nothing, but waking takes as long as much of
    # what they are woken for, so they look out for some microseconds first (GNU's library alone knows the second name):
    # a step on two quiet cores took 0.19 s with that and 0.22 without, beside a busy process 0.40 and 0.34.
    "OMP_WAIT_POLICY": "PASSIVE",
    "GOMP_SPINCOUNT": "2000",
    # glibc gives freed pages back and faults them in again at every step; kept, they are reused.
    "MALLOC_ARENA_MAX": "2",
    "MALLOC_TRIM_THRESHOLD_": "4294967296",
    "MALLOC_MMAP_THRESHOLD_": "4294967296",
}


def start(job: JobFolder, module: str, *, keep: bool = True, forked: bool = False) -> int:
    """Start `python -m module FOLDER` in a session of its own, holding the job's life lock; return its process id.

    With `keep=False` the child ends when this process does (see `watch_parent`). With `forked=True` it is forked from a
    process that has torch imported, where there is one. Raises RunProblem when a process lives
    for this job already, WorkspaceProblem when the folder cannot be written.
    """
    streams.hold()
    try:
        lock = job.claim()
    except OSError as error:
        raise errors.from_os_error(error, f"starting {job.id}") from error
    if lock is None:
        raise errors.RunProblem(f"{job.id} is running already.", f"%sft_watch {job.id} shows it.")
    try:
        with job.log.open("ab") as log:
            pid = _forked(job, module, lock, log.fileno(), keep=keep) if forked else None
            with interrupts.held():  # a process whose number is written nowhere could not be ended
                if pid is None:
                    pid = _spawned(job, module, lock, log.fileno(), keep=keep)
                (job.path / "pid").write_text(str(pid))
    except OSError as error:
        raise errors.from_os_error(error, f"starting {job.id}") from error
    finally:
        os.close(lock)
    return pid


def environment() -> dict[str, str]:
    """Return the variables of a job's process: those of this one, and ours."""
    return {**os.environ, **ENVIRONMENT}


def _bound(*, keep: bool) -> dict[str, str]:
    """Return the variables of a job's process that says whom it dies with, if with anyone."""
    return {**environment(), **({} if keep else {_PARENT: str(os.getpid())})}


def _forked(job: JobFolder, module: str, lock: int, log: int, *, keep: bool) -> int | None:
    from sft_magics.engine.runtime import fork_server_client

    return fork_server_client.start(module, job.path, _bound(keep=keep), (lock, log))


def _spawned(job: JobFolder, module: str, lock: int, log: int, *, keep: bool) -> int:
    child = subprocess.Popen(
        [sys.executable, "-m", module, str(job.path)],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        start_new_session=True,
        pass_fds=(lock,),
        env=_bound(keep=keep),
    )
    # Reap it whenever it ends, so that a long-lived kernel gathers no zombies.
    threading.Thread(target=child.wait, daemon=True).start()
    return child.pid


def inline(job: JobFolder, function: Callable[[Path], None]) -> None:
    """Call `function(folder)` in this process, holding the job's life lock; raises RunProblem if another lives."""
    lock = job.claim()
    if lock is None:
        raise errors.RunProblem(f"{job.id} is running already.", f"%sft_watch {job.id} shows it.")
    try:
        (job.path / "pid").write_text(str(os.getpid()))
        function(job.path)
    finally:
        os.close(lock)


def watch_parent() -> None:
    """End this process (SIGTERM: it checkpoints first) when the one that launched it is gone, if it was told to."""
    parent = os.environ.pop(_PARENT, "")
    if not parent:
        return

    def look() -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            starter = psutil.Process(int(parent))  # knows when it began, so another of that number is not it
            while starter.is_running() and starter.status() != psutil.STATUS_ZOMBIE:
                time.sleep(_LOOK_SECONDS)
        with contextlib.suppress(ProcessLookupError):
            os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=look, daemon=True).start()
