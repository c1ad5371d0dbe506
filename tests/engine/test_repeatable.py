"""The same bits every time: CPUs do so anyway and say it; GPUs are made to."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from sft_magics.core import errors
from sft_magics.core.events import Remark
from sft_magics.engine.jobs import worker
from sft_magics.engine.runtime import hardware
from tests.engine.house import Ear, films, order, small_base


def test_a_cpu_says_that_it_does_so_anyway(tmp_path: Path) -> None:
    spec = order(films(tmp_path, 16, 8), start=small_base(tmp_path / "base"), deterministic=True)
    ear = Ear()
    worker.train(spec, ear, tmp_path / "run")
    assert any("on a CPU every run gives the same bits anyway" in e.text for e in ear.all(Remark))
    assert not torch.are_deterministic_algorithms_enabled()


def test_what_has_no_such_form_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The refusal is torch's own, which it raises on CPUs too."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    said = "bilinear_backward does not have a deterministic implementation, but you set"

    def failing(what: str) -> None:
        with hardware.repeatable(wanted=True):
            assert torch.are_deterministic_algorithms_enabled()
            raise RuntimeError(what)

    with pytest.raises(errors.ModelProblem, match="cannot be trained --deterministic: bilinear_backward does not"):
        failing(said)
    assert not torch.are_deterministic_algorithms_enabled()
    with pytest.raises(RuntimeError, match="something else"):
        failing("something else")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_a_gpu_gives_the_same_bits_twice(tmp_path: Path) -> None:
    base = small_base(tmp_path / "base")
    spec = order(films(tmp_path, 64, 8), start=base, deterministic=True, device="cuda", precision="auto", lr=0.001)
    one, two = (
        load_file(worker.train(spec, Ear(), tmp_path / name).folder / "model.safetensors") for name in ("one", "two")
    )
    assert all(torch.equal(one[n], two[n]) for n in one)
