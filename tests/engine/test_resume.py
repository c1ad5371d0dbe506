"""Kill -9 at any moment and go on: the same weights, bit for bit. A damaged checkpoint is passed over."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sft_magics.core.events import CheckpointSaved, EpochDone, Event, EventReader, Remark, RunPlanned, StepDone
from sft_magics.engine.jobs import worker
from sft_magics.engine.runtime import launchers
from tests.engine.house import Ear, films, order, small_base

ROOT = Path(__file__).resolve().parents[2]


def digest(run: Path) -> str:
    return hashlib.sha256((run / "best" / "model.safetensors").read_bytes()).hexdigest()


def begin(spec: Path, run: Path) -> subprocess.Popen[bytes]:
    run.mkdir(exist_ok=True)
    with (run / "output.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "tests.engine.trainer", str(spec), str(run)],
            cwd=ROOT, stdout=log, stderr=log, env={**os.environ, **launchers.ENVIRONMENT},
        )  # fmt: skip


def kill_at(child: subprocess.Popen[bytes], run: Path, reached: int) -> None:
    """Kill -9 the child as soon as it says that it has done step `reached`."""
    reader = EventReader(run / "events.jsonl")
    while child.poll() is None:
        if any(isinstance(e, StepDone) and e.step >= reached for e in reader.read()):
            child.send_signal(signal.SIGKILL)
            break
        time.sleep(0.005)
    assert child.wait() == -signal.SIGKILL


@pytest.mark.crash
def test_three_kills_change_no_bit_of_the_weights(tmp_path: Path) -> None:
    # Dropout on and the machine's own precision: random states and batches have to come back too.
    spec = order(films(tmp_path, 80, 8), epochs=2.0, batch=4, precision="auto", checkpoint_seconds=2.0)
    ear = Ear()
    worker.train(spec, ear, tmp_path / "whole")
    file, run = tmp_path / "spec.json", tmp_path / "run"
    file.write_text(json.dumps(spec))
    for reached in (9, 23, 33):
        kill_at(begin(file, run), run, reached)
    last = begin(file, run)
    assert last.wait() == 0, (run / "output.log").read_text()
    heard = list(EventReader(run / "events.jsonl").read())
    resumed = [e.resumed_at for e in heard if isinstance(e, RunPlanned)]
    assert len(resumed) == 4
    assert resumed == sorted(resumed)
    assert resumed[-1] >= 20
    assert digest(run) == digest(tmp_path / "whole")
    ends = [[e for e in events if isinstance(e, EpochDone)][-1] for events in (heard, ear.heard)]
    assert ends[0].train_loss == pytest.approx(ends[1].train_loss, rel=1e-12)
    assert (ends[0].validation_loss, ends[0].metrics) == (ends[1].validation_loss, ends[1].metrics)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict, Path]:
    """A run that was ended at once, with its newest two checkpoints."""
    folder = tmp_path_factory.mktemp("stopped")
    spec = order(films(folder, 48, 8), start=small_base(folder / "base"), batch=4, checkpoint_seconds=0.0)

    class Killed(Exception):
        pass

    def die(event: Event) -> str:
        if isinstance(event, CheckpointSaved) and event.step >= 5:
            raise Killed
        return ""

    with pytest.raises(Killed):
        worker.train(spec, die, folder / "run")
    return spec, folder / "run"


@pytest.mark.parametrize("file", ["model.safetensors", "optimizer.safetensors", "state.json", "manifest.json"])
def test_a_damaged_checkpoint_is_passed_over_with_a_remark(
    stopped: tuple[dict, Path], tmp_path: Path, file: str
) -> None:
    spec, run = stopped
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    older, newer = sorted((copy / "checkpoints").glob("step-*"))
    data = bytearray((newer / file).read_bytes())
    data[len(data) // 2] ^= 1
    (newer / file).write_bytes(data)
    ear = Ear(stop=lambda e: isinstance(e, RunPlanned))
    worker.train(spec, ear, copy)
    assert ear.all(RunPlanned)[0].resumed_at == int(older.name.partition("-")[2])
    assert any(newer.name in r.text and "damaged" in r.text for r in ear.all(Remark))


def test_a_stop_before_the_first_evaluation_can_be_kept(stopped: tuple[dict, Path]) -> None:
    spec, run = stopped
    kept = worker.best_of(spec, Ear(), run)
    assert kept.step == int(max((run / "checkpoints").glob("step-*")).name.partition("-")[2])
    assert len(kept.validation_scores) == 8
    assert (kept.folder / "sft.json").is_file()
