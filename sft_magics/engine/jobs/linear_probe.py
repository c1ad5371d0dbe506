"""Bases one could begin with: what is known of each, whether it is here, and how well its features suit some rows.

How well is said by a linear probe: the backbone stays as it is, a logistic regression is fitted to its features of some
hundreds of training rows and measured on held-out fifths. It ranks bases cheaply; fine-tuning does better with any.
"""

import time
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sft_magics.core import errors
from sft_magics.core.events import Progress, Remark, Sink
from sft_magics.core.tasks import IMAGE_TASKS
from sft_magics.datasets import read_rows
from sft_magics.engine import tasks
from sft_magics.engine.inputs.batching import scoring_batches
from sft_magics.engine.jobs import step_timing, worker
from sft_magics.engine.kernels import install
from sft_magics.engine.runtime import hardware

_FOLDS = 5
_TOKENS = 4096
_WELL_KNOWN = ("resnet18", "resnet50", "mobilenet_v3_large", "efficientnet_b0", "convnext_tiny", "vit_b_16")
_TEXT_HUB = (
    ("distilbert/distilbert-base-uncased", 66_955_010, "Apache-2.0"),
    ("google-bert/bert-base-uncased", 109_483_778, "Apache-2.0"),
    ("FacebookAI/roberta-base", 124_647_170, "MIT"),
)
_WORD_HUB = (
    ("HuggingFaceTB/SmolLM2-360M-Instruct", 361_821_120, "Apache-2.0"),
    ("Qwen/Qwen2.5-0.5B-Instruct", 494_032_768, "Apache-2.0"),
)


def known(task: str) -> list[dict[str, Any]]:
    """Return bases for a task besides the packaged ones: name, parameters, pixels or 0, license, whether it is here."""
    if task in IMAGE_TASKS:
        return [_of_torchvision(name) for name in _WELL_KNOWN]
    from huggingface_hub import try_to_load_from_cache

    hub = _WORD_HUB if task == "causal-lm" else _TEXT_HUB
    return [
        {"base": name, "parameters": size, "pixels": 0, "license": license_,
         "here": isinstance(try_to_load_from_cache(name, "config.json"), str)}
        for name, size, license_ in hub
    ]  # fmt: skip


def _of_torchvision(name: str) -> dict[str, Any]:
    import torchvision

    best = torchvision.models.get_model_weights(name).DEFAULT
    file = Path(torch.hub.get_dir()) / "checkpoints" / Path(best.url).name
    pixels = int(best.transforms().crop_size[0])
    size = int(best.meta["num_params"])
    return {"base": name, "parameters": size, "pixels": pixels, "license": "BSD-3-Clause (torchvision)",
            "here": file.is_file()}  # fmt: skip


def compare(spec: dict[str, Any], sink: Sink) -> dict[str, Any]:
    """Return what is known of other bases for `spec["task"]`, a probe of each of `spec["starts"]` (name -> start)
    on up to `spec["rows"]` training rows of the file `spec["data"]`, if there is one, and the seconds a step of each
    base takes here as far as they are known; those of `spec["timed"]` (name -> pixels) are measured.
    """
    found = {}
    for base, start in spec["starts"].items():
        sink(Progress(f"looking at {base}", 0))
        try:
            found[base] = _probed(spec, start)
            if base in spec["timed"]:
                sink(Progress(f"taking steps of {base}", 0))
                with worker.out_of_memory({}):
                    step_timing.measured(spec["task"], base, start, int(spec["timed"][base]))
        except errors.SftError as error:  # one that cannot be had is no reason to say nothing of the others
            sink(Remark("warning", error.what))
    return {"known": known(spec["task"]), "probed": found, "steps": step_timing.known(spec["task"])}


def _probed(spec: dict[str, Any], start: dict[str, Any]) -> dict[str, Any]:
    options = {"seed": 0, "workers": 2}
    task = tasks.find(spec["task"]).load(start, spec["labels"], options)
    said = {"parameters": sum(p.numel() for p in task.model.parameters())}
    if not spec.get("data"):
        return said
    chosen = hardware.choose("auto", "auto", "auto")
    install.place(task.model, chosen)
    rows = read_rows(Path(spec["data"]), "train")
    rows = rows.sample(min(len(rows), int(spec["rows"])), random_state=0)
    began = time.monotonic()
    features = _features(task, task.encode(list(rows["text"]), None), chosen)
    seconds = (time.monotonic() - began) / len(rows)
    score, spread = _linear(features, list(rows["label"]))
    return {**said, "seconds": seconds, "score": score, "spread": spread, "rows": len(rows)}


@torch.inference_mode()
def _features(task: tasks.Task, rows: tasks.Encoded, chosen: hardware.Hardware) -> torch.Tensor:
    """Return what the last linear layer is given for each row."""
    head = [m for m in task.model.modules() if isinstance(m, nn.Linear)][-1]
    caught: list[torch.Tensor] = []
    hook = head.register_forward_pre_hook(lambda _, inputs: caught.append(inputs[0].float().cpu()))
    task.model.eval()
    order: list[int] = []
    try:
        with chosen.autocast():
            for indices in scoring_batches(rows.lengths, _TOKENS):
                order += indices
                task.scores({k: v.to(chosen.device) for k, v in task.collate(rows, indices).items()})
    finally:
        hook.remove()
    found = torch.cat([c.reshape(c.shape[0], -1) for c in caught])
    return found[torch.argsort(torch.tensor(order))]


def _linear(features: torch.Tensor, labels: list[str]) -> tuple[float, float]:
    """Return the mean accuracy of a linear probe over held-out fifths, and the standard error of that mean."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    folds = min([_FOLDS, *Counter(labels).values()])
    if folds < 2:
        raise errors.DataProblem("A class has one row only: too few to compare bases.", "leave --data out.")
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=500))
    parts = StratifiedKFold(folds, shuffle=True, random_state=0)
    scores = cross_val_score(probe, features.numpy(), labels, cv=parts)
    return float(scores.mean()), float(scores.std(ddof=1) / folds**0.5)
