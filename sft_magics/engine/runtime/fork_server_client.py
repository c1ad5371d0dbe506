"""The warm way to start a job's process: from a fork server of this process, if there is one and it is ready.

Whatever stands in the way, the answer is None and the job is started the ordinary way. `SFT_FORK_SERVER=0` says never.
"""

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from sft_magics.engine.runtime import fork_server, free_memory

_OFF = "SFT_FORK_SERVER"
_LEAST_FREE = 3 << 30  # bytes: it takes half a gigabyte, most of it shared with its jobs
_ANSWER_SECONDS = 5.0
_OTHERS = 3  # jobs in a row with other variables, after which a server for these is worth its start
# What libraries read while they are imported: with another value of these a server that runs is of no use.
_READ_EARLY = (
    "HF_", "HUGGINGFACE", "TRANSFORMERS_", "PYTORCH_", "OMP_", "GOMP_", "MKL_", "OPENBLAS_", "KMP_", "CUDA_", "PYTHON",
    "MALLOC_", "LD_", "NVIDIA_",
)  # fmt: skip
_LAZY = "PYTORCH_NVML_BASED_CUDA_CHECK"  # so that asking whether there is a GPU does not touch it
PRELOADED = (
    "pandas",
    "pyarrow.parquet",
    "sft_magics.engine.jobs.worker",
    "sft_magics.engine.tasks.text_classification",
    "transformers.models.bert.modeling_bert",
    "transformers.models.auto.tokenization_auto",
    "sft_magics.engine.tasks.image_classification",
    "sft_magics.engine.tasks.semantic_segmentation",
    "sft_magics.engine.tasks.object_detection",
    "peft",
)


class Child(Protocol):
    """The process of a fork server."""

    def poll(self) -> int | None:
        """Return None while it lives."""

    def kill(self) -> None:
        """End it."""


class Server:
    """A fork server of this process: `child`, with these variables, at the other end of `line`."""

    def __init__(self, child: Child, line: socket.socket, env: dict[str, str]) -> None:
        self.env = env
        self.early = early(env)
        self.owner = os.getpid()
        self.process = child
        self._line = line
        self._ready = False
        self._busy = threading.Lock()

    @property
    def alive(self) -> bool:
        """Whether the server runs, and is ours: not that of a process this one was forked from."""
        return self.owner == os.getpid() and self.process.poll() is None

    def ready(self) -> bool:
        """Say whether it has imported everything."""
        if not self._ready and select.select([self._line], [], [], 0)[0]:
            self._ready = self._line.recv(len(fork_server.READY)) == fork_server.READY
        return self._ready

    def fork(self, order: bytes, handles: tuple[int, int]) -> int | None:
        """Return the process id of the job it forked, None when it did not answer; then it is ended."""
        gate, opener = os.pipe()
        with self._busy:
            try:
                self._line.settimeout(_ANSWER_SECONDS)
                socket.send_fds(self._line, [order], [*handles, gate])
                pid = int(self._line.recv(32))
                os.write(opener, b"!")
                return pid
            except (OSError, ValueError):
                self.end()
                return None
            except BaseException:  # an interrupt: the answer to come would be taken for the next job's
                self.end()
                raise
            finally:
                os.close(gate)
                os.close(opener)

    def end(self) -> None:
        """End the server; its jobs go on."""
        self._line.close()
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()


class _Fork:
    """A process that was forked from this one."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._status: int | None = None

    def poll(self) -> int | None:
        if self._status is None:
            with contextlib.suppress(ChildProcessError):
                pid, status = os.waitpid(self.pid, os.WNOHANG)
                self._status = status if pid else None
        return self._status

    def kill(self) -> None:
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)


def launch(env: dict[str, str], modules: Sequence[str]) -> Server:
    """Start a fork server that imports `modules`; raises OSError."""
    env = {**env, _LAZY: "1"}
    ours, theirs = socket.socketpair()
    with theirs:
        child = subprocess.Popen(
            fork_server.command(theirs.fileno(), modules), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, start_new_session=True, pass_fds=(theirs.fileno(),), env=env,
        )  # fmt: skip
    threading.Thread(target=child.wait, daemon=True).start()
    return Server(child, ours, env)


def branch() -> Server:
    """Fork a fork server from this process, which was forked itself and has imported everything.

    Only for a process that has one thread and has touched no device.
    """
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        try:
            # Whatever is open here, a lock or a listening socket, is to end with the process that opened it.
            os.closerange(3, theirs.fileno())
            os.closerange(theirs.fileno() + 1, os.sysconf("SC_OPEN_MAX"))
            fork_server.serve(theirs)
        finally:
            os._exit(0)
    theirs.close()
    return Server(_Fork(pid), ours, dict(os.environ))


_server: Server | None = None
_others = 0
_starting = threading.Lock()


def early(env: dict[str, str]) -> dict[str, str]:
    """Return the variables that are read while libraries are imported."""
    return {name: value for name, value in env.items() if name.startswith(_READ_EARLY) and name != _LAZY}


def start(module: str, folder: Path, env: dict[str, str], handles: tuple[int, int]) -> int | None:
    """Fork a job's process; None where there is no server that is ready. The first call lets one get ready."""
    server = _found({**env})
    if server is None or not server.ready():
        return None
    order = fork_server.order(module, str(folder), env)
    return server.fork(order, handles) if len(order) < fork_server.LONGEST else None


def _found(env: dict[str, str]) -> Server | None:
    """Return the server of this process, if it fits; start one where there is none."""
    global _server, _others  # noqa: PLW0603 - one a process, as there is one interpreter
    if sys.platform != "linux" or os.environ.get(_OFF) == "0":
        return None
    with _starting:
        if _server is not None and _server.alive:
            _others = 0 if _server.early == early(env) else _others + 1
            if _others < _OTHERS:
                return None if _others else _server
            _server.end()
        _server, _others = None, 0
        if free_memory.free_memory() >= _LEAST_FREE:
            with contextlib.suppress(OSError):
                _server = launch(env, PRELOADED)
        return _server


def stop() -> None:
    """End the server of this process, if there is one; its jobs go on."""
    global _server  # noqa: PLW0603
    with _starting:
        if _server is not None and _server.owner == os.getpid():
            _server.end()
        _server = None
