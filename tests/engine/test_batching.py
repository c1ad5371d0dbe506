import itertools
import math
from collections import Counter
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from sft_magics.core import errors
from sft_magics.engine.inputs import batching
from sft_magics.engine.runtime.hardware import Hardware
from sft_magics.engine.training.gradients import Gradients

LENGTHS = st.lists(st.integers(1, 300), min_size=1, max_size=400)


@given(LENGTHS, st.integers(1, 40), st.integers(0, 9), st.integers(0, 9))
def test_an_epoch_has_every_row_once_in_the_classic_number_of_steps(
    lengths: list[int], batch: int, seed: int, epoch: int
) -> None:
    batches = batching.epoch_batches(lengths, batch, seed, epoch)
    assert sorted(i for b in batches for i in b) == list(range(len(lengths)))
    assert len(batches) == math.ceil(len(lengths) / batch)
    assert sum(len(b) != batch for b in batches) <= 1


@given(LENGTHS, st.integers(1, 5000))
def test_scoring_has_every_row_once_within_the_budget(lengths: list[int], tokens: int) -> None:
    batches = batching.scoring_batches(lengths, tokens)
    assert sorted(i for b in batches for i in b) == list(range(len(lengths)))
    assert all(len(b) == 1 or len(b) * max(lengths[i] for i in b) <= tokens for b in batches)


def test_the_order_follows_from_seed_and_epoch_alone() -> None:
    lengths = [7 + i * 13 % 40 for i in range(500)]
    orders = {(s, e): batching.epoch_batches(lengths, 16, s, e) for s in range(3) for e in range(3)}
    assert orders[1, 2] == batching.epoch_batches(lengths, 16, 1, 2)
    assert len({str(o) for o in orders.values()}) == 9


def test_rows_of_like_length_share_a_batch_but_batches_come_in_mixed_order() -> None:
    lengths = [5 + i * 7919 % 60 for i in range(3000)]
    batches = batching.epoch_batches(lengths, 32, 0, 0)
    assert batching.padding_waste(lengths, batches) < 0.05
    first = [max(lengths[i] for i in b) for b in batches]
    assert first != sorted(first)
    assert first != sorted(first, reverse=True)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=300), st.integers(0, 9), st.integers(0, 9))
def test_balanced_rows_have_as_many_of_every_class(classes: list[int], seed: int, epoch: int) -> None:
    rows = batching.balanced(classes, seed, epoch)
    assert len(rows) == len(classes)
    counts = Counter(classes[row] for row in rows)
    assert set(counts) == set(classes)
    assert max(counts.values()) - min(counts.values()) <= 1
    for owner in counts:
        times = Counter(row for row in rows if classes[row] == owner)
        each = [times[row] for row, own in enumerate(classes) if own == owner]
        assert max(each) - min(each) <= 1, "a class's rows come in whole rounds"
    assert rows == batching.balanced(classes, seed, epoch)


def test_balanced_rows_are_others_in_another_epoch() -> None:
    classes = [0] * 90 + [1] * 10
    draws = [batching.balanced(classes, 0, epoch) for epoch in range(3)]
    assert len({str(sorted(rows)) for rows in draws}) == 3
    batches = batching.epoch_batches([1 + i % 7 for i in range(100)], 8, 0, 1, draws[1])
    assert sorted(row for batch in batches for row in batch) == sorted(draws[1])


@pytest.mark.parametrize(("rows", "batch"), [(20, 19), (3, 2), (5, 2), (101, 50), (20, 5), (1, 8)])
def test_no_batch_has_a_single_row_where_two_are_needed(rows: int, batch: int) -> None:
    for epoch in range(3):
        found = batching.epoch_batches([3] * rows, batch, 1, epoch, least=2)
        assert len(found) == -(-rows // batch), "the number of steps stays"
        assert set(itertools.chain.from_iterable(found)) == set(range(rows))
        assert all(len(one) >= min(2, rows) and len(set(one)) == len(one) <= batch for one in found)
        if batch > 2:
            assert sum(map(len, found)) == rows, "each row once"


def test_a_last_row_that_is_alone_trains_with_batch_norm() -> None:
    task = SimpleNamespace(model=nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)), weight=lambda b: float(len(b["x"])))
    task.loss = lambda b: task.model(b["x"]).square().mean()
    hardware = Hardware(torch.device("cpu"), "fp32", 1, "")
    made = Gradients(task, {"batch": 5, "micro_batch": 2}, hardware, lambda event: None)  # type: ignore[arg-type]
    assert made.least == 2
    assert bool(torch.isfinite(made.of({"x": torch.randn(5, 2)}, 5)))
    with pytest.raises(errors.RunProblem, match="cannot train on a single row"):
        made.of({"x": torch.randn(1, 2)}, 1)
