"""Load and unload: `%load_ext sft_magics` registers magics, completion and displays, and takes them out again."""

from typing import TYPE_CHECKING

from sft_magics.core import observer
from sft_magics.core.signatures import magic_name
from sft_magics.notebook import display
from sft_magics.notebook.completion import complete
from sft_magics.notebook.jobs import NotebookAudience
from sft_magics.notebook.magics import VerbMagic
from sft_magics.verbs import VERBS

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

_CELL_VERBS = ("finetune", "predict", "create", "retrain")


def load(shell: "InteractiveShell") -> None:
    """Register everything with this shell; loading twice is harmless."""
    watcher = NotebookAudience()
    magics = shell.magics_manager
    for verb in VERBS.values():
        kind = "line_cell" if verb.name in _CELL_VERBS else "line"
        magics.register_function(VerbMagic(shell, verb, watcher), kind, magic_name(verb.name)[1:])
    display.install(shell, watcher.has_shown)
    # Plain calls in a notebook (sft.finetune(...)) get the same panels.
    observer.set_session(watcher)
    if complete not in shell.Completer.custom_matchers:
        shell.Completer.custom_matchers.append(complete)


def unload(shell: "InteractiveShell") -> None:
    """Take the magics and the completion out; the displays of what was returned before stay."""
    for verb in VERBS.values():
        name = magic_name(verb.name)[1:]
        for kind in ("line", "cell"):
            shell.magics_manager.magics[kind].pop(name, None)
    observer.set_session(observer.NullObserver())
    if complete in shell.Completer.custom_matchers:
        shell.Completer.custom_matchers.remove(complete)
