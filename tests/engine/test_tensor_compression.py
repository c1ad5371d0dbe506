"""Compressed tensors come back to the bit, in fewer bytes; a run that rests keeps one checkpoint in that form."""

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from sft_magics.core.events import CheckpointSaved, EpochDone, Event
from sft_magics.engine.jobs import worker
from sft_magics.engine.models import tensor_compression, tensor_files
from tests.engine.house import Ear, films, order, small_base

KINDS = [torch.float32, torch.bfloat16, torch.float16, torch.float64, torch.int64, torch.uint8, torch.bool]


def round_trip(folder: Path, tensors: dict[str, torch.Tensor], reference: dict[str, torch.Tensor] | None) -> int:
    """Pack and unpack; return the bytes of the file."""
    beside = folder / "reference.safetensors" if reference is not None else None
    if beside is not None:
        save_file(reference, beside)
    planes, about = tensor_compression.packed(tensors, beside)
    path = folder / "model.compressed"
    save_file(planes, path, metadata=about)
    again = tensor_compression.unpacked(path, beside)
    assert list(again) == list(tensors)
    for name, tensor in tensors.items():
        assert (again[name].dtype, again[name].shape) == (tensor.dtype, tensor.shape), name
        assert _bits(again[name]) == _bits(tensor), name
    return path.stat().st_size


def _bits(tensor: torch.Tensor) -> bytes:
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(), (0,), (1,), (3, 5), (0, 4), (64, 64)])
def test_every_dtype_and_shape(tmp_path: Path, kind: torch.dtype, shape: tuple[int, ...]) -> None:
    tensor = (torch.randn(shape) * 100).to(kind)
    round_trip(tmp_path, {"a": tensor}, None)
    round_trip(tmp_path, {"a": tensor, "b": tensor.clone()}, {"a": (torch.randn(shape) * 100).to(kind)})


@given(st.binary(min_size=4, max_size=400), st.binary(min_size=400, max_size=400))
@settings(max_examples=50, deadline=None)
def test_any_bits_come_back_not_a_number_included(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, other: bytes
) -> None:
    one = torch.frombuffer(bytearray(data[: len(data) // 4 * 4]), dtype=torch.float32)
    two = torch.frombuffer(bytearray(other[: one.numel() * 4]), dtype=torch.float32)
    round_trip(tmp_path_factory.mktemp("bits"), {"a": one}, {"a": two})


def test_equal_tensors_take_no_room_and_near_ones_half(tmp_path: Path) -> None:
    torch.manual_seed(0)
    weights = torch.randn(512, 512) * 0.02
    assert round_trip(tmp_path, {"a": weights}, {"a": weights.clone()}) < 2_000
    near = weights + torch.randn(512, 512) * 1e-5
    assert round_trip(tmp_path, {"a": near}, {"a": weights}) < 0.7 * weights.nbytes
    assert round_trip(tmp_path, {"a": near}, {"a": weights.double()}) < 1.01 * weights.nbytes, "another dtype"
    assert round_trip(tmp_path, {"b": near}, {"a": weights}) < 1.01 * weights.nbytes, "another name"


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_a_stopped_run_keeps_one_compressed_checkpoint_and_goes_on_to_the_same_bits(tmp_path: Path, ema: float) -> None:
    spec = order(films(tmp_path, 48, 8), start=small_base(tmp_path / "base"), batch=4, epochs=3.0, ema=ema)
    worker.train(spec, Ear(), tmp_path / "whole")
    heard: list[Event] = []

    def stop(event: Event) -> bool:  # a few steps after the first evaluation
        heard.append(event)
        best = next((e.step for e in heard if isinstance(e, EpochDone)), None)
        return best is not None and isinstance(event, CheckpointSaved) and event.step > best

    often = {**spec, "options": {**spec["options"], "checkpoint_seconds": 0.0}}
    assert worker.train(often, Ear(stop), tmp_path / "run").stopped
    run = tmp_path / "run"
    (left,) = (run / "checkpoints").iterdir()
    assert (left / "model.compressed").is_file()
    assert not (left / "model.safetensors").exists()
    assert (left / "reference.safetensors").samefile(run / "best" / "model.safetensors")
    weights = tensor_files.part(left)
    assert (left / "model.compressed").stat().st_size < 0.9 * sum(t.nbytes for t in weights.values())
    worker.train(spec, Ear(), run)
    one, two = (load_file(folder / "best" / "model.safetensors") for folder in (run, tmp_path / "whole"))
    assert all(torch.equal(one[name], two[name]) for name in two)
