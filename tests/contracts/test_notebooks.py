"""The notebooks that ship assume no empty workspace, and `make demo` fetches all that they need."""

import json
import re
from pathlib import Path

import pytest

from sft_magics.core.runtime import fetching
from sft_magics.datasets.samples import image_samples, text_samples

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
FIXED = re.compile(r"(?<![\w:{])(?!sample:)[a-z][a-z-]*:\d+\b")
# The packages of samples; what is named neither here nor there comes with Python or a library.
PACKAGES = {
    **dict.fromkeys(text_samples.SAMPLES, "reviews"),
    **dict.fromkeys((*image_samples.TILES, *image_samples.ISLANDS), "basemap"),
    "digits": "digits",
}
BASES = {"00_tour": {"minilm"}, "01_images": {"lite0"}, "02_tasks": {"lite0", "smollm2"}}


def code(path: Path) -> list[str]:
    cells = json.loads(path.read_text())["cells"]
    return ["".join(c["source"]) for c in cells if c["cell_type"] == "code"]


@each_notebook
def test_a_notebook_names_no_version_by_its_number_and_no_endpoint_that_may_be_there(path: Path) -> None:
    text = "\n".join(code(path))
    assert FIXED.findall(text) == []
    assert FIXED.findall("%sft_show reviews:1") == ["reviews:1"]
    assert [line for line in text.splitlines() if re.match(r"%sft_(deploy|promote|stop|rollback) [a-z]", line)] == []


@each_notebook
def test_a_notebook_is_saved_without_outputs_and_says_how_long_it_takes(path: Path) -> None:
    notebook = json.loads(path.read_text())
    assert all(not c["outputs"] and c["execution_count"] is None for c in notebook["cells"] if c["cell_type"] == "code")
    assert re.search(r"On two cores it takes [a-z-]+ to [a-z-]+ minutes", "".join(notebook["cells"][0]["source"]))


def test_the_demo_fetches_all_that_the_notebooks_need() -> None:
    (line,) = re.findall(r"^SAMPLES := (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    used = {name for path in NOTEBOOKS for name in re.findall(r"sample:([a-z-]+)", "\n".join(code(path)))}
    needed = {PACKAGES[name] for name in used if name in PACKAGES}.union(*BASES.values())
    assert set(line.split()) == needed
    assert needed <= set(fetching.CATALOG)
    assert set(BASES) == {path.stem for path in NOTEBOOKS}
