"""A run whose options change as it trains: at which steps, what the rate does then, and again after a kill."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sft_magics.core import commands, errors
from sft_magics.core.commands import Edit, PendingCommands
from sft_magics.core.events import Edited, EpochDone, EventReader, RunPlanned, StepDone
from sft_magics.engine.jobs import worker
from sft_magics.engine.runtime import launchers
from sft_magics.engine.training import optimizers
from sft_magics.engine.training.live_edits import ScheduleState
from tests.engine.house import Ear, films, order, small_base

ROOT = Path(__file__).resolve().parents[2]
OPTIONS = {"epochs": 4.0, "lr": 1.0, "warmup": 0.1}


def course(schedule: str = "linear", steps: int = 40, **more: Any) -> ScheduleState:
    return ScheduleState.planned({**OPTIONS, "schedule": schedule, **more}, 10, steps)


@pytest.mark.parametrize("schedule", ["linear", "cosine", "constant", "one-cycle"])
def test_without_edits_the_rate_is_that_of_the_schedule(schedule: str) -> None:
    plan = course(schedule)
    assert [plan.rate(s) for s in range(40)] == [optimizers.rate(s, 40, 1.0, 0.1, schedule) for s in range(40)]


@pytest.mark.parametrize("schedule", ["linear", "cosine", "constant", "one-cycle"])
def test_another_rate_holds_from_the_next_step_and_falls_over_what_is_left(schedule: str) -> None:
    plan = course(schedule).edited(20, {"lr": 0.3})
    rates = [plan.rate(s) for s in range(20, 40)]
    assert rates[0] == 0.3
    assert rates == sorted(rates, reverse=True)
    if schedule == "linear":
        assert rates == pytest.approx([0.3 * (20 - i) / 20 for i in range(20)])
    if schedule == "one-cycle":
        assert rates[-1] < 1e-4
    assert (plan.steps, plan.options["lr"]) == (40, 0.3)


def test_another_rate_while_it_rises_is_risen_to() -> None:
    plan = course(warmup=0.5).edited(5, {"lr": 0.4})
    assert [plan.rate(s) for s in (5, 19, 20)] == pytest.approx([0.4 * 6 / 20, 0.4, 0.4])


def test_more_epochs_give_the_rate_of_a_run_of_that_length() -> None:
    plan = course().edited(39, {"epochs": 6.0})
    assert plan.steps == 60
    rise = 4
    assert [plan.rate(s) for s in (39, 59)] == pytest.approx([(60 - 39) / (60 - rise), 1 / (60 - rise)])
    assert course().rate(39) < 0.03 < plan.rate(39), "a run at its end goes on well above zero"
    both = course().edited(30, {"epochs": 6.0, "lr": 0.2})
    assert (both.rate(30), both.rate(59)) == pytest.approx((0.2, 0.2 / 30))


def test_fewer_epochs_end_after_one_more_step_at_the_earliest() -> None:
    assert course().edited(12, {"epochs": 2.0}).steps == 20
    assert course().edited(12, {"epochs": 1.0}).steps == 13
    assert course().edited(40, {"epochs": 1.0}).steps == 40, "a run that has ended is not begun again"


class Teller:
    """Tells edits as if they were typed when the run has done so many steps; counts how often it is asked."""

    def __init__(self, *edits: tuple[int, dict[str, float]], ear: Ear) -> None:
        self.edits, self.ear, self.asked = edits, ear, 0

    def __call__(self) -> PendingCommands:
        self.asked += 1
        done = max((e.step for e in self.ear.all(StepDone)), default=0)
        return PendingCommands("", tuple(Edit(n, c, "ann") for n, (step, c) in enumerate(self.edits) if done >= step))


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Twelve steps, six an epoch; dropout on. Each step is told."""
    folder = tmp_path_factory.mktemp("edits")
    return order(films(folder, 48, 8), start=small_base(folder / "base"), epochs=2.0, lr=1e-3, clip=1.0)


@pytest.fixture(autouse=True)
def every_step_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sft_magics.engine.training.loop._TELL_SECONDS", 0.0)


def digest(run: Path) -> str:
    return hashlib.sha256((run / "best" / "model.safetensors").read_bytes()).hexdigest()


EDITS = ((3, {"lr": 5e-4}), (7, {"more_epochs": 1.0, "clip": 0.5}))


