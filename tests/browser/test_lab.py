"""The tour in a real JupyterLab, and what a person does with a live panel: watch it, stop it, reload the page.

Screenshots go to build/screenshots.
"""

import json
import shutil
import time
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

import sft_magics as sft
from tests.browser import lab as driver
from tests.conftest import stop_endpoints
from tests.journeys import notebooks

ROOT = Path(__file__).resolve().parents[2]
TOUR_MINUTES = 25  # on a loaded machine; `make bench` shows the real time

TOUR = json.loads((ROOT / "notebooks" / "00_tour.ipynb").read_text())
FIRST_RUN = next(
    i for i, c in enumerate(TOUR["cells"]) if "%sft_finetune" in "".join(c["source"]) and c["cell_type"] == "code"
)

pytestmark = [pytest.mark.alone, pytest.mark.browser, pytest.mark.timeout(2400)]


@pytest.mark.timeout(4000)  # two tours
def test_the_tour_runs_from_start_to_end_and_again(browser: Browser, tmp_path: Path) -> None:
    shutil.copy(ROOT / "notebooks" / "00_tour.ipynb", tmp_path)
    with driver.lab(tmp_path) as server:
        page = driver.new_page(browser)
        driver.open_notebook(page, server, "00_tour.ipynb")
        began = time.monotonic()
        driver.begin_all(page)
        first = driver.wait_for_step(page, 5, 180, FIRST_RUN)
        driver.picture(page, "tour-training")
        assert driver.wait_for_step(page, first + 5, 120, FIRST_RUN) > first, "the curve moves"
        while not driver.all_done(page):
            assert time.monotonic() - began < TOUR_MINUTES * 60, "the tour did not end in time"
            page.wait_for_timeout(1000)
        (driver.PICTURES / "tour-seconds.txt").write_text(f"{time.monotonic() - began:.0f}\n")
        for index in range(driver.cells(page)):
            if driver.outputs(page, index):
                driver.show_cell(page, index)
                driver.picture(page, f"tour-{index:02d}")
        driver.save(page)
        page.context.close()
    notebook = json.loads((tmp_path / "00_tour.ipynb").read_text())
    found = [o for c in notebook["cells"] for o in c.get("outputs", [])]
    assert [o["evalue"] for o in found if o["output_type"] == "error"] == []
    assert max(len(json.dumps(o)) for o in found) <= 200_000
    sft_home = tmp_path / ".sft"
    lives_through_all_stages(sft_home)
    again(tmp_path, sft_home)
    stop_endpoints(sft_home)


def lives_through_all_stages(workspace: Path) -> None:
    """Each model that a tour made is trained, improved, and its first version retired."""
    for model in sft.models(workspace=workspace).rows:
        versions = {v.number: v for v in sft.versions(model.name, workspace=workspace)}
        assert versions[1].metrics["accuracy"].value >= 0.82
        assert versions[1].status == "retired"
        assert "live" in versions[3].aliases
        assert versions[3].parent == versions[1].ref


def again(folder: Path, workspace: Path) -> None:
    """The tour a second time in the same workspace: nothing in it assumes that it is the first."""
    notebooks.execute(notebooks.Pass("00_tour", "", "torch", 2), workspace, folder / "again")
    assert len(sft.models(workspace=workspace).rows) == 2
    lives_through_all_stages(workspace)


def executed(browser: Browser, folder: Path, name: str) -> Path:
    """Run a notebook from start to end in the browser; its workspace. Nothing in it may fail or be too large."""
    shutil.copy(ROOT / "notebooks" / f"{name}.ipynb", folder)
    with driver.lab(folder) as server:
        page = driver.new_page(browser)
        driver.open_notebook(page, server, f"{name}.ipynb")
        began = time.monotonic()
        driver.begin_all(page)
        while not driver.all_done(page):
            assert time.monotonic() - began < TOUR_MINUTES * 60, "the notebook did not end in time"
            page.wait_for_timeout(1000)
        driver.PICTURES.mkdir(parents=True, exist_ok=True)
        (driver.PICTURES / f"{name}-seconds.txt").write_text(f"{time.monotonic() - began:.0f}\n")
        for index in range(driver.cells(page)):
            if driver.outputs(page, index):
                driver.show_cell(page, index)
                driver.picture(page, f"{name}-{index:02d}")
        driver.save(page)
        page.context.close()
    notebook = json.loads((folder / f"{name}.ipynb").read_text())
    found = [o for c in notebook["cells"] for o in c.get("outputs", [])]
    assert [o["evalue"] for o in found if o["output_type"] == "error"] == []
    assert max(len(json.dumps(o)) for o in found) <= 200_000
    return folder / ".sft"


def test_the_images_notebook_runs_from_start_to_end(browser: Browser, tmp_path: Path) -> None:
    workspace = executed(browser, tmp_path, "01_images")
    versions = {v.ref: v for v in sft.versions("digits", workspace=workspace)}
    assert versions["digits:1"].metrics["accuracy"].value >= 0.85
    assert versions["digits:2"].metrics["accuracy"].value >= 0.94
    (endpoint,) = sft.endpoints(workspace=workspace)
    assert (endpoint.task, endpoint.state, endpoint.requests) == ("image-classification", "stopped", 1)


def test_the_notebook_of_the_other_tasks_runs_from_start_to_end(browser: Browser, tmp_path: Path) -> None:
    workspace = executed(browser, tmp_path, "02_tasks")
    metrics = {v.model: v.metrics for v in sft.versions(workspace=workspace)}
    assert metrics["planet"]["miou"].value >= 0.66
    assert metrics["islands"]["ap50"].value >= 0.4
    assert metrics["docs"]["perplexity"].value <= 24


@pytest.mark.parametrize("theme", ["JupyterLab Light", "JupyterLab Dark"])
def test_a_background_run_is_stopped_by_its_button_and_survives_a_reload(
    browser: Browser, tmp_path: Path, trained_once: Path, theme: str
) -> None:
    shutil.copytree(trained_once, tmp_path / ".sft")
    driver.write_notebook(
        tmp_path,
        "stop.ipynb",
        "%load_ext sft_magics",
        "%sft_finetune films --epochs 60 --background -o run",
        "1 + 1",
    )
    with driver.lab(tmp_path, theme) as server:
        page = driver.new_page(browser)
        driver.open_notebook(page, server, "stop.ipynb")
        driver.run_cell(page, 0)
        driver.run_cell(page, 1)
        first = driver.wait_for_step(page, 2, 120)
        assert driver.wait_for_step(page, first + 2, 60) > first, "the curve moves"
        driver.run_cell(page, 2)
        assert driver.outputs(page, 2)[0]["data"]["text/plain"] == "2", "the kernel is free"
        name = theme.rsplit(maxsplit=1)[-1].lower()
        driver.picture(page, f"background-{name}")
        page.get_by_role("button", name="Stop", exact=True).click()
        expect(page.locator(".jp-Notebook")).to_contain_text("interrupted", timeout=60_000)
        expect(page.get_by_role("button", name="Stop", exact=True)).to_have_count(0)
        driver.picture(page, f"stopped-{name}")
        driver.save(page)
        page.reload()
        driver.ready(page)
        expect(page.locator(".jp-Notebook")).to_contain_text("interrupted", timeout=60_000)
        expect(page.locator(".jp-Notebook svg[role=img]").first).to_be_visible()
        driver.picture(page, f"reloaded-{name}")
        page.context.close()
    assert sft.runs(workspace=tmp_path / ".sft").rows[0].state == "interrupted"
