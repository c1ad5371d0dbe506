"""What a step computes is counted, what the machine can is measured, and counting changes nothing."""

from pathlib import Path

import pytest
import torch

from sft_magics.engine.jobs import worker
from sft_magics.engine.runtime import hardware
from sft_magics.engine.training import mfu
from tests.engine.house import Ear, films, order


def test_a_step_is_counted_as_the_textbook_does(tmp_path: Path) -> None:
    """6 operations a weight of a matrix and token (Kaplan et al. 2020), and a little for attention."""
    found, _ = worker.prepare(order(films(tmp_path, 32, 8), batch=32), Ear(), tmp_path)
    before = {n: t.clone() for n, t in found.task.model.state_dict().items()}
    counted = mfu.operations(found)
    batch = found.batch_of(0)
    rows, width = batch["input_ids"].shape
    layers = found.task.model.bert.encoder.layer  # type: ignore[union-attr]
    weights = sum(p.numel() for p in layers.parameters() if p.ndim == 2)  # type: ignore[union-attr]
    assert counted == pytest.approx(6 * rows * width * weights, rel=0.1)
    assert all(torch.equal(before[n], t) for n, t in found.task.model.state_dict().items())


def test_the_peak_is_that_of_a_product_with_the_run_s_threads() -> None:
    chosen = hardware.choose("cpu", "fp32", 1)
    found = mfu.peak(chosen, 0.1)
    assert 1e9 < found < 1e13, "a core does some billions to some thousand billions"
