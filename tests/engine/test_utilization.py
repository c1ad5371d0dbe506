"""What a step computes is counted, what the machine can is measured, and counting changes nothing."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from sft_magics.core.events import Remark
from sft_magics.engine import hardware, loop, utilization, worker
from tests.engine.house import Ear, films, order, small_base


def test_a_step_is_counted_as_the_textbook_does(tmp_path: Path) -> None:
    """6 operations a weight of a matrix and token (Kaplan et al. 2020), and a little for attention."""
    found, _ = worker.prepare(order(films(tmp_path, 32, 8), batch=32), Ear(), tmp_path)
    before = {n: t.clone() for n, t in found.task.model.state_dict().items()}
    counted = utilization.operations(found)
    batch = found.batch_of(0)
    rows, width = batch["input_ids"].shape
    layers = found.task.model.bert.encoder.layer  # type: ignore[union-attr]
    weights = sum(p.numel() for p in layers.parameters() if p.ndim == 2)  # type: ignore[union-attr]
    assert counted == pytest.approx(6 * rows * width * weights, rel=0.1)
    assert all(torch.equal(before[n], t) for n, t in found.task.model.state_dict().items())


def test_the_peak_is_that_of_a_product_with_the_run_s_threads() -> None:
    chosen = hardware.choose("cpu", "fp32", 1)
    found = utilization.peak(chosen, 0.1)
    assert 1e9 < found < 1e13, "a core does some billions to some thousand billions"
    assert utilization.sentence(5e11, 2.0, 1e12) == (
        "A step computes 500 GFLOP, at 250 GFLOP/s: 25% of the 1 TFLOP/s that products of matrices reach here."
    )


def test_a_run_says_it_at_its_end_and_is_none_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = order(films(tmp_path, 16, 8), start=small_base(tmp_path / "base"), lr=0.001)
    quiet = Ear()
    plain = worker.train(spec, quiet, tmp_path / "plain")
    assert not [e for e in quiet.all(Remark) if "FLOP" in e.text], "of a short run nothing is counted"
    monkeypatch.setattr(loop, "_WHILE", 0.0)
    ear = Ear()
    counted = worker.train(spec, ear, tmp_path / "counted")
    (said,) = [e.text for e in ear.all(Remark) if "FLOP" in e.text]
    assert "products of matrices reach here" in said
    one, two = (load_file(t.folder / "model.safetensors") for t in (plain, counted))
    assert all(torch.equal(one[n], two[n]) for n in one)
