"""What a cell shows of a record: its panel where the front end takes HTML, and the same in plain text."""

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sft_magics.core.records import Run
from sft_magics.notebook import panels

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell
    from IPython.lib.pretty import RepresentationPrinter

_log = logging.getLogger(__name__)


def install(shell: "InteractiveShell", has_shown: Callable[[str], bool] = lambda _: False) -> None:
    """Register the HTML and plain text of every record type with `shell`; twice is harmless.

    `has_shown` says whether the cell that runs now shows the panel of a job: its run is one line there.
    """
    if shell.display_formatter is None:
        return
    formatters = shell.display_formatter.formatters
    for kind in panels.RECORDS:
        formatters["text/html"].for_type(kind, html)
        formatters["text/plain"].for_type(kind, _plain)
    formatters["text/html"].for_type(Run, lambda run: html(run, brief=has_shown(run.id)))


def show(thing: object) -> None:
    """Display a record or view right here, as HTML with its text twin."""
    from IPython.display import display

    display(bundle(thing), raw=True)


def bundle(thing: object, **options: Any) -> dict[str, str]:
    """Return a record or view as a display bundle: text/plain, and text/html where there is a panel.

    `options` are those of `panels.html`.
    """
    plain = {"text/plain": panels.text(thing, dated=bool(options.get("dated")))}
    drawn = html(thing, **options)
    return plain if drawn is None else {"text/html": drawn, **plain}


def html(thing: object, **options: Any) -> str | None:
    """Return the panel as HTML, or None: a panel that fails leaves the text twin."""
    try:
        drawn = panels.html(thing, **options)
    except Exception:  # noqa: BLE001 - whatever is wrong with a picture, the text says the same
        _log.debug("the panel of %s failed; its text is shown", type(thing).__name__, exc_info=True)
        return None
    return None if drawn is None else str(drawn)


def _plain(thing: object, printer: "RepresentationPrinter", _: bool) -> None:
    printer.text(panels.text(thing))
