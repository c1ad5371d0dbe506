"""How long a run is where nobody says so."""

import math

import pytest

from sft_magics.core.tasks import CAUSAL_LM, OBJECT_DETECTION, TASKS, TEXT_CLASSIFICATION
from sft_magics.lifecycle.training import length
from sft_magics.lifecycle.training.length import Length, Size
from sft_magics.lifecycle.training.recipe import Recipe


def chosen(
    task: str, rows: int, *, method: str = "full", batch: int = 32, validation: int = 100, continued: bool = False
) -> Length:
    return length.choose(Size(task, rows, validation, continued), method, batch, None, None, None)


@pytest.mark.parametrize(
    ("rows", "epochs"), [(1, 20), (102, 20), (595, 13), (2_000, 4), (8_543, 2), (12_800, 1), (1_000_000, 1)]
)
def test_few_rows_are_read_often_and_many_once(rows: int, epochs: int) -> None:
    found = chosen(TEXT_CLASSIFICATION, rows)
    assert found.epochs == epochs
    assert f"{epochs} epoch" in found.why
    assert "--epochs" in found.why


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("rows", [1, 7, 60, 500, 3_000, 40_000])
def test_every_task_gets_enough_steps_and_not_too_many_passes(task: str, rows: int) -> None:
    found = chosen(task, rows, batch=8)
    batches = math.ceil(rows / 8)
    assert 1 <= found.epochs <= 20
    assert found.epochs * batches >= 100 or found.epochs >= 5, "few steps only where more passes would do harm"
    assert found.epochs * batches <= 400 or found.epochs <= 2, "a long run only where each row is read"
    assert found.patience == 0 or 3 <= found.patience < max(4.0, found.epochs * 4)


def test_a_task_that_is_not_ours_is_taken_for_texts() -> None:
    assert chosen("of-our-own", 595) == chosen(TEXT_CLASSIFICATION, 595)


def test_the_rest_follows_what_a_step_costs_and_what_is_known_already() -> None:
    assert chosen(TEXT_CLASSIFICATION, 595, method="head").epochs == 50, "of features that are computed once"
    assert chosen(TEXT_CLASSIFICATION, 595, continued=True).epochs == 4, "the parent knows the task"
    assert chosen(CAUSAL_LM, 40, batch=8).epochs == 5
    assert chosen(OBJECT_DETECTION, 400, batch=4).epochs == 4


@pytest.mark.parametrize(
    ("rows", "usual", "batch"), [(8_543, 32, 32), (595, 32, 32), (300, 32, 16), (102, 32, 8), (10, 32, 8), (10, 4, 4)]
)
def test_few_rows_are_taken_in_small_batches(rows: int, usual: int, batch: int) -> None:
    assert length.batch_for(rows, usual) == batch
    size = Size(TEXT_CLASSIFICATION, rows)
    assert Recipe().options({"batch": usual}, size)["batch"] == batch
    assert Recipe(batch=usual).options(None, size)["batch"] == usual, "what is given stays"
    assert Recipe(epochs=1.0).options({"batch": usual}, size)["batch"] == usual, "the classic recipe is an option away"


def test_what_is_given_stays() -> None:
    size = Size(TEXT_CLASSIFICATION, 595, 105)
    assert length.choose(size, "full", 32, 3.0, None, None) == Length(3.0, 0, 0, "")
    assert length.choose(size, "full", 32, None, 0, None).patience == 0
    found = length.choose(size, "full", 32, None, 7, 5)
    assert (found.patience, found.eval_steps) == (7, 5)
    assert "7 evaluations" in found.why


def test_without_validation_rows_nothing_ends_early() -> None:
    assert chosen(TEXT_CLASSIFICATION, 595, validation=0).patience == 0


@pytest.mark.parametrize(
    ("rows", "validation", "epochs", "eval_steps"),
    [
        (8_543, 1_000, 1.0, 67),  # four evaluations in the one epoch
        (8_543, 1_500, 1.0, 89),  # three, which take a fifth of the time
        (8_543, 1_500, 2.0, 134),
        (8_543, 1_500, 4.0, 0),  # the epochs' ends are enough
        (1_000, 150, 1.0, 0),  # a short epoch is soon over
        (8_543, 2_000_000, 1.0, 0),  # an evaluation costs more than an epoch
        (100_000, 30_000, 1.0, 1_563),
    ],
)
def test_a_long_epoch_is_evaluated_within(rows: int, validation: int, epochs: float, eval_steps: int) -> None:
    found = length.choose(Size(TEXT_CLASSIFICATION, rows, validation), "full", 32, epochs, None, None)
    assert found.eval_steps == eval_steps


def test_options_without_data_are_of_one_epoch() -> None:
    options = Recipe().options()
    assert (options["epochs"], options["patience"], options["eval_steps"]) == (1.0, 0, 0)
