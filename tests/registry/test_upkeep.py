"""Backup, restore and repair: what can be had back is had back, and what was there stays beside it."""

from collections.abc import Callable
from pathlib import Path

import pytest
from tinydb import TinyDB

from sft_magics.core import errors
from sft_magics.core.records import SCHEMA
from sft_magics.core.workspace import Workspace
from sft_magics.registry import Registry, frames, journal, snapshots, upkeep
from sft_magics.registry.journal import JournalStorage
from sft_magics.registry.testing import a_model, a_version


@pytest.fixture
def storage(workspace: Workspace) -> JournalStorage:
    """A registry with a backup pair and four versions: one before the first compaction, two before the second."""
    storage = JournalStorage(workspace.registry / "registry.json")
    registry = Registry(workspace, storage)
    registry.add_model(a_model("pets"))
    registry.commit_version(a_version("pets"))
    storage.compact()
    registry.commit_version(a_version("pets"))
    storage.compact()
    registry.commit_version(a_version("pets"))
    registry.commit_version(a_version("pets"))
    return storage


def numbers(workspace: Workspace) -> list[int]:
    journal._cache.put(workspace.registry / "registry.json", None)
    return [v.number for v in Registry(workspace).versions("pets")]


def flip(path: Path, at: int) -> None:
    raw = bytearray(path.read_bytes())
    raw[at] ^= 4
    path.write_bytes(bytes(raw))


def smash(path: Path, at: int) -> None:
    raw = path.read_bytes()
    path.write_bytes(raw[:at] + b"#" * 9 + raw[at + 9 :])


def middle(path: Path, index: int) -> int:
    frame = list(frames.walk(path.read_bytes()))[index]
    return (frame.start + frame.end) // 2


def smash_both(storage: JournalStorage) -> None:
    smash(storage.path, 99)
    smash(storage.journal, middle(storage.journal, 1))


DAMAGES: list[tuple[str, Callable[[JournalStorage], None], list[int], tuple[int, ...], int]] = [
    ("the snapshot", lambda s: smash(s.path, 200), [4, 3, 2, 1], (), 0),
    ("no snapshot", lambda s: s.path.unlink(), [4, 3, 2, 1], (), 0),
    ("no journal", lambda s: s.journal.unlink(), [2, 1], (), 0),
    ("one bit of the journal", lambda s: flip(s.journal, middle(s.journal, 1)), [4, 3, 2, 1], (), 1),
    ("a transaction", lambda s: smash(s.journal, middle(s.journal, 1)), [2, 1], (4, 5), 0),
    ("the journal's first frame", lambda s: smash(s.journal, 2), [4, 3, 2, 1], (), 0),
    ("snapshot and a transaction", smash_both, [2, 1], (4, 5), 0),
]  # fmt: skip


@pytest.mark.parametrize(("damage", "there", "lost", "mended"), [d[1:] for d in DAMAGES], ids=[d[0] for d in DAMAGES])
def test_a_repair_brings_back_all_that_is_whole(
    workspace: Workspace,
    storage: JournalStorage,
    damage: Callable[[JournalStorage], None],
    there: list[int],
    lost: tuple[int, ...],
    mended: int,
) -> None:
    damage(storage)
    left = {path.name: path.read_bytes() for path in upkeep._files(storage) if path.exists()}
    with pytest.raises(errors.WorkspaceProblem, match="%sft_registry --repair"):
        numbers(workspace)
    done = upkeep.repair(storage)
    assert (done.lost, done.mended) == (lost, mended)
    assert numbers(workspace) == there
    assert done.kept is not None
    assert {path.name: path.read_bytes() for path in done.kept.iterdir()} == left
    assert Registry(workspace).commit_version(a_version("pets")).number == there[0] + 1
    assert numbers(workspace)[0] == there[0] + 1
    assert upkeep.repair(storage).kept is None, "there is nothing more to repair"
    storage.compact()
    assert {wrong for _, wrong in upkeep.check(storage)} == {None}


def test_where_nothing_is_whole_a_repair_says_so_and_touches_nothing(storage: JournalStorage) -> None:
    for path in upkeep._files(storage):
        path.write_bytes(b"#" * 1000)
    journal._cache.put(storage.path, None)
    with pytest.raises(errors.WorkspaceProblem, match="--restore FILE"):
        upkeep.repair(storage)
    assert all(path.read_bytes() == b"#" * 1000 for path in upkeep._files(storage))
    assert all(wrong for _, wrong in upkeep.check(storage))


def test_a_backup_is_restored_and_the_restore_taken_back(
    workspace: Workspace, storage: JournalStorage, tmp_path: Path
) -> None:
    saved = tmp_path / "saved.json"
    assert upkeep.backup(storage, saved) == saved.stat().st_size
    assert len(TinyDB(saved, access_mode="r").table("versions")) == 4
    Registry(workspace).commit_version(a_version("pets"))
    before = upkeep.restore(storage, saved)
    assert numbers(workspace) == [4, 3, 2, 1]
    assert before is not None
    upkeep.restore(storage, before)
    assert numbers(workspace) == [5, 4, 3, 2, 1]
    assert {wrong for _, wrong in upkeep.check(storage)} == {None}


def test_a_restore_over_damage_keeps_the_damaged_files(
    workspace: Workspace, storage: JournalStorage, tmp_path: Path
) -> None:
    upkeep.backup(storage, tmp_path / "saved.json")
    smash(storage.path, 100)
    damaged = storage.path.read_bytes()
    journal._cache.put(storage.path, None)
    kept = upkeep.restore(storage, tmp_path / "saved.json")
    assert kept is not None
    assert (kept / "registry.json").read_bytes() == damaged
    assert numbers(workspace) == [4, 3, 2, 1]


def test_a_restore_begins_a_new_workspace(storage: JournalStorage, tmp_path: Path) -> None:
    upkeep.backup(storage, tmp_path / "saved.json")
    other = Workspace(tmp_path / "other").prepare()
    assert upkeep.restore(JournalStorage(other.registry / "registry.json"), tmp_path / "saved.json") is None
    assert numbers(other) == [4, 3, 2, 1]


def test_what_cannot_be_restored_changes_nothing(workspace: Workspace, storage: JournalStorage, tmp_path: Path) -> None:
    bad = tmp_path / "bad.json"
    bad.write_text("{}")
    newer = tmp_path / "newer.json"
    newer.write_bytes(snapshots.encode(storage.newest(), SCHEMA + 1))
    before = {path: path.read_bytes() for path in upkeep._files(storage)}
    for file, said in ((bad, "cannot be restored"), (newer, "newer"), (tmp_path / "no", "no"), (tmp_path, "folder")):
        with pytest.raises(errors.WorkspaceProblem, match=said):
            upkeep.restore(storage, file)
    for file, said in ((bad, "exists already"), (tmp_path / "no" / "where.json", "There is no")):
        with pytest.raises(errors.SftError, match=said):
            upkeep.backup(storage, file)
    assert {path: path.read_bytes() for path in upkeep._files(storage)} == before
    assert numbers(workspace) == [4, 3, 2, 1]
