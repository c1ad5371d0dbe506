"""A front end without a screen, and runs that a test plays."""

import itertools
import os
import queue
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jupyter_client.blocking import BlockingKernelClient
from jupyter_client.manager import start_new_kernel

from sft_magics.core import events as ev
from sft_magics.core.jobs import JobFolder

ROOT = Path(__file__).resolve().parents[2]


WIDGET = "application/vnd.jupyter.widget-view+json"


SETUP = """
import time
from sft_magics.core import observer, records
from sft_magics.core.jobs import JobFolder
from sft_magics.core.views import JobView, LossView
from sft_magics.notebook import display, jobs, panels, trying
from tests.notebook import panel_samples as samples
display.install(get_ipython())
watcher = jobs.NotebookAudience()
"""


_ids = itertools.count(1)


class Front:
    """A front end without a screen."""

    def __init__(self, client: BlockingKernelClient) -> None:
        self.client = client
        self.heard: list[dict[str, Any]] = []

    def run(self, source: str) -> list[dict[str, Any]]:
        """Run a cell and return the messages of its outputs."""
        began = len(self.heard)
        sent = self.client.execute(textwrap.dedent(source))
        self.until(
            lambda m: m["msg_type"] == "status" and m["content"]["execution_state"] == "idle" and m["of"] == sent
        )
        mine = [m for m in self.heard[began:] if m["of"] == sent]
        failed = [m["content"] for m in mine if m["msg_type"] == "error"]
        assert failed == []
        return mine

    def until(self, wanted: Callable[[dict[str, Any]], bool], seconds: float = 20) -> dict[str, Any]:
        """Listen until a message that is `wanted`."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                message = self.client.get_iopub_msg(timeout=0.2)
            except queue.Empty:
                continue
            message["of"] = message["parent_header"].get("msg_id")
            message["heard"] = time.monotonic()
            self.heard.append(message)
            if wanted(message):
                return message
        raise AssertionError("the kernel did not say it in time")

    def value(self, expression: str) -> str:
        """Return the plain text of an expression."""
        return next(m for m in self.run(expression) if m["msg_type"] == "execute_result")["content"]["data"][
            "text/plain"
        ]


def start_front() -> tuple[Front, Any]:
    manager, client = start_new_kernel(cwd=str(ROOT), env={**os.environ, "IPYTHONDIR": os.devnull})
    front = Front(client)
    front.run(SETUP)
    return front, manager


class Writer:
    """A run that this test plays: it lives as long as it holds the lock."""

    def __init__(self, folder: Path) -> None:
        self.job = JobFolder(folder / f"run-{next(_ids):04x}").create({"model": "reviews"})
        self._lock = self.job.claim()
        self._events = ev.EventWriter(self.job.events)

    def say(self, said: list[ev.Event]) -> None:
        for event in said:
            self._events.write(event)

    def live(self) -> None:
        self._lock = self.job.claim()

    def die(self) -> None:
        assert self._lock is not None
        os.close(self._lock)


def start_panel(front: Front, writer: Writer, more: str = "") -> list[dict[str, Any]]:
    return front.run(f"""
        job = JobFolder(__import__("pathlib").Path({str(writer.job.path)!r}))
        lose = lambda view: view.lose("The process is gone.", "%sft_finetune --resume " + view.job)
        panel = jobs.BackgroundPanel(
            job, LossView(job.id, model="reviews"), stop=lambda: job.tell({{"do": "stop"}}), lost=lose{more})
        panel.start()
    """)


def shown(messages: list[dict[str, Any]], kind: str = "display_data") -> list[dict[str, Any]]:
    return [m["content"] for m in messages if m["msg_type"] == kind]


def settled(message: dict[str, Any]) -> bool:
    """Whether it is the last picture: one that says of no time, as nothing more can come."""
    return message["msg_type"] == "update_display_data" and "As of " not in message["content"]["data"]["text/plain"]


def model_of(displays: list[dict[str, Any]]) -> str:
    """The widget that stands below its twin."""
    twin, widget = displays
    assert set(twin["data"]) == {"text/html", "text/plain"}
    assert "As of " in twin["data"]["text/plain"]
    assert widget["data"]["text/plain"] == "", "a front end without widgets shows the twin alone"
    model: str = widget["data"][WIDGET]["model_id"]
    return model
