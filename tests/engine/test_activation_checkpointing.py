"""Activations that are computed again: the same weights to the bit, from less memory."""

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision
from safetensors.torch import load_file
from torch import nn

from sft_magics.core import errors
from sft_magics.core.events import EpochDone
from sft_magics.engine.jobs import worker
from sft_magics.engine.runtime import memory
from sft_magics.engine.training import activation_checkpointing, trial_steps
from tests.engine.house import Ear, films, order, small_base


def test_a_run_gives_the_same_weights_from_less_memory(tmp_path: Path) -> None:
    """With dropout: what is computed again draws the same numbers."""
    spec = order(films(tmp_path, 256, 8), start=small_base(tmp_path / "base", layers=4), lr=0.001, batch=128)
    made, peak = {}, {}
    for again in (False, True):
        own = {**spec, "options": {**spec["options"], "recompute": again}}
        ear = Ear()
        folder = worker.train(own, ear, tmp_path / str(again)).folder
        made[again] = (load_file(folder / "model.safetensors"), [e.train_loss for e in ear.all(EpochDone)])
        loop, _ = worker.prepare(own, Ear(), tmp_path / "loop")
        with trial_steps.untouched(loop.task.model):
            loop.gradients.in_parts(loop.batch_of(0), 128)  # gradients are there before and after
            with memory.Meter() as meter:
                loop.gradients.in_parts(loop.batch_of(0), 128)
            peak[again] = meter.peak
    assert made[True][1] == made[False][1]
    assert all(torch.equal(made[True][0][n], made[False][0][n]) for n in made[False][0])
    assert peak[True] < 0.6 * peak[False]


@pytest.mark.parametrize("name", ["torchvision/resnet18", "timm/tf_efficientnet_lite0", "timm/vit_tiny_patch16_224"])
def test_nets_of_blocks_give_the_same_gradients_and_count_a_batch_once(name: str) -> None:
    library, _, architecture = name.partition("/")
    kept, size = [], 224 if "vit" in name else 64
    for again in (False, True):
        torch.manual_seed(0)
        model: nn.Module = (
            torchvision.models.get_model(architecture, num_classes=3) if library == "torchvision"
            else timm.create_model(architecture, num_classes=3, drop_path_rate=0.2)
        )  # fmt: skip
        names = list(model.state_dict())
        if again:
            activation_checkpointing.enable(model)
        assert list(model.state_dict()) == names
        model.train()
        with memory.Meter() as meter:
            loss = model(torch.randn(4, 3, size, size)).square().mean()
            loss.backward()
        kept.append((loss, {n: p.grad for n, p in model.named_parameters()}, dict(model.named_buffers()), meter.peak))
    (loss, gradients, buffers, peak), (same_loss, same_gradients, same_buffers, less) = kept
    assert torch.equal(loss, same_loss)
    assert all(torch.equal(g, same_gradients[n]) for n, g in gradients.items())
    assert all(torch.equal(b, same_buffers[n]) for n, b in buffers.items())
    assert less < peak


def test_a_model_without_blocks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(errors.ModelProblem, match="vgg11 has no blocks") as refused:
        activation_checkpointing.enable(torchvision.models.vgg11(), "vgg11")
    assert "leave --recompute out" in refused.value.next_step
    spec: dict[str, Any] = order(films(tmp_path, 8, 8), start=small_base(tmp_path / "base"), recompute=True)
    with pytest.raises(errors.ModelProblem, match="nothing is left to compute again"):
        worker.train({**spec, "options": {**spec["options"], "method": "head"}, "task": "image-classification",
                      "start": {"kind": "name", "path": "resnet18", "weights": "none"}}, Ear(), tmp_path)  # fmt: skip
