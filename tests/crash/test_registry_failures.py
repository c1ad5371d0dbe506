"""The n-th system call fails: an error is raised, the state is the one before or the one after, and work goes on."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sft_magics.core import errors
from sft_magics.core.workspace import Workspace
from sft_magics.registry import Registry, journal
from sft_magics.registry.journal import JournalStorage
from sft_magics.registry.testing import a_model, a_version
from tests.registry.test_processes import check_whole

pytestmark = [pytest.mark.alone, pytest.mark.crash]
CALLS = ("open", "pwrite", "fsync", "fdatasync", "replace", "rename", "link", "ftruncate", "unlink")
Count = Callable[[int, int], int]


class FailingDisk:
    """Fails the n-th call, and with `dead` every one after it; a write that fails takes a part of its bytes first."""

    def __init__(self, patched: pytest.MonkeyPatch, n: int, code: int, *, dead: bool) -> None:
        self.left, self.code, self.dead, self.failed = n, code, dead, ""
        for name in CALLS:
            patched.setattr(os, name, self.wrap(name, getattr(os, name)))

    def wrap(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **options: Any) -> Any:
            self.left -= 1
            if self.left == 0 or (self.dead and self.left < 0):
                self.failed = self.failed or name
                if name == "pwrite":
                    call(args[0], bytes(args[1])[: len(args[1]) // 2], args[2])
                raise OSError(self.code, os.strerror(self.code))
            return call(*args, **options)

        return wrapped


def short(patched: pytest.MonkeyPatch) -> None:
    """Let every write take only a part, which is no failure."""
    real = os.pwrite
    patched.setattr(os, "pwrite", lambda fd, data, at: real(fd, bytes(data)[: 1 + len(data) // 3], at))


def work(registry: Registry, steps: int) -> None:
    for _ in range(steps):
        registry.commit_version(a_version("pets"), aliases=("candidate", "live"))


def fresh(path: Path) -> Registry:
    journal._cache.put(path, None)
    return Registry(Workspace(path.parents[1]), JournalStorage(path))


@pytest.mark.usefixtures("often")
@pytest.mark.parametrize("dead", [False, True], ids=["once", "from then on"])
@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC], ids=errno.errorcode.get)
def test_whichever_call_fails(tmp_path: Path, code: int, dead: bool, count: Count) -> None:
    failed: set[str] = set()
    for n in range(1, count(300, 100_000)):
        place = Workspace(tmp_path / str(n)).prepare()
        path = place.registry / "registry.json"
        registry = Registry(place, JournalStorage(path))
        registry.add_model(a_model("pets"))
        done = unconfirmed = 0
        with pytest.MonkeyPatch.context() as patched:
            disk = FailingDisk(patched, n, code, dead=dead)
            try:
                for _ in range(8):
                    work(registry, 1)
                    done += 1
            except errors.WorkspaceProblem as error:
                unconfirmed = "did not confirm" in error.what
        assert done <= check_whole(fresh(path)) <= done + unconfirmed
        work(registry, 2)  # the handle that saw the failure goes on
        assert check_whole(fresh(path)) == check_whole(registry) >= done + 2
        failed.add(disk.failed)
        if not disk.failed:
            break
    assert not disk.failed, "every call was the one that failed"
    assert {"open", "pwrite", "fsync", "fdatasync", "replace", "link"} <= failed


@pytest.mark.usefixtures("often")
def test_short_writes_are_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Workspace(tmp_path / "sft").prepare()
    registry = Registry(place)
    short(monkeypatch)
    registry.add_model(a_model("pets"))
    work(registry, 12)
    assert check_whole(fresh(place.registry / "registry.json")) == 12
