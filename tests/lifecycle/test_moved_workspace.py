"""A workspace that was moved or copied works where it lies now, and reads nothing of where it was."""

import shutil
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import sft_magics as sft
from sft_magics.core import errors
from sft_magics.core.events import StepDone
from sft_magics.core.jobs import JobFolder
from sft_magics.core.workspace import Workspace
from sft_magics.lifecycle.jobs import run_folders
from sft_magics.registry import Registry


@pytest.fixture(scope="module")
def moved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with pictures in it, a version, a clone of its run, and masks, moved away from where it was made."""
    folder = tmp_path_factory.mktemp("moving")
    ws = folder / "first"
    chance = np.random.default_rng(0)
    pixels = [chance.integers(0, 120, (24, 24, 3), dtype=np.uint8) + np.uint8(130 * (i % 2)) for i in range(40)]
    frame = pd.DataFrame({"image": list(map(Image.fromarray, pixels)), "label": ["dark", "light"] * 20})
    sft.data("shades", frame, workspace=ws)
    sft.create("shades", data="shades", base="lite0", workspace=ws)
    made = sft.finetune("shades", method="head", image_size=32, epochs=2, workspace=ws)
    sft.finetune("shades", from_=made.run, epochs=1, workspace=ws)
    shutil.copytree(ws, folder / "second", ignore=shutil.ignore_patterns("views"))
    shutil.rmtree(ws)
    return folder / "second"


def test_every_verb_finds_its_pictures_in_the_new_place(moved: Path) -> None:
    found = sft.data("shades", workspace=moved)
    assert all(Path(e.text).is_file() and Path(e.text).is_relative_to(moved) for e in found.examples)
    assert all(e.picture for e in found.examples)
    assert sft.evaluate("shades:1", workspace=moved).n == found.counts["validation"]
    answers = sft.predict("shades:1", data="shades", workspace=moved)
    assert {Path(row.text).parents[2] for row in answers.rows} == {moved}
    more = sft.finetune("shades", from_="shades:1", epochs=1, workspace=moved)
    assert sft.evaluate(more.ref, workspace=moved).n
    assert sft.diff("shades:1", "shades:2", workspace=moved).n


def test_recipes_and_orders_are_read_in_the_new_place(moved: Path) -> None:
    again = sft.reproduce("shades:2", workspace=moved)
    assert again.same_weights
    version = Registry(Workspace(moved)).version("shades:2")
    spec = JobFolder(moved / "runs" / version.run).spec()
    assert spec["workspace"] == str(moved)
    assert Path(spec["data_file"]).is_file()
    assert Path(spec["start"]["path"]).is_relative_to(moved)
    was = str(moved.parent / "first")
    for file in (moved / "runs").rglob("*.json"):
        assert was not in file.read_text(), file
    for file in (moved / "registry").glob("registry.j*"):
        assert was.encode() not in file.read_bytes(), file


def test_a_run_that_was_stopped_goes_on_in_the_new_place(trained: Workspace, tmp_path: Path) -> None:
    run = sft.finetune("films", epochs=1.0, background=True, workspace=trained)

    job = run_folders.find(trained, run.id)
    while not any(isinstance(event, StepDone) for event in job.history()) and job.alive():
        time.sleep(0.05)
    sft.stop(run.id, workspace=trained)
    there = tmp_path / "there"
    trained.root.rename(there)
    resumed = sft.resume(run.id, workspace=there)
    assert resumed.data == "films:1"
    assert Registry(Workspace(there)).version(resumed.ref).run == run.id


def test_a_picture_outside_that_is_gone_is_named_in_a_sentence(moved: Path, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    for i in range(24):
        (folder / "ab"[i % 2]).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (24, 24), (10 * i, 20, 30)).save(folder / "ab"[i % 2] / f"{i}.png")
    sft.data("photos", str(folder), workspace=moved)
    sft.create("photos", data="photos", base="lite0", workspace=moved)
    shutil.rmtree(folder)
    assert sft.data("photos", workspace=moved).examples[0].picture == ""
    with pytest.raises(errors.SftError, match=r"photos.*\.png") as caught:
        sft.finetune("photos", method="head", image_size=32, workspace=moved)
    assert caught.value.next_step
    assert not isinstance(caught.value, errors.Defect)
