"""A widget with a plain twin: where the widget does not live, the page and the saved file show the twin.

A widget is only a number in a saved notebook. After a restart of the kernel, in nbconvert, papermill or on GitHub there
is nothing behind it. So each widget of ours stands below an output of plain HTML and text that says the same. A style
sheet hides the twin as long as the widget is connected to its kernel, and hides the widget when it is not.
"""

import uuid
from typing import Any

from sft_magics.notebook.panels.markup import Safe, el, join

WIDGET = "application/vnd.jupyter.widget-view+json"
# What stands where a widget was: nothing to see in any front end.
_GONE = {"text/html": str(el("span", class_="sft-gone")), "text/plain": ""}
_LIVES = "body:has(.sft-live-ID:not(.jupyter-widgets-disconnected))"
_CHILD = ".jp-OutputArea-child"
_LOST = f"{_CHILD}:has(.sft-twin-ID)+{_CHILD}:not(:has(.jupyter-widgets *))"
_HIDDEN = (
    f"{_LIVES} .sft-twin-ID",
    f"{_LIVES} {_CHILD}:has(.sft-twin-ID)",
    ".sft-live-ID.jupyter-widgets-disconnected",
    _LOST,  # the words of a front end that still looks for the widget's model, or does not find it
)
# A rule each: a front end drops the whole of a rule that it does not understand.
_SHEET = "".join(f"{selector}{{display:none!important}}" for selector in _HIDDEN)


class TwinDisplay:
    """Two outputs of a cell: a twin of plain HTML and text, and the widget that is shown instead while it lives.

    Without a widget the twin alone is shown and updated.
    """

    def __init__(self, twin: dict[str, str], widget: Any | None = None) -> None:
        self._id = uuid.uuid4().hex
        self._widget = widget
        self._publish("twin", self._marked(twin), update=False)
        if widget is not None:
            widget.add_class(f"sft-live-{self._id}")
            model = {"version_major": 2, "version_minor": 0, "model_id": widget.model_id}
            self._publish("widget", {WIDGET: model, **_GONE}, update=False)

    def update(self, twin: dict[str, str]) -> None:
        """Replace the twin."""
        self._publish("twin", self._marked(twin), update=True)

    def settle(self, last: dict[str, str]) -> None:
        """Leave `last` for good, and no widget.

        The widget itself lives on: a page that was reloaded gets no more updates of outputs, and has only the widget.
        """
        self._publish("twin", last, update=True)
        if self._widget is not None:
            self._publish("widget", _GONE, update=True)

    def _marked(self, twin: dict[str, str]) -> dict[str, str]:
        if self._widget is None or "text/html" not in twin:
            return twin
        sheet = Safe(f"<style>{_SHEET.replace('ID', self._id)}</style>")
        drawn = el("div", Safe(twin["text/html"]), class_=f"sft-twin-{self._id}")
        return {**twin, "text/html": str(join(sheet, drawn))}

    def _publish(self, part: str, shown: dict[str, Any], *, update: bool) -> None:
        from IPython.display import publish_display_data

        publish_display_data(shown, {}, transient={"display_id": f"{part}-{self._id}"}, update=update)
