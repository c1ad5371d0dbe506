import errno
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tinydb import Query, TinyDB

from sft_magics.core import errors
from sft_magics.core.workspace import Workspace
from sft_magics.registry import Registry, storage
from sft_magics.registry.storage import DamagedStateError, FileStorage
from sft_magics.registry.testing import a_model, a_version


@pytest.fixture
def registry(workspace: Workspace) -> Registry:
    """A registry with two versions on the real storage: a file and its backup."""
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
    return [v.number for v in Registry(registry.workspace).versions("pets")]


# the file


def test_plain_tinydb_opens_the_file(file: Path) -> None:
    with TinyDB(file, access_mode="r") as db:
        assert db.tables() == {"_meta", "audit", "models", "versions"}
        found = db.table("versions").search(Query().number == 2)
        assert [row["model"] for row in found] == ["pets"]
        assert db.table("_meta").all()[0].keys() == {"schema", "sequence", "sha256"}
        assert db.table("_meta").all()[0]["sequence"] == 3
    assert file.stat().st_mode & 0o777 == 0o600


def test_tinydb_works_over_the_storage_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "any.json"
    db = TinyDB(path, storage=FileStorage)
    db.insert({"name": "a", "deep": {"list": [1]}})
    db.table("other").insert_multiple([{"n": 1}, {"n": 2}])
    db.update({"name": "b"}, Query().name == "a")
    db.all()[0]["deep"]["list"].append(2)
    assert TinyDB(path, storage=FileStorage).all() == [{"name": "b", "deep": {"list": [1]}}]
    assert TinyDB(path).table("other").all() == [{"n": 1}, {"n": 2}]
    db.drop_tables()
    assert TinyDB(path, storage=FileStorage).tables() == set()


def test_the_file_is_legal_json_whatever_is_put_in(tmp_path: Path) -> None:
    path = tmp_path / "any.json"
    TinyDB(path, storage=FileStorage).insert(
        {"nan": float("nan"), "path": Path("a/b"), "tuple": (1, 2), "half": "\ud800", "set": {1}, 3: "number"}
    )

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    rows = json.loads(path.read_bytes(), parse_constant=refuse)["_default"]["1"]
    assert rows == {"nan": "NaN", "path": "a/b", "tuple": [1, 2], "half": "?", "set": [1], "3": "number"}


def test_what_is_not_data_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    db = TinyDB(tmp_path / "any.json", storage=FileStorage)
    db.insert({"a": 1})
    with pytest.raises(TypeError):
        db.insert({"a": object()})
    assert db.all() == [{"a": 1}]


def test_a_read_hands_out_a_copy(file: Path) -> None:
    opened = FileStorage(file)
    opened.read()["versions"].clear()
    with opened.snapshot():
        opened.read()["versions"].clear()
    assert len(opened.read()["versions"]) == 2


def test_a_file_that_has_not_changed_is_read_once(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[bool] = []
    decode = storage.decode

    def counted(raw: bytes, *, verified: bool = False) -> tuple[storage.State, int]:
        reads.append(verified)
        return decode(raw, verified=verified)

    monkeypatch.setattr(storage, "decode", counted)
    opened = FileStorage(file)
    opened.read()
    opened.read()
    TinyDB(file, storage=FileStorage).insert({"a": 1})
    reads.clear()
    assert "_default" in opened.read()
    opened.read()
    assert reads == [False, True]


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
    before = file.stat()
    with registry.transaction():
        registry.versions()
    assert file.stat() == before


def test_reads_take_no_lock(registry: Registry) -> None:
    seen: list[list[int]] = []
    with registry.transaction():
        registry.commit_version(a_version("pets"))
        reader = threading.Thread(target=lambda: seen.append(numbers(registry)))
        reader.start()
        reader.join(timeout=20)
    assert seen == [[2, 1]]


# damage


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda raw: raw[:-100], id="torn"),
        pytest.param(lambda raw: b"", id="empty"),
        pytest.param(lambda raw: raw + b" ", id="longer"),
        pytest.param(lambda raw: raw.replace(b'"number":2', b'"number":3'), id="changed"),
        pytest.param(lambda raw: json.dumps(json.loads(raw)).encode(), id="written by another program"),
        pytest.param(lambda raw: raw.replace(b'"sequence":3', b'"sequence":9'), id="sequence"),
        pytest.param(lambda raw: os.urandom(len(raw)), id="noise"),
        pytest.param(lambda raw: None, id="removed"),
    ],
)
def test_a_damaged_file_is_refused_and_the_backup_named(
    registry: Registry, file: Path, damage: Callable[[bytes], bytes | None]
) -> None:
    assert numbers(registry) == [2, 1]
    left = damage(file.read_bytes())
    if left is None:
        file.unlink()
    else:
        file.write_bytes(left)
    backup = file.with_name("registry.json.bak")
    for use in (registry.versions, Registry(registry.workspace).versions, lambda: registry.add_model(a_model("cars"))):
        with pytest.raises(errors.WorkspaceProblem, match=r"registry\.json is ") as caught:
            use()
        assert f"cp {backup} {file}" in caught.value.next_step
    assert left is None or file.read_bytes() == left
    file.write_bytes(backup.read_bytes())  # what the next step says
    assert numbers(registry) == [1]
    assert registry.commit_version(a_version("pets")).number == 2


