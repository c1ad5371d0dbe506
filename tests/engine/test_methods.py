"""Schedules, rates by depth, averages of the weights, parts of a batch, mixed pictures: each is what its paper says."""

import json
import math
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from sft_magics.core import errors
from sft_magics.core.events import EpochDone, Remark, StepDone
from sft_magics.core.runtime.fetching import fetch
from sft_magics.core.workspace import Workspace
from sft_magics.datasets import build
from sft_magics.engine.inputs import images
from sft_magics.engine.jobs import worker
from sft_magics.engine.training import optimizers
from sft_magics.engine.training.ema import Average
from tests import shapes
from tests.engine.house import Ear, films, order, small_base


def test_one_cycle_is_torch_s_own() -> None:
    weight = nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=0.1)
    theirs = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=100, cycle_momentum=False)
    for step in range(100):
        assert optimizers.rate(step, 100, 0.1, 0.1, "one-cycle") == pytest.approx(theirs.get_last_lr()[0], rel=1e-6)
        optimizer.step()
        if step < 99:
            theirs.step()


def test_rates_fall_block_by_block_from_the_head() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2))
    for name in ("adamw", "sgd"):
        options = {"optimizer": name, "lr": 1.0, "weight_decay": 0.0, "layer_decay": 0.5}
        optimizer = optimizers.build(model, options)
        optimizers.set_rate(optimizer, 0.1)
        rates = {id(p): g["lr"] for g in optimizer.param_groups for p in g["params"]}
        found = [rates[id(layer.weight)] for layer in model]
        assert found == pytest.approx([0.025, 0.05, 0.1])
        assert rates[id(model[0].bias)] == pytest.approx(0.025)
    whole = optimizers.build(model, {"optimizer": "sgd", "lr": 1.0, "weight_decay": 0.0})
    assert len(whole.param_groups) == 1


def test_the_average_is_the_one_that_is_written_out() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    average, decay = Average(model, 0.9), 0.9
    wanted = model[0].weight.detach().clone()
    for step in range(1, 20):
        with torch.no_grad():
            model[0].weight.add_(torch.randn_like(model[0].weight))
        average.update()
        keep = min(decay, (1 + step) / (10 + step))
        wanted = keep * wanted + (1 - keep) * model[0].weight.detach()
    raw = model[0].weight.detach().clone()
    with average.inside():
        assert torch.allclose(model[0].weight, wanted, atol=1e-6)
    assert torch.equal(model[0].weight, raw)
    again = Average(model, 0.9)
    again.take(average.state())
    assert again.steps == 19
    assert all(torch.equal(again.tensors[n], t) for n, t in average.tensors.items())


def test_a_run_that_averages_goes_on_as_if_it_had_not_stopped(tmp_path: Path) -> None:
    base = small_base(tmp_path / "base")
    spec = order(films(tmp_path, 64, 16), start=base, ema=0.9, epochs=2.0, lr=0.001)
    whole = worker.train(spec, Ear(), tmp_path / "whole")
    plain = worker.train({**spec, "options": {**spec["options"], "ema": 0.0}}, Ear(), tmp_path / "plain")
    stopped = worker.train(spec, Ear(lambda e: isinstance(e, StepDone)), tmp_path / "run")
    assert stopped.stopped
    resumed = worker.train(spec, Ear(), tmp_path / "run")
    one, two, other = (load_file(t.folder / "model.safetensors") for t in (whole, resumed, plain))
    assert all(torch.equal(one[n], two[n]) for n in one)
    assert not all(torch.equal(one[n], other[n]) for n in one)


