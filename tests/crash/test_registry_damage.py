"""A journal cut at every byte, and flipped bits everywhere: what is read is right, or it is refused."""

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from sft_magics.core import errors
from sft_magics.core.workspace import Workspace
from sft_magics.registry import Registry, frames, journal
from sft_magics.registry.journal import JournalStorage
from sft_magics.registry.testing import a_model, a_version

pytestmark = [pytest.mark.alone, pytest.mark.crash]


@pytest.fixture
def storage(workspace: Workspace) -> JournalStorage:
    storage = JournalStorage(workspace.registry / "registry.json")
    registry = Registry(workspace, storage)
    registry.add_model(a_model("pets"))
    registry.commit_version(a_version("pets"))
    storage.compact()
    for _ in range(3):
        registry.commit_version(a_version("pets"), aliases=("live",))
    return storage


def fresh(path: Path) -> JournalStorage:
    journal._cache.put(path, None)
    return JournalStorage(path)


def test_a_tail_torn_at_any_byte_is_cut_and_nothing_else(storage: JournalStorage, tmp_path: Path) -> None:
    raw = storage.journal.read_bytes()
    parts = list(frames.walk(raw))
    states = []
    for frame in parts:
        storage.journal.write_bytes(raw[: frame.end])
        states.append(fresh(storage.path).read())
    place = tmp_path / "torn"
    place.mkdir()
    copy = place / storage.path.name
    shutil.copy(storage.path, copy)
    for end in range(parts[0].end, len(raw) + 1):
        copy.with_suffix(".journal").write_bytes(raw[:end])
        whole = sum(frame.end <= end for frame in parts) - 1
        assert fresh(copy).read() == states[whole], end
        again = fresh(copy)
        again.write({**states[whole], "more": {"1": {"end": end}}})
        assert fresh(copy).read()["more"] == {"1": {"end": end}}
    for end in range(parts[0].end):
        copy.with_suffix(".journal").write_bytes(raw[:end])
        with pytest.raises(errors.WorkspaceProblem, match="its beginning is damaged"):
            fresh(copy).read()


def test_no_flipped_bit_is_read_as_if_nothing_were(storage: JournalStorage, count: Callable[[int, int], int]) -> None:
    expected = fresh(storage.path).read()
    chance = random.Random(3)
    for path in (storage.path, storage.journal):
        raw = path.read_bytes()
        bits = range(len(raw) * 8)
        for bit in sorted(chance.sample(bits, min(len(bits), count(1000, 100_000)))):
            damaged = bytearray(raw)
            damaged[bit // 8] ^= 1 << bit % 8
            path.write_bytes(damaged)
            with pytest.raises(errors.WorkspaceProblem, match="%sft_registry --repair"):
                fresh(storage.path).read()
            assert path.read_bytes() == damaged
        path.write_bytes(raw)
    assert fresh(storage.path).read() == expected
