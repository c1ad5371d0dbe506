"""Checkpoints and the best folder: whole or not there, also on a disk that refuses."""

import resource
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from torch import nn

from sft_magics.engine.models import tensor_files
from sft_magics.engine.training import checkpoints, optimizers
from sft_magics.engine.training.checkpoints import TrainState


def small() -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 64), nn.LayerNorm(64), nn.Linear(64, 2))
    optimizer = optimizers.adamw(model, 1e-3, 0.01)
    model(torch.randn(4, 64)).sum().backward()
    optimizer.step()
    return model, optimizer


@contextmanager
def file_limit(size: int) -> Iterator[None]:
    """Let files grow to `size` bytes only, as a disk does that is nearly full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_all_comes_back(tmp_path: Path) -> None:
    model, optimizer = small()
    state = TrainState(step=7, rate_scale=0.5, summed_loss=0.1 + 0.2, best_step=3, best_quality=0.75, best_loss=0.5)
    path = checkpoints.save(tmp_path, model, optimizer, state)
    drawn = torch.rand(3)
    other, its = small()
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    assert checkpoints.restore(path, other, its, torch.device("cpu")) == state
    assert torch.equal(torch.rand(3), drawn)
    for a, b in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)
        assert all(torch.equal(optimizer.state[a][k], its.state[b][k]) for k in ("step", "exp_avg", "exp_avg_sq"))


def test_the_newest_two_are_kept(tmp_path: Path) -> None:
    model, optimizer = small()
    for step in (1, 2, 10):
        checkpoints.save(tmp_path, model, optimizer, TrainState(step=step))
    assert [(p.name, good) for p, good in checkpoints.newest(tmp_path)] == [
        ("step-00000010", True), ("step-00000002", True),
    ]  # fmt: skip


def test_a_full_disk_is_an_os_error_and_the_older_checkpoint_stays(tmp_path: Path) -> None:
    model, optimizer = small()
    checkpoints.save(tmp_path, model, optimizer, TrainState(step=1))
    with file_limit(10_000), pytest.raises(OSError, match="large"):
        checkpoints.save(tmp_path, model, optimizer, TrainState(step=2))
    assert [(p.name, good) for p, good in checkpoints.newest(tmp_path)] == [("step-00000001", True)]
    assert [p.name for p in tmp_path.iterdir()] == ["step-00000001"]


def test_a_folder_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    best = tmp_path / "best"
    for text in ("old", "new"):
        checkpoints.replace(best, lambda f, t=text: write(f, t))  # type: ignore[misc]
    assert (best / "a").read_text() == "new"

    def fail(folder: Path) -> None:
        write(folder, "half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        checkpoints.replace(best, fail)
    assert (best / "a").read_text() == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["best"]


def write(folder: Path, text: str) -> None:
    folder.mkdir()
    (folder / "a").write_text(text)


def test_a_kill_between_the_two_renames_loses_nothing(tmp_path: Path) -> None:
    best = tmp_path / "best"
    checkpoints.replace(best, lambda f: write(f, "old"))
    shutil.move(best, tmp_path / ".best-old")
    checkpoints.recover(best)
    assert (best / "a").read_text() == "old"


def test_a_checkpoint_that_rests_is_the_only_one_and_comes_back_to_the_bit(tmp_path: Path) -> None:
    model, optimizer = small()
    best = tmp_path / "best"
    checkpoints.save_part(tensor_files.weights_of(model), best)
    for step in (1, 2):
        path = checkpoints.save(tmp_path / "all", model, optimizer, TrainState(step=step))
    before = {name: tensor_files.part(path, name) for name in ("model", "optimizer", "random")}
    checkpoints.rest(path, best)
    assert [(p.name, good) for p, good in checkpoints.newest(tmp_path / "all")] == [("step-00000002", True)]
    assert (path / "model.compressed").stat().st_size < 2_500, "the weights are those of the best"
    for name, tensors in before.items():
        after = tensor_files.part(path, name)
        assert after.keys() == tensors.keys()
        assert all(torch.equal(after[key], tensor) for key, tensor in tensors.items())
    checkpoints.replace(best, lambda folder: checkpoints.save_part({"a": torch.ones(3)}, folder))
    assert torch.equal(tensor_files.part(path)["0.weight"], before["model"]["0.weight"]), (
        "better weights do not hurt it"
    )
    other, its = small()
    assert checkpoints.restore(path, other, its, torch.device("cpu")).step == 2


def test_a_disk_that_refuses_leaves_the_checkpoint_as_it_is(tmp_path: Path) -> None:
    model, optimizer = small()
    path = checkpoints.save(tmp_path, model, optimizer, TrainState(step=1))
    with file_limit(1_000):
        checkpoints.rest(path, tmp_path / "best")
    assert [p.name for p in tmp_path.iterdir()] == ["step-00000001"]
    assert (path / "model.safetensors").is_file()


def test_a_kill_while_it_is_compressed_loses_nothing(tmp_path: Path) -> None:
    model, optimizer = small()
    path = checkpoints.save(tmp_path, model, optimizer, TrainState(step=1))
    path.rename(tmp_path / ".step-00000001-old")
    assert [(p.name, good) for p, good in checkpoints.newest(tmp_path)] == [("step-00000001", True)]
