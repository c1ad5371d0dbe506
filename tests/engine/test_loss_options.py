"""Variants of the loss, schedules, and ending early: each against a formula or what a run did."""

import math
from pathlib import Path

import pytest
import torch
from torch import nn

from sft_magics.core.events import EpochDone, Remark, RunPlanned, StepDone
from sft_magics.engine.jobs import worker
from sft_magics.engine.tasks.base import Batch
from sft_magics.engine.tasks.classification import Classifier, Labeled
from sft_magics.engine.training import optimizers
from tests.engine.house import Ear, films, order, small_base, table


class Plain(Classifier):
    """A classifier whose logits are given."""

    def logits(self, batch: Batch) -> torch.Tensor:
        return batch["logits"]


class Rows(Labeled):
    """Rows of which only the targets are known."""

    def __init__(self, targets: list[int]) -> None:
        self.targets, self.lengths = targets, [1] * len(targets)


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> Plain:
    monkeypatch.setattr(Plain, "__abstractmethods__", frozenset())
    made = Plain()  # type: ignore[abstract]
    made.labels = ["a", "b", "c"]
    return made


def a_batch() -> Batch:
    generator = torch.Generator().manual_seed(1)
    return {"logits": torch.randn(6, 3, generator=generator), "labels": torch.tensor([0, 0, 0, 0, 1, 2])}


def test_smoothed_labels_are_a_mixture_with_all_classes(plain: Plain) -> None:
    batch = a_batch()
    log = batch["logits"].log_softmax(-1)
    sharp, flat = -log[range(6), batch["labels"]].mean(), -log.mean(-1).mean()
    assert torch.isclose(plain.loss(batch), sharp)
    plain.smoothing = 0.1
    assert torch.isclose(plain.loss(batch), 0.9 * sharp + 0.1 * flat)


def test_balanced_classes_weigh_alike(plain: Plain) -> None:
    batch = a_batch()
    plain.balance(Rows([0] * 80 + [1] * 15 + [2] * 5))
    assert plain.weights is not None
    assert torch.allclose(plain.weights * torch.tensor([80.0, 15.0, 5.0]), torch.tensor(100 / 3))
    each = nn.functional.cross_entropy(batch["logits"], batch["labels"], reduction="none")
    weight = plain.weights[batch["labels"]]
    assert torch.isclose(plain.loss(batch), (each * weight).sum() / weight.sum())
    assert plain.doubts(Rows([0, 1, 2]), 100.0) == [], "the entropy of the shares says nothing of a weighted loss"


def test_class_weights_and_balanced_rows_find_a_rare_class_that_is_missed_without(tmp_path: Path) -> None:
    from sft_magics.datasets.samples.text_samples import read_sample

    texts, labels, _ = read_sample("reviews")
    pick = {name: [i for i, label in enumerate(labels) if label == name] for name in ("negative", "positive")}
    chosen = pick["negative"][20:320] + pick["positive"][20:44]
    held = pick["negative"][320:380] + pick["positive"][44:104]
    indices = chosen + held
    data = table(
        tmp_path, [texts[i] for i in indices], [labels[i] for i in indices],
        ["train"] * len(chosen) + ["validation"] * len(held),
    )  # fmt: skip
    found = {}
    for how in ({"class_weights": "none"}, {"class_weights": "auto"}, {"sampling": "balanced"}):
        ear, (name,) = Ear(), how.values()
        training = order(data, **how, epochs=3.0, batch=16, lr=2e-4, precision="auto", seed=1)
        worker.train(training, ear, tmp_path / name)
        found[name] = max(e.metrics["f1"] for e in ear.all(EpochDone))
        assert ear.all(RunPlanned)[0].rows == len(chosen)
    assert found["auto"] > found["none"] + 0.1
    assert found["balanced"] > found["none"] + 0.1


def test_guessing_is_judged_by_the_classes_as_they_are_drawn(plain: Plain) -> None:
    rows = Rows([0] * 90 + [1] * 10)
    assert plain.doubts(rows, 0.5)
    assert plain.classes(rows) == rows.targets
    assert plain.doubts(rows, 0.5) == [], "half of what is drawn is of the rare class: 0.69 is guessing"
    assert plain.doubts(rows, 0.7)


def test_it_ends_early_and_says_so_and_a_resumed_run_ends_there_too(tmp_path: Path) -> None:
    base = small_base(tmp_path / "base")
    spec = order(films(tmp_path, 64, 40), start=base, epochs=30.0, lr=0.05, patience=2)
    ear = Ear()
    trained = worker.train(spec, ear, tmp_path / "run")
    assert not trained.stopped
    assert len(ear.all(EpochDone)) < 30
    said = [r.text for r in ear.all(Remark) if "ended early" in r.text]
    (text,) = said
    assert text.startswith(f"No better for 2 evaluations: ended early, with the weights of step {trained.step} (epoch ")
    again = Ear()
    assert worker.train(spec, again, tmp_path / "run").step == trained.step
    assert again.all(StepDone) == []


@pytest.mark.parametrize(
    ("schedule", "middle", "last"), [("linear", 0.5, 0.0), ("cosine", 0.5, 0.0), ("constant", 1.0, 1.0)]
)
def test_schedules(schedule: str, middle: float, last: float) -> None:
    rates = [optimizers.rate(step, 100, 2.0, 0.1, schedule) for step in range(101)]
    assert rates[:10] == pytest.approx([2.0 * (i + 1) / 10 for i in range(10)])
    assert rates[10] == 2.0
    assert rates[55] == pytest.approx(2.0 * middle)
    assert rates[100] == pytest.approx(2.0 * last)
    quarter = optimizers.rate(32, 100, 2.0, 0.1, "cosine")
    assert quarter == pytest.approx(1.0 + math.cos(math.pi * 22 / 90))


def test_sgd_is_torchs_own_and_resumes_with_its_momentum() -> None:
    torch.manual_seed(0)
    model = nn.Linear(4, 3)
    made = optimizers.build(model, {"optimizer": "sgd", "lr": 0.1, "momentum": 0.8, "weight_decay": 0.01})
    assert isinstance(made, torch.optim.SGD)
    group = made.param_groups[0]
    assert (group["lr"], group["momentum"], group["weight_decay"], group["nesterov"]) == (0.1, 0.8, 0.01, False)
    model(torch.ones(2, 4)).sum().backward()
    made.step()
    names = {p: n for n, p in model.named_parameters()}
    kept = optimizers.memory_of(made, names)
    other = optimizers.build(model, {"optimizer": "sgd", "lr": 0.1, "momentum": 0.8, "weight_decay": 0.01})
    optimizers.remember(other, names, kept)
    assert all(torch.equal(other.state[p]["momentum_buffer"], made.state[p]["momentum_buffer"]) for p in names)
