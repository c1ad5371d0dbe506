"""Numbers that are not numbers, and memory that is not there."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from sft_magics.core import errors
from sft_magics.core.events import CheckpointSaved, Remark, RunPlanned, StepDone
from sft_magics.engine import tasks
from sft_magics.engine.jobs import worker
from sft_magics.engine.tasks import Batch
from sft_magics.engine.tasks.text_classification import TextClassification
from tests.engine.house import Ear, films, order, small_base

pytestmark = pytest.mark.alone

ROOT = Path(__file__).resolve().parents[2]


class Moody(TextClassification):
    """A task as a third party would add it: the loss of the batches whose number is in `bad` is not a number."""

    bad: frozenset[int] = frozenset()
    seen = 0

    def loss(self, batch: Batch) -> torch.Tensor:
        Moody.seen += 1
        return super().loss(batch) * (float("nan") if Moody.seen in Moody.bad else 1.0)


@pytest.fixture(autouse=True)
def moody() -> Iterator[None]:
    known = dict(tasks.base._TASKS)
    tasks.register("moody")(Moody)
    Moody.seen = 0
    yield
    tasks.base._TASKS.clear()
    tasks.base._TASKS.update(known)


def train(tmp_path: Path, bad: frozenset[int], **options: float) -> tuple[Ear, worker.Trained]:
    Moody.bad = bad
    ear = Ear()
    spec = order(
        films(tmp_path, 48, 8), start=small_base(tmp_path / "base"), task="moody", batch=4, warmup=0.0, **options
    )
    return ear, worker.train(spec, ear, tmp_path / "run")


def test_a_step_that_is_not_a_number_is_left_out_and_said(tmp_path: Path) -> None:
    ear, trained = train(tmp_path, frozenset({3}))
    assert [r.text for r in ear.all(Remark) if "not a number" in r.text] == [
        "Step 3: the loss is not a number (from classifier down); the step was left out."
    ]
    assert ear.all(StepDone)[-1].step == 12
    assert trained.step == 12


def test_three_in_a_row_go_back_to_the_checkpoint_at_half_the_rate(tmp_path: Path) -> None:
    ear, trained = train(tmp_path, frozenset({6, 7, 8}), checkpoint_seconds=0.0)
    assert [p.resumed_at for p in ear.all(RunPlanned)] == [0, 5]
    assert any("half the rate" in r.text for r in ear.all(Remark))
    by_step = {s.step: s.lr for s in ear.all(StepDone)}
    assert by_step[12] == pytest.approx(5e-5 * 1 / 12 / 2)
    assert not trained.stopped


def test_three_in_a_row_before_any_checkpoint_go_on_at_half_the_rate(tmp_path: Path) -> None:
    ear, trained = train(tmp_path, frozenset({1, 2, 3}))
    assert ear.all(StepDone)[-1].lr == pytest.approx(5e-5 * 1 / 12 / 2)
    assert any("going on at half the rate" in r.text for r in ear.all(Remark))
    assert not trained.stopped


def test_again_at_half_the_rate_ends_the_run_with_a_next_step_and_keeps_the_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(errors.RunProblem, match="not a number again and again") as problem:
        train(tmp_path, frozenset(range(4, 99)), checkpoint_seconds=0.0)
    assert "--lr 5e-06" in problem.value.next_step
    assert (tmp_path / "run" / "checkpoints" / "step-00000003" / "manifest.json").is_file()


def test_a_rate_that_blows_the_weights_up_is_caught(tmp_path: Path) -> None:
    spec = order(films(tmp_path, 96, 8), batch=4, warmup=0.0, lr=1e30)
    with pytest.raises(errors.RunProblem, match="not a number"):
        worker.train(spec, Ear(), tmp_path / "run")


@pytest.mark.skipif(sys.platform != "linux", reason="the limit on address space is Linux's")
def test_memory_that_runs_out_is_a_sentence_with_a_smaller_batch(tmp_path: Path) -> None:
    spec = order(films(tmp_path, 256, 8), batch=256, max_length=48)
    file, run = tmp_path / "spec.json", tmp_path / "run"
    file.write_text(json.dumps({**spec, "memory": 300_000_000}))
    run.mkdir()
    for _ in range(3):  # where it is a library's own small allocation that fails, that one ends the process
        child = subprocess.run(
            [sys.executable, "-m", "tests.engine.trainer", str(file), str(run)],
            cwd=ROOT, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if child.returncode >= 0:
            break
    kind, what, step = child.stdout.splitlines() or ["", child.stderr[-2000:], ""]
    assert (kind, what) == ("RunProblem", "The memory of this machine is not enough for this job.")
    assert "--batch 128" in step


def test_an_error_that_is_none_of_memory_is_not_hidden_as_one(tmp_path: Path) -> None:
    def sink(event: object) -> str:
        if isinstance(event, CheckpointSaved | StepDone):
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        return ""

    with pytest.raises(RuntimeError, match="illegal"):
        worker.train(order(films(tmp_path, 8, 8)), sink, tmp_path / "run")
