"""A job done in this process, where a machine is too small for a second one."""

import time

from sft_magics.core import observer
from sft_magics.core.events import Event, EventReader
from sft_magics.core.jobs import JobFolder
from sft_magics.core.views import JobView
from sft_magics.lifecycle.jobs import worker


def launch(job: JobFolder, view: JobView) -> None:
    """Do the job in this process (small machines), showing `view` as it goes."""
    from sft_magics.engine.runtime import launchers

    reader = EventReader(job.events)
    watcher = observer.current()
    shown = 0.0

    def hear(name: str, event: Event) -> None:
        observer.quietly(watcher.hear, name, event)

    def listen() -> None:
        nonlocal shown
        observer.catch_up(view, reader, hear)
        if time.monotonic() - shown >= observer.REDRAW_SECONDS:
            shown = time.monotonic()
            observer.quietly(watcher.show, view)

    launchers.inline(job, lambda path: worker.carry_out(JobFolder(path), listen))
    observer.catch_up(view, reader, hear)
    observer.quietly(watcher.show, view)
