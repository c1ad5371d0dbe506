import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sft_magics.core import workspace as places
from sft_magics.core.errors import UsageProblem, WorkspaceProblem
from sft_magics.core.workspace import Workspace

FOLDERS = ["artifacts", "datasets", "endpoints", "exports", "jobs", "registry", "runs"]
Shut = tuple[Path, Callable[[], None]]


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A working folder with no workspace said anywhere."""
    monkeypatch.delenv("SFT_HOME", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_folder_given_comes_first(free: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SFT_HOME", str(free / "home"))
    assert places.find(free / "given").root == free / "given"
    assert places.find(str(free / "given")).root == free / "given"
    assert places.find(Workspace(free / "other")).root == free / "other"
    assert (free / "other" / "runs").is_dir()
    assert not (free / "home").exists()


def test_then_the_variable(free: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (free / ".sft").mkdir()
    monkeypatch.setenv("SFT_HOME", str(free / "home"))
    assert places.find().root == free / "home"
    monkeypatch.setenv("SFT_HOME", "")
    assert places.find().root == free / ".sft"


def test_then_the_nearest_one_upward(free: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = free / "a" / "b" / "c"
    deep.mkdir(parents=True)
    (free / ".sft").mkdir()
    (free / "a" / "b" / ".sft").write_text("a file, no workspace")
    monkeypatch.chdir(deep)
    assert places.find().root == free / ".sft"
    (free / "a" / ".sft").mkdir()
    assert places.find().root == free / "a" / ".sft"


def test_else_a_new_one_here(free: Path) -> None:
    ws = places.find()
    assert ws.root == free / ".sft"
    assert sorted(p.name for p in ws.root.iterdir()) == [".gitignore", *FOLDERS]
    assert ws.root.stat().st_mode & 0o777 == 0o700
    assert (ws.root / ".gitignore").read_text() == "*\n"


def test_a_tilde_and_a_relative_path_are_made_whole(free: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(free))
    assert places.find("~/mine").root == free / "mine"
    assert places.find("mine/../yours").root == free / "yours"


@pytest.mark.parametrize("given", ["", "  "])
def test_an_empty_name_is_a_mistake_and_not_the_working_folder(free: Path, given: str) -> None:
    with pytest.raises(UsageProblem, match="workspace"):
        places.find(given)
    assert list(free.iterdir()) == []


def test_a_file_cannot_be_a_workspace(free: Path) -> None:
    (free / "file").write_text("x")
    with pytest.raises(WorkspaceProblem, match="file"):
        places.find(free / "file")
    with pytest.raises(WorkspaceProblem):
        places.find(free / "file" / "below")
    assert (free / "file").read_text() == "x"


def test_a_new_workspace_cannot_be_made_where_nothing_may_be_written(shut: Shut) -> None:
    folder, close = shut
    close()
    with pytest.raises(WorkspaceProblem, match="cannot be written") as caught:
        places.find(folder / "ws")
    assert "--workspace" in caught.value.next_step
    with pytest.raises(WorkspaceProblem, match="cannot be written"):
        places.find(folder)


def test_a_workspace_that_exists_can_be_read_where_nothing_may_be_written(shut: Shut) -> None:
    folder, close = shut
    ws = places.find(folder)
    (ws.runs / "run-1").mkdir()
    close()
    again = places.find(folder)
    assert [p.name for p in again.runs.iterdir()] == ["run-1"]
    assert again.free_bytes() >= 0
    with pytest.raises(OSError, match=r"Read-only|denied"):
        places.write_durably(ws.runs / "x", b"x")


def test_disk_bytes_counts_files_and_never_follows_links(tmp_path: Path) -> None:
    ws = Workspace(tmp_path / "ws").prepare()
    before = ws.disk_bytes()
    (ws.runs / "x").write_bytes(b"x" * 1000)
    (tmp_path / "big").write_bytes(b"x" * 100_000)
    (ws.runs / "link").symlink_to(tmp_path / "big")
    assert 1000 <= ws.disk_bytes() - before < 2000
    assert ws.free_bytes() > 0


def test_the_cache_is_where_it_is_said_to_be(free: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SFT_CACHE", str(free / "a" / "cache"))
    assert places.cache() == free / "a" / "cache"
    assert places.cache().is_dir()
    monkeypatch.delenv("SFT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(free / "xdg"))
    assert places.cache() == free / "xdg" / "sft_magics"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(free))
    assert places.cache() == free / ".cache" / "sft_magics"
    (free / "file").write_text("")
    monkeypatch.setenv("SFT_CACHE", str(free / "file"))
    with pytest.raises(WorkspaceProblem):
        places.cache()


# ---- durable writing


def test_a_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    places.write_durably(path, b"old")
    places.write_durably(path, b"new and longer")
    assert path.read_bytes() == b"new and longer"
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_full_disk_leaves_the_old_content_and_no_litter(shut: Shut) -> None:
    folder, _ = shut
    path = folder / "x.json"
    places.write_durably(path, b"old")
    # A limit on the size of files stands for a full disk where nothing could be mounted.
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 17, limits[1]))
    try:
        with pytest.raises(OSError, match=r"space|large"):
            places.write_durably(path, b"x" * (1 << 18))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert path.read_bytes() == b"old"
    assert [p.name for p in folder.iterdir()] == ["x.json"]


def test_a_name_that_is_taken_by_a_folder_leaves_no_litter(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    with pytest.raises(OSError, match="directory"):
        places.write_durably(tmp_path / "x", b"data")
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


def test_a_reader_sees_the_old_or_the_new_and_never_a_half(tmp_path: Path) -> None:
    path = tmp_path / "x"
    places.write_durably(path, b"a" * 100_000)
    stop = threading.Event()

    def write() -> None:
        for i in range(60):
            places.write_durably(path, (b"b" if i % 2 else b"a") * 100_000)
        stop.set()

    thread = threading.Thread(target=write)
    thread.start()
    seen = set()
    while not stop.is_set():
        data = path.read_bytes()
        assert len(data) == 100_000
        seen.add(data[:1])
        assert set(data) == set(data[:1])
    thread.join()
    assert seen <= {b"a", b"b"}


# ---- ids and locks


def test_ids_are_short_and_free(tmp_path: Path) -> None:
    seen = set()
    for _ in range(200):
        name = places.new_id("run", tmp_path)
        (tmp_path / name).mkdir()
        assert name.startswith("run-")
        assert len(name) <= len("run-") + 16
        seen.add(name)
    assert len(seen) == 200


def test_where_all_ids_are_taken_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.urandom", bytes)
    for length in (4, 6, 8, 16):
        (tmp_path / ("run-" + "0" * length)).mkdir()
    with pytest.raises(WorkspaceProblem, match="No free id"):
        places.new_id("run", tmp_path)


HOLDER = """
import sys, time
from pathlib import Path
from sft_magics.core import workspace as places
with places.locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(float(sys.argv[2]))
"""


def holder(path: Path, seconds: float) -> subprocess.Popen[str]:
    child = subprocess.Popen([sys.executable, "-c", HOLDER, str(path), str(seconds)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "held\n"
    return child


def test_a_lock_is_waited_for_and_given_back(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    child = holder(path, 0.5)
    assert places.is_locked(path)
    assert places.try_lock(path) is None
    before = time.monotonic()
    with places.locked(path):
        assert child.wait(10) == 0
        assert places.is_locked(path)
    assert time.monotonic() - before > 0.1
    assert not places.is_locked(path)


def test_a_lock_dies_with_its_process(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    child = holder(path, 60)
    child.send_signal(signal.SIGKILL)
    child.wait(10)
    lock = places.try_lock(path)
    assert lock is not None
    os.close(lock)


def test_a_lock_is_given_back_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), places.locked(tmp_path / "lock"):
        raise ZeroDivisionError
    assert not places.is_locked(tmp_path / "lock")


def test_looking_at_a_lock_makes_no_file(tmp_path: Path) -> None:
    assert not places.is_locked(tmp_path / "lock")
    assert list(tmp_path.iterdir()) == []


def test_a_lock_that_a_child_gets_is_no_standard_stream(tmp_path: Path) -> None:
    code = (
        "import os, sys\nfrom pathlib import Path\nfrom sft_magics.core import workspace\n"
        "os.close(0)\nfd = workspace.try_lock(Path(sys.argv[1]))\n"
        "held = workspace.is_locked(Path(sys.argv[1]))\nprint(fd > 2, held)"
    )
    words = [sys.executable, "-c", code, str(tmp_path / "lock")]
    child = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True)
    assert child.stdout.split() == ["True", "True"]
