"""Bases one could begin with: what is known of them, and a linear probe that ranks those that are here."""

import os
import shutil
from pathlib import Path

import pytest
import torch

import sft_magics as sft
from sft_magics.core import errors
from sft_magics.core.records import Candidate
from sft_magics.lifecycle.inputs import bases
from sft_magics.notebook import panels
from tests import shapes


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with images of two classes, and one with masks."""
    root = tmp_path_factory.mktemp("bases")
    for seed in range(80):
        picture, _, (box, *_) = shapes.scene(seed)
        (root / "shapes" / box.label).mkdir(parents=True, exist_ok=True)
        picture.save(root / "shapes" / box.label / f"{seed}.png")
    sft.data("shapes", str(root / "shapes"), workspace=root / "ws")
    sft.data("masks", str(shapes.masks_folder(root / "masks", 8, 2)), workspace=root / "ws")
    return root / "ws"


@pytest.mark.parametrize(
    ("task", "base"),
    [("text-classification", "minilm"), ("image-classification", "lite0"), ("causal-lm", "smollm2")],
)
def test_bases_are_listed_for_a_task(tmp_path: Path, task: str, base: str) -> None:
    found = sft.models(task=task, workspace=tmp_path)
    assert found.kind == "bases"
    assert found[0].base == base, "what is here comes first"
    assert all(c.parameters > 1e6 and c.license for c in found)
    assert all(c.score is None for c in found)
    assert "to download" in str(found)
    assert base in str(panels.html(found))
    assert found[0].step_seconds is not None, "what a step takes here"
    assert 0.001 < found[0].step_seconds < 60
    assert f"{found[0].step_seconds:.2g} s a step" in str(found)
    assert all(c.step_seconds is not None for c in found if c.here)
    again = sft.models(task=task, workspace=tmp_path)
    assert again[0].step_seconds == found[0].step_seconds, "it was measured once"


def test_those_that_are_here_are_ranked_for_some_data(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file with drawn weights stands in for a download."""
    import torchvision

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    torch.manual_seed(0)
    best = torchvision.models.get_model_weights("resnet18").DEFAULT
    torch.save(torchvision.models.resnet18().state_dict(), folder / Path(best.url).name)
    table = sft.models(data="shapes", workspace=pictures)
    assert table.note.startswith("Quality against cost")
    best = max((c for c in table if c.score is not None), key=lambda c: c.score or 0.0)
    assert best.base in table.note
    assert table.note in str(table)
    assert "Quality against cost" in str(panels.html(table))
    found = {c.base: c for c in table}
    assert found["resnet18"].here
    assert not found["resnet50"].here
    lite0, resnet = found["lite0"], found["resnet18"]
    assert lite0.score is not None
    assert resnet.score is not None
    assert 0.6 < lite0.score <= 1.0
    assert 0.0 <= resnet.score <= 1.0
    assert lite0.seconds is not None
    assert lite0.seconds > 0
    assert found["resnet50"].score is None
    shutil.rmtree(tmp_path / "hub")


def base_of(name: str, score: float, seconds: float) -> Candidate:
    return Candidate(name, "image-classification", 10**6, "MIT", True, 224, score, 0.01, 0.001, seconds)


def test_the_front_is_what_nothing_beats_in_both() -> None:
    small, large = base_of("small", 0.8, 0.1), base_of("large", 0.9, 0.5)
    said = bases.quality_against_cost([large, base_of("slow", 0.85, 0.6), small])
    assert said == (
        "Quality against cost, from the quickest to the best: small (0.800 at 0.1 s a step), "
        "large (0.900 at 0.5 s a step); any other is slower and no better than one of these."
    )
    assert bases.quality_against_cost([small, base_of("worse", 0.7, 0.2)]).endswith("is the best and the quickest.")
    assert bases.quality_against_cost([small]) == "", "of one there is nothing to compare"


@pytest.mark.parametrize("task", ["semantic-segmentation", "object-detection"])
def test_a_step_of_every_task_is_measured(task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sft_magics.core.runtime.fetching import fetch
    from sft_magics.engine.jobs import linear_probe, step_timing

    monkeypatch.setattr(step_timing, "_file", lambda: tmp_path / "times.json")
    monkeypatch.setattr(step_timing, "_SIDE", 64)
    start = {"kind": "folder", "path": str(fetch("lite0"))}
    spec = {"task": task, "starts": {"lite0": start}, "labels": ["a"], "rows": 8, "timed": {"lite0": 224}}
    assert linear_probe.compare(spec, lambda event: "")["steps"]["lite0"] > 0
    (tmp_path / "times.json").write_text("no JSON")
    assert linear_probe.compare({**spec, "starts": {}}, lambda event: "")["steps"] == {}


def test_beside_a_run_nothing_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sft_magics.core.events import EventReader
    from sft_magics.core.jobs import JobFolder
    from sft_magics.core.runtime.fetching import fetch
    from sft_magics.core.workspace import Workspace, try_lock
    from sft_magics.engine.jobs import step_timing
    from sft_magics.lifecycle.jobs import worker

    monkeypatch.setattr(step_timing, "_file", lambda: tmp_path / "times.json")
    ws = Workspace(tmp_path / "ws").prepare()
    start = {"kind": "folder", "path": str(fetch("minilm"))}
    job = JobFolder(ws.jobs / "job-1").create(
        {"kind": "candidates", "workspace": str(ws.root), "task": "text-classification", "starts": {"minilm": start},
         "labels": ["a", "b"], "rows": 8, "timed": {"minilm": 0}}
    )  # fmt: skip
    lock = try_lock(ws.runs / "device.lock")
    assert lock is not None
    worker.carry_out(job)
    os.close(lock)
    result = job.result()
    assert result is not None, list(EventReader(job.events).read())[-1]
    assert result["steps"] == {}


def test_bad_input_is_a_sentence(pictures: Path) -> None:
    with pytest.raises(errors.DataProblem, match="masks is for semantic-segmentation"):
        sft.models(data="masks", workspace=pictures)
    with pytest.raises(errors.DataProblem, match="shapes is for image-classification, not for causal-lm"):
        sft.models(task="causal-lm", data="shapes", workspace=pictures)
    with pytest.raises(errors.NotFound, match="nothing"):
        sft.models(data="nothing", workspace=pictures)
