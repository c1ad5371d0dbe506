"""The power goes: whatever subset of the unsynced writes is on the disk, all that was acknowledged is there."""

import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sft_magics.core import errors
from sft_magics.core.workspace import Workspace
from sft_magics.registry import Registry, journal
from sft_magics.registry.journal import JournalStorage
from sft_magics.registry.testing import a_model, a_version
from tests.crash.recorder import Recorder, after_power_cut

pytestmark = [pytest.mark.alone, pytest.mark.crash]
Count = Callable[[int, int], int]


def recorded(place: Workspace, monkeypatch: pytest.MonkeyPatch) -> tuple[Recorder, list[Any]]:
    """Return what some transactions with compactions between them asked of the disk, and the state after each."""
    recorder = Recorder(place.registry)
    registry = Registry(place)
    states = [registry.storage.read()]
    with monkeypatch.context() as patched:
        recorder.patch(patched)
        registry.add_model(a_model("pets"))
        for number in range(1, 9):
            states.append(registry.storage.read())
            recorder.acknowledged(number)
            registry.commit_version(a_version("pets"), aliases=("live",))
        states.append(registry.storage.read())
        recorder.acknowledged(9)
    return recorder, states


def survivors(recorder: Recorder, folder: Path, rounds: int) -> list[tuple[list[int], Any]]:
    """Return for each of some power cuts what was acknowledged before it and what is read after it."""
    chance = random.Random(11)
    found = []
    for number in range(rounds):
        files, marks = after_power_cut(recorder.log, chance.randint(0, len(recorder.log)), chance)
        place = folder / str(number)
        place.mkdir(parents=True)
        for name, content in files.items():
            (place / name).write_bytes(content)
        path = place / "registry.json"
        journal._cache.put(path, None)
        storage = JournalStorage(path)
        found.append((marks, storage.read()))
        storage.write({**storage.read(), "more": {"1": {"n": number}}})
        journal._cache.put(path, None)
        assert JournalStorage(path).read()["more"] == {"1": {"n": number}}
    return found


def lost_nothing(recorder: Recorder, states: list[Any], folder: Path, rounds: int) -> set[int]:
    """Check what is read after each cut; return how far it was ahead of what was acknowledged."""
    ahead: set[int] = set()
    for marks, read in survivors(recorder, folder, rounds):
        acknowledged = max(marks, default=0)
        assert read in states[acknowledged : acknowledged + 2]
        ahead.add(states.index(read) - acknowledged)
    return ahead


@pytest.mark.usefixtures("often")
def test_a_power_cut_loses_nothing_acknowledged(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: Count
) -> None:
    recorder, states = recorded(workspace, monkeypatch)
    kinds = {step[0] for step in recorder.log}
    assert {"create", "write", "sync", "folder", "rename", "link", "mark"} <= kinds
    outcomes = lost_nothing(recorder, states, tmp_path / "cuts", count(500, 20_000))
    assert outcomes == {0, 1}, "some cuts must come between a change's writing and its acknowledgment"


@pytest.mark.usefixtures("often")
def test_without_its_syncs_the_registry_would_not_survive(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The test above can fail: a registry that never syncs does lose what it acknowledged."""
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", lambda fd: None)
        patched.setattr(os, "fdatasync", lambda fd: None)
        recorder, states = recorded(workspace, monkeypatch)
    recorder.log = [step for step in recorder.log if step[0] not in ("sync", "folder")]
    with pytest.raises((errors.WorkspaceProblem, AssertionError)):
        lost_nothing(recorder, states, tmp_path / "cuts", 200)
