"""The try-it box below a deployed endpoint's card: a text, a button, the answer. It asks through the kernel."""

import importlib.util
from typing import TYPE_CHECKING, Any

from sft_magics.core.records import Endpoint
from sft_magics.notebook import panels
from sft_magics.notebook.jobs import try_box
from sft_magics.verbs import VERBS

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell


def offer(shell: "InteractiveShell", endpoint: Endpoint, workspace: Any) -> None:
    """Show the box when the cell is done, so that it stands below the card; not where there are no widgets."""
    if getattr(shell, "kernel", None) is None or importlib.util.find_spec("ipywidgets") is None:
        return

    def ask(text: str) -> str:
        answers = VERBS["predict"](version=endpoint.name, texts=(text,), endpoint=True, workspace=workspace)
        return panels.html(answers) or str(answers)

    def show(*_: Any) -> None:
        from IPython.display import display

        shell.events.unregister("post_run_cell", show)
        display(try_box(ask))

    shell.events.register("post_run_cell", show)
