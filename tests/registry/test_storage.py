import errno
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tinydb import Query, TinyDB

from sft_magics.core import errors
from sft_magics.core.records import SCHEMA
from sft_magics.core.workspace import Workspace
from sft_magics.registry import Registry, disk, frames, journal, snapshots
from sft_magics.registry.journal import JournalStorage
from sft_magics.registry.testing import a_model, a_version


@pytest.fixture
def registry(workspace: Workspace) -> Registry:
    """A registry with two versions on the real storage: a snapshot and its journal."""
    made = Registry(workspace)
    made.add_model(a_model("pets"))
    made.commit_version(a_version("pets"))
    made.commit_version(a_version("pets"))
    return made


@pytest.fixture
def file(registry: Registry) -> Path:
    return registry.workspace.registry / "registry.json"


def numbers(registry: Registry) -> list[int]:
    """What a process that starts now would see."""
    return [v.number for v in fresh(registry).versions("pets")]


def fresh(registry: Registry) -> Registry:
    """Return a registry that has to read the disk, as a new process has."""
    journal._cache.put(registry.workspace.registry / "registry.json", None)
    return Registry(registry.workspace)


def opened(registry: Registry) -> JournalStorage:
    storage = registry.storage
    assert isinstance(storage, JournalStorage)
    return storage


# TinyDB


def test_plain_tinydb_opens_the_file(registry: Registry, file: Path) -> None:
    opened(registry).compact()
    with TinyDB(file, access_mode="r") as db:
        assert db.tables() == {"_meta", "audit", "models", "versions"}
        found = db.table("versions").search(Query().number == 2)
        assert [row["model"] for row in found] == ["pets"]
        assert db.table("_meta").all()[0].keys() == {"schema", "sequence", "sha256"}
        assert db.table("_meta").all()[0]["sequence"] == 3
    assert {path.stat().st_mode & 0o777 for path in file.parent.iterdir()} == {0o600}


# what can be kept


# readers


def test_a_read_hands_out_a_copy(registry: Registry) -> None:
    registry.storage.read()["versions"].clear()
    registry.versions("pets")[0].options["nested"]["betas"].append(1)
    assert registry.versions("pets")[0].options["nested"]["betas"] == [0.9, 0.999]
    assert len(registry.storage.read()["versions"]) == 2


