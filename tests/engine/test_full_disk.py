"""A disk that is full while it trains, and has room again later: a real one, small. Training goes on and says so."""

import hashlib
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sft_magics.core.events import CheckpointSaved, EpochDone, Event, Remark, StepDone
from sft_magics.engine.jobs import worker
from sft_magics.engine.training import checkpoints
from tests.engine.house import Ear, films, order, small_base

MB = 1_000_000


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 100 MB; a run's weights take 4 MB and a checkpoint 12."""
    folder = tmp_path / "disk"
    folder.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=100m", "tmpfs", str(folder)]
    if subprocess.run(words, capture_output=True, check=False).returncode != 0:
        pytest.skip("a real small disk can only be mounted by root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Twelve steps, six an epoch, a checkpoint after every step."""
    folder = tmp_path_factory.mktemp("full")
    base = small_base(folder / "base")
    return order(films(folder, 48, 8), start=base, epochs=2.0, lr=1e-3, checkpoint_seconds=1e-6)


def fill(disk: Path, left: int = 0) -> None:
    free = shutil.disk_usage(disk).free
    with (disk / "filler").open("wb") as file:
        file.write(b"\0" * max(0, free - left))


def make_room(disk: Path) -> None:
    (disk / "filler").unlink(missing_ok=True)


class Watcher(Ear):
    """Does something at the first event for which a condition holds."""

    def __init__(self, *acts: tuple[Callable[[Event], bool], Callable[[], None]]) -> None:
        super().__init__()
        self.acts = list(acts)

    def __call__(self, event: Event) -> str:
        found = super().__call__(event)
        for act in [a for a in self.acts if a[0](event)]:
            self.acts.remove(act)
            act[1]()
        return found


def saved(step: int) -> Callable[[Event], bool]:
    return lambda e: isinstance(e, CheckpointSaved) and e.step >= step


def full_said(event: Event) -> bool:
    return isinstance(event, Remark) and "disk is full" in event.text


def of_the_disk(ear: Ear) -> list[str]:
    return [r.text for r in ear.all(Remark) if "disk" in r.text]


def digest(run: Path) -> str:
    return hashlib.sha256((run / "best" / "model.safetensors").read_bytes()).hexdigest()


def whole(run: Path) -> list[int]:
    return [int(p.name.partition("-")[2]) for p, good in checkpoints.newest(run / "checkpoints") if good]


def test_training_goes_on_says_so_once_and_again_when_there_is_room(
    disk: Path, spec: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sft_magics.engine.training.loop._TELL_SECONDS", 0.0)
    run = disk / "run"
    there: list[list[int]] = []
    ear = Watcher(
        (saved(2), lambda: fill(disk)),
        (lambda e: isinstance(e, StepDone) and e.step == 5, lambda: there.append(whole(run))),
        (lambda e: isinstance(e, EpochDone), lambda: there.append(whole(run))),
        (lambda e: isinstance(e, StepDone) and e.step == 9, lambda: make_room(disk)),
    )
    trained = worker.train(spec, ear, run)
    first, second = of_the_disk(ear)
    assert "step 3 could not be written, and that of step 2 stays. Training goes on" in first
    assert "room on the disk again: the checkpoint of step 9 is written" in second
    assert [found[0] for found in there] == [2, 2], "the older whole checkpoint is there all the while"
    assert [e.step for e in ear.all(CheckpointSaved)] == [1, 2, 9, 10, 11, 12]
    worker.train(spec, Ear(), tmp_path / "plain")
    assert digest(run) == digest(tmp_path / "plain"), "not a bit differs"
    assert trained.step in (6, 12)


@pytest.mark.parametrize("method", ["full", "head"])
def test_best_weights_that_find_no_room_wait_in_memory_and_are_written_at_the_end(
    disk: Path, spec: dict[str, Any], tmp_path: Path, method: str
) -> None:
    run = disk / "run"
    last = {**spec, "options": {**spec["options"], "checkpoint_seconds": 3600.0, "epochs": 1.0, "method": method}}

    def measured(event: Event) -> bool:
        return getattr(event, "what", "") == "validating"

    ear = Watcher((measured, lambda: fill(disk)), (full_said, lambda: make_room(disk)))
    worker.train(last, ear, run)
    assert "the best weights could not be written and wait in memory" in of_the_disk(ear)[0]
    worker.train(last, Ear(), tmp_path / "plain")
    assert digest(run) == digest(tmp_path / "plain")


def test_a_disk_that_stays_full_ends_the_run_and_resume_finishes_it(
    disk: Path, spec: dict[str, Any], tmp_path: Path
) -> None:
    run = disk / "run"
    ear = Watcher((saved(2), lambda: fill(disk)))
    with pytest.raises(OSError, match="space"):
        worker.train(spec, ear, run)
    assert max(e.step for e in ear.all(StepDone)) == 12, "it trained to its end first"
    assert whole(run)[0] == 2
    make_room(disk)
    worker.train(spec, Ear(), run)
    worker.train(spec, Ear(), tmp_path / "plain")
    assert digest(run) == digest(tmp_path / "plain")


def test_a_stop_on_a_full_disk_is_no_stop_with_a_checkpoint(disk: Path, spec: dict[str, Any]) -> None:
    ear = Ear(stop=full_said)
    run = disk / "run"
    fill_at = Watcher((saved(2), lambda: fill(disk)))

    def both(event: Event) -> str:
        fill_at(event)
        return ear(event)

    with pytest.raises(OSError, match="space"):
        worker.train(spec, both, run)
    assert whole(run)[0] == 2


def test_another_trouble_than_a_full_disk_is_not_put_up_with(
    spec: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*_: object, **__: object) -> Path:
        raise FileNotFoundError(2, "No such file or directory", "run")

    monkeypatch.setattr(checkpoints, "save", gone)
    with pytest.raises(FileNotFoundError):
        worker.train(spec, Ear(), tmp_path / "run")
