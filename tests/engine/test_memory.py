"""Memory that is short: batches are taken in parts that fit, by trial before the run or when it runs out."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from sft_magics.core.events import EpochDone, EventReader, Remark, StepDone
from sft_magics.core.runtime.fetching import fetch
from sft_magics.core.workspace import Workspace
from sft_magics.datasets import build
from sft_magics.engine.jobs import worker
from sft_magics.engine.runtime import free_memory, memory
from sft_magics.engine.training import autotune, trial_steps
from tests import shapes
from tests.engine.house import Ear, films, order, small_base

pytestmark = pytest.mark.alone

ROOT = Path(__file__).resolve().parents[2]
# The limit is on addresses: what malloc keeps of freed memory, and what a thread's arena takes at once, count as taken,
# and there is none left for the kernels of smaller parts, or there is, by chance.
_GIVES_BACK = {"MALLOC_MMAP_THRESHOLD_": "262144", "MALLOC_ARENA_MAX": "2"}
linux = pytest.mark.skipif(sys.platform != "linux", reason="the limit on address space is Linux's")


def limited(folder: Path, spec: dict[str, Any], more: int, since: str = "RunPlanned") -> Ear:
    """Train in a process that may have `more` bytes from its first event of the kind `since` on."""
    run = folder / f"run-{more}"
    run.mkdir()
    file = folder / "spec.json"
    file.write_text(json.dumps({**spec, "memory": more, "memory_from": since}))
    child = subprocess.run(
        [sys.executable, "-m", "tests.engine.trainer", str(file), str(run)],
        cwd=ROOT, capture_output=True, text=True, check=False, env={**os.environ, **_GIVES_BACK},
    )  # fmt: skip
    assert (child.returncode, child.stdout) == (0, ""), child.stdout + child.stderr[-2000:]
    ear = Ear()
    for event in EventReader(run / "events.jsonl").read():
        ear(event)
    return ear


def said(ear: Ear, what: str) -> list[str]:
    return [e.text for e in ear.all(Remark) if what in e.text]


def numbers(ear: Ear) -> list[float]:
    return [n for e in ear.all(EpochDone) for n in (e.train_loss, e.validation_loss)]


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The order of a run whose batches take more than the rest of it: its first epoch is two steps of 512 rows."""
    root = tmp_path_factory.mktemp("large")
    return order(films(root, 1024, 8), start=small_base(root / "base"), batch=512, dropout=False, lr=0.001)


