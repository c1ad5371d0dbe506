"""A process that has imported what jobs need and becomes one in a moment.

It is started as `python -m sft_magics.engine.runtime.fork_server`.

Importing torch and transformers takes several seconds; a fork of a process that has done so takes milliseconds. It is
started beside the first job of a notebook, has touched no device and started no thread of its own, and ends with the
process that started it, or when it has had nothing to do for a while. What it forks outlives it.

Orders come over a socket that it inherits: a line of JSON, with the job's life lock, its log and a gate as file
descriptors. The answer is the job's process id. The job begins when a byte comes through the gate, and never if that is
closed: an answer that comes too late must not make two processes of one job.
"""

import contextlib
import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

READY = b"ready\n"
LONGEST = 1 << 20  # bytes of an order
_IDLE_SECONDS = 900.0


def main() -> None:
    """Import what is named on the command line, then fork a job for each order until the other end is gone."""
    gc.disable()  # of what is imported nothing goes again, and looking for it takes a tenth of the time
    for module in sys.argv[2:]:
        with contextlib.suppress(ImportError):
            importlib.import_module(module)
    serve(socket.socket(fileno=int(sys.argv[1])))


def serve(line: socket.socket) -> None:
    """Fork a job for each order until the other end is gone; returns in the server then, and in each job at its end."""
    signal.signal(signal.SIGCHLD, lambda *_: _reaped() and None)
    gc.enable()
    gc.collect()
    gc.freeze()  # what is there stays shared with every child
    order = _serve(line)
    if order is not None:
        _become(order)


def _serve(line: socket.socket) -> dict[str, Any] | None:
    """Answer orders; returns None in the server when it shall end, and in each child its order."""
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        line.sendall(READY)
        while _waited(line):
            text, handles, _, _ = socket.recv_fds(line, LONGEST, 3)
            if not text:
                return None
            while not text.endswith(b"\n"):
                text += line.recv(LONGEST)
            pid = os.fork()
            if pid == 0:
                line.close()
                return {**json.loads(text), "handles": handles}
            for handle in handles:
                os.close(handle)
            line.sendall(b"%d\n" % pid)
    return None


def _waited(line: socket.socket) -> bool:
    """Wait for an order; False after a long time without one, and without a child that lives."""
    while True:
        found, _, _ = select.select([line], [], [], _IDLE_SECONDS)
        children = _reaped()
        if found:
            return True
        if not children:
            return False


def _reaped() -> bool:
    """Take leave of children that have ended; say whether others live."""
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return False
        if pid == 0:
            return True


def _become(order: dict[str, Any]) -> None:
    """Turn this fork into the job's process, and carry it out."""
    os.setsid()
    lock, log, gate = order["handles"]
    if not os.read(gate, 1):  # whoever asked has given up on us, and starts the job another way
        os._exit(0)
    os.close(gate)
    os.set_inheritable(lock, False)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    os.close(nothing)
    os.close(log)
    os.environ.clear()
    os.environ.update(order["env"])
    with contextlib.suppress(OSError):
        os.chdir(order["cwd"])
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL if number != signal.SIGINT else signal.default_int_handler)
    sys.argv = [order["module"], order["folder"], str(lock)]
    importlib.import_module(order["module"]).main()


def order(module: str, folder: str, env: dict[str, str]) -> bytes:
    """Return an order as it goes over the socket."""
    said = {"module": module, "folder": folder, "env": env, "cwd": str(Path.cwd())}
    return json.dumps(said).encode() + b"\n"


def command(handle: int, modules: Sequence[str]) -> list[str]:
    """Return the command line of a server that hears at a file descriptor."""
    return [sys.executable, "-m", "sft_magics.engine.runtime.fork_server", str(handle), *modules]


if __name__ == "__main__":
    main()
