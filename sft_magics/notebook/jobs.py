"""Live panels of jobs: in the cell that waits for one, and of a run that goes on in the background.

A run's panel is an `ipywidgets.HTML` whose value is replaced, where ipywidgets is there, and a plain output that is
updated in place. The plain output is what a saved notebook shows: as long as the job goes on it says of what time it
is. No redraw comes sooner than a quarter of a second after the last one, and nothing is ever printed from a thread.
"""

import contextvars
import importlib.util
import logging
import sys
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sft_magics.core.events import Event, EventReader
from sft_magics.core.jobs import JobFolder
from sft_magics.core.observer import REDRAW_SECONDS, Companion, catch_up, follow
from sft_magics.core.views import JobView, LossView
from sft_magics.notebook import panels
from sft_magics.notebook.controls import Act, RunControls
from sft_magics.notebook.display import bundle, html, show
from sft_magics.notebook.twins import TwinDisplay

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

_TERMINAL_SECONDS = 10.0
_QUIET_REDRAW_SECONDS = 5.0
_SHARE_OF_A_CORE = 0.01
_RESTING_SECONDS = 1.0
_TWIN_SECONDS = 10.0
_BIRTH_SECONDS = 20.0
_log = logging.getLogger(__name__)


class NotebookAudience:
    """The audience of a notebook: a live panel a job, in the cell that waits; a line now and then in a terminal."""

    def __init__(self) -> None:
        self._panels: dict[str, LivePanel] = {}
        self._cell: object = None
        self._said: dict[str, float] = {}
        self._shown: set[str] = set()
        self.face = "IPython in a terminal: panels are text"
        if _has_kernel(_shell()):
            self.face = "Jupyter kernel, live panels " + ("by ipywidgets" if _has_widgets() else "without ipywidgets")

    def hear(self, job: str, event: Event) -> None:
        """Do nothing: `show` draws what the event did to the view."""

    def show(self, view: JobView) -> None:
        """Draw the newest state of a job; the last drawing, when it has ended, is static."""
        shell = _shell()
        if not _has_kernel(shell):
            self._tell(view)
            return
        self._enter(_cell_of(shell))
        self._shown.add(view.job)
        panel = self._panels.get(view.job)
        if panel is None:
            panel = self._panels[view.job] = LivePanel(view, blocking=True)
        if view.active:
            panel.redraw(view)
        else:
            del self._panels[view.job]
            panel.settle(view)

    def has_shown(self, job: str) -> bool:
        """Whether the cell that runs now shows the panel of a job."""
        return job in self._shown and self._cell == _cell_of(_shell())

    def _enter(self, cell: object) -> None:
        if cell != self._cell:  # a job that goes on in another cell gets a panel there
            self._cell = cell
            self._panels.clear()
            self._shown.clear()

    def stay(self, job: JobFolder, view: JobView, companion: Companion, wait: bool) -> None:
        """Leave a live panel that follows the job from a thread; in a terminal follow it here if `wait`."""
        if _has_kernel(_shell()):
            self._enter(_cell_of(_shell()))
            self._shown.add(view.job)
            BackgroundPanel(
                job, view, stop=companion.stop, lost=companion.lost, pause=companion.pause, resume=companion.resume
            ).start()
        elif wait:
            follow(job, view, companion.lost)

    def _tell(self, view: JobView) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        now = time.monotonic()
        if view.active and now - self._said.setdefault(view.job, now) < _TERMINAL_SECONDS:
            return
        self._said[view.job] = now
        if not view.active:
            del self._said[view.job]
        sys.stdout.write(panels.text(view) + "\n")
        sys.stdout.flush()


class LivePanel:
    """One view in a cell as it changes, and then for good.

    A run has a widget, which a reloaded page finds again, and a plain twin that says of what time it is. A short job
    has the plain picture alone.
    """

    def __init__(self, view: JobView, *, blocking: bool = False, controls: Callable[[], Any] | None = None) -> None:
        self._options = {"blocking": blocking, "hint": _hint(view, blocking)}
        self._state = view.state
        self._widget: Any = None
        self._box: Any = None
        if _has_widgets() and isinstance(view, LossView):
            import ipywidgets

            self._widget = ipywidgets.HTML(html(view, **self._options) or "")
            self._box = ipywidgets.VBox([self._widget, *([controls()] if controls is not None else [])])
        self._display = TwinDisplay(self._twin(view), self._box)
        self._drawn = self._kept = time.monotonic()

    def redraw(self, view: JobView) -> None:
        """Show the view as it is now, unless the last drawing is fresh."""
        if time.monotonic() - self._drawn < REDRAW_SECONDS:
            return
        self._drawn = time.monotonic()
        if self._widget is not None:
            self._widget.value = html(view, **self._options) or ""
        if self._widget is None or view.state != self._state or self._drawn - self._kept > _TWIN_SECONDS:
            self.keep(view)

    def keep(self, view: JobView) -> None:
        """Show the view as it is now, in the saved notebook too."""
        if self._widget is not None:
            self._widget.value = html(view, **self._options) or ""
        self._display.update(self._twin(view))
        self._kept, self._state = time.monotonic(), view.state

    def settle(self, view: JobView) -> None:
        """Leave the view as plain HTML and text; a page that was reloaded finds the same picture in the widget."""
        last = bundle(view)
        if self._widget is not None:
            self._widget.value = last.get("text/html", "")
            self._box.children = (self._widget,)
        self._display.settle(last)

    def _twin(self, view: JobView) -> dict[str, str]:
        options = self._options if self._widget is None else {}
        return bundle(view, dated=True, **options)


