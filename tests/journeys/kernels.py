"""A real kernel that a test talks to: run a cell, look at its outputs, interrupt it, kill it."""

import os
import queue
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jupyter_client.manager import KernelManager


@dataclass
class Outcome:
    """What a cell left behind: display bundles by order, streams, and its error, if it ended in one."""

    bundles: list[dict[str, Any]] = field(default_factory=list)
    stream: str = ""
    error: dict[str, Any] | None = None

    @property
    def plain(self) -> str:
        """All plain text of the cell, joined."""
        return "\n".join([*(str(b.get("text/plain", "")) for b in self.bundles), self.stream])

    @property
    def html(self) -> str:
        """All HTML of the cell, joined."""
        return "\n".join(str(b.get("text/html", "")) for b in self.bundles)

    @property
    def lines(self) -> list[str]:
        """The error as a reader of the notebook sees it, without colors."""
        import re

        assert self.error is not None, f"the cell did not fail: {self.plain}"
        return [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in self.error["traceback"]]


class Kernel:
    """One kernel in `folder` with its workspace in `home`."""

    def __init__(self, folder: Path, home: Path, load: bool = True) -> None:
        env = {**os.environ, "SFT_HOME": str(home), "IPYTHONDIR": str(folder / ".ipython")}
        self.manager = KernelManager(kernel_name="python3")
        self.manager.start_kernel(cwd=str(folder), env=env)
        self.client = self.manager.client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=60)
        if load:
            self.run("%load_ext sft_magics")

    @property
    def pid(self) -> int:
        """The kernel's process id."""
        pid = self.manager.provisioner.pid  # type: ignore[union-attr]
        return int(pid)

    def run(self, code: str, seconds: float = 600.0) -> Outcome:
        """Run a cell and return what it left."""
        return self.collect(self.client.execute(code), seconds)

    def collect(self, request: str, seconds: float = 600.0) -> Outcome:
        """Wait for the cell of `request` to end and return what it left; updates of displays replace them."""
        outcome = Outcome()
        shown: dict[str, int] = {}
        deadline = time.monotonic() + seconds
        while True:
            try:
                message = self.client.get_iopub_msg(timeout=max(0.1, deadline - time.monotonic()))
            except queue.Empty:
                raise TimeoutError(f"the cell did not end within {seconds} s; so far: {outcome.plain}") from None
            if message["parent_header"].get("msg_id") != request:
                continue
            content = message["content"]
            if message["msg_type"] == "status" and content["execution_state"] == "idle":
                return outcome
            self._take(outcome, shown, message["msg_type"], content)

    @staticmethod
    def _take(outcome: Outcome, shown: dict[str, int], kind: str, content: dict[str, Any]) -> None:
        if kind in ("display_data", "execute_result"):
            name = content.get("transient", {}).get("display_id")
            if name:
                shown[name] = len(outcome.bundles)
            outcome.bundles.append(content["data"])
        elif kind == "update_display_data":
            name = content["transient"]["display_id"]
            if name in shown:
                outcome.bundles[shown[name]] = content["data"]
        elif kind == "stream":
            outcome.stream += content["text"]
        elif kind == "error":
            outcome.error = content

    def interrupt(self) -> None:
        """Do what the stop button of a notebook does."""
        self.manager.interrupt_kernel()

    def close(self) -> None:
        """End the kernel."""
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)
