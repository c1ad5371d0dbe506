"""kill -9 of writers at random moments: no acknowledged change is lost, and the state is always a whole one."""

import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sft_magics.core.records import SCHEMA
from sft_magics.core.workspace import Workspace
from sft_magics.registry import Registry, journal, snapshots
from sft_magics.registry.testing import a_model
from tests.registry.test_processes import check_whole

pytestmark = [pytest.mark.alone, pytest.mark.crash]
WRITER = Path(__file__).with_name("writer.py")
ROOT = Path(__file__).resolve().parents[2]
Count = Callable[[int, int], int]


def start(workspace: Workspace, mode: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, str(WRITER), str(workspace.root), mode],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": str(ROOT)},
    )


def kill_at_work(writers: "list[subprocess.Popen[str]]", seconds: float) -> list[int]:
    """Let all begin together, kill them after some time, and return the numbers they had acknowledged."""
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("\n")
        writer.stdin.flush()
    time.sleep(seconds)
    for writer in writers:
        writer.kill()
    told: list[int] = []
    for writer in writers:
        assert writer.stdout is not None
        told += [int(line) for line in writer.stdout.read().split("\n")[:-1]]
        writer.wait()
    return told


def fresh(workspace: Workspace, schema: int = SCHEMA) -> Registry:
    path = workspace.registry / "registry.json"
    journal._cache.put(path, None)
    return Registry(workspace, journal.JournalStorage(path, schema))


@pytest.mark.parametrize("writers", [1, 4])
def test_killed_writers_lose_nothing(workspace: Workspace, writers: int, count: Count) -> None:
    chance = random.Random(writers)
    Registry(workspace).add_model(a_model("pets"))
    last = kept = 0
    compactions: set[int] = set()
    for _ in range(count(25, 450) if writers == 1 else count(20, 400)):
        told = kill_at_work([start(workspace, "commit") for _ in range(writers)], chance.uniform(0.001, 0.08))
        now = check_whole(fresh(workspace))
        assert max(told, default=last) <= now <= last + len(told) + writers
        assert len(told) == len(set(told)), "no number was given twice"
        last, kept = now, kept + len(told)
        compactions.add(snapshots.decode((workspace.registry / "registry.json").read_bytes()).state.sequence)
        if last > 300:  # keep the rounds quick
            workspace = Workspace(workspace.root.with_name(f"{workspace.root.name}-")).prepare()
            Registry(workspace).add_model(a_model("pets"))
            last = 0
    assert kept > 20, "the kills must come while they write"
    assert len(compactions) > 3, "and while they compact"


def test_a_killed_migration_loses_nothing(workspace: Workspace, count: Count) -> None:
    chance = random.Random(5)
    ended: set[int] = set()
    for number in range(count(15, 150)):
        place = Workspace(workspace.root / str(number)).prepare()
        registry = Registry(place)
        registry.add_model(a_model("pets"))
        kill_at_work([start(place, "commit")], 0.02)
        before = check_whole(fresh(place))
        told = kill_at_work([start(place, "migrate")], chance.uniform(0.0, 0.008))
        schema = snapshots.decode((place.registry / "registry.json").read_bytes()).schema
        ended.add(schema)
        now = fresh(place, schema)
        assert max([before, *told]) <= check_whole(now) <= before + len(told) + 1
        assert (schema == SCHEMA + 1) == bool(now.storage.read().get("new"))
    assert ended == {SCHEMA, SCHEMA + 1}, "some must be killed before and some after"
