"""Whichever system call fails while artifacts are saved or collected: a sentence, and what was there is whole."""

import contextlib
import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sft_magics.core import errors
from sft_magics.registry import ArtifactStore
from tests.crash.saver import network

pytestmark = [pytest.mark.alone, pytest.mark.crash]
CALLS = (
    "fsync",
    "replace",
    "rename",
    "link",
    "mkdir",
    "copy_file_range",
    "fchmod",
    "chmod",
    "unlink",
    "utime",
    "pread",
)


class Failing:
    """Lets the n-th of all watched calls fail, and counts them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, at: int, code: int) -> None:
        self.count = 0
        for name in CALLS:
            if hasattr(os, name):
                monkeypatch.setattr(os, name, self._watched(getattr(os, name), at, code))

    def _watched(self, real: Callable[..., Any], at: int, code: int) -> Callable[..., Any]:
        def call(*words: Any, **options: Any) -> Any:
            self.count += 1
            if self.count == at:
                raise OSError(code, os.strerror(code))
            return real(*words, **options)

        return call


def attempt(at: int, code: int, work: Callable[[], object]) -> bool:
    """Do the work with the `at`-th call failing; say whether that many calls were made."""
    with pytest.MonkeyPatch.context() as patched:
        failing = Failing(patched, at, code)
        with contextlib.suppress(errors.SftError):  # and nothing else
            work()
        return failing.count >= at


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC], ids=["EIO", "ENOSPC"])
def test_whichever_call_of_a_save_fails(tmp_path: Path, code: int) -> None:
    store = ArtifactStore(tmp_path / "store")
    network(tmp_path / "first", b"first" * 1000)
    first = store.save(tmp_path / "first")
    store.checkout(first.id)
    kept = [first.id]
    for at in range(1, 10_000):
        network(tmp_path / "next", b"%d" % at * 2000)
        more = attempt(at, code, lambda: store.save(tmp_path / "next"))
        assert set(store.ids()) >= set(kept)
        for artifact in store.ids():
            store.verify(artifact)
        saved = store.save(tmp_path / "next")  # the same line again
        store.verify(saved.id)
        kept = [*kept, saved.id][-5:]
        store.collect(kept, 0.0)
        if not more:
            break
    assert at > 15


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC], ids=["EIO", "ENOSPC"])
def test_whichever_call_of_a_collection_fails(tmp_path: Path, code: int) -> None:
    for at in range(1, 10_000):
        store = ArtifactStore(tmp_path / f"store{at}")
        ids = []
        for number in range(3):
            network(tmp_path / "a", b"%d" % number * 30_000)
            ids.append(store.save(tmp_path / "a").id)
            store.checkout(ids[-1])
        more = attempt(at, code, lambda: store.collect(ids[1:2], 0.0))  # noqa: B023 - called at once
        store.verify(ids[1])
        for artifact in store.ids():
            store.verify(artifact)
        store.collect(ids[1:2], 0.0)
        assert store.ids() == ids[1:2]
        store.verify(ids[1])
        assert store.checkout(ids[1]).is_dir()
        if not more:
            break
    assert at > 10
