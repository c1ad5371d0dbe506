"""How long a training step of a base takes here, measured on made-up rows, once a machine.

A step is forward, backward and update of a batch as the base's recipe has it: texts of about 64 tokens, pictures at the
size the base is for (256 pixels where places are told apart). What was measured lies in the cache folder, by machine,
device, threads and torch; it is measured while no run works in the workspace.
"""

import json
import platform
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from sft_magics.core import workspace
from sft_magics.core.codec import dumps
from sft_magics.core.events import Event
from sft_magics.core.tasks import CAUSAL_LM, IMAGE_CLASSIFICATION, IMAGE_TASKS, OBJECT_DETECTION, SEMANTIC_SEGMENTATION
from sft_magics.datasets.annotations import boxes
from sft_magics.datasets.annotations.boxes import Box
from sft_magics.engine import tasks
from sft_magics.engine.runtime import hardware
from sft_magics.engine.runtime.hardware import Hardware
from sft_magics.engine.training.loop import Loop, TrainingSetup

_TIMES = 2
_SIDE = 256
_WORDS = "the film is not what one had hoped for " * 6
_USUAL: dict[str, Any] = {
    "epochs": 1.0, "lr": 5e-5, "batch": 32, "weight_decay": 0.01, "warmup": 0.1, "seed": 0, "workers": 0,
}  # fmt: skip


def known(task: str) -> dict[str, float]:
    """Return the seconds a step of each base that was measured on this machine."""
    prefix = _key(task, "", hardware.choose())
    return {key.removeprefix(prefix): seconds for key, seconds in _read().items() if key.startswith(prefix)}


def measured(task: str, base: str, start: dict[str, Any], pixels: int) -> float:
    """Return the seconds a step of `base` takes, and remember them; raises what loading it raises."""
    chosen = hardware.choose()
    seconds = _step(task, start, chosen, pixels)
    workspace.write_durably(_file(), dumps({**_read(), _key(task, base, chosen): seconds}).encode())
    return seconds


def _step(name: str, start: dict[str, Any], chosen: Hardware, pixels: int) -> float:
    kind = tasks.find(name)
    options = {**_USUAL, **kind.recipe(start)}
    with tempfile.TemporaryDirectory() as folder:
        text, target, labels = _row(name, Path(folder), pixels)
        task = kind.load(start, labels, options)
        task.suit(bf16=chosen.bf16)
        rows = task.encode([text] * options["batch"], [target] * options["batch"])
        loop = Loop(TrainingSetup(task, rows, rows, options, Path(folder), chosen, _unheard))
        task.model.train()
        loop.rehearse(0)
        found = []
        for _ in range(_TIMES):
            began = time.perf_counter()
            loop.rehearse(0)
            found.append(time.perf_counter() - began)
        loop.loader.close()
    return min(found)


def _unheard(event: Event) -> str:  # noqa: ARG001 - its name is the sink's
    return ""


def _row(name: str, folder: Path, pixels: int) -> tuple[str, str, list[str]]:
    """Return a made-up input and its target as a data set's file has them, and the labels."""
    labels = ["a", "b"]
    if name == CAUSAL_LM:
        return _WORDS, _WORDS, []
    if name not in IMAGE_TASKS:
        return _WORDS, "a", labels
    side = pixels if name == IMAGE_CLASSIFICATION and pixels else _SIDE
    noise = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    Image.fromarray(noise).save(folder / "picture.png")
    target = "a"
    if name == SEMANTIC_SEGMENTATION:
        target = str(folder / "mask.png")
        Image.fromarray(noise[:, :, 0] % 2).save(target)
    if name == OBJECT_DETECTION:
        target = boxes.dumps([Box("a", side / 4, side / 4, side / 2, side / 2)])
    return str(folder / "picture.png"), target, labels


def _key(task: str, base: str, chosen: Hardware) -> str:
    machine = f"{platform.node()}, {chosen.name()}, {chosen.threads} threads, torch {torch.__version__}"
    return f"{machine}: {task} on {base}"


def _file() -> Path:
    return workspace.cache() / "step-times.json"


def _read() -> dict[str, float]:
    try:
        found = json.loads(_file().read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
