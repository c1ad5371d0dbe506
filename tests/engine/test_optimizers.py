"""Clipping that is switched off while a run trains leaves nothing behind."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from sft_magics.core.commands import Edit, PendingCommands
from sft_magics.engine.jobs import worker
from sft_magics.engine.training import optimizers
from tests.engine import house, tiny


@pytest.mark.parametrize("kind", ["adamw", "sgd"])
def test_no_clipping_is_the_step_of_plain_gradients(kind: str) -> None:
    """Also after a step that was clipped: fused AdamW keeps the last scale otherwise."""
    options = {"optimizer": kind, "lr": 0.1, "weight_decay": 0.0, "momentum": 0.0}
    torch.manual_seed(0)
    ours, plain = nn.Linear(3, 2), nn.Linear(3, 2)
    plain.load_state_dict(ours.state_dict())
    one, two = (optimizers.build(model, options) for model in (ours, plain))
    for step, clip in enumerate((1.0, 0.0, 0.0)):
        for model in (ours, plain):
            for parameter in model.parameters():
                parameter.grad = torch.full_like(parameter, 50.0 + step)
        norm = torch.nn.utils.get_total_norm([p.grad for p in ours.parameters() if p.grad is not None])
        optimizers.shorten(one, norm, clip)
        if clip:
            torch.nn.utils.clip_grads_with_norm_(plain.parameters(), clip, norm)
        one.step()
        two.step()
    for mine, other in zip(ours.parameters(), plain.parameters(), strict=True):
        assert torch.allclose(mine, other, atol=1e-6)


def test_an_edit_to_no_clipping_is_one_to_clipping_that_never_happens(tmp_path: Path) -> None:
    base = tiny.save(tmp_path / "base", tiny.classifier("bert"))
    splits = ["train"] * 8 + ["validation"] * 4
    file = house.table(tmp_path, ["the good film", "a bad river"] * 6, house.LABELS * 6, splits)

    def weights(clip: float) -> torch.Tensor:
        told = iter([PendingCommands(), PendingCommands(edits=(Edit(0, {"clip": clip}),))])
        last = PendingCommands(edits=(Edit(0, {"clip": clip}),))
        order = house.order(file, start=base, lr=0.01, batch=2, clip=1e-4)
        done = worker.train(order, house.Ear(), tmp_path / f"{clip:g}", lambda: next(told, last))
        assert [edit["step"] for edit in done.edits] == [1]
        return load_file(done.folder / "model.safetensors")["classifier.weight"]

    assert torch.equal(weights(0.0), weights(1e12))
