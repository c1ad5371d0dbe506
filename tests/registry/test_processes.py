"""Many processes on one registry, and processes that are killed."""

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sft_magics.core.workspace import Workspace
from sft_magics.registry import Registry
from sft_magics.registry.testing import a_model, a_version

WRITER = Path(__file__).with_name("writer.py")
ROOT = Path(__file__).resolve().parents[2]


def start(workspace: Workspace, count: int) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, str(WRITER), str(workspace.root), "pets", str(count)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": str(ROOT)},
    )


def begin(writer: "subprocess.Popen[str]") -> None:
    assert writer.stdin is not None
    writer.stdin.write("\n")
    writer.stdin.flush()


def acknowledged(writer: "subprocess.Popen[str]") -> list[int]:
    assert writer.stdout is not None
    return [int(line) for line in writer.stdout.read().splitlines() if line]


def check_whole(registry: Registry) -> int:
    """Check that a reader sees a whole state, and return the newest number."""
    with registry.snapshot():
        versions, aliases, history = registry.versions("pets"), registry.aliases("pets"), registry.history("pets")
    last = len(versions)
    assert [v.number for v in versions] == list(range(last, 0, -1))
    expected = {} if not last else {"candidate": last, "live": last}
    assert aliases == ({**expected, "previous": last - 1} if last > 1 else expected)
    assert [v.aliases for v in versions[:1]] == [("candidate", "live")] * bool(last)
    assert sum(e.action == "commit" for e in history) == last
    return last


@pytest.fixture
def registry(workspace: Workspace) -> Registry:
    made = Registry(workspace)
    made.add_model(a_model("pets"))
    return made


def test_four_writers_lose_nothing_and_a_reader_sees_whole_states(registry: Registry) -> None:
    writers = [start(registry.workspace, 25) for _ in range(4)]
    for writer in writers:
        begin(writer)
    seen: set[int] = set()
    while any(writer.poll() is None for writer in writers):
        seen.add(check_whole(registry))
        time.sleep(0.002)
    numbers = [acknowledged(writer) for writer in writers]
    assert [writer.returncode for writer in writers] == [0] * 4
    assert sorted(n for own in numbers for n in own) == list(range(1, 101))
    assert all(own == sorted(own) and len(own) == 25 for own in numbers)
    assert check_whole(registry) == 100
    assert len(seen) > 5, "the reader must have looked while they wrote"


def synced_first(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> int:
    """Return how often the next change syncs the journal before it writes its own frame."""
    calls: list[str] = []
    with monkeypatch.context() as patched:
        for name in ("fsync", "fdatasync", "pwrite"):
            real = getattr(os, name)
            patched.setattr(os, name, lambda *args, name=name, real=real: (calls.append(name), real(*args))[1])
        registry.commit_version(a_version("pets"))
    return calls[: calls.index("fdatasync")].count("fsync")


def test_a_writer_syncs_what_another_was_killed_before_it_could_and_nothing_else(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.commit_version(a_version("pets"))
    writer = start(registry.workspace, 3)
    begin(writer)
    assert acknowledged(writer) == [2, 3, 4]
    assert synced_first(registry, monkeypatch) == 0, "the other writer said that its last frame is on the disk"
    lock = registry.workspace.registry / "registry.lock"
    said = lock.read_bytes()
    writer = start(registry.workspace, 1)
    begin(writer)
    assert acknowledged(writer) == [6]
    lock.write_bytes(said)  # as if it had been killed between its write and its sync
    assert synced_first(registry, monkeypatch) == 1
    assert synced_first(registry, monkeypatch) == 0


@pytest.mark.crash
def test_killed_writers_lose_nothing_that_was_acknowledged(registry: Registry) -> None:
    chance = random.Random(7)
    last = kept = 0
    for _ in range(15):
        writers = [start(registry.workspace, 100_000) for _ in range(2)]
        for writer in writers:
            begin(writer)
        for writer in writers:
            assert writer.stdout is not None
            assert writer.stdout.readline()  # both are in the middle of it
        time.sleep(chance.uniform(0, 0.06))
        for writer in writers:
            writer.kill()
            writer.wait()
        told = [number for writer in writers for number in acknowledged(writer)]
        now = check_whole(registry)
        assert now >= max(told, default=last + 2)
        assert now <= last + 2 + len(told) + 2, (
            "two first lines, what was told, and two that were killed before telling"
        )
        last, kept = now, kept + len(told)
    assert kept >= 5, "the kills must have come while they wrote"