def test_a_backup_that_is_damaged_too_is_not_recommended(registry: Registry, file: Path) -> None:
    for path in (file, file.with_name("registry.json.bak")):
        path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(errors.WorkspaceProblem) as caught:
        registry.versions()
    assert "registry.json.bak is damaged too" in caught.value.next_step


def test_no_flipped_bit_goes_unnoticed(file: Path) -> None:
    raw = file.read_bytes()
    for bit in range(0, len(raw) * 8, 7):
        damaged = bytearray(raw)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises((DamagedStateError, errors.WorkspaceProblem)):
            storage.decode(bytes(damaged))


def test_a_newer_schema_is_refused(file: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "SCHEMA", storage.SCHEMA + 1)
    registry.commit_version(a_version("pets"))
    monkeypatch.undo()
    raw = file.read_bytes()
    with pytest.raises(errors.WorkspaceProblem, match="newer sft_magics"):
        registry.commit_version(a_version("pets"))
    assert file.read_bytes() == raw


def test_the_backup_works_where_there_are_no_hard_links(
    registry: Registry, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*_: Any, **__: Any) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", no_links)
    before = file.read_bytes()
    registry.commit_version(a_version("pets"))
    assert file.with_name("registry.json.bak").read_bytes() == before
    assert numbers(registry) == [3, 2, 1]


# the disk says no


class FailingDisk:
    """Lets the n-th of some system calls fail with `code`; a write may take a part first."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, n: int, code: int) -> None:
        self.left, self.code, self.failed = n, code, ""
        for name in ("open", "write", "fsync", "replace"):
            monkeypatch.setattr(os, name, self.wrap(name, getattr(os, name)))

    def wrap(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **options: Any) -> Any:
            self.left -= 1
            if self.left == 0:
                self.failed = name
                if name == "write":
                    call(args[0], args[1][:100])
                raise OSError(self.code, os.strerror(self.code))
            return call(*args, **options)

        return wrapped


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EROFS], ids=errno.errorcode.get)
def test_whichever_call_fails_the_state_is_whole(registry: Registry, code: int) -> None:
    failed: list[str] = []
    for n in range(1, 100):
        before = numbers(registry)
        with pytest.MonkeyPatch.context() as patched:
            disk = FailingDisk(patched, n, code)
            try:
                registry.commit_version(a_version("pets"), aliases=("live",))
            except errors.WorkspaceProblem as error:
                unconfirmed = "did not confirm" in error.what
            else:
                break
        failed.append(disk.failed)
        assert numbers(registry) == ([len(before) + 1, *before] if unconfirmed else before)
        left = {path.name for path in registry.workspace.registry.iterdir()}
        assert left <= {"registry.json", "registry.json.bak", "registry.lock", "registry.json.bak.new"}
    assert disk.failed == ""
    assert set(failed) == {"open", "write", "fsync", "replace"}
    assert numbers(registry)[0] == len(numbers(registry))


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
            FailingDisk(patched, 3, errno.ENOSPC)
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