@pytest.fixture(scope="module")
def whole(large: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> list[float]:
    """The losses of that run where there is memory enough."""
    ear = Ear()
    worker.train(large, ear, tmp_path_factory.mktemp("whole"))
    assert not said(ear, "memory")
    return numbers(ear)


@linux
def test_a_cpu_that_runs_out_takes_smaller_parts_and_ends_with_the_same_losses(
    large: dict[str, Any], whole: list[float], tmp_path: Path
) -> None:
    ear = limited(tmp_path, large, 70_000_000)
    halved = said(ear, "The memory is full")
    assert halved[0] == "The memory is full: batches are taken in parts of 256 rows; the steps stay the same."
    assert ear.all(StepDone)[-1].step == 2
    assert numbers(ear) == pytest.approx(whole, rel=1e-5)


@linux
def test_auto_takes_parts_that_fit_so_that_nothing_runs_out(
    large: dict[str, Any], whole: list[float], tmp_path: Path
) -> None:
    ear = limited(
        tmp_path, {**large, "options": {**large["options"], "micro_batch": "auto"}}, 150_000_000, since="Remark"
    )
    assert not said(ear, "is full")
    (chosen,) = said(ear, "Batches of 512 rows are taken in parts of")
    assert "the steps stay the same" in chosen
    assert "are free" in chosen
    assert numbers(ear) == pytest.approx(whole, rel=1e-5)


def test_auto_takes_the_whole_where_it_fits_and_leaves_no_trace_of_its_trial(tmp_path: Path) -> None:
    spec = order(films(tmp_path, 32, 8), start=small_base(tmp_path / "base"), lr=0.001)
    found = {}
    for micro in (0, "auto"):
        ear = Ear()
        made = worker.train({**spec, "options": {**spec["options"], "micro_batch": micro}}, ear, tmp_path / str(micro))
        found[micro] = load_file(made.folder / "model.safetensors")
    assert made.chosen == {"micro_batch": 0}
    assert said(ear, "Batches of 8 rows are taken whole: a step takes about")
    assert all(torch.equal(found[0][n], found["auto"][n]) for n in found[0])


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The order of a run on pictures, by a net with BatchNorm."""
    root = tmp_path_factory.mktemp("pictures")
    for seed in range(24):
        picture, _, (box, *_) = shapes.scene(seed)
        (root / "p" / box.label).mkdir(parents=True, exist_ok=True)
        picture.save(root / "p" / box.label / f"{seed}.png")
    data = root / "sft" / build("p", str(root / "p"), workspace=Workspace(root / "sft").prepare()).file
    spec = order(data, task="image-classification", start=fetch("lite0"), image_size=64, workers=0)
    return {**spec, "labels": ["disc", "square"]}


def test_what_is_chosen_is_kept_by_checkpoints_and_said_of_batch_norm(
    pictures: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = {**pictures, "options": {**pictures["options"], "micro_batch": "auto", "epochs": 2.0}}
    monkeypatch.setattr(memory, "free_bytes", lambda _: 1)  # what is chosen then is the least that BatchNorm bears
    ear = Ear(lambda e: isinstance(e, StepDone))
    assert worker.train(spec, ear, tmp_path / "run").stopped
    assert said(ear, "taken in parts of 2")
    assert said(ear, "BatchNorm counts over 2 rows at a time")
    monkeypatch.setattr(memory, "free_bytes", lambda _: 10**12)
    ear = Ear()
    made = worker.train(spec, ear, tmp_path / "run")
    assert made.chosen == {"micro_batch": 2}
    assert not said(ear, "are taken")
    assert said(ear, "BatchNorm counts over 2 rows at a time")


def test_a_trial_on_a_gpu_takes_the_most_that_fits(pictures: dict[str, Any], tmp_path: Path) -> None:
    """The search is the same wherever the trial steps run; here on the CPU, with a limit that the loss sets itself."""
    loop, _ = worker.prepare(pictures, Ear(), tmp_path)
    real = loop.task.loss

    def loss(batch: dict[str, torch.Tensor]) -> torch.Tensor:
        if len(batch["labels"]) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return real(batch)

    loop.task.loss = loss  # type: ignore[method-assign]
    rows, why = autotune.by_trial(loop, loop.batch_of(autotune.costliest(loop)))
    assert rows in (2, 4)
    assert "ms a row" in why or "ms more a row" in why


def test_a_trial_puts_everything_back(pictures: dict[str, Any], tmp_path: Path) -> None:
    loop, _ = worker.prepare(pictures, Ear(), tmp_path)
    model, batch = loop.task.model, loop.batch_of(0)
    before = {n: b.clone() for n, b in model.state_dict().items()}
    chance = torch.get_rng_state()
    with trial_steps.untouched(model):
        assert trial_steps.memory_of(loop.gradients, batch) > 1_000_000
        assert not all(torch.equal(before[n], b) for n, b in model.state_dict().items()), "BatchNorm has counted"
    assert all(torch.equal(before[n], b) for n, b in model.state_dict().items())
    assert torch.equal(chance, torch.get_rng_state())
    assert all(p.grad is None for p in model.parameters())


def test_the_meter_counts_what_is_held_at_once() -> None:
    net = nn.Sequential(*[nn.Linear(1000, 1000, bias=False) for _ in range(4)])
    rows = torch.randn(500, 1000)
    with memory.Meter() as meter:
        net(rows).sum().backward()
        # four results of 2 MB, then gradients of 4 MB each, the last ones beside what is left of the results
        assert 4 * 4_000_000 <= meter.now < 4 * 4_000_000 + 10_000
        assert 16_000_000 <= meter.peak <= 24_000_000
        net.zero_grad()
        assert meter.now < 10_000


@pytest.mark.parametrize(
    ("error", "memory_s"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), True),
        (
            RuntimeError("[enforce fail at alloc_cpu.cpp:121] . DefaultCPUAllocator: can't allocate memory: you tried"),
            True,
        ),
        (RuntimeError("could not create a primitive"), True),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_how_memory_runs_out_is_told_from_other_errors(error: BaseException, memory_s: bool) -> None:
    assert memory.ran_out(error) is memory_s


def test_what_is_free_is_no_more_than_a_container_leaves(tmp_path: Path) -> None:
    (tmp_path / "memory.max").write_text("1000\n")
    (tmp_path / "memory.current").write_text("700\n")
    (tmp_path / "memory.stat").write_text("anon 500\ninactive_file 200\n")
    assert list(free_memory._left(tmp_path)) == [500]
    (tmp_path / "memory.max").write_text("max\n")
    assert list(free_memory._left(tmp_path)) == []
    assert 0 < memory.free_bytes(torch.device("cpu")) < 10**15
