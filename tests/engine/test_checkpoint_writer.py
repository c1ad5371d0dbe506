"""The best weights of a run whose body is frozen: what learns of them while it goes on, the whole model at its end."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sft_magics.core.events import EpochDone, Event
from sft_magics.datasets import read_rows
from sft_magics.engine.inference.predictor import Predictor
from sft_magics.engine.jobs import worker
from sft_magics.engine.training.checkpoint_writer import is_whole
from tests.engine.house import Ear, films, order, small_base


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("kept")
    base = small_base(folder / "base")
    return order(films(folder, 64, 32), start=base, method="head", epochs=4.0, lr=0.01)


def digest(folder: Path) -> str:
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()


class Looker(Ear):
    """Notes after each epoch whether `best` is whole, and how large its weights are."""

    def __init__(self, run: Path, epochs: int = 100) -> None:
        super().__init__(stop=lambda e: isinstance(e, EpochDone) and len(self.all(EpochDone)) >= epochs)
        self.run = run
        self.found: list[tuple[bool, int]] = []

    def __call__(self, event: Event) -> str:
        if isinstance(event, EpochDone) and event.best:
            best = self.run / "best"
            self.found.append((is_whole(best), (best / "model.safetensors").stat().st_size))
        return super().__call__(event)


def test_a_frozen_body_is_written_once(spec: dict[str, Any], tmp_path: Path) -> None:
    ear = Looker(tmp_path)
    worker.train(spec, ear, tmp_path)
    full = (tmp_path / "best" / "model.safetensors").stat().st_size
    assert len(ear.found) >= 2, "more than one epoch is better than those before"
    assert all(not whole and size < full / 100 for whole, size in ear.found)
    assert is_whole(tmp_path / "best")
    assert not (tmp_path / "best" / "manifest.json").exists(), "nothing of the part is left in the model"


def test_a_model_of_which_most_learns_is_written_whole(spec: dict[str, Any], tmp_path: Path) -> None:
    ear = Looker(tmp_path)
    worker.train({**spec, "options": {**spec["options"], "method": "full"}}, ear, tmp_path)
    assert ear.found
    assert all(whole for whole, _ in ear.found)


def test_a_run_that_goes_on_ends_with_the_same_weights(spec: dict[str, Any], tmp_path: Path) -> None:
    worker.train(spec, Looker(tmp_path / "run", epochs=2), tmp_path / "run")
    assert not is_whole(tmp_path / "run" / "best")
    worker.train(spec, Ear(), tmp_path / "run")
    worker.train(spec, Ear(), tmp_path / "plain")
    assert digest(tmp_path / "run" / "best") == digest(tmp_path / "plain" / "best")


def test_the_best_of_an_unfinished_run_is_a_whole_model_with_its_scores(spec: dict[str, Any], tmp_path: Path) -> None:
    ear = Looker(tmp_path, epochs=2)
    worker.train(spec, ear, tmp_path)
    found = worker.best_of(spec, Ear(), tmp_path)
    assert is_whole(found.folder)
    best = [e for e in ear.all(EpochDone) if e.best][-1]
    assert found.step == best.step
    rows = read_rows(Path(spec["data"]), "validation")
    said = np.array(Predictor(found.folder, threads=1, precision="fp32").scores(list(rows["text"])))
    assert np.abs(said - np.array(found.validation_scores)).max() < 1e-5
    right = [spec["labels"][int(row.argmax())] == label for row, label in zip(said, rows["label"], strict=True)]
    assert np.mean(right) == pytest.approx(best.metrics["accuracy"])
    assert worker.best_of(spec, Ear(), tmp_path).validation_scores == found.validation_scores, "twice is once"


def test_the_best_comes_back_where_later_epochs_are_worse(spec: dict[str, Any], tmp_path: Path) -> None:
    spoiled = {"schedule": "constant", "warmup": 0.0, "edits": [{"step": 8, "changes": {"lr": 30.0}}]}
    ear = Looker(tmp_path)
    found = worker.train({**spec, "options": {**spec["options"], **spoiled}}, ear, tmp_path)
    last = ear.all(EpochDone)[-1]
    assert found.step < last.step, "such a rate is meant to spoil what was learned"
    best = next(e for e in ear.all(EpochDone) if e.step == found.step)
    assert found.metrics["accuracy"].value == pytest.approx(best.metrics["accuracy"])
    rows = read_rows(Path(spec["data"]), "validation")
    said = Predictor(found.folder, threads=1, precision="fp32").scores(list(rows["text"]))
    assert np.abs(np.array(said) - np.array(found.validation_scores)).max() < 1e-5