@pytest.fixture(scope="module")
def edited(spec: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Ear, worker.Trained]:
    ear = Ear()
    run = tmp_path_factory.mktemp("edited") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sft_magics.engine.training.loop._TELL_SECONDS", 0.0)
        trained = worker.train(spec, ear, run, Teller(*EDITS, ear=ear))
    return run, ear, trained


def test_edits_are_taken_up_at_the_next_step_said_and_recorded(edited: tuple[Path, Ear, worker.Trained]) -> None:
    run, ear, trained = edited
    first, second = ear.all(Edited)
    assert (first.step, first.changes, first.steps, first.who) == (3, {"lr": [1e-3, 5e-4]}, 12, "ann")
    assert (second.step, second.steps, second.epochs) == (7, 18, 3.0)
    assert second.changes == {"clip": [1.0, 0.5], "epochs": [2.0, 3.0]}
    rates = {e.step: e.lr for e in ear.all(StepDone)}
    assert rates[4] == 5e-4, "the step after the edit"
    assert rates[8] == pytest.approx(5e-4 * (18 - 7) / (18 - 3))
    assert ear.all(StepDone)[-1].step == trained.steps == 18
    assert trained.edits == [{"step": 3, "lr": 5e-4}, {"step": 7, "clip": 0.5, "epochs": 3.0}]
    assert [t.step for t in commands.taken(run / "edits.json")] == [3, 7]


def test_a_run_that_repeats_the_edits_of_another_gives_its_weights(
    spec: dict[str, Any], edited: tuple[Path, Ear, worker.Trained], tmp_path: Path
) -> None:
    again = {**spec, "options": {**spec["options"], "edits": edited[2].edits}}
    found = worker.train(again, Ear(), tmp_path / "again")
    assert digest(tmp_path / "again") == digest(edited[0])
    assert found.edits == edited[2].edits
    worker.train(spec, Ear(), tmp_path / "plain")
    assert digest(tmp_path / "plain") != digest(edited[0]), "the edits did change something"


