"""The doctor: each remark where it is due, once, and none for a healthy run; and in a real run that overfits."""

import math
import random
from pathlib import Path

import pandas as pd
import pytest
import torch

from sft_magics.core.events import EpochDone, Remark, StepDone
from sft_magics.core.workspace import Workspace
from sft_magics.datasets import build
from sft_magics.engine.jobs import worker
from sft_magics.engine.tasks import find
from sft_magics.engine.training import diagnostics
from sft_magics.engine.training.prefetch import Loader
from tests import shapes
from tests.engine import test_causal_lm as words
from tests.engine import test_image_training as images
from tests.engine.house import Ear, films, order, small_base
from tests.engine.test_causal_lm import base  # noqa: F401 - a fixture


def dated(history: list[list[float]]) -> list[list[float]]:
    """Evaluations at the end of each epoch."""
    return [[*losses, epoch] for epoch, losses in enumerate(history, 1)]


def said(history: list[list[float]]) -> list[list[str]]:
    """What is said after each epoch."""
    history = dated(history)
    return [diagnostics.remarks(history[: n + 1], 3e-4) for n in range(len(history))]


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
    assert diagnostics.remarks(dated([[0.5, 0.4], [bad, 0.5], [0.2, bad]]), 0.1) == []


def test_waiting_for_batches_is_said_with_what_to_try() -> None:
    assert diagnostics.waiting(1.0, 10.0, 2) == ""
    assert diagnostics.waiting(0.0, 0.0, 0) == ""
    assert diagnostics.waiting(5.0, 10.0, 2) == "50% of the epoch was spent waiting for batches: try --workers 4."


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
    assert diagnostics.where_broken(model) == ""
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    model[1].weight.grad = torch.full((2, 2), math.nan)
    model[0].weight.grad = torch.full((2, 2), math.inf)
    assert diagnostics.where_broken(model) == " (from 1 down)"
    with torch.no_grad():
        model[2].bias[0] = math.inf
    assert diagnostics.where_broken(model) == " (the weights of 2 are none)"


def noisy(start: float, end: float, steps: int, noise: float, seed: int = 0) -> list[float]:
    """Losses that go from one value to another on a straight line, with noise."""
    draw = random.Random(seed)
    return [start + (end - start) * i / steps + draw.gauss(0, noise) for i in range(steps)]


def test_a_loss_that_does_not_fall_is_told_from_one_that_is_only_noisy() -> None:
    once = [[0.69, 0.69, 1.0]]
    assert diagnostics.not_falling(noisy(0.693, 0.693, 200, 0.02), once).startswith(
        "The training loss does not fall: 0.69"
    )
    assert diagnostics.not_falling(noisy(0.7, 0.72, 200, 0.02), once) != ""
    for falls in (noisy(0.7, 0.5, 200, 0.05), noisy(5.0, 4.0, 80, 0.3), noisy(0.7, 0.6, 60, 0.02)):
        assert diagnostics.not_falling(falls, once) == ""
    said = sum(diagnostics.not_falling(noisy(3.0, 2.7, 60, 1.0, seed), once) != "" for seed in range(100))
    assert said <= 5, "such steps show nothing either way"
    assert all(diagnostics.not_falling(noisy(0.693, 0.693, 200, 0.02, seed), once) != "" for seed in range(20))
    assert diagnostics.not_falling([0.7] * 30, once) == "", "a few steps neither"
    assert diagnostics.not_falling([0.7] * 50 + [math.nan] * 50, once) == ""
    spiky = noisy(0.7, 0.5, 200, 0.02)
    spiky[-3:] = [40.0] * 3
    assert diagnostics.not_falling(spiky, once) == "", "a median does not mind"


def test_over_epochs_it_is_said_when_none_is_below_the_first() -> None:
    assert "has not fallen in 2 epochs: from 0.690 to 0.688" in diagnostics.not_falling(
        [], dated([[0.69, 0.7], [0.688, 0.7]])
    )
    assert diagnostics.not_falling([], dated([[0.69, 0.7], [0.6, 0.7], [0.69, 0.7]])) == "", "it had fallen"
    assert diagnostics.not_falling([], []) == ""
    assert diagnostics.not_falling([], [[math.nan, 0.7], [0.69, 0.7]]) == ""


