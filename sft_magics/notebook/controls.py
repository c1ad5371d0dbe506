"""The buttons beside the panel of a run that goes on by itself: Stop and Pause while it works, Resume when it rests."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sft_magics.core.errors import SftError
from sft_magics.notebook.panels.markup import el, join

if TYPE_CHECKING:
    import ipywidgets

Act = Callable[[], None]


class RunControls:
    """A row of buttons and what they say; an act that is None has no button."""

    def __init__(self, job: str, *, stop: Act | None, pause: Act | None, resume: Act | None) -> None:
        import ipywidgets

        self._note = ipywidgets.HTML()
        working = [
            ("Stop", f"checkpoint, then end {job}", stop, "stopping after this step; it checkpoints first"),
            ("Pause", f"checkpoint, then let {job} rest", pause, "pausing after this step; it checkpoints first"),
        ]
        self._working = [self._button(*row) for row in working if row[2] is not None]
        resting = ("Resume", f"go on with {job}", resume, "going on from its newest checkpoint")
        self._resting = [self._button(*resting)] if resume is not None else []
        self.box = ipywidgets.HBox([*self._working, self._note])
        self._paused = False

    def suit(self, state: str) -> bool:
        """Show the buttons of a run in this state; return whether they are others than before."""
        if (state == "paused") == self._paused:
            return False
        self._paused = state == "paused"
        buttons = self._resting if self._paused else self._working
        for button in buttons:
            button.disabled = False
        self._note.value = ""
        self.box.children = (*buttons, self._note)
        return True

    def _button(self, word: str, tip: str, act: Act | None, said: str) -> "ipywidgets.Button":
        import ipywidgets

        # No icon: its glyph would be part of the name a screen reader speaks.
        button = ipywidgets.Button(description=word, tooltip=tip, layout={"width": "80px"})

        def clicked(_: Any) -> None:
            button.disabled = True
            try:
                if act is not None:
                    act()
            except Exception as error:  # noqa: BLE001 - a traceback from a click would land in some other cell
                button.disabled = False
                self._note.value = two_lines(error)
            else:
                self._note.value = said

        button.on_click(clicked)
        return button


def two_lines(error: Exception) -> str:
    """Return an error as two escaped lines: what happened, and what to type next."""
    if isinstance(error, SftError):
        return join(el("div", error.what), el("div", f"Next: {error.next_step}"))
    what = f"That failed ({type(error).__name__}: {error})."
    return join(el("div", what), el("div", "Next: type %sft_doctor to see what is wrong."))