def test_parts_of_a_batch_give_the_gradients_of_the_whole(tmp_path: Path) -> None:
    base = small_base(tmp_path / "base")
    data = films(tmp_path, 32, 8)
    losses = []
    for micro in (0, 3):
        ear = Ear()
        worker.train(order(data, start=base, micro_batch=micro, dropout=False, lr=0.01), ear, tmp_path / str(micro))
        losses.append([e.train_loss for e in ear.all(EpochDone)] + [e.validation_loss for e in ear.all(EpochDone)])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def batch(rows: int = 8, side: int = 16) -> dict[str, torch.Tensor]:
    """Pictures that are all of one value, ten times their row."""
    pictures = torch.arange(rows, dtype=torch.uint8).view(rows, 1, 1, 1).expand(rows, 3, side, side) * 10
    return {"pictures": pictures.contiguous(), "labels": torch.arange(rows)}


def test_pictures_are_laid_over_one_another_by_their_share() -> None:
    found = images.mixed(batch(), random.Random(3), 0.4, 0.0)
    share, others = found["share"][0], found["others"]
    for row in range(8):
        wanted = share * 10 * row + (1 - share) * 10 * float(others[row])
        assert float(found["pictures"][row].float().mean()) == pytest.approx(float(wanted), abs=0.51)
    assert sorted(others.tolist()) == list(range(8))
    again = images.mixed(batch(), random.Random(3), 0.4, 0.0)
    assert torch.equal(found["pictures"], again["pictures"])


def test_a_rectangle_of_another_picture_counts_by_its_area() -> None:
    for seed in range(20):
        found = images.mixed(batch(), random.Random(seed), 0.0, 1.0)
        share, others = float(found["share"][0]), found["others"]
        for row in range(8):
            if int(others[row]) != row:
                same = (found["pictures"][row, 0] == 10 * row).float().mean()
                assert float(same) == pytest.approx(share, abs=1e-6)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("pictures")
    for seed in range(40):
        picture, _, (box, *_) = shapes.scene(seed)
        (root / "p" / box.label).mkdir(parents=True, exist_ok=True)
        picture.save(root / "p" / box.label / f"{seed}.png")
    return root / "sft" / build("p", str(root / "p"), workspace=Workspace(root / "sft").prepare()).file


def image_order(data: Path, **options: Any) -> dict[str, Any]:
    usual = {"augment": "flip", "lr": 0.001, "workers": 0, "epochs": 1.0}
    found = order(data, task="image-classification", start=fetch("lite0"), **{**usual, **options})
    return {**found, "labels": ["disc", "square"]}


def test_mixed_pictures_train_and_are_the_same_with_threads(pictures: Path, tmp_path: Path) -> None:
    seen = []
    for workers in (0, 2):
        ear = Ear()
        worker.train(image_order(pictures, mixup=0.2, cutmix=1.0, workers=workers), ear, tmp_path / str(workers))
        seen.append([e.validation_loss for e in ear.all(EpochDone)])
        assert all(math.isfinite(e.loss) for e in ear.all(StepDone))
    assert seen[0] == seen[1]
    ear = Ear()
    worker.train(image_order(pictures), ear, tmp_path / "plain")
    assert [e.validation_loss for e in ear.all(EpochDone)] != seen[0]


def test_batch_norm_in_parts_is_said(pictures: Path, tmp_path: Path) -> None:
    ear = Ear()
    worker.train(image_order(pictures, micro_batch=4, epochs=0.5), ear, tmp_path)
    assert any("BatchNorm counts over 4 rows" in e.text for e in ear.all(Remark))


def test_what_does_not_go_with_a_task_is_refused(tmp_path: Path) -> None:
    base = small_base(tmp_path / "base")
    data = films(tmp_path, 16, 8)
    for name in ("mixup", "cutmix"):
        with pytest.raises(errors.ModelProblem, match=f"--{name} is not there for text-classification"):
            worker.train(order(data, start=base, **{name: 0.2}), Ear(), tmp_path / name)


def test_one_cycle_and_rates_by_depth_train(tmp_path: Path) -> None:
    spec = order(films(tmp_path, 32, 8), start=small_base(tmp_path / "base"), schedule="one-cycle", layer_decay=0.8)
    ear = Ear()
    found = worker.train(json.loads(json.dumps(spec)), ear, tmp_path / "run")
    assert found.step > 0
    assert [e.lr for e in ear.all(StepDone)]
