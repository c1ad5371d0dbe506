"""How a host begins: forked from a zygote that has torch imported, or as a program of its own where it needs no torch.

The zygote is a fork server (`engine.runtime.fork_server`) that belongs to the endpoint and ends with it. Importing
torch takes several seconds, a fork none: a host that is gone is there again in a moment.
"""

import os
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from sft_magics.serving.hosts.lines import MessageChannel

if TYPE_CHECKING:
    from sft_magics.engine.runtime.fork_server_client import Server

_MODULE = "sft_magics.serving.hosts.process"
_IMPORT_SECONDS = 120.0
_LOOK_SECONDS = 0.02
_OUTPUT = 2  # what a host prints goes where the endpoint's own words go


class Starter:
    """Starts the hosts of one endpoint; `zygote` has imported what they need, if there is one already."""

    def __init__(self, task: str, zygote: "Server | None" = None) -> None:
        self._modules = ("sft_magics.engine.inference.predictor", f"sft_magics.engine.tasks.{task.replace('-', '_')}")
        self._zygote = zygote
        self._starting = threading.Lock()

    def start(self, torch: bool) -> MessageChannel:
        """Start a host, with torch imported or not; return the line to it."""
        ours, theirs = socket.socketpair()
        with theirs:
            if not torch or not self._forked(theirs):
                _spawned(theirs)
        return MessageChannel(ours.detach())

    def end(self) -> None:
        """End the zygote; hosts end by themselves when the lines to them are closed."""
        if self._zygote is not None:
            self._zygote.end()

    def _forked(self, theirs: socket.socket) -> bool:
        from sft_magics.engine.runtime import fork_server

        zygote = self._ready_zygote()
        if zygote is None:
            return False
        order = fork_server.order(_MODULE, "-", dict(os.environ))
        return zygote.fork(order, (theirs.fileno(), _OUTPUT)) is not None

    def _ready_zygote(self) -> "Server | None":
        """Return the zygote when it has imported everything; None where there cannot be one."""
        if sys.platform != "linux":
            return None
        from sft_magics.engine.runtime import fork_server_client

        with self._starting:  # loaders are threads beside each other
            if self._zygote is None or not self._zygote.alive:
                self._zygote = fork_server_client.launch(dict(os.environ), self._modules)
            end = time.monotonic() + _IMPORT_SECONDS
            while not self._zygote.ready():
                if not self._zygote.alive or time.monotonic() > end:
                    return None
                time.sleep(_LOOK_SECONDS)
            return self._zygote


def _spawned(theirs: socket.socket) -> None:
    handle = theirs.fileno()
    child = subprocess.Popen(
        [sys.executable, "-m", _MODULE, "-", str(handle)],
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        pass_fds=(handle,),
    )
    threading.Thread(target=child.wait, daemon=True).start()  # reaped whenever it ends


def is_gone(line: MessageChannel) -> bool:
    """Say whether the other end of a line is closed; nothing is read."""
    poll = select.poll()
    poll.register(line.fileno(), select.POLLRDHUP if hasattr(select, "POLLRDHUP") else 0)
    return bool(poll.poll(0))


Start = Callable[[bool], MessageChannel]
