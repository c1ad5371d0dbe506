"""After a run in this very process, an interrupted one, one with an error: no model, no tensor, no memory is left."""

import gc
import os
import signal
import sys
from pathlib import Path

import psutil
import pytest
import torch
from torch import nn

import sft_magics as sft
from sft_magics.core.errors import Interrupted, SftError
from sft_magics.engine.tasks import Batch
from sft_magics.engine.tasks.text_classification import TextClassification
from sft_magics.engine.training import loop
from tests.engine.house import small_base

pytestmark = pytest.mark.alone

_SLACK = 40_000_000  # bytes: what allocators and libraries keep for later


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory, film_csv: Path) -> Path:
    """A workspace with a small model, and a first run that lets libraries keep what they will."""
    root = tmp_path_factory.mktemp("memory")
    base = small_base(root / "base")
    sft.data("films", str(film_csv), workspace=root / "ws")
    sft.create("films", data="films", base=str(base), workspace=root / "ws")
    train(root / "ws")
    return root / "ws"


def train(workspace: Path, **options: object) -> None:
    sft.finetune("films", epochs=0.5, threads=1, in_process=True, workspace=workspace, **options)


def interrupted(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = loop.Loop._one_step

    def one_step(self: loop.Loop) -> None:
        real(self)
        if self.state.step == 2:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(loop.Loop, "_one_step", one_step)
    with pytest.raises(Interrupted, match="stopped after step"):
        train(workspace)


def failed(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = TextClassification.loss
    seen = 0

    def loss(self: TextClassification, batch: Batch) -> torch.Tensor:
        nonlocal seen
        seen += 1
        if seen == 4:
            raise ZeroDivisionError
        return real(self, batch)

    monkeypatch.setattr(TextClassification, "loss", loss)
    with pytest.raises(SftError):
        train(workspace)


def done(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train(workspace)


def left(kind: type) -> list[object]:
    return [thing for thing in gc.get_objects() if issubclass(type(thing), kind)]


def tensor_bytes() -> int:
    found = {t.untyped_storage()._cdata: t.untyped_storage().nbytes() for t in left(torch.Tensor)}  # type: ignore[attr-defined]
    return sum(found.values())


@pytest.mark.parametrize("end", [done, interrupted, failed])
def test_host_memory_comes_back(end: object, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gc.collect()
    models, tensors, resident = len(left(nn.Module)), tensor_bytes(), psutil.Process().memory_info().rss
    for _ in range(3):
        end(workspace, monkeypatch)  # type: ignore[operator]
        monkeypatch.undo()
    gc.collect()
    assert len(left(nn.Module)) == models
    assert tensor_bytes() <= tensors + 10_000
    assert psutil.Process().memory_info().rss < resident + _SLACK


def test_an_error_that_the_caller_keeps_holds_no_model(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a kernel does: `sys.last_value` and its traceback live on after the cell."""
    gc.collect()
    models = len(left(nn.Module))
    try:
        failed_with(workspace, monkeypatch)
    except SftError as error:
        sys.last_value = error
    gc.collect()
    assert sys.last_value.__traceback__ is not None
    assert len(left(nn.Module)) == models
    del sys.last_value


def failed_with(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def loss(self: TextClassification, batch: Batch) -> torch.Tensor:
        raise ZeroDivisionError

    monkeypatch.setattr(TextClassification, "loss", loss)
    train(workspace)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@pytest.mark.parametrize("end", [done, interrupted, failed])
def test_gpu_memory_comes_back(end: object, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gc.collect()
    before = torch.cuda.memory_allocated()
    end(workspace, monkeypatch)  # type: ignore[operator]
    gc.collect()
    assert torch.cuda.memory_allocated() <= before + 10_000_000  # cuBLAS keeps its workspace