def test_only_what_is_new_is_read(registry: Registry, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[tuple[str, int]] = []
    real = disk.tail

    def counted(path: Path, start: int) -> Any:
        found = real(path, start)
        read.append((path.name, len(found[1])))
        return found

    monkeypatch.setattr(disk, "tail", counted)
    registry.versions()
    assert read == []
    size = file.with_suffix(".journal").stat().st_size
    code = f"import sys; sys.path[:0] = {sys.path!r}\nfrom pathlib import Path\n"
    code += "from sft_magics.core.workspace import Workspace\n"
    code += "from sft_magics.registry import Registry\nfrom sft_magics.registry.testing import a_version\n"
    code += f"Registry(Workspace(Path({str(registry.workspace.root)!r}))).commit_version(a_version('pets'))"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert registry.version("pets").number == 3
    assert registry.version("pets").number == 3
    (only,) = read
    assert only[0] == "registry.journal"
    assert only[1] < size, "from the last frame on, not all of it"


def test_a_snapshot_stays_as_it_was(registry: Registry) -> None:
    with registry.snapshot():
        assert registry.version("pets").number == 2
        other = threading.Thread(target=lambda: Registry(registry.workspace).commit_version(a_version("pets")))
        other.start()
        other.join()
        assert registry.version("pets").number == 2
        registry.set_alias("pets", "live", 3)  # a change sees the newest state, also from within a snapshot
    assert registry.version("pets@live").number == 3


def test_a_block_that_only_reads_writes_nothing(registry: Registry, file: Path) -> None:
    before = {path: path.stat() for path in file.parent.iterdir()}
    with registry.transaction():
        registry.versions()
    assert {path: path.stat() for path in file.parent.iterdir()} == before


def test_reads_take_no_lock(registry: Registry) -> None:
    seen: list[list[int]] = []
    with registry.transaction():
        registry.commit_version(a_version("pets"))
        reader = threading.Thread(target=lambda: seen.append(numbers(registry)))
        reader.start()
        reader.join(timeout=20)
    assert seen == [[2, 1]]


def fail_after_a_change(registry: Registry) -> None:
    with registry.transaction():
        registry.set_alias("pets", "live", 2)
        registry.version("pets:9")


def test_an_inner_block_that_fails_leaves_the_outer_one_whole(registry: Registry) -> None:
    with registry.transaction():
        registry.set_alias("pets", "live", 1)
        with pytest.raises(errors.NotFound):
            fail_after_a_change(registry)
    assert fresh(registry).version("pets@live").number == 1


# compaction


def test_a_long_journal_is_compacted_and_the_old_pair_is_kept(registry: Registry, file: Path) -> None:
    for _ in range(200):
        registry.set_alias("pets", "live", 1)
        registry.set_alias("pets", "live", 2)
    kept = file.with_name("registry.json.bak"), file.with_name("registry.journal.bak")
    base = snapshots.decode(kept[0].read_bytes()).state
    old = list(frames.walk(kept[1].read_bytes()))
    now = snapshots.decode(file.read_bytes()).state
    assert base.sequence == old[0].sequence < old[-1].sequence == now.sequence
    for frame in old[1:]:
        base = base.apply(frames.changes_of(frame.payload), frame.sequence)
    assert base.plain() == now.plain()
    assert file.with_suffix(".journal").stat().st_size < 150_000
    assert numbers(registry) == [2, 1]
    assert len(registry.history()) == 802


def test_a_reader_between_the_two_renames_of_a_compaction_loses_nothing(registry: Registry, file: Path) -> None:
    before = file.with_suffix(".journal").read_bytes()
    opened(registry).compact()
    file.with_suffix(".journal").write_bytes(before)  # new snapshot, old journal
    assert numbers(registry) == [2, 1]
    assert registry.commit_version(a_version("pets")).number == 3
    assert numbers(registry) == [3, 2, 1]
    first = frames.read(file.with_suffix(".journal").read_bytes(), 0)
    assert first is not None
    assert first.sequence == snapshots.decode(file.read_bytes()).state.sequence == 3


def test_a_registry_without_hard_links_keeps_its_backup_too(
    registry: Registry, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*_: Any, **__: Any) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", no_links)
    before = file.read_bytes()
    opened(registry).compact()
    assert file.with_name("registry.json.bak").read_bytes() == before
    assert numbers(registry) == [2, 1]


# damage

DAMAGES = [
    pytest.param(lambda raw: raw[:-100], id="torn"),
    pytest.param(lambda raw: b"", id="empty"),
    pytest.param(lambda raw: raw + b" ", id="longer"),
    pytest.param(lambda raw: raw.replace(b'"number":2', b'"number":3'), id="changed"),
    pytest.param(lambda raw: json.dumps(json.loads(raw)).encode(), id="written by another program"),
    pytest.param(lambda raw: raw.replace(b'"sequence":3', b'"sequence":9'), id="sequence"),
    pytest.param(lambda raw: os.urandom(len(raw)), id="noise"),
    pytest.param(lambda raw: None, id="removed"),
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_snapshot_is_refused_and_left_as_it_is(
    registry: Registry, file: Path, damage: Callable[[bytes], bytes | None]
) -> None:
    opened(registry).compact()
    left = damage(file.read_bytes())
    if left is None:
        file.unlink()
    else:
        file.write_bytes(left)
    beside = file.with_suffix(".journal").read_bytes()
    made = fresh(registry)
    for use in (made.versions, Registry(registry.workspace).versions, lambda: made.add_model(a_model("cars"))):
        with pytest.raises(errors.WorkspaceProblem, match=r"registry\.json is ") as caught:
            use()
        assert "%sft_registry --repair" in caught.value.next_step
    assert left is None or file.read_bytes() == left
    assert file.with_suffix(".journal").read_bytes() == beside


def test_tinydb_that_wrote_to_the_file_is_found_out(registry: Registry, file: Path) -> None:
    TinyDB(file).table("versions").truncate()
    with pytest.raises(errors.WorkspaceProblem, match="another program has written to it"):
        fresh(registry).versions()


@pytest.mark.parametrize("gone", ["first", "middle"])
def test_a_damaged_journal_is_refused_and_left_as_it_is(registry: Registry, file: Path, gone: str) -> None:
    path = file.with_suffix(".journal")
    raw = path.read_bytes()
    parts = list(frames.walk(raw))
    start = parts[0 if gone == "first" else 2].start
    path.write_bytes(raw[: start + 30] + b"#" + raw[start + 31 :])
    left = path.read_bytes()
    made = fresh(registry)
    for use in (made.versions, lambda: made.add_model(a_model("cars"))):
        with pytest.raises(errors.WorkspaceProblem, match="damaged"):
            use()
    assert path.read_bytes() == left


@pytest.mark.parametrize("compacted", [False, True])
@pytest.mark.parametrize("lost", [".journal", ".json"])
def test_a_lost_file_is_noticed(registry: Registry, file: Path, compacted: bool, lost: str) -> None:
    if compacted:
        opened(registry).compact()
    file.with_suffix(lost).unlink()
    with pytest.raises(errors.WorkspaceProblem, match=rf"registry\{lost} is gone"):
        fresh(registry).versions()


def test_an_old_snapshot_beside_a_new_journal_is_refused(registry: Registry, file: Path) -> None:
    old = file.read_bytes()
    opened(registry).compact()
    file.write_bytes(old)
    with pytest.raises(errors.WorkspaceProblem, match="older than its journal"):
        fresh(registry).versions()


# schemas


def test_a_newer_schema_is_refused(registry: Registry, file: Path) -> None:
    journal._cache.put(file, None)
    newer = JournalStorage(file, schema=SCHEMA + 1, migrations={SCHEMA: lambda tables: tables})
    Registry(registry.workspace, newer).commit_version(a_version("pets"))
    raw = file.read_bytes(), file.with_suffix(".journal").read_bytes()
    made = fresh(registry)
    for use in (made.versions, lambda: made.commit_version(a_version("pets"))):
        with pytest.raises(errors.WorkspaceProblem, match="newer sft_magics") as caught:
            use()
        assert "pip install --upgrade" in caught.value.next_step
    assert (file.read_bytes(), file.with_suffix(".journal").read_bytes()) == raw


def test_an_older_schema_is_migrated_after_a_copy_was_put_aside(registry: Registry, file: Path) -> None:
    def renamed(tables: dict[str, dict[str, dict[str, object]]]) -> dict[str, dict[str, dict[str, object]]]:
        return {**tables, "versions": {n: {**row, "note": "migrated"} for n, row in tables["versions"].items()}}

    before = registry.storage.read()
    journal._cache.put(file, None)
    newer = Registry(registry.workspace, JournalStorage(file, SCHEMA + 2, {SCHEMA: renamed, SCHEMA + 1: lambda t: t}))
    assert [v.note for v in newer.versions("pets")] == ["migrated", "migrated"]
    assert newer.commit_version(a_version("pets")).number == 3
    assert snapshots.decode(file.with_name(f"registry.schema-{SCHEMA}.json").read_bytes()).state.plain() == before
    older = fresh(registry)
    with pytest.raises(errors.WorkspaceProblem, match="newer sft_magics"):
        older.versions()


def test_an_older_schema_that_is_not_brought_over_is_refused_and_left_as_it_is(registry: Registry, file: Path) -> None:
    registry.commit_version(a_version("pets"))
    raw = file.read_bytes(), file.with_suffix(".journal").read_bytes()
    journal._cache.put(file, None)
    newer = Registry(registry.workspace, JournalStorage(file, SCHEMA + 1, {}))
    for use in (newer.versions, lambda: newer.commit_version(a_version("pets"))):
        with pytest.raises(errors.WorkspaceProblem, match="by an older sft_magics") as caught:
            use()
        assert "new workspace" in caught.value.next_step
    assert (file.read_bytes(), file.with_suffix(".journal").read_bytes()) == raw


# the disk says no


class FailingDisk:
    """Lets the n-th of some system calls fail with `code`; a write may take a part first."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, n: int, code: int) -> None:
        self.left, self.code, self.failed = n, code, ""
        for name in ("open", "pwrite", "fsync", "fdatasync", "replace", "link"):
            monkeypatch.setattr(os, name, self.wrap(name, getattr(os, name)))

    def wrap(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **options: Any) -> Any:
            self.left -= 1
            if self.left == 0:
                self.failed = name
                if name == "pwrite":
                    call(args[0], bytes(args[1])[:100], args[2])
                raise OSError(self.code, os.strerror(self.code))
            return call(*args, **options)

        return wrapped


def test_a_full_disk(mounted: Callable[[str], Path] | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = Registry(Workspace((mounted("rw") if mounted else tmp_path) / "sft").prepare())
    registry.add_model(a_model("pets"))
    registry.commit_version(a_version("pets"))
    filler = registry.workspace.root / "filler"
    with pytest.MonkeyPatch.context() as patched:
        if mounted:
            with pytest.raises(OSError, match="No space left"):
                filler.write_bytes(bytes(2 << 20))
        else:
            FailingDisk(patched, 4, errno.ENOSPC)
        with pytest.raises(errors.WorkspaceProblem, match="disk is full"):
            registry.commit_version(a_version("pets", note="x" * 100_000))
    assert numbers(registry) == [1]
    filler.unlink(missing_ok=True)
    assert registry.commit_version(a_version("pets", note="x" * 100_000)).number == 2
    assert numbers(registry) == [2, 1]


def test_a_read_only_workspace_can_be_read(mounted: Callable[[str], Path] | None, tmp_path: Path) -> None:
    registry = Registry(Workspace((mounted("rw") if mounted else tmp_path) / "sft").prepare())
    registry.add_model(a_model("pets"))
    registry.commit_version(a_version("pets"), aliases=("live",))
    with pytest.MonkeyPatch.context() as patched:
        if mounted:
            mounted("ro")
        else:
            FailingDisk(patched, 1, errno.EROFS)
        with pytest.raises(errors.WorkspaceProblem, match="cannot be written") as caught:
            registry.commit_version(a_version("pets"))
        assert "--workspace DIR" in caught.value.next_step
    assert Registry(registry.workspace).version("pets@live").number == 1
    assert len(registry.history()) == 3
    if mounted:
        mounted("rw")
    assert registry.commit_version(a_version("pets")).number == 2
