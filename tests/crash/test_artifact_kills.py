"""kill -9 of savers, and a collector beside readers and savers: no acknowledged artifact is lost or read wrongly."""

import hashlib
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sft_magics.core import errors
from sft_magics.engine.models import weight_loading
from sft_magics.registry import ArtifactStore
from tests.crash.saver import network

pytestmark = [pytest.mark.alone, pytest.mark.crash]
SAVER = Path(__file__).with_name("saver.py")
ROOT = Path(__file__).resolve().parents[2]
Count = Callable[[int, int], int]


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "artifacts")


def start(store: ArtifactStore, role: str, argument: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, str(SAVER), str(store.root), role, argument],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )


def told(writer: "subprocess.Popen[str]") -> dict[str, str]:
    """Return what a killed saver had acknowledged: id -> hash of the head."""
    assert writer.stdout is not None
    lines = writer.stdout.read().split("\n")[:-1]
    writer.communicate()
    return dict(line.split() for line in lines)


def check(store: ArtifactStore, artifact: str, head: str) -> None:
    store.verify(artifact)
    found = weight_loading.load(store.checkout(artifact))
    assert found is not None
    assert hashlib.sha256(found["head"].numpy().tobytes()).hexdigest() == head


def test_a_killed_save_loses_nothing(store: ArtifactStore, tmp_path: Path, count: Count) -> None:
    chance, kept = random.Random(11), {}
    rounds = count(30, 500)
    for turn in range(rounds):
        writers = [start(store, "save", f"{turn}-{number}") for number in range(1 + turn % 2)]
        time.sleep(0.12 + 0.15 * chance.random())
        for writer in writers:
            writer.kill()
        for writer in writers:
            new = told(writer)
            kept.update(new)
            for artifact, head in list(new.items())[-2:]:
                check(store, artifact, head)
        if turn % 10 == 9:  # a collection finds what the killed ones left, and takes nothing that was acknowledged
            store.collect(kept, 0.0)
            assert set(store.ids()) == set(kept)
            kept = dict(list(kept.items())[-20:])
            store.collect(kept, 0.0)
    assert len(kept) >= min(20, rounds // 3)
    for artifact, head in kept.items():
        check(store, artifact, head)
    network(tmp_path / "after", b"after")
    store.verify(store.save(tmp_path / "after").id)
    store.collect([], 0.0)
    left = {p.relative_to(store.root).parts[0] for p in store.root.rglob("*") if p.is_file()}
    assert left <= {"store.lock"}


def test_a_collector_beside_readers_and_savers(store: ArtifactStore, tmp_path: Path, count: Count) -> None:
    kept = {}
    for number in range(4):
        head = bytes([number]) * 5000
        network(tmp_path / "a", head)
        kept[store.save(tmp_path / "a").id] = hashlib.sha256(head).hexdigest()
    each = count(200, 5_000)
    pairs = ",".join(f"{artifact}={head}" for artifact, head in kept.items())
    readers = [start(store, "read", f"{pairs},{each}") for _ in range(2)]
    others = [start(store, "collect", ",".join(kept)), *(start(store, "save", f"s{n}") for n in range(2))]
    try:
        for reader in readers:
            out, wrong = reader.communicate(timeout=60 + each)
            assert reader.returncode == 0, wrong[-2000:]
            assert out.split("\n")[-2] == str(each - 1)
        assert all(other.poll() is None for other in others), "the collector or a saver failed"
    finally:
        for process in (*others, *readers):
            process.kill()
    collected = others[0].communicate()[0].split("\n")[1:-1]
    assert sum(int(line) > 0 for line in collected[:-1]) >= 3, "the collector had nothing to do"
    for artifact, head in kept.items():
        check(store, artifact, head)


def test_what_is_collected_while_it_is_wanted_is_refused_in_words(store: ArtifactStore, tmp_path: Path) -> None:
    network(tmp_path / "a", b"head")
    saved = store.save(tmp_path / "a")
    view = store.checkout(saved.id)
    store.collect([], 0.0)
    with pytest.raises(errors.ModelProblem, match="no longer here"):
        store.checkout(saved.id)
    assert not view.exists(), "the folder is gone as a whole"
