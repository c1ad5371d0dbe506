import errno
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sft_magics.core import errors
from sft_magics.registry import ArtifactStore
from tests.registry.house import flip

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "artifacts")


def folder(path: Path, **files: bytes) -> Path:
    """Make a folder with these files; `__` in a name stands for a slash and `_` for a dot."""
    for name, data in files.items():
        target = path / name.replace("__", "/").replace("_", ".")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    return path


def contents(path: Path) -> dict[str, bytes]:
    return {p.relative_to(path).as_posix(): p.read_bytes() for p in path.rglob("*") if p.is_file()}


def blobs(store: ArtifactStore) -> list[Path]:
    return sorted(p for p in (store.root / "blobs").rglob("*") if p.is_file())


def test_a_folder_comes_back_as_it_went_in(store: ArtifactStore, tmp_path: Path) -> None:
    source = folder(tmp_path / "a", model_safetensors=b"w" * 5000, config_json=b"{}", sub__vocab_txt=b"", empty_txt=b"")
    saved = store.save(source)
    assert (saved.size, saved.added) == (5002, 5002)
    assert store.size(saved.id) == 5002
    assert store.ids() == [saved.id]
    shutil.rmtree(source)
    view = store.checkout(saved.id)
    assert contents(view) == {
        "model.safetensors": b"w" * 5000,
        "config.json": b"{}",
        "sub/vocab.txt": b"",
        "empty.txt": b"",
    }
    assert all(not p.stat().st_mode & 0o222 for p in view.rglob("*") if p.is_file())
    assert store.checkout(saved.id) == view


def test_the_id_is_the_hash_of_the_manifest_and_blobs_bear_theirs(store: ArtifactStore, tmp_path: Path) -> None:
    saved = store.save(folder(tmp_path / "a", b_txt=b"two", a_txt=b"one"))
    data = (store.root / "manifests" / f"{saved.id}.json").read_bytes()
    assert hashlib.sha256(data).hexdigest() == saved.id
    one, two = (hashlib.sha256(text).hexdigest() for text in (b"one", b"two"))
    assert data.decode() == json.dumps(
        {"files": {"a.txt": {"sha256": one, "size": 3}, "b.txt": {"sha256": two, "size": 3}}, "weights": {}},
        separators=(",", ":"),
    )
    assert [p.name for p in blobs(store)] == sorted([one, two])


def test_the_same_content_is_stored_once(store: ArtifactStore, tmp_path: Path) -> None:
    first = store.save(folder(tmp_path / "a", weights_bin=b"w" * 9000, head_bin=b"1"))
    again = store.save(folder(tmp_path / "b", weights_bin=b"w" * 9000, head_bin=b"1"))
    other = store.save(folder(tmp_path / "c", weights_bin=b"w" * 9000, head_bin=b"2", copy_bin=b"w" * 9000))
    assert again == type(again)(first.id, 9001, 0)
    assert (other.size, other.added) == (18001, 1)
    assert len(blobs(store)) == 3
    store.checkout(first.id)
    store.checkout(other.id)
    inodes = {p.stat().st_ino: p.stat().st_size for p in store.root.rglob("*") if p.parent.name != "manifests"}
    files = {i: s for i, s in inodes.items() if i in {p.stat().st_ino for p in blobs(store)}}
    assert sum(files.values()) == 9002


def test_deleting_keeps_what_others_share(store: ArtifactStore, tmp_path: Path) -> None:
    first = store.save(folder(tmp_path / "a", weights_bin=b"w" * 9000, head_bin=b"1"))
    second = store.save(folder(tmp_path / "b", weights_bin=b"w" * 9000, head_bin=b"2"))
    store.checkout(first.id)
    assert store.delete(first.id) == 1
    assert store.ids() == [second.id]
    assert not (store.root / "views" / first.id).exists()
    assert contents(store.checkout(second.id))["weights.bin"] == b"w" * 9000
    for use in (store.checkout, store.size, store.delete):
        with pytest.raises(errors.ModelProblem, match=f"artifact {first.id} are no longer here"):
            use(first.id)
    assert store.delete(second.id) == 9001
    assert blobs(store) == []


@pytest.mark.parametrize("checked_out", [False, True], ids=["never checked out", "checked out"])
@pytest.mark.parametrize("where", [0, 4999])
def test_a_flipped_byte_is_found(store: ArtifactStore, tmp_path: Path, checked_out: bool, where: int) -> None:
    saved = store.save(folder(tmp_path / "a", model_safetensors=b"w" * 5000, config_json=b"{}"))
    if checked_out:
        store.checkout(saved.id)
    blob = next(p for p in blobs(store) if p.stat().st_size == 5000)
    flip(blob, where)
    for _ in range(2):
        with pytest.raises(errors.ModelProblem) as caught:
            store.checkout(saved.id)
        assert f"The file model.safetensors of artifact {saved.id} is damaged" in caught.value.what
        assert f"blobs/{blob.parent.name}/{blob.name}" in caught.value.next_step
        assert "%sft_versions" in caught.value.next_step


