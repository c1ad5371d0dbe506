"""The try-it box below an endpoint's card: a text or an image, a button, the answer. It asks through the kernel."""

import importlib.util
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sft_magics.core.records import Endpoint
from sft_magics.core.tasks import CAUSAL_LM, IMAGE_TASKS, TEXT_CLASSIFICATION
from sft_magics.notebook import panels
from sft_magics.notebook.controls import two_lines
from sft_magics.notebook.panels.markup import code, el, muted
from sft_magics.notebook.panels.style import output
from sft_magics.notebook.twins import TwinDisplay
from sft_magics.verbs import VERBS

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

_WIDE = {"width": "min(560px, 100%)"}
_CLOSE = {"description_width": "initial"}  # the label's own, so that it begins where the card does


def offer(shell: "InteractiveShell", endpoint: Endpoint, workspace: Any) -> None:
    """Show the box when the cell is done, so that it stands below the card; not where there are no widgets."""
    if getattr(shell, "kernel", None) is None or importlib.util.find_spec("ipywidgets") is None:
        return

    def ask(asked: str) -> str:
        answers = VERBS["predict"](version=endpoint.name, texts=(asked,), endpoint=True, workspace=workspace)
        return panels.html(answers) or str(answers)

    def show(*_: Any) -> None:
        shell.events.unregister("post_run_cell", show)
        TwinDisplay(_kept(endpoint), try_box(ask, endpoint.task))

    shell.events.register("post_run_cell", show)


def _kept(endpoint: Endpoint) -> dict[str, str]:
    """Return what a page shows where the box has no kernel behind it."""
    asked = "picture.png" if endpoint.task in IMAGE_TASKS else '"a text"'
    line = f"%sft_predict {endpoint.name} {asked} --endpoint"
    why = f"A box to try the endpoint {endpoint.name} stands here while the kernel runs that deployed it."
    drawn = output(el("p", muted(why), " ", code(line)), label="Try it", frame=False)
    return {"text/html": str(drawn), "text/plain": f"{why} {line}"}


def try_box(predict: Callable[[str], str], task: str = TEXT_CLASSIFICATION) -> Any:
    """Return a box that asks a text, or the path of an uploaded image, of `predict` and shows its answer.

    The answer is HTML (`panels.html(predictions)`); an error is shown as two lines.
    """
    import ipywidgets

    answer = ipywidgets.HTML()
    button = ipywidgets.Button(description="Try", tooltip="ask the endpoint", layout={"width": "80px"})

    def show(asked: str) -> None:
        button.disabled = True
        try:
            answer.value = predict(asked)
        except Exception as error:  # noqa: BLE001 - a traceback from a click would land in some other cell
            answer.value = two_lines(error)
        finally:
            button.disabled = False

    asked = _image(show) if task in IMAGE_TASKS else _text(show, button, long=task == CAUSAL_LM)
    row = [asked] if task in IMAGE_TASKS else [asked, button]
    return ipywidgets.VBox([ipywidgets.HBox(row), answer])


def _text(show: Callable[[str], None], button: Any, *, long: bool) -> Any:
    import ipywidgets

    kind = ipywidgets.Textarea if long else ipywidgets.Text
    what = "a question to try" if long else "a text to try"
    asked = kind(placeholder=what, description="Text", continuous_update=False, layout=_WIDE, style=_CLOSE)

    def ask(*_: Any) -> None:
        if asked.value.strip():
            show(asked.value)

    def typed(_: Any, content: dict[str, Any], __: Any) -> None:
        if content.get("event") == "submit":  # the Enter key
            ask()

    button.on_click(ask)
    asked.on_msg(typed)
    return asked


def _image(show: Callable[[str], None]) -> Any:
    """Return a button that takes an image's file from the browser; it is asked at once, and not kept."""
    import ipywidgets

    asked = ipywidgets.FileUpload(accept="image/*", multiple=False, description="Image", layout={"width": "160px"})

    def uploaded(change: dict[str, Any]) -> None:
        if not change["new"]:
            return
        file = change["new"][0]
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / (Path(file["name"]).name or "image")
            path.write_bytes(bytes(file["content"]))
            show(str(path))

    asked.observe(uploaded, names="value")
    return asked
