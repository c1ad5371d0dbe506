"""Flipped answers and the paired bootstrap, against counts by hand and against simulated truth."""

import random

import pytest

from sft_magics.core import metrics, paired_tests

LABELS = ("no", "yes", "maybe")


def answers(n: int, right: float, seed: int) -> tuple[list[str], list[str]]:
    chance = random.Random(seed)
    truths = [chance.choice(LABELS) for _ in range(n)]
    return truths, [t if chance.random() < right else chance.choice(LABELS) for t in truths]


def test_flips_are_rows_that_only_one_gets_right() -> None:
    truths = ["yes", "yes", "no", "no", "no"]
    before = ["yes", "no", "no", "yes", "maybe"]
    after = ["no", "yes", "no", "no", "yes"]
    assert paired_tests.flipped(truths, before, after) == ([1, 3], [0])


@pytest.mark.parametrize("metric", ["accuracy", "precision", "recall", "f1"])
def test_the_difference_is_that_of_the_measured_metrics(metric: str) -> None:
    truths, before = answers(300, 0.6, 1)
    after = [t if i % 3 else b for i, (t, b) in enumerate(zip(truths, before, strict=True))]
    values = [
        metrics.classification(metrics.confusion(truths, of, LABELS), LABELS)[metric].value for of in (before, after)
    ]
    found = paired_tests.bootstrap(truths, before, after, LABELS, metric)
    assert found.value == pytest.approx(values[1] - values[0])
    assert found.low < found.value < found.high
    assert found.p_value < 0.01
    assert found == paired_tests.bootstrap(truths, before, after, LABELS, metric), (
        "the same question has the same answer"
    )


def test_equal_answers_do_not_differ() -> None:
    truths, before = answers(50, 0.7, 2)
    found = paired_tests.bootstrap(truths, before, before, LABELS, "f1")
    assert (found.value, found.low, found.high, found.p_value) == (0.0, 0.0, 0.0, 1.0)


def test_a_class_that_is_never_predicted_or_never_true_is_no_trouble() -> None:
    found = paired_tests.bootstrap(["no"] * 5, ["no"] * 5, ["yes"] * 5, LABELS, "precision")
    assert found.value == -1.0
    assert paired_tests.bootstrap(["no"], ["yes"], ["no"], LABELS, "f1").value == 1.0
    truths, before = ["yes", "no", "maybe"], ["yes", "yes", "yes"]
    values = [
        metrics.classification(metrics.confusion(truths, of, LABELS), LABELS)["precision"].value
        for of in (before, truths)
    ]
    assert paired_tests.bootstrap(truths, before, truths, LABELS, "precision").value == pytest.approx(
        values[1] - values[0]
    )


def test_chance_is_called_chance_about_as_often_as_it_says() -> None:
    wrong = 0
    for seed in range(40):
        truths, before = answers(200, 0.7, seed)
        _, after = answers(200, 0.7, seed)  # the same truths, and the same answers ...
        other = random.Random(1000 + seed)
        after = [other.choice(LABELS) if other.random() < 0.2 else a for a in after]
        before = [other.choice(LABELS) if other.random() < 0.2 else b for b in before]  # ... spoiled alike
        wrong += paired_tests.bootstrap(truths, before, after, LABELS, "f1").p_value < 0.05
    assert wrong <= 8, "5 % of 40 are 2; more than 8 happen once in 1,000 such tests"