def test_saving_the_same_files_again_heals_a_damaged_blob(store: ArtifactStore, tmp_path: Path) -> None:
    source = folder(tmp_path / "a", model_safetensors=b"w" * 5000)
    saved = store.save(source)
    store.checkout(saved.id)
    flip(blobs(store)[0], 7)
    assert store.save(source).id == saved.id
    assert contents(store.checkout(saved.id)) == {"model.safetensors": b"w" * 5000}


def test_a_missing_blob_is_named(store: ArtifactStore, tmp_path: Path) -> None:
    saved = store.save(folder(tmp_path / "a", model_safetensors=b"w"))
    blobs(store)[0].unlink()
    with pytest.raises(errors.ModelProblem, match=r"The file model\.safetensors of artifact .* is missing"):
        store.checkout(saved.id)


def test_a_delete_takes_along_what_a_killed_one_left(store: ArtifactStore, tmp_path: Path) -> None:
    first = store.save(folder(tmp_path / "a", head_bin=b"1"))
    second = store.save(folder(tmp_path / "b", head_bin=b"22"))
    left = store.checkout(first.id)
    (store.root / "manifests" / f"{first.id}.json").unlink()
    assert store.delete(second.id) == 3
    assert not left.exists()
    assert blobs(store) == []


def add_file(view: Path) -> None:
    (view / "extra.py").write_text("x")


def remove_file(view: Path) -> None:
    (view / "config.json").unlink()


def replace_file(view: Path) -> None:
    (view / "config.json").unlink()
    (view / "config.json").write_bytes(b"[]")


def link_elsewhere(view: Path) -> None:
    (view / "config.json").unlink()
    (view / "config.json").symlink_to("/etc/hostname")


def link_folder(view: Path) -> None:
    (view / "linked").symlink_to("/etc")


@pytest.mark.parametrize("tamper", [add_file, remove_file, replace_file, link_elsewhere, link_folder, shutil.rmtree])
def test_a_view_that_was_tampered_with_is_made_anew(
    store: ArtifactStore, tmp_path: Path, tamper: Callable[[Path], None]
) -> None:
    saved = store.save(folder(tmp_path / "a", model_safetensors=b"w" * 5000, config_json=b"{}"))
    tamper(store.checkout(saved.id))
    view = store.checkout(saved.id)
    assert contents(view) == {"model.safetensors": b"w" * 5000, "config.json": b"{}"}
    assert sorted(p.name for p in view.iterdir()) == ["config.json", "model.safetensors"]


def test_a_damaged_manifest_is_found_and_its_blobs_are_kept(store: ArtifactStore, tmp_path: Path) -> None:
    first = store.save(folder(tmp_path / "a", a_bin=b"1"))
    second = store.save(folder(tmp_path / "b", b_bin=b"2"))
    path = store.root / "manifests" / f"{first.id}.json"
    path.write_bytes(path.read_bytes().replace(b"a.bin", b"../../x"))
    for use in (lambda: store.checkout(first.id), lambda: store.delete(second.id)):
        with pytest.raises(errors.ModelProblem, match=f"manifest of artifact {first.id} is damaged"):
            use()
    assert len(blobs(store)) == 2
    assert contents(store.checkout(second.id)) == {"b.bin": b"2"}


def test_names_that_lead_out_are_refused_even_with_a_good_hash(store: ArtifactStore, tmp_path: Path) -> None:
    saved = store.save(folder(tmp_path / "a", a_bin=b"1"))
    manifests = store.root / "manifests"
    for name in ("../../out", "/out", "a/../../../out"):
        data = (manifests / f"{saved.id}.json").read_bytes().replace(b"a.bin", name.encode())
        forged = hashlib.sha256(data).hexdigest()
        (manifests / f"{forged}.json").write_bytes(data)
        with pytest.raises(errors.ModelProblem, match="outside"):
            store.checkout(forged)
    with pytest.raises(errors.ModelProblem, match="not the id"):
        store.checkout("../manifests/x")


