"""Evaluations within an epoch: where they are, what they feed, and that a run which is taken up again has the same."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from sft_magics.core.events import EpochDone, Event, Remark, RunPlanned, StepDone, Withdrawn
from sft_magics.engine.jobs import worker
from sft_magics.engine.tasks import find
from sft_magics.engine.tasks.classification import no_better_than_constant
from sft_magics.engine.training import diagnostics, evaluation_schedule
from sft_magics.engine.training.prefetch import Loader
from tests.engine.house import Ear, films, order, small_base


def _due(batches: int, steps: int, eval_steps: int | None) -> list[int]:
    options = {"eval_steps": eval_steps}
    found = [step for step in range(1, steps + 1) if evaluation_schedule.due(step, batches, steps, options)]
    assert evaluation_schedule.count(batches, steps, options) == len(found)
    return found


@pytest.mark.parametrize(
    ("batches", "steps", "eval_steps", "where"),
    [
        (4, 12, 0, [4, 8, 12]),
        (4, 12, None, [4, 8, 12]),
        (4, 10, 0, [4, 8, 10]),
        (10, 20, 4, [4, 8, 10, 14, 18, 20]),
        (10, 20, 5, [5, 10, 15, 20]),
        (10, 20, 99, [10, 20]),
        (1, 3, 1, [1, 2, 3]),
    ],
)
def test_they_are_at_the_ends_of_epochs_and_within(
    batches: int, steps: int, eval_steps: int | None, where: list[int]
) -> None:
    assert _due(batches, steps, eval_steps) == where


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_base(tmp_path_factory.mktemp("small") / "base")


def _weights(trained: worker.Trained) -> dict[str, torch.Tensor]:
    return load_file(trained.folder / "model.safetensors")


def test_more_evaluations_change_no_bit_of_the_last_weights(base: Path, tmp_path: Path) -> None:
    spec = order(films(tmp_path, 80, 16), start=base, epochs=2.0, lr=1e-3)
    last: dict[int, dict[str, torch.Tensor]] = {}
    for inside in (0, 3):
        ear = Ear()
        folder = tmp_path / f"run{inside}"
        worker.train({**spec, "options": {**spec["options"], "eval_steps": inside}}, ear, folder)
        steps = [e.step for e in ear.all(EpochDone)]
        assert steps == ([10, 20] if not inside else [3, 6, 9, 10, 13, 16, 19, 20])
        last[inside] = load_file(folder / "checkpoints" / "step-00000020" / "model.safetensors")
    assert all(torch.equal(last[0][name], last[3][name]) for name in last[0])


def test_a_run_that_is_stopped_between_evaluations_goes_on_to_the_same(base: Path, tmp_path: Path) -> None:
    spec = order(films(tmp_path, 160, 16), start=base, epochs=2.0, lr=2e-3, batch=8, eval_steps=6, patience=4)
    whole = Ear()
    expected = worker.train(spec, whole, tmp_path / "whole")

    def early(event: Event) -> bool:
        return isinstance(event, EpochDone) and event.step >= 12

    stopped = worker.train(spec, Ear(stop=early), tmp_path / "run")
    assert stopped.stopped
    again = Ear()
    found = worker.train(spec, again, tmp_path / "run")
    assert again.all(RunPlanned)[0].resumed_at == 12
    assert found.step == expected.step
    assert all(torch.equal(tensor, _weights(expected)[name]) for name, tensor in _weights(found).items())
    expected_after = [(e.step, e.metrics, e.best) for e in whole.all(EpochDone) if e.step > 12]
    assert [(e.step, e.metrics, e.best) for e in again.all(EpochDone)] == expected_after


def test_patience_counts_evaluations(base: Path, tmp_path: Path) -> None:
    spec = order(films(tmp_path, 160, 40), start=base, epochs=10.0, lr=0.05, eval_steps=4, patience=3)
    ear = Ear()
    trained = worker.train(spec, ear, tmp_path / "run")
    evaluations = [e.step for e in ear.all(EpochDone)]
    assert evaluations.index(trained.step) == len(evaluations) - 4, "three after the best"
    assert ear.all(StepDone)[-1].step == evaluations[-1] < 200
    assert [r for r in ear.all(Remark) if r.text.startswith("No better for 3 evaluations: ended early")]


def _said(ear: Ear) -> list[tuple[str, float | None] | str]:
    return [
        e.topic if isinstance(e, Withdrawn) else (e.text, e.epoch)
        for e in ear.heard
        if isinstance(e, Remark | Withdrawn)
    ]


def test_a_remark_has_its_epoch_and_is_withdrawn_when_it_no_longer_holds() -> None:
    ear = Ear()
    rounds = diagnostics.Rounds(lambda event: ear(event) and None)
    loader = Loader(lambda step: {}, 0, 1)

    def evaluated(epoch: float, **doubts: list[str]) -> None:
        both = {"answers": doubts.get("answers", []), "guessing": doubts.get("guessing", [])}
        rounds.evaluated([[0.7 - n / 20, 0.6, n / 2] for n in range(1, int(epoch * 2) + 1)], both, {"lr": 1}, loader)

    evaluated(0.5, answers=["No b."], guessing=["guessing (0.69)"])
    evaluated(1.0, answers=["No b."], guessing=["guessing (0.68)"])
    evaluated(1.5, answers=["No b."])
    evaluated(2.0)
    evaluated(2.5, answers=["No b."])
    loader.close()
    assert _said(ear) == [
        ("No b.", 0.5), ("guessing (0.69)", 0.5), ("guessing (0.68)", 1.0), "guessing", "answers", ("No b.", 2.5),
    ]  # fmt: skip


def test_a_process_that_takes_a_run_up_withdraws_what_an_earlier_one_said() -> None:
    ear = Ear()
    loader = Loader(lambda step: {}, 0, 1)
    history = [[0.7, 0.6, 1.0], [0.5, 0.5, 2.0]]
    diagnostics.Rounds(lambda event: ear(event) and None).evaluated(history, {"guessing": []}, {"lr": 1}, loader)
    loader.close()
    assert _said(ear) == ["guessing"]


# ---------------------------------------------------------------------------------------------------------------------
# no better than a constant answer


@pytest.mark.parametrize(
    ("targets", "guesses", "useless"),
    [
        ([0] * 60 + [1] * 40, [0] * 100, True),  # the most common class, always
        ([0] * 60 + [1] * 40, [1] * 100, True),  # the other one, always
        ([0] * 60 + [1] * 40, [0] * 55 + [1] * 5 + [0] * 36 + [1] * 4, True),  # as many lost as won
        ([0] * 60 + [1] * 40, [0] * 55 + [1] * 5 + [1] * 36 + [0] * 4, False),
        ([0] * 95 + [1] * 5, [0] * 95 + [1] * 3 + [0] * 2, False),  # three of five rare rows, and nothing lost
        ([0] * 95 + [1] * 5, [0] * 88 + [1] * 7 + [1] * 4 + [0], False),  # less accurate, but the rare class is found
        ([0] * 10 + [1] * 10 + [2] * 10, [0] * 30, True),
        ([0] * 30, [0] * 30, False),  # one class: nothing can be better
        ([], [], False),
    ],
)
def test_answers_are_compared_with_the_most_common_class(targets: list[int], guesses: list[int], useless: bool) -> None:
    found = no_better_than_constant(targets, guesses, ["a", "b", "c"])
    assert bool(found) == useless
    if useless:
        assert "is no better than always answering 'a' (" in found


@pytest.mark.parametrize(("lr", "useless"), [(5.0, True), (3e-3, False)])
def test_a_run_says_whether_it_learned(base: Path, tmp_path: Path, lr: float, useless: bool) -> None:
    texts = [f"{word} day {n}" for n in range(60) for word in ("good", "bad")]
    labels = ["positive", "negative"] * 60
    from tests.engine.house import table

    data = table(tmp_path, texts, labels, (["train"] * 2 + ["validation"] * 2) * 30)
    spec = order(data, start=base, epochs=8.0, lr=lr, dropout=False)
    trained = worker.train(spec, Ear(), tmp_path / "run")
    assert bool(trained.concern) == useless, trained.metrics


def test_masks_are_compared_with_one_class_everywhere() -> None:
    from tests import shapes
    from tests.engine.test_image_training import fetch

    start: dict[str, Any] = {"kind": "folder", "path": str(fetch("lite0"))}
    masks = find("semantic-segmentation").load(start, list(shapes.CLASSES), {})
    rows: Any = None
    constant = [{"counts": [[90, 0, 0], [7, 0, 0], [3, 0, 0]], "loss": 1.0}]
    assert "no better than calling every pixel" in masks.concern(rows, constant)
    assert "(0.300)" in masks.concern(rows, constant)
    assert masks.concern(rows, [{"counts": [[88, 2, 0], [1, 6, 0], [0, 0, 3]], "loss": 1.0}]) == ""
    assert masks.concern(rows, [{"counts": [[90, 0, 0], [0, 0, 0], [0, 0, 0]], "loss": 1.0}]) == "", "one class alone"
