"""The doctor: each remark where it is due, once, and none for a healthy run; and in a real run that overfits."""

import math
from pathlib import Path

import pytest
import torch

from sft_magics.core.events import EpochDone, Remark
from sft_magics.engine import doctor, worker
from sft_magics.engine.loading import Loader
from tests.engine.house import Ear, films, order


def said(history: list[list[float]]) -> list[list[str]]:
    """What is said after each epoch."""
    return [doctor.remarks(history[: n + 1], 3e-4) for n in range(len(history))]


def test_a_healthy_run_is_left_alone() -> None:
    assert said([[0.7, 0.6], [0.5, 0.5], [0.4, 0.45], [0.3, 0.44], [0.25, 0.445]]) == [[]] * 5


def test_overfitting_is_said_once_with_the_epoch_where_it_began() -> None:
    found = said([[0.7, 0.6], [0.4, 0.5], [0.3, 0.55], [0.2, 0.7], [0.1, 0.9]])
    assert [len(f) for f in found] == [0, 0, 0, 1, 0]
    assert found[3][0].startswith("Overfitting from epoch 3: the validation loss rises from 0.500 to 0.700")
    assert "--patience 2" in found[3][0]


def test_a_validation_loss_that_rises_with_the_training_loss_is_no_overfitting() -> None:
    assert said([[0.5, 0.5], [0.51, 0.55], [0.55, 0.7]]) == [[]] * 3


def test_a_loss_that_jumps_up_points_to_the_rate() -> None:
    assert said([[0.5, 0.5], [0.9, 0.8]])[1] == [
        "The training loss rose from 0.500 to 0.900: the rate is likely too high (--lr 0.0001)."
    ]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_numbers_that_are_none_are_passed_over(bad: float) -> None:
    assert doctor.remarks([[0.5, 0.4], [bad, 0.5], [0.2, bad]], 0.1) == []


def test_waiting_for_batches_is_said_with_what_to_try() -> None:
    assert doctor.waiting(1.0, 10.0, 2) == ""
    assert doctor.waiting(0.0, 0.0, 0) == ""
    assert doctor.waiting(5.0, 10.0, 2) == "50% of the epoch was spent waiting for batches: try --workers 4."


@pytest.mark.parametrize("threads", [0, 3])
def test_the_loader_gives_every_step_its_own_batch_whatever_the_order(threads: int) -> None:
    loader = Loader(lambda step: {"step": torch.tensor([step])}, threads, 20)
    steps = [*range(5, 12), 3, 4, 5, 19]
    assert [int(loader.take(step)["step"]) for step in steps] == steps
    assert loader.waited > 0
    loader.close()


def test_what_a_thread_raises_reaches_the_step_that_needs_it() -> None:
    def make(step: int) -> dict[str, torch.Tensor]:
        if step == 3:
            raise OSError("gone")
        return {"step": torch.tensor([step])}

    loader = Loader(make, 2, 10)
    for step in range(3):
        loader.take(step)
    with pytest.raises(OSError, match="gone"):
        loader.take(3)
    loader.close()


def test_a_run_that_learns_few_rows_by_heart_is_told(tmp_path: Path) -> None:
    ear = Ear()
    spec = order(films(tmp_path, 48, 200), epochs=14.0, lr=3e-4, batch=16, dropout=False, warmup=0.0)
    worker.train(spec, ear, tmp_path / "run")
    losses = [e.validation_loss for e in ear.all(EpochDone)]
    assert losses[-1] > min(losses), "the run must overfit"
    assert len([r for r in ear.all(Remark) if r.text.startswith("Overfitting from epoch")]) == 1


def test_it_names_the_place_where_numbers_end() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
    assert doctor.where_broken(model) == ""
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    model[1].weight.grad = torch.full((2, 2), math.nan)
    model[0].weight.grad = torch.full((2, 2), math.inf)
    assert doctor.where_broken(model) == " (from 1 down)"
    with torch.no_grad():
        model[2].bias[0] = math.inf
    assert doctor.where_broken(model) == " (the weights of 2 are none)"
