"""Drive a real JupyterLab in headless Chromium: commands by id, outputs from the notebook's model, widgets by role."""

import contextlib
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page

ROOT = Path(__file__).resolve().parents[2]
PICTURES = ROOT / "build" / "screenshots"

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
]
CURRENT = "window.jupyterapp.shell.currentWidget"


def chromium() -> str:
    """The browser: CHROMIUM, else the first on the PATH."""
    found = os.environ.get("CHROMIUM") or next(
        (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
    )
    assert found, "The browser tests need Chromium: apt-get install chromium, or set CHROMIUM."
    return found


@dataclass(frozen=True)
class Lab:
    """A running JupyterLab on loopback, serving `root`."""

    url: str
    token: str
    root: Path


@contextlib.contextmanager
def lab(root: Path, theme: str = "JupyterLab Light") -> Iterator[Lab]:
    """Start JupyterLab on `root` with settings of its own, and end it with its kernels."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    token, home = secrets.token_hex(8), root / ".home"
    for plugin, text in (
        ("notification", '{"fetchNews": "false", "checkForUpdates": false}'),
        ("themes", f'{{"theme": "{theme}"}}'),
    ):
        folder = home / "settings/@jupyterlab/apputils-extension"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{plugin}.jupyterlab-settings").write_text(text)
    env = {
        **os.environ,
        **{f"JUPYTER_{name}_DIR": str(home / name.lower()) for name in ("CONFIG", "DATA", "RUNTIME")},
        "JUPYTERLAB_SETTINGS_DIR": str(home / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(home / "workspaces"),
        "IPYTHONDIR": str(home / "ipython"),
        "SFT_HOME": str(root / ".sft"),
    }
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--ip=127.0.0.1", f"--port={port}", "--allow-root"]
    command += [f"--IdentityProvider.token={token}", f"--ServerApp.root_dir={root}", "--ServerApp.port_retries=0"]
    with (root / "lab.log").open("w") as log:
        server = subprocess.Popen(
            [*command, "--LabApp.expose_app_in_browser=True"],
            env=env, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    try:
        _wait(server, f"{url}/api/status?token={token}", root / "lab.log")
        yield Lab(url, token, root)
    finally:
        server.terminate()
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)


def _wait(server: "subprocess.Popen[bytes]", address: str, log: Path) -> None:
    deadline = time.monotonic() + 90
    while True:
        try:
            with urllib.request.urlopen(address, timeout=2):
                return
        except (urllib.error.URLError, OSError):
            assert server.poll() is None, log.read_text()[-2000:]
            assert time.monotonic() < deadline, "JupyterLab did not come up"
            time.sleep(0.2)


def open_notebook(page: Page, server: Lab, name: str) -> None:
    """Open one notebook, alone, and wait for its kernel."""
    page.goto(f"{server.url}/doc/tree/{name}?token={server.token}")
    ready(page)


def ready(page: Page) -> None:
    """Wait until the notebook and its kernel are there."""
    page.wait_for_function("() => window.jupyterapp?.shell?.currentWidget?.sessionContext", timeout=90_000)
    page.evaluate(
        f"async () => {{ const p = {CURRENT}; await p.context.ready; await p.sessionContext.ready;"
        " await p.sessionContext.session?.kernel?.info; }"
    )


def run_cell(page: Page, index: int) -> None:
    """Run one cell and wait for its end."""
    page.evaluate(
        f"i => {{ const nb = {CURRENT}.content; nb.deselectAll(); nb.activeCellIndex = i;"
        " return window.jupyterapp.commands.execute('notebook:run-cell'); }",
        index,
    )


def begin_all(page: Page) -> None:
    """Begin Run All, without waiting."""
    page.evaluate("() => { window.done = null; window.jupyterapp.commands.execute('notebook:run-all-cells')"
                  ".then(() => { window.done = true; }, () => { window.done = true; }); return null; }")  # fmt: skip


def all_done(page: Page) -> bool:
    """Whether Run All has ended."""
    return bool(page.evaluate("() => window.done"))


def outputs(page: Page, index: int) -> list[dict[str, Any]]:
    """The outputs of a cell as the notebook would save them."""
    found: list[dict[str, Any]] = page.evaluate(
        f"i => {CURRENT}.content.widgets[i].model.toJSON().outputs ?? []", index
    )
    return found


def cells(page: Page) -> int:
    """How many cells the notebook has."""
    return int(page.evaluate(f"() => {CURRENT}.content.widgets.length"))


def show_cell(page: Page, index: int) -> None:
    """Scroll a cell's output into view."""
    page.evaluate(
        f"async i => {{ const nb = {CURRENT}.content; nb.activeCellIndex = i; await nb.scrollToItem(i, 'start'); }}",
        index,
    )
    page.wait_for_timeout(400)


def save(page: Page) -> None:
    """Save the notebook."""
    page.evaluate("() => window.jupyterapp.commands.execute('docmanager:save')")


def write_notebook(root: Path, name: str, *sources: str) -> None:
    """Write a notebook of code cells."""
    import nbformat

    made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
    made.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(made, root / name)


def new_page(browser: Browser, height: int = 1000, width: int = 1100, dark: bool = False) -> Page:
    """A page of its own, with patience."""
    view = browser.new_context(
        viewport={"width": width, "height": height}, color_scheme="dark" if dark else "light", device_scale_factor=1
    )
    page = view.new_page()
    page.set_default_timeout(60_000)
    return page


def picture(page: Page, name: str, *, whole: bool = False) -> None:
    """A screenshot in build/screenshots."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=PICTURES / f"{name}.png", full_page=whole)


def step_shown(page: Page) -> int:
    """The step that the newest panel on the page shows."""
    found = re.findall(r"step\s+(\d[\d,]*)\s+of", page.locator(".jp-Notebook").inner_text())
    return int(found[-1].replace(",", "")) if found else 0


def wait_for_step(page: Page, least: int, seconds: float, cell: int | None = None) -> int:
    """Wait until a panel shows that step; `cell` is scrolled to: a long notebook draws what is in view only."""
    deadline = time.monotonic() + seconds
    while (step := step_shown(page)) < least:
        if cell is not None:
            show_cell(page, cell)
        assert time.monotonic() < deadline, f"no step {least} within {seconds:.0f} s; the panel shows {step}"
        page.wait_for_timeout(300)
    return step
