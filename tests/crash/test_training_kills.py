"""kill -9 of training at random moments, three tasks, batches made with and without threads: not a bit differs."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sft_magics.core.runtime.fetching import fetch
from sft_magics.core.workspace import Workspace
from sft_magics.datasets import build
from sft_magics.engine.runtime import launchers
from tests import shapes
from tests.engine.house import films, order, small_base

pytestmark = [pytest.mark.alone, pytest.mark.crash, pytest.mark.slow]
ROOT = Path(__file__).resolve().parents[2]
KILLS = 20, 300  # in CI, in `make crash`; over all of the below
CASES = [
    ("text-classification", 0),
    ("image-classification", 0),
    ("image-classification", 2),
    ("semantic-segmentation", 2),
]


def _pictures(folder: Path) -> Path:
    for seed in range(60):
        picture, _, (box, *_) = shapes.scene(seed)
        (folder / "pictures" / box.label).mkdir(parents=True, exist_ok=True)
        picture.save(folder / "pictures" / box.label / f"{seed}.png")
    dataset = build("pictures", str(folder / "pictures"), workspace=Workspace(folder / "sft").prepare())
    return folder / "sft" / dataset.file


def _masks(folder: Path) -> Path:
    source = shapes.masks_folder(folder / "masks", 48, 8)
    return folder / "sft" / build("masks", str(source), workspace=Workspace(folder / "sft").prepare()).file


def spec(task: str, workers: int, folder: Path) -> dict[str, Any]:
    """Dropout on, chance changes on, checkpoints often: what has to come back is all there."""
    usual = {"epochs": 4.0, "batch": 8, "checkpoint_seconds": 0.2, "workers": workers, "augment": "flip"}
    if task == "text-classification":
        return order(films(folder, 240, 16), start=small_base(folder / "base"), **usual)
    data, labels = (_masks(folder), list(shapes.CLASSES)) if "segmentation" in task else (
        _pictures(folder), sorted(shapes.CLASSES[1:])
    )  # fmt: skip
    return {**order(data, task=task, start=fetch("lite0"), lr=0.001, **usual), "labels": labels}


def trained(file: Path, run: Path, kills: int, seed: int) -> tuple[int, str]:
    """Train with so many kills; how many there were, and what the best weights are."""
    words = [sys.executable, "-m", "tests.crash.forker", str(file), str(run), str(kills), str(seed)]
    env = {**os.environ, **launchers.ENVIRONMENT, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(words, check=False, cwd=ROOT, env=env, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stderr[-3000:]
    return int(done.stdout), hashlib.sha256((run / "best" / "model.safetensors").read_bytes()).hexdigest()


@pytest.mark.parametrize(("task", "workers"), CASES)
def test_kills_change_no_bit_of_the_weights(
    task: str, workers: int, tmp_path: Path, count: Callable[[int, int], int]
) -> None:
    wanted = count(*KILLS) // len(CASES)
    file = tmp_path / "spec.json"
    file.write_text(json.dumps(spec(task, workers, tmp_path)))
    _, whole = trained(file, tmp_path / "whole", 0, 0)
    killed, seed = 0, 0
    while killed < wanted:
        seed += 1
        done, found = trained(file, tmp_path / f"run-{seed}", min(5, wanted - killed), seed)
        killed += done
        assert found == whole, f"{task}, {workers} threads, seed {seed}, {done} kills"
        assert seed < 4 * wanted, "runs end before they can be killed"