class BackgroundPanel:
    """The panel of a run that goes on by itself: a daemon thread follows its events, buttons stop and pause it.

    `lost` marks the view when the run's process is gone; `stop` and `pause` ask the run to checkpoint and end, and of a
    paused run the panel waits for it to go on. `start` returns at once. The thread rests a hundred times as long as a
    drawing took, so it costs about a hundredth of a core.
    """

    def __init__(
        self,
        job: JobFolder,
        view: JobView,
        *,
        stop: Act | None,
        lost: Callable[[JobView], None],
        pause: Act | None = None,
        resume: Act | None = None,
    ) -> None:
        self._job = job
        self._view = view
        self._acts = {"stop": stop, "pause": pause, "resume": resume}
        self._lost = lost
        self._controls: RunControls | None = None
        self._reader = EventReader(job.events)
        self.thread: threading.Thread | None = None

    def start(self) -> None:
        """Show the run as it is now and, if it is not over, begin to follow it."""
        self._look()
        if not self._lives():
            show(self._view)
            return
        panel = LivePanel(self._view, controls=self._buttons if self._acts["stop"] is not None else None)
        # The thread keeps the context of this cell, so what it sends belongs to this cell.
        context = contextvars.copy_context()
        self.thread = threading.Thread(
            target=context.run, args=(self._follow, panel), name=f"panel of {self._job.id}", daemon=True
        )
        self.thread.start()

    def _buttons(self) -> Any:
        self._controls = RunControls(self._job.id, **self._acts)
        self._controls.suit(self._view.state)
        return self._controls.box

    def _lives(self) -> bool:
        """Say whether more can come: of a run that rests, if there is a button that takes it up."""
        resting = self._view.state == "paused" and self._acts["resume"] is not None and _has_widgets()
        return self._view.active or resting

    def _look(self) -> bool:
        """Fold what is new; return whether anything was. A process that is gone has written all it will."""
        alive = self._job.alive()
        changed = catch_up(self._view, self._reader)
        if self._view.active and not alive and not self._about_to_live():
            self._lost(self._view)
            return True
        return changed

    def _about_to_live(self) -> bool:
        """Say whether the run was just taken up again: that is written before its process is there."""
        heard = self._view.heard_at
        return self._view.state == "waiting" and heard is not None and time.time() - heard < _BIRTH_SECONDS

    def _follow(self, panel: LivePanel) -> None:
        drawn = time.monotonic()
        rest = REDRAW_SECONDS
        fresh = False
        while self._lives():
            time.sleep(rest if self._view.active else _RESTING_SECONDS)
            began = time.thread_time()
            fresh = self._attempt(self._look) or fresh
            self._attempt(lambda: self._suit(panel))
            quiet = time.monotonic() - drawn > _QUIET_REDRAW_SECONDS
            if fresh or (quiet and self._view.active):
                self._attempt(lambda: panel.redraw(self._view))
                drawn, fresh = time.monotonic(), False
            rest = max(REDRAW_SECONDS, (time.thread_time() - began) / _SHARE_OF_A_CORE)
        self._attempt(lambda: panel.settle(self._view))

    def _suit(self, panel: LivePanel) -> None:
        if self._controls is not None and self._controls.suit(self._view.state) and self._view.state == "paused":
            panel.keep(self._view)

    def _attempt(self, do: Callable[[], Any]) -> Any:
        try:
            return do()
        except Exception:  # noqa: BLE001 - a kernel that shuts down, a disk that hiccups: the next look may succeed
            # Not louder: what a thread writes lands in some other cell.
            _log.debug("the panel of %s could not be redrawn", self._job.id, exc_info=True)
            return None


def _hint(view: JobView, blocking: bool) -> str:
    """Return how to stop a background run where there is no button."""
    if blocking or _has_widgets():
        return ""
    return f"%sft_watch {view.job} shows it again, %sft_stop {view.job} stops it."


def _shell() -> "InteractiveShell | None":
    from IPython.core.getipython import get_ipython

    return get_ipython()


def _has_kernel(shell: "InteractiveShell | None") -> bool:
    return getattr(shell, "kernel", None) is not None


def _has_widgets() -> bool:
    return _has_kernel(_shell()) and importlib.util.find_spec("ipywidgets") is not None


def _cell_of(shell: Any) -> object:
    """Return what tells one cell's execution from another's."""
    parent = shell.get_parent() if hasattr(shell, "get_parent") else {}
    return parent.get("header", {}).get("msg_id") or shell.execution_count
