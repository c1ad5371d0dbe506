import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.metrics import accuracy_score, confusion_matrix, precision_recall_fscore_support, precision_score

from sft_magics.core import metrics

LABELS = ("negative", "neutral", "positive")


@pytest.mark.parametrize("seed", range(10))
def test_classification_agrees_with_scikit_learn(seed: int) -> None:
    rng = random.Random(seed)
    n = rng.choice([1, 7, 50, 400])
    truths = rng.choices(LABELS, [5, 1, 3], k=n)
    guesses = [t if rng.random() < 0.7 else rng.choice(LABELS) for t in truths]
    counts = metrics.confusion(truths, guesses, LABELS)
    assert counts == confusion_matrix(truths, guesses, labels=LABELS).tolist()
    found = metrics.classification(counts, LABELS)
    assert found["accuracy"].value == pytest.approx(accuracy_score(truths, guesses))
    assert found["accuracy"].n == n
    met = [label for label in LABELS if label in {*truths, *guesses}]
    columns = precision_recall_fscore_support(truths, guesses, labels=met, zero_division=0)
    for name, column in zip(("precision", "recall", "f1"), columns, strict=False):
        for label, value in zip(met, column, strict=True):
            assert found[f"{name}[{label}]"].value == pytest.approx(value)
        assert all(math.isnan(found[f"{name}[{label}]"].value) for label in LABELS if label not in met)
    macro = precision_recall_fscore_support(truths, guesses, zero_division=0, average="macro")
    for name, value in zip(("precision", "recall", "f1"), macro, strict=False):
        assert found[name].value == pytest.approx(value)


def test_a_class_that_is_never_predicted_has_a_precision_of_0_and_counts() -> None:
    truths, guesses = ["negative", "neutral", "positive"], ["negative", "negative", "negative"]
    found = metrics.classification(metrics.confusion(truths, guesses, LABELS), LABELS)
    assert found["precision[neutral]"].value == 0.0
    assert found["precision"].value == pytest.approx(precision_score(truths, guesses, average="macro", zero_division=0))
    never = metrics.classification(metrics.confusion(["negative"], ["positive"], LABELS), LABELS)
    assert (never["recall[positive]"].value, never["recall"].value) == (0.0, 0.0)


@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_agrees_with_scipy(pair: tuple[int, int]) -> None:
    hits, n = pair
    exact = binomtest(hits, n).proportion_ci(0.95, method="wilson")
    assert metrics.wilson(hits, n) == pytest.approx((exact.low, exact.high), abs=1e-12)
    low, high = metrics.wilson(hits, n)
    assert 0.0 <= low <= hits / n + 1e-12
    assert hits / n - 1e-12 <= high <= 1.0


def test_wilson_of_the_textbook() -> None:
    # Newcombe 1998, table I: 81 of 263.
    assert metrics.wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert metrics.wilson(0, 0) == (0.0, 1.0)


@given(st.integers(0, 400), st.integers(0, 400))
def test_mcnemar_agrees_with_the_exact_binomial_test(fixed: int, broke: int) -> None:
    expected = binomtest(fixed, fixed + broke, 0.5).pvalue if fixed + broke else 1.0
    assert metrics.mcnemar(fixed, broke) == pytest.approx(expected, rel=1e-9)
    assert metrics.mcnemar(fixed, broke) == metrics.mcnemar(broke, fixed)


def test_mcnemar_copes_with_many_rows() -> None:
    import time

    began = time.process_time()
    expected = binomtest(19_800, 40_000, 0.5).pvalue
    assert metrics.mcnemar(19_800, 20_200) == pytest.approx(expected, rel=1e-6)
    assert metrics.mcnemar(0, 50_000) == 0.0
    assert time.process_time() - began < 20


def test_the_interval_of_f1_is_that_of_the_jaccard_index_carried_over() -> None:
    found = metrics.classification([[30, 10], [5, 55]], ("bad", "good"))["f1[bad]"]
    jaccard = binomtest(30, 45).proportion_ci(0.95, method="wilson")
    assert found.value == pytest.approx(60 / 75)
    assert found.n == 45
    assert (found.low, found.high) == (
        pytest.approx(2 * jaccard.low / (1 + jaccard.low)),
        pytest.approx(2 * jaccard.high / (1 + jaccard.high)),
    )


@given(st.lists(st.lists(st.integers(0, 40), min_size=3, max_size=3), min_size=3, max_size=3))
def test_every_interval_holds_its_value(counts: list[list[int]]) -> None:
    for key, metric in metrics.classification(counts, LABELS).items():
        assert key == metric.key
        if metric.low is not None and metric.high is not None:
            assert metric.low - 1e-9 <= metric.value <= metric.high + 1e-9
        assert math.isnan(metric.value) or 0.0 <= metric.value <= 1.0


def test_nothing_measured_is_not_a_number() -> None:
    found = metrics.classification([[0, 0], [0, 0]], ("bad", "good"))
    assert all(math.isnan(m.value) and m.low is None for m in found.values())
    assert math.isnan(metrics.proportion("accuracy", 0, 0).value)


def test_rows_with_labels_nobody_knows_are_left_out() -> None:
    assert metrics.confusion(["a", "b", "x"], ["a", "y", "a"], ["a", "b"]) == [[1, 0], [0, 0]]
    with pytest.raises(ValueError, match="shorter"):
        metrics.confusion(["a", "b"], ["a"], ["a", "b"])