def test_only_regular_files_are_taken(store: ArtifactStore, tmp_path: Path) -> None:
    secret = folder(tmp_path / "elsewhere", secret_txt=b"secret")
    makers: dict[str, Callable[[Path], None]] = {
        "a link": lambda p: p.symlink_to(secret / "secret.txt"),
        "a link ": lambda p: p.symlink_to(secret),
        "a link  ": lambda p: p.symlink_to("nowhere"),
        "no regular file": os.mkfifo,
    }
    for number, (what, make) in enumerate(makers.items()):
        source = folder(tmp_path / f"source{number}", a_txt=b"a")
        make(source / "strange")
        with pytest.raises(errors.ModelProblem, match=what.strip()):
            store.save(source)
    (tmp_path / "empty").mkdir()
    with pytest.raises(errors.ModelProblem, match="no files"):
        store.save(tmp_path / "empty")
    with pytest.raises(errors.WorkspaceProblem, match="No such file"):
        store.save(tmp_path / "nowhere")
    assert store.ids() == []


def test_views_are_copies_where_there_are_no_hard_links(
    store: ArtifactStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*_: Any, **__: Any) -> None:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    monkeypatch.setattr(os, "link", no_links)
    saved = store.save(folder(tmp_path / "a", a_bin=b"1"))
    view = store.checkout(saved.id)
    assert contents(view) == {"a.bin": b"1"}
    assert view.joinpath("a.bin").stat().st_nlink == 1


def test_a_full_disk_leaves_the_store_as_it_was(
    mounted: Callable[[str], Path] | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = ArtifactStore((mounted("rw") if mounted else tmp_path) / "artifacts")
    first = store.save(folder(tmp_path / "a", a_bin=b"1" * 1000, b_bin=b"2"))
    before = blobs(store)
    big = folder(tmp_path / "b", a_bin=os.urandom(100_000), b_bin=os.urandom(2 << 20))
    with pytest.MonkeyPatch.context() as patched:
        if not mounted:

            def full(*_: Any) -> None:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

            patched.setattr(shutil, "copyfileobj", full)
        with pytest.raises(errors.WorkspaceProblem, match="disk is full"):
            store.save(big)
    assert blobs(store) == before
    assert list((store.root / "staging").glob("*")) == []
    assert store.ids() == [first.id]
    (big / "b.bin").write_bytes(b"small")
    assert len(contents(store.checkout(store.save(big).id))) == 2


def test_a_read_only_store_serves_what_was_checked_out(
    mounted: Callable[[str], Path] | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = ArtifactStore((mounted("rw") if mounted else tmp_path) / "artifacts")
    saved = store.save(folder(tmp_path / "a", a_bin=b"1"))
    store.checkout(saved.id)
    other = folder(tmp_path / "b", a_bin=b"2")
    if mounted:
        mounted("ro")
    else:

        def refuse(*_: Any, **__: Any) -> None:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))

        monkeypatch.setattr(os, "mkdir", refuse)
    assert contents(store.checkout(saved.id)) == {"a.bin": b"1"}
    for use in (lambda: store.save(other), lambda: store.delete(saved.id)):
        with pytest.raises(errors.WorkspaceProblem, match="cannot be written"):
            use()
    assert store.ids() == [saved.id]


SAVER = """
import sys
from pathlib import Path
from sft_magics.registry import ArtifactStore
store = ArtifactStore(Path(sys.argv[1]))
for n in range(100_000):
    (Path(sys.argv[2]) / "head.bin").write_bytes(b"%s %d" % (sys.argv[2].encode(), n))
    print(store.save(Path(sys.argv[2])).id, flush=True)
"""


@pytest.mark.crash
def test_a_killed_save_leaves_nothing_half(store: ArtifactStore, tmp_path: Path) -> None:
    told: set[str] = set()
    for turn in range(5):
        writers = []
        for number in range(2):
            source = folder(tmp_path / f"{turn}-{number}", weights_bin=b"w" * 300_000)
            writers.append(
                subprocess.Popen(
                    [sys.executable, "-c", SAVER, str(store.root), str(source)],
                    stdout=subprocess.PIPE,
                    text=True,
                    env={"PYTHONPATH": str(ROOT)},
                )
            )
        for writer in writers:
            assert writer.stdout is not None
            told.add(writer.stdout.readline().strip())
        for writer in writers:
            writer.kill()
            writer.wait()
            assert writer.stdout is not None
            told.update(line for line in writer.stdout.read().splitlines() if len(line) == 64)
    assert told <= set(store.ids())
    for artifact in store.ids():
        assert len(contents(store.checkout(artifact))) == 2
    assert sum(p.stat().st_size == 300_000 for p in blobs(store)) == 1
    for artifact in store.ids():
        store.delete(artifact)
    assert blobs(store) == []
