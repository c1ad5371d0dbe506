"""What a notebook shows of a run and of a box to try when their kernel has gone: a picture, and of what time it is.

Looked at after a restart of the kernel, after a reload of the page, and as a page made by nbconvert.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

import sft_magics as sft
from tests.browser import lab as driver
from tests.conftest import stop_endpoints

pytestmark = [pytest.mark.alone, pytest.mark.browser, pytest.mark.timeout(900)]

RUN, BOX = 1, 3
STAMP = "shows it again"
KEPT = """stamp => [...document.querySelectorAll('.jp-Notebook .jp-OutputArea-output')].some(
    output => output.textContent.includes(stamp) && output.querySelector('svg[role=img]'))"""
ASKS = '%sft_predict films "a text" --endpoint'


def look(page: Page) -> None:
    """The run's picture and the box's words are there once; nothing says that a model was not found."""
    notebook = page.locator(".jp-Notebook")
    expect(notebook.get_by_text(STAMP)).to_have_count(1)
    expect(notebook.get_by_text(STAMP)).to_be_visible()
    expect(page.locator(".jp-Notebook svg[role=img]:visible").first).to_be_visible()
    expect(notebook.get_by_text(ASKS)).to_be_visible()
    expect(page.locator("text=model not found").locator("visible=true")).to_have_count(0)
    expect(page.get_by_role("button", name="Stop", exact=True).locator("visible=true")).to_have_count(0)
    expect(page.get_by_role("button", name="Try", exact=True).locator("visible=true")).to_have_count(0)


def test_a_panel_and_a_box_are_true_without_their_kernel(browser: Browser, tmp_path: Path, trained_once: Path) -> None:
    shutil.copytree(trained_once, tmp_path / ".sft")
    driver.write_notebook(
        tmp_path,
        "gone.ipynb",
        "%load_ext sft_magics",
        "%sft_finetune films --epochs 60 --background -o run",
        "%sft_stop {run.id}",
        "%sft_deploy films:1 --engine torch",
    )
    with driver.lab(tmp_path) as server:
        page = driver.new_page(browser, 1400)
        driver.open_notebook(page, server, "gone.ipynb")
        driver.run_cell(page, 0)
        driver.run_cell(page, RUN)
        driver.wait_for_step(page, 4, 120)
        expect(page.get_by_role("button", name="Stop", exact=True)).to_be_visible()
        expect(page.get_by_text(STAMP).locator("visible=true")).to_have_count(0)  # while the widget lives
        driver.run_cell(page, BOX)
        expect(page.get_by_role("button", name="Try", exact=True)).to_be_visible()
        expect(page.get_by_text(ASKS).locator("visible=true")).to_have_count(0)
        driver.picture(page, "kernel-lives")
        page.wait_for_function(KEPT, arg=STAMP)  # the picture that is kept follows the live one some seconds later
        page.evaluate(f"() => {driver.CURRENT}.sessionContext.session.kernel.restart()")
        driver.ready(page)
        look(page)
        driver.picture(page, "kernel-restarted")
        driver.save(page)
        page.reload()
        driver.ready(page)
        look(page)
        driver.picture(page, "kernel-restarted-reloaded")
        page.context.close()
    run = sft.runs(workspace=tmp_path / ".sft").rows[0]
    sft.stop(run.id, workspace=tmp_path / ".sft")
    stop_endpoints(tmp_path / ".sft")
    converted(browser, tmp_path / "gone.ipynb")


def converted(browser: Browser, notebook: Path) -> None:
    """The saved notebook as a page: the pictures with their time, and no word of a state that has no time."""
    command = [sys.executable, "-m", "nbconvert", "--to", "html", str(notebook)]
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, "IPYTHONDIR": os.devnull})
    page = driver.new_page(browser, 1400)
    page.route("**/*", lambda route: route.continue_() if route.request.url.startswith("file:") else route.abort())
    page.goto(notebook.with_suffix(".html").as_uri(), wait_until="domcontentloaded")
    expect(page.get_by_text(STAMP)).to_be_visible()
    expect(page.get_by_text(ASKS)).to_be_visible()
    driver.picture(page, "kernel-restarted-nbconvert", whole=True)
    page.context.close()