@pytest.mark.parametrize(("rate", "flat"), [(1e-12, True), (2e-3, False)])
def test_a_real_run_at_no_rate_is_told(tmp_path: Path, rate: float, flat: bool) -> None:
    """Masks: there is no loss of guessing to compare with."""
    folder = shapes.masks_folder(tmp_path / "masks", 24, 4)
    dataset = build("shapes", str(folder), workspace=Workspace(tmp_path / "sft").prepare())
    spec = images.order(tmp_path / "sft" / dataset.file, lr=rate, augment="none", epochs=3.0, batch=4)
    ear = Ear()
    worker.train(spec | {"task": "semantic-segmentation", "labels": list(dataset.labels)}, ear, tmp_path / "run")
    said = [r.text for r in ear.all(Remark) if "not fall" in r.text]
    assert len(said) == (1 if flat else 0), "once"


def test_within_an_epoch_too(tmp_path: Path) -> None:
    ear = Ear()
    spec = order(films(tmp_path, 200, 20), start=small_base(tmp_path / "base"), lr=1e-12, batch=4, label_smoothing=0.1)
    worker.train(spec, ear, tmp_path / "run")
    assert [r for r in ear.all(Remark) if r.text.startswith("The training loss does not fall")]


def test_a_step_whose_labels_are_all_masked_is_told_and_does_not_count(base: Path, tmp_path: Path) -> None:  # noqa: F811
    long = "word " * 60
    table = pd.DataFrame({"prompt": [long + str(n) if n % 2 else f"Say {n}." for n in range(40)],
                          "response": [f"It is {n}." for n in range(40)]})  # fmt: skip
    dataset = build("x", table, workspace=Workspace(tmp_path / "sft").prepare())
    spec = words.order(tmp_path / "sft" / dataset.file, base, batch=1, max_length=40)
    ear = Ear()
    worker.train(spec, ear, tmp_path / "run")
    warned = [r.text for r in ear.all(Remark) if r.level == "warning"]
    assert any("no token of an answer left" in text and "labels are masked" in text for text in warned)
    assert len([text for text in warned if "all labels of its batch are masked" in text]) == 1
    assert min(e.loss for e in ear.all(StepDone)) > 1.0, "no loss of 0.0 is hidden in the mean"


def test_masks_without_a_class_are_told(tmp_path: Path) -> None:
    from PIL import Image

    task = find("semantic-segmentation").load(
        {"kind": "folder", "path": str(images.fetch("lite0"))}, list(shapes.CLASSES), {}
    )
    picture, mask, _ = shapes.scene(0)
    picture.save(tmp_path / "a.png")
    mask.save(tmp_path / "m.png")
    Image.new("L", (64, 64), 255).save(tmp_path / "n.png")
    rows = task.encode([str(tmp_path / "a.png")] * 2, [str(tmp_path / "m.png"), str(tmp_path / "n.png")])
    assert task.warnings(rows) == [
        "1 training mask has no pixel with a class (255 is none): nothing is learned from them."
    ]
    assert task.warnings(task.encode([str(tmp_path / "a.png")], [str(tmp_path / "m.png")])) == []


def test_a_class_that_is_never_predicted_is_told_of_boxes_and_masks() -> None:
    from sft_magics.engine.tasks import object_detection as boxes

    assert boxes._never({"disc": (3, 4, 5), "square": (0, 0, 7)}) == ["No validation box is answered with square."]
    assert boxes._never({"disc": (3, 4, 5), "square": (0, 2, 7)}) == [], "it is predicted, and wrong"
    assert boxes._never({"disc": (3, 4, 5), "square": (0, 0, 0)}) == [], "there is none to find"
    assert boxes._never({"disc": (0, 4, 5), "square": (0, 0, 7)}) == ["No validation box is found yet."]
    task = find("semantic-segmentation").load(
        {"kind": "folder", "path": str(images.fetch("lite0"))}, list(shapes.CLASSES), {}
    )
    counts = [[50, 0, 0], [7, 0, 0], [0, 0, 9]]
    found = task.measure(boxes.Boxed([], boxes.Scenes([], 64)), [{"counts": counts, "loss": 1.0}])
    assert found.remarks == ["No validation pixel is answered with square."]