def test_what_was_told_is_asked_before_every_step_though_nothing_is_said(spec: dict[str, Any], tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sft_magics.engine.training.loop._TELL_SECONDS", 3600.0)
        ear = Ear()
        asked = 0

        def listen() -> PendingCommands:
            nonlocal asked
            asked += 1
            return PendingCommands("", (Edit(0, {"lr": 5e-4}),) if asked > 3 else ())

        worker.train(spec, ear, tmp_path / "run", listen)
    assert [e.step for e in ear.all(Edited)] == [3]
    assert asked == 13


def test_a_stop_is_obeyed_though_nothing_is_said(spec: dict[str, Any], tmp_path: Path) -> None:
    asked = 0

    def listen() -> PendingCommands:
        nonlocal asked
        asked += 1
        return PendingCommands("pause" if asked > 4 else "")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sft_magics.engine.training.loop._TELL_SECONDS", 3600.0)
        trained = worker.train(spec, Ear(), tmp_path / "run", listen)
    assert (trained.stopped, trained.step) == (True, 4)


def test_an_edit_at_the_very_end_prolongs_the_run(spec: dict[str, Any], tmp_path: Path) -> None:
    ear = Ear()
    trained = worker.train(spec, ear, tmp_path / "run", Teller((12, {"more_epochs": 1.0}), ear=ear))
    assert [e.step for e in ear.all(EpochDone)] == [6, 12, 18]
    assert trained.steps == 18
    again = {**spec, "options": {**spec["options"], "edits": trained.edits}}
    worker.train(again, Ear(), tmp_path / "again")
    assert digest(tmp_path / "again") == digest(tmp_path / "run")


def test_an_end_that_lies_behind_comes_after_one_more_step_with_an_evaluation(
    spec: dict[str, Any], tmp_path: Path
) -> None:
    ear = Ear()
    trained = worker.train(spec, ear, tmp_path / "run", Teller((3, {"epochs": 0.1}), ear=ear))
    assert [e.step for e in ear.all(EpochDone)] == [4]
    assert (trained.stopped, trained.step) == (False, 4)


def test_patience_given_later_counts(spec: dict[str, Any], tmp_path: Path) -> None:
    slow = {**spec, "options": {**spec["options"], "lr": 1e-12, "epochs": 5.0}}
    ear = Ear()
    trained = worker.train(slow, ear, tmp_path / "run", Teller((2, {"patience": 1.0}), ear=ear))
    assert ear.all(StepDone)[-1].step < 30
    assert not trained.stopped


def test_an_edit_given_while_steps_are_done_again_comes_after_those_that_are_to_come(
    spec: dict[str, Any], tmp_path: Path
) -> None:
    """Killed after the edit of step 7, resumed at 6, edited meanwhile: the newer edit wins, as it was typed last."""
    ear = Ear(stop=lambda e: isinstance(e, StepDone) and e.step >= 9)
    run = tmp_path / "run"
    worker.train(spec, ear, run, Teller((7, {"lr": 5e-4}), ear=ear))
    shutil.rmtree(run / "checkpoints" / "step-00000009")
    later = Ear()
    told = (Edit(0, {"lr": 5e-4}), Edit(1, {"lr": 1e-4}))
    worker.train(spec, later, run, lambda: PendingCommands("", told))
    assert [(e.step, e.changes["lr"]) for e in later.all(Edited)] == [(7, [1e-3, 5e-4]), (7, [5e-4, 1e-4])]
    assert {e.step: e.lr for e in later.all(StepDone)}[8] == 1e-4


def test_a_damaged_file_of_edits_is_said(spec: dict[str, Any], tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "edits.json").write_text("[{")
    with pytest.raises(errors.RunProblem, match="damaged"):
        worker.train(spec, Ear(), run)


def test_a_disk_that_is_full_lets_an_edit_wait(
    spec: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sft_magics.core.workspace import write_durably

    tries = 0

    def full(path: Path, data: bytes) -> None:
        nonlocal tries
        tries += 1
        if tries <= 2:
            raise OSError(28, "No space left on device")
        write_durably(path, data)

    monkeypatch.setattr("sft_magics.engine.training.live_edits.write_durably", full)
    ear = Ear()
    worker.train(spec, ear, tmp_path / "run", Teller((3, {"lr": 5e-4}), ear=ear))
    assert [e.step for e in ear.all(Edited)] == [5], "it waited for two steps, and holds from where it is written down"


KILLER = """
import json, os, signal, sys, time
from pathlib import Path
from sft_magics.core.events import EventReader, EventWriter, StepDone
from sft_magics.core.commands import CommandQueue
from sft_magics.engine import tasks
from sft_magics.engine.jobs import worker
from sft_magics.engine.training import loop
loop._TELL_SECONDS = 0.0
spec, folder, phases = json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2]), json.loads(sys.argv[3])
tasks.find(spec["task"])
orders = CommandQueue(folder / "orders.jsonl")
for changes, step in phases:
    if changes:
        orders.tell({"do": "edit", "changes": changes, "who": "ann"})
    pid = os.fork()
    if pid == 0:
        writer = EventWriter(folder / "events.jsonl")
        worker.train(spec, lambda e: writer.write(e) or "", folder, orders.told)
        os._exit(0)
    reader = EventReader(folder / "events.jsonl")
    while step and not any(isinstance(e, StepDone) and e.step >= step for e in reader.read()):
        time.sleep(0.005)
    if step:
        os.kill(pid, signal.SIGKILL)
    assert os.waitpid(pid, 0)[1] == (signal.SIGKILL if step else 0)
"""


@pytest.mark.crash
def test_an_edited_run_that_is_killed_gives_the_weights_of_one_that_is_not(tmp_path: Path) -> None:
    base = small_base(tmp_path / "base")
    spec = order(
        films(tmp_path, 160, 8), start=base, epochs=2.0, batch=4, lr=1e-3, checkpoint_seconds=0.3, precision="auto"
    )
    file, run = tmp_path / "spec.json", tmp_path / "run"
    file.write_text(json.dumps(spec))
    run.mkdir()
    phases = [({"lr": 5e-4}, 20), ({"more_epochs": 0.5, "lr": 2e-4}, 50), ({}, 0)]
    words = [sys.executable, "-c", KILLER, str(file), str(run), json.dumps(phases)]
    env = {**os.environ, **launchers.ENVIRONMENT}
    done = subprocess.run(words, cwd=ROOT, env=env, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    found = commands.written(commands.taken(run / "edits.json"))
    assert [sorted(e) for e in found] == [["lr", "step"], ["epochs", "lr", "step"]]
    heard = list(EventReader(run / "events.jsonl").read())
    assert len([e for e in heard if isinstance(e, RunPlanned)]) == 3
    assert max(e.step for e in heard if isinstance(e, StepDone)) == 100
    whole = {**spec, "options": {**spec["options"], "edits": found}}
    worker.train(whole, Ear(), tmp_path / "whole")
    assert digest(run) == digest(tmp_path / "whole")
